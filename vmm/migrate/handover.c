/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * COMMIT, STARTED, NEVER (handover.h). The source may free its image only on STARTED and resume only on NEVER; the
 * destination takes each of these decisions once, in attempts.c. All that is lost on the way is asked for again.
 */
#include "vmm/migrate/handover.h"
#include "kernel/log.h"
#include "kernel/time.h"
#include "vmm/migrate/failpoint.h"

#define PAUSED_MAX_NS (3600 * NS_PER_SEC) /* no COMMIT comes later than that */

/* ---- source ---- */

static void vm_set_state(struct vm *vm, enum vm_state s)
{
	mutex_lock(&vm->lock);
	vm->state = s;
	mutex_unlock(&vm->lock);
}

/* Ask once, on a connection of its own: WIRE_STARTED, WIRE_NEVER, or 0 for no answer. */
static uint32_t ask(struct migration *m)
{
	struct stream *s = NULL;
	struct wire_tx tx = { 0 };
	struct wire_rx rx = { 0 };
	struct hello h;
	struct attempt_id id = { .epoch = 0 };
	struct why w = { "" };
	uint32_t answer = 0;
	uint64_t end = time_ns() + MIG_ANSWER_NS;

	int err = stream_tcp_connect(&s, m->p.dest, m->p.port, end, &w);
	if (err)
		goto out;
	err = wire_tx_init(&tx, s);
	if (!err)
		err = wire_rx_init(&rx, s);
	if (!err)
		err = migration_attach(m, s); /* so that `vm claim` need not wait for us */
	if (!err)
		err = hello_exchange(&tx, &rx, &h, end, &w);
	if (!err)
		err = id_send(&tx, WIRE_QUERY, &m->id, end);
	if (!err)
		err = wire_recv(&rx, end, MIG_ANSWER_NS, &w);
	if (!err)
		id_get(&rx, &id);
	if (!err && wire_get_end(&rx) && attempt_id_equal(&id, &m->id) &&
	    (rx.type == WIRE_STARTED || rx.type == WIRE_NEVER))
		answer = rx.type;
	if (answer == WIRE_STARTED)
		err = id_send(&tx, WIRE_DONE, &m->id, end);
	migration_detach(m);
out:
	if (err)
		log_debug("asking %s about %s: %s", m->st.peer, m->st.vm, w.text[0] ? w.text : err_name(err));
	wire_rx_fini(&rx);
	wire_tx_fini(&tx);
	stream_close(s);
	return answer;
}

static bool claimed(struct migration *m)
{
	spin_lock(&m->lock);
	bool c = m->claimed;
	spin_unlock(&m->lock);
	return c;
}

/* COMMIT went out (or may have) and nothing came back: ask until there is an answer, or the operator decides. */
static uint32_t ask_until_known(struct migration *m)
{
	uint32_t answer = 0;
	log_warn("%s is undecided: no answer to COMMIT from %s; asking it. The image is kept and does not run",
		 m->st.vm, m->st.peer);
	migration_phase(m, MIG_UNDECIDED);
	while (!answer && !claimed(m)) {
		answer = ask(m);
		if (!answer)
			(void)completion_wait(&m->claim, time_ns() + MIG_ASK_NS);
	}
	return answer;
}

enum handover_outcome handover_source(struct migration *m, const struct handover *h, struct why *w)
{
	struct inbox_msg msg = { 0 };
	uint64_t now;

	if (migration_commit_point(m))
		return HANDOVER_NOT_BEGUN;
	migration_phase(m, MIG_COMMIT);
	vm_set_state(m->vm, VM_UNDECIDED); /* before the first byte of COMMIT can be out */
	int err = FAILPOINT(P14_COMMIT_LOST, h->s);
	if (!err)
		err = commit_send(h->tx, &m->id, time_ns() - h->clock_at_ns, time_ns() + MIG_ANSWER_NS);
	if (!err)
		err = inbox_wait(h->in, WIRE_STARTED, WIRE_NEVER, time_ns() + MIG_ANSWER_NS, &msg, NULL);
	now = time_ns();
	if (!err && msg.type == WIRE_STARTED) {
		err = id_send(h->tx, WIRE_DONE, &m->id, now + MIG_ANSWER_NS);
		if (err)
			log_debug("%s: the destination may not know that we know: %s", m->st.vm, err_name(err));
	} else if (err) {
		migration_detach(m);
		stream_abort(h->s); /* the destination reads the end rather than wait for its limit */
		msg.type = ask_until_known(m);
		now = time_ns();
	}
	spin_lock(&m->lock);
	m->st.downtime_ns = now - h->paused_at_ns;
	spin_unlock(&m->lock);
	if (msg.type == WIRE_STARTED) {
		if (claimed(m))
			log_warn("%s was claimed, but runs at %s as we now know: the image here is dropped", m->st.vm,
				 m->st.peer);
		return HANDOVER_STARTED;
	}
	vm_set_state(m->vm, VM_PAUSED);
	if (msg.type == WIRE_NEVER)
		why_set(w, -ECONNABORTED, "the destination did not start it and now never will");
	else
		why_set(w, -ECANCELED, "claimed by the operator without an answer from %s", m->st.peer);
	return HANDOVER_NEVER;
}

/* ---- destination ---- */

/* Wait for COMMIT, which says how long ago guest time was read. */
static int wait_commit(struct migration *m, struct wire_rx *rx, uint64_t *paused_ns, struct why *w)
{
	struct attempt_id id;
	uint64_t end = time_ns() + MIG_STOPPED_NS;
	do {
		int err = wire_recv(rx, end, MIG_ANSWER_NS, w);
		if (err)
			return err == -ETIMEDOUT ? why_set(w, err, "no COMMIT came") : err;
	} while (rx->type == WIRE_KEEPALIVE);
	if (rx->type == WIRE_ERROR)
		return why_set(w, -ECANCELED, "the source took it back");
	if (rx->type != WIRE_COMMIT)
		return why_set(w, -EPROTO, "the source sent %s instead of COMMIT", wire_type_name(rx->type));
	id_get(rx, &id);
	*paused_ns = wire_get_u64(rx);
	if (!wire_get_end(rx) || !attempt_id_equal(&id, &m->id) || *paused_ns > PAUSED_MAX_NS)
		return why_set(w, -EPROTO, "the source sent a COMMIT that is malformed or of another attempt");
	return 0;
}

int handover_dest(struct migration *m, struct wire_tx *tx, struct wire_rx *rx, uint64_t *paused_ns, struct why *w)
{
	int err = FAILPOINT(P10_BEFORE_READY, tx->s);
	if (!err)
		err = attempt_ready(&m->id);
	if (!err)
		err = FAILPOINT(P11_READY_LOST, tx->s);
	if (!err)
		err = id_send(tx, WIRE_READY, &m->id, time_ns() + MIG_STOPPED_NS);
	if (!err)
		err = wait_commit(m, rx, paused_ns, w);
	if (!err)
		err = FAILPOINT(P15_BEFORE_CLAIM, tx->s);
	if (!err)
		err = migration_commit_point(m); /* this host's operator cancelled? */
	if (!err)
		err = attempt_commit(&m->id);
	if (!err)
		return 0;
	/* Whatever it was: nobody will start this attempt. STARTED cannot be: only attempt_commit leads there. */
	BUG_ON(attempt_decide(&m->id) != ATTEMPT_NEVER);
	if (id_send(tx, WIRE_NEVER, &m->id, time_ns() + NS_PER_SEC))
		log_debug("%s: NEVER could not be sent, the source will ask", m->st.vm);
	return why_set(w, err, "given up before the start: %s", err_name(err));
}

void handover_wait_done(struct wire_rx *rx, const struct attempt_id *id)
{
	struct attempt_id got;
	if (wire_recv(rx, time_ns() + MIG_ANSWER_NS, MIG_ANSWER_NS, NULL) || rx->type != WIRE_DONE)
		return; /* the source will ask, and says DONE then */
	id_get(rx, &got);
	if (wire_get_end(rx) && attempt_id_equal(&got, id))
		attempt_forget(id);
}

void handover_answer(struct wire_tx *tx, struct wire_rx *rx)
{
	struct attempt_id id;
	id_get(rx, &id);
	if (!wire_get_end(rx))
		return;
	if (rx->type == WIRE_DONE) {
		attempt_forget(&id);
		return;
	}
	bool started = attempt_decide(&id) == ATTEMPT_STARTED;
	log_info("%s asks about an attempt: %s", rx->s->peer, started ? "started" : "never");
	if (!started) /* a skeleton that waits for COMMIT goes first, so that the next attempt finds the name free */
		migration_evict(&id, time_ns() + 2 * NS_PER_SEC);
	if (id_send(tx, started ? WIRE_STARTED : WIRE_NEVER, &id, time_ns() + MIG_ANSWER_NS) || !started)
		return;
	handover_wait_done(rx, &id);
}

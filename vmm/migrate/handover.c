/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * COMMIT, STARTED, NEVER (handover.h), by the tables of rules.c: this file turns what comes from the network and the
 * operator into their events and carries out their actions. All that is lost on the way is asked for again.
 */
#include "vmm/migrate/handover.h"
#include "kernel/log.h"
#include "kernel/task.h"
#include "kernel/time.h"
#include "vmm/disk.h"
#include "vmm/disk_unit_pass.h"
#include "vmm/migrate/frames.h"
#include "vmm/migrate/failpoint.h"
#include "vmm/migrate/this_host.h"
#include "vmm/migrate/undecided.h"
#include <string.h>

#define PAUSED_MAX_NS (3600 * NS_PER_SEC) /* no COMMIT comes later than that */

/* ---- source ---- */

void handover_set_state(struct vm *vm, enum vm_state s)
{
	mutex_lock(&vm->lock);
	vm->state = s;
	mutex_unlock(&vm->lock);
}

/* What the destination says to COMMIT, on the same connection: true if that decides it. */
static bool wait_answer(struct migration *m, const struct handover *h, enum source_event *ev, struct why *w)
{
	struct inbox_msg msg = { 0 };
	uint64_t end = time_ns() + MIG_ANSWER_NS;
	for (;;) {
		if (inbox_next(h->in, end, &msg))
			return false;
		if (msg.type == WIRE_STARTED) {
			*ev = SOURCE_EV_STARTED;
			return true;
		}
		if (msg.type == WIRE_NEVER) {
			*ev = incarnation_equal(msg.by, m->dest) ? SOURCE_EV_NEVER : SOURCE_EV_NEVER_FOREIGN;
			return *ev == SOURCE_EV_NEVER;
		}
		if (msg.type == WIRE_ERROR) /* why; NEVER follows */
			why_set(w, -ECONNABORTED, "the destination failed: %s", msg.text);
		else if (msg.type != WIRE_READY || !h->rides)
			return false;
	}
}

static void say_outcome(struct migration *m, enum source_event ev, struct why *w)
{
	if (ev == SOURCE_EV_NEVER)
		why_set(w, -ECONNABORTED, "the destination did not start it and now never will");
	else if (ev == SOURCE_EV_TAKEN_BACK)
		why_set(w, -ECONNABORTED, "the destination had not claimed its disks, and cannot any more");
	else if (ev == SOURCE_EV_CLAIM)
		why_set(w, -ECANCELED, "claimed by the operator without an answer from %s", m->st.peer_name);
	else
		why_set(w, -ECANCELED, "no host has it or had it, and tern.conf says undecided = resume");
}

/* COMMIT, and what is said to it on the same connection: true if that decides it. */
static bool commit(struct migration *m, const struct handover *h, enum source_event *ev, struct why *w)
{
	int err = h->rides ? end_send(h->tx, &m->id, h->counts, time_ns() + MIG_ANSWER_NS) : 0;
	if (err || FAILPOINT(P14_COMMIT_LOST, h->s))
		return false;
	err = commit_send(h->tx, &m->id, time_ns() - h->clock_at_ns, m->unit_key, time_ns() + MIG_ANSWER_NS);
	return !err && wait_answer(m, h, ev, w);
}

/* The image here goes: is it because the VM runs elsewhere? */
static enum handover_outcome freed(struct migration *m, enum source_event ev, enum operators_word word, struct why *w)
{
	if (ev == SOURCE_EV_FORGET) {
		why_set(w, -ECANCELED, "forgotten by the operator without an answer from %s", m->st.peer_name);
		return HANDOVER_FORGOTTEN;
	}
	if (word == WORD_CLAIM)
		log_warn("%s was claimed, but runs elsewhere as we now know: the image here is dropped", m->st.vm);
	return HANDOVER_STARTED;
}

enum handover_outcome handover_source(struct migration *m, const struct handover *h, struct why *w)
{
	enum source_state state = SOURCE_PAUSED;
	enum source_event ev = SOURCE_EV_FAIL;

	if (disk_unit_pass(m->vm, h->end_ns, &m->unit_key, w))
		return HANDOVER_NOT_BEGUN;
	if (migration_commit_point(m)) {
		disk_unit_pass_keep(m->vm);
		return HANDOVER_NOT_BEGUN;
	}
	migration_phase(m, MIG_COMMIT);
	handover_set_state(m->vm, VM_UNDECIDED); /* before the first byte of COMMIT can be out */
	BUG_ON(undecided_event(&state, SOURCE_EV_COMMIT) != ACT_SEND_COMMIT);
	bool known = commit(m, h, &ev, w);
	uint64_t now = time_ns();
	known = known && undecided_unit(m, &ev);
	if (known)
		undecided_event(&state, ev);
	if (state == SOURCE_FREED)
		task_set_prio(TASK_PRIO_NORMAL); /* the guest runs there */
	if (state == SOURCE_FREED && !m->remote && !migration_rests(m))
		frames_send(m->vm, h->tx);
	if (state == SOURCE_FREED && !m->remote && id_send(h->tx, WIRE_DONE, &m->id, time_ns() + MIG_ANSWER_NS))
		log_debug("%s: the destination may not know that we know", m->st.vm);
	if (state == SOURCE_UNDECIDED) {
		task_set_prio(TASK_PRIO_NORMAL); /* this may take days */
		migration_detach(m);
		stream_abort(h->s); /* the destination reads the end rather than wait for its limit */
		ev = undecided_ask(m, &state);
		now = time_ns();
	}
	spin_lock(&m->lock);
	m->st.downtime_ns = migration_rests(m) ? 0 : now - h->paused_at_ns;
	m->st.error[0] = 0;
	enum operators_word word = m->word;
	spin_unlock(&m->lock);
	if (ev == SOURCE_EV_FORGET || ev == SOURCE_EV_CLAIM)
		w->text[0] = 0; /* what the destination said before it fell silent is no longer the reason */
	if (state == SOURCE_FREED)
		return freed(m, ev, word, w);
	handover_set_state(m->vm, migration_rests(m) ? m->st.vm_state : VM_PAUSED);
	say_outcome(m, ev, w);
	return HANDOVER_NEVER;
}

/* ---- destination ---- */

int handover_cancelled(struct migration *m, struct why *w)
{
	return migration_cancelled(m) ? why_set(w, -ECANCELED, "cancelled at its destination") : 0;
}

void handover_evicted(const struct migration *m, int err, struct why *w)
{
	if (err == -ECANCELED && attempt_find(&m->id, NULL) == RECORD_NEVER)
		why_set(w, err, "its source has asked what became of it, or has offered it anew");
}

int handover_source_gave_up(struct wire_rx *rx, struct why *w)
{
	char text[WIRE_TEXT_MAX];
	bool cancelled = wire_get_u32(rx) == ECANCELED;
	wire_get_str(rx, text, sizeof(text));
	if (!wire_get_end(rx))
		return why_set(w, -EPROTO, "the source sent a malformed ERROR");
	return why_set(w, cancelled ? -ECANCELED : -ECONNABORTED, "%s%s",
		       cancelled ? "" : "the source ended it: ", text);
}

/* Wait for COMMIT, which says how long ago guest time was read. */
static int wait_commit(struct migration *m, struct wire_rx *rx, uint64_t *paused_ns, uint64_t *key, struct why *w)
{
	struct attempt_id id;
	uint64_t end = time_ns() + MIG_STOPPED_NS;
	do { /* a source that lives on KEEPALIVE alone gets no more time by it */
		int err = wire_recv(rx, end, MIG_ANSWER_NS, w);
		if (err)
			return err == -ETIMEDOUT ? why_set(w, err, "no COMMIT came") : err;
	} while (rx->type == WIRE_KEEPALIVE && time_ns() < end);
	if (rx->type == WIRE_ERROR)
		return handover_source_gave_up(rx, w);
	if (rx->type != WIRE_COMMIT)
		return why_set(w, -EPROTO, "the source sent %s instead of COMMIT", wire_type_name(rx->type));
	id_get(rx, &id);
	*paused_ns = wire_get_u64(rx);
	*key = rx->pos != rx->len ? wire_get_u64(rx) : 0;
	bool units = m->st.vm_state != VM_STOPPED && disk_has_units(&m->vm->cfg);
	if (!wire_get_end(rx) || units != (*key != 0) || !attempt_id_equal(&id, &m->id) || *paused_ns > PAUSED_MAX_NS)
		return why_set(w, -EPROTO, "the source sent a COMMIT that is malformed or of another attempt");
	return 0;
}

#define CLAIM_NS (NS_PER_SEC / 2) /* between two tries */

/*
 * By its own task. The first unit decides: by its key ours or the source's. While that is not known nobody gives up
 * here, for the target may have taken a claim whose answer was lost.
 */
static int claim(struct migration *m, uint64_t key, struct why *w)
{
	struct why deeper = { "" };
	uint64_t other = 0;
	int err = attempt_claim(&m->id);
	if (err)
		return err;
	for (unsigned n = 0; (err = disk_unit_pass_take_over(m->vm, m->id.source.host, key, &other, &deeper)); n++) {
		if (err == -EBUSY)
			break;
		if (!n)
			log_warn("%s: COMMIT has come, and its disks are not claimed yet: %s; trying on", m->st.vm,
				 deeper.text);
		migration_say(m, deeper.text);
		task_sleep_until(time_ns() + CLAIM_NS);
	}
	enum rule_action act = attempt_event(&m->id, err ? RECORD_EV_CLAIM_LOST : RECORD_EV_CLAIMED);
	BUG_ON(act != (err ? ACT_DISCARD : ACT_START));
	return err ? why_set(w, -ECANCELED, "its source, or another host, has taken its disks back") : 0;
}

static int ready_then_commit(struct migration *m, struct wire_tx *tx, struct wire_rx *rx, struct arrival *a,
			     uint64_t *paused_ns, struct why *w)
{
	int err = FAILPOINT(P10_BEFORE_READY, tx->s);
	if (err || (err = attempt_ready(&m->id)) || (err = FAILPOINT(P11_READY_LOST, tx->s)))
		return err;
	a->ready_ns = time_ns();
	const uint64_t took[] = { a->pages_ns - a->final_ns, a->end_ns - a->pages_ns, a->ready_ns - a->end_ns };
	err = id_send_more(tx, WIRE_READY, &m->id, took, ARRAY_SIZE(took), time_ns() + MIG_STOPPED_NS);
	uint64_t key = 0;
	if (err || (err = wait_commit(m, rx, paused_ns, &key, w)))
		return err;
	a->commit_ns = time_ns();
	if ((err = FAILPOINT(P15_BEFORE_DECISION, tx->s)))
		return err;
	if (migration_commit_point(m)) /* this host's operator */
		return handover_cancelled(m, w);
	return key ? claim(m, key, w) : attempt_commit(&m->id);
}

int handover_dest(struct migration *m, struct wire_tx *tx, struct wire_rx *rx, struct arrival *a, uint64_t *paused_ns,
		  struct why *w)
{
	int err = ready_then_commit(m, tx, rx, a, paused_ns, w);
	handover_evicted(m, err, w);
	return err ? why_set(w, err, "given up before the start: %s", err_name(err)) : 0;
}

int handover_started(struct wire_tx *tx, const struct attempt_id *id, const struct arrival *a, unsigned sections)
{
	struct migrate_host *host = migrate_this_host();
	const uint64_t v[] = { host->inc.host, host->inc.boot, time_ns() - a->commit_ns };
	if (sections)
		downtime_learn(&host->costs.load, a->ready_ns - a->end_ns + v[2], sections, DOWNTIME_LOAD_NS);
	return id_send_more(tx, WIRE_STARTED, id, v, ARRAY_SIZE(v), time_ns() + MIG_ANSWER_NS);
}

void handover_give_up(struct migration *m, struct wire_tx *tx, int err, const char *text)
{
	/*
	 * Whatever it was: nobody will start this attempt, for attempt_commit and RECORD_EV_CLAIMED alone lead to a
	 * start, and their task is here.
	 */
	if (attempt_give_up(&m->id) == RECORD_STARTED)
		log_error("%s: somebody says that this attempt was started elsewhere", m->st.vm);
	uint64_t end = time_ns() + MIG_TELL_NS;
	if (text_send(tx, WIRE_ERROR, (uint32_t)-err, text, end) ||
	    decision_send(tx, WIRE_NEVER, &m->id, migrate_this_host()->inc, end))
		log_debug("%s: NEVER could not be sent; the source will ask, if it has to know", m->st.vm);
}

void handover_wait_done(struct wire_rx *rx, const struct attempt_id *id, struct vm *vm)
{
	struct attempt_id got;
	uint64_t begin = time_ns(), end = begin + MIG_ANSWER_NS;
	do {
		if (time_ns() - begin > 2 * FRAMES_NS) /* whatever the source makes of it */
			task_set_prio(TASK_PRIO_NORMAL);
		if (time_ns() > end || wire_recv(rx, end, MIG_ANSWER_NS, NULL))
			return; /* the source will ask, and says DONE then; or settle.c asks it */
	} while (rx->type == WIRE_FRAMES && vm && frames_recv(rx, vm));
	if (rx->type != WIRE_DONE)
		return;
	id_get(rx, &got);
	if (wire_get_end(rx) && attempt_id_equal(&got, id))
		attempt_event(id, RECORD_EV_DONE);
}

void handover_answer(struct wire_tx *tx, struct wire_rx *rx)
{
	struct decision d = { .by = migrate_this_host()->inc };
	uint64_t end = time_ns() + MIG_ANSWER_NS;
	int err = 0;
	id_get(rx, &d.id);
	if (!wire_get_end(rx))
		return;
	enum rule_action act = attempt_event(&d.id, RECORD_EV_QUERY);
	attempt_find(&d.id, &d);
	/* A skeleton that waits for COMMIT goes first, so that the next attempt finds the name free. */
	if (act == ACT_DISCARD)
		migration_evict(&d.id, time_ns() + 2 * NS_PER_SEC);
	if (act == ACT_WAIT) {
		log_info("%s asks about an attempt: its disks' reservation decides, here and there",
			 migrate_peer_name(rx->s->ip, rx->s->peer));
		return; /* without an answer: he asks again, and the unit as well */
	}
	if (act == ACT_SAY_UNKNOWN)
		err = id_send(tx, WIRE_UNKNOWN, &d.id, end);
	else
		err = decision_send(tx, act == ACT_SAY_STARTED ? WIRE_STARTED : WIRE_NEVER, &d.id, d.by, end);
	log_info("%s asks about an attempt: %s", migrate_peer_name(rx->s->ip, rx->s->peer),
		 act == ACT_SAY_STARTED   ? "started"
		 : act == ACT_SAY_UNKNOWN ? "not known here"
					  : "never");
	if (!err && act == ACT_SAY_STARTED)
		handover_wait_done(rx, &d.id, NULL);
}

/* SPDX-License-Identifier: BSD-2-Clause */
/* The reader task on the source's side (inbox.h). */
#include "vmm/migrate/inbox.h"
#include "kernel/task.h"
#include "kernel/time.h"
#include "vmm/migrate/migration.h"
#include <stdlib.h>
#include <string.h>

#define INBOX_TIME_MAX (3600 * NS_PER_SEC) /* no destination takes longer, whatever it says */

int inbox_init(struct inbox *in, struct stream *s, const struct attempt_id *id)
{
	memset(in, 0, sizeof(*in));
	spin_init(&in->lock, "inbox");
	waitq_init(&in->q);
	completion_init(&in->ended);
	in->id = *id;
	return wire_rx_init(&in->rx, s);
}

/* A DEMAND or AGAIN into its queue, or the error that ends the reader. */
static int deliver_demand(struct inbox *in, struct why *w)
{
	struct demand d;
	bool again = in->rx.type == WIRE_AGAIN;
	bool good = again ? absent_again_parse(&in->rx, &d) : absent_demand_parse(&in->rx, &d);
	uint64_t flags = spin_lock_irqsave(&in->lock);
	good &= in->ndemands < INBOX_DEMANDS_MAX;
	if (good)
		in->demand[in->ndemands++] = d;
	waitq_wake_all(&in->q);
	spin_unlock_irqrestore(&in->lock, flags);
	return good ? 0 : why_set(w, -EPROTO, "the destination sent a malformed DEMAND or AGAIN, or too many");
}

/* What the record has behind the rest: n times, or nothing. True if they are there. */
static bool times_get(struct wire_rx *rx, uint64_t *ns[], unsigned n)
{
	if (rx->bad || rx->pos == rx->len)
		return false;
	for (unsigned i = 0; i < n; i++) {
		uint64_t v = wire_get_u64(rx);
		*ns[i] = MIN(v, INBOX_TIME_MAX);
	}
	return !rx->bad;
}

/* ACCEPT, READY and STARTED: what they say of times. */
static void told(struct inbox *in)
{
	struct inbox_told *t = &in->told;
	uint64_t *load[] = { &t->expects_load_ns }, *took[] = { &t->pages_ns, &t->state_ns, &t->load_ns };
	uint64_t *start[] = { &t->start_ns };
	if (in->rx.type == WIRE_ACCEPT)
		(void)times_get(&in->rx, load, ARRAY_SIZE(load));
	else if (in->rx.type == WIRE_READY)
		t->ready = times_get(&in->rx, took, ARRAY_SIZE(took));
	if (in->rx.type != WIRE_STARTED)
		return;
	(void)times_get(&in->rx, start, ARRAY_SIZE(start));
	t->heard = true;
}

/* Decode what was received; -EPROTO if a destination cannot say that. */
static int decode(struct inbox *in, struct inbox_msg *msg, struct why *w)
{
	struct wire_rx *rx = &in->rx;
	struct attempt_id id = in->id;

	*msg = (struct inbox_msg){ .type = rx->type };
	switch (rx->type) {
	case WIRE_ACCEPT:
	case WIRE_READY: id_get(rx, &id); break;
	case WIRE_ALL: absent_all_get(rx, &id, msg->verified); break;
	case WIRE_STARTED:
	case WIRE_NEVER: decision_get(rx, &id, &msg->by); break;
	case WIRE_PREPARING:
		msg->done = wire_get_u64(rx);
		msg->total = wire_get_u64(rx);
		break;
	case WIRE_WANT:
	case WIRE_CHECKED:
	case WIRE_PASS_ACK: msg->num = wire_get_u32(rx); break;
	case WIRE_DIFFERS:
		if (in->differs)
			return why_set(w, -EPROTO, "the destination sent DIFFERS twice");
		in->differs = differs_parse(rx, w);
		if (!in->differs)
			return -EPROTO;
		break;
	case WIRE_REFUSE:
	case WIRE_ERROR:
		msg->num = wire_get_u32(rx);
		wire_get_str(rx, msg->text, sizeof(msg->text));
		break;
	default:
		return why_set(w, -EPROTO, "the destination sent %s, which only a source sends",
			       wire_type_name(rx->type));
	}
	told(in);
	if (!wire_get_end(rx) || !attempt_id_equal(&id, &in->id))
		return why_set(w, -EPROTO, "the destination sent a %s record that is malformed or of another attempt",
			       wire_type_name(rx->type));
	return 0;
}

/* One message into the inbox, or the error that ends the reader: 0 or that. */
static int deliver(struct inbox *in, int err, const struct inbox_msg *msg, struct why *w)
{
	uint64_t flags = spin_lock_irqsave(&in->lock);
	bool again = in->n && msg->type == WIRE_PREPARING && in->msg[in->n - 1].type == WIRE_PREPARING;
	unsigned at = in->n - again; /* such a one says all that the one before says */
	err = !err && at == INBOX_MAX ? why_set(w, -EPROTO, "the destination talks too much") : err;
	if (!err) {
		in->msg[at] = *msg;
		in->n = at + 1;
	} else if (!in->err) { /* else inbox_stop came first */
		in->err = err;
		in->why = *w;
	}
	waitq_wake_all(&in->q);
	spin_unlock_irqrestore(&in->lock, flags);
	return err;
}

static void reader(void *arg)
{
	struct inbox *in = arg;
	struct inbox_msg msg;
	struct why w;
	int err;
	do {
		w.text[0] = 0;
		do {
			err = wire_recv(&in->rx, TIME_NEVER, MIG_IDLE_NS, &w);
		} while (!err && (in->rx.type == WIRE_DEMAND || in->rx.type == WIRE_AGAIN) &&
			 !(err = deliver_demand(in, &w)));
		if (!err)
			err = decode(in, &msg, &w);
	} while (!deliver(in, err, &msg, &w));
	completion_done(&in->ended);
}

int inbox_start(struct inbox *in)
{
	in->rx.key = attempt_key(&in->id);
	in->running = task_create("migrate-reader", TASK_PRIO_NORMAL, reader, in) != NULL;
	return in->running ? 0 : -ENOMEM;
}

void inbox_stop(struct inbox *in, int err)
{
	uint64_t flags = spin_lock_irqsave(&in->lock);
	in->n = 0; /* what was said before is of no interest any more */
	if (!in->err)
		in->err = err;
	waitq_wake_all(&in->q);
	spin_unlock_irqrestore(&in->lock, flags);
}

void inbox_drain(struct inbox *in, uint64_t deadline_ns)
{
	if (!in->running || stream_shutdown(in->rx.s) || completion_wait(&in->ended, deadline_ns))
		return;
	stream_drain(in->rx.s, deadline_ns); /* behind a record that the reader did not take */
}

void inbox_fini(struct inbox *in)
{
	if (in->running) {
		stream_abort(in->rx.s);
		completion_wait(&in->ended, TIME_NEVER);
	}
	in->running = false;
	free(in->differs);
	in->differs = NULL;
	wire_rx_fini(&in->rx);
}

/* What a message that nobody waited for means. */
static int unexpected(const struct inbox_msg *msg, struct why *w)
{
	if (msg->type == WIRE_ERROR && msg->num == ECANCELED)
		return why_set(w, -ECONNABORTED, "%s", msg->text);
	if (msg->type == WIRE_ERROR)
		return why_set(w, -ECONNABORTED, "the destination failed: %s", msg->text);
	if (msg->type == WIRE_REFUSE)
		return why_set(w, -EACCES, "the destination refused: %s", msg->text);
	if (msg->type == WIRE_NEVER)
		return why_set(w, -ECONNABORTED, "the destination has given this attempt up");
	return why_set(w, -EPROTO, "the destination sent %s at the wrong time", wire_type_name(msg->type));
}

/* Why the reader has ended, 0 while it runs, with its words. in->lock is held. */
static int ended(const struct inbox *in, struct why *w)
{
	return in->err && in->why.text[0] ? why_set(w, in->err, "%s", in->why.text) : in->err;
}

/* in->lock is held, and dropped while it waits. */
static int next(struct inbox *in, uint64_t deadline_ns, struct inbox_msg *msg, uint64_t *flags)
{
	int err = 0;
	if (!in->n && !in->err && in->tx && in->tx->seq != in->waited_seq) {
		in->waited_seq = in->tx->seq;
		in->trips++;
	}
	while (!in->n && !in->err && !err)
		err = waitq_wait(&in->q, &in->lock, flags, deadline_ns);
	if (!in->n)
		return in->err ? in->err : err;
	*msg = in->msg[0];
	memmove(&in->msg[0], &in->msg[1], --in->n * sizeof(in->msg[0]));
	return 0;
}

int inbox_next(struct inbox *in, uint64_t deadline_ns, struct inbox_msg *msg)
{
	uint64_t flags = spin_lock_irqsave(&in->lock);
	int err = next(in, deadline_ns, msg, &flags);
	spin_unlock_irqrestore(&in->lock, flags);
	return err;
}

/* Which DEMAND is next; in->ndemands: none. */
static unsigned next_demand(const struct inbox *in, bool urgent)
{
	unsigned i = 0;
	while (i < in->ndemands && !(in->demand[i].flags & DEMAND_URGENT))
		i++;
	return i < in->ndemands || urgent ? i : 0;
}

int inbox_demand(struct inbox *in, bool urgent, uint64_t deadline_ns, struct demand *d, struct why *w)
{
	int err = 0;
	unsigned i;
	uint64_t flags = spin_lock_irqsave(&in->lock);
	while ((i = next_demand(in, urgent)) == in->ndemands && !in->n && !in->err && !err)
		err = waitq_wait(&in->q, &in->lock, &flags, deadline_ns);
	if (in->n) {
		err = -EAGAIN;
	} else if (i < in->ndemands) {
		*d = in->demand[i];
		memmove(&in->demand[i], &in->demand[i + 1], (--in->ndemands - i) * sizeof(*d));
		err = 0;
	} else if (in->err) {
		err = ended(in, w);
	}
	spin_unlock_irqrestore(&in->lock, flags);
	return err;
}

int inbox_wait(struct inbox *in, uint32_t a, uint32_t b, uint64_t deadline_ns, struct inbox_msg *msg, struct why *w)
{
	uint64_t flags = spin_lock_irqsave(&in->lock);
	int err = next(in, deadline_ns, msg, &flags);
	if (!err)
		err = msg->type == a || msg->type == b ? 0 : unexpected(msg, w);
	else if (err == in->err)
		(void)ended(in, w);
	spin_unlock_irqrestore(&in->lock, flags);
	return err;
}

void inbox_last_word(struct inbox *in, uint64_t deadline_ns, struct why *w)
{
	struct inbox_msg msg;
	while (in->running && time_ns() < deadline_ns && !inbox_next(in, deadline_ns, &msg))
		if (msg.type == WIRE_ERROR || msg.type == WIRE_REFUSE || msg.type == WIRE_NEVER)
			(void)unexpected(&msg, w);
}

int inbox_poll(struct inbox *in, struct why *w)
{
	int err = 0;
	uint64_t flags = spin_lock_irqsave(&in->lock);
	if (in->n)
		err = unexpected(&in->msg[0], w);
	else
		err = ended(in, w);
	spin_unlock_irqrestore(&in->lock, flags);
	return err;
}

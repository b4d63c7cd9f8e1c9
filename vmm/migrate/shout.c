/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Questions as frames (shout.h), and what comes in as a frame. Whoever recorded a proved question and repeats it has no
 * effect (heard.h).
 */
#include "vmm/migrate/shout.h"
#include "kernel/task.h"
#include "kernel/time.h"
#include "vmm/migrate/datagram.h"
#include "vmm/migrate/heard.h"
#include "vmm/migrate/probe.h"
#include "vmm/migrate/reach.h"
#include "vmm/migrate/this_host.h"
#include <string.h>

#define WAIT_NS (200 * NS_PER_MS)

static struct spinlock lock = SPINLOCK_INIT("shout");
static struct list pending = LIST_INIT(pending); /* [lock] struct shout */

static int put_who(struct wire_tx *tx, const void *arg) { return who_send(tx, arg, TIME_NEVER); }
static int put_have(struct wire_tx *tx, const void *arg) { return have_send(tx, arg, TIME_NEVER); }

/* ---- asking ---- */

void shout_begin(struct shout *s, const struct who *asked)
{
	struct datagram d;
	struct who q = *asked;
	q.flags &= ~(uint32_t)WHO_RELAY;
	list_init(&s->node);
	s->q = asked;
	s->heard = false;
	s->until_ns = time_ns() + WAIT_NS;
	s->nonce = heard_nonce_new();
	/* A question that comes from somebody else (WHO_RELAY is off then) was shouted by him already. */
	if (!incarnation_equal(asked->asker, migrate_this_host()->inc) ||
	    datagram_write(&d, s->nonce, true, put_who, &q)) {
		s->until_ns = 0;
		return;
	}
	uint64_t flags = spin_lock_irqsave(&lock);
	list_append(&pending, &s->node);
	spin_unlock_irqrestore(&lock, flags);
	hostframe_broadcast(d.p, d.len);
}

void shout_end(struct shout *s)
{
	if (s->until_ns > time_ns())
		task_sleep_until(s->until_ns);
	uint64_t flags = spin_lock_irqsave(&lock);
	list_remove(&s->node);
	spin_unlock_irqrestore(&lock, flags);
}

/* Has one of ours asked so? */
static bool hear(uint64_t nonce, const struct hello *h)
{
	bool asked = false;
	uint64_t flags = spin_lock_irqsave(&lock);
	list_for_each(s, &pending, struct shout, node) {
		if (s->nonce == nonce) {
			s->heard = asked = true;
			memcpy(s->host, h->host, sizeof(s->host));
		}
	}
	spin_unlock_irqrestore(&lock, flags);
	return asked;
}

/* ---- answering: in a card's task ---- */

static void answer(struct datagram_in *in, bool limited, bool yields_not)
{
	struct datagram d;
	struct have_answer a;
	struct who q;
	if (!who_parse(&in->rx, &q))
		return;
	/* "it is here" is all that a frame can say, whatever is remembered of attempts. */
	memset(&q.id, 0, sizeof(q.id));
	if (yields_not)
		q.flags &= ~(uint32_t)WHO_STARTING; /* whoever says it: no start here gives way to it */
	probe_local(&q, &a);
	if (a.have == HAVE_HERE && (!limited || datagram_may_answer()) &&
	    !datagram_write(&d, in->nonce, in->word == TRUST_PROVED, put_have, &a))
		hostframe_reply(in->from, d.p, d.len);
}

/* A question is answered, an answer goes to who asked. */
static void read_record(struct datagram_in *in)
{
	struct have_answer a;
	uint32_t type = in->rx.type;
	bool proved = in->word == TRUST_PROVED, asks = type == WIRE_WHO || type == WIRE_REACH;
	if (in->word == TRUST_ASKED && !asks)
		return;
	bool answers = type == WIRE_HAVE && have_parse(&in->rx, &a) && a.have == HAVE_HERE && hear(in->nonce, &in->h);
	/* What anybody may have said counts each time: a host in clear may draw its nonces at random. */
	enum heard is = HEARD_OLD;
	if (asks)
		is = proved ? heard_before(in->h.inc, in->nonce) : HEARD_NEW;
	else if (type == WIRE_REACHED)
		reach_hear(in);
	if (in->word != TRUST_ASKED && (is == HEARD_NEW || answers)) /* who lives draws new nonces */
		probe_greeted(&in->h, "on the network of the VMs");
	bool limited = !proved || is == HEARD_AGAIN;
	if (type == WIRE_REACH) /* an answer has no effect here, so that an old one may have it, too */
		reach_answer(in, limited || is == HEARD_OLD);
	else if (is != HEARD_OLD)
		answer(in, limited, in->word == TRUST_ASKED || is == HEARD_AGAIN);
}

static void received(const struct hostframe_from *from, const uint8_t *payload, size_t len)
{
	datagram_read(from, payload, len, read_record);
}

void shout_init(void) { hostframe_receiver(received); }

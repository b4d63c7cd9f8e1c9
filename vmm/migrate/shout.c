/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Questions as frames (shout.h). The payload is a nonce (8 bytes), then records as on a connection, without a key:
 * HELLO, IDENT and one more, so that versions and bounds are those of wire.c; then proofs that a peer said so
 * (net/trust.h). Records go through a stream over memory. Whoever recorded a proved question and repeats it has no
 * effect (heard.h).
 */
#include "vmm/migrate/shout.h"
#include "kernel/task.h"
#include "kernel/time.h"
#include "net/bridge.h"
#include "net/hostframe.h"
#include "net/trust.h"
#include "vmm/migrate/heard.h"
#include "vmm/migrate/probe.h"
#include "vmm/migrate/this_host.h"
#include <stdio.h>
#include <string.h>

#define WAIT_NS     (200 * NS_PER_MS)
#define ANSWER_NS   (10 * NS_PER_MS) /* an answer to who has proved nothing, on average: a flood costs no more */
#define ANSWERS     32               /* of those at once: a host that starts asks for all its VMs */
#define NONCE       8
#define REACH_TRIES 4 /* each waits twice as long as the one before */

static struct spinlock lock = SPINLOCK_INIT("shout");
static struct list pending = LIST_INIT(pending); /* [lock] struct shout */
static struct list reaches = LIST_INIT(reaches); /* [lock] struct reaching */

/* ---- records in a buffer ---- */

struct buffer {
	struct stream s;
	uint8_t p[HOSTFRAME_MAX - 2];
	size_t len, at;
};

static int buffer_read(struct stream *s, void *buf, size_t max, uint64_t deadline_ns unused)
{
	struct buffer *b = CONTAINER_OF(s, struct buffer, s);
	size_t n = MIN(max, b->len - b->at);
	memcpy(buf, b->p + b->at, n);
	b->at += n;
	return (int)n;
}

static int buffer_writev(struct stream *s, const struct iov *iov, unsigned n, uint64_t deadline_ns unused)
{
	struct buffer *b = CONTAINER_OF(s, struct buffer, s);
	for (unsigned i = 0; i < n; i++) {
		if (iov[i].len > sizeof(b->p) - b->len)
			return -ENOBUFS;
		memcpy(b->p + b->len, iov[i].base, iov[i].len);
		b->len += iov[i].len;
	}
	return 0;
}

static const struct stream_ops buffer_ops = { .read = buffer_read, .writev = buffer_writev };

/* nonce, greeting, and what `put` adds. */
static int frame_build(struct buffer *b, uint64_t nonce, int (*put)(struct wire_tx *tx, const void *arg),
		       const void *arg)
{
	struct wire_tx tx;
	memset(b, 0, sizeof(*b));
	b->s.ops = &buffer_ops;
	put_le64(b->p, nonce);
	b->len = NONCE;
	int err = wire_tx_init(&tx, &b->s);
	if (!err && !(err = hello_send(&tx, TIME_NEVER)))
		err = put(&tx, arg);
	wire_tx_fini(&tx);
	b->len = trust_sign(b->p, b->len, sizeof(b->p));
	return err;
}

static int put_who(struct wire_tx *tx, const void *arg) { return who_send(tx, arg, TIME_NEVER); }
static int put_have(struct wire_tx *tx, const void *arg) { return have_send(tx, arg, TIME_NEVER); }

/* ---- asking ---- */

void shout_begin(struct shout *s, const struct who *asked)
{
	struct buffer b;
	struct who q = *asked;
	q.flags &= ~(uint32_t)WHO_RELAY;
	list_init(&s->node);
	s->q = asked;
	s->heard = false;
	s->until_ns = time_ns() + WAIT_NS;
	s->nonce = heard_nonce_new();
	/* A question that comes from somebody else (WHO_RELAY is off then) was shouted by him already. */
	if (!incarnation_equal(asked->asker, migrate_this_host()->inc) || frame_build(&b, s->nonce, put_who, &q)) {
		s->until_ns = 0;
		return;
	}
	uint64_t flags = spin_lock_irqsave(&lock);
	list_append(&pending, &s->node);
	spin_unlock_irqrestore(&lock, flags);
	hostframe_broadcast(b.p, b.len);
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

/* ---- is it on this network? ---- */

struct reaching {
	struct list node;
	struct incarnation to;
	uint64_t nonce;
	struct completion heard;
	char elsewhere[sizeof(((struct reached *)0)->net)]; /* [lock] where it came out instead */
};

static int put_reach(struct wire_tx *tx, const void *arg) { return reach_send(tx, arg, TIME_NEVER); }
static int put_reached(struct wire_tx *tx, const void *arg) { return reached_send(tx, arg, TIME_NEVER); }

int shout_reach(const char *net, struct incarnation to, const char *name, struct why *w)
{
	struct buffer b;
	struct bridge *bridge = bridge_find(net, w);
	struct reach q = { .to = to };
	struct reaching r = { .to = to, .nonce = heard_nonce_new() };
	if (!bridge)
		return -ENOENT;
	sniprintf(q.net, sizeof(q.net), "%s", net);
	int err = frame_build(&b, r.nonce, put_reach, &q);
	if (err)
		return err;
	completion_init(&r.heard);
	uint64_t flags = spin_lock_irqsave(&lock);
	list_append(&reaches, &r.node);
	spin_unlock_irqrestore(&lock, flags);
	err = -ETIMEDOUT;
	for (unsigned i = 0; i < REACH_TRIES && err == -ETIMEDOUT; i++) { /* a frame may be lost */
		err = hostframe_broadcast_on(bridge, b.p, b.len);
		if (!err)
			err = completion_wait(&r.heard, time_ns() + (WAIT_NS << i));
	}
	flags = spin_lock_irqsave(&lock);
	list_remove(&r.node);
	spin_unlock_irqrestore(&lock, flags);
	if (err != -ETIMEDOUT)
		return err;
	if (r.elsewhere[0])
		return why_set(w, -EHOSTUNREACH,
			       "its network %s comes out at %s on the network %s: cables or VLANs differ",
			       bridge_name(bridge), name, r.elsewhere);
	return why_set(
		w, -EHOSTUNREACH,
		"frames on its network %s do not get to %s and back: the link, cables or VLAN there? Where a switch "
		"drops EtherType 88b5: --any-network",
		bridge_name(bridge), name);
}

/* A destination says where one of ours came out. */
static void hear_reached(uint64_t nonce, const struct hello *h, const struct reached *a)
{
	uint64_t flags = spin_lock_irqsave(&lock);
	list_for_each(r, &reaches, struct reaching, node) {
		if (r->nonce != nonce || !incarnation_equal(r->to, h->inc))
			continue;
		if (a->same)
			completion_done(&r->heard);
		else
			memcpy(r->elsewhere, a->net, sizeof(r->elsewhere));
	}
	spin_unlock_irqrestore(&lock, flags);
}

/* ---- answering: in a card's task ---- */

static bool may_answer(void)
{
	static uint64_t full_ns; /* [lock] when all of ANSWERS may be given again (GCRA, ITU-T I.371) */
	uint64_t flags = spin_lock_irqsave(&lock), now = time_ns(), from = MAX(full_ns, now);
	bool ok = from - now <= (ANSWERS - 1) * ANSWER_NS;
	if (ok)
		full_ns = from + ANSWER_NS;
	spin_unlock_irqrestore(&lock, flags);
	return ok;
}

static void answer(const struct hostframe_from *from, bool proved, bool again, uint64_t nonce, struct wire_rx *rx)
{
	struct buffer b;
	struct have_answer a;
	struct who q;
	if (!who_parse(rx, &q))
		return;
	memset(&q.id, 0,
	       sizeof(q.id)); /* "it is here" is all that a frame can say, whatever is remembered of attempts */
	if (again)
		q.flags &= ~(uint32_t)WHO_STARTING; /* whoever says it: no start here gives way to it */
	probe_local(&q, &a);
	if (a.have == HAVE_HERE && ((proved && !again) || may_answer()) && !frame_build(&b, nonce, put_have, &a))
		hostframe_reply(from, b.p, b.len);
}

static void answer_reach(const struct hostframe_from *from, enum trust_word word, uint64_t nonce, struct wire_rx *rx)
{
	struct buffer b;
	struct reach q;
	struct reached a = { .same = 0 };
	const struct bridge *here = hostframe_bridge(from);
	if (!reach_parse(rx, &q) || !incarnation_equal(q.to, migrate_this_host()->inc) ||
	    (word != TRUST_PROVED && !may_answer()))
		return;
	a.same = bridge_find(q.net, NULL) == here;
	sniprintf(a.net, sizeof(a.net), "%s", bridge_name(here));
	if (!frame_build(&b, nonce, put_reached, &a))
		hostframe_reply(from, b.p, b.len);
}

/* The records of a frame: a question is answered, an answer goes to who asked. */
static void read_records(const struct hostframe_from *from, enum trust_word word, uint64_t nonce, struct wire_rx *rx)
{
	struct hello h;
	struct have_answer a;
	if (hello_recv(rx, &h, TIME_NEVER, NULL) || incarnation_equal(h.inc, migrate_this_host()->inc))
		return;
	if (wire_recv(rx, TIME_NEVER, NS_PER_SEC, NULL))
		return;
	struct reached came;
	if (rx->type == WIRE_REACH)
		answer_reach(from, word, nonce, rx);
	else if (rx->type == WIRE_REACHED && reached_parse(rx, &came))
		hear_reached(nonce, &h, &came);
	/* What anybody may have said counts each time: a host in clear draws its nonces at random (release 0.3). */
	bool proved = word == TRUST_PROVED;
	enum heard is = rx->type != WIRE_WHO ? HEARD_OLD : proved ? heard_before(h.inc, nonce) : HEARD_NEW;
	bool answers = rx->type == WIRE_HAVE && have_parse(rx, &a) && a.have == HAVE_HERE && hear(nonce, &h);
	if (is != HEARD_OLD || answers)
		probe_greeted(&h, "on the network of the VMs");
	if (is != HEARD_OLD)
		answer(from, proved, is == HEARD_AGAIN, nonce, rx);
}

static void received(const struct hostframe_from *from, const uint8_t *payload, size_t len)
{
	struct buffer b;
	struct wire_rx rx;
	if (len <= NONCE || len > sizeof(b.p))
		return;
	enum trust_word word = trust_check(payload, &len);
	if (word == TRUST_DENIED || len <= NONCE)
		return; /* before anything else is done for whoever is on that wire */
	b = (struct buffer){ .s.ops = &buffer_ops, .len = len - NONCE };
	memcpy(b.p, payload + NONCE, len - NONCE);
	if (!wire_rx_init(&rx, &b.s))
		read_records(from, word, get_le64(payload), &rx);
	wire_rx_fini(&rx);
}

void shout_init(void) { hostframe_receiver(received); }

/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * WHO as a frame (shout.h). The payload is a nonce (8 bytes), then records as on a connection, without a key: HELLO,
 * IDENT and WHO or HAVE, so that versions and bounds are those of wire.c; then proofs that a peer said so
 * (net/trust.h). Records go through a stream over memory. The nonces of an incarnation's questions rise, and those that
 * were heard last are kept (an anti-replay window, as RFC 4303 3.4.3 has one), so that who recorded a proved question
 * and repeats it is not heard.
 */
#include "vmm/migrate/shout.h"
#include "kernel/random.h"
#include "kernel/task.h"
#include "kernel/time.h"
#include "net/hostframe.h"
#include "net/trust.h"
#include "vmm/migrate/probe.h"
#include "vmm/migrate/this_host.h"
#include <string.h>

#define WAIT_NS   (200 * NS_PER_MS)
#define ANSWER_NS (10 * NS_PER_MS) /* an answer to who has proved nothing, on average: a flood costs no more */
#define ANSWERS   32               /* of those at once: a host that starts asks for all its VMs */
#define NONCE     8

static struct spinlock lock = SPINLOCK_INIT("shout");
static struct list pending = LIST_INIT(pending); /* [lock] struct shout */

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

/* Higher than all before it, and not one that an earlier incarnation had, whose answers may have been recorded. */
static uint64_t nonce_new(void)
{
	static uint64_t last; /* [lock] */
	uint16_t random;
	random_bytes(&random, sizeof(random));
	uint64_t flags = spin_lock_irqsave(&lock), nonce = last = MAX(last + 1, time_ns() / NS_PER_US);
	spin_unlock_irqrestore(&lock, flags);
	return nonce << 16 | random;
}

void shout_begin(struct shout *s, const struct who *asked)
{
	struct buffer b;
	struct who q = *asked;
	q.flags &= ~(uint32_t)WHO_RELAY;
	list_init(&s->node);
	s->q = asked;
	s->heard = false;
	s->until_ns = time_ns() + WAIT_NS;
	s->nonce = nonce_new();
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

/* ---- answering: in a card's task ---- */

/*
 * Is this proved question no repetition? Questions of several VMs may overtake each other, on one network or by
 * another: what is above the lowest of those kept, and none of them, is new.
 */
static bool is_new(struct incarnation asker, uint64_t nonce)
{
	struct migrate_host *me = migrate_this_host();
	uint64_t flags = spin_lock_irqsave(&lock), *lowest;
	unsigned i = 0, n = MIN(me->naskers, SHOUT_ASKERS);
	bool heard = false;
	while (i < n && !incarnation_equal(me->askers[i].inc, asker))
		i++;
	if (i == n) {
		i = me->naskers++ % SHOUT_ASKERS; /* the oldest gives way */
		memset(&me->askers[i], 0, sizeof(me->askers[i]));
		me->askers[i].inc = asker;
	}
	lowest = me->askers[i].nonces;
	for (unsigned k = 0; k < SHOUT_HEARD; k++) {
		uint64_t *had = &me->askers[i].nonces[k];
		heard |= *had == nonce;
		lowest = *had < *lowest ? had : lowest;
	}
	bool later = !heard && nonce > *lowest;
	if (later)
		*lowest = nonce;
	spin_unlock_irqrestore(&lock, flags);
	return later;
}

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

static void answer(const struct hostframe_from *from, enum trust_word word, uint64_t nonce, struct wire_rx *rx)
{
	struct buffer b;
	struct have_answer a;
	struct who q;
	if (!who_parse(rx, &q))
		return;
	memset(&q.id, 0,
	       sizeof(q.id)); /* "it is here" is all that a frame can say, whatever is remembered of attempts */
	probe_local(&q, &a);
	if (a.have == HAVE_HERE && (word == TRUST_PROVED || may_answer()) && !frame_build(&b, nonce, put_have, &a))
		hostframe_reply(from, b.p, b.len);
}

/* The records of a frame: a question is answered, an answer goes to who shouted. */
static void read_records(const struct hostframe_from *from, enum trust_word word, uint64_t nonce, struct wire_rx *rx)
{
	struct hello h;
	struct have_answer a;
	if (hello_recv(rx, &h, TIME_NEVER, NULL) || incarnation_equal(h.inc, migrate_this_host()->inc))
		return;
	if (wire_recv(rx, TIME_NEVER, NS_PER_SEC, NULL))
		return;
	/* What anybody may have said counts each time: a host in clear draws its nonces at random (release 0.3). */
	bool asks = rx->type == WIRE_WHO && (word == TRUST_UNPROVED || is_new(h.inc, nonce));
	bool answers = rx->type == WIRE_HAVE && have_parse(rx, &a) && a.have == HAVE_HERE && hear(nonce, &h);
	if (asks || answers)
		probe_greeted(&h, "on the network of the VMs");
	if (asks)
		answer(from, word, nonce, rx);
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

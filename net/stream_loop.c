/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A stream whose two ends are on this host, in memory: two rings under one lock. What is written is there at once, and
 * nobody else can be at the other end. The reader and the writer of a ring copy without the lock: the one takes from
 * what is in it, the other adds behind that.
 */
#include "kernel/spinlock.h"
#include "kernel/sync.h"
#include "net/stream.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define RING (128UL << 10) /* bytes */

/* (c) const  [l] loop->lock */
struct loop_end {
	struct stream s;
	struct loop *loop;      /* (c) */
	struct loop_end *other; /* (c) */
	size_t head, count;     /* [l] of out: the first byte in it, and how many */
	bool ended;             /* [l] no more is written: shut down or closed */
	bool aborted;           /* [l] */
	uint8_t out[RING];      /* what this end writes */
};
struct loop {
	struct spinlock lock;
	struct waitq q;  /* [l] anything has changed */
	unsigned closed; /* [l] ends */
	struct loop_end end[2];
};

static struct loop_end *end_of(struct stream *s) { return CONTAINER_OF(s, struct loop_end, s); }

/* The loop's lock is held. */
static int broken(const struct loop_end *e) { return e->aborted ? -ECANCELED : e->other->aborted ? -ECONNRESET : 0; }

static int loop_read(struct stream *s, void *buf, size_t max, uint64_t deadline_ns)
{
	struct loop_end *e = end_of(s), *from = e->other;
	struct loop *l = e->loop;
	int err = 0;
	uint64_t flags = spin_lock_irqsave(&l->lock);
	while (!(err = e->aborted ? -ECANCELED : 0) && !from->count && !(err = broken(e)) && !from->ended)
		if (waitq_wait(&l->q, &l->lock, &flags, deadline_ns)) {
			err = -ETIMEDOUT;
			break;
		}
	size_t at = from->head, n = MIN(MIN(from->count, max), RING - at);
	spin_unlock_irqrestore(&l->lock, flags);
	if (err || !n)
		return err; /* 0: it has ended */
	memcpy(buf, from->out + at, n);
	flags = spin_lock_irqsave(&l->lock);
	from->head = (at + n) % RING;
	from->count -= n;
	waitq_wake_all(&l->q);
	spin_unlock_irqrestore(&l->lock, flags);
	return (int)n;
}

/* Some of it, at least a byte: how many, or -errno. */
static int write_some(struct loop_end *e, const uint8_t *p, size_t len, uint64_t deadline_ns)
{
	struct loop *l = e->loop;
	int err = 0;
	uint64_t flags = spin_lock_irqsave(&l->lock);
	while (!(err = broken(e)) && !(err = e->ended || l->closed ? -EPIPE : 0) && e->count == RING)
		if (waitq_wait(&l->q, &l->lock, &flags, deadline_ns)) {
			err = -ETIMEDOUT;
			break;
		}
	size_t at = (e->head + e->count) % RING, n = MIN(MIN(RING - e->count, len), RING - at);
	spin_unlock_irqrestore(&l->lock, flags);
	if (err)
		return err;
	memcpy(e->out + at, p, n);
	flags = spin_lock_irqsave(&l->lock);
	e->count += n;
	waitq_wake_all(&l->q);
	spin_unlock_irqrestore(&l->lock, flags);
	return (int)n;
}

static int loop_writev(struct stream *s, const struct iov *iov, unsigned n, uint64_t deadline_ns)
{
	for (unsigned i = 0; i < n; i++)
		for (size_t at = 0; at < iov[i].len;) {
			int did =
				write_some(end_of(s), (const uint8_t *)iov[i].base + at, iov[i].len - at, deadline_ns);
			if (did < 0)
				return did;
			at += (size_t)did;
		}
	return 0;
}

static int loop_shutdown(struct stream *s)
{
	struct loop *l = end_of(s)->loop;
	uint64_t flags = spin_lock_irqsave(&l->lock);
	end_of(s)->ended = true;
	waitq_wake_all(&l->q);
	spin_unlock_irqrestore(&l->lock, flags);
	return 0;
}

static void loop_abort(struct stream *s)
{
	struct loop *l = end_of(s)->loop;
	uint64_t flags = spin_lock_irqsave(&l->lock);
	end_of(s)->aborted = true;
	waitq_wake_all(&l->q);
	spin_unlock_irqrestore(&l->lock, flags);
}

static void loop_close(struct stream *s)
{
	struct loop *l = end_of(s)->loop;
	uint64_t flags = spin_lock_irqsave(&l->lock);
	end_of(s)->ended = true;
	bool last = ++l->closed == 2;
	waitq_wake_all(&l->q);
	spin_unlock_irqrestore(&l->lock, flags);
	if (last)
		free(l);
}

static const struct stream_ops loop_ops = { loop_read, loop_writev, loop_shutdown, loop_abort, loop_close };

int stream_loop_open(const char *name, struct stream **a, struct stream **b)
{
	struct loop *l = calloc(1, sizeof(*l));
	if (!l)
		return err_trace(-ENOMEM);
	spin_init(&l->lock, "loop");
	waitq_init(&l->q);
	for (unsigned i = 0; i < 2; i++) {
		struct loop_end *e = &l->end[i];
		e->loop = l;
		e->other = &l->end[1 - i];
		e->s.ops = &loop_ops;
		snprintf(e->s.peer, sizeof(e->s.peer), "%s", name);
	}
	*a = &l->end[0].s;
	*b = &l->end[1].s;
	return 0;
}

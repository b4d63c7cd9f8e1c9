/* SPDX-License-Identifier: BSD-2-Clause */
/* A stream in memory: two rings under one lock. */
#include "tests/unit/pipe.h"
#include "kernel/spinlock.h"
#include "kernel/sync.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct pipe;
struct pipe_end { /* [l] pipe->lock; .out is what this end writes */
	struct stream s;
	struct pipe *pipe;      /* (c) */
	struct pipe_end *other; /* (c) */
	uint8_t *out;           /* (c) ring of pipe->capacity bytes */
	size_t head, count;     /* [l] first byte in out, and how many */
	uint64_t cut_after;     /* [l] bytes of output until the cut */
	bool ended;             /* [l] no more output: shut down or closed */
	bool closed;            /* [l] */
	bool canceled;          /* [l] */
};
struct pipe {
	struct spinlock lock;
	struct waitq q; /* anything changed */
	size_t capacity;
	bool cut;
	struct pipe_end end[2];
};

static struct pipe_end *end_of(struct stream *s) { return CONTAINER_OF(s, struct pipe_end, s); }

/* A cut leaves what was written before it readable, so that a test knows to the byte what arrives. */
static int pipe_read(struct stream *s, void *buf, size_t max, uint64_t deadline_ns)
{
	struct pipe_end *e = end_of(s), *o = e->other;
	struct pipe *p = e->pipe;
	uint64_t flags = spin_lock_irqsave(&p->lock);
	int ret = 0;
	while (!e->canceled && !o->count && !p->cut && !o->ended && ret == 0)
		ret = waitq_wait(&p->q, &p->lock, &flags, deadline_ns);
	if (e->canceled) {
		ret = -ECANCELED;
	} else if (o->count) {
		size_t n = MIN(max, o->count), first = MIN(n, p->capacity - o->head);
		memcpy(buf, o->out + o->head, first);
		memcpy((uint8_t *)buf + first, o->out, n - first);
		o->head = (o->head + n) % p->capacity;
		o->count -= n;
		ret = (int)n;
		waitq_wake_all(&p->q);
	} else if (p->cut) {
		ret = -ECONNRESET;
	} else if (o->ended) {
		ret = 0;
	}
	spin_unlock_irqrestore(&p->lock, flags);
	return ret;
}

/* Put at most n bytes; returns how many. p->lock is held. */
static size_t put(struct pipe *p, struct pipe_end *e, const uint8_t *src, size_t n)
{
	n = MIN(n, p->capacity - e->count);
	n = (size_t)MIN((uint64_t)n, e->cut_after);
	size_t at = (e->head + e->count) % p->capacity, first = MIN(n, p->capacity - at);
	memcpy(e->out + at, src, first);
	memcpy(e->out, src + first, n - first);
	e->count += n;
	if (e->cut_after != UINT64_MAX && (e->cut_after -= n) == 0)
		p->cut = true;
	if (n)
		waitq_wake_all(&p->q);
	return n;
}

static int pipe_writev(struct stream *s, const struct iov *iov, unsigned niov, uint64_t deadline_ns)
{
	struct pipe_end *e = end_of(s);
	struct pipe *p = e->pipe;
	int ret = 0;
	uint64_t flags = spin_lock_irqsave(&p->lock);
	for (unsigned i = 0; i < niov && !ret; i++) {
		const uint8_t *src = iov[i].base;
		for (size_t left = iov[i].len; left && !ret;) {
			if (e->canceled)
				ret = -ECANCELED;
			else if (p->cut)
				ret = -ECONNRESET;
			else if (e->ended || e->other->closed)
				ret = -EPIPE;
			else if (e->count == p->capacity)
				ret = waitq_wait(&p->q, &p->lock, &flags, deadline_ns);
			else {
				size_t n = put(p, e, src, left);
				src += n;
				left -= n;
			}
		}
	}
	spin_unlock_irqrestore(&p->lock, flags);
	return ret;
}

static int pipe_shutdown(struct stream *s)
{
	struct pipe_end *e = end_of(s);
	uint64_t flags = spin_lock_irqsave(&e->pipe->lock);
	e->ended = true;
	waitq_wake_all(&e->pipe->q);
	spin_unlock_irqrestore(&e->pipe->lock, flags);
	return 0;
}

/* The peer of an aborted end sees what the peer of an aborted connection sees: a reset. */
static void pipe_abort(struct stream *s)
{
	struct pipe_end *e = end_of(s);
	uint64_t flags = spin_lock_irqsave(&e->pipe->lock);
	e->canceled = true;
	e->pipe->cut = true;
	waitq_wake_all(&e->pipe->q);
	spin_unlock_irqrestore(&e->pipe->lock, flags);
}

static void pipe_free(struct pipe *p)
{
	free(p->end[0].out);
	free(p->end[1].out);
	free(p);
}

static void pipe_close(struct stream *s)
{
	struct pipe_end *e = end_of(s);
	struct pipe *p = e->pipe;
	uint64_t flags = spin_lock_irqsave(&p->lock);
	e->ended = true;
	e->closed = true;
	bool last = e->other->closed;
	waitq_wake_all(&p->q);
	spin_unlock_irqrestore(&p->lock, flags);
	if (last)
		pipe_free(p);
}

static const struct stream_ops pipe_ops = {
	.read = pipe_read,
	.writev = pipe_writev,
	.shutdown = pipe_shutdown,
	.abort = pipe_abort,
	.close = pipe_close,
};

int stream_pipe(struct stream *ends[2], size_t capacity)
{
	struct pipe *p = calloc(1, sizeof(*p));
	if (!p || capacity == 0) {
		free(p);
		return err_trace(capacity ? -ENOMEM : -EINVAL);
	}
	spin_init(&p->lock, "pipe");
	waitq_init(&p->q);
	p->capacity = capacity;
	for (unsigned i = 0; i < 2; i++) {
		struct pipe_end *e = &p->end[i];
		e->s.ops = &pipe_ops;
		sniprintf(e->s.peer, sizeof(e->s.peer), "pipe end %u", 1 - i);
		e->pipe = p;
		e->other = &p->end[1 - i];
		e->cut_after = UINT64_MAX;
		e->out = malloc(capacity);
	}
	if (!p->end[0].out || !p->end[1].out) {
		pipe_free(p);
		return err_trace(-ENOMEM);
	}
	ends[0] = &p->end[0].s;
	ends[1] = &p->end[1].s;
	return 0;
}

void stream_pipe_cut_after(struct stream *end, uint64_t bytes)
{
	struct pipe_end *e = end_of(end);
	uint64_t flags = spin_lock_irqsave(&e->pipe->lock);
	e->cut_after = bytes;
	if (bytes == 0) {
		e->pipe->cut = true;
		waitq_wake_all(&e->pipe->q);
	}
	spin_unlock_irqrestore(&e->pipe->lock, flags);
}

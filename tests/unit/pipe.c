/* SPDX-License-Identifier: BSD-2-Clause */
/* A stream in memory: two rings under one lock. What is on a line has left the writer, and is not there yet. */
#include "tests/unit/pipe.h"
#include "kernel/base/list.h"
#include "kernel/spinlock.h"
#include "kernel/sync.h"
#include "kernel/time.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define WAY    128 /* writes that are told apart while they are on the way */
#define DAMAGE 24  /* bytes */

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
	struct pipe_line *line; /* (c) NULL: what is written is there */
	struct {
		uint64_t at_ns;
		size_t n;
	} way[WAY];            /* [l] on the line, in order */
	unsigned way0, nway;   /* [l] */
	size_t here;           /* [l] bytes of out that have arrived */
	uint64_t hold_ns;      /* [l] after an outage: TCP's next try */
	bool held;             /* [l] what is on the way is in the network, and not lost with this end */
	bool reset;            /* [l] a reset is on the way, behind them */
	uint64_t end_ns;       /* [l] when the end, or the reset, arrives */
	uint64_t sent_ns;      /* [l] of what is on the way, when the first of it was written */
	bool given_up;         /* [l] its peer is taken for dead */
	enum pipe_fault fault; /* [l] of the next write */
	uint64_t fault_n;      /* [l] */
};
struct pipe {
	struct list node; /* pipes_lock: on lines */
	struct spinlock lock;
	struct waitq q; /* anything changed */
	size_t capacity;
	bool cut;
	struct pipe_end end[2];
};

static struct pipe_end *end_of(struct stream *s) { return CONTAINER_OF(s, struct pipe_end, s); }

static struct spinlock pipes_lock = SPINLOCK_INIT("pipes");
static struct list pipes = LIST_INIT(pipes);
static const void *old_bytes;
static size_t old_len;

/* ---- lines ---- */

/* May what this end has written come out now? Else *next is when to look again, TIME_NEVER: when somebody wakes. */
static bool is_up(const struct pipe_end *e, uint64_t now, uint64_t *next)
{
	if (!e->line || (!e->line->down && now >= e->hold_ns))
		return true;
	*next = e->line->down ? TIME_NEVER : e->hold_ns;
	return false;
}

/* How much of what o has written can be read. *next as above. */
static size_t arrived(struct pipe_end *o, uint64_t now, uint64_t *next)
{
	*next = TIME_NEVER;
	if (!o->line)
		return o->count;
	if (!is_up(o, now, next))
		return 0;
	for (; o->nway && o->way[o->way0].at_ns <= now; o->nway--) {
		o->here += o->way[o->way0].n;
		o->way0 = (o->way0 + 1) % WAY;
	}
	if (o->nway)
		*next = o->way[o->way0].at_ns;
	else if (now < o->end_ns)
		*next = o->end_ns;
	return o->here;
}

/* Has it come out that o has reset the connection, or ended its direction? */
static bool heard(const struct pipe_end *o, uint64_t now, bool what)
{
	uint64_t next;
	return what && is_up(o, now, &next) && now >= o->end_ns && !o->nway;
}

/* Is something on the way that will not get there while the line is down? */
static bool is_stuck(const struct pipe_end *e)
{
	return e->line && e->line->down && e->nway &&
	       e->way[(e->way0 + e->nway + WAY - 1) % WAY].at_ns > e->line->down_ns;
}

/* When e gives its peer up, as lines are now: nothing comes from it, or what was sent does not get there. */
static uint64_t gives_up_ns(const struct pipe_end *e)
{
	const struct pipe_line *in = e->other->line;
	uint64_t at = in && in->down ? in->down_ns + STREAM_SILENCE_NS : TIME_NEVER;
	return is_stuck(e) ? MIN(at, MAX(e->line->down_ns, e->sent_ns) + STREAM_SILENCE_NS) : at;
}

static uint64_t leaves_ns(struct pipe_line *l, size_t n, uint64_t now)
{
	l->busy_ns = MAX(l->busy_ns, now) + (l->rate ? n * NS_PER_SEC / l->rate : 0);
	return l->busy_ns + l->delay_ns + (l->loss && l->draw() % 100 < l->loss ? PIPE_RTO_NS : 0);
}

/* n bytes go on the line. */
static void send(struct pipe_end *e, size_t n)
{
	if (!e->line || !n)
		return;
	if (!is_stuck(e))
		e->sent_ns = time_ns();
	uint64_t at = leaves_ns(e->line, n, time_ns());
	unsigned last = (e->way0 + e->nway + WAY - 1) % WAY;
	if (e->nway)
		at = MAX(at, e->way[last].at_ns);
	if (e->nway == WAY) {
		e->way[last].at_ns = at;
		e->way[last].n += n;
		return;
	}
	last = (e->way0 + e->nway++) % WAY;
	e->way[last].at_ns = at;
	e->way[last].n = n;
}

/* The end of this direction, in order or not, is the last on its way. */
static void send_end(struct pipe_end *e)
{
	if (e->line && !e->end_ns)
		e->end_ns = MAX(time_ns(), e->line->busy_ns) + e->line->delay_ns;
}

/* What is on the way is lost. */
static void lose(struct pipe_end *e)
{
	uint64_t next;
	if (e->held)
		return;
	if (e->line)
		e->count = arrived(e, time_ns(), &next);
	e->here = e->count;
	e->nway = 0;
}

/* The peer of an end that was aborted, or gave up, sees what the peer of such a connection sees: a reset. */
static void reset_other(struct pipe_end *e)
{
	if (!e->line || e->canceled || e->given_up)
		return;
	lose(e);
	e->reset = true;
	e->end_ns = 0;
	send_end(e);
}

/* True if e has given its peer up; else *next, when it will, if nothing is done before. */
static bool gives_up(struct pipe_end *e, uint64_t now, uint64_t *next)
{
	uint64_t at = gives_up_ns(e);
	if (!e->given_up && now >= at) {
		reset_other(e);
		e->given_up = true;
		waitq_wake_all(&e->pipe->q);
	}
	*next = MIN(*next, at);
	return e->given_up;
}

void pipe_line_set(struct pipe_line *l, bool down)
{
	uint64_t now = time_ns(), next = 0;
	if (down && !l->down)
		l->down_ns = now;
	if (!down && l->down) { /* what was open tries again and again, each time after twice as long */
		for (next = l->down_ns + PIPE_RTO_NS; next < now;)
			next += MIN(next - l->down_ns + PIPE_RTO_NS, STREAM_AGAIN_NS);
	}
	l->down = down;
	spin_lock(&pipes_lock);
	list_for_each(p, &pipes, struct pipe, node) {
		uint64_t flags = spin_lock_irqsave(&p->lock);
		for (unsigned i = 0; i < 2; i++)
			if (p->end[i].line == l)
				p->end[i].hold_ns = MAX(p->end[i].hold_ns, next);
		waitq_wake_all(&p->q);
		spin_unlock_irqrestore(&p->lock, flags);
	}
	spin_unlock(&pipes_lock);
}

void pipe_line_die(const struct pipe_line *out)
{
	spin_lock(&pipes_lock);
	list_for_each(p, &pipes, struct pipe, node) {
		uint64_t flags = spin_lock_irqsave(&p->lock);
		for (unsigned i = 0; i < 2; i++) {
			struct pipe_end *e = &p->end[i];
			if (e->line != out)
				continue;
			lose(e);
			e->canceled = true;
			e->reset = true; /* its next boot answers so, when the line is up again */
		}
		waitq_wake_all(&p->q);
		spin_unlock_irqrestore(&p->lock, flags);
	}
	spin_unlock(&pipes_lock);
}

unsigned pipe_open(void)
{
	unsigned n = 0;
	spin_lock(&pipes_lock);
	list_for_each(p, &pipes, struct pipe, node)
		n++;
	spin_unlock(&pipes_lock);
	return n;
}

bool stream_pipe_is_open(const struct stream *end)
{
	bool open = false;
	spin_lock(&pipes_lock);
	list_for_each(p, &pipes, struct pipe, node)
		for (unsigned i = 0; i < 2; i++)
			open |= &p->end[i].s == end && !p->end[i].closed;
	spin_unlock(&pipes_lock);
	return open;
}

bool stream_pipe_is_aborted(struct stream *end) { return end_of(end)->canceled; }

void stream_pipe_lines(struct stream *end, struct pipe_line *out, struct pipe_line *back)
{
	struct pipe_end *e = end_of(end);
	e->line = out;
	e->other->line = back;
	spin_lock(&pipes_lock);
	list_append(&pipes, &e->pipe->node);
	spin_unlock(&pipes_lock);
}

/* ---- reading and writing ---- */

/* A cut leaves what was written before it readable, so that a test knows to the byte what arrives. */
static int pipe_read(struct stream *s, void *buf, size_t max, uint64_t deadline_ns)
{
	struct pipe_end *e = end_of(s), *o = e->other;
	struct pipe *p = e->pipe;
	uint64_t flags = spin_lock_irqsave(&p->lock), next = TIME_NEVER;
	int ret = -EAGAIN;
	while (ret == -EAGAIN) {
		uint64_t now = time_ns();
		size_t n = MIN(max, arrived(o, now, &next));
		if (e->canceled) {
			ret = -ECANCELED;
		} else if (n) {
			size_t first = MIN(n, p->capacity - o->head);
			memcpy(buf, o->out + o->head, first);
			memcpy((uint8_t *)buf + first, o->out, n - first);
			o->head = (o->head + n) % p->capacity;
			o->count -= n;
			o->here -= o->line ? n : 0;
			ret = (int)n;
			waitq_wake_all(&p->q);
		} else if (p->cut || heard(o, now, o->reset)) {
			ret = -ECONNRESET;
		} else if (heard(o, now, o->ended)) {
			ret = 0;
		} else if (gives_up(e, now, &next)) {
			ret = -ETIMEDOUT;
		} else if (waitq_wait(&p->q, &p->lock, &flags, MIN(deadline_ns, next)) && time_ns() >= deadline_ns) {
			ret = -ETIMEDOUT;
		}
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
	send(e, n);
	if (e->cut_after != UINT64_MAX && (e->cut_after -= n) == 0)
		p->cut = true;
	if (n)
		waitq_wake_all(&p->q);
	return n;
}

/* All of src, while the connection lasts. p->lock is held, and dropped while it waits. */
static int write_all(struct pipe_end *e, const uint8_t *src, size_t left, uint64_t *flags, uint64_t deadline_ns)
{
	struct pipe *p = e->pipe;
	struct pipe_end *o = e->other;
	int ret = 0;
	while (left && !ret) {
		uint64_t now = time_ns(), next = now < o->end_ns ? o->end_ns : TIME_NEVER;
		if (e->canceled) {
			ret = -ECANCELED;
		} else if (p->cut || heard(o, now, o->reset)) {
			ret = -ECONNRESET;
		} else if (e->ended || heard(o, now, o->closed)) {
			ret = -EPIPE;
		} else if (gives_up(e, now, &next)) {
			ret = -ETIMEDOUT;
		} else if (e->count == p->capacity) {
			if (waitq_wait(&p->q, &p->lock, flags, MIN(deadline_ns, next)) && time_ns() >= deadline_ns)
				ret = -ETIMEDOUT;
		} else {
			size_t n = put(p, e, src, left);
			src += n;
			left -= n;
		}
	}
	return ret;
}

/* The write that has been waited for: of its first part what arrives of it is put into *out. */
static int write_damaged(struct pipe_end *e, const struct iov *v, uint64_t *flags, uint64_t deadline_ns)
{
	enum pipe_fault what = e->fault;
	uint8_t *b = malloc(v->len + DAMAGE);
	size_t len = v->len;
	int ret = 0;
	memcpy(b, v->base, len);
	e->fault = PIPE_WELL;
	if (what == PIPE_FLIP) {
		b[e->fault_n / 8 % len] ^= (uint8_t)(1 << e->fault_n % 8);
	} else if (what == PIPE_LOSE) {
		size_t n = MIN(len - 4, (size_t)DAMAGE);
		memmove(b + 4, b + 4 + n, len - 4 - n);
		len -= n;
	} else if (what == PIPE_TWICE) {
		size_t n = MIN(len, (size_t)DAMAGE);
		memmove(b + n, b, len);
		len += n;
	} else if (what == PIPE_END) {
		len = MIN(len, (size_t)5);
	} else {
		ret = write_all(e, old_bytes, old_len, flags, deadline_ns);
	}
	ret = ret ? ret : write_all(e, b, len, flags, deadline_ns);
	if (what == PIPE_END) {
		e->ended = true;
		send_end(e);
		waitq_wake_all(&e->pipe->q);
	}
	free(b);
	return ret;
}

static int pipe_writev(struct stream *s, const struct iov *iov, unsigned niov, uint64_t deadline_ns)
{
	struct pipe_end *e = end_of(s);
	uint64_t flags = spin_lock_irqsave(&e->pipe->lock);
	unsigned i = 0;
	int ret = e->fault ? write_damaged(e, &iov[i++], &flags, deadline_ns) : 0;
	for (; i < niov && !ret; i++)
		ret = write_all(e, iov[i].base, iov[i].len, &flags, deadline_ns);
	spin_unlock_irqrestore(&e->pipe->lock, flags);
	return ret;
}

static int pipe_shutdown(struct stream *s)
{
	struct pipe_end *e = end_of(s);
	uint64_t flags = spin_lock_irqsave(&e->pipe->lock);
	e->ended = true;
	send_end(e);
	waitq_wake_all(&e->pipe->q);
	spin_unlock_irqrestore(&e->pipe->lock, flags);
	return 0;
}

static void pipe_abort(struct stream *s)
{
	struct pipe_end *e = end_of(s);
	uint64_t flags = spin_lock_irqsave(&e->pipe->lock);
	reset_other(e);
	e->canceled = true;
	e->pipe->cut |= !e->line;
	waitq_wake_all(&e->pipe->q);
	spin_unlock_irqrestore(&e->pipe->lock, flags);
}

static void pipe_free(struct pipe *p)
{
	spin_lock(&pipes_lock);
	list_remove(&p->node);
	spin_unlock(&pipes_lock);
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
	send_end(e);
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
	list_init(&p->node);
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

void stream_pipe_fault(struct stream *end, enum pipe_fault what, uint64_t n)
{
	struct pipe_end *e = end_of(end);
	uint64_t flags = spin_lock_irqsave(&e->pipe->lock);
	e->fault = what;
	e->fault_n = n;
	spin_unlock_irqrestore(&e->pipe->lock, flags);
}

void stream_pipe_old(const void *bytes, size_t len)
{
	old_bytes = bytes;
	old_len = len;
}

void stream_pipe_hold(struct stream *end, uint64_t ns)
{
	struct pipe_end *e = end_of(end);
	uint64_t flags = spin_lock_irqsave(&e->pipe->lock);
	e->hold_ns = time_ns() + ns;
	e->held = true;
	spin_unlock_irqrestore(&e->pipe->lock, flags);
}

void stream_pipe_reset(struct stream *end)
{
	struct pipe_end *e = end_of(end);
	uint64_t flags = spin_lock_irqsave(&e->pipe->lock);
	lose(e);
	lose(e->other);
	e->count = e->here = e->other->count = e->other->here = 0;
	e->pipe->cut = true;
	waitq_wake_all(&e->pipe->q);
	spin_unlock_irqrestore(&e->pipe->lock, flags);
}

/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * TCP streams on lwIP's raw API. lwIP's callbacks (in the NIC's or lwIP's task, core lock held) move received buffers
 * and news onto the stream under its spinlock and wake its reader or writer; those take the core lock only to write and
 * to open the window again. Connections are made in tcp_connect.c and tcp_listen.c.
 *
 * Lock order: lwIP's core lock, then a stream's.
 */
#include "net/tcp.h"
#include "net/neighbour.h"
#include "kernel/time.h"
#include "lwip/priv/tcp_priv.h"
#include <stdlib.h>
#include <string.h>

#define POLL_TICKS       2   /* of TCP_SLOW_INTERVAL: 200 ms */
#define LINGER_TICKS     200 /* 20 s */
#define LINGER_UNPROVED  10  /* 1 s: to hear why he is refused */
#define STUCK_POLLS      (STREAM_SILENCE_NS / NS_PER_MS / (POLL_TICKS * TCP_SLOW_INTERVAL))
#define KEEP_IDLE_MS     2000
#define KEEP_INTERVAL_MS 1000
#define KEEP_COUNT       ((STREAM_SILENCE_NS / NS_PER_MS - KEEP_IDLE_MS) / KEEP_INTERVAL_MS)
#define WRITE_LOW_WATER  (TCP_SND_BUF / 4) /* wake a writer only when this much fits */
#define CREDIT_STEP      (TCP_WND / 8)     /* open the window again in such steps */

static struct tcp_stream *tcp_of(struct stream *s) { return CONTAINER_OF(s, struct tcp_stream, s); }

int tcp_stream_errno(err_t e, bool connecting)
{
	switch (e) {
	case ERR_OK: return 0;
	case ERR_RST: return connecting ? -ECONNREFUSED : -ECONNRESET;
	case ERR_ABRT: return -ETIMEDOUT; /* lwIP gave up retransmitting */
	case ERR_RTE: return -EHOSTUNREACH;
	case ERR_MEM:
	case ERR_BUF: return -ENOMEM;
	case ERR_USE: return -EADDRINUSE;
	default: return -ECONNRESET;
	}
}

/* ---- callbacks of lwIP: core lock held ---- */

static err_t on_receive(void *arg, struct tcp_pcb *pcb unused, struct pbuf *p, err_t err unused)
{
	struct tcp_stream *t = arg;
	struct pbuf *joined = NULL;
	uint64_t flags = spin_lock_irqsave(&t->lock);
	if (p && t->rx && netbuf_join(CONTAINER_OF(t->rx_tail, struct pbuf, next), p)) {
		joined = p;
	} else if (p) {
		*t->rx_tail = p;
		while (p->next)
			p = p->next;
		t->rx_tail = &p->next;
	} else {
		t->peer_ended = true;
	}
	waitq_wake_all(&t->readers);
	spin_unlock_irqrestore(&t->lock, flags);
	if (joined)
		pbuf_free(joined);
	return ERR_OK;
}

static err_t on_sent(void *arg, struct tcp_pcb *pcb, u16_t len unused)
{
	struct tcp_stream *t = arg;
	if (pcb->snd_buf < WRITE_LOW_WATER)
		return ERR_OK;
	uint64_t flags = spin_lock_irqsave(&t->lock);
	t->space_news++;
	waitq_wake_all(&t->writers);
	spin_unlock_irqrestore(&t->lock, flags);
	return ERR_OK;
}

/* The first error, or what stands for none. */
static int error_of(const struct tcp_stream *t, int none)
{
	int err = __atomic_load_n(&t->err, __ATOMIC_RELAXED);
	return err ? err : none;
}

/* An error of the connection: lwIP has freed, or is about to free, the pcb. The first one counts. */
static void set_error(struct tcp_stream *t, int err)
{
	uint64_t flags = spin_lock_irqsave(&t->lock);
	if (!t->err)
		__atomic_store_n(&t->err, err, __ATOMIC_RELAXED);
	waitq_wake_all(&t->readers);
	waitq_wake_all(&t->writers);
	spin_unlock_irqrestore(&t->lock, flags);
}

/*
 * The connection that proved where its peer is has ended, whoever still holds the stream: from now on ARP says it
 * again, for a peer that comes back may have another MAC. Core lock held.
 */
static void no_pcb(struct tcp_stream *t)
{
	t->pcb = NULL;
	if (t->neighbour)
		neighbour_drop(t->s.ip);
	t->neighbour = false;
}

/* lwIP frees a pcb, for whatever reason: one in TIME_WAIT, too, of which it says no error. */
static void on_freed(u8_t id unused, void *arg)
{
	if (arg)
		no_pcb(arg);
}

static void on_error(void *arg, err_t err)
{
	struct tcp_stream *t = arg;
	no_pcb(t);
	set_error(t, tcp_stream_errno(err, !t->connected));
}

/*
 * When nothing is acknowledged for 200 ms: notice a peer that acknowledges nothing (one that says nothing is found by
 * TCP's keep-alive), and keep the retransmission interval short. Silence is counted in calls, as lwIP counts it in
 * ticks: a host that itself stood still does not hold that against its peer.
 */
static err_t on_poll(void *arg, struct tcp_pcb *pcb)
{
	struct tcp_stream *t = arg;
	if (!pcb->unacked || pcb->lastack != t->last_ack) {
		t->last_ack = pcb->lastack;
		t->stuck = 0;
	} else if (++t->stuck > STUCK_POLLS) {
		set_error(t, -ETIMEDOUT);
		tcp_abort(pcb); /* calls on_error */
		return ERR_ABRT;
	}
	tcp_resend_tune(pcb);
	tcp_output(pcb); /* what a full NIC queue refused, when no ACK is under way to bring it up again */
	return ERR_OK;
}

/* ---- a stream's life ---- */

static const struct stream_ops tcp_ops;
static const struct tcp_ext_arg_callbacks freed = { .destroy = on_freed };

struct tcp_stream *tcp_stream_new(struct tcp_pcb *pcb)
{
	struct tcp_stream *t = calloc(1, sizeof(*t));
	if (!t)
		return NULL;
	t->s.ops = &tcp_ops;
	spin_init(&t->lock, "tcp stream");
	waitq_init(&t->readers);
	waitq_init(&t->writers);
	t->rx_tail = &t->rx;
	t->pcb = pcb;
	tcp_arg(pcb, t);
	tcp_ext_arg_set_callbacks(pcb, 0, &freed); /* the one slot of lwipopts.h is ours */
	tcp_ext_arg_set(pcb, 0, t);
	tcp_recv(pcb, on_receive);
	tcp_sent(pcb, on_sent);
	tcp_err(pcb, on_error);
	tcp_poll(pcb, on_poll, POLL_TICKS);
	tcp_nagle_disable(pcb); /* a small record does not wait for the ACK of the one before */
	ip_set_option(pcb, SOF_KEEPALIVE);
	pcb->keep_idle = KEEP_IDLE_MS;
	pcb->keep_intvl = KEEP_INTERVAL_MS;
	pcb->keep_cnt = KEEP_COUNT;
	return t;
}

/*
 * Grow the segments of a connection whose peer takes as large ones as our network: they are cut to its MTU below lwIP
 * (netif.c). lwIP needs a congestion window of a segment at least to send at all; it starts with two.
 */
void tcp_stream_established(struct tcp_pcb *pcb)
{
	struct netif *n = ip_route(&pcb->local_ip, &pcb->remote_ip);
	if (!n || pcb->mss < netif_mss(n, IP_IS_V6(&pcb->remote_ip)))
		return;
	pcb->mss = TCP_BIG_MSS;
	pcb->cwnd = MAX(pcb->cwnd, 2U * TCP_BIG_MSS);
}

void tcp_stream_detach(struct tcp_pcb *pcb)
{
	tcp_arg(pcb, NULL);
	tcp_ext_arg_set(pcb, 0, NULL);
	tcp_recv(pcb, NULL);
	tcp_sent(pcb, NULL);
	tcp_err(pcb, NULL);
	tcp_poll(pcb, NULL, 0);
}

static void free_chain(struct pbuf *p)
{
	while (p) { /* links of several packets, whose tot_len says nothing: one by one */
		struct pbuf *next = p->next;
		p->next = NULL;
		pbuf_free(p);
		p = next;
	}
}

/* Core lock held. Reset the connection, now. */
static void drop_pcb(struct tcp_stream *t)
{
	if (t->pcb) {
		tcp_stream_detach(t->pcb);
		tcp_abort(t->pcb); /* the reset is out before ARP may be asked */
		no_pcb(t);
	}
}

static void open_window(struct tcp_pcb *pcb, size_t bytes)
{
	for (; pcb && bytes; bytes -= MIN(bytes, (size_t)0xffff))
		tcp_recved(pcb, (u16_t)MIN(bytes, (size_t)0xffff));
}

static void give_credit(struct tcp_stream *t)
{
	open_window(t->pcb, t->credit);
	t->credit = 0;
}

/* Give the peer as much of the window as he has been kept from. Core lock held. */
static void widen(struct tcp_stream *t)
{
	open_window(t->pcb, t->held);
	t->held = 0;
}

void stream_tcp_trust(struct stream *s, bool proved)
{
	if (s->ops != &tcp_ops)
		return;
	NET_CORE_LOCK();
	widen(tcp_of(s));
	tcp_of(s)->unproved = false;
	if (tcp_of(s)->pcb) {
		tcp_setprio(tcp_of(s)->pcb, TCP_PRIO_MAX);
		tcp_of(s)->neighbour = proved && neighbour_keep(s->ip);
	}
	NET_CORE_UNLOCK();
}

static void tcp_stream_abort(struct stream *s)
{
	struct tcp_stream *t = tcp_of(s);
	set_error(t, -ECANCELED);
	NET_CORE_LOCK();
	drop_pcb(t);
	NET_CORE_UNLOCK();
}

/* A connection that nobody holds any more, and whose peer has not taken all of it. */
static err_t on_linger(void *arg unused, struct tcp_pcb *pcb)
{
	tcp_abort(pcb);
	return ERR_ABRT;
}

/*
 * What was written still goes out, by lwIP alone, within LINGER_TICKS; who has proved nothing gives his place to
 * whoever comes meanwhile. After an error, or with data unread, the peer gets a reset. Nobody else uses the stream any
 * more. Until its pcb is detached lwIP does, which the core lock keeps out.
 */
static void tcp_stream_close(struct stream *s)
{
	struct tcp_stream *t = tcp_of(s);
	NET_CORE_LOCK();
	if (t->pcb && !error_of(t, 0) && !t->s.err && !t->rx && !t->cur) {
		give_credit(t);
		widen(t); /* lwIP resets a connection whose window is not all open: data may be unread */
		struct tcp_pcb *pcb = t->pcb;
		tcp_stream_detach(pcb);
		tcp_poll(pcb, on_linger, t->unproved ? LINGER_UNPROVED : LINGER_TICKS);
		if (t->unproved)
			tcp_setprio(pcb, TCP_PRIO_MIN);
		if (tcp_close(pcb) != ERR_OK)
			tcp_abort(pcb);
		no_pcb(t);
	}
	drop_pcb(t);
	NET_CORE_UNLOCK();
	free_chain(t->cur);
	free_chain(t->rx);
	free(t);
}

static int tcp_stream_shutdown(struct stream *s)
{
	struct tcp_stream *t = tcp_of(s);
	NET_CORE_LOCK();
	int err = t->pcb ? tcp_stream_errno(tcp_shutdown(t->pcb, 0, 1), false) : error_of(t, -ECONNRESET);
	NET_CORE_UNLOCK();
	return err;
}

/* ---- reading ---- */

/*
 * Have t->cur hold received buffers. 1: it does; 0: the peer ended; -errno. Data before an end or a reset is still
 * read.
 */
static int fetch(struct tcp_stream *t, uint64_t deadline_ns)
{
	int ret = 0;
	uint64_t flags = spin_lock_irqsave(&t->lock);
	while (!t->rx && !t->peer_ended && !t->err && !ret)
		ret = waitq_wait(&t->readers, &t->lock, &flags, deadline_ns);
	if (t->err == -ECANCELED) {
		ret = t->err;
	} else if (t->rx) {
		t->cur = t->rx;
		t->cur_off = 0;
		t->rx = NULL;
		t->rx_tail = &t->rx;
		ret = 1;
	} else if (t->err && !t->peer_ended) {
		ret = t->err;
	} else if (t->peer_ended) {
		ret = 0;
	}
	spin_unlock_irqrestore(&t->lock, flags);
	return ret;
}

static size_t take(struct tcp_stream *t, uint8_t *buf, size_t max)
{
	size_t done = 0;
	while (t->cur && done < max) {
		struct pbuf *p = t->cur;
		size_t n = MIN(max - done, p->len - t->cur_off);
		memcpy(buf + done, (uint8_t *)p->payload + t->cur_off, n);
		done += n;
		t->cur_off += n;
		if (t->cur_off == p->len) {
			t->cur = p->next;
			t->cur_off = 0;
			p->next = NULL;
			pbuf_free(p);
		}
	}
	return done;
}

static int tcp_stream_read(struct stream *s, void *buf, size_t max, uint64_t deadline_ns)
{
	struct tcp_stream *t = tcp_of(s);
	size_t done = 0;
	if (!max)
		return 0;
	if (error_of(t, 0) == -ECANCELED)
		return -ECANCELED;
	while (!done) { /* a chain may be of empty buffers only */
		int ret = t->cur ? 1 : fetch(t, deadline_ns);
		if (ret <= 0)
			return ret;
		done = take(t, buf, max);
	}
	t->credit += done;
	/*
	 * lwIP tells the peer only when it is worth it; what is owed at the end of the buffers must not wait for more.
	 */
	if (t->credit >= CREDIT_STEP || !t->cur) {
		NET_CORE_LOCK();
		give_credit(t);
		NET_CORE_UNLOCK();
	}
	return (int)done;
}

/* ---- writing ---- */

struct cursor { /* where in an iov a write has come to */
	const struct iov *iov;
	unsigned n;
	size_t off;
};

/* Hand lwIP as much as it takes. True when all is in. Core lock held, t->pcb there. */
static bool feed(struct tcp_stream *t, struct cursor *c)
{
	struct tcp_pcb *pcb = t->pcb;
	for (; c->n; c->iov++, c->n--, c->off = 0) {
		while (c->off < c->iov->len) {
			size_t left = c->iov->len - c->off, room = pcb->snd_buf; /* tcp_sndbuf() stops at 64 KiB */
			/* A segment a call at most, so that it lies in one piece of memory. */
			size_t n = MIN(MIN(left, room), (size_t)pcb->mss);
			if (!n)
				return false;
			bool more = n < left || c->n > 1;
			if (tcp_write(pcb, (const uint8_t *)c->iov->base + c->off, (u16_t)n,
				      TCP_WRITE_FLAG_COPY | (more ? TCP_WRITE_FLAG_MORE : 0)))
				return false;
			c->off += n;
			if (n >= TCP_BIG_MSS / 2)
				tcp_output(pcb); /* on its way while the next one is copied */
		}
	}
	return true;
}

/* Wait for on_sent, an error, or (another connection may have the memory) 20 ms. */
static int wait_space(struct tcp_stream *t, unsigned seen, uint64_t deadline_ns)
{
	int ret = 0;
	uint64_t retry = time_in_ms(20), flags = spin_lock_irqsave(&t->lock);
	while (!t->err && t->space_news == seen && !ret)
		ret = waitq_wait(&t->writers, &t->lock, &flags, MIN(deadline_ns, retry));
	if (t->err)
		ret = t->err;
	else if (ret && retry < deadline_ns)
		ret = 0;
	spin_unlock_irqrestore(&t->lock, flags);
	return ret;
}

static int tcp_stream_writev(struct stream *s, const struct iov *iov, unsigned n, uint64_t deadline_ns)
{
	struct tcp_stream *t = tcp_of(s);
	struct cursor c = { .iov = iov, .n = n };
	for (;;) {
		bool done = false;
		int err = 0;
		NET_CORE_LOCK();
		unsigned seen = t->space_news; /* it changes only under the core lock */
		if (!t->pcb)
			err = error_of(t, -ECONNRESET);
		else if (t->pcb->state != ESTABLISHED && t->pcb->state != CLOSE_WAIT)
			err = -EPIPE; /* shut down by us */
		else {
			done = feed(t, &c);
			tcp_output(t->pcb);
		}
		NET_CORE_UNLOCK();
		if (err || done)
			return err;
		err = wait_space(t, seen, deadline_ns);
		if (err)
			return err;
	}
}

static const struct stream_ops tcp_ops = {
	.read = tcp_stream_read,
	.writev = tcp_stream_writev,
	.shutdown = tcp_stream_shutdown,
	.abort = tcp_stream_abort,
	.close = tcp_stream_close,
};

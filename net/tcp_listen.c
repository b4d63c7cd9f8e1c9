/* SPDX-License-Identifier: BSD-2-Clause */
/* Listening for TCP streams: a task per connection, no more of them at once than the listener allows. */
#include "kernel/log.h"
#include "kernel/random.h"
#include "kernel/task.h"
#include "lwip/priv/tcp_priv.h"
#include "net/tcp.h"
#include <stdio.h>
#include <stdlib.h>

/*
 * Who has not proved who he is (stream_tcp_trust) has a small window, and gives way: his connection when lwIP has no
 * other left for an outgoing one (by its priority), his half-open one, whichever chance picks, when BACKLOG of them
 * wait. So a flood of SYNs keeps nobody out for long, and nobody who is in.
 */
#define BACKLOG      16
#define UNPROVED_WND 0xffff

struct listener {
	void (*serve)(void *arg, struct stream *s);
	void *arg;
	uint16_t port;
	unsigned max, active; /* active: atomic */
};
struct job {
	struct listener *l;
	struct tcp_stream *t;
};

static void serve_task(void *arg)
{
	struct job *j = arg;
	struct listener *l = j->l;
	struct stream *s = &j->t->s;
	free(j);
	l->serve(l->arg, s);
	__atomic_fetch_sub(&l->active, 1, __ATOMIC_RELAXED);
}

/* Core lock held. Anything but ERR_OK makes lwIP reset the connection. */
static err_t on_accept(void *arg, struct tcp_pcb *pcb, err_t err)
{
	struct listener *l = arg;
	if (err != ERR_OK || !pcb)
		return ERR_VAL;
	bool peer = net_is_peer(netif_ip_of(&pcb->remote_ip)); /* the last places are theirs */
	if (__atomic_load_n(&l->active, __ATOMIC_RELAXED) >= l->max - (peer ? 0 : l->max / 4)) {
		log_warn("tcp: port %u: more than %u connections, one is refused", l->port, l->max);
		return ERR_MEM;
	}
	struct job *j = malloc(sizeof(*j));
	struct tcp_stream *t = j ? tcp_stream_new(pcb) : NULL;
	if (!t)
		goto fail;
	t->connected = true;
	t->unproved = true;
	t->held = pcb->rcv_wnd > UNPROVED_WND ? pcb->rcv_wnd - UNPROVED_WND : 0;
	pcb->rcv_wnd = pcb->rcv_ann_wnd = pcb->rcv_wnd - t->held;
	pcb->rcv_ann_right_edge = pcb->rcv_nxt + pcb->rcv_ann_wnd; /* the SYN had no room to announce more */
	t->s.ip = netif_ip_of(&pcb->remote_ip);
	sniprintf(t->s.peer, sizeof(t->s.peer), "%s", ip_port_text(t->s.ip, pcb->remote_port).s);
	tcp_stream_established(pcb);
	*j = (struct job){ l, t };
	__atomic_fetch_add(&l->active, 1, __ATOMIC_RELAXED);
	if (task_create("tcp serve", TASK_PRIO_NORMAL, serve_task, j))
		return ERR_OK;
	__atomic_fetch_sub(&l->active, 1, __ATOMIC_RELAXED);
	tcp_stream_detach(pcb); /* lwIP aborts it now */
	free(t);
fail:
	free(j);
	return ERR_MEM;
}

static bool is_half_open(const struct tcp_pcb *pcb, const struct tcp_pcb_listen *l)
{
	return pcb->state == SYN_RCVD && pcb->listener == l;
}

/*
 * Did the segment that is being handled come by a network for migrations, and to this host's address there? lwIP
 * answers for every address on every interface.
 */
static bool came_by_migration_net(void)
{
	struct netif *n = ip_current_input_netif();
	return netif_net(n)->uses & NET_USE_MIGRATION && n == ip_current_netif();
}

/*
 * lwIP's hook, core lock held: a segment came for pcb. A SYN by another network is refused, with a reset: silence would
 * look like that of a host that is off. One that would find no place gets one.
 */
err_t net_tcp_incoming(struct tcp_pcb *pcb, const struct tcp_hdr *h)
{
	struct tcp_pcb_listen *l = (struct tcp_pcb_listen *)pcb;
	unsigned n = 0, pick;
	if (pcb->state == LISTEN && !came_by_migration_net()) {
		if ((TCPH_FLAGS(h) & (TCP_SYN | TCP_RST)) == TCP_SYN)
			tcp_rst_netif(ip_current_input_netif(), h->ackno, h->seqno + 1, ip_current_dest_addr(),
				      ip_current_src_addr(), h->dest, h->src);
		return ERR_VAL;
	}
	if (pcb->state != LISTEN || (TCPH_FLAGS(h) & (TCP_SYN | TCP_ACK)) != TCP_SYN || l->accepts_pending < l->backlog)
		return ERR_OK;
	for (struct tcp_pcb *p = tcp_active_pcbs; p; p = p->next)
		n += is_half_open(p, l);
	if (!n)
		return ERR_OK;
	random_bytes(&pick, sizeof(pick));
	pick %= n;
	for (struct tcp_pcb *p = tcp_active_pcbs; p; p = p->next) {
		if (!is_half_open(p, l) || pick--)
			continue;
		tcp_abandon(p, 0); /* without a reset, which would go to whoever's address it was */
		break;
	}
	return ERR_OK;
}

int stream_tcp_listen(uint16_t port, unsigned max_connections, void (*serve)(void *arg, struct stream *s), void *arg)
{
	struct listener *l = calloc(1, sizeof(*l));
	if (!l)
		return err_trace(-ENOMEM);
	*l = (struct listener){ .serve = serve, .arg = arg, .port = port, .max = max_connections };
	NET_CORE_LOCK();
	int err = -ENOMEM;
	struct tcp_pcb *pcb = tcp_new_ip_type(IPADDR_TYPE_ANY);
	if (!pcb)
		goto out;
	tcp_setprio(pcb, TCP_PRIO_MIN + 1); /* and so do those that come in: above who has been refused */
	err = tcp_bind(pcb, IP_ANY_TYPE, port) == ERR_OK ? 0 : -EADDRINUSE;
	struct tcp_pcb *listening = err ? NULL : tcp_listen_with_backlog(pcb, BACKLOG); /* frees pcb */
	if (!listening) {
		tcp_abort(pcb);
		err = err ? err : -ENOMEM;
		goto out;
	}
	tcp_arg(listening, l);
	tcp_accept(listening, on_accept);
out:
	NET_CORE_UNLOCK();
	if (err)
		free(l);
	return err ? err_trace(err) : 0;
}

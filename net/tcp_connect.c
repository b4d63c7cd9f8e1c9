/* SPDX-License-Identifier: BSD-2-Clause */
/* TCP streams that this host opens (net/stream.h). */
#include "kernel/time.h"
#include "net/tcp.h"
#include <stdio.h>
#include <string.h>

static err_t on_connected(void *arg, struct tcp_pcb *pcb, err_t err unused)
{
	struct tcp_stream *t = arg;
	tcp_stream_established(pcb);
	uint64_t flags = spin_lock_irqsave(&t->lock);
	t->connected = true;
	waitq_wake_all(&t->writers);
	spin_unlock_irqrestore(&t->lock, flags);
	return ERR_OK;
}

struct purpose {
	unsigned use; /* NET_USE_* of the network that leads there */
	const char *what, *listens;
};

/* -EPERM: the way there is a network that is not for that, of the name in other. */
static int connect_start(struct tcp_stream **out, const ip_addr_t *ip, uint16_t port, unsigned use,
			 char other[NET_NAME_MAX])
{
	*out = NULL;
	int err = -ENOMEM;
	NET_CORE_LOCK();
	struct netif *n = netif_way_for(ip, use);
	if (n && !(netif_net(n)->uses & use)) {
		memcpy(other, netif_net(n)->name, NET_NAME_MAX);
		NET_CORE_UNLOCK();
		return -EPERM;
	}
	struct tcp_pcb *pcb = tcp_new_ip_type(IP_GET_TYPE(ip));
	struct tcp_stream *t = *out = pcb ? tcp_stream_new(pcb) : NULL;
	if (t) {
		tcp_setprio(pcb, TCP_PRIO_MAX);
		const ip_addr_t *from = n ? ip_netif_get_local_ip(n, ip) : NULL;
		if (from)
			tcp_bind(pcb, from, 0); /* so that it is the one by which it leaves (net_route_src) */
		err = tcp_stream_errno(tcp_connect(pcb, ip, port, on_connected), true);
	} else if (pcb) {
		tcp_abort(pcb);
	}
	NET_CORE_UNLOCK();
	return err;
}

uint64_t net_line(struct ip to)
{
	const ip_addr_t ip = netif_lwip_of(to);
	NET_CORE_LOCK();
	struct netif *n = netif_way(&ip);
	unsigned mbit = n ? uplink_mbit(&netif_net(n)->wire) : 0;
	NET_CORE_UNLOCK();
	return mbit * (1000000UL / 8);
}

static int connect_wait(struct tcp_stream *t, uint64_t deadline_ns, const struct stream_canceller *c)
{
	int ret = c ? c->attach(c->arg, &t->s) : 0;
	uint64_t flags = spin_lock_irqsave(&t->lock);
	while (!t->connected && !t->err && !ret)
		ret = waitq_wait(&t->writers, &t->lock, &flags, deadline_ns);
	ret = t->err ? t->err : t->connected ? 0 : ret;
	spin_unlock_irqrestore(&t->lock, flags);
	return ret;
}

static int connect_for(const struct purpose *p, struct stream **s, struct ip to, uint16_t port, uint64_t deadline_ns,
		       const struct stream_canceller *canceller, struct why *w)
{
	const ip_addr_t ip = netif_lwip_of(to);
	const struct ip_text addr = ip_text(to);
	struct tcp_stream *t;
	char mine[48], other[NET_NAME_MAX];
	*s = NULL;
	int err = net_address(mine)[0] ? 0 : net_addr_why(to, w);
	if (err)
		return err;
	uint64_t begin = time_ns();
	int start = connect_start(&t, &ip, port, p->use, other);
	err = start ? start : connect_wait(t, deadline_ns, canceller);
	if (!err) {
		sniprintf(t->s.peer, sizeof(t->s.peer), "%s", ip_port_text(to, port).s);
		t->s.ip = to;
		t->s.rtt_ns = time_ns() - begin;
		*s = &t->s;
		return 0;
	}
	if (!start && canceller)
		canceller->detach(canceller->arg);
	if (t) {
		stream_abort(&t->s);
		stream_close(&t->s);
	}
	if ((start == -EPERM || start == -EHOSTUNREACH) && net_addr_why(to, w))
		return -ENETDOWN; /* the way that was found is not the one that is meant */
	if (start == -EPERM)
		return why_set(w, err, "%s is reached by the network %s, which is not for %s ([net %s] use)", addr.s,
			       other, p->what, other);
	if (start == -EHOSTUNREACH) /* nobody was called: no silence */
		return why_set(w, -ENETUNREACH, "no route to %s from %s: give a gateway in tern.conf", addr.s, mine);
	if (start)
		return why_set(w, err, "no connection to %s:%u: %s", addr.s, port, err_name(err));
	if (err == -ECANCELED)
		return why_set(w, err, "cancelled while connecting to %s:%u", addr.s, port);
	if (err == -ECONNREFUSED)
		return why_set(w, err, "%s:%u refuses the connection (does %s there?)", addr.s, port, p->listens);
	return why_set(w, err, "no answer from %s:%u (is that host on, its network connected?)", addr.s, port);
}

int stream_tcp_connect(struct stream **s, struct ip to, uint16_t port, uint64_t deadline_ns,
		       const struct stream_canceller *canceller, struct why *w)
{
	static const struct purpose host = { NET_USE_MIGRATION, "migrations", "tern run" };
	return connect_for(&host, s, to, port, deadline_ns, canceller, w);
}

int stream_tcp_connect_storage(struct stream **s, struct ip to, uint16_t port, uint64_t deadline_ns, struct why *w)
{
	static const struct purpose storage = { NET_USE_STORAGE, "storage", "an iSCSI target listen" };
	return connect_for(&storage, s, to, port, deadline_ns, NULL, w);
}

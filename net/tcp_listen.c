/* SPDX-License-Identifier: BSD-2-Clause */
/* Listening for TCP streams: a task per connection, no more of them at once than the listener allows. */
#include "kernel/base/ip4.h"
#include "kernel/log.h"
#include "kernel/task.h"
#include "net/tcp.h"
#include <stdio.h>
#include <stdlib.h>

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
	if (__atomic_load_n(&l->active, __ATOMIC_RELAXED) >= l->max) {
		log_warn("tcp: port %u: more than %u connections, one is refused", l->port, l->max);
		return ERR_MEM;
	}
	struct job *j = malloc(sizeof(*j));
	struct tcp_stream *t = j ? tcp_stream_new(pcb) : NULL;
	if (!t)
		goto fail;
	t->connected = true;
	t->s.ip = pcb->remote_ip.addr;
	sniprintf(t->s.peer, sizeof(t->s.peer), "%s:%u", ip4_text(t->s.ip).s, pcb->remote_port);
	tcp_stream_established(pcb);
	*j = (struct job){ l, t };
	__atomic_fetch_add(&l->active, 1, __ATOMIC_RELAXED);
	if (task_create("tcp serve", TASK_PRIO_NORMAL, serve_task, j))
		return ERR_OK;
	__atomic_fetch_sub(&l->active, 1, __ATOMIC_RELAXED);
	tcp_arg(pcb, NULL); /* lwIP aborts pcb now: without its stream */
	tcp_recv(pcb, NULL);
	tcp_sent(pcb, NULL);
	tcp_err(pcb, NULL);
	tcp_poll(pcb, NULL, 0);
	free(t);
fail:
	free(j);
	return ERR_MEM;
}

int stream_tcp_listen(uint16_t port, unsigned max_connections, void (*serve)(void *arg, struct stream *s), void *arg)
{
	struct listener *l = calloc(1, sizeof(*l));
	if (!l)
		return err_trace(-ENOMEM);
	*l = (struct listener){ .serve = serve, .arg = arg, .port = port, .max = max_connections };
	NET_CORE_LOCK();
	int err = -ENOMEM;
	struct tcp_pcb *pcb = tcp_new();
	if (!pcb)
		goto out;
	err = tcp_bind(pcb, IP_ADDR_ANY, port) == ERR_OK ? 0 : -EADDRINUSE;
	struct tcp_pcb *listening = err ? NULL : tcp_listen_with_backlog(pcb, 16); /* frees pcb */
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

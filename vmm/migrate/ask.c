/* SPDX-License-Identifier: BSD-2-Clause */
/* Questions to other hosts (ask.h). */
#include "vmm/migrate/ask.h"
#include "kernel/log.h"
#include "kernel/task.h"
#include "kernel/ip.h"
#include "kernel/time.h"
#include "net/trust.h"
#include "vmm/migrate/migration.h"
#include <stdlib.h>

#define LOOK_NS (200 * NS_PER_MS) /* how often an asker is asked whether he leaves */

/*
 * Of all that can go wrong these alone are a host's silence: it was called, and nobody answered. A question that could
 * not be put (no memory, no key), a refusal, and a host that answers and then says nothing are not: it may run the VM.
 */
static bool is_silence(int connect_err) { return connect_err == -ETIMEDOUT || connect_err == -EHOSTUNREACH; }

static int greet(struct ask *q, struct migration *m)
{
	int err = trust_connect(&q->s, q->ip, MIGRATE_PORT, q->end_ns, m ? &m->canceller : NULL, &q->why);
	q->alive = !is_silence(err);
	if (err)
		return err;
	if ((err = wire_tx_init(&q->tx, q->s)) || (err = wire_rx_init(&q->rx, q->s)))
		return err;
	if (m && (err = migration_attach(m, q->s, NULL)))
		return err;
	return hello_exchange(&q->tx, &q->rx, &q->peer, q->end_ns, &q->why);
}

static int talk(struct ask *q, struct migration *m)
{
	int err = greet(q, m);
	q->greeted = !err;
	if (err)
		return err;
	err = q->put(q);
	if (err)
		return err == ASK_ENOUGH ? 0 : err;
	uint64_t now = time_ns();
	err = wire_recv(&q->rx, q->end_ns, q->end_ns > now ? q->end_ns - now : 0, &q->why);
	if (!err)
		q->take(q);
	return err;
}

int ask_host(struct ask *q, struct migration *m)
{
	q->err = talk(q, m);
	if (q->err)
		log_debug("asking %s: %s", ip_text(q->ip).s, q->why.text[0] ? q->why.text : err_name(q->err));
	if (m)
		migration_detach(m);
	wire_rx_fini(&q->rx);
	wire_tx_fini(&q->tx);
	stream_close(q->s);
	q->s = NULL;
	return q->err;
}

/* ---- several ---- */

void ask_group_init(struct ask_group *g)
{
	g->refs = g->left = 1;
	completion_init(&g->end);
}

static void ask_task(void *arg)
{
	struct ask *q = arg;
	struct ask_group *g = q->group;
	ask_host(q, NULL);
	__atomic_store_n(&q->ended, true, __ATOMIC_SEQ_CST);
	if (!__atomic_sub_fetch(&g->left, 1, __ATOMIC_SEQ_CST))
		completion_done(&g->end);
	ask_group_put(g);
}

void ask_start(struct ask_group *g, struct ask *q)
{
	q->group = g;
	__atomic_add_fetch(&g->refs, 1, __ATOMIC_SEQ_CST);
	__atomic_add_fetch(&g->left, 1, __ATOMIC_SEQ_CST);
	if (!task_create("ask", TASK_PRIO_NORMAL, ask_task, q))
		ask_task(q); /* no memory for a task: one after the other */
}

bool ask_wait(struct ask_group *g, bool (*leaves)(void *arg), void *arg)
{
	if (!__atomic_sub_fetch(&g->left, 1, __ATOMIC_SEQ_CST))
		return true;
	while (completion_wait(&g->end, leaves ? time_ns() + LOOK_NS : TIME_NEVER)) /* each ends by its end_ns */
		if (leaves && leaves(arg))
			return false;
	return true;
}

void ask_group_put(struct ask_group *g)
{
	if (!__atomic_sub_fetch(&g->refs, 1, __ATOMIC_SEQ_CST))
		free(g);
}

/* SPDX-License-Identifier: BSD-2-Clause */
/* Settling debts, and handing them on (settle.h). */
#include "vmm/migrate/settle.h"
#include "kernel/log.h"
#include "kernel/task.h"
#include "kernel/time.h"
#include "vmm/migrate/ask.h"
#include "vmm/migrate/attempts.h"
#include "vmm/migrate/migration.h"
#include "vmm/migrate/this_host.h"
#include <string.h>

#define EVERY_NS (5 * NS_PER_SEC)
#define ASK_NS   (2 * NS_PER_SEC)

/* Send d as SETTLE or DEBT: the type of the record that comes back about it, 0 if none does. */
static uint32_t exchange(struct ask *q, uint32_t type, const struct decision *d)
{
	struct why w = { "" };
	struct attempt_id id;
	if (debt_send(&q->tx, type, d, q->end_ns) || ask_recv(q, &w))
		return 0;
	id_get(&q->rx, &id);
	return wire_get_end(&q->rx) && attempt_id_equal(&id, &d->id) ? q->rx.type : 0;
}

/* Does the source of d say that it no longer holds the attempt? An older boot of it holds nothing any more. */
static bool is_settled(const struct decision *d, bool *heard)
{
	struct why w = { "" };
	struct ask q;
	bool done = false;
	int err = ask_open(&q, d->source, time_ns() + ASK_NS, NULL, &w);
	if (!err && q.peer.inc.host == d->id.source.host)
		done = q.peer.inc.boot != d->id.source.boot || exchange(&q, WIRE_SETTLE, d) == WIRE_DONE;
	*heard = q.alive;
	ask_close(&q, NULL);
	return done;
}

unsigned settle_once(uint64_t end_ns)
{
	struct decision d;
	uint32_t silent = 0; /* the source that was silent last: its other records wait for the next time */
	unsigned open = 0;
	while (attempt_get(open, &d)) {
		bool ask = silent != d.source && time_ns() < end_ns, heard = true;
		if (ask && is_settled(&d, &heard)) {
			attempt_event(&d.id, RECORD_EV_DONE);
			continue;
		}
		if (!heard)
			silent = d.source;
		open++;
	}
	return open;
}

static void settle_task(void *arg unused)
{
	for (;;) {
		task_sleep_until(time_ns() + EVERY_NS);
		settle_once(TIME_NEVER);
	}
}

int settle_start(void) { return task_create("settle", TASK_PRIO_NORMAL, settle_task, NULL) ? 0 : err_trace(-ENOMEM); }

/* ---- the other sides ---- */

int settle_take(const struct decision *d)
{
	if (d->id.source.host != migrate_this_host()->inc.host)
		return attempt_told(d);
	(void)migration_told(d); /* an older boot's image is gone */
	return 0;
}

void settle_answer(struct wire_tx *tx, struct wire_rx *rx)
{
	struct decision d;
	bool kept;
	if (rx->type == WIRE_DONE) { /* from the source: it has freed its image */
		id_get(rx, &d.id);
		if (wire_get_end(rx))
			attempt_event(&d.id, RECORD_EV_DONE);
		return;
	}
	uint32_t type = rx->type;
	struct why w = { "" };
	if (debt_parse(rx, &d, &w)) {
		log_info("%s: %s", rx->s->peer, w.text);
		return;
	}
	if (type == WIRE_SETTLE)
		kept = migration_told(&d); /* we, the source, hear what became of it */
	else if (settle_take(&d))
		return;
	else
		kept = true;
	if (id_send(tx, kept ? WIRE_KEPT : WIRE_DONE, &d.id, time_ns() + ASK_NS))
		log_debug("%s asks again", rx->s->peer);
}

/* ---- before this host goes ---- */

static bool hand_to(const struct net_peer *p, const struct decision *d)
{
	struct why w = { "" };
	struct ask q;
	int err = ask_open(&q, p->ip, time_ns() + ASK_NS, NULL, &w);
	bool kept = !err && !incarnation_equal(q.peer.inc, migrate_this_host()->inc) &&
		    exchange(&q, WIRE_DEBT, d) == WIRE_KEPT;
	ask_close(&q, NULL);
	return kept;
}

unsigned settle_hand_on(uint64_t end_ns)
{
	const struct migrate_host *me = migrate_this_host();
	bool silent[NET_PEERS_MAX] = { false };
	struct decision d;
	unsigned left = 0;
	for (unsigned i = 0; attempt_get(i, &d); i++) {
		bool kept = false;
		for (unsigned p = 0; p < me->npeers && !kept && time_ns() < end_ns; p++) {
			kept = !silent[p] && hand_to(&me->peers[p], &d);
			silent[p] |= !kept;
		}
		left += !kept;
	}
	return left;
}

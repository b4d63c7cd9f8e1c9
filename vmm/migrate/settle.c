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
#include <stdlib.h>
#include <string.h>

#define EVERY_NS (5 * NS_PER_SEC)
#define ASK_NS   (4 * NS_PER_SEC)
#define AT_ONCE  8 /* records whose sources are asked together */

struct debt { /* a question about one record, or to one peer */
	struct ask ask;
	struct decision d;
	bool done;
};
struct debts {
	struct ask_group group;
	unsigned n;
	struct debt v[AT_ONCE];
};
static struct debt *debt_of(struct ask *q) { return CONTAINER_OF(q, struct debt, ask); }

/* Is the answer a record of this type about d's attempt? */
static bool says(struct ask *q, uint32_t type)
{
	struct attempt_id id;
	id_get(&q->rx, &id);
	return q->rx.type == type && wire_get_end(&q->rx) && attempt_id_equal(&id, &debt_of(q)->d.id);
}

/* Does the source of d say that it no longer holds the attempt? An older boot of it holds nothing any more. */
static int settle_put(struct ask *q)
{
	struct debt *k = debt_of(q);
	if (q->peer.inc.host != k->d.id.source.host)
		return ASK_ENOUGH;
	k->done = q->peer.inc.boot != k->d.id.source.boot;
	return k->done ? ASK_ENOUGH : debt_send(&q->tx, WIRE_SETTLE, &k->d, q->end_ns);
}
static void settle_done(struct ask *q) { debt_of(q)->done = says(q, WIRE_DONE); }

/* The sources of some records at once: how many of them are still open. */
static unsigned settle_some(struct debts *s)
{
	unsigned open = 0;
	ask_group_init(&s->group);
	for (unsigned i = 0; i < s->n; i++) {
		struct debt *k = &s->v[i];
		k->ask = (struct ask){ .end_ns = time_ns() + ASK_NS, .put = settle_put, .take = settle_done };
		k->ask.ip = k->d.source;
		ask_start(&s->group, &k->ask);
	}
	(void)ask_wait(&s->group, NULL, NULL);
	for (unsigned i = 0; i < s->n; i++) {
		if (s->v[i].done)
			migration_source_gone(&s->v[i].d.id);
		if (s->v[i].done)
			attempt_event(&s->v[i].d.id, RECORD_EV_DONE);
		else
			open++;
	}
	return open;
}

unsigned settle_once(uint64_t end_ns)
{
	struct decision d;
	unsigned open = 0;
	while (attempt_get(open, &d)) {
		struct debts *s = time_ns() < end_ns ? calloc(1, sizeof(*s)) : NULL;
		if (!s) {
			open++;
			continue;
		}
		while (s->n < AT_ONCE && attempt_get(open + s->n, &s->v[s->n].d))
			s->n++;
		open += settle_some(s);
		ask_group_put(&s->group);
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

int settle_come_along(struct wire_rx *rx, const uint8_t uuid[16], struct why *w)
{
	struct decision d;
	int err = debt_parse(rx, &d, w);
	if (err)
		return err;
	if (d.state != RECORD_STARTED || memcmp(d.id.uuid, uuid, sizeof(d.id.uuid)))
		return why_set(w, -EPROTO, "the source sent a DEBT that is none of the VM's");
	err = settle_take(&d);
	return err == -ENOSPC ? why_set(w, err, "no room there for the records that come with the VM") : err;
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
		log_info("%s: %s", migrate_peer_name(rx->s->ip, rx->s->peer), w.text);
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

/* Does the peer keep d? */
static int hand_put(struct ask *q)
{
	if (incarnation_equal(q->peer.inc, migrate_this_host()->inc))
		return ASK_ENOUGH;
	return debt_send(&q->tx, WIRE_DEBT, &debt_of(q)->d, q->end_ns);
}
static void hand_done(struct ask *q) { debt_of(q)->done = says(q, WIRE_KEPT); }

static bool hand_to(const struct net_peer *p, const struct decision *d)
{
	struct debt k = { .ask = { .ip = p->ip, .end_ns = time_ns() + ASK_NS, .put = hand_put, .take = hand_done },
			  .d = *d };
	(void)ask_host(&k.ask, NULL);
	return k.done;
}

struct greetings {
	struct ask_group group;
	struct ask v[NET_PEERS_MAX];
};
static int greet_only(struct ask *q unused) { return ASK_ENOUGH; }

/* Who of the peers is there? All are asked at once, so that dead ones cost their time together. */
static void find_silent(bool silent[NET_PEERS_MAX])
{
	const struct migrate_host *me = migrate_this_host();
	struct greetings *g = calloc(1, sizeof(*g));
	if (!g)
		return; /* they are found one after the other */
	ask_group_init(&g->group);
	for (unsigned p = 0; p < me->npeers; p++) {
		g->v[p] = (struct ask){ .ip = me->peers[p].ip, .end_ns = time_ns() + ASK_NS, .put = greet_only };
		ask_start(&g->group, &g->v[p]);
	}
	(void)ask_wait(&g->group, NULL, NULL);
	for (unsigned p = 0; p < me->npeers; p++)
		silent[p] = !g->v[p].greeted;
	ask_group_put(&g->group);
}

unsigned settle_hand_on(uint64_t end_ns)
{
	const struct migrate_host *me = migrate_this_host();
	bool silent[NET_PEERS_MAX] = { false };
	struct decision *v;
	unsigned n, left = 0;
	if (attempt_list(&v, &n))
		return 1;
	if (n)
		find_silent(silent);
	for (unsigned i = 0; i < n; i++) {
		bool kept = attempt_find(&v[i].id, NULL) == RECORD_NONE; /* its source has heard meanwhile */
		for (unsigned p = 0; p < me->npeers && !kept && time_ns() < end_ns; p++) {
			kept = !silent[p] && hand_to(&me->peers[p], &v[i]);
			silent[p] |= !kept;
		}
		left += !kept;
	}
	free(v);
	return left;
}

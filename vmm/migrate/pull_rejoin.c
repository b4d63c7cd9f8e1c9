/* SPDX-License-Identifier: BSD-2-Clause */
/* Whose connection is it that a source in post-copy has made anew (pull.h)? */
#include "kernel/log.h"
#include "kernel/time.h"
#include "vmm/migrate/attempts.h"
#include "vmm/migrate/handover.h"
#include "vmm/migrate/pull.h"
#include "vmm/migrate/service.h"

static uint64_t in(uint64_t ns) { return time_ns() + ns; }

/* Under its lock (migration_find). */
static bool is_coming(struct migration *m, const void *id)
{
	return !m->finished && m->st.incoming && attempt_id_equal(&m->id, id);
}

/* The newest is the one that the source has; those before are let go. False: nobody pulls. */
static bool hand_over(struct migration *m, struct pull_link *l)
{
	struct pull_link *old = NULL;
	spin_lock(&m->lock);
	bool pulls = m->pull;
	spin_unlock(&m->lock);
	if (pulls)
		migration_abort(m); /* before this one can be the one that it has */
	spin_lock(&m->lock);
	struct pull *p = m->pull;
	if (p) {
		uint64_t flags = spin_lock_irqsave(&p->lock);
		old = p->offer;
		p->offer = l;
		waitq_wake_all(&p->q);
		spin_unlock_irqrestore(&p->lock, flags);
	}
	spin_unlock(&m->lock);
	if (old)
		completion_done(&old->left);
	if (p)
		(void)completion_wait(&l->left, TIME_NEVER);
	return p;
}

void pull_rejoin(struct connection *k)
{
	struct attempt_id id;
	struct pull_link l = { .tx = &k->tx, .rx = &k->rx };
	completion_init(&l.left);
	id_get(&k->rx, &id);
	if (!wire_get_end(&k->rx) || !incarnation_equal(id.source, k->peer.inc)) /* its own attempts alone */
		return;
	k->tx.key = k->rx.key = attempt_key(&id);
	struct migration *m = migration_find(is_coming, &id);
	if (m) { /* where nobody pulls yet, or any more, it comes again */
		(void)!hand_over(m, &l);
		migration_put(m);
		return;
	}
	bool started = attempt_find(&id, NULL) == RECORD_STARTED; /* and nothing of it is missing */
	if (id_send(&k->tx, started ? WIRE_ALL : WIRE_UNKNOWN, &id, in(MIG_ANSWER_NS)))
		log_debug("%s could not be told what has become of its attempt", k->s->peer);
	else if (started)
		handover_wait_done(&k->rx, &id, NULL);
}

/* SPDX-License-Identifier: BSD-2-Clause */
/* Limits of migrations, and the queue of those that wait for their turn (bandwidth.h). */
#include "vmm/migrate/bandwidth.h"
#include "kernel/time.h"

#define LATE_NS    (10 * NS_PER_MS)  /* who woke up too late may catch up so much */
#define GLANCE_NS  (200 * NS_PER_MS) /* between two looks at the guest */
#define CHARGE_MAX (1UL << 30)

static struct bandwidth *lock_band(uint64_t *flags)
{
	struct bandwidth *b = &migrate_this_host()->band;
	*flags = spin_lock_irqsave(&b->lock);
	return b;
}

static void unlock_band(struct bandwidth *b, uint64_t flags) { spin_unlock_irqrestore(&b->lock, flags); }

/* Of two rates the lower one; 0 is none. */
static uint64_t lower(uint64_t a, uint64_t b) { return a && b ? MIN(a, b) : a + b; }

/* ---- turns ---- */

/* Is there room for one more? line: what its network carries, 0: not known. */
static bool has_room(const struct bandwidth *b, uint64_t line)
{
	uint64_t all = lower(b->limit, line);
	if (!b->running) /* whatever the line carries */
		return true;
	return b->running < BANDWIDTH_AT_ONCE && (!all || all / (b->running + 1) >= b->minimum);
}

int bandwidth_begin(struct migration *m, struct why *w)
{
	struct migrate_host *h = migrate_this_host();
	uint64_t flags;
	int err = 0;
	struct bandwidth *b = lock_band(&flags);
	list_append(&b->queue, &m->turn);
	unlock_band(b, flags);
	migration_phase(m, MIG_QUEUED); /* its lock is not taken under that one, which timers take */
	for (;;) {
		uint64_t line = h->line && !m->p.to_self ? h->line(m->p.dest) : 0;
		err = migration_given_up(m, w);
		lock_band(&flags);
		if (err || (list_first(&b->queue, struct migration, turn) == m && has_room(b, line)))
			break;
		(void)waitq_wait(&b->q, &b->lock, &flags, time_ns() + GLANCE_NS);
		unlock_band(b, flags);
	}
	list_remove(&m->turn);
	m->has_turn = !err;
	b->running += !err;
	waitq_wake_all(&b->q); /* the next in the queue is the first now */
	unlock_band(b, flags);
	if (!err)
		migration_phase(m, MIG_CONNECT);
	return err;
}

void bandwidth_end(struct migration *m)
{
	uint64_t flags;
	struct bandwidth *b = lock_band(&flags);
	if (m->has_turn) {
		b->running--;
		waitq_wake_all(&b->q);
	}
	m->has_turn = false;
	unlock_band(b, flags);
}

/* ---- limits ---- */

/* When so many bytes more have gone at that rate, if the last had gone by due_ns. */
static uint64_t charge(uint64_t due_ns, uint64_t now, uint64_t bytes, uint64_t rate)
{
	return rate ? MAX(due_ns, now - LATE_NS) + MIN(bytes, CHARGE_MAX) * NS_PER_SEC / rate : 0;
}

uint64_t bandwidth_due(struct bandwidth *b, struct migration *m, uint64_t bytes, uint64_t now)
{
	m->due_ns = charge(m->due_ns, now, bytes, m->limit);
	b->due_ns = charge(b->due_ns, now, bytes, b->limit);
	return MAX(m->due_ns, b->due_ns);
}

uint64_t bandwidth_until(struct migration *m, uint64_t bytes)
{
	uint64_t flags;
	struct bandwidth *b = lock_band(&flags);
	uint64_t due = bandwidth_due(b, m, bytes, time_ns());
	unlock_band(b, flags);
	return due;
}

void bandwidth_pace(struct migration *m, uint64_t bytes)
{
	uint64_t flags;
	struct bandwidth *b = lock_band(&flags);
	uint64_t due = bandwidth_due(b, m, bytes, time_ns()), looks = b->looks;
	bool changed = false;
	unlock_band(b, flags);
	while (!changed && time_ns() < due && !migration_given_up(m, NULL)) {
		lock_band(&flags);
		if (b->looks == looks)
			(void)waitq_wait(&b->q, &b->lock, &flags, MIN(due, time_ns() + GLANCE_NS));
		changed = b->looks != looks;
		unlock_band(b, flags);
	}
}

static void look(struct bandwidth *b)
{
	b->looks++;
	waitq_wake_all(&b->q);
}

void bandwidth_look(void)
{
	uint64_t flags;
	struct bandwidth *b = lock_band(&flags);
	look(b);
	unlock_band(b, flags);
}

void bandwidth_limit(struct migration *m, uint64_t rate)
{
	uint64_t flags;
	struct bandwidth *b = lock_band(&flags);
	*(m ? &m->limit : &b->limit) = rate;
	*(m ? &m->due_ns : &b->due_ns) = 0;
	look(b);
	unlock_band(b, flags);
}

uint64_t bandwidth_limit_of(struct migration *m)
{
	uint64_t flags;
	struct bandwidth *b = lock_band(&flags);
	uint64_t rate = lower(m ? m->limit : 0, b->limit);
	unlock_band(b, flags);
	return rate;
}

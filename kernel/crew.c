/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * All take parts from one counter. Each lets others run after every part, so that of a CPU which is busy with guests
 * the work has a time slice in turn with them.
 */
#include "kernel/crew.h"
#include "arch/x86/cpu.h"
#include "kernel/sync.h"
#include "kernel/time.h"

#define HELPERS_MAX 31 /* what there is to do is in memory, which is no faster with more */
#define TELL_NS     (250 * NS_PER_MS)

/* [a] atomic  [c] const */
struct crew {
	const struct crew_work *w; /* [c] */
	uint64_t next;             /* [a] the first part that nobody has taken */
	uint64_t done;             /* [a] */
	struct sem ended;          /* once for each helper */
};

/* False: none was left. */
static bool one_part(struct crew *c)
{
	uint64_t n = __atomic_fetch_add(&c->next, 1, __ATOMIC_RELAXED);
	if (n >= c->w->parts)
		return false;
	c->w->part(c->w->arg, n);
	__atomic_fetch_add(&c->done, 1, __ATOMIC_RELEASE);
	task_yield();
	return true;
}

static void helper(void *arg)
{
	struct crew *c = arg;
	while (one_part(c)) {}
	sem_up(&c->ended); /* the last use of c */
}

/* What the answer is, unless 0, ends the work. */
static int tell(struct crew *c)
{
	int err = c->w->told ? c->w->told(c->w->arg, __atomic_load_n(&c->done, __ATOMIC_ACQUIRE)) : 0;
	if (err)
		__atomic_store_n(&c->next, c->w->parts, __ATOMIC_RELAXED);
	return err;
}

int crew_run(const struct crew_work *w)
{
	struct crew c = { .w = w };
	uint64_t alone = MIN(w->parts, w->worth), helpers = 0;
	uint64_t want = MIN(MIN((uint64_t)cpu_count() - 1, HELPERS_MAX), (w->parts - alone) / w->worth);
	int err = 0;
	sem_init(&c.ended, 0);
	while (helpers < want && task_create(w->name, w->prio, helper, &c))
		helpers++;
	while (!err && one_part(&c))
		err = tell(&c);
	while (helpers) { /* each has one part at most in its hands */
		helpers -= !sem_down(&c.ended, time_ns() + TELL_NS);
		if (!err)
			err = tell(&c);
	}
	return err;
}

/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * All take parts from one counter. Each lets others run after a part when it has had the CPU for a while, so that one
 * which is busy with guests has its turns with them: such a turn of theirs may take 10 ms.
 */
#include "kernel/crew.h"
#include "arch/x86/cpu.h"
#include "kernel/sync.h"
#include "kernel/time.h"

#define HELPERS_MAX 31 /* what there is to do is in memory, which is no faster with more */
#define TELL_NS     (250 * NS_PER_MS)
#define TURN_NS     (200 * NS_PER_US)

/* [a] atomic  [c] const */
struct crew {
	const struct crew_work *w; /* [c] */
	uint64_t next;             /* [a] the first part that nobody has taken */
	uint64_t done;             /* [a] */
	struct sem ended;          /* once for each helper */
};

/* False: none was left. *since_ns: when this task began, or has yielded last. */
static bool one_part(struct crew *c, uint64_t *since_ns)
{
	uint64_t n = __atomic_fetch_add(&c->next, 1, __ATOMIC_RELAXED);
	if (n >= c->w->parts)
		return false;
	c->w->part(c->w->arg, n);
	__atomic_fetch_add(&c->done, 1, __ATOMIC_RELEASE);
	if (time_ns() - *since_ns >= TURN_NS) {
		task_yield();
		*since_ns = time_ns();
	}
	return true;
}

static void helper(void *arg)
{
	struct crew *c = arg;
	uint64_t since_ns = time_ns();
	while (one_part(c, &since_ns)) {}
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
	uint64_t alone = MIN(w->parts, w->worth), helpers = 0, since_ns = time_ns();
	uint64_t want = MIN(MIN((uint64_t)cpu_count() - 1, HELPERS_MAX), (w->parts - alone) / w->worth);
	int err = 0;
	sem_init(&c.ended, 0);
	while (helpers < want && task_create(w->name, w->prio, helper, &c))
		helpers++;
	while (!err && one_part(&c, &since_ns))
		err = tell(&c);
	while (helpers) { /* each has one part at most in its hands */
		helpers -= !sem_down(&c.ended, time_ns() + TELL_NS);
		if (!err)
			err = tell(&c);
	}
	return err;
}

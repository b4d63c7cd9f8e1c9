/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Clearing a new VM's memory, which for large ones takes seconds, on all CPUs: the caller and one task for each other
 * CPU take blocks from one counter. Each lets others run after every block: a guest that wants its CPU waits for 2 MiB
 * at most, and of a CPU that is busy with guests the clearing gets one block a time slice.
 */
#include "arch/x86/cpu.h"
#include "kernel/task.h"
#include "kernel/time.h"
#include "vmm/gmem.h"

#define HELPERS_MAX  31 /* memory is no faster with more */
#define REPORT_BYTES MIB(64)
#define REPORT_NS    (250 * NS_PER_MS)

/* [a] atomic  [c] const  [o] the caller's own */
struct clearing {
	const struct gmem *g;          /* [c] */
	const struct gmem_progress *p; /* [c] */
	uint64_t next;                 /* [a] the first block that nobody has taken */
	uint64_t done;                 /* [a] blocks cleared */
	uint64_t told_blocks, told_ns; /* [o] when p heard of it last */
	struct sem ended;              /* once for each helper */
};

/* False: none was left. */
static bool clear_block(struct clearing *c)
{
	uint64_t i = __atomic_fetch_add(&c->next, 1, __ATOMIC_RELAXED);
	if (i >= c->g->nblocks)
		return false;
	page_zero(c->g->block[i], PAGE_ORDER_2M);
	__atomic_fetch_add(&c->done, 1, __ATOMIC_RELEASE);
	task_yield();
	return true;
}

static void helper(void *arg)
{
	struct clearing *c = arg;
	while (clear_block(c)) {}
	sem_up(&c->ended); /* the last use of c */
}

static void cancel(struct clearing *c) { __atomic_store_n(&c->next, c->g->nblocks, __ATOMIC_RELAXED); }

/* Tell who waits, if it is time. What they answer ends the clearing. */
static int report(struct clearing *c, bool now)
{
	uint64_t done = __atomic_load_n(&c->done, __ATOMIC_ACQUIRE), ns = time_ns();
	if (!c->p || (!now && done - c->told_blocks < REPORT_BYTES / GMEM_BLOCK && ns - c->told_ns < REPORT_NS))
		return 0;
	c->told_blocks = done;
	c->told_ns = ns;
	int err = c->p->step(c->p->arg, done * GMEM_BLOCK, c->g->size);
	if (err)
		cancel(c);
	return err;
}

int gmem_clear(const struct gmem *g, const struct gmem_progress *p)
{
	struct clearing c = { .g = g, .p = p, .told_ns = time_ns() };
	unsigned helpers = 0, want = (unsigned)MIN(MIN(cpu_count() - 1, HELPERS_MAX), g->nblocks / 4);
	int err = 0;
	sem_init(&c.ended, 0);
	while (helpers < want && task_create("clear", TASK_PRIO_NORMAL, helper, &c))
		helpers++;
	while (!err && clear_block(&c))
		err = report(&c, false);
	while (helpers) { /* each has one block at most in its hands */
		if (!sem_down(&c.ended, time_ns() + REPORT_NS))
			helpers--;
		else if (!err)
			err = report(&c, true);
	}
	return err ? err : report(&c, true);
}

/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Time from the TSC, and one-shot timers: a sorted list for each CPU, the first of which is in the local APIC's timer.
 * The hardware is only programmed for something earlier than what it holds: a cancelled timer costs at most one idle
 * interrupt.
 *
 * timer.cpu says where a timer is armed, or -1; timer.ran, which CPU's interrupt called its fn last. Whether that call
 * is still going on is told by that CPU's `running`, never by the timer, which fn may have freed.
 */
#include "kernel/time.h"
#include "arch/x86/cpu.h"
#include "arch/x86/irq.h"
#include "kernel/base/err.h"
#include "kernel/sched.h"
#include <stdlib.h>

struct timers { /* one for each CPU */
	struct spinlock lock;
	struct list list;      /* by deadline; under lock */
	uint64_t armed_ns;     /* what the hardware holds, TIME_NEVER: nothing; its own CPU, interrupts off */
	struct timer *running; /* atomic: whose fn is being called */
};

static uint64_t tsc_hz, tsc_start, wall_start_ns;
static uint64_t ns_mult;  /* ns = ticks * ns_mult >> 32 */
static uint64_t tsc_mult; /* ticks = ns * tsc_mult >> 30: no overflow up to 17 GHz */

void time_init(uint64_t hz, uint64_t start_tsc, uint64_t wall_s, uint64_t wall_tsc)
{
	tsc_hz = hz ? hz : NS_PER_SEC;
	ns_mult = (NS_PER_SEC << 32) / tsc_hz;
	tsc_mult = (tsc_hz << 30) / NS_PER_SEC;
	tsc_start = start_tsc;
	wall_start_ns = 0;
	if (wall_s)
		wall_start_ns = wall_s * NS_PER_SEC + (start_tsc > wall_tsc ? time_tsc_to_ns(start_tsc - wall_tsc) : 0);
}

uint64_t time_tsc_hz(void) { return tsc_hz; }

uint64_t time_tsc_to_ns(uint64_t ticks) { return (uint64_t)((unsigned __int128)ticks * ns_mult >> 32); }

uint64_t time_ns_to_tsc(uint64_t ns) { return (uint64_t)((unsigned __int128)ns * tsc_mult >> 30); }

uint64_t time_ns(void) { return time_tsc_to_ns(rdtsc() - tsc_start); }

uint64_t time_wall_ns(void) { return wall_start_ns ? wall_start_ns + time_ns() : 0; }

void time_cpu_init(void)
{
	struct timers *ts = calloc(1, sizeof(*ts));
	if (!ts)
		panic("no memory for the timers of CPU %u", this_cpu()->id);
	spin_init(&ts->lock, "timers");
	list_init(&ts->list);
	ts->armed_ns = TIME_NEVER;
	irq_timer_init(tsc_hz);
	__atomic_store_n(&this_cpu()->timers, ts, __ATOMIC_RELEASE);
}

/* Interrupts off, on ts's own CPU. */
static void arm(struct timers *ts, uint64_t deadline_ns)
{
	if (deadline_ns >= ts->armed_ns)
		return;
	ts->armed_ns = deadline_ns;
	/* One tick more than the conversions may have rounded off, so that the deadline has passed when it fires. */
	irq_timer_arm(tsc_start + time_ns_to_tsc(deadline_ns) + 64);
}

static bool is_running(const struct timer *t, int cpu)
{
	const struct timers *ts = cpu_get((unsigned)cpu)->timers;
	return __atomic_load_n(&ts->running, __ATOMIC_SEQ_CST) == t;
}

/* Wait until the fn of t has returned, wherever it runs. Not from within fn. */
static void wait_running(const struct timer *t, int cpu)
{
	while (cpu >= 0 && is_running(t, cpu))
		cpu_relax();
}

/* Take t off whatever list it is on. Interrupts off. */
static void disarm(struct timer *t)
{
	int cpu;
	while ((cpu = __atomic_load_n(&t->cpu, __ATOMIC_SEQ_CST)) >= 0) {
		struct timers *ts = cpu_get((unsigned)cpu)->timers;
		spin_acquire(&ts->lock);
		if (t->cpu == cpu) {
			list_remove(&t->node);
			__atomic_store_n(&t->cpu, -1, __ATOMIC_SEQ_CST);
		}
		spin_release(&ts->lock);
	}
}

void timer_init(struct timer *t, void (*fn)(void *arg), void *arg)
{
	*t = (struct timer){ .fn = fn, .arg = arg, .cpu = -1, .ran = -1 };
	list_init(&t->node);
}

void timer_set(struct timer *t, uint64_t deadline_ns)
{
	uint64_t flags = cpu_irq_save();
	struct cpu *c = this_cpu();
	struct timers *ts = c->timers;
	disarm(t);
	spin_acquire(&ts->lock);
	t->deadline_ns = deadline_ns;
	struct list *at = ts->list.prev; /* new ones are mostly late */
	while (at != &ts->list && list_entry(at, struct timer, node)->deadline_ns > deadline_ns)
		at = at->prev;
	list_insert(at, &t->node);
	__atomic_store_n(&t->cpu, (int)c->id, __ATOMIC_SEQ_CST);
	spin_release(&ts->lock);
	if (deadline_ns != TIME_NEVER)
		arm(ts, deadline_ns);
	cpu_irq_restore(flags);
}

void timer_cancel(struct timer *t)
{
	do {
		uint64_t flags = cpu_irq_save();
		disarm(t);
		cpu_irq_restore(flags);
		wait_running(t, __atomic_load_n(&t->ran, __ATOMIC_SEQ_CST));
	} while (__atomic_load_n(&t->cpu, __ATOMIC_SEQ_CST) >= 0); /* fn re-armed it meanwhile */
}

void time_interrupt(void)
{
	struct cpu *c = this_cpu();
	struct timers *ts = c->timers;
	if (!ts)
		return;
	ts->armed_ns = TIME_NEVER;
	for (;;) {
		spin_acquire(&ts->lock);
		struct timer *t = list_first(&ts->list, struct timer, node);
		if (!t || t->deadline_ns > time_ns()) {
			uint64_t next = t ? t->deadline_ns : TIME_NEVER;
			spin_release(&ts->lock);
			if (next != TIME_NEVER)
				arm(ts, next);
			return;
		}
		/*
		 * Re-armed here while fn is still running there: wait, without a claim that the other CPU could wait
		 * for in turn.
		 */
		int ran = t->ran;
		if (ran >= 0 && ran != (int)c->id && is_running(t, ran)) {
			spin_release(&ts->lock); /* it may be cancelled or moved meanwhile */
			cpu_relax();
			continue;
		}
		void (*fn)(void *) = t->fn;
		void *arg = t->arg;
		list_remove(&t->node);
		__atomic_store_n(&ts->running, t, __ATOMIC_SEQ_CST);
		__atomic_store_n(&t->ran, (int)c->id, __ATOMIC_RELAXED); /* timer_cancel looks at any time */
		__atomic_store_n(&t->cpu, -1, __ATOMIC_SEQ_CST);
		spin_release(&ts->lock);
		fn(arg);
		__atomic_store_n(&ts->running, NULL, __ATOMIC_SEQ_CST);
	}
}

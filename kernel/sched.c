/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The scheduler: a run queue for each CPU, three priorities, 10 ms slices.
 *
 *   wake-up --place()--> run queue of a CPU --pick--> runs --> sleeps | preempted (back into the queue) | dies
 *                             ^ stolen by CPUs that have nothing to do
 *
 * A woken task goes to the CPU it ran on if that is idle or runs something less urgent, else to an idle CPU, else, if
 * it is urgent, to one near by that runs something less urgent, else it waits at its last CPU. Two things keep this
 * free of lost wake-ups:
 * - A CPU announces that it is idle before it looks for work to steal, and a waker enqueues before it looks for idle
 *   CPUs (both with full barriers), so one of the two sees the other.
 * - A task may be woken while the switch away from it is still going on (on_cpu). It is then queued at that very CPU,
 *   whose queue lock orders both, and nobody steals it until the switch is complete.
 * Which task of a queue is next, and who need not wait for the end of a slice, is runq.c's. CPUs that all have work
 * even out at the ends of slices, by weight. There is no tick: the slice timer is armed only while another task waits
 * for the same CPU. Locks: a queue's lock is taken inside any other and never two at a time.
 */
#include "kernel/sched.h"
#include "arch/x86/arch.h"
#include "arch/x86/irq.h"
#include "kernel/base/err.h"
#include <limits.h>
#include <stdlib.h>

#define SLICE_NS (10 * NS_PER_MS)
#define LOOKS    8 /* at so many other CPUs at the end of a slice */

static struct runq *runqs[CPU_MAX];
/* Atomic: CPUs that want work; whoever gives one work clears its bit. */
static uint64_t idle_map[BITMAP_WORDS(CPU_MAX)];

static void idle_announce(unsigned cpu) { __atomic_fetch_or(&idle_map[cpu / 64], BIT(cpu % 64), __ATOMIC_SEQ_CST); }

static bool idle_claim(unsigned cpu)
{
	return __atomic_fetch_and(&idle_map[cpu / 64], ~BIT(cpu % 64), __ATOMIC_SEQ_CST) >> (cpu % 64) & 1;
}

/* Claim an idle CPU near `from`, or -1. */
static int idle_find(unsigned from)
{
	unsigned words = (unsigned)BITMAP_WORDS(cpu_count());
	for (unsigned i = 0; i < words; i++) {
		unsigned w = (from / 64 + i) % words;
		uint64_t map;
		while ((map = __atomic_load_n(&idle_map[w], __ATOMIC_SEQ_CST)) != 0) {
			unsigned cpu = w * 64 + (unsigned)__builtin_ctzll(map);
			if (idle_claim(cpu))
				return (int)cpu;
		}
	}
	return -1;
}

static void kick(struct runq *mine)
{
	unsigned cpu = mine->kick - 1;
	mine->kick = 0;
	irq_ipi(cpu, IRQ_VEC_RESCHED);
}

/*
 * Make the CPU of rq look at its queue (or steal) as soon as it can. What it will run begins by taking the wait queue's
 * lock, which the waker (preempt_off is 1) still holds: so it is interrupted only when that lock is released, in
 * sched_check, or the waker itself goes to sleep, in sched_switch. Otherwise it would spin; under an emulator for
 * milliseconds, as the host runs the CPU that was woken in place of the one that holds the lock.
 */
static void resched(struct runq *rq)
{
	struct cpu *c = this_cpu();
	struct runq *mine = c->sched;
	__atomic_store_n(&rq->cpu->need_resched, true, __ATOMIC_SEQ_CST);
	if (rq->cpu == c)
		return;
	if (c->preempt_off == 1 && !mine->kick)
		mine->kick = rq->cpu->id + 1;
	else if (c->preempt_off != 1 || mine->kick != rq->cpu->id + 1)
		irq_ipi(rq->cpu->id, IRQ_VEC_RESCHED);
}

/* A ready task of another CPU, or NULL. */
static struct task *steal(struct runq *thief)
{
	unsigned words = (unsigned)BITMAP_WORDS(cpu_count()), self = thief->cpu->id;
	for (unsigned i = 0; i < words; i++) {
		unsigned w = (self / 64 + i) % words;
		for (uint64_t map = __atomic_load_n(&runq_ready[w], __ATOMIC_SEQ_CST); map; map &= map - 1) {
			unsigned cpu = w * 64 + (unsigned)__builtin_ctzll(map);
			struct task *found = cpu == self ? NULL : runq_take_ready(runqs[cpu], 0, UINT_MAX);
			if (found) {
				runq_set_clock(thief, found);
				return found;
			}
		}
	}
	return NULL;
}

/*
 * Someone waits here while this CPU is busy: an idle CPU shall take it, and the slice must end, for that one may have
 * found something else meanwhile. If the slice has ended already and the task only holds preemption off, a timer in the
 * past would interrupt it again and again before it could let go.
 */
static void share(struct runq *rq)
{
	int idle = idle_find(rq->cpu->id);
	if (idle >= 0 && runqs[idle] != rq)
		resched(runqs[idle]);
	if (rq->cpu != this_cpu()) {
		irq_ipi(rq->cpu->id, IRQ_VEC_RESCHED); /* sched_irq_exit there arms the end of the slice */
	} else if (!rq->slice_armed && !rq->cpu->need_resched && rq->cpu->current != &rq->idle) {
		rq->slice_armed = true;
		timer_set(&rq->slice, rq->cpu->current->slice_end_ns);
	}
}

/* At the end of a slice: give another CPU one that waits here, if that makes them more alike. */
static void balance(struct runq *rq)
{
	struct runq *to = rq;
	for (unsigned i = 0, n = cpu_count(); i < MIN(n, LOOKS); i++) {
		rq->looked_at = (rq->looked_at + 1) % n;
		struct runq *r = __atomic_load_n(&runqs[rq->looked_at], __ATOMIC_ACQUIRE);
		if (r && runq_load(r) < runq_load(to))
			to = r;
	}
	unsigned here = runq_load(rq), there = runq_load(to);
	unsigned nhere = __atomic_load_n(&rq->nready, __ATOMIC_RELAXED);
	bool as_many = __atomic_load_n(&to->nready, __ATOMIC_RELAXED) >= nhere; /* then it may have just as much */
	struct task *found = here > there ? runq_take_ready(rq, TASK_PRIO_NORMAL, here - there - !as_many) : NULL;
	if (!found)
		return;
	spin_acquire(&to->lock);
	runq_enqueue(to, found, false);
	spin_release(&to->lock);
	resched(to);
}

static void slice_end(void *arg)
{
	struct runq *rq = arg;
	struct task *t = rq->cpu->current;
	rq->slice_armed = false;
	if (!__atomic_load_n(&rq->nready, __ATOMIC_RELAXED) || t == &rq->idle)
		return;
	if (time_ns() >= t->slice_end_ns) {
		rq->cpu->need_resched = true;
		balance(rq);
	} else {
		rq->slice_armed = true;
		timer_set(&rq->slice, t->slice_end_ns);
	}
}

/* t comes to the tasks that its share's weight is for, or (-1) goes from them; one that is urgent has no part of it. */
static void count(const struct task *t, int n)
{
	if (t->share && t->prio == TASK_PRIO_NORMAL)
		__atomic_fetch_add(&t->share->runnable, (unsigned)n, __ATOMIC_RELAXED);
}

void sched_switch(void)
{
	struct cpu *c = this_cpu();
	struct runq *rq = c->sched;
	struct task *prev = c->current, *next;
	BUG_ON(c->preempt_off || c->irq_depth);
	uint64_t now = time_ns();

	if (rq->kick)
		kick(rq);
	spin_acquire(&rq->lock);
	c->need_resched = false;
	runq_charge(rq);
	if (prev->state == TASK_RUNNING && prev != &rq->idle) {
		bool keep_turn = now < prev->slice_end_ns && !runq_due(rq, NULL);
		if (!prev->slice_end_ns) /* task_yield */
			runq_yield(rq, prev);
		prev->slice_end_ns = keep_turn ? prev->slice_end_ns : 0;
		prev->state = TASK_READY;
		runq_enqueue(rq, prev, keep_turn);
	} else {
		count(prev, -1);
	}
	next = runq_pick(rq);
	runq_run(rq, next);
	spin_release(&rq->lock);
	if (!next) {
		idle_announce(c->id);
		next = steal(rq);
		if (next) {
			idle_claim(c->id);
			spin_acquire(&rq->lock);
			runq_run(rq, next);
			spin_release(&rq->lock);
		} else {
			next = &rq->idle;
		}
	} else if (__atomic_load_n(&idle_map[c->id / 64], __ATOMIC_RELAXED) & BIT(c->id % 64)) {
		idle_claim(c->id);
	}
	next->state = TASK_RUNNING;
	if (!next->slice_end_ns)
		next->slice_end_ns = now + SLICE_NS;
	if (next == prev) {
		if (__atomic_load_n(&rq->nready, __ATOMIC_SEQ_CST))
			share(rq);
		return;
	}

	if (prev->hook_out)
		prev->hook_out(prev->hook_arg);
	uint64_t tsc = rdtsc();
	prev->run_tsc += tsc - rq->switched_tsc;
	rq->switched_tsc = tsc;
	rq->prev = prev;
	c->current = next;
	__atomic_store_n(&next->cpu, c->id, __ATOMIC_RELAXED);
	__atomic_store_n(&next->on_cpu, true, __ATOMIC_RELAXED);
	arch_switch(&prev->rsp, next->rsp);
	sched_finish_switch(); /* perhaps on another CPU */
}

void sched_finish_switch(void)
{
	struct cpu *c = this_cpu();
	struct runq *rq = c->sched;
	struct task *prev = rq->prev, *self = c->current;
	bool dead = prev->state == TASK_DEAD;
	__atomic_store_n(&prev->on_cpu, false, __ATOMIC_SEQ_CST); /* from here on it may run elsewhere */
	if (dead)
		task_reap(prev);
	if (self->hook_in)
		self->hook_in(self->hook_arg);
	if (__atomic_load_n(&rq->nready, __ATOMIC_SEQ_CST))
		share(rq);
}

static bool runs_less_urgent(const struct runq *rq, const struct task *t)
{
	return rq && __atomic_load_n(&rq->cur_prio, __ATOMIC_RELAXED) > t->prio;
}

static struct runq *place(const struct task *t)
{
	struct runq *last = runqs[t->cpu];
	if (__atomic_load_n(&t->on_cpu, __ATOMIC_ACQUIRE) || runs_less_urgent(last, t))
		return last;
	int idle = idle_find(t->cpu);
	if (idle >= 0)
		return runqs[idle];
	unsigned n = cpu_count(), looks = t->prio < TASK_PRIO_NORMAL ? MIN(n, LOOKS + 1U) : 0;
	for (unsigned i = 1; i < looks; i++) {
		struct runq *rq = runqs[(t->cpu + i) % n];
		if (runs_less_urgent(rq, t))
			return rq;
	}
	return last;
}

void sched_wake(struct task *t)
{
	struct runq *rq = place(t);
	spin_acquire(&rq->lock);
	t->state = TASK_READY;
	t->slice_end_ns = 0;
	runq_charge(rq); /* at the weight that it had until now */
	if (rq->cur == t)
		rq->cur = NULL; /* where it is in the queue goes by what it has had */
	count(t, 1);
	runq_enqueue(rq, t, false);
	bool preempts = t->prio < rq->cur_prio || runq_due(rq, t);
	if (t->prio < rq->cur_prio) /* the next one as urgent looks for another CPU */
		__atomic_store_n(&rq->cur_prio, t->prio, __ATOMIC_RELAXED);
	spin_release(&rq->lock);
	/* t may be running, or gone, from here on */
	if (preempts) {
		idle_claim(rq->cpu->id);
		resched(rq);
	} else {
		share(rq);
	}
}

void sched_irq_exit(void)
{
	struct cpu *c = this_cpu();
	struct runq *rq = c->sched;
	if (!rq)
		return;
	if (c->need_resched && !c->preempt_off) {
		sched_switch(); /* may come back on another CPU */
		return;
	}
	if (__atomic_load_n(&rq->nready, __ATOMIC_RELAXED) && !rq->slice_armed)
		share(rq);
	if (rq->kick) /* put off for a lock of the interrupted task's, which has nothing to do with it */
		kick(rq);
}

void sched_check(uint64_t flags)
{
	struct cpu *c = this_cpu();
	struct runq *rq = c->sched;
	if (c->preempt_off || !rq)
		return;
	if (rq->kick)
		kick(rq);
	if (__builtin_expect(!c->need_resched, 1) || c->irq_depth)
		return;
	if (flags & RFLAGS_IF)
		sched_switch();
	else
		irq_ipi(c->id, IRQ_VEC_RESCHED); /* stays pending until interrupts are on */
}

bool sched_is_short(void)
{
	for (unsigned w = 0; w < (cpu_count() + 63) / 64; w++)
		if (__atomic_load_n(&runq_ready[w], __ATOMIC_RELAXED))
			return true;
	return false;
}

/*
 * Another priority or share; NULL: the same as before. What waits here may go first from now on; others charge what
 * runs here.
 */
static void change_self(const enum task_prio *prio, struct task_share *const *share)
{
	uint64_t flags = cpu_irq_save();
	struct cpu *c = this_cpu();
	struct runq *rq = c->sched;
	struct task *self = c->current;
	spin_acquire(&rq->lock);
	runq_charge(rq);
	count(self, -1);
	self->prio = prio ? *prio : self->prio;
	self->share = share ? *share : self->share;
	count(self, 1);
	runq_set_clock(rq, self);
	runq_run(rq, self);
	bool preempted = runq_due(rq, NULL);
	for (unsigned p = 0; p < self->prio; p++)
		preempted |= !list_empty(&rq->ready[p]);
	if (preempted)
		c->need_resched = true;
	spin_release(&rq->lock);
	sched_check(flags);
	cpu_irq_restore(flags);
}

void task_set_prio(enum task_prio prio) { change_self(&prio, NULL); }
void task_set_share(struct task_share *s) { change_self(NULL, &s); }

void preempt_disable(void) { sched_preempt_inc(); }

void preempt_enable(void)
{
	sched_preempt_dec();
	bool need;
	__asm__ volatile("cmpb $0, %%gs:%c1; setne %0"
			 : "=r"(need)
			 : "i"(offsetof(struct cpu, need_resched))
			 : "memory", "cc");
	if (need) {
		uint64_t flags = cpu_irq_save();
		sched_check(flags);
		cpu_irq_restore(flags);
	}
}

struct task *task_self(void)
{
	struct task *t;
	__asm__ volatile("mov %%gs:%c1, %0" : "=r"(t) : "i"(offsetof(struct cpu, current)));
	return t;
}

uint64_t sched_run_tsc(const struct task *t)
{
	uint64_t tsc = t->run_tsc;
	const struct runq *rq = runqs[t->cpu];
	if (t->on_cpu && rq && rq->cpu->current == t)
		tsc += rdtsc() - rq->switched_tsc;
	return tsc;
}

void task_times(const struct task *t, uint64_t *run_ns, uint64_t *wait_ns)
{
	uint64_t wait = __atomic_load_n(&t->wait_tsc, __ATOMIC_RELAXED);
	uint64_t since = rdtsc() - __atomic_load_n(&t->ready_tsc, __ATOMIC_RELAXED);
	if (__atomic_load_n(&t->state, __ATOMIC_RELAXED) == TASK_READY && (int64_t)since > 0)
		wait += since;
	*wait_ns = time_tsc_to_ns(wait);
	*run_ns = time_tsc_to_ns(sched_run_tsc(t));
}

uint64_t task_idle_ns(unsigned cpu)
{
	const struct runq *rq = cpu < cpu_count() ? runqs[cpu] : NULL;
	return rq ? time_tsc_to_ns(sched_run_tsc(&rq->idle)) : 0;
}

void sched_cpu_init(void)
{
	struct cpu *c = this_cpu();
	struct runq *rq = calloc(1, sizeof(*rq));
	if (!rq)
		panic("no memory for the run queue of CPU %u", c->id);
	spin_init(&rq->lock, "runq");
	for (unsigned p = 0; p < TASK_NPRIO; p++)
		list_init(&rq->ready[p]);
	rq->cur_prio = TASK_NPRIO;
	rq->cpu = c;
	rq->switched_tsc = rdtsc();
	timer_init(&rq->slice, slice_end, rq);
	rq->idle = (struct task){
		.state = TASK_RUNNING, .on_cpu = true, .cpu = c->id, .prio = TASK_NPRIO, .name = "idle"
	};
	c->current = &rq->idle;
	c->sched = rq;
	__atomic_store_n(&runqs[c->id], rq, __ATOMIC_RELEASE);
	c->need_resched = true; /* look for work before the first halt */
}

void sched_idle(void)
{
	for (;;) {
		cpu_irq_off();
		if (__atomic_load_n(&this_cpu()->need_resched, __ATOMIC_SEQ_CST))
			sched_switch();
		else
			cpu_halt();
	}
}

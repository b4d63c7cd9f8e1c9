/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A CPU's run queue: which task is next, and what CPU time is worth.
 *
 * Of tasks with normal priority the one with the least virtual time is next (as in Linux' CFS): that of a task goes on
 * as it runs, the slower the more weight it has, which is its part of its share's. So a share gets CPU time by its
 * weight, whether one task of it can run or many. A task that has slept is not paid for that by more than a slice, and
 * none falls further behind than DEBT_NS. Virtual time is a CPU's own; a task that moves takes its distance with it.
 * Who wakes up and is behind what runs by more than AHEAD_NS of its own does not wait for the end of a slice.
 *
 * The queue's lock is held in all but runq_load and runq_set_clock, and runq_take_ready takes it.
 */
#include "kernel/sched.h"

#define CREDIT_NS (10 * NS_PER_MS)
#define DEBT_NS   NS_PER_SEC
#define AHEAD_NS  NS_PER_MS
#define UNIT      1024 /* of weights: a share may have many tasks */

uint64_t runq_ready[BITMAP_WORDS(CPU_MAX)];

static unsigned weight_of(const struct task *t)
{
	const struct task_share *s = t->share;
	unsigned n = s ? __atomic_load_n(&s->runnable, __ATOMIC_RELAXED) : 1;
	return MAX((s ? __atomic_load_n(&s->weight, __ATOMIC_RELAXED) : TASK_WEIGHT) * UNIT / MAX(n, 1U), 1U);
}

/* What `ticks` of a CPU are in t's virtual time. */
static uint64_t worth(const struct task *t, uint64_t ticks) { return ticks * (TASK_WEIGHT * UNIT) / weight_of(t); }

static const struct task *first_ready(const struct runq *rq)
{
	return list_first(&rq->ready[TASK_PRIO_NORMAL], struct task, run);
}

/* Virtual time is that of who is furthest behind: what runs may have kept its turn before others. */
static void advance(struct runq *rq)
{
	const struct task *t = rq->cur, *first = first_ready(rq);
	uint64_t vtime = first && (int64_t)(first->vtime - t->vtime) < 0 ? first->vtime : t->vtime;
	if ((int64_t)(vtime - rq->vtime) > 0)
		__atomic_store_n(&rq->vtime, vtime, __ATOMIC_RELAXED);
}

void runq_charge(struct runq *rq)
{
	uint64_t now = rdtsc(), ran = now - rq->charged_tsc;
	struct task *t = rq->cur;
	if (!t || t->prio != TASK_PRIO_NORMAL || (int64_t)ran <= 0)
		return;
	t->vtime += worth(t, ran);
	rq->charged_tsc = now;
	advance(rq);
}

void runq_run(struct runq *rq, struct task *t)
{
	rq->cur = t;
	rq->charged_tsc = rdtsc();
	__atomic_store_n(&rq->cur_prio, t ? t->prio : TASK_NPRIO, __ATOMIC_RELAXED);
	__atomic_store_n(&rq->cur_weight, t ? t->weight : 0, __ATOMIC_RELAXED);
	if (t && t->prio == TASK_PRIO_NORMAL)
		advance(rq);
}

bool runq_due(const struct runq *rq, const struct task *t)
{
	const struct task *cur = rq->cur;
	t = t ? t : first_ready(rq);
	if (!cur || !t || cur->prio != TASK_PRIO_NORMAL || t->prio != TASK_PRIO_NORMAL)
		return false;
	return (int64_t)(cur->vtime - t->vtime) > (int64_t)worth(t, time_ns_to_tsc(AHEAD_NS));
}

void runq_set_clock(struct runq *rq, struct task *t)
{
	int64_t now = (int64_t)__atomic_load_n(&rq->vtime, __ATOMIC_RELAXED);
	int64_t ahead = t->clock ? (int64_t)(t->vtime - __atomic_load_n(&t->clock->vtime, __ATOMIC_RELAXED)) : 0;
	ahead = MAX(ahead, -(int64_t)time_ns_to_tsc(CREDIT_NS));
	ahead = MIN(ahead, (int64_t)time_ns_to_tsc(DEBT_NS));
	t->vtime = (uint64_t)(now + ahead);
	t->clock = rq;
}

void runq_yield(struct runq *rq, struct task *t)
{
	const struct task *first = first_ready(rq);
	if (first && (int64_t)(first->vtime - t->vtime) > 0)
		t->vtime = first->vtime; /* equals go behind */
}

void runq_enqueue(struct runq *rq, struct task *t, bool at_head)
{
	struct list *ready = &rq->ready[t->prio], *at = at_head ? ready : ready->prev;
	runq_charge(rq); /* or the clock would stand where it was when something last came or went */
	runq_set_clock(rq, t);
	while (t->prio == TASK_PRIO_NORMAL && at != ready &&
	       (int64_t)(list_entry(at, struct task, run)->vtime - t->vtime) > 0)
		at = at->prev;
	list_insert(at, &t->run);
	__atomic_store_n(&t->ready_tsc, rdtsc(), __ATOMIC_RELAXED);
	t->weight = weight_of(t);
	__atomic_store_n(&rq->ready_weight, rq->ready_weight + t->weight, __ATOMIC_RELAXED);
	__atomic_store_n(&rq->nready, rq->nready + 1, __ATOMIC_SEQ_CST);
	if (rq->nready == 1)
		__atomic_fetch_or(&runq_ready[rq->cpu->id / 64], BIT(rq->cpu->id % 64), __ATOMIC_SEQ_CST);
}

void runq_dequeue(struct runq *rq, struct task *t)
{
	list_remove(&t->run);
	uint64_t waited = rdtsc() - t->ready_tsc; /* TSCs agree (arch/x86/tsc_sync.h) */
	__atomic_store_n(&t->wait_tsc, t->wait_tsc + waited, __ATOMIC_RELAXED);
	__atomic_store_n(&rq->ready_weight, rq->ready_weight - t->weight, __ATOMIC_RELAXED);
	__atomic_store_n(&rq->nready, rq->nready - 1, __ATOMIC_RELAXED);
	if (!rq->nready)
		__atomic_fetch_and(&runq_ready[rq->cpu->id / 64], ~BIT(rq->cpu->id % 64), __ATOMIC_SEQ_CST);
}

struct task *runq_pick(struct runq *rq)
{
	for (unsigned p = 0; p < TASK_NPRIO; p++) {
		struct task *t = list_first(&rq->ready[p], struct task, run);
		if (t) {
			runq_dequeue(rq, t);
			return t;
		}
	}
	return NULL;
}

struct task *runq_take_ready(struct runq *rq, unsigned first, unsigned heaviest)
{
	struct task *found = NULL;
	spin_acquire(&rq->lock);
	for (unsigned p = first; p < TASK_NPRIO && !found; p++)
		list_for_each(t, &rq->ready[p], struct task, run)
			if (t->weight <= heaviest && !__atomic_load_n(&t->on_cpu, __ATOMIC_ACQUIRE)) {
				runq_dequeue(rq, t);
				found = t;
				break;
			}
	spin_release(&rq->lock);
	return found;
}

unsigned runq_load(const struct runq *rq)
{
	return __atomic_load_n(&rq->ready_weight, __ATOMIC_RELAXED) +
	       __atomic_load_n(&rq->cur_weight, __ATOMIC_RELAXED);
}

/* SPDX-License-Identifier: BSD-2-Clause */
/* Tasks that work when they are kicked (worker.h). */
#include "kernel/worker.h"
#include "arch/x86/cpu.h"
#include "kernel/base/err.h"
#include "kernel/task.h"
#include "kernel/time.h"

#define SHARE     5               /* urgent for one part in so many */
#define CPU_SHARE 2               /* the same of all that are on one CPU */
#define URGENT_NS (2 * NS_PER_MS) /* at once, after a rest */
#define WAKE_NS   (5 * NS_PER_US) /* what being woken costs whoever ran there */

static uint64_t cpu_full_ns[CPU_MAX]; /* atomic; as full_ns, of all workers that are on a CPU */

/* All that is urgent is charged, however long it was: else long turns between short ones would be free. */
static bool turn(struct worker *w)
{
	uint64_t begin = time_ns();
	uint64_t *cpu = &cpu_full_ns[task_cpu(task_self())];
	bool urgent = w->full_ns < begin + URGENT_NS * SHARE &&
		      __atomic_load_n(cpu, __ATOMIC_RELAXED) < begin + URGENT_NS * CPU_SHARE;
	if (urgent != w->urgent)
		task_set_prio(urgent ? TASK_PRIO_IO : TASK_PRIO_NORMAL);
	w->urgent = urgent;
	bool more = w->work(w->arg);
	if (urgent) {
		uint64_t cost = time_ns() - begin + WAKE_NS;
		w->full_ns = MAX(w->full_ns, begin) + cost * SHARE;
		/* Not in one step: whoever has moved to another CPU meanwhile may overwrite a charge there, once. */
		uint64_t full = MAX(__atomic_load_n(cpu, __ATOMIC_RELAXED), begin);
		__atomic_store_n(cpu, full + cost * CPU_SHARE, __ATOMIC_RELAXED);
	}
	return more;
}

static void worker_task(void *arg)
{
	struct worker *w = arg;
	task_set_share(w->share);
	uint64_t flags = spin_lock_irqsave(&w->lock);
	while (!w->ends) {
		if (!w->kicked) {
			waitq_wait(&w->wake, &w->lock, &flags, TIME_NEVER);
			continue;
		}
		w->kicked = false;
		w->working = true;
		w->turns++;
		spin_unlock_irqrestore(&w->lock, flags);
		bool more = turn(w);
		flags = spin_lock_irqsave(&w->lock);
		w->working = false;
		w->kicked |= more;
		waitq_wake_all(&w->idle);
		if (!more || !w->urgent)
			continue;
		spin_unlock_irqrestore(&w->lock, flags);
		task_yield(); /* to others as urgent, and in no turn: who settles does not wait for those */
		flags = spin_lock_irqsave(&w->lock);
	}
	spin_unlock_irqrestore(&w->lock, flags);
	task_set_share(NULL);
	completion_done(&w->ended);
}

int worker_start(struct worker *w, const char *name, bool (*work)(void *arg), void *arg, struct task_share *share)
{
	*w = (struct worker){ .work = work, .arg = arg, .share = share, .urgent = true };
	spin_init(&w->lock, "worker");
	waitq_init(&w->wake);
	waitq_init(&w->idle);
	completion_init(&w->ended);
	return task_create(name, TASK_PRIO_IO, worker_task, w) ? 0 : err_trace(-ENOMEM);
}

void worker_kick(struct worker *w)
{
	uint64_t flags = spin_lock_irqsave(&w->lock);
	if (!w->kicked) {
		w->kicked = true;
		waitq_wake_one(&w->wake);
	}
	spin_unlock_irqrestore(&w->lock, flags);
}

void worker_settle(struct worker *w)
{
	uint64_t flags = spin_lock_irqsave(&w->lock);
	unsigned turns = w->turns;
	while (w->working && w->turns == turns)
		waitq_wait(&w->idle, &w->lock, &flags, TIME_NEVER);
	spin_unlock_irqrestore(&w->lock, flags);
}

void worker_stop(struct worker *w)
{
	uint64_t flags = spin_lock_irqsave(&w->lock);
	w->ends = true;
	waitq_wake_one(&w->wake);
	spin_unlock_irqrestore(&w->lock, flags);
	(void)!completion_wait(&w->ended, TIME_NEVER);
}

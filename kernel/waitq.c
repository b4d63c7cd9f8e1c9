/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The wait queue: the one place where tasks go to sleep. A waiter lives on its task's stack; the caller's spinlock
 * guards the queue and thereby decides who wakes the task: whoever takes the waiter off the queue, a waker or the
 * deadline.
 */
#include "kernel/sched.h"
#include "kernel/base/err.h"
#include "kernel/sync.h"

struct waiter {
	struct list node; /* guarded by *lock, as all here */
	struct task *task;
	struct spinlock *lock;
	bool timed_out;
};

void waitq_init(struct waitq *q) { list_init(&q->waiters); }

static void waiter_wake(struct waiter *w)
{
	struct task *t = w->task;
	BUG_ON(cpu_irq_save() & RFLAGS_IF); /* the lock is one for interrupts too (sync.h): its end is a sched_check */
	list_remove(&w->node);
	sched_wake(t); /* w may be gone as soon as the lock is free */
}

static void waiter_timeout(void *arg)
{
	struct waiter *w = arg;
	uint64_t flags = spin_lock_irqsave(w->lock);
	if (!list_empty(&w->node)) {
		w->timed_out = true;
		waiter_wake(w);
	}
	spin_unlock_irqrestore(w->lock, flags); /* the task waits in timer_cancel until we are done */
}

int waitq_wait(struct waitq *q, struct spinlock *l, uint64_t *flags, uint64_t deadline_ns)
{
	struct cpu *c = this_cpu();
	BUG_ON(c->preempt_off != 1 || c->irq_depth); /* l, and no other spinlock */
	if (deadline_ns != TIME_NEVER && time_ns() >= deadline_ns)
		return -ETIMEDOUT;
	struct waiter w = { .task = c->current, .lock = l };
	struct timer timer;
	list_append(&q->waiters, &w.node);
	if (deadline_ns != TIME_NEVER) {
		timer_init(&timer, waiter_timeout, &w);
		timer_set(&timer, deadline_ns);
	}
	__atomic_store_n(&w.task->state, TASK_SLEEPING, __ATOMIC_RELAXED);
	spin_release(l);
	sched_preempt_dec();
	sched_switch();
	cpu_irq_restore(*flags);
	if (deadline_ns != TIME_NEVER)
		timer_cancel(&timer);
	*flags = spin_lock_irqsave(l);
	return w.timed_out ? -ETIMEDOUT : 0;
}

void waitq_wake_one(struct waitq *q)
{
	struct waiter *w = list_first(&q->waiters, struct waiter, node);
	if (w)
		waiter_wake(w);
}

void waitq_wake_all(struct waitq *q)
{
	while (!list_empty(&q->waiters))
		waitq_wake_one(q);
}

/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Mutex, semaphore and completion, built on the wait queue alone (kernel/waitq.c; pthreads in host-built tests).
 * A mutex is handed over by whoever comes first after an unlock, not in the order of waiting: a running task need not
 * sleep for one that has not been scheduled yet.
 */
#include "kernel/sync.h"
#include "kernel/base/err.h"
#include "kernel/lock_order.h"
#include "kernel/task.h"

void mutex_init(struct mutex *m, const char *name)
{
	spin_init(&m->lock, name);
	waitq_init(&m->q);
	m->owner = NULL;
}

void mutex_lock(struct mutex *m)
{
	LOCK_ORDER(lock_order_mutex(m));
	uint64_t flags = spin_lock_irqsave(&m->lock);
	BUG_ON(m->owner == task_self());
	while (m->owner)
		waitq_wait(&m->q, &m->lock, &flags, TIME_NEVER);
	m->owner = task_self();
	spin_unlock_irqrestore(&m->lock, flags);
	LOCK_ORDER(lock_order_mutex_taken(m));
}

void mutex_unlock(struct mutex *m)
{
	LOCK_ORDER(lock_order_mutex_drop(m));
	uint64_t flags = spin_lock_irqsave(&m->lock);
	BUG_ON(m->owner != task_self());
	m->owner = NULL;
	waitq_wake_one(&m->q);
	spin_unlock_irqrestore(&m->lock, flags);
}

void sem_init(struct sem *s, unsigned count)
{
	spin_init(&s->lock, "sem");
	waitq_init(&s->q);
	s->count = count;
}

int sem_down(struct sem *s, uint64_t deadline_ns)
{
	int err = 0;
	uint64_t flags = spin_lock_irqsave(&s->lock);
	while (s->count == 0 && !err)
		err = waitq_wait(&s->q, &s->lock, &flags, deadline_ns);
	if (s->count) {
		s->count--;
		err = 0;
	}
	spin_unlock_irqrestore(&s->lock, flags);
	return err;
}

void sem_up(struct sem *s)
{
	uint64_t flags = spin_lock_irqsave(&s->lock);
	s->count++;
	waitq_wake_one(&s->q);
	spin_unlock_irqrestore(&s->lock, flags);
}

void completion_init(struct completion *c)
{
	spin_init(&c->lock, "completion");
	waitq_init(&c->q);
	c->done = false;
}

int completion_wait(struct completion *c, uint64_t deadline_ns)
{
	int err = 0;
	uint64_t flags = spin_lock_irqsave(&c->lock);
	while (!c->done && !err)
		err = waitq_wait(&c->q, &c->lock, &flags, deadline_ns);
	if (c->done)
		err = 0;
	spin_unlock_irqrestore(&c->lock, flags);
	return err;
}

void completion_reset(struct completion *c)
{
	uint64_t flags = spin_lock_irqsave(&c->lock);
	c->done = false;
	spin_unlock_irqrestore(&c->lock, flags);
}

void completion_done(struct completion *c)
{
	uint64_t flags = spin_lock_irqsave(&c->lock);
	c->done = true;
	waitq_wake_all(&c->q);
	spin_unlock_irqrestore(&c->lock, flags);
}

/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Sleeping: one primitive, the wait queue, and what is built on it. Deadlines are absolute time_ns() values;
 * TIME_NEVER waits for ever. Waiting functions are for tasks that hold no other spinlock; waking works in any context.
 */
#pragma once
#include "kernel/base/bits.h"
#include "kernel/base/list.h"
#include "kernel/spinlock.h"

#define TIME_NEVER (~0ULL)

struct waitq {
	struct list waiters;
};
void waitq_init(struct waitq *q);
/*
 * Atomically release `l` (taken with spin_lock_irqsave, its flags given), sleep, take it again. Returns 0 when woken,
 * -ETIMEDOUT past the deadline. Like a condition variable: the caller re-checks its condition in a loop.
 */
int waitq_wait(struct waitq *q, struct spinlock *l, uint64_t *flags, uint64_t deadline_ns);
void waitq_wake_one(struct waitq *q); /* the spinlock is held, by spin_lock_irqsave */
void waitq_wake_all(struct waitq *q);

/* Sleeping lock. Not recursive, not for interrupts. */
struct mutex {
	struct spinlock lock;
	struct waitq q;
	const void *owner; /* the task */
};
void mutex_init(struct mutex *m, const char *name);
void mutex_lock(struct mutex *m);
void mutex_unlock(struct mutex *m);

/* Counting semaphore; up works in any context. */
struct sem {
	struct spinlock lock;
	struct waitq q;
	unsigned count;
};
void sem_init(struct sem *s, unsigned count);
int sem_down(struct sem *s, uint64_t deadline_ns); /* 0 or -ETIMEDOUT */
void sem_up(struct sem *s);

/* One-shot event: once done it stays done until it is reset, by whoever looks afterwards at what it tells of. */
struct completion {
	struct spinlock lock;
	struct waitq q;
	bool done;
};
void completion_init(struct completion *c);
int completion_wait(struct completion *c, uint64_t deadline_ns); /* 0 or -ETIMEDOUT */
void completion_done(struct completion *c);
void completion_reset(struct completion *c);

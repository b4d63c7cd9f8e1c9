/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Ticket spinlocks. A CPU draws a ticket and waits until it is served, so waiting is fair. Unlocking looks whether this
 * CPU was asked to run something else meanwhile (kernel/sched.c). A lock that is not free for 20 s is our bug: panic.
 */
#include "kernel/spinlock.h"
#include "arch/x86/cpu.h"
#include "kernel/base/err.h"
#include "kernel/lock_order.h"
#include "kernel/sched.h"
#include "kernel/task.h"
#include "kernel/time.h"

#define STUCK_NS (20 * NS_PER_SEC)

bool spin_ignore; /* panic: the other CPUs stand still, perhaps inside a lock */

void spin_init(struct spinlock *l, const char *name) { *l = (struct spinlock)SPINLOCK_INIT(name); }

void spin_acquire(struct spinlock *l)
{
	LOCK_ORDER(lock_order_take(l));
	uint32_t ticket = __atomic_fetch_add(&l->next, 1, __ATOMIC_RELAXED);
	if (__builtin_expect(__atomic_load_n(&l->owner, __ATOMIC_ACQUIRE) == ticket, 1))
		return;
	uint64_t start = time_ns();
	for (unsigned n = 1; __atomic_load_n(&l->owner, __ATOMIC_ACQUIRE) != ticket; n++) {
		if (__atomic_load_n(&spin_ignore, __ATOMIC_RELAXED))
			return;
		if (n % 4096 == 0 && time_ns() - start > STUCK_NS)
			panic("spinlock %s stuck: ticket %u, served %u", l->name, ticket, l->owner);
		cpu_relax();
	}
}

void spin_release(struct spinlock *l)
{
	__atomic_store_n(&l->owner, l->owner + 1, __ATOMIC_RELEASE);
	LOCK_ORDER(lock_order_drop(l));
}

void spin_lock(struct spinlock *l)
{
	preempt_disable();
	spin_acquire(l);
}

void spin_unlock(struct spinlock *l)
{
	spin_release(l);
	preempt_enable();
}

uint64_t spin_lock_irqsave(struct spinlock *l)
{
	uint64_t flags = cpu_irq_save();
	sched_preempt_inc();
	spin_acquire(l);
	return flags;
}

void spin_unlock_irqrestore(struct spinlock *l, uint64_t flags)
{
	spin_release(l);
	sched_preempt_dec();
	sched_check(flags);
	cpu_irq_restore(flags);
}

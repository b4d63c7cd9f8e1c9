/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Spinlocks. spin_lock() switches preemption off; spin_lock_irqsave() switches interrupts off as well and is needed for
 * every lock that an interrupt handler takes. Never sleep while holding one. Not recursive. Fair (ticket).
 */
#pragma once
#include "kernel/base/bits.h"

struct spinlock {
	uint32_t next, owner; /* tickets */
	const char *name;
};
#define SPINLOCK_INIT(n)  \
	{                 \
		0, 0, (n) \
	}

void spin_init(struct spinlock *l, const char *name);
void spin_lock(struct spinlock *l);
void spin_unlock(struct spinlock *l);
uint64_t spin_lock_irqsave(struct spinlock *l) must_check; /* returns RFLAGS for the unlock */
void spin_unlock_irqrestore(struct spinlock *l, uint64_t flags);

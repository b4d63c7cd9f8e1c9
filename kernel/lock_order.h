/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Locks are taken in one order (HACKING.md). The test image looks at each: it panics as soon as two kinds of locks have
 * been taken in either order, whether anybody waited for ever or not, when a lock that interrupt handlers take is taken
 * with interrupts on, when a task that may not sleep takes a lock that may, and when a guest is entered with one held.
 * A kind is what has one name. In the product these are nothing (tests/image/lock_order.c).
 */
#pragma once

struct spinlock;
struct mutex;

void lock_order_take(const struct spinlock *l); /* before it waits, interrupts as they are */
void lock_order_drop(const struct spinlock *l);
void lock_order_mutex(const struct mutex *m); /* before it waits */
void lock_order_mutex_taken(const struct mutex *m);
void lock_order_mutex_drop(const struct mutex *m);
void lock_order_none(void); /* this CPU and the current task hold none; interrupts off */

#define LOCK_ORDER(call)             \
	do {                         \
		if (TERN_LOCK_ORDER) \
			call;        \
	} while (0)

/* SPDX-License-Identifier: BSD-2-Clause */
/* Nonces, and which of others' were heard already (heard.h). */
#include "vmm/migrate/heard.h"
#include "kernel/random.h"
#include "kernel/spinlock.h"
#include "kernel/time.h"
#include "vmm/migrate/this_host.h"
#include <string.h>

/* A nonce: microseconds of a host's own clock, and 16 random bits. */
#define RANDOM_BITS 16
#define LATE_US     2000000UL /* so much can one question be overtaken by another */

static struct spinlock lock = SPINLOCK_INIT("heard");

/* Higher than all before it, and not one that an earlier incarnation had, whose answers may have been recorded. */
uint64_t heard_nonce_new(void)
{
	static uint64_t last; /* [lock] */
	uint16_t random;
	random_bytes(&random, sizeof(random));
	uint64_t flags = spin_lock_irqsave(&lock), us = last = MAX(last + 1, time_ns() / NS_PER_US);
	spin_unlock_irqrestore(&lock, flags);
	return us << RANDOM_BITS | random;
}

/* New is what is not much older than the newest, above the lowest of those kept, and none of them. */
enum heard heard_before(struct incarnation asker, uint64_t nonce)
{
	struct migrate_host *me = migrate_this_host();
	uint64_t flags = spin_lock_irqsave(&lock), *lowest, highest = 0;
	unsigned i = 0, n = MIN(me->naskers, SHOUT_ASKERS);
	bool again = false;
	while (i < n && !incarnation_equal(me->askers[i].inc, asker))
		i++;
	if (i == n) {
		i = me->naskers++ % SHOUT_ASKERS; /* the oldest gives way */
		memset(&me->askers[i], 0, sizeof(me->askers[i]));
		me->askers[i].inc = asker;
	}
	lowest = me->askers[i].nonces;
	for (unsigned k = 0; k < SHOUT_HEARD; k++) {
		uint64_t *had = &me->askers[i].nonces[k];
		again |= *had == nonce;
		lowest = *had < *lowest ? had : lowest;
		highest = MAX(highest, *had);
	}
	bool late = nonce <= *lowest || nonce + (LATE_US << RANDOM_BITS) < highest;
	if (!again && !late)
		*lowest = nonce;
	spin_unlock_irqrestore(&lock, flags);
	return again ? HEARD_AGAIN : late ? HEARD_OLD : HEARD_NEW;
}

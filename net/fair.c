/* SPDX-License-Identifier: BSD-2-Clause */
/* The shares of a full uplink (fair.h). */
#include "net/fair.h"
#include "kernel/base/bits.h"

#define HOLD_NS   NS_PER_SEC
#define WINDOW_NS (4 * NS_PER_MS)

void fair_init(struct fair *f)
{
	*f = (struct fair){ 0 };
	spin_init(&f->lock, "uplink share");
}

/* f->lock is held. */
static void window(struct fair *f, uint64_t now)
{
	if (now < f->end_ns)
		return;
	bool next = now - f->end_ns < WINDOW_NS;
	f->then = next ? f->now : 0;
	f->now = 0;
	f->number += next ? 1 : 2;
	f->stuck = f->done == f->done_then;
	f->done_then = f->done;
	f->end_ns = now + WINDOW_NS;
}

/* What p has earned since it last sent; one that has not sent for a while has all that it may have. f->lock is held. */
static void earn(const struct fair *f, struct fair_part *p, uint64_t number, uint64_t half)
{
	uint64_t n = MAX(f->now, f->then);
	int64_t most = (int64_t)(half / (n + 1));
	bool back = f->number - number > 1;
	p->credit = back ? most : MIN(most, p->credit + (int64_t)((f->done - p->done) / n));
	p->done = f->done;
}

bool fair_may(struct fair *f, struct fair_part *p, uint32_t len, unsigned room, uint64_t now)
{
	uint64_t flags = spin_lock_irqsave(&f->lock), number = p->number;
	bool may = true;
	window(f, now);
	if (p->number != f->number) {
		p->number = f->number;
		f->now++;
	}
	unsigned most = __atomic_load_n(&f->room_most, __ATOMIC_RELAXED);
	if (room > most) {
		most = room;
		__atomic_store_n(&f->room_most, room, __ATOMIC_RELAXED);
	}
	uint64_t waits = (uint64_t)(most - room) * FAIR_FRAME, half = most / 2 * FAIR_FRAME;
	f->done = MAX(f->done, f->taken - MIN(f->taken, waits));
	earn(f, p, number, half);
	if (now >= f->until_ns)
		__atomic_store_n(&f->until_ns, 0, __ATOMIC_RELAXED);
	else if (room <= most / 2) {
		may = p->credit > 0;
		if (may)
			p->credit -= len;
		else
			may = f->stuck;
	}
	spin_unlock_irqrestore(&f->lock, flags);
	return may;
}

void fair_sent(struct fair *f, uint32_t len, bool taken, uint64_t now)
{
	if (taken && !fair_counts(f))
		return;
	uint64_t flags = spin_lock_irqsave(&f->lock);
	if (taken)
		f->taken += len;
	else
		__atomic_store_n(&f->until_ns, now + HOLD_NS, __ATOMIC_RELAXED);
	spin_unlock_irqrestore(&f->lock, flags);
}

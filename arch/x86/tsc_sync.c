/* SPDX-License-Identifier: BSD-2-Clause */
/* Time-stamp counters that agree (tsc_sync.h). */
#include "arch/x86/tsc_sync.h"
#include "arch/x86/cpu.h"

#define ROUNDS 32 /* each narrows the bounds, or not */
#define STEPS  5  /* a write of the TSC itself is late by what it takes */

struct bounds {
	int64_t lo, hi; /* of what the other is ahead by, ticks */
};

void tsc_sync_answer(struct tsc_sync *s, const struct tsc_clock *c)
{
	uint32_t asked = __atomic_load_n(&s->asked, __ATOMIC_ACQUIRE);
	if (asked == s->answered)
		return;
	if (s->step)
		c->step(s->step);
	s->tsc = c->read();
	__atomic_store_n(&s->answered, asked, __ATOMIC_RELEASE);
}

static int ask(struct tsc_sync *s, const struct tsc_clock *c, int64_t step, uint64_t patience, struct bounds *b)
{
	s->step = step;
	uint64_t before = c->read();
	__atomic_store_n(&s->asked, s->asked + 1, __ATOMIC_RELEASE);
	while (__atomic_load_n(&s->answered, __ATOMIC_ACQUIRE) != s->asked) {
		if (c->read() - before > patience)
			return -ETIMEDOUT;
		cpu_relax();
	}
	uint64_t after = c->read();
	b->lo = MAX(b->lo, (int64_t)(s->tsc - after));
	b->hi = MIN(b->hi, (int64_t)(s->tsc - before));
	return 0;
}

int tsc_sync_ask(struct tsc_sync *s, const struct tsc_clock *c, uint64_t patience, int64_t *off)
{
	int64_t step = 0, late = 0;
	*off = 0;
	for (unsigned n = 0; n <= STEPS; n++) {
		struct bounds b = { INT64_MIN, INT64_MAX };
		for (unsigned i = 0; i < ROUNDS; i++, step = 0) {
			int err = ask(s, c, step, patience, &b);
			if (err)
				return err;
		}
		if (b.lo > b.hi) /* the difference changed meanwhile */
			return -EIO;
		if (b.lo <= 0 && b.hi >= 0)
			return 0;
		int64_t ahead = b.lo + (b.hi - b.lo) / 2;
		if (!n)
			*off = ahead;
		else
			late -= ahead; /* by as much the step before was late; this one will be as well */
		step = late - ahead;
	}
	return -EIO;
}

/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Do the time-stamp counters of two CPUs agree? (SDM 3B 18.17, APM2 13.2.4.) One asks again and again, the other
 * answers with its TSC. It read that after the question was sent and before the answer was there, so each answer bounds
 * the difference from both sides; a counter that is off by more than these bounds allow is stepped.
 */
#pragma once
#include "kernel/base/err.h"

struct tsc_clock {
	uint64_t (*read)(void);      /* in program order */
	void (*step)(int64_t ticks); /* add to this CPU's */
};
struct tsc_sync { /* atomic: step and tsc belong to who may write `asked` and `answered` next */
	uint32_t asked, answered;
	int64_t step; /* to be made before the answer */
	uint64_t tsc;
};

/* On the CPU that is asked: answer, if there is a question. Any context. */
void tsc_sync_answer(struct tsc_sync *s, const struct tsc_clock *c);
/*
 * On the one that all others shall agree with: `off` becomes what the other was ahead by before it was stepped, 0 for
 * none. patience is for an answer, in ticks. -ETIMEDOUT: it does not answer; -EIO: it runs at another rate, or does not
 * step as it was told. Interrupts off, for microseconds.
 */
int tsc_sync_ask(struct tsc_sync *s, const struct tsc_clock *c, uint64_t patience, int64_t *off) must_check;

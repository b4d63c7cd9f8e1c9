/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * When to stop the guest: after each pass, another pass, the switch-over, or giving up. Pure arithmetic over what was
 * measured, so it is tested on tables. Times in ns, rates in bytes per second.
 *
 *   predicted downtime = pages left x 4096 / measured rate + fixed cost (round trips, state, start at the destination)
 */
#pragma once
#include "kernel/bits.h"
#include "kernel/err.h"

#define POLICY_FIXED_NS    (10 * NS_PER_MS) /* pause, device state, load, resume */
#define POLICY_RATE_GUESS  (32ULL << 20)    /* until a pass was large enough to measure */
#define POLICY_RATE_SAMPLE (1ULL << 20)     /* bytes of a pass that measures the rate */
#define POLICY_SMALL       64               /* pages: not worth another pass */
#define POLICY_POLISH      4                /* passes to shrink what would fit already */
#define POLICY_STUCK       5                /* passes without getting smaller */

struct policy {
	uint64_t max_downtime_ns; /* the operator's budget */
	uint32_t max_passes;
	/* measured so far */
	uint64_t rate, rtt_ns, prev_left;
	uint32_t stuck, polish;
};
struct policy_pass {     /* what one pass was like */
	uint32_t pass;   /* 1.. */
	uint64_t bytes;  /* sent in it */
	uint64_t ns;     /* from its first byte to the destination's acknowledgement */
	uint64_t rtt_ns; /* from its last byte to the acknowledgement */
	uint64_t left;   /* pages dirtied meanwhile */
};
enum policy_verdict { POLICY_AGAIN, POLICY_STOP, POLICY_GIVE_UP };

void policy_init(struct policy *p, uint64_t max_downtime_ns, uint32_t max_passes);
uint64_t policy_predict(const struct policy *p, uint64_t pages_left);
/* Account for a pass and decide. POLICY_GIVE_UP: w says why, with the numbers and what the operator can do. */
enum policy_verdict policy_next(struct policy *p, const struct policy_pass *r, struct why *w);

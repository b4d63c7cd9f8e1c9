/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * When to stop the guest: after each pass, another pass, the switch-over, or giving up; and how much it may dirty
 * meanwhile. Pure arithmetic over what was measured, so it is tested on tables. Times in ns, rates in bytes per second.
 *
 *   predicted downtime = scan + send + state + load + waits                                           (downtime.h)
 *   scan  = stopping the guest, as it took in earlier moves + the last look at dirt: the shorter of the last two
 *   send  = pages left x 4096 / measured rate
 *   state = its bytes / measured rate + saving and taking it, as it took in earlier moves
 *   load  = what the destination says, from earlier moves to it
 *   waits = 3/2 round trips: END there, READY back, COMMIT there; 1/2 where COMMIT rides with END (policy_rides)
 */
#pragma once
#include "kernel/base/bits.h"
#include "kernel/base/err.h"
#include "vmm/migrate/downtime.h"
#include "vmm/vm_config.h"
#include "vmm/x86/stun.h"

#define POLICY_FIXED_NS    (DOWNTIME_STOP_NS + DOWNTIME_STATE_NS + DOWNTIME_LOAD_NS) /* until a move was measured */
#define POLICY_RATE_GUESS  (32ULL << 20)    /* until a pass was large enough to measure */
#define POLICY_RATE_SAMPLE (1ULL << 20)     /* bytes of a pass that measures the rate */
#define POLICY_RATE_ROUGH  (64ULL << 10)    /* of one that gives an idea of it, while there is no better one */
#define POLICY_SMALL       64               /* pages: not worth another pass */
#define POLICY_POLISH      4                /* passes to shrink what would fit already */
#define POLICY_STUCK       5                /* passes without getting smaller */
#define POLICY_SLOW        2                /* passes that shrink by less than a quarter, before the guest is slowed */
#define POLICY_STUN_STUCK  8                /* passes of a guest that is slowed without getting smaller */
#define POLICY_STUN_VAIN   16               /* passes of such a guest that leave no less than the best one did */
#define POLICY_RIDE_NS     (10 * NS_PER_MS) /* worth saving; on a LAN, even a slow one, READY is worth more */
#define POLICY_QUEUE       (1ULL << 20) /* bytes that the stream may hold when the last of a pass is written to it */

/* Of 100 bytes that the line carries, how many may a guest dirty that is slowed: what is left shrinks by the rest. */
#define POLICY_STUN_PERCENT 85

struct policy {
	uint64_t max_downtime_ns; /* the operator's budget */
	uint32_t max_passes;
	enum migrate_strategy strategy;
	uint64_t may_dirty; /* bytes per second from now on; 0: as it likes */
	bool watch;         /* find out who dirties: it may have to be slowed */
	bool remote;        /* with POLICY_STOP: what is left stays behind, and comes when it runs there */
	bool at_once;       /* MIGRATE_REMOTE, not one pass more */
	/* measured so far */
	uint64_t rate, rtt_ns, prev_left; /* rtt_ns: the shortest so far, 0: none yet */
	bool rough;                       /* the rate is of small passes alone */
	uint64_t scan_ns, last_scan_ns;   /* the last look at all that is dirty: the shorter of two, and the last one */
	/* What the switch-over will take beside the line: policy_init guesses, the source may know better. */
	uint64_t stop_ns, state_ns, load_ns;
	uint64_t state_bytes; /* on the wire */
	uint32_t stuck, slow, polish;
	uint64_t best;    /* what the best pass since it was slowed has left */
	uint32_t vain;    /* passes since then */
	bool ride;        /* policy_rides */
	bool never_rides; /* the switch-over has something to wait for in any case */
};
struct policy_pass {      /* what one pass was like */
	uint32_t pass;    /* 1.. */
	uint64_t bytes;   /* sent in it */
	uint64_t ns;      /* from its first byte to the destination's acknowledgement */
	uint64_t rtt_ns;  /* from its end, about to be said, to the acknowledgement */
	uint64_t left;    /* pages dirtied meanwhile */
	uint64_t scan_ns; /* that it took to find them */
	bool limited;     /* by the operator, not by the link alone */
	bool late;        /* the operator's time-out has passed */
};
enum policy_verdict { POLICY_AGAIN, POLICY_STOP, POLICY_GIVE_UP };

/* Can this budget be kept at all? Else w says which could. A migration that cannot end is not begun. */
bool policy_possible(uint64_t max_downtime_ns, struct why *w) must_check;
void policy_init(struct policy *p, enum migrate_strategy strategy, uint64_t max_downtime_ns, uint32_t max_passes);
/* The downtime, and its parts, if the guest were stopped now. */
uint64_t policy_predict(const struct policy *p, uint64_t pages_left);
void policy_forecast(const struct policy *p, uint64_t pages_left, struct downtime *d);
/*
 * Should the source send COMMIT right behind END, without waiting for READY? On a long line that saves a whole round
 * trip of downtime; on a short one waiting costs next to nothing and keeps the guest here if the destination does not
 * get ready. False until a round trip was measured; a later pass that shows a shorter one may take it back.
 */
bool policy_rides(const struct policy *p);
/*
 * Account for a pass and decide; p->may_dirty and p->watch hold for the next one. POLICY_GIVE_UP: w says why, with the
 * numbers and what the operator can do. A line whose round trip alone breaks the budget is given up as soon as that is
 * certain, not after max_passes. strategy, max_downtime_ns and max_passes may change between two passes.
 */
enum policy_verdict policy_next(struct policy *p, const struct policy_pass *r, struct why *w);
/*
 * Of a pass that left `pages` dirty, sample[i] being what was seen of each vCPU: who has its full speed and dirtied no
 * more than POLICY_SMALL of them is left alone, for what everybody writes all the time gets no less by slowing. Its
 * sample becomes 0; the result is the pages of the others.
 */
uint64_t policy_spare(uint32_t *sample, unsigned n, uint64_t pages, const uint32_t *share);
/*
 * The shares of a CPU (of STUN_FULL) that n vCPUs get so that together they dirty no more than `allowed`: each as much
 * as it likes up to one bound for all, so one that dirties little keeps its speed. share: those that they had while
 * they dirtied `rate` together, sample[i] being what was seen of each; in, and out. Of who was slowed the speed at most
 * doubles; where all fits as it is nobody gets slower. Nobody gets less than `least`. True if one is slowed.
 */
bool policy_shares(const uint32_t *sample, unsigned n, uint64_t rate, uint64_t allowed, uint32_t least,
		   uint32_t *share);
/* The least share: what AUTO does without being told to leaves a guest alive. */
static inline uint32_t policy_least(const struct policy *p)
{
	return p->strategy == MIGRATE_AUTO ? STUN_GENTLE : STUN_LEAST;
}

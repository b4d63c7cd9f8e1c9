/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Stun during page send: a vCPU that dirties memory faster than its migration can carry it is given less of a CPU's
 * time, as a budget in each 10 ms. What it does not get it sleeps, as in HLT, and a guest that has such a clock (pv.h)
 * is told of that as stolen time.
 */
#pragma once
#include "kernel/time.h"

#define STUN_FULL      (1U << 16) /* what shares are parts of: a whole CPU, not slowed */
#define STUN_LEAST     32         /* 5 us of 10 ms: less would not be worth the entry */
#define STUN_GENTLE    655        /* a hundredth: who gets less may be taken for dead by others */
#define STUN_PERIOD_NS (10 * NS_PER_MS)

struct vcpu;
struct vm;
struct vcpu_stun {          /* [v] but for: */
	uint32_t share;     /* [a] of STUN_FULL */
	uint32_t samples;   /* [a] guarded frames that it has written to */
	uint64_t rested_ns; /* in all */
	uint64_t period_ns; /* when the present 10 ms began */
	uint64_t ran_ns;    /* what its task had run then */
	uint64_t armed_ns;  /* the timer's */
	struct timer timer; /* the budget is used up */
};

/* Each vCPU of vm has share[id] from now on; NULL: all are at full speed. vm has vCPUs, and they stay. Any task. */
void stun_set(struct vm *vm, const uint32_t *share);
/* The writes to guarded frames (gmem_track_sample) of each vCPU since this was asked last. */
void stun_take_samples(struct vm *vm, uint32_t *sample);

void stun_init(struct vcpu *v); /* vcpu_create's */
/* The vCPU's own task: */
void stun_wrote(struct vcpu *v);
void stun_rest(struct vcpu *v); /* before it enters the guest, with a share that is not full; returns to be looked at */
void stun_stop(struct vcpu *v); /* before it parks */

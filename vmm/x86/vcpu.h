/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A vCPU: a task that enters the guest, and how others reach it. Exits are decided in exit.c; vcpu.c holds the run
 * loop, kicks, pausing and the flush protocol.
 */
#pragma once
#include "arch/x86/hv.h"
#include "kernel/time.h"
#include "vmm/vm.h"
#include "vmm/x86/events.h"
#include "vmm/x86/pv.h"
#include "vmm/x86/stun.h"

enum vcpu_want { VCPU_WANT_RUN, VCPU_WANT_PARK, VCPU_WANT_QUIT };

struct vcpu_msr_state {                   /* migrates: MSRs that live in software */
	uint64_t system_time, wall_clock; /* KVM paravirtual clock, as the guest wrote them */
	uint64_t mtrr_def_type, misc_enable;
};

/*
 * (c) const after create  [v] the vCPU's task, or it is parked  [l] lock  [a] atomic
 */
struct vcpu {
	struct vm *vm;             /* (c) */
	unsigned id;               /* (c) = APIC id */
	struct task *task;         /* (c) until gone */
	struct hv_vcpu *hv;        /* [v] */
	struct vlapic lapic;       /* [v], IRR [a] */
	struct vcpu_msr_state msr; /* [v] */
	struct vcpu_pv pv;         /* what it told KVM, and is told */
	struct vcpu_events events; /* what waits to be injected, HLT */
	struct vcpu_stun stun;     /* how its migration slows it */
	struct cpu_state *state;   /* [v] image of the hardware state while parked and saved */

	struct spinlock lock;
	struct waitq wq;        /* the task waits here: halted, parked */
	enum vcpu_want want;    /* [l] */
	bool parked;            /* [l] */
	struct completion gone; /* the task has ended */

	uint32_t seq;                     /* [a] odd: in the guest or about to enter; see vcpu_flush_begin */
	uint32_t cpu;                     /* [a] host CPU while seq is odd */
	uint8_t kicked;                   /* [a] something to look at before the next entry */
	uint8_t flush;                    /* [a] take new translations at the next entry */
	uint32_t halt_poll_ns;            /* [v] halt_poll.h: for how long in the next HLT */
	uint64_t exits[EXIT_INVALID + 1]; /* [v] by kind */
};

static inline bool vcpu_has_init(const struct vcpu *v) { return __atomic_load_n(&v->lapic.s.events, __ATOMIC_RELAXED); }
/* It does not run: it is in HLT, or waits for SIPI. */
static inline bool vcpu_waits(const struct vcpu *v) { return v->events.halted || v->lapic.s.sipi_wait; }

int vcpu_create(struct vm *vm, unsigned id, struct vcpu **v) must_check; /* parked */
void vcpu_destroy(struct vcpu *v);                                       /* ends the task; not from a vCPU's task */
void vcpu_park(struct vcpu *v);               /* returns when it is out of the guest, its state saved to v->state */
void vcpu_hold(struct vcpu *v);               /* any context: it leaves the guest soon and parks; does not wait */
void vcpu_unpark(struct vcpu *v);             /* goes on from v->state; v->state has been accepted by vcpu_load */
int vcpu_load(struct vcpu *v, struct why *w); /* parked: v->state into hardware form */
void vcpu_rest(struct vcpu *v, uint64_t until_ns); /* its own task: not before then, but to park */
void vcpu_kick(struct vcpu *v);                    /* any context: wake it, or take it out of the guest for a look */
/* When wait returns it holds no translation older than begin. Of many: begin all, then wait for each. Tasks only. */
void vcpu_flush_begin(struct vcpu *v);
void vcpu_flush_wait(struct vcpu *v);

/*
 * The whole state of a vCPU that is handling an exit, to be changed and given back; it is off the hardware meanwhile.
 * Slow, for what happens rarely. Its own task, interrupts on.
 */
struct cpu_state *vcpu_state_take(struct vcpu *v);
void vcpu_state_give(struct vcpu *v); /* the VM fails if it is not one that the CPU can have */

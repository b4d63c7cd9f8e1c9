/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * KVM's interface for guests whose vCPUs take turns, as Linux uses it (Documentation/virt/kvm/x86/: cpuid.rst, msr.rst,
 * hypercalls.rst). Offered in CPUID 0x40000001 to VMs of two vCPUs and more, on both vendors and in each CPU model:
 *
 *   STEAL_TIME      the time that a vCPU waited for a CPU, and whether it has one now (`preempted`)
 *   PV_TLB_FLUSH    a flush of a vCPU that has none is a bit in `preempted`, done before its next entry: no IPI
 *   PV_EOI          an interrupt ends with a bit in the guest's memory, looked at on the next exit: no exit of its own
 *   PV_UNHALT       KICK_CPU ends another's HLT: who waits for a lock sleeps
 *   PV_SEND_IPI     one exit for an IPI to many
 *   POLL_CONTROL    whether a HLT keeps its CPU for a moment (halt_poll.h)
 *   PV_SCHED_YIELD  who waits for another's answer lets it run
 *   MSI_EXT_DEST_ID 15 bits of destination in MSIs, for ids above 255
 *
 * It is fixed when the VM starts. A VM of one vCPU has none of it, as those that release 0.5 has started.
 */
#pragma once
#include "vmm/state.h"

/* [v] the vCPU's task, or it is parked  [a] atomic, any context */
struct vcpu_pv {
	struct vcpu_pv_state {       /* migrates as section "kvm" */
		uint64_t steal_time; /* [v] the MSR: the area's address, bit 0 on */
		uint64_t eoi;        /* [v] the MSR: the byte's address, bit 0 on */
		uint32_t unhalted;   /* [a] 1: somebody kicked it; the next HLT ends at once */
		uint32_t no_poll;    /* [v] 1: the MSR's bit 0 is off */
	} s;
	bool switched;    /* [v], and its switch hook: it has got a CPU; pv_resume before it enters */
	bool eoi_left;    /* [v] the guest may end its interrupt in its memory; taken back on the exit */
	uint64_t wait_ns; /* [v] of this task, up to which its waiting has been told */
};
extern const struct sdesc pv_desc; /* object: struct vcpu */

struct vcpu;
int pv_write_steal_time(struct vcpu *v, uint64_t val) must_check; /* 0, or -EINVAL for #GP */
int pv_read_steal_time(const struct vcpu *v, uint64_t *val) must_check;
int pv_write_eoi(struct vcpu *v, uint64_t val) must_check;
int pv_read_eoi(const struct vcpu *v, uint64_t *val) must_check;
int pv_write_poll(struct vcpu *v, uint64_t val) must_check;
int pv_read_poll(const struct vcpu *v, uint64_t *val) must_check;
void pv_hypercall(struct vcpu *v); /* VMCALL or VMMCALL, but for stepping over it */

/* Its task goes off its CPU; comes onto one (interrupts off, neither sleeps). */
void pv_switch_out(struct vcpu *v);
static inline void pv_switch_in(struct vcpu_pv *pv) { pv->switched = true; }
/* After pv_switch_in: what it waited is told, and a flush that was left for it is due at the entry. May sleep. */
void pv_resume(struct vcpu *v);
void pv_begin(struct vcpu *v); /* it was parked, perhaps on another host: what this task waited before is not told */
/* Has somebody kicked it? Once. */
static inline bool pv_take_kick(struct vcpu_pv *pv)
{
	return __atomic_load_n(&pv->s.unhalted, __ATOMIC_RELAXED) &&
	       __atomic_exchange_n(&pv->s.unhalted, 0, __ATOMIC_SEQ_CST);
}
/*
 * Right before an entry, with what is injected in service (interrupts off): the guest may end it in its memory, if
 * nothing else waits for that. After the entry, whether it came to that or not (may sleep): has the guest done so?
 */
void pv_leave_eoi(struct vcpu *v);
void pv_take_eoi(struct vcpu *v);
void pv_reset(struct vcpu *v);                                                              /* power-on, INIT */
void pv_hot(const struct vcpu *v, void (*fn)(void *arg, gpa_t gpa, size_t len), void *arg); /* vm_for_each_hot's */

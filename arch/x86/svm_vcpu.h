/* SPDX-License-Identifier: BSD-2-Clause */
/* What svm.c and svm_state.c share: the AMD-V vCPU. Private to svm*. */
#pragma once
#include "arch/x86/hv_env.h"
#include "arch/x86/svm.h"

struct svm_vcpu {
	struct hv_vcpu hv; /* first: hv_ops hand out a pointer to it */
	struct vmcb *vmcb;
	hpa_t vmcb_hpa, msrpm;
	uint64_t asid_generation; /* 0: takes a new ASID at the next entry */
	uint32_t cpu;             /* where it was loaded last */
	bool nmi_blocked;         /* an NMI is being handled: its IRET is intercepted */
	uint64_t iret_rip;        /* where that IRET is, until it has run; else SVM_NO_RIP */
	uint64_t xcr0, tsc_aux, dr[4];
	/*
	 * As the guest wrote them: of the VMCB's ESP and EIP the CPU keeps 32 bits, and Intel's hosts want all (APM2
	 * 6.1.2).
	 */
	uint64_t sysenter_cs, sysenter_esp, sysenter_eip;
	uint8_t xsave[XSAVE_AREA_MAX] __attribute__((aligned(64)));
};
#define SVM_VCPU_ORDER 1
#define SVM_NO_RIP     BIT(63) /* not canonical */

static inline struct svm_vcpu *svm_of(struct hv_vcpu *hv) { return CONTAINER_OF(hv, struct svm_vcpu, hv); }

/* svm_exit.c */
extern bool svm_has_nrip;                            /* the CPU tells the next RIP; const after probe */
void svm_inject(struct hv_vcpu *hv, uint64_t event); /* these four: hv_ops */
bool svm_ready(struct hv_vcpu *hv, bool nmi);
bool svm_window(struct hv_vcpu *hv, unsigned prio, bool nmi);
void svm_skip(struct hv_vcpu *hv, uint64_t next_rip);
void svm_entry_event(struct svm_vcpu *v); /* event_next goes into the VMCB, or is asked for */
/* After an exit: what it means, and what it cut short is to be injected again. */
void svm_decode(struct svm_vcpu *v, struct vmexit *x);

/* svm_state.c */
void svm_block_nmi(struct svm_vcpu *v, bool on); /* until IRET (APM2 8.2.3) */
void svm_get_state(struct hv_vcpu *hv, struct cpu_state *s);
int svm_set_state(struct hv_vcpu *hv, const struct cpu_state *s, struct why *w);
void svm_get_mode(struct hv_vcpu *hv, struct hv_mode *m);
void svm_explain_invalid(const struct vmcb *b, struct vmexit *x); /* which rule of APM2 15.5.1 the state broke */

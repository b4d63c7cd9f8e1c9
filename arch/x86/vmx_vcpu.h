/* SPDX-License-Identifier: BSD-2-Clause */
/* What vmx*.c share: the VT-x vCPU and what this CPU can do. Private to vmx*. */
#pragma once
#include "arch/x86/hv_env.h"
#include "arch/x86/vmx.h"

/*
 * The VMCS is current on the CPU that has the vCPU loaded; else it lies cleared in memory. What hardware does not keep
 * in it lives in the registers themselves while loaded: FPU, DR0-3, DR6, CR2, SYSCALL's MSRs, KERNEL_GS_BASE, TSC_AUX.
 */
struct vmx_vcpu {
	struct hv_vcpu hv; /* first: hv_ops hand out a pointer to it */
	hpa_t vmcs, msr_bitmap;
	uint64_t eptp;
	uint32_t cpu; /* where it was loaded last; ~0: nowhere */
	bool launched, flush;
	uint32_t proc;  /* PROC_CONTROLS as the VMCS has them */
	uint64_t event; /* to be injected at the next entry; HV_EVENT, 0: none */
	uint64_t tsc_offset, tsc_ratio;
	uint64_t cr2, dr[4], dr6, xcr0;
	uint64_t star, lstar, cstar, sfmask, kernel_gs_base, tsc_aux;
	uint8_t xsave[XSAVE_AREA_MAX] __attribute__((aligned(64)));
};
#define VMX_VCPU_ORDER 1

extern struct vmx_caps { /* vmx_caps.c; const after probe */
	uint32_t revision, pin, proc, proc2, exit, entry;
	uint64_t cr0_fixed0, cr0_fixed1, cr4_fixed0, cr4_fixed1;
	uint32_t ept; /* EPT_CAP_* */
	bool ins_outs, tsc_aux;
} vmx_caps;
extern struct pt_format vmx_pt_format;
#define VMX_NFEATURES 21
extern struct hv_feature vmx_features[VMX_NFEATURES];
/* Words of controls, the first four in the order of their MSRs. */
enum { PIN, PROC, EXITC, ENTRYC, PROC2, VMX_NCONTROLS };
/* The capability MSRs as read, 0 for those that are not there. */
struct vmx_msrs {
	uint64_t feature_control, basic, arch_cap, ept_vpid_cap, cr0_fixed0, cr0_fixed1, cr4_fixed0, cr4_fixed1;
	uint64_t control[VMX_NCONTROLS]; /* must be 1 (31:0), may be 1 (63:32) */
};
int vmx_probe(struct why *w);                            /* hv_ops.probe: reads them, and... */
int vmx_choose(const struct vmx_msrs *m, struct why *w); /* fills the three above; -ENOTSUP names what is missing */

static inline struct vmx_vcpu *vmx_of(struct hv_vcpu *hv) { return CONTAINER_OF(hv, struct vmx_vcpu, hv); }

/* CR0 and CR4: bits that the host owns in hardware; the guest reads its own from the shadow. */
uint64_t vmx_cr0(void); /* what the guest believes to have; the VMCS is current */
uint64_t vmx_cr4(void);
void vmx_set_cr0(uint64_t val);
void vmx_set_cr4(uint64_t val);
#define CR0_HOST_OWNED (CR0_NE | CR0_NW | CR0_CD)
/* MCE is set while guests run: a machine check must not become a shutdown (SDM 3B, machine-check architecture). */
#define CR4_HOST_OWNED CR4_MCE
uint64_t vmx_cr0_owned(void);
uint64_t vmx_cr4_allowed(void); /* bits that a guest may set */

/* vmx_exit.c; the VMCS is current. */
void vmx_set_proc(struct vmx_vcpu *v, uint32_t bit, bool on); /* a primary control */
void vmx_inject(struct hv_vcpu *hv, uint64_t event);          /* these four: hv_ops */
bool vmx_ready(struct hv_vcpu *hv, bool nmi);
bool vmx_window(struct hv_vcpu *hv, unsigned prio, bool nmi);
void vmx_skip(struct hv_vcpu *hv, uint64_t next_rip);
void vmx_entry_event(struct vmx_vcpu *v); /* what is to be injected goes into the VMCS */
/* After an exit: what it means, and what it cut short is to be injected again. */
void vmx_decode(struct vmx_vcpu *v, struct vmexit *x, uint32_t reason);

/* vmx_state.c */
void vmx_get_state(struct hv_vcpu *hv, struct cpu_state *s);
int vmx_set_state(struct hv_vcpu *hv, const struct cpu_state *s, struct why *w);
void vmx_get_mode(struct hv_vcpu *hv, struct hv_mode *m);
void vmx_explain_refusal(char *why, size_t n); /* which check of SDM 3C 27.3 the guest state fails; VMCS current */

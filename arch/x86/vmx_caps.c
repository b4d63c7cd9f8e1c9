/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What this CPU's VT-x can do (SDM 3D appendix A): nothing is assumed, each control is asked for in its capability MSR.
 * A control MSR has the bits that must be 1 in its low half and those that may be 1 in its high half.
 */
#include "arch/x86/cpu.h"
#include "arch/x86/hw/cpuid_bits.h"
#include "arch/x86/hw/pte.h"
#include "arch/x86/vmx_vcpu.h"
#include <string.h>

struct vmx_caps vmx_caps;
struct pt_format vmx_pt_format;

static uint32_t may[VMX_NCONTROLS]; /* bits that may be 1 */

/* For `host`: a control's bit, or one of the EPT capabilities. */
enum {
	F_EPT,
	F_AD,
	F_UNRESTRICTED,
	F_1G,
	F_INVEPT,
	F_VPID,
	F_RDTSCP,
	F_INVPCID,
	F_TSC_SCALING,
	F_VNMI,
	F_PLE,
	F_BUS_LOCK,
	F_PSCHANGE,
	F_LAST_USED = F_PSCHANGE, /* tern uses those up to here where they are */
	F_PREEMPTION,
	F_PML,
	F_TPR_SHADOW,
	F_APICV,
	F_POSTED,
	F_VMCS_SHADOW,
	F_XSAVES,
	F_MBEC
};
struct hv_feature vmx_features[VMX_NFEATURES] = {
	[F_EPT] = { .name = "EPT" },
	[F_AD] = { .name = "EPT-A/D" },
	[F_UNRESTRICTED] = { .name = "unrestricted-guest" },
	[F_1G] = { .name = "EPT-1G" },
	[F_INVEPT] = { .name = "INVEPT-single" },
	[F_VPID] = { .name = "VPID" },
	[F_RDTSCP] = { .name = "RDTSCP" },
	[F_INVPCID] = { .name = "INVPCID" },
	[F_TSC_SCALING] = { .name = "TSC-scaling" },
	[F_VNMI] = { .name = "virtual-NMI" },
	[F_PLE] = { .name = "pause-loop-exiting" },
	[F_BUS_LOCK] = { .name = "bus-lock-detection" },
	[F_PSCHANGE] = { .name = "large-executable-pages" },
	[F_PREEMPTION] = { .name = "preemption-timer" },
	[F_PML] = { .name = "PML" },
	[F_TPR_SHADOW] = { .name = "TPR-shadow" },
	[F_APICV] = { .name = "APICv" },
	[F_POSTED] = { .name = "posted-interrupts" },
	[F_VMCS_SHADOW] = { .name = "VMCS-shadowing" },
	[F_XSAVES] = { .name = "XSAVES" },
	[F_MBEC] = { .name = "MBEC" },
};

/* For `host`: what the CPU has, whether tern uses it or not. */
static void list_features(void)
{
	const uint32_t ept = vmx_caps.ept, p2 = may[PROC2];
	const bool has[] = {
		[F_EPT] = p2 & PROC2_EPT,
		[F_AD] = ept & EPT_CAP_AD,
		[F_UNRESTRICTED] = p2 & PROC2_UNRESTRICTED,
		[F_1G] = ept & EPT_CAP_1G,
		[F_INVEPT] = ept & EPT_CAP_INVEPT_SINGLE,
		[F_VPID] = p2 & PROC2_VPID,
		[F_RDTSCP] = p2 & PROC2_RDTSCP,
		[F_INVPCID] = p2 & PROC2_INVPCID,
		[F_TSC_SCALING] = p2 & PROC2_TSC_SCALING,
		[F_VNMI] = may[PIN] & PIN_VIRTUAL_NMI,
		[F_PLE] = p2 & PROC2_PAUSE_LOOP,
		[F_BUS_LOCK] = p2 & PROC2_BUS_LOCK,
		[F_PSCHANGE] = !vmx_pt_format.later_x,
		[F_PREEMPTION] = may[PIN] & PIN_PREEMPTION_TIMER,
		[F_PML] = p2 & PROC2_PML,
		[F_TPR_SHADOW] = may[PROC] & PROC_TPR_SHADOW,
		[F_APICV] = p2 & PROC2_VIRTUAL_INT,
		[F_POSTED] = may[PIN] & PIN_POSTED_INT,
		[F_VMCS_SHADOW] = p2 & PROC2_VMCS_SHADOW,
		[F_XSAVES] = p2 & PROC2_XSAVES,
		[F_MBEC] = p2 & PROC2_MBEC,
	};
	_Static_assert(ARRAY_SIZE(has) == ARRAY_SIZE(vmx_features), "a feature without its test");
	for (unsigned i = 0; i < VMX_NFEATURES; i++) {
		vmx_features[i].present = has[i];
		vmx_features[i].used = has[i] && i <= F_LAST_USED;
	}
}

/*
 * What tern asks of each control. Rows of a word of controls stand together; what is in no row stays as the CPU
 * insists. MUST: without it no VM runs here. WANT: used where it is. NEVER: an exit that tern does not handle, which
 * the first generation insisted on.
 */
enum how { MUST, WANT, NEVER };
static const struct control {
	uint8_t word;
	uint8_t how;
	uint32_t bit;
	const char *name; /* by SDM 3C tables 25-5 to 25-15 */
} controls[] = {
	{ PIN, MUST, PIN_EXT_INT, "external-interrupt exiting" },
	{ PIN, MUST, PIN_NMI, "NMI exiting" },
	{ PIN, WANT, PIN_VIRTUAL_NMI, "virtual NMIs" },
	{ PROC, MUST, PROC_IRQ_WINDOW, "interrupt-window exiting" },
	{ PROC, MUST, PROC_TSC_OFFSET, "TSC offsetting" },
	{ PROC, MUST, PROC_HLT, "HLT exiting" },
	{ PROC, MUST, PROC_MWAIT, "MWAIT exiting" },
	{ PROC, MUST, PROC_MONITOR, "MONITOR exiting" },
	{ PROC, MUST, PROC_RDPMC, "RDPMC exiting" },
	{ PROC, MUST, PROC_IO, "unconditional I/O exiting" },
	{ PROC, MUST, PROC_MSR_BITMAPS, "MSR bitmaps" },
	{ PROC, MUST, PROC_CR8_LOAD, "CR8-load exiting" },
	{ PROC, MUST, PROC_CR8_STORE, "CR8-store exiting" },
	{ PROC, MUST, (uint32_t)PROC_SECONDARY, "secondary controls" },
	{ PROC, NEVER, PROC_CR3_LOAD, "CR3-load exiting" },
	{ PROC, NEVER, PROC_CR3_STORE, "CR3-store exiting" },
	{ PROC, NEVER, PROC_INVLPG, "INVLPG exiting" },
	{ EXITC, MUST, EXITC_SAVE_DEBUG, "saving of debug controls" },
	{ EXITC, MUST, EXITC_HOST_64, "a 64-bit host" },
	{ EXITC, MUST, EXITC_SAVE_PAT, "saving of IA32_PAT" },
	{ EXITC, MUST, EXITC_LOAD_PAT, "loading of IA32_PAT at exits" },
	{ EXITC, MUST, EXITC_SAVE_EFER, "saving of IA32_EFER" },
	{ EXITC, MUST, EXITC_LOAD_EFER, "loading of IA32_EFER at exits" },
	{ EXITC, NEVER, EXITC_ACK_INT, "acknowledging of interrupts at exits" },
	{ ENTRYC, MUST, ENTRYC_LOAD_DEBUG, "loading of debug controls" },
	{ ENTRYC, MUST, ENTRYC_LOAD_PAT, "loading of IA32_PAT" },
	{ ENTRYC, MUST, ENTRYC_LOAD_EFER, "loading of IA32_EFER" },
	{ PROC2, MUST, PROC2_EPT, "extended page tables (EPT)" },
	{ PROC2, MUST, PROC2_UNRESTRICTED, "unrestricted guest" },
	{ PROC2, MUST, PROC2_WBINVD, "WBINVD exiting" },
	{ PROC2, WANT, PROC2_VPID, "VPID" },
	{ PROC2, WANT, PROC2_RDTSCP, "RDTSCP" },
	{ PROC2, WANT, PROC2_INVPCID, "INVPCID" },
	{ PROC2, WANT, PROC2_PAUSE_LOOP, "PAUSE-loop exiting" },
	{ PROC2, WANT, PROC2_TSC_SCALING, "TSC scaling" },
	{ PROC2, WANT, PROC2_BUS_LOCK, "bus-lock detection" },
	{ PROC2, NEVER, PROC2_APIC_ACCESSES, "virtual APIC accesses" },
	{ PROC2, NEVER, PROC2_DESC_TABLE, "descriptor-table exiting" },
	{ PROC2, NEVER, PROC2_XSAVES, "XSAVES" },
	{ PROC2, NEVER, PROC2_PML, "page-modification logging" },
};

static int choose_controls(const struct vmx_msrs *m, struct why *w)
{
	uint32_t *chosen[VMX_NCONTROLS] = { [PIN] = &vmx_caps.pin,
					    [PROC] = &vmx_caps.proc,
					    [EXITC] = &vmx_caps.exit,
					    [ENTRYC] = &vmx_caps.entry,
					    [PROC2] = &vmx_caps.proc2 };
	for (unsigned i = 0; i < VMX_NCONTROLS; i++) {
		*chosen[i] = (uint32_t)m->control[i];
		may[i] = m->control[i] >> 32;
	}
	for (const struct control *c = controls; c < controls + ARRAY_SIZE(controls); c++) {
		if (c->how == NEVER ? *chosen[c->word] & c->bit : c->how == MUST && !(may[c->word] & c->bit))
			return why_set(w, -ENOTSUP, "this CPU's VT-x %s %s, which tern %s to run VMs",
				       c->how == NEVER ? "insists on" : "lacks", c->name,
				       c->how == NEVER ? "is not made" : "needs");
		if (c->how != NEVER)
			*chosen[c->word] |= c->bit & may[c->word];
	}
	vmx_caps.proc &= ~(uint32_t)PROC_IRQ_WINDOW; /* switched on when an interrupt waits */
	return 0;
}

static int choose_ept(const struct vmx_msrs *m, struct why *w)
{
	const uint32_t ept = vmx_caps.ept = (uint32_t)m->ept_vpid_cap;
	const char *lacks = !(ept & EPT_CAP_WALK4) ? "page walks of length 4"
			    : !(ept & EPT_CAP_WB)  ? "write-back paging structures"
			    : !(ept & EPT_CAP_INVEPT) || !(ept & (EPT_CAP_INVEPT_SINGLE | EPT_CAP_INVEPT_ALL))
				    ? "INVEPT"
				    : NULL;
	if (lacks)
		return why_set(w, -ENOTSUP, "this CPU's EPT lacks %s, which tern needs to run VMs", lacks);
	vmx_pt_format = pt_format_ept;
	vmx_pt_format.max_level = ept & EPT_CAP_1G ? 3 : ept & EPT_CAP_2M ? 2 : 1;
	/*
	 * An instruction that is fetched by a large page which a guest's tables make small raises a machine check there
	 * (INTEL-SA-00210, CVE-2018-12207).
	 */
	if (!(m->arch_cap & ARCH_CAP_PSCHANGE))
		vmx_pt_format.later_x = EPTE_SOFT;
	if (!(ept & EPT_CAP_AD)) /* bits 8 and 9 are ignored then: no VM can be moved away from here */
		vmx_pt_format.accessed = vmx_pt_format.dirty = 0;
	return 0;
}

int vmx_choose(const struct vmx_msrs *m, struct why *w)
{
	if ((m->feature_control & FEATURE_CONTROL_LOCK) && !(m->feature_control & FEATURE_CONTROL_VMXON))
		return why_set(w, -ENOTSUP,
			       "VT-x is switched off by the firmware (IA32_FEATURE_CONTROL is locked); enable it in "
			       "its set-up");
	if (!(m->basic & VMX_BASIC_TRUE))
		return why_set(w, -ENOTSUP,
			       "this CPU's VT-x is of the first generation, without EPT, which tern needs");
	vmx_caps.revision = m->basic & VMX_BASIC_REVISION;
	vmx_caps.ins_outs = m->basic & VMX_BASIC_INS_OUTS;
	vmx_caps.cr0_fixed0 = m->cr0_fixed0, vmx_caps.cr0_fixed1 = m->cr0_fixed1;
	vmx_caps.cr4_fixed0 = m->cr4_fixed0, vmx_caps.cr4_fixed1 = m->cr4_fixed1;
	int err = choose_controls(m, w);
	if (err)
		return err;
	err = choose_ept(m, w);
	if (err)
		return err;
	vmx_caps.tsc_aux = vmx_caps.proc2 & PROC2_RDTSCP;
	list_features();
	return 0;
}

/* 0 where there is no such MSR: MSRs of what a CPU lacks are not there (appendix A). */
static uint64_t capability(uint32_t msr)
{
	uint64_t val;
	return rdmsr_safe(msr, &val) ? val : 0;
}

int vmx_probe(struct why *w)
{
	if (!(cpuid(1, 0).ecx & CPUID1_ECX_VMX))
		return -ENODEV;
	struct vmx_msrs m = {
		.feature_control = capability(MSR_FEATURE_CONTROL),
		.basic = capability(MSR_VMX_BASIC),
		.arch_cap =
			cpuid(0, 0).eax >= 7 && cpuid(7, 0).edx & CPUID7_EDX_ARCH_CAP ? capability(MSR_ARCH_CAP) : 0,
		.ept_vpid_cap = capability(MSR_VMX_EPT_VPID_CAP),
		.cr0_fixed0 = capability(MSR_VMX_CR0_FIXED0),
		.cr0_fixed1 = capability(MSR_VMX_CR0_FIXED1),
		.cr4_fixed0 = capability(MSR_VMX_CR4_FIXED0),
		.cr4_fixed1 = capability(MSR_VMX_CR4_FIXED1),
		.control = { [PROC2] = capability(MSR_VMX_PROC2) },
	};
	for (unsigned i = PIN; i <= ENTRYC; i++)
		m.control[i] = capability(MSR_VMX_TRUE_PIN + i);
	return vmx_choose(&m, w);
}

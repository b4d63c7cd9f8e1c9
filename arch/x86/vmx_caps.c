/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What this CPU's VT-x can do (SDM 3D appendix A): nothing is assumed, each control is asked for in its capability MSR. A
 * control MSR has the bits that must be 1 in its low half and those that may be 1 in its high half.
 */
#include "arch/x86/cpu.h"
#include "arch/x86/vmx_vcpu.h"
#include <string.h>

struct vmx_caps vmx_caps;
struct pt_format vmx_pt_format;

enum { PIN, PROC, EXITC, ENTRYC, PROC2, NCONTROLS };
static uint32_t may[NCONTROLS]; /* bits that may be 1 */

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
	[F_EPT] = { "EPT", false, true },
	[F_AD] = { "EPT-A/D", false, true },
	[F_UNRESTRICTED] = { "unrestricted-guest", false, true },
	[F_1G] = { "EPT-1G", false, true },
	[F_INVEPT] = { "INVEPT-single", false, true },
	[F_VPID] = { "VPID", false, true },
	[F_RDTSCP] = { "RDTSCP", false, true },
	[F_INVPCID] = { "INVPCID", false, true },
	[F_TSC_SCALING] = { "TSC-scaling", false, true },
	[F_VNMI] = { "virtual-NMI", false, true },
	[F_PREEMPTION] = { "preemption-timer", false, false },
	[F_PML] = { "PML", false, false },
	[F_TPR_SHADOW] = { "TPR-shadow", false, false },
	[F_APICV] = { "APICv", false, false },
	[F_POSTED] = { "posted-interrupts", false, false },
	[F_VMCS_SHADOW] = { "VMCS-shadowing", false, false },
	[F_XSAVES] = { "XSAVES", false, false },
	[F_MBEC] = { "MBEC", false, false },
};

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
		vmx_features[i].used = has[i] && vmx_features[i].used;
	}
}

/* The controls `must`, and of `want` what the CPU has. ~0: the CPU lacks one, or insists on one of `never`. */
static uint32_t choose(unsigned which, uint32_t msr, uint32_t must, uint32_t want, uint32_t never)
{
	uint64_t cap = rdmsr(msr);
	uint32_t fixed = (uint32_t)cap, val = fixed | must | (want & (uint32_t)(cap >> 32));
	may[which] = cap >> 32;
	return (must & ~may[which]) || (fixed & never) ? ~0U : val;
}

static int choose_controls(struct why *w)
{
	const char *lacks = NULL;
	vmx_caps.pin = choose(PIN, MSR_VMX_TRUE_PIN, PIN_EXT_INT | PIN_NMI, PIN_VIRTUAL_NMI, 0);
	vmx_caps.proc = choose(PROC, MSR_VMX_TRUE_PIN + 1,
			       PROC_TSC_OFFSET | PROC_HLT | PROC_MWAIT | PROC_MONITOR | PROC_RDPMC | PROC_IO |
				       PROC_MSR_BITMAPS | PROC_CR8_LOAD | PROC_CR8_STORE | (uint32_t)PROC_SECONDARY,
			       0, PROC_CR3_LOAD | PROC_CR3_STORE | PROC_INVLPG);
	vmx_caps.exit = choose(EXITC, MSR_VMX_TRUE_PIN + 2,
			       EXITC_SAVE_DEBUG | EXITC_HOST_64 | EXITC_SAVE_PAT | EXITC_LOAD_PAT | EXITC_SAVE_EFER |
				       EXITC_LOAD_EFER,
			       0, EXITC_ACK_INT);
	vmx_caps.entry =
		choose(ENTRYC, MSR_VMX_TRUE_PIN + 3, ENTRYC_LOAD_DEBUG | ENTRYC_LOAD_PAT | ENTRYC_LOAD_EFER, 0, 0);
	if (vmx_caps.pin == ~0U || vmx_caps.proc == ~0U || vmx_caps.exit == ~0U || vmx_caps.entry == ~0U)
		return why_set(w, -ENOTSUP,
			       "this CPU's VT-x lacks a basic control that tern needs (PAT, EFER, MSR bitmaps)");
	vmx_caps.proc2 =
		choose(PROC2, MSR_VMX_PROC2, PROC2_WBINVD,
		       PROC2_EPT | PROC2_UNRESTRICTED | PROC2_VPID | PROC2_RDTSCP | PROC2_INVPCID | PROC2_TSC_SCALING,
		       PROC2_APIC_ACCESSES | PROC2_DESC_TABLE | PROC2_XSAVES | PROC2_PML);
	if (!(may[PROC2] & PROC2_EPT))
		lacks = "extended page tables (EPT)";
	else if (!(may[PROC2] & PROC2_UNRESTRICTED))
		lacks = "unrestricted guest mode";
	else if (vmx_caps.proc2 == ~0U)
		lacks = "WBINVD exiting";
	return lacks ? why_set(w, -ENOTSUP, "this CPU has VT-x but no %s, which tern needs to run VMs", lacks) : 0;
}

static int choose_ept(struct why *w)
{
	if (may[PROC2] & (PROC2_EPT | PROC2_VPID))
		vmx_caps.ept = (uint32_t)rdmsr(MSR_VMX_EPT_VPID_CAP);
	if (!(vmx_caps.ept & EPT_CAP_WALK4) || !(vmx_caps.ept & EPT_CAP_WB) || !(vmx_caps.ept & EPT_CAP_INVEPT) ||
	    !(vmx_caps.ept & (EPT_CAP_INVEPT_SINGLE | EPT_CAP_INVEPT_ALL)))
		return why_set(
			w, -ENOTSUP,
			"this CPU's EPT has no four-level write-back tables with INVEPT, which tern needs to run VMs");
	vmx_pt_format = pt_format_ept;
	vmx_pt_format.max_level = vmx_caps.ept & EPT_CAP_1G ? 3 : vmx_caps.ept & EPT_CAP_2M ? 2 : 1;
	if (!(vmx_caps.ept & EPT_CAP_AD)) /* bits 8 and 9 are ignored then: no VM can be moved away from here */
		vmx_pt_format.accessed = vmx_pt_format.dirty = 0;
	return 0;
}

int vmx_probe(struct why *w)
{
	uint64_t feature, basic;
	if (!(cpuid(1, 0).ecx & BIT(5)))
		return -ENODEV;
	if (rdmsr_safe(MSR_FEATURE_CONTROL, &feature) && (feature & FEATURE_CONTROL_LOCK) &&
	    !(feature & FEATURE_CONTROL_VMXON))
		return why_set(w, -ENOTSUP,
			       "VT-x is switched off by the firmware (IA32_FEATURE_CONTROL is locked); enable it in "
			       "its set-up");
	basic = rdmsr(MSR_VMX_BASIC);
	if (!(basic & VMX_BASIC_TRUE))
		return why_set(w, -ENOTSUP,
			       "this CPU's VT-x is of the first generation, without EPT, which tern needs");
	vmx_caps.revision = basic & VMX_BASIC_REVISION;
	vmx_caps.ins_outs = basic & VMX_BASIC_INS_OUTS;
	vmx_caps.cr0_fixed0 = rdmsr(MSR_VMX_CR0_FIXED0);
	vmx_caps.cr0_fixed1 = rdmsr(MSR_VMX_CR0_FIXED1);
	vmx_caps.cr4_fixed0 = rdmsr(MSR_VMX_CR4_FIXED0);
	vmx_caps.cr4_fixed1 = rdmsr(MSR_VMX_CR4_FIXED1);
	int err = choose_controls(w);
	if (!err)
		err = choose_ept(w);
	vmx_caps.tsc_aux = vmx_caps.proc2 & PROC2_RDTSCP;
	list_features();
	return err;
}

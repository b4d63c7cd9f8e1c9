/* SPDX-License-Identifier: BSD-2-Clause */
/* The field tables of a vCPU's architectural state and of the MSRs that live in software. */
#include "vmm/x86/vcpu.h"
#include "vmm/x86/msr.h"
#include "vmm/x86/cpu_state.h"

/* struct cpu_state is its own object: the whole struct migrates. Segments are three tables of one array. */
struct cpu_state_obj {
	struct cpu_state s;
};
/* clang-format off */
#define SEG(n) F(struct cpu_state, seg[n].base), F(struct cpu_state, seg[n].limit), F(struct cpu_state, seg[n].attr), \
	       F(struct cpu_state, seg[n].selector)
static const struct sfield cpu_fields[] = {
	F_ARR(struct cpu_state, gpr), F(struct cpu_state, rip), F(struct cpu_state, rflags), F(struct cpu_state, cr0),
	F(struct cpu_state, cr2), F(struct cpu_state, cr3), F(struct cpu_state, cr4), F(struct cpu_state, efer),
	F(struct cpu_state, xcr0), F(struct cpu_state, xss), F(struct cpu_state, dr0), F(struct cpu_state, dr1),
	F(struct cpu_state, dr2), F(struct cpu_state, dr3), F(struct cpu_state, dr6), F(struct cpu_state, dr7),
	SEG(SEG_ES), SEG(SEG_CS), SEG(SEG_SS), SEG(SEG_DS), SEG(SEG_FS), SEG(SEG_GS), SEG(SEG_LDTR), SEG(SEG_TR),
	F(struct cpu_state, gdt_base), F(struct cpu_state, idt_base), F(struct cpu_state, gdt_limit),
	F(struct cpu_state, idt_limit), F(struct cpu_state, star), F(struct cpu_state, lstar), F(struct cpu_state,
	cstar), F(struct cpu_state, sfmask), F(struct cpu_state, kernel_gs_base), F(struct cpu_state, sysenter_cs),
	F(struct cpu_state, sysenter_esp), F(struct cpu_state, sysenter_eip), F(struct cpu_state, pat),
	F(struct cpu_state, tsc_aux), F(struct cpu_state, tsc), F(struct cpu_state, event), F(struct cpu_state,
	event_next), F(struct cpu_state, int_shadow), F(struct cpu_state, nmi_blocked), F(struct cpu_state, halted),
	F(struct cpu_state, xsave_size), F_ARR(struct cpu_state, xsave), F(struct cpu_state, cr8),
	F(struct cpu_state, pending_debug), F(struct cpu_state, nmi_pending),
};
/* clang-format on */

/* The rest is looked at when all sections are there: what it may be depends on the guest's CPUID (cpu_check.h). */
static int cpu_check(const void *obj unused, const void *state, struct why *w)
{
	const struct cpu_state *s = state;
	if (s->xsave_size > XSAVE_AREA_MAX)
		return why_set(w, -EINVAL, "cpu: extended state of %u bytes", s->xsave_size);
	return 0;
}
const struct sdesc cpu_state_desc = {
	.name = "cpu", .version = 3, SDESC(struct cpu_state_obj, s, struct cpu_state, cpu_fields), .check = cpu_check
};

/* clang-format off */
static const struct sfield msr_fields[] = {
	F(struct vcpu_msr_state, system_time), F(struct vcpu_msr_state, wall_clock),
	F(struct vcpu_msr_state, mtrr_def_type), F(struct vcpu_msr_state, misc_enable),
};
/* clang-format on */
static int msr_check(const void *obj unused, const void *state, struct why *w)
{
	const struct vcpu_msr_state *s = state;
	if (!msr_mtrr_valid(s->mtrr_def_type))
		return why_set(w, -EINVAL, "msr: MTRR_DEF_TYPE cannot be %lx", s->mtrr_def_type);
	return 0;
}
const struct sdesc vcpu_msr_desc = {
	.name = "msr", .version = 1, SDESC(struct vcpu, msr, struct vcpu_msr_state, msr_fields), .check = msr_check
};

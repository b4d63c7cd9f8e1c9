/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The VMCS's guest-state area to and from struct cpu_state (SDM 3C 25.4). The vCPU is not loaded but its VMCS is
 * current. VM entry checks far more than VMRUN does (27.3.1), so what AMD leaves loose is made tight on the way in.
 */
#include "arch/x86/cpu.h"
#include "arch/x86/fpu.h"
#include "arch/x86/vmx_vcpu.h"
#include <string.h>

/* ---- CR0 and CR4 ---- */

uint64_t vmx_cr0_owned(void) { return CR0_HOST_OWNED | ~vmx_caps.cr0_fixed1; }

uint64_t vmx_cr4_allowed(void)
{
	uint64_t bits =
		0xfff /* VME .. UMIP */ | CR4_FSGSBASE | CR4_PCIDE | CR4_OSXSAVE | CR4_SMEP | CR4_SMAP | CR4_PKE;
	return bits & vmx_caps.cr4_fixed1;
}

uint64_t vmx_cr0(void) { return (vmcs_read(GUEST_CR0) & ~vmx_cr0_owned()) | (vmcs_read(CR0_SHADOW) & vmx_cr0_owned()); }
uint64_t vmx_cr4(void)
{
	uint64_t val = (vmcs_read(GUEST_CR4) & ~CR4_HOST_OWNED) | (vmcs_read(CR4_SHADOW) & CR4_HOST_OWNED);
	return val & vmx_cr4_allowed();
}

void vmx_set_cr0(uint64_t val)
{
	uint64_t must = vmx_caps.cr0_fixed0 & ~(CR0_PE | CR0_PG); /* which an unrestricted guest may clear, 27.3.1.1 */
	vmcs_write(CR0_SHADOW, val);
	vmcs_write(GUEST_CR0, (val & ~(CR0_NW | CR0_CD) & vmx_caps.cr0_fixed1) | must | CR0_NE);
}

void vmx_set_cr4(uint64_t val)
{
	vmcs_write(CR4_SHADOW, val);
	vmcs_write(GUEST_CR4, val | CR4_VMXE | CR4_HOST_OWNED | vmx_caps.cr4_fixed0);
}

/* ---- segments ---- */

static void seg_in(unsigned i, const struct cpu_state *cpu)
{
	const struct seg_state *s = &cpu->seg[i];
	uint32_t attr = s->attr & (AR_DEFINED | AR_UNUSABLE), limit = s->limit;
	bool v86 = cpu->rflags & RFLAGS_VM;
	/* Real mode, and protected mode before the first far jump: CPL is 0, whatever AMD has left there. */
	bool real = !v86 && (!(cpu->cr0 & CR0_PE) || !(cpu->seg[SEG_CS].attr & AR_CODE));
	if (v86 && i <= SEG_GS)
		attr = AR_V86, limit = 0xffff;
	else if (real && (i == SEG_CS || i == SEG_SS))
		attr &= ~(uint32_t)AR_DPL;
	if (i == SEG_TR)
		attr |= (uint32_t)AR_BUSY;
	else if (!(attr & AR_P))
		attr |= AR_UNUSABLE;
	else if (i != SEG_LDTR)
		attr |= (uint32_t)AR_ACCESSED; /* a loaded segment is */
	/* Limit and granularity must agree. AMD keeps the limit in bytes, and G as the descriptor had it. */
	if (attr & AR_UNUSABLE)
		; /* nothing of it is looked at */
	else if (limit >> 20)
		attr |= AR_G, limit |= 0xfff;
	else if ((attr & AR_G) && (limit & 0xfff) != 0xfff)
		attr &= ~(uint32_t)AR_G;
	vmcs_write(GUEST_ES_SEL + 2 * i, s->selector & 0xffff);
	vmcs_write(GUEST_ES_BASE + 2 * i, s->base);
	vmcs_write(GUEST_ES_LIMIT + 2 * i, limit);
	vmcs_write(GUEST_ES_ATTR + 2 * i, attr);
}

static struct seg_state seg_out(unsigned i)
{
	uint32_t attr = (uint32_t)vmcs_read(GUEST_ES_ATTR + 2 * i) & (AR_DEFINED | AR_UNUSABLE);
	if (attr & AR_UNUSABLE)
		attr &= ~(uint32_t)AR_P;
	return (struct seg_state){ vmcs_read(GUEST_ES_BASE + 2 * i), (uint32_t)vmcs_read(GUEST_ES_LIMIT + 2 * i), attr,
				   vmcs_read(GUEST_ES_SEL + 2 * i) };
}

/* ---- the whole ---- */

/* Registers that move one to one: cpu_state's name, VMCS field. */
/* clang-format off */
#define VMX_PLAIN_FIELDS(X)                                                                                            \
	X(cr3, GUEST_CR3) X(dr7, GUEST_DR7) X(efer, GUEST_EFER) X(pat, GUEST_PAT) X(gdt_base, GUEST_GDTR_BASE)         \
	X(idt_base, GUEST_IDTR_BASE) X(gdt_limit, GUEST_GDTR_LIMIT) X(idt_limit, GUEST_IDTR_LIMIT)                     \
	X(sysenter_cs, GUEST_SYSENTER_CS) X(sysenter_esp, GUEST_SYSENTER_ESP) X(sysenter_eip, GUEST_SYSENTER_EIP)
/* ... and those that lie in struct vmx_vcpu while it is not loaded. */
#define VMX_SOFT_FIELDS(X)                                                                                             \
	X(cr2) X(dr6) X(xcr0) X(star) X(lstar) X(cstar) X(sfmask) X(kernel_gs_base) X(tsc_aux) X(event)
/* clang-format on */

void vmx_get_state(struct hv_vcpu *hv, struct cpu_state *s)
{
	struct vmx_vcpu *v = vmx_of(hv);
	uint64_t shadow = vmcs_read(GUEST_INTERRUPTIBILITY);
	memset(s, 0, sizeof(*s)); /* what is not set below is sent as zeros */
	memcpy(s->gpr, hv->gpr, sizeof(s->gpr));
	s->rip = hv->rip;
	s->rflags = hv->rflags;
	s->cr8 = hv->cr8;
	s->event_next = hv->event_next;
	s->cr0 = vmx_cr0();
	s->cr4 = vmx_cr4();
#define X(f, field) s->f = (typeof(s->f))vmcs_read(field);
	VMX_PLAIN_FIELDS(X)
#undef X
#define X(f) s->f = v->f;
	VMX_SOFT_FIELDS(X)
#undef X
	s->dr0 = v->dr[0], s->dr1 = v->dr[1], s->dr2 = v->dr[2], s->dr3 = v->dr[3];
	for (unsigned i = 0; i < SEG_COUNT; i++)
		s->seg[i] = seg_out(i);
	s->int_shadow = shadow & INTERRUPTIBILITY_SHADOW;
	s->nmi_blocked = shadow & INTERRUPTIBILITY_NMI ? 1 : 0;
	s->pending_debug = vmcs_read(GUEST_PENDING_DEBUG) & PENDING_DEBUG_MASK;
	s->xsave_size = fpu_used_size(v->xsave);
	memcpy(s->xsave, v->xsave, s->xsave_size);
}

static int check(const struct cpu_state *s, struct why *w)
{
	if (s->cr4 & ~vmx_cr4_allowed())
		return why_set(w, -EINVAL, "CR4 %lx has bits that this CPU's guests do not get", s->cr4);
	if ((s->cr0 & CR0_PG) && (s->cr4 & CR4_PAE) && !(s->efer & EFER_LMA))
		return why_set(w, -EINVAL, "the guest pages in 32-bit PAE mode, whose PDPTEs tern does not carry");
	return hv_check_state(s, w);
}

/* A single step that waits behind a shadow must be there exactly if TF is set (27.3.1.5). */
static uint64_t pending_debug(const struct cpu_state *s)
{
	uint64_t p = s->pending_debug & PENDING_DEBUG_MASK;
	if (!s->int_shadow)
		return p;
	return s->rflags & RFLAGS_TF ? p | PENDING_DEBUG_BS : p & ~PENDING_DEBUG_BS;
}

int vmx_set_state(struct hv_vcpu *hv, const struct cpu_state *s, struct why *w)
{
	struct vmx_vcpu *v = vmx_of(hv);
	int err = check(s, w);
	if (err)
		return err;
	memcpy(hv->gpr, s->gpr, sizeof(s->gpr));
	hv->rip = s->rip;
	hv->rflags = s->rflags;
	hv->cr8 = s->cr8;
	hv->event_next = s->event_next;
	vmx_set_cr0(s->cr0);
	vmx_set_cr4(s->cr4);
#define X(f, field) vmcs_write(field, s->f);
	VMX_PLAIN_FIELDS(X)
#undef X
#define X(f) v->f = s->f;
	VMX_SOFT_FIELDS(X)
#undef X
	v->dr[0] = s->dr0, v->dr[1] = s->dr1, v->dr[2] = s->dr2, v->dr[3] = s->dr3;
	for (unsigned i = 0; i < SEG_COUNT; i++)
		seg_in(i, s);
	vmcs_write(ENTRY_CONTROLS, s->efer & EFER_LMA ? vmx_caps.entry | ENTRYC_IA32E : vmx_caps.entry & ~ENTRYC_IA32E);
	/* An NMI that is injected blocks the next one by itself, and entry wants nothing else to (27.3.1.5). */
	bool nmi = hv_is_nmi(s->event) || hv_is_nmi(s->event_next);
	vmcs_write(GUEST_INTERRUPTIBILITY, s->int_shadow | (s->nmi_blocked && !nmi ? INTERRUPTIBILITY_NMI : 0));
	vmcs_write(GUEST_PENDING_DEBUG, pending_debug(s));
	hv_xsave_in(v->xsave, s);
	v->flush = true;
	return 0;
}

void vmx_get_mode(struct hv_vcpu *hv unused, struct hv_mode *m)
{
	uint64_t cs = vmcs_read(GUEST_ES_ATTR + 2 * SEG_CS), efer = vmcs_read(GUEST_EFER);
	*m = (struct hv_mode){
		.cr0 = vmx_cr0(),
		.cr3 = vmcs_read(GUEST_CR3),
		.cr4 = vmx_cr4(),
		.efer = efer,
		.cs_base = vmcs_read(GUEST_ES_BASE + 2 * SEG_CS),
		.cpl = (uint8_t)segment_dpl(vmcs_read(GUEST_ES_ATTR + 2 * SEG_SS)),
		.long_mode = (efer & EFER_LMA) && (cs & AR_L),
		.cs32 = cs & AR_DB,
	};
}

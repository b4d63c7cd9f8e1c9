/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The rules for a guest's registers (cpu_check.h), in the order of the SDM's checks at VM entry (3C 27.3.1). A CPU
 * enforces most of them on the guest itself, so that only a peer's error or malice, or a CPU that was told less than it
 * has, breaks one.
 */
#include "vmm/x86/cpu_check.h"
#include "arch/x86/cpu.h"
#include "arch/x86/fpu.h"
#include "arch/x86/hw/xsave.h"

#define REFUSE(w, ...) return why_set(w, -EINVAL, __VA_ARGS__)

/* ---- bits that come with a feature ---- */

struct gated_bits {
	uint64_t bits;
	uint32_t leaf;
	uint8_t reg, at; /* enum feature_reg, bit; subleaf 0 */
};

static const struct gated_bits cr4_bits[] = {
	{ CR4_UMIP, 7, FEATURE_ECX, 2 },     { CR4_FSGSBASE, 7, FEATURE_EBX, 0 }, { CR4_PCIDE, 1, FEATURE_ECX, 17 },
	{ CR4_OSXSAVE, 1, FEATURE_ECX, 26 }, { CR4_SMEP, 7, FEATURE_EBX, 7 },     { CR4_SMAP, 7, FEATURE_EBX, 20 },
	{ CR4_PKE, 7, FEATURE_ECX, 3 },
};

static const struct gated_bits efer_bits[] = {
	{ EFER_SCE, 0x80000001, FEATURE_EDX, 11 },
	{ EFER_NXE, 0x80000001, FEATURE_EDX, 20 },
	{ EFER_LME | EFER_LMA, 0x80000001, FEATURE_EDX, 29 },
};

/* The bits of val that the guest does not get: SVME, VMXE, LA57, CET and the like are in no table. */
static uint64_t not_given(uint64_t val, const struct cpuid_table *t, const struct gated_bits *g, unsigned n)
{
	for (unsigned i = 0; i < n; i++)
		if (cpuid_table_row(t, g[i].leaf, 0)[g[i].reg] >> g[i].at & 1)
			val &= ~g[i].bits;
	return val;
}
static uint64_t efer_not_given(uint64_t val, const struct cpuid_table *t)
{
	return not_given(val, t, efer_bits, ARRAY_SIZE(efer_bits));
}

bool cpu_xcr0_valid(const struct cpuid_table *t, uint64_t xcr0)
{
	return fpu_xcr0_is_valid(xcr0, cpuid_table_xcr0(t) | XCR0_X87);
}

/* Each byte a memory type: 0, 1, 4..7 (SDM 3A 12.12.2). */
static bool pat_is_valid(uint64_t val)
{
	for (unsigned i = 0; i < 64; i += 8)
		if ((val >> i & 0xff) > 7 || (val >> i & 0xfe) == 2)
			return false;
	return true;
}

bool cpu_msr_valid(const struct cpuid_table *t, uint32_t msr, uint64_t val)
{
	switch (msr) {
	case MSR_EFER: return !efer_not_given(val, t);
	case MSR_PAT: return pat_is_valid(val);
	case MSR_SYSENTER_ESP:
	case MSR_SYSENTER_EIP:
	case MSR_FS_BASE:
	case MSR_GS_BASE:
	case MSR_KERNEL_GS_BASE:
	case MSR_LSTAR: /* CPUs with LA57 let a guest write other ones; a WRMSR of them would fault on the rest */
	case MSR_CSTAR: return is_canonical(val);
	case MSR_SFMASK:
	case MSR_TSC_AUX: return !(val >> 32);
	default: return true;
	}
}

/* ---- control and debug registers, MSRs (SDM 3C 27.3.1.1) ---- */

static int check_cr0(const struct cpu_state *s, struct why *w)
{
	if (s->cr0 & ~CR0_DEFINED)
		REFUSE(w, "CR0 %lx: bit %u is reserved", s->cr0, __builtin_ctzll(s->cr0 & ~CR0_DEFINED));
	if (!cr0_is_valid(s->cr0))
		REFUSE(w, "CR0 %lx has PG without PE, or NW without CD", s->cr0);
	return 0;
}

static int check_cr3(const struct cpu_state *s, const struct cpuid_table *t, struct why *w)
{
	unsigned told = cpuid_table_row(t, 0x80000008, 0)[0] & 0xff, width = MIN(MAX(told, 32U), 52U);
	if (s->cr3 >> width) /* bit 63 of a MOV to CR3 is not kept, with PCIDE either */
		REFUSE(w, "CR3 %lx: bit %u is beyond the guest's %u bits of physical address", s->cr3,
		       63 - (unsigned)__builtin_clzll(s->cr3), width);
	return 0;
}

static int check_cr4(const struct cpu_state *s, const struct cpuid_table *t, struct why *w)
{
	uint64_t bad = not_given(s->cr4 & ~CR4_ALWAYS, t, cr4_bits, ARRAY_SIZE(cr4_bits));
	bool lma = s->efer & EFER_LMA;
	if (bad)
		REFUSE(w, "CR4 %lx: bit %u is not one that the guest's CPUID gives it", s->cr4, __builtin_ctzll(bad));
	if (lma && !(s->cr4 & CR4_PAE))
		REFUSE(w, "CR4 %lx: long mode without PAE (bit 5)", s->cr4);
	if (!lma && (s->cr4 & CR4_PCIDE))
		REFUSE(w, "CR4 %lx: PCIDE (bit 17) outside long mode", s->cr4);
	return 0;
}

static int check_efer(const struct cpu_state *s, const struct cpuid_table *t, struct why *w)
{
	uint64_t bad = efer_not_given(s->efer, t);
	if (bad)
		REFUSE(w, "EFER %lx: bit %u is not one that the guest's CPUID gives it", s->efer, __builtin_ctzll(bad));
	if (!!(s->efer & EFER_LMA) != ((s->efer & EFER_LME) && (s->cr0 & CR0_PG)))
		REFUSE(w, "EFER %lx: LMA (bit 10) does not follow from LME (bit 8) and CR0.PG", s->efer);
	return 0;
}

static int check_debug(const struct cpu_state *s, struct why *w)
{
	if (s->dr6 >> 32)
		REFUSE(w, "DR6 %lx has bits above 31", s->dr6);
	if (s->dr7 >> 32)
		REFUSE(w, "DR7 %lx has bits above 31", s->dr7);
	return 0;
}

static int check_msrs(const struct cpu_state *s, const struct cpuid_table *t, struct why *w)
{
	const struct {
		uint32_t msr;
		const char *name;
		uint64_t val;
		/* clang-format off */
	} msrs[] = {
		{ MSR_PAT, "PAT", s->pat },
		{ MSR_SYSENTER_ESP, "SYSENTER_ESP", s->sysenter_esp },
		{ MSR_SYSENTER_EIP, "SYSENTER_EIP", s->sysenter_eip },
		{ MSR_LSTAR, "LSTAR", s->lstar },
		{ MSR_CSTAR, "CSTAR", s->cstar },
		{ MSR_SFMASK, "SFMASK", s->sfmask },
		{ MSR_FS_BASE, "FS_BASE", s->seg[SEG_FS].base },
		{ MSR_GS_BASE, "GS_BASE", s->seg[SEG_GS].base },
		{ MSR_KERNEL_GS_BASE, "KERNEL_GS_BASE", s->kernel_gs_base },
		{ MSR_TSC_AUX, "TSC_AUX", s->tsc_aux },
	};
	/* clang-format on */
	for (unsigned i = 0; i < ARRAY_SIZE(msrs); i++)
		if (!cpu_msr_valid(t, msrs[i].msr, msrs[i].val))
			REFUSE(w, "%s cannot be %lx", msrs[i].name, msrs[i].val);
	if (s->sysenter_cs >> 32)
		REFUSE(w, "SYSENTER_CS %lx has bits above 31", s->sysenter_cs);
	if (s->xss)
		REFUSE(w, "XSS %lx: guests have no supervisor state", s->xss);
	return 0;
}

/* The XSAVE area: XRSTOR faults on components that are not there (SDM 1 13.8). */
static int check_extended(const struct cpu_state *s, const struct cpuid_table *t, struct why *w)
{
	uint64_t lacks = get_le64(s->xsave + XSTATE_BV) & ~cpuid_table_xcr0(t);
	if (!cpu_xcr0_valid(t, s->xcr0))
		REFUSE(w, "XCR0 cannot be %lx: the guest's CPUID has components %lx", s->xcr0, cpuid_table_xcr0(t));
	if (lacks)
		REFUSE(w, "XSTATE_BV: component %u of the saved state is not in the guest's CPUID",
		       __builtin_ctzll(lacks));
	return 0;
}

/* ---- segments (SDM 3C 27.3.1.2) and descriptor tables (27.3.1.3) ---- */

/* What is wrong with it, or NULL. */
static const char *segment_fault(const struct cpu_state *s, unsigned i)
{
	const struct seg_state *g = &s->seg[i];
	bool lma = s->efer & EFER_LMA, usable = !(g->attr & AR_UNUSABLE) && (g->attr & AR_P);
	uint32_t type = g->attr & 15, data = type & ~(uint32_t)AR_ACCESSED; /* a loaded one is accessed */
	if (g->selector >> 16 || (g->attr & ~(AR_DEFINED | AR_UNUSABLE)))
		return "has reserved bits";
	if (!usable)
		return i == SEG_CS || i == SEG_TR ? "is not usable" : NULL;
	if (!(g->attr & AR_S) != (i >= SEG_LDTR))
		return "is of the wrong kind (S)";
	switch (i) {
	case SEG_CS: /* real mode runs from what was a data segment */
		if (!(type & AR_CODE) && (lma || data != AR_WRITABLE))
			return "is no code segment";
		if (lma && (g->attr & AR_L) && (g->attr & AR_DB))
			return "has both L and D";
		break;
	case SEG_SS:
		if ((data & ~AR_DOWN) != AR_WRITABLE)
			return "is no writable data segment";
		break;
	case SEG_LDTR:
		if (type != TYPE_LDT)
			return "is no LDT";
		break;
	case SEG_TR: /* AMD does not tell whether it is busy */
		type |= AR_BUSY;
		if (type != TYPE_TSS_BUSY && (type != TYPE_TSS16_BUSY || lma))
			return "is no TSS";
		break;
	default:
		if ((type & AR_CODE) && !(type & AR_WRITABLE))
			return "is not readable";
	}
	if (i >= SEG_LDTR && (g->selector & SELECTOR_TI))
		return "comes from the LDT";
	if (i <= SEG_DS ? g->base >> 32 : !is_canonical(g->base))
		return "has a base that is not an address";
	return NULL;
}

static const char *const seg_name[SEG_COUNT] = SEG_NAMES;

static int check_segments(const struct cpu_state *s, struct why *w)
{
	for (unsigned i = 0; i < SEG_COUNT; i++) {
		const char *what = segment_fault(s, i);
		if (what)
			REFUSE(w, "%s (selector %lx, attributes %x, base %lx) %s", seg_name[i], s->seg[i].selector,
			       s->seg[i].attr, s->seg[i].base, what);
	}
	if (!is_canonical(s->gdt_base) || s->gdt_limit >> 16)
		REFUSE(w, "GDTR cannot be %lx with limit %x", s->gdt_base, s->gdt_limit);
	if (!is_canonical(s->idt_base) || s->idt_limit >> 16)
		REFUSE(w, "IDTR cannot be %lx with limit %x", s->idt_base, s->idt_limit);
	return 0;
}

/* ---- RIP, RFLAGS (SDM 3C 27.3.1.4) and what is on its way (27.3.1.5, 27.2.1.3) ---- */

static int check_rip(const struct cpu_state *s, struct why *w)
{
	bool lma = s->efer & EFER_LMA, code64 = lma && (s->seg[SEG_CS].attr & AR_L);
	if (code64 ? !rip_is_valid(s->rip) : s->rip >> 32)
		REFUSE(w, "RIP %lx does not fit the mode", s->rip);
	if (!(s->rflags & RFLAGS_ALWAYS) || (s->rflags & ~RFLAGS_DEFINED))
		REFUSE(w, "RFLAGS %lx: bit 1 is clear, or a reserved one is set", s->rflags);
	if ((s->rflags & RFLAGS_VM) && (lma || !(s->cr0 & CR0_PE)))
		REFUSE(w, "RFLAGS %lx: VM (bit 17) outside protected mode", s->rflags);
	return 0;
}

/* What CS, SS and the mode say together (27.3.1.2): SS's DPL is CPL. */
static int check_level(const struct cpu_state *s, struct why *w)
{
	uint32_t cs = s->seg[SEG_CS].attr, cpl = segment_dpl(s->seg[SEG_SS].attr);
	if (s->rflags & RFLAGS_VM) {
		for (unsigned i = 0; i < SEG_LDTR; i++)
			if (s->seg[i].base != s->seg[i].selector << 4)
				REFUSE(w, "%s (selector %lx, base %lx) is none of virtual-8086 mode", seg_name[i],
				       s->seg[i].selector, s->seg[i].base);
	} else if ((s->cr0 & CR0_PE) && (cs & AR_CODE) &&
		   (cs & AR_DOWN ? segment_dpl(cs) > cpl : segment_dpl(cs) != cpl)) {
		REFUSE(w, "CS (attributes %x) cannot run at level %u, which is SS's", cs, cpl);
	}
	return 0;
}

#define EVENT_ERROR BIT(11)
#define EVENT_VALID BIT(31)
/* Vectors of exceptions that guests have, and those with an error code (SDM 3A table 6-1). */
#define EXCEPTIONS                                                                                             \
	(BIT(VEC_DE) | BIT(VEC_DB) | BIT(VEC_BP) | BIT(4) | BIT(5) | BIT(VEC_UD) | BIT(VEC_NM) | BIT(VEC_DF) | \
	 EXCEPTIONS_ERR | BIT(VEC_MF) | BIT(VEC_MC) | BIT(VEC_XM))
#define EXCEPTIONS_ERR (BIT(VEC_DF) | BIT(VEC_TS) | BIT(VEC_NP) | BIT(VEC_SS) | BIT(VEC_GP) | BIT(VEC_PF) | BIT(VEC_AC))

static bool event_is_valid(const struct cpu_state *s, uint64_t e)
{
	bool err = e & EVENT_ERROR;
	if (!(e & EVENT_VALID) || (e & 0x7ffff000) || (err && e >> 48))
		return false;
	switch (hv_event_type(e)) {
	case HV_EVENT_INTR: return !err;
	case HV_EVENT_NMI: return !err && hv_event_vector(e) == VEC_NMI;
	case HV_EVENT_EXC: /* real mode has no error codes, whatever the event says (vmx_entry_event) */
		if (hv_event_vector(e) > 31 || !(BIT(hv_event_vector(e)) & EXCEPTIONS))
			return false;
		return !(s->cr0 & CR0_PE) || err == !!(BIT(hv_event_vector(e)) & EXCEPTIONS_ERR);
	default: return false;
	}
}

/* An interrupt where none may come, an NMI behind MOV SS. */
static bool event_is_blocked(const struct cpu_state *s)
{
	switch (hv_event_type(s->event)) {
	case HV_EVENT_INTR: return s->int_shadow || !(s->rflags & RFLAGS_IF);
	case HV_EVENT_NMI: return s->int_shadow;
	default: return false;
	}
}

static int check_events(const struct cpu_state *s, struct why *w)
{
	if (s->event && !event_is_valid(s, s->event))
		REFUSE(w, "pending event %lx is none", s->event);
	if (s->event && event_is_blocked(s))
		REFUSE(w, "pending event %lx cannot be delivered: RFLAGS %lx, interrupt shadow %x", s->event, s->rflags,
		       s->int_shadow);
	if (!s->event_next)
		return 0;
	if (!event_is_valid(s, s->event_next))
		REFUSE(w, "waiting event %lx is none", s->event_next);
	/* What waits is an interrupt, and what it waits behind is an exception or that one's handler. */
	if (hv_event_type(s->event_next) == HV_EVENT_EXC || (s->event && hv_event_type(s->event) != HV_EVENT_EXC))
		REFUSE(w, "event %lx cannot wait behind %lx", s->event_next, s->event);
	return 0;
}

static int check_activity(const struct cpu_state *s, struct why *w)
{
	if (s->int_shadow > HV_SHADOW_MOV_SS || (s->int_shadow == HV_SHADOW_STI && !(s->rflags & RFLAGS_IF)))
		REFUSE(w, "interrupt shadow %x is none, or of STI with RFLAGS.IF (bit 9) clear", s->int_shadow);
	if (s->nmi_blocked > 1 || s->nmi_pending > 1 || s->halted > 1)
		REFUSE(w, "NMI blocking %x, pending NMI %lx or HLT %x is neither 0 nor 1", s->nmi_blocked,
		       s->nmi_pending, s->halted);
	if (s->cr8 > 15)
		REFUSE(w, "CR8 %lx has bits above 3", s->cr8);
	return 0;
}

int cpu_state_check(const struct cpu_state *s, const struct cpuid_table *t, struct why *w)
{
	int err;
	if ((err = check_cr0(s, w)) || (err = check_efer(s, t, w)) || (err = check_cr3(s, t, w)) ||
	    (err = check_cr4(s, t, w)) || (err = check_debug(s, w)) || (err = check_msrs(s, t, w)) ||
	    (err = check_extended(s, t, w)) || (err = check_segments(s, w)) || (err = check_rip(s, w)) ||
	    (err = check_level(s, w)) || (err = check_events(s, w)))
		return err;
	return check_activity(s, w);
}

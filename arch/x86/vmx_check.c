/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Why a VM entry was refused: the checks of SDM 3C 27.3.1 on the guest state, made again in software so that the
 * operator reads the rule's name and not "invalid state". Called only after a refusal, with the VMCS current.
 */
#include "arch/x86/cpu.h"
#include "arch/x86/vmx_vcpu.h"
#include <stdio.h>

static uint64_t r(enum vmcs_field f) { return vmcs_read(f); }
static bool ia32e(void) { return r(ENTRY_CONTROLS) & ENTRYC_IA32E; }

/* 27.3.1.1 */
static const char *check_control_registers(void)
{
	uint64_t cr0 = r(GUEST_CR0), cr4 = r(GUEST_CR4), efer = r(GUEST_EFER);
	if ((cr0 | CR0_PE | CR0_PG) != ((cr0 | CR0_PE | CR0_PG | vmx_caps.cr0_fixed0) & vmx_caps.cr0_fixed1))
		return "CR0 has a bit that VMX fixes (27.3.1.1)";
	if ((cr0 & CR0_PG) && !(cr0 & CR0_PE))
		return "CR0.PG without CR0.PE (27.3.1.1)";
	if (cr4 != ((cr4 | vmx_caps.cr4_fixed0) & vmx_caps.cr4_fixed1))
		return "CR4 has a bit that VMX fixes (27.3.1.1)";
	if (ia32e() && (!(cr0 & CR0_PG) || !(cr4 & CR4_PAE)))
		return "long mode without paging or PAE (27.3.1.1)";
	if (!ia32e() && (cr4 & CR4_PCIDE))
		return "CR4.PCIDE outside long mode (27.3.1.1)";
	if (!!(efer & EFER_LMA) != ia32e() || ((cr0 & CR0_PG) && !!(efer & EFER_LMA) != !!(efer & EFER_LME)))
		return "EFER.LMA does not fit the mode (27.3.1.1)";
	if (r(GUEST_CR3) >> (cpuid(0x80000008, 0).eax & 0xff))
		return "CR3 beyond the physical address width (27.3.1.1)";
	if (r(GUEST_DR7) >> 32)
		return "DR7 has bits above 31 (27.3.1.1)";
	if (!is_canonical(r(GUEST_SYSENTER_ESP)) || !is_canonical(r(GUEST_SYSENTER_EIP)))
		return "SYSENTER_ESP or _EIP is not canonical (27.3.1.1)";
	return NULL;
}

/* 27.3.1.2 */
static const char *check_segments(void)
{
	static const char *const name[SEG_COUNT] = SEG_NAMES;
	static char text[64];
	for (unsigned i = 0; i < SEG_COUNT; i++) {
		uint32_t attr = (uint32_t)r(GUEST_ES_ATTR + 2 * i), limit = (uint32_t)r(GUEST_ES_LIMIT + 2 * i),
			 type = attr & AR_TYPE;
		const char *what = NULL;
		if ((i == SEG_TR || i == SEG_CS) && (attr & AR_UNUSABLE))
			what = "is unusable";
		if ((attr & AR_UNUSABLE) && !what)
			continue;
		if (!what && !(attr & AR_P))
			what = "is not present";
		else if (!what && !(attr & AR_S) != (i >= SEG_LDTR))
			what = "is of the wrong kind (S)";
		else if (!what && i < SEG_LDTR && !(type & AR_ACCESSED))
			what = "is not marked accessed";
		else if (!what && i == SEG_TR && type != TYPE_TSS_BUSY && (type != TYPE_TSS16_BUSY || ia32e()))
			what = "is no busy TSS";
		else if (!what && ((attr & AR_G && (limit & 0xfff) != 0xfff) || (!(attr & AR_G) && limit >> 20)))
			what = "has a limit that does not fit G";
		else if (!what && i == SEG_CS && ia32e() && (attr & AR_L) && (attr & AR_DB))
			what = "has both L and D";
		else if (!what && !is_canonical(r(GUEST_ES_BASE + 2 * i)))
			what = "has a base that is not canonical";
		if (what) {
			snprintf(text, sizeof(text), "%s %s (27.3.1.2)", name[i], what);
			return text;
		}
	}
	return NULL;
}

/* 27.3.1.2 again: what CS, SS and the mode say together. Segments of virtual-8086 mode are all of one kind. */
static const char *check_level(void)
{
	uint64_t cs = r(GUEST_ES_ATTR + 2 * SEG_CS), cpl = segment_dpl(r(GUEST_ES_ATTR + 2 * SEG_SS)),
		 dpl = segment_dpl(cs);
	bool real = (cs & AR_TYPE) == (AR_WRITABLE | AR_ACCESSED); /* what real mode runs from */
	if (r(GUEST_RFLAGS) & RFLAGS_VM) {
		for (unsigned i = SEG_ES; i <= SEG_GS; i++)
			if (r(GUEST_ES_BASE + 2 * i) != r(GUEST_ES_SEL + 2 * i) << 4 ||
			    r(GUEST_ES_LIMIT + 2 * i) != 0xffff || r(GUEST_ES_ATTR + 2 * i) != AR_V86)
				return "a segment that is not virtual-8086 mode's (27.3.1.2)";
		return NULL;
	}
	if (cpl && (!(r(GUEST_CR0) & CR0_PE) || real))
		return "SS has a level in real mode (27.3.1.2)";
	if (real ? dpl : (cs & AR_DOWN) ? dpl > cpl : dpl != cpl)
		return "CS does not go with the level of SS (27.3.1.2)";
	return NULL;
}

/* 27.3.1.4 and 27.3.1.5 */
static const char *check_rest(void)
{
	uint64_t rflags = r(GUEST_RFLAGS), shadow = r(GUEST_INTERRUPTIBILITY), event = r(ENTRY_INTR_INFO);
	bool bs = r(GUEST_PENDING_DEBUG) & PENDING_DEBUG_BS;
	if (ia32e() && (r(GUEST_ES_ATTR + 2 * SEG_CS) & AR_L) ? !rip_is_valid(r(GUEST_RIP)) : r(GUEST_RIP) >> 32)
		return "RIP does not fit the mode (27.3.1.4)";
	if (!(rflags & RFLAGS_ALWAYS) || rflags & ~RFLAGS_DEFINED)
		return "RFLAGS has reserved bits (27.3.1.4)";
	if (r(GUEST_ACTIVITY))
		return "the activity state is not active (27.3.1.5)";
	if ((shadow & HV_SHADOW_STI) && !(rflags & RFLAGS_IF))
		return "blocking by STI with RFLAGS.IF clear (27.3.1.5)";
	if ((shadow & 3) == 3)
		return "blocking by STI and by MOV SS (27.3.1.5)";
	if ((event & VMX_EVENT_VALID) && hv_event_type(event) == HV_EVENT_INTR &&
	    ((shadow & 3) || !(rflags & RFLAGS_IF)))
		return "an interrupt where none may come (27.3.1.5)";
	if ((shadow & 3) && bs != !!(rflags & RFLAGS_TF))
		return "a pending single step that does not fit RFLAGS.TF (27.3.1.5)";
	return NULL;
}

void vmx_explain_refusal(char *why, size_t n)
{
	const char *what = check_control_registers();
	if (!what)
		what = check_segments();
	if (!what)
		what = check_level();
	if (!what)
		what = check_rest();
	snprintf(why, n, "%s; cr0 %lx cr4 %lx", what ? what : "a check of SDM 3C 27.3", r(GUEST_CR0), r(GUEST_CR4));
}

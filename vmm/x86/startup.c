/* SPDX-License-Identifier: BSD-2-Clause */
#include "vmm/x86/startup.h"
#include "arch/x86/cpu.h"
#include "arch/x86/hw/xsave.h"
#include <string.h>

#define AR_DATA16 ((uint32_t)(AR_P | AR_S | AR_WRITABLE | AR_ACCESSED)) /* CS too, in real mode */

/* What power-on and INIT have in common; CR0.CD and NW are the caller's. */
static void begin(struct cpu_state *s)
{
	memset(s->gpr, 0, sizeof(s->gpr));
	s->rip = RESET_IP;
	s->rflags = RFLAGS_ALWAYS;
	s->cr0 = CR0_ET;
	s->cr2 = s->cr3 = s->cr4 = s->cr8 = s->efer = 0;
	s->dr0 = s->dr1 = s->dr2 = s->dr3 = 0;
	s->dr6 = DR6_RESET;
	s->dr7 = DR7_RESET;
	for (unsigned i = 0; i < SEG_LDTR; i++)
		s->seg[i] = (struct seg_state){ 0, LIMIT16, AR_DATA16, 0 };
	s->seg[SEG_CS].base = RESET_BASE;
	s->seg[SEG_CS].selector = RESET_CS;
	s->seg[SEG_LDTR] = (struct seg_state){ 0, LIMIT16, (uint32_t)AR_P | TYPE_LDT, 0 };
	s->seg[SEG_TR] = (struct seg_state){ 0, LIMIT16, AR_TSS, 0 };
	s->gdt_base = s->idt_base = 0;
	s->gdt_limit = s->idt_limit = LIMIT16;
	s->event = s->event_next = s->pending_debug = s->nmi_pending = 0;
	s->int_shadow = s->nmi_blocked = s->halted = 0;
}

void startup_power_on(struct cpu_state *s)
{
	memset(s, 0, sizeof(*s));
	begin(s);
	s->cr0 |= CR0_CD | CR0_NW;
	s->xcr0 = XCR0_X87;
	s->pat = PAT_POWER_ON;
	s->xsave_size = XSAVE_HEADER_END; /* all there is to save */
	put_le16(s->xsave, FCW_FNINIT);
	put_le32(s->xsave + FXSAVE_MXCSR, MXCSR_RESET);
}

void startup_init(struct cpu_state *s, uint32_t signature)
{
	uint64_t kept = s->cr0 & (CR0_CD | CR0_NW);
	begin(s);
	s->cr0 |= kept;
	s->gpr[REG_RDX] = signature;
}

void startup_sipi(struct cpu_state *s, uint8_t vector)
{
	s->seg[SEG_CS].selector = (uint64_t)vector << 8;
	s->seg[SEG_CS].base = (uint64_t)vector << 12;
	s->rip = 0;
}

/* SPDX-License-Identifier: BSD-2-Clause */
/* Random states of a CPU for the tests of their conversion. One user a program. */
#pragma once
#include "arch/x86/cpu.h"
#include "arch/x86/hv.h"
#include "tests/unit/fake_fpu.h"
#include <string.h>

static uint64_t seed = 88172645463325252ULL;
static uint64_t rnd(void)
{
	seed ^= seed << 13, seed ^= seed >> 7, seed ^= seed << 17;
	return seed;
}

static struct seg_state random_seg(unsigned i)
{
	struct seg_state s = { .base = rnd(), .limit = (uint32_t)rnd(), .selector = rnd() & 0xffff };
	s.attr = (uint32_t)rnd() & 0xf0ff;
	if (!(s.attr & 0x80))
		s.attr |= AR_UNUSABLE;
	if (i == SEG_TR)
		s.attr |= 2; /* busy */
	return s;
}

static void random_state(struct cpu_state *s)
{
	static const uint64_t xcr0[] = { 1, 3, 7, 0x201, 0x203, 0x207 };
	memset(s, 0, sizeof(*s));
	for (unsigned i = 0; i < REG_COUNT; i++)
		s->gpr[i] = rnd();
	s->rip = rnd(), s->rflags = rnd();
	s->cr0 = (uint32_t)rnd(), s->cr2 = rnd(), s->cr3 = rnd(), s->cr4 = rnd();
	s->cr8 = rnd() & 15, s->nmi_blocked = rnd() & 1;
	s->efer = rnd() & (EFER_SCE | EFER_LME | EFER_LMA | EFER_NXE);
	s->xcr0 = xcr0[rnd() % ARRAY_SIZE(xcr0)];
	s->dr0 = rnd(), s->dr1 = rnd(), s->dr2 = rnd(), s->dr3 = rnd(), s->dr6 = (uint32_t)rnd(),
	s->dr7 = (uint32_t)rnd();
	for (unsigned i = 0; i < SEG_COUNT; i++)
		s->seg[i] = random_seg(i);
	s->gdt_base = rnd(), s->idt_base = rnd(), s->gdt_limit = rnd() & 0xffff, s->idt_limit = rnd() & 0xffff;
	s->star = rnd(), s->sfmask = (uint32_t)rnd();
	s->lstar = (uint64_t)((int64_t)rnd() >> 17), s->cstar = (uint64_t)((int64_t)rnd() >> 17);
	s->kernel_gs_base = (uint64_t)((int64_t)rnd() >> 17);
	s->sysenter_cs = (uint32_t)rnd();
	s->sysenter_esp = (uint64_t)((int64_t)rnd() >> 17), s->sysenter_eip = (uint64_t)((int64_t)rnd() >> 17);
	s->pat = rnd(), s->tsc_aux = (uint32_t)rnd();
	s->event = rnd() & 1 ? HV_EVENT_ERR(VEC_PF, rnd()) : 0;
	s->event_next = rnd() & 1 ? HV_EVENT(HV_EVENT_INTR, rnd() & 0xff) : 0;
	s->int_shadow = rnd() & 1 ? 0 : s->rflags & RFLAGS_IF ? HV_SHADOW_STI : HV_SHADOW_MOV_SS;
	s->xsave_size = area;
	for (unsigned i = 0; i < area; i++)
		s->xsave[i] = (uint8_t)rnd();
	memset(s->xsave + 512, 0, 64);
	put_le32(s->xsave + 24, (uint32_t)rnd() & 0xffff);
	put_le64(s->xsave + 512, rnd() & xmask);
}

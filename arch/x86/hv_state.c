/* SPDX-License-Identifier: BSD-2-Clause */
/* What both vendors ask of a state that comes from outside, and do alike with events and EFER. */
#include "arch/x86/cpu.h"
#include "arch/x86/fpu.h"
#include "arch/x86/hw/xsave.h"
#include "arch/x86/hv_env.h"
#include <string.h>

int hv_check_state(const struct cpu_state *s, struct why *w)
{
	uint64_t xstate_bv = 0;
	uint32_t mxcsr = 0;
	memcpy(&xstate_bv, s->xsave + XSTATE_BV, sizeof(xstate_bv));
	memcpy(&mxcsr, s->xsave + FXSAVE_MXCSR, sizeof(mxcsr));
	if (s->xsave_size > XSAVE_AREA_MAX || s->xsave_size > fpu_area_size())
		return why_set(w, -EINVAL, "extended CPU state of %u bytes, this CPU holds %u", s->xsave_size,
			       fpu_area_size());
	if (fpu_xcr0_mask() && (!fpu_xcr0_valid(s->xcr0) || (xstate_bv & ~fpu_xcr0_mask())))
		return why_set(w, -EINVAL, "XCR0 %lx is not one that this CPU can have", s->xcr0);
	if (!fpu_mxcsr_valid(mxcsr)) /* XRSTOR would fault in the hypervisor */
		return why_set(w, -EINVAL, "MXCSR %x has bits that this CPU lacks", mxcsr);
	return 0;
}

void hv_xsave_in(uint8_t area[XSAVE_AREA_MAX], const struct cpu_state *s)
{
	memset(area, 0, XSAVE_AREA_MAX);
	memcpy(area, s->xsave, s->xsave_size);
	memset(area + XSTATE_BV + 8, 0, XSAVE_HEADER_END - XSTATE_BV - 8); /* standard format */
	/* Of a guest without XSAVE: XRSTOR is not to think that there is nothing in it. */
	if (s->xsave_size == FXSAVE_SIZE)
		put_le64(area + XSTATE_BV, XCR0_X87 | XCR0_SSE);
}

void hv_event_cut(struct hv_vcpu *hv, uint64_t cut)
{
	if (hv_event_type(cut) == HV_EVENT_EXC)
		return;
	BUG_ON(hv->event_next); /* while one waits no other is taken, and cpu_state_check refuses it from outside */
	hv->event_next = cut;
}

bool hv_event_takes(const struct hv_vcpu *hv, bool shadow)
{
	return !shadow && (hv_is_nmi(hv->event_next) || (hv->rflags & RFLAGS_IF));
}

bool hv_efer_valid(uint64_t val, uint64_t efer, uint64_t cr0)
{
	return !((val ^ efer) & EFER_LME &&
		 (cr0 & CR0_PG)); /* SDM 3A 2.2.1, APM2 14.6.1; of LMA a write says nothing */
}

/* SPDX-License-Identifier: BSD-2-Clause */
/* What both vendors ask of a state that comes from outside, and do alike with events and MSRs. */
#include "arch/x86/cpu.h"
#include "arch/x86/fpu.h"
#include "arch/x86/hv_env.h"
#include <string.h>

#define EFER_GUEST (EFER_SCE | EFER_LME | EFER_LMA | EFER_NXE) /* what guests get */

int hv_check_state(const struct cpu_state *s, struct why *w)
{
	uint64_t xstate_bv = 0;
	uint32_t mxcsr = 0;
	memcpy(&xstate_bv, s->xsave + 512, sizeof(xstate_bv));
	memcpy(&mxcsr, s->xsave + 24, sizeof(mxcsr));
	if (s->xsave_size > XSAVE_AREA_MAX || s->xsave_size > fpu_area_size())
		return why_set(w, -EINVAL, "extended CPU state of %u bytes, this CPU holds %u", s->xsave_size,
			       fpu_area_size());
	if (fpu_xcr0_mask() && (!fpu_xcr0_valid(s->xcr0) || (xstate_bv & ~fpu_xcr0_mask())))
		return why_set(w, -EINVAL, "XCR0 %llx is not one that this CPU can have", (unsigned long long)s->xcr0);
	if (!fpu_mxcsr_valid(mxcsr)) /* XRSTOR, WRMSR of TSC_AUX and the like would fault in the hypervisor */
		return why_set(w, -EINVAL, "MXCSR %x has bits that this CPU lacks", mxcsr);
	if (s->tsc_aux >> 32 || s->xss)
		return why_set(w, -EINVAL, "TSC_AUX %llx or XSS %llx is not one that guests can have",
			       (unsigned long long)s->tsc_aux, (unsigned long long)s->xss);
	if (s->efer & ~EFER_GUEST)
		return why_set(w, -EINVAL, "EFER %llx has bits that guests do not get", (unsigned long long)s->efer);
	if ((s->cr0 | s->dr6 | s->dr7) >> 32 || s->cr8 > 15)
		return why_set(w, -EINVAL, "CR0, DR6 or DR7 has bits above 31, or CR8 above 3");
	if (s->sysenter_cs >> 32 || !is_canonical(s->sysenter_esp) || !is_canonical(s->sysenter_eip))
		return why_set(w, -EINVAL, "SYSENTER_CS %llx, ESP %llx or EIP %llx is not one that guests can have",
			       (unsigned long long)s->sysenter_cs, (unsigned long long)s->sysenter_esp,
			       (unsigned long long)s->sysenter_eip);
	/* CPUs with LA57 let a guest have other ones; a plain WRMSR of them would fault here. */
	if (!is_canonical(s->lstar) || !is_canonical(s->cstar) || !is_canonical(s->kernel_gs_base))
		return why_set(w, -EINVAL, "LSTAR %llx, CSTAR %llx or KERNEL_GS_BASE %llx is not canonical",
			       (unsigned long long)s->lstar, (unsigned long long)s->cstar,
			       (unsigned long long)s->kernel_gs_base);
	return 0;
}

#define FXSAVE_SIZE 512
#define XSTATE_BV   512 /* and XCOMP_BV, and what is reserved of the header, SDM 1 13.4.2 */

void hv_xsave_in(uint8_t area[XSAVE_AREA_MAX], const struct cpu_state *s)
{
	memset(area, 0, XSAVE_AREA_MAX);
	memcpy(area, s->xsave, s->xsave_size);
	memset(area + XSTATE_BV + 8, 0, 56); /* standard format */
	/* Of a guest without XSAVE: XRSTOR is not to think that there is nothing in it. */
	if (s->xsave_size == FXSAVE_SIZE)
		put_le64(area + XSTATE_BV, XCR0_X87 | XCR0_SSE);
}

void hv_event_cut(struct hv_vcpu *hv, uint64_t cut)
{
	if ((cut >> 8 & 7) == HV_EVENT_EXC)
		return;
	BUG_ON(hv->event_next); /* while one waits no other is taken, and cpu_check refuses it from outside */
	hv->event_next = cut;
}

bool hv_event_takes(const struct hv_vcpu *hv, bool shadow)
{
	return !shadow && (hv_is_nmi(hv->event_next) || (hv->rflags & RFLAGS_IF));
}

bool hv_msr_valid(uint32_t msr, uint64_t val, uint64_t efer, uint64_t cr0)
{
	switch (msr) {
	case MSR_EFER: /* LME may not change under paging (SDM 3A 2.2.1, APM2 14.6.1); of LMA a write says nothing */
		return !(val & ~EFER_GUEST) && !((val ^ efer) & EFER_LME && (cr0 & CR0_PG));
	case MSR_PAT: /* each byte a memory type: 0, 1, 4..7 */
		for (unsigned i = 0; i < 64; i += 8)
			if ((val >> i & 0xff) > 7 || (val >> i & 0xfe) == 2)
				return false;
		return true;
	case MSR_SYSENTER_ESP:
	case MSR_SYSENTER_EIP: return is_canonical(val);
	case MSR_TSC_AUX: return !(val >> 32);
	default: return true;
	}
}

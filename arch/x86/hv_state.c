/* SPDX-License-Identifier: BSD-2-Clause */
/* What both vendors ask of a state that comes from outside. */
#include "arch/x86/cpu.h"
#include "arch/x86/fpu.h"
#include "arch/x86/hv.h"
#include <string.h>

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
	if (s->efer & ~(EFER_SCE | EFER_LME | EFER_LMA | EFER_NXE))
		return why_set(w, -EINVAL, "EFER %llx has bits that guests do not get", (unsigned long long)s->efer);
	if ((s->cr0 | s->dr6 | s->dr7) >> 32 || s->cr8 > 15)
		return why_set(w, -EINVAL, "CR0, DR6 or DR7 has bits above 31, or CR8 above 3");
	if (s->sysenter_cs >> 32 || !is_canonical(s->sysenter_esp) || !is_canonical(s->sysenter_eip))
		return why_set(w, -EINVAL, "SYSENTER_CS %llx, ESP %llx or EIP %llx is not one that guests can have",
			       (unsigned long long)s->sysenter_cs, (unsigned long long)s->sysenter_esp,
			       (unsigned long long)s->sysenter_eip);
	return 0;
}

/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The guest's extended state (x87, SSE, AVX, ...). The kernel itself is built without any of it (-mgeneral-regs-only),
 * so a guest's registers stay live in the CPU across exits and move only when its task leaves the CPU.
 */
#pragma once
#include "arch/x86/hw/xsave.h"

/* Boot CPU, once: which state components tern offers to guests; 0 if the CPU has no XSAVE (then FXSAVE only). */
void fpu_init(void);
void fpu_cpu_on(void); /* each CPU: CR4.OSXSAVE, XCR0 */
uint64_t fpu_xcr0_mask(void);
uint32_t fpu_area_size(void); /* bytes of the standard-format area for all of them */
/* Interrupts off. area: 64-byte aligned, XSAVE_AREA_MAX bytes, standard format. xcr0 is the guest's own. */
void fpu_load(const void *area, uint64_t xcr0);
uint64_t fpu_save(void *area); /* returns the guest's XCR0 */
/* Bytes of a saved area up to the end of the last component that is not in its initial state. */
uint32_t fpu_used_size(const void *area);
void fpu_set_xcr0(uint64_t xcr0);
uint64_t fpu_get_xcr0(void); /* live: the guest's, while it is loaded */
/* Can XCR0 be this where these components are, SDM 1 13.3. */
static inline bool fpu_xcr0_is_valid(uint64_t xcr0, uint64_t components)
{
	return (xcr0 & XCR0_X87) && !(xcr0 & ~components) && (!(xcr0 & XCR0_AVX) || (xcr0 & XCR0_SSE)) &&
	       (!(xcr0 & XCR0_AVX512) || ((xcr0 & XCR0_AVX512) == XCR0_AVX512 && (xcr0 & XCR0_AVX)));
}
bool fpu_xcr0_valid(uint64_t xcr0);   /* on this CPU */
bool fpu_mxcsr_valid(uint32_t mxcsr); /* other bits in an area make fpu_load fault; after fpu_cpu_on */

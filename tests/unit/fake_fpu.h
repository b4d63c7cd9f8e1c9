/* SPDX-License-Identifier: BSD-2-Clause */
/* A CPU's extended state, as a test of what surrounds it wants it: x87, SSE, AVX, PKRU. One user a program. */
#pragma once
#include "arch/x86/fpu.h"

static uint64_t xmask = 0x207;
static uint32_t area = 1088;
uint64_t fpu_xcr0_mask(void) { return xmask; }
uint32_t fpu_area_size(void) { return area; }
uint32_t fpu_used_size(const void *p unused) { return area; }
bool fpu_xcr0_valid(uint64_t x) { return fpu_xcr0_is_valid(x, xmask); }
bool fpu_mxcsr_valid(uint32_t mxcsr) { return !(mxcsr & ~0xffffU); }

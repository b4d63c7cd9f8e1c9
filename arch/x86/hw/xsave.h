/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Extended state: components of XCR0 (SDM 1 13.1), and the area of XSAVE in the standard format (SDM 1 10.5.1, 13.4).
 * Definitions only; every room may include this.
 */
#pragma once
#include "kernel/base/bits.h"

#define XCR0_NONE   0ULL
#define XCR0_X87    BIT(0)
#define XCR0_SSE    BIT(1)
#define XCR0_AVX    BIT(2)
#define XCR0_AVX512 (BIT(5) | BIT(6) | BIT(7))
#define XCR0_PKRU   BIT(9)

#define FXSAVE_MXCSR      24
#define FXSAVE_MXCSR_MASK 28
#define FXSAVE_SIZE       512
#define XSTATE_BV         512 /* the header begins: XSTATE_BV, XCOMP_BV, reserved */
#define XSAVE_HEADER_END  576
#define XSAVE_AREA_MAX    4096 /* a component that does not end within is left out (features.c) */

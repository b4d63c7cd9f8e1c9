/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Segments: descriptors in memory (SDM 3A 3.4.5), gates and selectors, their order, and the access-rights format of
 * SDM 3C 25.4.1 in which tern keeps attributes. Definitions only; every room may include this, assembly too.
 */
#pragma once
#include "kernel/base/bits.h"

/* Descriptors of flat segments of DPL 0: present, accessed, the whole address space. */
#define DESC_CODE64    0x00af9b000000ffff
#define DESC_CODE32    0x00cf9b000000ffff
#define DESC_DATA      0x00cf93000000ffff
/* Present, DPL 0, 64-bit: first half of the descriptor of an available TSS (SDM 3A 8.2.3), a gate's type (6.14.1). */
#define DESC_TSS64     0x0000890000000000
#define GATE_INTERRUPT 0x8e00U
#define SELECTOR_TI    BIT(2) /* a selector of the LDT (3.4.2) */
#define LIMIT16        0xffff
#ifndef __ASSEMBLER__

enum { SEG_ES, SEG_CS, SEG_SS, SEG_DS, SEG_FS, SEG_GS, SEG_LDTR, SEG_TR, SEG_COUNT };
#define SEG_NAMES                                                \
	{                                                        \
		"ES", "CS", "SS", "DS", "FS", "GS", "LDTR", "TR" \
	}

#define AR_TYPE     0xfU
#define AR_ACCESSED BIT(0) /* of the type, with S */
#define AR_WRITABLE BIT(1) /* readable, of code */
#define AR_BUSY     BIT(1) /* of a TSS */
#define AR_DOWN     BIT(2) /* expand-down; conforming, of code */
#define AR_CODE     BIT(3)
#define AR_S        BIT(4)
#define AR_DPL      (3ULL << 5)
#define AR_P        BIT(7)
#define AR_L        BIT(13)
#define AR_DB       BIT(14)
#define AR_G        BIT(15)
#define AR_DEFINED  0xf0ffU
#define AR_UNUSABLE BIT(16)
static inline unsigned segment_dpl(uint64_t attr) { return attr >> 5 & 3; }

enum { TYPE_LDT = 2, TYPE_TSS16_BUSY = 3, TYPE_TSS_BUSY = 11 };
/* Flat segments of DPL 0, and those of virtual-8086 mode (SDM 3C 27.3.1.2). */
enum { AR_CODE64 = 0xa09b, AR_CODE32 = 0xc09b, AR_DATA = 0xc093, AR_TSS = 0x8b, AR_V86 = 0xf3 };
#endif

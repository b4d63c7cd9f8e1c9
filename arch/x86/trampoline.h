/* SPDX-License-Identifier: BSD-2-Clause */
/* The page through which the other CPUs come to life: trampoline.S runs it, smp.c fills it. Included by both. */
#pragma once
#define TRAMPOLINE_CODE 0x500 /* below: page-table entries 0..159, see trampoline.S */
#define TRAMPOLINE_ARGS 0x780
#define TRAMPOLINE_SIZE 0x800 /* above: upper half of the PML4 */

#ifndef __ASSEMBLER__
#include "kernel/base/bits.h"
struct trampoline_args { /* at TRAMPOLINE_ARGS */
	uint64_t cr3;    /* the final page tables */
	uint64_t stack;  /* top */
	uint64_t cpu;    /* struct cpu * */
	uint64_t entry;  /* smp_entry */
	uint64_t efer;   /* LME and what the kernel's tables need */
};
extern const char trampoline_start[];
#endif

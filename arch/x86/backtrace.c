/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Walks frame pointers (all of tern is built with them). It runs when things are broken, so it trusts nothing: it reads
 * only inside the stack it started on, only upwards, and believes only return addresses that lie in the kernel's text.
 */
#include "arch/x86/x86.h"

extern char __text_start[], __text_end[]; /* linker.ld */

unsigned arch_backtrace(uint64_t rbp, uintptr_t *ra, unsigned max)
{
	uint64_t lo, hi;
	unsigned n = 0;

	if (!paging_stack_bounds(rbp, &lo, &hi))
		return 0;
	while (n < max && rbp >= lo && rbp <= hi - 16 && rbp % 8 == 0) {
		const uint64_t *frame = (const uint64_t *)(uintptr_t)rbp; /* saved RBP, return address */
		if (frame[1] < (uintptr_t)__text_start || frame[1] >= (uintptr_t)__text_end)
			break;
		ra[n++] = frame[1];
		if (frame[0] <= rbp)
			break;
		rbp = frame[0];
	}
	return n;
}

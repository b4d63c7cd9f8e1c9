/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Looks up function names in the table that tools/ksyms.py makes from the first link. Called by panic and trap dumps,
 * so it touches nothing but read-only data.
 */
#include "kernel/ksym.h"
#include "kernel/handoff.h"
#include <string.h>

extern const uint32_t ksym_count;
extern const uint32_t ksym_table[]; /* offsets from KERNEL_BASE, ascending */
extern const char ksym_names[];     /* in the same order, each with its zero */
extern const char __text_start[], __text_end[];

const char *ksym_lookup(uintptr_t addr, uintptr_t *offset)
{
	uint32_t lo = 0, hi = ksym_count, at;

	if (addr < (uintptr_t)__text_start || addr >= (uintptr_t)__text_end)
		return NULL;
	at = (uint32_t)(addr - KERNEL_BASE);
	while (lo < hi) { /* the first entry above `at` */
		uint32_t mid = lo + (hi - lo) / 2;

		if (ksym_table[mid] <= at)
			lo = mid + 1;
		else
			hi = mid;
	}
	if (!lo)
		return NULL;
	*offset = at - ksym_table[lo - 1];
	const char *name = ksym_names;
	while (--lo) /* a table of where they begin would be a fifth of all this */
		name += strlen(name) + 1;
	return name;
}

/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Looks up function names in the table that tools/ksyms.py makes from the first link. Called by panic and trap dumps,
 * so it touches nothing but read-only data.
 */
#include "kernel/ksym.h"
#include "kernel/handoff.h"

struct ksym {
	uint32_t addr; /* offset from KERNEL_BASE, ascending */
	uint32_t name; /* offset into ksym_names */
};
extern const uint32_t ksym_count;
extern const struct ksym ksym_table[];
extern const char ksym_names[];
extern const char __text_start[], __text_end[];

const char *ksym_lookup(uintptr_t addr, uintptr_t *offset)
{
	uint32_t lo = 0, hi = ksym_count, at;

	if (addr < (uintptr_t)__text_start || addr >= (uintptr_t)__text_end)
		return NULL;
	at = (uint32_t)(addr - KERNEL_BASE);
	while (lo < hi) { /* the first entry above `at` */
		uint32_t mid = lo + (hi - lo) / 2;

		if (ksym_table[mid].addr <= at)
			lo = mid + 1;
		else
			hi = mid;
	}
	if (!lo)
		return NULL;
	*offset = at - ksym_table[lo - 1].addr;
	return ksym_names + ksym_table[lo - 1].name;
}

/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The guest's CPUID: a table made once, when the VM is created, from the host's CPUID and arch/x86/features.def; it goes
 * with the VM and never changes while it lives. Only what depends on the vCPU's state is filled in at the exit.
 */
#pragma once
#include "arch/x86/hv.h"
#include "vmm/state.h"

#define CPUID_MAX 64
struct cpuid_table_state { /* migrates */
	uint32_t n;
	uint32_t leaf[CPUID_MAX], sub[CPUID_MAX];
	uint32_t regs[CPUID_MAX * 4]; /* EAX, EBX, ECX, EDX of entry i at 4 * i */
	uint32_t pad;
};
struct cpuid_table {
	struct cpuid_table_state s;
};
extern const struct sdesc cpuid_desc;

void cpuid_table_init(struct cpuid_table *t); /* CPU model "host" */
/* What the guest sees now in regs[4]: mode and XCR0 decide OSXSAVE, XSAVE sizes; apic_id the topology leaves. */
/* The table's row for a leaf, four zeros if there is none. */
static inline const uint32_t *cpuid_table_row(const struct cpuid_table *t, uint32_t leaf, uint32_t sub)
{
	static const uint32_t none[4];
	bool subleaves = leaf == 0xb || leaf == 0xd || leaf == 7;
	for (unsigned i = 0; i < t->s.n; i++)
		if (t->s.leaf[i] == leaf && (!subleaves || t->s.sub[i] == sub))
			return &t->s.regs[4 * i];
	return none;
}
/* Leaves that need more than their row: mode, XCR0, APIC id. */
static inline bool cpuid_is_dynamic(uint32_t leaf) { return leaf == 1 || leaf == 7 || leaf == 0xb || leaf == 0xd; }
void cpuid_table_read(const struct cpuid_table *t, uint32_t leaf, uint32_t sub, const struct hv_mode *m, uint64_t xcr0,
		      uint32_t apic_id, uint32_t regs[4]);

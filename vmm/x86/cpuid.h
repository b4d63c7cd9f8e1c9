/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The guest's CPUID: a table made once, when the VM starts, for its CPU model; it goes with the VM and never changes
 * while it lives, resets and moves included. Only what depends on the vCPU's state is filled in at the exit.
 *   host      what the host's CPU has and features.def lets through
 *   portable  what features.def marks ANY, every other word fixed too: the same on every host but for the vendor's
 *             name, family and model, which are those of the host where the VM was started (doc/cpu-models.md)
 */
#pragma once
#include "arch/x86/features.h"
#include "arch/x86/hv.h"
#include "arch/x86/hw/cpuid_bits.h"
#include "vmm/state.h"

#define CPUID_MAX           64
#define CPUID_INDEXED       16 /* leaves of each range that are found without a search */
#define CPUID_PORTABLE_PHYS 39 /* bits of physical address with cpu = portable: Intel's desktop CPUs have no more */
/* Of KVM's interface what guests of several vCPUs have (pv.h). */
#define PV_SMP                                                                                                  \
	(KVM_FEATURE_STEAL_TIME | KVM_FEATURE_PV_TLB_FLUSH | KVM_FEATURE_PV_UNHALT | KVM_FEATURE_POLL_CONTROL | \
	 KVM_FEATURE_PV_SCHED_YIELD | KVM_FEATURE_PV_EOI | KVM_FEATURE_PV_SEND_IPI | KVM_FEATURE_MSI_EXT_DEST_ID)
struct cpuid_table_state { /* migrates */
	uint32_t n;
	uint32_t leaf[CPUID_MAX], sub[CPUID_MAX];
	uint32_t regs[CPUID_MAX * 4]; /* EAX, EBX, ECX, EDX of entry i at 4 * i */
	uint32_t pad;
};
struct cpuid_table {
	struct cpuid_table_state s;
	uint8_t first[2][CPUID_INDEXED]; /* derived: 1 + the first entry of leaves 0.. and 0x80000000.., 0: none */
};
extern const struct sdesc cpuid_desc;

bool cpuid_model_known(const char *model);
/*
 * Make the table of a model on the machine that src tells of. -ENOTSUP: the machine lacks something of cpu = portable,
 * and why names it; -EINVAL: no such model.
 */
int cpuid_table_init(struct cpuid_table *t, const char *model, const struct cpuid_source *src,
		     struct why *w) must_check;
/*
 * Laid over a model's table, for a VM of so many vCPUs: one socket, a core for each, as CPUs of that vendor tell it.
 * Belongs to the VM, not to the model: what a destination must have (vm_compat_check) is not changed by it.
 */
void cpuid_table_topology(struct cpuid_table *t, unsigned vcpus);
enum cpu_vendor { VENDOR_OTHER, VENDOR_INTEL, VENDOR_AMD };
enum cpu_vendor cpuid_table_vendor(const struct cpuid_table *t); /* of the CPU that the guest was started on */
/* The table's row for a leaf, four zeros if there is none. */
static inline const uint32_t *cpuid_table_row(const struct cpuid_table *t, uint32_t leaf, uint32_t sub)
{
	static const uint32_t none[4];
	uint32_t low = leaf & 0x7fffffff, i = 0;
	if (low < CPUID_INDEXED) {
		i = t->first[leaf >> 31][low];
		if (!i--)
			return none;
	}
	bool subleaves = leaf < CPUID_INDEXED && (BIT(leaf) & (BIT(4) | BIT(7) | BIT(0xb) | BIT(0xd)));
	for (; i < t->s.n; i++)
		if (t->s.leaf[i] == leaf && (!subleaves || t->s.sub[i] == sub))
			return &t->s.regs[4 * i];
	return none;
}
/* Leaves that need more than their row: mode, XCR0, APIC id. */
static inline bool cpuid_is_dynamic(uint32_t leaf) { return leaf == 1 || leaf == 7 || leaf == 0xb || leaf == 0xd; }
/* What the guest sees now: mode and XCR0 decide OSXSAVE, OSPKE and XSAVE sizes; apic_id the topology leaves. */
void cpuid_table_read(const struct cpuid_table *t, uint32_t leaf, uint32_t sub, const struct hv_mode *m, uint64_t xcr0,
		      uint32_t apic_id, uint32_t regs[4]);
/* The components that this guest may have in XCR0; 0: it has no XSAVE. */
static inline uint64_t cpuid_table_xcr0(const struct cpuid_table *t)
{
	const uint32_t *r = cpuid_table_row(t, 0xd, 0);
	return (uint64_t)r[3] << 32 | r[0];
}
/* Off the CPU, state holds all components of this host: leave only what the guest has, so that others can take it. */
void cpuid_table_trim(const struct cpuid_table *t, struct cpu_state *s);

/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The table of features.def, and what a machine has of it. A machine is whatever answers CPUID: this CPU, or a recorded
 * dump in the tests.
 */
#pragma once
#include "arch/x86/cpu.h"
#include "kernel/base/bits.h"

enum feature_reg { FEATURE_EAX, FEATURE_EBX, FEATURE_ECX, FEATURE_EDX };
enum feature_policy { FEATURE_PASS, FEATURE_SET };
enum feature_model { FEATURE_HOST, FEATURE_ANY };
struct feature {
	uint32_t leaf, sub;
	uint8_t reg, bit, policy, model; /* enum feature_reg, bit, enum feature_policy, enum feature_model */
	uint16_t state;                  /* XCR0_*, of which all are needed */
	const char *name;
};
extern const struct feature features[];
extern const unsigned nfeatures;
/* Bits of a register that guests may have at all, and those that tern provides on any host. */
uint32_t feature_mask(uint32_t leaf, uint32_t sub, enum feature_reg reg, enum feature_policy policy);
/* Of the PASS bits, those of cpu = portable; and those whose registers are in one of these state components. */
uint32_t feature_mask_portable(uint32_t leaf, uint32_t sub, enum feature_reg reg);
uint32_t feature_mask_state(uint32_t leaf, uint32_t sub, enum feature_reg reg, uint64_t xcr0);
const char *feature_name(uint32_t leaf, uint32_t sub, enum feature_reg reg, unsigned bit); /* "?" if it has none */

struct cpuid_source {
	struct cpuid_regs (*read)(const struct cpuid_source *src, uint32_t leaf, uint32_t sub);
};
extern const struct cpuid_source cpuid_this_cpu;
/* Zeros beyond the last leaf, where Intel's CPUs repeat another one (SDM 2A, CPUID). */
struct cpuid_regs cpuid_source_read(const struct cpuid_source *src, uint32_t leaf, uint32_t sub);
static inline uint32_t cpuid_reg(const struct cpuid_regs *r, enum feature_reg reg)
{
	return reg == FEATURE_EAX ? r->eax : reg == FEATURE_EBX ? r->ebx : reg == FEATURE_ECX ? r->ecx : r->edx;
}
/*
 * The state components that tern carries for guests on such a machine, and the bytes of an area in the standard format
 * that holds them; 0 and 512 if it has no XSAVE.
 */
uint64_t feature_xcr0(const struct cpuid_source *src, uint32_t *size);
/*
 * How a VM with cpu = portable names its CPU: by the vendor of the host where it is created, one family and model each.
 */
struct feature_identity {
	uint32_t vendor[3]; /* EBX, ECX, EDX of leaf 0 */
	uint32_t signature; /* leaf 1 EAX: a model that has all that is ANY in features.def */
	bool repeats;       /* the extended leaves repeat vendor, signature and leaf 1's EDX (APM3 appendix E) */
};
const struct feature_identity *feature_identity(const struct cpuid_source *src); /* NULL: a vendor without one */

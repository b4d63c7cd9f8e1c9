/* SPDX-License-Identifier: BSD-2-Clause */
/* The table of features.def. */
#pragma once
#include "kernel/bits.h"

enum feature_reg { FEATURE_EAX, FEATURE_EBX, FEATURE_ECX, FEATURE_EDX };
enum feature_policy { FEATURE_PASS, FEATURE_SET };
struct feature {
	uint32_t leaf, sub;
	uint8_t reg, bit, policy; /* enum feature_reg, enum feature_policy */
	const char *name;
};
extern const struct feature features[];
extern const unsigned nfeatures;
/* Bits of a register that guests may have at all, and those that tern provides on any host. */
uint32_t feature_mask(uint32_t leaf, uint32_t sub, enum feature_reg reg, enum feature_policy policy);
const char *feature_name(uint32_t leaf, uint32_t sub, enum feature_reg reg, unsigned bit); /* "?" if it has none */

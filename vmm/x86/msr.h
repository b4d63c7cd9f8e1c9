/* SPDX-License-Identifier: BSD-2-Clause */
/* The guest's MSRs: which ones exist, and what RDMSR and WRMSR that exit do. */
#pragma once
#include "vmm/x86/vcpu.h"

#define VCPU_MTRR_RESET (MTRR_DEF_ENABLE | MTRR_TYPE_WB)
static inline bool msr_mtrr_valid(uint64_t def_type) /* type in 7:0, FE 10, E 11 (SDM 3A 12.11.2.1) */
{
	return !(def_type & ~0xcffULL) && (def_type & 0xff) <= 6 && (def_type & 0xfe) != 2;
}

/* 0, or -EINVAL for #GP. */
int msr_read(struct vcpu *v, uint32_t msr, uint64_t *val);
int msr_write(struct vcpu *v, uint32_t msr, uint64_t val);
extern const uint32_t msr_pass_list[];
extern const unsigned nmsr_pass_list;

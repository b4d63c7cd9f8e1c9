/* SPDX-License-Identifier: BSD-2-Clause */
#pragma once
#include "arch/x86/vmx_vcpu.h"

/* A CPU with everything, which insists on the bits that all CPUs insist on (appendix A.3 to A.5, true controls). */
static inline struct vmx_msrs vmx_full(void)
{
	return (struct vmx_msrs){
		.feature_control = FEATURE_CONTROL_LOCK | FEATURE_CONTROL_VMXON,
		.basic = VMX_BASIC_TRUE | VMX_BASIC_INS_OUTS | 0x12,
		.ept_vpid_cap = 0xf0106734141,
		.arch_cap = ARCH_CAP_PSCHANGE,
		.cr0_fixed0 = 0x80000021,
		.cr0_fixed1 = 0xffffffff,
		.cr4_fixed0 = 0x2000,
		.cr4_fixed1 = 0x3727ff,
		.control = { 0xffffffff00000016, 0xffffffff04006172, 0xffffffff00036dfb, 0xffffffff000011fb,
			     ~0ULL << 32 },
	};
}

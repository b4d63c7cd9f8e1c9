/* SPDX-License-Identifier: BSD-2-Clause */
/* A VMCS is a table of fields, and the CPU a Haswell. One user a program. */
#pragma once
#include "arch/x86/cpu.h"
#include "arch/x86/vmx_vcpu.h"
#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

static uint64_t vmcs[0x7000];
uint64_t vmcs_read(enum vmcs_field f)
{
	assert_true(f < ARRAY_SIZE(vmcs));
	return vmcs[f];
}
void vmcs_write(enum vmcs_field f, uint64_t val)
{
	unsigned width = f >> 13 & 3; /* 16, 64, 32 bits, natural */
	assert_true(f < ARRAY_SIZE(vmcs));
	vmcs[f] = width == 0 ? val & 0xffff : width == 2 ? val & 0xffffffff : val;
}

struct vmx_caps vmx_caps = { /* the fixed bits of A.7 and A.8 */
			     .pin = PIN_VIRTUAL_NMI,
			     .entry = ENTRYC_LOAD_DEBUG | ENTRYC_LOAD_PAT | ENTRYC_LOAD_EFER,
			     .cr0_fixed0 = CR0_PE | CR0_NE | CR0_PG,
			     .cr0_fixed1 = 0xffffffff,
			     .cr4_fixed0 = CR4_VMXE,
			     .cr4_fixed1 = 0x1727ff
};

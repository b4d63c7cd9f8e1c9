/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * VT-x instructions (vmx.h; SDM 3C chapter 31). CF and ZF tell of failure, which is always a mistake of ours but for
 * VMXON.
 */
#include "arch/x86/vmx.h"
#include "kernel/base/err.h"

uint64_t vmcs_read(enum vmcs_field f)
{
	uint64_t val;
	bool fail;
	__asm__ volatile("vmread %2, %0" : "=r"(val), "=@ccbe"(fail) : "r"((uint64_t)f) : "memory");
	BUG_ON(fail);
	return val;
}

void vmcs_write(enum vmcs_field f, uint64_t val)
{
	bool fail;
	__asm__ volatile("vmwrite %1, %2" : "=@ccbe"(fail) : "r"(val), "r"((uint64_t)f) : "memory");
	BUG_ON(fail);
}

void vmcs_load(hpa_t vmcs)
{
	bool fail;
	__asm__ volatile("vmptrld %1" : "=@ccbe"(fail) : "m"(vmcs) : "memory");
	BUG_ON(fail);
}

void vmcs_clear(hpa_t vmcs)
{
	bool fail;
	__asm__ volatile("vmclear %1" : "=@ccbe"(fail) : "m"(vmcs) : "memory");
	BUG_ON(fail);
}

int vmx_on(hpa_t region)
{
	bool fail;
	__asm__ volatile("vmxon %1" : "=@ccbe"(fail) : "m"(region) : "memory");
	return fail ? -EIO : 0;
}

void vmx_invept(bool single, uint64_t eptp)
{
	struct {
		uint64_t eptp, zero;
	} desc = { eptp, 0 };
	bool fail;
	__asm__ volatile("invept %1, %2" : "=@ccbe"(fail) : "m"(desc), "r"(single ? 1UL : 2UL) : "memory");
	BUG_ON(fail);
}

uint64_t vmx_dr6(void)
{
	uint64_t val;
	__asm__ volatile("mov %%dr6, %0" : "=r"(val));
	return val;
}

void vmx_set_dr6(uint64_t val) { __asm__ volatile("mov %0, %%dr6" ::"r"(val)); }

/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What a host must have for a VM to run: the CPUID words that its guest was given, compared at the destination. Any
 * task; the VM's CPUID is fixed while it runs.
 */
#pragma once
#include "kernel/base/err.h"
#include "vmm/x86/cpuid.h"

struct vm;
#define VM_COMPAT_WORDS 64
struct vm_compat {
	uint32_t leaf[VM_COMPAT_WORDS], sub[VM_COMPAT_WORDS];
	uint32_t regs[VM_COMPAT_WORDS][4];
	uint32_t n;
};
void vm_compat_get(const struct vm *vm, struct vm_compat *c);
/* Can this host run a VM of this CPU model that was given these words? -ENOTSUP naming leaf, register and bit. */
int vm_compat_check(const char *model, const struct vm_compat *c, struct why *w) must_check;
int vm_compat_check_on(const struct cpuid_source *src, const char *model, const struct vm_compat *c,
		       struct why *w) must_check;

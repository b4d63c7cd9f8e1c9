/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What the registers of a guest's CPU may hold, by the guest's CPUID alone: the same on every host, of either vendor. A
 * guest's own WRMSR and XSETBV are held against it, and a state from outside before any of it goes near hardware.
 * Whether this host's CPU has all that is in that CPUID is vm_compat_check's to say, and what its virtualisation cannot
 * do hv_ops.set_state's.
 */
#pragma once
#include "vmm/x86/cpuid.h"

/*
 * 0, or -EINVAL with a reason that names register and bit. What passes has no register that a load of it would make
 * fault in the hypervisor, and none that VM entry (SDM 3C 27.2.1.3, 27.3.1) or VMRUN (APM2 15.5.1) refuses. Limits, G
 * and accessed bits of segments are made to fit at the load (vmx_state.c), and what real and virtual-8086 mode imply.
 */
int cpu_state_check(const struct cpu_state *s, const struct cpuid_table *t, struct why *w) must_check;
/* Can the MSR have this value: EFER, PAT, TSC_AUX, and those of SYSENTER, SYSCALL and segment bases. */
bool cpu_msr_valid(const struct cpuid_table *t, uint32_t msr, uint64_t val);
bool cpu_xcr0_valid(const struct cpuid_table *t, uint64_t xcr0); /* without XSAVE it is 1 and stays so */

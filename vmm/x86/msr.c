/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Guest MSRs. Those in msr_pass_list go straight to hardware (they are part of the guest's own register state); every
 * other access exits and is answered here or raises #GP. Linux probes many and takes #GP for "not there".
 *
 * A VM has the same MSRs wherever it runs: those that only one vendor has are there if its CPUID names that vendor, and
 * hold nothing of the host's.
 */
#include "arch/x86/cpu.h"
#include "vmm/x86/cpu_check.h"
#include "vmm/x86/vcpu.h"
#include "vmm/x86/msr.h"
#include "vmm/x86/guest_clock.h"

#define MISC_ENABLE_FIXED    (MISC_ENABLE_FAST_STRINGS | MISC_ENABLE_NO_BTS | MISC_ENABLE_NO_PEBS)
#define INTEL_UCODE_REVISION (1ULL << 32) /* 0 would mean "none loaded" */

/* clang-format off */
const uint32_t msr_pass_list[] = {
	MSR_FS_BASE, MSR_GS_BASE, MSR_KERNEL_GS_BASE, MSR_STAR, MSR_LSTAR, MSR_CSTAR, MSR_SFMASK,
};
/* clang-format on */
const unsigned nmsr_pass_list = ARRAY_SIZE(msr_pass_list);

static bool is_lapic(uint32_t msr)
{
	return (msr >= MSR_X2APIC && msr < MSR_X2APIC + 0x100) || msr == MSR_TSC_DEADLINE || msr == MSR_APIC_BASE;
}

static bool is_amd_only(uint32_t msr)
{
	return msr == MSR_K7_HWCR || msr == MSR_K8_SYSCFG || msr == MSR_AMD_NB_CFG || msr == MSR_AMD64_DE_CFG;
}
static bool is_intel_only(uint32_t msr) { return msr == MSR_MISC_ENABLE || msr == MSR_PLATFORM_ID; }
static bool has_tsc_aux(const struct vm *vm) /* RDTSCP or RDPID */
{
	return (cpuid_table_row(&vm->cpuid, 0x80000001, 0)[3] & BIT(27)) ||
	       (cpuid_table_row(&vm->cpuid, 7, 0)[2] & BIT(22));
}

/* Not of this guest's CPU. */
static bool is_foreign(const struct vm *vm, uint32_t msr)
{
	return (is_amd_only(msr) && cpuid_table_vendor(&vm->cpuid) != VENDOR_AMD) ||
	       (is_intel_only(msr) && cpuid_table_vendor(&vm->cpuid) != VENDOR_INTEL) ||
	       (msr == MSR_TSC_AUX && !has_tsc_aux(vm));
}

static int denied(struct vcpu *v, uint32_t msr, bool write, uint64_t val)
{
	if (write)
		guest_log(v->vm, "WRMSR %x = %lx: #GP", msr, val);
	else
		guest_log(v->vm, "RDMSR %x: #GP", msr);
	return -EINVAL;
}

/* Those that hv_ops.get_msr and set_msr know. */
static bool is_in_hardware(uint32_t msr)
{
	switch (msr) {
	case MSR_EFER:
	case MSR_PAT:
	case MSR_SYSENTER_CS:
	case MSR_SYSENTER_ESP:
	case MSR_SYSENTER_EIP:
	case MSR_TSC_AUX: return true;
	default: return false;
	}
}

int msr_read(struct vcpu *v, uint32_t msr, uint64_t *val)
{
	if (is_lapic(msr))
		return vlapic_msr_read(&v->lapic, msr, guest_tsc(v->vm), guest_ns(v->vm), val);
	if (is_foreign(v->vm, msr))
		return denied(v, msr, false, 0);
	if (is_in_hardware(msr))
		return vmm_hv()->get_msr(v->hv, msr, val);
	switch (msr) {
	case MSR_TSC: *val = guest_tsc(v->vm); return 0;
	case MSR_MTRR_CAP: *val = MTRR_CAP_WC; return 0;
	case MSR_MTRR_DEF_TYPE: *val = v->msr.mtrr_def_type; return 0;
	case MSR_MISC_ENABLE: *val = v->msr.misc_enable | MISC_ENABLE_FIXED; return 0;
	case MSR_KVM_WALL_CLOCK: *val = v->msr.wall_clock; return 0;
	case MSR_KVM_SYSTEM_TIME: *val = v->msr.system_time; return 0;
	case MSR_KVM_STEAL_TIME: return pv_read_steal_time(v, val) ? denied(v, msr, false, 0) : 0;
	case MSR_KVM_POLL: return pv_read_poll(v, val) ? denied(v, msr, false, 0) : 0;
	case MSR_KVM_PV_EOI_EN: return pv_read_eoi(v, val) ? denied(v, msr, false, 0) : 0;
	case MSR_PATCH_LEVEL: /* Intel's IA32_BIOS_SIGN_ID */
		*val = cpuid_table_vendor(&v->vm->cpuid) == VENDOR_INTEL ? INTEL_UCODE_REVISION : 0;
		return 0;
	case MSR_PLATFORM_ID:
	case MSR_K7_HWCR:
	case MSR_K8_SYSCFG:
	case MSR_AMD_NB_CFG: *val = 0; return 0;
	case MSR_AMD64_DE_CFG: *val = DE_CFG_LFENCE; return 0;
	default: return denied(v, msr, false, 0);
	}
}

int msr_write(struct vcpu *v, uint32_t msr, uint64_t val)
{
	if (is_lapic(msr)) {
		v->events.timer_check = 1;
		return vlapic_msr_write(&v->lapic, msr, guest_tsc(v->vm), guest_ns(v->vm), val);
	}
	if (is_foreign(v->vm, msr))
		return denied(v, msr, true, val);
	if (is_in_hardware(msr))
		return cpu_msr_valid(&v->vm->cpuid, msr, val) ? vmm_hv()->set_msr(v->hv, msr, val) : -EINVAL;
	switch (msr) {
	case MSR_MTRR_DEF_TYPE:
		if (!msr_mtrr_valid(val))
			return -EINVAL;
		v->msr.mtrr_def_type = val;
		return 0;
	case MSR_MISC_ENABLE: v->msr.misc_enable = val; return 0;
	/*
	 * Any address, as with KVM: a guest that runs there must not get #GP here. The page is copied to
	 * (guest_clock.c), nobody holds it in place as those of pv.c: where there is no memory nothing is written.
	 */
	case MSR_KVM_WALL_CLOCK:
		v->msr.wall_clock = val;
		clock_write_wall(v, val);
		return 0;
	case MSR_KVM_SYSTEM_TIME:
		v->msr.system_time = val;
		clock_update(v);
		return 0;
	case MSR_KVM_STEAL_TIME: return pv_write_steal_time(v, val) ? denied(v, msr, true, val) : 0;
	case MSR_KVM_POLL: return pv_write_poll(v, val) ? denied(v, msr, true, val) : 0;
	case MSR_KVM_PV_EOI_EN: return pv_write_eoi(v, val) ? denied(v, msr, true, val) : 0;
	case MSR_PATCH_LEVEL:
	case MSR_K7_HWCR:
	case MSR_AMD64_DE_CFG:
	case MSR_AMD_NB_CFG: return 0;
	default: return denied(v, msr, true, val);
	}
}

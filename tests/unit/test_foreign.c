/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A guest that has come from a host of the other vendor: the instructions and MSRs of its own vendor go on working,
 * those of the other do not appear, and its TSC keeps its rate. Through the AMD-V decoder (fake_vm.h).
 */
#include "arch/x86/cpu.h"
#include "tests/unit/fake_kernel.h"
#include "tests/unit/fake_vm.h"
#include "vmm/x86/msr.h"
#include "vmm/x86/guest_clock.h"
#include <stdlib.h>
#include <string.h>

#define REG_R11 (REG_R8 + 3)

static struct fv *f;
static uint64_t *R;

static int setup(void **state)
{
	(void)state;
	f = fv_new();
	R = f->hw.hv.gpr;
	return 0;
}
static int teardown(void **state)
{
	(void)state;
	fv_free(f);
	return 0;
}
static int each(void **state)
{
	(void)state;
	fv_reset(f);
	fv_vendor(f, "GenuineIntel");
	fake_tsc_hz = f->vm.clock.s.tsc_hz = NS_PER_SEC;
	clock_begin(&f->vm, rdtsc());
	return 0;
}

#define CODE(...) fv_code(f, (const uint8_t[]){ __VA_ARGS__ }, sizeof((const uint8_t[]){ __VA_ARGS__ }))
#define RIP       (f->hw.hv.rip - FV_CODE)
#define EVENT     (f->vmcb.eventinj)
#define UD        HV_EVENT(HV_EVENT_EXC, VEC_UD)
#define GP0       HV_EVENT_ERR(VEC_GP, 0)
#define KERNEL_SP 0xffff800012345678ULL
#define KERNEL_IP 0xffffffff81000010ULL

static void ud_exit(void)
{
	EVENT = 0;
	fv_exit(f, SVM_EXIT_EXCP_BASE + VEC_UD, 0, 0);
}
#define GIVEN_BACK() assert_true(EVENT == UD && RIP == 0 && (f->hw.hv.rflags & RFLAGS_RF) && !f->fail[0])

/* A user's code in compatibility mode, or the kernel's: attributes in the VMCB's format. */
static void mode_set(bool long_mode, unsigned cpl)
{
	f->vmcb.cs.attr = (uint16_t)((long_mode ? 0xa9b : 0xc9b) | cpl << 5);
	f->vmcb.ss.attr = (uint16_t)(0xc93 | cpl << 5);
	f->vmcb.cs.selector = (uint16_t)(0x20 | cpl);
	f->vmcb.cpl = (uint8_t)cpl;
	*fv_pte(f, FV_CODE) = FV_CODE | 7;
	f->hw.hv.rflags = 0x202;
}

#define SEG(s, sel, at) ((s).selector == (sel) && (s).attr == (at) && !(s).base && (s).limit == 0xffffffff)

static void test_hypercalls(void **state)
{
	static const uint8_t both[2][3] = { { 0x0f, 0x01, 0xc1 }, { 0x0f, 0x01, 0xd9 } };
	(void)state;
	for (unsigned i = 0; i < 4; i++) {
		fv_vendor(f, i & 1 ? "GenuineIntel" : "AuthenticAMD");
		fv_code(f, both[i / 2], 3);
		f->hw.hv.rflags |= RFLAGS_RF;
		f->vmcb.int_state = 1;
		ud_exit();
		assert_true(RIP == 3 && R[REG_RAX] == (uint64_t)-1000 && !EVENT);
		assert_true(!(f->hw.hv.rflags & RFLAGS_RF) && !(f->vmcb.int_state & 1));
		R[REG_RAX] = 0;
	}
	CODE(0xf3, 0x0f, 0x01, 0xd9); /* VMGEXIT */
	ud_exit();
	GIVEN_BACK();
	CODE(0xf0, 0x0f, 0x01, 0xc1);
	ud_exit();
	GIVEN_BACK();
	assert_int_equal(R[REG_RAX], 0);
}

static void test_others_are_given_back(void **state)
{
	static const uint8_t others[][3] = { { 0x0f, 0x0b },       { 0x0f, 0xff, 0xc0 }, { 0x0f, 0x01, 0xc8 }, { 0x06 },
					     { 0x0f, 0x01, 0xd8 }, { 0x0f, 0x38, 0x00 }, { 0x34, 0x0f, 0x34 } };
	(void)state;
	for (unsigned i = 0; i < 2 * ARRAY_SIZE(others); i++) {
		fv_vendor(f, i & 1 ? "GenuineIntel" : "AuthenticAMD");
		fv_code(f, others[i / 2], sizeof(others[0]));
		ud_exit();
		GIVEN_BACK();
	}
	*fv_pte(f, FV_CODE) = 0; /* code that is not there any more */
	ud_exit();
	GIVEN_BACK();
	f->vmcb.efer = EFER_SVME; /* 32-bit paging: cannot be read, but need not */
	ud_exit();
	GIVEN_BACK();
	fv_reset(f);
	memset(gmem_ptr(&f->vm.mem, FV_CODE, 16), 0x66, 16); /* nothing but prefixes */
	ud_exit();
	GIVEN_BACK();
}

static void set_sysenter(uint64_t cs)
{
	f->hw.sysenter_cs = cs;
	f->hw.sysenter_esp = KERNEL_SP;
	f->hw.sysenter_eip = KERNEL_IP;
}

static void test_sysenter(void **state)
{
	(void)state;
	for (unsigned i = 0; i < 2; i++) { /* from compatibility mode, from 64-bit mode */
		mode_set(i, 3);
		set_sysenter(0xff0013); /* RPL and upper half do not count */
		CODE(0x0f, 0x34);
		R[REG_RAX] = 0x77;
		ud_exit();
		assert_true(f->hw.hv.rip == KERNEL_IP && R[REG_RSP] == KERNEL_SP && R[REG_RAX] == 0x77 && !EVENT);
		assert_true(SEG(f->vmcb.cs, 0x10, 0xa9b) && SEG(f->vmcb.ss, 0x18, 0xc93) && f->vmcb.cpl == 0);
		assert_int_equal(f->hw.hv.rflags, 2);
	}
	/*
	 * Behind STI or MOV SS its shadow is there at the exit; it ends with the instruction, and SYSENTER clears IF.
	 */
	mode_set(true, 3);
	set_sysenter(0x10);
	CODE(0x0f, 0x34);
	f->hw.hv.rflags = 0x202;
	f->vmcb.int_state = 1;
	ud_exit();
	assert_true(!f->fail[0] && f->hw.hv.rip == KERNEL_IP && !(f->vmcb.int_state & 1));
	mode_set(false, 3);
	set_sysenter(3); /* not set up */
	CODE(0x0f, 0x34);
	ud_exit();
	assert_true(EVENT == GP0 && RIP == 0 && f->vmcb.cpl == 3 && (f->hw.hv.rflags & RFLAGS_RF));
	set_sysenter(0x10);
	f->hw.hv.rflags = 0x202;
	fv_vendor(f, "AuthenticAMD"); /* which has it in legacy mode only */
	ud_exit();
	GIVEN_BACK();
	fv_vendor(f, "GenuineIntel");
	CODE(0xf0, 0x0f, 0x34); /* LOCK */
	ud_exit();
	GIVEN_BACK();
}

static void test_sysexit(void **state)
{
	(void)state;
	mode_set(true, 0);
	set_sysenter(0x10);
	CODE(0x0f, 0x35);
	R[REG_RDX] = 0xabcd00001234, R[REG_RCX] = 0xabcd00005678;
	ud_exit();
	assert_true(f->hw.hv.rip == 0x1234 && R[REG_RSP] == 0x5678 && f->vmcb.cpl == 3 && !EVENT);
	assert_true(SEG(f->vmcb.cs, 0x23, 0xcfb) && SEG(f->vmcb.ss, 0x2b, 0xcf3));
	assert_int_equal(f->hw.hv.rflags, 0x202);
	mode_set(true, 0);
	CODE(0x48, 0x0f, 0x35);
	R[REG_RDX] = 0x7fffffffe000, R[REG_RCX] = 0x7ffffffff000;
	ud_exit();
	assert_true(f->hw.hv.rip == 0x7fffffffe000 && R[REG_RSP] == 0x7ffffffff000 && f->vmcb.cpl == 3);
	assert_true(SEG(f->vmcb.cs, 0x33, 0xafb) && SEG(f->vmcb.ss, 0x3b, 0xcf3));
	static const struct {
		uint64_t rdx, rcx, cs;
		unsigned cpl;
	} bad[] = { { 1ULL << 47, 0, 0x10, 0 }, { 0, ~0ULL >> 1, 0x10, 0 }, { 0, 0, 0, 0 }, { 0, 0, 0x10, 3 } };
	for (unsigned i = 0; i < ARRAY_SIZE(bad); i++) {
		mode_set(true, bad[i].cpl);
		set_sysenter(bad[i].cs);
		CODE(0x48, 0x0f, 0x35);
		R[REG_RDX] = bad[i].rdx, R[REG_RCX] = bad[i].rcx;
		ud_exit();
		assert_true(EVENT == GP0 && RIP == 0 && f->vmcb.cpl == bad[i].cpl);
	}
	mode_set(true, 0);
	set_sysenter(0x10);
	fv_vendor(f, "AuthenticAMD");
	ud_exit();
	GIVEN_BACK();
}

static void set_syscall(void)
{
	fv_vendor(f, "AuthenticAMD");
	f->vmcb.star = 0x0023001000000000ULL;
	f->vmcb.cstar = KERNEL_IP;
	f->vmcb.lstar = KERNEL_IP + 0x100;
	f->vmcb.sfmask = 0x47700;
}

static void test_syscall(void **state)
{
	(void)state;
	set_syscall();
	mode_set(false, 3);
	CODE(0x0f, 0x05);
	f->hw.hv.rflags = 0x10246; /* RF, IF */
	R[REG_RSP] = 0x5678;
	ud_exit();
	assert_true(f->hw.hv.rip == KERNEL_IP && R[REG_RCX] == FV_CODE + 2 && R[REG_R11] == 0x246 &&
		    R[REG_RSP] == 0x5678);
	assert_true(f->hw.hv.rflags == 0x46 && f->vmcb.cpl == 0 && !EVENT);
	assert_true(SEG(f->vmcb.cs, 0x10, 0xa9b) && SEG(f->vmcb.ss, 0x18, 0xc93));
	mode_set(false, 3);
	CODE(0x0f, 0x05);
	f->vmcb.efer &= ~(uint64_t)EFER_SCE;
	ud_exit();
	GIVEN_BACK();
	f->vmcb.efer |= EFER_SCE;
	mode_set(true, 3); /* 64-bit: every CPU has it; #UD means what it says */
	ud_exit();
	GIVEN_BACK();
	mode_set(false, 3);
	fv_vendor(f, "GenuineIntel"); /* which does not have it there */
	ud_exit();
	GIVEN_BACK();
}

static void test_sysret(void **state)
{
	(void)state;
	set_syscall();
	mode_set(false, 0);
	CODE(0x0f, 0x07);
	f->hw.hv.rflags = 2;
	R[REG_RCX] = 0xffff00001234;
	ud_exit();
	assert_true(f->hw.hv.rip == 0x1234 && f->hw.hv.rflags == 0x202 && f->vmcb.cpl == 3 && !EVENT);
	assert_true(SEG(f->vmcb.cs, 0x23, 0xcfb) && SEG(f->vmcb.ss, 0x2b, 0xcf3));
	mode_set(false, 3);
	CODE(0x0f, 0x07);
	ud_exit();
	assert_true(EVENT == GP0 && RIP == 0 && f->vmcb.cpl == 3);
	fv_vendor(f, "GenuineIntel");
	ud_exit();
	assert_true(EVENT == UD && RIP == 0);
}

/* The trap comes after what tern did for the CPU; SYSCALL looks at TF once SFMASK has been applied. */
static void test_single_step(void **state)
{
	uint64_t db = HV_EVENT(HV_EVENT_EXC, VEC_DB);
	(void)state;
	CODE(0x0f, 0xa2);
	f->hw.hv.rflags |= RFLAGS_TF;
	f->vmcb.dr6 = 0xffff0ff1, f->vmcb.dr7 = 0x2400;
	fv_exit(f, SVM_EXIT_CPUID, 0, 0);
	assert_true(RIP == 2 && EVENT == db && f->vmcb.dr6 == 0xffff4ff0 && f->vmcb.dr7 == 0x400);
	CODE(0xf4); /* its trap wakes it */
	EVENT = 0;
	fv_exit(f, SVM_EXIT_HLT, 0, 0);
	assert_true(RIP == 1 && EVENT == db && !f->vcpu.events.halted);
	CODE(0xf3, 0x6c); /* REP INSB: at each turn, on the same instruction */
	EVENT = 0;
	R[REG_RCX] = 2, R[REG_RDI] = FV_DATA;
	fv_exit(f, SVM_EXIT_IOIO, (uint64_t)FV_PORT << 16 | 0x21d, FV_CODE + 2);
	assert_true(RIP == 0 && R[REG_RCX] == 1 && EVENT == db && (f->hw.hv.rflags & RFLAGS_RF));
	EVENT = 0;
	fv_exit(f, SVM_EXIT_IOIO, (uint64_t)FV_PORT << 16 | 0x21d, FV_CODE + 2);
	assert_true(RIP == 2 && R[REG_RCX] == 0 && EVENT == db && !(f->hw.hv.rflags & RFLAGS_RF));
	mode_set(false, 3);
	set_sysenter(0x10);
	CODE(0x0f, 0x34); /* leaves TF as it is */
	f->hw.hv.rflags |= RFLAGS_TF;
	ud_exit();
	assert_true(f->hw.hv.rip == KERNEL_IP && EVENT == db && (f->vmcb.dr6 & DR6_BS));
	set_syscall();
	mode_set(false, 3);
	CODE(0x0f, 0x05);
	f->hw.hv.rflags |= RFLAGS_TF;
	ud_exit();
	assert_true(f->hw.hv.rip == KERNEL_IP && !EVENT && (R[REG_R11] & RFLAGS_TF));
	EVENT = 0;
	fv_exit(f, SVM_EXIT_EXCP_BASE + VEC_DB, 0, 0); /* one that the CPU has found goes back as it is */
	assert_true(EVENT == db && !(f->hw.hv.rflags & RFLAGS_RF));
}

/* ---- TSC ---- */

static void rdtsc_exit(uint64_t code)
{
	EVENT = 0;
	R[REG_RAX] = R[REG_RCX] = R[REG_RDX] = ~0ULL;
	uint64_t before = guest_tsc(&f->vm);
	fv_exit(f, code, 0, 0);
	if (!EVENT)
		assert_in_range(R[REG_RDX] << 32 | R[REG_RAX], before, guest_tsc(&f->vm));
}

static void test_rdtsc(void **state)
{
	(void)state;
	vmm_hv()->set_tsc(f->vcpu.hv, 5, HV_TSC_SAME);
	assert_true(!(f->vmcb.intercept1 & SVM_I1_RDTSC) && !(f->vmcb.intercept2 & SVM_I2_RDTSCP) &&
		    f->vmcb.tsc_offset == 5);
	f->vm.clock.s.tsc_hz = 50000000; /* it came from afar */
	f->vm.clock.s.guest_tsc = 0x123456789ab;
	clock_begin(&f->vm, rdtsc());
	assert_true(f->vm.tsc_ratio != HV_TSC_SAME);
	vmm_hv()->set_tsc(f->vcpu.hv, f->vm.tsc_offset, f->vm.tsc_ratio);
	assert_true((f->vmcb.intercept1 & SVM_I1_RDTSC) && (f->vmcb.intercept2 & SVM_I2_RDTSCP));
	f->hw.tsc_aux = 0x1007;
	CODE(0x0f, 0x31);
	rdtsc_exit(SVM_EXIT_RDTSC);
	assert_true(RIP == 2 && !EVENT && R[REG_RCX] == ~0ULL && R[REG_RDX] >= 0x123);
	CODE(0x66, 0x48, 0x0f, 0x31);
	rdtsc_exit(SVM_EXIT_RDTSC);
	assert_true(RIP == 4 && !EVENT && R[REG_RCX] == ~0ULL);
	CODE(0x0f, 0x01, 0xf9);
	rdtsc_exit(SVM_EXIT_RDTSCP);
	assert_true(RIP == 3 && !EVENT && R[REG_RCX] == 0x1007);
	CODE(0x0f, 0x01, 0xf9); /* an emulator without that intercept says RDTSC */
	rdtsc_exit(SVM_EXIT_RDTSC);
	assert_true(RIP == 3 && !EVENT && R[REG_RCX] == 0x1007);
	mode_set(true, 3);
	CODE(0x0f, 0x31);
	rdtsc_exit(SVM_EXIT_RDTSC);
	assert_true(RIP == 2 && !EVENT);
	f->vmcb.cr4 |= CR4_TSD;
	CODE(0x0f, 0x31);
	rdtsc_exit(SVM_EXIT_RDTSC);
	assert_true(RIP == 0 && EVENT == GP0 && R[REG_RAX] == ~0ULL);
	mode_set(true, 0); /* the kernel may */
	rdtsc_exit(SVM_EXIT_RDTSC);
	assert_true(RIP == 2 && !EVENT);
	*fv_pte(f, FV_CODE) = 0; /* not to be read: it runs again */
	f->hw.hv.rip = FV_CODE;
	fv_exit(f, SVM_EXIT_RDTSC, 0, 0);
	assert_true(RIP == 0 && !EVENT && !f->fail[0]);
	f->vmcb.efer = EFER_SVME;
	fv_exit(f, SVM_EXIT_RDTSC, 0, 0);
	assert_non_null(strstr(f->fail, "32-bit"));
}

/* ---- MSRs ---- */

static bool rd(uint32_t msr, uint64_t *val)
{
	CODE(0x0f, 0x32);
	R[REG_RCX] = msr;
	EVENT = 0;
	fv_exit(f, SVM_EXIT_MSR, 0, 0);
	*val = R[REG_RDX] << 32 | R[REG_RAX];
	assert_true(EVENT ? EVENT == GP0 && RIP == 0 : RIP == 2);
	return !EVENT;
}
static bool wr(uint32_t msr, uint64_t val)
{
	CODE(0x0f, 0x30);
	R[REG_RCX] = msr, R[REG_RAX] = (uint32_t)val, R[REG_RDX] = val >> 32;
	EVENT = 0;
	fv_exit(f, SVM_EXIT_MSR, 1, 0);
	assert_true(EVENT ? EVENT == GP0 && RIP == 0 : RIP == 2);
	return !EVENT;
}

static void test_msrs_of_a_vendor(void **state)
{
	static const struct {
		uint32_t msr;
		bool intel, amd;
		uint64_t intel_val, amd_val;
	} cases[] = {
		{ 0x17, true, false, 0, 0 },         /* IA32_PLATFORM_ID */
		{ 0x8b, true, true, 1ULL << 32, 0 }, /* microcode revision: other halves */
		{ 0x1a0, true, false, 0x1801, 0 },   /* IA32_MISC_ENABLE */
		{ 0xc0010010, false, true, 0, 0 },   /* SYSCFG */
		{ 0xc0010015, false, true, 0, 0 },   /* HWCR */
		{ 0xc001001f, false, true, 0, 0 },   /* NB_CFG */
		{ 0xc0011029, false, true, 0, 2 },   /* DE_CFG: LFENCE is serialising */
		{ 0xfe, true, true, 0x400, 0x400 },  /* MTRRcap */
		{ 0x2ff, true, true, 0x806, 0x806 }, /* MTRR default type */
		{ 0x3a, false, false, 0, 0 },        /* IA32_FEATURE_CONTROL */
		{ 0x3b, false, false, 0, 0 },        /* TSC_ADJUST: CPUID does not have it */
		{ 0xce, false, false, 0, 0 },        /* MSR_PLATFORM_INFO */
		{ 0x140, false, false, 0, 0 },       /* MISC_FEATURES_ENABLES */
		{ 0xc0011020, false, false, 0, 0 },  /* LS_CFG */
		{ 0xc001001b, false, false, 0, 0 },  /* TOP_MEM2's neighbour */
	};
	(void)state;
	for (unsigned i = 0; i < 2 * ARRAY_SIZE(cases); i++) {
		uint64_t val, want = i & 1 ? cases[i / 2].amd_val : cases[i / 2].intel_val;
		bool there = i & 1 ? cases[i / 2].amd : cases[i / 2].intel;
		fv_vendor(f, i & 1 ? "AuthenticAMD" : "GenuineIntel");
		if (rd(cases[i / 2].msr, &val) != there || (there && val != want))
			fail_msg("MSR %x of %s: %llx", cases[i / 2].msr, i & 1 ? "AMD" : "Intel",
				 (unsigned long long)val);
		if (!there && wr(cases[i / 2].msr, 0))
			fail_msg("MSR %x of %s can be written", cases[i / 2].msr, i & 1 ? "AMD" : "Intel");
	}
	fv_vendor(f, "HygonGenuine");
	uint64_t val;
	assert_true(rd(0xc0010015, &val) && !rd(0x1a0, &val));
	fv_vendor(f, "GenuineIntel");
	assert_true(wr(0x1a0, 0x400001) && rd(0x1a0, &val) && val == 0x401801);
}

static void test_sysenter_msrs(void **state)
{
	uint64_t val;
	(void)state;
	for (unsigned i = 0; i < 2; i++) {
		fv_vendor(f, i ? "AuthenticAMD" : "GenuineIntel");
		assert_true(wr(MSR_SYSENTER_CS, 0x10) && rd(MSR_SYSENTER_CS, &val) && val == 0x10);
		assert_true(wr(MSR_SYSENTER_ESP, KERNEL_SP) && rd(MSR_SYSENTER_ESP, &val) && val == KERNEL_SP);
		assert_true(wr(MSR_SYSENTER_EIP, KERNEL_IP) && rd(MSR_SYSENTER_EIP, &val) && val == KERNEL_IP);
		assert_true(f->vmcb.sysenter_cs == 0x10 && f->vmcb.sysenter_esp == KERNEL_SP &&
			    f->vmcb.sysenter_eip == KERNEL_IP);
		f->vmcb.sysenter_esp = (uint32_t)KERNEL_SP; /* all that the CPU keeps */
		f->vmcb.sysenter_eip = (uint32_t)KERNEL_IP;
		assert_true(rd(MSR_SYSENTER_EIP, &val) && val == KERNEL_IP);
		static struct cpu_state s;
		vmm_hv()->get_state(f->vcpu.hv, &s);
		assert_true(s.sysenter_cs == 0x10 && s.sysenter_esp == KERNEL_SP && s.sysenter_eip == KERNEL_IP);
		assert_true(!wr(MSR_SYSENTER_ESP, 1ULL << 47) && !wr(MSR_SYSENTER_EIP, 1ULL << 63));
		assert_true(rd(MSR_SYSENTER_ESP, &val) && val == KERNEL_SP);
	}
	for (unsigned i = 0; i < nmsr_pass_list; i++)
		assert_true(msr_pass_list[i] < MSR_SYSENTER_CS || msr_pass_list[i] > MSR_SYSENTER_EIP);
}

static void test_tsc_aux_by_cpuid(void **state)
{
	uint64_t val;
	(void)state;
	for (unsigned i = 0; i < f->vm.cpuid.s.n; i++) {
		if (f->vm.cpuid.s.leaf[i] == 7)
			f->vm.cpuid.s.regs[4 * i + 2] &= ~(uint32_t)BIT(22);
		if (f->vm.cpuid.s.leaf[i] == 0x80000001) {
			uint32_t *edx = &f->vm.cpuid.s.regs[4 * i + 3];
			f->hw.tsc_aux = 9;
			*edx |= (uint32_t)BIT(27);
			assert_true(rd(MSR_TSC_AUX, &val) && val == 9);
			*edx &= ~(uint32_t)BIT(27);
		}
	}
	assert_false(rd(MSR_TSC_AUX, &val));
	assert_false(wr(MSR_TSC_AUX, 1));
}

int main(void)
{
#define T(t) cmocka_unit_test_setup(t, each)
	const struct CMUnitTest tests[] = {
		T(test_hypercalls),       T(test_others_are_given_back),
		T(test_sysenter),         T(test_sysexit),
		T(test_syscall),          T(test_sysret),
		T(test_single_step),      T(test_rdtsc),
		T(test_msrs_of_a_vendor), T(test_sysenter_msrs),
		T(test_tsc_aux_by_cpuid),
	};
	return cmocka_run_group_tests_name("foreign", tests, setup, teardown);
}

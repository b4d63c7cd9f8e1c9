/* SPDX-License-Identifier: BSD-2-Clause */
/* The exit policy through the AMD-V decoder (fake_vm.h): each exit gives what the bare machine would. */
#include "arch/x86/cpu.h"
#include "arch/x86/fpu.h"
#include "tests/unit/fake_kernel.h"
#include "tests/unit/fake_vm.h"
#include <stdlib.h>
#include <string.h>

static struct fv *f;
static uint64_t *R; /* the guest's registers */

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
	return 0;
}

#define CODE(...) fv_code(f, (const uint8_t[]){ __VA_ARGS__ }, sizeof((const uint8_t[]){ __VA_ARGS__ }))
#define RIP       (f->hw.hv.rip - FV_CODE)
#define EVENT     (f->vmcb.eventinj)
#define GP0       HV_EVENT_ERR(VEC_GP, 0)

static void test_cpuid(void **state)
{
	(void)state;
	CODE(0x0f, 0xa2);
	R[REG_RAX] = 0xffffffff40000000, R[REG_RCX] = ~0ULL, R[REG_RSI] = 5;
	fv_exit(f, SVM_EXIT_CPUID, 0, 0);
	assert_true(R[REG_RAX] == 0x40000001 && R[REG_RBX] == 0x4b4d564b && R[REG_RCX] == 0x564b4d56 &&
		    R[REG_RDX] == 0x4d);
	assert_true(RIP == 2 && !EVENT && R[REG_RSI] == 5);
	static const uint8_t prefixed[][6] = { { 3, 0x66, 0x0f, 0xa2 },
					       { 3, 0x48, 0x0f, 0xa2 },
					       { 5, 0x2e, 0xf3, 0x40, 0x0f, 0xa2 } };
	for (unsigned i = 0; i < ARRAY_SIZE(prefixed); i++) { /* prefixes before it: decoded */
		fv_code(f, prefixed[i] + 1, prefixed[i][0]);
		R[REG_RAX] = 0x80000000;
		fv_exit(f, SVM_EXIT_CPUID, 0, 0);
		assert_int_equal(RIP, prefixed[i][0]);
		assert_int_equal(R[REG_RAX], 0x80000008);
	}
	f->hw.hv.rip = FV_CODE + PAGE_SIZE - 1; /* across a page boundary, the pages not neighbours in memory */
	*fv_pte(f, FV_CODE + PAGE_SIZE) = FV_DATA | 3;
	*(uint8_t *)gmem_ptr(&f->vm.mem, FV_CODE + PAGE_SIZE - 1, 1) = 0x0f;
	*(uint8_t *)gmem_ptr(&f->vm.mem, FV_DATA, 1) = 0xa2;
	fv_exit(f, SVM_EXIT_CPUID, 0, 0);
	assert_int_equal(RIP, PAGE_SIZE + 1);
	*fv_pte(f, FV_CODE) = 0; /* unmapped meanwhile: it runs again and faults by itself */
	f->hw.hv.rip = FV_CODE;
	R[REG_RAX] = 0x40000000;
	fv_exit(f, SVM_EXIT_CPUID, 0, 0);
	assert_true(RIP == 0 && !EVENT && !f->fail[0] && R[REG_RAX] == 0x40000000);
	f->vmcb.efer = EFER_SVME; /* 32-bit paging: said, not looped on for ever */
	fv_exit(f, SVM_EXIT_CPUID, 0, 0);
	assert_non_null(strstr(f->fail, "32-bit"));
}

static void test_modes_of_code(void **state)
{
	(void)state;
	f->vmcb.efer = EFER_SVME; /* real mode: CS base, no paging */
	f->vmcb.cr0 = 0x10;
	f->vmcb.cs.attr = 0x9b;
	f->vmcb.cs.base = 0x10000;
	memcpy(gmem_ptr(&f->vm.mem, 0x10008, 3), "\x66\x0f\xa2", 3);
	f->hw.hv.rip = 8;
	fv_exit(f, SVM_EXIT_CPUID, 0, 0);
	assert_int_equal(f->hw.hv.rip, 11);
}

static void rdmsr_exit(uint32_t msr)
{
	CODE(0x0f, 0x32);
	R[REG_RCX] = 0xabcd00000000 | msr;
	EVENT = 0;
	fv_exit(f, SVM_EXIT_MSR, 0, 0);
}
static void wrmsr_exit(uint32_t msr, uint64_t v)
{
	CODE(0x0f, 0x30);
	R[REG_RCX] = msr;
	R[REG_RAX] = 0xffffffff00000000 | (uint32_t)v; /* upper halves do not count */
	R[REG_RDX] = 0xffffffff00000000 | v >> 32;
	EVENT = 0;
	fv_exit(f, SVM_EXIT_MSR, 1, 0);
}
#define MSR_GP() assert_true(EVENT == GP0 && RIP == 0)
#define MSR_OK() assert_true(!EVENT && RIP == 2)

static void test_msr(void **state)
{
	(void)state;
	R[REG_RAX] = 0x1234, R[REG_RDX] = 0x5678;
	rdmsr_exit(0x12345);
	MSR_GP();
	assert_true(R[REG_RAX] == 0x1234 && R[REG_RDX] == 0x5678);
	wrmsr_exit(0x12345, 0);
	MSR_GP();
	R[REG_RAX] = R[REG_RDX] = ~0ULL;
	rdmsr_exit(MSR_EFER);
	MSR_OK();
	assert_true(R[REG_RAX] == (EFER_LME | EFER_LMA | EFER_NXE | EFER_SCE) && !R[REG_RDX]); /* no SVME to be seen */
	static const uint64_t bad[] = { EFER_SVME, BIT(1), BIT(14), BIT(15), BIT(63), 0 /* LME off under paging */ };
	for (unsigned i = 0; i < ARRAY_SIZE(bad); i++) {
		wrmsr_exit(MSR_EFER, bad[i] ? bad[i] | EFER_LME | EFER_LMA : EFER_SCE);
		MSR_GP();
	}
	wrmsr_exit(MSR_EFER, EFER_LME | EFER_LMA);
	MSR_OK();
	assert_int_equal(f->vmcb.efer, EFER_LME | EFER_LMA | EFER_SVME);
	wrmsr_exit(MSR_PAT, 0x0007040600070402);
	MSR_GP();
	wrmsr_exit(MSR_PAT, 0x0807040600070406);
	MSR_GP();
	wrmsr_exit(MSR_PAT, 0x0407050600070106);
	MSR_OK();
	rdmsr_exit(MSR_PAT);
	assert_true(R[REG_RAX] == 0x00070106 && R[REG_RDX] == 0x04070506);
	wrmsr_exit(MSR_MTRR_DEF_TYPE, 0xc02);
	MSR_GP();
	wrmsr_exit(MSR_MTRR_DEF_TYPE, BIT(32));
	MSR_GP();
	wrmsr_exit(MSR_MTRR_DEF_TYPE, 0xc06);
	MSR_OK();
	rdmsr_exit(MSR_MTRR_DEF_TYPE);
	assert_int_equal(R[REG_RAX], 0xc06);
	rdmsr_exit(MSR_TSC);
	MSR_OK();
	rdmsr_exit(MSR_X2APIC + 2); /* id */
	MSR_OK();
	rdmsr_exit(MSR_X2APIC + 0x45);
	MSR_GP();
	for (uint32_t m = MSR_X2APIC; m < MSR_X2APIC + 0x100; m++) { /* whatever they are: no harm */
		rdmsr_exit(m);
		wrmsr_exit(m, 0x1234567890abcdefULL);
	}
	assert_false(f->fail[0]);
}

static void test_kvmclock(void **state)
{
	uint8_t page[32];
	uint64_t before;
	(void)state;
	f->vm.clock.s.tsc_hz = 2500000000;
	f->vm.clock.s.wall_ns = 1700000000 * NS_PER_SEC + 5;
	wrmsr_exit(0x4b564d00, FV_DATA);
	MSR_OK();
	assert_int_equal(gmem_read(&f->vm.mem, FV_DATA, page, 12), 0);
	assert_true(get_le32(page + 4) == 1700000000 && get_le32(page + 8) == 5 && !(page[0] & 1) && get_le32(page));
	wrmsr_exit(0x4b564d01, (FV_DATA + 64) | 1);
	MSR_OK();
	assert_int_equal(gmem_read(&f->vm.mem, FV_DATA + 64, page, 32), 0);
	assert_true(get_le32(page) && !(page[0] & 1) && page[29] == 1);
	static const uint64_t outside[] = { MIB(4) - 2, MIB(4) - 16, MIB(4), 0xfffffffffffffffe & ~1ULL, FV_DEV_GPA };
	for (unsigned i = 0; i < ARRAY_SIZE(outside); i++) { /* a clock page that is no memory: no harm */
		wrmsr_exit(0x4b564d01, outside[i] | 1);
		wrmsr_exit(0x4b564d00, outside[i]);
	}
	assert_int_equal(gmem_read(&f->vm.mem, FV_DATA + 64, &before, 8), 0);
	wrmsr_exit(0x4b564d01, FV_DATA + 64); /* not enabled: not written */
	assert_int_equal(gmem_read(&f->vm.mem, FV_DATA + 64, page, 8), 0);
	assert_memory_equal(page, &before, 8);
}

/* EXITINFO1 of IOIO, APM2 15.10.2 */
#define IO(port, size, in) ((uint64_t)(port) << 16 | (uint64_t)(size) << 4 | 0x200 | (in))
#define IO_STR             4
#define IO_REP             8

static void test_io(void **state)
{
	(void)state;
	CODE(0xee);
	for (unsigned size = 1; size <= 4; size *= 2) {
		memset(f->dev, 0, sizeof(f->dev));
		R[REG_RAX] = 0x1122334455667788;
		f->hw.hv.rip = FV_CODE;
		fv_exit(f, SVM_EXIT_IOIO, IO(FV_PORT + 4, size, 0), FV_CODE + 1);
		assert_true(RIP == 1 && R[REG_RAX] == 0x1122334455667788 && f->last_size == size);
		assert_int_equal(get_le64(f->dev + 0x804),
				 0x55667788 & (size == 4 ? 0xffffffff : (1U << size * 8) - 1));
		put_le64(f->dev + 0x804, 0xa1a2a3a4a5a6a7a8);
		fv_exit(f, SVM_EXIT_IOIO, IO(FV_PORT + 4, size, 1), FV_CODE + 2);
		assert_int_equal(R[REG_RAX], size == 1   ? 0x11223344556677a8
					     : size == 2 ? 0x112233445566a7a8
							 : 0xa5a6a7a8);
		assert_int_equal(RIP, 2);
	}
	R[REG_RAX] = ~0ULL;
	fv_exit(f, SVM_EXIT_IOIO, IO(0x80, 4, 1), FV_CODE + 1); /* nobody there: all ones */
	assert_int_equal(R[REG_RAX], 0xffffffff);
	fv_exit(f, SVM_EXIT_IOIO, IO(FV_PORT + 15, 4, 1), FV_CODE + 1); /* over the end of the region */
	assert_int_equal(R[REG_RAX], 0xffffffff);
}

static void test_string_io(void **state)
{
	uint8_t b[8];
	(void)state;
	CODE(0xf3, 0x6c); /* REP INSB, three of them, downwards, into the page before */
	R[REG_RDI] = FV_DATA + 1, R[REG_RCX] = 3;
	f->hw.hv.rflags |= BIT(10);
	f->dev[0x800] = 0x5a;
	for (unsigned i = 0; i < 3; i++) {
		assert_int_equal(RIP, 0);
		fv_exit(f, SVM_EXIT_IOIO, IO(FV_PORT, 1, 1) | IO_STR | IO_REP, FV_CODE + 2);
	}
	assert_true(RIP == 2 && R[REG_RCX] == 0 && R[REG_RDI] == FV_DATA - 2 && f->nreads == 3);
	assert_int_equal(gmem_read(&f->vm.mem, FV_DATA - 1, b, 3), 0);
	assert_memory_equal(b, "\x5a\x5a\x5a", 3);
	assert_true(*fv_pte(f, FV_DATA) & BIT(6)); /* the guest's own D is set */
	f->hw.hv.rip = FV_CODE;
	fv_exit(f, SVM_EXIT_IOIO, IO(FV_PORT, 1, 1) | IO_STR | IO_REP, FV_CODE + 2); /* RCX 0: nothing */
	assert_true(RIP == 2 && f->nreads == 3);
	f->hw.hv.rflags = 2;
	CODE(0x6f); /* OUTSD over a page boundary */
	R[REG_RSI] = FV_DATA + PAGE_SIZE - 2;
	*fv_pte(f, FV_DATA + PAGE_SIZE) = (FV_DATA + 8 * PAGE_SIZE) | 3;
	assert_int_equal(gmem_write(&f->vm.mem, FV_DATA + PAGE_SIZE - 2, "ab", 2), 0);
	assert_int_equal(gmem_write(&f->vm.mem, FV_DATA + 8 * PAGE_SIZE, "cd", 2), 0);
	fv_exit(f, SVM_EXIT_IOIO, IO(FV_PORT, 4, 0) | IO_STR | 3 << 10, FV_CODE + 1);
	assert_memory_equal(f->dev + 0x800, "abcd", 4);
	assert_int_equal(R[REG_RSI], FV_DATA + PAGE_SIZE + 2);
}

/* Memory that is not there, or not to be written: what the CPU raises, before the device has seen anything. */
static void test_string_io_faults(void **state)
{
	static const struct {
		uint64_t at, pte, address;
		uint8_t in, cpl;
		uint64_t event;
	} cases[] = {
		{ FV_DATA, 0, FV_DATA, 0, 0, HV_EVENT_ERR(VEC_PF, 0) },
		{ FV_DATA, 0, FV_DATA, 1, 0, HV_EVENT_ERR(VEC_PF, 2) },
		{ FV_DATA, FV_DATA | 1, FV_DATA, 1, 0, HV_EVENT_ERR(VEC_PF, 3) },
		{ FV_DATA, FV_DATA | 3, FV_DATA, 0, 3, HV_EVENT_ERR(VEC_PF, 5) },
		{ FV_DATA - 1, 0, FV_DATA, 1, 0, HV_EVENT_ERR(VEC_PF, 2) },
		{ FV_DATA - 1, 0, FV_DATA, 0, 0, HV_EVENT_ERR(VEC_PF, 0) },
		{ BIT(47), FV_DATA | 3, BIT(47), 0, 0, HV_EVENT_ERR(VEC_GP, 0) },
	};
	(void)state;
	for (unsigned i = 0; i < ARRAY_SIZE(cases); i++) {
		fv_reset(f);
		CODE(0x6d);
		*fv_pte(f, FV_DATA) = cases[i].pte;
		R[REG_RDI] = R[REG_RSI] = cases[i].at;
		f->vmcb.cpl = cases[i].cpl;
		fv_exit(f, SVM_EXIT_IOIO, IO(FV_PORT, 2, cases[i].in) | IO_STR | 3 << 10, FV_CODE + 1);
		if (EVENT != cases[i].event || f->fail[0])
			fail_msg("case %u: event %llx, %s", i, (unsigned long long)EVENT, f->fail);
		assert_true(RIP == 0 && f->nreads + f->nwrites == 0);
		assert_int_equal(R[REG_RDI], cases[i].at);
		if ((EVENT & 0xff) == VEC_PF)
			assert_int_equal(f->vmcb.cr2, cases[i].address);
	}
}

static void test_hlt_and_others(void **state)
{
	(void)state;
	CODE(0xf4);
	f->vmcb.int_state = 1; /* STI; HLT */
	fv_exit(f, SVM_EXIT_HLT, 0, 0);
	assert_true(RIP == 1 && f->vcpu.events.halted && !(f->vmcb.int_state & 1));
	CODE(0x0f, 0x01, 0xd9);
	fv_exit(f, SVM_EXIT_VMMCALL, 0, 0);
	assert_true(RIP == 3 && R[REG_RAX] == (uint64_t)-1000);
	CODE(0x0f, 0x09);
	fv_exit(f, SVM_EXIT_WBINVD, 0, 0);
	assert_int_equal(RIP, 2);
	CODE(0x0f, 0x08);
	fv_exit(f, SVM_EXIT_INVD, 0, 0);
	assert_int_equal(RIP, 2);
	CODE(0xf3, 0x90);
	fv_exit(f, SVM_EXIT_PAUSE, 0, 0);
	assert_int_equal(RIP, 2);
	CODE(0xcc);
	fv_exit(f, SVM_EXIT_INTR, 0, 0);
	assert_true(RIP == 0 && !EVENT);
	fv_exit(f, SVM_EXIT_SHUTDOWN, 0, 0);
	assert_int_equal(f->resets, 1);
	assert_false(f->fail[0]);
	fv_exit(f, (uint64_t)-1, 0, 0);
	assert_non_null(strstr(f->fail, "refused"));
}

/* Each is let through, and the guest that makes many waits: ten thousand a second, whatever its vCPUs. */
static void test_bus_locks(void **state)
{
	(void)state;
	CODE(0xf0, 0xff, 0x00);
	fake_time_freeze(NS_PER_SEC);
	fake_rest_ns = 0;
	for (unsigned i = 0; i < 32; i++) {
		f->vmcb.bus_locks = 0;
		fv_exit(f, SVM_EXIT_BUS_LOCK, 0, 0);
		assert_true(RIP == 0 && !EVENT && f->vmcb.bus_locks == 1 && !f->hw.hv.bus_locked);
	}
	assert_int_equal(fake_rest_ns, 0);
	for (unsigned i = 1; i < 20; i++) {
		fv_exit(f, SVM_EXIT_BUS_LOCK, 0, 0);
		assert_int_equal(fake_rest_ns, NS_PER_SEC + i * 100 * NS_PER_US);
	}
	fake_rest_ns = 0;
	fv_exit(f, SVM_EXIT_INTR, 0, 0); /* no other exit waits */
	fake_time_advance(NS_PER_SEC);
	fv_exit(f, SVM_EXIT_BUS_LOCK, 0, 0); /* after a rest */
	assert_int_equal(fake_rest_ns, 0);
	fake_time_thaw();
	assert_false(f->fail[0]);
}

static void test_undefined_and_denied(void **state)
{
	static const uint16_t ud[] = { SVM_EXIT_VMRUN,
				       SVM_EXIT_VMLOAD,
				       0x83,
				       0x84,
				       0x85,
				       SVM_EXIT_SKINIT,
				       SVM_EXIT_MONITOR,
				       SVM_EXIT_MWAIT,
				       SVM_EXIT_MWAIT_ARMED,
				       SVM_EXIT_RDPRU,
				       SVM_EXIT_INVLPGA,
				       SVM_EXIT_INVLPGB,
				       SVM_EXIT_TLBSYNC,
				       0x123 };
	(void)state;
	for (unsigned i = 0; i < ARRAY_SIZE(ud); i++) {
		EVENT = 0;
		fv_exit(f, ud[i], 0, 0);
		assert_true(EVENT == HV_EVENT(HV_EVENT_EXC, VEC_UD) && RIP == 0);
	}
	EVENT = 0;
	fv_exit(f, SVM_EXIT_RDPMC, 0, 0);
	assert_true(EVENT == GP0 && RIP == 0);
}

static void xsetbv_exit(uint32_t index, uint64_t v, unsigned cpl)
{
	CODE(0x0f, 0x01, 0xd1);
	R[REG_RCX] = index, R[REG_RAX] = (uint32_t)v, R[REG_RDX] = v >> 32;
	f->vmcb.cpl = (uint8_t)cpl;
	EVENT = 0;
	fv_exit(f, SVM_EXIT_XSETBV, 0, 0);
}

static void test_xsetbv(void **state)
{
	(void)state;
	xsetbv_exit(0, 7, 0);
	assert_true(RIP == 3 && !EVENT && fpu_get_xcr0() == 7);
	static const struct {
		uint32_t index;
		uint64_t v;
		unsigned cpl;
	} bad[] = { { 0, 0, 0 },          { 0, 5, 0 }, { 0, 6, 0 }, { 0, BIT(63) | 7, 0 },
		    { 0, BIT(9) | 7, 0 }, { 1, 7, 0 }, { 0, 3, 3 } };
	for (unsigned i = 0; i < ARRAY_SIZE(bad); i++) {
		xsetbv_exit(bad[i].index, bad[i].v, bad[i].cpl);
		assert_true(EVENT == GP0 && RIP == 0 && fpu_get_xcr0() == 7);
	}
	struct cpuid_table given = f->vm.cpuid; /* what the host has and this guest was not given */
	f->vm.cpuid.s.regs[cpuid_table_row(&given, 0xd, 0) - given.s.regs] = 3;
	xsetbv_exit(0, 7, 0);
	assert_true(EVENT == GP0 && RIP == 0);
	xsetbv_exit(0, 3, 0);
	assert_true(RIP == 3 && !EVENT && fpu_get_xcr0() == 3);
	f->vm.cpuid = given;
	xsetbv_exit(0, 7, 0);
}

/* ---- events cut short in their delivery ---- */

static void test_event_is_delivered_again(void **state)
{
	uint64_t irq = HV_EVENT(HV_EVENT_INTR, 0x31);
	(void)state;
	f->hw.hv.rflags |= RFLAGS_IF;
	assert_true(vmm_hv()->ready(f->vcpu.hv, false));
	vmm_hv()->inject(f->vcpu.hv, irq);
	assert_false(vmm_hv()->ready(f->vcpu.hv, false));
	f->intinfo = irq;
	fv_exit(f, SVM_EXIT_NPF, 1, FV_DATA); /* its delivery met a page of RAM that was just replaced */
	assert_true(f->delivered == irq && EVENT == irq);
	f->intinfo = 0;
	fv_exit(f, SVM_EXIT_INTR, 0, 0);
	assert_true(f->delivered == irq && !EVENT);
	f->intinfo = HV_EVENT(HV_EVENT_SOFT, 0x80); /* INT n is executed again */
	fv_exit(f, SVM_EXIT_INTR, 0, 0);
	assert_int_equal(EVENT, 0);
}

static void test_interrupt_waits_behind_exception(void **state)
{
	uint64_t irq = HV_EVENT(HV_EVENT_INTR, 0x31), ac = HV_EVENT_ERR(VEC_AC, 0);
	(void)state;
	f->hw.hv.rflags |= RFLAGS_IF;
	f->intinfo = irq;
	fv_exit(f, SVM_EXIT_EXCP_BASE + VEC_AC, 0, 0);
	assert_true(EVENT == ac && f->hw.hv.event_next == irq);
	f->hw.hv.rflags &= ~RFLAGS_IF; /* in the handler of #AC */
	f->intinfo = 0;
	fv_exit(f, SVM_EXIT_INTR, 0, 0);
	assert_int_equal(f->delivered, ac);
	fv_exit(f, SVM_EXIT_INTR, 0, 0);
	assert_int_equal(f->delivered, 0);
	assert_int_equal(f->vmcb.int_ctl & (SVM_INT_V_IRQ | SVM_INT_V_IGN_TPR),
			 SVM_INT_V_IRQ | SVM_INT_V_IGN_TPR); /* asked to be told */
	f->hw.hv.rflags |= RFLAGS_IF;
	fv_exit(f, SVM_EXIT_INTR, 0, 0);
	assert_true(f->delivered == irq && !f->hw.hv.event_next);
}

/* Interrupts off do not hold it back; another one does, until its IRET has run. */
static void test_nmi(void **state)
{
	static struct cpu_state s;
	uint64_t nmi = HV_EVENT(HV_EVENT_NMI, VEC_NMI);
	(void)state;
	CODE(0x90, 0x48, 0xcf);
	f->hw.hv.rflags &= ~RFLAGS_IF;
	assert_true(vmm_hv()->ready(f->vcpu.hv, true) && !vmm_hv()->ready(f->vcpu.hv, false));
	f->vmcb.int_state = 1;
	assert_false(vmm_hv()->ready(f->vcpu.hv, true)); /* behind a MOV SS */
	f->vmcb.int_state = 0;
	vmm_hv()->inject(f->vcpu.hv, nmi);
	f->intinfo = nmi; /* cut short: it is delivered again, as the same one */
	fv_exit(f, SVM_EXIT_NPF, 1, FV_DATA);
	f->intinfo = 0;
	fv_exit(f, SVM_EXIT_INTR, 0, 0);
	assert_true(f->delivered == nmi && !EVENT);
	assert_false(vmm_hv()->ready(f->vcpu.hv, true));
	f->hw.hv.rip = FV_CODE + 1;
	fv_exit(f, SVM_EXIT_IRET, 0, 0);
	assert_true(RIP == 1 && !vmm_hv()->ready(f->vcpu.hv, true)); /* it has not run yet */
	svm_get_state(f->vcpu.hv, &s);
	assert_int_equal(s.nmi_blocked, 1);
	assert_false(f->vmcb.intercept1 & SVM_I1_IRET);
	f->hw.hv.rip = FV_CODE + 9;
	fv_exit(f, SVM_EXIT_INTR, 0, 0);
	assert_true(vmm_hv()->ready(f->vcpu.hv, true));
	svm_get_state(f->vcpu.hv, &s);
	assert_int_equal(s.nmi_blocked, 0);
}

/*
 * A guest whose #AC handler's own stack is misaligned: #AC meets itself for ever. The guest hangs, the host does not.
 */
static void test_exception_meets_itself(void **state)
{
	(void)state;
	f->intinfo = 0;
	fv_exit(f, SVM_EXIT_EXCP_BASE + VEC_AC, 0, 0);
	for (unsigned i = 0; i < 100; i++) {
		f->intinfo = EVENT;
		fv_exit(f, SVM_EXIT_EXCP_BASE + (i % 2 ? VEC_AC : VEC_DB), 0, 0);
		assert_int_equal(EVENT & 0xff, i % 2 ? VEC_AC : VEC_DB);
	}
	f->hw.hv.rflags |= RFLAGS_IF;
	f->intinfo = HV_EVENT(HV_EVENT_INTR, 0x31); /* and with an interrupt in between */
	fv_exit(f, SVM_EXIT_EXCP_BASE + VEC_AC, 0, 0);
	for (unsigned i = 0; i < 100; i++) {
		f->intinfo = EVENT;
		fv_exit(f, SVM_EXIT_EXCP_BASE + VEC_AC, 0, 0);
	}
	assert_int_equal(f->hw.hv.event_next, HV_EVENT(HV_EVENT_INTR, 0x31));
	fv_exit(f, SVM_EXIT_EXCP_BASE + VEC_MC, 0, 0);
	assert_non_null(strstr(f->fail, "machine check"));
}

static void test_nested_fault(void **state)
{
	(void)state;
	fv_exit(f, SVM_EXIT_NPF, 4, FV_DATA);
	assert_true(RIP == 0 && !f->fail[0]);
	fv_exit(f, SVM_EXIT_NPF, 4 | 16, FV_DEV_GPA);
	assert_non_null(strstr(f->fail, "jumped"));
}

int main(void)
{
#define T(t) cmocka_unit_test_setup(t, each)
	const struct CMUnitTest tests[] = {
		T(test_cpuid),
		T(test_modes_of_code),
		T(test_msr),
		T(test_kvmclock),
		T(test_io),
		T(test_string_io),
		T(test_string_io_faults),
		T(test_hlt_and_others),
		T(test_bus_locks),
		T(test_undefined_and_denied),
		T(test_xsetbv),
		T(test_event_is_delivered_again),
		T(test_interrupt_waits_behind_exception),
		T(test_nmi),
		T(test_exception_meets_itself),
		T(test_nested_fault),
	};
	return cmocka_run_group_tests_name("exit", tests, setup, teardown);
}

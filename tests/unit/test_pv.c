/* SPDX-License-Identifier: BSD-2-Clause */
/* KVM's interface for guests of several vCPUs: what it says of waiting, which flush it keeps, whom hypercalls reach. */
#include "arch/x86/hw/apic.h"
#include "kernel/time.h"
#include "tests/unit/fake_kernel.h"
#include "tests/unit/fake_vm.h"
#include "tests/unit/gmem_dirt.h"
#include "vmm/x86/guest_clock.h"
#include "vmm/x86/halt_poll.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#define AREA 0x20040ULL /* not at a page's start */
#define N    3

static struct fv *f;
static uint64_t *R;
static struct vcpu others[N - 1], *vcpus[N];
static struct vlapic *lapics[N];
static uint8_t *area; /* struct kvm_steal_time */
static unsigned nmis;

static void nmi(void *arg unused, unsigned i) { nmis |= 1U << i; }

static int setup(void **state unused)
{
	f = fv_new();
	R = f->hw.hv.gpr;
	area = gmem_ptr(&f->vm.mem, AREA, 64);
	return 0;
}
static int teardown(void **state unused)
{
	fv_free(f);
	return 0;
}
static int each(void **state unused)
{
	fv_reset(f);
	pv_reset(&f->vcpu);
	memset(area, 0, 64);
	memset(others, 0, sizeof(others));
	for (unsigned i = 0; i < N; i++) {
		vcpus[i] = i ? &others[i - 1] : &f->vcpu;
		lapics[i] = &vcpus[i]->lapic;
		vlapic_init(lapics[i], &f->vm.apics, i);
		lapics[i]->s.svr = 0x1ff;
	}
	f->vm.vcpus = vcpus, f->vm.nvcpus = f->vm.apics.n = N;
	f->vm.apics.lapic = lapics, f->vm.apics.nmi = nmi;
	f->vcpu.flush = 0, nmis = 0;
	fake_kicked = NULL;
	fake_waited_ns = 1000000;
	return 0;
}

static int wrmsr_exit(uint32_t msr, uint64_t val)
{
	fv_code(f, (const uint8_t[]){ 0x0f, 0x30 }, 2);
	R[REG_RCX] = msr, R[REG_RAX] = (uint32_t)val, R[REG_RDX] = val >> 32;
	fv_exit(f, SVM_EXIT_MSR, 1, 0);
	int bad = f->vmcb.eventinj ? -EINVAL : 0;
	f->vmcb.eventinj = f->hw.hv.event_next = 0;
	return bad;
}

static uint64_t told(void) { return get_le64(area); }
static uint32_t version(void) { return get_le32(area + 8); }

/* ---- polling in HLT ---- */

static void test_halt_poll(void **state unused)
{
	static const struct {
		uint32_t limit;
		uint64_t waited;
		uint32_t next;
	} t[] = { { 0, 50000, 10000 },        { 10000, 50000, 20000 }, { 160000, 190000, 200000 },
		  { 200000, 200000, 200000 }, { 40000, 30000, 40000 }, /* it was enough */
		  { 200000, 200001, 0 },      { 0, NS_PER_SEC, 0 } };
	for (unsigned i = 0; i < ARRAY_SIZE(t); i++)
		assert_int_equal(halt_poll_next(t[i].limit, t[i].waited), t[i].next);
	struct vcpu *v = &f->vcpu;
	v->want = VCPU_WANT_RUN;
	v->kicked = 1;
	halt_poll_on = true;
	assert_false(halt_poll(v)); /* no limit yet */
	v->halt_poll_ns = 20000;
	assert_true(halt_poll(v));
	v->kicked = 0;
	uint64_t begin = time_ns();
	assert_false(halt_poll(v));
	assert_true(time_ns() - begin >= 20000);
	v->want = VCPU_WANT_PARK;
	assert_true(halt_poll(v));
	v->want = VCPU_WANT_RUN;
	v->halt_poll_ns = UINT32_MAX; /* 4 s: the ends below come at once */
	fake_short = true;
	assert_false(halt_poll(v));
	fake_short = false;
	f->vm.halt.polling = MAX(cpu_count() / 2, 1U);
	assert_false(halt_poll(v));
	f->vm.halt.polling = 0;
	uint64_t val;
	assert_true(!pv_read_poll(v, &val) && val == 1);
	assert_int_equal(wrmsr_exit(MSR_KVM_POLL, 2), -EINVAL);
	assert_int_equal(wrmsr_exit(MSR_KVM_POLL, 0), 0);
	assert_true(!pv_read_poll(v, &val) && val == 0);
	assert_false(halt_poll(v));
	assert_int_equal(wrmsr_exit(MSR_KVM_POLL, 1), 0);
	halt_poll_on = false; /* tern is a guest */
	assert_false(halt_poll(v));
	assert_int_equal(f->vm.halt.polling, 0);
}

static void test_registers(void **state unused)
{
	uint64_t val;
	assert_int_equal(wrmsr_exit(MSR_KVM_STEAL_TIME, AREA | 1), 0);
	assert_true(!pv_read_steal_time(&f->vcpu, &val) && val == (AREA | 1));
	assert_int_equal(wrmsr_exit(MSR_KVM_STEAL_TIME, AREA | 3), -EINVAL);   /* a reserved bit */
	assert_int_equal(wrmsr_exit(MSR_KVM_STEAL_TIME, MIB(4) | 1), -EINVAL); /* behind its memory */
	assert_int_equal(wrmsr_exit(MSR_KVM_STEAL_TIME, ~0x3fULL | 1), -EINVAL);
	assert_true(!pv_read_steal_time(&f->vcpu, &val) && val == (AREA | 1)); /* as it was */
	assert_int_equal(wrmsr_exit(MSR_KVM_STEAL_TIME, MIB(4)), 0);           /* off: wherever */
	pv_resume(&f->vcpu);
	assert_int_equal(version(), 2); /* the last look before it went off */

	cpuid_table_topology(&f->vm.cpuid, 1); /* which is not offered it */
	assert_int_equal(wrmsr_exit(MSR_KVM_STEAL_TIME, AREA | 1), -EINVAL);
	assert_int_equal(pv_read_steal_time(&f->vcpu, &val), -EINVAL);
	for (unsigned i = 0; i < f->vm.cpuid.s.n; i++)
		if (f->vm.cpuid.s.leaf[i] == 0x40000001)
			f->vm.cpuid.s.regs[4 * i] |= PV_SMP;
}

/* A clock's page may be anywhere, as with KVM: where there is no memory, or not for all of it, nothing is written. */
static void test_clock_page_anywhere(void **state unused)
{
	static const uint64_t nowhere[] = { MIB(4), GIB(3), GIB(4) - 8, BIT(52), 240ULL << 40, ~0ULL };
	uint8_t low[32], after[32];
	assert_int_equal(gmem_read(&f->vm.mem, 0, low, sizeof(low)), 0);
	for (gfn_t g = 0; g < MIB(4) >> PAGE_SHIFT; g++)
		forget_dirt(&f->vm.mem, g);
	for (unsigned i = 0; i < ARRAY_SIZE(nowhere); i++) {
		assert_int_equal(wrmsr_exit(MSR_KVM_WALL_CLOCK, nowhere[i]), 0);
		assert_int_equal(wrmsr_exit(MSR_KVM_SYSTEM_TIME, nowhere[i] | 1), 0);
		assert_int_equal(f->vcpu.msr.system_time, nowhere[i] | 1);
		clock_update(&f->vcpu);
	}
	assert_int_equal(wrmsr_exit(MSR_KVM_SYSTEM_TIME, (MIB(4) - 16) | 1), 0);
	assert_int_equal(gmem_next_written(&f->vm.mem, FV_CODE / PAGE_SIZE + 1, 1024), 1024);
	assert_int_equal(gmem_read(&f->vm.mem, 0, after, sizeof(after)), 0);
	assert_memory_equal(low, after, sizeof(low)); /* an address that wraps */
	assert_int_equal(f->fail[0], 0);
	assert_int_equal(wrmsr_exit(MSR_KVM_SYSTEM_TIME, 0), 0);
}

static void test_waiting_is_told(void **state unused)
{
	put_le64(area, 5000); /* what the guest was told before, on another host */
	assert_int_equal(wrmsr_exit(MSR_KVM_STEAL_TIME, AREA | 1), 0);
	assert_true(f->vcpu.pv.switched);
	pv_resume(&f->vcpu);
	assert_true(!f->vcpu.pv.switched && told() == 5000 &&
		    version() == 2); /* what the task waited before is not its */
	fake_waited_ns += 700;
	pv_switch_in(&f->vcpu.pv);
	pv_resume(&f->vcpu);
	assert_true(told() == 5700 && version() == 4);
	put_le32(area + 8, 7); /* it need not be even */
	fake_waited_ns += 50;
	pv_resume(&f->vcpu);
	assert_true(told() == 5750 && version() == 8);
	fake_waited_ns = 10; /* another task, on another host: goes on from there, neither up nor down */
	pv_begin(&f->vcpu);
	pv_resume(&f->vcpu);
	assert_true(told() == 5750 && version() == 10);
	assert_true(is_dirty(&f->vm.mem, AREA >> PAGE_SHIFT)); /* a migration sends it */
}

static void test_flush_is_kept(void **state unused)
{
	assert_int_equal(wrmsr_exit(MSR_KVM_STEAL_TIME, AREA | 1), 0);
	pv_resume(&f->vcpu);
	f->vcpu.flush = 0;
	pv_switch_out(&f->vcpu);
	assert_int_equal(area[16], 1);
	area[16] = 3; /* another vCPU leaves its flush */
	pv_switch_in(&f->vcpu.pv);
	pv_switch_out(&f->vcpu); /* on a CPU, and off it before it has looked */
	assert_int_equal(area[16], 3);
	pv_switch_in(&f->vcpu.pv);
	pv_resume(&f->vcpu);
	assert_true(!area[16] && f->vcpu.flush);
	f->vcpu.flush = 0;
	pv_switch_out(&f->vcpu);
	pv_switch_in(&f->vcpu.pv);
	pv_resume(&f->vcpu); /* nobody asked */
	assert_true(!area[16] && !f->vcpu.flush);
	area[16] = 3; /* left while it was on its way to the exit that moves the area: done, and not for ever */
	assert_int_equal(wrmsr_exit(MSR_KVM_STEAL_TIME, (AREA + 64) | 1), 0);
	assert_true(!area[16] && f->vcpu.flush);
	pv_reset(&f->vcpu); /* INIT: that memory may be another's */
	pv_switch_out(&f->vcpu);
	assert_int_equal(area[16], 0);
}

static int64_t call(uint64_t nr, uint64_t a, uint64_t b, uint64_t c, uint64_t d)
{
	fv_code(f, (const uint8_t[]){ 0x0f, 0x01, 0xd9 }, 3);
	R[REG_RAX] = nr, R[REG_RBX] = a, R[REG_RCX] = b, R[REG_RDX] = c, R[REG_RSI] = d;
	fv_exit(f, SVM_EXIT_VMMCALL, 0, 0);
	assert_true(f->hw.hv.rip == FV_CODE + 3 && !f->vmcb.eventinj);
	return (int64_t)R[REG_RAX];
}

static bool has(unsigned i, unsigned vector)
{
	bool was = lapics[i]->s.irr[vector / 32] >> vector % 32 & 1;
	lapics[i]->s.irr[vector / 32] = 0;
	return was;
}

static void test_ipis(void **state unused)
{
	assert_int_equal(call(10, 6, 0, 0, 0x51), 2);
	assert_true(!has(0, 0x51) && has(1, 0x51) && has(2, 0x51));
	assert_int_equal(call(10, 3, 0, 1, 0x52), 2); /* from vCPU 1 on */
	assert_true(!has(0, 0x52) && has(1, 0x52) && has(2, 0x52));
	assert_int_equal(call(10, ~0ULL, ~0ULL, 0, 0x53), N); /* those that there are */
	assert_true(has(0, 0x53) && has(1, 0x53) && has(2, 0x53));
	assert_int_equal(call(10, 1, 0, 1ULL << 40, 0x53), 0);
	assert_int_equal(call(10, 1, 0, ~0ULL, 0x53), 0);
	assert_int_equal(call(10, 7, 0, 0, DELIVERY(DELIVERY_NMI)), N);
	assert_int_equal(nmis, 7);
	assert_int_equal(call(10, 7, 0, 0, 0x0f), 0); /* no vector, no other kind */
	assert_int_equal(call(10, 7, 0, 0, DELIVERY(DELIVERY_INIT)), 0);
	assert_int_equal(call(10, 7, 0, 0, DELIVERY(DELIVERY_SIPI) | 0x51), 0);
	assert_int_equal(call(10, 7, 0, 0, ICR_LOGICAL | 0x51), -22);
	assert_int_equal(call(10, 7, 0, 0, 1U << 18 | 0x51), -22);
	for (unsigned i = 0; i < N; i++)
		assert_false(lapics[i]->s.events || has(i, 0x51) || has(i, 0x0f));
}

static void test_kicks(void **state unused)
{
	assert_int_equal(call(5, 0, 1, 0, 0), 0);
	assert_ptr_equal(fake_kicked, vcpus[1]);
	assert_true(pv_take_kick(&vcpus[1]->pv) && !pv_take_kick(&vcpus[1]->pv));
	fake_kicked = NULL;
	assert_int_equal(call(5, 0, N, 0, 0), 0); /* nobody */
	assert_int_equal(call(5, 0, ~0ULL, 0, 0), 0);
	assert_null(fake_kicked);
	assert_int_equal(call(11, 1, 0, 0, 0), 0);
	assert_int_equal(call(1, 0, 0, 0, 0), -1000);
	assert_int_equal(call(~0ULL, 0, 0, 0, 0), -1000);
}

/* It has spun for a while (hv.h): whoever it waits for may want this CPU. */
static void test_spinning(void **state unused)
{
	unsigned before = fake_yields;
	f->vcpu.want = VCPU_WANT_RUN;
	fv_code(f, (const uint8_t[]){ 0xf3, 0x90 }, 2);
	fv_exit(f, SVM_EXIT_PAUSE, 0, 0);
	assert_int_equal(fake_yields, before + 1);
	assert_true(f->hw.hv.rip == FV_CODE + 2 && !f->vmcb.eventinj && !f->vcpu.events.halted && !f->fail[0]);
	assert_int_equal(f->vcpu.exits[EXIT_PAUSE], 1);
	fv_code(f, (const uint8_t[]){ 0x66, 0xf3, 0x90 }, 3);
	fv_exit(f, SVM_EXIT_PAUSE, 0, 0);
	assert_int_equal(f->hw.hv.rip, FV_CODE + 3);
	*fv_pte(f, FV_CODE) = 0; /* unmapped meanwhile: it runs again, and faults by itself */
	f->hw.hv.rip = FV_CODE;
	fv_exit(f, SVM_EXIT_PAUSE, 0, 0);
	assert_true(f->hw.hv.rip == FV_CODE && fake_yields == before + 3 && !f->vmcb.eventinj && !f->fail[0]);
}

static void test_who_may_call(void **state unused)
{
	f->vmcb.cpl = 3;
	assert_int_equal(call(10, 7, 0, 0, 0x51), -1);
	assert_false(has(1, 0x51));
	f->vmcb.cpl = 0;
	f->vmcb.cs.attr = 0xc9b; /* 32-bit code: halves of registers, bitmaps of 32 */
	assert_int_equal(call(0xffffffff0000000a, 0xffffffff00000002, 1, 0xffffffff00000000, 0x51), 1);
	assert_true(has(1, 0x51) && !has(2, 0x51));
	assert_int_equal(call(7, 0, 0, 0, 0), 0xfffffc18); /* -1000 */
}

/* In service alone, edge-triggered, nothing behind it: then the guest ends it by clearing a bit. */
static void test_end_of_interrupt(void **state unused)
{
	struct vlapic *l = &f->vcpu.lapic;
	uint64_t val;
	assert_int_equal(wrmsr_exit(MSR_KVM_PV_EOI_EN, AREA | 3), -EINVAL);
	assert_int_equal(wrmsr_exit(MSR_KVM_PV_EOI_EN, MIB(4) | 1), -EINVAL);
	pv_leave_eoi(&f->vcpu); /* it is off */
	assert_int_equal(wrmsr_exit(MSR_KVM_PV_EOI_EN, AREA | 1), 0);
	assert_true(!pv_read_eoi(&f->vcpu, &val) && val == (AREA | 1));

	pv_leave_eoi(&f->vcpu); /* nothing is in service */
	assert_true(!area[0] && !f->vcpu.pv.eoi_left);
	vapic_bus_post(l->bus, 0, false, DELIVERY_FIXED, 0x51, false);
	vlapic_ack(l, 0x51);
	forget_dirt(&f->vm.mem, AREA >> PAGE_SHIFT);
	pv_leave_eoi(&f->vcpu);
	assert_int_equal(area[0], 1);
	assert_true(is_dirty(&f->vm.mem, AREA >> PAGE_SHIFT));
	pv_take_eoi(&f->vcpu); /* an exit before the guest came to it */
	assert_true(area[0] == 0 && l->s.isr[2] == 1U << 0x11);
	pv_leave_eoi(&f->vcpu);
	area[0] = 0;
	pv_take_eoi(&f->vcpu);
	assert_int_equal(l->s.isr[2], 0);
	pv_take_eoi(&f->vcpu); /* once */

	vapic_bus_post(l->bus, 0, false, DELIVERY_FIXED, 0x51, false);
	vlapic_ack(l, 0x51);
	vapic_bus_post(l->bus, 0, false, DELIVERY_FIXED, 0x41, false); /* it waits for the EOI */
	pv_leave_eoi(&f->vcpu);
	assert_false(f->vcpu.pv.eoi_left);
	vlapic_ack(l, 0x41); /* two in service */
	pv_leave_eoi(&f->vcpu);
	assert_false(f->vcpu.pv.eoi_left);
	vlapic_eoi(l);
	pv_leave_eoi(&f->vcpu);
	assert_true(f->vcpu.pv.eoi_left);
	pv_take_eoi(&f->vcpu);
	vlapic_eoi(l);
	vapic_bus_post(l->bus, 0, false, DELIVERY_FIXED, 0x61, true); /* the I/O APIC has to hear of it */
	vlapic_ack(l, 0x61);
	pv_leave_eoi(&f->vcpu);
	assert_false(f->vcpu.pv.eoi_left);
}

static void test_moves(void **state unused)
{
	uint8_t buf[64];
	struct why w = { "" };
	assert_int_equal(wrmsr_exit(MSR_KVM_PV_EOI_EN, (AREA + 64) | 1), 0);
	assert_int_equal(wrmsr_exit(MSR_KVM_STEAL_TIME, AREA | 1), 0);
	f->vcpu.pv.s.unhalted = 1;
	state_save(&pv_desc, &f->vcpu, buf);
	others[0].vm = &f->vm;
	assert_int_equal(state_load(&pv_desc, &others[0], 1, buf, state_size(&pv_desc), &w), 0);
	assert_memory_equal(&others[0].pv.s, &f->vcpu.pv.s, sizeof(others[0].pv.s));
	for (unsigned i = 0; i < state_size(&pv_desc); i++) { /* no state that no guest can have */
		buf[i] ^= 0x82;
		int err = state_load(&pv_desc, &others[0], 1, buf, state_size(&pv_desc), NULL);
		assert_true(err == -EINVAL || (i % 8 && i % 8 < 3 && i < 16)); /* the area lies elsewhere */
		buf[i] ^= 0x82;
	}
}

int main(void)
{
#define T(name) cmocka_unit_test_setup(name, each)
	const struct CMUnitTest tests[] = { T(test_halt_poll),       T(test_registers),     T(test_clock_page_anywhere),
					    T(test_waiting_is_told), T(test_flush_is_kept), T(test_ipis),
					    T(test_kicks),           T(test_who_may_call),  T(test_end_of_interrupt),
					    T(test_moves),           T(test_spinning) };
	return cmocka_run_group_tests(tests, setup, teardown);
}

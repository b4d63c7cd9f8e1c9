/* SPDX-License-Identifier: BSD-2-Clause */
/* What a vCPU is given before an entry, what ends its HLT, what INIT does, and that none of it is lost in a move. */
#include "arch/x86/hw/apic.h"
#include "tests/unit/fake_kernel.h"
#include "vmm/x86/vcpu.h"
#include <string.h>

static struct {
	bool irq_ready, nmi_ready, windowless;
	uint64_t event;          /* the last injected */
	unsigned injected, prio; /* how many; the class that a window was asked for */
	bool nmi_window;
	unsigned kicks, resets;
} hw;

static void inject(struct hv_vcpu *v unused, uint64_t event) { hw.event = event, hw.injected++; }
static bool ready(struct hv_vcpu *v unused, bool nmi) { return nmi ? hw.nmi_ready : hw.irq_ready; }
static bool window(struct hv_vcpu *v unused, unsigned prio, bool nmi)
{
	hw.prio = prio, hw.nmi_window = nmi;
	return !nmi || !hw.windowless;
}
static const struct hv_ops ops = { .inject = inject, .ready = ready, .window = window };
const struct hv_ops *vmm_hv_ops = &ops;

static struct vm vm;
static struct vcpu vcpu;
static struct hv_vcpu hv;
static struct cpu_state state;
static struct vlapic *lapics[1] = { &vcpu.lapic };

void vcpu_kick(struct vcpu *v) { hw.kicks += v == &vcpu; }
void vm_request_reset(void *p) { hw.resets += p == &vm; }
static void bus_kick(void *arg unused, unsigned i unused) { vcpu_kick(&vcpu); }
static void bus_nmi(void *arg unused, unsigned i unused) { events_nmi(&vcpu); }

static int power_on(void **s unused)
{
	memset(&hw, 0, sizeof(hw));
	memset(&vcpu, 0, sizeof(vcpu));
	memset(&hv, 0, sizeof(hv));
	vm = (struct vm){ .tsc_hz = 1000000000,
			  .apics = { .lapic = lapics, .n = 1, .kick = bus_kick, .nmi = bus_nmi } };
	vcpu.vm = &vm, vcpu.hv = &hv, vcpu.state = &state;
	vlapic_init(&vcpu.lapic, &vm.apics, 0);
	events_init(&vcpu);
	assert_int_equal(vlapic_msr_write(&vcpu.lapic, 0x80f, 0, 0, 0x1ff), 0); /* SVR: enabled */
	return 0;
}

static void icr(uint32_t low) { assert_int_equal(vlapic_msr_write(&vcpu.lapic, 0x830, 0, 0, low), 0); }

static void test_interrupt(void **s unused)
{
	vapic_bus_msi(&vm.apics, 0xfee00000, 0x51);
	assert_true(hw.kicks == 1);
	events_inject(&vcpu); /* not ready: asks for a window of its class */
	assert_true(!hw.injected && hw.prio == 5 && !hw.nmi_window);
	hw.irq_ready = true;
	events_inject(&vcpu);
	assert_true(hw.injected == 1 && hw.event == HV_EVENT(HV_EVENT_INTR, 0x51) && hw.prio == 0);
	events_inject(&vcpu);
	assert_int_equal(hw.injected, 1);
}

static void test_nmi(void **s unused)
{
	icr(DELIVERY_NMI << 8 | 1 << 18); /* to itself */
	assert_int_equal(hw.kicks, 1);
	events_inject(&vcpu);
	assert_true(!hw.injected && hw.nmi_window);
	hw.nmi_ready = hw.irq_ready = true;
	events_inject(&vcpu);
	assert_true(hw.injected == 1 && hw.event == HV_EVENT(HV_EVENT_NMI, VEC_NMI));
	events_inject(&vcpu);
	assert_int_equal(hw.injected, 1);
	events_nmi(&vcpu), hw.nmi_ready = false, hw.windowless = true; /* no such exit: look again soon */
	events_inject(&vcpu);
	assert_true(vcpu.events.timer_armed_ns != 0);
	events_stop_timer(&vcpu);
	assert_true(vcpu.events.timer_armed_ns == 0);
}

static void test_halt(void **s unused)
{
	vcpu.events.halted = true;
	assert_false(events_end_halt(&vcpu));
	vapic_bus_msi(&vm.apics, 0xfee00000, 0x51);
	assert_false(events_end_halt(&vcpu)); /* RFLAGS.IF is clear */
	hv.rflags = RFLAGS_IF;
	assert_true(events_end_halt(&vcpu) && !vcpu.events.halted);
	power_on(NULL);
	vcpu.events.halted = true;
	events_nmi(&vcpu);
	assert_true(events_end_halt(&vcpu) && !vcpu.events.halted);
}

/* The machine has one boot CPU: whoever sends it INIT wants a reset. It ends a HLT, and is taken once. */
static void test_init(void **s unused)
{
	vcpu.events.halted = true;
	icr(DELIVERY_INIT << 8 | 1 << 14 | 1 << 18);
	assert_true(hw.kicks == 1 && vcpu_has_init(&vcpu) && !hw.resets);
	assert_true(events_end_halt(&vcpu));
	events_take_init(&vcpu);
	assert_true(hw.resets == 1 && !vcpu_has_init(&vcpu));
	icr(DELIVERY_SIPI << 8 | 1 << 18 | 0x10); /* means nothing to one that does not wait for it */
	events_take_init(&vcpu);
	assert_true(hw.resets == 1 && !vcpu_has_init(&vcpu));
}

static void test_save(void **s unused)
{
	for (unsigned i = 0; i < 4; i++) {
		power_on(NULL);
		vcpu.events.halted = i & 1, vcpu.events.nmi = i >> 1;
		events_save(&vcpu);
		power_on(NULL);
		events_load(&vcpu);
		assert_true(vcpu.events.halted == (i & 1) && vcpu.events.nmi == i >> 1);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(test_interrupt, power_on), cmocka_unit_test_setup(test_nmi, power_on),
		cmocka_unit_test_setup(test_halt, power_on),      cmocka_unit_test_setup(test_init, power_on),
		cmocka_unit_test_setup(test_save, power_on),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}

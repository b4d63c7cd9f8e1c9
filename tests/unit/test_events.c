/* SPDX-License-Identifier: BSD-2-Clause */
/* What a vCPU is given before an entry, what ends its HLT, what INIT does, and that none of it is lost in a move. */
#include "arch/x86/hw/apic.h"
#include "tests/unit/fake_kernel.h"
#include "vmm/x86/startup.h"
#include "vmm/x86/vcpu.h"
#include <string.h>

static struct {
	bool irq_ready, nmi_ready, windowless;
	uint64_t event;          /* the last injected */
	unsigned injected, prio; /* how many; the class that a window was asked for */
	bool nmi_window;
	unsigned kicks, resets;
	unsigned taken, given; /* the whole state */
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
static struct vlapic *lapics[2] = { &vcpu.lapic };

void vcpu_kick(struct vcpu *v) { hw.kicks += v == &vcpu; }
struct cpu_state *vcpu_state_take(struct vcpu *v)
{
	hw.taken++;
	return v->state;
}
void vcpu_state_give(struct vcpu *v unused) { hw.given++; }
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
	assert_false(events_end_wait(&vcpu));
	vapic_bus_msi(&vm.apics, 0xfee00000, 0x51);
	assert_false(events_end_wait(&vcpu)); /* RFLAGS.IF is clear */
	hv.rflags = RFLAGS_IF;
	assert_true(events_end_wait(&vcpu) && !vcpu.events.halted);
	power_on(NULL);
	vcpu.events.halted = true;
	events_nmi(&vcpu);
	assert_true(events_end_wait(&vcpu) && !vcpu.events.halted);
	power_on(NULL);
	vcpu.events.halted = true;
	vcpu.pv.s.unhalted = 1; /* KVM_HC_KICK_CPU, also with RFLAGS.IF clear; once */
	assert_true(events_end_wait(&vcpu) && !vcpu.events.halted);
	vcpu.events.halted = true;
	assert_false(events_end_wait(&vcpu));
}

/* Whoever sends INIT to the boot CPU wants a reset. It ends a HLT, and is taken once. */
static void test_init(void **s unused)
{
	vcpu.events.halted = true;
	icr(DELIVERY_INIT << 8 | 1 << 14 | 1 << 18);
	assert_true(hw.kicks == 1 && vcpu_has_init(&vcpu) && !hw.resets);
	assert_true(events_end_wait(&vcpu));
	events_take_init(&vcpu);
	assert_true(hw.resets == 1 && !vcpu_has_init(&vcpu));
	icr(DELIVERY_SIPI << 8 | 1 << 18 | 0x10); /* means nothing to one that does not wait for it */
	events_take_init(&vcpu);
	assert_true(hw.resets == 1 && !vcpu_has_init(&vcpu) && !hw.taken);
}

static struct vcpu ap;
static struct hv_vcpu ap_hv;
static struct cpu_state ap_state;
static void send_to_ap(uint32_t low) { assert_int_equal(vlapic_msr_write(&vcpu.lapic, 0x830, 0, 0, low | BIT(32)), 0); }

/* Of any other CPU: what ends which wait, and that it begins as SDM 3A table 10-1 has it, or keeps what that keeps. */
static void test_startup(void **s unused)
{
	ap = (struct vcpu){ .vm = &vm, .id = 1, .hv = &ap_hv, .state = &ap_state };
	lapics[1] = &ap.lapic, vm.apics.n = 2;
	vlapic_init(&ap.lapic, &vm.apics, 1);
	events_init(&ap);
	startup_power_on(&ap_state);
	assert_true(vcpu_waits(&ap) && !events_end_wait(&ap) && ap_state.cr0 == 0x60000010 && ap_state.rip == 0xfff0);
	events_nmi(&ap);
	assert_false(events_end_wait(&ap)); /* no NMI, no interrupt ends this wait */
	send_to_ap(DELIVERY_SIPI << 8 | 0x9a);
	assert_true(events_end_wait(&ap));
	events_take_init(&ap);
	assert_true(!vcpu_waits(&ap) && !ap.events.nmi && hw.taken == 1 && hw.given == 1 && !hw.resets);
	assert_true(ap_state.seg[SEG_CS].base == 0x9a000 && ap_state.seg[SEG_CS].selector == 0x9a00 && !ap_state.rip);

	/* It has run for a while, and is in HLT. */
	ap_state.cr0 = 0x80050033, ap_state.efer = 0xd01, ap_state.xcr0 = 7, ap_state.pat = 0x0407010600070106;
	ap_state.lstar = 0x1234, ap_state.gpr[REG_RSI] = 5, ap_state.xsave[200] = 0x55, ap_state.event = 0x80000030;
	ap.events.halted = true, ap_state.halted = 1, ap.events.nmi = 1, ap.msr.system_time = 0x1001;
	send_to_ap(DELIVERY_SIPI << 8 | 0x11); /* not waiting for one: nothing */
	assert_true(events_end_wait(&ap));     /* a look, and HLT goes on */
	events_take_init(&ap);
	assert_true(hw.taken == 1 && ap.events.halted && !vcpu_has_init(&ap));
	ap.events.nmi = 0;
	assert_false(events_end_wait(&ap));
	ap.events.nmi = 1;
	send_to_ap(DELIVERY_INIT << 8 | 1 << 14);
	assert_true(events_end_wait(&ap));
	events_take_init(&ap);
	assert_true(vcpu_waits(&ap) && !ap.events.halted && !ap.events.nmi && !ap.msr.system_time);
	assert_true(ap_state.cr0 == 0x10 && !ap_state.efer && !ap_state.event && !ap_state.halted);
	assert_true(ap_state.seg[SEG_CS].base == 0xffff0000 && ap_state.rip == 0xfff0 && !ap_state.gpr[REG_RSI]);
	assert_true(ap_state.xcr0 == 7 && ap_state.pat == 0x0407010600070106 && ap_state.lstar == 0x1234);
	assert_int_equal(ap_state.xsave[200], 0x55);
	send_to_ap(DELIVERY_INIT << 8 | 1 << 14); /* both before it looks */
	send_to_ap(DELIVERY_SIPI << 8 | 0x12);
	assert_true(events_end_wait(&ap));
	events_take_init(&ap);
	assert_true(!vcpu_waits(&ap) && ap_state.seg[SEG_CS].base == 0x12000 && hw.taken == hw.given && !hw.resets);
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
		cmocka_unit_test_setup(test_save, power_on),      cmocka_unit_test_setup(test_startup, power_on),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}

/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * VT-x between exit and entry, on a modelled VMCS: no state goes in that VM entry would refuse (SDM 3C 27.3.1.5), no
 * event is lost or held back for ever, and writes to control registers end as the bare machine's would.
 */
#include "tests/unit/fake_fpu.h"
#include "tests/unit/fake_vmcs.h"
#include "tests/unit/fake_kernel.h"
#include <string.h>

/* ---- what vmx_exit.c calls ---- */

static uint64_t dr6;
uint64_t vmx_dr6(void) { return dr6; }
void vmx_set_dr6(uint64_t val) { dr6 = val; }

static struct vmx_vcpu v;
static struct vmexit x;
#define SHADOW   vmcs[GUEST_INTERRUPTIBILITY]
#define NMI      HV_EVENT(HV_EVENT_NMI, VEC_NMI)
#define IRQ(vec) HV_EVENT(HV_EVENT_INTR, vec)
#define DB       HV_EVENT(HV_EVENT_EXC, VEC_DB)
#define WINDOWS  (v.proc & (PROC_IRQ_WINDOW | PROC_NMI_WINDOW))

static int each(void **state)
{
	(void)state;
	memset(&v, 0, sizeof(v));
	memset(&x, 0, sizeof(x));
	memset(vmcs, 0, sizeof(vmcs));
	dr6 = DR6_RESET;
	vmx_caps.pin = PIN_VIRTUAL_NMI;
	vmx_set_cr0(CR0_PE | CR0_PG | CR0_NE | CR0_ET);
	vmx_set_cr4(CR4_PAE);
	v.hv.rip = 0x1000;
	return 0;
}

/* As vmx_enter: what goes in, and then an exit for `reason` that cut nothing short. */
static uint64_t enter(void)
{
	vmcs[ENTRY_INTR_INFO] = 0;
	vmx_entry_event(&v);
	return (uint32_t)vmcs[ENTRY_INTR_INFO];
}
static void leave(uint32_t reason) { vmx_decode(&v, &x, reason); }

/* ---- #DB in a shadow ---- */

static void exit_db(unsigned type, uint64_t shadow, uint64_t rflags)
{
	vmcs[EXIT_INTR_INFO] = VMX_EVENT_VALID | type << 8 | VEC_DB;
	vmcs[EXIT_QUALIFICATION] = type == VMX_TYPE_ICEBP ? 0 : DR6_BS;
	vmcs[EXIT_INSN_LEN] = 1;
	vmcs[GUEST_PENDING_DEBUG] = 0;
	SHADOW = shadow;
	v.hv.rflags = rflags;
	leave(VMX_EXCEPTION);
}

static void test_db_in_a_shadow(void **state)
{
	(void)state;
	for (unsigned shadow = HV_SHADOW_STI; shadow <= HV_SHADOW_MOV_SS; shadow++)
		for (unsigned tf = 0; tf < 2; tf++) {
			each(NULL);
			exit_db(HV_EVENT_EXC, shadow, RFLAGS_IF | (tf ? RFLAGS_TF : 0));
			assert_true(x.kind == EXIT_EXCEPTION && x.u.exc.vector == VEC_DB && v.hv.rip == 0x1000);
			assert_int_equal(SHADOW, shadow);
			assert_int_equal(!!(vmcs[GUEST_PENDING_DEBUG] & PENDING_DEBUG_BS), tf); /* or entry fails */
			each(NULL);
			exit_db(VMX_TYPE_ICEBP, shadow, RFLAGS_IF | (tf ? RFLAGS_TF : 0)); /* its instruction is done */
			assert_true(v.hv.rip == 0x1001 && SHADOW == 0 && vmcs[GUEST_PENDING_DEBUG] == 0);
		}
	each(NULL);
	exit_db(HV_EVENT_EXC, 0, RFLAGS_TF);
	assert_true(vmcs[GUEST_PENDING_DEBUG] == 0 && (dr6 & DR6_BS));
}

/* ---- control registers ---- */

static void mov_to(unsigned cr, uint64_t val)
{
	vmcs[EXIT_QUALIFICATION] = cr | REG_RCX << 8;
	vmcs[EXIT_INSN_LEN] = 3;
	v.hv.gpr[REG_RCX] = val;
	v.hv.rip = 0x1000;
	leave(VMX_CR);
}

/* What MOV to CR0 does without an exit: the guest's own bits. No bit of the host's may differ, or it exits again. */
static void run_again(enum vmcs_field shadow, enum vmcs_field real, uint64_t owned, uint64_t val)
{
	assert_true(x.kind == EXIT_HANDLED && v.hv.rip == 0x1000);
	assert_int_equal((vmcs[shadow] ^ val) & owned, 0);
	vmcs[real] = (vmcs[real] & owned) | (val & ~owned);
}

static void test_cr0(void **state)
{
	(void)state;
	mov_to(0, CR0_PE | CR0_PG | CR0_ET); /* NE alone */
	assert_true(x.kind == EXIT_HANDLED && v.hv.rip == 0x1003);
	assert_true(vmx_cr0() == (CR0_PE | CR0_PG | CR0_ET) && (vmcs[GUEST_CR0] & CR0_NE));
	/* Linux's decompressor, before 5.19: paging off without an exit, then on, and NE cleared with it. */
	each(NULL);
	vmcs[GUEST_CR0] &= ~CR0_PG;
	mov_to(0, CR0_PG | CR0_PE);
	run_again(CR0_SHADOW, GUEST_CR0, vmx_cr0_owned(), CR0_PG | CR0_PE);
	assert_int_equal(vmx_cr0(), CR0_PG | CR0_PE);
	assert_true((vmcs[GUEST_CR0] & CR0_NE) && !(vmcs[GUEST_CR0] & (CR0_CD | CR0_NW)));
	/* An AP that comes up: caches on and paging on at once. */
	each(NULL);
	vmx_set_cr0(CR0_PE | CR0_ET | CR0_CD | CR0_NW);
	mov_to(0, CR0_PG | CR0_PE | CR0_NE | CR0_ET);
	run_again(CR0_SHADOW, GUEST_CR0, vmx_cr0_owned(), CR0_PG | CR0_PE | CR0_NE | CR0_ET);
	assert_int_equal(vmx_cr0(), CR0_PG | CR0_PE | CR0_NE | CR0_ET);
	static const uint64_t bad[] = { BIT(32), CR0_PE | CR0_PG | CR0_NW, CR0_PG | CR0_CD };
	for (unsigned i = 0; i < ARRAY_SIZE(bad); i++) {
		each(NULL);
		mov_to(0, bad[i]);
		assert_true(x.kind == EXIT_PRIVILEGED && v.hv.rip == 0x1000);
		assert_int_equal(vmx_cr0(), CR0_PE | CR0_PG | CR0_NE | CR0_ET);
	}
}

static void test_cr4(void **state)
{
	(void)state;
	assert_int_equal(vmx_cr4(), CR4_PAE);
	mov_to(4, CR4_PAE | CR4_MCE | CR4_PGE);
	run_again(CR4_SHADOW, GUEST_CR4, ~vmx_cr4_allowed() | CR4_HOST_OWNED, CR4_PAE | CR4_MCE | CR4_PGE);
	assert_int_equal(vmx_cr4(), CR4_PAE | CR4_MCE | CR4_PGE);
	mov_to(4, CR4_PAE);
	run_again(CR4_SHADOW, GUEST_CR4, ~vmx_cr4_allowed() | CR4_HOST_OWNED, CR4_PAE);
	assert_int_equal(vmx_cr4(), CR4_PAE);
	assert_true(vmcs[GUEST_CR4] & CR4_MCE);
	mov_to(4, CR4_PAE | CR4_VMXE);
	assert_true(x.kind == EXIT_PRIVILEGED && !(vmx_cr4() & CR4_VMXE));
	mov_to(4, CR4_PAE | CR4_LA57);
	assert_int_equal(x.kind, EXIT_PRIVILEGED);
}

static void test_cr8(void **state)
{
	(void)state;
	mov_to(8, 9);
	assert_true(x.kind == EXIT_HANDLED && v.hv.cr8 == 9 && v.hv.rip == 0x1003);
	mov_to(8, 16);
	assert_true(x.kind == EXIT_PRIVILEGED && v.hv.cr8 == 9);
	vmx_window(&v.hv, 9, false);
	assert_int_equal(WINDOWS, 0); /* CR8 holds it back, and its next write exits */
	vmx_window(&v.hv, 10, false);
	assert_int_equal(WINDOWS, PROC_IRQ_WINDOW);
	assert_int_equal(vmcs[PROC_CONTROLS], v.proc);
}

/* ---- events ---- */

static void test_interrupt_waits_behind_exception(void **state)
{
	(void)state;
	v.hv.rflags = RFLAGS_IF;
	vmcs[IDT_VECTORING_INFO] = IRQ(0x31);
	vmcs[EXIT_INTR_INFO] = VMX_EVENT_VALID | HV_EVENT_EXC << 8 | VEC_UD;
	leave(VMX_EXCEPTION);
	vmx_inject(&v.hv, DB);
	assert_true(v.event == DB && v.hv.event_next == IRQ(0x31));
	assert_false(vmx_ready(&v.hv, false) || vmx_ready(&v.hv, true));
	vmx_window(&v.hv, 0, false); /* the LAPIC has nothing else */
	assert_int_equal(enter(), DB);
	assert_int_equal(WINDOWS, PROC_IRQ_WINDOW); /* or a handler's IRET would come and go unseen */
	vmcs[IDT_VECTORING_INFO] = 0;
	v.hv.rflags = 0;
	leave(VMX_EXT_INT);
	assert_int_equal(enter(), 0);
	assert_int_equal(WINDOWS, PROC_IRQ_WINDOW);
	v.hv.rflags = RFLAGS_IF;
	leave(VMX_IRQ_WINDOW);
	assert_int_equal(x.kind, EXIT_IRQ_WINDOW);
	vmx_window(&v.hv, 0, false);
	assert_int_equal(enter(), IRQ(0x31));
	assert_true(v.hv.event_next == 0 && WINDOWS == 0);
}

static void test_nmi(void **state)
{
	(void)state;
	assert_true(vmx_ready(&v.hv, true) && !vmx_ready(&v.hv, false)); /* IF is clear */
	SHADOW = INTERRUPTIBILITY_NMI;
	assert_false(vmx_ready(&v.hv, true));
	assert_true(vmx_window(&v.hv, 0, true));
	assert_int_equal(WINDOWS, PROC_NMI_WINDOW);
	SHADOW = HV_SHADOW_STI; /* its window could open here, where it cannot be taken */
	v.hv.rflags = RFLAGS_IF;
	assert_false(vmx_ready(&v.hv, true));
	assert_true(vmx_window(&v.hv, 0, true));
	assert_int_equal(WINDOWS, PROC_IRQ_WINDOW);
	SHADOW = 0;
	vmx_window(&v.hv, 3, true);
	assert_int_equal(WINDOWS, PROC_IRQ_WINDOW | PROC_NMI_WINDOW);
	vmx_inject(&v.hv, NMI);
	assert_int_equal(enter(), NMI);
	SHADOW = INTERRUPTIBILITY_NMI; /* its delivery is cut short: it is repeated, and entry wants the bit clear */
	vmcs[IDT_VECTORING_INFO] = NMI;
	leave(VMX_EXT_INT);
	assert_true(v.event == NMI && SHADOW == 0);
	vmx_caps.pin = 0; /* without virtual NMIs nothing tells */
	assert_false(vmx_window(&v.hv, 0, true));
}

/* Told as an exit of its own, behind the instruction, or beside another. */
static void test_bus_lock(void **state unused)
{
	v.hv.rip = 5;
	leave(VMX_BUS_LOCK);
	assert_true(x.kind == EXIT_BUS_LOCK && v.hv.bus_locked && v.hv.rip == 5);
	v.hv.bus_locked = false;
	leave(VMX_CPUID);
	assert_false(v.hv.bus_locked);
	leave(VMX_CPUID | (uint32_t)VMX_BUS_LOCKED);
	assert_true(x.kind == EXIT_CPUID && v.hv.bus_locked);
}

int main(void)
{
#define T(t) cmocka_unit_test_setup(t, each)
	const struct CMUnitTest tests[] = {
		T(test_db_in_a_shadow),
		T(test_cr0),
		T(test_cr4),
		T(test_cr8),
		T(test_interrupt_waits_behind_exception),
		T(test_nmi),
		T(test_bus_lock),
	};
	return cmocka_run_group_tests_name("vmx_exit", tests, NULL, NULL);
}

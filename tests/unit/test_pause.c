/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * PAUSE exits only where the hardware tells one that spins from one that waits for a moment: without a filter each
 * PAUSE of a guest would cost an exit. svm.c and vmx.c are compiled into the test, with a CPU of its own.
 */
#include "arch/x86/cpu.h"
#include "arch/x86/hw/cpuid_bits.h"
#include "tests/unit/fake_fpu.h"
#include "tests/unit/fake_kernel.h"
#include "tests/unit/vmx_full.h"
#include <stdlib.h>
#include <string.h>

/* ---- the CPU ---- */

static uint32_t svm_edx;
static struct cpuid_regs fake_cpuid(uint32_t leaf, uint32_t sub unused)
{
	switch (leaf) {
	case 0x80000000: return (struct cpuid_regs){ .eax = 0x8000000a };
	case 0x80000001: return (struct cpuid_regs){ .ecx = CPUID80000001_ECX_SVM };
	case 0x8000000a: return (struct cpuid_regs){ .ebx = 64, .edx = svm_edx };
	default: return (struct cpuid_regs){ 0 };
	}
}
#define cpuid              fake_cpuid
#define cpu_irq_save()     0
#define cpu_irq_restore(f) ((void)(f))
#include "arch/x86/svm.c"
#include "arch/x86/vmx.c"

bool rdmsr_safe(uint32_t msr unused, uint64_t *v unused) { return false; }
bool wrmsr_safe(uint32_t msr unused, uint64_t v unused) { return false; }
void fpu_cpu_on(void) {}
void fpu_load(const void *a unused, uint64_t x unused) {}
uint64_t fpu_save(void *a unused) { return 1; }
void fpu_set_xcr0(uint64_t x unused) {}
void svm_world_switch(uint64_t *gpr unused, hpa_t b unused, hpa_t host unused) {}

static uint64_t vmcs[0x7000];
uint64_t vmcs_read(enum vmcs_field f) { return vmcs[f]; }
void vmcs_write(enum vmcs_field f, uint64_t val) { vmcs[f] = val; }
void vmcs_load(hpa_t page unused) {}
void vmcs_clear(hpa_t page unused) {}
int vmx_on(hpa_t region unused) { return 0; }
void vmx_invept(bool single unused, uint64_t eptp unused) {}
uint64_t vmx_dr6(void) { return DR6_RESET; }
void vmx_set_dr6(uint64_t v unused) {}
unsigned vmx_world_switch(uint64_t *gpr unused, bool launched unused) { return 0; }
const char vmx_exit_point[1];

static hpa_t take(unsigned order)
{
	void *p = aligned_alloc(PAGE_SIZE, PAGE_SIZE << order);
	return hpa_of(memset(p, 0, PAGE_SIZE << order));
}
static void give(hpa_t hpa, unsigned order unused) { free(hva_of(hpa)); }
static const struct hv_env env = { take, give };
const struct hv_env *hv_env = &env;

/* ---- AMD-V ---- */

#define FILTER    CPUID8000000A_EDX_PAUSE_FILTER
#define THRESHOLD CPUID8000000A_EDX_PAUSE_THRESHOLD

/* Whether `host` says that the filter is there and in use. */
static void listed(bool present, bool used)
{
	for (unsigned i = 0; i < svm_ops.nfeatures; i++)
		if (!strcmp(svm_ops.features[i].name, "pause-filter")) {
			assert_int_equal(svm_ops.features[i].present, present);
			assert_int_equal(svm_ops.features[i].used, used);
			return;
		}
	fail();
}

static void svm_with(uint64_t edx, bool filters)
{
	struct why w = { "" };
	svm_edx = (uint32_t)(edx | CPUID8000000A_EDX_NP);
	for (unsigned i = 0; i < ARRAY_SIZE(svm_features); i++)
		svm_features[i].used = true; /* as at boot: probed once */
	assert_int_equal(svm_ops.probe(&w), 0);
	struct hv_vcpu *hv = svm_ops.create(&(struct hv_vcpu_params){ .npt_root = PAGE_SIZE });
	const struct vmcb *b = svm_of(hv)->vmcb;
	assert_int_equal(!!(b->intercept1 & SVM_I1_PAUSE), filters);
	/* A count of 0 would be an exit at each, a threshold of 0 one at the 4096th, however late (APM2 15.14.4). */
	assert_int_equal(b->pause_count, filters ? HV_SPIN_WINDOW : 0);
	assert_int_equal(b->pause_threshold, filters ? HV_SPIN_GAP : 0);
	assert_true(b->intercept1 & SVM_I1_HLT);
	listed(edx & FILTER, filters);
	svm_ops.destroy(hv);
	give(iopm, IOPM_ORDER);
}

static void test_svm(void **state unused)
{
	svm_with(0, false);
	svm_with(FILTER, false); /* of family 10h: it counts PAUSEs, however far apart */
	svm_with(THRESHOLD, false);
	svm_with(FILTER | THRESHOLD, true);
	svm_with(~0U, true);
	svm_with(~0U & ~(FILTER | THRESHOLD), false);
}

/* ---- VT-x ---- */

static void vmx_with(const struct vmx_msrs *m, bool filters)
{
	struct why w = { "" };
	memset(vmcs, 0, sizeof(vmcs));
	assert_int_equal(vmx_choose(m, &w), 0);
	struct hv_vcpu *hv = vmx_ops.create(&(struct hv_vcpu_params){ .npt_root = PAGE_SIZE });
	assert_int_equal(!!(vmcs[PROC2_CONTROLS] & PROC2_PAUSE_LOOP), filters);
	assert_false(vmcs[PROC_CONTROLS] & PROC_PAUSE); /* exits at each, and before the loop's is looked at */
	assert_int_equal(vmcs[PLE_GAP], filters ? HV_SPIN_GAP : 0);
	assert_int_equal(vmcs[PLE_WINDOW], filters ? HV_SPIN_WINDOW : 0);
	vmx_ops.destroy(hv);
}

static void test_vmx(void **state unused)
{
	struct vmx_msrs m = vmx_full();
	vmx_with(&m, true);
	m.control[PROC2] &= ~((uint64_t)PROC2_PAUSE_LOOP << 32);
	vmx_with(&m, false);
	m = vmx_full();
	m.control[PROC] &= ~((uint64_t)PROC_PAUSE << 32);
	vmx_with(&m, true);
}

/* ---- what it is to exit.c ---- */

static void test_kind(void **state unused)
{
	struct vmexit x = { 0 };
	static struct vmcb b;
	static struct svm_vcpu s = { .vmcb = &b };
	static struct vmx_vcpu v;
	b.exitcode = SVM_EXIT_PAUSE;
	svm_decode(&s, &x);
	assert_int_equal(x.kind, EXIT_PAUSE);
	x = (struct vmexit){ 0 };
	memset(vmcs, 0, sizeof(vmcs));
	vmx_decode(&v, &x, VMX_PAUSE);
	assert_int_equal(x.kind, EXIT_PAUSE);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_svm),
		cmocka_unit_test(test_vmx),
		cmocka_unit_test(test_kind),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}

/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Which VT-x tern takes and which it refuses, naming what is missing, over every bit of every control; and that it asks
 * a CPU for nothing that the CPU does not have, and leaves on what the CPU insists on.
 */
#include "tests/unit/fake_kernel.h"
#include "tests/unit/vmx_full.h"
#include <errno.h>
#include <string.h>

static const char *const word_name[] = { "pin", "primary", "exit", "entry", "secondary" };

bool rdmsr_safe(uint32_t msr, uint64_t *v) /* vmx_probe's, which is not called here */
{
	(void)msr, (void)v;
	return false;
}

static uint32_t chosen(unsigned word)
{
	const uint32_t all[] = { vmx_caps.pin, vmx_caps.proc, vmx_caps.exit, vmx_caps.entry, vmx_caps.proc2 };
	return all[word];
}

static void test_full(void **state)
{
	(void)state;
	struct vmx_msrs m = vmx_full();
	struct why w = { "" };
	assert_int_equal(vmx_choose(&m, &w), 0);
	assert_string_equal(w.text, "");
	assert_int_equal(vmx_caps.revision, 0x12);
	assert_true(vmx_caps.ins_outs && vmx_caps.tsc_aux);
	assert_int_equal(vmx_caps.pin, 0x16 | PIN_EXT_INT | PIN_NMI | PIN_VIRTUAL_NMI);
	assert_false(vmx_caps.proc & PROC_IRQ_WINDOW); /* only while an interrupt waits */
	assert_false(vmx_caps.proc & (PROC_CR3_LOAD | PROC_CR3_STORE | PROC_INVLPG | PROC_RDTSC));
	assert_int_equal(vmx_caps.proc2, PROC2_EPT | PROC2_UNRESTRICTED | PROC2_WBINVD | PROC2_VPID | PROC2_RDTSCP |
						 PROC2_INVPCID | PROC2_PAUSE_LOOP | PROC2_TSC_SCALING | PROC2_BUS_LOCK);
	assert_int_equal(vmx_pt_format.max_level, 3);
	assert_true(vmx_pt_format.dirty && vmx_pt_format.accessed && !vmx_pt_format.later_x);
	m.arch_cap = ~(uint64_t)ARCH_CAP_PSCHANGE;
	assert_int_equal(vmx_choose(&m, &w), 0);
	assert_true(vmx_pt_format.later_x); /* large leaves are not executable */
	for (unsigned word = 0; word < VMX_NCONTROLS; word++)
		assert_int_equal(chosen(word) & (uint32_t)m.control[word], (uint32_t)m.control[word]);
}

/* Without any one control it runs without, or says which it needs. */
static void test_lacks_one(void **state)
{
	static const uint32_t needed[VMX_NCONTROLS] = {
		[PIN] = PIN_EXT_INT | PIN_NMI,
		[PROC] = PROC_IRQ_WINDOW | PROC_TSC_OFFSET | PROC_HLT | PROC_MWAIT | PROC_MONITOR | PROC_RDPMC |
			 PROC_IO | PROC_MSR_BITMAPS | PROC_CR8_LOAD | PROC_CR8_STORE | (uint32_t)PROC_SECONDARY,
		[EXITC] = EXITC_SAVE_DEBUG | EXITC_HOST_64 | EXITC_SAVE_PAT | EXITC_LOAD_PAT | EXITC_SAVE_EFER |
			  EXITC_LOAD_EFER,
		[ENTRYC] = ENTRYC_LOAD_DEBUG | ENTRYC_LOAD_PAT | ENTRYC_LOAD_EFER,
		[PROC2] = PROC2_EPT | PROC2_UNRESTRICTED | PROC2_WBINVD,
	};
	static char seen[64][256];
	unsigned nseen = 0;
	(void)state;
	for (unsigned word = 0; word < VMX_NCONTROLS; word++)
		for (unsigned bit = 0; bit < 32; bit++) {
			struct vmx_msrs m = vmx_full();
			struct why w = { "" };
			if (m.control[word] >> bit & 1)
				continue; /* one that the CPU insists on */
			m.control[word] &= ~BIT(bit + 32);
			int err = vmx_choose(&m, &w);
			if (!(needed[word] >> bit & 1)) {
				if (err)
					fail_msg("%s control %u: %s", word_name[word], bit, w.text);
				assert_false(chosen(word) >> bit & 1);
				continue;
			}
			if (err != -ENOTSUP || strncmp(w.text, "this CPU's VT-x lacks ", 22))
				fail_msg("%s control %u: %d, %s", word_name[word], bit, err, w.text);
			for (unsigned i = 0; i < nseen; i++)
				assert_string_not_equal(w.text, seen[i]);
			strcpy(seen[nseen++], w.text);
		}
	assert_int_equal(nseen, 25);
}

static void expect(const struct vmx_msrs *m, const char *says)
{
	struct why w = { "" };
	int err = vmx_choose(m, &w);
	assert_int_equal(err, says ? -ENOTSUP : 0);
	if (says && !strstr(w.text, says))
		fail_msg("'%s' does not say '%s'", w.text, says);
}

static void test_insists(void **state)
{
	(void)state;
	struct vmx_msrs m = vmx_full();
	m.control[PROC] |= PROC_CR3_LOAD; /* as the controls without "true" in their names do */
	expect(&m, "insists on CR3-load exiting");
	m = vmx_full();
	m.control[PROC2] |= PROC2_PML;
	expect(&m, "insists on page-modification logging");
	m = vmx_full();
	m.control[PROC] |= PROC_PAUSE; /* an exit that is handled */
	expect(&m, NULL);
	assert_true(vmx_caps.proc & PROC_PAUSE);
}

static void test_firmware_and_generation(void **state)
{
	(void)state;
	struct vmx_msrs m = vmx_full();
	m.feature_control = FEATURE_CONTROL_LOCK;
	expect(&m, "switched off by the firmware");
	m.feature_control = 0; /* left open: each CPU sets it for itself */
	expect(&m, NULL);
	m.basic &= ~VMX_BASIC_TRUE;
	expect(&m, "first generation");
	/* Where there is no EPT, there is neither of the two MSRs. */
	m = vmx_full();
	m.control[PROC2] = m.ept_vpid_cap = 0;
	expect(&m, "lacks extended page tables (EPT)");
}

static void test_ept(void **state)
{
	(void)state;
	static const struct {
		uint64_t without;
		const char *says;
	} cases[] = {
		{ EPT_CAP_WALK4, "page walks of length 4" },
		{ EPT_CAP_WB, "write-back" },
		{ EPT_CAP_INVEPT, "INVEPT" },
		{ EPT_CAP_INVEPT_SINGLE | EPT_CAP_INVEPT_ALL, "INVEPT" },
		{ EPT_CAP_INVEPT_SINGLE, NULL },
		{ EPT_CAP_1G, NULL },
	};
	struct vmx_msrs m;
	for (unsigned i = 0; i < ARRAY_SIZE(cases); i++) {
		m = vmx_full();
		m.ept_vpid_cap &= ~cases[i].without;
		expect(&m, cases[i].says);
	}
	assert_int_equal(vmx_pt_format.max_level, 2);
	m.ept_vpid_cap &= ~(uint64_t)EPT_CAP_2M;
	expect(&m, NULL);
	assert_int_equal(vmx_pt_format.max_level, 1);
	/* No accessed and dirty bits (before Haswell): VMs run, and source.c refuses to move them away. */
	m = vmx_full();
	m.ept_vpid_cap &= ~(uint64_t)EPT_CAP_AD;
	expect(&m, NULL);
	assert_true(vmx_pt_format.dirty == 0 && vmx_pt_format.accessed == 0);
}

static void test_features_told(void **state)
{
	(void)state;
	struct vmx_msrs m = vmx_full();
	m.control[PROC2] &= ~((uint64_t)PROC2_VPID << 32);
	expect(&m, NULL);
	unsigned used = 0;
	for (unsigned i = 0; i < VMX_NFEATURES; i++) {
		if (!strcmp(vmx_features[i].name, "VPID"))
			assert_false(vmx_features[i].present || vmx_features[i].used);
		else
			assert_true(vmx_features[i].present);
		used += vmx_features[i].used;
	}
	assert_int_equal(used, 12);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_full),    cmocka_unit_test(test_lacks_one),
		cmocka_unit_test(test_insists), cmocka_unit_test(test_firmware_and_generation),
		cmocka_unit_test(test_ept),     cmocka_unit_test(test_features_told),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}

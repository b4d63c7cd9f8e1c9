/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * struct cpu_state into a VMCB and back is the identity for any state that a guest can have; a state that this CPU
 * cannot hold is refused and says why; none of its words is lost without a refusal.
 */
#include "arch/x86/svm_vcpu.h"
#include "tests/unit/random_state.h"
#include "vmm/x86/vcpu.h"
#include "vmm/x86/cpu_state.h"
#include <errno.h>
#include <stdio.h>
#include <string.h>

static struct vmcb vmcb;
static struct svm_vcpu vcpu;

static int set(const struct cpu_state *s, struct why *w)
{
	memset(&vmcb, 0, sizeof(vmcb));
	memset(&vcpu, 0x5a, sizeof(vcpu)); /* nothing of an earlier state shines through */
	vcpu.vmcb = &vmcb;
	return svm_set_state(&vcpu.hv, s, w);
}

static void test_identity(void **state)
{
	static struct cpu_state s, t;
	unsigned nmade = 0;
	(void)state;
	for (unsigned i = 0; i < 2000; i++) {
		struct why w = { "" };
		random_state(&s);
		if ((s.rflags & RFLAGS_VM) || !(s.cr0 & CR0_PE)) { /* CPL follows from the mode, and SS's DPL is CPL */
			unsigned other = s.seg[SEG_SS].attr >> 5 & 3, cpl = s.rflags & RFLAGS_VM ? 3 : 0;
			assert_int_equal(set(&s, &w), 0);
			assert_int_equal(vmcb.cpl, cpl);
			nmade += other != cpl;
			s.seg[SEG_SS].attr = (s.seg[SEG_SS].attr & ~0x60U) | cpl << 5;
		}
		if (set(&s, &w))
			fail_msg("refused: %s", w.text);
		memset(&t, 0xa5, sizeof(t));
		svm_get_state(&vcpu.hv, &t);
		uint8_t a[sizeof(s)], b[sizeof(t)];
		state_save(&cpu_state_desc, &s, a);
		state_save(&cpu_state_desc, &t, b);
		if (state_diff(&cpu_state_desc, a, b, state_size(&cpu_state_desc), &w))
			fail_msg("%s", w.text);
		assert_true(vmcb.efer & EFER_SVME); /* VMRUN wants it; the guest does not see it */
		assert_int_equal(vmcb.cpl, s.seg[SEG_SS].attr >> 5 & 3);
		assert_int_equal(vcpu.asid_generation, 0);
		assert_false(vmcb.tr.attr & 2); /* QEMU wants TR not busy */
		assert_int_equal(state_load(&cpu_state_desc, &t, cpu_state_desc.version, a, state_size(&cpu_state_desc),
					    &w),
				 0);
	}
	assert_true(nmade > 100);
}

/* What VT-x would refuse: an old DPL in a null SS, TR not busy. */
static void test_made_neutral(void **state)
{
	static struct cpu_state s;
	(void)state;
	random_state(&s);
	assert_int_equal(set(&s, NULL), 0);
	vmcb.ss.attr = 0x60;
	vmcb.cpl = 0;
	vmcb.tr.attr = 0x89;
	svm_get_state(&vcpu.hv, &s);
	assert_int_equal(s.seg[SEG_SS].attr, AR_UNUSABLE);
	assert_int_equal(s.seg[SEG_TR].attr, 0x8b);
	vmcb.cpl = 3;
	svm_get_state(&vcpu.hv, &s);
	assert_int_equal(s.seg[SEG_SS].attr, AR_UNUSABLE | 0x60);
}

static void test_mode(void **state)
{
	static struct cpu_state s;
	struct hv_mode m;
	(void)state;
	random_state(&s);
	s.efer = EFER_LME | EFER_LMA;
	s.cr0 = CR0_PE | CR0_PG;
	s.seg[SEG_CS].attr = 0xa09b; /* L, G, present, code */
	s.seg[SEG_SS].attr = 0xc0f3; /* DPL 3 */
	assert_int_equal(set(&s, NULL), 0);
	svm_get_mode(&vcpu.hv, &m);
	assert_true(m.long_mode && !m.cs32 && m.cpl == 3 && m.cr3 == s.cr3 && m.cr4 == s.cr4 && m.cr0 == s.cr0);
	assert_int_equal(m.cs_base, s.seg[SEG_CS].base);
	s.seg[SEG_CS].attr = 0xc09b; /* compatibility mode, D */
	assert_int_equal(set(&s, NULL), 0);
	svm_get_mode(&vcpu.hv, &m);
	assert_true(!m.long_mode && m.cs32);
	s.seg[SEG_CS].attr = 0xa09b; /* L outside long mode means nothing */
	s.efer = 0;
	assert_int_equal(set(&s, NULL), 0);
	svm_get_mode(&vcpu.hv, &m);
	assert_false(m.long_mode);
}

/* Each of these once in a good state: refused, with a reason. */
static void test_hostile(void **state)
{
	static struct cpu_state s;
	(void)state;
#define REFUSED(...)                                    \
	do {                                            \
		struct why w = { "" };                  \
		random_state(&s);                       \
		assert_int_equal(set(&s, &w), 0);       \
		__VA_ARGS__;                            \
		assert_int_equal(set(&s, &w), -EINVAL); \
		assert_true(w.text[0]);                 \
	} while (0)
	REFUSED(s.xsave_size = area + 1);
	REFUSED(s.xsave_size = XSAVE_AREA_MAX + 1);
	REFUSED(s.xsave_size = ~0U);
	REFUSED(s.xcr0 = 0);
	REFUSED(s.xcr0 = 5);
	REFUSED(s.xcr0 = 0x10007);
	REFUSED(put_le64(s.xsave + 512, BIT(17))); /* XSTATE_BV with a component that this CPU lacks: XRSTOR #GP */
	REFUSED(put_le32(s.xsave + 24, BIT(16)));  /* MXCSR: XRSTOR #GP */
	/* A header that asks for the compacted format is not obeyed: that would be another layout. */
	random_state(&s);
	memset(s.xsave + 520, 0xff, 56);
	assert_int_equal(set(&s, NULL), 0);
	for (unsigned i = 520; i < 576; i++)
		assert_int_equal(vcpu.xsave[i], 0);
	/* A smaller area than this CPU's leaves the rest initial. */
	random_state(&s);
	s.xsave_size = 576;
	put_le64(s.xsave + 512, 3);
	s.xcr0 = 3;
	assert_int_equal(set(&s, NULL), 0);
	for (unsigned i = 576; i < sizeof(vcpu.xsave); i++)
		assert_int_equal(vcpu.xsave[i], 0);
	/* So does that of a guest without XSAVE, whose x87 and SSE registers are all there. */
	s.xsave_size = 512;
	put_le64(s.xsave + 512, 0);
	s.xcr0 = 1;
	assert_int_equal(set(&s, NULL), 0);
	assert_int_equal(get_le64(vcpu.xsave + 512), 3);
	assert_memory_equal(vcpu.xsave, s.xsave, 512);
}

static void test_tables(void **state)
{
	struct why w = { "" };
	(void)state;
	if (state_selftest(&cpu_state_desc, &w) || state_selftest(&vcpu_msr_desc, &w))
		fail_msg("%s", w.text);
}

static void test_explain(void **state)
{
	static const struct {
		struct vmcb b;
		const char *says;
		/* clang-format off */
	} cases[] = {
		{ { .efer = 0 }, "SVME" },
		{ { .efer = EFER_SVME, .cr0 = CR0_NW }, "NW" },
		{ { .efer = EFER_SVME, .cr0 = BIT(40) }, "above 31" },
		{ { .efer = EFER_SVME | EFER_LME, .cr0 = CR0_PG | CR0_PE }, "PAE" },
		{ { .efer = EFER_SVME, .dr7 = BIT(40) }, "DR" },
		{ { .efer = EFER_SVME }, "ASID" },
		{ { .efer = EFER_SVME, .asid = 1 }, "reserved" },
	};
	/* clang-format on */
	(void)state;
	for (unsigned i = 0; i < ARRAY_SIZE(cases); i++) {
		struct vmexit x;
		svm_explain_invalid(&cases[i].b, &x);
		assert_int_equal(x.kind, EXIT_INVALID);
		assert_non_null(strstr(x.u.why, cases[i].says));
		assert_non_null(strchr(x.u.why, ')')); /* not cut short */
	}
}

int main(void)
{
	/* clang-format off */
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_identity), cmocka_unit_test(test_mode), cmocka_unit_test(test_made_neutral),
		cmocka_unit_test(test_hostile),
		cmocka_unit_test(test_tables),   cmocka_unit_test(test_explain),
	};
	/* clang-format on */
	return cmocka_run_group_tests_name("svm_state", tests, NULL, NULL);
}

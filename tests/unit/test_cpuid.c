/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What a guest is told by CPUID, and what a destination must have for it: features.def is sound, nothing that a guest
 * of tern does not have is shown, fields that follow the vCPU's state do, and a refusal names the first bit that lacks.
 * The host's CPUID is the real one of the machine that runs the test.
 */
#include "arch/x86/cpu.h"
#include "arch/x86/features.h"
#include "arch/x86/fpu.h"
#include "vmm/vm.h"
#include "vmm/x86/compat.h"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *const reg_name[] = { "EAX", "EBX", "ECX", "EDX" };
static struct vm *vm;

static int setup(void **state)
{
	(void)state;
	fpu_init();
	vm = calloc(1, sizeof(*vm));
	struct why w = { "" };
	assert_int_equal(cpuid_table_init(&vm->cpuid, "host", &cpuid_this_cpu, &w), 0);
	return 0;
}
static int teardown(void **state)
{
	(void)state;
	free(vm);
	return 0;
}

static void test_features_def(void **state)
{
	(void)state;
	assert_true(nfeatures > 50);
	for (unsigned i = 0; i < nfeatures; i++) {
		const struct feature *f = &features[i];
		assert_true(f->reg <= FEATURE_EDX && f->bit < 32 && f->policy <= FEATURE_SET && f->name[0]);
		assert_string_equal(feature_name(f->leaf, f->sub, f->reg, f->bit), f->name);
		uint32_t pass = feature_mask(f->leaf, f->sub, f->reg, FEATURE_PASS),
			 set = feature_mask(f->leaf, f->sub, f->reg, FEATURE_SET);
		assert_int_equal(pass & set, 0);
		assert_true((f->policy == FEATURE_SET ? set : pass) >> f->bit & 1);
		for (unsigned k = 0; k < i; k++) {
			const struct feature *o = &features[k];
			if (o->leaf == f->leaf && o->sub == f->sub && o->reg == f->reg && o->bit == f->bit)
				fail_msg("%s and %s are the same bit", o->name, f->name);
			if (!strcmp(o->name, f->name))
				fail_msg("%s is there twice", f->name);
		}
	}
	assert_string_equal(feature_name(1, 0, FEATURE_ECX, 3), "?");
	/* Bits that need state a guest does not have: never listed. */
	assert_string_equal(feature_name(1, 0, FEATURE_ECX, 3), "?");          /* MONITOR */
	assert_string_equal(feature_name(1, 0, FEATURE_ECX, 5), "?");          /* VMX */
	assert_string_equal(feature_name(1, 0, FEATURE_ECX, 27), "?");         /* OSXSAVE: dynamic */
	assert_string_equal(feature_name(0x80000001, 0, FEATURE_ECX, 2), "?"); /* SVM */
	assert_string_equal(feature_name(7, 0, FEATURE_ECX, 16), "?");         /* LA57 */
	assert_string_equal(feature_name(0xd, 1, FEATURE_EAX, 3), "?");        /* XSAVES */
}

static void read_leaf(uint32_t leaf, uint32_t sub, uint64_t cr4, uint64_t xcr0, uint32_t id, uint32_t r[4])
{
	struct hv_mode m = { .cr4 = cr4 };
	memset(r, 0xa5, 16);
	cpuid_table_read(&vm->cpuid, leaf, sub, &m, xcr0, id, r);
}

static void test_what_a_guest_sees(void **state)
{
	uint32_t r[4];
	struct cpuid_regs h = cpuid(0, 0);
	(void)state;
	read_leaf(0, 0, 0, 1, 0, r);
	assert_true(r[0] == 0xd && r[1] == h.ebx && r[2] == h.ecx && r[3] == h.edx);
	h = cpuid(1, 0);
	read_leaf(1, 77, 0, 1, 0, r); /* no subleaves: any ECX */
	assert_int_equal(r[0], h.eax);
	assert_int_equal(r[2] & ~(feature_mask(1, 0, FEATURE_ECX, FEATURE_PASS) |
				  feature_mask(1, 0, FEATURE_ECX, FEATURE_SET)),
			 0);
	assert_int_equal(r[2] & feature_mask(1, 0, FEATURE_ECX, FEATURE_PASS),
			 h.ecx & feature_mask(1, 0, FEATURE_ECX, FEATURE_PASS));
	assert_true(r[2] >> 31 & 1 && r[2] >> 21 & 1 && r[2] >> 24 & 1); /* hypervisor, x2APIC, TSC deadline */
	assert_int_equal(r[1] >> 16, 1);
	read_leaf(0x40000000, 0, 0, 1, 0, r);
	assert_memory_equal(&r[1], "KVMKVMKVM\0\0\0", 12);
	static const uint32_t none[] = { 3,    5,          6,          0xa,        0xc,        0xe,       0x10,
					 0x14, 0x40000002, 0x80000007, 0x8000000a, 0x8000001f, 0xffffffff };
	for (unsigned i = 0; i < ARRAY_SIZE(none); i++) { /* no invariant TSC, no SVM, no counters: zeroes */
		read_leaf(none[i], 0, ~0ULL, 7, 3, r);
		assert_true(!r[0] && !r[1] && !r[2] && !r[3]);
	}
	read_leaf(7, 1, ~0ULL, 7, 3, r);
	assert_true(!r[0] && !r[1] && !r[2] && !r[3]);
	read_leaf(0x80000000, 0, 0, 1, 0, r);
	assert_int_equal(r[0], 0x80000008);
}

static void test_dynamic_fields(void **state)
{
	uint32_t r[4];
	(void)state;
	read_leaf(1, 0, 0, 1, 5, r);
	assert_int_equal(r[1] >> 24, 5);
	assert_false(r[2] >> 27 & 1);
	read_leaf(1, 0, CR4_OSXSAVE, 1, 5, r);
	assert_true(r[2] >> 27 & 1);
	read_leaf(7, 0, 0, 1, 5, r);
	assert_false(r[2] >> 4 & 1);
	read_leaf(7, 0, CR4_PKE, 1, 5, r);
	assert_true(r[2] >> 4 & 1);
	for (uint32_t sub = 0; sub < 4; sub++) {
		read_leaf(0xb, sub, 0, 1, 5, r);
		assert_int_equal(r[3], 5);
		assert_int_equal(r[2] & 0xff, sub);
		assert_int_equal(r[2] >> 8 & 0xff, sub == 0 ? 1 : sub == 1 ? 2 : 0);
	}
	if (!fpu_xcr0_mask())
		skip();
	read_leaf(0xd, 0, 0, 1, 0, r);
	assert_int_equal(r[0] | (uint64_t)r[3] << 32, fpu_xcr0_mask());
	assert_int_equal(r[1], 576);
	assert_int_equal(r[2], fpu_area_size());
	read_leaf(0xd, 0, 0, fpu_xcr0_mask(), 0, r);
	assert_int_equal(r[1], fpu_area_size());
	if (fpu_xcr0_mask() & 4) {
		read_leaf(0xd, 0, 0, 7, 0, r);
		assert_int_equal(r[1], 832);
	}
}

/* Sizes of both formats, on a table with a gap in the standard one and alignment in the other (SDM 1 13.4). */
static void test_xsave_sizes(void **state)
{
	static struct cpuid_table t = { .first = { { [0xd] = 1 } },
					.s = { .n = 5,
					       .leaf = { 0xd, 0xd, 0xd, 0xd, 0xd },
					       .sub = { 0, 1, 2, 9, 10 },
					       .regs = { 0x607, 0, 2752, 0,    3, 0, 0,  0,         256, 576,
							 0,     0, 8,    2688, 0, 0, 64, 2752 - 64, 2,   0 } } };
	struct hv_mode m = { .cr4 = 0 };
	uint32_t r[4];
	(void)state;
	cpuid_table_read(&t, 0xd, 0, &m, 0x207, 0, r);
	assert_int_equal(r[1], 2696);
	cpuid_table_read(&t, 0xd, 1, &m, 0x207, 0, r);
	assert_int_equal(r[1], 840);
	cpuid_table_read(&t, 0xd, 1, &m, 0x607, 0, r);
	assert_int_equal(r[1], 896 + 64);
	t.s.regs[4] = 1; /* no XSAVEC: no compacted format to tell the size of */
	cpuid_table_read(&t, 0xd, 1, &m, 0x207, 0, r);
	assert_int_equal(r[1], 0);
}

/* ---- compatibility ---- */

static uint32_t *words(struct vm_compat *c, uint32_t leaf, uint32_t sub)
{
	for (unsigned i = 0; i < c->n; i++)
		if (c->leaf[i] == leaf && c->sub[i] == sub)
			return c->regs[i];
	return NULL;
}

static void test_compat(void **state)
{
	struct vm_compat c, d;
	struct why w = { "" };
	unsigned lacking = 0;
	(void)state;
	vm_compat_get(vm, &c);
	if (vm_compat_check("host", &c, &w)) /* reflexive */
		fail_msg("%s", w.text);
	for (unsigned i = 0; i < nfeatures; i++) {
		const struct feature *f = &features[i];
		char want[120];
		d = c;
		uint32_t *r = words(&d, f->leaf, f->sub);
		if (!r)
			continue;
		if (r[f->reg] >> f->bit & 1) { /* a guest that was given less is welcome */
			r[f->reg] &= ~(1U << f->bit);
			assert_int_equal(vm_compat_check("host", &d, NULL), 0);
			continue;
		}
		lacking++;
		r[f->reg] |= 1U << f->bit;
		w.text[0] = 0;
		assert_int_equal(vm_compat_check("host", &d, &w), -ENOTSUP);
		snprintf(want, sizeof(want), "destination lacks %s (CPUID 0x%X.%u:%s[%u])", f->name, f->leaf, f->sub,
			 reg_name[f->reg], f->bit);
		assert_string_equal(w.text, want);
		for (unsigned k = 0; k < i; k++) { /* the first is named */
			const struct feature *o = &features[k];
			uint32_t *q = words(&d, o->leaf, o->sub);
			if (o->leaf != f->leaf || o->sub != f->sub || o->reg != f->reg || o->bit > f->bit ||
			    q[o->reg] >> o->bit & 1)
				continue;
			struct vm_compat e = d;
			words(&e, o->leaf, o->sub)[o->reg] |= 1U << o->bit;
			w.text[0] = 0;
			assert_int_equal(vm_compat_check("host", &e, &w), -ENOTSUP);
			assert_non_null(strstr(w.text, o->name));
		}
	}
	assert_true(lacking > 0);
}

static void test_compat_refuses(void **state)
{
	struct vm_compat c, d;
	struct why w = { "" };
	(void)state;
	vm_compat_get(vm, &c);
	d = c;
	words(&d, 0, 0)[2] ^= 1;
	assert_int_equal(vm_compat_check("host", &d, &w), -ENOTSUP);
	assert_non_null(strstr(w.text, "vendor"));
	d = c;
	d.n = VM_COMPAT_WORDS + 1;
	assert_int_equal(vm_compat_check("host", &d, NULL), -EINVAL);
	d = c; /* a leaf that this host does not have at all */
	d.leaf[d.n] = 7, d.sub[d.n] = 1, d.regs[d.n][0] = 1, d.n++;
	assert_int_equal(vm_compat_check("host", &d, NULL), 0); /* nothing that a guest may use is in it */
	if (!words(&c, 0xd, 0))
		skip();
	d = c;
	words(&d, 0xd, 0)[0] |= BIT(17);
	w.text[0] = 0;
	assert_int_equal(vm_compat_check("host", &d, &w), -ENOTSUP);
	assert_non_null(strstr(w.text, "XSAVE"));
	d = c;
	if (words(&d, 0xd, 2)) {
		words(&d, 0xd, 2)[1] += 64;
		w.text[0] = 0;
		assert_int_equal(vm_compat_check("host", &d, &w), -ENOTSUP);
		assert_non_null(strstr(w.text, "XSAVE component 2"));
	}
}

static void test_table_from_the_wire(void **state)
{
	static struct cpuid_table t;
	static uint8_t buf[sizeof(t)];
	struct why w = { "" };
	(void)state;
	assert_int_equal(state_selftest(&cpuid_desc, &w), 0);
	t = vm->cpuid;
	t.s.n = CPUID_MAX + 1;
	state_save(&cpuid_desc, &t, buf);
	assert_int_equal(state_load(&cpuid_desc, &t, 1, buf, state_size(&cpuid_desc), &w), -EINVAL);
	t = vm->cpuid;
	t.s.leaf[0] = 0xd, t.s.sub[0] = 64; /* would be a shift by 64 */
	state_save(&cpuid_desc, &t, buf);
	assert_int_equal(state_load(&cpuid_desc, &t, 1, buf, state_size(&cpuid_desc), &w), -EINVAL);
	t = vm->cpuid;
	state_save(&cpuid_desc, &t, buf);
	assert_int_equal(state_load(&cpuid_desc, &t, 1, buf, state_size(&cpuid_desc), &w), 0);
}

static void test_xcr0(void **state)
{
	(void)state;
	assert_false(fpu_xcr0_valid(0) || fpu_xcr0_valid(2) || fpu_xcr0_valid(5) || fpu_xcr0_valid(BIT(63) | 1));
	if (!fpu_xcr0_mask())
		skip();
	assert_true(fpu_xcr0_valid(1) && fpu_xcr0_valid(3) && fpu_xcr0_valid(fpu_xcr0_mask()));
	assert_false(fpu_xcr0_valid(7 | BIT(5))); /* AVX-512: all three or none */
	assert_true(fpu_area_size() >= 576 && fpu_area_size() <= XSAVE_AREA_MAX);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_features_def),
		cmocka_unit_test(test_what_a_guest_sees),
		cmocka_unit_test(test_dynamic_fields),
		cmocka_unit_test(test_xsave_sizes),
		cmocka_unit_test(test_compat),
		cmocka_unit_test(test_compat_refuses),
		cmocka_unit_test(test_table_from_the_wire),
		cmocka_unit_test(test_xcr0),
	};
	return cmocka_run_group_tests_name("cpuid", tests, setup, teardown);
}

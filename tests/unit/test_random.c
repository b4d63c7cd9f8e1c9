/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The random generator: its ChaCha20 against RFC 8439, that what comes out never repeats, and that a CPU without RDSEED
 * and RDRAND is known for one (what then becomes of keys: test_trust.c).
 */
#include "arch/x86/cpu.h"
#include "tests/unit/fake_kernel.h"
static struct cpuid_regs fake_cpuid(uint32_t leaf, uint32_t subleaf);
#define cpuid(leaf, subleaf) fake_cpuid(leaf, subleaf)
#include "kernel/random.c" /* for chacha20_block */
#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

/* ---- a CPU ---- */

static uint32_t leaves, leaf1_ecx, leaf7_ebx; /* no leaves: it is this machine's */
static struct cpuid_regs fake_cpuid(uint32_t leaf, uint32_t subleaf)
{
	if (!leaves)
		return (cpuid)(leaf, subleaf);
	assert_true(leaf <= leaves && !subleaf); /* beyond that a CPU says what it likes (SDM 2A, CPUID) */
	return (struct cpuid_regs){ .eax = leaf ? 0 : leaves,
				    .ebx = leaf == 7 ? leaf7_ebx : 0,
				    .ecx = leaf == 1 ? leaf1_ecx : 0 };
}

static bool has_source(uint32_t max_leaf, uint32_t ecx, uint32_t ebx)
{
	leaves = max_leaf, leaf1_ecx = ecx, leaf7_ebx = ebx;
	return random_has_source();
}

static void test_sources(void **state)
{
	(void)state;

	assert_false(has_source(1, ~(1U << 30), 0));
	assert_false(has_source(7, ~(1U << 30), ~(1U << 18)));
	assert_false(has_source(6, 0, ~0U));
	assert_true(has_source(1, 1U << 30, 0));
	assert_true(has_source(7, 0, 1U << 18));
	leaves = 0;
}

static void test_chacha20(void **state)
{
	/* RFC 8439, 2.3.2 */
	static const uint32_t in[4] = { 1, 0x09000000, 0x4a000000, 0 };
	/* clang-format off */
	static const uint32_t want[16] = {
		0xe4e7f110, 0x15593bd1, 0x1fdd0f50, 0xc47120a3, 0xc7f4d1c7, 0x0368c033, 0x9aaa2204, 0x4e6cd4c3,
		0x466482d2, 0x09aa9f07, 0x05d7c214, 0xa2028bd9, 0xd19c12b5, 0xb94e16de, 0xe883d0cb, 0x4e3c50a2,
	};
	/* clang-format on */
	uint32_t k[8], out[16];
	(void)state;

	for (unsigned i = 0; i < 32; i++)
		((uint8_t *)k)[i] = (uint8_t)i;
	chacha20_block(k, in, out);
	assert_memory_equal(out, want, sizeof(want));
}

static void test_output(void **state)
{
	static uint8_t buf[4096];
	uint8_t a[32], b[32];
	unsigned ones = 0;
	(void)state;

	random_bytes(a, sizeof(a));
	random_bytes(b, sizeof(b));
	assert_memory_not_equal(a, b, sizeof(a));
	buf[4095] = buf[4094] = 0;
	random_bytes(buf, 4095);
	assert_int_equal(buf[4095], 0); /* not a byte more */
	for (unsigned i = 0; i < 4095; i++)
		ones += (unsigned)__builtin_popcount(buf[i]);
	assert_in_range(ones, 4095 * 4 - 600, 4095 * 4 + 600);
	for (unsigned i = 32; i + 32 <= 4095; i += 32)
		assert_memory_not_equal(buf, buf + i, 32);
	random_bytes(buf, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_sources),
		cmocka_unit_test(test_chacha20),
		cmocka_unit_test(test_output),
	};
	return cmocka_run_group_tests_name("random", tests, NULL, NULL);
}

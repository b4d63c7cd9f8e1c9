/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The loader's memory map: every page of what firmware reports, disorderly or not, against a table with one type a
 * page.
 */
#include "boot/memmap.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#define MAX_IN 40

static uint64_t cuts[2 * MAX_IN];
static struct handoff_mem out[2 * MAX_IN];

static void test_simple(void **state)
{
	/* clang-format off */
	const struct handoff_mem in[] = {
		{ MIB(4), MIB(4), HANDOFF_MEM_FREE, 0 },   { 0, KIB(640), HANDOFF_MEM_FREE, 0 },
		{ MIB(1), MIB(3), HANDOFF_MEM_FREE, 0 },   { MIB(5), KIB(5), HANDOFF_MEM_KEEP, 0 },
		{ 0, PAGE_SIZE, HANDOFF_MEM_RESERVED, 0 },
	};
	/* clang-format on */
	const struct handoff_mem want[] = {
		{ 0, PAGE_SIZE, HANDOFF_MEM_RESERVED, 0 },
		{ PAGE_SIZE, KIB(636), HANDOFF_MEM_FREE, 0 },
		{ MIB(1), MIB(4), HANDOFF_MEM_FREE, 0 },
		{ MIB(5), KIB(8), HANDOFF_MEM_KEEP, 0 },
		{ MIB(5) + KIB(8), MIB(3) - KIB(8), HANDOFF_MEM_FREE, 0 },
	};

	(void)state;
	assert_int_equal(memmap_flatten(in, ARRAY_SIZE(in), cuts, out), ARRAY_SIZE(want));
	for (size_t i = 0; i < ARRAY_SIZE(want); i++) {
		assert_int_equal(out[i].base, want[i].base);
		assert_int_equal(out[i].size, want[i].size);
		assert_int_equal(out[i].type, want[i].type);
	}
	assert_int_equal(memmap_free_page_below(out, ARRAY_SIZE(want), KIB(640)), KIB(636));
	assert_int_equal(memmap_free_page_below(out, ARRAY_SIZE(want), 2 * PAGE_SIZE), PAGE_SIZE);
	assert_int_equal(memmap_free_page_below(out, ARRAY_SIZE(want), PAGE_SIZE), 0);
}

static void test_hostile(void **state)
{
	const struct handoff_mem in[] = {
		{ MIB(1), UINT64_MAX, HANDOFF_MEM_FREE, 0 },       /* wraps around */
		{ UINT64_MAX - 100, 50, HANDOFF_MEM_RESERVED, 0 }, /* in the last page */
		{ MIB(2), 0, HANDOFF_MEM_RESERVED, 0 },            /* empty */
		{ MIB(3) + 1, PAGE_SIZE, HANDOFF_MEM_FREE, 0 },    /* not one whole page */
		{ MIB(4) + 4095, 2, HANDOFF_MEM_ACPI, 0 },         /* touches two */
	};

	(void)state;
	assert_int_equal(memmap_flatten(in, 0, cuts, out), 0);
	assert_int_equal(memmap_flatten(in, ARRAY_SIZE(in), cuts, out), 1);
	assert_int_equal(out[0].base, MIB(4));
	assert_int_equal(out[0].size, 2 * PAGE_SIZE);
	assert_int_equal(out[0].type, HANDOFF_MEM_ACPI);
}

/* Random overlapping byte ranges in the first 64 pages. */
static void test_model(void **state)
{
	struct handoff_mem in[MAX_IN];

	(void)state;
	srandom(1);
	for (int round = 0; round < 20000; round++) {
		uint32_t model[66] = { 0 };
		unsigned n = (unsigned)random() % MAX_IN, nout;
		uint64_t end = 0;
		uint32_t last = 0;

		for (unsigned i = 0; i < n; i++) {
			bool aligned = random() % 4;
			uint64_t unit = aligned ? PAGE_SIZE : 512;

			in[i].base = (uint64_t)random() % (60 * PAGE_SIZE / unit) * unit;
			in[i].size = (uint64_t)random() % (4 * PAGE_SIZE / unit) * unit;
			in[i].type = 1 + (uint32_t)random() % 5;
			in[i].pad = 0;
			for (unsigned p = 0; p < 66; p++) {
				uint64_t a = MAX(in[i].base, p * PAGE_SIZE),
					 b = MIN(in[i].base + in[i].size, (p + 1) * PAGE_SIZE);
				bool hit = in[i].type == HANDOFF_MEM_FREE ? b == a + PAGE_SIZE : a < b;

				if (a < b && hit)
					model[p] = MAX(model[p], in[i].type);
			}
		}
		nout = memmap_flatten(in, n, cuts, out);
		for (unsigned i = 0; i < nout; i++) {
			assert_true(out[i].base >= end && out[i].size > 0);
			assert_false(out[i].base == end && out[i].type == last && i); /* merged */
			assert_int_equal((out[i].base | out[i].size) & PAGE_MASK, 0);
			for (uint64_t p = end / PAGE_SIZE; p < out[i].base / PAGE_SIZE; p++)
				assert_int_equal(model[p], 0);
			for (uint64_t p = out[i].base / PAGE_SIZE; p < (out[i].base + out[i].size) / PAGE_SIZE; p++)
				assert_int_equal(model[p], out[i].type);
			end = out[i].base + out[i].size;
			last = out[i].type;
		}
		for (uint64_t p = end / PAGE_SIZE; p < 66; p++)
			assert_int_equal(model[p], 0);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_simple),
		cmocka_unit_test(test_hostile),
		cmocka_unit_test(test_model),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

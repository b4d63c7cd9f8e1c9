/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The kernel's memcpy, memmove and memset (compiled as tern_memcpy and so on) against byte by byte models, word by word
 * and with REP, and beside pages that may not be touched.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "arch/x86/memory.h"
#include "kernel/base/bits.h"
#include <string.h>
#include <sys/mman.h>

void *tern_memcpy(void *restrict dst, const void *restrict src, size_t n);
void *tern_memmove(void *dst, const void *src, size_t n);
void *tern_memset(void *dst, int byte, size_t n);

#define LARGE 70000
#define EDGE  128 /* bytes on both sides that nobody may change */

static const size_t sizes[] = { 301, 511, 512, 513, 767, 768, 769, 1500, 4095, 4096, 4097, LARGE };
static uint8_t src[LARGE + 2 * EDGE], got[LARGE + 2 * EDGE], want[LARGE + 2 * EDGE];

static void fill(uint8_t *p, size_t n, uint32_t seed)
{
	for (size_t i = 0; i < n; i++) {
		seed = seed * 1664525U + 1013904223U;
		p[i] = (uint8_t)(seed >> 24);
	}
}

static void model_move(uint8_t *d, const uint8_t *s, size_t n)
{
	if (d < s)
		for (size_t i = 0; i < n; i++)
			d[i] = s[i];
	else
		while (n--)
			d[n] = s[n];
}

typedef void *copy_fn(void *dst, const void *source, size_t n);
static void *via_memcpy(void *d, const void *s, size_t n) { return tern_memcpy(d, s, n); }

static void check_copy(copy_fn *copy, size_t to, size_t from, size_t n)
{
	memset(got, 0x5a, n + 2 * EDGE);
	memset(want, 0x5a, n + 2 * EDGE);
	model_move(want + to, src + from, n);
	assert_ptr_equal(copy(got + to, src + from, n), got + to);
	assert_memory_equal(got, want, n + 2 * EDGE);
}

static void copies(copy_fn *copy)
{
	fill(src, sizeof(src), 1);
	for (size_t n = 0; n <= 300; n++)
		for (size_t to = 0; to < 16; to++)
			for (size_t from = 0; from < 16; from++)
				check_copy(copy, to + 32, from, n);
	for (unsigned i = 0; i < ARRAY_SIZE(sizes); i++)
		for (size_t to = 0; to < 16; to += 3)
			for (size_t from = 0; from < 16; from += 5)
				check_copy(copy, to + 32, from, sizes[i]);
}

static void copies_by_memcpy(void **state unused) { copies(via_memcpy); }

static void copies_by_memmove(void **state unused) { copies(tern_memmove); }

/* n bytes at `from` of one buffer to `to` of the same. */
static void check_overlap(size_t to, size_t from, size_t n)
{
	size_t all = MAX(to, from) + n + EDGE;
	memcpy(got, src, all);
	memcpy(want, src, all);
	model_move(want + to, want + from, n);
	assert_ptr_equal(tern_memmove(got + to, got + from, n), got + to);
	assert_memory_equal(got, want, all);
}

static void moves_within_a_buffer(void **state unused)
{
	static const size_t far[] = { 1, 7, 8, 31, 32, 33, 63, 64, 65, 127, EDGE };
	fill(src, sizeof(src), 2);
	for (size_t n = 0; n <= 300; n++)
		for (size_t by = 0; by <= MIN(n + 1, (size_t)EDGE); by++) {
			check_overlap(by, 0, n);
			check_overlap(0, by, n);
			check_overlap(3 + by, 3, n);
		}
	for (unsigned i = 0; i < ARRAY_SIZE(sizes); i++)
		for (unsigned k = 0; k < ARRAY_SIZE(far); k++) {
			check_overlap(far[k], 0, sizes[i]);
			check_overlap(0, far[k], sizes[i]);
		}
	check_overlap(9000, 5, 9001);
	check_overlap(5, 9000, 9001);
}

static void check_set(size_t to, int byte, size_t n)
{
	memset(got, 0x5a, n + 2 * EDGE);
	memset(want, 0x5a, n + 2 * EDGE);
	for (size_t i = 0; i < n; i++)
		want[to + i] = (uint8_t)byte;
	assert_ptr_equal(tern_memset(got + to, byte, n), got + to);
	assert_memory_equal(got, want, n + 2 * EDGE);
}

static void sets(void **state unused)
{
	static const int bytes[] = { 0, 0xa5, 0xff, 0x17c, -2 };
	for (size_t to = 0; to < 16; to++)
		for (unsigned b = 0; b < ARRAY_SIZE(bytes); b++) {
			for (size_t n = 0; n <= 300; n++)
				check_set(to + 32, bytes[b], n);
			for (unsigned i = 0; i < ARRAY_SIZE(sizes); i++)
				check_set(to + 32, bytes[b], sizes[i]);
		}
}

/* Pages of memory between two that raise a fault. */
static uint8_t *fenced(size_t bytes)
{
	uint8_t *p = mmap(NULL, bytes + 2 * PAGE_SIZE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	assert_ptr_not_equal(p, MAP_FAILED);
	assert_int_equal(mprotect(p + PAGE_SIZE, bytes, PROT_READ | PROT_WRITE), 0);
	return p + PAGE_SIZE;
}

static void stays_inside(void **state unused)
{
	size_t bytes = 2 * PAGE_SIZE; /* what is longer than a page crosses into the second */
	uint8_t *a = fenced(bytes), *b = fenced(bytes);
	fill(a, bytes, 3);
	for (size_t n = 0; n <= bytes; n += n < 300 ? 1 : 251) {
		uint8_t *from[] = { a, a + bytes - n }, *to[] = { b, b + bytes - n };
		for (unsigned i = 0; i < 4; i++) {
			tern_memcpy(to[i & 1], from[i >> 1], n);
			assert_memory_equal(to[i & 1], from[i >> 1], n);
			tern_memmove(to[i & 1], from[i >> 1], n);
			tern_memset(to[i & 1], 7, n);
			tern_memmove(to[0], to[1], n); /* these overlap */
			tern_memmove(to[1], to[0], n);
		}
		if (n)
			assert_int_equal(b[0] + b[bytes - 1], 14);
	}
	munmap(a - PAGE_SIZE, bytes + 2 * PAGE_SIZE);
	munmap(b - PAGE_SIZE, bytes + 2 * PAGE_SIZE);
}

static int by_words(void **state unused)
{
	memory_use_rep(false);
	return 0;
}

static int by_rep(void **state unused)
{
	memory_use_rep(true);
	return 0;
}

static int as_chosen(void **state unused)
{
	memory_init();
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(copies_by_memcpy, by_words),
		cmocka_unit_test_setup(copies_by_memcpy, by_rep),
		cmocka_unit_test_setup(copies_by_memmove, by_words),
		cmocka_unit_test_setup(copies_by_memmove, by_rep),
		cmocka_unit_test_setup(moves_within_a_buffer, by_words),
		cmocka_unit_test_setup(moves_within_a_buffer, by_rep),
		cmocka_unit_test_setup(sets, by_words),
		cmocka_unit_test_setup(sets, by_rep),
		cmocka_unit_test_setup(stays_inside, by_words),
		cmocka_unit_test_setup(stays_inside, by_rep),
		cmocka_unit_test_setup(stays_inside, as_chosen),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}

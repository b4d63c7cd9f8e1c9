/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Boot files: those of the boot volume stay, one that came goes with the last VM, bytes say what is the same, and
 * zeros are zeros whether they take memory or not.
 */
#include "kernel/base/hva.h"
#include "kernel/host.h"
#include "tests/unit/fake_kernel.h"
#include "vmm/boot_file.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

struct host_info host_info;

#define SIZE (2 * BOOT_FILE_BLOCK + 100)
static uint8_t bytes[SIZE], others[SIZE];

static int setup(void **state unused)
{
	for (unsigned i = 0; i < SIZE; i++)
		bytes[i] = others[i] = (uint8_t)(i * 7 + i / 251);
	others[SIZE - 1] ^= 1;
	return boot_file_add("vmlinuz", bytes, SIZE) || boot_file_add("others", others, SIZE);
}

static void test_boot_volume(void **state unused)
{
	uint8_t empty[1];
	assert_int_equal(boot_file_add("empty", empty, 0), -EINVAL);
	assert_null(boot_file_named("empty"));
	struct boot_file *f = boot_file_named("vmlinuz");
	assert_non_null(f);
	boot_file_put(f);
	assert_ptr_equal(boot_file_named("vmlinuz"), f);
	boot_file_put(f);
	assert_int_equal(host_info.file_bytes, 0); /* theirs are counted where they were read */
}

static void test_pieces(void **state unused)
{
	struct boot_file *f = boot_file_named("vmlinuz");
	uint64_t off = 0;
	size_t n, pieces = 0;
	for (; off < f->size; off += n, pieces++) {
		const uint8_t *p = boot_file_at(f, off, &n);
		assert_memory_equal(p, bytes + off, n);
	}
	assert_int_equal(off, SIZE);
	assert_int_equal(pieces, 3);
	assert_ptr_equal(boot_file_at(f, BOOT_FILE_BLOCK - 1, &n), bytes + BOOT_FILE_BLOCK - 1);
	assert_int_equal(n, 1);
	boot_file_put(f);
}

static void test_same(void **state unused)
{
	struct boot_file *f = boot_file_named("vmlinuz"), *o = boot_file_named("others"), *found;
	assert_true(boot_file_digest(f) != boot_file_digest(o));
	found = boot_file_same("others", SIZE, boot_file_digest(o));
	assert_ptr_equal(found, o);
	boot_file_put(found);
	assert_null(boot_file_same("others", SIZE, boot_file_digest(f)));
	assert_null(boot_file_same("others", SIZE - 1, boot_file_digest(o)));
	assert_null(boot_file_same("vmlinuz", SIZE, boot_file_digest(o))); /* of another name */
	assert_null(boot_file_same("", SIZE, boot_file_digest(o)));
	boot_file_put(f);
	boot_file_put(o);
}

static void test_one_that_came(void **state unused)
{
	struct boot_file *f;
	assert_int_equal(boot_file_new(SIZE, &f, NULL), 0);
	assert_int_equal(host_info.file_bytes, 3 * BOOT_FILE_BLOCK);
	for (uint64_t off = 0; off < SIZE; off += 999) /* over the blocks' borders, too */
		boot_file_write(f, off, bytes + off, MIN(SIZE - off, 999UL));
	size_t n;
	for (uint64_t off = 0; off < SIZE; off += n) {
		const uint8_t *p = boot_file_at(f, off, &n);
		assert_memory_equal(p, bytes + off, n);
	}
	struct boot_file *own = boot_file_named("vmlinuz");
	assert_true(boot_file_digest(f) == boot_file_digest(own));
	boot_file_put(own);
	assert_ptr_equal(boot_file_ref(f), f);
	boot_file_put(f);
	assert_int_equal(host_info.file_bytes, 3 * BOOT_FILE_BLOCK); /* there is one who has it */
	boot_file_put(f);
	assert_int_equal(host_info.file_bytes, 0);
	assert_int_equal(fake_page_live(), 0);
}

/* ---- without zeros ---- */

#define HOLES (4 * BOOT_FILE_BLOCK + 512) /* data, a hole, zeros that are held, data, and a last block of one sector */
static uint8_t flat[HOLES], sparse_data[3][BOOT_FILE_BLOCK];

/* The same file twice: all in memory as NAME-flat, and as NAME with blocks 1 and, unless it has a byte, 4 as holes. */
static struct boot_file *add_sparse(const char *name, const char *name_flat, uint8_t last)
{
	for (unsigned i = 0; i < BOOT_FILE_BLOCK; i++) {
		flat[i] = (uint8_t)(i * 5 + 1);
		flat[3 * BOOT_FILE_BLOCK + i] = (uint8_t)(i * 3 + 1);
	}
	flat[HOLES - 1] = last;
	memcpy(sparse_data[0], flat, BOOT_FILE_BLOCK);
	memcpy(sparse_data[1], flat + 3 * BOOT_FILE_BLOCK, BOOT_FILE_BLOCK);
	memcpy(sparse_data[2], flat + 4 * BOOT_FILE_BLOCK, 512);
	static uint8_t held_zeros[BOOT_FILE_BLOCK];
	const hpa_t chunk[] = { hpa_of(sparse_data[0]), 0, hpa_of(held_zeros), hpa_of(sparse_data[1]),
				last ? hpa_of(sparse_data[2]) : 0 };
	assert_int_equal(boot_file_add_sparse(name, chunk, HOLES), 0);
	assert_int_equal(boot_file_add(name_flat, flat, HOLES), 0);
	return boot_file_named(name);
}

static void test_holes(void **state unused)
{
	struct boot_file *f = add_sparse("disk", "disk-flat", 9);
	size_t n;
	assert_int_equal(boot_file_blocks(f), 5);
	for (uint64_t i = 0; i < 5; i++)
		assert_int_equal(boot_file_is_hole(f, i), i == 1);
	for (uint64_t off = 0; off < HOLES; off += n) {
		const uint8_t *p = boot_file_at(f, off, &n);
		assert_memory_equal(p, flat + off, n);
		bool hole = off / BOOT_FILE_BLOCK == 1;
		assert_int_equal(n, hole ? PAGE_SIZE : off < 4 * BOOT_FILE_BLOCK ? BOOT_FILE_BLOCK : 512);
	}
	assert_int_equal(*boot_file_at(f, 2 * BOOT_FILE_BLOCK - 1, &n), 0); /* the last byte of a hole */
	assert_int_equal(n, 1);
	boot_file_put(f);
	assert_int_equal(boot_file_add_sparse("empty", NULL, 0), -EINVAL);
	assert_int_equal(host_info.file_bytes, 0);
}

/* A file with and without its zeros has one digest, and one that differs anywhere has another. */
static void test_digest_of_holes(void **state unused)
{
	struct boot_file *f = boot_file_named("disk"), *other = boot_file_named("disk-flat");
	uint64_t digest = boot_file_digest(f);
	assert_true(digest == boot_file_digest(other));
	boot_file_put(other);
	boot_file_put(f);

	f = add_sparse("hole-last", "zero-last", 0); /* the last block, of 512 bytes */
	other = boot_file_named("zero-last");
	assert_true(boot_file_is_hole(f, 4) && !boot_file_is_hole(other, 4));
	assert_true(boot_file_digest(f) == boot_file_digest(other) && boot_file_digest(f) != digest);
	boot_file_put(other);

	/* Longer by zeros; and what is in block 0 in block 1 instead. */
	const hpa_t one[] = { hpa_of(sparse_data[0]), 0 }, moved[] = { 0, hpa_of(sparse_data[0]) };
	const struct {
		const char *name;
		const hpa_t *chunk;
		uint64_t size;
	} file[] = { { "one", one, BOOT_FILE_BLOCK },
		     { "longer", one, BOOT_FILE_BLOCK + 1 },
		     { "longer still", one, 2 * BOOT_FILE_BLOCK },
		     { "moved", moved, 2 * BOOT_FILE_BLOCK } };
	uint64_t seen[ARRAY_SIZE(file)];
	for (unsigned i = 0; i < ARRAY_SIZE(file); i++) {
		assert_int_equal(boot_file_add_sparse(file[i].name, file[i].chunk, file[i].size), 0);
		seen[i] = boot_file_digest(boot_file_named(file[i].name));
		for (unsigned k = 0; k < i; k++)
			assert_true(seen[k] != seen[i]);
	}
	boot_file_put(f);
}

/* What doc/wire.md describes, by another program (tests/wire_reader.py). */
static void test_digest_known(void **state unused)
{
	const hpa_t nothing[] = { 0 };
	struct boot_file *f = boot_file_named("vmlinuz");
	assert_true(boot_file_digest(f) == 0xb0ddfbc778bea4d2);
	boot_file_put(f);
	assert_int_equal(boot_file_add_sparse("nothing", nothing, 100), 0);
	assert_true(boot_file_digest(boot_file_named("nothing")) == 0xa1df9c5cd454307a);
}

/* Of a file that comes: each block is read as it is set, and none any more when all of them are there. */
static void test_digest_on_the_way(void **state unused)
{
	struct boot_file *flat_one = boot_file_named("disk-flat"), *f;
	struct why w = { "" };
	flat[HOLES - 1] = 9; /* as it was added */
	assert_int_equal(boot_file_new_sparse(HOLES, 3, &f, &w), 0);
	for (uint64_t i = 0; i < 5; i++) {
		size_t n = MIN(BOOT_FILE_BLOCK, HOLES - i * BOOT_FILE_BLOCK);
		if (i != 1) /* a hole that is left out, and one that is not */
			assert_int_equal(boot_file_set_block(f, i, flat + i * BOOT_FILE_BLOCK, n), 0);
	}
	assert_true(boot_file_is_hole(f, 2) && !boot_file_is_hole(f, 4));
	f->block[0][7] ^= 1;
	boot_file_complete(f);
	assert_true(boot_file_digest(f) == boot_file_digest(flat_one));
	boot_file_put(f);

	assert_int_equal(boot_file_new_sparse(SIZE, 3, &f, &w), 0); /* without its end, whose first bytes come */
	for (uint64_t i = 0; i < 3; i++)
		assert_int_equal(boot_file_set_block(f, i, bytes + i * BOOT_FILE_BLOCK, 99), 0);
	boot_file_complete(f);
	uint64_t digest = f->digest;
	f->digest = 0;
	assert_true(digest && digest == boot_file_digest(f));
	boot_file_put(f);
	boot_file_put(flat_one);
	assert_int_equal(fake_page_live(), 0);
	assert_int_equal(fake_page_reserved(), 0);
}

static unsigned looks, stop_at;
static int look(void *arg)
{
	assert_ptr_equal(arg, &looks);
	return ++looks == stop_at ? -ECANCELED : 0;
}

/* It looks up from each block that it reads, and leaves nothing half done. */
static void test_digest_ahead(void **state unused)
{
	struct boot_file *f = add_sparse("ahead", "ahead-flat", 9);
	for (stop_at = 1; stop_at <= 4; stop_at++) {
		looks = 0;
		assert_int_equal(boot_file_digest_ahead(f, look, &looks), -ECANCELED);
		assert_true(looks == stop_at && !f->digest);
	}
	looks = 0;
	assert_int_equal(boot_file_digest_ahead(f, look, &looks), 0);
	assert_true(looks == 4 && f->digest); /* not at the hole */
	assert_int_equal(boot_file_digest_ahead(f, look, &looks), 0);
	assert_int_equal(looks, 4); /* it is known */
	struct boot_file *other = boot_file_named("ahead-flat");
	assert_true(f->digest == boot_file_digest(other));
	boot_file_put(other);
	boot_file_put(f);
}

static void test_no_memory(void **state unused)
{
	struct boot_file *f = NULL;
	struct why w = { "" };
	assert_int_equal(boot_file_new(1ULL << 50, &f, &w), -ENOMEM);
	assert_non_null(strstr(w.text, "a boot file needs"));
	for (long n = 0; n < 3; n++) {
		fake_page_alloc_fail_after(n);
		assert_int_equal(boot_file_new(SIZE, &f, NULL), -ENOMEM);
		fake_page_alloc_fail_after(-1);
		assert_int_equal(fake_page_live(), 0);
		assert_int_equal(fake_page_reserved(), 0);
		assert_int_equal(host_info.file_bytes, 0);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_boot_volume),
		cmocka_unit_test(test_pieces),
		cmocka_unit_test(test_same),
		cmocka_unit_test(test_one_that_came),
		cmocka_unit_test(test_no_memory),
		cmocka_unit_test(test_holes),
		cmocka_unit_test(test_digest_of_holes),
		cmocka_unit_test(test_digest_known),
		cmocka_unit_test(test_digest_on_the_way),
		cmocka_unit_test(test_digest_ahead),
	};
	return cmocka_run_group_tests(tests, setup, NULL);
}

/* SPDX-License-Identifier: BSD-2-Clause */
/* Boot files: those of the boot volume stay, one that came goes with the last VM, and bytes say what is the same. */
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
		cmocka_unit_test(test_boot_volume),   cmocka_unit_test(test_pieces),    cmocka_unit_test(test_same),
		cmocka_unit_test(test_one_that_came), cmocka_unit_test(test_no_memory),
	};
	return cmocka_run_group_tests(tests, setup, NULL);
}

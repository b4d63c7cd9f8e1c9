/* SPDX-License-Identifier: BSD-2-Clause */
/* The file system that cloud-init reads (vmm/seed.c): mtools find in it what was put there. */
#include "tests/unit/fake_kernel.h"
#include "kernel/host.h"
#include "vmm/seed.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>

struct host_info host_info;

static char bytes[9 << 20];

/* Command `cmd` with the image's name for %s; what it prints, up to size - 1 bytes, and how many. */
static size_t ask(const char *cmd, const struct boot_file *f, char *out, size_t size)
{
	char image[] = "/tmp/tern-seed-XXXXXX", line[200];
	int fd = mkstemp(image);
	size_t n;
	assert_true(fd >= 0);
	for (uint64_t off = 0; off < f->size; off += n) {
		const uint8_t *p = boot_file_at(f, off, &n);
		assert_int_equal(write(fd, p, n), n);
	}
	close(fd);
	snprintf(line, sizeof(line), cmd, image);
	FILE *p = popen(line, "r");
	assert_non_null(p);
	n = fread(out, 1, size - 1, p);
	out[n] = 0;
	assert_int_equal(pclose(p), 0);
	unlink(image);
	return n;
}

static void test_files(void **state unused)
{
	static const size_t sizes[] = { 1, 511, 4096, 4097, 65536, 1000001 };
	static char got[2 << 20];
	struct why w = { "" };
	for (size_t i = 0; i < sizeof(bytes); i++)
		bytes[i] = (char)(i * 31 + i / 997);
	for (unsigned i = 0; i < ARRAY_SIZE(sizes); i++) {
		char name[] = "user0.yaml";
		name[4] = (char)('0' + i);
		assert_int_equal(boot_file_add(strdup(name), bytes, sizes[i]), 0);
		struct vm_config c = { .name = "web", .uuid = { 1, 2, 3 } };
		strcpy(c.seed[SEED_USER_DATA], name);
		if (i & 1) /* its name takes two entries */
			strcpy(c.seed[SEED_NETWORK_CONFIG], name);
		struct boot_file *f, *again;
		assert_int_equal(seed_make(&c, &f, &w), 0);
		assert_int_equal(f->size % 512, 0);
		assert_int_equal(ask("mtype -i %s ::user-data", f, got, sizeof(got)), sizes[i]);
		assert_memory_equal(got, bytes, sizes[i]);
		ask("mtype -i %s ::meta-data", f, got, sizeof(got));
		assert_string_equal(got, "instance-id: 01020300-0000-0000-0000-000000000000\nlocal-hostname: web\n");
		if (i & 1) {
			assert_int_equal(ask("mtype -i %s ::network-config", f, got, sizeof(got)), sizes[i]);
			assert_memory_equal(got, bytes, sizes[i]);
		}
		ask("mdir -b -i %s", f, got, sizeof(got));
		assert_int_equal(!!strstr(got, "network-config"), i & 1);
		ask("mlabel -s -i %s", f, got, sizeof(got));
		assert_non_null(strstr(got, "CIDATA"));
		ask("fsck.fat -n -v %s", f, got, sizeof(got)); /* which ends with an error if it finds one */
		/* The same bytes from the same files. */
		assert_int_equal(seed_make(&c, &again, &w), 0);
		assert_true(boot_file_digest(f) == boot_file_digest(again));
		boot_file_put(again);
		boot_file_put(f);
	}
	assert_int_equal(fake_page_live(), 0);
	assert_int_equal(fake_page_reserved(), 0);
}

static void test_wrong(void **state unused)
{
	struct boot_file *f;
	struct why w = { "" };
	struct vm_config c = { .name = "web", .seed = { [SEED_META_DATA] = "gone.yaml" } };
	assert_int_equal(seed_make(&c, &f, &w), -ENOENT);
	assert_string_equal(w.text, "there is no file gone.yaml (meta-data) on the boot volume");
	assert_int_equal(boot_file_add("large.yaml", bytes, sizeof(bytes)), 0);
	strcpy(c.seed[SEED_META_DATA], "large.yaml");
	w.text[0] = 0;
	assert_int_equal(seed_make(&c, &f, &w), -EFBIG);
	assert_string_equal(w.text, "meta-data: more than 8 MiB for cloud-init");
	fake_page_alloc_fail_after(0);
	c.seed[SEED_META_DATA][0] = 0;
	assert_int_equal(seed_make(&c, &f, &w), -ENOMEM);
	fake_page_alloc_fail_after(-1);
	assert_int_equal(fake_page_live(), 0);
	assert_int_equal(fake_page_reserved(), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_files), cmocka_unit_test(test_wrong) };
	return cmocka_run_group_tests(tests, NULL, NULL);
}

/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The guest's SMBIOS tables: found as edk2 and Linux find them, walked, each field that says something looked at;
 * dmidecode reads all of them.
 */
#include "kernel/base/checksum.h"
#include "tests/unit/fake_kernel.h"
#include "vmm/pc/pc.h"
#include "vmm/pc/smbios_tables.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>

static struct gmem g;
static const uint8_t uuid[16] = { 0x00, 0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x77,
				  0x88, 0x99, 0xaa, 0xbb, 0xcc, 0xdd, 0xee, 0xff };

static int setup(void **state unused) { return gmem_init(&g, MIB(2), &pt_format_npt, NULL); }
static int teardown(void **state unused)
{
	gmem_fini(&g);
	return 0;
}

static const uint8_t *at(gpa_t gpa, size_t len)
{
	assert_true(gpa >= 0xf0000 && gpa + len <= 0xffff0);
	return gmem_ptr(&g, gpa, len);
}

/* A machine of so much memory, of which only the tables are there. */
static int build(unsigned nvcpus, uint64_t mem, const char *serial)
{
	struct gmem like = g;
	struct smbios_info info = { uuid, nvcpus, serial };
	like.size = mem;
	like.low = MIN(mem, GIB(3));
	like.high = mem - like.low;
	memset(gmem_ptr(&g, 0xf0000, 0xfff0), 0xee, 0xfff0);
	return smbios_tables_build(&like, &info);
}

/* Number of structures, and where the nr-th of a type is; strings as dmidecode counts them. */
struct found {
	const uint8_t *s;
	const char *string[8];
};

static unsigned walk(uint8_t type, unsigned nr, struct found *f)
{
	const uint8_t *e = at(0xf0000, 24);
	uint16_t handles[16];
	unsigned n = 0;

	assert_memory_equal(e, "_SM3_", 5);
	assert_true(e[6] == 24 && sum8(e, 24) == 0 && e[7] == 3 && e[8] == 0 && e[10] == 1 && e[11] == 0);
	uint32_t len = get_le32(e + 12);
	const uint8_t *p = at(get_le64(e + 16), len), *end = p + len;
	memset(f, 0, sizeof(*f));
	for (bool last = false; !last; n++) {
		const uint8_t *s = p;
		bool it = s[0] == type && !f->s && nr-- == 0;
		assert_true(end - p >= 4 && s[1] >= 4 && end - p >= s[1] + 2);
		for (unsigned k = 0; k < n; k++)
			assert_int_not_equal(handles[k], get_le16(s + 2));
		assert_true(n < ARRAY_SIZE(handles));
		handles[n] = get_le16(s + 2);
		last = s[0] == 127;
		p += s[1];
		if (it)
			f->s = s;
		for (unsigned k = 1; *p; k++) {
			if (it && k < 8)
				f->string[k] = (const char *)p;
			p += strlen((const char *)p) + 1;
			assert_true(p < end);
		}
		p += p[-1] == 0 && p > s + s[1] ? 1 : 2; /* the end: after strings a zero, without any two */
	}
	assert_ptr_equal(p, end);
	return n;
}

static struct found find(uint8_t type, unsigned nr, unsigned len)
{
	struct found f;
	walk(type, nr, &f);
	if (!f.s || f.s[1] != len)
		fail_msg("type %u: %p, %u bytes", type, (const void *)f.s, f.s ? f.s[1] : 0);
	return f;
}

static void test_identity(void **state unused)
{
	static const uint8_t mixed[16] = { 0x33, 0x22, 0x11, 0x00, 0x55, 0x44, 0x77, 0x66,
					   0x88, 0x99, 0xaa, 0xbb, 0xcc, 0xdd, 0xee, 0xff };
	struct found f;

	assert_int_equal(build(1, MIB(256), ""), 0);
	assert_int_equal(walk(0, 0, &f), 9);
	f = find(0, 0, 24);
	assert_string_equal(f.string[f.s[4]], "tern");
	assert_string_equal(f.string[f.s[8]] + 5, "/2026");
	assert_int_equal(f.s[19], 0x10); /* it is a virtual machine */
	f = find(1, 0, 27);
	assert_string_equal(f.string[f.s[4]], "tern");
	assert_string_equal(f.string[f.s[5]], "tern PC");
	assert_true(f.s[7] == 0 && !f.string[4]); /* no serial number */
	assert_memory_equal(f.s + 8, mixed, 16);
	f = find(3, 0, 22);
	assert_string_equal(f.string[f.s[4]], "tern");
	f = find(32, 0, 11);
	assert_int_equal(f.s[10], 0);

	assert_int_equal(build(1, MIB(256), "ds=nocloud;s=http://10.0.0.1/"), 0);
	assert_int_equal(walk(0, 0, &f), 9);
	f = find(1, 0, 27);
	assert_string_equal(f.string[f.s[7]], "ds=nocloud;s=http://10.0.0.1/");
}

static void test_cpus(void **state unused)
{
	static const unsigned counts[] = { 1, 2, 64, 254, 255, 256, 2048 };
	for (unsigned i = 0; i < ARRAY_SIZE(counts); i++) {
		assert_int_equal(build(counts[i], MIB(256), ""), 0);
		struct found f = find(4, 0, 48);
		assert_true(f.s[5] == 3 && f.s[24] == 0x41 && get_le16(f.s + 26) == 0xffff);
		for (unsigned k = 0; k < 3; k++) {
			assert_int_equal(f.s[35 + k], MIN(counts[i], 255U));
			assert_int_equal(get_le16(f.s + 42 + 2 * k), counts[i]);
		}
		assert_int_equal(get_le16(f.s + 38), counts[i] > 1 ? 0x0c : 0x04);
	}
}

static void sizes(uint64_t mem, uint32_t kib, uint16_t mib, uint32_t mib2)
{
	assert_int_equal(build(4, mem, ""), 0);
	struct found a = find(16, 0, 23), d = find(17, 0, 40), r = find(19, 0, 31);
	assert_int_equal(get_le32(a.s + 7), kib);
	assert_true(get_le64(a.s + 15) == (kib == 0x80000000 ? mem : 0) && get_le16(a.s + 13) == 1);
	assert_true(get_le16(d.s + 4) == get_le16(a.s + 2) && get_le16(r.s + 12) == get_le16(a.s + 2));
	assert_int_equal(get_le16(d.s + 12), mib);
	assert_int_equal(get_le32(d.s + 28), mib2);
	assert_true(get_le32(r.s + 4) == 0 && get_le32(r.s + 8) == MIN(mem, GIB(3)) / 1024 - 1);
}

static void test_memory(void **state unused)
{
	struct found f;
	sizes(MIB(256), 256 << 10, 256, 0);
	walk(19, 1, &f);
	assert_null(f.s); /* all of it below 3 GiB */
	sizes(GIB(32) - MIB(2), (32U << 20) - 2048, 0x7ffe, 0);
	sizes(GIB(32), 32U << 20, 0x7fff, 32768);
	f = find(19, 1, 31);
	assert_true(get_le32(f.s + 4) == 4U << 20 && get_le32(f.s + 8) == (33U << 20) - 1 && !get_le64(f.s + 15));
	sizes(GIB(2048) - MIB(2), 0x80000000 - 2048, 0x7fff, (2U << 20) - 2);
	sizes(GIB(2048), 0x80000000, 0x7fff, 2U << 20);
	sizes(GIB(4095) - MIB(2), 0x80000000, 0x7fff, (4095U << 10) - 2);
	f = find(19, 1, 31); /* it ends 2 MiB below 4 TiB */
	assert_true(get_le32(f.s + 4) == 4U << 20 && get_le32(f.s + 8) == 0xffffffff - 2048);
	sizes(GIB(4095), 0x80000000, 0x7fff, 4095U << 10);
	f = find(19, 1, 31);
	assert_true(get_le32(f.s + 4) == 0xffffffff && get_le32(f.s + 8) == 0xffffffff);
	assert_true(get_le64(f.s + 15) == GIB(4) && get_le64(f.s + 23) == GIB(4096) - 1);
}

/* A serial number may be as long as there is room, and is refused beyond. */
static void test_room(void **state unused)
{
	static char serial[0x10000];
	int err;
	memset(serial, 's', sizeof(serial) - 1);
	assert_int_equal(build(64, GIB(64), serial), -ENOSPC);
	for (size_t n = 0xfff0;; n--) {
		serial[n] = 0;
		if (!(err = build(64, GIB(64), serial)))
			break;
		assert_int_equal(err, -ENOSPC);
	}
	struct found f = find(1, 0, 27);
	assert_string_equal(f.string[f.s[7]], serial);
	assert_true(get_le32(at(0xf000c, 4)) + 32 == 0xe000); /* to the last byte */
}

/* Skipped where there is no dmidecode. */
static void test_dmidecode(void **state unused)
{
	char dump[] = "/tmp/tern-smbios-XXXXXX", cmd[512];
	static const char *const says[] = {
		"SMBIOS 3.0.0 present",  "UUID: 00112233-4455-6677-8899-aabbccddeeff",
		"Product Name: tern PC", "Serial Number: ds=nocloud",
		"Core Count: 64",        "Size: 5 GB",
		"Range Size: 2 GB",      "System is a virtual machine",
	};
	if (system("command -v dmidecode >/dev/null"))
		skip();
	assert_int_equal(build(64, GIB(5), "ds=nocloud"), 0);
	uint8_t image[32];
	uint32_t len = get_le32(at(0xf000c, 4));
	memcpy(image, at(0xf0000, 32), 32); /* in a dump the table is at 32 */
	put_le64(image + 16, 32);
	image[5] = 0;
	image[5] = (uint8_t)-sum8(image, 24);
	int fd = mkstemp(dump);
	assert_true(fd >= 0 && write(fd, image, 32) == 32 && write(fd, at(0xf0020, len), len) == (ssize_t)len);
	close(fd);
	snprintf(cmd, sizeof(cmd), "dmidecode --from-dump %s >%s.out 2>&1", dump, dump);
	int bad = system(cmd);
	snprintf(
		cmd, sizeof(cmd),
		"! grep -Ei 'invalid|bad|wrong|broken|truncated|out of spec|inactive' %s.out || { cat %s.out; false; }",
		dump, dump);
	bad |= system(cmd);
	for (unsigned i = 0; i < ARRAY_SIZE(says); i++) {
		snprintf(cmd, sizeof(cmd), "grep -q '%s' %s.out || { cat %s.out; false; }", says[i], dump, dump);
		if (system(cmd))
			fail_msg("dmidecode does not say %s", says[i]);
	}
	snprintf(cmd, sizeof(cmd), "rm -f %s %s.out", dump, dump);
	assert_int_equal(system(cmd), 0);
	assert_int_equal(bad, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_identity), cmocka_unit_test(test_cpus),      cmocka_unit_test(test_memory),
		cmocka_unit_test(test_room),     cmocka_unit_test(test_dmidecode),
	};
	return cmocka_run_group_tests_name("smbios", tests, setup, teardown);
}

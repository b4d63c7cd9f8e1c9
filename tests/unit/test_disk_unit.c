/* SPDX-License-Identifier: BSD-2-Clause */
/* Disks that are on units: what [disk] says of them, which of it is wrong, and that no message has their secret. */
#include "kernel/host.h"
#include "tests/unit/fake_kernel.h"
#include "vmm/boot_file.h"
#include "vmm/disk.h"
#include "vmm/disk_unit.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

struct host_info host_info = { .name = "a" };

void vm_for_each(void (*fn)(struct vm *vm, void *arg), void *arg) { (void)fn, (void)arg; }

static struct conf conf;
static struct vm_config cfg;
static char wrong[CONF_WRONG_MAX];

#define VM     "[vm demo]\nkernel = k\ndisk = "
#define AT     " at 10.77.2.5 lun 1\n"
#define SECRET "hunter2hunter2"

static bool take(const char *text)
{
	struct conf_reader r = { .c = &conf, .table = &vm_conf_table, .name = "demo" };
	fake_log_clear();
	(void)conf_parse(&conf, text, strlen(text));
	if (vm_config_read(&conf, "demo", "a", 1, &cfg, r.wrong))
		disk_config_read(&r, &cfg);
	memcpy(wrong, r.wrong, sizeof(wrong));
	return !wrong[0];
}

/* ---- where it is ---- */

static void test_parse(void **state unused)
{
	static const struct {
		const char *text, *target, *ip;
		uint16_t port, lun;
	} good[] = {
		{ "iqn.2026-01.net.example:t at 10.77.2.5 lun 1", "iqn.2026-01.net.example:t", "10.77.2.5", 3260, 1 },
		{ "t at 10.77.2.5:3261 lun 0", "t", "10.77.2.5", 3261, 0 },
		{ "t  at   10.77.2.5:65535  lun   16383", "t", "10.77.2.5", 65535, 16383 },
		{ "t at [2001:db8::5] lun 7", "t", "2001:db8::5", 3260, 7 },
		{ "t at [2001:db8::5]:1 lun 255", "t", "2001:db8::5", 1, 255 },
		{ "t at 10.77.2.5 lun 1 ", "t", "10.77.2.5", 3260, 1 }, /* as the file's lines may end */
	};
	for (unsigned i = 0; i < ARRAY_SIZE(good); i++) {
		struct lun_config c = { .digests = ISCSI_DIGEST_NONE };
		if (disk_unit_parse(good[i].text, &c))
			fail_msg("refused: %s", good[i].text);
		assert_string_equal(c.target, good[i].target);
		assert_string_equal(ip_text(c.ip).s, good[i].ip);
		assert_true(c.port == good[i].port && c.lun == good[i].lun);
		assert_int_equal(c.digests, ISCSI_DIGEST_NONE);
	}
}

static void test_parse_bad(void **state unused)
{
	static const char *const bad[] = { "",
					   " ",
					   "t",
					   "t at",
					   "t at 10.77.2.5",
					   "t at 10.77.2.5 lun",
					   "t at 10.77.2.5 lun x",
					   "t at 10.77.2.5 lun -1",
					   "t at 10.77.2.5 lun 16384",
					   "t at 10.77.2.5 lun 99999999999999999999",
					   "t at 10.77.2.5 lun 1 2",
					   "t at 10.77.2.5 LUN 1",
					   "t on 10.77.2.5 lun 1",
					   "t at lun 1",
					   "t at 10.77.2 lun 1",
					   "t at 10.77.2.5: lun 1",
					   "t at 10.77.2.5:0 lun 1",
					   "t at 10.77.2.5:65536 lun 1",
					   "t at 10.77.2.5:x lun 1",
					   "t at 10.77.2.5,1 lun 1",
					   "t at 2001:db8::5 lun 1",
					   "t at [2001:db8::5 lun 1",
					   "t at [2001:db8::5]x lun 1",
					   "t at example.net lun 1",
					   "t at 0.0.0.0 lun 1",
					   "t at 224.0.0.1 lun 1",
					   "t at 255.255.255.255 lun 1",
					   "t at [::] lun 1",
					   "t at [ff02::1] lun 1",
					   "10.77.2.5 lun 1" };
	char text[400];
	for (unsigned i = 0; i < ARRAY_SIZE(bad); i++) {
		struct lun_config c = { .lun = 0 };
		if (disk_unit_parse(bad[i], &c) != -EINVAL)
			fail_msg("taken: %s", bad[i]);
	}
	for (size_t n = ISCSI_NAME_MAX - 1; n <= ISCSI_NAME_MAX; n++) {
		struct lun_config c = { .lun = 0 };
		memset(text, 'a', n);
		strcpy(text + n, " at 10.77.2.5 lun 1");
		assert_int_equal(disk_unit_parse(text, &c), n < ISCSI_NAME_MAX ? 0 : -EINVAL);
	}
}

/* ---- one unit, one disk ---- */

static void test_add(void **state unused)
{
	struct lun_config c = { .target = "added", .port = 3260, .lun = 1 }, d = c, e = c;
	struct why w = { "" };
	d.lun = 2;
	strcpy(e.target, "else");
	assert_null(disk_unit_find("one"));
	assert_int_equal(disk_unit_add("one", &c, &w), 0);
	assert_int_equal(disk_unit_add("one", &c, &w), 0); /* its section is read once more */
	assert_string_equal(w.text, "");
	assert_int_equal(disk_unit_add("two", &c, &w), -EEXIST);
	assert_string_equal(w.text, "disk one is on the same unit");
	c.port = 3261; /* by another of its addresses */
	assert_int_equal(disk_unit_add("two", &c, NULL), -EEXIST);
	assert_null(disk_unit_find("two"));
	assert_int_equal(disk_unit_add("two", &d, &w), 0);
	assert_int_equal(disk_unit_add("three", &e, &w), 0);
	assert_int_equal(disk_unit_find("one")->lun, 1);
	assert_int_equal(disk_unit_find("two")->lun, 2);
	assert_string_equal(disk_unit_find("three")->target, "else");
}

/* ---- tern.conf ---- */

static void test_conf(void **state unused)
{
	assert_true(take(VM "p, q, m\n[disk p]\niscsi = iqn.p at 10.77.2.5:3262 lun 3\nuser = tern\nsecret = " SECRET
			    "\ndigests = header\n[disk q]\niscsi = iqn.q" AT "[disk m]\nmemory = 1M\n"));
	assert_string_equal(conf.problems, "");
	assert_int_equal(cfg.ndisks, 3);
	assert_true(cfg.disk[0].flags == DISK_UNIT && cfg.disk[1].flags == DISK_UNIT && !cfg.disk[2].flags);
	assert_true(!cfg.disk[0].size && !cfg.disk[0].layer && !cfg.disk[0].file[0]);
	const struct lun_config *p = disk_unit_find("p"), *q = disk_unit_find("q");
	assert_string_equal(p->target, "iqn.p");
	assert_string_equal(p->user, "tern");
	assert_string_equal(p->secret, SECRET);
	assert_true(p->port == 3262 && p->lun == 3 && p->digests == ISCSI_DIGEST_HEADER);
	assert_true(!q->user[0] && !q->secret[0] && q->digests == ISCSI_DIGEST_BOTH);
	assert_null(disk_unit_find("m"));
	for (unsigned i = 0; i < conf.n; i++) /* it is nowhere but there */
		assert_null(strstr(conf.e[i].value, "hunter2"));
	assert_true(take(VM "r\n[disk r]\niscsi = iqn.r" AT "digests = none\n"));
	assert_int_equal(disk_unit_find("r")->digests, ISCSI_DIGEST_NONE);
}

/* The secret's shortest, its longest, and one more and one less. */
static void test_secrets(void **state unused)
{
	static const struct {
		unsigned n;
		bool good;
	} c[] = {
		{ 0, false }, { 1, false }, { 11, false }, { 12, true }, { 63, true }, { 64, false }, { 200, false }
	};
	for (unsigned i = 0; i < ARRAY_SIZE(c); i++) {
		char text[500], secret[201] = "";
		memset(secret, 'z', c[i].n);
		snprintf(text, sizeof(text), VM "s%u\n[disk s%u]\niscsi = iqn.s%u" AT "user = u\nsecret = %s\n", i, i,
			 i, secret);
		if (take(text) != c[i].good)
			fail_msg("%u characters", c[i].n);
		assert_null(strstr(conf.problems, "zz"));
		assert_null(strstr(wrong, "zz"));
		assert_false(fake_log_has("zz"));
		if (c[i].good)
			assert_int_equal(strlen(disk_unit_find(cfg.disk[0].name)->secret), c[i].n);
		else
			assert_int_equal(cfg.ndisks, 0);
	}
}

#define WORDS "disk %: iscsi is \"TARGET at ADDRESS[:PORT] lun N\""
#define NOT   "disk %: file, memory, size, layer and readonly are not for a disk with iscsi"

static void test_wrong(void **state unused)
{
	static const struct {
		const char *lines, *says;
	} c[] = {
		{ "iscsi = t at 10.77.2.5\n", WORDS },
		{ "iscsi = t at example.net lun 1\nuser = u\nsecret = " SECRET "\n", WORDS },
		{ "iscsi = t" AT "user = u\n", "disk %: user and secret go together" },
		{ "iscsi = t" AT "secret = " SECRET "\n", "disk %: user and secret go together" },
		{ "memory = 1M\nuser = u\nsecret = " SECRET "\n", "disk %: user and secret are for a disk with iscsi" },
		{ "memory = 1M\nsecret = " SECRET "\n", "disk %: user and secret are for a disk with iscsi" },
		{ "user = u\nsecret = " SECRET "\n", "disk %: user and secret are for a disk with iscsi" },
		{ "iscsi = t" AT "memory = 1M\n", NOT },
		{ "iscsi = t" AT "size = 1G\n", NOT },
		{ "iscsi = t" AT "layer = 1G\n", NOT },
		{ "iscsi = t" AT "file = x\n", NOT },
		{ "iscsi = t" AT "readonly = yes\n", NOT },
		{ "iscsi = t" AT "digests = md5\n", "its disk % is wrong" },
		{ "iscsi = t" AT "Secret = " SECRET "\nuser = u\n", "its disk % is wrong" },
		{ "iscsi = t" AT "password = " SECRET "\n", "its disk % is wrong" },
		{ "iscsi = t" AT "user = u\nsecret = " SECRET "\ncolour = red\n", "its disk % is wrong" },
		{ "", "disk %: it wants either file, memory or iscsi" },
	};
	for (unsigned i = 0; i < ARRAY_SIZE(c); i++) {
		char text[400], says[200] = "";
		snprintf(text, sizeof(text), VM "w\n[disk w]\n%s", c[i].lines);
		const char *at = strchr(c[i].says, '%');
		snprintf(says, sizeof(says), "tern.conf:3: [vm demo] disk = w: %.*sw%s", (int)(at - c[i].says),
			 c[i].says, at + 1);
		assert_false(take(text));
		assert_string_equal(wrong, says);
		assert_non_null(strstr(conf.problems, says));
		assert_null(strstr(conf.problems, "hunter2"));
		assert_false(fake_log_has("hunter2"));
		assert_null(disk_unit_find("w"));
		assert_int_equal(cfg.ndisks, 0);
	}
}

/* Two disks on one unit: the second is told so. */
static void test_same_unit(void **state unused)
{
	assert_false(take(VM "x, y\n[disk x]\niscsi = iqn.x" AT "[disk y]\niscsi = iqn.x" AT));
	assert_string_equal(wrong, "tern.conf:3: [vm demo] disk = x, y: disk y: disk x is on the same unit");
	assert_int_equal(cfg.ndisks, 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_parse),     cmocka_unit_test(test_parse_bad), cmocka_unit_test(test_add),
		cmocka_unit_test(test_conf),      cmocka_unit_test(test_secrets),   cmocka_unit_test(test_wrong),
		cmocka_unit_test(test_same_unit),
	};
	return cmocka_run_group_tests_name("disks on units", tests, NULL, NULL);
}

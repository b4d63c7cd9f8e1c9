/* SPDX-License-Identifier: BSD-2-Clause */
/* tern.conf: what an operator writes, rightly and wrongly, and what he reads about it. */
#include "kernel/conf.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

static struct conf c;

static int parse(const char *text)
{
	/* An exact copy on the heap: ASan sees any read beyond len. */
	size_t len = strlen(text);
	char *copy = malloc(len ? len : 1);
	int err;

	assert_non_null(copy);
	memcpy(copy, text, len);
	memset(&c, 0xa5, sizeof(c));
	err = conf_parse(&c, copy, len);
	free(copy);
	return err;
}

static void assert_problem(const char *text)
{
	if (!strstr(c.problems, text))
		fail_msg("no \"%s\" in:\n%s", text, c.problems);
}

static void assert_value(const char *kind, const char *name, const char *key, const char *want)
{
	const char *v = conf_get(&c, kind, name, key);

	if (!v)
		fail_msg("[%s %s] %s is not there; problems:\n%s", kind, name, key, c.problems);
	else
		assert_string_equal(v, want);
}

static void test_good(void **state)
{
	(void)state;
	assert_int_equal(parse("\xef\xbb\xbf# tern\r\n"
			       "[host]\r\n"
			       "name = a\r\n"
			       "\r\n"
			       "[nic lan]\n"
			       "match=52:54:00:00:00:01\n"
			       "\taddress = 10.77.0.11/24   ; static\n"
			       "[vm demo] ; the one\n"
			       "cmdline = console=ttyS0 root=/dev/ram0#1 x:y;z # a comment ; all of it\n"
			       "initrd =\n"
			       "[disk root]\n"
			       "file = images/root.raw.zst\n"
			       "[ vm  other ]\n"
			       "[vm\tlast]\n"
			       "mem = 1G# no comment"),
			 0);
	assert_value("host", "", "name", "a");
	assert_value("host", NULL, "name", "a");
	assert_value("nic", "lan", "match", "52:54:00:00:00:01");
	assert_value("nic", "lan", "address", "10.77.0.11/24");
	assert_value("vm", "demo", "cmdline", "console=ttyS0 root=/dev/ram0#1 x:y;z");
	assert_value("vm", "demo", "initrd", "");
	assert_value("vm", "last", "mem", "1G# no comment");
	assert_null(conf_get(&c, "vm", "demo", "mem"));
	assert_string_equal(conf_section(&c, "vm", 0), "demo");
	assert_string_equal(conf_section(&c, "vm", 1), "other");
	assert_string_equal(conf_section(&c, "vm", 2), "last");
	assert_null(conf_section(&c, "vm", 3));
	assert_string_equal(conf_section(&c, "host", 0), "");
	assert_value("disk", "root", CONF_FILE, "images/root.raw.zst");
	assert_string_equal(conf_section(&c, "disk", 0), "root");
	assert_null(conf_section(&c, "disk", 1));
	assert_int_equal(conf_line(&c, "vm", "demo", "cmdline"), 9);
	assert_int_equal(conf_line(&c, "vm", "demo", "mem"), 8);
	assert_int_equal(conf_line(&c, "vm", "nobody", "mem"), 0);
}

static void test_empty(void **state)
{
	(void)state;
	assert_int_equal(parse(""), 0);
	assert_int_equal(parse("\n\n# nothing\n;\n   \n"), 0);
	assert_int_equal(c.n, 0);
	assert_null(conf_section(&c, "vm", 0));
}

/* A line the wrong way round may begin with a secret: of what can be no key little is shown. */
static void test_secrets_first(void **state)
{
	(void)state;
	assert_int_equal(parse("0011223344556677889900112233445566778899 = key\n"
			       "[host]\n"
			       "0011223344556677889900112233445566778899 = console_password\n"
			       "my pass!word = console_password\n"),
			 -EINVAL);
	assert_problem("tern.conf:1: '0011' stands before the first section");
	assert_problem("tern.conf:3: '0011' cannot be a key");
	assert_problem("tern.conf:4: 'my p' cannot be a key");
}

static void test_wrong_lines(void **state)
{
	(void)state;
	assert_int_equal(parse("name = early\n"   /* 1 */
			       "[host]\n"         /* 2 */
			       "no equals sign\n" /* 3 */
			       "= value\n"        /* 4 */
			       "two words = 1\n"  /* 5 */
			       "name = a\n"       /* 6 */
			       "name = b\n"       /* 7 */
			       "[host]\n"         /* 8 */
			       "[vm demo\n"       /* 9 */
			       "mem = 1M\n"       /* 10: not [host]'s */
			       "[]\n"             /* 11 */
			       "[vm]\n"           /* 12 */
			       "[host x]\n"       /* 13 */
			       "[floppy d]\n"     /* 14 */
			       "size = 1\n"       /* 15: said once, by the section */
			       "[vm a/b]\n"       /* 16 */
			       "[vm good]\n"      /* 17 */
			       "mem = 64M\n"),
			 -EINVAL);
	assert_problem("tern.conf:1: 'name' stands before the first section");
	assert_problem("tern.conf:3: not understood");
	assert_problem("tern.conf:4: '' cannot be a key");
	assert_problem("tern.conf:5: 'two ' cannot be a key");
	assert_problem("tern.conf:7: name is set already in line 6");
	assert_problem("tern.conf:8: section [host] is there already in line 2");
	assert_problem("tern.conf:9: a section line must read");
	assert_problem("tern.conf:11: a section line must read");
	assert_problem("tern.conf:12: section [vm] needs a name");
	assert_problem("tern.conf:13: section [host x] takes no name");
	assert_problem("tern.conf:14: unknown section [floppy d]");
	assert_problem("tern.conf:16: the name 'a/b'");
	assert_null(strstr(c.problems, "tern.conf:10:"));
	assert_null(strstr(c.problems, "tern.conf:15:"));
	assert_null(conf_get(&c, "host", "", "mem"));
	assert_value("host", "", "name", "a");
	assert_value("vm", "good", "mem", "64M");
}

/* "KEY = vvv..." with n v's, between two good lines. */
static int parse_long(const char *before, size_t n, const char *after)
{
	char *text = malloc(strlen(before) + n + strlen(after) + 64);
	int err;

	assert_non_null(text);
	strcpy(text, before);
	memset(text + strlen(before), 'v', n);
	strcpy(text + strlen(before) + n, after);
	err = parse(text);
	free(text);
	return err;
}

static void test_too_long(void **state)
{
	(void)state;
	assert_int_equal(parse_long("[vm d]\ncmdline = ", 511, "\nmem = 1G\n"), 0);
	assert_int_equal(strlen(conf_get(&c, "vm", "d", "cmdline")), 511);
	assert_int_equal(parse_long("[vm d]\ncmdline = ", 512, "\nmem = 1G\n"), -EINVAL);
	assert_problem("tern.conf:2: cmdline: the value is longer than 511");
	assert_value("vm", "d", "mem", "1G");
	assert_int_equal(parse_long("[vm d]\ncmdline = ", 100000, "\nmem = 1G\n"), -EINVAL);
	assert_problem("tern.conf:2: cmdline: the value is longer");
	assert_value("vm", "d", "mem", "1G");
	assert_int_equal(parse_long("[vm ", 31, "]\nmem = 1G\n"), 0);
	assert_int_equal(parse_long("[vm ", 32, "]\nmem = 1G\n"), -EINVAL);
	assert_problem("tern.conf:1: the name 'vvv");
	assert_null(conf_section(&c, "vm", 0));
	assert_int_equal(parse_long("[host]\n[vm ", 10000, "]\nmem = 1G\n"), -EINVAL);
	assert_null(conf_get(&c, "host", "", "mem")); /* not taken for [host]'s */
	assert_int_equal(parse_long("[host]\n", 23, " = x\n"), 0);
	assert_int_equal(parse_long("[host]\n", 24, " = x\n"), -EINVAL);
}

static void test_too_many(void **state)
{
	char text[8192] = "[host]\n";

	(void)state;
	for (int i = 0; i < 400; i++)
		snprintf(text + strlen(text), 32, "k%d = %d\n", i, i);
	assert_int_equal(parse(text), -EINVAL);
	assert_problem("tern.conf:257: more than 256");
	assert_null(strstr(c.problems, "tern.conf:258"));
	assert_int_equal(c.n, CONF_MAX_ENTRIES);
	assert_value("host", "", "k254", "254");
	assert_null(conf_get(&c, "host", "", "k255"));
}

static void test_garbage(void **state)
{
	char text[4096];
	unsigned seed = 1;

	(void)state;
	for (size_t i = 0; i < sizeof(text); i++)
		text[i] = (char)((seed = seed * 1103515245 + 12345) >> 16);
	memset(&c, 0xa5, sizeof(c));
	assert_int_equal(conf_parse(&c, text, sizeof(text)), -EINVAL);
	assert_problem("is not text");
	assert_true(strlen(c.problems) < sizeof(c.problems));

	assert_int_equal(conf_parse(&c, "[host]\na\0b = 1\nname = x\n", 23), -EINVAL);
	assert_problem("tern.conf:2: byte 0x00 is not text");
	assert_value("host", "", "name", "x");
}

static void test_many_problems(void **state)
{
	(void)state;
	assert_int_equal(parse(""), 0);
	for (int i = 0; i < 1000; i++)
		conf_problem(&c, i, "problem %s", i % 7 ? "short" : "of a rather longer kind than the other ones were");
	assert_problem("tern.conf: problem of a rather"); /* line 0: none */
	assert_problem("tern.conf: there are more problems than fit here\n");
	assert_null(strstr(strstr(c.problems, "there are more") + 5, "tern.conf"));
}

static void test_order(void **state)
{
	(void)state;
	assert_int_equal(parse("[host]\nname\n"), -EINVAL);
	conf_problem(&c, 10, "ten");
	conf_problem(&c, 0, "of the file");
	conf_problem(&c, 3, "three");
	conf_problem(&c, 10, "ten again");
	conf_problem(&c, 1, "one");
	assert_string_equal(c.problems,
			    "tern.conf:1: one\n"
			    "tern.conf:2: not understood; expected 'key = value', a [section] or a # comment\n"
			    "tern.conf:3: three\n"
			    "tern.conf:10: ten\n"
			    "tern.conf:10: ten again\n"
			    "tern.conf: of the file\n");
}

static void test_values(void **state)
{
	static const char *const bad_size[] = {
		"", "M", "12X", "1MB", "-1", " 1", "18446744073709551616", "17179869184G"
	};
	static const char *const bad_mac[] = { "",
					       "52:54:00:00:00",
					       "52:54:00:00:00:0g",
					       "52:54:00:00:00:01:",
					       "00:00:00:00:00:00",
					       "01:00:5e:00:00:01",
					       "52-54-00-00-00-01",
					       "525400000001" };
	uint8_t mac[6], want[6] = { 0x52, 0x54, 0, 0xab, 0xCD, 0xef };
	static const char *const bad_ip[] = {
		"",          "10.77.0",      "10.77.0.256",  "10.77.0.11.", "10.77.0.11 ", "0x0a.77.0.11",
		"10.77..11", "10.77.0.0011", "10.77.0.11/24"
	};
	uint64_t v;
	uint32_t ip;

	(void)state;
	assert_int_equal(conf_parse_size("0", &v), 0);
	assert_int_equal(v, 0);
	assert_int_equal(conf_parse_size("64M", &v), 0);
	assert_int_equal(v, 64 << 20);
	assert_int_equal(conf_parse_size("4k", &v), 0);
	assert_int_equal(v, 4096);
	assert_int_equal(conf_parse_size("24576G", &v), 0);
	assert_true(v == 24576ULL << 30);
	for (size_t i = 0; i < ARRAY_SIZE(bad_size); i++)
		assert_int_equal(conf_parse_size(bad_size[i], &v), -EINVAL);
	assert_int_equal(conf_parse_uint("65535", 65535, &v), 0);
	assert_int_equal(conf_parse_uint("65536", 65535, &v), -EINVAL);
	assert_int_equal(conf_parse_uint("18446744073709551615", UINT64_MAX, &v), 0);
	assert_int_equal(conf_parse_uint("0x10", 65535, &v), -EINVAL);
	static const char *const bad_time[] = { "",    "s",  "-1s", "1.5s", "300", "60001ms",
						"61s", "2m", "1h",  "1 s",  "1s ", "18446744073709551616" };
	static const struct {
		const char *s;
		uint64_t ms;
	} good_time[] = { { "0s", 0 }, { "300ms", 300 }, { "60s", 60000 }, { "1m", 60000 } };
	for (size_t i = 0; i < ARRAY_SIZE(bad_time); i++)
		assert_int_equal(conf_parse_ms(bad_time[i], 60000, &v), -EINVAL);
	for (size_t i = 0; i < ARRAY_SIZE(good_time); i++) {
		assert_int_equal(conf_parse_ms(good_time[i].s, 60000, &v), 0);
		assert_int_equal(v, good_time[i].ms);
	}
	assert_int_equal(conf_parse_mac("52:54:00:ab:CD:ef", mac), 0);
	assert_memory_equal(mac, want, 6);
	for (size_t i = 0; i < ARRAY_SIZE(bad_mac); i++)
		assert_int_equal(conf_parse_mac(bad_mac[i], mac), -EINVAL);
	assert_int_equal(conf_parse_ip4("10.77.0.11", &ip), 0);
	assert_memory_equal(&ip, "\x0a\x4d\x00\x0b", 4);
	for (size_t i = 0; i < ARRAY_SIZE(bad_ip); i++)
		assert_int_equal(conf_parse_ip4(bad_ip[i], &ip), -EINVAL);
}

int main(void)
{
	/* clang-format off */
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_good),          cmocka_unit_test(test_empty),
		cmocka_unit_test(test_wrong_lines), cmocka_unit_test(test_secrets_first),
		cmocka_unit_test(test_too_long),
		cmocka_unit_test(test_too_many),      cmocka_unit_test(test_garbage),
		cmocka_unit_test(test_many_problems), cmocka_unit_test(test_order),
		cmocka_unit_test(test_values),
	};
	/* clang-format on */

	return cmocka_run_group_tests(tests, NULL, NULL);
}

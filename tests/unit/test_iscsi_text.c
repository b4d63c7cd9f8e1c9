/* SPDX-License-Identifier: BSD-2-Clause */
/* What logins are made of: key=value text into and out of buffers of any size, addresses, and CHAP's digest. */
#include "net/iscsi/chap.h"
#include "net/iscsi/login.h"
#include "net/iscsi/text.h"
#include "kernel/base/err.h"
#include <stdlib.h>
#include <string.h>

/* ---- building ---- */

static void build(void **state)
{
	(void)state;
	static const char want[] = "A=1\0Key=no 7\0B=0x00ff10\0C=";
	for (size_t max = 0; max <= sizeof(want) + 3; max++) {
		struct iscsi_text t = { .at = malloc(max + !max), .max = max };
		iscsi_text_add(&t, "A", "1");
		iscsi_text_add(&t, "Key", "no %d", 7);
		iscsi_text_add_bytes(&t, "B", (const uint8_t *)"\x00\xff\x10", 3);
		iscsi_text_add(&t, "C", "%s", "");
		assert_true(t.len <= max && iscsi_text_is_sane(&t));
		assert_int_equal(t.full, max < sizeof(want));
		if (!t.full) {
			assert_int_equal(t.len, sizeof(want));
			assert_memory_equal(t.at, want, sizeof(want));
		}
		/* What had no room is not there at all, and what fits behind it is. */
		const char *b = iscsi_text_get(&t, "B"), *k = iscsi_text_get(&t, "Key");
		assert_true(!b || !strcmp(b, "0x00ff10"));
		assert_true(!k || !strcmp(k, "no 7"));
		free(t.at);
	}
}

/* ---- reading ---- */

static struct iscsi_text copy_of(const char *p, size_t n)
{
	struct iscsi_text t = { .at = malloc(n + !n), .len = n, .max = n };
	memcpy(t.at, p, n);
	return t;
}
#define SANE(literal) sane("" literal, sizeof(literal) - 1)
static bool sane(const char *p, size_t n)
{
	struct iscsi_text t = copy_of(p, n);
	bool is = iscsi_text_is_sane(&t);
	free(t.at);
	return is;
}

static void what_is_sane(void **state)
{
	(void)state;
	assert_true(SANE(""));
	assert_true(SANE("a=\0"));
	assert_true(SANE("a=b\0c=d=e\0"));
	assert_true(SANE("a=\xc3\xa9\0"));
	assert_false(SANE("a=b")); /* no end */
	assert_false(SANE("a=b\0c"));
	assert_false(SANE("\0"));
	assert_false(SANE("a=b\0\0"));   /* an empty pair */
	assert_false(SANE("ab\0"));      /* no "=" ... */
	assert_false(SANE("ab\0c=d\0")); /* ... of its own */
	assert_false(SANE("=b\0"));
	assert_false(SANE("a=\x1b[2J\0"));
	assert_false(SANE("a=\n\0"));
	assert_false(SANE("a\x7f=b\0"));
}

static void get(void **state)
{
	(void)state;
	static const char p[] = "Key=1\0KeyLonger=2\0Key=3\0Empty=";
	struct iscsi_text t = copy_of(p, sizeof(p)), none = { .at = t.at };
	assert_string_equal(iscsi_text_get(&t, "Key"), "1");
	assert_string_equal(iscsi_text_get(&t, "KeyLonger"), "2");
	assert_string_equal(iscsi_text_get(&t, "Empty"), "");
	assert_null(iscsi_text_get(&t, "Ke"));
	assert_null(iscsi_text_get(&t, "KeyLong"));
	assert_null(iscsi_text_get(&t, "key"));
	assert_null(iscsi_text_get(&none, "Key"));
	free(t.at);
}

static void numbers(void **state)
{
	(void)state;
	static const struct {
		const char *text;
		uint32_t max;
		int err;
		uint32_t n;
	} rows[] = {
		{ "0", 0, 0, 0 },
		{ "262144", 0xffffff, 0, 262144 },
		{ "0x40000", 0xffffff, 0, 262144 },
		{ "0XfF", 255, 0, 255 },
		{ "00017", 17, 0, 17 },
		{ "4294967295", UINT32_MAX, 0, UINT32_MAX },
		{ "4294967296", UINT32_MAX, -EINVAL, 0 },
		{ "256", 255, -EINVAL, 0 },
		{ "0x100", 255, -EINVAL, 0 },
		{ "99999999999999999999999999999999", UINT32_MAX, -EINVAL, 0 },
		{ "18446744073709551617", UINT32_MAX, -EINVAL, 0 }, /* 2^64 + 1 */
		{ "", 9, -EINVAL, 0 },
		{ "0x", 9, -EINVAL, 0 },
		{ "-1", UINT32_MAX, -EINVAL, 0 },
		{ "+1", 9, -EINVAL, 0 },
		{ " 1", 9, -EINVAL, 0 },
		{ "1 ", 9, -EINVAL, 0 },
		{ "a", 99, -EINVAL, 0 },
		{ "0xg", 99, -EINVAL, 0 },
		{ "1~9", 999, -EINVAL, 0 },
	};
	for (unsigned i = 0; i < ARRAY_SIZE(rows); i++) {
		uint32_t n = 0;
		if (iscsi_text_number(rows[i].text, rows[i].max, &n) != rows[i].err || n != rows[i].n)
			fail_msg("\"%s\" of %u: %u", rows[i].text, rows[i].max, n);
	}
}

static void bytes(void **state)
{
	(void)state;
	static const struct {
		const char *text;
		int n;
		const char *bytes;
	} rows[] = {
		{ "0x00fF1a", 3, "\x00\xff\x1a" },
		{ "0XABC", 2, "\x0a\xbc" }, /* an odd digit is the first byte */
		{ "0x7", 1, "\x07" },
		{ "0bTWFu", 3, "Man" }, /* RFC 4648 10 and their like */
		{ "0BZm9vYg==", 4, "foob" },
		{ "0bZm9vYmE=", 5, "fooba" },
		{ "0b+/+/", 3, "\xfb\xff\xbf" },
		{ "0x", -EINVAL, "" },
		{ "0b", -EINVAL, "" },
		{ "0x0g", -EINVAL, "" },
		{ "0x 1", -EINVAL, "" },
		{ "", -EINVAL, "" },
		{ "0", -EINVAL, "" },
		{ "1234", -EINVAL, "" },
		{ "x00", -EINVAL, "" },
		{ "0bTWF", -EINVAL, "" },
		{ "0bTW-u", -EINVAL, "" },
		{ "0bA===", -EINVAL, "" },
		{ "0b====", -EINVAL, "" },
		{ "0bTW=u", -EINVAL, "" },
		{ "0bTWFu=", -EINVAL, "" },
		{ "0bTQ==TWFu", -EINVAL, "" },
	};
	for (unsigned i = 0; i < ARRAY_SIZE(rows); i++) {
		size_t n = strlen(rows[i].text) + 1;
		char *text = malloc(n);
		memcpy(text, rows[i].text, n);
		for (int max = 0; max < 8; max++) { /* exactly as much room as is said */
			uint8_t *p = malloc((size_t)max + !max);
			int want = rows[i].n > max ? -EINVAL : rows[i].n;
			if (iscsi_text_bytes(text, p, (size_t)max) != want ||
			    (want > 0 && memcmp(p, rows[i].bytes, (size_t)want)))
				fail_msg("\"%s\" into %d", text, max);
			free(p);
		}
		free(text);
	}
}

/* ---- addresses ---- */

static void addresses(void **state)
{
	(void)state;
	static const struct {
		const char *text, *ip; /* NULL: it is none */
		uint16_t port;
	} rows[] = {
		{ "10.77.2.5", "10.77.2.5", 3260 },
		{ "10.77.2.5:3261", "10.77.2.5", 3261 },
		{ "10.77.2.5:65535,1", "10.77.2.5", 65535 },
		{ "10.77.2.5,1", "10.77.2.5", 3260 },
		{ "[2001:db8::1]", "2001:db8::1", 3260 },
		{ "[2001:db8::1]:860,12", "2001:db8::1", 860 },
		{ "[2001:db8::1],1", "2001:db8::1", 3260 },
		{ "10.77.2.5:0", NULL, 0 },
		{ "10.77.2.5:65536", NULL, 0 },
		{ "10.77.2.5:100000", NULL, 0 },
		{ "10.77.2.5:", NULL, 0 },
		{ "10.77.2.5:,1", NULL, 0 },
		{ "10.77.2.5:0x10", NULL, 0 },
		{ "10.77.2.5:12a", NULL, 0 },
		{ "10.77.2.5 ", NULL, 0 },
		{ "10.77.2", NULL, 0 },
		{ "[2001:db8::1", NULL, 0 },
		{ "[2001:db8::1]x", NULL, 0 },
		{ "[", NULL, 0 },
		{ "[]", NULL, 0 },
		{ "", NULL, 0 },
		{ ":3260", NULL, 0 },
		{ ",", NULL, 0 },
		{ "storage.example:3260", NULL, 0 }, /* names are not resolved */
		{ "1111111111111111111111111111111111111111111111111111111111111111", NULL, 0 },
		{ "[1111111111111111111111111111111111111111111111111111111111111111]", NULL, 0 },
	};
	for (unsigned i = 0; i < ARRAY_SIZE(rows); i++) {
		struct ip ip, want = { { 0 } };
		uint16_t port = 0;
		size_t n = strlen(rows[i].text) + 1;
		char *text = malloc(n);
		memcpy(text, rows[i].text, n);
		bool is = iscsi_address_parse(text, &ip, &port);
		if (rows[i].ip)
			assert_int_equal(ip_parse(rows[i].ip, &want), 0);
		if (is != !!rows[i].ip || (is && (!ip_same(ip, want) || port != rows[i].port)))
			fail_msg("\"%s\"", text);
		free(text);
	}
}

/* ---- CHAP ---- */

/* MD5 of id, secret and challenge: "abc" and "message digest" of RFC 1321 A.5, cut at other places. */
static void chap(void **state)
{
	(void)state;
	static const struct {
		uint8_t id;
		const char *secret, *challenge;
		uint8_t want[CHAP_RESPONSE];
	} rows[] = {
		{ 'a',
		  "b",
		  "c",
		  { 0x90, 0x01, 0x50, 0x98, 0x3c, 0xd2, 0x4f, 0xb0, 0xd6, 0x96, 0x3f, 0x7d, 0x28, 0xe1, 0x7f, 0x72 } },
		{ 'm',
		  "essage ",
		  "digest",
		  { 0xf9, 0x6b, 0x69, 0x7d, 0x7c, 0xb7, 0x93, 0x8d, 0x52, 0x5a, 0x2f, 0x31, 0xaa, 0xf1, 0x61, 0xd0 } },
	};
	for (unsigned i = 0; i < ARRAY_SIZE(rows); i++) {
		uint8_t got[CHAP_RESPONSE];
		const char *c = rows[i].challenge;
		assert_int_equal(chap_respond(rows[i].id, rows[i].secret, (const uint8_t *)c, strlen(c), got), 0);
		assert_memory_equal(got, rows[i].want, sizeof(got));
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(build),   cmocka_unit_test(what_is_sane), cmocka_unit_test(get),
		cmocka_unit_test(numbers), cmocka_unit_test(bytes),        cmocka_unit_test(addresses),
		cmocka_unit_test(chap),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}

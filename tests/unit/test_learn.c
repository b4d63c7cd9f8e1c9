/* SPDX-License-Identifier: BSD-2-Clause */
/* What is learned from each kind of frame, and what from none; tables that are full; the state, and its ages. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

#include "net/announce_frames.h"
#include "net/learn.h"
#include <arpa/inet.h>
#include <string.h>

static const uint8_t mac[6] = { 0x52, 0x54, 0x00, 0x12, 0x34, 0x56 };
static const uint8_t other[6] = { 0x52, 0x54, 0x00, 0x12, 0x34, 0x57 };
static struct learn l;
static uint64_t now;

static int begin(void **state unused)
{
	now = 1000 * NS_PER_SEC;
	learn_init(&l);
	return 0;
}

/* ---- frames: made here, in pieces of one byte, in memory that ends where they end ---- */

static void sent(const uint8_t *bytes, size_t len)
{
	uint8_t *copy = malloc(len);
	memcpy(copy, bytes, len);
	struct frame f = { .len = (uint32_t)len, .niov = 3 };
	f.iov[0] = (struct iov){ copy, 1 };
	f.iov[1] = (struct iov){ copy + 1, len / 2 };
	f.iov[2] = (struct iov){ copy + 1 + len / 2, len - 1 - len / 2 };
	learn_sent(&l, mac, &f, now);
	free(copy);
}

static uint8_t buf[1600];
static size_t len;

static void ether(unsigned type)
{
	memset(buf, 0, sizeof(buf));
	memcpy(buf + 6, mac, 6);
	buf[12] = (uint8_t)(type >> 8), buf[13] = (uint8_t)type;
	len = 14;
}

static void arp(unsigned op, const uint8_t *sender, const char *ip)
{
	static const uint8_t head[] = { 0, 1, 8, 0, 6, 4, 0 };
	ether(0x0806);
	memcpy(buf + 14, head, sizeof(head));
	buf[21] = (uint8_t)op;
	memcpy(buf + 22, sender, 6);
	inet_pton(AF_INET, ip, buf + 28);
	len = 42;
}

static void ip4(const char *src, unsigned proto, const uint8_t *p, size_t n)
{
	ether(0x0800);
	buf[14] = 0x46; /* with a router alert, as IGMP */
	buf[17] = (uint8_t)(24 + n), buf[16] = (uint8_t)((24 + n) >> 8);
	buf[23] = (uint8_t)proto;
	inet_pton(AF_INET, src, buf + 26);
	memcpy(buf + 38, p, n);
	len = 38 + n;
}

static void ip6(const char *src, unsigned hops, bool options, unsigned proto, const uint8_t *p, size_t n)
{
	size_t extra = options ? 8 : 0;
	ether(0x86dd);
	buf[14] = 0x60;
	buf[19] = (uint8_t)(n + extra), buf[18] = (uint8_t)((n + extra) >> 8);
	buf[20] = options ? 0 : (uint8_t)proto;
	buf[21] = (uint8_t)hops;
	inet_pton(AF_INET6, src, buf + 22);
	if (options)
		buf[54] = (uint8_t)proto;
	memcpy(buf + 54 + extra, p, n);
	len = 54 + extra + n;
}

static uint8_t body[1500];
/* ICMPv6 of a type with flags and one address */
static size_t icmp6(unsigned type, unsigned flags, const char *ip)
{
	memset(body, 0, sizeof(body));
	body[0] = (uint8_t)type;
	body[4] = (uint8_t)flags;
	inet_pton(AF_INET6, ip, body + 8);
	return 24;
}

static size_t igmp(unsigned type, const char *ip)
{
	memset(body, 0, sizeof(body));
	body[0] = (uint8_t)type;
	inet_pton(AF_INET, ip, body + 4);
	return 8;
}

/* A report of records: type, group, sources each, with one word of auxiliary data; ends with type 0. */
struct record {
	unsigned type;
	const char *group;
	unsigned sources;
};
static size_t report(bool v6, const struct record *r)
{
	size_t at = 8, width = v6 ? 16 : 4;
	memset(body, 0, sizeof(body));
	body[0] = v6 ? 143 : 0x22;
	for (; r->type; r++, body[7]++) {
		body[at] = (uint8_t)r->type;
		body[at + 1] = 1;
		body[at + 3] = (uint8_t)r->sources;
		inet_pton(v6 ? AF_INET6 : AF_INET, r->group, body + at + 4);
		at += 4 + width * (1 + r->sources) + 4;
	}
	return at;
}

/* ---- what is known, as text ---- */

static char text[2048];
static void list(const uint8_t *at, unsigned n, unsigned width)
{
	for (unsigned i = 0; i < n && !learn_is_free(at + i * width, width); i++) {
		char ip[64];
		inet_ntop(width == 4 ? AF_INET : AF_INET6, at + i * width, ip, sizeof(ip));
		strcat(text, " ");
		strcat(text, ip);
	}
}

static const char *known(void)
{
	struct learn_state s;
	learn_get(&l, &s, now);
	assert_true(learn_is_sane(&s));
	text[0] = '\0';
	list(s.ip4, LEARN_IP4, 4);
	list(s.ip6, LEARN_IP6, 16);
	strcat(text, " |");
	list(s.group4, LEARN_GROUPS, 4);
	list(s.group6, LEARN_GROUPS, 16);
	strcat(text, s.router ? " R" : "");
	return text;
}

/* The frame in buf says what `after` has; no part of it, and no byte less, says anything or is read beyond its end. */
static void says(const char *after)
{
	for (size_t n = 14; n < len; n++) {
		struct learn before = l;
		char was[sizeof(text)];
		strcpy(was, known());
		sent(buf, n);
		assert_string_equal(known(), was);
		l = before;
	}
	sent(buf, len);
	assert_string_equal(known(), after);
}

static void from_arp(void **state unused)
{
	arp(1, mac, "10.77.0.50");
	says(" 10.77.0.50 |");
	arp(2, mac, "10.77.0.51");
	says(" 10.77.0.51 10.77.0.50 |");
	arp(1, mac, "10.77.0.50"); /* the latest first */
	says(" 10.77.0.50 10.77.0.51 |");
	static const char *const no[] = { "0.0.0.0", "127.0.0.1", "224.0.0.5", "255.255.255.255" }; /* a probe, ... */
	for (unsigned i = 0; i < ARRAY_SIZE(no); i++) {
		arp(1, mac, no[i]);
		says(" 10.77.0.50 10.77.0.51 |");
	}
	arp(1, other, "10.77.0.9"); /* about somebody else */
	says(" 10.77.0.50 10.77.0.51 |");
	arp(3, mac, "10.77.0.9");
	says(" 10.77.0.50 10.77.0.51 |");
	for (unsigned i = 14; i < 20; i++) { /* not of Ethernet and IPv4 */
		arp(1, mac, "10.77.0.9");
		buf[i] ^= 0x10;
		says(" 10.77.0.50 10.77.0.51 |");
	}
}

static void from_nd(void **state unused)
{
	ip6("fe80::1", 255, false, 58, body, icmp6(135, 0, "fe80::99")); /* it looks for another */
	sent(buf, len);
	assert_string_equal(known(), " fe80::1 |");
	ip6("2001:db8::7", 255, false, 58, body, icmp6(133, 0, "::")); /* or for a router */
	sent(buf, len);
	assert_string_equal(known(), " 2001:db8::7 fe80::1 |");
	ip6("fe80::1", 255, false, 58, body, icmp6(136, 0x60, "2001:db8::8"));
	says(" 2001:db8::8 2001:db8::7 fe80::1 |");
	/* Not its own for certain: a probe, a proxy's, one that a router passed on, addresses that are none. */
	ip6("::", 255, false, 58, body, icmp6(135, 0, "2001:db8::9"));
	says(" 2001:db8::8 2001:db8::7 fe80::1 |");
	ip6("fe80::1", 255, false, 58, body, icmp6(136, 0x40, "2001:db8::9"));
	says(" 2001:db8::8 2001:db8::7 fe80::1 |");
	ip6("2001:db8::a", 254, false, 58, body, icmp6(135, 0, "2001:db8::9"));
	says(" 2001:db8::8 2001:db8::7 fe80::1 |");
	ip6("fe80::1", 255, false, 58, body, icmp6(136, 0x20, "ff02::1"));
	says(" 2001:db8::8 2001:db8::7 fe80::1 |");
	ip6("fe80::1", 255, false, 58, body, icmp6(136, 0x20, "::1"));
	says(" 2001:db8::8 2001:db8::7 fe80::1 |");
	/* A router, and one no longer. */
	ip6("fe80::1", 255, false, 58, body, icmp6(136, 0xa0, "2001:db8::8"));
	says(" 2001:db8::8 2001:db8::7 fe80::1 | R");
	ip6("fe80::1", 255, false, 58, body, icmp6(136, 0x20, "2001:db8::8"));
	says(" 2001:db8::8 2001:db8::7 fe80::1 |");
	ip6("fe80::1", 255, false, 58, body, icmp6(134, 0, "::"));
	sent(buf, len);
	assert_string_equal(known(), " fe80::1 2001:db8::8 2001:db8::7 | R");
}

static void from_igmp(void **state unused)
{
	ip4("10.0.0.1", 2, body, igmp(0x16, "239.1.1.1"));
	says(" | 239.1.1.1");
	ip4("10.0.0.1", 2, body, igmp(0x12, "239.1.1.2"));
	says(" | 239.1.1.2 239.1.1.1");
	ip4("10.0.0.1", 2, body, igmp(0x17, "239.1.1.1"));
	says(" | 239.1.1.2");
	ip4("10.0.0.1", 2, body, igmp(0x17, "239.9.9.9"));
	says(" | 239.1.1.2");
	static const char *const no[] = { "224.0.0.1", "10.1.1.1", "240.0.0.1", "0.0.0.0" };
	for (unsigned i = 0; i < ARRAY_SIZE(no); i++) {
		ip4("10.0.0.1", 2, body, igmp(0x16, no[i]));
		says(" | 239.1.1.2");
	}
	ip4("10.0.0.1", 2, body, igmp(0x11, "239.1.1.3")); /* a query */
	says(" | 239.1.1.2");
	ip4("10.0.0.1", 2, body, igmp(0x16, "239.1.1.3"));
	buf[20] = 0x20; /* a fragment */
	says(" | 239.1.1.2");
	buf[20] = 0, buf[14] = 0x4f; /* a header longer than the packet, and one that is too short */
	says(" | 239.1.1.2");
	buf[14] = 0x44;
	says(" | 239.1.1.2");
	buf[14] = 0x66;
	says(" | 239.1.1.2");
}

static void from_igmp3(void **state unused)
{
	static const struct record join[] = {
		{ 4, "239.1.1.1", 0 }, { 2, "239.1.1.2", 2 },   { 1, "239.1.1.3", 1 },
		{ 5, "239.1.1.4", 1 }, { 4, "224.0.0.251", 0 }, { 0, NULL, 0 },
	};
	static const struct record leave[] = { { 3, "239.1.1.1", 0 }, { 6, "239.1.1.2", 1 }, { 0, NULL, 0 } };
	ip4("0.0.0.0", 2, body, report(false, join));
	sent(buf, len);
	assert_string_equal(known(), " | 224.0.0.251 239.1.1.2 239.1.1.1");
	ip4("0.0.0.0", 2, body, report(false, leave));
	sent(buf, len);
	assert_string_equal(known(), " | 224.0.0.251 239.1.1.2");
	/* More records, sources or auxiliary data than there are bytes: what is whole counts. */
	for (unsigned i = 0; i < 3; i++) {
		static const struct record one[] = { { 4, "239.1.1.9", 0 }, { 0, NULL, 0 } };
		begin(NULL);
		ip4("0.0.0.0", 2, body, report(false, one));
		buf[i == 0 ? 44 : i == 1 ? 48 : 47] = 0xff;
		sent(buf, len);
		assert_string_equal(known(), i == 0 ? " | 239.1.1.9" : " |");
	}
}

static void from_mld(void **state unused)
{
	static const struct record join[] = {
		{ 4, "ff05::1:3", 0 }, { 2, "ff02::1:ff00:1", 1 }, { 4, "ff02::1", 0 }, { 4, "ff01::5", 0 },
		{ 0, NULL, 0 },
	};
	static const struct record leave[] = { { 3, "ff05::1:3", 0 }, { 0, NULL, 0 } };
	ip6("fe80::1", 1, true, 58, body, report(true, join));
	sent(buf, len);
	assert_string_equal(known(), " fe80::1 | ff02::1:ff00:1 ff05::1:3");
	ip6("::", 1, true, 58, body, report(true, leave));
	sent(buf, len);
	assert_string_equal(known(), " fe80::1 | ff02::1:ff00:1");
	ip6("::", 1, true, 58, body, icmp6(131, 0, "ff02::fb"));
	says(" fe80::1 | ff02::fb ff02::1:ff00:1");
	ip6("::", 1, true, 58, body, icmp6(132, 0, "ff02::1:ff00:1"));
	says(" fe80::1 | ff02::fb");
	ip6("::", 64, true, 58, body, icmp6(131, 0, "ff0e::1")); /* from beyond a router */
	says(" fe80::1 | ff02::fb");
	ip6("::", 1, true, 17, body, icmp6(131, 0, "ff0e::1"));
	says(" fe80::1 | ff02::fb");
	ip6("::", 1, true, 58, body, icmp6(131, 0, "ff0e::1"));
	buf[55] = 200; /* options that do not end */
	says(" fe80::1 | ff02::fb");
	ip6("::", 1, true, 58, body, icmp6(131, 0, "ff0e::1"));
	buf[14] = 0x40;
	says(" fe80::1 | ff02::fb");
}

/* Our own reports say what they were made of. */
static void from_reports(void **state unused)
{
	struct learn_state s = { .group4 = { 239, 0, 0, 1, 239, 0, 0, 2 }, .group6 = { 0xff, 0x0e, [15] = 1 } };
	size_t n = announce_igmp_report(buf, mac, &s);
	sent(buf, n);
	n = announce_mld_report(buf, mac, &s);
	sent(buf, n);
	assert_string_equal(known(), " | 239.0.0.2 239.0.0.1 ff0e::1");
}

/* A router sends from other people's addresses: an ordinary packet shows only that a known one is in use. */
static void in_use(void **state unused)
{
	struct learn_state s;
	arp(1, mac, "10.0.0.1");
	sent(buf, len);
	arp(1, mac, "10.0.0.2");
	sent(buf, len);
	ip6("fe80::1", 255, false, 58, body, icmp6(133, 0, "::"));
	sent(buf, len);
	now += 100 * NS_PER_SEC;
	ip4("192.168.1.1", 6, body, 40);
	sent(buf, len);
	ip6("2001:db8::1", 64, false, 6, body, 40);
	sent(buf, len);
	assert_string_equal(known(), " 10.0.0.2 10.0.0.1 fe80::1 |");
	learn_get(&l, &s, now);
	assert_true(s.ip4_age[0] == 100 && s.ip4_age[1] == 100 && s.ip6_age[0] == 100);
	for (unsigned i = 0; i < 2; i++) { /* the second comes too soon to be noted */
		ip4("10.0.0.1", 6, body, 40);
		sent(buf, len);
		ip6("fe80::1", 64, false, 17, body, 40);
		sent(buf, len);
		now += 5 * NS_PER_SEC;
	}
	assert_string_equal(known(), " 10.0.0.1 10.0.0.2 fe80::1 |");
	learn_get(&l, &s, now);
	assert_true(s.ip4_age[0] == 10 && s.ip4_age[1] == 110 && s.ip6_age[0] == 10);
}

static void full_tables(void **state unused)
{
	char ip[32];
	for (unsigned i = 1; i <= 10; i++) {
		snprintf(ip, sizeof(ip), "10.0.0.%u", i);
		arp(1, mac, ip);
		sent(buf, len);
		snprintf(ip, sizeof(ip), "fe80::%u", i);
		ip6(ip, 255, false, 58, body, icmp6(133, 0, "::"));
		sent(buf, len);
	}
	assert_string_equal(known(), " 10.0.0.10 10.0.0.9 10.0.0.8 10.0.0.7 10.0.0.6 10.0.0.5 10.0.0.4 10.0.0.3"
				     " fe80::10 fe80::9 fe80::8 fe80::7 fe80::6 fe80::5 fe80::4 fe80::3 |");
	for (unsigned i = 1; i <= 40; i++) {
		snprintf(ip, sizeof(ip), "239.0.0.%u", i);
		ip4("0.0.0.0", 2, body, igmp(0x16, ip));
		sent(buf, len);
	}
	known();
	assert_non_null(strstr(text, "| 239.0.0.40 239.0.0.39 "));
	assert_non_null(strstr(text, " 239.0.0.9"));
	assert_null(strstr(text, "239.0.0.8"));
	ip4("0.0.0.0", 2, body, igmp(0x17, "239.0.0.40")); /* the first, and the last */
	sent(buf, len);
	ip4("0.0.0.0", 2, body, igmp(0x17, "239.0.0.9"));
	sent(buf, len);
	known();
	assert_true(strstr(text, "| 239.0.0.39 ") && strstr(text, " 239.0.0.10") == text + strlen(text) - 11);
	learn_reset(&l);
	assert_string_equal(known(), " |");
}

/* Ages go on at the next host, even at one that has booted just now. */
static void ages_move(void **state unused)
{
	struct learn_state s;
	arp(1, mac, "10.0.0.1");
	sent(buf, len);
	now += 500 * NS_PER_SEC;
	ip6("fe80::1", 255, false, 58, body, icmp6(133, 0, "::"));
	sent(buf, len);
	learn_save(&l, now);
	s = l.s;
	learn_init(&l);
	l.s = s;
	now = 3 * NS_PER_SEC;
	learn_loaded(&l, now);
	now += 2 * NS_PER_SEC;
	learn_get(&l, &s, now);
	assert_true(s.ip4_age[0] == 502 && s.ip6_age[0] == 2 && s.ip4_age[1] == 0);
	assert_string_equal(known(), " 10.0.0.1 fe80::1 |");
}

static void sane(void **state unused)
{
	struct learn_state good = { .ip4 = { 10, 0, 0, 1 }, .ip4_age = { 7 }, .router = 1 }, s;
	assert_true(learn_is_sane(&good));
#define REFUSED(change) \
	s = good;       \
	change;         \
	assert_false(learn_is_sane(&s))
	REFUSED(s.ip4[0] = 224);
	REFUSED(s.ip4[8] = 10);    /* behind a free place */
	REFUSED(s.ip4_age[1] = 1); /* of a free place */
	REFUSED(s.ip6_age[7] = 1);
	REFUSED(s.ip6[0] = 0xff);
	REFUSED(s.group4[0] = 10);
	REFUSED(s.group6[0] = 0xfe);
	REFUSED(s.router = 2);
	REFUSED(s.reserved[2] = 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(from_arp, begin),  cmocka_unit_test_setup(from_nd, begin),
		cmocka_unit_test_setup(from_igmp, begin), cmocka_unit_test_setup(from_igmp3, begin),
		cmocka_unit_test_setup(from_mld, begin),  cmocka_unit_test_setup(from_reports, begin),
		cmocka_unit_test_setup(in_use, begin),    cmocka_unit_test_setup(full_tables, begin),
		cmocka_unit_test_setup(ages_move, begin), cmocka_unit_test(sane),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}

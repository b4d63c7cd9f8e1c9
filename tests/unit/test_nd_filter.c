/* SPDX-License-Identifier: BSD-2-Clause */
/* Which IPv6 frames the host's own stack gets to see (net/nd_filter.h), as a table. */
#include "net/nd_filter.h"
#include "tests/unit/frame_text.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#define OWN  "fd000077000000000000000000000001 " /* this host's */
#define KEPT "fd000077000000000000000000000002 " /* a peer's that has proved its key, and its MAC */
#define MAC  "020000000002 "
#define ELSE "fd000077000000000000000000000003 " /* a stranger's */
#define AWAY "fd000088000000000000000000000003 " /* at home on another network */
#define SELF "02000000000b "
#define NO6  "z16 "

#define ETH                "ffffffffffff " SELF "86dd 60000000 "
#define V6(next, len, src) ETH "00" len next "ff" src OWN
#define ND(type)           type "00 0000 00000000 "
#define OPT1(mac)          "0101 " mac
#define OPT2(mac)          "0201 " mac

static bool kept(struct ip ip, uint8_t mac[ETH_ALEN])
{
	struct ip peer;
	frame_text(KEPT, peer.b);
	frame_text(MAC, mac);
	return ip_same(ip, peer);
}

static bool elsewhere(const void *arg, struct ip ip)
{
	struct ip away;
	frame_text(arg, away.b);
	return ip_same(ip, away);
}

static const struct nd_case {
	const char *what;
	bool passes;
	const char *frame;
} cases[] = {
	{ "TCP", true, V6("06", "14", ELSE) "z20" },
	{ "UDP", false, V6("11", "14", ELSE) "z20" },
	{ "a fragment", false, V6("2c", "14", ELSE) "z20" },
	{ "a routing header", false, V6("2b", "14", ELSE) "z20" },
	{ "echo", true, V6("3a", "08", ELSE) ND("80") },
	{ "its answer", true, V6("3a", "08", ELSE) ND("81") },
	{ "unreachable", false, V6("3a", "08", ELSE) ND("01") "z48" },
	{ "too big for a way of 8 bytes", false, V6("3a", "38", ELSE) "02000000 00000008 z48" },
	{ "TCP from another network", false, V6("06", "14", AWAY) "z20" },
	{ "echo from another network", false, V6("3a", "08", AWAY) ND("80") },
	{ "one of another network asks", false, V6("3a", "20", AWAY) ND("87") OWN OPT1(SELF) },
	{ "one answers for it", false, V6("3a", "20", ELSE) ND("88") AWAY OPT2(SELF) },
	{ "a router's advertisement", true, V6("3a", "10", "fe80 z13 01 ") ND("86") "z8" },
	{ "a redirect", false, V6("3a", "28", "fe80 z13 01 ") ND("89") KEPT ELSE },
	{ "a query", true, V6("00", "24", "fe80 z13 01 ") "3a00 05020000 0100 8200 z26" },
	{ "a report", false, V6("00", "24", "fe80 z13 01 ") "3a00 05020000 0100 8f00 z26" },
	{ "long hop-by-hop options", false, V6("00", "2c", "fe80 z13 01 ") "3a01 05020000 0100 z8 8200 z26" },
	{ "options before TCP", false, V6("00", "1c", ELSE) "0600 05020000 0100 8200 z18" },
	{ "a stranger asks", true, V6("3a", "20", ELSE) ND("87") OWN OPT1(SELF) },
	{ "one asks without address", true, V6("3a", "18", NO6) ND("87") OWN },
	{ "one asks as this host", false, V6("3a", "20", OWN) ND("87") ELSE OPT1(SELF) },
	{ "a stranger answers", true, V6("3a", "20", ELSE) ND("88") ELSE OPT2(SELF) },
	{ "one has this host's address", false, V6("3a", "20", ELSE) ND("88") OWN OPT2(SELF) },
	{ "the peer answers", true, V6("3a", "20", KEPT) ND("88") KEPT OPT2(MAC) },
	{ "the peer answers without MAC", true, V6("3a", "18", KEPT) ND("88") KEPT },
	{ "another answers as the peer", false, V6("3a", "20", ELSE) ND("88") KEPT OPT2(SELF) },
	{ "the peer asks", true, V6("3a", "20", KEPT) ND("87") OWN OPT1(MAC) },
	{ "another asks as the peer", false, V6("3a", "20", KEPT) ND("87") OWN OPT1(SELF) },
	{ "behind another option", false, V6("3a", "28", KEPT) ND("87") OWN "0e01 z6 " OPT1(MAC) },
	{ "in an option of another type", false, V6("3a", "20", ELSE) ND("88") KEPT "0e01 " SELF },
	{ "in an answer's option for questions", false, V6("3a", "20", ELSE) ND("88") KEPT OPT1(MAC) },
	{ "in an option of no length", false, V6("3a", "20", ELSE) ND("88") KEPT "0200 " SELF },
	{ "in a longer one", false, V6("3a", "28", ELSE) ND("88") KEPT "0202 " MAC "z8" },
	{ "in one that is cut", false, V6("3a", "1a", ELSE) ND("88") KEPT "0201 " MAC },
	{ "behind the packet's end", true, V6("3a", "18", ELSE) ND("88") KEPT OPT2(SELF) },
	{ "a longer packet than the frame", false, V6("3a", "28", ELSE) ND("88") "z12" },
	{ "a probe with a nonce", true, V6("3a", "20", NO6) ND("87") OWN "0e01 z6 " },
	{ "an advertisement that is cut", false, V6("3a", "10", KEPT) ND("88") "z8" },
	{ "no room for a type", false, V6("3a", "04", ELSE) "88000000" },
};

static void table(void **state)
{
	struct ip own;
	struct nd_filter f = {
		.own = &own, .nown = 1, .hears_routers = true, .kept = kept, .elsewhere = elsewhere, .arg = AWAY
	};
	(void)state;
	frame_text(OWN, own.b);
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		uint8_t buf[256];
		size_t n = frame_text(cases[i].frame, buf);
		uint8_t *h = malloc(n); /* so that ASan sees who looks behind it */
		memcpy(h, buf, n);
		if (nd_filter_passes(&f, h, n) != cases[i].passes)
			fail_msg("%s: %s", cases[i].what, cases[i].passes ? "is stopped" : "passes");
		free(h);
	}
	f.hears_routers = false;
	uint8_t ra[128];
	assert_false(nd_filter_passes(&f, ra, frame_text(V6("3a", "10", "fe80 z13 01 ") ND("86") "z8", ra)));
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(table) };
	return cmocka_run_group_tests(tests, NULL, NULL);
}

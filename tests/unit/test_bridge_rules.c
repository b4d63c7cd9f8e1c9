/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The rules for guests' frames as tables: for each reason frames that it stops, each beside one that it lets through.
 * A frame is written as text: bytes in hexadecimal; words that stand for addresses; zN for N bytes of zeros.
 */
#include "net/bridge_rules.h"
#include "tests/unit/frame_text.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#define ME   "02000000000a " /* the guest's MAC, addresses */
#define IP   "0a4d0032 "
#define IP6  "20010db8000000000000000000000050 "
#define LL6  "fe800000000000000000000000000050 "
#define ALL  "ffffffffffff "
#define YOU  "02000000000b " /* another machine's */
#define YIP  "0a4d0063 "
#define YIP6 "20010db8000000000000000000000099 "
#define HOST "0a4d000b " /* a host's, and one that a host probes */
#define HO6  "20010db8000000000000000000000007 "
#define ID6  "fd00000000000000000000000000000b " /* one that it made itself, in whatever prefix */
#define PROB "0a4d000c "
#define LEAS "0a4d000d " /* what DHCP gave to a host, and its gateway */
#define LGW  "0a4d000e "
#define LLR  "fe800000000000000000000000000001 " /* a router's, that was heard */
#define NO4  "00000000 "
#define NO6  NO4 NO4 NO4 NO4

#define ETH                ALL ME       /* a type follows */
#define QTAG               "8100 0064 " /* VLAN 100 */
#define PRIO               "8100 2000 " /* VLAN 0 */
#define STAG               "88a8 00c8 "
#define SNAP               "0040 aaaa03000000 "
#define ARP                "0806 0001080006040001 " /* sender's MAC and IP, target's */
#define IP4(proto, src)    "0800 4500002800000000 40" proto "0000" src YIP
#define UDP(from, to)      from to "00100000 "
#define P(n)               "00" n /* a port below 256 */
#define V6(next, len, src) "86dd 60000000 00" len next "ff" src YIP6
#define SHORT              "z20" /* a payload */

enum { ANY = 1, TRUNK = 2, DHCP = 4, ROUTER = 8, LIST = 16 };

static const struct bridge_lan lan = { .mtu = 1500,
				       .host_id = 0x0b00000000000000, /* ...:0:0:0:b */
				       .n = 3,
				       .leased = 0x0d004d0a,
				       .leased_gateway = 0x0e004d0a,
				       .router = { 0, 1UL << 56 } };
static struct bridge_lan with_probed;

static struct bridge_policy policy_of(unsigned may)
{
	struct bridge_policy p = {
		.any_mac = may & ANY, .trunk = may & TRUNK, .dhcp_server = may & DHCP, .router = may & ROUTER
	};
	if (may & LIST) {
		frame_text("z10 ffff " IP, p.ip[0]);
		frame_text(IP6, p.ip[1]);
	}
	return p;
}

/* h: a copy of just the bytes that are judged, so that ASan sees who looks behind them. */
static enum bridge_drop judge(unsigned may, struct frame *f, const uint8_t *frame)
{
	static const uint8_t mac[] = { 2, 0, 0, 0, 0, 0xa };
	struct bridge_policy p = policy_of(may);
	size_t n = MIN(f->len, (size_t)BRIDGE_HEAD);
	uint8_t *h = malloc(n);
	memcpy(h, frame, n);
	enum bridge_drop drop = bridge_rules_judge(&p, mac, &with_probed, f, h, n);
	free(h);
	return drop;
}

struct rule_case {
	const char *what;
	unsigned may;
	enum bridge_drop drop; /* 0: passes */
	const char *frame;
};

static void run(const struct rule_case *c, size_t n)
{
	with_probed = lan;
	with_probed.ip[0] = ip_of4(0x01004d0a);
	with_probed.ip[1] = ip_of4(0x0b004d0a);
	frame_text(HO6, with_probed.ip[2].b);
	frame_text(PROB, (uint8_t *)&with_probed.probed);
	for (size_t i = 0; i < n; i++) {
		static uint8_t buf[4096];
		struct frame f;
		frame_init_flat(&f, buf, frame_text(c[i].frame, buf));
		enum bridge_drop drop = judge(c[i].may, &f, buf);
		if (drop != c[i].drop)
			fail_msg("%s: %s, not %s", c[i].what, bridge_drops[drop].name, bridge_drops[c[i].drop].name);
	}
}
#define RUN(c) run(c, ARRAY_SIZE(c))

static void macs(void **state)
{
	static const struct rule_case c[] = {
		{ "its own", 0, BRIDGE_PASS, ETH "88b6" SHORT },
		{ "another's", 0, BRIDGE_DROP_MAC, ALL YOU "88b6" SHORT },
		{ "another's, allowed", ANY, BRIDGE_PASS, ALL YOU "88b6" SHORT },
		{ "one bit of the last byte", 0, BRIDGE_DROP_MAC, ALL "02000000000e 88b6" SHORT },
		{ "a group's", ANY, BRIDGE_DROP_MALFORMED, ALL "03000000000a 88b6" SHORT },
		{ "13 bytes", ANY, BRIDGE_DROP_MALFORMED, ETH "88" },
		{ "14 bytes", 0, BRIDGE_PASS, ETH "88b6" },
		{ "as hosts speak", ANY | TRUNK | DHCP | ROUTER, BRIDGE_DROP_HOST, ETH "88b5" SHORT },
		{ "the same in SNAP", 0, BRIDGE_DROP_HOST, ETH SNAP "88b5" SHORT },
		{ "another type in SNAP", 0, BRIDGE_PASS, ETH SNAP "88b6" SHORT },
		{ "LLC that is no SNAP", 0, BRIDGE_PASS, ETH "0040 424203 88b5" SHORT },
		{ "SNAP in SNAP", 0, BRIDGE_DROP_MALFORMED, ETH SNAP SNAP "88b5" SHORT },
	};
	RUN(c);
	(void)state;
}

static void tags(void **state)
{
	static const struct rule_case c[] = {
		{ "a tag", 0, BRIDGE_DROP_TAG, ETH QTAG "88b6" SHORT },
		{ "a tag at a trunk", TRUNK, BRIDGE_PASS, ETH QTAG "88b6" SHORT },
		{ "a priority", 0, BRIDGE_DROP_TAG, ETH PRIO "88b6" SHORT },
		{ "an S-TAG", 0, BRIDGE_DROP_TAG, ETH STAG "88b6" SHORT },
		{ "the older S-TAG", 0, BRIDGE_DROP_TAG, ETH "9100 0001 88b6" SHORT },
		{ "a tag in SNAP", 0, BRIDGE_DROP_TAG, ETH SNAP QTAG "88b6" SHORT },
		{ "two", TRUNK, BRIDGE_PASS, ETH STAG QTAG "88b6" SHORT },
		{ "three", TRUNK, BRIDGE_DROP_TAG, ETH STAG QTAG QTAG "88b6" SHORT },
		{ "two, cut", TRUNK, BRIDGE_DROP_MALFORMED, ETH STAG "8100 0064" },
		{ "hosts' type behind one", TRUNK, BRIDGE_DROP_HOST, ETH QTAG "88b5" SHORT },
		{ "hosts' type behind two", TRUNK, BRIDGE_DROP_HOST, ETH STAG QTAG "88b5" SHORT },
		{ "hosts' type in SNAP behind two", TRUNK, BRIDGE_DROP_HOST, ETH STAG QTAG SNAP "88b5" SHORT },
		{ "a host's address behind one", TRUNK, BRIDGE_DROP_HOST, ETH QTAG ARP ME HOST YOU YIP },
		{ "DHCP behind two", TRUNK, BRIDGE_DROP_DHCP, ETH STAG QTAG IP4("11", IP) UDP(P("43"), P("44")) },
		{ "full", 0, BRIDGE_PASS, ETH "88b6 z1500" },
		{ "one more", 0, BRIDGE_DROP_LONG, ETH "88b6 z1501" },
		{ "full with two tags: 1522 bytes", TRUNK, BRIDGE_PASS, ETH STAG QTAG "88b6 z1500" },
		{ "one more with two tags", TRUNK, BRIDGE_DROP_LONG, ETH STAG QTAG "88b6 z1501" },
		{ "room for a tag that is not there", TRUNK, BRIDGE_DROP_LONG, ETH QTAG "88b6 z1501" },
	};
	RUN(c);
	(void)state;
}

static void arp(void **state)
{
	static const struct rule_case c[] = {
		{ "asks", LIST, BRIDGE_PASS, ETH ARP ME IP "z6 " YIP },
		{ "announces", LIST, BRIDGE_PASS, ETH ARP ME IP "z6 " IP },
		{ "of another's MAC", 0, BRIDGE_DROP_ARP, ETH ARP YOU IP "z6 " YIP },
		{ "of another's MAC, allowed", ANY, BRIDGE_PASS, ALL YOU ARP YOU IP "z6 " YIP },
		{ "of another's address", LIST, BRIDGE_DROP_ARP, ETH ARP ME YIP "z6 " IP },
		{ "any address, without a list", 0, BRIDGE_PASS, ETH ARP ME YIP "z6 " IP },
		{ "probes its own", LIST, BRIDGE_PASS, ETH ARP ME NO4 "z6 " IP },
		{ "probes another's", LIST, BRIDGE_DROP_ARP, ETH ARP ME NO4 "z6 " YIP },
		{ "asks for a host", LIST, BRIDGE_PASS, ETH ARP ME IP "z6 " HOST },
		{ "claims a host's", ANY, BRIDGE_DROP_HOST, ETH ARP ME HOST "z6 " YIP },
		{ "probes a host's", 0, BRIDGE_DROP_HOST, ETH ARP ME NO4 "z6 " HOST },
		{ "claims what DHCP gave to the host", ROUTER, BRIDGE_DROP_HOST, ETH ARP ME LEAS "z6 " YIP },
		{ "claims the gateway that DHCP gave it", 0, BRIDGE_DROP_HOST, ETH ARP ME LGW "z6 " YIP },
		{ "the same, and may be it", ROUTER, BRIDGE_PASS, ETH ARP ME LGW "z6 " YIP },
		{ "claims what a host probes", 0, BRIDGE_DROP_HOST, ETH ARP ME PROB "z6 " YIP },
		{ "cut", 0, BRIDGE_DROP_ARP, ETH ARP ME IP "z6 0a4d00" },
		{ "other lengths", 0, BRIDGE_DROP_ARP, ETH "0806 0001080008040001" ME "0000" IP "z8 " YIP },
		{ "another protocol", 0, BRIDGE_DROP_ARP, ETH "0806 0001080106040001" ME IP "z6 " YIP },
		{ "in SNAP", LIST, BRIDGE_DROP_ARP, ETH SNAP ARP ME YIP "z6 " IP },
		{ "its own in SNAP", LIST, BRIDGE_PASS, ETH SNAP ARP ME IP "z6 " IP },
	};
	RUN(c);
	(void)state;
}

#define OPT1(mac) "0101" mac
#define OPT2(mac) "0201" mac
#define ND(type)  type "00 0000 00000000 "

static void nd(void **state)
{
	static const struct rule_case c[] = {
		{ "asks", LIST, BRIDGE_PASS, ETH V6("3a", "20", IP6) ND("87") YIP6 OPT1(ME) },
		{ "asks as another", LIST, BRIDGE_DROP_IP, ETH V6("3a", "20", YIP6) ND("87") YIP6 OPT1(ME) },
		{ "asks for another MAC", 0, BRIDGE_DROP_ND, ETH V6("3a", "20", IP6) ND("87") YIP6 OPT1(YOU) },
		{ "the same, allowed", ANY, BRIDGE_PASS, ETH V6("3a", "20", IP6) ND("87") YIP6 OPT1(YOU) },
		{ "an option before it", 0, BRIDGE_DROP_ND,
		  ETH V6("3a", "28", IP6) ND("87") YIP6 "0e01 z6 " OPT1(YOU) },
		{ "an unknown option", 0, BRIDGE_PASS, ETH V6("3a", "28", IP6) ND("87") YIP6 "0e01 z6 " OPT1(ME) },
		{ "an option of no length", 0, BRIDGE_DROP_ND, ETH V6("3a", "20", IP6) ND("87") YIP6 "0e00 z6" },
		{ "an option beyond the end", 0, BRIDGE_DROP_ND, ETH V6("3a", "20", IP6) ND("87") YIP6 "0e02 z6" },
		{ "bytes behind the packet", 0, BRIDGE_PASS, ETH V6("3a", "18", IP6) ND("87") YIP6 "z6" },
		{ "a packet that is longer", 0, BRIDGE_DROP_ND, ETH V6("3a", "40", IP6) ND("87") YIP6 OPT1(ME) },
		{ "a target that is cut", 0, BRIDGE_DROP_ND, ETH V6("3a", "0e", IP6) ND("87") "z6" },
		{ "more than is judged", 0, BRIDGE_DROP_ND,
		  ETH V6("3a", "ff", IP6) ND("87") YIP6 "0e1d z230 " OPT1(YOU) },
		{ "DAD of its own", LIST, BRIDGE_PASS, ETH V6("3a", "18", NO6) ND("87") IP6 },
		{ "DAD of a link-local", LIST, BRIDGE_PASS, ETH V6("3a", "18", NO6) ND("87") LL6 },
		{ "DAD of another's", LIST, BRIDGE_DROP_ND, ETH V6("3a", "18", NO6) ND("87") YIP6 },
		{ "answers", LIST, BRIDGE_PASS, ETH V6("3a", "20", IP6) ND("88") IP6 OPT2(ME) },
		{ "answers for another", LIST, BRIDGE_DROP_ND, ETH V6("3a", "20", IP6) ND("88") YIP6 OPT2(ME) },
		{ "no list", 0, BRIDGE_PASS, ETH V6("3a", "20", IP6) ND("88") YIP6 OPT2(ME) },
		{ "answers with another's MAC", 0, BRIDGE_DROP_ND, ETH V6("3a", "20", IP6) ND("88") IP6 OPT2(YOU) },
		{ "a fragment", 0, BRIDGE_DROP_ND, ETH V6("2c", "28", IP6) "3a00 0001 00000001" ND("88") IP6 OPT2(ME) },
		{ "a whole one that says fragment", 0, BRIDGE_DROP_ND,
		  ETH V6("2c", "28", IP6) "3a00 0000 00000001" ND("88") IP6 OPT2(ME) },
		{ "echo in a fragment", 0, BRIDGE_PASS, ETH V6("2c", "10", IP6) "3a00 0001 00000001" ND("80") },
		{ "looks for routers", LIST, BRIDGE_PASS, ETH V6("3a", "10", LL6) ND("85") OPT1(ME) },
		{ "looks for them without address", LIST, BRIDGE_PASS, ETH V6("3a", "08", NO6) ND("85") },
		{ "looks for them as another", 0, BRIDGE_DROP_ND, ETH V6("3a", "10", LL6) ND("85") OPT1(YOU) },
		{ "is one", 0, BRIDGE_DROP_ROUTER, ETH V6("3a", "10", LL6) ND("86") "z8" },
		{ "is one, allowed", ROUTER, BRIDGE_PASS, ETH V6("3a", "10", LL6) ND("86") "z8" },
		{ "asks for a router that was heard", 0, BRIDGE_PASS, ETH V6("3a", "20", LL6) ND("87") LLR OPT1(ME) },
		{ "answers for it", 0, BRIDGE_DROP_HOST, ETH V6("3a", "20", LL6) ND("88") LLR OPT2(ME) },
		{ "answers for it, and may", ROUTER, BRIDGE_PASS, ETH V6("3a", "20", LL6) ND("88") LLR OPT2(ME) },
		{ "asks as it", LIST, BRIDGE_DROP_HOST, ETH V6("3a", "20", LLR) ND("87") YIP6 OPT1(ME) },
		{ "takes it away", 0, BRIDGE_DROP_HOST, ETH V6("3a", "18", NO6) ND("87") LLR },
		{ "answers for a host", 0, BRIDGE_DROP_HOST, ETH V6("3a", "20", LL6) ND("88") HO6 OPT2(ME) },
		{ "and is a router", ROUTER, BRIDGE_DROP_HOST, ETH V6("3a", "20", LL6) ND("88") HO6 OPT2(ME) },
		{ "answers for what a host made", ROUTER, BRIDGE_DROP_HOST,
		  ETH V6("3a", "20", LL6) ND("88") ID6 OPT2(ME) },
		{ "takes that away", 0, BRIDGE_DROP_HOST, ETH V6("3a", "18", NO6) ND("87") ID6 },
		{ "asks for a host", 0, BRIDGE_PASS, ETH V6("3a", "20", IP6) ND("87") HO6 OPT1(ME) },
		{ "redirects", DHCP, BRIDGE_DROP_ROUTER, ETH V6("3a", "28", LL6) ND("89") IP6 IP6 },
		{ "is one behind options", 0, BRIDGE_DROP_ROUTER, ETH V6("00", "18", LL6) "3a00 z6 " ND("86") "z8" },
		{ "is one behind three headers", 0, BRIDGE_DROP_ROUTER,
		  ETH V6("00", "28", LL6) "3c00 z6 3300 z6 3a02 z14 " ND("86") "z8" },
		{ "is one in its first fragment", 0, BRIDGE_DROP_ROUTER,
		  ETH V6("2c", "18", LL6) "3a00 0001 00000001" ND("86") "z8" },
		{ "a later fragment", 0, BRIDGE_PASS, ETH V6("2c", "18", LL6) "3a00 0009 00000001" ND("86") "z8" },
		{ "bytes behind a first fragment's end", 0, BRIDGE_DROP_HIDDEN,
		  ETH V6("2c", "10", LL6) "3c00 0001 00000001 3a00 010400000000" ND("80") },
		{ "those behind one of UDP", 0, BRIDGE_DROP_HIDDEN,
		  ETH V6("2c", "10", LL6) "3c00 0001 00000001 1100 010400000000" UDP("0223", "1234") },
		{ "behind what is not there", 0, BRIDGE_DROP_HIDDEN, ETH V6("00", "08", LL6) "3a00 z4" },
		{ "ICMP that is not there", 0, BRIDGE_DROP_HIDDEN, ETH V6("00", "08", LL6) "3a00 z6" },
		{ "the same, and it may", ROUTER, BRIDGE_PASS, ETH V6("00", "08", LL6) "3a00 z6" },
		{ "behind more than is judged", 0, BRIDGE_DROP_HIDDEN,
		  ETH V6("00", "ff", LL6) "3a1f z254 " ND("86") "z8" },
		{ "the same, and it may all", ROUTER | DHCP, BRIDGE_PASS,
		  ETH V6("00", "ff", LL6) "3a1f z254 " ND("86") "z8" },
		{ "that, with a list", ROUTER | DHCP | LIST, BRIDGE_DROP_HIDDEN,
		  ETH V6("00", "ff", LL6) "3a1f z254 " ND("86") "z8" },
		{ "behind nine headers", 0, BRIDGE_DROP_HIDDEN,
		  ETH V6("3c", "50",
			 LL6) "3c00 z6 3c00 z6 3c00 z6 3c00 z6 3c00 z6 3c00 z6 3c00 z6 3c00 z6 3a00 z6 " ND("86") },
		{ "behind eight", 0, BRIDGE_DROP_ROUTER,
		  ETH V6("3c", "48", LL6) "3c00 z6 3c00 z6 3c00 z6 3c00 z6 3c00 z6 3c00 z6 3c00 z6 3a00 z6 " ND("86") },
	};
	RUN(c);
	(void)state;
}

/* Who on the wire says that he is a router. */
static void routers(void **state)
{
	static const struct {
		uint64_t id; /* the last 8 bytes of his address, in host order */
		const char *frame;
	} c[] = {
		{ 1, ALL YOU V6("3a", "10", LLR) ND("86") "z8" },
		{ 0x50, ALL YOU V6("3a", "10", LL6) ND("86") "z8" },
		{ 0, ALL YOU V6("3a", "10", IP6) ND("86") "z8" }, /* never from another address: RFC 4861 6.1.2 */
		{ 0, ALL YOU V6("3a", "10", LLR) ND("88") "z8" },
		{ 0, ALL YOU V6("11", "10", LLR) ND("86") "z8" },
		{ 0, ALL YOU "86dd 60000000 0010 3a 40" LLR YIP6 ND("86") "z8" }, /* has been routed */
		{ 0, ALL YOU "88b6 60000000 0010 3a ff" LLR YIP6 ND("86") "z8" },
		{ 0, ALL YOU V6("3a", "10", LLR) "8600 0000 00000000 z7" }, /* not the whole header */
	};
	for (size_t i = 0; i < ARRAY_SIZE(c); i++) {
		uint8_t buf[256], *h;
		size_t n = frame_text(c[i].frame, buf);
		h = malloc(n);
		memcpy(h, buf, n);
		if (bridge_rules_router(h, n) != (c[i].id ? c[i].id << 56 : 0))
			fail_msg("%zu", i);
		free(h);
	}
	(void)state;
}

static void addresses(void **state)
{
	static const struct rule_case c[] = {
		{ "its own", LIST, BRIDGE_PASS, ETH IP4("06", IP) SHORT },
		{ "another's", LIST, BRIDGE_DROP_IP, ETH IP4("06", YIP) SHORT },
		{ "another's, without a list", 0, BRIDGE_PASS, ETH IP4("06", YIP) SHORT },
		{ "a host's", ANY, BRIDGE_DROP_HOST, ETH IP4("06", HOST) SHORT },
		{ "none, and asks for one", LIST, BRIDGE_PASS, ETH IP4("11", NO4) UDP(P("44"), P("43")) },
		{ "none, and says something else", LIST, BRIDGE_DROP_IP, ETH IP4("11", NO4) UDP(P("44"), P("35")) },
		{ "another's, to a DHCP server", LIST, BRIDGE_DROP_IP, ETH IP4("11", YIP) UDP(P("44"), P("43")) },
		{ "a later fragment of another's", LIST, BRIDGE_DROP_IP,
		  ETH "0800 4500002800000001 40110000" YIP YIP SHORT },
		{ "IPv6", LIST, BRIDGE_PASS, ETH V6("06", "14", IP6) SHORT },
		{ "IPv6 of another", LIST, BRIDGE_DROP_IP, ETH V6("06", "14", YIP6) SHORT },
		{ "IPv6 of another, no list", 0, BRIDGE_PASS, ETH V6("06", "14", YIP6) SHORT },
		{ "IPv6 of a host", 0, BRIDGE_DROP_HOST, ETH V6("06", "14", HO6) SHORT },
		{ "IPv6 that a host made", 0, BRIDGE_DROP_HOST, ETH V6("06", "14", ID6) SHORT },
		{ "link-local", LIST, BRIDGE_PASS, ETH V6("06", "14", LL6) SHORT },
		{ "not quite link-local", LIST, BRIDGE_DROP_IP, ETH V6("06", "14", "fec0 z13 50") SHORT },
		{ "none", LIST, BRIDGE_DROP_IP, ETH V6("06", "14", NO6) SHORT },
		{ "none, echo", LIST, BRIDGE_DROP_IP, ETH V6("3a", "08", NO6) ND("80") },
		{ "none, MLD", LIST, BRIDGE_PASS, ETH V6("00", "10", NO6) "3a00 050200000000" ND("8f") },
		{ "none, a later fragment", LIST, BRIDGE_DROP_IP, ETH V6("2c", "18", NO6) "3a00 0009 00000001" SHORT },
		{ "its header is cut", LIST, BRIDGE_DROP_HIDDEN, ETH "0800 4500" },
		{ "the same, and nothing to see", DHCP, BRIDGE_PASS, ETH "0800 4500" },
		{ "a header of 16 bytes", 0, BRIDGE_DROP_HIDDEN, ETH "0800 4400002800000000 40110000" IP YIP SHORT },
		{ "options beyond the end", 0, BRIDGE_DROP_HIDDEN, ETH "0800 4f00002800000000 40110000" IP YIP SHORT },
		{ "no IPv4", 0, BRIDGE_DROP_HIDDEN, ETH "0800 6500002800000000 40110000" IP YIP SHORT },
		{ "IPv6, cut", 0, BRIDGE_DROP_HIDDEN, ETH "86dd 6000" SHORT },
		{ "behind a tag", LIST | TRUNK, BRIDGE_DROP_IP, ETH QTAG IP4("06", YIP) SHORT },
	};
	RUN(c);
	(void)state;
}

static void dhcp(void **state)
{
	static const struct rule_case c[] = {
		{ "an answer", 0, BRIDGE_DROP_DHCP, ETH IP4("11", IP) UDP(P("43"), P("44")) },
		{ "an answer, allowed", DHCP, BRIDGE_PASS, ETH IP4("11", IP) UDP(P("43"), P("44")) },
		{ "a question", 0, BRIDGE_PASS, ETH IP4("11", IP) UDP(P("44"), P("43")) },
		{ "from another port", 0, BRIDGE_DROP_DHCP, ETH IP4("11", IP) UDP("1234", P("44")) },
		{ "in TCP", 0, BRIDGE_PASS, ETH IP4("06", IP) UDP(P("43"), P("44")) },
		{ "behind options", 0, BRIDGE_DROP_DHCP,
		  ETH "0800 4600002c00000000 40110000" IP YIP "01010101" UDP(P("43"), P("44")) },
		{ "in its first fragment", 0, BRIDGE_DROP_DHCP,
		  ETH "0800 4500002800002000 40110000" IP YIP UDP(P("43"), P("44")) },
		{ "a later fragment", 0, BRIDGE_PASS,
		  ETH "0800 4500002800002001 40110000" IP YIP UDP(P("43"), P("44")) },
		{ "a first fragment without ports", 0, BRIDGE_DROP_HIDDEN,
		  ETH "0800 4500001600002000 40110000" IP YIP "0043" },
		{ "the same, and it may", DHCP, BRIDGE_PASS, ETH "0800 4500001600002000 40110000" IP YIP "0043" },
		{ "a first fragment of TCP without ports", 0, BRIDGE_PASS,
		  ETH "0800 4500001600002000 40060000" IP YIP "0043" },
		{ "IPv6", 0, BRIDGE_DROP_DHCP, ETH V6("11", "08", LL6) UDP("0223", "0222") },
		{ "IPv6, allowed", DHCP, BRIDGE_PASS, ETH V6("11", "08", LL6) UDP("0223", "0222") },
		{ "IPv6, a question", 0, BRIDGE_PASS, ETH V6("11", "08", LL6) UDP("0222", "0223") },
		{ "IPv6 behind options", 0, BRIDGE_DROP_DHCP, ETH V6("3c", "10", LL6) "1100 z6 " UDP("0223", "0222") },
		{ "IPv6, a first fragment", 0, BRIDGE_DROP_DHCP,
		  ETH V6("2c", "10", LL6) "1100 0001 00000001" UDP("0223", "0222") },
		{ "IPv6, a later fragment", 0, BRIDGE_PASS,
		  ETH V6("2c", "10", LL6) "1100 0009 00000001" UDP("0223", "0222") },
		{ "IPv6, no ports", 0, BRIDGE_DROP_HIDDEN, ETH V6("2c", "0a", LL6) "1100 0001 00000001 0223" },
		{ "in SNAP", 0, BRIDGE_DROP_DHCP, ETH SNAP IP4("11", IP) UDP(P("43"), P("44")) },
	};
	RUN(c);
	(void)state;
}

static void reserved_groups(void **state)
{
	(void)state;
	assert_true(bridge_rules_reserved((const uint8_t[]){ 1, 0x80, 0xc2, 0, 0, 0 }));
	assert_true(bridge_rules_reserved((const uint8_t[]){ 1, 0x80, 0xc2, 0, 0, 15 }));
	assert_false(bridge_rules_reserved((const uint8_t[]){ 1, 0x80, 0xc2, 0, 0, 16 }));
	assert_false(bridge_rules_reserved((const uint8_t[]){ 1, 0x80, 0xc2, 0, 1, 0 }));
	assert_false(bridge_rules_reserved((const uint8_t[]){ 0, 0x80, 0xc2, 0, 0, 0 }));
}

#define TCP       "0400 0050 00000001 00000000 5018 2000 0000 0000 "
#define TCP4(src) IP4("06", src) TCP "z3000"

static void offloads(void **state)
{
	static const struct {
		const char *what, *frame;
		uint8_t flags, gso;
		uint16_t gso_size, start, off;
		enum bridge_drop drop;
		uint16_t hdr_len;
	} c[] = {
		{ "a checksum", ETH IP4("06", IP) TCP, 1, 0, 0, 34, 16, BRIDGE_PASS, 0 },
		{ "of UDP", ETH IP4("11", IP) UDP("1234", "1234"), 1, 0, 0, 34, 6, BRIDGE_PASS, 0 },
		{ "beyond the end", ETH IP4("06", IP) TCP, 1, 0, 0, 34, 19, BRIDGE_DROP_OFFLOAD, 0 },
		{ "the last two bytes", ETH IP4("06", IP) TCP, 1, 0, 0, 34, 18, BRIDGE_PASS, 0 },
		{ "far beyond", ETH IP4("06", IP) TCP, 1, 0, 0, 65535, 65535, BRIDGE_DROP_OFFLOAD, 0 },
		{ "into the source MAC", ETH IP4("06", IP) TCP, 1, 0, 0, 0, 6, BRIDGE_DROP_OFFLOAD, 0 },
		{ "from IP's header on", ETH IP4("06", IP) TCP, 1, 0, 0, 14, 36, BRIDGE_DROP_OFFLOAD, 0 },
		{ "into UDP's port", ETH IP4("11", IP) UDP("1234", "1234"), 1, 0, 0, 34, 2, BRIDGE_DROP_OFFLOAD, 0 },
		{ "beside it", ETH IP4("11", IP) UDP("1234", "1234"), 1, 0, 0, 34, 3, BRIDGE_DROP_OFFLOAD, 0 },
		{ "behind it", ETH IP4("11", IP) UDP("1234", "1234"), 1, 0, 0, 34, 4, BRIDGE_PASS, 0 },
		{ "into an ARP address", ETH ARP ME IP "z6 " YIP, 1, 0, 0, 14, 14, BRIDGE_DROP_OFFLOAD, 0 },
		{ "behind ARP", ETH ARP ME IP "z6 " YIP "z4", 1, 0, 0, 42, 0, BRIDGE_PASS, 0 },
		{ "into a MAC of ND", ETH V6("3a", "20", IP6) ND("87") YIP6 OPT1(ME), 1, 0, 0, 54, 28,
		  BRIDGE_DROP_OFFLOAD, 0 },
		{ "into ND's type", ETH V6("3a", "20", IP6) ND("87") YIP6 OPT1(ME), 1, 0, 0, 54, 0, BRIDGE_DROP_OFFLOAD,
		  0 },
		{ "of ND", ETH V6("3a", "20", IP6) ND("87") YIP6 OPT1(ME), 1, 0, 0, 54, 2, BRIDGE_PASS, 0 },
		{ "of a tunnel's inside", ETH IP4("11", IP) UDP("1234", "12b5") "z50", 1, 0, 0, 60, 16, BRIDGE_PASS,
		  0 },
		{ "into a type behind a tag", ETH QTAG "88b6 z40", 1, 0, 0, 14, 2, BRIDGE_DROP_OFFLOAD, 0 },
		{ "segments", ETH TCP4(IP), 1, 1, 1448, 34, 16, BRIDGE_PASS, 54 },
		{ "behind two tags", ETH STAG QTAG TCP4(IP), 1, 1, 1448, 42, 16, BRIDGE_PASS, 62 },
		{ "the smallest", ETH TCP4(IP), 1, 1, 48, 34, 16, BRIDGE_PASS, 54 },
		{ "smaller", ETH TCP4(IP), 1, 1, 47, 34, 16, BRIDGE_DROP_OFFLOAD, 0 },
		{ "of no size", ETH TCP4(IP), 1, 1, 0, 34, 16, BRIDGE_DROP_OFFLOAD, 0 },
		{ "the largest", ETH TCP4(IP), 1, 1, 1460, 34, 16, BRIDGE_PASS, 54 },
		{ "larger", ETH TCP4(IP), 1, 1, 1461, 34, 16, BRIDGE_DROP_OFFLOAD, 0 },
		{ "without a checksum", ETH TCP4(IP), 0, 1, 1448, 34, 16, BRIDGE_DROP_OFFLOAD, 0 },
		{ "with another checksum", ETH TCP4(IP), 1, 1, 1448, 34, 18, BRIDGE_DROP_OFFLOAD, 0 },
		{ "from elsewhere on", ETH TCP4(IP), 1, 1, 1448, 36, 14, BRIDGE_DROP_OFFLOAD, 0 },
		{ "of IPv6", ETH TCP4(IP), 1, 4, 1448, 34, 16, BRIDGE_DROP_OFFLOAD, 0 },
		{ "that are of IPv6", ETH V6("06", "14", IP6) TCP "z3000", 1, 4, 1428, 54, 16, BRIDGE_PASS, 74 },
		{ "of UDP", ETH IP4("11", IP) TCP "z3000", 1, 1, 1448, 34, 16, BRIDGE_DROP_OFFLOAD, 0 },
		{ "of an unknown kind", ETH TCP4(IP), 1, 3, 1448, 34, 16, BRIDGE_DROP_OFFLOAD, 0 },
		{ "with ECN", ETH TCP4(IP), 1, 0x81, 1448, 34, 16, BRIDGE_DROP_OFFLOAD, 0 },
		{ "of a header alone", ETH IP4("06", IP) TCP, 1, 1, 1448, 34, 16, BRIDGE_DROP_OFFLOAD, 0 },
		{ "of a header that is cut", ETH IP4("06", IP) "0400 0050 00000001 00000000 5018 2000 0000", 1, 1, 1448,
		  34, 16, BRIDGE_DROP_OFFLOAD, 0 },
		{ "of a header shorter than TCP's", ETH IP4("06", IP) "0400 0050 00000001 00000000 4018 2000 z4 z99", 1,
		  1, 1448, 34, 16, BRIDGE_DROP_OFFLOAD, 0 },
		{ "of another's", ETH TCP4(HOST), 1, 1, 1448, 34, 16, BRIDGE_DROP_HOST, 0 },
		{ "too long for none", ETH TCP4(IP), 1, 0, 0, 34, 16, BRIDGE_DROP_LONG, 0 },
		{ "an unknown flag", ETH IP4("06", IP) TCP, 3, 0, 0, 34, 16, BRIDGE_DROP_OFFLOAD, 0 },
	};
	for (size_t i = 0; i < ARRAY_SIZE(c); i++) {
		static uint8_t buf[4096];
		struct frame f;
		frame_init_flat(&f, buf, frame_text(c[i].frame, buf));
		f.flags = c[i].flags;
		f.gso = c[i].gso;
		f.gso_size = c[i].gso_size;
		f.csum_start = c[i].start;
		f.csum_offset = c[i].off;
		f.hdr_len = 9999; /* what drivers say is not believed */
		enum bridge_drop drop = judge(TRUNK | LIST, &f, buf);
		if (drop != c[i].drop || (c[i].hdr_len && f.hdr_len != c[i].hdr_len))
			fail_msg("%s: %s, not %s; header of %u", c[i].what, bridge_drops[drop].name,
				 bridge_drops[c[i].drop].name, f.hdr_len);
	}
	(void)state;
}

/* Names are of one word, and each its own: they are keys of JSON. */
static void names(void **state)
{
	(void)state;
	for (unsigned i = 0; i < BRIDGE_DROPS; i++) {
		assert_non_null(bridge_drops[i].name);
		assert_int_equal(strspn(bridge_drops[i].name, "abcdefghijklmnopqrstuvwxyz"),
				 strlen(bridge_drops[i].name));
		for (unsigned k = 0; k < i; k++)
			assert_string_not_equal(bridge_drops[i].name, bridge_drops[k].name);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(macs),     cmocka_unit_test(tags),
		cmocka_unit_test(arp),      cmocka_unit_test(nd),
		cmocka_unit_test(routers),  cmocka_unit_test(addresses),
		cmocka_unit_test(dhcp),     cmocka_unit_test(reserved_groups),
		cmocka_unit_test(offloads), cmocka_unit_test(names),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}

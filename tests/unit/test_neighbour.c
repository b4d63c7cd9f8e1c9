/* SPDX-License-Identifier: BSD-2-Clause */
/* Whom the host knows on its links, on lwIP itself: who has proved a key stays where it is, strangers are few. */
#include "lwip/etharp.h"
#include "lwip/ip4.h"
#include "lwip/priv/nd6_priv.h"
#include "net/neighbour.h"
#include "tests/unit/fake_kernel.h"
#include <string.h>

/* ---- net/, as far as it asks ---- */

static struct net_if lan; /* 10.77.0.11/24, router 10.77.0.1; fd00::11/64, router fe80::1 */
static struct net_peer peer[2];
static const ip6_addr_t *routed; /* a prefix of a router, which is on the link */

const struct net_peer *net_peers(unsigned *n)
{
	*n = ARRAY_SIZE(peer);
	return peer;
}
signed char net_tcp_incoming(struct tcp_pcb *pcb unused, const struct tcp_hdr *h unused) { return 0; }
struct netif *netif_way(const ip_addr_t *to unused) { return &lan.netif; }
struct netif *netif6_way(const ip6_addr_t *to unused) { return &lan.netif; }
bool netif6_has_prefix(const struct netif *n unused, const ip6_addr_t *to)
{
	return routed && to->addr[0] == routed->addr[0];
}
ip_addr_t netif_lwip_of(struct ip ip)
{
	ip_addr_t a = { .type = ip_is4(ip) ? IPADDR_TYPE_V4 : IPADDR_TYPE_V6 };
	if (ip_is4(ip))
		ip4_addr_set_u32(ip_2_ip4(&a), ip_to4(ip));
	else
		memcpy(ip_2_ip6(&a)->addr, ip.b, sizeof(ip.b));
	return a;
}

static ip4_addr_t ip4(unsigned net, unsigned last)
{
	ip4_addr_t a;
	IP4_ADDR(&a, 10, net, 0, last);
	return a;
}

static struct ip at(unsigned last) { return ip_of4(ip4(77, last).addr); }

static ip6_addr_t ip6(uint32_t prefix, uint32_t last)
{
	ip6_addr_t a = { .addr = { lwip_htonl(prefix), 0, 0, lwip_htonl(last) } };
	return a;
}
#define OURS  0xfd000000U
#define LOCAL 0xfe800000U

static err_t swallow(struct netif *n unused, struct pbuf *p unused) { return ERR_OK; }
static err_t swallow6(struct netif *n unused, struct pbuf *p unused, const ip6_addr_t *to unused) { return ERR_OK; }

static err_t setup_if(struct netif *n)
{
	n->output = etharp_output;
	n->output_ip6 = swallow6;
	n->linkoutput = swallow;
	n->mtu = 1500;
	n->hwaddr_len = ETH_ALEN;
	n->flags = NETIF_FLAG_LINK_UP | NETIF_FLAG_ETHARP | NETIF_FLAG_ETHERNET | NETIF_FLAG_BROADCAST;
	return ERR_OK;
}

/* 10.77.0.`last` says by ARP that it is at 52:54:00:00:00:`mac`, and asks for this host. */
static void arp(unsigned last, uint8_t mac)
{
	struct etharp_hdr h = {
		.hwtype = lwip_htons(1), .proto = lwip_htons(ETHTYPE_IP), .hwlen = ETH_ALEN, .protolen = 4
	};
	ip4_addr_t from = ip4(77, last);
	h.opcode = lwip_htons(ARP_REQUEST);
	h.shwaddr = (struct eth_addr){ { 0x52, 0x54, 0, 0, 0, mac } };
	memcpy(&h.sipaddr, &from, 4);
	memcpy(&h.dipaddr, netif_ip4_addr(&lan.netif), 4);
	struct pbuf *p = netbuf_alloc(sizeof(h));
	assert_non_null(p);
	assert_int_equal(pbuf_take(p, &h, sizeof(h)), ERR_OK);
	etharp_input(p, &lan.netif);
}

/* The last byte of the MAC that ARP has for it; -1: none. */
static int arp_of(unsigned last)
{
	struct eth_addr *mac;
	const ip4_addr_t *found, a = ip4(77, last);
	int byte = etharp_find_addr(&lan.netif, &a, &mac, &found) < 0 ? -1 : mac->addr[5];
	return byte;
}

/* ---- tests ---- */

static void test_proved_stays(void **state unused)
{
	assert_false(neighbour_had());
	arp(20, 1);
	assert_int_equal(arp_of(20), 1);
	arp(20, 2); /* until it has proved its key it is where it says */
	assert_int_equal(arp_of(20), 2);
	assert_true(neighbour_keep(at(20)));
	assert_true(neighbour_keep(at(20)));
	arp(20, 3);
	assert_int_equal(arp_of(20), 2);
	neighbour_drop(at(20));
	arp(20, 3); /* one connection of two is left */
	assert_int_equal(arp_of(20), 2);
	assert_true(neighbour_had());
	neighbour_drop(at(20));
	arp(20, 3);
	arp(20, 3);
	assert_int_equal(arp_of(20), 3);
	assert_true(neighbour_had()); /* it may call again */
	fake_time_advance(61 * NS_PER_SEC);
	assert_false(neighbour_had());
	neighbour_drop(at(20)); /* harmless */
	assert_false(neighbour_had());
}

static void test_proved_stays6(void **state unused)
{
	ip6_addr_t a = ip6(OURS, 0x20);
	struct nd6_neighbor_cache_entry *e = &neighbor_cache[3];
	uint8_t mac[ETH_ALEN];
	struct ip ip = ip_of6(a.addr);
	*e = (struct nd6_neighbor_cache_entry){ .next_hop_address = a, .netif = &lan.netif, .state = ND6_INCOMPLETE };
	assert_false(neighbour_knows6(&lan.netif, &a));
	e->state = ND6_STALE;
	memcpy(e->lladdr, "\x52\x54\0\0\0\x07", ETH_ALEN);
	assert_true(neighbour_knows6(&lan.netif, &a));
	assert_false(neighbour_mac(ip, mac));
	assert_true(neighbour_keep(ip));
	assert_true(neighbour_mac(ip, mac));
	assert_int_equal(mac[5], 7);
	assert_true(e->isrouter); /* lwIP gives no such entry to another */
	e->isrouter = 0;
	neighbour_tick();
	assert_true(e->isrouter);
	neighbour_drop(ip);
	assert_false(e->isrouter);
	assert_false(neighbour_mac(ip, mac));
	/* One that is not known yet is kept from when it is. */
	e->state = ND6_NO_ENTRY;
	assert_true(neighbour_keep(ip));
	assert_false(neighbour_mac(ip, mac));
	e->state = ND6_REACHABLE;
	neighbour_tick();
	assert_true(neighbour_mac(ip, mac) && e->isrouter);
	neighbour_drop(ip);
}

static void test_who_is_asked_for(void **state unused)
{
	ip4_addr_t on = ip4(77, 30), off = ip4(78, 30), broadcast = ip4(77, 255), known = ip4(77, 31), link_local,
		   group;
	IP4_ADDR(&link_local, 169, 254, 1, 1);
	IP4_ADDR(&group, 224, 0, 0, 1);
	arp(31, 9);
	assert_true(neighbour_knows(&lan.netif, &known));
	assert_false(neighbour_must_ask(&lan.netif, &known));
	assert_true(neighbour_must_ask(&lan.netif, &on));
	assert_true(neighbour_must_ask(&lan.netif, &link_local));
	assert_false(neighbour_must_ask(&lan.netif, &off)); /* the router is */
	assert_false(neighbour_must_ask(&lan.netif, &broadcast));
	assert_false(neighbour_must_ask(&lan.netif, &group));
	ip6_addr_t on6 = ip6(OURS, 0x30), off6 = ip6(0x20010db8, 1), local6 = ip6(LOCAL, 0x30),
		   group6 = ip6(0xff020000, 1);
	assert_true(neighbour_must_ask6(&lan.netif, &on6));
	assert_true(neighbour_must_ask6(&lan.netif, &local6));
	assert_false(neighbour_must_ask6(&lan.netif, &off6));
	assert_false(neighbour_must_ask6(&lan.netif, &group6));
	routed = &off6;
	assert_true(neighbour_must_ask6(&lan.netif, &off6));
	routed = NULL;
}

/* Eight at once, then four a second, of both families together; those that the host needs are always asked for. */
static void test_few_strangers(void **state unused)
{
	unsigned n = 0;
	ip6_addr_t router6 = ip6(LOCAL, 1), stranger6 = ip6(OURS, 0x99);
	assert_true(neighbour_keep(at(40)));
	for (unsigned i = 0; i < 200; i++)
		n += neighbour_may_ask(&lan, i % 2 ? at(50 + i % 100) : ip_of6(stranger6.addr));
	assert_int_equal(n, 8);
	for (unsigned i = 0; i < 3; i++) {
		assert_true(neighbour_may_ask(&lan, at(40))); /* has proved its key */
		assert_true(neighbour_may_ask(&lan, peer[0].ip));
		assert_true(neighbour_may_ask(&lan, peer[1].ip));
		assert_true(neighbour_may_ask(&lan, at(1)));
		assert_true(neighbour_may_ask(&lan, ip_of6(router6.addr)));
	}
	assert_false(neighbour_may_ask(&lan, at(60)));
	n = 0;
	for (unsigned ms = 0; ms < 5000; ms++) {
		fake_time_advance(NS_PER_MS);
		n += neighbour_may_ask(&lan, at(60));
	}
	assert_in_range(n, 19, 21);
	neighbour_drop(at(40));
	assert_false(neighbour_may_ask(&lan, at(40)));
	fake_time_advance(10 * NS_PER_SEC);
	assert_true(neighbour_may_ask(&lan, at(60)));
}

/* Peers and more at once: who finds no place is not kept, and others are. */
static void test_no_place(void **state unused)
{
	for (unsigned i = 0; i < NET_PEERS_MAX; i++)
		assert_true(neighbour_keep(at(100 + i)));
	assert_false(neighbour_keep(at(99)));
	neighbour_drop(at(99));
	for (unsigned i = 0; i < NET_PEERS_MAX; i++)
		neighbour_drop(at(100 + i));
	assert_true(neighbour_keep(at(99)));
	neighbour_drop(at(99));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_proved_stays),     cmocka_unit_test(test_proved_stays6),
		cmocka_unit_test(test_who_is_asked_for), cmocka_unit_test(test_few_strangers),
		cmocka_unit_test(test_no_place),
	};
	ip4_addr_t address = ip4(77, 11), mask, router = ip4(77, 1);
	ip6_addr_t net6 = ip6(OURS, 0x11), peer6 = ip6(OURS, 0x12);
	IP4_ADDR(&mask, 255, 255, 255, 0);
	fake_time_freeze(1000 * NS_PER_SEC);
	assert_int_equal(netbuf_init(), 0);
	assert_int_equal(net_sys_start(), 0);
	NET_CORE_LOCK(); /* from here on; all that is tested wants it */
	lan.gateway6 = ip6(LOCAL, 1);
	lan.net6 = (struct conf_net6){ ip_of6(net6.addr), 64 };
	peer[0].ip = at(12);
	peer[1].ip = ip_of6(peer6.addr);
	assert_non_null(netif_add(&lan.netif, &address, &mask, &router, NULL, setup_if, ip4_input));
	netif_set_up(&lan.netif);
	int failed = cmocka_run_group_tests(tests, NULL, NULL);
	NET_CORE_UNLOCK();
	return failed;
}

/* SPDX-License-Identifier: BSD-2-Clause */
/* The host's IPv6 addresses on lwIP itself: neither routers nor other hosts end one that was written down. */
#include "lwip/ip6.h"
#include "lwip/nd6.h"
#include "lwip/priv/nd6_priv.h"
#include "net/announce_frames.h"
#include "net/neighbour.h"
#include "net/packet.h"
#include "tests/unit/fake_kernel.h"
#include <string.h>

enum { LINK_LOCAL, OWN }; /* places of addresses */

/* ---- net/, as far as it asks ---- */

static struct net_if lan; /* fd00::11/64 */
struct net_if *net_if_get(unsigned i) { return i ? NULL : &lan; }
struct net_if *netif_net(struct netif *n) { return CONTAINER_OF(n, struct net_if, netif); }
struct netif *netif_way(const ip_addr_t *to unused) { return &lan.netif; }
bool uplink_is_up(const struct uplink_net *n unused) { return true; }
int bridge_input(struct bridge_port *p unused, const struct frame *f unused) { return 0; }
bool net_is_peer(struct ip ip unused) { return false; }
const struct net_peer *net_peers(unsigned *n)
{
	*n = 0;
	return NULL;
}
signed char net_tcp_incoming(struct tcp_pcb *pcb unused, const struct tcp_hdr *h unused) { return 0; }
ip_addr_t netif_lwip_of(struct ip ip)
{
	ip_addr_t a = { .type = IPADDR_TYPE_V6 };
	memcpy(ip_2_ip6(&a)->addr, ip.b, sizeof(ip.b));
	return a;
}

/* ---- the link ---- */

static err_t swallow(struct netif *n unused, struct pbuf *p unused) { return ERR_OK; }
static err_t swallow6(struct netif *n unused, struct pbuf *p unused, const ip6_addr_t *to unused) { return ERR_OK; }

static err_t setup_if(struct netif *n)
{
	n->output_ip6 = swallow6;
	n->linkoutput = swallow;
	n->mtu = 1500;
	n->hwaddr_len = ETH_ALEN;
	memcpy(n->hwaddr, (uint8_t[]){ 0x52, 0x54, 0, 0, 0, 1 }, ETH_ALEN);
	n->flags = NETIF_FLAG_LINK_UP | NETIF_FLAG_ETHERNET | NETIF_FLAG_BROADCAST | NETIF_FLAG_MLD6;
	NETIF_SET_CHECKSUM_CTRL(n, NETIF_CHECKSUM_DISABLE_ALL);
	return ERR_OK;
}

static const uint8_t all_nodes[16] = { 0xff, 2, [15] = 1 };

/* A frame of neighbour discovery from fe80::`from`: len bytes of it behind the headers; how long it is. */
static size_t message(uint8_t *b, unsigned from, const void *nd, size_t len)
{
	uint8_t *ip = b + ETH_HLEN;
	memset(b, 0, ETH_HLEN + IP6_HDR);
	memcpy(b, (uint8_t[]){ 0x33, 0x33, 0, 0, 0, 1, 0x52, 0x54, 0, 0 }, 10);
	put_be16(b + 10, from);
	put_be16(b + ETH_TYPE, ETHERTYPE_IPV6);
	ip[0] = 0x60;
	put_be16(ip + IP6_PAYLOAD, len);
	ip[IP6_NEXT] = PROTO_ICMPV6;
	ip[IP6_HOPS] = ND_HOPS;
	memcpy(ip + IP6_SRC, (uint8_t[16]){ 0xfe, 0x80, [14] = (uint8_t)(from >> 8), [15] = (uint8_t)from }, 16);
	memcpy(ip + IP6_DST, all_nodes, 16);
	memcpy(ip + IP6_HDR, nd, len);
	return ETH_HLEN + IP6_HDR + len;
}

static void comes(const uint8_t *b, size_t len)
{
	struct pbuf *p = netbuf_alloc(len - ETH_HLEN);
	assert_non_null(p);
	assert_int_equal(pbuf_take(p, b + ETH_HLEN, (u16_t)(len - ETH_HLEN)), ERR_OK);
	(void)ip6_input(p, &lan.netif);
}

/* RFC 4861 4.2, 4.6.2: a prefix on the link, for addresses, and for how long. */
static size_t advertisement(uint8_t *b, unsigned from, uint8_t seconds)
{
	uint8_t ra[16 + 32] = { ND_RA, [4] = 64, [6] = 7 };
	uint8_t *prefix = ra + 16;
	memcpy(prefix, (uint8_t[]){ 3, 4, 64, 0xc0 }, 4);
	prefix[7] = prefix[11] = seconds;
	prefix[16] = 0xfd;
	return message(b, from, ra, sizeof(ra));
}

static void second(void)
{
	struct addr6 a;
	nd6_tmr();
	netif6_tick(&lan, false, &a);
	lan.addr6 = a;
}

static uint8_t state(unsigned k) { return netif_ip6_addr_state(&lan.netif, k); }

static int setup(void **unused_state unused)
{
	NET_CORE_LOCK();
	if (lan.netif.hwaddr_len)
		netif_remove(&lan.netif);
	memset(&lan, 0, sizeof(lan));
	lan.has_ip6 = true;
	lan.uses = NET_USE_MIGRATION;
	lan.net6.ip = (struct ip){ { 0xfd, [15] = 0x11 } };
	lan.net6.prefix = 64;
	assert_non_null(netif_add_noaddr(&lan.netif, NULL, setup_if, ip6_input));
	netif_set_up(&lan.netif);
	for (unsigned i = 0; i < 5; i++)
		second();
	assert_int_equal(state(OWN), IP6_ADDR_PREFERRED);
	NET_CORE_UNLOCK();
	return 0;
}

/* A router advertises its prefix as one that ends now, or soon. */
static void test_static_outlives_its_prefix(void **unused_state unused)
{
	uint8_t b[200];
	NET_CORE_LOCK();
	for (unsigned seconds = 0; seconds < 3; seconds += 2) {
		comes(b, advertisement(b, 1, (uint8_t)seconds));
		for (unsigned i = 0; i < 7300; i++) { /* two hours, which is the least that lwIP gives */
			second();
			assert_int_equal(state(OWN), IP6_ADDR_PREFERRED);
		}
	}
	assert_int_equal(lan.addr6.state, NET_ADDR_OK);
	NET_CORE_UNLOCK();
}

/* Another host has the link-local address that is made from this one's MAC: the one that was written down stays. */
static void test_static_outlives_link_local(void **unused_state unused)
{
	uint8_t b[200], na[24 + 8] = { ND_NA, [4] = ND_NA_OVERRIDE, [24] = ND_OPT_TARGET_MAC, [25] = 1, [31] = 9 };
	NET_CORE_LOCK();
	memcpy(na + ND_TARGET, netif_ip6_addr(&lan.netif, LINK_LOCAL)->addr, 16);
	netif_ip6_addr_set_state(&lan.netif, LINK_LOCAL, IP6_ADDR_TENTATIVE);
	second();
	comes(b, message(b, 9, na, sizeof(na)));
	assert_true(ip6_addr_isduplicated(state(LINK_LOCAL)));
	assert_int_equal(state(OWN), IP6_ADDR_PREFERRED);
	second();
	assert_int_equal(lan.addr6.state, NET_ADDR_OK);
	NET_CORE_UNLOCK();
}

/* Each router makes lwIP ask where it is: of many that are none few are heard, and one that is known stays known. */
static void test_few_routers(void **unused_state unused)
{
	uint8_t b[200];
	unsigned heard = 0;
	NET_CORE_LOCK();
	lan.net6.ip = (struct ip){ 0 };
	for (unsigned i = 0; i < 500; i++)
		heard += netif6_hears(&lan, b, advertisement(b, 100 + i, 60));
	assert_in_range(heard, 1, 10);
	NET_CORE_UNLOCK();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(test_static_outlives_its_prefix, setup),
		cmocka_unit_test_setup(test_static_outlives_link_local, setup),
		cmocka_unit_test_setup(test_few_routers, setup),
	};
	assert_int_equal(netbuf_init(), 0);
	assert_int_equal(net_sys_start(), 0);
	return cmocka_run_group_tests(tests, NULL, NULL);
}

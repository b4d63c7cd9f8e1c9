/* SPDX-License-Identifier: BSD-2-Clause */
/* Whom this host cannot call, and why: its networks are those of the test, lwIP itself routes and sends. */
#include "net/tcp.h"
#include "tests/unit/fake_kernel.h"
#include "net/addr_if.c"
#include <stdlib.h>

#define PEER 0x0c00580a /* 10.88.0.12 */

static struct net_if ifs[2] = { { .name = "office", .uses = NET_USE_MANAGEMENT },
				{ .name = "moves", .uses = NET_USE_MIGRATION } };
static bool routed; /* by the office */

struct net_if *net_if_get(unsigned i) { return i < ARRAY_SIZE(ifs) ? &ifs[i] : NULL; }
struct net_if *netif_net(struct netif *n) { return CONTAINER_OF(n, struct net_if, netif); }
struct netif *netif_way(const ip_addr_t *to unused) { return routed ? &ifs[0].netif : NULL; }
struct netif *netif_way_for(const ip_addr_t *to, unsigned use unused) { return netif_way(to); }
ip_addr_t netif_lwip_of(struct ip ip)
{
	ip_addr_t a = { .type = ip_is4(ip) ? IPADDR_TYPE_V4 : IPADDR_TYPE_V6 };
	if (ip_is4(ip))
		ip_2_ip4(&a)->addr = ip_to4(ip);
	else
		memcpy(ip_2_ip6(&a)->addr, ip.b, sizeof(ip.b));
	return a;
}
uint16_t netif_mss(struct netif *n unused, bool is6 unused) { return 1460; }
struct host_info host_info;
signed char net_tcp_incoming(struct tcp_pcb *pcb unused, const struct tcp_hdr *h unused) { return 0; }

#define NEVER(type, name, ...) \
	type name(__VA_ARGS__) { abort(); }
NEVER(unsigned, uplink_mbit, const struct uplink_net *n unused)
NEVER(bool, uplink_is_up, const struct uplink_net *n unused)
NEVER(void, netif6_tick, struct net_if *i unused, bool announces unused, struct addr6 *a unused)
NEVER(void, bridge_guard_probed, struct bridge *b unused, uint32_t ip unused)
NEVER(void, neighbour_tick, void)
NEVER(bool, neighbour_keep, struct ip ip unused)
NEVER(void, neighbour_drop, struct ip ip unused)
NEVER(bool, netif6_hears, struct net_if *i unused, const uint8_t *h unused, size_t n unused)

/* No call, for this reason; office has an address. */
static void cannot_call(const char *to, const char *reason)
{
	struct stream *s;
	struct ip ip;
	assert_int_equal(ip_parse(to, &ip), 0);
	for (unsigned i = 0; i < 2; i++) {
		struct why w = { "" };
		routed = i;
		assert_int_equal(stream_tcp_connect(&s, ip, 7077, time_ns() + NS_PER_SEC, NULL, &w), -ENETDOWN);
		assert_string_equal(w.text, reason);
		assert_null(s);
	}
}

static int setup(void **state unused)
{
	struct net_if *m = &ifs[1];
	strcpy(ifs[0].text, "10.77.0.11/24");
	ifs[0].has_ip4 = m->has_ip4 = true;
	ifs[0].addr = (struct addr){ .state = NET_ADDR_OK, .ip = 0x0b004d0a };
	m->dhcp = m->has_ip6 = false;
	m->address.addr = 0x0b00580a;
	m->mask.addr = 0x00ffffff;
	m->gateway.addr = 0;
	m->addr = (struct addr){ .ip = 0x0b00580a };
	m->addr6 = (struct addr6){ 0 };
	m->net6 = (struct conf_net6){ 0 };
	return 0;
}

static void test_not_up(void **state unused)
{
	struct net_if *m = &ifs[1];
	m->addr.state = NET_ADDR_CONFLICT;
	m->addr.other[0] = 0x52;
#define CONFLICT                                                                                                  \
	"this host does not use its address 10.88.0.11, because the host with MAC 52:00:00:00:00:00 has it too. " \
	"Give one of them another"
	cannot_call("10.88.0.12", CONFLICT);
	m->gateway.addr = 0x0100580a; /* then any peer may be behind it */
	cannot_call("10.99.0.12", CONFLICT);
	m->addr.state = NET_ADDR_PROBING;
	cannot_call("10.88.0.12", "this host's address 10.88.0.11 is still being probed. Try again in a few seconds");
	m->addr.waiting = true;
	cannot_call("10.88.0.12", "this host's network moves has no link");
	m->addr.dhcp = m->dhcp = true;
	cannot_call("10.88.0.12", "this host has no address on moves yet: no answer to DHCP? Give one in tern.conf: "
				  "address = A.B.C.D/N");
	m->has_ip6 = true;
	m->addr6 = (struct addr6){ .state = NET_ADDR_PROBING, .waiting = true };
	cannot_call("fd00::c", "this host has no IPv6 address on moves yet: no link, or no router that advertises "
			       "itself?");
}

/* Nor is a network blamed that would not lead there. */
static void test_elsewhere(void **state unused)
{
	struct stream *s;
	struct why w = { "" };
	struct net_if *m = &ifs[1];
	m->addr.state = NET_ADDR_CONFLICT;
	routed = true;
	assert_int_equal(stream_tcp_connect(&s, ip_of4(0x0c00630a), 7077, time_ns(), NULL, &w), -EPERM);
	assert_string_equal(w.text, "10.99.0.12 is reached by the network office, which is not for migrations "
				    "([net office] use)");
	m->addr.state = NET_ADDR_OK;
	assert_int_equal(stream_tcp_connect(&s, ip_of4(PEER), 7077, time_ns(), NULL, &w), -EPERM);
	routed = false;
	w.text[0] = '\0';
	assert_int_equal(stream_tcp_connect(&s, ip_of4(PEER), 7077, time_ns(), NULL, &w), -ENETUNREACH);
	assert_string_equal(w.text, "no route to 10.88.0.12 from 10.77.0.11: give a gateway in tern.conf");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(test_not_up, setup),
		cmocka_unit_test_setup(test_elsewhere, setup),
	};
	assert_int_equal(net_sys_start(), 0);
	return cmocka_run_group_tests_name("connect", tests, NULL, NULL);
}

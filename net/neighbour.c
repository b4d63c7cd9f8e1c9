/* SPDX-License-Identifier: BSD-2-Clause */
#include "net/neighbour.h"
#include "kernel/base/gcra.h"
#include "kernel/log.h"
#include "kernel/time.h"
#include "lwip/dhcp.h"
#include "lwip/etharp.h"
#include "lwip/nd6.h"
#include "lwip/priv/nd6_priv.h"
#include <string.h>

/* Hosts that are no peers, in lwIP's table of 64: one that does not answer stays there for 5 s, others for 300 s. */
#define STRANGERS_AT_ONCE 8
#define STRANGER_NS       (250 * NS_PER_MS)
#define TELL_AGAIN_NS     (600 * NS_PER_SEC)
#define HAD_NS            (60 * NS_PER_SEC) /* a connection that broke may be made again */

/* ---- hosts that have proved a key: core lock held ---- */

static struct neighbour { /* core lock */
	struct ip ip;
	uint8_t mac[ETH_ALEN]; /* of an IPv6 one: lwIP has no static entries for those (netif6_hears) */
	bool found;            /* that is known */
	unsigned users;        /* 0: free */
} neighbours[NET_PEERS_MAX];
static uint64_t had_until_ns; /* core lock */

/* Where lwIP has found an IPv6 neighbour on n's link, or NULL. */
static const struct nd6_neighbor_cache_entry *entry6(const struct netif *n, const ip6_addr_t *ip)
{
	for (unsigned k = 0; k < LWIP_ND6_NUM_NEIGHBORS; k++) {
		const struct nd6_neighbor_cache_entry *e = &neighbor_cache[k];
		if (e->netif == n && e->state != ND6_NO_ENTRY && e->state != ND6_INCOMPLETE &&
		    ip6_addr_zoneless_eq(ip, &e->next_hop_address))
			return e;
	}
	return NULL;
}

static bool find6(const ip6_addr_t *ip, uint8_t mac[ETH_ALEN])
{
	const struct nd6_neighbor_cache_entry *e = entry6(netif6_way(ip), ip);
	if (e)
		memcpy(mac, e->lladdr, ETH_ALEN);
	return e;
}

static void pin6(struct ip ip, bool pinned)
{
	for (unsigned n = 0; n < LWIP_ND6_NUM_NEIGHBORS; n++) {
		struct nd6_neighbor_cache_entry *e = &neighbor_cache[n];
		bool is_router = pinned;
		if (e->state == ND6_NO_ENTRY || !ip_same(ip_of6(e->next_hop_address.addr), ip))
			continue;
		for (unsigned k = 0; k < LWIP_ND6_NUM_ROUTERS; k++)
			is_router |= default_router_list[k].neighbor_entry == e;
		e->isrouter = is_router;
	}
}

static struct neighbour *neighbour_of(struct ip ip)
{
	struct neighbour *free = NULL;
	for (unsigned i = 0; i < ARRAY_SIZE(neighbours); i++) {
		if (neighbours[i].users && ip_same(neighbours[i].ip, ip))
			return &neighbours[i];
		if (!neighbours[i].users)
			free = &neighbours[i];
	}
	return free;
}

bool neighbour_keep(struct ip ip)
{
	const ip_addr_t to = netif_lwip_of(ip);
	struct neighbour *k = neighbour_of(ip);
	if (!k)
		return false;
	k->ip = ip;
	if (k->users++)
		return true;
	k->found = false;
	neighbour_tick();
	if (IP_IS_V6(&to))
		return true;
	const ip4_addr_t a = *ip_2_ip4(&to), *found;
	struct eth_addr *mac, copy;
	struct netif *n = netif_way(&to);
	if (n && n == ip4_route(&a) && etharp_find_addr(n, &a, &mac, &found) >= 0) {
		copy = *mac;
		(void)etharp_add_static_entry(&a, &copy);
	}
	return true;
}

void neighbour_drop(struct ip ip)
{
	struct neighbour *k = neighbour_of(ip);
	if (!k || !k->users || --k->users)
		return;
	had_until_ns = time_ns() + HAD_NS;
	if (ip_is4(ip))
		(void)etharp_remove_static_entry(&(const ip4_addr_t){ ip_to4(ip) });
	else
		pin6(ip, false);
}

void neighbour_tick(void)
{
	for (unsigned i = 0; i < ARRAY_SIZE(neighbours); i++) {
		struct neighbour *k = &neighbours[i];
		const ip_addr_t to = netif_lwip_of(k->ip);
		if (!k->users || !IP_IS_V6(&to))
			continue;
		k->found =
			k->found || find6(ip_2_ip6(&to), k->mac); /* it may have been forgotten when it proved itself */
		if (k->found)
			pin6(k->ip, true);
	}
}

bool neighbour_mac(struct ip ip, uint8_t mac[ETH_ALEN])
{
	const struct neighbour *k = neighbour_of(ip);
	if (!k || !k->users || !k->found)
		return false;
	memcpy(mac, k->mac, ETH_ALEN);
	return true;
}

bool neighbour_had(void)
{
	unsigned users = 0;
	for (unsigned i = 0; i < ARRAY_SIZE(neighbours); i++)
		users |= neighbours[i].users;
	return users || time_ns() < had_until_ns;
}

/* ---- strangers: core lock held ---- */

void neighbour_bound_routers(const struct netif *n)
{
	unsigned routers = 0, prefixes = 0;
	for (unsigned k = 0; k < LWIP_ND6_NUM_ROUTERS; k++) {
		struct nd6_neighbor_cache_entry *e = default_router_list[k].neighbor_entry;
		if (!e || e->netif != n || ++routers <= ND6_ROUTERS_OF_A_NET)
			continue;
		e->isrouter = 0;
		memset(&default_router_list[k], 0, sizeof(default_router_list[k]));
	}
	for (unsigned k = 0; k < LWIP_ND6_NUM_PREFIXES; k++)
		if (prefix_list[k].netif == n && ++prefixes > ND6_PREFIXES_OF_A_NET)
			memset(&prefix_list[k], 0, sizeof(prefix_list[k]));
}

bool neighbour_knows(struct netif *n, const ip4_addr_t *ip)
{
	struct eth_addr *mac;
	const ip4_addr_t *found;
	return etharp_find_addr(n, ip, &mac, &found) >= 0;
}

bool neighbour_knows6(const struct netif *n, const ip6_addr_t *ip) { return entry6(n, ip); }

bool neighbour_must_ask(struct netif *n, const ip4_addr_t *to)
{
	bool near = ip4_addr_net_eq(to, netif_ip4_addr(n), netif_ip4_netmask(n)) || ip4_addr_islinklocal(to);
	return near && !ip4_addr_isbroadcast(to, n) && !ip4_addr_ismulticast(to) && !neighbour_knows(n, to);
}

bool neighbour_must_ask6(const struct netif *n, const ip6_addr_t *to)
{
	const struct net_if *i = CONTAINER_OF(n, struct net_if, netif);
	bool near = ip6_addr_islinklocal(to) || conf_in_net6(ip_of6(to->addr), i->net6) || netif6_has_prefix(n, to);
	return near && !ip6_addr_ismulticast(to) && !neighbour_knows6(n, to);
}

/* Does this host need to know where that is, whoever else speaks to it? */
static bool is_wanted(const struct net_if *i, struct ip ip)
{
	const struct neighbour *k = neighbour_of(ip);
	unsigned n;
	const struct net_peer *p = net_peers(&n);
	const struct dhcp *d = i->dhcp ? netif_dhcp_data(&i->netif) : NULL;
	bool wanted = (k && k->users) || ip_same(ip, ip_of4(ip4_addr_get_u32(netif_ip4_gw(&i->netif)))) ||
		      ip_same(ip, ip_of6(i->gateway6.addr)) || (d && ip_same(ip, netif_ip_of(&d->server_ip_addr)));
	for (unsigned j = 0; j < n && !wanted; j++)
		wanted = ip_same(p[j].ip, ip);
	return wanted;
}

bool neighbour_may_ask(struct net_if *i, struct ip ip)
{
	uint64_t now = time_ns();
	if (is_wanted(i, ip) ||
	    gcra_take(&i->strangers_full_ns, now, STRANGER_NS, (STRANGERS_AT_ONCE - 1) * STRANGER_NS + 1))
		return true;
	if (!i->strangers_told_ns || now - i->strangers_told_ns > TELL_AGAIN_NS) {
		i->strangers_told_ns = now;
		log_warn("net: %s: more hosts speak to this one than it can find: it does not answer all", i->name);
	}
	return false;
}

/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The host's IPv6 addresses (RFC 4862) and its neighbours there (RFC 4861). lwIP makes, probes and resolves; here is
 * when it begins, what became of it, by which network another host is reached, and what lwIP does not get to see.
 *
 * lwIP takes a static address for one of a /64. Here its prefix is that of tern.conf: the address has a lifetime that
 * does not end, which for lwIP is not static, and net_gw6 says what is on the link.
 */
#include "kernel/ip.h"
#include "kernel/log.h"
#include "kernel/time.h"
#include "lwip/nd6.h"
#include "lwip/priv/nd6_priv.h"
#include "net/announce_frames.h"
#include "net/nd_filter.h"
#include "net/neighbour.h"
#include "net/packet.h"
#include <string.h>

#define LINK_LOCAL 0 /* places of lwIP's addresses of an interface */
#define OWN        1 /* a static one; those that lwIP makes follow from here on, too */
#define AGAIN_NS   (60 * NS_PER_SEC)

/* ---- ways: core lock held ---- */

/* Has a router said that this address is on n's link? */
bool netif6_has_prefix(const struct netif *n, const ip6_addr_t *to)
{
	for (unsigned k = 0; k < LWIP_ND6_NUM_PREFIXES; k++)
		if (prefix_list[k].netif == n && prefix_list[k].invalidation_timer &&
		    ip6_addr_net_zoneless_eq(to, &prefix_list[k].prefix))
			return true;
	return false;
}

/*
 * Does a router say that `to` is on i's link? It counts on a network of that use alone: whoever is on another one could
 * draw hosts' connections there, where none are made.
 */
static bool is_advertised(const struct net_if *i, const ip6_addr_t *to, unsigned use)
{
	return i->has_ip6 && i->uses & use && netif6_has_prefix(&i->netif, to);
}

static bool has_router(const struct net_if *i)
{
	bool has = !ip6_addr_isany(&i->gateway6);
	for (unsigned n = 0; n < LWIP_ND6_NUM_ROUTERS; n++)
		has |= default_router_list[n].neighbor_entry && default_router_list[n].invalidation_timer &&
		       default_router_list[n].neighbor_entry->netif == &i->netif;
	return has;
}

/* The network that has `to` on its link: what tern.conf says counts before what routers do. */
static struct net_if *on_link6(const ip6_addr_t *to, bool in_use, unsigned use)
{
	struct net_if *i, *best = NULL;
	unsigned most = 0;
	for (unsigned n = 0; (i = net_if_get(n)); n++) {
		unsigned rank =
			conf_in_net6(ip_of6(to->addr), i->net6) ? 2 * i->net6.prefix : is_advertised(i, to, use);
		rank += rank && i->uses & use ? 1 : 0;
		if (rank > most && (!in_use || i->addr6.state == NET_ADDR_OK)) {
			most = rank;
			best = i;
		}
	}
	return best;
}

struct netif *netif6_way_for(const ip6_addr_t *to, unsigned use)
{
	struct net_if *i, *other = NULL;
	struct net_if *link = on_link6(to, true, use);
	if (link)
		return &link->netif;
	for (unsigned n = 0; (i = net_if_get(n)); n++) {
		bool leads = i->addr6.state == NET_ADDR_OK && has_router(i);
		if (leads && i->uses & use)
			return &i->netif;
		if (leads && !other)
			other = i;
	}
	return other ? &other->netif : NULL;
}

struct netif *netif6_way(const ip6_addr_t *to) { return netif6_way_for(to, NET_USE_MIGRATION); }

/* lwIP's hook: what has one network's address leaves by that one. NULL: as lwIP would. */
struct netif *net_route6(const ip6_addr_t *src, const ip6_addr_t *dest)
{
	struct net_if *i;
	for (unsigned n = 0; (i = net_if_get(n)); n++)
		for (unsigned k = 0; i->has_ip6 && k < LWIP_IPV6_NUM_ADDRESSES; k++)
			if (ip6_addr_isvalid(netif_ip6_addr_state(&i->netif, k)) &&
			    ip6_addr_zoneless_eq(src, netif_ip6_addr(&i->netif, k)))
				return &i->netif;
	return netif6_way(dest);
}

/* lwIP's hook: the next hop of what lwIP does not know to be on the link. NULL: a router that advertises itself. */
const ip6_addr_t *net_gw6(struct netif *n, const ip6_addr_t *dest)
{
	const struct net_if *i = netif_net(n);
	if (conf_in_net6(ip_of6(dest->addr), i->net6))
		return dest;
	return ip6_addr_isany(&i->gateway6) ? NULL : &i->gateway6;
}

/* ---- neighbours: core lock held ---- */

static bool elsewhere(const void *arg, struct ip ip)
{
	const struct net_if *i = arg;
	const ip_addr_t a = netif_lwip_of(ip);
	const struct net_if *link = on_link6(ip_2_ip6(&a), false, NET_USE_MIGRATION);
	if (link)
		return link != i;
	struct netif *way = net_is_peer(ip) ? netif6_way(ip_2_ip6(&a)) : NULL;
	return way && way != &i->netif;
}

/* lwIP makes a neighbour of whoever asks for this host's MAC, and of a router, and forgets another one for it. */
static bool may_be_asked(struct net_if *i, const struct nd_filter *f, const uint8_t *h, size_t n)
{
	const uint8_t *nd = h + ETH_HLEN + IP6_HDR;
	ip6_addr_t from = { 0 };
	if (n <= ETH_HLEN + IP6_HDR || h[ETH_HLEN + IP6_NEXT] != PROTO_ICMPV6)
		return true;
	bool us = nd[0] == ND_RA;
	for (unsigned k = 0; k < f->nown && nd[0] == ND_NS && n >= ETH_HLEN + IP6_HDR + ND_OPTION; k++)
		us |= !memcmp(f->own[k].b, nd + ND_TARGET, 16);
	memcpy(from.addr, h + ETH_HLEN + IP6_SRC, sizeof(from.addr));
	return !us || ip6_addr_isany(&from) || neighbour_knows6(&i->netif, &from) ||
	       neighbour_may_ask(i, ip_of6(from.addr));
}

bool netif6_hears(struct net_if *i, const uint8_t *h, size_t n)
{
	struct ip own[LWIP_IPV6_NUM_ADDRESSES];
	struct nd_filter f = { .own = own,
			       .hears_routers = ip_is_none(i->net6.ip) || ip6_addr_isany(&i->gateway6),
			       .kept = neighbour_mac,
			       .elsewhere = elsewhere,
			       .arg = i };
	const struct net_if *k6;
	if (n < ETH_HLEN || get_be16(h + ETH_TYPE) != ETHERTYPE_IPV6)
		return true;
	if (!i->has_ip6)
		return false;
	if (n > ETH_HLEN + IP6_HDR && h[ETH_HLEN + IP6_NEXT] == PROTO_ICMPV6 && h[ETH_HLEN + IP6_HDR] == ND_RA)
		for (unsigned k = 0; (k6 = net_if_get(k)); k++)
			neighbour_bound_routers(&k6->netif);
	for (unsigned k = 0; k < LWIP_IPV6_NUM_ADDRESSES; k++)
		if (ip6_addr_isvalid(netif_ip6_addr_state(&i->netif, k)))
			own[f.nown++] = ip_of6(netif_ip6_addr(&i->netif, k)->addr);
	return nd_filter_passes(&f, h, n) && may_be_asked(i, &f, h, n);
}

/* ---- addresses: core lock held ---- */

static void begin(struct net_if *i)
{
	struct netif *n = &i->netif;
	netif_set_ip6_autoconfig_enabled(n, ip_is_none(i->net6.ip));
	netif_create_ip6_linklocal_address(n, 1);
	netif_ip6_addr_set_state(n, LINK_LOCAL, IP6_ADDR_TENTATIVE);
	ip6_addr_assign_zone(&i->gateway6, IP6_UNICAST, n);
	if (ip_is_none(i->net6.ip))
		return;
	const ip_addr_t a = netif_lwip_of(i->net6.ip);
	netif_ip6_addr_set(n, OWN, ip_2_ip6(&a));
	netif_ip6_addr_set_state(n, OWN, IP6_ADDR_TENTATIVE);
}

/*
 * lwIP lets an advertisement shorten the life of an address that was written down, and gives it up with a link-local
 * one that another host has, unless it is static: that it is while the link-local address is probed.
 */
static void hold_own(struct net_if *i)
{
	struct netif *n = &i->netif;
	u32_t life = ip6_addr_istentative(netif_ip6_addr_state(n, LINK_LOCAL)) ? IP6_ADDR_LIFE_STATIC
									       : IP6_ADDR_LIFE_INFINITE;
	if (!i->begun6 || ip_is_none(i->net6.ip))
		return;
	netif_ip6_addr_set_valid_life(n, OWN, life);
	netif_ip6_addr_set_pref_life(n, OWN, life);
	if (netif_ip6_addr_state(n, OWN) == IP6_ADDR_DEPRECATED)
		netif_ip6_addr_set_state(n, OWN, IP6_ADDR_PREFERRED);
}

/* The place of the address that counts: the first that is in use, else the first there is; 0: none. */
static unsigned place(const struct netif *n)
{
	unsigned at = 0;
	for (unsigned k = OWN; k < LWIP_IPV6_NUM_ADDRESSES; k++) {
		uint8_t s = netif_ip6_addr_state(n, k);
		if (ip6_addr_isvalid(s) && !ip6_addr_isvalid(netif_ip6_addr_state(n, at ? at : k)))
			at = k;
		else if (!at && !ip6_addr_isinvalid(s))
			at = k;
	}
	return at;
}

static void announce(struct net_if *i, const struct ip *ip)
{
	uint8_t frame[ANNOUNCE_FRAME_MAX];
	struct frame f;
	frame_init_flat(&f, frame, (uint32_t)announce_na(frame, i->netif.hwaddr, ip->b, false));
	(void)bridge_input(&i->ip_port, &f);
}

static void tell(const struct net_if *i, const struct addr6 *a)
{
	if (a->state == NET_ADDR_OK)
		log_info("net: %s: %s%s", i->name, ip_text(a->ip).s,
			 i->addr6.state == NET_ADDR_CONFLICT ? " is used now: no other host has it"
			 : ip_is_none(i->net6.ip)            ? " from a router's advertisement"
							     : "");
	else if (a->state == NET_ADDR_CONFLICT)
		log_error("net: %s: %s is not used: another host has it. It is tried again from time to time; give one "
			  "of the two another address",
			  i->name, ip_text(a->ip).s);
	else if (i->addr6.state == NET_ADDR_OK)
		log_warn("net: %s: no IPv6 address any more", i->name);
}

/* Without a link-local address (RFC 4291 2.1) routers are not asked, and none of fe80::/10 is found. */
static void tick_link_local(struct net_if *i, uint64_t now)
{
	bool lost = ip6_addr_isduplicated(netif_ip6_addr_state(&i->netif, LINK_LOCAL));
	if (lost && now >= i->link_local_ns) {
		if (i->link_local_ns)
			netif_ip6_addr_set_state(&i->netif, LINK_LOCAL, IP6_ADDR_TENTATIVE);
		else
			log_error("net: %s: another host has this one's link-local address, which is made from its "
				  "card's MAC. It is tried again each minute",
				  i->name);
		i->link_local_ns = now + AGAIN_NS;
	} else if (ip6_addr_isvalid(netif_ip6_addr_state(&i->netif, LINK_LOCAL))) {
		i->link_local_ns = 0;
	}
}

void netif6_tick(struct net_if *i, bool announces, struct addr6 *a)
{
	struct netif *n = &i->netif;
	uint64_t now = time_ns();
	if (!i->begun6 && uplink_is_up(&i->wire)) {
		i->begun6 = true; /* without a link nobody hears a probe */
		begin(i);
	}
	tick_link_local(i, now);
	hold_own(i);
	unsigned at = place(n);
	uint8_t s = at ? netif_ip6_addr_state(n, at) : IP6_ADDR_INVALID;
	*a = i->addr6;
	memset(a->all, 0, sizeof(a->all));
	for (unsigned k = OWN; k < LWIP_IPV6_NUM_ADDRESSES; k++)
		if (ip6_addr_isvalid(netif_ip6_addr_state(n, k)))
			a->all[k] = ip_of6(netif_ip6_addr(n, k)->addr);
	a->ip = at ? ip_of6(netif_ip6_addr(n, at)->addr) : i->net6.ip;
	a->waiting = !at;
	a->state = ip6_addr_isvalid(s) ? NET_ADDR_OK : ip6_addr_isduplicated(s) ? NET_ADDR_CONFLICT : NET_ADDR_PROBING;
	if (a->state == NET_ADDR_CONFLICT && i->addr6.state != NET_ADDR_CONFLICT)
		a->again_ns = now + AGAIN_NS;
	if (a->state == NET_ADDR_CONFLICT && now >= a->again_ns) {
		a->again_ns = now + AGAIN_NS;
		netif_ip6_addr_set_state(n, at, IP6_ADDR_TENTATIVE);
	} else if (i->addr6.state == NET_ADDR_CONFLICT && a->state == NET_ADDR_PROBING) {
		a->state = NET_ADDR_CONFLICT; /* until it is known better */
	}
	if (a->state == NET_ADDR_OK && announces)
		announce(i, &a->ip);
	if (a->state == NET_ADDR_OK && i->addr6.state != NET_ADDR_OK)
		nd6_clear_destination_cache(); /* what was sent to there before took other ways */
	if (a->state != i->addr6.state || (a->state == NET_ADDR_OK && !ip_same(a->ip, i->addr6.ip)))
		tell(i, a);
}

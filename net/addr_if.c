/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Address conflict detection (RFC 5227) for tern's interfaces: lwIP's ACD module probes and defends, with the times
 * that the RFC gives and does not want changed (1.1); addr.c keeps the state; this file is between the two. lwIP's
 * callback says neither which host the conflict is with nor, for DHCP, that there is one. So ACD is watched instead:
 * each ARP packet may change it.
 *
 * lwIP reports an address as good after the second announcement. A static one is used from the first on, 2 s earlier,
 * as RFC 5227 2.3 has it.
 */
#include "kernel/host.h"
#include "kernel/log.h"
#include "kernel/base/ip4.h"
#include "kernel/base/mac.h"
#include "kernel/sync.h"
#include "kernel/time.h"
#include "lwip/dhcp.h"
#include "lwip/etharp.h"
#include "lwip/prot/dhcp.h"
#include "lwip/timeouts.h"
#include "net/neighbour.h"
#include "net/packet.h"
#include "net/port.h"
#include "netif/ethernet.h"
#include <stdio.h>
#include <string.h>

#define TICK_MS ACD_TMR_INTERVAL

/* Guards addr and text of each interface for readers; writers hold lwIP's core lock too. */
static struct spinlock lock = SPINLOCK_INIT("address");
static struct waitq changed = { { &changed.waiters, &changed.waiters } };

/* ---- what lwIP does: core lock held ---- */

static struct acd *acd_of(struct net_if *i)
{
	struct dhcp *d = netif_dhcp_data(&i->netif);
	return !i->dhcp ? &i->acd : d ? &d->acd : NULL;
}

static enum addr_acd phase_of(const struct acd *acd)
{
	switch (acd->state) {
	case ACD_STATE_PROBE_WAIT:
	case ACD_STATE_PROBING:
	case ACD_STATE_ANNOUNCE_WAIT: return ADDR_ACD_PROBES;
	case ACD_STATE_ANNOUNCING:
	case ACD_STATE_ONGOING:
	case ACD_STATE_PASSIVE_ONGOING: return ADDR_ACD_HOLDS;
	case ACD_STATE_OFF:
	case ACD_STATE_RATE_LIMIT:
	default: return ADDR_ACD_OFF;
	}
}

/* The last step of each change, so that who sees OK finds the address set, and who sees CONFLICT finds it gone. */
static void publish(struct net_if *i, const struct addr *a)
{
	uint64_t flags = spin_lock_irqsave(&lock);
	i->addr = *a;
	waitq_wake_all(&changed);
	spin_unlock_irqrestore(&lock, flags);
}

static void tick4(struct net_if *i, bool announces)
{
	struct acd *acd = acd_of(i);
	struct addr a = i->addr;
	uint32_t ip = ip4_addr_get_u32(netif_ip4_addr(&i->netif));
	if (!acd)
		return;
	enum addr_acd phase = phase_of(acd);
	bridge_guard_probed(i->bridge, phase == ADDR_ACD_PROBES ? ip4_addr_get_u32(&acd->ipaddr) : 0);
	if (announces && ip)
		etharp_gratuitous(&i->netif); /* another card: whoever knows our MAC learns where it is */
	switch (addr_tick(&a, time_ns(), phase, ip ? ip : ip4_addr_get_u32(&acd->ipaddr), uplink_is_up(&i->wire), ip)) {
	case ADDR_PROBE:
		log_debug("net: %s: probing %s", i->name, ip4_text(a.ip).s);
		acd_start(&i->netif, acd, i->address);
		break;
	case ADDR_USE:
		if (!i->dhcp)
			netif_set_addr(&i->netif, &i->address, &i->mask, &i->gateway);
		break;
	case ADDR_NOTHING:
	default: break;
	}
	publish(i, &a);
}

static void tick_one(struct net_if *i)
{
	bool announces = (i->has_ip4 || i->has_ip6) && __atomic_exchange_n(&i->announce, false, __ATOMIC_RELAXED);
	struct addr6 a;
	if (i->has_ip4)
		tick4(i, announces);
	if (!i->has_ip6)
		return;
	netif6_tick(i, announces, &a);
	uint64_t flags = spin_lock_irqsave(&lock);
	i->addr6 = a;
	waitq_wake_all(&changed);
	spin_unlock_irqrestore(&lock, flags);
}

static void tick(void *arg unused)
{
	struct net_if *i;
	for (unsigned n = 0; (i = net_if_get(n)); n++)
		tick_one(i);
	neighbour_tick();
	sys_timeout(TICK_MS, tick, NULL);
}

static void tell(const struct net_if *i, const struct addr *a, enum addr_news news)
{
	struct ip4_text ip = ip4_text(a->ip);
	struct mac_text mac = mac_text(news == ADDR_DEFENDED ? a->defended : a->other);
	const char *next = i->dhcp ? "The DHCP server is told, and asked for another"
				   : "It is tried again from time to time; give one of the two another address";
	if (news == ADDR_DEFENDED)
		log_warn("net: %s: the host with MAC %s uses %s too; it was told that this host has it. Give one of "
			 "the two another address",
			 i->name, mac.s, ip.s);
	else if (news == ADDR_TAKEN)
		log_error("net: %s: %s is not used: conflict with the host with MAC %s, which has it too. %s", i->name,
			  ip.s, mac.s, next);
	else if (news == ADDR_GIVEN_UP)
		log_error("net: %s: %s is given up: conflict with the host with MAC %s, which goes on using it. %s",
			  i->name, ip.s, mac.s, next);
}

/*
 * Does somebody claim our address again, whom ACD has answered less than 10 s ago? Of one that tern.conf gives, and
 * while a host that has proved its key is spoken with, or was a moment ago, ACD does not hear it then, and so does not
 * give the address up (RFC 5227 2.4 (c)): with two frames anybody on the wire would take the host off its network.
 */
static bool claims_again(const struct net_if *i, const struct acd *acd, const uint8_t *eth)
{
	return phase_of(acd) == ADDR_ACD_HOLDS && acd->lastconflict && (!i->dhcp || neighbour_had()) &&
	       !memcmp(eth + ETH_HLEN + ARP_SENDER_IP, &acd->ipaddr, sizeof(acd->ipaddr));
}

/* lwIP makes a neighbour of whoever asks for this host's MAC, and forgets another one for it. */
static bool may_be_asked(struct net_if *i, const uint8_t *eth)
{
	ip4_addr_t from, target;
	memcpy(&from, eth + ETH_HLEN + ARP_SENDER_IP, sizeof(from));
	memcpy(&target, eth + ETH_HLEN + ARP_TARGET_IP, sizeof(target));
	/* Not what finds conflicts: while this host has no address, and where another one claims ours. */
	const ip4_addr_t *own = netif_ip4_addr(&i->netif);
	if (ip4_addr_isany(own) || ip4_addr_isany_val(from) || ip4_addr_eq(&from, own) || !ip4_addr_eq(&target, own))
		return true;
	return neighbour_knows(&i->netif, &from) || neighbour_may_ask(i, ip_of4(ip4_addr_get_u32(&from)));
}

err_t addr_if_input(struct net_if *i, struct pbuf *p)
{
	const uint8_t *eth = p->payload;
	struct acd *acd = i->has_ip4 ? acd_of(i) : NULL;
	bool arp = acd && p->len >= SIZEOF_ETH_HDR + SIZEOF_ETHARP_HDR && eth[12] == ETHTYPE_ARP >> 8 &&
		   eth[13] == (ETHTYPE_ARP & 0xff);
	if (!netif6_hears(i, eth, p->len) || (arp && (claims_again(i, acd, eth) || !may_be_asked(i, eth)))) {
		pbuf_free(p);
		return ERR_OK;
	}
	if (!arp)
		return ethernet_input(p, &i->netif);
	uint8_t mac[ETH_ALEN];
	memcpy(mac, eth + ETH_HLEN + ARP_SENDER_MAC, ETH_ALEN);
	struct addr_seen seen = { .before = phase_of(acd), .ip = ip4_addr_get_u32(&acd->ipaddr), .mac = mac };
	unsigned defence = acd->lastconflict; /* ticks for which ACD remembers that it has defended the address */
	err_t err = ethernet_input(p, &i->netif);
	struct addr a = i->addr;
	seen.after = phase_of(acd);
	seen.defended = acd->lastconflict > defence;
	enum addr_news news = addr_arp(&a, time_ns(), &seen, (uint32_t)LWIP_RAND());
	if (a.state == NET_ADDR_CONFLICT && i->addr.state == NET_ADDR_OK && !i->dhcp)
		netif_set_addr(&i->netif, IP4_ADDR_ANY4, IP4_ADDR_ANY4, IP4_ADDR_ANY4);
	if (a.conflicts > i->addr.conflicts)
		log_debug("net: %s: %s: conflict number %u in a row", i->name, ip4_text(a.ip).s, a.conflicts);
	publish(i, &a);
	tell(i, &a, news);
	return err;
}

/* lwIP's DHCPDECLINE lacks the server's identifier (RFC 2131, table 5), and udhcpd for one does not heed it then. */
void net_dhcp_options(struct netif *n, unsigned char *options, unsigned type, unsigned short *len)
{
	const struct dhcp *d = netif_dhcp_data(n);
	uint32_t server = ip4_addr_get_u32(ip_2_ip4(&d->server_ip_addr));
	if (type != DHCP_DECLINE)
		return;
	options[(*len)++] = DHCP_OPTION_SERVER_ID;
	options[(*len)++] = sizeof(server);
	memcpy(options + *len, &server, sizeof(server));
	*len += sizeof(server);
}

static void unheard(struct netif *n unused, acd_callback_enum_t news unused) {}

static void show_host(struct host_address *out);

void addr_if_attach(struct net_if *i)
{
	struct addr a = { .state = NET_ADDR_NONE };
	if (i->has_ip4)
		addr_init(&a, i->dhcp, ip4_addr_get_u32(&i->address));
	i->addr6 = (struct addr6){ .state = i->has_ip6 ? NET_ADDR_PROBING : NET_ADDR_NONE,
				   .waiting = true,
				   .ip = i->net6.ip };
	publish(i, &a);
	if (i->has_ip4 && !i->dhcp)
		acd_add(&i->netif, &i->acd, unheard);
	if (!host_info.address)
		sys_timeout(TICK_MS, tick, NULL);
	host_info.address = show_host;
}

void addr_if_set_text(struct net_if *i, const char text[24])
{
	uint64_t flags = spin_lock_irqsave(&lock);
	memcpy(i->text, text, sizeof(i->text));
	spin_unlock_irqrestore(&lock, flags);
}

/* ---- what others ask ---- */

static unsigned weight(enum net_addr_state state, bool waiting)
{
	switch (state) {
	case NET_ADDR_CONFLICT: return 4;
	case NET_ADDR_PROBING: return waiting ? 1 : 3;
	case NET_ADDR_OK: return 2;
	case NET_ADDR_NONE:
	default: return 0;
	}
}

static unsigned weight4(const struct net_if *i) { return weight(i->addr.state, i->addr.waiting); }
static unsigned weight6(const struct net_if *i) { return weight(i->addr6.state, i->addr6.waiting); }

/*
 * lock held. Of those for one of these uses, the interface whose state is the host's (net.h), or NULL; six: by its IPv6
 * address.
 */
static struct net_if *chosen(uint32_t uses, bool *six)
{
	struct net_if *i, *best = NULL;
	unsigned most = 0;
	for (unsigned n = 0; (i = net_if_get(n)); n++) {
		unsigned w = i->uses & uses ? MAX(weight4(i), weight6(i)) : 0;
		if (w <= most)
			continue;
		most = w;
		best = i;
		*six = weight6(i) > weight4(i);
	}
	return best;
}

static enum net_addr_state state_locked(uint8_t other_mac[6])
{
	bool six;
	const struct net_if *i = chosen(NET_USE_MIGRATION, &six);
	if (i && other_mac)
		memcpy(other_mac, i->addr.other, 6);
	return !i ? NET_ADDR_NONE : six ? i->addr6.state : i->addr.state;
}

enum net_addr_state net_addr_state(uint8_t other_mac[6])
{
	uint64_t flags = spin_lock_irqsave(&lock);
	enum net_addr_state s = state_locked(other_mac);
	spin_unlock_irqrestore(&lock, flags);
	return s;
}

int net_addr_settle(uint64_t deadline_ns)
{
	int err = 0;
	enum net_addr_state s;
	uint64_t flags = spin_lock_irqsave(&lock);
	while ((s = state_locked(NULL)) == NET_ADDR_PROBING && !err)
		err = waitq_wait(&changed, &lock, &flags, deadline_ns);
	spin_unlock_irqrestore(&lock, flags);
	switch (s) {
	case NET_ADDR_OK: return 0;
	case NET_ADDR_CONFLICT: return -EADDRINUSE;
	case NET_ADDR_PROBING: return -ETIMEDOUT;
	case NET_ADDR_NONE:
	default: return -ENETDOWN;
	}
}

/* lock held. A network for migrations by which `to` may be reached, once the host has its address there; or NULL. */
static struct net_if *lacking(struct ip to)
{
	struct net_if *i;
	bool is4 = ip_is4(to);
	for (unsigned n = 0; (i = net_if_get(n)); n++) {
		bool near = is4 ? i->has_ip4 && (i->dhcp || !ip4_addr_isany(&i->gateway) ||
						 !((ip_to4(to) ^ i->address.addr) & i->mask.addr))
				: i->has_ip6 && (ip_is_none(i->net6.ip) || !ip6_addr_isany(&i->gateway6) ||
						 conf_in_net6(to, i->net6));
		if (near && i->uses & NET_USE_MIGRATION && (is4 ? i->addr.state : i->addr6.state) != NET_ADDR_OK)
			return i;
	}
	return NULL;
}

static int why6(struct why *w, const char *name, const struct addr6 *a)
{
	if (a->state == NET_ADDR_CONFLICT)
		return why_set(w, -ENETDOWN, "this host does not use its address %s, because another host has it too",
			       ip_text(a->ip).s);
	if (a->waiting)
		return why_set(w, -ENETDOWN,
			       "this host has no IPv6 address on %s yet: no link, or no router that advertises itself?",
			       name);
	return why_set(w, -ENETDOWN, "this host's address %s is still being probed. Try again in a few seconds",
		       ip_text(a->ip).s);
}

int net_addr_why(struct ip to, struct why *w)
{
	char mine[48];
	bool six = !ip_is4(to), any = net_address(mine)[0];
	uint64_t flags = spin_lock_irqsave(&lock);
	struct net_if *i = lacking(to);
	if (!i && !any)
		i = chosen(NET_USES, &six);
	struct addr a = i ? i->addr : (struct addr){ .state = NET_ADDR_NONE };
	struct addr6 a6 = i ? i->addr6 : (struct addr6){ .state = NET_ADDR_NONE };
	spin_unlock_irqrestore(&lock, flags);
	if (!i)
		return any ? 0 : why_set(w, -ENETDOWN, "this host has no network card that it can use");
	if (six)
		return why6(w, i->name, &a6);
	if (a.state == NET_ADDR_CONFLICT)
		return why_set(
			w, -ENETDOWN,
			"this host does not use its address %s, because the host with MAC %s has it too. Give one of "
			"them another",
			ip4_text(a.ip).s, mac_text(a.other).s);
	if (a.state == NET_ADDR_PROBING && a.waiting && a.dhcp)
		return why_set(w, -ENETDOWN,
			       "this host has no address on %s yet: no answer to DHCP? Give one in tern.conf: address "
			       "= A.B.C.D/N",
			       i->name);
	if (a.state == NET_ADDR_PROBING && a.waiting)
		return why_set(w, -ENETDOWN, "this host's network %s has no link", i->name);
	return why_set(w, -ENETDOWN, "this host's address %s is still being probed. Try again in a few seconds",
		       ip4_text(a.ip).s);
}

/* lock held */
static void show(const struct net_if *i, struct host_address *out)
{
	static const char *const names[] = { "none", "probing", "ok", "conflict" };
	const struct addr *a = &i->addr;
	*out = (struct host_address){ .state = names[a->state],
				      .state6 = names[i->addr6.state],
				      .no_link = a->waiting && !a->dhcp };
	if (!ip_is_none(i->addr6.ip))
		sniprintf(out->address6, sizeof(out->address6), "%s", ip_text(i->addr6.ip).s);
	memcpy(out->address, i->text, sizeof(out->address));
	if (out->address[0])
		memcpy(out->wanted, out->address, sizeof(out->wanted));
	else if (a->ip && !a->dhcp)
		sniprintf(out->wanted, sizeof(out->wanted), "%s/%u", ip4_text(a->ip).s,
			  popcount64(ip4_addr_get_u32(&i->mask)));
	else if (a->ip)
		sniprintf(out->wanted, sizeof(out->wanted), "%s", ip4_text(a->ip).s);
	if (a->state == NET_ADDR_CONFLICT)
		sniprintf(out->other, sizeof(out->other), "%s", mac_text(a->other).s);
}

void addr_if_show(const struct net_if *i, struct host_address *out)
{
	uint64_t flags = spin_lock_irqsave(&lock);
	show(i, out);
	spin_unlock_irqrestore(&lock, flags);
}

static void show_host(struct host_address *out)
{
	uint64_t flags = spin_lock_irqsave(&lock);
	bool six;
	const struct net_if *i = chosen(NET_USES, &six);
	if (i)
		show(i, out);
	spin_unlock_irqrestore(&lock, flags);
}

const char *net_address(char buf[48])
{
	struct net_if *i;
	buf[0] = 0;
	uint64_t flags = spin_lock_irqsave(&lock);
	for (unsigned n = 0; (i = net_if_get(n)) && !buf[0]; n++) {
		const char *slash = strchr(i->text, '/');
		if (slash)
			sniprintf(buf, 48, "%.*s", (int)(slash - i->text), i->text);
		else if (i->addr6.state == NET_ADDR_OK)
			sniprintf(buf, 48, "%s", ip_text(i->addr6.ip).s);
	}
	spin_unlock_irqrestore(&lock, flags);
	return buf;
}

bool net_is_own_address(struct ip ip)
{
	struct net_if *i;
	bool own = false;
	uint64_t flags = spin_lock_irqsave(&lock);
	for (unsigned n = 0; (i = net_if_get(n)); n++) {
		own |= i->addr.state == NET_ADDR_OK && i->addr.ip && ip_same(ip_of4(i->addr.ip), ip);
		for (unsigned k = 0; k < ARRAY_SIZE(i->addr6.all); k++)
			own |= !ip_is_none(ip) && ip_same(i->addr6.all[k], ip);
	}
	spin_unlock_irqrestore(&lock, flags);
	return own;
}

/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What comes in from a guest (bridge_guest.h): the copy of its header, whose addresses it may not have, the word to its
 * operator, a bound on floods; and what may go to one.
 */
#include "net/bridge_guest.h"
#include "kernel/base/gcra.h"
#include "kernel/base/mac.h"
#include "kernel/log.h"
#include <string.h>

#define TELL_NS     (3600 * NS_PER_SEC)
#define FLOOD_NS    (NS_PER_SEC / BRIDGE_FLOODS)
#define FLOOD_AHEAD (BRIDGE_FLOODS_BURST * FLOOD_NS)

/*
 * A guest that bridges others, or gave itself a MAC, does not see why nothing works: its operator does. And he sees
 * what it tries.
 */
void bridge_guest_tell(struct bridge_port *p, enum bridge_drop why, const uint8_t src[ETH_ALEN], uint64_t now)
{
	uint64_t *told_ns = &p->told_ns[why];
	if ((why != BRIDGE_DROP_MAC && !bridge_drops[why].says) || now < __atomic_load_n(told_ns, __ATOMIC_RELAXED))
		return;
	__atomic_store_n(told_ns, now + TELL_NS, __ATOMIC_RELAXED);
	if (why == BRIDGE_DROP_MAC)
		log_warn("bridge: %s sends from the MAC %s, but has %s: dropped. If it may, write mac_change = allow "
			 "in its [vm]",
			 p->name, mac_text(src).s, mac_text(p->mac).s);
	else
		log_warn("bridge: %s %s: dropped, and counted (see `bridge`)", p->name, bridge_drops[why].says);
}

enum bridge_drop bridge_guest_enter(struct bridge_port *p, const struct bridge_lan *lan, const struct frame *f,
				    struct bridge_entry *e)
{
	e->n = frame_copy_out(f, 0, e->head, sizeof(e->head));
	if (!frame_put_head(&e->f, e->head, e->n, f, e->n))
		return BRIDGE_DROP_MALFORMED;
	return bridge_rules_judge(&p->policy, p->mac, lan, &e->f, e->head, e->n);
}

bool bridge_guest_wants(const struct bridge_port *p, const uint8_t dst[ETH_ALEN])
{
	return p->policy.any_mac || dst[0] & 1 || memcmp(dst, p->mac, ETH_ALEN) == 0;
}

enum bridge_drop bridge_guest_brought(const struct bridge_port *p, const uint8_t *h, size_t n)
{
	if (n < ETH_HLEN || h[ETH_SRC] & 1)
		return BRIDGE_DROP_MALFORMED;
	uint16_t type = get_be16(h + ETH_TYPE);
	if (bridge_rules_reserved(h))
		return BRIDGE_DROP_RESERVED;
	if (type == ETHERTYPE_TERN)
		return BRIDGE_DROP_HOST;
	if (eth_is_tag(type) && !p->policy.trunk &&
	    (n < ETH_HLEN + ETH_TAG_LEN || get_be16(h + ETH_HLEN) & ETH_TAG_VID))
		return BRIDGE_DROP_TAG; /* one of priority alone (VLAN 0) is for everybody */
	if (!memcmp(h + ETH_SRC, p->mac, ETH_ALEN))
		return BRIDGE_DROP_MAC;
	return bridge_guest_wants(p, h) ? BRIDGE_PASS : BRIDGE_DROP_REFUSED;
}

uint64_t bridge_dropped(const struct bridge_port_stats *s, bool spoof)
{
	uint64_t sum = 0;
	for (unsigned i = 0; i < BRIDGE_DROPS; i++)
		sum += bridge_drops[i].spoof == spoof ? s->drops[i] : 0;
	return sum;
}

void bridge_guest_guard(struct bridge_lan *lan, struct ip ip, bool gateway)
{
	unsigned i = 0;
	while (i < lan->n && !ip_same(lan->ip[i], ip))
		i++;
	if (i < lan->n) {
		__atomic_store_n(&lan->gateway[i], lan->gateway[i] && gateway, __ATOMIC_RELAXED);
	} else if (!ip_is_none(ip) && i < ARRAY_SIZE(lan->ip)) {
		lan->ip[i] = ip;
		lan->gateway[i] = gateway;
		__atomic_store_n(&lan->n, i + 1, __ATOMIC_RELEASE);
	}
}

void bridge_guest_hear(struct bridge_lan *lan, const uint8_t *h, size_t n, uint64_t now)
{
	uint64_t id = bridge_rules_router(h, n);
	unsigned at = 0;
	if (!id)
		return;
	for (unsigned i = 1; i < BRIDGE_ROUTERS && lan->router[at] != id; i++) /* its place, else the oldest's */
		if (lan->router[i] == id || lan->heard_ns[i] < lan->heard_ns[at])
			at = i;
	__atomic_store_n(&lan->router[at], id, __ATOMIC_RELAXED);
	lan->heard_ns[at] = now;
}

bool bridge_guest_may_flood(struct bridge_port *p, unsigned frames, uint64_t now)
{
	return gcra_take(&p->flood_ns, now, frames * FLOOD_NS, FLOOD_AHEAD);
}

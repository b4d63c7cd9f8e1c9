/* SPDX-License-Identifier: BSD-2-Clause */
/* Learning a guest's addresses and groups from its frames (learn.h). Pure, but for the lock. */
#include "net/learn.h"
#include "net/learn_table.h"
#include "net/packet.h"
#include <string.h>

#define FIRST_LOOK (ETH_HLEN + IP6_HDR) /* enough to pass over what is of no interest */
#define IN_USE_NS  (10 * NS_PER_SEC)    /* an address in use is noted so often */

/* ---- what a frame says; the lock is held ---- */

struct look {
	struct learn *l;
	uint64_t now;
};

static void learned(const struct look *k, enum learn_kind kind, const uint8_t *ip)
{
	struct learn_table t = learn_table(k->l, kind);
	learn_table_put(&t, ip, k->now);
}

static void group(const struct look *k, bool v6, const uint8_t *ip, bool joins)
{
	struct learn_table t = learn_table(k->l, v6 ? LEARN_GROUP6 : LEARN_GROUP4);
	if (joins)
		learn_table_put(&t, ip, k->now);
	else
		learn_table_drop(&t, ip);
}

/* Records of a version 3 or MLDv2 report. One that would reach beyond the packet ends it. */
static void records(const struct look *k, bool v6, const uint8_t *p, size_t len)
{
	size_t width = v6 ? 16 : 4, pos = 8;
	for (unsigned left = get_be16(p + REPORT_RECORDS); left && pos + RECORD_GROUP + width <= len; left--) {
		const uint8_t *r = p + pos;
		size_t size = RECORD_GROUP + width * (1 + get_be16(r + RECORD_SOURCES)) + 4UL * r[RECORD_AUX];
		if (size > len - pos)
			return;
		if (r[0] == RECORD_IS_EXCLUDE || r[0] == RECORD_TO_EXCLUDE)
			group(k, v6, r + RECORD_GROUP, true);
		else if (r[0] == RECORD_IS_INCLUDE || r[0] == RECORD_TO_INCLUDE)
			group(k, v6, r + RECORD_GROUP, false);
		pos += size;
	}
}

static void igmp(const struct look *k, const uint8_t *p, size_t len)
{
	if (len < IGMP_HDR)
		return;
	switch (p[0]) {
	case IGMP_REPORT1:
	case IGMP_REPORT2: group(k, false, p + IGMP_GROUP, true); break;
	case IGMP_LEAVE: group(k, false, p + IGMP_GROUP, false); break;
	case IGMP_REPORT3: records(k, false, p, len); break;
	default: break;
	}
}

static void mld(const struct look *k, const uint8_t *src, const uint8_t *p, size_t len)
{
	if (packet_is_link_local(src))
		learned(k, LEARN_HOST6, src);
	if (p[0] == MLD_REPORT2)
		records(k, true, p, len);
	else if (len >= MLD_LEN)
		group(k, true, p + MLD_GROUP, p[0] == MLD_REPORT1);
}

/* A solicitation from :: probes for what may be another's address (RFC 4862, 5.4.2); a proxy does not override. */
static void nd(const struct look *k, const uint8_t *src, const uint8_t *p, size_t len)
{
	if (p[0] != ND_NA) {
		learned(k, LEARN_HOST6, src);
		k->l->s.router |= p[0] == ND_RA;
	} else if (len >= ND_OPTION && p[ND_FLAGS] & ND_NA_OVERRIDE) {
		learned(k, LEARN_HOST6, p + ND_TARGET);
		k->l->s.router = p[ND_FLAGS] & ND_NA_ROUTER ? 1 : 0;
	}
}

static void icmp6(const struct look *k, const uint8_t *ip, const uint8_t *p, size_t len)
{
	if (len < MLD_HDR)
		return;
	switch (p[0]) {
	case MLD_REPORT1:
	case MLD_DONE:
	case MLD_REPORT2:
		if (ip[IP6_HOPS] == 1) /* RFC 3810, 5 */
			mld(k, ip + IP6_SRC, p, len);
		break;
	case ND_RS:
	case ND_RA:
	case ND_NS:
	case ND_NA:
		if (ip[IP6_HOPS] == ND_HOPS) /* no router has passed it on (RFC 4861, 7.1) */
			nd(k, ip + IP6_SRC, p, len);
		break;
	default: break;
	}
}

static void arp(const struct look *k, const uint8_t *mac, const uint8_t *p, size_t len)
{
	if (len >= ARP_LEN && !memcmp(p, packet_arp_head, ARP_OP) &&
	    (get_be16(p + ARP_OP) == ARP_OP_REQUEST || get_be16(p + ARP_OP) == ARP_OP_REPLY) &&
	    !memcmp(p + ARP_SENDER_MAC, mac, ETH_ALEN))
		learned(k, LEARN_HOST4, p + ARP_SENDER_IP);
}

static void ip4(const struct look *k, const uint8_t *p, size_t len)
{
	size_t head = 4UL * (p[0] & 15), total = get_be16(p + IP4_LEN);
	if (p[0] >> 4 == 4 && head >= IP4_HDR && head <= total && total <= len &&
	    !(get_be16(p + IP4_FRAG) & IP4_FRAG_MASK))
		igmp(k, p + head, total - head);
}

/* ICMPv6 stands behind the header, or behind hop-by-hop options, in which MLD has its router alert. */
static void ip6(const struct look *k, const uint8_t *p, size_t len)
{
	size_t pos = IP6_HDR, end = IP6_HDR + get_be16(p + IP6_PAYLOAD);
	if (p[0] >> 4 != 6 || end > len)
		return;
	uint8_t next = p[IP6_NEXT];
	if (next == PROTO_HOP_BY_HOP && pos + 8 <= end) {
		next = p[pos];
		pos += 8 + 8UL * p[pos + 1];
	}
	if (next == PROTO_ICMPV6 && pos <= end)
		icmp6(k, p, p + pos, end - pos);
}

/* ---- frames ---- */

/* Any other packet: a known address is in use. Nothing is learned by it. */
static void in_use(struct learn *l, struct learn_last *last, enum learn_kind kind, const uint8_t *src, uint64_t now)
{
	struct learn_table t = learn_table(l, kind);
	if (now - last->ns < IN_USE_NS && !memcmp(last->ip, src, t.width))
		return;
	memcpy(last->ip, src, t.width);
	last->ns = now;
	spin_lock(&l->lock);
	if (learn_table_has(&t, src))
		learn_table_put(&t, src, now);
	spin_unlock(&l->lock);
}

void learn_sent(struct learn *l, const uint8_t mac[ETH_ALEN], const struct frame *f, uint64_t now_ns)
{
	uint8_t h[ETH_HLEN + ETH_DATA_MAX], *p = h + ETH_HLEN;
	struct look k = { l, now_ns };
	size_t n = frame_copy_out(f, 0, h, FIRST_LOOK);
	unsigned type = n < ETH_HLEN + ARP_LEN ? 0 : get_be16(h + ETH_TYPE);
	uint8_t proto = type == ETHERTYPE_IPV4 ? p[IP4_PROTO] : p[IP6_NEXT];

	if (type == ETHERTYPE_IPV4 && proto != PROTO_IGMP)
		in_use(l, &l->last4, LEARN_HOST4, p + IP4_SRC, now_ns);
	else if (type == ETHERTYPE_IPV6 && n == FIRST_LOOK && proto != PROTO_ICMPV6 && proto != PROTO_HOP_BY_HOP)
		in_use(l, &l->last6, LEARN_HOST6, p + IP6_SRC, now_ns);
	else if (type == ETHERTYPE_ARP || type == ETHERTYPE_IPV4 || (type == ETHERTYPE_IPV6 && n == FIRST_LOOK)) {
		n = frame_copy_out(f, 0, h, sizeof(h)) - ETH_HLEN;
		spin_lock(&l->lock);
		if (type == ETHERTYPE_ARP)
			arp(&k, mac, p, n);
		else if (type == ETHERTYPE_IPV4)
			ip4(&k, p, n);
		else
			ip6(&k, p, n);
		spin_unlock(&l->lock);
	}
}

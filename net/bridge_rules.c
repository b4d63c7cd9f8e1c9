/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The rules for guests' frames (bridge_rules.h). A frame is walked once from its outer header inwards; each step says
 * where the next one is, and what it found that may not pass.
 *
 * Fragments: all that the rules look for stands in the first fragment, or is dropped there. IPv4's second fragment
 * begins 8 bytes in, behind UDP's ports. IPv6's first fragment must have the whole chain of headers (RFC 7112), and
 * neighbour discovery is never fragmented (RFC 6980). So later fragments pass (RFC 7113, 7610).
 */
#include "net/bridge_rules.h"
#include "net/packet.h"
#include <string.h>

#define SNAP_LEN 8 /* LLC aa aa 03 and an OUI, then a type (RFC 1042) */

#define IP4_FRAGMENT_OFFSET 0x1fff /* of IP4_FRAG */
#define IP4_DONT_FRAGMENT   0x4000

/* IPv6's extension headers (RFC 8200) that a receiver looks through. */
#define IP6_FRAGMENT_OFFSET 0xfff8 /* of a fragment header's second field */
#define EXTENSIONS_MAX      8
enum {
	NEXT_HOP_BY_HOP = 0,
	NEXT_ROUTING = 43,
	NEXT_FRAGMENT = 44,
	NEXT_AH = 51,
	NEXT_DEST_OPTIONS = 60,
	NEXT_MOBILITY = 135,
	NEXT_HIP = 139,
	NEXT_SHIM6 = 140,
};

/* UDP's ports (RFC 768, 2131, 8415). */
#define UDP_DEST     2
#define UDP_PORTS    4
#define DHCP_SERVER  67
#define DHCP_CLIENT  68
#define DHCP6_CLIENT 546

#define TCP_CHECKSUM 16
#define GSO_SIZE_MIN 48 /* Linux sends none below (tcp_min_snd_mss). One byte each would be 65,000 frames of each */

const struct bridge_drop_name bridge_drops[BRIDGE_DROPS] = {
	[BRIDGE_PASS] = { "passed", false, NULL },
	[BRIDGE_DROP_MAC] = { "mac", true, NULL },
	[BRIDGE_DROP_BOUND] = { "bound", true, NULL },
	[BRIDGE_DROP_HOST] = { "host", true, "poses as a host of tern's or as a router" },
	[BRIDGE_DROP_ARP] = { "arp", true, "claims by ARP what is not its own" },
	[BRIDGE_DROP_ND] = { "nd", true, "claims by neighbour discovery what is not its own" },
	[BRIDGE_DROP_IP] = { "ip", true, "sends from an address that is not in its ip" },
	[BRIDGE_DROP_DHCP] = { "dhcp", false, "answers DHCP, and has not dhcp_server = allow" },
	[BRIDGE_DROP_ROUTER] = { "router", false,
				 "sends router advertisements or redirects, and has not router = allow" },
	[BRIDGE_DROP_HIDDEN] = { "hidden", false, NULL },
	[BRIDGE_DROP_TAG] = { "tag", false, "sends VLAN tags, and has not trunk = yes" },
	[BRIDGE_DROP_MALFORMED] = { "malformed", false, NULL },
	[BRIDGE_DROP_LONG] = { "long", false, NULL },
	[BRIDGE_DROP_OFFLOAD] = { "offload", false, NULL },
	[BRIDGE_DROP_RESERVED] = { "reserved", false, NULL },
	[BRIDGE_DROP_SERVICE] = { "service", false, "speaks to its host" },
	[BRIDGE_DROP_STORM] = { "storm", false, NULL },
	[BRIDGE_DROP_LEAVING] = { "leaving", false, NULL },
	[BRIDGE_DROP_FULL] = { "full", false, NULL },
	[BRIDGE_DROP_REFUSED] = { "refused", false, NULL },
};

struct walk {
	const struct bridge_policy *policy;
	const uint8_t *mac;
	const struct bridge_lan *lan;
	const uint8_t *h; /* n bytes of the frame */
	size_t n;
	unsigned tags;
	uint16_t type;   /* behind tags and SNAP */
	size_t l3, l4;   /* where that begins, and what it carries */
	size_t end;      /* of an IPv6 packet, as it says itself: may be beyond n */
	size_t judged;   /* nothing before it may change any more... */
	size_t checksum; /* ...but these two bytes; 0: none */
};

static const uint8_t zeros[16];

bool bridge_rules_reserved(const uint8_t dst[ETH_ALEN])
{
	static const uint8_t group[] = { 0x01, 0x80, 0xc2, 0, 0 };
	return !memcmp(dst, group, sizeof(group)) && dst[5] < 16;
}

/*
 * What switches say to each other, besides the groups that no bridge forwards: GARP's and MRP's (IEEE 802.1Q table
 * 10-1), and Cisco's CDP, VTP, DTP and PVST+. A switch that hears them from a server may shut its port.
 */
static bool is_between_bridges(const uint8_t dst[ETH_ALEN])
{
	static const uint8_t ieee[] = { 0x01, 0x80, 0xc2, 0, 0 }, cisco[] = { 0x01, 0x00, 0x0c, 0xcc, 0xcc };
	return (!memcmp(dst, ieee, sizeof(ieee)) && dst[5] >> 4 == 2) ||
	       (!memcmp(dst, cisco, sizeof(cisco)) && (dst[5] == 0xcc || dst[5] == 0xcd));
}

bool bridge_rules_host_hears(const struct bridge_policy *p, const uint8_t *h, size_t n)
{
	uint16_t type = n < ETH_HLEN ? 0 : get_be16(h + ETH_TYPE);
	const uint8_t *ip = h + ETH_HLEN;
	if (type == ETHERTYPE_IPV4 && n >= ETH_HLEN + IP4_HDR) {
		size_t len = (size_t)(ip[0] & 15) * 4;
		return ip[IP4_PROTO] == PROTO_ICMP && !(get_be16(ip + IP4_FRAG) & ~IP4_DONT_FRAGMENT) &&
		       n > ETH_HLEN + len && ip[len] == ICMP4_ECHO_REPLY;
	}
	if (type == ETHERTYPE_IPV6 && n > ETH_HLEN + IP6_HDR && ip[IP6_NEXT] == PROTO_ICMPV6)
		return ip[IP6_HDR] == ICMP6_ECHO_REPLY || ip[IP6_HDR] == ND_NS || ip[IP6_HDR] == ND_NA ||
		       (p->router && ip[IP6_HDR] == ND_RA);
	return type == ETHERTYPE_ARP;
}

/* ---- whose address is it ---- */

static bool has_list(const struct bridge_policy *p) { return memcmp(p->ip[0], zeros, 16) != 0; }

static bool in_list(const struct bridge_policy *p, const uint8_t ip[16])
{
	for (unsigned i = 0; i < BRIDGE_IPS && memcmp(p->ip[i], zeros, 16); i++)
		if (!memcmp(p->ip[i], ip, 16))
			return true;
	return false;
}

static bool own_ip4(const struct bridge_policy *p, const uint8_t ip4[4])
{
	uint8_t ip[16];
	memcpy(ip, ip_mapped, sizeof(ip_mapped));
	memcpy(ip + sizeof(ip_mapped), ip4, 4);
	return !has_list(p) || in_list(p, ip);
}

/* A link-local address (RFC 4291 2.5.6) is each machine's own to make. */
static bool own_ip6(const struct bridge_policy *p, const uint8_t ip[16])
{
	return !has_list(p) || packet_is_link_local(ip) || in_list(p, ip);
}

static bool is_guarded(const struct walk *w, struct ip ip)
{
	const struct bridge_lan *lan = w->lan;
	for (unsigned i = 0; i < __atomic_load_n(&lan->n, __ATOMIC_ACQUIRE); i++)
		if (ip_same(lan->ip[i], ip))
			return !w->policy->router || !__atomic_load_n(&lan->gateway[i], __ATOMIC_RELAXED);
	return false;
}

static bool of_host4(const struct walk *w, const uint8_t ip4[4])
{
	const struct bridge_lan *lan = w->lan;
	uint32_t ip;
	memcpy(&ip, ip4, sizeof(ip));
	return ip && (is_guarded(w, ip_of4(ip)) || ip == __atomic_load_n(&lan->leased, __ATOMIC_RELAXED) ||
		      ip == __atomic_load_n(&lan->probed, __ATOMIC_RELAXED) ||
		      (!w->policy->router && ip == __atomic_load_n(&lan->leased_gateway, __ATOMIC_RELAXED)));
}

static bool of_router(const struct walk *w, const uint8_t ip6[16], uint64_t id)
{
	if (w->policy->router || !packet_is_link_local(ip6))
		return false;
	for (unsigned i = 0; i < BRIDGE_ROUTERS; i++)
		if (__atomic_load_n(&w->lan->router[i], __ATOMIC_RELAXED) == id)
			return true;
	return false;
}

static bool of_host6(const struct walk *w, const uint8_t ip6[16])
{
	uint64_t id = get_le64(ip6 + 8);
	return is_guarded(w, ip_of6(ip6)) || (id && (id == w->lan->host_id || of_router(w, ip6, id)));
}

uint64_t bridge_rules_router(const uint8_t *h, size_t n)
{
	const uint8_t *ip = h + ETH_HLEN;
	if (n < BRIDGE_ROUTER_HEAD || get_be16(h + ETH_TYPE) != ETHERTYPE_IPV6 || ip[IP6_NEXT] != PROTO_ICMPV6 ||
	    ip[IP6_HOPS] != ND_HOPS || ip[IP6_HDR] != ND_RA || !packet_is_link_local(ip + IP6_SRC))
		return 0;
	return get_le64(ip + IP6_SRC + 8);
}

/* ---- from the outside inwards ---- */

static enum bridge_drop walk_ethernet(struct walk *w)
{
	static const uint8_t snap[2][6] = { { 0xaa, 0xaa, 3, 0, 0, 0 }, { 0xaa, 0xaa, 3, 0, 0, 0xf8 } };
	bool is_snap = false;
	w->l3 = ETH_HLEN;
	for (w->type = get_be16(w->h + ETH_TYPE);; w->type = get_be16(w->h + w->l3 - 2)) {
		bool tag = eth_is_tag(w->type);
		if (!tag && (w->type >= ETH_TYPE_FIRST || w->n < w->l3 + SNAP_LEN ||
			     (memcmp(w->h + w->l3, snap[0], 6) && memcmp(w->h + w->l3, snap[1], 6))))
			return BRIDGE_PASS;
		if (tag && (!w->policy->trunk || w->tags++ == ETH_TAGS))
			return BRIDGE_DROP_TAG;
		if ((!tag && is_snap) || (tag && w->n < w->l3 + ETH_TAG_LEN))
			return BRIDGE_DROP_MALFORMED;
		is_snap |= !tag;
		w->l3 += tag ? ETH_TAG_LEN : SNAP_LEN;
	}
}

static enum bridge_drop walk_arp(struct walk *w)
{
	const uint8_t *arp = w->h + w->l3;
	if (w->n < w->l3 + ARP_LEN || memcmp(arp, packet_arp_head, ARP_OP))
		return BRIDGE_DROP_ARP;
	w->l4 = w->judged = w->l3 + ARP_LEN;
	/* Who probes an address (RFC 5227 2.1.1) has no other one yet, and takes it away from its owner. */
	const uint8_t *claimed = memcmp(arp + ARP_SENDER_IP, zeros, 4) ? arp + ARP_SENDER_IP : arp + ARP_TARGET_IP;
	if (of_host4(w, claimed))
		return BRIDGE_DROP_HOST;
	bool own =
		own_ip4(w->policy, claimed) && (w->policy->any_mac || !memcmp(arp + ARP_SENDER_MAC, w->mac, ETH_ALEN));
	return own ? BRIDGE_PASS : BRIDGE_DROP_ARP;
}

/* What cannot be seen passes where nobody has to see it. */
static enum bridge_drop hidden(const struct walk *w, bool allowed)
{
	return allowed && !has_list(w->policy) ? BRIDGE_PASS : BRIDGE_DROP_HIDDEN;
}

/* Clients' raw sockets look at the destination's port alone, so what a server sends from does not matter. */
static enum bridge_drop walk_udp(struct walk *w, unsigned client)
{
	if (w->n < w->l4 + UDP_PORTS)
		return hidden(w, w->policy->dhcp_server);
	w->judged = w->l4 + UDP_PORTS;
	return !w->policy->dhcp_server && get_be16(w->h + w->l4 + UDP_DEST) == client ? BRIDGE_DROP_DHCP : BRIDGE_PASS;
}

static enum bridge_drop walk_ip4(struct walk *w)
{
	const uint8_t *ip = w->h + w->l3;
	size_t len = w->n < w->l3 + IP4_HDR ? 0 : (size_t)(ip[0] & 15) * 4;
	if (len < IP4_HDR || ip[0] >> 4 != 4 || w->n < w->l3 + len)
		return hidden(w, w->policy->dhcp_server);
	w->l4 = w->judged = w->l3 + len;
	if (of_host4(w, ip + IP4_SRC))
		return BRIDGE_DROP_HOST;
	bool udp = ip[IP4_PROTO] == PROTO_UDP && !(get_be16(ip + IP4_FRAG) & IP4_FRAGMENT_OFFSET);
	enum bridge_drop drop = udp ? walk_udp(w, DHCP_CLIENT) : BRIDGE_PASS;
	if (drop || own_ip4(w->policy, ip + IP4_SRC))
		return drop;
	/* Who has no address yet asks for his by DHCP. */
	bool asks = udp && !memcmp(ip + IP4_SRC, zeros, 4) && get_be16(w->h + w->l4 + UDP_DEST) == DHCP_SERVER;
	return asks ? BRIDGE_PASS : BRIDGE_DROP_IP;
}

static bool is_extension(uint8_t next)
{
	return next == NEXT_HOP_BY_HOP || next == NEXT_ROUTING || next == NEXT_FRAGMENT || next == NEXT_AH ||
	       next == NEXT_DEST_OPTIONS || next == NEXT_MOBILITY || next == NEXT_HIP || next == NEXT_SHIM6;
}

/*
 * The options of a neighbour discovery message (RFC 4861 4.6), from offset `at` to its end: all are seen, and
 * link-layer addresses are its own.
 */
static bool nd_options_ok(struct walk *w, size_t at)
{
	if (at > w->end || w->end > w->n)
		return false;
	while (at < w->end) {
		const uint8_t *o = w->h + at;
		size_t len = w->end < at + 8 ? 0 : (size_t)o[1] * 8;
		if (!len || w->end < at + len)
			return false;
		bool mac = o[0] == ND_OPT_SOURCE_MAC || o[0] == ND_OPT_TARGET_MAC;
		if (mac && !w->policy->any_mac && memcmp(o + 2, w->mac, ETH_ALEN))
			return false;
		at += len;
	}
	w->judged = at;
	return true;
}

static enum bridge_drop walk_icmp6(struct walk *w, bool fragment, bool no_source)
{
	if (w->n <= w->l4)
		return hidden(w, w->policy->router);
	const uint8_t *icmp = w->h + w->l4;
	uint8_t type = icmp[0];
	bool solicit = type == ND_NS, target = solicit || type == ND_NA;
	w->judged = w->l4 + 1;
	w->checksum = w->l4 + ICMP6_CSUM;
	if (type == ND_RA || type == ND_REDIRECT)
		return w->policy->router ? BRIDGE_PASS : BRIDGE_DROP_ROUTER;
	if (!target && type != ND_RS) {
		bool mld = type == MLD_REPORT1 || type == MLD_DONE || type == MLD_REPORT2;
		return no_source && !mld ? BRIDGE_DROP_IP : BRIDGE_PASS;
	}
	size_t len = target ? ND_TARGET + 16 : ND_TARGET;
	if (fragment || !nd_options_ok(w, w->l4 + len))
		return BRIDGE_DROP_ND;
	/* An answer is about its sender; a question is, if that has no address yet and asks for one (RFC 4862 5.4). */
	const uint8_t *ip = w->h + w->l3;
	bool claims = type == ND_NA || (solicit && !memcmp(ip + IP6_SRC, zeros, 16));
	if (claims && of_host6(w, icmp + ND_TARGET))
		return BRIDGE_DROP_HOST;
	return claims && !own_ip6(w->policy, icmp + ND_TARGET) ? BRIDGE_DROP_ND : BRIDGE_PASS;
}

static enum bridge_drop walk_ip6(struct walk *w)
{
	const uint8_t *ip = w->h + w->l3;
	bool free = w->policy->dhcp_server && w->policy->router, fragment = false;
	if (w->n < w->l3 + IP6_HDR || ip[0] >> 4 != 6)
		return hidden(w, free);
	bool no_source = has_list(w->policy) && !memcmp(ip + IP6_SRC, zeros, 16);
	if (of_host6(w, ip + IP6_SRC))
		return BRIDGE_DROP_HOST;
	if (!no_source && !own_ip6(w->policy, ip + IP6_SRC))
		return BRIDGE_DROP_IP;
	uint8_t next = ip[IP6_NEXT];
	w->end = w->l3 + IP6_HDR + get_be16(ip + IP6_PAYLOAD);
	w->l4 = w->judged = w->l3 + IP6_HDR;
	for (unsigned i = 0; is_extension(next); i++) {
		const uint8_t *x = w->h + w->l4;
		if (i == EXTENSIONS_MAX || w->n < w->l4 + 8)
			return hidden(w, free);
		size_t len = next == NEXT_FRAGMENT ? 8 : next == NEXT_AH ? (x[1] + 2UL) * 4 : (x[1] + 1UL) * 8;
		bool later = next == NEXT_FRAGMENT && get_be16(x + 2) & IP6_FRAGMENT_OFFSET;
		if (w->n < w->l4 + len)
			return hidden(w, free);
		if (next == NEXT_FRAGMENT) { /* what stands behind the packet's end is not what will follow there */
			fragment = true;
			w->n = MIN(w->n, w->end);
		}
		next = x[0];
		w->l4 = w->judged = w->l4 + len;
		if (later)
			return no_source ? BRIDGE_DROP_IP : BRIDGE_PASS;
	}
	if (next == PROTO_ICMPV6)
		return walk_icmp6(w, fragment, no_source);
	if (no_source)
		return BRIDGE_DROP_IP;
	return next == PROTO_UDP ? walk_udp(w, DHCP6_CLIENT) : BRIDGE_PASS;
}

/* ---- checksum and segments (virtio 1.2, 5.1.6.2) ---- */

/* Who finishes the checksum writes two bytes into the frame: into none that was judged. */
static bool checksum_fits(const struct walk *w, const struct frame *f)
{
	size_t at = (size_t)f->csum_start + f->csum_offset;
	return f->flags == FRAME_NEEDS_CSUM && f->csum_start >= w->l4 && at + 2 <= f->len &&
	       (at >= w->judged || at == w->checksum);
}

static bool segments_fit(const struct walk *w, struct frame *f)
{
	struct frame_tcp t;
	if ((f->gso != FRAME_GSO_TCPV4 && f->gso != FRAME_GSO_TCPV6) ||
	    !frame_find_tcp(&t, w->h, w->n, f->gso == FRAME_GSO_TCPV6))
		return false;
	f->hdr_len = (uint16_t)t.payload; /* drivers' own words are a hint, and not the same in all of them */
	return f->csum_start == t.tcp && f->csum_offset == TCP_CHECKSUM && f->len > t.payload &&
	       f->gso_size >= GSO_SIZE_MIN && t.payload - t.ip + f->gso_size <= w->lan->mtu;
}

enum bridge_drop bridge_rules_judge(const struct bridge_policy *p, const uint8_t mac[ETH_ALEN],
				    const struct bridge_lan *lan, struct frame *f, const uint8_t *h, size_t n)
{
	struct walk w = { .policy = p, .mac = mac, .lan = lan, .h = h, .n = n };
	if (n < ETH_HLEN || h[ETH_SRC] & 1)
		return BRIDGE_DROP_MALFORMED;
	if (!p->any_mac && memcmp(h + ETH_SRC, mac, ETH_ALEN) != 0)
		return BRIDGE_DROP_MAC;
	if (is_between_bridges(h))
		return BRIDGE_DROP_RESERVED;
	enum bridge_drop drop = walk_ethernet(&w);
	w.l4 = w.judged = w.l3;
	if (drop)
		return drop;
	switch (w.type) {
	case ETHERTYPE_TERN: drop = BRIDGE_DROP_HOST; break;
	case ETHERTYPE_MAC_CONTROL: drop = BRIDGE_DROP_RESERVED; break;
	case ETHERTYPE_ARP: drop = walk_arp(&w); break;
	case ETHERTYPE_IPV4: drop = walk_ip4(&w); break;
	case ETHERTYPE_IPV6: drop = walk_ip6(&w); break;
	default: break;
	}
	if (drop)
		return drop;
	if (f->gso == FRAME_GSO_NONE && f->len > ETH_HLEN + w.tags * ETH_TAG_LEN + lan->mtu)
		return BRIDGE_DROP_LONG;
	if (!f->flags && f->gso == FRAME_GSO_NONE)
		return BRIDGE_PASS;
	bool fits = checksum_fits(&w, f) && (f->gso == FRAME_GSO_NONE || segments_fit(&w, f));
	return fits ? BRIDGE_PASS : BRIDGE_DROP_OFFLOAD;
}

/* SPDX-License-Identifier: BSD-2-Clause */
/* Building the frames of an announcement (announce_frames.h). */
#include "net/announce_frames.h"
#include "net/packet.h"
#include <string.h>

/* ---- parts ---- */

static size_t padded(uint8_t *buf, size_t len)
{
	if (len < ETH_PADDED)
		memset(buf + len, 0, ETH_PADDED - len);
	return MAX(len, (size_t)ETH_PADDED);
}

static uint8_t *ethernet(uint8_t *buf, const uint8_t dst[ETH_ALEN], const uint8_t src[ETH_ALEN], unsigned type)
{
	memcpy(buf, dst, ETH_ALEN);
	memcpy(buf + ETH_SRC, src, ETH_ALEN);
	put_be16(buf + ETH_TYPE, type);
	return buf + ETH_HLEN;
}

static size_t arp(uint8_t *buf, const uint8_t mac[ETH_ALEN], unsigned type, uint8_t op, const uint8_t ip4[4],
		  const uint8_t target_mac[ETH_ALEN])
{
	static const uint8_t all[ETH_ALEN] = { 0xff, 0xff, 0xff, 0xff, 0xff, 0xff };
	uint8_t *p = ethernet(buf, all, mac, type);

	memcpy(p, packet_arp_head, ARP_OP);
	put_be16(p + ARP_OP, op);
	memcpy(p + ARP_SENDER_MAC, mac, ETH_ALEN);
	memcpy(p + ARP_SENDER_IP, ip4, 4);
	memcpy(p + ARP_TARGET_MAC, target_mac, ETH_ALEN);
	memcpy(p + ARP_TARGET_IP, ip4, 4);
	return padded(buf, ETH_HLEN + ARP_LEN);
}

/*
 * An IPv4 packet to a group of 224.0.0.0/24 with len bytes of IGMP, which are returned, zeroed: time to live 1, router
 * alert (RFC 3376, 4). igmp_end fills in its checksum.
 */
static uint8_t *igmp_begin(uint8_t *buf, const uint8_t mac[ETH_ALEN], const uint8_t src[4], uint8_t group, size_t len)
{
	static const uint8_t alert[] = { 0x94, 4, 0, 0 }; /* RFC 2113 */
	const uint8_t dst[ETH_ALEN] = { 0x01, 0x00, 0x5e, 0, 0, group }, ip[4] = { 224, 0, 0, group };
	uint8_t *p = ethernet(buf, dst, mac, ETHERTYPE_IPV4);
	size_t head = IP4_HDR + sizeof(alert);

	memset(p, 0, head + len);
	p[0] = (uint8_t)(0x40 | head / 4);
	p[1] = 0xc0; /* internetwork control (RFC 3376, 4) */
	put_be16(p + IP4_LEN, head + len);
	p[IP4_TTL] = 1;
	p[IP4_PROTO] = PROTO_IGMP;
	memcpy(p + IP4_SRC, src, 4);
	memcpy(p + IP4_DST, ip, 4);
	memcpy(p + IP4_HDR, alert, sizeof(alert));
	put_be16(p + IP4_CSUM, frame_checksum(p, head, 0));
	return p + head;
}

static size_t igmp_end(uint8_t *buf, uint8_t *igmp, size_t len)
{
	put_be16(igmp + IGMP_CSUM, frame_checksum(igmp, len, 0));
	return padded(buf, (size_t)(igmp + len - buf));
}

/* An IPv6 header to ff02::group; what follows is returned, zeroed. alert: hop-by-hop options with one come first. */
static uint8_t *icmp6_begin(uint8_t *buf, const uint8_t mac[ETH_ALEN], const uint8_t src[16], uint8_t group, bool alert,
			    size_t len)
{
	static const uint8_t options[] = { PROTO_ICMPV6, 0, 5, 2, 0, 0, 1, 0 }; /* RFC 2711; PadN */
	const uint8_t dst[ETH_ALEN] = { 0x33, 0x33, 0, 0, 0, group }, ip[16] = { 0xff, 0x02, [15] = group };
	uint8_t *p = ethernet(buf, dst, mac, ETHERTYPE_IPV6);
	size_t extra = alert ? sizeof(options) : 0;

	memset(p, 0, IP6_HDR + extra + len);
	p[0] = 0x60;
	put_be16(p + IP6_PAYLOAD, extra + len);
	p[IP6_NEXT] = alert ? PROTO_HOP_BY_HOP : PROTO_ICMPV6;
	p[IP6_HOPS] = alert ? 1 : ND_HOPS;
	memcpy(p + IP6_SRC, src, 16);
	memcpy(p + IP6_DST, ip, 16);
	memcpy(p + IP6_HDR, options, extra);
	return p + IP6_HDR + extra;
}

/* The checksum covers both addresses, length and protocol as well (RFC 8200, 8.1). */
static size_t icmp6_end(uint8_t *buf, uint8_t *icmp, size_t len)
{
	uint32_t pseudo = (uint16_t)~frame_checksum(buf + ETH_HLEN + IP6_SRC, 32, (uint32_t)len + PROTO_ICMPV6);
	put_be16(icmp + ICMP6_CSUM, frame_checksum(icmp, len, pseudo));
	return padded(buf, (size_t)(icmp + len - buf));
}

/* ---- frames ---- */

static const uint8_t zeros[16];

size_t announce_rarp(uint8_t *buf, const uint8_t mac[ETH_ALEN])
{
	return arp(buf, mac, ETHERTYPE_RARP, ARP_OP_REVERSE, zeros, mac);
}

size_t announce_arp(uint8_t *buf, const uint8_t mac[ETH_ALEN], const uint8_t ip4[4])
{
	return arp(buf, mac, ETHERTYPE_ARP, ARP_OP_REQUEST, ip4, zeros);
}

size_t announce_na(uint8_t *buf, const uint8_t mac[ETH_ALEN], const uint8_t ip6[16], bool router)
{
	uint8_t *p = icmp6_begin(buf, mac, ip6, 1, false, ND_NA_LEN);
	p[0] = ND_NA;
	p[ND_FLAGS] = (uint8_t)(ND_NA_OVERRIDE | (router ? ND_NA_ROUTER : 0));
	memcpy(p + ND_TARGET, ip6, 16);
	p[ND_OPTION] = ND_OPT_TARGET_MAC;
	p[ND_OPTION + 1] = 1; /* in units of 8 bytes */
	memcpy(p + ND_OPTION + 2, mac, ETH_ALEN);
	return icmp6_end(buf, p, ND_NA_LEN);
}

size_t announce_igmp_report(uint8_t *buf, const uint8_t mac[ETH_ALEN], const struct learn_state *s)
{
	unsigned n = 0;
	while (n < LEARN_GROUPS && !learn_is_free(s->group4 + 4 * n, 4))
		n++;
	if (!n)
		return 0;
	size_t len = IGMP_HDR + IGMP_RECORD * n;
	uint8_t *p = igmp_begin(buf, mac, s->ip4, 22, len); /* from 0.0.0.0 if it has no address (4.2.13) */
	p[0] = IGMP_REPORT3;
	put_be16(p + REPORT_RECORDS, n);
	for (unsigned i = 0; i < n; i++) {
		p[IGMP_HDR + IGMP_RECORD * i] = RECORD_IS_EXCLUDE;
		memcpy(p + IGMP_HDR + IGMP_RECORD * i + RECORD_GROUP, s->group4 + 4 * i, 4);
	}
	return igmp_end(buf, p, len);
}

/* The groups of an MLDv2 report, each once. */
static unsigned mld_groups(const struct learn_state *s, uint8_t group[ANNOUNCE_MLD_RECORDS][16])
{
	unsigned n = 0;
	for (; n < LEARN_GROUPS && !learn_is_free(s->group6 + 16 * n, 16); n++)
		memcpy(group[n], s->group6 + 16 * n, 16);
	for (unsigned i = 0; i < LEARN_IP6 && !learn_is_free(s->ip6 + 16 * i, 16); i++) {
		const uint8_t *ip = s->ip6 + 16 * i;
		const uint8_t own[16] = { 0xff, 0x02, [11] = 1, [12] = 0xff, ip[13], ip[14], ip[15] };
		unsigned k = 0;
		while (k < n && memcmp(group[k], own, 16))
			k++;
		if (k == n)
			memcpy(group[n++], own, 16);
	}
	return n;
}

size_t announce_mld_report(uint8_t *buf, const uint8_t mac[ETH_ALEN], const struct learn_state *s)
{
	uint8_t groups[ANNOUNCE_MLD_RECORDS][16];
	unsigned n = mld_groups(s, groups);
	const uint8_t *src = zeros; /* RFC 3810, 5.2.13: :: while there is no link-local address */
	if (!n)
		return 0;
	for (unsigned i = LEARN_IP6; i--;)
		if (packet_is_link_local(s->ip6 + 16 * i))
			src = s->ip6 + 16 * i;
	size_t len = MLD_HDR + MLD_RECORD * n;
	uint8_t *p = icmp6_begin(buf, mac, src, 22, true, len);
	p[0] = MLD_REPORT2;
	put_be16(p + REPORT_RECORDS, n);
	for (unsigned i = 0; i < n; i++) {
		p[MLD_HDR + MLD_RECORD * i] = RECORD_IS_EXCLUDE;
		memcpy(p + MLD_HDR + MLD_RECORD * i + RECORD_GROUP, groups[i], 16);
	}
	return icmp6_end(buf, p, len);
}

/* Who asks the guest: a MAC of local administration ("tern"), and the link-local address made of it. */
static const uint8_t asker[ETH_ALEN] = { 0x02, 't', 'e', 'r', 'n', 0 };
static const uint8_t asker_ip6[16] = { 0xfe, 0x80, [8] = 0x00, 't', 'e', 0xff, 0xfe, 'r', 'n', 0 };

size_t announce_igmp_query(uint8_t *buf)
{
	uint8_t *p = igmp_begin(buf, asker, zeros, 1, IGMP_QUERY_LEN);
	p[0] = IGMP_QUERY;
	p[IGMP_CODE] = 1; /* of 100 ms */
	p[IGMP_HDR] = QUERY_QRV;
	p[IGMP_HDR + 1] = QUERY_QQIC;
	return igmp_end(buf, p, IGMP_QUERY_LEN);
}

size_t announce_mld_query(uint8_t *buf)
{
	uint8_t *p = icmp6_begin(buf, asker, asker_ip6, 1, true, MLD_QUERY_LEN);
	p[0] = MLD_QUERY;
	put_be16(p + MLD_DELAY, 100); /* ms */
	p[MLD_LEN] = QUERY_QRV;
	p[MLD_LEN + 1] = QUERY_QQIC;
	return icmp6_end(buf, p, MLD_QUERY_LEN);
}

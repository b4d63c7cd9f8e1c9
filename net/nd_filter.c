/* SPDX-License-Identifier: BSD-2-Clause */
#include "net/nd_filter.h"
#include "net/packet.h"

static bool is_own(const struct nd_filter *f, struct ip ip)
{
	for (unsigned k = 0; k < f->nown; k++)
		if (ip_same(f->own[k], ip))
			return true;
	return false;
}

/* Does each link-layer address in the options of a message of n bytes say mac? */
static bool says_mac(const uint8_t *options, size_t n, const uint8_t mac[ETH_ALEN])
{
	for (size_t at = 0; at + 8 <= n && options[at + 1]; at += options[at + 1] * 8U)
		if ((options[at] == ND_OPT_SOURCE_MAC || options[at] == ND_OPT_TARGET_MAC) &&
		    memcmp(options + at + 2, mac, ETH_ALEN) != 0)
			return false;
	return true;
}

/* A solicitation is about its sender, an advertisement about its target. */
static bool takes_nothing(const struct nd_filter *f, const uint8_t *ip, size_t n)
{
	const uint8_t *icmp = ip + IP6_HDR;
	struct ip who;
	uint8_t mac[ETH_ALEN];
	if (n < IP6_HDR + ND_OPTION)
		return false;
	memcpy(who.b, icmp[0] == ND_NA ? icmp + ND_TARGET : ip + IP6_SRC, sizeof(who.b));
	if (is_own(f, who))
		return false;
	return !f->kept(who, mac) || says_mac(icmp + ND_OPTION, n - IP6_HDR - ND_OPTION, mac);
}

static bool icmp6_passes(const struct nd_filter *f, const uint8_t *ip, size_t n)
{
	switch (ip[IP6_HDR]) {
	case ND_NS:
	case ND_NA: return takes_nothing(f, ip, n);
	case ICMP6_ECHO:
	case ICMP6_ECHO_REPLY:
	case ND_RA: return true;
	default: return false; /* redirects; Packet Too Big, by which anyone could make segments of 0 bytes */
	}
}

bool nd_filter_passes(const struct nd_filter *f, const uint8_t *h, size_t n)
{
	const uint8_t *ip = h + ETH_HLEN, *next = ip + IP6_HDR;
	if (n < ETH_HLEN + IP6_HDR + 8)
		return false;
	switch (ip[IP6_NEXT]) {
	case PROTO_TCP: return true;
	case PROTO_ICMPV6: return icmp6_passes(f, ip, n - ETH_HLEN);
	case PROTO_HOP_BY_HOP: /* the router alert of a multicast listener query (RFC 3810 5) */
		return n > ETH_HLEN + IP6_HDR + 8 && next[0] == PROTO_ICMPV6 && !next[1] && next[8] == MLD_QUERY;
	default: return false; /* other extension headers, fragments, UDP */
	}
}

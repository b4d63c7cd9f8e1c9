/* SPDX-License-Identifier: BSD-2-Clause */
#include "net/nd_filter.h"
#include "net/packet.h"

enum { OPTION_LEN = 8 }; /* with an Ethernet address (RFC 4861 4.6.1) */

static bool is_own(const struct nd_filter *f, struct ip ip)
{
	for (unsigned k = 0; k < f->nown; k++)
		if (ip_same(f->own[k], ip))
			return true;
	return false;
}

static bool is_elsewhere(const struct nd_filter *f, struct ip ip)
{
	return !ip_is_none(ip) && !ip_is_link_local(ip) && f->elsewhere(f->arg, ip);
}

/*
 * A solicitation is about its sender, an advertisement about its target. Of options lwIP looks at the first, whatever
 * its type is, and takes an address from there: so it has to be one with an address.
 */
static bool takes_nothing(const struct nd_filter *f, const uint8_t *ip, size_t n)
{
	const uint8_t *icmp = ip + IP6_HDR, *option = icmp + ND_OPTION;
	bool answers = icmp[0] == ND_NA;
	uint8_t mac[ETH_ALEN];
	if (n < IP6_HDR + ND_OPTION)
		return false;
	const struct ip who = ip_of6(answers ? icmp + ND_TARGET : ip + IP6_SRC);
	if (!answers && ip_is_none(who))
		return true; /* it probes an address: lwIP answers, and keeps nothing */
	if (is_own(f, who) || is_elsewhere(f, who))
		return false;
	if (n == IP6_HDR + ND_OPTION)
		return true;
	if (n < IP6_HDR + ND_OPTION + OPTION_LEN || option[1] != 1 ||
	    option[0] != (answers ? ND_OPT_TARGET_MAC : ND_OPT_SOURCE_MAC))
		return false;
	return !f->kept(who, mac) || !memcmp(option + 2, mac, ETH_ALEN);
}

static bool icmp6_passes(const struct nd_filter *f, const uint8_t *ip, size_t n)
{
	switch (ip[IP6_HDR]) {
	case ND_NS:
	case ND_NA: return takes_nothing(f, ip, n);
	case ND_RA: return f->hears_routers;
	case ICMP6_ECHO:
	case ICMP6_ECHO_REPLY: return true;
	default: return false; /* redirects; Packet Too Big, by which anyone could make segments of 0 bytes */
	}
}

bool nd_filter_passes(const struct nd_filter *f, const uint8_t *h, size_t n)
{
	const uint8_t *ip = h + ETH_HLEN, *next = ip + IP6_HDR;
	if (n < ETH_HLEN + IP6_HDR + 8)
		return false;
	size_t len = IP6_HDR + (size_t)get_be16(ip + IP6_PAYLOAD); /* lwIP cuts off what is behind it */
	len = len < n - ETH_HLEN ? len : n - ETH_HLEN;
	if (len < IP6_HDR + 8 || is_elsewhere(f, ip_of6(ip + IP6_SRC)))
		return false;
	switch (ip[IP6_NEXT]) {
	case PROTO_TCP: return true;
	case PROTO_ICMPV6: return icmp6_passes(f, ip, len);
	case PROTO_HOP_BY_HOP: /* the router alert of a multicast listener query (RFC 3810 5) */
		return len > IP6_HDR + 8 && next[0] == PROTO_ICMPV6 && !next[1] && next[8] == MLD_QUERY;
	default: return false; /* other extension headers, fragments, UDP */
	}
}

/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Numbers of Ethernet frames and of what they carry. Offsets are from the start of the header that is named. Fields
 * are big-endian.
 */
#pragma once
#include "kernel/base/bits.h"

#define ETH_ALEN       6
#define ETH_SRC        6 /* behind the destination */
#define ETH_TYPE       12
#define ETH_HLEN       14
#define ETH_TAG_LEN    4     /* IEEE 802.1Q 9.3: a type of its own, then VLAN and priority */
#define ETH_TAG_VID    0xfff /* IEEE 802.1Q 9.6: in a tag's control information, the VLAN; 0: none, a priority alone */
#define ETH_TAGS       2     /* an S-TAG and a C-TAG */
#define ETH_DATA_MAX   1500
#define ETH_JUMBO_MAX  9000  /* no standard's; what servers' cards and switches carry */
#define ETH_TYPE_FIRST 0x600 /* below: a length, and LLC (IEEE 802.3 3.2.6) */

#define ETHERTYPE_IPV4        0x0800
#define ETHERTYPE_ARP         0x0806
#define ETHERTYPE_RARP        0x8035
#define ETHERTYPE_CTAG        0x8100 /* IEEE 802.1Q table 9-1 */
#define ETHERTYPE_IPV6        0x86dd
#define ETHERTYPE_MAC_CONTROL 0x8808 /* IEEE 802.3 31: PAUSE */
#define ETHERTYPE_STAG        0x88a8
#define ETHERTYPE_TERN        0x88b5 /* IEEE Std 802, local experimental 1: hosts among themselves (net/hostframe.h) */
#define ETHERTYPE_QINQ        0x9100 /* an S-TAG of before IEEE 802.1ad */

/* RFC 791, 8200 */
enum { IP4_LEN = 2, IP4_FRAG = 6, IP4_TTL = 8, IP4_PROTO = 9, IP4_CSUM = 10, IP4_SRC = 12, IP4_DST = 16, IP4_HDR = 20 };
enum { IP6_PAYLOAD = 4, IP6_NEXT = 6, IP6_HOPS = 7, IP6_SRC = 8, IP6_DST = 24, IP6_HDR = 40 };
#define IP4_FRAG_MASK 0x3fff /* of IP4_FRAG: it is a piece of a packet */

#define PROTO_ICMP   1
#define PROTO_TCP    6
#define PROTO_UDP    17
#define PROTO_ICMPV6 58

static inline bool eth_is_tag(uint16_t type)
{
	return type == ETHERTYPE_CTAG || type == ETHERTYPE_STAG || type == ETHERTYPE_QINQ;
}

/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What guests' ARP, neighbour discovery and multicast membership look like on the wire, for those who read it (learn.c,
 * bridge_rules.c) and those who write it (announce_frames.c). Offsets, each from the start of its own header.
 */
#pragma once
#include "kernel/base/ether.h"

enum { ETH_PADDED = 60 }; /* the shortest frame, without FCS */

/* RFC 826 for Ethernet and IPv4; 8: sender, then target, each a MAC and an address. */
enum { ARP_OP = 6, ARP_SENDER_MAC = 8, ARP_SENDER_IP = 14, ARP_TARGET_MAC = 18, ARP_TARGET_IP = 24, ARP_LEN = 28 };
static const uint8_t packet_arp_head[ARP_OP] = { 0, 1, ETHERTYPE_IPV4 >> 8, 0, ETH_ALEN, 4 };
enum { ARP_OP_REQUEST = 1, ARP_OP_REPLY = 2, ARP_OP_REVERSE = 3 /* RFC 903 */ };

/* fe80::/10 (RFC 4291, 2.5.6). */
static inline bool packet_is_link_local(const uint8_t ip6[16]) { return ip6[0] == 0xfe && (ip6[1] & 0xc0) == 0x80; }
enum { PROTO_HOP_BY_HOP = 0, PROTO_IGMP = 2 };

/* RFC 3376, 2236: 4 is the group of all but a version 3 report. A record: type, aux words, sources, group. */
enum { IGMP_CODE = 1, IGMP_CSUM = 2, IGMP_GROUP = 4, IGMP_HDR = 8, IGMP_QUERY_LEN = 12, IGMP_RECORD = 8 };
enum { IGMP_QUERY = 0x11, IGMP_REPORT1 = 0x12, IGMP_REPORT2 = 0x16, IGMP_LEAVE = 0x17, IGMP_REPORT3 = 0x22 };

enum { ICMP4_ECHO_REPLY = 0 };                     /* RFC 792 */
enum { ICMP6_ECHO = 128, ICMP6_ECHO_REPLY = 129 }; /* RFC 4443 4 */

/* RFC 3810, 2710 */
enum { MLD_DELAY = 4, MLD_GROUP = 8, MLD_HDR = 8, MLD_LEN = 24, MLD_QUERY_LEN = 28, MLD_RECORD = 20 };
enum { ICMP6_CSUM = 2, MLD_QUERY = 130, MLD_REPORT1 = 131, MLD_DONE = 132, MLD_REPORT2 = 143 };
/* Of both: */
enum { REPORT_RECORDS = 6, RECORD_AUX = 1, RECORD_SOURCES = 2, RECORD_GROUP = 4 };
enum { RECORD_IS_INCLUDE = 1, RECORD_IS_EXCLUDE, RECORD_TO_INCLUDE, RECORD_TO_EXCLUDE };
enum { QUERY_QRV = 2, QUERY_QQIC = 125 }; /* the defaults of RFC 3376, 8.1 and 8.2 */

/* RFC 4861 */
enum { ND_RS = 133, ND_RA = 134, ND_NS = 135, ND_NA = 136, ND_REDIRECT = 137 };
enum { ND_FLAGS = 4, ND_TARGET = 8, ND_OPTION = 24, ND_NA_LEN = 32, ND_HOPS = 255 };
enum { ND_NA_ROUTER = 0x80, ND_NA_OVERRIDE = 0x20, ND_OPT_SOURCE_MAC = 1, ND_OPT_TARGET_MAC = 2 };

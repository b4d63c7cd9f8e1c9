/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The frames of an announcement, byte by byte (announce.h says when they are sent). Each function builds one in buf and
 * returns its length, at least the Ethernet minimum, without FCS. Pure.
 */
#pragma once
#include "net/learn.h"

#define ANNOUNCE_MLD_RECORDS (LEARN_GROUPS + LEARN_IP6)
#define ANNOUNCE_FRAME_MAX   (14 + 40 + 8 + 8 + 20 * ANNOUNCE_MLD_RECORDS) /* an MLDv2 report is the longest */

/* For switches: a RARP request (RFC 903) whose sender and target are the MAC, without IP addresses. */
size_t announce_rarp(uint8_t *buf, const uint8_t mac[ETH_ALEN]);
/* Gratuitous ARP: a request for the guest's own address (RFC 5227, 3: an ARP Announcement). */
size_t announce_arp(uint8_t *buf, const uint8_t mac[ETH_ALEN], const uint8_t ip4[4]);
/* An unsolicited neighbour advertisement to all nodes that overrides what they know (RFC 4861, 7.2.6). */
size_t announce_na(uint8_t *buf, const uint8_t mac[ETH_ALEN], const uint8_t ip6[16], bool router);
/*
 * What the guest would answer to a general query: an IGMPv3 report (RFC 3376, 4.2) and an MLDv2 report (RFC 3810, 5.2),
 * the latter with the solicited-node groups of its addresses (RFC 4291, 2.7.1). 0: it has no group.
 */
size_t announce_igmp_report(uint8_t *buf, const uint8_t mac[ETH_ALEN], const struct learn_state *s);
size_t announce_mld_report(uint8_t *buf, const uint8_t mac[ETH_ALEN], const struct learn_state *s);
/*
 * General queries for the guest alone, to be answered within 100 ms: IGMPv3 from 0.0.0.0 (RFC 3376, 4.1.3; no older
 * version, which would put the guest into its compatibility mode for minutes, 7.2.1), MLDv2 from a link-local address,
 * because others are ignored (RFC 3810, 5.1.14).
 */
size_t announce_igmp_query(uint8_t *buf);
size_t announce_mld_query(uint8_t *buf);

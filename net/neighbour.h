/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Whom this host knows on its links, by ARP (RFC 826) and neighbour discovery (RFC 4861): lwIP's tables, and what keeps
 * others from using them against it. All under lwIP's core lock.
 */
#pragma once
#include "net/port.h"

/*
 * A host at ip has proved its key on a connection: for as long as such connections last it is where ARP has it now,
 * whatever ARP says then (a static neighbour). One keep that is true, one drop.
 */
bool neighbour_keep(struct ip ip);
void neighbour_drop(struct ip ip);
bool neighbour_had(void); /* is there such a connection, or was there one within the last minute? */
/* The MAC that an IPv6 peer is kept at, or false. */
bool neighbour_mac(struct ip ip, uint8_t mac[ETH_ALEN]);
/* Keep what was found since. Some ten times a second. */
void neighbour_tick(void);

/*
 * lwIP's tables hold a few, and forget one for each that is new. So who spoke to this host in the names of many that
 * are not there would make it lose all others: of those that it does not need to know, a few a second come in.
 * neighbour_knows: has lwIP its MAC? neighbour_must_ask: is `to` on n's link, and lwIP would have to ask? Then
 * neighbour_may_ask: it may do so now, or hear that one ask. Peers, gateways, the DHCP server and hosts that have
 * proved a key always are.
 */
bool neighbour_knows(struct netif *n, const ip4_addr_t *ip);
bool neighbour_knows6(const struct netif *n, const ip6_addr_t *ip);
bool neighbour_must_ask(struct netif *n, const ip4_addr_t *to);
bool neighbour_must_ask6(const struct netif *n, const ip6_addr_t *to);
bool neighbour_may_ask(struct net_if *i, struct ip ip);
/* Routers and prefixes of all networks share lwIP's tables: n keeps so many, whatever is advertised there. */
void neighbour_bound_routers(const struct netif *n);

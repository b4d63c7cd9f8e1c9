/* SPDX-License-Identifier: BSD-2-Clause */
/* tern's own network: lwIP on a port of the bridge. Called by kernel/main.c and by commands. */
#pragma once
#include "kernel/conf.h"
#include "kernel/base/err.h"
#include "net/stream.h"

/*
 * Bring up the networks that tern.conf describes (net_conf.h), each with its bridge, and lwIP's task. Problems go to
 * conf's list. DHCP and probing go on in the background. 0 or -errno (no NIC: -ENODEV, and the rest of tern still
 * runs).
 */
int net_init(struct conf *c);

/* What a network is for ([net NAME] use). */
#define NET_USE_MANAGEMENT 1 /* an operator reaches the host there */
#define NET_USE_MIGRATION  2 /* hosts speak with each other there, and nowhere else */
#define NET_USE_VM         4 /* guests' ports may be there */
#define NET_USE_STORAGE    8 /* the host reaches targets of disks there, and nowhere else */
#define NET_USES           15
extern const char *const net_use_words[];

/* "10.77.0.11", the host's first address, "" if it has none that it may use. */
const char *net_address(char buf[48]);

/* Does this host answer at that address? Any task. */
bool net_is_own_address(struct ip ip);
bool net_is_peer(struct ip ip); /* one of tern.conf's */

/*
 * The host's address and other hosts' (RFC 5227). An address is probed for 4 to 7 s (9 s with DHCP) before it is used;
 * while it is PROBING or in CONFLICT nothing answers at it and nothing is sent from it. What is in CONFLICT is probed
 * again each 10 to 20 s, later 60 to 70 s, and is OK as soon as the other host is gone.
 */
enum net_addr_state {
	NET_ADDR_NONE,    /* no network card of use */
	NET_ADDR_PROBING, /* not known yet: it is probed, or there is no link, or no answer of DHCP */
	NET_ADDR_OK,
	NET_ADDR_CONFLICT, /* another host has it */
};
/*
 * Can other hosts be asked about VMs? So of the networks for migrations alone, or a stranger on the guests' wire would
 * keep VMs from starting. Of several the one counts whose state matters most: CONFLICT, being probed, OK, waiting for
 * DHCP or a link. other_mac (NULL: not asked for) is set in CONFLICT. Any task.
 */
enum net_addr_state net_addr_state(uint8_t other_mac[6]);
/*
 * Sleep until it is no longer PROBING: 0 it may be used, -EADDRINUSE conflict, -ENETDOWN NONE, -ETIMEDOUT past the
 * deadline.
 */
int net_addr_settle(uint64_t deadline_ns);
/* Why this host has no address to send from to that host, and what to do: -ENETDOWN; 0: it has one. */
int net_addr_why(struct ip to, struct why *w);
/* What the network carries that leads to that host, in bytes per second; 0: not known. Sleeps. */
uint64_t net_line(struct ip ip);
/* Resolve a [peer NAME] or an address: 0 or -ENOENT/-EINVAL with the reason. */
int net_peer(const char *name, struct ip *ip, struct why *w);
/* The [peer] sections, in the file's order, for ever. */
const struct net_peer *net_peers(unsigned *n);
struct con;
void net_peers_show(struct con *c); /* print them, and what each has last shown of itself */
/* One that is in the file but wrong there, so that nobody can ask it: its name; "": none. */
const char *net_peer_lost(void);
/* Completion of a peer's name (struct con_sub). */
void net_peer_words(const char *what, void (*add)(void *arg, const char *word), void *arg);

/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Inside net/: tern's networks, each an uplink and, if the host has an address there, lwIP as ports of one bridge; and
 * what the files of the lwIP port share.
 *
 *     cards --- uplink (tags) --- port [bridge] port --- netif --- lwIP
 *                                  guests' ports
 */
#pragma once
#include "drivers/nic.h"
#include "lwip/acd.h"
#include "kernel/conf.h"
#include "lwip/ip_addr.h"
#include "lwip/netif.h"
#include "lwip/pbuf.h"
#include "lwip/tcpip.h"
#include "net/addr.h"
#include "net/bridge.h"
#include "net/uplink.h"

struct addr6 { /* what became of an interface's IPv6 address (RFC 4862) */
	enum net_addr_state state;
	bool waiting;      /* PROBING, and there is none yet: no link, or no router's word */
	struct ip ip;      /* what the state is about */
	uint64_t again_ns; /* CONFLICT: when it is probed again */
	struct ip all
		[LWIP_IPV6_NUM_ADDRESSES]; /* those in use, none between them: routers may advertise several prefixes */
};

struct net_if {                  /* (c) const after net_init  [L] lwIP's core lock  [a] "address" too */
	char name[NET_NAME_MAX]; /* (c) the section's name in tern.conf */
	uint32_t uses;           /* (c) NET_USE_* */
	struct uplink_net wire;  /* (c) */
	struct bridge *bridge;   /* (c) */
	struct bridge_port wire_port, ip_port;
	bool has_ip4, has_ip6;             /* (c) the host has, or may get, an address of that family here */
	bool announce;                     /* [a] atomic: the uplink is another card, tell who we are */
	struct netif netif;                /* [L] */
	bool dhcp;                         /* (c) */
	ip4_addr_t address, mask, gateway; /* (c) for a static address */
	struct acd acd;                    /* [L] the same; with DHCP lwIP has its own */
	struct addr addr;                  /* [a] */
	char text[24];                     /* [a] "10.77.0.11/24", the address in use, "" for none */
	struct conf_net6 net6;             /* (c) ip none: SLAAC */
	ip6_addr_t gateway6;               /* [L] static, or any */
	bool begun6;                       /* [L] */
	uint64_t link_local_ns;            /* [L] another host has it: when it is probed again; 0: none has */
	struct addr6 addr6;                /* [a] */
	uint64_t strangers_full_ns, strangers_told_ns; /* [L] neighbour.c */
};
/* The interfaces that net_init made, NULL past the end. */
struct net_if *net_if_get(unsigned i);

int net_sys_start(void) must_check; /* lwIP's heap and its task */
int netbuf_init(void) must_check;
/* n bytes of receive buffer as a pbuf chain, NULL: none free. Frees itself with pbuf_free. Any task. */
struct pbuf *netbuf_alloc(size_t n);
/* Move the bytes of p, a small packet, behind those of `to`: false, there is no room. p is then still to be freed. */
bool netbuf_join(struct pbuf *to, const struct pbuf *p);

/* hostframe.c: f came in by i's card. True: it is one between hosts, and has been dealt with. */
bool hostframe_input(struct net_if *i, const struct frame *f);

/* Plug lwIP into i->bridge with its address; lwIP is up and i's uplink known. */
int netif_attach(struct net_if *i) must_check;
/*
 * Core lock held. Of a connection between hosts: the network that `to` is on, else the first one for migrations that
 * has a gateway, else lwIP's default, NULL: none.
 */
struct netif *netif_way(const ip_addr_t *to);
struct netif *netif_way_for(const ip_addr_t *to, unsigned use); /* the same, for another of NET_USE_* */
struct netif *netif6_way(const ip6_addr_t *to);
struct netif *netif6_way_for(const ip6_addr_t *to, unsigned use);
/* Has a router said that this address is on n's link? Core lock held. */
bool netif6_has_prefix(const struct netif *n, const ip6_addr_t *to);
/* May lwIP see a frame, of which h has the first n bytes? Core lock held. */
bool netif6_hears(struct net_if *i, const uint8_t *h, size_t n);
/* Some ten times a second, core lock held: what i's IPv6 address has become. announces: the uplink is another card. */
void netif6_tick(struct net_if *i, bool announces, struct addr6 *a);
struct ip netif_ip_of(const ip_addr_t *a);
ip_addr_t netif_lwip_of(struct ip ip);
/* Which network it is, and what its MTU leaves to a TCP segment. */
struct net_if *netif_net(struct netif *n);
uint16_t netif_mss(struct netif *n, bool is6);
/* addr_if.c, core lock held: claim i's address. Once its netif is up. */
void addr_if_attach(struct net_if *i);
/* lwIP's ethernet_input, with an eye on ARP packets. */
err_t addr_if_input(struct net_if *i, struct pbuf *p);
/* For commands: i's address, or none. */
void addr_if_show(const struct net_if *i, struct host_address *out);
/* The address that lwIP has now, as text. */
void addr_if_set_text(struct net_if *i, const char text[24]);

#define NET_CORE_LOCK()   LOCK_TCPIP_CORE()
#define NET_CORE_UNLOCK() UNLOCK_TCPIP_CORE()

/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Inside net/: tern's interfaces, each a NIC and lwIP as two ports of one bridge, and what the files of the lwIP port
 * share.
 *
 *     NIC --- port [bridge] port --- netif --- lwIP
 *              guests' ports
 */
#pragma once
#include "drivers/nic.h"
#include "lwip/acd.h"
#include "lwip/ip4_addr.h"
#include "lwip/netif.h"
#include "lwip/pbuf.h"
#include "lwip/tcpip.h"
#include "net/addr.h"
#include "net/bridge.h"

struct net_if {          /* (c) const after net_init  [n] the NIC's task  [L] lwIP's core lock  [a] "address" too */
	char name[16];   /* (c) the section's name in tern.conf */
	struct nic *nic; /* (c) */
	struct bridge *bridge; /* (c) */
	struct bridge_port nic_port, ip_port;
	struct task *nic_task;             /* [n] the task that calls nic->rx */
	struct netif netif;                /* [L] */
	bool dhcp;                         /* (c) */
	ip4_addr_t address, mask, gateway; /* (c) for a static address */
	struct acd acd;                    /* [L] the same; with DHCP lwIP has its own */
	struct addr addr;                  /* [a] */
	char text[24];                     /* [a] "10.77.0.11/24", the address in use, "" for none */
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

/* Plug lwIP into i->bridge with its address; lwIP is up and i's NIC known. */
int netif_attach(struct net_if *i) must_check;
/* addr_if.c, core lock held: claim i's address. Once its netif is up. */
void addr_if_attach(struct net_if *i);
/* lwIP's ethernet_input, with an eye on ARP packets. */
err_t addr_if_input(struct net_if *i, struct pbuf *p);
/* The address that lwIP has now, as text. */
void addr_if_set_text(struct net_if *i, const char text[24]);

#define NET_CORE_LOCK()   LOCK_TCPIP_CORE()
#define NET_CORE_UNLOCK() UNLOCK_TCPIP_CORE()

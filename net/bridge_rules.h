/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What may pass the bridge: the header's bytes and the port's policy in, a reason out. Pure: no locks, no clocks. The
 * bytes must not change meanwhile, so a guest's are a copy (bridge_guest.h), and that copy is what leaves.
 *
 * Tags (IEEE 802.1Q) and LLC/SNAP (RFC 1042) are looked through. What ends, or hides behind more than BRIDGE_HEAD
 * bytes, before it can be told from what a guest may not send is dropped if the port has a rule that would have to see
 * it, and passes at a port that has none.
 */
#pragma once
#include "kernel/ip.h"
#include "kernel/frame.h"

#define BRIDGE_HEAD    256 /* bytes from a frame's start that are judged */
#define BRIDGE_IPS     8
#define BRIDGE_ROUTERS 8 /* of IPv6, that a network remembers */

/* Why a port's frame goes no further; bridge_drops has their names. */
enum bridge_drop {
	BRIDGE_PASS,
	BRIDGE_DROP_MAC,       /* its source MAC is not the port's */
	BRIDGE_DROP_BOUND,     /* its source MAC is at home at another port */
	BRIDGE_DROP_HOST,      /* hosts' own EtherType, or a host's address, or a router's, as its sender's */
	BRIDGE_DROP_ARP,       /* ARP that is malformed, or claims what is not the port's */
	BRIDGE_DROP_ND,        /* neighbour discovery (RFC 4861), likewise */
	BRIDGE_DROP_IP,        /* a source address that is not in the port's list */
	BRIDGE_DROP_DHCP,      /* a DHCP server's answer, IPv4 or IPv6 */
	BRIDGE_DROP_ROUTER,    /* a router advertisement or redirect */
	BRIDGE_DROP_HIDDEN,    /* headers that end before it is seen what they carry */
	BRIDGE_DROP_TAG,       /* a tag, and the port is no trunk; or more than ETH_TAGS */
	BRIDGE_DROP_MALFORMED, /* shorter than its header, from a group's MAC, or in too many pieces */
	BRIDGE_DROP_LONG,      /* more bytes behind header and tags than the network's MTU */
	BRIDGE_DROP_OFFLOAD,   /* a checksum or segments that do not fit its bytes */
	BRIDGE_DROP_RESERVED,  /* what no bridge forwards (IEEE 802.1Q 8.6.3), and switches' own words */
	BRIDGE_DROP_SERVICE,   /* of a guest to its host, and neither ARP nor ICMP */
	BRIDGE_DROP_STORM,     /* over the bound on frames that are flooded */
	BRIDGE_DROP_LEAVING,   /* the port is about to leave the bridge */
	BRIDGE_DROP_FULL,      /* out: no room in the port's queue */
	BRIDGE_DROP_REFUSED,   /* out: the port does not take it */
	BRIDGE_DROPS
};
struct bridge_drop_name {
	const char *name; /* a word, for tables and JSON */
	bool spoof;       /* the sender claims to be another: counted in `spoofed`; else in `dropped` */
	const char *says; /* what the guest does, for the log; NULL: nothing worth a line */
};
extern const struct bridge_drop_name bridge_drops[BRIDGE_DROPS];

/* What a guest's port may send. Const while the port is in a bridge. */
struct bridge_policy {
	bool any_mac; /* from any MAC that is not bound elsewhere; frames for them reach it */
	bool trunk;   /* up to ETH_TAGS tags of its own */
	bool dhcp_server, router;
	/* What it may use, IPv4 as ::ffff:a.b.c.d (RFC 4291 2.5.5.2); ends at one of zeros. Empty: any. */
	uint8_t ip[BRIDGE_IPS][16];
};

/* A network: what it carries, and the addresses on it that belong to hosts and routers. */
struct bridge_lan {
	unsigned mtu;     /* (c) bytes behind the Ethernet header and tags */
	uint64_t host_id; /* (c) the interface identifier of all addresses that this host makes itself there; 0: none */
	struct ip ip[80]; /* by tern.conf; only added to */
	bool gateway[80]; /* [a] a router's, which a guest may be that is allowed to be one */
	unsigned n;       /* [a] */
	/* Each one more, IPv4 in network order, 0: none. */
	uint32_t leased, leased_gateway; /* [a] by DHCP, for as long as the lease lasts */
	uint32_t probed;                 /* [a] for as long as this host probes it */
	/* Interface identifiers of link-local addresses that routers advertise from (RFC 4861 4.2); 0: none. */
	uint64_t router[BRIDGE_ROUTERS];   /* [a] */
	uint64_t heard_ns[BRIDGE_ROUTERS]; /* [bridge's lock] when they did last */
};

/*
 * A guest's frame f, of which h has the first n bytes, BRIDGE_HEAD or all of them: may it leave a port of that MAC and
 * policy? f's offload metadata is checked against h, and hdr_len becomes what h says.
 */
enum bridge_drop bridge_rules_judge(const struct bridge_policy *p, const uint8_t mac[ETH_ALEN],
				    const struct bridge_lan *lan, struct frame *f, const uint8_t *h, size_t n);
/* Whatever port it comes from: dst is a group that is for the next bridge alone. */
bool bridge_rules_reserved(const uint8_t dst[ETH_ALEN]);
/*
 * The interface identifier of a router that advertises itself by a frame from the wire, of which h has the first n
 * bytes; 0: it does not.
 */
uint64_t bridge_rules_router(const uint8_t *h, size_t n);
#define BRIDGE_ROUTER_HEAD (ETH_HLEN + 40 + 16) /* bytes that it wants: RFC 8200 3, 4861 4.2 */
/*
 * May a guest say that to its host? What an operator's ping of the guest needs: ARP, neighbour discovery, the answer;
 * and a router its advertisements. A tag hides it. h: the frame's first n bytes.
 */
bool bridge_rules_host_hears(const struct bridge_policy *p, const uint8_t *h, size_t n);

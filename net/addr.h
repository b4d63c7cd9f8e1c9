/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What became of an interface's IPv4 address: is it being probed, may it be used, does another host have it (RFC 5227)?
 * Probing and defending is done by lwIP's ACD module; net/addr_if.c tells here what that module was seen doing, and
 * does what it is told. Pure: no clock, no lock, no lwIP.
 *
 *     PROBING --- probed, nobody has it ---> OK --- a second conflict within 10 s ---> CONFLICT
 *        |                                    ^                                           |  ^
 *        +------- another host has it --------|-------------------------------------------|--+
 *                                             +--- probed again, nobody has it any more --+
 */
#pragma once
#include "net/net.h"

/* How far lwIP's ACD module is with an address. */
enum addr_acd {
	ADDR_ACD_OFF,
	ADDR_ACD_PROBES, /* not to be used yet */
	ADDR_ACD_HOLDS,  /* announced, and defended */
};

struct addr {
	bool dhcp;
	enum net_addr_state state;
	bool waiting;        /* PROBING, before the first probe: no link yet, or no answer of DHCP */
	bool link;           /* when last looked */
	uint32_t ip;         /* what the state is about, in network order; 0: DHCP has offered none yet */
	uint8_t other[6];    /* CONFLICT: who has it */
	unsigned conflicts;  /* in a row, without an OK between */
	uint64_t again_ns;   /* CONFLICT of a static address: when to probe again */
	uint8_t defended[6]; /* against whom last, which was told then */
	uint64_t defended_ns;
};

/* ip: the static address; with DHCP 0. */
void addr_init(struct addr *a, bool dhcp, uint32_t ip);

enum addr_todo {
	ADDR_NOTHING,
	ADDR_PROBE, /* start probing a->ip */
	ADDR_USE,   /* the interface may have the address now; with DHCP it already has */
};
/*
 * Some ten times a second. ip is the address that ACD or, with DHCP, the interface has (0: none); bound: the interface
 * has it. A static address is to be probed only when there is a link, without which nobody hears a probe, and once more
 * when the link comes back: it stays in use meanwhile, so that connections outlive a cable that was pulled.
 */
enum addr_todo addr_tick(struct addr *a, uint64_t now_ns, enum addr_acd acd, uint32_t ip, bool link, bool bound);

enum addr_news {
	ADDR_QUIET,
	ADDR_TAKEN,    /* say that it is not used, because a->other has it */
	ADDR_GIVEN_UP, /* the same, and it was in use until now */
	ADDR_DEFENDED, /* say that a->defended uses it too, and was answered */
};
/* An ARP packet that came in, and what ACD made of it. */
struct addr_seen {
	enum addr_acd before, after;
	bool defended;      /* ACD has answered it with an announcement */
	uint32_t ip;        /* that ACD was about, in network order: DHCP may have got it since the last addr_tick() */
	const uint8_t *mac; /* its sender, 6 bytes */
};
/* random makes hosts that have met try again at different times. */
enum addr_news addr_arp(struct addr *a, uint64_t now_ns, const struct addr_seen *s, uint32_t random);

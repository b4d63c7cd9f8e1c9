/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The Link Aggregation Control Protocol (IEEE Std 802.1AX-2014, 6.4; before that 802.3ad): over which of a bond's cards
 * the switch takes frames. Ours is the active side with the short timeout, and always willing to aggregate. No clocks,
 * no I/O, no locks: all of one struct lacp is under its owner's.
 *
 *   link up, partner heard in the last 3 s, of the chosen group     -> we are in sync
 *   and the partner is in sync with what we say of this port        -> we collect
 *   and it collects                                                 -> we distribute
 */
#pragma once
#include "kernel/base/bits.h"
#include "kernel/base/ether.h"
#include "net/net_conf.h"

#define LACP_TYPE 0x8809                   /* EtherType of the slow protocols (IEEE 802.3 57A) */
#define LACP_LEN  110                      /* of each of their PDUs that are known here, behind the Ethernet header */
extern const uint8_t lacp_group[ETH_ALEN]; /* where they are sent to */

struct lacp_info { /* what a side says of one of its ports; a group's are those of equal system and key */
	uint16_t system_priority;
	uint8_t system[ETH_ALEN];
	uint16_t key, port_priority, port;
	uint8_t state; /* LACP_* */
};
enum { /* 6.4.2.3 */
       LACP_ACTIVITY = 1,
       LACP_SHORT = 2, /* timeout */
       LACP_AGGREGATION = 4,
       LACP_SYNC = 8,
       LACP_COLLECTING = 16,
       LACP_DISTRIBUTING = 32,
       LACP_DEFAULTED = 64,
       LACP_EXPIRED = 128
};
struct lacp_port {
	struct lacp_info actor, partner;
	bool up, current;    /* it has a link; the partner was heard in time */
	bool matched;        /* what the partner says of us is what we say */
	bool tell;           /* we have something to say (NTT) */
	uint64_t expires_ns; /* of the partner, and of EXPIRED after that */
	uint64_t due_ns;     /* of the next PDU */
	uint64_t full_ns;    /* gcra: three PDUs a second at most */
};
struct lacp {
	struct lacp_port port[NET_LEGS_MAX];
	unsigned n;
	int chosen; /* a port of the group in use, -1: no partner */
	struct lacp_info group;
};
#define LACP_AGAIN_NS (333 * NS_PER_MS) /* after lacp_unsent */

void lacp_init(struct lacp *l, const uint8_t system[ETH_ALEN], unsigned n);
void lacp_link(struct lacp *l, unsigned port, bool up, uint64_t now_ns);
/*
 * What came in at a port behind the header of a frame of LACP_TYPE. True: it wants an answer (a Marker PDU), which is
 * written over it.
 */
bool lacp_hear(struct lacp *l, unsigned port, uint8_t pdu[LACP_LEN], uint64_t now_ns);
/* The ports that have a PDU to send now, as bits, and when to ask again. */
unsigned lacp_due(struct lacp *l, uint64_t now_ns, uint64_t *next_ns);
void lacp_write(const struct lacp *l, unsigned port, uint8_t pdu[LACP_LEN]);
void lacp_unsent(struct lacp *l, unsigned port); /* the card did not take it */
/*
 * The ports that frames are taken from and sent over, as bits. Where no partner was heard for 3 s: the first with a
 * link, for a switch that knows nothing of this.
 */
unsigned lacp_collects(const struct lacp *l);
unsigned lacp_distributes(const struct lacp *l);

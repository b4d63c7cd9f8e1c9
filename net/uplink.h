/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What carries networks: a card, or several cards. Of those one is in use and another takes over when its link is down
 * (active-backup: nothing is asked of the switch), or all that lacp.h agrees on with the switch are, each for its share
 * of the flows (802.3ad). Here each network's VLAN tag (IEEE 802.1Q) is put on and taken off. What is heard by a card
 * that is not in use is dropped: it is what the switch floods, and has been heard already.
 */
#pragma once
#include "drivers/nic.h"
#include "net/net_conf.h"

struct uplink;
struct fair;
struct uplink_net { /* one network of an uplink; its owner's */
	/* (c) Set by the owner before uplink_add. */
	uint16_t vlan;                          /* 0: frames without a tag */
	unsigned mtu;                           /* bytes behind the Ethernet header and tags */
	bool aggregates;                        /* over a bond with 802.3ad */
	bool takes_tags;                        /* and those with a tag that no other network takes */
	void (*rx)(void *arg, struct frame *f); /* in a card's task; borrowed */
	void (*back)(void *arg); /* the uplink's link is up again, or at another card. Interrupt context */
	void *arg;
	struct uplink *u; /* (c) uplink.c's */
};

/* Once for each network; the cards' uplink is made with the first. Before uplink_start_all. */
void uplink_add(struct uplink_net *n, const char *name, struct nic *const *card, unsigned ncards);
/* Start the cards. One that does not start is logged, and its link never up. True if any did. */
bool uplink_start_all(void);

/* Who may fill it (fair.h), of all its networks. After uplink_add. */
struct fair *uplink_fair(const struct uplink_net *n);
/* As nic_ops.tx and tx_room. */
int uplink_send(const struct uplink_net *n, const struct frame *f);
unsigned uplink_room(const struct uplink_net *n, size_t len);
bool uplink_is_up(const struct uplink_net *n);
/* What a flow gets at most, in Mbit/s: of the cards in use the fastest one's. 0: not known. */
unsigned uplink_mbit(const struct uplink_net *n);
/* What it sends unfinished: what all its cards do. */
unsigned uplink_offloads(const struct uplink_net *n);
/* The first card's, which the host uses whichever card is in use. */
const uint8_t *uplink_mac(const struct uplink_net *n);
const char *uplink_name(const struct uplink_net *n);
/* The i-th card, NULL past the end; *used: it sends. */
struct nic *uplink_card(const struct uplink_net *n, unsigned i, bool *used);
/* The system (LACP) of the switch that the i-th card is at; false: none was heard in time. */
bool uplink_partner(const struct uplink_net *n, unsigned i, uint8_t system[ETH_ALEN]);

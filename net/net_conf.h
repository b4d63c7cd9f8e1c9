/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * [nic NAME], [bond NAME], [net NAME] and [peer NAME] of tern.conf, and what they come to: networks, each over a card
 * or a bond of cards, with or without a tag. A [nic] that no other section names is a network of its own name, for all
 * uses; so a file with one [nic], or with none, needs no [net]. What is wrong fails closed: a [net] with a wrong line
 * is not there, rather than on another wire or for other uses, and while one names no card, a card becomes a network
 * by itself only if its section has an address. No lwIP.
 */
#pragma once
#include "drivers/nic.h"
#include "kernel/conf.h"
#include "net/net.h"

#define NET_NICS_MAX  8
#define NET_BONDS_MAX 4
#define NET_LEGS_MAX  4 /* cards of a bond */
#define NET_IF_MAX    8
#define NET_NAME_MAX  CONF_NAME_MAX
#define NET_VLAN_MAX  4094 /* IEEE 802.1Q 9.6 */

enum bond_mode { BOND_ACTIVE_BACKUP, BOND_802_3AD };
struct nic_conf {
	char name[NET_NAME_MAX];
	struct nic *card;
	struct conf_card match;  /* zeros: the first card that no other section has */
	struct conf_net address; /* of the network that it is alone */
	uint32_t gateway;        /* network order, 0: none */
	struct conf_net6 address6;
	struct ip gateway6;
	bool taken; /* a [bond] or a [net] names it */
};
struct bond_conf {
	char name[NET_NAME_MAX];
	char nics[NET_LEGS_MAX * (NET_NAME_MAX + 4)]; /* as written */
	uint32_t mode;                                /* enum bond_mode */
	struct nic *card[NET_LEGS_MAX];
	unsigned ncards;
	bool taken;
};
struct if_conf { /* a network */
	char name[NET_NAME_MAX];
	char over[NET_NAME_MAX]; /* [nic] or [bond] */
	struct nic *card[NET_LEGS_MAX];
	unsigned ncards; /* of its bond, or 1 */
	bool aggregates; /* the bond speaks LACP */
	uint32_t vlan;   /* 0: without a tag */
	uint32_t mtu;
	struct conf_net address; /* ip 0: DHCP, or with CONF_NET_NONE no IP of the host's */
	uint32_t gateway;
	struct conf_net6 address6; /* with CONF_NET_NONE no IPv6 of the host's */
	struct ip gateway6;
	uint32_t uses; /* NET_USE_* */
};
struct net_conf {
	struct nic_conf nic[NET_NICS_MAX]; /* whose card is there */
	struct bond_conf bond[NET_BONDS_MAX];
	struct if_conf net[NET_IF_MAX];
	struct net_peer peer[NET_PEERS_MAX];
	char lost_peer[32]; /* the name of one that is in the file, and not in peer[]; "": none */
	unsigned nnics, nbonds, nnets, npeers;
	bool unsure; /* a [bond] or [net] names no section of the file: which card it means is not known */
};
extern const struct conf_table nic_conf_table, bond_conf_table, if_conf_table, peer_conf_table;

/* Into n, zeros before; without a [nic] section "lan" is the first card. */
void net_conf_read(struct conf *c, struct net_conf *n);

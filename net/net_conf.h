/* SPDX-License-Identifier: BSD-2-Clause */
/* [nic NAME] and [peer NAME] of tern.conf, and which card each [nic] means. No lwIP. */
#pragma once
#include "drivers/nic.h"
#include "kernel/conf.h"
#include "net/net.h"

#define NET_IF_MAX 4

struct nic_conf {
	char name[16];
	struct nic *card;
	uint8_t match[ETH_ALEN]; /* zeros: the first card that no other section has */
	struct conf_net address; /* ip 0: DHCP */
	uint32_t gateway;        /* network order, 0: none */
};
struct net_conf {
	struct nic_conf nic[NET_IF_MAX]; /* whose card is there */
	struct net_peer peer[NET_PEERS_MAX];
	unsigned nnics, npeers;
};
extern const struct conf_table nic_conf_table, peer_conf_table;

/* Into n, zeros before; without a [nic] section "lan" is the first card, with DHCP. */
void net_conf_read(struct conf *c, struct net_conf *n);

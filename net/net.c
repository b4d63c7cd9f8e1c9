/* SPDX-License-Identifier: BSD-2-Clause */
/* tern's network as tern.conf describes it: which NIC has which address, and the names of the other hosts. */
#include "net/net.h"
#include "kernel/log.h"
#include "kernel/task.h"
#include "net/announce.h"
#include "net/net_conf.h"
#include "net/port.h"
#include <stdio.h>
#include <string.h>

static struct net_conf conf;          /* (c) after net_init */
static struct net_if ifs[NET_IF_MAX]; /* (c) after net_init */
static unsigned nifs;

struct net_if *net_if_get(unsigned i) { return i < nifs ? &ifs[i] : NULL; }

/* ---- a NIC as a port of its bridge ---- */

static void nic_received(void *arg, struct frame *f)
{
	struct net_if *i = arg;
	__atomic_store_n(&i->nic_task, task_self(), __ATOMIC_RELAXED);
	if (!hostframe_input(i, f)) /* those between hosts go no further: guests do not see them */
		(void)bridge_input(&i->nic_port, f);
}

static int nic_send(void *arg, const struct frame *f)
{
	struct net_if *i = arg;
	return i->nic->ops->tx(i->nic, f);
}

/* Whatever it was connected to may have forgotten where our guests are, or be another switch. */
static void nic_link_back(void *arg) { announce_again(((struct net_if *)arg)->bridge); }

static unsigned nic_room(void *arg)
{
	struct net_if *i = arg;
	return i->nic->ops->tx_room(i->nic);
}

static void nic_attach(struct net_if *i)
{
	struct nic *n = i->nic;
	i->nic_port = (struct bridge_port){ .send = nic_send, .room = nic_room, .arg = i };
	sniprintf(i->nic_port.name, sizeof(i->nic_port.name), "%s", n->name);
	i->nic_port.offloads = n->offloads;
	bridge_add(i->bridge, &i->nic_port);
	n->rx = nic_received;
	n->link_back = nic_link_back;
	n->rx_arg = i;
}

/* No guest of this host may pose as a host: as this one, or as a peer. */
static void guard_addresses(struct net_if *i)
{
	if (!ip4_addr_isany_val(i->address))
		bridge_guard_ip4(i->bridge, (const uint8_t *)&i->address.addr);
	for (unsigned p = 0; p < conf.npeers; p++)
		bridge_guard_ip4(i->bridge, (const uint8_t *)&conf.peer[p].ip);
}

static int if_add(const struct nic_conf *n)
{
	struct net_if *i = &ifs[nifs];
	*i = (struct net_if){ .nic = n->card,
			      .dhcp = !n->address.ip,
			      .address = { n->address.ip },
			      .mask = { conf_net_mask(n->address) },
			      .gateway = { n->gateway } };
	memcpy(i->name, n->name, sizeof(i->name));
	int err = bridge_create(&i->bridge, i->name);
	if (err)
		return err;
	guard_addresses(i);
	nifs++;
	nic_attach(i);
	err = nic_start(i->nic); /* first, so that lwIP's announcement of its address finds it sending */
	if (err)
		goto fail;
	err = netif_attach(i);
	if (err)
		goto fail;
	return 0;
fail:
	log_error("net: %s (%s) is not usable: %s", i->name, i->nic->name, err_name(err));
	return err;
}

int net_init(struct conf *c)
{
	net_conf_read(c, &conf);
	int err = netbuf_init();
	if (err)
		return err;
	err = net_sys_start();
	if (err)
		return err;
	err = -ENODEV;
	for (unsigned i = 0; i < conf.nnics; i++)
		if (if_add(&conf.nic[i]) == 0)
			err = 0;
	/* Guests of a host without a network still have each other. */
	struct bridge *alone;
	if (!bridge_default() && bridge_create(&alone, "lan"))
		return -ENOMEM;
	return err;
}

const struct net_peer *net_peers(unsigned *n)
{
	*n = conf.npeers;
	return conf.peer;
}

int net_peer(const char *name, uint32_t *ip, struct why *w)
{
	if (conf_parse_ip4(name, ip) == 0)
		return 0;
	for (unsigned i = 0; i < conf.npeers; i++) {
		if (strcmp(conf.peer[i].name, name) == 0) {
			*ip = conf.peer[i].ip;
			return 0;
		}
	}
	if (name[0] >= '0' && name[0] <= '9')
		return why_set(w, -EINVAL, "%s is not an address: write it as 10.77.0.12", name);
	return why_set(w, -ENOENT, "no host %s: give its address, or name it in tern.conf: [peer %s] address = A.B.C.D",
		       name, name);
}

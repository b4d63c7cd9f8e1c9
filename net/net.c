/* SPDX-License-Identifier: BSD-2-Clause */
/* The networks that tern.conf describes, and the names of the other hosts. */
#include "net/net.h"
#include "kernel/log.h"
#include "net/announce.h"
#include "net/net_conf.h"
#include "net/port.h"
#include <stdio.h>
#include <string.h>

static struct net_conf conf;          /* (c) after net_init */
static struct net_if ifs[NET_IF_MAX]; /* (c) after net_init */
static unsigned nifs;

struct net_if *net_if_get(unsigned i) { return i < nifs ? &ifs[i] : NULL; }

/* ---- the uplink as a port of its network's bridge ---- */

static void wire_received(void *arg, struct frame *f)
{
	struct net_if *i = arg;
	if (!hostframe_input(i, f)) /* those between hosts go no further: guests do not see them */
		(void)bridge_input(&i->wire_port, f);
}

static int wire_send(void *arg, const struct frame *f) { return uplink_send(&((struct net_if *)arg)->wire, f); }

static unsigned wire_room(void *arg, size_t len) { return uplink_room(&((struct net_if *)arg)->wire, len); }

static void wire_back(void *arg)
{
	struct net_if *i = arg;
	__atomic_store_n(&i->announce, true, __ATOMIC_RELAXED);
	announce_again(i->bridge);
}

/* No guest of this host may pose as a host, this one, on any of its networks, or a peer; or as the router to one. */
static void guard_addresses(struct net_if *i)
{
	for (unsigned n = 0; n < conf.nnets; n++) {
		bridge_guard(i->bridge, ip_of4(conf.net[n].address.ip), false);
		bridge_guard(i->bridge, ip_of4(conf.net[n].gateway), true);
		bridge_guard(i->bridge, conf.net[n].address6.ip, false);
		bridge_guard(i->bridge, conf.net[n].gateway6, true);
	}
	for (unsigned p = 0; p < conf.npeers; p++)
		bridge_guard(i->bridge, conf.peer[p].ip, false);
}

/* Nobody else knows the network before it is counted. */
static int if_add(const struct if_conf *n)
{
	struct net_if *i = &ifs[nifs];
	*i = (struct net_if){ .uses = n->uses,
			      .has_ip4 = n->address.prefix != CONF_NET_NONE,
			      .has_ip6 = n->address6.prefix != CONF_NET_NONE,
			      .net6 = n->address6,
			      .dhcp = n->address.prefix != CONF_NET_NONE && !n->address.ip,
			      .address = { n->address.ip },
			      .mask = { conf_net_mask(n->address) },
			      .gateway = { n->gateway },
			      .wire = { .vlan = (uint16_t)n->vlan,
					.mtu = n->mtu,
					.aggregates = n->aggregates,
					.takes_tags = n->uses & NET_USE_VM, /* a guest's own, maybe */
					.rx = wire_received,
					.back = wire_back,
					.arg = i } };
	memcpy(i->name, n->name, sizeof(i->name));
	memcpy(i->gateway6.addr, n->gateway6.b, sizeof(n->gateway6.b));
	int err = bridge_create(&i->bridge, i->name, n->mtu, n->uses & NET_USE_VM);
	if (err)
		return err;
	guard_addresses(i);
	uplink_add(&i->wire, n->over, n->card, n->ncards);
	i->wire_port = (struct bridge_port){ .fair = uplink_fair(&i->wire),
					     .send = wire_send,
					     .room = wire_room,
					     .arg = i,
					     .offloads = uplink_offloads(&i->wire) };
	sniprintf(i->wire_port.name, sizeof(i->wire_port.name), "%s", n->ncards > 1 ? n->over : n->card[0]->name);
	bridge_add(i->bridge, &i->wire_port);
	nifs++;
	return 0;
}

static int netifs_attach(void)
{
	int err = -ENODEV;
	for (unsigned n = 0; n < nifs; n++) {
		struct net_if *i = &ifs[n];
		int e = i->has_ip4 || i->has_ip6 ? netif_attach(i) : 0;
		if (e)
			log_error("net: %s is not usable: %s", i->name, err_name(e));
		else
			err = 0;
	}
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
	for (unsigned i = 0; i < conf.nnets && !err; i++)
		err = if_add(&conf.net[i]);
	/* Guests of a host without a network still have each other. No VM arrives there. */
	struct bridge *alone;
	if (!err && !nifs)
		err = bridge_create(&alone, "lan", ETH_DATA_MAX, true);
	if (err)
		return err;
	/* The cards first, so that lwIP's announcement of its address finds them sending. */
	return uplink_start_all() ? netifs_attach() : -ENODEV;
}

const struct net_peer *net_peers(unsigned *n)
{
	*n = conf.npeers;
	return conf.peer;
}

bool net_is_peer(struct ip ip)
{
	for (unsigned i = 0; i < conf.npeers; i++)
		if (ip_same(conf.peer[i].ip, ip))
			return true;
	return false;
}

const char *net_peer_lost(void) { return conf.lost_peer; }

int net_peer(const char *name, struct ip *ip, struct why *w)
{
	if (ip_parse(name, ip) == 0)
		return 0;
	for (unsigned i = 0; i < conf.npeers; i++) {
		if (strcmp(conf.peer[i].name, name) == 0) {
			*ip = conf.peer[i].ip;
			return 0;
		}
	}
	if (name[0] >= '0' && name[0] <= '9')
		return why_set(w, -EINVAL, "%s is not an address: write it as 10.77.0.12 or fd00::c", name);
	return why_set(w, -ENOENT, "no host %s: there is no [peer %s] in tern.conf", name, name);
}

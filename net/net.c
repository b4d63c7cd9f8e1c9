/* SPDX-License-Identifier: BSD-2-Clause */
/* tern's network as tern.conf describes it: which NIC has which address, and the names of the other hosts. */
#include "net/net.h"
#include "kernel/log.h"
#include "kernel/task.h"
#include "lwip/ip_addr.h"
#include "net/port.h"
#include <stdio.h>
#include <string.h>

#define PEER_MAX 32

static struct net_if ifs[NET_IF_MAX]; /* (c) after net_init */
static unsigned nifs;
static struct {
	char name[32], addr[20];
} peers[PEER_MAX]; /* (c) after net_init */
static unsigned npeers;

struct net_if *net_if_get(unsigned i) { return i < nifs ? &ifs[i] : NULL; }

/* lwIP's own parser also takes 10.1 and 0x0a.1. */
int net_parse_ip4(const char *s, ip4_addr_t *a)
{
	uint8_t b[4];
	for (unsigned i = 0; i < 4; i++) {
		unsigned v = 0, digits = 0;
		for (; *s >= '0' && *s <= '9' && digits < 4; s++, digits++)
			v = v * 10 + (unsigned)(*s - '0');
		if (!digits || digits > 3 || v > 255 || *s++ != (i < 3 ? '.' : 0))
			return -EINVAL;
		b[i] = (uint8_t)v;
	}
	IP4_ADDR(a, b[0], b[1], b[2], b[3]);
	return 0;
}

/* "10.77.0.11/24" */
static int parse_cidr(const char *s, ip4_addr_t *a, ip4_addr_t *mask)
{
	char addr[20];
	uint64_t bits;
	const char *slash = strchr(s, '/');
	if (!slash || (size_t)(slash - s) >= sizeof(addr) || conf_parse_uint(slash + 1, 30, &bits) || bits < 1)
		return -EINVAL;
	memcpy(addr, s, (size_t)(slash - s));
	addr[slash - s] = 0;
	ip4_addr_set_u32(mask, __builtin_bswap32(~0U << (32 - bits)));
	return net_parse_ip4(addr, a);
}

static void peers_read(struct conf *c)
{
	const char *name;
	for (unsigned i = 0; (name = conf_section(c, "peer", i)); i++) {
		ip4_addr_t a;
		const char *addr = conf_get(c, "peer", name, "address");
		int line = conf_line(c, "peer", name, "address");
		if (!addr || net_parse_ip4(addr, &a)) {
			conf_problem(c, line, "peer %s needs an address, such as: address = 10.77.0.12", name);
		} else if (npeers == PEER_MAX) {
			conf_problem(c, line, "peer %s is one too many: at most %d", name, PEER_MAX);
		} else {
			sniprintf(peers[npeers].name, sizeof(peers[0].name), "%s", name);
			sniprintf(peers[npeers++].addr, sizeof(peers[0].addr), "%s", addr);
		}
	}
}

/* The NIC that [nic name] means: the first that no other section has, or the one with that MAC. */
static struct nic *nic_match(struct conf *c, const char *name)
{
	const char *match = name ? conf_get(c, "nic", name, "match") : NULL;
	uint8_t mac[ETH_ALEN];
	bool any = !match || strcmp(match, "first") == 0;
	int line = name ? conf_line(c, "nic", name, "match") : 0;
	if (!any && conf_parse_mac(match, mac)) {
		conf_problem(c, line, "match = %s: write `first` or the card's MAC, such as 52:54:00:00:00:01", match);
		return NULL;
	}
	struct nic *n;
	for (unsigned i = 0; (n = nic_get(i)); i++) {
		bool taken = false;
		for (unsigned k = 0; k < nifs; k++)
			taken |= ifs[k].nic == n;
		if (!taken && (any || memcmp(mac, n->mac, ETH_ALEN) == 0))
			return n;
	}
	if (nic_get(0) || name)
		conf_problem(c, line, "nic %s: %s. See `nic` for the cards there are", name ? name : "lan",
			     any ? "no network card is left for it" : "no network card has this MAC");
	return NULL;
}

static void address_read(struct conf *c, struct net_if *i, const char *name)
{
	const char *address = name ? conf_get(c, "nic", name, "address") : NULL;
	const char *gateway = name ? conf_get(c, "nic", name, "gateway") : NULL;
	i->dhcp = !address || strcmp(address, "dhcp") == 0;
	if (!i->dhcp && parse_cidr(address, &i->address, &i->mask)) {
		conf_problem(c, conf_line(c, "nic", name, "address"),
			     "address = %s: write `dhcp` or an address with its prefix, such as 10.77.0.11/24. DHCP is "
			     "tried",
			     address);
		ip4_addr_set_zero(&i->address);
		ip4_addr_set_zero(&i->mask);
		i->dhcp = true;
	}
	if (gateway && net_parse_ip4(gateway, &i->gateway)) {
		conf_problem(c, conf_line(c, "nic", name, "gateway"),
			     "gateway = %s: write an address, such as 10.77.0.1", gateway);
		ip4_addr_set_zero(&i->gateway);
	}
}

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
	n->rx_arg = i;
}

/* No guest of this host may pose as a host: as this one, or as a peer. */
static void guard_addresses(struct net_if *i)
{
	ip4_addr_t a;
	if (!ip4_addr_isany_val(i->address))
		bridge_guard_ip4(i->bridge, (const uint8_t *)&i->address.addr);
	for (unsigned p = 0; p < npeers; p++)
		if (!net_parse_ip4(peers[p].addr, &a))
			bridge_guard_ip4(i->bridge, (const uint8_t *)&a.addr);
}

static int if_add(struct conf *c, const char *name)
{
	struct nic *n = nic_match(c, name);
	if (!n)
		return -ENODEV;
	if (nifs == NET_IF_MAX) {
		conf_problem(c, conf_line(c, "nic", name, ""), "nic %s is one too many: at most %d", name, NET_IF_MAX);
		return -ENOSPC;
	}
	struct net_if *i = &ifs[nifs];
	*i = (struct net_if){ .nic = n };
	sniprintf(i->name, sizeof(i->name), "%s", name ? name : "lan");
	address_read(c, i, name);
	int err = bridge_create(&i->bridge, i->name);
	if (err)
		return err;
	guard_addresses(i);
	nifs++;
	nic_attach(i);
	err = nic_start(n); /* first, so that lwIP's announcement of its address finds it sending */
	if (err)
		goto fail;
	err = netif_attach(i);
	if (err)
		goto fail;
	return 0;
fail:
	log_error("net: %s (%s) is not usable: %s", i->name, n->name, err_name(err));
	return err;
}

int net_init(struct conf *c)
{
	peers_read(c);
	int err = netbuf_init();
	if (err)
		return err;
	err = net_sys_start();
	if (err)
		return err;
	if (!conf_section(c, "nic", 0)) {
		err = if_add(c, NULL);
	} else {
		const char *name;
		err = -ENODEV;
		for (unsigned i = 0; (name = conf_section(c, "nic", i)); i++)
			if (if_add(c, name) == 0)
				err = 0;
	}
	/* Guests of a host without a network still have each other. */
	struct bridge *alone;
	if (!bridge_default() && bridge_create(&alone, "lan"))
		return -ENOMEM;
	return err;
}

int net_peer(const char *name, char addr[48], struct why *w)
{
	ip4_addr_t a;
	if (net_parse_ip4(name, &a) == 0) {
		sniprintf(addr, 48, "%s", name);
		return 0;
	}
	for (unsigned i = 0; i < npeers; i++) {
		if (strcmp(peers[i].name, name) == 0) {
			sniprintf(addr, 48, "%s", peers[i].addr);
			return 0;
		}
	}
	if (name[0] >= '0' && name[0] <= '9')
		return why_set(w, -EINVAL, "%s is not an address: write it as 10.77.0.12", name);
	return why_set(w, -ENOENT, "no host %s: give its address, or name it in tern.conf: [peer %s] address = A.B.C.D",
		       name, name);
}

bool net_peer_get(unsigned i, const char **name, const char **addr)
{
	if (i >= npeers)
		return false;
	*name = peers[i].name;
	*addr = peers[i].addr;
	return true;
}

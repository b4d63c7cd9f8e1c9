/* SPDX-License-Identifier: BSD-2-Clause */
/* The keys of [nic NAME] and [peer NAME], and what is wrong between them (net_conf.h). */
#include "net/net_conf.h"
#include "kernel/base/ip4.h"
#include "kernel/base/mac.h"
#include <stdio.h>
#include <string.h>

static const struct conf_key nic_keys[] = {
	{ "match", &conf_type_mac, CONF_FIELD(struct nic_conf, match), .def = "first", .zero = "first",
	  .help = "first, or the card's MAC address, such as 52:54:00:00:00:01" },
	{ "address", &conf_type_net, CONF_FIELD(struct nic_conf, address), .def = "dhcp", .zero = "dhcp",
	  .help = "dhcp, or an address with its prefix, such as 10.77.0.11/24" },
	{ "gateway", &conf_type_ip4, CONF_FIELD(struct nic_conf, gateway), .def = "",
	  .help = "an address, such as 10.77.0.1" },
};
const struct conf_table nic_conf_table = CONF_TABLE("nic", nic_keys);

#define KEY_HELP "64 hexadecimal digits, as `peer key` makes them; the same in both hosts' files"
static const struct conf_key peer_keys[] = {
	{ "address", &conf_type_ip4, CONF_FIELD(struct net_peer, ip), .help = "an address, such as 10.77.0.12" },
	{ "key", &conf_type_secret, CONF_FIELD(struct net_peer, key), .def = "", .help = KEY_HELP },
	{ "key_next", &conf_type_secret, CONF_FIELD(struct net_peer, key_next), .def = "", .help = KEY_HELP },
	{ "insecure", &conf_type_choice, CONF_FIELD(struct net_peer, insecure), .def = "no",
	  .words = (const char *const[]){ "no", "yes", NULL },
	  .help = "no, or yes: without a key, in clear, to a host whose file says so as well" },
};
const struct conf_table peer_conf_table = CONF_TABLE("peer", peer_keys);

/* The card that a section means; NULL: others has the MACs of those that are left. */
static struct nic *card_find(const struct net_conf *conf, const uint8_t match[ETH_ALEN], char *others, size_t size)
{
	static const uint8_t first[ETH_ALEN];
	struct nic *n;
	others[0] = '\0';
	for (unsigned i = 0; (n = nic_get(i)); i++) {
		size_t len = strlen(others);
		bool taken = false;
		for (unsigned k = 0; k < conf->nnics; k++)
			taken |= conf->nic[k].card == n;
		if (taken)
			continue;
		if (!memcmp(match, first, ETH_ALEN) || !memcmp(match, n->mac, ETH_ALEN))
			return n;
		snprintf(others + len, size - len, "%s%s", len ? ", " : "", mac_text(n->mac).s);
	}
	return NULL;
}

static void gateway_check(struct conf_reader *r, const struct nic_conf *n)
{
	uint32_t mask = conf_net_mask(n->address);
	if (n->gateway && !n->address.ip)
		conf_wrong(r, "gateway", "it counts with a static address only");
	else if (n->gateway && n->address.prefix < 32 && (n->gateway ^ n->address.ip) & mask)
		conf_wrong(r, "gateway", "it is used, but is not in the net of the address, %s/%u",
			   ip4_text(n->address.ip & mask).s, (unsigned)n->address.prefix);
	else if (!n->gateway && n->address.prefix == 32)
		conf_wrong(r, "address", "with a prefix of 32 no host can be reached without a gateway");
}

/* name NULL: there is no section. */
static void nic_read(struct conf *c, struct net_conf *conf, const char *name)
{
	struct conf_reader r = { .c = c, .table = &nic_conf_table, .name = name ? name : "lan" };
	struct nic_conf n = { 0 };
	char others[80]; /* four of them */
	(void)conf_read(&r, &n);
	snprintf(n.name, sizeof(n.name), "%s", r.name);
	gateway_check(&r, &n);
	n.card = card_find(conf, n.match, others, sizeof(others));
	if (!n.card && others[0])
		conf_wrong(&r, "match", "no network card has this MAC; there are %s", others);
	else if (!n.card && name)
		conf_wrong(&r, "match", "no network card is left for it");
	else if (n.card && conf->nnics == NET_IF_MAX)
		conf_wrong(&r, "", "one too many: at most %d", NET_IF_MAX);
	else if (n.card)
		conf->nic[conf->nnics++] = n;
}

static void peer_read(struct conf *c, struct net_conf *conf, const char *name)
{
	struct conf_reader r = { .c = c, .table = &peer_conf_table, .name = name };
	struct net_peer p = { 0 };
	if (!conf_read(&r, &p) && !p.ip)
		return; /* with a wrong key it is a peer all the same: one that cannot be asked */
	snprintf(p.name, sizeof(p.name), "%s", name);
	for (unsigned i = 0; i < conf->nnics; i++)
		if (conf->nic[i].address.ip == p.ip)
			conf_wrong(&r, "address", "this is this host's own address, of [nic %s]", conf->nic[i].name);
	if (!p.insecure && !conf_get(c, "peer", name, "key"))
		conf_wrong(&r, "",
			   "no key: this host cannot speak with it. `peer key` makes one, for both hosts' files");
	if (p.insecure && (conf_get(c, "peer", name, "key") || conf_get(c, "peer", name, "key_next"))) {
		p.insecure = 0; /* whoever writes a key, even a wrong one, does not want to speak in clear */
		conf_wrong(&r, "insecure", "there is a key, so nothing goes in clear");
	}
	if (conf->npeers == NET_PEERS_MAX)
		conf_wrong(&r, "", "one too many: at most %d", NET_PEERS_MAX);
	else
		conf->peer[conf->npeers++] = p;
}

void net_conf_read(struct conf *c, struct net_conf *conf)
{
	const char *name;
	if (!conf_section(c, "nic", 0))
		nic_read(c, conf, NULL);
	for (unsigned i = 0; (name = conf_section(c, "nic", i)); i++)
		nic_read(c, conf, name);
	for (unsigned i = 0; (name = conf_section(c, "peer", i)); i++)
		peer_read(c, conf, name);
}

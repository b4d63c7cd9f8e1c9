/* SPDX-License-Identifier: BSD-2-Clause */
/* The keys of cards, bonds, networks and peers, and what is wrong between them (net_conf.h). */
#include "net/net_conf.h"
#include "kernel/base/ip4.h"
#include "kernel/base/mac.h"
#include <stdio.h>
#include <string.h>

#define GATEWAY_HELP  "an address, such as 10.77.0.1"
#define ADDRESS6_HELP "none, auto (from what routers advertise), or an address with its prefix, such as fd00::b/64"
#define GATEWAY6_HELP "an address, such as fe80::1"
static const struct conf_key nic_keys[] = {
	{ "match", &conf_type_card, CONF_FIELD(struct nic_conf, match), .def = "first", .zero = "first",
	  .help = "first, the card's MAC address, such as 52:54:00:00:00:01, or its PCI address, such as 00:03.0" },
	{ "address", &conf_type_net, CONF_FIELD(struct nic_conf, address), .def = "dhcp", .zero = "dhcp",
	  .help = "dhcp, or an address with its prefix, such as 10.77.0.11/24" },
	{ "gateway", &conf_type_ip4, CONF_FIELD(struct nic_conf, gateway), .def = "", .help = GATEWAY_HELP },
	{ "address6", &conf_type_net6, CONF_FIELD(struct nic_conf, address6), .def = "none", .zero = "auto",
	  .words = (const char *const[]){ "none", NULL }, .help = ADDRESS6_HELP },
	{ "gateway6", &conf_type_ip6, CONF_FIELD(struct nic_conf, gateway6), .def = "", .help = GATEWAY6_HELP },
};
CONF_TABLE(nic_conf_table, "nic", nic_keys);

static const struct conf_key bond_keys[] = {
	{ "nics", &conf_type_str, CONF_FIELD(struct bond_conf, nics), .min = 1,
	  .help = "the names of up to 4 [nic] sections, with commas between them" },
	{ "mode", &conf_type_choice, CONF_FIELD(struct bond_conf, mode), .def = "active-backup",
	  .words = (const char *const[]){ "active-backup", "802.3ad", NULL },
	  .help = "active-backup: one card is in use, another takes over when its link is down; or 802.3ad: all that "
		  "the "
		  "switch takes part with (LACP)" },
};
CONF_TABLE(bond_conf_table, "bond", bond_keys);

const char *const net_use_words[] = { "management", "migration", "vm", "storage", NULL };
static const struct conf_key if_keys[] = {
	{ "nic", &conf_type_str, CONF_FIELD(struct if_conf, over), .def = "",
	  .help = "the name of a [nic] or [bond]; needed if there are several" },
	{ "vlan", &conf_type_u32, CONF_FIELD(struct if_conf, vlan), .def = "0", .max = NET_VLAN_MAX,
	  .help = "1 to 4094, or 0: frames without a tag" },
	{ "mtu", &conf_type_u32, CONF_FIELD(struct if_conf, mtu), .def = "1500", .min = NIC_MTU_MIN,
	  .max = ETH_JUMBO_MAX, .help = "576 to 9000 bytes" },
	{ "address", &conf_type_net, CONF_FIELD(struct if_conf, address), .def = "none", .zero = "dhcp",
	  .words = (const char *const[]){ "none", NULL },
	  .help = "none, dhcp, or an address with its prefix, such as 10.77.0.11/24" },
	{ "gateway", &conf_type_ip4, CONF_FIELD(struct if_conf, gateway), .def = "", .help = GATEWAY_HELP },
	{ "address6", &conf_type_net6, CONF_FIELD(struct if_conf, address6), .def = "none", .zero = "auto",
	  .words = (const char *const[]){ "none", NULL }, .help = ADDRESS6_HELP },
	{ "gateway6", &conf_type_ip6, CONF_FIELD(struct if_conf, gateway6), .def = "", .help = GATEWAY6_HELP },
	{ "use", &conf_type_words, CONF_FIELD(struct if_conf, uses), .def = "management, migration, vm, storage",
	  .words = net_use_words, .help = "some of management, migration, vm and storage, with commas between them" },
};
CONF_TABLE(if_conf_table, "net", if_keys);

#define KEY_HELP "64 hexadecimal digits, as `peer key` makes them; the same in both hosts' files"
static const struct conf_key peer_keys[] = {
	{ "address", &conf_type_ip, CONF_FIELD(struct net_peer, ip),
	  .help = "an address, such as 10.77.0.12 or fd00::c" },
	{ "key", &conf_type_secret, CONF_FIELD(struct net_peer, key), .def = "", .help = KEY_HELP },
	{ "key_next", &conf_type_secret, CONF_FIELD(struct net_peer, key_next), .def = "", .help = KEY_HELP },
	{ "insecure", &conf_type_choice, CONF_FIELD(struct net_peer, insecure), .def = "no",
	  .words = (const char *const[]){ "no", "yes", "incoming", NULL },
	  .help = "no; yes: without a key, in clear, to a host whose file says so as well; or incoming, beside a key: "
		  "what that host says in clear is heard" },
};
CONF_TABLE(peer_conf_table, "peer", peer_keys);

static bool is_match(const struct conf_card *m, const struct nic *n)
{
	return m->location[0] ? !strcmp(m->location, n->location) : !memcmp(m->mac, n->mac, ETH_ALEN);
}

/* Does a section name this very card? */
static bool is_named(const struct conf *c, const struct nic *n)
{
	const char *name, *match;
	for (unsigned i = 0; (name = conf_section(c, "nic", i)); i++) {
		struct conf_card m = { 0 };
		if ((match = conf_get(c, "nic", name, "match")) &&
		    (!conf_parse_mac(match, m.mac) || !conf_parse_pci(match, m.location)) && is_match(&m, n))
			return true;
	}
	return false;
}

/* The card that a section means (NULL: any); NULL: others has those that are left. */
static struct nic *card_find(const struct conf *c, const struct net_conf *conf, const struct conf_card *match,
			     char *others, size_t size)
{
	struct nic *n;
	others[0] = '\0';
	for (unsigned i = 0; (n = nic_get(i)); i++) {
		size_t len = strlen(others);
		bool taken = false;
		for (unsigned k = 0; k < conf->nnics; k++)
			taken |= conf->nic[k].card == n;
		if (taken)
			continue;
		if (match ? is_match(match, n) : !is_named(c, n))
			return n;
		snprintf(others + len, size - len, "%s%s (%s)", len ? ", " : "", mac_text(n->mac).s, n->location);
	}
	return NULL;
}

static void address_check(struct conf_reader *r, struct conf_net address, uint32_t *to)
{
	uint32_t mask = conf_net_mask(address), gateway = *to;
	if (address.ip && !conf_net_has_host(address, address.ip))
		conf_wrong(r, "address", "it is used, but is the net's own or its broadcast address");
	if (gateway && !address.ip)
		conf_wrong(r, "gateway", "it counts with a static address only");
	else if (gateway && address.prefix < 32 && (gateway ^ address.ip) & mask)
		conf_wrong(r, "gateway", "it is used, but is not in the net of the address, %s/%u",
			   ip4_text(address.ip & mask).s, (unsigned)address.prefix);
	else if (gateway && (gateway == address.ip || !conf_net_has_host(address, gateway))) {
		conf_wrong(r, "gateway", "this host's own address, the net's, or its broadcast address; not used");
		*to = 0;
	} else if (!gateway && address.ip && address.prefix == 32)
		conf_wrong(r, "address", "with a prefix of 32 no host can be reached without a gateway");
}

static void gateway6_check(struct conf_reader *r, struct conf_net6 address, struct ip gateway)
{
	if (!ip_is_none(gateway) && ip_is_none(address.ip))
		conf_wrong(r, "gateway6", "it counts with a static address only");
	else if (!ip_is_none(gateway) && !ip_is_link_local(gateway) && memcmp(gateway.b, address.ip.b, 8) != 0)
		conf_wrong(r, "gateway6",
			   "it cannot be found: it has not the first 64 bits of the address, nor is link-local");
}

/* The section's name, if it is short enough to be a network's. */
static bool take_name(struct conf_reader *r, char name[NET_NAME_MAX])
{
	if (strlen(r->name) >= NET_NAME_MAX) {
		conf_wrong(r, "", "its name is longer than %d characters", NET_NAME_MAX - 1);
		return false;
	}
	snprintf(name, NET_NAME_MAX, "%s", r->name);
	return true;
}

/* name NULL: there is no section. */
static void nic_read(struct conf *c, struct net_conf *conf, const char *name)
{
	struct conf_reader r = { .c = c, .table = &nic_conf_table, .name = name ? name : "lan" };
	struct nic_conf n = { 0 };
	char others[320];
	const char *match = name ? conf_get(c, "nic", name, "match") : NULL;
	(void)conf_read(&r, &n);
	if (!take_name(&r, n.name))
		return;
	address_check(&r, n.address, &n.gateway);
	gateway6_check(&r, n.address6, n.gateway6);
	bool one = memcmp(&n.match, &(struct conf_card){ 0 }, sizeof(n.match)) != 0;
	if (match && strcmp(match, "first") && !one)
		return; /* which one is not known, and any other would be on another wire */
	if ((r.torn || r.unknown) && !match && nic_get(1)) {
		conf_wrong(&r, "match",
			   "a line of this section is not understood and may have been this: it is no card");
		return;
	}
	n.card = card_find(c, conf, one ? &n.match : NULL, others, sizeof(others));
	if (!n.card && one && others[0])
		conf_wrong(&r, "match", "no network card has this address; there are %s", others);
	else if (!n.card && name)
		conf_wrong(&r, "match", "no network card is left for it");
	else if (n.card && conf->nnics == NET_NICS_MAX)
		conf_wrong(&r, "", "one too many: at most %d", NET_NICS_MAX);
	else if (n.card)
		conf->nic[conf->nnics++] = n;
}

static struct nic_conf *nic_named(struct net_conf *conf, const char *name)
{
	for (unsigned i = 0; i < conf->nnics; i++)
		if (!strcmp(conf->nic[i].name, name))
			return &conf->nic[i];
	return NULL;
}

static struct bond_conf *bond_named(struct net_conf *conf, const char *name)
{
	for (unsigned i = 0; i < conf->nbonds; i++)
		if (!strcmp(conf->bond[i].name, name))
			return &conf->bond[i];
	return NULL;
}

static void bond_read(struct conf *c, struct net_conf *conf, const char *name)
{
	struct conf_reader r = { .c = c, .table = &bond_conf_table, .name = name, .strict = true };
	struct bond_conf b = { 0 };
	bool good = conf_read(&r, &b);
	good &= take_name(&r, b.name);
	if (nic_named(conf, b.name))
		conf_wrong(&r, "", "a [nic] has this name as well");
	bool lacks = false;
	conf->unsure |= !b.nics[0]; /* it had some */
	for (const char *s = b.nics + strspn(b.nics, ", \t"); *s;) {
		char word[NET_NAME_MAX];
		size_t len = strcspn(s, ", \t");
		snprintf(word, sizeof(word), "%.*s", (int)len, s);
		struct nic_conf *n = len < sizeof(word) ? nic_named(conf, word) : NULL;
		bool named = len < sizeof(word) && conf_line(c, "nic", word, "");
		conf->unsure |= !named || (n && n->taken);
		if (!n && named)
			lacks = true; /* its card is broken or taken out: the bond is there for that day */
		else if (!n)
			conf_wrong(&r, "nics", "there is no [nic %.*s]", (int)MIN(len, 31UL), s);
		else if (n->taken)
			conf_wrong(&r, "nics", "[nic %s] is in a bond already", word);
		else if (b.ncards == NET_LEGS_MAX)
			conf_wrong(&r, "nics", "these are more than %d", NET_LEGS_MAX);
		else
			b.card[b.ncards++] = n->card, n->taken = true;
		s += len + strspn(s + len, ", \t");
	}
	if (conf->nbonds == NET_BONDS_MAX)
		conf_wrong(&r, "", "one too many: at most %d", NET_BONDS_MAX);
	good &= !r.wrong[0] && b.ncards;
	if (good)
		conf->bond[conf->nbonds++] = b;
	if (lacks)
		conf_wrong(&r, "nics",
			   good ? "not all of these cards are there; the bond goes without"
				: "none of these cards is there");
}

/* What it lies over: 0, or the reason has been told. */
static int over_find(struct conf_reader *r, struct net_conf *conf, struct if_conf *n)
{
	if (!n->over[0] && conf->nnics + conf->nbonds == 1 && !conf_section(r->c, "nic", 1))
		snprintf(n->over, sizeof(n->over), "%s", conf->nnics ? conf->nic[0].name : conf->bond[0].name);
	struct bond_conf *b = bond_named(conf, n->over);
	struct nic_conf *k = nic_named(conf, n->over);
	if (b) {
		memcpy(n->card, b->card, sizeof(n->card));
		n->ncards = b->ncards;
		n->aggregates = b->mode == BOND_802_3AD;
		b->taken = true;
		return 0;
	}
	for (unsigned i = 0; k && i < conf->nbonds; i++)
		for (unsigned j = 0; j < conf->bond[i].ncards; j++)
			if (conf->bond[i].card[j] == k->card) {
				conf_wrong(r, "nic", "it is in [bond %s]: name that", conf->bond[i].name);
				return -EINVAL;
			}
	if (!k) {
		conf->unsure |=
			!n->over[0] || (!conf_line(r->c, "nic", n->over, "") && !conf_line(r->c, "bond", n->over, ""));
		conf_wrong(r, "nic",
			   n->over[0]                       ? "there is no [nic] or [bond] of this name with a card"
			   : conf->nnics + conf->nbonds > 0 ? "missing: there are several [nic]"
							    : "there is no [nic] or [bond] with a card");
		return -EINVAL;
	}
	n->card[0] = k->card;
	n->ncards = 1;
	k->taken = true;
	return 0;
}

static void net_add(struct conf_reader *r, struct net_conf *conf, const struct if_conf *n)
{
	for (unsigned i = 0; i < conf->nnets; i++) {
		const struct if_conf *o = &conf->net[i];
		uint32_t mask = conf_net_mask(n->address);
		if (mask && mask == conf_net_mask(o->address) && !((o->address.ip ^ n->address.ip) & mask))
			conf_wrong(r, "address",
				   "%s is in the same subnet, and what is there is reached by only one of them",
				   o->name);
		if (!strcmp(o->name, n->name))
			conf_wrong(r, "", "there is a network of this name already");
		else if (n->address.ip && o->address.ip == n->address.ip)
			conf_wrong(r, "address", "%s has it already", o->name);
		else if (!ip_is_none(n->address6.ip) && conf_in_net6(n->address6.ip, o->address6))
			conf_wrong(r, "address6", "it is in the net of %s", o->name);
		else if (o->card[0] == n->card[0] && o->vlan == n->vlan)
			conf_wrong(r, n->vlan ? "vlan" : "", "%s has VLAN %u of %s already", o->name, (unsigned)n->vlan,
				   n->over);
		else
			continue;
		return;
	}
	if (conf->nnets == NET_IF_MAX)
		conf_wrong(r, "", "one too many: at most %d networks", NET_IF_MAX);
	else
		conf->net[conf->nnets++] = *n;
}

/* No more than each of its cards carries. */
static void mtu_bound(struct conf_reader *r, struct if_conf *n)
{
	for (unsigned i = 0; i < n->ncards; i++) {
		const struct nic *card = n->card[i];
		if (n->mtu <= card->mtu)
			continue;
		if (conf_get(r->c, "net", r->name, "mtu"))
			conf_wrong(r, "mtu", "%s carries at most %u bytes: these are used", card->name, card->mtu);
		n->mtu = card->mtu;
	}
	if (n->mtu < NIC_MTU6_MIN && n->address6.prefix != CONF_NET_NONE)
		conf_wrong(r, "mtu", "IPv6 (address6) wants %d bytes at least", NIC_MTU6_MIN);
}

static void net_read(struct conf *c, struct net_conf *conf, const char *name)
{
	struct conf_reader r = { .c = c, .table = &if_conf_table, .name = name, .strict = true };
	struct if_conf n = { 0 };
	bool good = conf_read(&r, &n);
	good &= take_name(&r, n.name);
	good &= !over_find(&r, conf, &n);
	if (!good) {
		conf_wrong(&r, "", "so this network is not there");
		return;
	}
	address_check(&r, n.address, &n.gateway);
	gateway6_check(&r, n.address6, n.gateway6);
	mtu_bound(&r, &n);
	if (n.uses & NET_USE_MIGRATION && n.address.prefix == CONF_NET_NONE && n.address6.prefix == CONF_NET_NONE &&
	    conf_get(c, "net", name, "use"))
		conf_wrong(&r, "use", "no migration comes here without an address");
	net_add(&r, conf, &n);
}

/* What no [bond] or [net] names is a network by itself. */
static void nic_alone(struct conf *c, struct net_conf *conf, struct nic_conf *k)
{
	struct conf_reader r = { .c = c, .table = &nic_conf_table, .name = k->name };
	struct if_conf n = { .card = { k->card },
			     .ncards = 1,
			     .mtu = MIN(k->card->mtu, (unsigned)ETH_DATA_MAX),
			     .address = k->address,
			     .gateway = k->gateway,
			     .address6 = k->address6,
			     .gateway6 = k->gateway6,
			     .uses = NET_USES };
	memcpy(n.name, k->name, sizeof(n.name));
	memcpy(n.over, k->name, sizeof(n.over));
	bool meant = !conf->unsure || conf_get(c, "nic", k->name, "address");
	if (!k->taken && meant)
		net_add(&r, conf, &n);
	else if (!k->taken)
		conf_wrong(&r, "",
			   "not a network by itself while a [bond] or [net] names no card, and may mean this one");
	for (unsigned i = 1; k->taken && i < ARRAY_SIZE(nic_keys); i++) /* all but match */
		if (conf_get(c, "nic", k->name, nic_keys[i].key))
			conf_wrong(&r, nic_keys[i].key,
				   "a [net] or [bond] names this card: addresses are written in [net]");
}

/* Nobody can ask it whether a VM is there. */
static void peer_lost(struct net_conf *conf, const char *name)
{
	if (!conf->lost_peer[0])
		snprintf(conf->lost_peer, sizeof(conf->lost_peer), "%s", name);
}

static void peer_read(struct conf *c, struct net_conf *conf, const char *name)
{
	struct conf_reader r = { .c = c, .table = &peer_conf_table, .name = name };
	struct net_peer p = { 0 };
	if (!conf_read(&r, &p) && ip_is_none(p.ip)) {
		peer_lost(conf, name);
		return; /* with a wrong key it is a peer all the same: one that cannot be asked */
	}
	snprintf(p.name, sizeof(p.name), "%s", name);
	for (unsigned i = 0; i < conf->nnets; i++)
		if (ip_same(ip_of4(conf->net[i].address.ip), p.ip) || ip_same(conf->net[i].address6.ip, p.ip)) {
			conf_wrong(&r, "address", "this is this host's own address, on %s: no peer of its own",
				   conf->net[i].name);
			return;
		}
	for (unsigned i = 0; i < conf->npeers; i++)
		if (ip_same(conf->peer[i].ip, p.ip)) {
			const struct net_peer *o = &conf->peer[i];
			conf_wrong(&r, "address", "[peer %s] has it already", o->name);
			if (memcmp(o->key, p.key, sizeof(p.key)) != 0 || o->insecure != p.insecure)
				peer_lost(conf, name); /* which of the two is meant? */
			return;
		}
	p.wants_key = r.torn || r.unknown || conf_get(c, "peer", name, "key") || conf_get(c, "peer", name, "key_next");
	if (!p.insecure && !conf_get(c, "peer", name, "key"))
		conf_wrong(&r, "",
			   "no key: this host cannot speak with it. `peer key` makes one, for both hosts' files");
	bool meant = p.insecure == NET_PEER_INCOMING && net_key_is_set(p.key) && !r.torn && !r.unknown;
	if (p.insecure == NET_PEER_INCOMING && !p.wants_key) {
		p.insecure = NET_PEER_SECURE;
		conf_wrong(&r, "insecure", "it wants a key beside it");
	} else if (p.insecure && p.wants_key && !meant) {
		/* Whoever writes a key, even a wrong one, does not want to speak in clear. */
		p.insecure = NET_PEER_SECURE;
		conf_wrong(&r, "insecure", "there is %s, so nothing goes in clear",
			   r.torn || r.unknown ? "a line that is not understood" : "a key");
	}
	if (conf->npeers == NET_PEERS_MAX) {
		conf_wrong(&r, "", "one too many: at most %d", NET_PEERS_MAX);
		peer_lost(conf, name);
	} else {
		conf->peer[conf->npeers++] = p;
	}
}

void net_conf_read(struct conf *c, struct net_conf *conf)
{
	const char *name;
	if (!conf_section(c, "nic", 0))
		nic_read(c, conf, NULL);
	for (unsigned i = 0; (name = conf_section(c, "nic", i)); i++)
		nic_read(c, conf, name);
	for (unsigned i = 0; (name = conf_section(c, "bond", i)); i++)
		bond_read(c, conf, name);
	for (unsigned i = 0; (name = conf_section(c, "net", i)); i++)
		net_read(c, conf, name);
	for (unsigned i = 0; i < conf->nnics; i++)
		nic_alone(c, conf, &conf->nic[i]);
	for (unsigned i = 0; i < conf->nbonds; i++)
		if (!conf->bond[i].taken)
			conf_wrong(&(struct conf_reader){ .c = c,
							  .table = &bond_conf_table,
							  .name = conf->bond[i].name },
				   "", "no [net] names it, so it carries nothing");
	for (unsigned i = 0; (name = conf_section(c, "peer", i)); i++)
		peer_read(c, conf, name);
	if (c->lost_peer)
		peer_lost(conf, "a [peer]");
}

/* SPDX-License-Identifier: BSD-2-Clause */
/* The `net` commands: the networks of tern.conf, what carries each, and the host's address there. */
#include "kernel/base/mac.h"
#include "kernel/console.h"
#include "net/port.h"
#include <string.h>

/* in_table: the MTU has no column, for the line would be too long. */
static void show(struct con *c, const struct net_if *i, bool in_table)
{
	struct host_address a = { .state = "none", .state6 = "none" };
	char uses[40];
	bool up = uplink_is_up(&i->wire);
	if (i->has_ip4 || i->has_ip6)
		addr_if_show(i, &a);
	conf_words_text(net_use_words, i->uses, ",", uses, sizeof(uses));
	out_str(c, "name", i->name);
	out_str(c, "nic", uplink_name(&i->wire));
	out_u64(c, "vlan", i->wire.vlan);
	out_u64(c, in_table ? "mtu|" : "mtu", i->wire.mtu);
	out_bool(c, "link|", up);
	out_line(c, "link", "%s", up ? "up" : "down");
	if (i->has_ip4 || i->has_ip6)
		host_address_show(c, &a);
	else
		out_str(c, "address|", "");
	out_str(c, "use", uses);
}

#define COLUMNS "-10 name, -8 nic, 4 vlan, -4 link, -18 address, -31 use"

static int net_list(struct con *c, int argc unused, char **argv unused)
{
	struct net_if *i;
	out_table(c, "nets", COLUMNS,
		  "no network: tern.conf names no card that is there, or something in it is wrong (`log warn`)");
	for (unsigned n = 0; (i = net_if_get(n)); n++) {
		out_row(c);
		show(c, i, true);
		out_row_end(c);
	}
	out_table_end(c);
	return 0;
}

static int net_info(struct con *c, int argc unused, char **argv)
{
	struct net_if *i;
	struct nic *card;
	bool used;
	uint8_t partner[ETH_ALEN];
	for (unsigned n = 0; (i = net_if_get(n)) && strcmp(i->name, argv[1]); n++)
		;
	if (!i)
		return con_error(c, -ENOENT, "there is no network %s: see `net list`", argv[1]);
	show(c, i, false);
	out_table(c, "cards", "-6 name, -10 driver, -17 mac, -4 link, -6 used, -17 partner", NULL);
	for (unsigned n = 0; (card = uplink_card(&i->wire, n, &used)); n++) {
		bool up = card->ops->link_up(card);
		out_row(c);
		out_str(c, "name", card->name);
		out_str(c, "driver", card->driver);
		out_str(c, "mac", mac_text(card->mac).s);
		out_bool(c, "link|", up);
		out_line(c, "link", "%s", up ? "up" : "down");
		out_bool(c, "used", used);
		out_str(c, "partner", uplink_partner(&i->wire, n, partner) ? mac_text(partner).s : "");
		out_row_end(c);
	}
	out_table_end(c);
	return 0;
}

static void names(const char *what unused, void (*add)(void *arg, const char *word), void *arg)
{
	struct net_if *i;
	for (unsigned n = 0; (i = net_if_get(n)); n++)
		add(arg, i->name);
}

static const struct con_sub subs[] = {
	{ "list|status", "", "networks: card or bond, VLAN, MTU, address, uses", net_list, NULL, false },
	{ "info", "NAME", "one network and its cards", net_info, names, false },
};
CONSOLE_CMDS(net, "networks of this host", "net list", subs);

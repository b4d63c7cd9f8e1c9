/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The `bridge` command: ports, and MACs that are bound or learned, of each bridge. They are copied under its lock, then
 * printed.
 */
#include "kernel/console.h"
#include "kernel/base/mac.h"
#include "net/port.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SHOW_MAX 256

struct mac_line {
	struct mac_text mac;
	char port[24];
	bool bound;
	uint64_t age_s;
};
struct port_line {
	char name[24];
	bool guest;
	struct bridge_port_stats stats;
};
struct view {
	unsigned nports, nmacs;
	struct port_line port[SHOW_MAX];
	struct mac_line mac[SHOW_MAX];
};

static void on_port(const struct bridge_port *p, void *arg)
{
	struct view *v = arg;
	if (v->nports == SHOW_MAX)
		return;
	struct port_line *l = &v->port[v->nports++];
	memcpy(l->name, p->name, sizeof(l->name));
	l->guest = p->is_guest;
	l->stats = p->stats;
}

static void on_mac(const uint8_t mac[6], const struct bridge_port *p, uint64_t age_ns, void *arg)
{
	struct view *v = arg;
	if (v->nmacs == SHOW_MAX)
		return;
	struct mac_line *l = &v->mac[v->nmacs++];
	l->mac = mac_text(mac);
	memcpy(l->port, p->name, sizeof(l->port));
	l->bound = age_ns == BRIDGE_BOUND;
	l->age_s = l->bound ? 0 : age_ns / NS_PER_SEC;
}

/* By reason: in text those that there were, on a line of their own below the port's. */
static void show_drops(struct con *c, const struct bridge_port_stats *s)
{
	char key[24], text[600] = "";
	for (unsigned i = BRIDGE_PASS + 1; i < BRIDGE_DROPS; i++) {
		size_t n = strlen(text);
		sniprintf(key, sizeof(key), "drop_%s|", bridge_drops[i].name);
		out_u64(c, key, s->drops[i]);
		if (s->drops[i])
			sniprintf(text + n, sizeof(text) - n, "%s%s %lu", n ? ", " : "dropped: ", bridge_drops[i].name,
				  s->drops[i]);
	}
	if (text[0])
		out_line(c, "reasons", "%s", text);
}

static void show(struct con *c, struct bridge *b, const struct view *v)
{
	out_row(c);
	out_str(c, "name|bridge", bridge_name(b));
	out_table(c, "ports",
		  "-12 name|port, 11 rx_frames|frames in, 11 rx_bytes|bytes in, 11 tx_frames|frames out, "
		  "11 tx_bytes|bytes out, 5 dropped|drops, 5 spoofed|spoof",
		  NULL);
	for (unsigned i = 0; i < v->nports; i++) {
		const struct port_line *l = &v->port[i];
		out_row(c);
		out_str(c, "name", l->name);
		out_bool(c, "guest", l->guest);
		out_u64(c, "rx_frames", l->stats.rx_frames);
		out_bytes(c, "rx_bytes", l->stats.rx_bytes);
		out_u64(c, "tx_frames", l->stats.tx_frames);
		out_bytes(c, "tx_bytes", l->stats.tx_bytes);
		out_u64(c, "dropped", bridge_dropped(&l->stats, false));
		out_u64(c, "spoofed", bridge_dropped(&l->stats, true));
		show_drops(c, &l->stats);
		out_row_end(c);
	}
	out_table_end(c);
	out_table(c, "macs", "-17 mac, -12 port, -6 static, 5 age_s|age s", NULL);
	for (unsigned i = 0; i < v->nmacs; i++) {
		out_row(c);
		out_str(c, "mac", v->mac[i].mac.s);
		out_str(c, "port", v->mac[i].port);
		out_bool(c, "static", v->mac[i].bound);
		out_u64(c, "age_s", v->mac[i].age_s);
		out_row_end(c);
	}
	out_table_end(c);
	out_row_end(c);
}

static int cmd_bridge(struct con *c, int argc unused, char **argv unused)
{
	struct view *v = malloc(sizeof(*v));
	if (!v)
		return con_error(c, -ENOMEM, "bridge: out of memory");
	out_list(c, "bridges");
	struct bridge *b;
	for (unsigned i = 0; (b = bridge_get(i)); i++) {
		v->nports = v->nmacs = 0;
		bridge_for_each_port(b, on_port, v);
		bridge_for_each_mac(b, on_mac, v);
		show(c, b, v);
	}
	out_list_end(c);
	free(v);
	return 0;
}
CONSOLE_CMD(bridge, "", "each network's bridge: its ports, and the MACs on them", "bridge", cmd_bridge, NULL);

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
	l->guest = p->only_mac;
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

static void show_json(struct json *j, struct bridge *b, const struct view *v)
{
	json_obj(j, NULL);
	json_str(j, "name", bridge_name(b));
	json_arr(j, "ports");
	for (unsigned i = 0; i < v->nports; i++) {
		const struct port_line *l = &v->port[i];
		json_obj(j, NULL);
		json_str(j, "name", l->name);
		json_bool(j, "guest", l->guest);
		json_u64(j, "rx_frames", l->stats.rx_frames);
		json_u64(j, "rx_bytes", l->stats.rx_bytes);
		json_u64(j, "tx_frames", l->stats.tx_frames);
		json_u64(j, "tx_bytes", l->stats.tx_bytes);
		json_u64(j, "dropped", l->stats.dropped);
		json_u64(j, "spoofed", l->stats.spoofed);
		json_obj_end(j);
	}
	json_arr_end(j);
	json_arr(j, "macs");
	for (unsigned i = 0; i < v->nmacs; i++) {
		json_obj(j, NULL);
		json_str(j, "mac", v->mac[i].mac.s);
		json_str(j, "port", v->mac[i].port);
		json_bool(j, "static", v->mac[i].bound);
		json_u64(j, "age_s", v->mac[i].age_s);
		json_obj_end(j);
	}
	json_arr_end(j);
	json_obj_end(j);
}

static void show_text(struct con *c, struct bridge *b, const struct view *v)
{
	con_printf(c, "bridge %s\n", bridge_name(b));
	for (unsigned i = 0; i < v->nports; i++) {
		const struct port_line *l = &v->port[i];
		con_printf(c,
			   "  port %-12s in %lu frames, %lu bytes; out %lu frames, %lu bytes; %lu dropped, %lu "
			   "spoofed\n",
			   l->name, l->stats.rx_frames, l->stats.rx_bytes, l->stats.tx_frames, l->stats.tx_bytes,
			   l->stats.dropped, l->stats.spoofed);
	}
	for (unsigned i = 0; i < v->nmacs; i++) {
		const struct mac_line *l = &v->mac[i];
		if (l->bound)
			con_printf(c, "  mac  %s on %s, static\n", l->mac.s, l->port);
		else
			con_printf(c, "  mac  %s on %s, seen %lu s ago\n", l->mac.s, l->port, l->age_s);
	}
}

static int cmd_bridge(struct con *c, int argc, char **argv)
{
	if (argc > 1)
		return con_error(c, -EINVAL, "bridge: unknown argument %s. Usage: bridge", argv[1]);
	struct view *v = malloc(sizeof(*v));
	if (!v)
		return con_error(c, -ENOMEM, "bridge: out of memory");
	struct json j;
	if (c->json) {
		json_begin(&j, c);
		json_arr(&j, "bridges");
	}
	struct net_if *nif = net_if_get(0);
	struct bridge *b = nif ? nif->bridge : bridge_default();
	for (unsigned i = 1; b; i++) {
		v->nports = v->nmacs = 0;
		bridge_for_each_port(b, on_port, v);
		bridge_for_each_mac(b, on_mac, v);
		if (c->json)
			show_json(&j, b, v);
		else
			show_text(c, b, v);
		nif = net_if_get(i);
		b = nif ? nif->bridge : NULL;
	}
	if (c->json) {
		json_arr_end(&j);
		json_end(&j);
	}
	free(v);
	return 0;
}
CONSOLE_CMD(bridge, "", "ports of the bridge and the MACs on them", cmd_bridge, NULL);

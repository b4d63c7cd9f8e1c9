/* SPDX-License-Identifier: BSD-2-Clause */
/* The `peer` commands: the other hosts of tern.conf, and what a connection with each has last shown (trust.h). */
#include "kernel/ip.h"
#include "kernel/conf.h"
#include "kernel/console.h"
#include "kernel/random.h"
#include "kernel/time.h"
#include "net/net.h"
#include "net/trust.h"
#include "kernel/base/wipe.h"
#include <string.h>

void net_peers_show(struct con *c)
{
	unsigned n;
	const struct net_peer *p = net_peers(&n);
	out_table(c, "peers", "-12 name, -15 address, -11 state, -27 cipher, 9 seen_ago_us|seen",
		  "no [peer] in tern.conf");
	for (unsigned i = 0; i < n; i++) {
		char cipher[40];
		uint64_t when;
		enum trust_state s = trust_state_of(i, &when, cipher);
		out_row(c);
		out_str(c, "name", p[i].name);
		out_str(c, "address", ip_text(p[i].ip).s);
		out_str(c, "state", trust_state_name(s));
		out_str(c, "cipher", cipher);
		if (when)
			out_us(c, "seen_ago_us|seen", time_ns() - when);
		out_row_end(c);
	}
	out_table_end(c);
}

static int peer_list(struct con *c, int argc unused, char **argv unused)
{
	net_peers_show(c);
	return 0;
}

static int peer_key(struct con *c, int argc unused, char **argv unused)
{
	uint8_t key[NET_KEY_LEN];
	char text[2 * NET_KEY_LEN + 1];
	if (!random_has_source())
		return con_error(
			c, -ENOTSUP,
			"this CPU has no random numbers (RDSEED, RDRAND), so a key made here could be guessed. Make it "
			"elsewhere: openssl rand -hex 32");
	random_bytes(key, sizeof(key));
	conf_hex_text(key, sizeof(key), text);
	/* Not with --json: what a script keeps is read by others. */
	out_text(c, "key = %s\nThis line goes into both hosts' tern.conf, each one's [peer] section for the other.\n",
		 text);
	wipe(key, sizeof(key));
	wipe(text, sizeof(text));
	return 0;
}

static const struct con_sub subs[] = {
	{ "list|status", "", "other hosts; have they the same key as this one?", peer_list, NULL, false },
	{ "key", "", "make a key for two hosts: it is shown once, and kept nowhere", peer_key, NULL, false },
};
CONSOLE_CMDS(peer, "other hosts that VMs may move to and come from", "peer list", subs);

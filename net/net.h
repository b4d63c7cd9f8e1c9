/* SPDX-License-Identifier: BSD-2-Clause */
/* tern's own network: lwIP on a port of the bridge. Called by kernel/main.c and by commands. */
#pragma once
#include "kernel/conf.h"
#include "kernel/err.h"

/*
 * Bring up the bridge, the NICs that tern.conf names ([nic NAME] match = first | MAC, address = dhcp | A.B.C.D/N,
 * gateway = A.B.C.D) and lwIP's task. Without a [nic] section: the first NIC with DHCP. Problems go to conf's list.
 * DHCP goes on in the background. 0 or -errno (no NIC: -ENODEV, and the rest of tern still runs).
 */
int net_init(struct conf *c);
/* "10.77.0.11" of the host's interface, "" if none yet. */
const char *net_address(char buf[48]);
/* Resolve a [peer NAME] or a dotted address to a dotted address: 0 or -ENOENT/-EINVAL with the reason. */
int net_peer(const char *name, char addr[48], struct why *w);
/* The i-th [peer], in the file's order; false past the end. The strings live for ever. */
bool net_peer_get(unsigned i, const char **name, const char **addr);

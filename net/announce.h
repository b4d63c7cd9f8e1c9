/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Announcing a guest that has moved here, or whose uplink has come back: in rounds, because the first frames may be
 * lost or come before a switch is ready. Each is sent from the guest's port, by its MAC, to everybody: a RARP for
 * switches, gratuitous ARP and unsolicited neighbour advertisements for the addresses that the guest has been seen to
 * use lately, and reports of its multicast groups for switches that snoop (RFC 4541). The guest is asked for its groups
 * on its own port, and told to announce itself if its driver takes that.
 */
#pragma once
#include "kernel/base/list.h"
#include "net/announce_frames.h"
#include "net/bridge.h"

#define ANNOUNCE_ROUNDS 5 /* at once, and 50, 200, 450, 800 ms later */

struct announce {                 /* (c) const while it is added  [l] announce.c's lock */
	struct list node;         /* [l] */
	struct bridge_port *port; /* (c) */
	struct learn *learn;      /* (c) */
	void (*guest)(void *arg); /* (c) tell the guest; any task. NULL: it cannot be told */
	void *arg;                /* (c) */
	unsigned round;           /* [l] the next one */
	uint64_t next_ns;         /* [l] when it is due */
};
void announce_init(struct announce *a, struct bridge_port *port, struct learn *learn, void (*guest)(void *arg),
		   void *arg);
/* The guest runs here, its port is in a bridge. It is announced when somebody says so. Twice is harmless. */
void announce_add(struct announce *a);
/* It stands still, or leaves: on return nothing of it is sent any more. It need not have been added. May sleep. */
void announce_remove(struct announce *a);
/* Send the first round now, the others by a task; what was under way for it begins anew. It is added. */
void announce_start(struct announce *a);
/* An uplink of b is back: the same for all guests there, from the task alone. Any context. */
void announce_again(const struct bridge *b);

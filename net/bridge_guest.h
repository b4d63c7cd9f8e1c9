/* SPDX-License-Identifier: BSD-2-Clause */
/* The bridge's entrance for frames from a guest, and what may go to one. For bridge.c alone. */
#pragma once
#include "net/bridge.h"

struct bridge_entry {
	uint8_t head[BRIDGE_HEAD];
	size_t n;       /* bytes of head */
	bool floods;    /* as much as it likes: tern speaks in the guest's name */
	struct frame f; /* the frame that was judged: head, and the rest of the guest's */
};
/*
 * Copy the header of a frame that came in from p, once, and judge the copy: BRIDGE_PASS, and e->f is what goes on,
 * valid as long as *e and the guest's frame are; or why it does not. Any task.
 */
enum bridge_drop bridge_guest_enter(struct bridge_port *p, const struct bridge_lan *lan, const struct frame *f,
				    struct bridge_entry *e);
/* Would a frame for dst interest p's guest? One of one MAC is kept from others' frames. */
bool bridge_guest_wants(const struct bridge_port *p, const uint8_t dst[ETH_ALEN]);
/*
 * bridge_bring: may that frame, h its first n bytes, be for p's guest? Hosts' own are for none, nor is one from its own
 * MAC, nor tags for one that is no trunk.
 */
enum bridge_drop bridge_guest_brought(const struct bridge_port *p, const uint8_t *h, size_t n);
/* bridge_guard. The bridge's lock is held. */
void bridge_guest_guard(struct bridge_lan *lan, struct ip ip, bool gateway);
/*
 * A frame came in from who is no guest, h its first n bytes: a router's address there is no guest's from then on, until
 * BRIDGE_ROUTERS others were heard after it. The bridge's lock is held.
 */
void bridge_guest_hear(struct bridge_lan *lan, const uint8_t *h, size_t n, uint64_t now);
/* Tell the operator what p's guest tried, once an hour for each reason. src: the frame's MAC. Any task. */
void bridge_guest_tell(struct bridge_port *p, enum bridge_drop why, const uint8_t src[ETH_ALEN], uint64_t now);
/* May p flood so many frames of the wire more? If so it has. The bridge's lock is held. */
bool bridge_guest_may_flood(struct bridge_port *p, unsigned frames, uint64_t now);

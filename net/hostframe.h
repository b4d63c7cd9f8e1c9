/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Frames between tern hosts on the networks of their VMs, apart from IP: ETHERTYPE_TERN, broadcast or to a card's own
 * MAC. They reach hosts whose addresses do not work, and guests neither send nor see them (bridge.c). Nothing here
 * proves who sent one (net/trust.h does), and any may be lost: what is heard without a proof may keep a host from
 * something, never let it.
 */
#pragma once
#include "kernel/base/bits.h"

#define HOSTFRAME_MAX 1500 /* bytes of payload */

/*
 * Called in a card's task for each one that comes in; must not sleep. `from`: to answer it. One receiver, before the
 * first card starts.
 */
struct hostframe_from;
void hostframe_receiver(void (*fn)(const struct hostframe_from *from, const uint8_t *payload, size_t len));
/* To everybody on all networks of this host that are for VMs; or the answer. Best effort. */
void hostframe_broadcast(const void *payload, size_t len);
/*
 * To everybody on that network alone, in a frame of at least `size` bytes behind its Ethernet header. -ENETDOWN: it has
 * no link here; else 0, and best effort.
 */
struct bridge;
int hostframe_broadcast_on(const struct bridge *b, const void *payload, size_t len, size_t size);
/* Of the network that it came from. */
const struct bridge *hostframe_bridge(const struct hostframe_from *from);
size_t hostframe_size(const struct hostframe_from *from); /* bytes behind its Ethernet header */
/* In a frame at least as large as the one that came. */
void hostframe_reply(const struct hostframe_from *from, const void *payload, size_t len);

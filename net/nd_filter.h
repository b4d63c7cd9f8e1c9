/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Which IPv6 frames lwIP gets to see: TCP, echo, queries of multicast listeners, and of neighbour discovery (RFC 4861)
 * what takes nothing from this host or from a peer that has proved its key. lwIP would believe all of it, for its
 * caches of neighbours and ways know no networks. Pure.
 */
#pragma once
#include "kernel/base/ether.h"
#include "kernel/ip.h"
#include <stddef.h>

struct nd_filter {
	const struct ip *own; /* addresses that this host uses on the link, not those that it still probes */
	unsigned nown;
	bool hears_routers; /* advertisements are wanted here */
	/* Where a peer is that has proved its key: false, it is none. */
	bool (*kept)(struct ip ip, uint8_t mac[ETH_ALEN]);
	/* Is ip at home on another network than the one the frame came by? */
	bool (*elsewhere)(const void *arg, struct ip ip);
	const void *arg;
};
/* h: the first n bytes of a frame whose type is IPv6, all of its headers and of its first option if there are any. */
bool nd_filter_passes(const struct nd_filter *f, const uint8_t *h, size_t n);

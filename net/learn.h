/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What the frames of a guest say about it: the addresses that it uses and the multicast groups that it listens to, so
 * that its next host can say so on its behalf (announce.h). Learned from ARP, neighbour discovery, IGMP and MLD alone;
 * other frames only show that a known address is still in use, because a router sends from addresses that are not its
 * own. Bounded tables, the oldest gives place. It moves with the VM (section "net-learned", vmm/vm_port.c).
 */
#pragma once
#include "kernel/frame.h"
#include "kernel/spinlock.h"

#define LEARN_IP4    8
#define LEARN_IP6    8
#define LEARN_GROUPS 32 /* of each family */

struct learn_state { /* in each table the latest is first; the free places, zeros, are last */
	uint8_t ip4[LEARN_IP4 * 4];
	uint8_t ip6[LEARN_IP6 * 16];
	uint8_t group4[LEARN_GROUPS * 4]; /* from all sources (mode EXCLUDE); of others the guest tells itself */
	uint8_t group6[LEARN_GROUPS * 16];
	uint32_t ip4_age[LEARN_IP4], ip6_age[LEARN_IP6]; /* seconds since it was in use; 0 in free places */
	uint8_t router; /* 1: it is an IPv6 router, and what is said on its behalf must say so (RFC 4861, 7.2.5) */
	uint8_t reserved[3];
};
struct learn { /* [l] lock  [t] the task that sends the guest's frames */
	struct spinlock lock;
	struct learn_state s;                                    /* [l] ages are as of learn_save */
	uint64_t ip4_seen_ns[LEARN_IP4], ip6_seen_ns[LEARN_IP6]; /* [l] */
	struct learn_last {
		uint8_t ip[16];
		uint64_t ns;
	} last4, last6; /* [t] what other frames came from lately */
};

void learn_init(struct learn *l);  /* once */
void learn_reset(struct learn *l); /* the guest was switched off and on: nothing is known of it */
/* It sent f from mac, its own. Reads headers once, from a copy: the guest may change them meanwhile. */
void learn_sent(struct learn *l, const uint8_t mac[ETH_ALEN], const struct frame *f, uint64_t now_ns);
/* What is known, with ages as of now. Any task. */
void learn_get(struct learn *l, struct learn_state *out, uint64_t now_ns);
/* For saving: bring l->s up to date; after loading: go on from it. learn_is_sane() of it is for the loader to ask. */
void learn_save(struct learn *l, uint64_t now_ns);
void learn_loaded(struct learn *l, uint64_t now_ns);
bool learn_is_sane(const struct learn_state *s);
bool learn_is_free(const uint8_t *ip, unsigned width); /* is this place of a table free? */

/* SPDX-License-Identifier: BSD-2-Clause */
/* What uplink.c and its part for 802.3ad share: cards under networks, and LACP (lacp.h) on them. For these two. */
#pragma once
#include "kernel/spinlock.h"
#include "kernel/sync.h"
#include "net/fair.h"
#include "net/lacp.h"
#include "net/uplink.h"

struct leg { /* (c) but for started, which is set before the card runs */
	struct uplink *u;
	struct nic *nic;
	bool started;
	uint64_t full_ns; /* [l] gcra: PDUs that are heard */
};
struct uplink {           /* (c) after uplink_start_all  [a] atomic, written under lock  [l] lock */
	struct fair fair; /* among guests, of all its networks */
	char name[NET_NAME_MAX];
	struct leg leg[NET_LEGS_MAX];
	unsigned nlegs, nnets;
	unsigned hears, sends; /* [a] the legs that frames are taken from and sent over, as bits */
	struct uplink_net *net[NET_IF_MAX];
	bool aggregates;
	struct spinlock lock; /* interrupts off */
	struct lacp lacp;     /* [l] */
	struct waitq wake;    /* [l] of its task */
	bool kicked;          /* [l] */
	bool others;          /* [l] other cards send than the networks were told of */
};
static inline unsigned uplink_index(const struct leg *l) { return (unsigned)(l - l->u->leg); }
static inline unsigned uplink_sends(const struct uplink *u) { return __atomic_load_n(&u->sends, __ATOMIC_RELAXED); }

/* A card's link is up or down now: u->lock is held. */
void uplink_lacp_link(struct leg *l, bool up);
/* A frame of lacp_group and LACP_TYPE came in. A card's task. */
void uplink_lacp_received(struct leg *l, const struct frame *f);
/* Speaks LACP, and tells the networks when other cards send than before. */
void uplink_lacp_task(void *uplink);

/* SPDX-License-Identifier: BSD-2-Clause */
/* Cards and bonds under the networks (uplink.h). */
#include "net/uplink.h"
#include "kernel/log.h"
#include "kernel/spinlock.h"
#include <stdio.h>
#include <string.h>

#define TAG_VID 0xfff /* IEEE 802.1Q 9.6: the low bits of the tag's control information */

struct leg { /* (c) but for started, which is set before the card runs */
	struct uplink *u;
	struct nic *nic;
	bool started;
};
struct uplink { /* (c) after uplink_start_all  [a] atomic */
	char name[NET_NAME_MAX];
	struct leg leg[NET_LEGS_MAX];
	unsigned nlegs, nnets;
	unsigned active; /* [a] the leg in use */
	struct uplink_net *net[NET_IF_MAX];
};
static struct uplink uplinks[NET_IF_MAX]; /* (c) */
static unsigned nuplinks;

static struct leg *active(struct uplink *u) { return &u->leg[__atomic_load_n(&u->active, __ATOMIC_RELAXED)]; }

static bool leg_is_up(const struct leg *l) { return l->started && l->nic->ops->link_up(l->nic); }

/* ---- frames in ---- */

static struct uplink_net *net_of(const struct uplink *u, unsigned vlan)
{
	for (unsigned i = 0; i < u->nnets; i++)
		if (u->net[i]->vlan == vlan)
			return u->net[i];
	return NULL;
}

/* The VLAN of a frame that begins with head: 0, none. */
static unsigned vlan_of(const struct frame *f, const uint8_t head[ETH_HLEN + ETH_TAG_LEN])
{
	bool tagged = f->len >= ETH_HLEN + ETH_TAG_LEN && get_be16(head + ETH_TYPE) == ETHERTYPE_CTAG;
	return tagged ? get_be16(head + ETH_HLEN) & TAG_VID : 0;
}

static void received(void *arg, struct frame *f)
{
	struct leg *l = arg;
	struct uplink *u = l->u;
	uint8_t head[ETH_HLEN + ETH_TAG_LEN];
	struct frame plain;
	if (l != active(u) || frame_copy_out(f, 0, head, sizeof(head)) < ETH_HLEN)
		return;
	struct uplink_net *n = net_of(u, vlan_of(f, head));
	if (!n && (!(n = net_of(u, 0)) || !n->takes_tags))
		return;
	if (n->vlan) {
		memmove(head + ETH_TYPE, head + ETH_TYPE + ETH_TAG_LEN, 2);
		if (!frame_put_head(&plain, head, ETH_HLEN, f, sizeof(head)))
			return;
		f = &plain;
	}
	n->rx(n->arg, f);
}

/* ---- frames out ---- */

/* A guest's own tag (trunk = yes) must not lead into another of this host's networks. */
static bool is_for_other(const struct uplink_net *n, const struct frame *f)
{
	uint8_t head[ETH_HLEN + ETH_TAG_LEN];
	if (n->u->nnets < 2 || frame_copy_out(f, 0, head, sizeof(head)) < sizeof(head))
		return false;
	const struct uplink_net *to = net_of(n->u, vlan_of(f, head));
	return to && to != n;
}

int uplink_send(const struct uplink_net *n, const struct frame *f)
{
	struct nic *nic = active(n->u)->nic;
	uint8_t head[ETH_HLEN + ETH_TAG_LEN];
	struct frame tagged;
	if (!n->vlan)
		return is_for_other(n, f) ? -EACCES : nic->ops->tx(nic, f);
	if (frame_copy_out(f, 0, head, ETH_HLEN) < ETH_HLEN)
		return -EINVAL;
	memmove(head + ETH_TYPE + ETH_TAG_LEN, head + ETH_TYPE, 2);
	put_be16(head + ETH_TYPE, ETHERTYPE_CTAG);
	put_be16(head + ETH_HLEN, n->vlan);
	return frame_put_head(&tagged, head, sizeof(head), f, ETH_HLEN) ? nic->ops->tx(nic, &tagged) : -EINVAL;
}

unsigned uplink_room(const struct uplink_net *n)
{
	struct nic *nic = active(n->u)->nic;
	return nic->ops->tx_room(nic);
}

/* ---- links ---- */

/* A card's link changed. Interrupt context; of two on different CPUs the later one sees both. */
static void link_changed(void *arg, bool up)
{
	static struct spinlock lock = SPINLOCK_INIT("link");
	struct leg *l = arg;
	struct uplink *u = l->u;
	uint64_t flags = spin_lock_irqsave(&lock);
	unsigned before = __atomic_load_n(&u->active, __ATOMIC_RELAXED), now = before;
	if (!leg_is_up(&u->leg[before]))
		for (unsigned i = u->nlegs; i-- > 0;)
			if (leg_is_up(&u->leg[i]))
				now = i;
	__atomic_store_n(&u->active, now, __ATOMIC_RELAXED);
	spin_unlock_irqrestore(&lock, flags);
	if (now != before)
		log_warn("net: %s: %s has no link, %s is used now", u->name, u->leg[before].nic->name,
			 u->leg[now].nic->name);
	/* Whatever it is connected to now may have forgotten where our guests are, or be another switch. */
	for (unsigned i = 0; i < u->nnets && (now != before || (up && l == active(u))); i++)
		u->net[i]->back(u->net[i]->arg);
}

bool uplink_is_up(const struct uplink_net *n) { return leg_is_up(active(n->u)); }

/* ---- setting up, showing ---- */

static struct uplink *uplink_of(const struct nic *first)
{
	for (unsigned i = 0; i < nuplinks; i++)
		if (uplinks[i].leg[0].nic == first)
			return &uplinks[i];
	return NULL;
}

void uplink_add(struct uplink_net *n, const char *name, struct nic *const *card, unsigned ncards)
{
	struct uplink *u = uplink_of(card[0]);
	if (!u) {
		BUG_ON(nuplinks == ARRAY_SIZE(uplinks) || !ncards || ncards > NET_LEGS_MAX);
		u = &uplinks[nuplinks++];
		sniprintf(u->name, sizeof(u->name), "%s", name);
		for (; u->nlegs < ncards; u->nlegs++)
			u->leg[u->nlegs] = (struct leg){ .u = u, .nic = card[u->nlegs] };
	}
	BUG_ON(u->nnets == ARRAY_SIZE(u->net));
	n->u = u;
	u->net[u->nnets++] = n;
	for (unsigned i = 0; i < u->nlegs; i++)
		u->leg[i].nic->mtu_used = MAX(u->leg[i].nic->mtu_used, n->mtu);
}

static void leg_start(struct leg *l)
{
	struct nic *nic = l->nic;
	nic->rx = received;
	nic->link_changed = link_changed;
	nic->rx_arg = l;
	l->started = true; /* before its first interrupt */
	int err = nic_start(nic);
	if (!err)
		return;
	l->started = false;
	log_error("net: %s (%s) is not usable: %s", l->u->name, nic->name, err_name(err));
}

bool uplink_start_all(void)
{
	bool any = false;
	for (unsigned i = 0; i < nuplinks; i++) {
		struct uplink *u = &uplinks[i];
		for (unsigned k = 0; k < u->nlegs; k++) {
			leg_start(&u->leg[k]);
			any |= u->leg[k].started;
		}
		link_changed(&u->leg[0], false); /* the first may be the one without a cable */
	}
	return any;
}

unsigned uplink_offloads(const struct uplink_net *n)
{
	unsigned all = ~0U;
	for (unsigned i = 0; i < n->u->nlegs; i++)
		all &= n->u->leg[i].nic->offloads;
	return all;
}

const uint8_t *uplink_mac(const struct uplink_net *n) { return n->u->leg[0].nic->mac; }

const char *uplink_name(const struct uplink_net *n) { return n->u->name; }

struct nic *uplink_card(const struct uplink_net *n, unsigned i, bool *used)
{
	if (i >= n->u->nlegs)
		return NULL;
	*used = &n->u->leg[i] == active(n->u);
	return n->u->leg[i].nic;
}

/* SPDX-License-Identifier: BSD-2-Clause */
/* Cards and bonds under the networks (uplink.h). */
#include "net/uplink.h"
#include "kernel/log.h"
#include "kernel/task.h"
#include "net/uplink_lacp.h"
#include <stdio.h>
#include <string.h>

static struct uplink uplinks[NET_IF_MAX]; /* (c) */
static unsigned nuplinks;

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
	return tagged ? get_be16(head + ETH_HLEN) & ETH_TAG_VID : 0;
}

static void received(void *arg, struct frame *f)
{
	struct leg *l = arg;
	struct uplink *u = l->u;
	uint8_t head[ETH_HLEN + ETH_TAG_LEN];
	struct frame plain;
	if (frame_copy_out(f, 0, head, sizeof(head)) < ETH_HLEN)
		return;
	if (u->aggregates && get_be16(head + ETH_TYPE) == LACP_TYPE && !memcmp(head, lacp_group, ETH_ALEN)) {
		uplink_lacp_received(l, f);
		return;
	}
	if (!(__atomic_load_n(&u->hears, __ATOMIC_RELAXED) & 1U << uplink_index(l)))
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

/*
 * A guest's own tag (trunk = yes) must not lead into another of this host's networks, nor one behind a tag of priority
 * alone (VID 0, IEEE 802.1Q 6.9.1), which the switch takes away.
 */
static bool is_for_other(const struct uplink_net *n, const struct frame *f)
{
	uint8_t head[ETH_HLEN + ETH_TAGS * ETH_TAG_LEN];
	unsigned vlan = 0;
	if (n->u->nnets < 2)
		return false;
	size_t len = frame_copy_out(f, 0, head, sizeof(head));
	for (unsigned i = 0; i < ETH_TAGS && !vlan; i++) {
		const uint8_t *tag = head + ETH_TYPE + i * ETH_TAG_LEN;
		if (len < ETH_HLEN + (i + 1) * ETH_TAG_LEN || get_be16(tag) != ETHERTYPE_CTAG)
			return false;
		vlan = get_be16(tag + 2) & ETH_TAG_VID;
	}
	const struct uplink_net *to = vlan ? net_of(n->u, vlan) : NULL;
	return to && to != n;
}

/* The card for f; NULL: none sends. */
static struct nic *card_for(const struct uplink *u, const struct frame *f)
{
	unsigned set = uplink_sends(u), n = popcount64(set);
	/* Packets of one flow keep their order if they take one card (IEEE 802.1AX leaves the choice to the sender). */
	for (unsigned skip = n > 1 ? frame_flow(f) % n : 0; skip; skip--)
		set &= set - 1;
	return set ? u->leg[__builtin_ctz(set)].nic : NULL;
}

int uplink_send(const struct uplink_net *n, const struct frame *f)
{
	struct nic *nic = card_for(n->u, f);
	uint8_t head[ETH_HLEN + ETH_TAG_LEN];
	struct frame tagged;
	if (!nic)
		return -ENETDOWN;
	if (!n->vlan)
		return is_for_other(n, f) ? -EACCES : nic->ops->tx(nic, f);
	if (frame_copy_out(f, 0, head, ETH_HLEN) < ETH_HLEN)
		return -EINVAL;
	memmove(head + ETH_TYPE + ETH_TAG_LEN, head + ETH_TYPE, 2);
	put_be16(head + ETH_TYPE, ETHERTYPE_CTAG);
	put_be16(head + ETH_HLEN, n->vlan);
	return frame_put_head(&tagged, head, sizeof(head), f, ETH_HLEN) ? nic->ops->tx(nic, &tagged) : -EINVAL;
}

unsigned uplink_room(const struct uplink_net *n, size_t len)
{
	unsigned set = uplink_sends(n->u), room = ~0U;
	for (unsigned i = 0; i < n->u->nlegs; i++)
		if (set & 1U << i)
			room = MIN(room, n->u->leg[i].nic->ops->tx_room(n->u->leg[i].nic, len + ETH_TAG_LEN));
	return set ? room : 0;
}

/* ---- links ---- */

/* Of an active-backup bond or a card alone, u->lock held: the leg in use, from now on. */
static unsigned choose_leg(const struct uplink *u)
{
	unsigned now = __builtin_ctz(uplink_sends(u));
	if (!leg_is_up(&u->leg[now]))
		for (unsigned i = u->nlegs; i-- > 0;)
			if (leg_is_up(&u->leg[i]))
				now = i;
	return now;
}

/* A card's link changed. Interrupt context; of two on different CPUs the later one sees both. */
static void link_changed(void *arg, bool up)
{
	struct leg *l = arg;
	struct uplink *u = l->u;
	uint64_t flags = spin_lock_irqsave(&u->lock);
	if (u->aggregates) {
		uplink_lacp_link(l, leg_is_up(l)); /* whose task tells who wants to know */
		spin_unlock_irqrestore(&u->lock, flags);
		return;
	}
	unsigned before = __builtin_ctz(uplink_sends(u)), now = choose_leg(u);
	__atomic_store_n(&u->hears, 1U << now, __ATOMIC_RELAXED);
	__atomic_store_n(&u->sends, 1U << now, __ATOMIC_RELAXED);
	fair_forget(&u->fair);
	spin_unlock_irqrestore(&u->lock, flags);
	if (now != before)
		log_warn("net: %s: %s has no link, %s is used now", u->name, u->leg[before].nic->name,
			 u->leg[now].nic->name);
	/* Whatever it is connected to now may have forgotten where our guests are, or be another switch. */
	for (unsigned i = 0; i < u->nnets && (now != before || (up && uplink_index(l) == now)); i++)
		u->net[i]->back(u->net[i]->arg);
}

bool uplink_is_up(const struct uplink_net *n)
{
	unsigned set = uplink_sends(n->u);
	for (unsigned i = 0; i < n->u->nlegs; i++)
		if (set & 1U << i && leg_is_up(&n->u->leg[i]))
			return true;
	return false;
}

unsigned uplink_mbit(const struct uplink_net *n)
{
	unsigned set = uplink_sends(n->u), best = 0;
	for (unsigned i = 0; i < n->u->nlegs; i++) {
		struct nic *nic = n->u->leg[i].nic;
		if (set & 1U << i && nic->ops->mbit)
			best = MAX(best, nic->ops->mbit(nic));
	}
	return best;
}

/* ---- setting up, showing ---- */

static struct uplink *uplink_of(const struct nic *first)
{
	for (unsigned i = 0; i < nuplinks; i++)
		if (uplinks[i].leg[0].nic == first)
			return &uplinks[i];
	return NULL;
}

/* At boot: nobody else knows it yet. */
void uplink_add(struct uplink_net *n, const char *name, struct nic *const *card, unsigned ncards)
{
	struct uplink *u = uplink_of(card[0]);
	if (!u) {
		BUG_ON(nuplinks == ARRAY_SIZE(uplinks) || !ncards || ncards > NET_LEGS_MAX);
		u = &uplinks[nuplinks++];
		sniprintf(u->name, sizeof(u->name), "%s", name);
		for (; u->nlegs < ncards; u->nlegs++)
			u->leg[u->nlegs] = (struct leg){ .u = u, .nic = card[u->nlegs] };
		u->hears = u->sends = 1;
		u->aggregates = n->aggregates;
		spin_init(&u->lock, "uplink");
		fair_init(&u->fair);
		waitq_init(&u->wake);
		lacp_init(&u->lacp, card[0]->mac, ncards);
	}
	BUG_ON(u->nnets == ARRAY_SIZE(u->net));
	n->u = u;
	u->net[u->nnets++] = n;
	for (unsigned i = 0; i < u->nlegs; i++)
		u->leg[i].nic->mtu_used = MAX(u->leg[i].nic->mtu_used, n->mtu);
}

struct fair *uplink_fair(const struct uplink_net *n) { return &n->u->fair; }

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
		if (u->aggregates && !task_create("lacp", TASK_PRIO_IO, uplink_lacp_task, u)) {
			log_error("net: %s: no memory for the task that speaks LACP: its first card is used", u->name);
			u->aggregates = false;
		}
		for (unsigned k = 0; k < u->nlegs; k++) {
			leg_start(&u->leg[k]);
			any |= u->leg[k].started;
		}
		for (unsigned k = 0; k < u->nlegs; k++)
			link_changed(&u->leg[k], false); /* the first may be the one without a cable */
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
	*used = uplink_sends(n->u) & 1U << i;
	return n->u->leg[i].nic;
}

/* SPDX-License-Identifier: BSD-2-Clause */
/* Bonds with 802.3ad: LACP is spoken, what it comes to is used, and flows are shared out (uplink_lacp.h). */
#include "net/uplink_lacp.h"
#include "kernel/base/hash.h"
#include "kernel/log.h"
#include "kernel/time.h"
#include "net/packet.h"
#include <stdio.h>
#include <string.h>

/* What lacp.c has found out is used from now on. u->lock is held. True: other cards than before send. */
static bool publish(struct uplink *u)
{
	unsigned before = uplink_sends(u), now = lacp_distributes(&u->lacp);
	__atomic_store_n(&u->hears, lacp_collects(&u->lacp), __ATOMIC_RELAXED);
	__atomic_store_n(&u->sends, now, __ATOMIC_RELAXED);
	return now != before;
}

bool uplink_lacp_link(struct leg *l, bool up)
{
	lacp_link(&l->u->lacp, uplink_index(l), up);
	l->u->kicked = true;
	waitq_wake_all(&l->u->wake);
	return publish(l->u);
}

/* Other cards send than before: whatever those are connected to may not know where our guests are. */
void uplink_lacp_others(const struct uplink *u)
{
	char names[NET_LEGS_MAX * (sizeof(u->leg[0].nic->name) + 2)] = "";
	unsigned now = uplink_sends(u);
	for (unsigned i = 0; i < u->nlegs; i++)
		if (now & 1U << i)
			sniprintf(names + strlen(names), sizeof(names) - strlen(names), "%s%s", names[0] ? ", " : "",
				  u->leg[i].nic->name);
	if (now)
		log_info("net: %s: frames go over %s now", u->name, names);
	else
		log_warn("net: %s: frames go over no card now", u->name);
	for (unsigned i = 0; now && i < u->nnets; i++)
		u->net[i]->back(u->net[i]->arg);
}

static void pdu_send(const struct leg *l, uint8_t pdu[LACP_LEN])
{
	uint8_t head[ETH_HLEN];
	struct frame f = { .iov = { { head, sizeof(head) }, { pdu, LACP_LEN } },
			   .niov = 2,
			   .len = ETH_HLEN + LACP_LEN };
	memcpy(head, lacp_group, ETH_ALEN);
	memcpy(head + ETH_SRC, l->nic->mac, ETH_ALEN);
	put_be16(head + ETH_TYPE, LACP_TYPE);
	(void)l->nic->ops->tx(l->nic, &f); /* what is lost is said again */
}

void uplink_lacp_received(struct leg *l, const struct frame *f)
{
	struct uplink *u = l->u;
	uint8_t pdu[LACP_LEN];
	if (frame_copy_out(f, ETH_HLEN, pdu, sizeof(pdu)) < sizeof(pdu))
		return;
	uint64_t flags = spin_lock_irqsave(&u->lock);
	bool answer = lacp_hear(&u->lacp, uplink_index(l), pdu, time_ns()), others = publish(u);
	u->kicked = true;
	waitq_wake_all(&u->wake);
	spin_unlock_irqrestore(&u->lock, flags);
	if (answer)
		pdu_send(l, pdu);
	if (others)
		uplink_lacp_others(u);
}

void uplink_lacp_task(void *arg)
{
	struct uplink *u = arg;
	for (;;) {
		uint8_t pdu[NET_LEGS_MAX][LACP_LEN];
		uint64_t next, flags = spin_lock_irqsave(&u->lock);
		unsigned due = lacp_due(&u->lacp, time_ns(), &next);
		for (unsigned i = 0; i < u->nlegs; i++)
			if (due & 1U << i)
				lacp_write(&u->lacp, i, pdu[i]);
		bool others = publish(u);
		u->kicked = false;
		spin_unlock_irqrestore(&u->lock, flags);
		for (unsigned i = 0; i < u->nlegs; i++)
			if (due & 1U << i)
				pdu_send(&u->leg[i], pdu[i]);
		if (others)
			uplink_lacp_others(u);
		flags = spin_lock_irqsave(&u->lock);
		while (!u->kicked && !waitq_wait(&u->wake, &u->lock, &flags, next))
			;
		spin_unlock_irqrestore(&u->lock, flags);
	}
}

bool uplink_partner(const struct uplink_net *n, unsigned i, uint8_t system[ETH_ALEN])
{
	struct uplink *u = n->u;
	uint64_t flags = spin_lock_irqsave(&u->lock);
	bool heard = u->aggregates && i < u->nlegs && u->lacp.port[i].current;
	if (heard)
		memcpy(system, u->lacp.port[i].partner.system, ETH_ALEN);
	spin_unlock_irqrestore(&u->lock, flags);
	return heard;
}

/*
 * Packets of one flow keep their order if they take one card: by MACs, and behind no tag of a guest's own by addresses
 * and, where every packet has them, ports (IEEE 802.1AX leaves the choice to the sender).
 */
unsigned uplink_flow(const struct frame *f)
{
	uint8_t h[ETH_HLEN + IP6_HDR + 4] = { 0 };
	const uint8_t *ip = h + ETH_HLEN;
	(void)frame_copy_out(f, 0, h, sizeof(h));
	uint64_t sum = fnv1a(FNV1A_START, h, 2UL * ETH_ALEN);
	uint8_t proto = 0;
	size_t l4 = 0;
	if (get_be16(h + ETH_TYPE) == ETHERTYPE_IPV4) {
		sum = fnv1a(sum, ip + IP4_SRC, 8);
		proto = get_be16(ip + IP4_FRAG) & IP4_FRAG_MASK ? 0 : ip[IP4_PROTO];
		l4 = (ip[0] & 0xfU) * 4;
	} else if (get_be16(h + ETH_TYPE) == ETHERTYPE_IPV6) {
		sum = fnv1a(sum, ip + IP6_SRC, 32);
		proto = ip[IP6_NEXT];
		l4 = IP6_HDR;
	}
	if ((proto == PROTO_TCP || proto == PROTO_UDP) && l4 <= IP6_HDR)
		sum = fnv1a(sum, ip + l4, 4);
	return (unsigned)(sum ^ sum >> 32);
}

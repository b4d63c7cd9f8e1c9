/* SPDX-License-Identifier: BSD-2-Clause */
/* Bonds with 802.3ad: LACP is spoken, what it comes to is used, and flows are shared out (uplink_lacp.h). */
#include "net/uplink_lacp.h"
#include "kernel/base/gcra.h"
#include "kernel/log.h"
#include "kernel/time.h"
#include "net/packet.h"
#include <stdio.h>
#include <string.h>

#define TELL_NS NS_PER_SEC        /* at least between two times that the networks are told of other cards */
#define PDU_NS  (NS_PER_SEC / 10) /* of each card so many are heard (IEEE 802.3 57A.5 allows a sender ten) */
#define PDUS    10                /* of those at once */

/* What lacp.c has found out is used from now on. u->lock is held. */
static void publish(struct uplink *u)
{
	unsigned now = lacp_distributes(&u->lacp);
	u->others |= now != uplink_sends(u);
	__atomic_store_n(&u->hears, lacp_collects(&u->lacp), __ATOMIC_RELAXED);
	__atomic_store_n(&u->sends, now, __ATOMIC_RELAXED);
	fair_forget(&u->fair);
}

/* u->lock is held: its task has something to do. */
static void kick(struct uplink *u)
{
	u->kicked = true;
	waitq_wake_all(&u->wake);
}

void uplink_lacp_link(struct leg *l, bool up)
{
	lacp_link(&l->u->lacp, uplink_index(l), up, time_ns());
	publish(l->u);
	kick(l->u);
}

/* Other cards send than before: whatever those are connected to may not know where our guests are. */
static void tell(const struct uplink *u)
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

static int pdu_send(const struct leg *l, uint8_t pdu[LACP_LEN])
{
	uint8_t head[ETH_HLEN];
	struct frame f = { .iov = { { head, sizeof(head) }, { pdu, LACP_LEN } },
			   .niov = 2,
			   .len = ETH_HLEN + LACP_LEN,
			   .flags = FRAME_CONTROL };
	memcpy(head, lacp_group, ETH_ALEN);
	memcpy(head + ETH_SRC, l->nic->mac, ETH_ALEN);
	put_be16(head + ETH_TYPE, LACP_TYPE);
	return l->nic->ops->tx(l->nic, &f);
}

void uplink_lacp_received(struct leg *l, const struct frame *f)
{
	struct uplink *u = l->u;
	uint8_t pdu[LACP_LEN];
	bool answer = false;
	if (frame_copy_out(f, ETH_HLEN, pdu, sizeof(pdu)) < sizeof(pdu))
		return;
	uint64_t flags = spin_lock_irqsave(&u->lock), now = time_ns();
	if (gcra_take(&l->full_ns, now, PDU_NS, (PDUS - 1) * PDU_NS + 1)) {
		answer = lacp_hear(&u->lacp, uplink_index(l), pdu, now);
		publish(u);
		kick(u);
	}
	spin_unlock_irqrestore(&u->lock, flags);
	if (answer)
		(void)pdu_send(l, pdu);
}

/* Send what is due, u->lock held but for that; what a card does not take is due again. When there is more to do. */
static uint64_t send_due(struct uplink *u, uint64_t *flags)
{
	uint8_t pdu[NET_LEGS_MAX][LACP_LEN];
	uint64_t next;
	unsigned due = lacp_due(&u->lacp, time_ns(), &next), failed = 0;
	for (unsigned i = 0; i < u->nlegs; i++)
		if (due & 1U << i)
			lacp_write(&u->lacp, i, pdu[i]);
	publish(u);
	spin_unlock_irqrestore(&u->lock, *flags);
	for (unsigned i = 0; i < u->nlegs; i++)
		if (due & 1U << i && pdu_send(&u->leg[i], pdu[i]))
			failed |= 1U << i;
	*flags = spin_lock_irqsave(&u->lock);
	for (unsigned i = 0; i < u->nlegs; i++)
		if (failed & 1U << i)
			lacp_unsent(&u->lacp, i);
	return failed ? MIN(next, time_ns() + LACP_AGAIN_NS) : next;
}

void uplink_lacp_task(void *arg)
{
	struct uplink *u = arg;
	uint64_t told_ns = 0, flags = spin_lock_irqsave(&u->lock);
	for (;;) {
		u->kicked = false;
		uint64_t next = send_due(u, &flags), now = time_ns();
		if (u->others && now >= told_ns) {
			u->others = false;
			told_ns = now + TELL_NS;
			spin_unlock_irqrestore(&u->lock, flags);
			tell(u);
			flags = spin_lock_irqsave(&u->lock);
		} else if (u->others) {
			next = MIN(next, told_ns);
		}
		while (!u->kicked && !waitq_wait(&u->wake, &u->lock, &flags, next))
			;
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

/* SPDX-License-Identifier: BSD-2-Clause */
/* Is the destination on the VM's network (reach.h)? */
#include "vmm/migrate/reach.h"
#include "kernel/base/list.h"
#include "kernel/sync.h"
#include "kernel/time.h"
#include "net/bridge.h"
#include "vmm/migrate/heard.h"
#include "vmm/migrate/this_host.h"
#include <stdio.h>
#include <string.h>

#define WAIT_NS (200 * NS_PER_MS)
#define WAITS   20 /* for another answer than the one that was heard: a switch sends by a dead leg of a bond for 3 s */
#define DOUBLES 15 /* until then each pause is twice the one before */
#define SILENT  35 /* for the first: 7 s, since the link may be cut for 5 s */

static struct spinlock lock = SPINLOCK_INIT("reach");
static struct list reaches = LIST_INIT(reaches); /* [lock] struct reaching */

struct reaching {
	struct list node;
	const struct reach_to *to;
	uint64_t nonce;
	struct completion heard;
	struct reached a;   /* [lock] the answer; came REACHED_ENDS: none yet */
	uint32_t short_mtu; /* [lock] a short frame came both ways: the MTU there */
};

static int put_reach(struct wire_tx *tx, const void *arg) { return reach_send(tx, arg, TIME_NEVER); }
static int put_reached(struct wire_tx *tx, const void *arg) { return reached_send(tx, arg, TIME_NEVER); }

static unsigned waits(struct reaching *r)
{
	uint64_t flags = spin_lock_irqsave(&lock);
	bool heard = r->a.came != REACHED_ENDS || r->short_mtu;
	spin_unlock_irqrestore(&lock, flags);
	return heard ? WAITS : SILENT;
}

/*
 * Say it, again and again, for it may be lost, but less and less often, to once a second; until it is answered. In full
 * frames, since those of guests are; in short ones to know why.
 */
static int reach_say(struct reaching *r, const struct bridge *on, const struct datagram *b)
{
	int err = -ETIMEDOUT;
	for (unsigned i = 0; err == -ETIMEDOUT && i < waits(r) && (!i || time_ns() < r->to->end_ns); i++) {
		bool now = i > DOUBLES ? i % (NS_PER_SEC / WAIT_NS) == 0 : !(i & (i + 1));
		if (now && hostframe_broadcast_on(on, b->p, b->len, r->to->mtu) && !i)
			return -ENETDOWN; /* later it may just be down for a moment */
		if (now && i > 1)
			(void)hostframe_broadcast_on(on, b->p, b->len, 0);
		err = completion_wait(&r->heard, time_ns() + WAIT_NS);
		if (err && r->to->leaves && r->to->leaves(r->to->arg))
			return -ECANCELED;
	}
	return err;
}

static int reach_judge(const struct reaching *r, const char *net, struct why *w)
{
	const char *name = r->to->name;
	switch ((enum reached_at)r->a.came) {
	case REACHED_SAME: return 0;
	case REACHED_NO_SUCH:
		return why_set(w, -EHOSTUNREACH, "there is no network %s for VMs at %s ([net] there)", net, name);
	case REACHED_ELSEWHERE:
		return why_set(w, -EHOSTUNREACH,
			       "its network %s comes out at %s on the network %s: cables or VLANs differ", net, name,
			       r->a.net);
	case REACHED_ENDS: break;
	}
	if (r->short_mtu && r->short_mtu < r->to->mtu)
		return why_set(w, -EHOSTUNREACH,
			       "its network %s has an MTU of %u at %s, and its guest uses %u ([net] mtu)", net,
			       r->short_mtu, name, r->to->mtu);
	if (r->short_mtu)
		return why_set(w, -EHOSTUNREACH,
			       "frames of %u bytes on its network %s do not get to %s and back, short ones do: what is "
			       "between them carries less than the MTU ([net] mtu)",
			       r->to->mtu, net, name);
	return why_set(
		w, -ETIMEDOUT,
		"frames on its network %s do not get to %s and back: the link, cables or VLAN there? Where a switch "
		"drops EtherType 88b5: --any-network",
		net, name);
}

int reach_ask(const char *net, const struct reach_to *to, struct why *w)
{
	struct datagram b;
	struct bridge *on = bridge_find(net, w);
	struct reach q = { .to = to->inc };
	struct reaching r = { .to = to, .nonce = heard_nonce_new(), .a.came = REACHED_ENDS };
	if (!on)
		return -ENOENT;
	sniprintf(q.net, sizeof(q.net), "%s", net);
	int err = datagram_write(&b, r.nonce, true, put_reach, &q);
	if (err)
		return err;
	completion_init(&r.heard);
	uint64_t flags = spin_lock_irqsave(&lock);
	list_append(&reaches, &r.node);
	spin_unlock_irqrestore(&lock, flags);
	err = reach_say(&r, on, &b);
	flags = spin_lock_irqsave(&lock);
	list_remove(&r.node);
	spin_unlock_irqrestore(&lock, flags);
	return err && err != -ETIMEDOUT ? err : reach_judge(&r, bridge_name(on), w);
}

/* A destination says where one of ours came out. On several of its networks at once: the right one counts. */
void reach_hear(struct datagram_in *in)
{
	struct reached a;
	bool proved = in->word == TRUST_PROVED;
	if (!reached_parse(&in->rx, &a))
		return;
	uint64_t flags = spin_lock_irqsave(&lock);
	list_for_each(r, &reaches, struct reaching, node) {
		if (r->nonce != in->nonce || !incarnation_equal(r->to->inc, in->h.inc) ||
		    !(proved || r->to->in_clear) || r->a.came == REACHED_SAME)
			continue;
		if (a.came == REACHED_SAME && a.size < r->to->mtu) {
			r->short_mtu = MAX(a.mtu, 1U);
			continue;
		}
		r->a = a;
		if (a.came != REACHED_ELSEWHERE)
			completion_done(&r->heard);
	}
	spin_unlock_irqrestore(&lock, flags);
}

void reach_answer(struct datagram_in *in, bool limited)
{
	struct datagram b;
	struct reach q;
	const struct bridge *here = hostframe_bridge(in->from);
	if (!reach_parse(&in->rx, &q) || !incarnation_equal(q.to, migrate_this_host()->inc) ||
	    (limited && !datagram_may_answer()))
		return;
	const struct bridge *meant = bridge_find(q.net, NULL);
	struct reached a = { .came = REACHED_NO_SUCH,
			     .size = (uint32_t)hostframe_size(in->from),
			     .mtu = bridge_mtu(here) };
	if (meant)
		a.came = meant == here ? REACHED_SAME : REACHED_ELSEWHERE;
	sniprintf(a.net, sizeof(a.net), "%s", bridge_name(here));
	if (!datagram_write(&b, in->nonce, in->word == TRUST_PROVED, put_reached, &a))
		hostframe_reply(in->from, b.p, b.len);
}

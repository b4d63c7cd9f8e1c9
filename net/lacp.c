/* SPDX-License-Identifier: BSD-2-Clause */
/* LACP (lacp.h). Names in comments are those of IEEE Std 802.1AX-2014. */
#include "net/lacp.h"
#include "kernel/base/gcra.h"
#include <string.h>

enum { PRIORITY = 0x8000, KEY = 1 };
#define TIMEOUT_NS (3 * NS_PER_SEC) /* Short_Timeout_Time */
#define FAST_NS    NS_PER_SEC       /* Fast_Periodic_Time */
#define SLOW_NS    (30 * NS_PER_SEC)

/* PDUs: offsets (6.4.2.3, 6.5.3.2), and in a side's information. */
enum { SUBTYPE = 0, VERSION = 1, ACTOR = 2, PARTNER = 22, COLLECTOR = 42, MARKER = 2 };
enum { TLV_LEN = 1, SYSTEM_PRIORITY = 2, SYSTEM = 4, KEY_AT = 10, PORT_PRIORITY = 12, PORT = 14, STATE = 16 };
enum { SUBTYPE_LACP = 1, SUBTYPE_MARKER = 2 };
enum { TLV_ACTOR = 1, TLV_PARTNER = 2, TLV_COLLECTOR = 3, TLV_MARKER = 1, TLV_MARKER_RESPONSE = 2 };
enum { INFO_LEN = 20, COLLECTOR_LEN = 16, MARKER_LEN = 16 };

const uint8_t lacp_group[ETH_ALEN] = { 0x01, 0x80, 0xc2, 0, 0, 2 };

void lacp_init(struct lacp *l, const uint8_t system[ETH_ALEN], unsigned n)
{
	*l = (struct lacp){ .n = n, .chosen = -1 };
	for (unsigned i = 0; i < n; i++) {
		struct lacp_info *a = &l->port[i].actor;
		*a = (struct lacp_info){ .system_priority = PRIORITY,
					 .key = KEY,
					 .port_priority = PRIORITY,
					 .port = (uint16_t)(i + 1),
					 .state = LACP_ACTIVITY | LACP_SHORT | LACP_AGGREGATION | LACP_DEFAULTED };
		memcpy(a->system, system, ETH_ALEN);
	}
}

/* ---- which ports belong together ---- */

static bool same_group(const struct lacp_info *a, const struct lacp_info *b)
{
	return a->system_priority == b->system_priority && a->key == b->key && !memcmp(a->system, b->system, ETH_ALEN);
}

/* A partner that aggregates no more than one port is a group with each of them. */
static bool joined(const struct lacp *l, unsigned i, unsigned k)
{
	const struct lacp_port *a = &l->port[i], *b = &l->port[k];
	return i == k ? a->up && a->current
		      : a->up && b->up && a->current && b->current && same_group(&a->partner, &b->partner) &&
				a->partner.state & b->partner.state & LACP_AGGREGATION;
}

static unsigned members(const struct lacp *l, int of)
{
	unsigned set = 0;
	for (unsigned i = 0; of >= 0 && i < l->n; i++)
		if (joined(l, (unsigned)of, i))
			set |= 1U << i;
	return set;
}

/*
 * How good is the group of port i: first how many of its ports the partner has in sync, which he says whatever we do;
 * then how many they are; then whether it is the one in use.
 */
static unsigned rank(const struct lacp *l, unsigned i)
{
	unsigned set = members(l, (int)i), synced = 0;
	for (unsigned k = 0; k < l->n; k++)
		synced += set & 1U << k && l->port[k].matched && l->port[k].partner.state & LACP_SYNC ? 1 : 0;
	bool used = l->chosen >= 0 && same_group(&l->port[i].partner, &l->group);
	return !set ? 0 : synced << 6 | popcount64(set) << 3 | (used ? 2U : 0) | (l->chosen == (int)i ? 1U : 0);
}

/* The best group. Each port's state follows. */
static void choose(struct lacp *l)
{
	unsigned best = 0;
	int at = -1;
	for (unsigned i = 0; i < l->n; i++) {
		unsigned r = rank(l, i);
		if (r > best) {
			best = r;
			at = (int)i;
		}
	}
	l->chosen = at;
	if (at >= 0)
		l->group = l->port[at].partner;
	unsigned in = members(l, l->chosen);
	for (unsigned i = 0; i < l->n; i++) {
		struct lacp_port *p = &l->port[i];
		uint8_t state = p->actor.state & (uint8_t) ~(LACP_SYNC | LACP_COLLECTING | LACP_DISTRIBUTING);
		if (in & 1U << i) {
			state |= LACP_SYNC;
			if (p->matched && p->partner.state & LACP_SYNC)
				state |= LACP_COLLECTING;
			if (state & LACP_COLLECTING && p->partner.state & LACP_COLLECTING)
				state |= LACP_DISTRIBUTING;
		}
		p->tell |= state != p->actor.state;
		p->actor.state = state;
	}
}

/* Up: it has the time of a partner that fell silent to say that there is one. */
void lacp_link(struct lacp *l, unsigned port, bool up, uint64_t now_ns)
{
	struct lacp_port *p = &l->port[port];
	if (p->up == up)
		return;
	p->up = p->tell = up;
	p->current = p->matched = false;
	p->actor.state = (p->actor.state & (uint8_t)~LACP_DEFAULTED) | LACP_EXPIRED;
	p->expires_ns = now_ns + TIMEOUT_NS;
	memset(&p->partner, 0, sizeof(p->partner));
	choose(l);
}

/* ---- in ---- */

static void get_info(struct lacp_info *i, const uint8_t *tlv)
{
	i->system_priority = get_be16(tlv + SYSTEM_PRIORITY);
	memcpy(i->system, tlv + SYSTEM, ETH_ALEN);
	i->key = get_be16(tlv + KEY_AT);
	i->port_priority = get_be16(tlv + PORT_PRIORITY);
	i->port = get_be16(tlv + PORT);
	i->state = tlv[STATE];
}

/* Does he know this port of ours, and whether it aggregates? The rest of the state does not count here (recordPDU). */
static bool matches(const struct lacp_info *said, const struct lacp_info *ours)
{
	return same_group(said, ours) && said->port_priority == ours->port_priority && said->port == ours->port &&
	       !((said->state ^ ours->state) & LACP_AGGREGATION);
}

/* The only one that is about a port's way rather than its state: what was sent before it has been taken. */
static bool answer_marker(uint8_t pdu[LACP_LEN])
{
	if (pdu[MARKER] != TLV_MARKER || pdu[MARKER + TLV_LEN] != MARKER_LEN)
		return false;
	pdu[MARKER] = TLV_MARKER_RESPONSE;
	return true;
}

bool lacp_hear(struct lacp *l, unsigned port, uint8_t pdu[LACP_LEN], uint64_t now_ns)
{
	struct lacp_port *p = &l->port[port];
	const uint8_t *actor = pdu + ACTOR, *partner = pdu + PARTNER;
	struct lacp_info said, his;
	if (pdu[SUBTYPE] == SUBTYPE_MARKER)
		return answer_marker(pdu);
	if (pdu[SUBTYPE] != SUBTYPE_LACP || actor[0] != TLV_ACTOR || actor[TLV_LEN] != INFO_LEN ||
	    partner[0] != TLV_PARTNER || partner[TLV_LEN] != INFO_LEN)
		return false;
	get_info(&his, actor);
	get_info(&said, partner);
	if (!memcmp(his.system, p->actor.system, ETH_ALEN) || !p->up)
		return false; /* our own: a loop */
	enum { ABOUT = LACP_ACTIVITY | LACP_SHORT | LACP_AGGREGATION | LACP_SYNC };
	p->partner = his;
	p->matched = matches(&said, &p->actor) || !(his.state & LACP_AGGREGATION);
	p->current = true;
	p->expires_ns = now_ns + TIMEOUT_NS;
	if (his.state & LACP_SHORT)
		p->due_ns = MIN(p->due_ns, now_ns + FAST_NS);
	p->actor.state &= (uint8_t) ~(LACP_EXPIRED | LACP_DEFAULTED);
	choose(l);
	p->tell |= !p->matched || (said.state ^ p->actor.state) & ABOUT; /* update_NTT */
	return false;
}

/* ---- out ---- */

/* A partner that is not heard of any more: expired for a time, then it never was. */
static void expire(struct lacp *l, struct lacp_port *p, uint64_t now_ns)
{
	if (!p->up || p->actor.state & LACP_DEFAULTED || now_ns < p->expires_ns)
		return;
	if (p->actor.state & LACP_EXPIRED) {
		p->actor.state = (p->actor.state & (uint8_t)~LACP_EXPIRED) | LACP_DEFAULTED;
		memset(&p->partner, 0, sizeof(p->partner));
	} else {
		p->actor.state |= LACP_EXPIRED;
		p->expires_ns = now_ns + TIMEOUT_NS;
		p->partner.state &= (uint8_t)~LACP_SYNC;
	}
	p->current = p->matched = false;
	p->tell = true;
	choose(l);
}

unsigned lacp_due(struct lacp *l, uint64_t now_ns, uint64_t *next_ns)
{
	unsigned send = 0;
	*next_ns = now_ns + FAST_NS;
	for (unsigned i = 0; i < l->n; i++)
		expire(l, &l->port[i], now_ns);
	for (unsigned i = 0; i < l->n; i++) {
		struct lacp_port *p = &l->port[i];
		if (!p->up)
			continue;
		if (p->tell || now_ns >= p->due_ns) {
			if (gcra_take(&p->full_ns, now_ns, LACP_AGAIN_NS, FAST_NS - LACP_AGAIN_NS + 1)) {
				p->tell = false;
				p->due_ns =
					now_ns + (p->current && !(p->partner.state & LACP_SHORT) ? SLOW_NS : FAST_NS);
				send |= 1U << i;
			} else {
				*next_ns = MIN(*next_ns, now_ns + LACP_AGAIN_NS);
			}
		}
		*next_ns = MIN(*next_ns, MAX(p->due_ns, now_ns + 1));
		if (!(p->actor.state & LACP_DEFAULTED))
			*next_ns = MIN(*next_ns, MAX(p->expires_ns, now_ns + 1));
	}
	return send;
}

void lacp_unsent(struct lacp *l, unsigned port) { l->port[port].tell = true; }

static void put_info(uint8_t *tlv, uint8_t type, const struct lacp_info *i)
{
	tlv[0] = type;
	tlv[TLV_LEN] = INFO_LEN;
	put_be16(tlv + SYSTEM_PRIORITY, i->system_priority);
	memcpy(tlv + SYSTEM, i->system, ETH_ALEN);
	put_be16(tlv + KEY_AT, i->key);
	put_be16(tlv + PORT_PRIORITY, i->port_priority);
	put_be16(tlv + PORT, i->port);
	tlv[STATE] = i->state;
}

void lacp_write(const struct lacp *l, unsigned port, uint8_t pdu[LACP_LEN])
{
	memset(pdu, 0, LACP_LEN);
	pdu[SUBTYPE] = SUBTYPE_LACP;
	pdu[VERSION] = 1;
	put_info(pdu + ACTOR, TLV_ACTOR, &l->port[port].actor);
	put_info(pdu + PARTNER, TLV_PARTNER, &l->port[port].partner);
	pdu[COLLECTOR] = TLV_COLLECTOR;
	pdu[COLLECTOR + TLV_LEN] = COLLECTOR_LEN;
}

/* ---- what it comes to ---- */

static unsigned with_state(const struct lacp *l, unsigned bits)
{
	unsigned set = 0, alone = 0;
	bool partner = false;
	for (unsigned i = 0; i < l->n; i++) {
		const struct lacp_port *p = &l->port[i];
		partner |= p->up && p->current;
		alone |= p->up && p->actor.state & LACP_DEFAULTED ? 1U << i : 0;
		set |= p->up && (p->actor.state & bits) == bits ? 1U << i : 0;
	}
	return partner ? set : alone & -alone;
}

unsigned lacp_collects(const struct lacp *l) { return with_state(l, LACP_SYNC | LACP_COLLECTING); }
unsigned lacp_distributes(const struct lacp *l)
{
	return with_state(l, LACP_SYNC | LACP_COLLECTING | LACP_DISTRIBUTING);
}

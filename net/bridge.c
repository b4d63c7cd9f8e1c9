/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The L2 switch: learning, static MACs, flooding, and finishing in software what a port cannot offload. One lock guards
 * the ports and the MAC table and is never held during send(); a port in use by a sender is counted in `users`, and
 * bridge_remove waits for it.
 */
#include "net/bridge.h"
#include "kernel/spinlock.h"
#include "kernel/sync.h"
#include "kernel/time.h"
#include "net/bridge_guest.h"
#include <stdlib.h>
#include <stdio.h>
#include <string.h>

#define AGE_NS (300 * NS_PER_SEC)
#define SETS   256 /* of the MAC table, each of WAYS; bound MACs have lists beside it */
#define WAYS   4

struct mac_entry {
	struct bridge_port *port; /* NULL: free */
	uint64_t seen_ns;
	uint8_t mac[ETH_ALEN];
};
struct bridge {           /* (c) const after create  [l] lock */
	struct list node; /* (c) of bridges */
	char name[16];    /* (c) */
	bool for_vms;     /* (c) */
	struct spinlock lock;
	struct waitq idle;                /* [l] a leaving port's users went to 0 */
	struct list ports;                /* [l] */
	struct mac_entry mac[SETS][WAYS]; /* [l] learned; none of a MAC that is bound */
	struct list bound[SETS];          /* [l] ports whose own MAC is bound to them */
	struct bridge_lan lan;            /* [l]; mtu, host_id: (c). Whose addresses no guest may claim */
};

static struct list bridges = { &bridges, &bridges }; /* (c) after net_init */

static void count(uint64_t *c, uint64_t n) { __atomic_fetch_add(c, n, __ATOMIC_RELAXED); }

int bridge_create(struct bridge **out, const char *name, unsigned mtu, bool for_vms)
{
	struct bridge *b = calloc(1, sizeof(*b));
	if (!b)
		return err_trace(-ENOMEM);
	sniprintf(b->name, sizeof(b->name), "%s", name);
	b->for_vms = for_vms;
	b->lan.mtu = mtu;
	spin_init(&b->lock, "bridge");
	waitq_init(&b->idle);
	list_init(&b->ports);
	for (unsigned i = 0; i < SETS; i++)
		list_init(&b->bound[i]);
	list_append(&bridges, &b->node);
	*out = b;
	return 0;
}

void bridge_destroy(struct bridge *b)
{
	if (!b)
		return;
	BUG_ON(!list_empty(&b->ports));
	list_remove(&b->node);
	free(b);
}

struct bridge *bridge_get(unsigned i)
{
	list_for_each(b, &bridges, struct bridge, node)
		if (!i--)
			return b;
	return NULL;
}

struct bridge *bridge_find(const char *name, struct why *w)
{
	bool there = false;
	list_for_each(b, &bridges, struct bridge, node) {
		bool it = !name[0] || !strcmp(b->name, name);
		if (it && b->for_vms)
			return b;
		there |= it;
	}
	if (!name[0])
		(void)why_set(w, -ENOENT, "no network here is for VMs ([net] use)");
	else if (there)
		(void)why_set(w, -EACCES, "the network %s is not for VMs ([net %s] use)", name, name);
	else
		(void)why_set(w, -ENOENT, "there is no network %s here ([net] in tern.conf; `net list`)", name);
	return NULL;
}

const char *bridge_name(const struct bridge *b) { return b->name; }

unsigned bridge_mtu(const struct bridge *b) { return b->lan.mtu; }

/* ---- the MAC table; b->lock is held ---- */

static unsigned mac_hash(const uint8_t *mac)
{
	uint32_t h = get_le32(mac + 2) * 2654435761U ^ get_le16(mac) * 40503U;
	return h >> 24 & (SETS - 1); /* the last byte, in which machines' MACs differ, counts here alone */
}

static struct mac_entry *mac_find(struct bridge *b, const uint8_t *mac)
{
	struct mac_entry *set = b->mac[mac_hash(mac)];
	for (unsigned i = 0; i < WAYS; i++)
		if (set[i].port && memcmp(set[i].mac, mac, ETH_ALEN) == 0)
			return &set[i];
	return NULL;
}

static struct bridge_port *bound_find(struct bridge *b, const uint8_t *mac)
{
	list_for_each(p, &b->bound[mac_hash(mac)], struct bridge_port, bound)
		if (memcmp(p->mac, mac, ETH_ALEN) == 0)
			return p;
	return NULL;
}

/* The one port that a frame for dst goes to, NULL: all. */
static struct bridge_port *port_of(struct bridge *b, const uint8_t *dst, uint64_t now)
{
	if (dst[0] & 1)
		return NULL;
	struct bridge_port *p = bound_find(b, dst);
	if (p)
		return p;
	struct mac_entry *e = mac_find(b, dst);
	return e && now - e->seen_ns < AGE_NS ? e->port : NULL;
}

/* Which entry gives place: the oldest, but a free one first, then one of a guest with many MACs. */
static bool gives_place(const struct mac_entry *e, const struct mac_entry *before)
{
	if (!before->port || !e->port)
		return before->port && !e->port;
	if (e->port->is_guest != before->port->is_guest)
		return e->port->is_guest;
	return e->seen_ns < before->seen_ns;
}

/*
 * The newest sender of a MAC has it: this is how a guest that moved away, and its RARP, take the MAC along. A guest
 * pushes nobody out but guests and who was not heard of for long: not every MAC that it makes up has a place.
 */
static void mac_learn(struct bridge *b, const uint8_t *mac, struct bridge_port *p, uint64_t now)
{
	struct mac_entry *set = b->mac[mac_hash(mac)], *victim = mac_find(b, mac);
	if (!victim) {
		victim = &set[0];
		for (unsigned i = 1; i < WAYS; i++)
			if (gives_place(&set[i], victim))
				victim = &set[i];
		if (p->is_guest && victim->port && !victim->port->is_guest && now - victim->seen_ns < AGE_NS)
			return;
	}
	victim->port = p;
	victim->seen_ns = now;
	memcpy(victim->mac, mac, ETH_ALEN);
}

static void mac_forget(struct bridge *b, const struct bridge_port *p)
{
	for (unsigned i = 0; i < SETS * WAYS; i++)
		if (b->mac[i / WAYS][i % WAYS].port == p)
			b->mac[i / WAYS][i % WAYS].port = NULL;
}

/* ---- ports ---- */

void bridge_add(struct bridge *b, struct bridge_port *p)
{
	list_init(&p->bound);
	p->bridge = b;
	p->users = 0;
	p->leaving = false;
	uint64_t flags = spin_lock_irqsave(&b->lock);
	list_append(&b->ports, &p->node);
	spin_unlock_irqrestore(&b->lock, flags);
}

void bridge_remove(struct bridge_port *p)
{
	struct bridge *b = p->bridge;
	if (!b)
		return;
	uint64_t flags = spin_lock_irqsave(&b->lock);
	p->leaving = true;
	while (p->users)
		waitq_wait(&b->idle, &b->lock, &flags, TIME_NEVER);
	mac_forget(b, p);
	list_remove(&p->bound);
	list_remove(&p->node);
	p->bridge = NULL;
	spin_unlock_irqrestore(&b->lock, flags);
}

int bridge_bind(struct bridge_port *p)
{
	struct bridge *b = p->bridge;
	int err = 0;
	uint64_t flags = spin_lock_irqsave(&b->lock);
	const struct bridge_port *owner = bound_find(b, p->mac);
	if (owner && owner != p) {
		err = -EEXIST;
	} else if (!owner) {
		struct mac_entry *e = mac_find(b, p->mac);
		if (e)
			e->port = NULL;
		list_append(&b->bound[mac_hash(p->mac)], &p->bound);
	}
	spin_unlock_irqrestore(&b->lock, flags);
	return err;
}

void bridge_unbind(struct bridge_port *p)
{
	struct bridge *b = p->bridge;
	if (!b)
		return;
	uint64_t flags = spin_lock_irqsave(&b->lock);
	list_remove(&p->bound);
	spin_unlock_irqrestore(&b->lock, flags);
}

/* b->lock is held. */
static void port_put(struct bridge *b, struct bridge_port *p)
{
	if (--p->users == 0 && p->leaving)
		waitq_wake_all(&b->idle);
}

/* ---- forwarding ---- */

struct finish {
	struct bridge_port *port;
	int err; /* of the first frame that failed */
};

static void finish_out(void *arg, const struct frame *f)
{
	struct finish *fin = arg;
	int err = fin->port->send(fin->port->arg, f);
	if (err && !fin->err)
		fin->err = err;
}

/* Any other GSO type (virtio's ECN flag makes one) is for nobody but frame_finish. */
static bool offload_missing(const struct bridge_port *p, const struct frame *f)
{
	if (f->gso != FRAME_GSO_NONE && f->gso != FRAME_GSO_TCPV4 && f->gso != FRAME_GSO_TCPV6)
		return true;
	unsigned need = f->flags & FRAME_NEEDS_CSUM ? FRAME_TAKES_CSUM : 0;
	if (f->gso != FRAME_GSO_NONE)
		need |= FRAME_TAKES_CSUM | (f->gso == FRAME_GSO_TCPV4 ? FRAME_TAKES_TSO4 : FRAME_TAKES_TSO6);
	return need & ~p->offloads;
}

static int deliver(const struct bridge *b, struct bridge_port *p, const struct frame *f)
{
	int err;
	if (p->is_guest && f->gso == FRAME_GSO_NONE && f->len > FRAME_HEAD_MAX + b->lan.mtu) {
		count(&p->stats.drops[BRIDGE_DROP_LONG], 1);
		return -EINVAL;
	}
	if (f->gso_size && f->gso != FRAME_GSO_NONE && offload_missing(p, f) && p->room &&
	    p->room(p->arg, FRAME_TCP_HEAD_MAX + f->gso_size) <= f->len / f->gso_size) {
		err = -ENOBUFS;
	} else if (offload_missing(p, f)) {
		struct finish fin = { .port = p };
		err = frame_finish(f, b->lan.mtu, finish_out, &fin) ? fin.err : -EINVAL;
	} else {
		err = p->send(p->arg, f);
	}
	if (err) {
		count(&p->stats.drops[err == -ENOBUFS ? BRIDGE_DROP_FULL : BRIDGE_DROP_REFUSED], 1);
	} else {
		count(&p->stats.tx_frames, 1);
		count(&p->stats.tx_bytes, f->len);
	}
	return err;
}

/* From one port to another; of a guest to an uplink, as its part of a full one lets it. */
static int pass(const struct bridge *b, struct bridge_port *from, struct bridge_port *to, const struct frame *f,
		uint64_t now)
{
	if (!to->fair)
		return deliver(b, to, f);
	if (from->is_guest && fair_asks(to->fair) &&
	    !fair_may(to->fair, &from->part, f->len, to->room(to->arg, FAIR_FRAME), now)) {
		count(&from->stats.drops[BRIDGE_DROP_FULL], 1);
		return -ENOBUFS;
	}
	int err = deliver(b, to, f);
	if (!err || (err == -ENOBUFS && from->is_guest)) /* the host's own frames lie in the ring as well */
		fair_sent(to->fair, f->len, !err, now);
	return err;
}

/* To all ports but `from`. b->lock is held, and dropped around each send: the port's count keeps it in the list. */
static void flood(struct bridge *b, struct bridge_port *from, const struct frame *f, const uint8_t *dst, bool host_too,
		  uint64_t now, uint64_t *flags)
{
	for (struct list *l = b->ports.next; l != &b->ports; l = l->next) {
		struct bridge_port *p = list_entry(l, struct bridge_port, node);
		if (p == from || p->leaving || (p->is_guest && !bridge_guest_wants(p, dst)) ||
		    (p->is_host && !host_too))
			continue;
		p->users++;
		spin_unlock_irqrestore(&b->lock, *flags);
		(void)pass(b, from, p, f, now);
		*flags = spin_lock_irqsave(&b->lock);
		port_put(b, p);
	}
}

void bridge_guard(struct bridge *b, struct ip ip, bool gateway)
{
	uint64_t flags = spin_lock_irqsave(&b->lock);
	bridge_guest_guard(&b->lan, ip, gateway);
	spin_unlock_irqrestore(&b->lock, flags);
}

void bridge_guard_own(struct bridge *b, const uint8_t mac[ETH_ALEN])
{
	const uint8_t id[8] = { mac[0] ^ 2, mac[1], mac[2], 0xff, 0xfe, mac[3], mac[4], mac[5] };
	b->lan.host_id = get_le64(id);
}

void bridge_guard_lease(struct bridge *b, uint32_t ip4, uint32_t gateway)
{
	__atomic_store_n(&b->lan.leased, ip4, __ATOMIC_RELAXED);
	__atomic_store_n(&b->lan.leased_gateway, gateway, __ATOMIC_RELAXED);
}

void bridge_guard_probed(struct bridge *b, uint32_t ip4) { __atomic_store_n(&b->lan.probed, ip4, __ATOMIC_RELAXED); }

static int refuse(struct bridge_port *p, enum bridge_drop why, const struct bridge_entry *e, uint64_t now)
{
	if (p->is_guest)
		bridge_guest_tell(p, why, e->head + ETH_SRC, now);
	bool malformed = why == BRIDGE_DROP_MALFORMED || why == BRIDGE_DROP_LONG || why == BRIDGE_DROP_OFFLOAD;
	count(&p->stats.drops[why], 1);
	return malformed ? -EINVAL : why == BRIDGE_DROP_LEAVING ? -ENETDOWN : -EACCES;
}

/* Before the lock: may this frame come in? A guest's is *f from then on. */
static enum bridge_drop enter(const struct bridge *b, struct bridge_port *p, const struct frame **f,
			      struct bridge_entry *e)
{
	enum bridge_drop drop = BRIDGE_PASS;
	if (!p->is_guest) {
		e->n = frame_copy_out(*f, 0, e->head, BRIDGE_ROUTER_HEAD);
		if (e->n < ETH_HLEN || e->head[ETH_SRC] & 1)
			drop = BRIDGE_DROP_MALFORMED;
	} else {
		drop = bridge_guest_enter(p, &b->lan, *f, e);
		*f = &e->f;
	}
	return !drop && bridge_rules_reserved(e->head) ? BRIDGE_DROP_RESERVED : drop;
}

/* Where a frame that came in goes, or why not. b->lock is held. */
static enum bridge_drop route(struct bridge *b, struct bridge_port *p, const struct bridge_entry *e, uint64_t now,
			      struct bridge_port **to)
{
	const uint8_t *src = e->head + ETH_SRC;
	const struct bridge_port *owner = bound_find(b, src);
	if (p->leaving)
		return BRIDGE_DROP_LEAVING;
	if (owner && owner != p)
		return BRIDGE_DROP_BOUND;
	*to = port_of(b, e->head, now);
	unsigned frames = p->is_guest && e->f.gso != FRAME_GSO_NONE ? 1U + e->f.len / e->f.gso_size : 1;
	if (p->is_guest && !e->floods && (!*to || (*to)->is_host) && !bridge_guest_may_flood(p, frames, now))
		return BRIDGE_DROP_STORM;
	if (!owner)
		mac_learn(b, src, p, now);
	if (!p->is_guest)
		bridge_guest_hear(&b->lan, e->head, e->n, now);
	bool service = *to && (*to)->is_host && p->is_guest && !bridge_rules_host_hears(&p->policy, e->head, e->n);
	return service ? BRIDGE_DROP_SERVICE : BRIDGE_PASS;
}

static int input(struct bridge_port *p, const struct frame *f, bool floods)
{
	struct bridge_entry e; /* not zeros: it is large, and enter() fills it */
	struct bridge_port *to = NULL;
	struct bridge *b = p->bridge;
	if (!b)
		return -ENETDOWN;
	e.floods = floods;
	uint64_t now = time_ns();
	enum bridge_drop drop = enter(b, p, &f, &e);
	if (drop)
		return refuse(p, drop, &e, now);
	int err = 0;
	uint64_t flags = spin_lock_irqsave(&b->lock);
	drop = route(b, p, &e, now, &to);
	if (drop) {
		spin_unlock_irqrestore(&b->lock, flags);
		return refuse(p, drop, &e, now);
	}
	count(&p->stats.rx_frames, 1);
	count(&p->stats.rx_bytes, f->len);
	if (!to) {
		flood(b, p, f, e.head, !p->is_guest || bridge_rules_host_hears(&p->policy, e.head, e.n), now, &flags);
	} else if (to != p && !to->leaving) {
		to->users++; /* it stays; a device's locks come before the bridge's */
		spin_unlock_irqrestore(&b->lock, flags);
		err = pass(b, p, to, f, now);
		flags = spin_lock_irqsave(&b->lock);
		port_put(b, to);
	}
	spin_unlock_irqrestore(&b->lock, flags);
	return err;
}

int bridge_input(struct bridge_port *p, const struct frame *f) { return input(p, f, false); }

int bridge_speak_for(struct bridge_port *p, const struct frame *f) { return input(p, f, true); }

int bridge_bring(struct bridge_port *p, const struct frame *f)
{
	uint8_t head[ETH_HLEN + ETH_TAG_LEN];
	enum bridge_drop drop = bridge_guest_brought(p, head, frame_copy_out(f, 0, head, sizeof(head)));
	if (!drop)
		return deliver(p->bridge, p, f);
	count(&p->stats.drops[drop], 1);
	return -EACCES;
}

/* ---- looking ---- */

void bridge_lost(struct bridge_port *p) { count(&p->stats.drops[BRIDGE_DROP_REFUSED], 1); }

void bridge_for_each_mac(struct bridge *b,
			 void (*fn)(const uint8_t mac[6], const struct bridge_port *p, uint64_t age_ns, void *arg),
			 void *arg)
{
	uint64_t flags = spin_lock_irqsave(&b->lock), now = time_ns();
	for (unsigned i = 0; i < SETS; i++)
		list_for_each(p, &b->bound[i], struct bridge_port, bound)
			fn(p->mac, p, BRIDGE_BOUND, arg);
	for (unsigned i = 0; i < SETS * WAYS; i++) {
		const struct mac_entry *e = &b->mac[i / WAYS][i % WAYS];
		if (e->port && now - e->seen_ns < AGE_NS)
			fn(e->mac, e->port, now - e->seen_ns, arg);
	}
	spin_unlock_irqrestore(&b->lock, flags);
}

void bridge_for_each_port(struct bridge *b, void (*fn)(const struct bridge_port *p, void *arg), void *arg)
{
	uint64_t flags = spin_lock_irqsave(&b->lock);
	list_for_each(p, &b->ports, struct bridge_port, node)
		fn(p, arg);
	spin_unlock_irqrestore(&b->lock, flags);
}

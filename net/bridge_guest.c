/* SPDX-License-Identifier: BSD-2-Clause */
/* What comes in from a guest (bridge_guest.h): the copy of its header, the word to its operator, a bound on floods. */
#include "net/bridge_guest.h"
#include "kernel/base/mac.h"
#include "kernel/log.h"

#define TELL_NS     (3600 * NS_PER_SEC)
#define FLOOD_NS    (NS_PER_SEC / BRIDGE_FLOODS)
#define FLOOD_AHEAD (BRIDGE_FLOODS_BURST * FLOOD_NS)

/* A guest that bridges others, or gave itself a MAC, does not see why nothing works: its operator does. */
static void tell(struct bridge_port *p, const uint8_t *src, uint64_t now)
{
	if (now < __atomic_load_n(&p->told_ns, __ATOMIC_RELAXED))
		return;
	__atomic_store_n(&p->told_ns, now + TELL_NS, __ATOMIC_RELAXED);
	log_warn("bridge: %s sends from the MAC %s, but has %s: dropped. If it may, write mac_change = allow in its "
		 "[vm]",
		 p->name, mac_text(src).s, mac_text(p->mac).s);
}

enum bridge_drop bridge_guest_enter(struct bridge_port *p, const struct bridge_hosts *hosts, const struct frame *f,
				    struct bridge_entry *e, uint64_t now)
{
	e->n = frame_copy_out(f, 0, e->head, sizeof(e->head));
	if (!frame_put_head(&e->f, e->head, e->n, f, e->n))
		return BRIDGE_DROP_MALFORMED;
	enum bridge_drop drop = bridge_rules_judge(&p->policy, p->mac, hosts, &e->f, e->head, e->n);
	if (drop == BRIDGE_DROP_MAC)
		tell(p, e->head + ETH_SRC, now);
	return drop;
}

/* A token bucket, kept as the time at which it will be full again (ITU-T I.371, GCRA). */
bool bridge_guest_may_flood(struct bridge_port *p, unsigned frames, uint64_t now)
{
	uint64_t due = MAX(p->flood_ns, now);
	if (due >= now + FLOOD_AHEAD)
		return false;
	p->flood_ns = due + frames * FLOOD_NS;
	return true;
}

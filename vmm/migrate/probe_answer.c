/* SPDX-License-Identifier: BSD-2-Clause */
/* The other side of a probe: what this host says of a VM, and what its own peers say to it (probe.h). */
#include "kernel/log.h"
#include "kernel/time.h"
#include "vmm/migrate/attempts.h"
#include "vmm/migrate/departed.h"
#include "vmm/migrate/probe.h"
#include "vmm/migrate/this_host.h"
#include <stdio.h>
#include <string.h>

#define RELAYS_MAX 4
#define RELAY_NS   (4 * NS_PER_SEC) /* what a host that is asked gives its own peers */
#define ANSWER_NS  (2 * NS_PER_SEC) /* for the answer to get out */

_Static_assert((int)VM_LEASE_NONE == LEASE_NONE && (int)VM_LEASE_ASKING == LEASE_ASKING &&
		       (int)VM_LEASE_YIELDED == LEASE_YIELDED && (int)VM_LEASE_TAKEN == LEASE_TAKEN,
	       "the leases of vmm/vm.h are those of the rules");

/* ---- what this host knows ---- */

struct search {
	const struct who *q;
	char *holder;
};

/* Is vm here for the asker? A lease of ours that comes second is given up. */
static bool is_here(struct vm *vm, const struct who *q)
{
	if (vm_state_now(vm) == VM_SERVING)
		return false; /* and the list of departures says where it is */
	uint32_t lease = __atomic_load_n(&vm->lease, __ATOMIC_SEQ_CST); /* first: it ends when the VM runs */
	if (!vm_state_has_ended(vm_state_now(vm)))
		return true;
	if (__atomic_load_n(&vm->has_disks, __ATOMIC_RELAXED))
		return true; /* it is off, and what it wrote to its disks is here alone */
	if (__atomic_load_n(&vm->came_off, __ATOMIC_RELAXED) || vm_is_migrating(vm))
		return true; /* it is off, and was brought here so, or is on its way */
	if (!(q->flags & WHO_STARTING))
		return lease == VM_LEASE_TAKEN;
	for (;;) {
		enum lease_order order = q->asker.host < migrate_this_host()->inc.host ? ASKER_FIRST : ASKER_LATER;
		const struct rule *r = &lease_rules[lease][order];
		if (vm_lease(vm, (enum vm_lease)lease, (enum vm_lease)r->next))
			return r->action == ACT_REFUSE;
		lease = __atomic_load_n(&vm->lease, __ATOMIC_SEQ_CST);
	}
}

static void match(struct vm *vm, void *arg)
{
	static const uint8_t none[16];
	struct search *s = arg;
	bool same = !strcmp(vm->cfg.name, s->q->name) || vm_config_has_mac(&vm->cfg, s->q->mac) ||
		    (memcmp(s->q->uuid, none, 16) && !memcmp(vm->cfg.uuid, s->q->uuid, 16));
	if (same && is_here(vm, s->q))
		memcpy(s->holder, vm->cfg.name, VM_NAME_MAX);
}

void probe_local(const struct who *q, struct have_answer *a)
{
	struct departure d;
	memset(a, 0, sizeof(*a));
	if (incarnation_equal(q->asker, migrate_this_host()->inc))
		return; /* our own question, come round */
	if (q->id.number && attempt_find(&q->id, NULL) == RECORD_STARTED) {
		a->have = HAVE_STARTED;
		return;
	}
	vm_for_each(match, &(struct search){ q, a->name });
	if (a->name[0]) {
		a->have = HAVE_HERE;
	} else if (departed_match(q, &d)) { /* it left the table after it had got into this list */
		a->have = HAVE_MOVED;
		memcpy(a->host, d.host, sizeof(a->host));
		a->where = d.where;
		a->when_s = d.when_s;
	}
}

/* ---- answering ---- */

/* Ask our own peers for who asked us, who may not know them: all but himself, who is at the address `asker`. */
static void relay(const struct who *asked, struct ip asker, struct have_answer *a)
{
	struct finding f;
	struct who q = *asked;
	q.flags &= ~(uint32_t)WHO_RELAY;
	(void)!probe_round(&q, (struct ip){ { 0 } }, asker, time_ns() + RELAY_NS, NULL, &f); /* nobody leaves */
	a->digest = f.digest;
	a->silent = f.silent;
	memcpy(a->silent_host, f.first, sizeof(a->silent_host));
	if (f.evidence == EVIDENCE_CONFLICT) { /* what is wrong with this host hides what its peers would say */
		a->silent++;
		memcpy(a->silent_host, migrate_this_host()->name, sizeof(a->silent_host));
	}
	if (f.evidence == EVIDENCE_STARTED) {
		a->have = HAVE_STARTED;
	} else if (f.evidence == EVIDENCE_HERE) {
		a->have = HAVE_HERE;
		memcpy(a->name, q.name, sizeof(a->name));
		sniprintf(a->host, sizeof(a->host), "%s", f.at);
	} else if (f.evidence == EVIDENCE_MOVED && a->have == HAVE_NOTHING) {
		a->have = HAVE_MOVED;
		sniprintf(a->host, sizeof(a->host), "%s", f.at);
		a->where = f.where;
	}
}

/* Each asks up to 32 hosts: a few at once, or they would take the connections that questions need. */
static void relay_if_free(const struct who *q, struct ip asker, struct have_answer *a)
{
	struct migrate_host *me = migrate_this_host();
	if (__atomic_add_fetch(&me->relaying, 1, __ATOMIC_SEQ_CST) <= RELAYS_MAX) {
		relay(q, asker, a);
	} else { /* it will ask again */
		a->silent = 1;
		memcpy(a->silent_host, me->name, sizeof(a->silent_host));
	}
	__atomic_sub_fetch(&me->relaying, 1, __ATOMIC_SEQ_CST);
}

void probe_answer(struct wire_tx *tx, struct wire_rx *rx)
{
	static const char *const said[] = {
		[HAVE_NOTHING] = "not here",
		[HAVE_HERE] = "it is here",
		[HAVE_MOVED] = "it has moved",
		[HAVE_STARTED] = "its attempt was started",
	};
	struct have_answer a;
	struct who q;
	if (!who_parse(rx, &q))
		return;
	probe_local(&q, &a);
	log_debug("%s asks for %s: %s", rx->s->peer, q.name, said[a.have]);
	if (q.flags & WHO_RELAY && a.have != HAVE_HERE && a.have != HAVE_STARTED)
		relay_if_free(&q, rx->s->ip, &a);
	if (have_send(tx, &a, time_ns() + ANSWER_NS))
		log_debug("the answer to %s is lost: it will ask again", rx->s->peer);
}

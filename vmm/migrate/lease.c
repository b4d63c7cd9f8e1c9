/* SPDX-License-Identifier: BSD-2-Clause */
/* Before a VM starts (lease.h). */
#include "vmm/migrate/lease.h"
#include "kernel/log.h"
#include "kernel/task.h"
#include "kernel/time.h"
#include "vmm/migrate/departed.h"
#include "vmm/migrate/probe.h"
#include "vmm/migrate/this_host.h"
#include <stdio.h>
#include <string.h>

#define AGAIN_MAX 5                 /* rounds in a row whose answers differ: who answers so proves nothing */
#define SETTLE_NS (10 * NS_PER_SEC) /* for this host to know its own address */
#define ALONE_NS \
	(30 * NS_PER_SEC) /* of silence, for autostart = alone: a link comes up, and a peer that booted with us */
#define LOOK_NS (200 * NS_PER_MS)

struct asking {
	struct vm *vm;
	enum start_policy policy;
	uint64_t patience_ns;
	const struct vm_waiter *waiter; /* NULL: nobody */
	struct finding before;          /* of the last round */
	unsigned again;                 /* rounds whose answers were good, but not those of the one before */
	bool told;                      /* vm->waits_for says what a round has found */
};
enum { GO_ON = 1 }; /* of what returns 0 or -errno */

/* What it waits for goes to `vm list` and to the waiter: does he leave? */
static bool look(void *arg, const char *waits_for)
{
	struct asking *a = arg;
	if (!a->told)
		vm_text_set(&a->vm->waits_for, "%s", waits_for);
	return a->waiter && a->waiter->leaves(a->waiter->arg, waits_for);
}

/* A host that does not know its address yet hears nothing, and would take that for silence. */
static int settle_address(struct asking *a)
{
	const struct migrate_host *me = migrate_this_host();
	uint64_t end = time_ns() + SETTLE_NS;
	if (!me->address_settled ||
	    (!me->npeers && !departed_get(a->vm->cfg.name, 0, NULL) && a->policy == START_OPERATOR))
		return 0;
	while (!me->address_settled(time_ns() + LOOK_NS) && time_ns() < end)
		if (look(a, "waits for this host's address"))
			return -EINTR;
	return 0;
}

/* -ECANCELED: the operator has started it meanwhile (`vm start --force`); there is nothing to tell. */
static int take(struct vm *vm, struct why *w)
{
	if (vm_lease(vm, VM_LEASE_ASKING, VM_LEASE_TAKEN))
		return 0;
	if (__atomic_load_n(&vm->lease, __ATOMIC_SEQ_CST) != VM_LEASE_YIELDED)
		return -ECANCELED;
	return why_set(w, -EEXIST, "a host that comes before this one is about to start it");
}

/* This round proves what it says if the one before was alike: a VM may have come to who was asked first. */
static enum evidence evidence_of(struct asking *a, struct finding *f)
{
	enum evidence e = probe_twice(&a->before, f) ? EVIDENCE_NOTHING : f->evidence;
	if (e != EVIDENCE_ONCE || a->again++ < AGAIN_MAX)
		return e;
	sniprintf(f->text, sizeof(f->text), "other hosts answer differently each time");
	a->again = 0;
	return EVIDENCE_ALIVE;
}

/* Silence counts as death only if nothing else has changed since the round before. */
static enum start_policy policy_now(const struct asking *a, const struct finding *f)
{
	return a->policy == START_ALONE && probe_alike(&a->before, f) && time_ns() >= a->patience_ns ? START_ALONE_DUE
												     : a->policy;
}

static void show_waiting(struct asking *a, const struct finding *f)
{
	struct vm *vm = a->vm;
	uint64_t now = time_ns();
	if (!a->told)
		log_warn("vm %s: not started yet: %s. This host goes on asking; `vm start %s --force` starts it "
			 "without an answer",
			 vm->cfg.name, f->text, vm->cfg.name);
	a->told = true;
	if (a->policy == START_ALONE && a->patience_ns > now)
		vm_text_set(&vm->waits_for, "%.140s, %lu s", f->text,
			    (a->patience_ns - now + NS_PER_SEC - 1) / NS_PER_SEC);
	else
		vm_text_set(&vm->waits_for, "%s", f->text);
}

/* GO_ON: another round; 0: the lease is TAKEN; -errno. */
static int after_round(struct asking *a, struct finding *f, struct why *w)
{
	struct vm *vm = a->vm;
	enum evidence e = evidence_of(a, f);
	enum rule_action act = (enum rule_action)start_rules[e][policy_now(a, f)];
	if (__atomic_load_n(&vm->lease, __ATOMIC_SEQ_CST) != VM_LEASE_ASKING) {
		if (a->policy == START_OPERATOR || !vm_lease(vm, VM_LEASE_YIELDED, VM_LEASE_ASKING))
			return take(vm, w);
		task_sleep_until(time_ns() +
				 LEASE_AGAIN_NS); /* the one that came first may fail: then it is our turn */
		return GO_ON;
	}
	if (act == ACT_AGAIN)
		return GO_ON;
	if (act == ACT_WAIT) {
		show_waiting(a, f);
		task_sleep_until(time_ns() + LEASE_AGAIN_NS);
		return GO_ON;
	}
	if (act != ACT_GO)
		return why_set(w, act == ACT_TELL ? -EAGAIN : -EEXIST,
			       "%s. Two running copies share one MAC and ruin each other's data", f->text);
	if (e != EVIDENCE_NOTHING)
		log_warn("vm %s: starts, though %s", vm->cfg.name, f->text);
	return take(vm, w);
}

int lease_ask(struct vm *vm, enum start_policy policy, uint64_t patience_ns, const struct vm_waiter *waiter,
	      struct why *w)
{
	struct asking a = { vm, policy, patience_ns, waiter, .before.evidence = EVIDENCES };
	struct who q = probe_question(&vm->cfg, WHO_STARTING | WHO_RELAY);
	struct finding f = { .text = "" };
	int err = settle_address(&a);
	while (!err) {
		err = probe_round(&q, (struct ip){ { 0 } }, (struct ip){ { 0 } }, time_ns() + ROUND_NS,
				  &(struct vm_waiter){ look, &a }, &f);
		if (!err)
			err = after_round(&a, &f, w);
		if (err != GO_ON)
			break;
		a.before = f;
		err = 0;
	}
	if (err == -EEXIST && policy != START_OPERATOR) /* `vm list` goes on saying where it is */
		vm_text_set(&vm->waits_for, "%s", f.text);
	else
		vm_text_set(&vm->waits_for, "%s", "");
	return err == -EINTR ? why_set(w, err, "given up") : err;
}

int lease_may_start(struct vm *vm, enum vm_start_by by, const struct vm_waiter *waiter, struct why *w)
{
	static const enum start_policy policy[] = {
		[VM_START_OPERATOR] = START_OPERATOR, [VM_START_AUTO] = START_AUTO, [VM_START_ALONE] = START_ALONE
	};
	return lease_ask(vm, policy[by], time_ns() + ALONE_NS, waiter, w);
}

void lease_started(struct vm *vm) { departed_remove(vm->cfg.name); }

/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Before a VM starts: may it, as far as other hosts know? Migration's side of vm.h's guard, which kernel/main.c
 * registers. The host asks all peers (probe.h) and holds a lease on the VM meanwhile; of two hosts that ask each other
 * one yields (rules.c).
 */
#pragma once
#include "vmm/migrate/rules.h"
#include "vmm/vm.h"

#define LEASE_AGAIN_NS NS_PER_SEC /* from one round to the next, while it waits */

/* vm_guard's. */
int lease_may_start(struct vm *vm, enum vm_start_by by, const struct vm_waiter *waiter, struct why *w) must_check;
void lease_started(struct vm *vm);
/* The same with the rules' policy; START_ALONE takes silence for death from patience_ns on. */
int lease_ask(struct vm *vm, enum start_policy policy, uint64_t patience_ns, const struct vm_waiter *waiter,
	      struct why *w) must_check;

/* SPDX-License-Identifier: BSD-2-Clause */
#pragma once
#include "vmm/migrate/records.h"

/*
 * May the VM that is offered come here, and be in state `as`? 0, or a code for REFUSE with the first reason in w.
 * Nothing has been touched. itself: the VM of this host that it is (self.h), NULL: none. An older attempt of the same
 * source to bring the same VM (replaces) is about to end, if this one is good.
 */
enum refuse_code offer_check(const struct offer *o, enum vm_state as, const struct vm *itself, bool replaces,
			     struct why *w) must_check;

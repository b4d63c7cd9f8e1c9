/* SPDX-License-Identifier: BSD-2-Clause */
/* What vm.c and vm_life.c share: making and unmaking table entries. */
#pragma once
#include "vmm/vm.h"

int vm_new(const struct vm_config *cfg, enum vm_state state, struct vm **out, struct why *w) must_check;
void vm_forget(struct vm *vm);
void vm_ref(struct vm *vm);

/* SPDX-License-Identifier: BSD-2-Clause */
/* What the files of vm.h share: making and unmaking table entries, and starting those that start by themselves. */
#pragma once
#include "vmm/vm.h"

int vm_new(const struct vm_config *cfg, enum vm_state state, struct vm **out, struct why *w) must_check;
void vm_forget(struct vm *vm);
void vm_ref(struct vm *vm);
int vm_autostart(void) must_check;
/*
 * Has what a power-on needs of this host, whose network and files it may lack: -ENOENT, and w says which; else vm->file
 * has all of it. vm->lock is held.
 */
int vm_boot_files(struct vm *vm, struct why *w) must_check;

/* SPDX-License-Identifier: BSD-2-Clause */
/* What the files of vm.h share: making and unmaking table entries, and starting those that start by themselves. */
#pragma once
#include "vmm/vm.h"

int vm_new(const struct vm_config *cfg, enum vm_state state, struct vm **out, struct why *w) must_check;
void vm_forget(struct vm *vm);
void vm_ref(struct vm *vm);
int vm_autostart(void) must_check;
/*
 * What a power-on needs of this host, whose network and files it may lack: -ENOENT, and w says which. initrd is NULL if
 * none is wanted.
 */
int vm_boot_files(const struct vm *vm, const struct vm_file **kernel, const struct vm_file **initrd,
		  struct why *w) must_check; /* *initrd: NULL for none; -ENOENT */

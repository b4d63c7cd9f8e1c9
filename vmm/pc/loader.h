/* SPDX-License-Identifier: BSD-2-Clause */
/* What is in a guest's memory when it starts: tables, and its kernel or firmware. */
#pragma once
#include "vmm/vm.h"

/* After vm_boot_files; fills *vm->boot. vm->lock is held, no vCPU runs. -EINVAL, -ENOSPC with why. */
int loader_load(struct vm *vm, struct why *w) must_check;

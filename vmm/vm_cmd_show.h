/* SPDX-License-Identifier: BSD-2-Clause */
/* What `vm` shows of VMs: commands of vm_cmd.c's table (kernel/console.h). */
#pragma once
#include "kernel/console.h"
#include "vmm/vm.h"

/* The name of a kind of exit (enum vmexit_kind). */
const char *vm_cmd_show_exit(unsigned kind);
int vm_cmd_show_list(struct con *c, int argc, char **argv);
int vm_cmd_show_info(struct con *c, struct vm *vm);

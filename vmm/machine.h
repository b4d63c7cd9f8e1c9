/* SPDX-License-Identifier: BSD-2-Clause */
/* The guest's PC: its devices in one table, in the order in which they are reset, saved and loaded. */
#pragma once
#include "vmm/vm.h"

/* Build bus and devices of vm (vm->mem, cfg, apics are ready). 0 or -errno with everything undone. */
int machine_build(struct vm *vm) must_check;
void machine_free(struct vm *vm); /* half-made is fine */
void machine_reset(struct vm *vm);
void machine_quiesce(struct vm *vm);
void machine_resume(struct vm *vm);

/* vmm/vm_console.c: the guest's serial console: a scroll-back ring and at most one attached operator. */
int vm_console_create(struct vm *vm) must_check;
void vm_console_free(struct vm *vm);
void vm_console_out(void *vm, uint8_t c); /* from the UART; any context, never sleeps */

/* vmm/vm_port.c: the guest's NIC on the bridge. */
int vm_port_create(struct vm *vm) must_check; /* not yet attached */
void vm_port_attach(struct vm *vm);           /* when the VM runs here */
void vm_port_detach(struct vm *vm);           /* may sleep */
void vm_port_free(struct vm *vm);
void vm_port_tx(void *vm, struct frame *f);   /* from the guest */

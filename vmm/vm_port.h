/* SPDX-License-Identifier: BSD-2-Clause */
/* The guest's NIC on the bridge. */
#pragma once
#include "kernel/frame.h"
#include "vmm/vm.h"

int vm_port_create(struct vm *vm) must_check; /* not yet attached */
void vm_port_attach(struct vm *vm);           /* when the VM runs here: from now on, or again */
void vm_port_unbind(struct vm *vm);           /* when it stands still: its MAC may be elsewhere. May sleep */
void vm_port_detach(struct vm *vm);           /* may sleep */
void vm_port_free(struct vm *vm);
void vm_port_reset(struct vm *vm);            /* the guest is switched off and on */
struct learn *vm_port_learned(struct vm *vm); /* its addresses and groups: section "net-learned" */
extern const struct sdesc vm_learned_desc;    /* obj: struct learn */
void vm_port_tx(void *vm, struct frame *f);   /* from the guest */

/* SPDX-License-Identifier: BSD-2-Clause */
/* The guest's NICs on their networks' bridges: all of a VM's at once. */
#pragma once
#include "kernel/frame.h"
#include "vmm/vm.h"

int vm_port_create_all(struct vm *vm) must_check; /* not yet attached; before the machine, whose cards send to them */
void vm_port_attach_all(struct vm *vm);           /* when the VM runs here: from now on, or again */
void vm_port_unbind_all(struct vm *vm);           /* when it stands still: its MACs may be elsewhere. May sleep */
void vm_port_detach_all(struct vm *vm);           /* may sleep */
void vm_port_free_all(struct vm *vm);             /* detached; also what vm_port_create_all left; after the machine */
void vm_port_reset_all(struct vm *vm);            /* the guest is switched off and on */
/* What its cards have sent and received so far, bytes. vm->lock is held. */
void vm_port_bytes(const struct vm *vm, uint64_t *sent, uint64_t *received);
/* A card's addresses and groups: section "net-learned". */
struct learn *vm_port_learned(struct vm *vm, unsigned nic);
extern const struct sdesc vm_learned_desc; /* obj: struct learn */
/* What the guest's card is plugged into (vmm/dev/vnet.h). */
void vm_port_tx(void *port, struct frame *f);
void vm_port_lost(void *port);

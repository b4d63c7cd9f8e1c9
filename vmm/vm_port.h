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
/*
 * It is about to be paused by a migration: what comes for its cards meanwhile is kept there (vnet_keep), for whoever
 * goes on with it: this host, on whose guest it is pressed then, or another one, by what follows.
 */
void vm_port_keep_all(struct vm *vm);
/*
 * It runs elsewhere now, and never again here: put() gets each frame that was kept, as it would be on a wire, and those
 * of a card's queue in their order, until it says other than 0, which is the answer. What put() got is gone. One task.
 */
typedef int vm_port_put(void *arg, unsigned nic, const struct frame *f);
int vm_port_take_kept(struct vm *vm, vm_port_put *put, void *arg) must_check;
/* Has the network been told, for each of its cards, that its MAC is elsewhere? Then nothing more will come here. */
bool vm_port_is_elsewhere(const struct vm *vm);
/* Until there is something new for the two above, or the deadline. */
void vm_port_wait_kept(struct vm *vm, uint64_t deadline_ns);
/*
 * A frame that came for its card `nic` where it was before, by word of that host, which may say anything: to that card
 * alone, if it is for it (bridge_bring). Whether it came there is for nobody to know. May sleep.
 */
void vm_port_bring(struct vm *vm, unsigned nic, const struct frame *f);
/* What the guest's card is plugged into (vmm/dev/vnet.h). */
void vm_port_tx(void *port, struct frame *f);
void vm_port_lost(void *port);

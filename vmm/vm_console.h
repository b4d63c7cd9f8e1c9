/* SPDX-License-Identifier: BSD-2-Clause */
/* The guest's serial console: a scroll-back ring and at most one attached operator. */
#pragma once
#include "vmm/vm.h"

int vm_console_create(struct vm *vm) must_check;
void vm_console_free(struct vm *vm);
void vm_console_out(void *vm, uint8_t c); /* from the UART; any context, never sleeps */
/* Which UART takes the operator's input: the machine's own while it exists, else NULL. */
void vm_console_plug(struct vm *vm, struct vuart *u);
/*
 * Join the operator's console to the guest's: the tail of what it has said, then both ways until Ctrl-], or until the
 * VM has stopped or left this host. raw: the guest may do to the operator's terminal what it likes (term_filter.h).
 * Sleeps; the caller holds a reference to vm. -EBUSY: another operator is attached.
 */
struct con;
int vm_console_attach(struct vm *vm, struct con *c, bool raw);
/* The last of what the guest has said, at most n bytes; returns how many. *total: bytes it has ever said. */
#define VM_CONSOLE_RING 16384
size_t vm_console_tail(struct vm *vm, uint8_t *buf, size_t n, uint64_t *total);

/* SPDX-License-Identifier: BSD-2-Clause */
/* The guest's serial port, a 16550A. 0 or -errno with everything undone; it registers itself (vmm/dev.h). */
#pragma once
#include "vmm/dev.h"

struct vuart;
/* out() gets what the guest writes (any context, must not sleep). */
int vuart_create(struct machine *m, struct vuart **u, uint16_t port, unsigned gsi, void (*out)(void *arg, uint8_t c),
		 void *arg);
unsigned vuart_input(struct vuart *u, const uint8_t *s, unsigned n); /* to the guest; returns how many fitted */

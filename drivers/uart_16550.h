/* SPDX-License-Identifier: BSD-2-Clause */
/* Setting up the host's serial port, for kernel/main.c. What it is used by is in kernel/uart.h. */
#pragma once
#include "kernel/handoff.h"

/* Output works from here on, polled: the boot waits for a chip that moves. */
void uart_init(const struct handoff_console *c);
int uart_irq_init(
	void); /* after irq and tasks: nobody waits from here on; 0, or -errno and a timer instead of interrupts */

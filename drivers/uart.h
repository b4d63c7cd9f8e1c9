/* SPDX-License-Identifier: BSD-2-Clause */
/* The host's serial port (16550A, COM1 at 0x3f8, 115200 8N1). Output works from the first instruction, polled, in any context. */
#pragma once
#include "kernel/bits.h"

void uart_init(void);
void uart_write(const char *s,
		size_t n); /* polled until uart_irq_init, then through a ring drained by interrupts; never loses */
int uart_irq_init(void);   /* after irq and tasks; 0 or -errno (stays polled) */
int uart_getc(uint64_t deadline_ns); /* a byte, or -ETIMEDOUT; one task */
void uart_panic_mode(void);          /* polled again, locks ignored */
int uart_poll(void);                 /* panic mode: a byte or -1 */

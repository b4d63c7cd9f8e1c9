/* SPDX-License-Identifier: BSD-2-Clause */
/* The host's serial port, as the console and a panic need it. drivers/uart.c provides it; without a port, output goes nowhere. */
#pragma once
#include "kernel/bits.h"

void uart_write(const char *s, size_t n); /* any context; whole on return or from interrupts later: never loses */
int uart_getc(uint64_t deadline_ns);      /* a byte, or -ETIMEDOUT; one task */
void uart_panic_mode(void);               /* polled from here on, locks ignored */
int uart_poll(void);                      /* panic mode: a byte or -1 */

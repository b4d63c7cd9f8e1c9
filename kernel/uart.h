/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The host's serial port, as the console and a panic need it. drivers/uart_16550.c provides it; without a port, output
 * goes nowhere. A terminal may stop taking what is sent. So who writes never waits, and who can wait may ask before he
 * writes.
 */
#pragma once
#include "kernel/base/bits.h"

#define CTRL_C 3 /* the key, as a terminal sends it */

/*
 * Queue n bytes; any context, never waits outside of boot and panic. What has no room is dropped, and "[N bytes lost]"
 * takes its place once output goes on.
 */
void uart_write(const char *s, size_t n);
/*
 * Who can wait leaves what is queued beyond this to those who cannot; also what a key that ends output is late by: 0.4
 * s.
 */
#define UART_BACKLOG 4096
bool uart_ready(void); /* at most UART_BACKLOG bytes are queued; any context */
/*
 * Sleep until at most `backlog` bytes are queued; one task. 0; -ETIMEDOUT: the terminal has taken nothing for 2 s (said
 * at once from then on, until it takes something); -EINTR, if interruptible: ^C was typed, and is taken with what was
 * typed before it.
 */
int uart_wait(size_t backlog, bool interruptible);
bool uart_ctrl_c(void); /* ^C was typed, and is taken with what was typed before it */
/* A byte; -ETIMEDOUT; -EIO once after a loss was told: what the terminal shows is not what was sent. One task. */
int uart_getc(uint64_t deadline_ns);
void uart_panic_mode(void); /* from here on polled, bounded in time, locks ignored */
int uart_poll(void);        /* panic mode: a byte or -1 */

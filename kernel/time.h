/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Time: nanoseconds since tern started, from the TSC (the same on all CPUs), and one-shot timers.
 */
#pragma once
#include "kernel/base/bits.h"
#include "kernel/base/list.h"
#include "kernel/sync.h"

uint64_t time_ns(void); /* any context */
uint64_t time_tsc_hz(void);
uint64_t time_tsc_to_ns(uint64_t ticks); /* a difference of TSC values; no overflow up to 64 bits */
uint64_t time_ns_to_tsc(uint64_t ns);
/* UTC, nanoseconds since 1970, or 0 if the firmware had no clock. */
uint64_t time_wall_ns(void);
static inline uint64_t time_in_ms(uint64_t ms) { return time_ns() + ms * NS_PER_MS; }

/* For kernel/main.c: the clock (hz 0: unknown, taken as 1 GHz), then on each CPU its timers; arch_hooks.timer. */
void time_init(uint64_t hz, uint64_t start_tsc, uint64_t wall_s, uint64_t wall_tsc);
void time_cpu_init(void);
void time_interrupt(void);

struct timer {
	struct list node;
	uint64_t deadline_ns;
	void (*fn)(void *arg); /* interrupt context, on the CPU where it was set; must not sleep */
	void *arg;
	int cpu; /* where it is armed, or -1 */
	int ran; /* where fn was called last, or -1 */
};
void timer_init(struct timer *t, void (*fn)(void *arg), void *arg);
/*
 * (Re-)arm on this CPU; a deadline in the past fires at once. Any context; the caller sees to it that one CPU at a time
 * sets t.
 */
void timer_set(struct timer *t, uint64_t deadline_ns);
/* Disarm; on return fn is not running and will not run (waits for it on another CPU). Not from within fn. */
void timer_cancel(struct timer *t);

/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Tasks by turns, for a host-built test that wants each run to be like the last: of all tasks one runs, and the next is
 * drawn by a seed when it waits. When all wait, the clock goes to the first of their deadlines, so that no second is
 * ever waited for. When all wait for ever, that is a panic, which says who waits: a wait without a bound is found by
 * that.
 */
#pragma once
#include "kernel/base/bits.h"

/* From now on, for the calling thread and all tasks that are created. The clock is frozen at start_ns. Once. */
void fake_turns_begin(uint64_t start_ns);
/* The next run: what is drawn depends on this alone. */
void fake_turns_seed(uint64_t seed);
/* A number that depends on the seed and on nothing else: for lines that lose, and the like. */
uint64_t fake_turns_draw(void);

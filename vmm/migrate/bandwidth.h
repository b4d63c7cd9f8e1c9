/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * How the migrations that leave this host share its line. Each may have a limit of its own (`--limit`), all together
 * have one ([host] migrate_limit), which is dealt out evenly: whoever has sent a record waits until those of the others
 * have gone. One that would leave each less than the minimum ([host] migrate_minimum) does not begin yet: it is queued,
 * and they begin in the order in which they came.
 *
 * Rates are in bytes per second; a limit of 0 is none. While a guest stands still nothing is limited.
 */
#pragma once
#include "vmm/migrate/migration.h"
#include "vmm/migrate/this_host.h"

#define BANDWIDTH_AT_ONCE MIG_RECEIVE_MAX

/* Wait for m's turn. 0, or -ECANCELED with a reason: by the operator, or its guest will not go. Sleeps. */
int bandwidth_begin(struct migration *m, struct why *w) must_check;
/* m does not need the line (any more): the next may begin. Also of one that has not begun, and again. */
void bandwidth_end(struct migration *m);
/* m has sent so many bytes: wait until it may go on, shall not, or a limit changes. Sleeps. */
void bandwidth_pace(struct migration *m, uint64_t bytes);
/* The same for who does not wait here: until when he may send nothing more that can wait. */
uint64_t bandwidth_until(struct migration *m, uint64_t bytes);
/* The same without waiting: until when. b->lock is held. */
uint64_t bandwidth_due(struct bandwidth *b, struct migration *m, uint64_t bytes, uint64_t now);
/* Whoever waits here looks anew at whether he has been cancelled. */
void bandwidth_look(void);
/* Of one migration; m NULL: of all together. From now on. */
void bandwidth_limit(struct migration *m, uint64_t rate);
/* m's own limit, or less if that of all is; NULL: that of all. 0: none. */
uint64_t bandwidth_limit_of(struct migration *m);

/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What hosts do about records while no migration runs: a host that holds one asks its source now and then whether it
 * still holds the attempt, and frees the record when it does not, or when it has restarted (its image died with it).
 * Before a host is switched off it gives its open records to a peer.
 */
#pragma once
#include "vmm/migrate/records.h"

/* The task that asks, every 5 s while there is something to ask. Once. */
int settle_start(void);
/* One question for each record, in the caller's task, until end_ns. Returns how many are still open. Sleeps. */
unsigned settle_once(uint64_t end_ns);

/* The other sides: the current record of rx is SETTLE, DEBT or DONE. */
void settle_answer(struct wire_tx *tx, struct wire_rx *rx);

/*
 * A record comes from another host: kept here, unless it is about an attempt of this host, which then acts on it and
 * must not hold it as if it were somebody else's. As attempt_told.
 */
int settle_take(const struct decision *d) must_check;

/*
 * In a migration, the current record of rx is DEBT: of the VM that comes, an attempt that was started. Kept whatever
 * becomes of this one: it is a fact about another one. -EPROTO: it is something else; -ENOSPC.
 */
int settle_come_along(struct wire_rx *rx, const uint8_t uuid[16], struct why *w) must_check;

/* Give every record to a peer, until end_ns: how many nobody took. Sleeps. */
unsigned settle_hand_on(uint64_t end_ns);

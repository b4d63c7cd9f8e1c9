/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The destination's memory of attempts: for each (VM, epoch) exactly one decision, taken under one lock, remembered for as
 * long as somebody may still ask. doc/handover.md has the reasoning, and tests/unit/test_migrate.c the interleavings.
 *
 *   (unknown) --offer--> RECEIVING --ready--> READY --commit--> STARTED --forget (the source has heard)--> (unknown)
 *       |                    |                  |
 *       '-------query--------+----- give up ----+------> NEVER
 *
 * STARTED and NEVER are final. STARTED is kept until the source acknowledges it: forgetting it early would answer NEVER to
 * a source that still holds the image, and there would be two runners. NEVER may be forgotten, because an attempt that is
 * not known is answered with NEVER as well. So a full table drops its oldest NEVER, and refuses new offers if it has none.
 */
#pragma once
#include "vmm/migrate/records.h"

#define ATTEMPTS_MAX 256

enum attempt_state { ATTEMPT_NONE, ATTEMPT_RECEIVING, ATTEMPT_READY, ATTEMPT_STARTED, ATTEMPT_NEVER };

/* A new attempt: -EALREADY if its id is known, -ENOSPC if every slot holds what may not be forgotten. */
int attempt_offer(const struct attempt_id *id) must_check;
/* RECEIVING -> READY; -ECANCELED if it became NEVER meanwhile. */
int attempt_ready(const struct attempt_id *id) must_check;
/* The decision to start: 0 once, and the caller must start the VM; -ECANCELED: never. */
int attempt_commit(const struct attempt_id *id) must_check;
/* Give up unless started: returns the final state, STARTED or NEVER. Also the answer to a QUERY, known or not. */
enum attempt_state attempt_decide(const struct attempt_id *id);
/* The source knows of our STARTED, or has itself given up. */
void attempt_forget(const struct attempt_id *id);
enum attempt_state attempt_state(const struct attempt_id *id);

/* An undecided incoming attempt of this VM, if there is one: a newer offer replaces it. */
bool attempt_find_open(const uint8_t uuid[16], struct attempt_id *id);

/* An epoch that no attempt of this host has had: time, made to ascend. */
uint64_t attempt_new_epoch(void);

/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A host's memory of attempts: one record each, changed under one lock, by rules.c's record_rules alone.
 * doc/handover.md has the reasoning.
 *
 * A record goes only when its source no longer holds the attempt (DONE, or the source has restarted), or by the
 * operator's word. Forgetting STARTED early would leave a source that still holds the image with nobody who knows; so
 * time and a full table free nothing. How many there may be grows with the host's memory; when there is no room, offers
 * are refused.
 */
#pragma once
#include "vmm/migrate/records.h"

/*
 * Does what record_rules says for this event: the action. Events but OFFER and TOLD of an id that is not known: those
 * of RECORD_NONE.
 */
enum rule_action attempt_event(const struct attempt_id *id, enum record_event ev);

/*
 * RECORD_EV_OFFER: 0; -EALREADY the id is known, or is not newer than one that was offered here before; -ENOSPC no
 * room. source: the address under which it can be asked.
 */
int attempt_offer(const struct attempt_id *id, const char *vm, struct ip source) must_check;
/* RECEIVING -> READY, READY -> STARTED (and the caller must start the VM): 0, or -ECANCELED. */
int attempt_ready(const struct attempt_id *id) must_check;
int attempt_commit(const struct attempt_id *id) must_check;
int attempt_claim(const struct attempt_id *id) must_check; /* READY -> CLAIMING, and the caller must claim; the same */
/* RECORD_EV_GIVE_UP: the final state, STARTED or NEVER (or NONE). */
enum record_state attempt_give_up(const struct attempt_id *id);
/* RECORD_EV_TOLD_*: 0, -ENOSPC; -EPROTO: it contradicts what is known here. */
int attempt_told(const struct decision *d) must_check;

/* What is remembered of it: RECORD_NONE leaves d alone. d may be NULL. */
enum record_state attempt_find(const struct attempt_id *id, struct decision *d);
/* An attempt of this VM that is RECEIVING or READY. */
bool attempt_find_open(const uint8_t uuid[16], struct attempt_id *id);
/* The i-th record that is STARTED or NEVER; false past the end. Meanwhile others may come and go: for a look. */
bool attempt_get(unsigned i, struct decision *d);
/* All of them at one moment, for who must miss none: into *list, which the caller frees. 0 or -ENOMEM. */
int attempt_list(struct decision **list, unsigned *n) must_check;

/* A fresh id for an attempt of this host. */
struct attempt_id attempt_new_id(const uint8_t uuid[16]);

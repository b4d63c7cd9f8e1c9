/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The source between COMMIT and an answer: it asks the destination, everybody, and the unit of the VM's disks, until
 * the rules say what becomes of the image here. Its own task alone.
 */
#pragma once
#include "vmm/migrate/migration.h"

/* The rules' word for what happened to the source: they act, who asks obeys. */
enum rule_action undecided_event(enum source_state *s, enum source_event ev);
/*
 * COMMIT went out (or may have) and nothing came back: until there is an answer, or the operator decides. *state is no
 * longer UNDECIDED then. Sleeps, for days if need be.
 */
enum source_event undecided_ask(struct migration *m, enum source_state *state);
/* Of an event that is known: is it true of the VM's unit, too? What would have it go on here has taken that back. */
bool undecided_unit(struct migration *m, enum source_event *ev) must_check;

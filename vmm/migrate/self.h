/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * `migrate NAME to self`: a VM moves within its host. The destination is this host's own service, at the other end of a
 * stream in memory (net/stream_loop.c), which nobody else can reach. What it makes is a second VM beside the first
 * (vm_new_beside), which is in no table and found by nobody until the hand-over: then it takes the first one's place
 * there, at one moment, and the first one goes. All else is as between two hosts: records, attempt, COMMIT, STARTED.
 */
#pragma once
#include "vmm/migrate/migration.h"
#include "vmm/migrate/rules.h"

/* In place of connecting: *s is the source's end. -ENOMEM. self_end is to follow. */
int self_connect(struct migration *m, struct stream **s, struct why *w) must_check;
/* The attempt is over and its stream closed: waits until the other end's task has ended, too; no record is left. */
void self_end(struct migration *m);
/* In place of asking other hosts: what became of an attempt to whose COMMIT nothing came back. */
enum source_event self_ask(struct migration *m);

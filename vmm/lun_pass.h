/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A unit passes from host to host with its VM (doc/handover.md): COMMIT carries the key under which the source holds
 * it, and whoever is the first to displace that key has the VM. All of these sleep, some seconds at most but for
 * lun_pass's deadline.
 */
#pragma once
#include "kernel/base/err.h"

struct lun;
/*
 * Source, when the guest stands still, before COMMIT: nothing of it is under way any more, by the target's own word,
 * and from now on this host writes nothing there. *key: what COMMIT is to say. -ETIMEDOUT: not by then; -EPERM: it is
 * lost.
 */
int lun_pass(struct lun *l, uint64_t deadline_ns, uint64_t *key, struct why *w) must_check;
/* No COMMIT was sent, or it follows one that was taken back: it is this host's as before, if it still is. */
void lun_pass_keep(struct lun *l);
/* One that was passed is this host's again: as lun_owner_take_back. */
int lun_pass_take_back(struct lun *l, bool force, uint64_t *other, struct why *w) must_check;

/* Destination: lun_owner_prepare, _take_over and _mark. */
int lun_pass_prepare(struct lun *l, uint64_t source, struct why *w) must_check;
int lun_pass_take_over(struct lun *l, uint64_t from, uint64_t *other, struct why *w) must_check;
void lun_pass_mark(struct lun *l); /* when its keeper comes to it: does not sleep */
/* Either: lun_owner_follow; -EPERM: and from now on it is lost. */
int lun_pass_follow(struct lun *l, uint64_t peer, struct why *w) must_check;

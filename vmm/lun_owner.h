/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Whose a unit is (SPC-4 5.13): the host whose key holds its reservation, Write Exclusive. Each claim makes a fresh
 * key,
 *
 *   63     60 59                      28 27               0
 *   +--------+--------------------------+-----------------+
 *   |  mark  |      host, a digest      |     random      |   0xd: its VM runs there
 *   +--------+--------------------------+-----------------+   0xc: a hand-over has brought it there
 *
 * so that PREEMPT, which names the key that it displaces, is a compare-and-swap: of two hosts that try, one fails with
 * RESERVATION CONFLICT. A registration belongs to the I_T nexus, which a target may forget at a new login: then our own
 * reservation is displaced by ourselves, with a fresh key.
 */
#pragma once
#include "kernel/base/err.h"

struct iscsi_session;
struct lun_owner {
	uint64_t key;  /* under which we hold it; 0: we do not */
	bool forced;   /* it was another host's: it is not given back, or that one might find it free */
	uint64_t next; /* under which we tried to last: we hold it so if the target did that and its answer was lost */
	uint64_t host; /* ours */
	bool came;     /* by a hand-over, and the VM is not known to run: keys have that mark */
};
uint64_t lun_owner_key(uint64_t host); /* a fresh one, with the mark of one that runs */
bool lun_owner_key_runs(uint64_t key); /* has it that mark? */
bool lun_owner_key_is_of(uint64_t key, uint64_t host);
/*
 * Take it: if nobody has it, or this host from before (then what runs has ended: it is the caller who knows that).
 * force: whoever has it. -EBUSY: *other's is who has it.
 */
int lun_owner_claim(struct iscsi_session *s, uint16_t lun, struct lun_owner *o, bool force, uint64_t *other,
		    struct why *w) must_check;
/*
 * After a login, or when the unit says that something changed: still ours? 0: yes, perhaps by another key; also where
 * the target has forgotten its reservations. -EPERM: it is another's, or was meanwhile. Else it is not known.
 */
int lun_owner_check(struct iscsi_session *s, uint16_t lun, struct lun_owner *o, uint64_t *other,
		    struct why *w) must_check;
void lun_owner_release(struct iscsi_session *s, uint16_t lun, struct lun_owner *o);

/*
 * The hand-over (doc/handover.md): COMMIT says under which key the source holds it. The destination displaces that key,
 * or the source changes it; whoever is first, the other one's command fails, however late it comes.
 *
 * Destination, before COMMIT: registered, under a key that is only for this hand-over. -EBUSY: it is not the host
 * `source` that has it.
 */
int lun_owner_prepare(struct iscsi_session *s, uint16_t lun, struct lun_owner *o, uint64_t source,
		      struct why *w) must_check;
/*
 * 0: ours, no longer `from`'s, or still ours. -EBUSY: never by this hand-over, or no more: *other has it. Else it is
 * not known: ask again.
 */
int lun_owner_take_over(struct iscsi_session *s, uint16_t lun, struct lun_owner *o, uint64_t from, uint64_t *other,
			struct why *w) must_check;
/* Destination, when the VM runs: others shall see that. Best effort. */
void lun_owner_mark(struct iscsi_session *s, uint16_t lun, struct lun_owner *o);
/*
 * Source: ours again, under a key that no COMMIT has said. -EBUSY: *other has it; force: all the same. Else it is not
 * known.
 */
int lun_owner_take_back(struct iscsi_session *s, uint16_t lun, struct lun_owner *o, bool force, uint64_t *other,
			struct why *w) must_check;
/*
 * One that follows the VM's first one, which has decided: from `peer`, the other host of the hand-over, or from nobody.
 * -EPERM: a third one has it. Else: ask again.
 */
int lun_owner_follow(struct iscsi_session *s, uint16_t lun, struct lun_owner *o, uint64_t peer,
		     struct why *w) must_check;

/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The hand-over, both sides: from the destination's READY on, who may run the VM is decided by the rules of
 * doc/handover.md, and by nothing else. At no instant two runners; no VM lost while its source lives.
 */
#pragma once
#include "vmm/migrate/inbox.h"
#include "vmm/migrate/migration.h"

struct handover { /* the source's connection, after READY */
	struct stream *s;
	struct wire_tx *tx;
	struct inbox *in;
	/*
	 * COMMIT rides with END: both go out together, before READY has come, and from the first byte of END on the
	 * source is undecided. That saves a round trip of black-out, and costs that a destination which dies right then
	 * leaves the VM undecided.
	 */
	bool rides;
	const struct end_counts *counts; /* with rides: END's, which is not sent yet */
	uint64_t paused_at_ns;           /* when the guest was stopped */
	uint64_t clock_at_ns;            /* when its time was read for the clock section */
	uint64_t end_ns;                 /* then the guest goes on here, if its units still have something under way */
};
void handover_set_state(struct vm *vm, enum vm_state s); /* of a VM that stands still */
enum handover_outcome {
	HANDOVER_NOT_BEGUN, /* cancelled in the last moment: COMMIT was not sent */
	HANDOVER_STARTED,   /* it runs there: the image here must go */
	HANDOVER_NEVER,     /* it will never run there (or the operator claimed it): it goes on here */
	HANDOVER_FORGOTTEN, /* the operator's word: the image here must go, wherever the VM runs */
};
/*
 * Source: COMMIT, and then whatever it takes to know. Returns only with a decision; meanwhile the VM is UNDECIDED and
 * neither runs nor is freed. On return its state is PAUSED if it is NEVER, or what it was if it rests (resting.h).
 */
enum handover_outcome handover_source(struct migration *m, const struct handover *h, struct why *w) must_check;

struct arrival { /* at the destination: when what came of a guest that stands still; 0: not yet */
	uint64_t final_ns, pages_ns, end_ns, ready_ns, commit_ns; /* PASS, PASS_END, END, READY, COMMIT */
};
/*
 * Destination, after END was checked and loaded: READY, wait for COMMIT, decide. 0: the VM must be started now,
 * *paused_ns is how long ago the source read guest time; or -errno, and handover_give_up is to follow.
 */
int handover_dest(struct migration *m, struct wire_tx *tx, struct wire_rx *rx, struct arrival *a, uint64_t *paused_ns,
		  struct why *w) must_check;
/*
 * Destination: it is here. Tells the source, and learns what loading took of a VM that has so many sections; 0: nothing
 * is learnt, for it does not run. 0, or the stream's error.
 */
int handover_started(struct wire_tx *tx, const struct attempt_id *id, const struct arrival *a,
		     unsigned sections) must_check;
/* Destination: 0, or -ECANCELED if its own operator has cancelled, with the words that the source gets to read. */
int handover_cancelled(struct migration *m, struct why *w) must_check;
/* Destination: the attempt fails with err. Has a QUERY or a newer offer taken its stream from it? Then w says so. */
void handover_evicted(const struct migration *m, int err, struct why *w);
/* Destination: the current record is the source's ERROR. -ECANCELED: it was cancelled there; else -ECONNABORTED. */
int handover_source_gave_up(struct wire_rx *rx, struct why *w) must_check;
/* Destination: the attempt fails before its start. NEVER is decided first, and then both are told: why, and that. */
void handover_give_up(struct migration *m, struct wire_tx *tx, int err, const char *text);
/* Destination, a connection that asks: the current record is a QUERY. */
void handover_answer(struct wire_tx *tx, struct wire_rx *rx);
/*
 * After STARTED was sent: wait a little for the source's DONE, then the attempt may be forgotten. vm: what has started,
 * which the frames that come meanwhile are for; NULL: none come.
 */
void handover_wait_done(struct wire_rx *rx, const struct attempt_id *id, struct vm *vm);

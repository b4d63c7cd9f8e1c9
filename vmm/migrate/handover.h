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
	uint64_t paused_at_ns; /* when the guest was stopped */
	uint64_t clock_at_ns;  /* when its time was read for the clock section */
};
enum handover_outcome {
	HANDOVER_NOT_BEGUN, /* cancelled in the last moment: COMMIT was not sent */
	HANDOVER_STARTED,   /* it runs there: the image here must go */
	HANDOVER_NEVER,     /* it will never run there (or the operator claimed it): it goes on here */
};
/*
 * Source: COMMIT, and then whatever it takes to know. Returns only with a decision; meanwhile the VM is UNDECIDED and
 * neither runs nor is freed. On return its state is PAUSED (unless STARTED).
 */
enum handover_outcome handover_source(struct migration *m, const struct handover *h, struct why *w) must_check;

/*
 * Destination, after END was checked and loaded: READY, wait for COMMIT, decide. 0: the VM must be started now, *paused_ns
 * is how long ago the source read guest time; or -errno, and the attempt is NEVER.
 */
int handover_dest(struct migration *m, struct wire_tx *tx, struct wire_rx *rx, uint64_t *paused_ns,
		  struct why *w) must_check;
/* Destination, a connection that asks: the current record is a QUERY or a DONE. */
void handover_answer(struct wire_tx *tx, struct wire_rx *rx);
/* After STARTED was sent: wait a little for the source's DONE, then the attempt may be forgotten. */
void handover_wait_done(struct wire_rx *rx, const struct attempt_id *id);

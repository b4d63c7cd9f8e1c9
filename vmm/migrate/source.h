/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The source of a migration, as its files share it: source.c has the task, from connecting to the end, precopy.c the
 * passes over the running guest, switchover.c what happens while it stands still, up to READY. What follows is in
 * handover.c, because from COMMIT on other rules hold. Every error before it leaves the guest running here, as if
 * nothing had been tried.
 *
 *   HELLO -> OFFER -> ACCEPT | pass 1, 2 ... (guest runs) | pause, last pass, state, END -> READY | hand-over
 */
#pragma once
#include "vmm/migrate/inbox.h"
#include "vmm/migrate/migration.h"
#include "vmm/migrate/pages.h"
#include "vmm/migrate/policy.h"

struct source { /* of the migration's task alone */
	struct migration *m;
	struct vm *vm;
	struct stream *s;
	struct why *w;
	struct wire_tx tx;
	struct inbox in;
	struct page_tx pages;
	struct policy policy;
	uint64_t begin_ns; /* of the passes: what the operator's time-out counts from; 0: not yet */
	uint64_t received; /* bytes that its cards had got when the pass began */
	uint32_t *share;   /* of each vCPU, as it was slowed last (vmm/x86/stun.h) */
	uint32_t *sample;  /* what was seen of each in this pass */
	uint64_t
		allow_ns; /* for how long the guest may stand still: the budget, or the forecast where that is larger */
	struct attempt_id id;
	uint32_t debts;
	struct end_counts counts;
	uint64_t left; /* pages to send, when the pass began */
	uint32_t pass;
	uint32_t sections;
	bool tracking, paused;
	bool can_remote;              /* post-copy: the destination can, and nothing that was asked for forbids it */
	const struct hot_frames *hot; /* of the last pass, if the rest stays here (remote.h) */
	bool forgotten;           /* by the operator, undecided: the image goes, and it is not known where the VM is */
	uint64_t said_ns;         /* when the end of the pass was about to be said */
	uint64_t paused_ns;       /* when the guest was stopped */
	struct downtime forecast; /* of the last pass */
	uint64_t scan_ns;         /* that the last look at what is dirty took */
	uint64_t scanned_ns, sent_ns, stated_ns; /* while it stands still: when that was over, the pages, the state */
	uint32_t trips;                          /* waits for answers before that */
	unsigned nsections;                      /* that the VM may have */
	uint64_t clock_ns;                       /* when guest time was read */
	uint64_t quiet_ns, quiet_seq;            /* when the last record was seen to have gone, and its number */
	uint64_t rate_ns, rate_bytes;
	uint64_t paced;   /* bytes that bandwidth_pace knows of */
	uint64_t hold_ns; /* when it runs there already: until when only what somebody waits for is sent */
	struct offer offer;
	struct verify_tx *verify; /* verify.h; NULL: the operator does not ask for it */
	uint64_t verify_ns;       /* that it took, beyond what the switch-over may */
	uint64_t again_ns;        /* when it runs there already: since when no page was asked for again; 0: none was */
};

/* precopy.c: pass after pass over the running guest until the policy says stop. */
int precopy_run(struct source *c) must_check;
int precopy_send_pass(struct source *c, bool final) must_check;
/* Between records: is everything still well on both sides? arg: struct source. */
int precopy_progress(void *arg) must_check;
/* The same without what belongs to passes; waits for the migration's share of the line. */
int precopy_look(struct source *c) must_check;
void precopy_status(struct source *c);
/*
 * slow.c: each vCPU by what it was seen to dirty in the pass that r is about, to what the policy lets them. blocks: of
 * disks, of what r says is left.
 */
void slow_vcpus(struct source *c, const struct policy_pass *r, uint64_t blocks);
/* What the passes began, tracking and slowed vCPUs, ends; of an attempt that leaves the guest here. */
void precopy_undo(struct source *c);

/* forecast.c: what the switch-over of this VM will take beside the line; when the destination has accepted it. */
void forecast_begin(struct source *c);
/* How often it has waited for an answer so far. st: c->m's; its lock is held. */
void forecast_trips(const struct source *c, struct migrate_status *st);
/* It runs there: what the black-out was made of, beside its forecast, into the report; and for the next ones. */
void forecast_end(struct source *c);

/* switchover.c: stop the guest, send all that is left and, unless COMMIT rides with END, wait for READY. */
int switchover_run(struct source *c, bool rides) must_check;
/* While the guest stands still: the one deadline for all of it. */
uint64_t switchover_end(const struct source *c);

/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * `migrate --verify`: while the guest stands still, between the last section and END, both sides digest all of the
 * VM's memory and disks (sums.h) and each section of its state. A difference ends the attempt, with the first page or
 * field that differs in words, and the guest goes on at the source. Nothing is exempt: a section is compared as it was
 * loaded, before anything advances what depends on time. What comes in post-copy is compared as it comes (page_sums.h).
 *
 *   source: VERIFY (range, sums) ... VERIFY_STATE (digest of a section's bytes) ... END          -> READY
 *   dest:          its own sums: CHECKED, or DIFFERS       load, encode again: READY, or DIFFERS -> ERROR, in words
 *
 * A few ranges may be without an answer, so both sides are at it at the same time. The operator's downtime does not
 * bound this; each answer has MIG_STOPPED_NS.
 */
#pragma once
#include "vmm/migrate/sections.h"
#include "vmm/migrate/source.h"
#include "vmm/migrate/sums.h"

/* ---- source: without --verify c->verify is NULL, and all of them do nothing and return 0 ---- */

int verify_begin(struct source *c) must_check; /* after the greeting. -ENOMEM */
void verify_end(struct source *c);
/* The section whose bytes are the last ones in c->tx. -ENOMEM */
int verify_keep(struct source *c, const struct sdesc *d, uint32_t instance) must_check;
int verify_run(struct source *c) must_check; /* all was sent but END. -EIO: as verify_differs */
/* The destination has answered with DIFFERS: -EIO, and c->w names what differs. */
int verify_differs(struct source *c) must_check;
void verify_passed(struct source *c); /* READY came: into the status */

/* ---- destination ---- */

struct verify_rx { /* of the attempt's task */
	struct migration *m;
	struct wire_tx *tx;
	const struct page_rx *came; /* where they came from, and to */
	struct sections *sections;
	struct sums_walk walk;
	uint64_t begun_ns;       /* 0: the source does not verify */
	uint64_t good;           /* pages that do not differ, and frames that are absent on both sides: */
	uint64_t absent;         /* so many, which come when it runs here (page_sums.h) */
	uint32_t ranges, states; /* that came */
};
/* VERIFY or VERIFY_STATE, just received: -EPROTO, or as verify_loaded. */
int verify_recv(struct verify_rx *v, struct why *w) must_check;
int verify_complete(const struct verify_rx *v, struct why *w) must_check; /* END has come. -EPROTO: something has not */
/*
 * The VM's state has been loaded, the CPUs' as well: 0; or something differs, the source was told, and why has its
 * words: -ECONNABORTED; -EIO, it had none.
 */
int verify_loaded(struct verify_rx *v, struct why *w) must_check;

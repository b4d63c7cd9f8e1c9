/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * `migrate --verify` in post-copy, from STARTED on: in front of each PAGES record the source says what its pages are,
 * as its image has them (sums.h), and the destination holds against that what it has put into the guest's memory,
 * before the frame can be got at. One that differs stays absent, is named on both hosts and asked for again.
 *
 *   source: [AGAIN ->] SUMS, PAGES      dest: written, the same? -> it is there
 *                                                     : no      -> absent; AGAIN, at once or in a while
 *
 * That has no end but the right page or the guest's: who touches it waits, the source keeps its image, and nothing is
 * ever read that is not what the guest wrote.
 */
#pragma once
#include "vmm/migrate/absent.h"
#include "vmm/migrate/migration.h"

#define PAGE_SUMS_WRONG    32               /* frames that differ at one time; more, and the connection is made anew */
#define PAGE_SUMS_AT_ONCE  3                /* so often it is asked for again at once, */
#define PAGE_SUMS_LATER_NS (5 * NS_PER_SEC) /* then after this: less than MIG_IDLE_NS, and so a sign of life */

/* ---- source ---- */

/*
 * In front of what pages_send_range sends for d: of its frames that are in mem's set. *pages: how many have something.
 * Nothing is sent if none is in it.
 */
int page_sums_send(struct wire_tx *tx, const struct gmem *mem, const struct demand *d, uint64_t deadline_ns,
		   uint64_t *pages) must_check;
/* d is AGAIN: its frame is in the set again, and both hosts' words and reports have it. */
int page_sums_again(struct migration *m, struct gmem *mem, const struct demand *d) must_check;

/* ---- destination ---- */

struct page_sums_wrong {
	gfn_t gfn;
	uint32_t times;  /* that it has come, and differed */
	uint64_t due_ns; /* when it is asked for again; TIME_NEVER: that is out */
	uint64_t is;     /* what it is here */
	uint64_t said;   /* what its source has said first */
	bool by_demand;  /* there is a new connection, which is to bring it as all that is absent */
};
/* (c) before the guest runs  [t] of the attempt's task  [l] lock, a leaf */
struct page_sums {
	struct migration *m; /* (c) */
	bool on;             /* (c) the source verifies */
	gfn_t first;         /* [t] what the last SUMS says, for the PAGES that come next */
	uint32_t count;      /* [t] 0: nothing */
	uint64_t sum[DEMAND_FRAMES];
	bool odd; /* [t] pages came that it says nothing of, or too many differ */
	struct spinlock lock;
	struct page_sums_wrong wrong[PAGE_SUMS_WRONG]; /* [l] */
	unsigned n;                                    /* [l] */
};
void page_sums_init(struct page_sums *s, struct migration *m);
/* SUMS, just received. -EPROTO with why. */
int page_sums_recv(struct page_sums *s, struct wire_rx *rx, const struct gmem *mem, struct why *w) must_check;
/* May a record of this type come now? */
bool page_sums_allow(const struct page_sums *s, uint32_t type);
/* Of an absent frame whose bytes are there: may it be mapped? */
bool page_sums_good(struct page_sums *s, const struct gmem *mem, gfn_t gfn);
/* A PAGES record is through. -EPROTO with why. */
int page_sums_taken(struct page_sums *s, struct why *w) must_check;
/* Is it one that AGAIN asks for? */
bool page_sums_is_wrong(struct page_sums *s, gfn_t gfn);
/* An AGAIN that is due, into *d, which is out then: or false, and *due_ns says when there is one. */
bool page_sums_next(struct page_sums *s, struct demand *d, uint64_t *due_ns);
/* There is a new connection, by which no AGAIN has gone: DEMAND asks for all that is absent. */
void page_sums_restart(struct page_sums *s);

/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Post-copy, the destination's side (remote.h is the source's): the guest runs, and frames of it are absent. Who
 * touches one asks for it at once and sleeps; what nobody waits for is asked for in ranges, behind the last such frame
 * first, and only so much at a time that an urgent page has little before it in the network's queues.
 *
 *   ABSENT .. -> pull_map | COMMIT -> pull_begin, the guest starts | pull_run: until all is here, or it has ended
 *
 * A connection that is lost costs nothing but time: who waits goes on waiting, and who waits for nothing runs on. The
 * source makes a new one (REJOIN, service.h).
 */
#pragma once
#include "vmm/migrate/absent.h"
#include "vmm/migrate/inbox.h"
#include "vmm/migrate/migration.h"
#include "vmm/migrate/page_sums.h"
#include "vmm/migrate/pages.h"

#define PULL_RANGES_MAX 64 /* out at a time: 4 MiB */
#define PULL_URGENT_MAX (INBOX_DEMANDS_MAX - PULL_RANGES_MAX - PAGE_SUMS_WRONG)

struct pull_link { /* of the task that has the connection */
	struct wire_tx *tx;
	struct wire_rx *rx;
	struct completion left; /* nobody uses it any more */
};

/* (c) before pull_begin  [t] of the attempt's task  [l] lock  [x] tx_lock, which is taken before lock */
struct pull {
	struct migration *m;   /* (c) */
	struct vm *vm;         /* (c) */
	struct absent_rx map;  /* (c) */
	struct page_sums sums; /* --verify */
	struct gmem_pager pager;
	struct spinlock lock;
	struct waitq q;
	struct waitq work;    /* for the task that asks */
	bool has_asker, stop; /* [t]; [l] it shall end */
	struct completion asker_gone;
	struct list waits;       /* [l] who waits for a page */
	unsigned urgent;         /* [l] frames that were asked for so, and have not come */
	gfn_t cursor;            /* [l] where the next range begins */
	bool begun, ended;       /* [l] pages may be asked for; who waits gets -ECANCELED */
	struct pull_link *offer; /* [l] a new connection */
	struct mutex tx_lock;
	struct wire_tx *asks;               /* [x] where DEMAND goes; NULL: there is no connection */
	unsigned out, window;               /* [t] ranges that are out, and how many may be */
	uint64_t least_ns;                  /* [t] the shortest that one has taken */
	uint64_t asked_ns[PULL_RANGES_MAX]; /* [t] when, oldest first from `first` on */
	unsigned first;
};

void pull_init(struct pull *p, struct migration *m);
/*
 * The current record is ABSENT: vm stands still, and what the map has of it becomes absent. -EPROTO with why. The map's
 * end makes vm's memory such that nobody gets at an absent page, and nobody can wait for one either: -EIO.
 */
int pull_map(struct pull *p, struct vm *vm, struct wire_rx *rx, struct why *w) must_check;
static inline bool pull_is_half(const struct pull *p) { return p->vm && !p->map.ended; } /* its end has not come */
static inline bool pull_is_on(const struct pull *p) { return p->map.ended && p->map.frames; }
/*
 * The state is loaded: is all of it here that the VM's own start touches (hot.h)? -EPROTO with why: the source would
 * have it wait for itself. -ENOMEM.
 */
int pull_check(const struct pull *p, struct why *w) must_check;
/* Before the guest's first instruction: from now on pages can be waited for. verify: each comes with its digest. */
void pull_begin(struct pull *p, bool verify);
/*
 * By the attempt's task, by its connection and those that follow: until all is here and the source knows it, or the
 * guest has ended.
 * Then nothing is absent any more, or nobody looks for it. Sleeps, for days if it must.
 */
void pull_run(struct pull *p, struct wire_tx *tx, struct wire_rx *rx);
/* After any of that, also where it came to nothing: the VM uses it no more, or is gone. */
void pull_fini(struct pull *p);

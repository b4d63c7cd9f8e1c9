/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Passes that the destination drives (`--pull`): the source sends a map of the memory that the pass is about, and the
 * destination asks for it, range by range, so much at a time. Pushing is the same with everything asked for at once.
 *
 *   PASS(pulled) -> ABSENT .. | DEMAND -> PAGES, SERVED .. until all of the map has come | disks' blocks, PASS_END
 *
 * Of the first pass the map has what is not zeros: memory that was never touched is not in it. It is sent piece by
 * piece as memory is read for that, and what is in it may be asked for at once. Of later passes it has what has
 * changed. The last pass is pushed: the guest stands still for it, and would for one more round trip.
 */
#pragma once
#include "vmm/migrate/absent.h"
#include "vmm/migrate/pages.h"

struct source;

#define PULLED_FRAMES  1024 /* of one range, and the rest of its last 64 */
#define PULLED_WINDOW  8192 /* frames that may be out: 32 MiB */
#define PULLED_OUT_MAX 64   /* ranges of them: of a set that has few frames far apart */

/* The source's memory in such a pass: until all of its set has been asked for and sent. */
int pulled_send(struct source *c) must_check;

/* The destination's; all of its receiving task. */
struct pulled_rx {
	bool on; /* the pass that is under way is one */
	struct absent_rx map;
	struct gmem *mem;                  /* whose set is what is in the map and has not come */
	gfn_t cursor;                      /* what is below has been asked for */
	uint64_t came;                     /* frames of the map */
	struct demand out[PULLED_OUT_MAX]; /* not served yet, oldest first from `first` on */
	uint32_t frames[PULLED_OUT_MAX];   /* that each has, about */
	unsigned first, nout;
	uint64_t nframes;
};
/* At PASS; pages: what it asks for comes so. Until pulled_is_over that are the set's alone, which is empty now. */
void pulled_begin(struct pulled_rx *p, struct page_rx *pages);
/* At ABSENT and SERVED: takes what it says, and asks for more. -EPROTO with why. */
int pulled_map(struct pulled_rx *p, struct wire_tx *tx, struct page_rx *pages, struct why *w) must_check;
int pulled_served(struct pulled_rx *p, struct wire_tx *tx, struct page_rx *pages, struct why *w) must_check;
/* All of its memory has come, or it is none such. */
static inline bool pulled_is_over(const struct pulled_rx *p)
{
	return !p->on || (p->map.ended && !p->nout && p->came == p->map.frames);
}

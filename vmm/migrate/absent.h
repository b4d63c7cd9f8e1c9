/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Records of post-copy: which frames are still at the source (ABSENT), which of them the destination wants now
 * (DEMAND, AGAIN), and that such a range has gone (SERVED). What the map has is a set of gmem's (gmem_track_next): of
 * frames that are left to send at a source, of absent ones at a destination. Either side sends its own, and reads the
 * other's.
 *
 *   ABSENT: base gfn u64 | runs u32 | runs x { offset from base u32, count u32 }, ascending over all records of a map;
 *           one without runs ends it, and its base is the number of frames
 */
#pragma once
#include "vmm/gmem.h"
#include "vmm/migrate/records.h"

#define DEMAND_FRAMES 16 /* of a range that nobody waits for; its first is a multiple of that */
#define DEMAND_URGENT 1  /* somebody waits for it: one frame */

struct demand {
	gfn_t first;
	uint32_t count, flags;
	uint32_t times; /* AGAIN: how often it has come and was not what it should be; 0: DEMAND or SERVED */
	uint64_t there; /* what the destination has, */
	uint64_t said;  /* and what it had been told first */
};

/*
 * A map of g's set, whole or piece by piece in ascending order, with the end that says how many frames are in it; each
 * record within idle_ns and by end_ns. The runs of [from, end), of one range, are out when _part returns.
 */
struct absent_tx {
	struct wire_tx *tx;
	uint64_t idle_ns, end_ns, frames;
	gfn_t base;
	uint32_t n;
	struct absent_run {
		uint32_t off, count;
	} * run; /* WIRE_ABSENT_RUNS */
};
int absent_tx_init(struct absent_tx *m, struct wire_tx *tx, uint64_t idle_ns, uint64_t end_ns) must_check; /* -ENOMEM */
int absent_tx_part(struct absent_tx *m, const struct gmem *g, gfn_t from, gfn_t end) must_check;
int absent_tx_end(struct absent_tx *m) must_check;
void absent_tx_fini(struct absent_tx *m); /* after a failed init as well */
int absent_send(struct wire_tx *tx, const struct gmem *g, uint64_t idle_ns, uint64_t end_ns) must_check;

struct absent_rx { /* zeros, then each record of a map */
	gfn_t next;
	uint64_t frames;
	bool ended;
};
/*
 * The ABSENT record that was just received; each of its runs, which are RAM of one range, goes to add(g, first, count).
 * -EPROTO with why.
 */
int absent_recv(struct absent_rx *a, struct wire_rx *rx, struct gmem *g,
		void (*add)(struct gmem *g, gfn_t first, uint64_t count), struct why *w) must_check;

int absent_demand_send(struct wire_tx *tx, uint32_t type, const struct demand *d, uint64_t deadline_ns) must_check;
/* DEMAND or SERVED. False: malformed; its frames may be anything. */
bool absent_demand_parse(struct wire_rx *rx, struct demand *d) must_check;
/* AGAIN: of one frame, for which somebody may wait. */
int absent_again_send(struct wire_tx *tx, const struct demand *d, uint64_t deadline_ns) must_check;
bool absent_again_parse(struct wire_rx *rx, struct demand *d) must_check;
/* ALL. verified: how many pages were, and how many came that differed; NULL: the source does not verify. */
int absent_all_send(struct wire_tx *tx, const struct attempt_id *id, const uint64_t verified[2],
		    uint64_t deadline_ns) must_check;
void absent_all_get(struct wire_rx *rx, struct attempt_id *id, uint64_t verified[2]); /* zeros: it does not say */
/* Is it a range that the other side may ask for, all of it RAM? */
bool absent_demand_is_sane(const struct demand *d, const struct gmem *g);

/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What a guest's black-out is made of, as it was predicted and as it was; and what its parts have cost in the moves of
 * this host so far, which is what the next one is predicted from. Pure arithmetic. Times in ns.
 *
 *   source       pause, save CPUs, scan | pages ......... | state ......  | ...................... | guest runs there
 *   destination                         |   pages ........|   state ..... | load -> READY   COMMIT -> start
 *                <------- scan -------->  <---- send ---->  <-- state -->   load, and all the rest is waits
 */
#pragma once
#include "kernel/base/bits.h"
#include "kernel/base/err.h"

enum downtime_part {
	DOWN_SCAN,   /* stopping the guest, and the last look at what is dirty */
	DOWN_SEND,   /* what is left of memory and disks */
	DOWN_STATE,  /* of CPUs and devices: saved, sent and taken there */
	DOWN_LOAD,   /* CPUs are loaded there, and it is started */
	DOWN_WAITS,  /* round trips, and all that is none of the others */
	DOWN_VERIFY, /* of --verify, which nobody predicts */
	DOWN_PARTS,
};
struct downtime {
	uint64_t ns[DOWN_PARTS];
};
extern const char *const downtime_part_names[DOWN_PARTS];
uint64_t downtime_sum(const struct downtime *d);

/*
 * A forecast is wrong if it is off by more than twice, either way, and by more than this: a part is no better known
 * than a round trip with its interrupts and task switches, and no guest and no client tells 1 ms from 2.
 */
#define DOWNTIME_FLOOR_NS NS_PER_MS
/*
 * Was it wrong? Then w says so, with both numbers and with the part that was off most. Without what --verify took.
 * actual is 0 in all parts: nothing is known of it, and nothing wrong.
 */
bool downtime_is_wrong(const struct downtime *predicted, const struct downtime *actual, struct why *w) must_check;

/* What is expected before a move was measured, of a VM in all. */
#define DOWNTIME_STOP_NS  (2 * NS_PER_MS)
#define DOWNTIME_STATE_NS (4 * NS_PER_MS)
#define DOWNTIME_LOAD_NS  (4 * NS_PER_MS)
/* What moves took on this host, each of one thing of which a VM has several; 0: none has been measured. */
struct downtime_costs {
	uint64_t stop;    /* [a] a vCPU is stopped and saved, at a source */
	uint64_t section; /* [a] a section of state is saved there and taken here, beside the line's time */
	uint64_t load;    /* [a] a section's part of loading CPUs and starting, at a destination */
};
/*
 * Account for ns that n things took: the newest counts a quarter, and as no more than twice what was expected, or one
 * line that was cut for a moment would make all later moves look impossible. guess: as above. Any task.
 */
void downtime_learn(uint64_t *cost, uint64_t ns, uint64_t n, uint64_t guess);
/* What n things will take. */
uint64_t downtime_expect(const uint64_t *cost, uint64_t n, uint64_t guess);

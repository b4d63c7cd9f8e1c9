/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Who may fill an uplink that is full. A card that takes no more frames refuses whoever comes next, and where one guest
 * sends without end others find no room. So for a second after a refusal half of the card's ring is kept for credit,
 * which each guest that sends earns in equal parts as the card takes frames off the ring, and keeps for a while. The
 * other half, which keeps the card busy, is for all. What the host itself sends (migrations) is never refused here: it
 * finds the half that is kept.
 *
 * Own lock, a leaf; any task. Of a card that is never full it costs two loads for each frame.
 */
#pragma once
#include "kernel/spinlock.h"

#define FAIR_FRAME 1518U /* bytes of the frames that room is told in */

struct fair { /* of an uplink */
	struct spinlock lock;
	uint64_t until_ns;  /* [a] it counts until then; 0: it does not */
	uint64_t end_ns;    /* [lock] of the window in which those who send are counted */
	uint64_t number;    /* [lock] of the window */
	uint64_t taken;     /* [lock] bytes that the ring has taken */
	uint64_t done;      /* [lock] of these those that the card has taken off it */
	unsigned room_most; /* [a] that was seen: the whole ring; 0: not yet */
	uint64_t done_then; /* [lock] `done` as the window began */
	bool stuck;         /* [lock] it has not moved since the window before: what is known of the ring is wrong */
	unsigned now, then; /* [lock] guests that have sent in this window, and in the one before */
};
struct fair_part {       /* of a guest's port, at its network's uplink; that one's lock */
	uint64_t number; /* of the window that it last sent in */
	uint64_t done;   /* fair.done when it last earned */
	int64_t credit;  /* bytes; it may owe, for a frame may be as large as all that it can have */
};

void fair_init(struct fair *f);
/* Another card sends: its ring may be of another size. Any context. */
static inline void fair_forget(struct fair *f) { __atomic_store_n(&f->room_most, 0, __ATOMIC_RELAXED); }
static inline bool fair_counts(const struct fair *f) { return __atomic_load_n(&f->until_ns, __ATOMIC_RELAXED); }
/* Does it want the card's room? While it counts, and until it has seen any: the first frame finds the ring empty. */
static inline bool fair_asks(const struct fair *f)
{
	return fair_counts(f) || !__atomic_load_n(&f->room_most, __ATOMIC_RELAXED);
}
/* If it asks: may the guest send len bytes, where the card takes `room` frames? Else they are dropped. */
bool fair_may(struct fair *f, struct fair_part *p, uint32_t len, unsigned room, uint64_t now_ns);
/* The ring has taken them, a guest's or the host's, or refused a guest's for want of room (-ENOBUFS). */
void fair_sent(struct fair *f, uint32_t len, bool taken, uint64_t now_ns);

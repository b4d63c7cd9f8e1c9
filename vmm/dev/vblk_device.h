/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The virtio-blk device, as its own files share it: vblk_request.c knows what a request looks like, vblk.c what becomes
 * of it.
 *
 * Locks: v.lock, of the device -> a queue's lock, of its ring and its requests (vvirtio_ops.exclude). None is held
 * while a request is submitted.
 */
#pragma once
#include "kernel/sync.h"
#include "kernel/worker.h"
#include "vmm/dev/vblk.h"
#include "vmm/dev/vvirtio.h"

#define VBLK_TURN_NS    (300 * NS_PER_US) /* of a worker */
#define VBLK_QUIESCE_NS (2 * NS_PER_SEC)  /* that quiesce gives a back end before it is in a hurry */
/* Of one request, which is done in pieces: quiesce waits for the rest of one that cannot be taken back. */
#define VBLK_ZEROES_MAX (1U << 18)           /* sectors of DISCARD and WRITE_ZEROES: 128 MiB */
#define VBLK_SEGS       (VIRTQ_SIZE_MAX - 2) /* of data, beside header and status, */
#define VBLK_SEG_BYTES  KIB(256)             /* each of up to */

struct vblk_state {        /* section "virtio-blk" */
	uint64_t capacity; /* sectors, as the driver was told last */
};
struct vblk_queue;
struct vblk_req {
	struct blockdev_req r;
	struct list node; /* [q] free, done or held */
	struct vblk_queue *q;
	uint64_t read;     /* bytes that READs have put into the chain */
	uint16_t next;     /* of the avail ring, when it was taken */
	uint64_t left;     /* bytes behind those that r asks for */
	uint64_t begin_ns; /* when it was taken */
	uint32_t epoch;    /* of the device, then */
	uint8_t status;    /* VBLK_S_* */
	uint8_t id[VBLK_ID_LEN];
	bool gets_id; /* it asks for that */
	struct vvirtq_chain chain;
};
/*
 * (c) const after create  [l] v.lock  [q] the queue's lock  [a] atomic
 */
struct vblk_queue {
	struct vblk *k; /* (c) */
	unsigned n;     /* (c) */
	struct spinlock lock;
	struct worker worker;   /* own locking */
	struct list free, done; /* [q] of struct vblk_req */
	struct list held;       /* [q] that ended with -EAGAIN: they are submitted again by resume */
	struct completion idle; /* for inflight to become 0, */
	bool awaited;           /* [q] if somebody waits for that */
	unsigned inflight;      /* [q] submitted, and done() is not through with it */
	bool submitting;        /* [q] the worker is at the back end, and looks for what is done when it comes back */
	struct vblk_req *req;   /* (c) depth of them */
};
struct vblk {
	struct vvirtio v;
	struct vvirtio_ids ids; /* (c) */
	struct vblk_state s;    /* [l] */
	struct blockdev *d;     /* (c) */
	bool quiesced;          /* [a], set by [l] */
	bool excluded;          /* [a], set by [l] */
	unsigned nqueues;       /* (c) */
	struct vblk_queue *q;   /* (c) */
};

/*
 * What the chain in q asks for, into q's other fields: 0, and it is to be submitted; 1: there is nothing to do but to
 * give its status back; -EPROTO with why, which is for the device: a chain that has no room for a status.
 */
int vblk_request_parse(struct vblk_req *q, const struct blockdev *d, const char **why) must_check;
/* Bytes of the chain's write part before the status. */
static inline uint32_t vblk_request_in(const struct vblk_req *q) { return q->chain.in_len - 1; }

/* vblk_config.c, for vblk.c */
extern const struct vvirtio_ids vblk_ids; /* of all of them, without what depends on queues and back end */
extern const struct sdesc vblk_desc;      /* obj: struct vblk */
uint64_t vblk_config_read(struct vvirtio *v, unsigned off, unsigned size);

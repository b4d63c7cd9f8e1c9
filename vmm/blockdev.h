/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What a guest's disk (vmm/dev/vblk.h) is made on: a back end that does requests, such as a layer in memory
 * (vmm/layer.h). Data goes between the back end and pinned pages of the guest, without a copy between them.
 */
#pragma once
#include "kernel/base/list.h"
#include "vmm/gmem.h"

#define SECTOR     512 /* bytes: what offsets and lengths are multiples of */
#define SECTOR_BIT 9

enum blockdev_op {
	BLOCKDEV_READ,
	BLOCKDEV_WRITE,
	BLOCKDEV_FLUSH, /* what was completed before it survives the back end's power loss, as far as anything does */
	BLOCKDEV_ZERO,  /* reads as zeros from then on; memory or space that it took is given back */
};
/* The submitter's, the back end's from submit to done. */
struct blockdev_req {
	enum blockdev_op op;
	uint64_t off, len; /* bytes, within the device; 0 of FLUSH */
	/*
	 * READ and WRITE: where the data is, from byte `skip` of these pieces on. They hold skip + len bytes at least.
	 */
	const struct gmem_pin *seg;
	uint64_t skip;
	/*
	 * How it ended: 0 or -errno; of a READ that failed the data is undefined. -EAGAIN: it was not done, for its
	 * disk is in a hurry (ops->hurry); it is asked for again when that is over.
	 */
	int err;
	void (*done)(struct blockdev_req *r);
	struct list node; /* the back end's, as is */
	uint64_t begin_ns;
};
struct blockdev;
struct blockdev_ops {
	/*
	 * r->done is called once, from here or from any task of the back end's, without locks, and within a bound that
	 * the back end has. Each request is of at most b->max_len bytes, and b->depth of them are under way at most.
	 */
	void (*submit)(struct blockdev *b, struct blockdev_req *r);
	/*
	 * NULL: each request ends soon by itself. Until it is called with TIME_NEVER each request ends by deadline_ns,
	 * or some seconds after it, if with -EAGAIN.
	 */
	void (*hurry)(struct blockdev *b, uint64_t deadline_ns);
};
/*
 * (c) const after create  [a] atomic
 */
struct blockdev {
	const struct blockdev_ops *ops; /* (c) */
	uint64_t size;                  /* [a] bytes, a multiple of SECTOR */
	uint32_t block;                 /* (c) bytes that it writes at once: smaller writes cost a read */
	uint32_t max_len;               /* (c) bytes of a request, a multiple of block */
	unsigned depth;                 /* (c) requests at once, of each queue of its disk */
	bool readonly;                  /* (c) writes are not submitted */
	char serial[20];                /* (c) what the guest knows it by; NUL-padded */
	struct blockdev_stats {         /* [a] by the disk */
		uint64_t reads, writes, flushes, zeroes, errors;
		uint64_t read_bytes, written_bytes;
		uint64_t busy_ns, longest_ns; /* of all requests, from the ring and back; of the longest */
	} stats;
};

/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The virtio-net device, as its own files share it: pairs of queues (5.1.2), each with a worker and a lock of its own,
 * so that a guest's CPUs send and receive beside each other.
 *
 * Locks: v.lock, of the device and its control queue -> a pair's lock, of its rings. Who changes what a pair relies on
 * (vvirtio_ops.exclude) sets `excluded` and takes each pair's lock once: whoever was at a ring has left it by then, and
 * who comes looks at `excluded` first.
 */
#pragma once
#include "kernel/frame.h"
#include "kernel/worker.h"
#include "vmm/dev/vnet.h"
#include "vmm/dev/vnet_ctrl.h"
#include "vmm/dev/vnet_queue.h"

#define VNET_FLOWS 256

struct vnet_state { /* section "virtio-net" */
	uint8_t mac[ETH_ALEN];
	uint16_t status;
	uint16_t pairs; /* which the driver uses, the first so many */
};
/*
 * (c) const after create  [l] v.lock  [p] the pair's lock  [w] the pair's worker  [a] atomic
 */
struct vnet_pair {
	struct vnet *n;  /* (c) */
	unsigned rx, tx; /* (c) its queues */
	struct spinlock lock;
	struct worker worker;         /* own locking: all between the rings and the bridge */
	struct vnet_queue queue;      /* own locking: frames for the guest */
	struct vvirtq_chain tx_chain; /* [w] */
	uint8_t *bounce; /* [w] FRAME_MAX bytes, for frames in more pieces than a struct frame has; made when needed */
	struct vvirtq_chain rx_chain; /* [w] */
	uint64_t rx_waits_ns;         /* [p] since when the first frame waits for more buffers; 0: it does not */
	struct {
		uint16_t head;
		uint32_t len;
	} rx_used[VIRTQ_SIZE_MAX]; /* [w] */
};
struct vnet {
	struct vvirtio v;
	struct vvirtio_ids ids;   /* (c) */
	struct vnet_state s;      /* [l] status, the link is always up; pairs [a]; (c) mac */
	struct vnet_ctrl ctrl;    /* [l] */
	struct vnet_wire wire;    /* (c) */
	uint16_t mtu;             /* (c) */
	bool quiesced;            /* [a], set by [l] */
	bool excluded;            /* [a], set by [l] */
	bool keeps;               /* [a], set by [l] frames that come while it stands still wait for its driver */
	uint64_t keeps_ns;        /* [l] since when */
	uint8_t flow[VNET_FLOWS]; /* [a] 1 + the pair that last sent a frame of such a flow; 0: none has */
	unsigned npairs;          /* (c) */
	struct vnet_pair *pair;   /* (c) */
};
static inline unsigned vnet_pairs(const struct vnet *n) { return __atomic_load_n(&n->s.pairs, __ATOMIC_RELAXED); }
/* Until it ends the workers are kicked anew. A pair's lock is held. */
static inline bool vnet_stands_still(const struct vnet *n)
{
	return __atomic_load_n(&n->quiesced, __ATOMIC_RELAXED) || __atomic_load_n(&n->excluded, __ATOMIC_RELAXED);
}
/* p's lock is held: has its driver a ring q that may be used? */
static inline bool vnet_has_ring(const struct vnet_pair *p, unsigned q)
{
	const struct vnet *n = p->n;

	if (p != n->pair && !vvirtio_has(&n->v, VIRTIO_NET_F_MQ)) /* its first one may be the control queue (5.1.2) */
		return false;
	return vvirtio_queue_is_live(&n->v, q);
}
/* The same, and now? What it goes by may change at any moment; who comes to that waits for p's lock then. */
static inline bool vnet_is_live(const struct vnet_pair *p, unsigned q)
{
	return !vnet_stands_still(p->n) && vnet_has_ring(p, q);
}
/*
 * For the worker, no lock held: a turn, true if there is more to do. It ends after so many frames or, because one may
 * become a thousand segments in the bridge, so long.
 */
#define VNET_TURN_FRAMES 64
#define VNET_TURN_NS     (300 * NS_PER_US)
bool vnet_rx_turn(struct vnet_pair *p);
void vnet_keep_end(struct vnet *n); /* it goes on. v.lock is held */

/* SPDX-License-Identifier: BSD-2-Clause */
/* The virtio-net device, as its own files share it. */
#pragma once
#include "kernel/frame.h"
#include "kernel/worker.h"
#include "vmm/dev/vnet.h"
#include "vmm/dev/vnet_ctrl.h"
#include "vmm/dev/vnet_queue.h"

enum { VNET_RX, VNET_TX, VNET_PAIR, VNET_CTRL = VNET_PAIR, VNET_QUEUES };

struct vnet_state { /* section "virtio-net" */
	uint8_t mac[ETH_ALEN];
	uint16_t status;
};
/*
 * (c) const after create  [l] v.lock  [w] the worker
 */
struct vnet {
	struct vvirtio v;
	struct vnet_state s;          /* [l] status, the link is always up; (c) mac */
	struct vnet_ctrl ctrl;        /* [l] */
	struct vnet_wire wire;        /* (c) */
	uint16_t mtu;                 /* (c) */
	struct worker worker;         /* own locking: all between the rings and the bridge */
	struct vnet_queue queue;      /* own locking: frames for the guest */
	bool quiesced;                /* [l], and read without */
	struct vvirtq_chain tx_chain; /* [w] */
	uint8_t *bounce;              /* [w] FRAME_MAX bytes, for frames in more pieces than a struct frame has */
	struct vvirtq_chain rx_chain; /* [w] */
	uint64_t rx_waits_ns;         /* [l] since when the first frame waits for more buffers; 0: it does not */
	struct {
		uint16_t head;
		uint32_t len;
	} rx_used[VIRTQ_SIZE_MAX]; /* [w] */
};
/*
 * For the worker, no lock held: a turn, true if there is more to do. It ends after so many frames or, because one may
 * become a thousand segments in the bridge, so long.
 */
#define VNET_TURN_FRAMES 64
#define VNET_TURN_NS     (300 * NS_PER_US)
bool vnet_rx_turn(struct vnet *n);

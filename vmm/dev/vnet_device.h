/* SPDX-License-Identifier: BSD-2-Clause */
/* The virtio-net device, as its own files share it. */
#pragma once
#include "kernel/frame.h"
#include "vmm/dev/vnet_ctrl.h"

enum { VNET_RX, VNET_TX, VNET_PAIR, VNET_CTRL = VNET_PAIR, VNET_QUEUES };

struct vnet_state { /* section "virtio-net" */
	uint8_t mac[ETH_ALEN];
	uint16_t status;
};
/*
 * (c) const after create  [l] v.lock  [t] whoever set tx_busy
 */
struct vnet {
	struct vvirtio v;
	struct vnet_state s;                    /* [l] status, the link is always up; (c) mac */
	struct vnet_ctrl ctrl;                  /* [l] */
	void (*tx)(void *arg, struct frame *f); /* (c) */
	void *arg;                              /* (c) */
	uint16_t mtu;                           /* (c) */
	bool quiesced;                          /* [l] */
	bool tx_busy;                           /* [l] */
	struct vvirtq_chain tx_chain;           /* [t] */
	uint8_t *bounce;              /* [t] FRAME_MAX bytes, for frames in more pieces than a struct frame has */
	struct vvirtq_chain rx_chain; /* [l] */
	struct {
		uint16_t head;
		uint32_t len;
	} rx_used[VIRTQ_SIZE_MAX]; /* [l] */
};

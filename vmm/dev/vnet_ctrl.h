/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * virtio-net's control queue (virtio 1.2, 5.1.6.5). It knows one command, by which the driver confirms that it has
 * announced itself; all others are answered with an error. Part of vnet.c's device.
 */
#pragma once
#include "vmm/dev/vvirtio.h"

struct vnet_ctrl {
	struct vvirtio *v;         /* (c) */
	unsigned queue;            /* (c) */
	uint16_t *status;          /* [v->lock] VNET_CFG_STATUS, part of the state that migrates */
	struct vvirtq_chain chain; /* [v->lock] */
};
void vnet_ctrl_notify(struct vnet_ctrl *c);   /* the driver rang. No lock held; may sleep */
void vnet_ctrl_announce(struct vnet_ctrl *c); /* tell the driver, if it takes that (5.1.6.5.4). v->lock held */

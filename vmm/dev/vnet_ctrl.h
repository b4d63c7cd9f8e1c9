/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * virtio-net's control queue (virtio 1.2, 5.1.6.5). It knows two commands: the driver confirms that it has announced
 * itself, and says how many pairs of queues it uses. All others are answered with an error. Part of vnet.c's device.
 */
#pragma once
#include "vmm/dev/vvirtio.h"

struct vnet_ctrl {
	struct vvirtio *v;         /* (c) */
	unsigned npairs;           /* (c) */
	uint16_t *status;          /* [v->lock] VNET_CFG_STATUS, part of the state that migrates */
	uint16_t *pairs;           /* atomic, 1 to npairs; the same */
	struct vvirtq_chain chain; /* [v->lock] */
};
unsigned vnet_ctrl_queue(const struct vnet_ctrl *c); /* which one it is, as the driver has chosen (5.1.2). Any task */
void vnet_ctrl_notify(struct vnet_ctrl *c);          /* the driver rang. No lock held; may sleep */
void vnet_ctrl_announce(struct vnet_ctrl *c);        /* tell the driver, if it takes that (5.1.6.5.4). v->lock held */

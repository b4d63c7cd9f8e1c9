/* SPDX-License-Identifier: BSD-2-Clause */
/* The guest's network card, virtio-net (virtio 1.2, 5.1). It registers itself (vmm/dev.h). */
#pragma once
#include "kernel/frame.h"
#include "vmm/dev/vpci.h"

struct vnet;
/* What the card is plugged into. All is called from the card's own tasks, of which there is one for each pair. */
struct vnet_wire {
	void (*tx)(void *arg, struct frame *f); /* each frame that the guest sends, borrowed */
	void (*lost)(void *arg);                /* one that vnet_rx took did not come to the guest */
	void *arg;
};
struct vnet_card {
	uint8_t mac[ETH_ALEN];
	uint16_t mtu; /* bytes of payload, as the driver is told */
	struct vnet_wire wire;
};
#define VNET_PAIRS_MAX 64
/* pairs: of queues, one for each vCPU; there are no more than VNET_PAIRS_MAX. 0 or -errno with everything undone. */
int vnet_create(struct machine *m, struct vpci_bus *b, struct vnet **v, unsigned slot, unsigned pairs,
		const struct vnet_card *card) must_check;
/*
 * A frame for the guest: 0, and the card's own task brings it there once there are buffers; -ENOBUFS, too many wait;
 * -ENETDOWN, no driver does, or the VM stands still. Any task.
 */
int vnet_rx(struct vnet *v, const struct frame *f);
/*
 * It is about to stand still, and until it goes on what comes waits for its driver beside what waits already, as much
 * as the queues hold: first come, first kept, and what is for groups takes no more than a quarter. On a driver that has
 * stood still for more than 10 s nothing of that is pressed. Any task.
 */
void vnet_keep(struct vnet *v);
/*
 * The first frame that waits in one of its queues, borrowed until vnet_kept_drop(*pair); each queue is in order. False:
 * none does. For one task, while the card stands still for good.
 */
bool vnet_kept(struct vnet *v, unsigned *pair, struct frame *f);
void vnet_kept_drop(struct vnet *v, unsigned pair);
unsigned vnet_room(struct vnet *v, size_t len); /* how many frames of len bytes vnet_rx would take now, at least */
/* Tell the guest's driver to announce itself, if it takes that (VIRTIO_NET_F_GUEST_ANNOUNCE). Any task. */
void vnet_announce(struct vnet *v);
/* FRAME_TAKES_*: what the guest's driver takes now. */
unsigned vnet_offloads(const struct vnet *v);

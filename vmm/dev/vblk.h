/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A disk of the guest, virtio-blk (virtio 1.2, 5.2), on a back end (vmm/blockdev.h). It registers itself (vmm/dev.h).
 */
#pragma once
#include "vmm/blockdev.h"
#include "vmm/dev/vpci.h"

struct vblk;
#define VBLK_QUEUES_MAX 16
/*
 * queues: of requests, one for each vCPU; there are no more than VBLK_QUEUES_MAX. d outlives the disk. 0 or -errno with
 * everything undone.
 */
int vblk_create(struct machine *m, struct vpci_bus *b, struct vblk **k, unsigned slot, unsigned queues,
		struct blockdev *d) must_check;
/* d->size has changed: the guest's driver is told. Any task. */
void vblk_resized(struct vblk *k);
/* Quiet: has it requests that were not done, which resume asks for again? Its state has not got them. */
bool vblk_holds(struct vblk *k);

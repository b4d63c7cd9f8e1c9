/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * virtio-net as tern's own NIC: a card has one pair of rings, or one for each CPU if it can (VIRTIO_NET_F_MQ, virtio
 * 1.1 5.1.6.5.5), each with a receiving task, an interrupt and a lock of its own. virtio_net.c is the card,
 * virtio_pair.c a pair. Private to drivers/.
 */
#pragma once
#include "drivers/nic_poll.h"
#include "drivers/virtio_pci.h"
#include "kernel/spinlock.h"

#define VIRTIO_TX_MAX 256

struct virtio_nic;
struct virtio_pair {             /* (c) const after start  [r] its receiving task  [t] tx_lock */
	struct virtio_nic *card; /* (c) */
	struct nic_poll poll;
	struct virtq rx; /* [r] */
	uint8_t *rx_buf; /* (c) rx.size pages */
	struct spinlock tx_lock;
	struct virtq tx;           /* [t] */
	uint8_t *tx_buf;           /* (c) */
	uint32_t tx_bytes;         /* (c) of tx_buf, a power of two */
	uint32_t tx_head, tx_tail; /* [t] bytes ever put in and taken back */
	uint16_t tx_desc;          /* [t] next descriptor; they are used and come free in ring order */
	uint16_t tx_free;          /* [t] descriptors */
	struct tx_packet {         /* indexed by its first descriptor */
		uint32_t bytes;
		uint8_t ndesc;
		bool done;
	} packet[VIRTIO_TX_MAX]; /* [t] */
};
struct virtio_nic {
	struct nic nic;
	struct virtio_dev dev;
	struct virtio_pair *pair; /* (c) */
	unsigned npairs;          /* [a] that frames leave by; 0: not yet */
	bool link;                /* [a] as of the last configuration change */
};

void virtio_pair_init(struct virtio_nic *v, unsigned n); /* before the card can interrupt */
/* Rings n * 2 and n * 2 + 1 with their buffers, 2^order pages of each; `vector` tells of frames. 0 or -errno. */
int virtio_pair_make(struct virtio_pair *p, unsigned n, unsigned order, uint16_t vector) must_check;
int virtio_pair_go(struct virtio_pair *p) must_check; /* the device runs: offer buffers, start the task */
/* As nic_ops.tx, for a frame that may go, and tx_room. */
int virtio_pair_tx(struct virtio_pair *p, const struct frame *f) must_check;
unsigned virtio_pair_room(struct virtio_pair *p, size_t len);

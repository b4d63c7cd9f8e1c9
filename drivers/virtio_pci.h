/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * virtio 1.x over PCI as a driver sees it (virtio 1.1, 4.1): capabilities, feature negotiation and split rings (2.6).
 * Host side only; the devices that guests see are in vmm/dev. Private to drivers/.
 */
#pragma once
#include "drivers/pci_bus.h"
#include "kernel/base/bits.h"
#include "kernel/base/err.h"

struct virtq_desc {
	uint64_t addr;
	uint32_t len;
	uint16_t flags, next;
};
struct virtq_used_elem {
	uint32_t id, len;
};
struct virtq {
	uint16_t size, mask;     /* (c) entries, a power of two */
	uint16_t avail_idx;      /* what the device has been, or will at virtq_offer_done be, told */
	uint16_t published;      /* avail_idx at the last virtq_offer_done */
	uint16_t used_idx;       /* next used entry to take */
	uint16_t number;         /* (c) */
	bool event_idx;          /* (c) */
	struct virtq_desc *desc; /* (c) */
	uint16_t *avail;         /* (c) flags, idx, ring[size], used_event */
	uint16_t *used;          /* (c) flags, idx, struct virtq_used_elem[size], avail_event */
	volatile void *notify;   /* (c) */
};
struct virtio_dev {
	const struct pci_dev *pci;
	uint8_t *common, *notify, *isr, *config;
	uint32_t notify_multiplier;
	uint64_t features; /* agreed on */
};

/* Reset the device and agree on features: all of `want` that it has; -ENOTSUP if it lacks one of `need`. */
int virtio_dev_init(struct virtio_dev *v, const struct pci_dev *d, uint64_t want, uint64_t need) must_check;
/* Set up ring `number` with at most max entries, its interrupt at MSI-X entry `vector`. Before virtio_go. */
int virtq_init(struct virtio_dev *v, struct virtq *q, uint16_t number, uint16_t max, uint16_t vector) must_check;
/* MSI-X entry for configuration changes; VIRTIO_NO_VECTOR for none. */
int virtio_set_config_vector(struct virtio_dev *v, uint16_t vector) must_check;
void virtio_go(struct virtio_dev *v); /* DRIVER_OK */

/* Offer the chain that begins at descriptor `head`; the device sees it at virtq_offer_done. */
static inline void virtq_push(struct virtq *q, uint16_t head) { q->avail[2 + (q->avail_idx++ & q->mask)] = head; }
/* Show the device all that was pushed, and tell it if it wants to be told; _loud: in any case. */
void virtq_offer_done(struct virtq *q);
void virtq_offer_loud(struct virtq *q);
static inline bool virtq_has_used(const struct virtq *q)
{
	return __atomic_load_n(&q->used[1], __ATOMIC_ACQUIRE) != q->used_idx;
}
static inline struct virtq_used_elem *virtq_used_at(const struct virtq *q, uint16_t idx)
{
	return (struct virtq_used_elem *)(void *)(q->used + 2) + (idx & q->mask);
}
/* No more interrupts of this ring (as far as the device is so kind) until virtq_irq_on. */
void virtq_irq_off(struct virtq *q);
/* Interrupt at the next used entry. False if there is one already. */
bool virtq_irq_on(struct virtq *q);

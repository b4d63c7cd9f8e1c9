/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What every virtio 1.x device over PCI has in common (virtio 1.2, 2 and 4.1): features, status, queues, interrupts. A
 * device (virtio_net.c, virtio_rng.c) embeds struct virtio and brings struct virtio_ops.
 *
 * Locks: virtio.lock guards all state below it and the rings. Interrupts are raised while it is held (order in pci.h),
 * so that publishing a buffer and telling the driver is one step for quiesce().
 */
#pragma once
#include "arch/x86/hw/virtio.h"
#include "vmm/dev/pci.h"
#include "vmm/dev/virtqueue.h"

#define VIRTIO_QUEUES_MAX 2
#define VIRTIO_BAR_NOTIFY 0 /* I/O */
#define VIRTIO_BAR_CFG    1 /* memory: common, ISR, device */
#define VIRTIO_BAR_MSIX   2 /* memory */

#define VIRTIO_F_COMMON (VIRTIO_F_INDIRECT_DESC | VIRTIO_F_EVENT_IDX | VIRTIO_F_VERSION_1)

struct virtio_state { /* section "virtio" */
	uint64_t driver_features;
	struct virtq_state q[VIRTIO_QUEUES_MAX];
	uint32_t device_feature_select, driver_feature_select;
	uint16_t config_vector, queue_select;
	uint8_t status, isr;
	uint8_t reserved[2];
};
struct virtio;
struct virtio_ops {
	/* The driver rang queue q. Called without locks; may send frames and the like. */
	void (*notify)(struct virtio *v, unsigned q);
	/* Device-specific configuration, off + size <= cfg_len, read only. NULL if cfg_len is 0. */
	uint64_t (*config_read)(struct virtio *v, unsigned off, unsigned size);
	bool (*features_ok)(uint64_t features); /* do these go together? All are offered. May be NULL */
	void (*driver_ok)(struct virtio *v);    /* lock held. May be NULL */
};
struct virtio_ids {
	const char *name; /* of the device */
	uint16_t id;      /* VIRTIO_ID_* */
	uint32_t class;
	uint64_t features; /* beside VIRTIO_F_COMMON */
	unsigned nqueues, cfg_len;
};
/*
 * (c) const after create  [l] lock
 */
struct virtio {
	struct dev dev;
	struct pci_func pci;
	const struct virtio_ops *ops; /* (c) */
	const struct virtio_ids *ids; /* (c) */
	uint64_t features;            /* (c) offered */
	unsigned cfg_cap;             /* (c) VIRTIO_PCI_CAP_PCI_CFG in configuration space */
	struct spinlock lock;
	struct virtio_state s;             /* [l] */
	struct virtq q[VIRTIO_QUEUES_MAX]; /* [l] */
	uint32_t epoch;                    /* [l] counts resets: work begun before one is not completed after it */
	const char *why;                   /* [l] why the device needs a reset, NULL if it does not */
};

/*
 * Registers the device with sections "pci", "msix", "virtio"; the caller adds its own. On error nothing is left but the
 * memory of v. reset and fini are parts of the device's own dev_ops; fini leaves the memory to the caller.
 */
int virtio_init(struct virtio *v, struct machine *m, struct pci_bus *b, unsigned slot, const struct virtio_ids *ids,
		const struct virtio_ops *ops, const struct dev_ops *dops) must_check;
void virtio_reset(struct virtio *v);
void virtio_fini(struct virtio *v);

/* With the lock held: */
bool virtio_queue_is_live(const struct virtio *v, unsigned q); /* may its rings be used now? */
void virtio_break(struct virtio *v, const char *why);          /* DEVICE_NEEDS_RESET (2.1.2) */
void virtio_signal(struct virtio *v, unsigned q);              /* interrupt for used buffers if the driver wants one */
static inline bool virtio_has(const struct virtio *v, uint64_t feature)
{
	return v->s.status & VIRTIO_FEATURES_OK && v->s.driver_features & feature;
}
extern const struct sdesc virtio_desc; /* obj: struct virtio */

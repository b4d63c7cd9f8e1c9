/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What every virtio 1.x device over PCI has in common (virtio 1.2, 2 and 4.1): features, status, queues, interrupts. A
 * device (vnet.c, vrng.c) embeds struct vvirtio and brings struct vvirtio_ops.
 *
 * Locks: virtio.lock guards all state below it and the rings. Interrupts are raised while it is held (order in pci.h),
 * so that publishing a buffer and telling the driver is one step for quiesce().
 */
#pragma once
#include "arch/x86/hw/virtio.h"
#include "vmm/dev/vpci.h"
#include "vmm/dev/vvirtq.h"

#define VIRTIO_QUEUES_MAX 3
#define VIRTIO_BAR_NOTIFY 0 /* I/O */
#define VIRTIO_BAR_CFG    1 /* memory: common, ISR, device */
#define VIRTIO_BAR_MSIX   2 /* memory */

#define VIRTIO_F_COMMON (VIRTIO_F_INDIRECT_DESC | VIRTIO_F_EVENT_IDX | VIRTIO_F_VERSION_1)

struct vvirtio_state { /* section "virtio" */
	uint64_t driver_features;
	struct vvirtq_state q[VIRTIO_QUEUES_MAX];
	uint32_t device_feature_select, driver_feature_select;
	uint16_t config_vector, queue_select;
	uint8_t status, isr;
	uint8_t reserved[2];
	uint8_t generation; /* since version 2, as is q[2]: counts changes of the device's configuration */
	uint8_t reserved2[7];
};
struct vvirtio;
struct vvirtio_ops {
	/* The driver rang queue q. Called without locks; may send frames and the like. */
	void (*notify)(struct vvirtio *v, unsigned q);
	/* Device-specific configuration, off + size <= cfg_len, read only. NULL if cfg_len is 0. */
	uint64_t (*config_read)(struct vvirtio *v, unsigned off, unsigned size);
	bool (*features_ok)(uint64_t features); /* do these go together? All are offered. May be NULL */
	void (*driver_ok)(struct vvirtio *v);   /* lock held. May be NULL */
	void (*was_reset)(struct vvirtio *v);   /* the same */
};
struct vvirtio_ids {
	const char *name; /* of the device */
	uint16_t id;      /* VIRTIO_ID_* */
	uint32_t class_code;
	uint64_t features; /* beside VIRTIO_F_COMMON */
	unsigned nqueues, cfg_len;
	/*
	 * How many of the queues have a notify port and an interrupt vector of their own; 0: all. The others share
	 * those of queue 0, so that what the guest sees of the function does not change with them.
	 */
	unsigned own_ports;
};
/*
 * (c) const after create  [l] lock
 */
struct vvirtio {
	struct dev dev;
	struct vpci_func pci;
	const struct vvirtio_ops *ops; /* (c) */
	const struct vvirtio_ids *ids; /* (c) */
	uint64_t features;             /* (c) offered */
	unsigned cfg_cap;              /* (c) VIRTIO_PCI_CAP_PCI_CFG in configuration space */
	struct spinlock lock;
	struct vvirtio_state s;             /* [l] */
	struct vvirtq q[VIRTIO_QUEUES_MAX]; /* [l] */
	uint32_t epoch;                     /* [l] counts resets: work begun before one is not completed after it */
	const char *why;                    /* [l] why the device needs a reset, NULL if it does not */
};

/*
 * Registers the device with sections "pci", "msix", "virtio"; the caller adds its own. On error nothing is left but the
 * memory of v. reset and fini are parts of the device's own dev_ops; fini leaves the memory to the caller.
 */
int vvirtio_init(struct vvirtio *v, struct machine *m, struct vpci_bus *b, unsigned slot, const struct vvirtio_ids *ids,
		 const struct vvirtio_ops *ops, const struct dev_ops *dops) must_check;
void vvirtio_reset(struct vvirtio *v);
void vvirtio_fini(struct vvirtio *v);

/* With the lock held: */
bool vvirtio_queue_is_live(const struct vvirtio *v, unsigned q); /* may its rings be used now? */
void vvirtio_break(struct vvirtio *v, const char *why);          /* DEVICE_NEEDS_RESET (2.1.2) */
void vvirtio_config_changed(struct vvirtio *v);                  /* its own configuration, not by the driver */
void vvirtio_signal(struct vvirtio *v, unsigned q); /* interrupt for used buffers if the driver wants one */
static inline bool vvirtio_has(const struct vvirtio *v, uint64_t feature)
{
	return v->s.status & VIRTIO_FEATURES_OK && v->s.driver_features & feature;
}
/* vvirtio_state.c, for vvirtio.c. With the lock held: */
#define VVIRTIO_STATUS_BITS (VIRTIO_ACKNOWLEDGE | VIRTIO_DRIVER | VIRTIO_DRIVER_OK | VIRTIO_FEATURES_OK | VIRTIO_FAILED)
void vvirtio_state_reset(struct vvirtio *v);
void vvirtio_features_apply(struct vvirtio *v);                  /* what follows from those that are accepted */
bool vvirtio_features_good(const struct vvirtio *v, uint64_t f); /* may a driver accept these? */
extern const struct sdesc vvirtio_desc;                          /* obj: struct vvirtio */

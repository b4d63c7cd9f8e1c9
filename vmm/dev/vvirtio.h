/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What every virtio 1.x device over PCI has in common (virtio 1.2, 2 and 4.1): features, status, queues, interrupts. A
 * device (vnet.c, vrng.c) embeds struct vvirtio and brings struct vvirtio_ops.
 *
 * Locks: vvirtio.lock guards the state below it and the rings, but for those of queues that have a lock of their own
 * (vvirtio_ops.exclude). Interrupts are raised while the ring's lock is held (order in vpci.h), so that publishing a
 * buffer and telling the driver is one step for quiesce().
 */
#pragma once
#include "arch/x86/hw/virtio.h"
#include "vmm/dev/vpci.h"
#include "vmm/dev/vvirtq.h"

#define VIRTIO_QUEUES_FEW 3 /* of which section "virtio" has the state */
#define VIRTIO_QUEUES_MAX 129
#define VIRTIO_BAR_NOTIFY 0 /* I/O */
#define VIRTIO_BAR_CFG    1 /* memory: common, ISR, device */
#define VIRTIO_BAR_MSIX   2 /* memory */

#define VIRTIO_F_COMMON (VIRTIO_F_INDIRECT_DESC | VIRTIO_F_EVENT_IDX | VIRTIO_F_VERSION_1)

struct vvirtio_state { /* section "virtio" */
	uint64_t driver_features;
	struct vvirtq_state q[VIRTIO_QUEUES_FEW];
	uint32_t device_feature_select, driver_feature_select;
	uint16_t config_vector, queue_select;
	uint8_t status, isr;
	uint8_t reserved[2];
	uint8_t generation; /* counts changes of the device's configuration */
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
	/*
	 * Lock held. On return from (v, true) nobody is at a queue under a lock of its own, nor begins before (v,
	 * false); what wanted to goes on then. NULL: the device's lock guards all.
	 */
	void (*exclude)(struct vvirtio *v, bool on);
	/*
	 * Lock held. Is something under way that still uses the driver's buffers? After a reset the driver reads a
	 * status other than 0 until it is not (4.1.4.3.2). NULL: never.
	 */
	bool (*busy)(struct vvirtio *v);
};
struct vvirtio_ids {
	const char *name; /* of the device */
	uint16_t id;      /* VIRTIO_ID_* */
	uint32_t class_code;
	uint64_t features; /* beside VIRTIO_F_COMMON */
	unsigned nqueues, cfg_len;
	/*
	 * How many of the queues have a notify port of their own; 0: all. The others share that of queue 0. How many
	 * interrupt vectors there are beside that of the configuration; 0: one for each port.
	 */
	unsigned own_ports, nvectors;
};
struct vvirtio_queue_state { /* section "virtio-queue", for each beyond the first few */
	struct vvirtq_state q[1];
};
struct vvirtio_queue {
	struct vvirtio *v;            /* (c) */
	struct vvirtio_queue_state s; /* [l], or the queue's own lock */
};
/*
 * (c) const after create  [l] lock  [a] atomic
 */
struct vvirtio {
	struct dev dev;
	struct vpci_func pci;
	const struct vvirtio_ops *ops; /* (c) */
	const struct vvirtio_ids *ids; /* (c) */
	uint64_t features;             /* (c) offered */
	unsigned cfg_cap;              /* (c) VIRTIO_PCI_CAP_PCI_CFG in configuration space */
	struct spinlock lock;
	struct vvirtio_state s;     /* [l]; status, isr and driver_features also [a] */
	struct vvirtq *q;           /* (c) nqueues; each [l], or its own lock */
	struct vvirtio_queue *more; /* (c) from VIRTIO_QUEUES_FEW on, NULL: there are none */
	uint32_t epoch;             /* [l] counts resets: work begun before one is not completed after it */
	const char *why;            /* [l] why the device needs a reset, NULL if it does not */
};

/*
 * Registers the device with sections "pci", "msix", "virtio"; the caller adds its own. On error nothing is left but the
 * memory of v. reset and fini are parts of the device's own dev_ops; fini leaves the memory to the caller.
 */
int vvirtio_init(struct vvirtio *v, struct machine *m, struct vpci_bus *b, unsigned slot, const struct vvirtio_ids *ids,
		 const struct vvirtio_ops *ops, const struct dev_ops *dops) must_check;
void vvirtio_reset(struct vvirtio *v);
void vvirtio_fini(struct vvirtio *v);

/*
 * Take the lock of a queue that has its own: not while it is excluded, which *excluded says. Who had it before and
 * dropped it looks at the epoch again: there may have been a reset.
 */
void vvirtio_queue_lock(struct vvirtio *v, struct spinlock *l, const bool *excluded);
/* With the queue's lock held: */
bool vvirtio_queue_is_live(const struct vvirtio *v, unsigned q); /* may its rings be used now? */
void vvirtio_break(struct vvirtio *v, const char *why);          /* DEVICE_NEEDS_RESET (2.1.2) */
void vvirtio_config_changed(struct vvirtio *v);                  /* its own configuration, not by the driver */
void vvirtio_signal(struct vvirtio *v, unsigned q); /* interrupt for used buffers if the driver wants one */
static inline bool vvirtio_has(const struct vvirtio *v, uint64_t feature)
{
	return __atomic_load_n(&v->s.status, __ATOMIC_RELAXED) & VIRTIO_FEATURES_OK &&
	       __atomic_load_n(&v->s.driver_features, __ATOMIC_RELAXED) & feature;
}
/* vvirtio_state.c, for vvirtio.c. With the lock held: */
#define VVIRTIO_STATUS_BITS (VIRTIO_ACKNOWLEDGE | VIRTIO_DRIVER | VIRTIO_DRIVER_OK | VIRTIO_FEATURES_OK | VIRTIO_FAILED)
void vvirtio_state_reset(struct vvirtio *v);
/* No lock, as nobody knows it yet or any more: */
int vvirtio_queues_init(struct vvirtio *v, struct gmem *mem) must_check; /* 0, -ENOMEM */
void vvirtio_queues_fini(struct vvirtio *v);
void vvirtio_add_sections(struct vvirtio *v);
void vvirtio_features_apply(struct vvirtio *v);                  /* what follows from those that are accepted */
bool vvirtio_features_good(const struct vvirtio *v, uint64_t f); /* may a driver accept these? */
extern const struct sdesc vvirtio_desc;                          /* obj: struct vvirtio */
extern const struct sdesc vvirtio_queue_desc;                    /* obj: struct vvirtio_queue */

/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A device of the guest, and what the machine gives to devices. Devices know guest memory (gmem.h), the bus (bus.h) and
 * these calls, and nothing of CPUs, networks or drivers, so each runs alone in a unit test.
 *
 * Context: register accesses come from vCPU tasks, back-end input (frames, characters) from others; a device has its
 * own spinlock. Between quiesce() and resume() no vCPU runs and the device must not touch guest memory or raise
 * interrupts.
 */
#pragma once
#include "arch/x86/hw/apic.h"
#include "kernel/frame.h"
#include "kernel/base/list.h"
#include "vmm/bus.h"
#include "vmm/gmem.h"
#include "vmm/state.h"

struct dev;
struct dev_ops {
	void (*reset)(struct dev *d);   /* to power-on state; vCPUs stopped */
	void (*quiesce)(struct dev *d); /* may be NULL. On return: nothing in flight touches guest memory */
	void (*resume)(struct dev *d);  /* may be NULL */
	void (*fini)(struct dev *d);    /* frees the device; half-made is fine */
};
#define DEV_MAX_SECTIONS 4
struct dev {
	struct list node;
	const char *name;  /* "uart", "virtio-net" */
	uint32_t instance; /* 0.. among those of one name; of a PCI function its slot */
	const struct dev_ops *ops;
	struct machine *m;
	struct {
		const struct sdesc *desc;
		void *obj;
	} section[DEV_MAX_SECTIONS]; /* what migrates, in load order */
	unsigned nsections;
};

/* What a device may use. One per VM; in unit tests a fake one. */
struct machine {
	struct gmem *mem;
	struct bus bus;
	struct list devs; /* in the order of machine_build's table: reset, save and load follow it */
	/*
	 * Raise a message-signalled interrupt (address and data as the guest wrote them). Any context, no locks of the
	 * caller needed.
	 */
	void (*msi)(void *arg, uint64_t addr, uint32_t data);
	/* Level of I/O APIC pin gsi. */
	void (*gsi)(void *arg, unsigned gsi, bool level);
	/* Guest asked for: power off, reset. Any vCPU context. */
	void (*power_off)(void *arg);
	void (*reset)(void *arg);
	/* n random bytes (virtio-rng). */
	void (*entropy)(void *arg, void *buf, size_t n);
	void *arg; /* struct vm */
};
static inline void dev_msi(struct dev *d, uint64_t addr, uint32_t data) { d->m->msi(d->m->arg, addr, data); }
static inline void dev_gsi(struct dev *d, unsigned gsi, bool level) { d->m->gsi(d->m->arg, gsi, level); }

/* Fill d and append it to the machine. */
void dev_register(struct machine *m, struct dev *d, const char *name, uint32_t instance, const struct dev_ops *ops);
void dev_add_section(struct dev *d, const struct sdesc *desc, void *obj);

/* ---- constructors of the devices; each registers itself. 0 or -errno with everything undone. ---- */

/* vmm/dev/vuart.c: 16550A. out() gets what the guest writes (any context, must not sleep). */
struct vuart;
int vuart_create(struct machine *m, struct vuart **u, uint16_t port, unsigned gsi, void (*out)(void *arg, uint8_t c),
		 void *arg);
unsigned vuart_input(struct vuart *u, const uint8_t *s, unsigned n); /* to the guest; returns how many fitted */

/* vmm/dev/vpower.c: ACPI sleep and reset registers in ports (ACPI 6.4, 4.8.3.7: hardware-reduced). */
#define POWER_PORT       0x600 /* +0 SLEEP_CONTROL, +1 SLEEP_STATUS, +2 RESET (value 1) */
#define POWER_SLP_TYP_S5 5
int vpower_create(struct machine *m);

/* vmm/dev/vioapic.c */
struct vioapic;
#define IOAPIC_BASE IOAPIC_DEFAULT_BASE
#define IOAPIC_PINS 24
int vioapic_create(struct machine *m, struct vioapic **io);
void vioapic_set_pin(struct vioapic *io, unsigned pin, bool level);
void vioapic_eoi(struct vioapic *io, uint8_t vector);

/* vmm/dev/vpci.c: host bridge, configuration by ports 0xcf8/0xcfc and ECAM. */
struct vpci_bus;
#define PCI_ECAM_BASE 0xe0000000UL /* one bus: 1 MiB */
#define PCI_ECAM_SIZE 0x100000UL
#define PCI_MMIO_BASE 0xc0000000UL /* 32-bit BARs */
#define PCI_MMIO_END  0xe0000000UL
#define PCI_IO_BASE   0x1000
#define PCI_IO_END    0xf000
int vpci_bus_create(struct machine *m, struct vpci_bus **b);

/* vmm/dev/vnet.c. tx() gets each frame that the guest sends, from the vCPU's task, borrowed. */
struct vnet;
int vnet_create(struct machine *m, struct vpci_bus *b, struct vnet **v, unsigned slot, const uint8_t mac[ETH_ALEN],
		void (*tx)(void *arg, struct frame *f), void *arg);
/* A frame for the guest: 0, -ENOBUFS (no buffers posted), -ENETDOWN (driver not ready, quiesced). Any task. */
int vnet_rx(struct vnet *v, const struct frame *f);
/* FRAME_TAKES_*: what the guest's driver takes now. */
unsigned vnet_offloads(const struct vnet *v);

/* vmm/dev/vrng.c */
int vrng_create(struct machine *m, struct vpci_bus *b, unsigned slot);

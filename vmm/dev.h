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
#define DEV_FEW_SECTIONS 4
#define DEV_STEP         256 /* between the instances of a device's sections of one kind */
struct dev_section {
	const struct sdesc *desc;
	uint32_t instance;
	void *obj;
};
struct dev {
	struct list node;
	const char *name;  /* "uart", "virtio-net" */
	uint32_t instance; /* 0.. among those of one name; of a PCI function its slot */
	const struct dev_ops *ops;
	struct machine *m;
	struct dev_section *section; /* what migrates, in load order */
	unsigned nsections, max_sections;
	struct dev_section few[DEV_FEW_SECTIONS]; /* those of most devices */
};

/*
 * Which machine it is: that of a bzImage, or one that is entered by PVH, which has beside it what guest firmware needs:
 * a clock of the day, a power management timer, and another host bridge.
 */
enum machine_kind { MACHINE_PLAIN, MACHINE_PVH, MACHINE_KINDS };

/* What a device may use. One per VM; in unit tests a fake one. */
struct machine {
	struct machine_state { /* section "machine" */
		uint32_t kind; /* enum machine_kind, by what it boots from; (c) while vCPUs run */
	} s;
	struct gmem *mem;
	struct bus bus;
	struct task_share *share; /* of the CPUs' time, for tasks that devices have */
	struct list devs;         /* in the order of machine_build's table: reset, save and load follow it */
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
	/* The guest's clock: since it started, and UTC as it is told. Any vCPU context. */
	uint64_t (*now_ns)(void *arg);
	uint64_t (*wall_ns)(void *arg);
	/* n random bytes (virtio-rng). */
	void (*entropy)(void *arg, void *buf, size_t n);
	void *arg; /* struct vm */
};
extern const struct sdesc machine_desc; /* obj: struct machine */
static inline void dev_msi(struct dev *d, uint64_t addr, uint32_t data) { d->m->msi(d->m->arg, addr, data); }
static inline void dev_gsi(struct dev *d, unsigned gsi, bool level) { d->m->gsi(d->m->arg, gsi, level); }
/* Ports by which a PC's firmware resets it. A guest of a bzImage is told of the FADT's (vpower.h) and has no other. */
static inline void dev_reset_port(struct dev *d, bool asked)
{
	if (asked && d->m->s.kind == MACHINE_PVH)
		d->m->reset(d->m->arg);
}

/* Fill d and append it to the machine. */
void dev_register(struct machine *m, struct dev *d, const char *name, uint32_t instance, const struct dev_ops *ops);
/* Of several sections of one kind the first has the device's instance, each further one DEV_STEP more. */
void dev_add_section(struct dev *d, const struct sdesc *desc, void *obj);
/* Before the first is added: there may be n of them. -ENOMEM. Its dev_ops.fini calls dev_free_sections. */
int dev_reserve_sections(struct dev *d, unsigned n) must_check;
void dev_free_sections(struct dev *d);

/* SPDX-License-Identifier: BSD-2-Clause */
#include "vmm/dev/vpmtimer.h"
#include "arch/x86/hw/acpi.h"
#include "kernel/time.h"
#include "vmm/pc/pc.h"
#include <stdlib.h>

/* Reads of fewer bytes are of that part of it. */
static uint64_t vpmtimer_read(void *arg, uint64_t off, unsigned size unused)
{
	struct machine *m = ((struct dev *)arg)->m;
	if (m->s.kind != MACHINE_PVH)
		return ~0UL;
	uint64_t ns = m->now_ns(m->arg);
	uint64_t ticks = ns / NS_PER_SEC * PM_TIMER_HZ + ns % NS_PER_SEC * PM_TIMER_HZ / NS_PER_SEC;
	return ticks >> 8 * off; /* the bus cuts it to size */
}

static void vpmtimer_reset(struct dev *d unused) {}

static void vpmtimer_fini(struct dev *d)
{
	bus_remove(&d->m->bus, BUS_PIO, PC_PM_TIMER);
	list_remove(&d->node);
	free(d);
}

static const struct dev_ops vpmtimer_ops = { .reset = vpmtimer_reset, .fini = vpmtimer_fini };
static const struct bus_ops vpmtimer_bus_ops = { .read = vpmtimer_read };

int vpmtimer_create(struct machine *m)
{
	struct dev *d = calloc(1, sizeof(*d));
	if (!d)
		return err_trace(-ENOMEM);
	int err = bus_add(&m->bus, BUS_PIO, &(struct bus_region){ PC_PM_TIMER, 4, &vpmtimer_bus_ops, d, "pm-timer" });
	if (err) {
		free(d);
		return err;
	}
	dev_register(m, d, "pm-timer", 0, &vpmtimer_ops);
	return 0;
}

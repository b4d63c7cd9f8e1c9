/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The guest's way to switch itself off or reset: ACPI's sleep control and status registers (ACPI 6.4, 4.8.3.7) and the
 * FADT's reset register (4.8.3.6), as ports. Soft-off is the only sleep state there is. Firmware has two more ways to
 * reset, and waits for ever where none works: port 0xcf9, which is in vpci.c, and the 8042's command. Of that
 * controller there is nothing else.
 */
#include "arch/x86/hw/acpi.h"
#include "arch/x86/hw/ports.h"
#include "vmm/dev.h"
#include "vmm/dev/vpower.h"
#include "vmm/pc/pc.h"
#include <stdlib.h>

enum { SLEEP_CONTROL, SLEEP_STATUS, RESET, POWER_LEN };
#define SLP_TYP(v)  ((v) >> 2 & 7)
#define RESET_VALUE 1

struct vpower_state { /* section "power" */
	uint8_t control, status;
};
struct power {
	struct dev dev;
	struct vpower_state s; /* single bytes, written whole */
};

static const struct sfield vpower_fields[] = { F(struct vpower_state, control), F(struct vpower_state, status) };

static int vpower_check(const void *obj unused, const void *state, struct why *w)
{
	const struct vpower_state *s = state;
	if ((s->control & SLEEP_SLP_EN) || (s->status & ~SLEEP_WAK_STS))
		return why_set(w, -EINVAL, "power: control %x, status %x", s->control, s->status);
	return 0;
}

static const struct sdesc vpower_desc = {
	.name = "power",
	.version = 1,
	SDESC(struct power, s, struct vpower_state, vpower_fields),
	.check = vpower_check,
};

static uint64_t vpower_read(void *arg, uint64_t off, unsigned size)
{
	struct power *p = arg;
	uint64_t v = 0;

	for (unsigned i = 0; i < size && off + i < POWER_LEN; i++)
		v |= (uint64_t)(off + i == SLEEP_CONTROL  ? p->s.control
				: off + i == SLEEP_STATUS ? p->s.status
							  : 0)
		     << 8 * i;
	return v;
}

static void vpower_write_byte(struct power *p, uint64_t reg, uint8_t v)
{
	struct machine *m = p->dev.m;

	switch (reg) {
	case SLEEP_CONTROL:
		p->s.control = v & (uint8_t)~SLEEP_SLP_EN; /* SLP_EN is write-only */
		if ((v & SLEEP_SLP_EN) && SLP_TYP(v) == PC_POWER_SLP_TYP_5)
			m->power_off(m->arg);
		break;
	case SLEEP_STATUS: p->s.status &= (uint8_t) ~(v & SLEEP_WAK_STS); break;
	case RESET:
		if (v == RESET_VALUE)
			m->reset(m->arg);
		break;
	default: break;
	}
}

static void vpower_write(void *arg, uint64_t off, unsigned size, uint64_t val)
{
	for (unsigned i = 0; i < size; i++)
		vpower_write_byte(arg, off + i, (uint8_t)(val >> 8 * i));
}

static void kbc_write(void *arg, uint64_t off unused, unsigned size unused, uint64_t val)
{
	dev_reset_port(arg, val == KBC_RESET);
}

static void vpower_reset(struct dev *d)
{
	struct power *p = CONTAINER_OF(d, struct power, dev);
	p->s = (struct vpower_state){ 0 };
}

static void vpower_fini(struct dev *d)
{
	struct power *p = CONTAINER_OF(d, struct power, dev);

	bus_remove(&d->m->bus, BUS_PIO, PC_POWER);
	bus_remove(&d->m->bus, BUS_PIO, KBC_COMMAND);
	list_remove(&d->node);
	free(p);
}

static const struct dev_ops vpower_ops = { .reset = vpower_reset, .fini = vpower_fini };
static const struct bus_ops vpower_bus_ops = { vpower_read, vpower_write }, kbc_bus_ops = { .write = kbc_write };

int vpower_create(struct machine *m)
{
	struct power *p = calloc(1, sizeof(*p));
	if (!p)
		return err_trace(-ENOMEM);
	int err = bus_add(&m->bus, BUS_PIO, &(struct bus_region){ PC_POWER, POWER_LEN, &vpower_bus_ops, p, "power" });
	if (err)
		goto fail;
	err = bus_add(&m->bus, BUS_PIO, &(struct bus_region){ KBC_COMMAND, 1, &kbc_bus_ops, &p->dev, "kbc-reset" });
	if (err) {
		bus_remove(&m->bus, BUS_PIO, PC_POWER);
		goto fail;
	}
	dev_register(m, &p->dev, "power", 0, &vpower_ops);
	dev_add_section(&p->dev, &vpower_desc, p);
	return 0;
fail:
	free(p);
	return err;
}

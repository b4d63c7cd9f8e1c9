/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The guest's I/O APIC (82093AA datasheet, with the EOI register of version 0x20): 24 pins that become messages to
 * local APICs. Registers in MMIO, touched by the guest's drivers only when they start: nothing here is on a hot path.
 *
 * A level-triggered entry sends once and waits for its EOI (remote IRR); an edge is remembered while masked and sent at
 * the unmask. Lock order: a device's lock, then this one; messages are sent under it, so that their order is the pins'.
 */
#include "arch/x86/hw/apic.h"
#include "vmm/dev.h"
#include "vmm/dev/vioapic.h"
#include "vmm/pc/pc.h"
#include <stdlib.h>

#define VERSION (0x20 | (PC_IOAPIC_PINS - 1) << 16)
#define RTE_WRITABLE \
	(RTE_VECTOR | RTE_MODE | RTE_LOGICAL | RTE_ACTIVE_LOW | RTE_LEVEL | RTE_MASKED | 0xffULL << RTE_DEST_SHIFT)

struct vioapic_state { /* section "ioapic" */
	uint32_t select, id;
	uint64_t rte[PC_IOAPIC_PINS];
	uint32_t level; /* bit per pin: asserted */
	uint32_t edge;  /* bit per pin: an edge not yet sent */
};
struct vioapic {
	struct dev dev;
	struct vioapic_state s; /* [l] */
	struct spinlock lock;   /* [l] */
};

/* clang-format off */
static const struct sfield vioapic_fields[] = {
	F(struct vioapic_state, select), F(struct vioapic_state, id),   F_ARR(struct vioapic_state, rte),
	F(struct vioapic_state, level),  F(struct vioapic_state, edge),
};
/* clang-format on */

static int vioapic_check(const void *obj unused, const void *state, struct why *w)
{
	const struct vioapic_state *s = state;
	if (s->select > 0xff || (s->id & ~IOAPIC_ID_MASK) || s->level >> PC_IOAPIC_PINS || s->edge >> PC_IOAPIC_PINS)
		return why_set(w, -EINVAL, "ioapic: select %x, id %x, pins %x, edges %x", s->select, s->id, s->level,
			       s->edge);
	for (unsigned i = 0; i < PC_IOAPIC_PINS; i++)
		if ((s->rte[i] & ~(RTE_WRITABLE | RTE_REMOTE_IRR)) ||
		    (s->rte[i] & (RTE_REMOTE_IRR | RTE_LEVEL)) == RTE_REMOTE_IRR)
			return why_set(w, -EINVAL, "ioapic: rte[%u] %lx", i, s->rte[i]);
	return 0;
}

static const struct sdesc vioapic_desc = {
	.name = "ioapic",
	.version = 1,
	SDESC(struct vioapic, s, struct vioapic_state, vioapic_fields),
	.check = vioapic_check,
};

/* Send what pin has to say, if its entry lets it. Under the lock. */
static void service(struct vioapic *io, unsigned pin)
{
	uint64_t rte = io->s.rte[pin];
	uint32_t bit = 1U << pin;

	if (rte & RTE_MASKED)
		return;
	if (rte & RTE_LEVEL) {
		if (!(io->s.level & bit) || (rte & RTE_REMOTE_IRR))
			return;
		io->s.rte[pin] |= RTE_REMOTE_IRR;
	} else {
		if (!(io->s.edge & bit))
			return;
		io->s.edge &= ~bit;
	}
	/* The message as the chipset sends it (SDM 3A 11.11). */
	uint64_t addr =
		LAPIC_DEFAULT_BASE | (rte >> RTE_DEST_SHIFT) << MSI_DEST_SHIFT | (rte & RTE_LOGICAL ? MSI_LOGICAL : 0);
	uint32_t data =
		(uint32_t)(rte & (RTE_VECTOR | RTE_MODE)) | (rte & RTE_LEVEL ? (uint32_t)(ICR_LEVEL | ICR_ASSERT) : 0);
	dev_msi(&io->dev, addr, data);
}

void vioapic_set_pin(struct vioapic *io, unsigned pin, bool level)
{
	if (pin >= PC_IOAPIC_PINS)
		return;
	uint32_t bit = 1U << pin;
	spin_lock(&io->lock);
	bool was = io->s.level & bit;
	if (level && !was) {
		io->s.level |= bit;
		if (!(io->s.rte[pin] & RTE_LEVEL))
			io->s.edge |= bit;
		service(io, pin);
	} else if (!level) {
		io->s.level &= ~bit;
	}
	spin_unlock(&io->lock);
}

bool vioapic_is_masked(struct vioapic *io, unsigned pin)
{
	return __atomic_load_n(&io->s.rte[pin], __ATOMIC_RELAXED) & RTE_MASKED;
}

static void eoi_locked(struct vioapic *io, uint8_t vector)
{
	for (unsigned i = 0; i < PC_IOAPIC_PINS; i++) {
		if ((io->s.rte[i] & RTE_VECTOR) != vector || !(io->s.rte[i] & RTE_REMOTE_IRR))
			continue;
		io->s.rte[i] &= ~RTE_REMOTE_IRR;
		service(io, i);
	}
}

void vioapic_eoi(struct vioapic *io, uint8_t vector)
{
	spin_lock(&io->lock);
	eoi_locked(io, vector);
	spin_unlock(&io->lock);
}

static uint32_t reg_read(struct vioapic *io)
{
	uint32_t reg = io->s.select;

	switch (reg) {
	case IOAPIC_REG_ID: return io->s.id;
	case IOAPIC_REG_VER: return VERSION;
	case IOAPIC_REG_ARB: return io->s.id;
	default: break;
	}
	if (reg < IOAPIC_REG_RTE || reg >= IOAPIC_REG_RTE + 2 * PC_IOAPIC_PINS)
		return 0xffffffff;
	return (uint32_t)(io->s.rte[(reg - IOAPIC_REG_RTE) / 2] >> (reg & 1 ? 32 : 0));
}

static void reg_write(struct vioapic *io, uint32_t val)
{
	uint32_t reg = io->s.select;

	if (reg == IOAPIC_REG_ID)
		io->s.id = val & IOAPIC_ID_MASK;
	if (reg < IOAPIC_REG_RTE || reg >= IOAPIC_REG_RTE + 2 * PC_IOAPIC_PINS)
		return;
	unsigned pin = (reg - IOAPIC_REG_RTE) / 2;
	uint64_t *rte = &io->s.rte[pin], old = *rte;
	uint64_t next = reg & 1 ? (old & 0xffffffff) | (uint64_t)val << 32 : (old & ~0xffffffffULL) | val;
	*rte = (next & RTE_WRITABLE) | (old & RTE_REMOTE_IRR);
	if (!(*rte & RTE_LEVEL))
		*rte &= ~RTE_REMOTE_IRR; /* how drivers of older versions clear a stuck one */
	else
		io->s.edge &= ~(1U << pin);
	service(io, pin);
}

/* Only aligned dword accesses are defined; a byte reads and writes the low one of IOREGSEL all the same. */
static uint64_t vioapic_read(void *arg, uint64_t off, unsigned size unused)
{
	struct vioapic *io = arg;
	uint32_t v = 0;

	spin_lock(&io->lock);
	if (off == IOREGSEL)
		v = io->s.select;
	else if (off == IOWIN)
		v = reg_read(io);
	spin_unlock(&io->lock);
	return v;
}

static void vioapic_write(void *arg, uint64_t off, unsigned size, uint64_t val)
{
	struct vioapic *io = arg;

	spin_lock(&io->lock);
	if (off == IOREGSEL)
		io->s.select = val & 0xff;
	else if (off == IOWIN && size >= 4)
		reg_write(io, (uint32_t)val);
	else if (off == IOEOI)
		eoi_locked(io, (uint8_t)val);
	spin_unlock(&io->lock);
}

static void vioapic_reset(struct dev *d)
{
	struct vioapic *io = CONTAINER_OF(d, struct vioapic, dev);

	io->s = (struct vioapic_state){ 0 };
	for (unsigned i = 0; i < PC_IOAPIC_PINS; i++)
		io->s.rte[i] = RTE_MASKED;
}

static void vioapic_fini(struct dev *d)
{
	struct vioapic *io = CONTAINER_OF(d, struct vioapic, dev);

	bus_remove(&d->m->bus, BUS_MMIO, PC_IOAPIC);
	list_remove(&d->node);
	free(io);
}

static const struct dev_ops vioapic_ops = { .reset = vioapic_reset, .fini = vioapic_fini };
static const struct bus_ops vioapic_bus_ops = { vioapic_read, vioapic_write };

int vioapic_create(struct machine *m, struct vioapic **out)
{
	struct vioapic *io = calloc(1, sizeof(*io));
	if (!io)
		return err_trace(-ENOMEM);
	int err = bus_add(&m->bus, BUS_MMIO,
			  &(struct bus_region){ PC_IOAPIC, PC_IOAPIC_SIZE, &vioapic_bus_ops, io, "ioapic" });
	if (err) {
		free(io);
		return err;
	}
	spin_init(&io->lock, "ioapic");
	dev_register(m, &io->dev, "ioapic", 0, &vioapic_ops);
	dev_add_section(&io->dev, &vioapic_desc, io);
	vioapic_reset(&io->dev);
	*out = io;
	return 0;
}

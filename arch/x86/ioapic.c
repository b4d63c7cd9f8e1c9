/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * I/O APICs (Intel 82093AA): for what has no MSI: the UART, and PCI cards that have their line only. Everything starts
 * masked. Called at boot by one CPU (kernel/acpi_host.c, then drivers); afterwards routing from any task.
 */
#include "arch/x86/hw/apic.h"
#include "arch/x86/irq.h"
#include "arch/x86/paging.h"
#include "arch/x86/x86.h"
#include "kernel/base/err.h"

#define IOAPIC_MAX 64

static struct ioapic {
	volatile char *regs;
	uint32_t gsi_base, npins;
} ioapics[IOAPIC_MAX];
static unsigned nioapics;
static struct {
	bool set, active_low, level;
	uint32_t gsi;
} overrides[16];
static struct arch_lock lock; /* the register window of each */

static uint32_t ioapic_read(const struct ioapic *io, uint32_t reg)
{
	mmio_write32(io->regs + IOREGSEL, reg);
	return mmio_read32(io->regs + IOWIN);
}

static void ioapic_write(const struct ioapic *io, uint32_t reg, uint32_t v)
{
	mmio_write32(io->regs + IOREGSEL, reg);
	mmio_write32(io->regs + IOWIN, v);
}

void irq_add_ioapic(hpa_t base, uint32_t gsi_base)
{
	struct ioapic *io = &ioapics[nioapics];
	uint32_t version;

	if (nioapics == IOAPIC_MAX)
		return;
	io->regs = mmio_map(base, PAGE_SIZE);
	if (!io->regs)
		return;
	version = ioapic_read(io, IOAPIC_REG_VER);
	if (version == UINT32_MAX) /* nothing answers there */
		return;
	io->gsi_base = gsi_base;
	io->npins = (version >> 16 & 0xff) + 1;
	for (uint32_t pin = 0; pin < io->npins; pin++)
		ioapic_write(io, IOAPIC_REG_RTE + 2 * pin, RTE_MASKED);
	nioapics++;
}

void irq_isa_override(unsigned irq, uint32_t gsi, bool active_low, bool level)
{
	if (irq >= ARRAY_SIZE(overrides)) /* the firmware's table is wrong */
		return;
	overrides[irq].set = true;
	overrides[irq].gsi = gsi;
	overrides[irq].active_low = active_low;
	overrides[irq].level = level;
}

/* The I/O APIC and its pin that ISA interrupt `irq` comes to; NULL if there is none. */
static const struct ioapic *find_pin(unsigned irq, uint32_t *pin)
{
	uint32_t gsi = irq < ARRAY_SIZE(overrides) && overrides[irq].set ? overrides[irq].gsi : irq;

	for (unsigned i = 0; i < nioapics; i++) {
		*pin = gsi - ioapics[i].gsi_base;
		if (gsi >= ioapics[i].gsi_base && *pin < ioapics[i].npins)
			return &ioapics[i];
	}
	return NULL;
}

static int route(unsigned irq, uint32_t low)
{
	const struct ioapic *io;
	uint64_t flags;
	uint32_t pin;

	if (irq >= ARRAY_SIZE(overrides))
		return -ENODEV;
	if (!nioapics)
		irq_add_ioapic(IOAPIC_DEFAULT_BASE, 0);
	io = find_pin(irq, &pin);
	if (!io)
		return -ENODEV;
	if (overrides[irq].set) {
		low &= (uint32_t)~RTE_LEVEL;
		low |= overrides[irq].active_low ? (uint32_t)RTE_ACTIVE_LOW : 0;
		low |= overrides[irq].level ? (uint32_t)RTE_LEVEL : 0;
	}
	flags = arch_lock(&lock);
	ioapic_write(io, IOAPIC_REG_RTE + 2 * pin + 1, cpu_get(0)->apic_id << 24);
	ioapic_write(io, IOAPIC_REG_RTE + 2 * pin, low); /* unmasks: last */
	arch_unlock(&lock, flags);
	return 0;
}

int irq_route_isa(unsigned irq, int vector) { return route(irq, (uint32_t)vector); }

/* Active high: a chipset that steers PCI's lines to ISA interrupts gives them the sense that an 8259 wants. */
int irq_route_pci_line(unsigned irq, int vector) { return route(irq, (uint32_t)vector | (uint32_t)RTE_LEVEL); }

void irq_line_again(unsigned irq)
{
	uint32_t pin;
	const struct ioapic *io = find_pin(irq, &pin);
	uint64_t flags;

	if (!io)
		return;
	flags = arch_lock(&lock);
	ioapic_write(io, IOAPIC_REG_RTE + 2 * pin, ioapic_read(io, IOAPIC_REG_RTE + 2 * pin));
	arch_unlock(&lock, flags);
}

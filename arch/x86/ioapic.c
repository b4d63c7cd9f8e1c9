/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * I/O APICs (Intel 82093AA): only for the ISA lines that have no MSI, the UART above all. Everything starts masked.
 * Called at boot by one CPU (kernel/acpi.c, then drivers); afterwards irq_route_isa() from any task.
 */
#include "arch/x86/irq.h"
#include "arch/x86/paging.h"
#include "arch/x86/x86.h"
#include "kernel/err.h"

#define IOAPIC_MAX     64
#define IOAPIC_DEFAULT 0xfec00000ULL
enum { IOREGSEL = 0x00, IOWIN = 0x10 };                /* memory */
enum { IOAPIC_VER = 0x01, IOAPIC_REDIRECTION = 0x10 }; /* indirect; two words an entry */
#define REDIR_ACTIVE_LOW BIT(13)
#define REDIR_LEVEL      BIT(15)
#define REDIR_MASKED     BIT(16)

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
	version = ioapic_read(io, IOAPIC_VER);
	if (version == UINT32_MAX) /* nothing answers there */
		return;
	io->gsi_base = gsi_base;
	io->npins = (version >> 16 & 0xff) + 1;
	for (uint32_t pin = 0; pin < io->npins; pin++)
		ioapic_write(io, IOAPIC_REDIRECTION + 2 * pin, REDIR_MASKED);
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

int irq_route_isa(unsigned irq, int vector)
{
	uint32_t gsi, low = (uint32_t)vector;

	if (irq >= ARRAY_SIZE(overrides))
		return -ENODEV;
	if (!nioapics)
		irq_add_ioapic(IOAPIC_DEFAULT, 0);
	gsi = overrides[irq].set ? overrides[irq].gsi : irq;
	if (overrides[irq].active_low)
		low |= REDIR_ACTIVE_LOW;
	if (overrides[irq].level)
		low |= REDIR_LEVEL;
	for (unsigned i = 0; i < nioapics; i++) {
		const struct ioapic *io = &ioapics[i];
		uint32_t pin = gsi - io->gsi_base;
		uint64_t flags;
		if (gsi < io->gsi_base || pin >= io->npins)
			continue;
		flags = arch_lock(&lock);
		ioapic_write(io, IOAPIC_REDIRECTION + 2 * pin + 1, cpu_get(0)->apic_id << 24);
		ioapic_write(io, IOAPIC_REDIRECTION + 2 * pin, low); /* unmasks: last */
		arch_unlock(&lock, flags);
		return 0;
	}
	return -ENODEV;
}

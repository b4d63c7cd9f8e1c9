/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * PCI of the host: finding devices and reaching their configuration space (PCI Local Bus 3.0, PCIe base 5.0 chapter 7).
 * Segment 0 is scanned through the ports, which every PC has, so that only buses with devices on them get an ECAM
 * mapping; other segments exist only in ECAM. Interrupts are in pci_irq.c. Nothing is ever unplugged.
 */
#include "drivers/pci_bus.h"
#include "arch/x86/cpu.h"
#include "arch/x86/paging.h"
#include "arch/x86/hw/pci.h"
#include "kernel/acpi_host.h"
#include "kernel/log.h"
#include "kernel/spinlock.h"
#include <stdio.h>

#define PCI_MAX  128
#define BUS_SIZE MIB(1) /* of ECAM: 32 devices x 8 functions x 4 KiB */

struct slot {
	struct pci_dev d;
	volatile uint8_t *ecam; /* this function's 4 KiB, NULL: through the ports */
};
static struct slot slots[PCI_MAX]; /* (c) after pci_init */
static unsigned nslots;
static struct spinlock port_lock = SPINLOCK_INIT("pci ports");

static uint32_t port_read(unsigned bus, unsigned devfn, unsigned off)
{
	uint64_t flags = spin_lock_irqsave(&port_lock);
	outl(PCI_PORT_ADDRESS, (uint32_t)(PCI_ADDRESS_ENABLE | bus << 16 | devfn << 8 | (off & 0xfc)));
	uint32_t v = inl(PCI_PORT_DATA);
	spin_unlock_irqrestore(&port_lock, flags);
	return v;
}

static const struct slot *slot_of(const struct pci_dev *d)
{
	return (const struct slot *)(const void *)d; /* its first member */
}

uint32_t pci_read32(const struct pci_dev *d, unsigned off)
{
	const struct slot *s = slot_of(d);
	if (s->ecam)
		return mmio_read32(s->ecam + (off & 0xffc));
	return off < 256 ? port_read(d->bus, (unsigned)d->dev << 3 | d->fn, off) : ~0U;
}

uint16_t pci_read16(const struct pci_dev *d, unsigned off) { return (uint16_t)(pci_read32(d, off) >> (off & 2) * 8); }

uint8_t pci_read8(const struct pci_dev *d, unsigned off) { return (uint8_t)(pci_read32(d, off) >> (off & 3) * 8); }

/* Writes keep their width: a status register beside the one that is written has bits that a write of 1 clears. */
static void write_width(const struct pci_dev *d, unsigned off, unsigned width, uint32_t v)
{
	const struct slot *s = slot_of(d);
	if (s->ecam) {
		if (width == 2)
			mmio_write16(s->ecam + off, (uint16_t)v);
		else
			mmio_write32(s->ecam + off, v);
		return;
	}
	if (off >= 256)
		return;
	uint64_t flags = spin_lock_irqsave(&port_lock);
	outl(PCI_PORT_ADDRESS, (uint32_t)(PCI_ADDRESS_ENABLE | (unsigned)d->bus << 16 | (unsigned)d->dev << 11 |
					  (unsigned)d->fn << 8 | (off & 0xfc)));
	uint16_t port = (uint16_t)(PCI_PORT_DATA + (off & 3));
	if (width == 2)
		outw(port, (uint16_t)v);
	else
		outl(port, v);
	spin_unlock_irqrestore(&port_lock, flags);
}

void pci_write16(const struct pci_dev *d, unsigned off, uint16_t v) { write_width(d, off, 2, v); }
void pci_write32(const struct pci_dev *d, unsigned off, uint32_t v) { write_width(d, off, 4, v); }

/* Note the function at bus/dev/fn of which `id` (vendor, device) was read. ecam is its space, or NULL. */
static struct slot *slot_add(unsigned segment, unsigned bus, unsigned devfn, uint32_t id, volatile uint8_t *ecam)
{
	if (nslots == PCI_MAX) {
		log_warn("pci: more than %d functions, the rest is not used", PCI_MAX);
		return NULL;
	}
	struct slot *s = &slots[nslots++];
	struct pci_dev *d = &s->d;
	d->segment = (uint16_t)segment;
	d->bus = (uint8_t)bus;
	d->dev = (uint8_t)(devfn >> 3);
	d->fn = devfn & 7;
	d->vendor = (uint16_t)id;
	d->device = (uint16_t)(id >> 16);
	s->ecam = ecam;
	/* A wrong MCFG must not take the machine's devices away: both ways have to see the same function. */
	if (ecam && mmio_read32(ecam) != id)
		s->ecam = NULL;
	d->irq_line = pci_read8(d, PCI_INT_LINE);
	if (segment)
		sniprintf(d->location, sizeof(d->location), "%04x:%02x:%02x.%u", segment, bus, d->dev, d->fn);
	else
		sniprintf(d->location, sizeof(d->location), "%02x:%02x.%u", bus, d->dev, d->fn);
	return s;
}

static const struct acpi_ecam *ecam_of(unsigned segment)
{
	const struct acpi_info *a = acpi_info();
	for (unsigned i = 0; i < a->necam; i++)
		if (a->ecam[i].segment == segment)
			return &a->ecam[i];
	return NULL;
}

static volatile uint8_t *ecam_bus(const struct acpi_ecam *e, unsigned bus)
{
	if (!e || bus < e->bus_first || bus > e->bus_last)
		return NULL;
	return mmio_map(e->base + (bus - e->bus_first) * BUS_SIZE, BUS_SIZE);
}

/* All buses are looked at, not only those behind bridges: big servers have several root buses that only AML names. */
static void scan_bus(unsigned segment, unsigned bus, const struct acpi_ecam *e)
{
	volatile uint8_t *space = segment ? ecam_bus(e, bus) : NULL;
	if (segment && !space)
		return;
	for (unsigned devfn = 0; devfn < 256; devfn++) {
		uint32_t id = segment ? mmio_read32(space + devfn * PAGE_SIZE) : port_read(bus, devfn, PCI_VENDOR_ID);
		if ((uint16_t)id == 0xffff || (uint16_t)id == 0) {
			if ((devfn & 7) == 0)
				devfn += 7; /* no function 0: no device */
			continue;
		}
		if (!space)
			space = ecam_bus(e, bus);
		struct slot *s = slot_add(segment, bus, devfn, id, space ? space + devfn * PAGE_SIZE : NULL);
		if (!s)
			return;
		if ((devfn & 7) == 0 && !(pci_read8(&s->d, PCI_HEADER_TYPE) & PCI_HEADER_MULTI))
			devfn += 7;
	}
}

void pci_init(void)
{
	const struct acpi_info *a = acpi_info();
	const struct acpi_ecam *e = ecam_of(0);
	for (unsigned bus = 0; bus <= (e ? e->bus_last : 255U); bus++)
		scan_bus(0, bus, e);
	for (unsigned i = 0; i < a->necam; i++)
		if (a->ecam[i].segment)
			for (unsigned bus = a->ecam[i].bus_first; bus <= a->ecam[i].bus_last; bus++)
				scan_bus(a->ecam[i].segment, bus, &a->ecam[i]);
	log_debug("pci: %u functions, configuration through %s", nslots, nslots && slots[0].ecam ? "ECAM" : "ports");
}

struct pci_dev *pci_get(unsigned i) { return i < nslots ? &slots[i].d : NULL; }

unsigned pci_find_cap(const struct pci_dev *d, uint8_t id, unsigned from)
{
	if (!(pci_read16(d, PCI_STATUS) & PCI_STATUS_CAPS))
		return 0;
	unsigned off = from ? pci_read8(d, from + 1) : pci_read8(d, PCI_CAP_PTR);
	for (unsigned steps = 0; steps < 48; steps++) { /* (256 - 64) / 4 is all that fits */
		off &= 0xfc;
		if (off < 0x40)
			return 0;
		if (pci_read8(d, off) == id)
			return off;
		off = pci_read8(d, off + 1);
	}
	return 0;
}

/* Address of memory BAR n and its size; 0 if there is none. PCI 3.0, 6.2.5.1: write ones, read the mask back. */
static hpa_t bar_probe(const struct pci_dev *d, unsigned n, uint64_t *size)
{
	*size = 0;
	if (n > 5)
		return 0;
	unsigned off = PCI_BAR0 + n * 4;
	uint32_t lo = pci_read32(d, off), hi = 0, mask_hi = ~0U;
	bool wide = (lo & PCI_BAR_TYPE) == PCI_BAR_64;
	if ((lo & PCI_BAR_IO) || (wide && n == 5))
		return 0;
	uint16_t command = pci_read16(d, PCI_COMMAND);
	pci_write16(d, PCI_COMMAND, command & (uint16_t) ~(PCI_COMMAND_IO | PCI_COMMAND_MEM));
	pci_write32(d, off, ~0U);
	uint32_t mask_lo = pci_read32(d, off);
	pci_write32(d, off, lo);
	if (wide) {
		hi = pci_read32(d, off + 4);
		pci_write32(d, off + 4, ~0U);
		mask_hi = pci_read32(d, off + 4);
		pci_write32(d, off + 4, hi);
	}
	pci_write16(d, PCI_COMMAND, command);
	hpa_t base = (uint64_t)hi << 32 | (lo & ~0xfU);
	uint64_t mask = (uint64_t)mask_hi << 32 | (mask_lo & ~0xfU);
	if (!base || !(mask_lo & ~0xfU && mask))
		return 0;
	*size = ~mask + 1;
	return base;
}

void *pci_map_bar(const struct pci_dev *d, unsigned n, uint64_t *size)
{
	uint64_t bytes;
	hpa_t base = bar_probe(d, n, &bytes);
	void *p = base ? mmio_map(base, bytes) : NULL;
	if (size)
		*size = p ? bytes : 0;
	return p;
}

void pci_enable(const struct pci_dev *d)
{
	uint16_t command = pci_read16(d, PCI_COMMAND);
	pci_write16(d, PCI_COMMAND, command | PCI_COMMAND_IO | PCI_COMMAND_MEM | PCI_COMMAND_MASTER);
}

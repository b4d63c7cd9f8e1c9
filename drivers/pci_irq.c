/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Interrupts of PCI devices: MSI-X entries, MSI, and as a last resort the legacy line. Vectors are spread over the CPUs
 * that were online when they were set up.
 */
#include "arch/x86/cpu.h"
#include "arch/x86/irq.h"
#include "arch/x86/paging.h"
#include "drivers/pci_bus.h"
#include "arch/x86/hw/pci.h"
#include "kernel/base/err.h"
#include "kernel/log.h"

/* The next CPU to interrupt. Without interrupt remapping an MSI reaches only APIC ids below 255 (SDM 3A 11.11.1). */
static unsigned pick_cpu(void)
{
	static unsigned turn;
	for (unsigned tries = 0; tries < cpu_count(); tries++) {
		unsigned cpu = __atomic_fetch_add(&turn, 1, __ATOMIC_RELAXED) % cpu_count();
		if (cpu_get(cpu)->apic_id < 255)
			return cpu;
	}
	return 0;
}

unsigned pci_msix_count(const struct pci_dev *d)
{
	unsigned cap = pci_find_cap(d, PCI_CAP_MSIX, 0);
	return cap ? (pci_read16(d, cap + MSIX_CONTROL) & MSIX_COUNT) + 1U : 0;
}

int pci_msix_set(const struct pci_dev *d, unsigned i, void (*fn)(void *arg), void *arg)
{
	unsigned cap = pci_find_cap(d, PCI_CAP_MSIX, 0);
	if (!cap || i >= pci_msix_count(d))
		return -EINVAL;
	uint32_t table = pci_read32(d, cap + MSIX_TABLE);
	uint64_t size, at = (table & ~7U) + i * 16ULL;
	/* Each call maps the BAR anew: a handful of times a device, so the mapping is not worth keeping. */
	uint8_t *bar = pci_map_bar(d, table & 7, &size);
	if (!bar || at + 16 > size)
		return err_trace(-ENODEV);
	int vector = irq_alloc(fn, arg);
	if (vector < 0)
		return err_trace(vector);
	uint64_t addr;
	uint32_t data;
	/* Entry 0 is for rare events in most devices: boot CPU; the busy ones take turns. */
	irq_msi_compose(i ? pick_cpu() : 0, vector, &addr, &data);
	mmio_write32(bar + at, (uint32_t)addr);
	mmio_write32(bar + at + 4, (uint32_t)(addr >> 32));
	mmio_write32(bar + at + 8, data);
	mmio_write32(bar + at + 12, 0); /* unmasked */
	return 0;
}

void pci_msix_enable(const struct pci_dev *d, bool on)
{
	unsigned cap = pci_find_cap(d, PCI_CAP_MSIX, 0);
	if (!cap)
		return;
	uint16_t control = pci_read16(d, cap + MSIX_CONTROL) & (uint16_t) ~(MSIX_ENABLE | MSIX_MASK_ALL);
	pci_write16(d, cap + MSIX_CONTROL, on ? control | MSIX_ENABLE : control);
	uint16_t command = pci_read16(d, PCI_COMMAND);
	pci_write16(d, PCI_COMMAND, on ? command | PCI_COMMAND_INTX_OFF : command & (uint16_t)~PCI_COMMAND_INTX_OFF);
}

static int msi_set(const struct pci_dev *d, unsigned cap, int vector)
{
	uint64_t addr;
	uint32_t data;
	uint16_t control = pci_read16(d, cap + MSI_CONTROL);
	irq_msi_compose(pick_cpu(), vector, &addr, &data);
	pci_write32(d, cap + MSI_ADDRESS, (uint32_t)addr);
	if (control & MSI_64)
		pci_write32(d, cap + MSI_ADDRESS + 4, (uint32_t)(addr >> 32));
	pci_write16(d, cap + (control & MSI_64 ? 12 : 8), (uint16_t)data);
	pci_write16(d, PCI_COMMAND, pci_read16(d, PCI_COMMAND) | PCI_COMMAND_INTX_OFF);
	pci_write16(d, cap + MSI_CONTROL, (control & (uint16_t)~MSI_MULTIPLE) | MSI_ENABLE);
	return 0;
}

/*
 * Devices may share a legacy line: one vector a line calls them all. Handlers are added at boot, before devices
 * interrupt.
 */
#define LINE_SHARERS 4
static struct line {
	unsigned irq, n;
	struct {
		void (*fn)(void *arg);
		void *arg;
	} h[LINE_SHARERS];
} lines[16];

static void line_irq(void *arg)
{
	const struct line *l = arg;
	for (unsigned i = 0; i < __atomic_load_n(&l->n, __ATOMIC_ACQUIRE); i++)
		l->h[i].fn(l->h[i].arg);
	/*
	 * A sharer that asks again after its turn keeps the line up. Silicon sees that at the EOI; Bochs' I/O APIC only
	 * when its entry is written. With one device the line has fallen in between.
	 */
	if (l->n > 1)
		irq_line_again(l->irq);
}

static int line_add(unsigned irq, void (*fn)(void *arg), void *arg)
{
	if (irq >= ARRAY_SIZE(lines) || lines[irq].n == LINE_SHARERS)
		return -ENODEV;
	struct line *l = &lines[irq];
	unsigned n = l->n;
	l->h[n].fn = fn;
	l->h[n].arg = arg;
	__atomic_store_n(&l->n, n + 1, __ATOMIC_RELEASE);
	if (n)
		return 0;
	l->irq = irq;
	int vector = irq_alloc(line_irq, l);
	int err = vector < 0 ? vector : irq_route_pci_line(irq, vector);
	if (err) {
		l->n = 0;
		if (vector >= 0)
			irq_free(vector);
	}
	return err;
}

int pci_irq_simple(const struct pci_dev *d, void (*fn)(void *arg), void *arg)
{
	unsigned cap = pci_find_cap(d, PCI_CAP_MSI, 0);
	if (cap) {
		int vector = irq_alloc(fn, arg);
		return vector < 0 ? err_trace(vector) : msi_set(d, cap, vector);
	}
	if (pci_msix_count(d) && pci_msix_set(d, 0, fn, arg) == 0) {
		pci_msix_enable(d, true);
		return 0;
	}
	int err = line_add(d->irq_line, fn, arg);
	if (err)
		log_error("pci: %s: no MSI and no usable interrupt line (%u): %s", d->location, d->irq_line,
			  err_name(err));
	return err;
}

/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * PCI of the host: configuration by ECAM where ACPI's MCFG tells, else ports 0xcf8/0xcfc; BARs, capabilities, MSI and
 * MSI-X.
 */
#pragma once
#include "kernel/base/bits.h"

struct pci_dev {
	uint16_t segment;
	uint8_t bus, dev, fn;
	uint16_t vendor, device;
	uint8_t irq_line;
	char location[16]; /* "00:03.0" */
};

void pci_init(void);                 /* scans all buses; after acpi_init */
struct pci_dev *pci_get(unsigned i); /* in bus order, NULL past the end */
uint8_t pci_read8(const struct pci_dev *d, unsigned off);
uint16_t pci_read16(const struct pci_dev *d, unsigned off);
uint32_t pci_read32(const struct pci_dev *d, unsigned off);
void pci_write16(const struct pci_dev *d, unsigned off, uint16_t v);
void pci_write32(const struct pci_dev *d, unsigned off, uint32_t v);
/* Offset of the next capability `id` after `from` (0: first), 0 if none. Loops in a broken list end. */
unsigned pci_find_cap(const struct pci_dev *d, uint8_t id, unsigned from);
/* Map memory BAR n; NULL with *size 0 if it is absent or an I/O BAR. */
void *pci_map_bar(const struct pci_dev *d, unsigned n, uint64_t *size);
void pci_enable(const struct pci_dev *d); /* memory, I/O, bus master */
/* MSI-X: number of entries (0: none); set entry i to call fn(arg): 0 or -errno. */
unsigned pci_msix_count(const struct pci_dev *d);
int pci_msix_set(const struct pci_dev *d, unsigned i, void (*fn)(void *arg), void *arg);
void pci_msix_enable(const struct pci_dev *d, bool on);
/* One handler through MSI, MSI-X entry 0 or, failing both, the legacy line (which devices may share). */
int pci_irq_simple(const struct pci_dev *d, void (*fn)(void *arg), void *arg);

/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Power-off on a PIIX4 without ACPI tables (Bochs under OVMF gives none). Its function 3, power management, has ACPI's
 * PM1 registers in I/O space at a base that the firmware has chosen (82371AB datasheet 7.1 and 7.2). Nothing is set up
 * here: a base that the firmware did not set stays unset, and `poweroff` then says that there is no way.
 */
#include "drivers/piix4.h"
#include "arch/x86/hw/pci.h"
#include "drivers/pci_bus.h"
#include "kernel/acpi_host.h"
#include "kernel/log.h"

#define DEVICE_PIIX4_PM    0x7113
#define PMBA               0x40 /* 7.1.9: bits 15:6 are the base */
#define PMBA_BASE          0xffc0U
#define PMREGMISC          0x80 /* 7.1.29 */
#define PMREGMISC_PMIOSE   1    /* the I/O range is decoded */
#define PMCNTRL            0x04 /* 7.2.3, laid out as ACPI's PM1 control register */
#define SUS_TYP_SOFT_OFF   0
#define PM_REGISTERS_ABOVE 0x100 /* the ISA devices of the board are below */

void piix4_init(void)
{
	const struct pci_dev *d;
	for (unsigned i = 0; (d = pci_get(i)) != NULL; i++) {
		if (d->vendor != PCI_VENDOR_INTEL || d->device != DEVICE_PIIX4_PM)
			continue;
		unsigned base = pci_read32(d, PMBA) & PMBA_BASE;
		if (base < PM_REGISTERS_ABOVE || !(pci_read8(d, PMREGMISC) & PMREGMISC_PMIOSE)) {
			log_info("piix4: %s: the firmware has not set up power management", d->location);
			return;
		}
		acpi_set_soft_off((uint16_t)(base + PMCNTRL), SUS_TYP_SOFT_OFF);
		return;
	}
}

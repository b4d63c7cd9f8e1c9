/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The guest's DSDT (ACPI 6.4): what a legacy-free PC cannot be asked for by probing. Windows, ports and pins are pc.h's;
 * CPUs and the I/O APIC are in the MADT, sleep and reset registers in the FADT.
 */
#include "vmm/pc/pc.h"
DefinitionBlock ("", "DSDT", 2, "TERN", "TERNPC", 1)
{
	Scope (\_SB)
	{
		/* One root bus, configured through ECAM. No _PRT: its devices have MSI-X and no INTx pins. */
		Device (PCI0)
		{
			Name (_HID, EisaId ("PNP0A08"))
			Name (_CID, EisaId ("PNP0A03"))
			Name (_UID, Zero)
			Name (_SEG, Zero)
			Name (_BBN, Zero)
			Name (_CCA, One)
			Name (_CBA, PC_PCI_ECAM)
			Name (_CRS, ResourceTemplate ()
			{
				WordBusNumber (ResourceProducer, MinFixed, MaxFixed, PosDecode, 0x0000, 0x0000, 0x0000, 0x0000, 0x0001)
				IO (Decode16, PC_PCI_CONFIG, PC_PCI_CONFIG, 0x01, 0x08)
				WordIO (ResourceProducer, MinFixed, MaxFixed, PosDecode, EntireRange,
					0x0000, PC_PCI_IO, PC_PCI_IO_LAST, 0x0000, PC_PCI_IO_SIZE)
				DWordMemory (ResourceProducer, PosDecode, MinFixed, MaxFixed, NonCacheable, ReadWrite,
					0x00000000, PC_PCI_MMIO, PC_PCI_MMIO_LAST, 0x00000000, PC_PCI_MMIO_SIZE)
			})
		}

		/* What decodes addresses without being a device: ECAM, and the registers of the FADT. */
		Device (MBRD)
		{
			Name (_HID, EisaId ("PNP0C02"))
			Name (_UID, Zero)
			Name (_CRS, ResourceTemplate ()
			{
				Memory32Fixed (ReadWrite, PC_PCI_ECAM, PC_PCI_ECAM_SIZE)
				IO (Decode16, PC_POWER, PC_POWER, 0x01, PC_POWER_SIZE)
			})
		}

		/* With hardware-reduced ACPI there are no ISA interrupts: this is what gives the UART its own. */
		Device (COM1)
		{
			Name (_HID, EisaId ("PNP0501"))
			Name (_UID, Zero)
			Name (_CRS, ResourceTemplate ()
			{
				IO (Decode16, PC_COM1, PC_COM1, 0x01, 0x08)
				Interrupt (ResourceConsumer, Edge, ActiveHigh, Exclusive) { PC_COM1_GSI }
			})
		}

		/* The power button as a control method's device (4.8.3.2), and who tells it by an interrupt (5.6.9). */
		Device (PWRB)
		{
			Name (_HID, EisaId ("PNP0C0C"))
			Name (_UID, Zero)
		}
		Device (GED)
		{
			Name (_HID, "ACPI0013")
			Name (_UID, Zero)
			Name (_CRS, ResourceTemplate ()
			{
				Interrupt (ResourceConsumer, Edge, ActiveHigh, Exclusive) { PC_BUTTON_GSI }
			})
			Method (_EVT, 1, Serialized)
			{
				Notify (PWRB, 0x80)
			}
		}
	}

	/* SLP_TYP for soft-off. */
	Name (_S5, Package () { PC_POWER_SLP_TYP_5, Zero, Zero, Zero })
}

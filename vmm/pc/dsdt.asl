/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The guest's DSDT (ACPI 6.4): what a legacy-free PC cannot be asked for by probing. Windows, ports and pins are those of
 * vmm/dev.h; CPUs and the I/O APIC are in the MADT, sleep and reset registers in the FADT.
 */
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
			Name (_CBA, 0xE0000000)
			Name (_CRS, ResourceTemplate ()
			{
				WordBusNumber (ResourceProducer, MinFixed, MaxFixed, PosDecode, 0x0000, 0x0000, 0x0000, 0x0000, 0x0001)
				IO (Decode16, 0x0CF8, 0x0CF8, 0x01, 0x08)
				WordIO (ResourceProducer, MinFixed, MaxFixed, PosDecode, EntireRange, 0x0000, 0x1000, 0xEFFF, 0x0000, 0xE000)
				DWordMemory (ResourceProducer, PosDecode, MinFixed, MaxFixed, NonCacheable, ReadWrite,
					0x00000000, 0xC0000000, 0xDFFFFFFF, 0x00000000, 0x20000000)
			})
		}

		/* What decodes addresses without being a device: ECAM, and the registers of the FADT. */
		Device (MBRD)
		{
			Name (_HID, EisaId ("PNP0C02"))
			Name (_UID, Zero)
			Name (_CRS, ResourceTemplate ()
			{
				Memory32Fixed (ReadWrite, 0xE0000000, 0x00100000)
				IO (Decode16, 0x0600, 0x0600, 0x01, 0x03)
			})
		}

		/* With hardware-reduced ACPI there are no ISA interrupts: this is what gives the UART its own. */
		Device (COM1)
		{
			Name (_HID, EisaId ("PNP0501"))
			Name (_UID, Zero)
			Name (_CRS, ResourceTemplate ()
			{
				IO (Decode16, 0x03F8, 0x03F8, 0x01, 0x08)
				Interrupt (ResourceConsumer, Edge, ActiveHigh, Exclusive) { 4 }
			})
		}
	}

	/* SLP_TYP for soft-off: POWER_SLP_TYP_S5. */
	Name (_S5, Package () { 5, Zero, Zero, Zero })
}

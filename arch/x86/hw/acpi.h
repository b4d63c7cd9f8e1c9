/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Fields of ACPI's tables by their offsets: RSDP (ACPI 6.4, 5.2.5.3), FADT (5.2.9), MADT (5.2.12); MCFG is the PCI
 * Firmware Specification's (3.2, 4.1.2). Definitions only; every room may include this.
 */
#pragma once
#include "kernel/base/bits.h"

#define ACPI_HEADER_LEN 36 /* of every table but the RSDP; its length is at: */
#define ACPI_LENGTH     4

enum {
	RSDP_CHECKSUM = 8,
	RSDP_OEM = 9,
	RSDP_REVISION = 15,
	RSDP_RSDT = 16,
	RSDP_LENGTH = 20,
	RSDP_XSDT = 24,
	RSDP_CHECKSUM_2 = 32,
	RSDP_LEN_1 = 20,
	RSDP_LEN = 36
};

enum {
	FADT_DSDT = 40,
	FADT_PM_PROFILE = 45,
	FADT_SMI_CMD = 48,
	FADT_ACPI_ENABLE = 52,
	FADT_PM1A_CNT = 64,
	FADT_PM1B_CNT = 68,
	FADT_P_LVL2_LAT = 96,
	FADT_P_LVL3_LAT = 98,
	FADT_BOOT_ARCH = 109,
	FADT_FLAGS = 112,
	FADT_MIN = 116, /* of ACPI 1.0 */
	FADT_RESET_REG = 116,
	FADT_RESET_VALUE = 128,
	FADT_MINOR = 131,
	FADT_X_DSDT = 140,
	FADT_SLEEP_CONTROL = 244,
	FADT_SLEEP_STATUS = 256,
	FADT_HYPERVISOR = 268,
	FADT_LEN = 276,
};
#define PM_PROFILE_SERVER 4
#define FADT_F_WBINVD     BIT(0) /* FADT_FLAGS */
#define FADT_F_PROC_C1    BIT(2)
#define FADT_F_PWR_BUTTON BIT(4) /* no fixed power button */
#define FADT_F_SLP_BUTTON BIT(5)
#define FADT_F_RESET_REG  BIT(10)
#define FADT_F_HW_REDUCED BIT(20)
#define FADT_BOOT_NO_VGA  BIT(2) /* FADT_BOOT_ARCH */
#define FADT_BOOT_NO_RTC  BIT(5)
#define PM1_SCI_EN        BIT(0) /* PM1 control register (4.8.3.2.1) */
#define PM1_SLP_EN        BIT(13)
#define PM_TIMER_HZ       3579545 /* 4.8.3.3 */
#define SLEEP_SLP_EN      BIT(5)  /* of SLEEP_CONTROL and SLEEP_STATUS (4.8.3.7) */
#define SLEEP_WAK_STS     BIT(7)

/* Generic address structure (5.2.3.2). */
enum { GAS_SPACE = 0, GAS_WIDTH = 1, GAS_ACCESS = 3, GAS_ADDRESS = 4 };
#define GAS_SPACE_IO    1
#define GAS_ACCESS_BYTE 1

#define MADT_LAPIC_ADDR 36
#define MADT_ENTRIES    44 /* each: type u8, length u8 */
enum { MADT_LAPIC = 0, MADT_IOAPIC = 1, MADT_OVERRIDE = 2, MADT_X2APIC = 9 };
#define MADT_ENABLED 1

/* SPCR (Microsoft's Serial Port Console Redirection table, 1.10). */
enum { SPCR_INTERFACE = 36, SPCR_ADDRESS = 40, SPCR_IRQ_TYPE = 52, SPCR_IRQ = 53, SPCR_BAUD = 58, SPCR_LEN = 80 };
enum { SPCR_16550 = 0, SPCR_16450 = 1, SPCR_16550_GAS = 0x12 }; /* SPCR_INTERFACE */
enum { SPCR_9600 = 3, SPCR_19200 = 4, SPCR_57600 = 6, SPCR_115200 = 7 };
#define SPCR_IRQ_8259 1 /* SPCR_IRQ_TYPE: SPCR_IRQ is an ISA line */

#define MCFG_ENTRIES   44 /* each: base u64, segment u16, first bus u8, last bus u8 */
#define MCFG_ENTRY_LEN 16

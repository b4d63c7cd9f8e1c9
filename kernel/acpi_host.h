/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Reader of the firmware's ACPI tables (ACPI 6.4, 5.2): no AML. Bounds and checksums are checked; a broken table is
 * logged and taken as absent. All of it is absent on machines without ACPI, and tern runs there too.
 */
#pragma once
#include "kernel/base/bits.h"

struct acpi_ecam {
	hpa_t base;
	uint16_t segment;
	uint8_t bus_first, bus_last;
};
struct acpi_info {
	bool present;
	struct acpi_ecam ecam[8];
	unsigned necam;
	/* From the FADT and DSDT's _S5 package (found by its byte pattern): 0 = unknown. */
	uint16_t pm1a_cnt, pm1b_cnt, slp_typ_a, slp_typ_b;
	uint8_t reset_space, reset_value; /* 1 = I/O port */
	uint64_t reset_addr;
};
/* Read everything from the RSDP (0: none); feeds I/O APICs and overrides to arch/x86/irq.h. After arch_paging_init. */
void acpi_init(hpa_t rsdp);
const struct acpi_info *acpi_info(void);
/*
 * For a chipset's driver that knows its PM1 control register and S5's sleep type: they count where no table names one.
 */
void acpi_set_soft_off(uint16_t pm1a_cnt, uint16_t slp_typ);
/* Power off (S5); returns if that is not possible. */
void acpi_power_off(void);
/* Reset the machine: by the FADT's register, else by arch_reset. */
noreturn void acpi_reset(void);

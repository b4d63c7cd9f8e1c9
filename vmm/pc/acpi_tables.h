/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * ACPI tables for the guest (ACPI 6.4): RSDP, XSDT, FADT (hardware-reduced), MADT (x2APIC-capable LAPICs, I/O APIC),
 * MCFG, DSDT.
 */
#pragma once
#include "vmm/gmem.h"

/* Writes all tables, returns the RSDP's address in *rsdp. -ENOSPC if they do not fit. */
int acpi_tables_build(struct gmem *g, unsigned nvcpus, gpa_t *rsdp) must_check;

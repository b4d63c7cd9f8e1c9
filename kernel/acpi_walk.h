/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The way from the RSDP to the firmware's ACPI tables (ACPI 6.4, 5.2.5 to 5.2.8). Tables are foreign data: bounds and
 * checksums are looked at before anything else. Pure, for the kernel, the loader and tests.
 */
#pragma once
#include "kernel/base/bits.h"

/* size bytes at hpa, to be read; NULL if they cannot be. */
typedef const uint8_t *acpi_map(hpa_t hpa, uint64_t size);
/* A whole table with a good checksum, or NULL. */
const uint8_t *acpi_table(acpi_map *map, hpa_t hpa, uint32_t *len);
/*
 * Call each() for every table that the root table names, with NULL for one that is broken. 0; -ENODEV: there is no
 * RSDP, or what it points to is no table.
 */
int acpi_walk(acpi_map *map, hpa_t rsdp, void (*each)(void *arg, hpa_t hpa, const uint8_t *t, uint32_t len), void *arg);

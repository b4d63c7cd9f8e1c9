/* SPDX-License-Identifier: BSD-2-Clause */
/* Which serial port is the operator's console. Pure: no firmware call, so that it is tested on the host. */
#pragma once
#include "kernel/acpi_walk.h"
#include "kernel/handoff.h"

/* The value of [host] console: com1 to com4, or an I/O port as 0x2f8. 0 or -EINVAL. */
int serial_port_parse(const char *s, struct handoff_console *c) must_check;
/* What the firmware's SPCR table says. False, and *c as it was: it has none, or names no 16550 at I/O ports. */
bool serial_port_spcr(acpi_map *map, hpa_t rsdp, struct handoff_console *c);
/* The operator's word s counts, then the firmware's, then COM1. -EINVAL: s is there (not NULL), and wrong. */
int serial_port_find(const char *s, acpi_map *map, hpa_t rsdp, struct handoff_console *c);

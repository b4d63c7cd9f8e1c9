/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * ACPI sleep and reset registers in ports (ACPI 6.4, 4.8.3.7: hardware-reduced), at PC_POWER. 0 or -errno with
 * everything undone; it registers itself (vmm/dev.h).
 */
#pragma once
#include "vmm/dev.h"

int vpower_create(struct machine *m);

/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * ACPI's power management timer (ACPI 6.4, 4.8.3.3), for guest firmware: 32 bits at port PC_PM_TIMER of machines that
 * have it (MACHINE_PVH). It goes by guest time alone, so it has no state. 0 or -errno with everything undone; it
 * registers itself (vmm/dev.h).
 */
#pragma once
#include "vmm/dev.h"

int vpmtimer_create(struct machine *m);

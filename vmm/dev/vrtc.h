/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The clock of the day with CMOS RAM, for guest firmware: ports 0x70 and 0x71 of machines that have it (MACHINE_PVH). 0
 * or -errno with everything undone; it registers itself (vmm/dev.h).
 */
#pragma once
#include "vmm/dev.h"

int vrtc_create(struct machine *m);

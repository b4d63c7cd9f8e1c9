/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * How an interrupt gets from a device to a vCPU: the one place where these parts are joined.
 *
 *   device --dev_gsi--> I/O APIC pin --+
 *   device --dev_msi-------------------+--> vapic_bus_post --> local APIC: IRR, or an event --> kick of its vCPU
 *   local APIC: ICR -------------------+        local APIC: EOI of a level --> I/O APIC
 *
 * Any context, no locks of the caller needed.
 */
#pragma once
#include "vmm/vm.h"

/* Fills vm->apics and the machine's lines; vm->apics.lapic is the caller's. Before the devices are made. */
void interrupts_wire(struct vm *vm);

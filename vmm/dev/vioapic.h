/* SPDX-License-Identifier: BSD-2-Clause */
/* The guest's I/O APIC (82093AA). 0 or -errno with everything undone; it registers itself (vmm/dev.h). */
#pragma once
#include "vmm/dev.h"

struct vioapic;
int vioapic_create(struct machine *m, struct vioapic **io);
void vioapic_set_pin(struct vioapic *io, unsigned pin, bool level); /* any context */
bool vioapic_is_masked(struct vioapic *io, unsigned pin);           /* a moment ago */
void vioapic_eoi(struct vioapic *io, uint8_t vector);               /* any context: a level-triggered vector ended */

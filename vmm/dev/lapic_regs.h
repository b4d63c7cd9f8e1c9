/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What lapic.c (registers, timer) and apic_bus.c (messages) share of the guest's local APIC.
 */
#pragma once
#include "arch/x86/hw/apic.h"
#include "arch/x86/hw/regs.h"
#include "vmm/dev/lapic.h"

enum {
	LVT_CMCI,
	LVT_TIMER,
	LVT_THERMAL,
	LVT_PMC,
	LVT_LINT0,
	LVT_LINT1,
	LVT_ERROR,
	LVT_COUNT
}; /* of struct lapic_state */

/* Logical x2APIC id: cluster 31:16, one bit of 16 (SDM 3A 11.12.10.2). */
static inline uint32_t lapic_ldr(uint32_t id) { return (id >> 4) << 16 | 1U << (id & 15); }

/*
 * Accept a vector into IRR and TMR if the local APIC takes any; true if it is newly there. Any context; does not kick.
 */
bool lapic_post(struct lapic *l, uint8_t vector, bool level);
void lapic_error(struct lapic *l, uint32_t esr_bit);
void lapic_send_ipi(struct lapic *l); /* what its ICR says */
void lapic_self_ipi(struct lapic *l, uint8_t vector);

/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What vlapic.c (registers, timer) and vapic_bus.c (messages) share of the guest's local APIC.
 */
#pragma once
#include "arch/x86/hw/apic.h"
#include "arch/x86/hw/regs.h"
#include "vmm/dev/vlapic.h"

enum {
	LVT_CMCI,
	LVT_TIMER,
	LVT_THERMAL,
	LVT_PMC,
	LVT_LINT0,
	LVT_LINT1,
	LVT_ERROR,
	LVT_COUNT
}; /* of struct vlapic_state */

/* Logical x2APIC id: cluster 31:16, one bit of 16 (SDM 3A 11.12.10.2). */
static inline uint32_t vlapic_ldr(uint32_t id) { return (id >> 4) << 16 | 1U << (id & 15); }

/*
 * Accept a vector into IRR and TMR if the local APIC takes any; true if it is newly there. Any context; does not kick.
 */
bool vlapic_post(struct vlapic *l, uint8_t vector, bool level);
void vlapic_error(struct vlapic *l, uint32_t esr_bit);
void vlapic_send_ipi(struct vlapic *l); /* what its ICR says */
/* A register by its x2APIC number (hw/apic.h), in either mode: 0 or -EINVAL. */
int vlapic_reg_read(struct vlapic *l, uint32_t reg, uint64_t guest_ns, uint64_t *val);
int vlapic_reg_write(struct vlapic *l, uint32_t reg, uint64_t guest_ns, uint64_t val);
uint32_t vlapic_lvt_valid(uint32_t reg); /* writable bits of an LVT register; of others all */
void vlapic_self_ipi(struct vlapic *l, uint8_t vector);

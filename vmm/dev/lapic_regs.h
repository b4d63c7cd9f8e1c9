/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Register layout of the local APIC, shared by lapic.c (registers, timer) and apic_bus.c (messages). SDM 3A 11.4,
 * 11.12.
 */
#pragma once
#include "vmm/dev/lapic.h"

#define MSR_LAPIC_BASE     0x1b
#define MSR_LAPIC_DEADLINE 0x6e0
#define MSR_LAPIC_X2       0x800

enum { /* x2APIC registers: MSR - 0x800 */
       X2_ID = 0x02,
       X2_VERSION = 0x03,
       X2_TPR = 0x08,
       X2_PPR = 0x0a,
       X2_EOI = 0x0b,
       X2_LDR = 0x0d,
       X2_SVR = 0x0f,
       X2_ISR = 0x10,
       X2_TMR = 0x18,
       X2_IRR = 0x20,
       X2_ESR = 0x28,
       X2_ICR = 0x30,
       X2_LVT_TIMER = 0x32,
       X2_LVT_THERMAL = 0x33,
       X2_LVT_PMC = 0x34,
       X2_LVT_LINT0 = 0x35,
       X2_LVT_LINT1 = 0x36,
       X2_LVT_ERROR = 0x37,
       X2_INITIAL_COUNT = 0x38,
       X2_CURRENT_COUNT = 0x39,
       X2_DIVIDE = 0x3e,
       X2_SELF_IPI = 0x3f,
       X2_COUNT = 0x40,
};
enum { LVT_CMCI, LVT_TIMER, LVT_THERMAL, LVT_PMC, LVT_LINT0, LVT_LINT1, LVT_ERROR, LVT_COUNT };

#define LVT_MODE           0x700U /* delivery mode */
#define LVT_STATUS         (1U << 12)
#define LVT_POLARITY       (1U << 13)
#define LVT_REMOTE_IRR     (1U << 14)
#define LVT_LEVEL          (1U << 15)
#define LVT_MASKED         (1U << 16)
#define LVT_TIMER_MODE     (3U << 17)
#define LVT_TIMER_PERIODIC (1U << 17)
#define LVT_TIMER_DEADLINE (2U << 17)

#define SVR_ENABLE (1U << 8)
#define SVR_VALID  0x3ffU /* vector, enable, focus checking */

#define ICR_LOGICAL (1U << 11)
#define ICR_BUSY    (1U << 12) /* delivery status: always idle here */
#define ICR_ASSERT  (1U << 14)
#define ICR_LEVEL   (1U << 15)
#define ICR_VALID   0xccfffU                                  /* vector, mode, logical, assert, level, shorthand */
enum { ICR_TO_DEST, ICR_TO_SELF, ICR_TO_ALL, ICR_TO_OTHERS }; /* shorthand, bits 19:18 */

enum { /* delivery modes: ICR, LVT, I/O APIC, MSI */
       APIC_FIXED = 0,
       APIC_LOWEST = 1,
       APIC_SMI = 2,
       APIC_NMI = 4,
       APIC_INIT = 5,
       APIC_SIPI = 6,
       APIC_EXTINT = 7,
};

#define ESR_SEND_ILLEGAL    (1U << 5) /* vector below 16 */
#define ESR_RECEIVE_ILLEGAL (1U << 6)

/* Logical x2APIC id: cluster 31:16, one bit of 16 (SDM 3A 11.12.10.2). */
static inline uint32_t lapic_ldr(uint32_t id) { return (id >> 4) << 16 | 1U << (id & 15); }

/*
 * Accept a vector into IRR and TMR if the local APIC takes any; true if it is newly there. Any context; does not kick.
 */
bool lapic_post(struct lapic *l, uint8_t vector, bool level);
void lapic_error(struct lapic *l, uint32_t esr_bit);
void lapic_send_ipi(struct lapic *l); /* what its ICR says */
void lapic_self_ipi(struct lapic *l, uint8_t vector);

/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The local APIC (SDM 3A chapter 11, APM2 chapter 16), the I/O APIC (82093AA data sheet) and the messages between them
 * and devices (SDM 3A 11.11). Definitions only; every room may include this.
 */
#pragma once
#include "kernel/base/bits.h"

#define LAPIC_DEFAULT_BASE  0xfee00000ULL
#define IOAPIC_DEFAULT_BASE 0xfec00000ULL

enum { /* registers: as an MSR MSR_X2APIC + this, in memory 16 times this (SDM 3A table 11-6) */
       APIC_ID = 0x02,
       APIC_VERSION = 0x03, /* version 7:0, highest LVT entry 23:16 */
       APIC_TPR = 0x08,
       APIC_PPR = 0x0a,
       APIC_EOI = 0x0b,
       APIC_LDR = 0x0d,
       APIC_DFR = 0x0e, /* in memory only */
       APIC_SVR = 0x0f,
       APIC_ISR = 0x10, /* 8 each */
       APIC_TMR = 0x18,
       APIC_IRR = 0x20,
       APIC_ESR = 0x28,
       APIC_ICR = 0x30,
       APIC_ICR_HIGH = 0x31, /* in memory only */
       APIC_LVT_TIMER = 0x32,
       APIC_LVT_THERMAL = 0x33,
       APIC_LVT_PMC = 0x34,
       APIC_LVT_LINT0 = 0x35,
       APIC_LVT_LINT1 = 0x36,
       APIC_LVT_ERROR = 0x37,
       APIC_INITIAL_COUNT = 0x38,
       APIC_CURRENT_COUNT = 0x39,
       APIC_DIVIDE = 0x3e,
       APIC_SELF_IPI = 0x3f, /* x2APIC only */
       APIC_REGS = 0x40,
};

enum { /* delivery modes of ICR, LVT, I/O APIC and MSI, bits 10:8 */
       DELIVERY_FIXED = 0,
       DELIVERY_LOWEST = 1,
       DELIVERY_SMI = 2,
       DELIVERY_NMI = 4,
       DELIVERY_INIT = 5,
       DELIVERY_SIPI = 6,
       DELIVERY_EXTINT = 7,
};
#define DELIVERY(mode) ((uint32_t)(mode) << 8)

#define LVT_MODE           0x700U /* delivery mode */
#define LVT_STATUS         (1U << 12)
#define LVT_POLARITY       (1U << 13)
#define LVT_REMOTE_IRR     (1U << 14)
#define LVT_LEVEL          (1U << 15)
#define LVT_MASKED         (1U << 16)
#define LVT_TIMER_MODE     (3U << 17) /* 0: one-shot */
#define LVT_TIMER_PERIODIC (1U << 17)
#define LVT_TIMER_DEADLINE (2U << 17)
#define DIVIDE_BY_1        0xbU /* APIC_DIVIDE */
#define DIVIDE_VALID       0xbU

#define SVR_ENABLE (1U << 8)
#define SVR_VALID  0x3ffU /* vector, enable, focus checking */

#define ICR_LOGICAL       (1U << 11)
#define ICR_BUSY          (1U << 12) /* delivery status; not in x2APIC mode */
#define ICR_ASSERT        (1U << 14)
#define ICR_LEVEL         (1U << 15)
#define ICR_NAMES_TARGETS (ICR_LOGICAL | 3U << 18)            /* by a mode or a shorthand */
#define ICR_VALID         0xccfffU                            /* vector, mode, logical, assert, level, shorthand */
enum { ICR_TO_DEST, ICR_TO_SELF, ICR_TO_ALL, ICR_TO_OTHERS }; /* shorthand, bits 19:18 */

#define DEST_BROADCAST  0xffffffffU
#define DEST_BROADCAST8 0xffU /* in xAPIC mode and messages */
#define DFR_FLAT        0xfU  /* in 31:28; 0: clusters. The other bits are ones */

#define ESR_SEND_ILLEGAL     (1U << 5) /* vector below 16 */
#define ESR_RECEIVE_ILLEGAL  (1U << 6)
#define ESR_ILLEGAL_REGISTER (1U << 7)

/*
 * Messages: the address is LAPIC_DEFAULT_BASE with the destination; data has vector, mode, level and assert as in ICR.
 */
#define MSI_DEST_SHIFT 12
#define MSI_LOGICAL    BIT(2)
#define MSI_REDIRECT   BIT(3)

/* I/O APIC: registers in memory, those behind IOREGSEL and IOWIN, and what is in a redirection entry. */
#define IOAPIC_ID_MASK 0x0f000000U
#define IOREGSEL       0x00
#define IOWIN          0x10
#define IOEOI          0x40 /* of version 0x20 */
#define IOAPIC_REG_ID  0x00
#define IOAPIC_REG_VER 0x01
#define IOAPIC_REG_ARB 0x02
#define IOAPIC_REG_RTE 0x10 /* two registers an entry */
#define RTE_VECTOR     0xffULL
#define RTE_MODE       (7ULL << 8)
#define RTE_LOGICAL    BIT(11)
#define RTE_STATUS     BIT(12)
#define RTE_ACTIVE_LOW BIT(13)
#define RTE_REMOTE_IRR BIT(14)
#define RTE_LEVEL      BIT(15)
#define RTE_MASKED     BIT(16)
#define RTE_DEST_SHIFT 56

/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Interrupts of the host: vectors, the local APIC (x2APIC where the CPU has it, else xAPIC), inter-processor
 * interrupts. Devices use MSI or MSI-X; the UART, and PCI cards that have their line only, come through the I/O APIC.
 */
#pragma once
#include "kernel/base/bits.h"

/*
 * Give fn(arg) a vector on every CPU. Returns the vector (32..254) or -ENOSPC. fn runs with interrupts off, EOI is done
 * after it.
 */
int irq_alloc(void (*fn)(void *arg), void *arg);
void irq_free(int vector); /* no CPU is inside fn any more when it returns; its source must be quiet */

/* MSI address and data (SDM 3A 11.11) that raise `vector` on CPU `cpu_id`. */
void irq_msi_compose(unsigned cpu_id, int vector, uint64_t *addr, uint32_t *data);

/*
 * Route ISA interrupt line `irq` to vector on the boot CPU through the I/O APIC(s); 0 or -ENODEV.
 */
int irq_route_isa(unsigned irq, int vector);
/*
 * The same for a line that carries PCI interrupts: level-triggered unless the MADT says otherwise, so it may be shared.
 * Its handlers must silence their devices. irq_line_again() afterwards has the I/O APIC look at the line once more.
 */
int irq_route_pci_line(unsigned irq, int vector);
void irq_line_again(unsigned irq);
/* From the MADT, or the defaults (0xfec00000, GSI 0) where there is no ACPI: call before irq_route_isa. */
void irq_add_ioapic(hpa_t base, uint32_t gsi_base);
void irq_isa_override(unsigned irq, uint32_t gsi, bool active_low, bool level);

/* Inter-processor interrupts. */
#define IRQ_VEC_TIMER    0xf0
#define IRQ_VEC_RESCHED  0xf1 /* does nothing but end HLT or guest mode; need_resched is looked at on the way out */
#define IRQ_VEC_CALL     0xf2
#define IRQ_VEC_SPURIOUS 0xff
void irq_ipi(unsigned cpu_id, int vector);
/* Run fn(arg) on every other online CPU in interrupt context and wait until all have done it. Interrupts must be on. */
void irq_call_others(void (*fn)(void *arg), void *arg);

/*
 * The local APIC's one-shot timer, for kernel/time.c: fire IRQ_VEC_TIMER at that TSC value (TSC-deadline or
 * count-down).
 */
void irq_timer_arm(uint64_t tsc);
void irq_timer_init(uint64_t tsc_hz); /* on each CPU; calibrates where it must */

/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What the kernel calls of the CPU room at boot, and what the CPU room calls back. arch/ includes nothing of kernel/
 * but bits, err and list, so what it needs of the kernel comes as pointers.
 */
#pragma once
#include "kernel/base/bits.h"

struct trap_frame { /* as entry.S pushes it */
	uint64_t r15, r14, r13, r12, r11, r10, r9, r8, rbp, rdi, rsi, rdx, rcx, rbx, rax;
	uint64_t vector, error;
	uint64_t rip, cs, rflags, rsp, ss;
};

struct arch_hooks {
	/* On the way out of an interrupt, after EOI, interrupts off, irq_depth 0 again: the place to switch tasks. */
	void (*irq_exit)(void);
	void (*timer)(void); /* IRQ_VEC_TIMER */
	/* An exception that nothing fixes up, an NMI, a machine check: print and stop. */
	void (*fatal)(const struct trap_frame *f, const char *what) noreturn;
	/* A page fault that hit a guard page gets what = "stack overflow". */
};
extern struct arch_hooks arch_hooks; /* kernel/main.c fills it before arch_init */

/* Boot CPU: per-CPU data, GDT, TSS with IST stacks (#DF, NMI, #MC), IDT, local APIC. No memory allocator needed. */
void arch_init(uint32_t boot_apic_id);
/*
 * Final page tables: direct map of the given RAM ranges (NX), the kernel image W^X, nothing else (identity map gone).
 * alloc/free give zeroed 4K pages; from here on mmio_map and stack_alloc work.
 */
struct arch_mem {
	hpa_t base;
	uint64_t size;
};
void arch_paging_init(const struct arch_mem *ram, unsigned n, hpa_t kernel_base, hpa_t (*alloc)(void *),
		      void (*free)(void *, hpa_t));
/*
 * Start the other CPUs (INIT, SIPI, SIPI; SDM 3A 9.4) one after another through the trampoline page. Each gets a stack
 * and calls entry() with interrupts off. The TSC of each is made to agree with the first one's (tsc_sync.h): `stepped`
 * says by how many ticks one was off. A CPU that does not come within 2 s, or whose TSC cannot agree, is
 * reported by its APIC id and left out. Returns how many are online in all.
 */
unsigned arch_smp_start(const uint32_t *apic_ids, unsigned n, hpa_t trampoline, void (*entry)(void),
			void (*stepped)(unsigned cpu, int64_t off), void (*missing)(uint32_t apic_id, const char *why));

/* Save callee-saved state on the current stack, store RSP to *save, continue at `load`. */
void arch_switch(uint64_t *save, uint64_t load);
/*
 * Prepare a stack whose first arch_switch() calls fn(arg) with interrupts off; fn never returns. Returns the RSP to
 * load.
 */
uint64_t arch_stack_prepare(void *stack_top, void (*fn)(void *), void *arg);

/* Walk frame pointers: fills at most max return addresses, stops at anything that is not on the stack. */
unsigned arch_backtrace(uint64_t rbp, uintptr_t *ra, unsigned max);
void arch_stop_others(void);    /* panic: NMI the other CPUs into a halt loop */
noreturn void arch_reset(void); /* keyboard controller, port 0xcf9, triple fault, in that order */

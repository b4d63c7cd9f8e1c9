/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Private to arch/x86/: what its files call of each other. The public faces are arch.h, cpu.h, irq.h, paging.h, hv.h.
 */
#pragma once
#include "arch/x86/arch.h"
#include "arch/x86/cpu.h"
#include "kernel/base/bits.h"

/* A lock for this room alone (kernel/spinlock.h is above it): interrupts off while held, a leaf in the lock order. */
struct arch_lock {
	uint32_t held;
};
static inline uint64_t arch_lock(struct arch_lock *l) /* returns RFLAGS for the unlock */
{
	uint64_t flags = cpu_irq_save();
	while (__atomic_exchange_n(&l->held, 1, __ATOMIC_ACQUIRE))
		while (__atomic_load_n(&l->held, __ATOMIC_RELAXED))
			cpu_relax();
	return flags;
}
static inline void arch_unlock(struct arch_lock *l, uint64_t flags)
{
	__atomic_store_n(&l->held, 0, __ATOMIC_RELEASE);
	cpu_irq_restore(flags);
}

/* cpu.c */
extern struct cpu boot_cpu;  /* entry.S points GS at it */
extern uint64_t arch_tsc_hz; /* 0 until irq_timer_init() */
void cpu_add(struct cpu *c); /* give it the next id and make it known to cpu_get() */
void cpu_ctrl_init(void);    /* EFER, CR0, CR4, XCR0, PAT of this CPU */
void cpu_smep_on(void);      /* once the final page tables are in use */
void cpu_delay_us(uint64_t us);

/* descriptors.c. Interrupt stack table (SDM 3A 6.14.5): these three must work whatever RSP is. */
enum { IST_NONE, IST_DF, IST_NMI, IST_MC, IST_COUNT };
#define IST_STACK_SIZE 16384UL
#define CODE_SELECTOR  0x08
struct desc {
	uint64_t gdt[5]; /* null, code, data, TSS (two slots) */
	struct tss {
		uint32_t reserved0;
		uint64_t rsp[3], reserved1;
		uint64_t ist[7]; /* [n - 1] is IST n */
		uint64_t reserved2;
		uint16_t reserved3, iomap;
	} PACKED tss;
};
extern struct desc boot_desc;
extern char boot_ist_stacks[(IST_COUNT - 1) * IST_STACK_SIZE];
void idt_init(void);           /* boot CPU, once */
void desc_load(struct cpu *c); /* GDT, TSS, IDT and GS base on the running CPU; TSS.ist is filled in */

/* entry.S */
extern char trap_stubs[]; /* 256 of 16 bytes */
extern char boot_stack_guard[], boot_stack[], boot_stack_top[];
struct fixup {
	uint64_t rip, resume;
};
extern const struct fixup fixups[], fixups_end[];
noreturn void smp_entry(void); /* where the trampoline goes */
void trap_dispatch(struct trap_frame *f);
void irq_dispatch(unsigned vector);

/* local_apic.c */
void apic_init_cpu(void);
void apic_remap(void); /* the registers have to be reached through mmio_map() from now on */
void apic_eoi(void);
void apic_send(uint32_t apic_id, uint32_t icr); /* ICR 31:0, SDM 3A 11.6.1 */

/* smp.c */
void smp_call_run(void);  /* IRQ_VEC_CALL has come */
bool smp_stop_here(void); /* NMI: true if it came from arch_stop_others() */
bool smp_may_call_others(void);

/* paging.c */
hpa_t paging_root(void);
bool paging_is_guard(uint64_t va);
bool paging_stack_bounds(uint64_t va, uint64_t *lo, uint64_t *hi); /* false: not on any stack */

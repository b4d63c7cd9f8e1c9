/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The CPU this code runs on: instructions C has no word for, and per-CPU data. GS base points to struct cpu in the
 * kernel. Bits carry the manuals' names (SDM vol. 3, APM vol. 2).
 */
#pragma once
#include "arch/x86/hw/regs.h"

#define CPU_MAX 1024 /* width of tables indexed by CPU; what exists is cpu_count() */

struct task;
struct cpu {
	struct cpu *self; /* %gs:0 */
	uint32_t id;      /* 0 = boot CPU; dense */
	uint32_t apic_id;
	struct task *current; /* kernel/task.c */
	uint32_t preempt_off; /* nesting of preempt_disable() */
	uint32_t irq_depth;   /* > 0: in an interrupt handler */
	bool need_resched;    /* it should run something else as soon as preemption and interrupts allow */
	bool online;
	void *hv;     /* vmx.c's or svm.c's per-CPU data */
	void *sched;  /* kernel/task.c's per-CPU data */
	void *timers; /* kernel/time.c's per-CPU data */
	void *arch;   /* descriptors.c: GDT, TSS, IST stacks */
};

static inline struct cpu *this_cpu(void)
{
	struct cpu *c;
	__asm__ volatile("mov %%gs:0, %0"
			 : "=r"(c)); /* volatile: a task may have moved; hold preemption to rely on it */
	return c;
}
unsigned cpu_count(void);         /* CPUs online */
struct cpu *cpu_get(unsigned id); /* NULL if id >= cpu_count() */

static inline uint64_t cpu_irq_save(void) /* returns RFLAGS, interrupts off */
{
	uint64_t f;
	__asm__ volatile("pushfq; popq %0; cli" : "=r"(f)::"memory");
	return f;
}
static inline void cpu_irq_restore(uint64_t f)
{
	if (f & RFLAGS_IF)
		__asm__ volatile("sti" ::: "memory");
}
static inline void cpu_irq_on(void) { __asm__ volatile("sti" ::: "memory"); }
static inline void cpu_irq_off(void) { __asm__ volatile("cli" ::: "memory"); }
static inline void cpu_halt(void) { __asm__ volatile("sti; hlt" ::: "memory"); } /* sleeps with interrupts on */
static inline void cpu_relax(void) { __asm__ volatile("pause" ::: "memory"); }

static inline uint64_t rdtsc(void)
{
	uint32_t lo, hi;
	__asm__ volatile("rdtsc" : "=a"(lo), "=d"(hi)::"memory");
	return (uint64_t)hi << 32 | lo;
}
/* In program order (SDM 2B RDTSC). LFENCE alone does not hold AMD's back unless DE_CFG says so (APM2 7.6.4). */
static inline uint64_t rdtsc_ordered(void)
{
	__asm__ volatile("mfence; lfence" ::: "memory");
	uint64_t tsc = rdtsc();
	__asm__ volatile("lfence" ::: "memory");
	return tsc;
}
static inline uint64_t rdmsr(uint32_t msr)
{
	uint32_t lo, hi;
	__asm__ volatile("rdmsr" : "=a"(lo), "=d"(hi) : "c"(msr) : "memory");
	return (uint64_t)hi << 32 | lo;
}
static inline void wrmsr(uint32_t msr, uint64_t v)
{
	__asm__ volatile("wrmsr" ::"c"(msr), "a"((uint32_t)v), "d"((uint32_t)(v >> 32)) : "memory");
}
/* The same for MSRs that may not exist: false if the access raised #GP (fixed up by traps.c). */
bool rdmsr_safe(uint32_t msr, uint64_t *v);
bool wrmsr_safe(uint32_t msr, uint64_t v);

/* SDM 1 3.3.7.1, with 48 bits: tern and its guests have no LA57. */
static inline bool is_canonical(uint64_t va) { return (uint64_t)((int64_t)(va << 16) >> 16) == va; }
/*
 * What RIP may be in 64-bit mode: code that runs over the end of the lower half, or an exit there, leaves it one bit
 * further than canonical (SDM 3C 27.3.1.4).
 */
static inline bool rip_is_valid(uint64_t rip) { return rip >> 48 == 0 || rip >> 48 == 0xffff; }

struct cpuid_regs {
	uint32_t eax, ebx, ecx, edx;
};
static inline struct cpuid_regs cpuid(uint32_t leaf, uint32_t sub)
{
	struct cpuid_regs r;
	__asm__ volatile("cpuid" : "=a"(r.eax), "=b"(r.ebx), "=c"(r.ecx), "=d"(r.edx) : "a"(leaf), "c"(sub));
	return r;
}
#define CPU_CR(n)                                                           \
	static inline uint64_t read_cr##n(void)                             \
	{                                                                   \
		uint64_t v;                                                 \
		__asm__ volatile("mov %%cr" #n ", %0" : "=r"(v)::"memory"); \
		return v;                                                   \
	}                                                                   \
	static inline void write_cr##n(uint64_t v) { __asm__ volatile("mov %0, %%cr" #n ::"r"(v) : "memory"); }
CPU_CR(0)
CPU_CR(2)
CPU_CR(3)
CPU_CR(4)
#undef CPU_CR

static inline void outb(uint16_t p, uint8_t v) { __asm__ volatile("outb %0, %1" ::"a"(v), "Nd"(p)); }
static inline void outw(uint16_t p, uint16_t v) { __asm__ volatile("outw %0, %1" ::"a"(v), "Nd"(p)); }
static inline void outl(uint16_t p, uint32_t v) { __asm__ volatile("outl %0, %1" ::"a"(v), "Nd"(p)); }
static inline uint8_t inb(uint16_t p)
{
	uint8_t v;
	__asm__ volatile("inb %1, %0" : "=a"(v) : "Nd"(p));
	return v;
}
static inline uint16_t inw(uint16_t p)
{
	uint16_t v;
	__asm__ volatile("inw %1, %0" : "=a"(v) : "Nd"(p));
	return v;
}
static inline uint32_t inl(uint16_t p)
{
	uint32_t v;
	__asm__ volatile("inl %1, %0" : "=a"(v) : "Nd"(p));
	return v;
}

/* False: MOV to CR0 raises #GP, and no guest can be entered with it (SDM 2B MOV, 3C 27.3.1.1; APM2 15.5.1). */
static inline bool cr0_is_valid(uint64_t v)
{
	return !(v >> 32) && !((v & CR0_NW) && !(v & CR0_CD)) && !((v & CR0_PG) && !(v & CR0_PE));
}

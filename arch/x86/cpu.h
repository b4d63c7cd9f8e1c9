/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The CPU this code runs on: instructions C has no word for, and per-CPU data. GS base points to struct cpu in the
 * kernel. Bits carry the manuals' names (SDM vol. 3, APM vol. 2).
 */
#pragma once
#include "kernel/bits.h"

#define CPU_MAX 1024 /* width of tables indexed by CPU; what exists is cpu_count() */

struct task;
struct cpu {
	struct cpu *self; /* %gs:0 */
	uint32_t id;      /* 0 = boot CPU; dense */
	uint32_t apic_id;
	struct task *current; /* kernel/task.c */
	uint32_t preempt_off; /* nesting of preempt_disable() */
	uint32_t irq_depth;   /* > 0: in an interrupt handler */
	bool need_resched;
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
	if (f & BIT(9))
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

/* Control register bits. */
#define CR0_PE         BIT(0)
#define CR0_MP         BIT(1)
#define CR0_EM         BIT(2)
#define CR0_TS         BIT(3)
#define CR0_ET         BIT(4)
#define CR0_NE         BIT(5)
#define CR0_WP         BIT(16)
#define CR0_AM         BIT(18)
#define CR0_NW         BIT(29)
#define CR0_CD         BIT(30)
#define CR0_PG         BIT(31)
#define CR0_DEFINED    (CR0_PE | CR0_MP | CR0_EM | CR0_TS | CR0_ET | CR0_NE | CR0_WP | CR0_AM | CR0_NW | CR0_CD | CR0_PG)
#define CR4_TSD        BIT(2)
#define CR4_PSE        BIT(4)
#define CR4_PAE        BIT(5)
#define CR4_MCE        BIT(6)
#define CR4_PGE        BIT(7)
#define CR4_OSFXSR     BIT(9)
#define CR4_OSXMMEXCPT BIT(10)
#define CR4_ALWAYS     0x7ffULL /* VME .. OSXMMEXCPT: every CPU with long mode has them */
#define CR4_UMIP       BIT(11)
#define CR4_LA57       BIT(12)
#define CR4_FSGSBASE   BIT(16)
#define CR4_PCIDE      BIT(17)
#define CR4_OSXSAVE    BIT(18)
#define CR4_SMEP       BIT(20)
#define CR4_SMAP       BIT(21)
#define CR4_PKE        BIT(22)
#define EFER_SCE       BIT(0)
#define EFER_LME       BIT(8)
#define EFER_LMA       BIT(10)
#define EFER_NXE       BIT(11)
#define EFER_SVME      BIT(12)
#define RFLAGS_TF      BIT(8)
#define RFLAGS_IF      BIT(9)
#define RFLAGS_DF      BIT(10)
#define RFLAGS_RF      BIT(16)
#define RFLAGS_VM      BIT(17)
#define RFLAGS_ALWAYS  BIT(1)
#define RFLAGS_DEFINED 0x3f7fd7ULL
#define DR6_TRAPS      0xfULL
#define DR6_BS         BIT(14)
#define DR7_GD         BIT(13)

/* False: MOV to CR0 raises #GP, and no guest can be entered with it (SDM 2B MOV, 3C 27.3.1.1; APM2 15.5.1). */
static inline bool cr0_is_valid(uint64_t v)
{
	return !(v >> 32) && !((v & CR0_NW) && !(v & CR0_CD)) && !((v & CR0_PG) && !(v & CR0_PE));
}

/* MSRs by their names in the manuals. */
#define MSR_TSC            0x10
#define MSR_APIC_BASE      0x1b
#define MSR_MISC_ENABLE    0x1a0
#define MSR_TSC_ADJUST     0x3b
#define MSR_SYSENTER_CS    0x174
#define MSR_SYSENTER_ESP   0x175
#define MSR_SYSENTER_EIP   0x176
#define MSR_PAT            0x277
#define MSR_MTRR_DEF_TYPE  0x2ff
#define MSR_TSC_DEADLINE   0x6e0
#define MSR_X2APIC         0x800 /* ..0x83f */
#define MSR_XSS            0xda0
#define MSR_EFER           0xc0000080
#define MSR_STAR           0xc0000081
#define MSR_LSTAR          0xc0000082
#define MSR_CSTAR          0xc0000083
#define MSR_SFMASK         0xc0000084
#define MSR_FS_BASE        0xc0000100
#define MSR_GS_BASE        0xc0000101
#define MSR_KERNEL_GS_BASE 0xc0000102
#define MSR_TSC_AUX        0xc0000103

/* clang-format off */
enum { /* exception vectors, SDM 3A table 6-1 */
	VEC_DE = 0, VEC_DB = 1, VEC_NMI = 2, VEC_BP = 3, VEC_UD = 6, VEC_NM = 7, VEC_DF = 8, VEC_TS = 10, VEC_NP = 11,
	VEC_SS = 12, VEC_GP = 13, VEC_PF = 14, VEC_MF = 16, VEC_AC = 17, VEC_MC = 18, VEC_XM = 19,
};
/* clang-format on */

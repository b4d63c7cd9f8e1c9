/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The torture guest: a machine program of our own whose results do not depend on when it is interrupted, saved or
 * moved.
 *
 *   entry.S       boot, gates, SYSCALL, ring 3 and back    main.c      rounds, hash, result
 *   code.S        code to step through, FPU, programs  machine.c   tables, pages, local APIC and its timer, console
 *   faults.c      paging, address spaces, ring 3            debug.c     single steps, breakpoints
 *   registers.c   what must stay as it was, FPU, devices    interrupts.c  priorities, cut deliveries, HLT
 */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define BIT(n) (1ULL << (n))

struct frame {
	uint64_t r15, r14, r13, r12, r11, r10, r9, r8, rdi, rsi, rbp, rbx, rdx, rcx, rax;
	uint64_t vector, error, rip, cs, rflags, rsp, ss;
};

/* Selectors; SYSRET wants the middle three in this order. */
enum {
	SEL_CODE = 0x08,
	SEL_DATA = 0x10,
	SEL_CODE32 = 0x18,
	SEL_UDATA = 0x20,
	SEL_UCODE = 0x28,
	SEL_TSS = 0x30,
	SEL_LDT = 0x40
};
#define LDT_COUNT 2 /* 16 bytes each, from SEL_LDT on */
/* Vectors: timer above all others, so that it comes whatever the priority tests do. */
enum { VEC_DB = 1, VEC_NMI = 2, VEC_BP = 3, VEC_UD = 6, VEC_NM = 7, VEC_DF = 8, VEC_GP = 13, VEC_PF = 14 };
enum { VEC_INT40 = 0x40, VEC_IST_SOFT = 0x41, VEC_USER_CALL = 0x80, VEC_USER_LEAVE = 0x81 };
enum {
	VEC_IST_HARD = 0x52,
	VEC_WATCHED = 0x62,
	VEC_SHADOW = 0x71,
	VEC_LOW = 0x93,
	VEC_MIDDLE = 0xa4,
	VEC_HIGH = 0xb5,
	VEC_ERROR = 0xc6,
	VEC_TIMER = 0xe6
};
enum { IST_DF = 1, IST_SOFT = 2, IST_HARD = 3, IST_WATCHED = 4 };

/* ---- main.c ---- */
extern uint64_t round_number;
extern bool with_breakpoints, breaks_meet_interrupts, strict_shadow, with_cr8, with_illegal, left_out_twice;
void hash(uint64_t v);
_Noreturn void bad(const char *what, uint64_t a, uint64_t b); /* an inconsistency: says so, and stops */
#define CHECK(what, got, want)                         \
	do {                                           \
		uint64_t got_ = (got), want_ = (want); \
		if (got_ != want_)                     \
			bad(what, got_, want_);        \
	} while (0)
uint64_t mix(uint64_t x); /* a number that looks random, always the same for x */

/* ---- machine.c ---- */
typedef void trap_fn(struct frame *f);
extern trap_fn *handlers[256];  /* of the round's parts; none: the trap is an inconsistency */
extern volatile uint64_t ticks; /* timer interrupts; of all results only this and the next depend on time */
extern volatile uint64_t came_twice;
void machine_init(uint64_t tick_us);
void timer_start(void);
void tsc_check(void); /* time never goes back */
void *memset(void *p, int c, size_t n), *memcpy(void *to, const void *from, size_t n);
void print(const char *fmt, ...);
void gate_ist(unsigned vector, unsigned ist, uint64_t stack_top);
extern bool have_avx;
struct percpu {
	uint64_t stack, user_rsp;
};
extern struct percpu percpu;

/* The window: 512 pages of 4K at WINDOW in either of two address spaces. */
#define WINDOW       0x40000000ULL
#define PAGE         4096ULL
#define WINDOW_PAGES 512
#define SPACES       2
enum { PTE_P = 1, PTE_W = 2, PTE_U = 4 };
#define PTE_NX BIT(63)
/* Pages of the window by number. */
enum {
	W_HOLES = 0,
	W_NHOLES = 32,
	W_UCODE = 64,
	W_USTACK = 65,
	W_UDATA = 66,
	W_NUDATA = 9,
	W_STEP = 80,
	W_IST_SOFT = 96,
	W_IST_HARD = 97,
	W_END
};
extern uint64_t window[SPACES][WINDOW_PAGES]; /* its page tables */
extern unsigned space;                        /* the one in CR3 */
void space_switch(unsigned s);
uint64_t frame_of(unsigned s, unsigned page); /* the physical page that belongs there */
static inline uint64_t window_va(unsigned page) { return WINDOW + page * PAGE; }

/* x2APIC */
enum {
	X2_TPR = 0x808,
	X2_PPR = 0x80a,
	X2_EOI = 0x80b,
	X2_SVR = 0x80f,
	X2_ISR = 0x810,
	X2_ESR = 0x828,
	X2_IRR = 0x820,
	X2_ICR = 0x830,
	X2_LVT_TIMER = 0x832,
	X2_LVT_THERMAL = 0x833,
	X2_LVT_ERROR = 0x837,
	X2_INITIAL = 0x838,
	X2_CURRENT = 0x839,
	X2_DIVIDE = 0x83e,
	X2_SELF = 0x83f,
	ICR_NMI_TO_0 = 4 << 8, /* to APIC ID 0 */
	MSR_DEADLINE = 0x6e0
};
bool lapic_bit(unsigned bank, unsigned vector);

/* ---- parts of a round ---- */
void faults_init(void), debug_init(void), interrupts_init(void);
void part_pages(void), part_spaces(void), part_user(void);
void part_steps(void), part_breakpoints(void), part_traps(void);
void part_priorities(void), part_storm(void), part_cut(void), part_watched(void), part_shadow(void), part_halt(void);
void part_illegal(void), part_nmi(void);
void part_fpu(void), part_devices(void);
void registers_set(void), registers_check(void); /* around a round */
void watch_write(uint64_t va);                   /* DR0; the #DB ends it */
extern uint64_t steps_taken;

/* ---- assembly ---- */
struct user {
	uint64_t rip, cs, rflags, rsp, ss, rdi, rsi;
};
uint64_t user_enter(const struct user *u);
_Noreturn void user_leave(uint64_t value);
uint64_t steps_run(uint64_t x), odd_steps_run(void), fpu_work(uint64_t turns);
void break_run(uint32_t *written, const uint64_t *read), shadow_run(uint64_t n);
void syscall_entry(void);
extern const char stubs[], steps_begin[], steps_end[], break_cpuid[], break_next[], user_start[], user32_start[];
extern uint64_t steps_count, step_hole;

/* ---- instructions ---- */
static inline uint64_t rdmsr(uint32_t msr)
{
	uint32_t lo, hi;
	__asm__ volatile("rdmsr" : "=a"(lo), "=d"(hi) : "c"(msr));
	return (uint64_t)hi << 32 | lo;
}
static inline void wrmsr(uint32_t msr, uint64_t v)
{
	__asm__ volatile("wrmsr" ::"c"(msr), "a"((uint32_t)v), "d"((uint32_t)(v >> 32)) : "memory");
}
static inline uint64_t rdtsc(void)
{
	uint32_t lo, hi;
	__asm__ volatile("rdtsc" : "=a"(lo), "=d"(hi));
	return (uint64_t)hi << 32 | lo;
}
static inline uint32_t tsc_aux(void)
{
	uint32_t lo, hi, aux;
	__asm__ volatile("rdtscp" : "=a"(lo), "=d"(hi), "=c"(aux));
	return aux;
}
static inline void cpuid(uint32_t leaf, uint32_t sub, uint32_t r[4])
{
	__asm__ volatile("cpuid" : "=a"(r[0]), "=b"(r[1]), "=c"(r[2]), "=d"(r[3]) : "a"(leaf), "c"(sub));
}
static inline void out8(uint16_t port, uint8_t v) { __asm__ volatile("out %0, %1" ::"a"(v), "Nd"(port)); }
static inline uint8_t in8(uint16_t port)
{
	uint8_t v;
	__asm__ volatile("in %1, %0" : "=a"(v) : "Nd"(port));
	return v;
}
static inline void out32(uint16_t port, uint32_t v) { __asm__ volatile("out %0, %1" ::"a"(v), "Nd"(port)); }
static inline uint32_t in32(uint16_t port)
{
	uint32_t v;
	__asm__ volatile("in %1, %0" : "=a"(v) : "Nd"(port));
	return v;
}
static inline void invlpg(uint64_t va) { __asm__ volatile("invlpg (%0)" ::"r"(va) : "memory"); }
static inline uint64_t irq_save(void)
{
	uint64_t f;
	__asm__ volatile("pushfq; pop %0; cli" : "=r"(f)::"memory");
	return f;
}
static inline void irq_restore(uint64_t f) { __asm__ volatile("push %0; popfq" ::"r"(f) : "memory", "cc"); }
static inline void irq_off(void) { __asm__ volatile("cli" ::: "memory"); }
static inline void irq_on(void) { __asm__ volatile("sti" ::: "memory"); }
#define READ_REG(name)                                                        \
	({                                                                    \
		uint64_t v_;                                                  \
		__asm__ volatile("mov %%" #name ", %0" : "=r"(v_)::"memory"); \
		v_;                                                           \
	})
#define WRITE_REG(name, v) __asm__ volatile("mov %0, %%" #name ::"r"((uint64_t)(v)) : "memory")

/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The torture guest's machine: descriptors, two address spaces, the local APIC with a timer that never stops, the
 * console.
 *
 *   0..16 MiB          one to one, 2 MiB pages, supervisor; shared by both address spaces
 *   WINDOW, 2 MiB      4K pages of the parts' making, in each space its own; see W_*
 */
#include "torture.h"
#include <stdarg.h>

#define TABLE __attribute__((aligned(4096)))
static uint64_t pml4[SPACES][512] TABLE, pdpt[SPACES][512] TABLE, pd_low[512] TABLE, pd_window[SPACES][512] TABLE;
uint64_t window[SPACES][WINDOW_PAGES] TABLE;
static uint8_t frames[SPACES][W_END][PAGE] TABLE;
static uint8_t kernel_stack[16384] __attribute__((aligned(16))), df_stack[4096] __attribute__((aligned(16)));
unsigned space;
struct percpu percpu;
bool have_avx;
trap_fn *handlers[256];

/* ---- console ---- */

static void put(char c)
{
	while (!(in8(0x3fd) & 0x20))
		;
	out8(0x3f8, (uint8_t)c);
}

static void put_number(uint64_t v, unsigned base, unsigned width)
{
	char s[24];
	unsigned n = 0;
	do
		s[n++] = "0123456789abcdef"[v % base];
	while ((v /= base) || n < width);
	while (n)
		put(s[--n]);
}

/* %s; of uint64_t: %u decimal, %x and %X hexadecimal, the latter with 16 digits. */
void print(const char *fmt, ...)
{
	va_list ap;
	va_start(ap, fmt);
	for (; *fmt; fmt++) {
		if (*fmt != '%') {
			if (*fmt == '\n')
				put('\r');
			put(*fmt);
			continue;
		}
		switch (*++fmt) {
		case 's':
			for (const char *s = va_arg(ap, const char *); *s; s++)
				put(*s);
			break;
		case 'u': put_number(va_arg(ap, uint64_t), 10, 1); break;
		case 'x': put_number(va_arg(ap, uint64_t), 16, 1); break;
		default: put_number(va_arg(ap, uint64_t), 16, 16); break;
		}
	}
	va_end(ap);
}

/* ---- descriptors ---- */

static uint64_t gdt[(SEL_LDT + LDT_COUNT * 16) / 8];
static struct {
	uint64_t lo, hi;
} idt[256] __attribute__((aligned(16)));
static struct __attribute__((packed)) {
	uint32_t reserved0;
	uint64_t rsp[3], reserved1, ist[7], reserved2;
	uint16_t reserved3, iomap;
} tss;
static uint64_t ldt[LDT_COUNT][2];
struct __attribute__((packed)) table_reg {
	uint16_t limit;
	uint64_t base;
};

static void system_descriptor(unsigned sel, unsigned type, const void *p, uint32_t limit)
{
	uint64_t base = (uintptr_t)p;
	gdt[sel / 8] = (limit & 0xffff) | (base & 0xffffff) << 16 | (uint64_t)type << 40 |
		       (uint64_t)(limit >> 16) << 48 | (base >> 24 & 0xff) << 56;
	gdt[sel / 8 + 1] = base >> 32;
}

static void gate(unsigned vector, unsigned dpl)
{
	uint64_t to = (uintptr_t)(stubs + 16 * vector);
	idt[vector].lo = (to & 0xffff) | SEL_CODE << 16 | (0x8eULL | dpl << 5) << 40 | (to >> 16 & 0xffff) << 48;
	idt[vector].hi = to >> 32;
}

void gate_ist(unsigned vector, unsigned ist, uint64_t stack_top)
{
	idt[vector].lo = (idt[vector].lo & ~(7ULL << 32)) | (uint64_t)ist << 32;
	tss.ist[ist - 1] = stack_top;
}

static void tables_init(void)
{
	gdt[SEL_CODE / 8] = 0x00af9b000000ffff;
	gdt[SEL_DATA / 8] = 0x00cf93000000ffff;
	gdt[SEL_CODE32 / 8] = 0x00cffb000000ffff;
	gdt[SEL_UDATA / 8] = 0x00cff3000000ffff;
	gdt[SEL_UCODE / 8] = 0x00affb000000ffff;
	tss.rsp[0] = (uintptr_t)kernel_stack + sizeof(kernel_stack);
	tss.iomap = sizeof(tss);
	system_descriptor(SEL_TSS, 0x89, &tss, sizeof(tss) - 1);
	for (unsigned i = 0; i < LDT_COUNT; i++) { /* entry 1: data, at an address of its own */
		uint64_t base = 0x300000 + 0x1230 * i;
		ldt[i][1] = 0x0040f30000000fffULL | (base & 0xffffff) << 16 | (base >> 24) << 56;
		system_descriptor(SEL_LDT + 16 * i, 0x82, ldt[i], sizeof(ldt[i]) - 1);
	}
	for (unsigned v = 0; v < 256; v++)
		gate(v, v == VEC_BP || v == VEC_USER_CALL || v == VEC_USER_LEAVE ? 3 : 0);
	gate_ist(VEC_DF, IST_DF, (uintptr_t)df_stack + sizeof(df_stack));
	struct table_reg g = { sizeof(gdt) - 1, (uintptr_t)gdt }, i = { sizeof(idt) - 1, (uintptr_t)idt };
	__asm__ volatile("lgdt %0; lidt %1; ltr %w2; lldt %w3" ::"m"(g), "m"(i), "r"(SEL_TSS), "r"(SEL_LDT) : "memory");
	__asm__ volatile(
		"push %0; lea 1f(%%rip), %%rax; push %%rax; lretq; 1: mov %1, %%ss; mov %2, %%ds; mov %2, %%es" ::"i"(
			SEL_CODE),
		"r"(SEL_DATA), "r"(SEL_UDATA | 3)
		: "rax", "memory");
}

/* ---- address spaces ---- */

uint64_t frame_of(unsigned s, unsigned page)
{
	if (page == W_UCODE)
		return (uintptr_t)user_start;
	if (page >= W_END)
		bad("page of the window that nothing uses", page, W_END);
	return (uintptr_t)frames[s][page];
}

void space_switch(unsigned s)
{
	space = s;
	WRITE_REG(cr3, (uintptr_t)pml4[s]);
}

static void paging_init(void)
{
	for (unsigned i = 0; i < 8; i++)
		pd_low[i] = i * 0x200000ULL | 0x83;
	for (unsigned s = 0; s < SPACES; s++) {
		pml4[s][0] = (uintptr_t)pdpt[s] | PTE_P | PTE_W | PTE_U;
		pdpt[s][0] = (uintptr_t)pd_low | PTE_P | PTE_W;
		pdpt[s][WINDOW >> 30] = (uintptr_t)pd_window[s] | PTE_P | PTE_W | PTE_U;
		pd_window[s][0] = (uintptr_t)window[s] | PTE_P | PTE_W | PTE_U;
		window[s][W_UCODE] = frame_of(s, W_UCODE) | PTE_P | PTE_U;
		window[s][W_USTACK] = frame_of(s, W_USTACK) | PTE_P | PTE_W | PTE_U | PTE_NX;
		window[s][W_UDATA] = frame_of(s, W_UDATA) | PTE_P | PTE_W | PTE_U | PTE_NX;
	}
	wrmsr(0xc0000080, rdmsr(0xc0000080) | BIT(0) | BIT(11)); /* EFER: SYSCALL, no-execute */
	space_switch(0);
}

static void fpu_init(void)
{
	uint32_t r[4];
	cpuid(1, 0, r);
	uint64_t cr4 = READ_REG(cr4) | BIT(3) | BIT(9) | BIT(10); /* DE, OSFXSR, OSXMMEXCPT */
	have_avx = (r[2] & BIT(26)) && (r[2] & BIT(28));
	WRITE_REG(cr4, cr4 | (have_avx ? BIT(18) : 0));                                   /* OSXSAVE */
	WRITE_REG(cr0, (READ_REG(cr0) | BIT(1) | BIT(5) | BIT(16)) & ~(BIT(2) | BIT(3))); /* MP, NE, WP; not EM, TS */
	if (have_avx)
		__asm__ volatile("xsetbv" ::"a"(7), "d"(0), "c"(0));
}

/* ---- traps ---- */

volatile uint64_t came_twice;

/* A local APIC's interrupt that came with interrupts off: the one before it, which is on its way to its handler. */
static bool is_twice(const struct frame *f)
{
	return f->vector >= VEC_IST_HARD && f->vector != VEC_USER_CALL && f->vector != VEC_USER_LEAVE &&
	       !(f->rflags & BIT(9));
}

void trap(struct frame *f);
void trap(struct frame *f)
{
	if (left_out_twice && is_twice(f)) {
		came_twice++;
		return;
	}
	trap_fn *fn = handlers[f->vector];
	if (!fn) {
		print("torture: RIP %x RSP %x CS %x CR2 %x DR6 %x error %x\n", f->rip, f->rsp, f->cs, READ_REG(cr2),
		      READ_REG(dr6), f->error);
		bad("unexpected trap", f->vector, 0);
	}
	fn(f);
}

/* ---- time ---- */

volatile uint64_t ticks;
static uint64_t last_tsc, tsc_per_us, tick_us, tick_seed = 1;
static bool deadline_mode;

void tsc_check(void)
{
	uint64_t flags = irq_save(), now = rdtsc();
	if (now < last_tsc)
		bad("TSC went back", now, last_tsc);
	last_tsc = now;
	irq_restore(flags);
}

/* From half to one and a half of the interval; eight times by deadline, eight times by counting, and so on. */
static void timer_arm(void)
{
	tick_seed = mix(tick_seed);
	uint64_t us = tick_us / 2 + tick_seed % tick_us;
	bool deadline = ticks & 8;
	if (!ticks || deadline != deadline_mode)
		wrmsr(X2_LVT_TIMER, VEC_TIMER | (deadline ? 2 << 17 : 0));
	deadline_mode = deadline;
	if (deadline)
		wrmsr(MSR_DEADLINE, rdtsc() + us * tsc_per_us);
	else
		wrmsr(X2_INITIAL, us * 1000); /* it counts nanoseconds */
}

static void on_timer(struct frame *f)
{
	(void)f;
	ticks++;
	tsc_check();
	timer_arm();
	wrmsr(X2_EOI, 0);
}

void timer_start(void)
{
	handlers[VEC_TIMER] = on_timer;
	deadline_mode = !(ticks & 8); /* so that the entry is written */
	timer_arm();
}

bool lapic_bit(unsigned bank, unsigned vector) { return rdmsr(bank + vector / 32) >> vector % 32 & 1; }

/* How fast the TSC is, by the local APIC's count. */
static void lapic_init(uint64_t us)
{
	tick_us = us;
	wrmsr(X2_SVR, 0x1ff);
	wrmsr(X2_TPR, 0);
	wrmsr(X2_DIVIDE, 0xb); /* by one */
	wrmsr(X2_LVT_TIMER, VEC_TIMER | 1 << 16);
	wrmsr(X2_INITIAL, 0xffffffff);
	uint64_t tsc = rdtsc(), count;
	while ((count = 0xffffffff - rdmsr(X2_CURRENT)) < 2000000)
		;
	tsc_per_us = (rdtsc() - tsc) * 1000 / count;
	wrmsr(X2_INITIAL, 0);
}

void machine_init(uint64_t us)
{
	tables_init();
	paging_init();
	fpu_init();
	percpu.stack = (uintptr_t)kernel_stack + sizeof(kernel_stack);
	lapic_init(us);
}

/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Interrupts at chosen moments: by priority, in the shadow of STI, into a stack that is not there, and those that end a
 * HLT.
 */
#include "torture.h"

static volatile uint64_t came[256];
static uint64_t order;

static uint8_t watched_stack[4096] __attribute__((aligned(16)));

static void on_plain(struct frame *f)
{
	came[f->vector]++;
	order = order << 8 | f->vector;
	wrmsr(X2_EOI, 0);
}

/* While it is in service it sends a lower and a higher one; only the higher comes before its end. */
static void on_middle(struct frame *f)
{
	wrmsr(X2_SELF, VEC_LOW);
	wrmsr(X2_SELF, VEC_HIGH);
	irq_on();
	for (unsigned i = 0; i < 4; i++)
		rdmsr(X2_PPR);
	irq_off();
	on_plain(f);
}

/* The task priority by its other name. */
static void part_cr8(void)
{
	wrmsr(X2_TPR, 0x35);
	CHECK("CR8 after a write to TPR", READ_REG(cr8), 3);
	wrmsr(X2_TPR, 0);
	if (!with_cr8)
		return;
	order = 0;
	WRITE_REG(cr8, 0xdUL);
	CHECK("TPR after a write to CR8", rdmsr(X2_TPR), 0xd0);
	wrmsr(X2_SELF, VEC_MIDDLE);
	wrmsr(X2_SELF, VEC_LOW);
	WRITE_REG(cr8, 0xbUL);
	CHECK("interrupts held back by CR8", order, 0);
	WRITE_REG(cr8, 0x9UL);
	CHECK("interrupts let go by CR8", order, (uint64_t)VEC_HIGH << 8 | VEC_MIDDLE);
	WRITE_REG(cr8, 0UL);
	CHECK("interrupts let go by CR8", order, (uint64_t)VEC_HIGH << 16 | (uint64_t)VEC_MIDDLE << 8 | VEC_LOW);
	hash(order);
}

/* Held back by the task priority, then let go in three steps. */
void part_priorities(void)
{
	order = 0;
	wrmsr(X2_TPR, 0xd0);
	wrmsr(X2_SELF, VEC_MIDDLE);
	wrmsr(X2_SELF, VEC_LOW);
	CHECK("interrupts held back", order, 0);
	CHECK("interrupts in the IRR", lapic_bit(X2_IRR, VEC_LOW) && lapic_bit(X2_IRR, VEC_MIDDLE), 1);
	wrmsr(X2_TPR, 0xb0);
	CHECK("interrupts held back", order, 0);
	wrmsr(X2_TPR, 0xa0);
	CHECK("interrupts held back", order, 0);
	wrmsr(X2_TPR, 0x90);
	CHECK("interrupts let go", order, (uint64_t)VEC_HIGH << 8 | VEC_MIDDLE);
	wrmsr(X2_TPR, 0);
	CHECK("interrupts let go", order, (uint64_t)VEC_HIGH << 16 | (uint64_t)VEC_MIDDLE << 8 | VEC_LOW);
	hash(order);
	part_cr8();
}

/* One after the other, each at once. */
void part_storm(void)
{
	uint64_t before = came[VEC_LOW];
	for (unsigned i = 1; i <= 96; i++) {
		wrmsr(X2_SELF, VEC_LOW);
		CHECK("interrupts sent", came[VEC_LOW] - before, i);
	}
}

/*
 * Deliveries that are cut short. INT n with its stack away is run again after the page fault. An interrupt is not, on
 * any CPU: it is in service, and nobody serves it.
 */
void part_cut(void)
{
	uint64_t flags, before = came[VEC_IST_SOFT];
	__asm__ volatile("int %0" ::"i"(VEC_IST_SOFT) : "memory");
	CHECK("INT n with its stack away", came[VEC_IST_SOFT] - before, 1);

	before = came[VEC_IST_HARD];
	flags = irq_save();
	wrmsr(X2_SELF, VEC_IST_HARD);
	irq_restore(flags);
	rdmsr(X2_PPR);
	CHECK("interrupt with its stack away", came[VEC_IST_HARD] - before, 0);
	CHECK("it is in service", lapic_bit(X2_ISR, VEC_IST_HARD), 1);
	wrmsr(X2_EOI, 0);
	wrmsr(X2_SELF, VEC_IST_HARD);
	CHECK("interrupt sent again", came[VEC_IST_HARD] - before, 1);

	for (unsigned page = W_IST_SOFT; page <= W_IST_HARD; page++) {
		window[space][page] = 0;
		invlpg(window_va(page));
	}
}

/*
 * An interrupt whose stack is watched by a breakpoint is delivered all the same, and the breakpoint is told. Where the
 * #DB comes in the middle of the delivery the interrupt waits behind it, and behind its handler.
 */
void part_watched(void)
{
	uint64_t flags, before = came[VEC_WATCHED], dr0 = READ_REG(dr0);
	if (!with_breakpoints || !breaks_meet_interrupts)
		return;
	flags = irq_save();
	watch_write((uintptr_t)watched_stack + sizeof(watched_stack) - 8);
	wrmsr(X2_SELF, VEC_WATCHED);
	irq_restore(flags);
	rdmsr(X2_PPR);
	CHECK("interrupt whose stack is watched", came[VEC_WATCHED] - before, 1);
	CHECK("the watch was told", READ_REG(dr7), 0x400);
	WRITE_REG(dr0, dr0);
}

/* STI holds interrupts off for one more instruction. */
void part_shadow(void)
{
	uint64_t before = came[VEC_SHADOW];
	irq_off();
	wrmsr(X2_SELF, VEC_SHADOW);
	shadow_run(3000);
	if (strict_shadow)
		CHECK("interrupt in the shadow of STI", came[VEC_SHADOW] - before, 0);
	irq_on();
	__asm__ volatile("nop; nop");
	CHECK("interrupt after the shadow", came[VEC_SHADOW] - before, 1);
}

/* HLT ends by an interrupt only, and all but the timer's have come. */
void part_halt(void)
{
	irq_off();
	uint64_t before = ticks;
	__asm__ volatile("sti; hlt; cli" ::: "memory");
	if (ticks == before)
		bad("HLT ended by itself", ticks, before + 1);
	irq_on();
}

static void on_error(struct frame *f)
{
	wrmsr(X2_ESR, 0);
	CHECK("ESR", rdmsr(X2_ESR), BIT(6)); /* received an illegal vector */
	on_plain(f);
}

/*
 * A timer with an illegal vector sets ESR and raises the error interrupt, which ends the HLT (SDM 3A 11.5.3). It is
 * periodic, for whom STI's shadow does not keep from halting after the first one; and set anew each time, for a timer
 * interrupt that was pending has set it otherwise.
 */
void part_illegal(void)
{
	if (!with_illegal)
		return;
	uint64_t before = came[VEC_ERROR], flags = irq_save();
	wrmsr(X2_ESR, 0);
	wrmsr(X2_LVT_ERROR, VEC_ERROR);
	while (came[VEC_ERROR] == before) {
		wrmsr(X2_LVT_TIMER, 1 << 17 | 5);
		wrmsr(X2_INITIAL, 300000);
		__asm__ volatile("sti; hlt; cli" ::: "memory");
	}
	wrmsr(X2_LVT_ERROR, BIT(16));
	wrmsr(X2_INITIAL, 0);
	timer_start();
	irq_restore(flags);
}

static volatile uint64_t nmis, nmi_depth, nmi_again;

static void on_nmi(struct frame *f)
{
	CHECK("NMIs inside an NMI", nmi_depth, 0);
	nmi_depth++;
	if (nmi_again) {
		nmi_again--;
		wrmsr(X2_ICR, ICR_NMI_TO_0);
		rdmsr(X2_PPR); /* an exit: here it could come if nothing held it back */
	}
	nmi_depth--;
	nmis++;
	(void)f;
}

/* No flag holds an NMI back, but another one does, until its IRET. */
void part_nmi(void)
{
	uint64_t before = nmis, flags = irq_save();
	nmi_again = 1;
	wrmsr(X2_ICR, ICR_NMI_TO_0);
	rdmsr(X2_PPR);
	rdmsr(X2_PPR);
	CHECK("NMIs, with interrupts off", nmis - before, 2);
	irq_restore(flags);
}

static void on_soft(struct frame *f) { came[f->vector]++; }

void interrupts_init(void)
{
	handlers[VEC_MIDDLE] = on_middle;
	handlers[VEC_ERROR] = on_error;
	handlers[VEC_LOW] = handlers[VEC_HIGH] = handlers[VEC_IST_HARD] = handlers[VEC_WATCHED] = handlers[VEC_SHADOW] =
		on_plain;
	handlers[VEC_IST_SOFT] = on_soft;
	handlers[VEC_NMI] = on_nmi;
	gate_ist(VEC_IST_SOFT, IST_SOFT, window_va(W_IST_SOFT) + PAGE);
	gate_ist(VEC_WATCHED, IST_WATCHED, (uintptr_t)watched_stack + sizeof(watched_stack));
	gate_ist(VEC_IST_HARD, IST_HARD, window_va(W_IST_HARD) + PAGE);
}

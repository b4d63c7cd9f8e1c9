/* SPDX-License-Identifier: BSD-2-Clause */
/* Single steps, breakpoints, and the traps of instructions. DR6 and RIP of each #DB go into the hash. */
#include "torture.h"

#define DR6_BS    BIT(14)
#define DR6_ALL   0xe00fULL
#define DR6_RESET 0xffff0ff0ULL
#define DR7_RESET 0x400ULL
#define RFLAGS_RF BIT(16)
#define RFLAGS_TF BIT(8)

uint64_t steps_taken;
static uint64_t last_dr6;
static bool where_matters, watching;

static void on_debug(struct frame *f)
{
	last_dr6 = READ_REG(dr6);
	WRITE_REG(dr6, DR6_RESET);
	if (last_dr6 & DR6_BS)
		steps_taken++;
	if (last_dr6 & 0xf) {
		uint32_t r[4];
		if (watching)
			WRITE_REG(dr7, DR7_RESET);
		watching = false;
		cpuid(0, 0, r); /* an exit, while an interrupt that was cut short may wait */
		if (f->rip == (uintptr_t)break_cpuid || f->rip == (uintptr_t)break_next)
			f->rflags |= RFLAGS_RF; /* a fault: over it this time */
	}
	if (where_matters)
		hash((last_dr6 & DR6_ALL) << 16 ^ (f->rip - ((f->cs & 3) ? WINDOW : (uintptr_t)steps_begin)));
}

static void on_trap(struct frame *f) { hash(f->vector << 16 ^ f->error ^ (f->rip - (uintptr_t)steps_begin)); }

void part_steps(void)
{
	uint64_t begin = steps_taken;
	where_matters = true;
	step_hole = window_va(W_STEP);
	hash(steps_run(mix(round_number)));
	where_matters = false;
	CHECK("single steps", steps_taken - begin, steps_count);
	window[space][W_STEP] = 0;
	invlpg(window_va(W_STEP));

	begin = steps_taken;
	hash(odd_steps_run());
	hash(steps_taken - begin);
}

/* Faults before instructions, one of which exits; a write and a read that were watched. */
void part_breakpoints(void)
{
	static uint32_t written;
	static uint64_t read;
	if (!with_breakpoints)
		return;
	const uint64_t flags = irq_save();
	if (breaks_meet_interrupts)
		irq_on();
	const uint64_t dr[4] = { READ_REG(dr0), READ_REG(dr1), READ_REG(dr2), READ_REG(dr3) };
	WRITE_REG(dr0, (uintptr_t)break_cpuid);
	WRITE_REG(dr1, (uintptr_t)break_next);
	WRITE_REG(dr2, (uintptr_t)&written);
	WRITE_REG(dr3, (uintptr_t)&read);
	for (unsigned i = 0; i < 4;
	     i++) { /* execution by 0 and 1, writing of 4 bytes by 2, any access to 8 bytes by 3 */
		last_dr6 = 0;
		WRITE_REG(dr7, DR7_RESET | BIT(2 * i + 1) | 0xdULL << 24 | 0xbULL << 28);
		break_run(&written, &read);
		WRITE_REG(dr7, DR7_RESET);
		CHECK("breakpoint's DR6", last_dr6 & DR6_ALL, BIT(i));
	}
	where_matters = true;
	WRITE_REG(dr7, DR7_RESET | 0xaa | 0xdULL << 24 | 0xbULL << 28);
	break_run(&written, &read);
	WRITE_REG(dr7, DR7_RESET);
	where_matters = false;
	WRITE_REG(dr0, dr[0]);
	WRITE_REG(dr1, dr[1]);
	WRITE_REG(dr2, dr[2]);
	WRITE_REG(dr3, dr[3]);
	irq_restore(flags);
}

void watch_write(uint64_t va)
{
	WRITE_REG(dr0, va);
	watching = true;
	WRITE_REG(dr7, DR7_RESET | 2 | 9ULL << 16); /* 8 bytes, writes */
}

static void over(struct frame *f) /* two bytes */
{
	hash(f->vector << 32 | f->error);
	f->rip += 2;
}

/* Exceptions of the kernel's own, many of them through an exit. */
void part_traps(void)
{
	handlers[VEC_GP] = handlers[VEC_UD] = handlers[0] = over;
	for (unsigned i = 0; i < 4; i++) {
		rdmsr(0x12345678 + i);
		wrmsr(X2_SELF + 1, 1);
		__asm__ volatile("ud2");
		__asm__ volatile("div %1" ::"a"(1), "r"((uint32_t)0), "d"(0) : "cc");
		__asm__ volatile("int3; int $0x40");
	}
	handlers[VEC_GP] = handlers[VEC_UD] = handlers[0] = NULL;
}

void debug_init(void)
{
	handlers[VEC_DB] = on_debug;
	handlers[VEC_BP] = handlers[VEC_INT40] = on_trap;
}

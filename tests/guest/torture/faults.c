/* SPDX-License-Identifier: BSD-2-Clause */
/* Page faults of all kinds, address spaces, and programs in ring 3 that fault, call and are stepped through. */
#include "torture.h"

static uint64_t faults;

/*
 * A page of the window comes as its number says: of every four the first can be written at once, the second only read,
 * the others not executed; what is then missing comes by another fault.
 */
static void on_page_fault(struct frame *f)
{
	enum { ERR_P = 1, ERR_W = 2, ERR_U = 4, ERR_FETCH = 16 };
	uint32_t r[4];
	if (faults % 4 == 0)
		cpuid(0, 0, r); /* an exit between the fault and the look at CR2 */
	uint64_t cr2 = READ_REG(cr2), page = (cr2 - WINDOW) / PAGE, *pte = &window[space][page];
	if (page >= WINDOW_PAGES)
		bad("page fault outside the window", cr2, f->rip);
	if (!(f->error & ERR_P)) {
		CHECK("fault on a page that is there", *pte & PTE_P, 0);
		bool user = page > W_UDATA && page < W_UDATA + W_NUDATA;
		*pte = frame_of(space, (unsigned)page) | PTE_P | (user ? PTE_U : 0) |
		       (page % 4 == 1 && page < W_NHOLES ? 0 : PTE_W) | (page % 4 > 1 && page < W_NHOLES ? PTE_NX : 0);
	} else if (f->error & ERR_FETCH) {
		CHECK("fault on code that may run", *pte & PTE_NX, PTE_NX);
		*pte &= ~PTE_NX;
	} else {
		CHECK("fault on a page that may be written", *pte & PTE_W, 0);
		*pte |= PTE_W;
	}
	invlpg(cr2);
	faults++;
	hash(f->error << 32 | (cr2 - WINDOW));
}

/* What ring 3 may not do: on behind it, by the length of what is there. */
static void on_user_fault(struct frame *f)
{
	if (!(f->cs & 3))
		bad("fault of the kernel", f->vector, f->rip);
	hash(f->vector << 32 | f->error << 16 | (f->rip & 0xfff));
	uint8_t op = *(const uint8_t *)f->rip;
	f->rip += op == 0x0f ? 2 : 1;
}

static void on_user_call(struct frame *f) /* INT 0x80, from either mode */
{
	hash(f->rbx ^ f->cs ^ f->ss);
	f->rax = (uint32_t)mix(f->rsi);
}

static void on_user_leave(struct frame *f) { user_leave(f->rbx); }

uint64_t syscall(uint64_t number, uint64_t arg);
uint64_t syscall(uint64_t number, uint64_t arg)
{
	if (number == 0xff) {
		irq_off();
		__asm__ volatile("swapgs");
		user_leave(arg);
	}
	CHECK("system call", number, 1);
	hash(arg);
	return mix(arg);
}

static void unmap(unsigned page, unsigned count)
{
	for (; count--; page++) {
		window[space][page] = 0;
		invlpg(window_va(page));
	}
}

/* Read, write and run code in pages that are not there, in an order that each round has for itself. */
void part_pages(void)
{
	uint64_t before = faults, seed = mix(round_number);
	for (unsigned i = 0; i < W_NHOLES; i++) {
		unsigned page = (unsigned)(i * 5 + seed) % W_NHOLES;
		volatile uint64_t *p = (uint64_t *)(window_va(page) + 8 * (i + 1));
		uint8_t *code = (uint8_t *)window_va(page);
		switch ((i + seed) % 3) {
		case 0: *p = mix(seed + i); break;
		case 1: CHECK("part of a page that nothing writes", p[256], 0); break;
		default: code[0] = 0xc3; ((void (*)(void))(uintptr_t)code)(); /* RET */
		}
	}
	for (unsigned i = 0; i < W_NHOLES; i++) {
		unsigned page = (unsigned)(i * 5 + seed) % W_NHOLES;
		if ((i + seed) % 3 == 0)
			CHECK("what was written", *(uint64_t *)(window_va(page) + 8 * (i + 1)), mix(seed + i));
	}
	unmap(W_HOLES, W_NHOLES);
	hash(faults - before);
}

/* The same address in both spaces is other memory. */
void part_spaces(void)
{
	volatile uint64_t *p = (uint64_t *)window_va(W_HOLES + round_number % W_NHOLES);
	for (unsigned turn = 0; turn < 8; turn++) {
		if (turn > 1)
			CHECK("memory of the address space", *p, mix(round_number + turn - 2));
		*p = mix(round_number + turn);
		space_switch(turn & 1 ? 0 : 1);
	}
	for (unsigned s = 0; s < SPACES; s++) {
		space_switch(s ^ 1);
		unmap(W_HOLES, W_NHOLES);
	}
}

static void user_run(uint64_t rip, uint64_t cs)
{
	const struct user u = { .rip = WINDOW + W_UCODE * PAGE + (rip - (uintptr_t)user_start),
				.cs = cs | 3,
				.rflags = 0x202,
				.rsp = window_va(W_USTACK) + PAGE,
				.ss = SEL_UDATA | 3,
				.rdi = (uint32_t)mix(round_number),
				.rsi = window_va(W_UDATA) };
	hash(user_enter(&u));
}

void part_user(void)
{
	uint64_t steps = steps_taken;
	*(uint64_t *)window_va(W_UDATA) = mix(round_number + 1);
	*(uint64_t *)(window_va(W_UDATA) + 64) = mix(round_number + 2);
	handlers[VEC_GP] = handlers[VEC_UD] = on_user_fault;
	user_run((uintptr_t)user_start, SEL_UCODE);
	user_run((uintptr_t)user32_start, SEL_CODE32);
	handlers[VEC_GP] = handlers[VEC_UD] = NULL;
	unmap(W_UDATA + 1, W_NUDATA - 1);
	hash(steps_taken - steps);
}

void faults_init(void)
{
	handlers[VEC_PF] = on_page_fault;
	handlers[VEC_USER_CALL] = on_user_call;
	handlers[VEC_USER_LEAVE] = on_user_leave;
}

/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The MMIO emulator against the CPU of this machine: each instruction form is run natively on a buffer and emulated on
 * a device of plain memory, from the same registers and flags; registers, flags and memory must agree.
 */
#include "arch/x86/cpu.h"
#include "tests/unit/fake_vm.h"
#include "vmm/x86/mmio.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

static struct fv *f;
static uint64_t *R;

static int setup(void **state)
{
	(void)state;
	f = fv_new();
	R = f->hw.hv.gpr;
	return 0;
}
static int teardown(void **state)
{
	(void)state;
	fv_free(f);
	return 0;
}

static uint64_t seed = 88172645463325252ULL;
static uint64_t rnd(void)
{
	seed ^= seed << 13, seed ^= seed >> 7, seed ^= seed << 17;
	return seed;
}

/* ---- the native side: 16 registers and flags in, `code` called, the same out; RSP stays the test's own ---- */

uint64_t nat_reg[16], nat_flags, nat_save;
void *nat_code;
void run_native(void);
__asm__(".text\n.globl run_native\nrun_native:\n"
	"push %rbx; push %rbp; push %r12; push %r13; push %r14; push %r15\n"
	"pushq nat_flags(%rip); popfq\n"
	"mov nat_reg+0(%rip), %rax; mov nat_reg+8(%rip), %rcx; mov nat_reg+16(%rip), %rdx; mov nat_reg+24(%rip), %rbx\n"
	"mov nat_reg+40(%rip), %rbp; mov nat_reg+48(%rip), %rsi; mov nat_reg+56(%rip), %rdi; mov nat_reg+64(%rip), "
	"%r8\n"
	"mov nat_reg+72(%rip), %r9; mov nat_reg+80(%rip), %r10; mov nat_reg+88(%rip), %r11; mov nat_reg+96(%rip), "
	"%r12\n"
	"mov nat_reg+104(%rip), %r13; mov nat_reg+112(%rip), %r14; mov nat_reg+120(%rip), %r15\n"
	"call *nat_code(%rip)\n"
	"mov %rax, nat_reg+0(%rip); mov %rcx, nat_reg+8(%rip); mov %rdx, nat_reg+16(%rip); mov %rbx, nat_reg+24(%rip)\n"
	"mov %rbp, nat_reg+40(%rip); mov %rsi, nat_reg+48(%rip); mov %rdi, nat_reg+56(%rip); mov %r8, "
	"nat_reg+64(%rip)\n"
	"mov %r9, nat_reg+72(%rip); mov %r10, nat_reg+80(%rip); mov %r11, nat_reg+88(%rip); mov %r12, "
	"nat_reg+96(%rip)\n"
	"mov %r13, nat_reg+104(%rip); mov %r14, nat_reg+112(%rip); mov %r15, nat_reg+120(%rip)\n"
	"pushfq; popq nat_flags(%rip); cld\n"
	"pop %r15; pop %r14; pop %r13; pop %r12; pop %rbp; pop %rbx\nret\n");

#define FLAGS 0x8d5ULL /* CF PF AF ZF SF OF */
static uint8_t *native_code, *native_dev, *native_ram;

static int setup_native(void **state)
{
	native_code = mmap(NULL, 3 * PAGE_SIZE, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	assert_true(native_code != MAP_FAILED);
	native_dev = native_code + PAGE_SIZE;
	native_ram = native_code + 2 * PAGE_SIZE;
	nat_code = native_code;
	return setup(state);
}

/* A pointer of the native run as the guest has it. */
static uint64_t guest_of(uint64_t v)
{
	uint64_t d = (uintptr_t)native_dev, r = (uintptr_t)native_ram;
	return v - d < PAGE_SIZE ? v - d + FV_DEV : v - r + 64 < PAGE_SIZE + 64 ? v - r + FV_DATA : v;
}

static const char *hex(const uint8_t *code, size_t n)
{
	static char text[64];
	for (size_t i = 0; i < n; i++)
		snprintf(text + 3 * i, sizeof(text) - 3 * i, "%02x ", code[i]);
	return text;
}

/* Run `code` both ways with the device at RBX (and RDI, RSI as given, native pointers). */
static void both(const uint8_t *code, size_t n, uint64_t rsi, uint64_t rdi, uint64_t rcx, bool down, uint64_t undefined)
{
	bool write = false;
	struct why w = { "" };
	for (unsigned i = 0; i < 16; i++)
		nat_reg[i] = rnd();
	nat_reg[REG_RBX] = (uintptr_t)native_dev + 0x100;
	nat_reg[REG_RSI] = rsi ? rsi : nat_reg[REG_RSI];
	nat_reg[REG_RDI] = rdi ? rdi : nat_reg[REG_RDI];
	nat_reg[REG_RCX] = rdi ? rcx : nat_reg[REG_RCX];
	nat_flags = 0x202 | (rnd() & FLAGS) | (down ? BIT(10) : 0);
	for (unsigned i = 0; i < PAGE_SIZE; i += 8) {
		put_le64(native_dev + i, rnd() & (rnd() % 3 ? ~0ULL : 0xff));
		put_le64(native_ram + i, rnd());
	}
	if (rnd() % 4 == 0) /* equal operands at times */
		put_le64(native_dev + 0x100, nat_reg[rnd() % 16]);
	memcpy(native_code, code, n);
	native_code[n] = 0xc3;

	fv_reset(f);
	fv_code(f, code, n);
	memcpy(R, nat_reg, sizeof(nat_reg));
	for (unsigned i = 0; i < 16; i++)
		R[i] = guest_of(R[i]);
	if (n > 8 && (code[n - 9] & 0xfc) == 0xa0) { /* MOV with an absolute address */
		uint64_t at = (uintptr_t)native_dev + 0x100;
		memcpy(native_code + n - 8, &at, 8);
		put_le64(gmem_ptr(&f->vm.mem, FV_CODE + n - 8, 8), FV_DEV + 0x100);
	}
	f->hw.hv.rflags = nat_flags;
	memcpy(f->dev, native_dev, PAGE_SIZE);
	memcpy(gmem_ptr(&f->vm.mem, FV_DATA, PAGE_SIZE), native_ram, PAGE_SIZE);
	run_native();
	for (unsigned i = 0; i < 1000 && f->hw.hv.rip == FV_CODE; i++) /* a repeated one takes an exit an element */
		if (mmio_emulate(&f->vcpu, FV_DEV_GPA + 0x100, write, &w))
			fail_msg("%s: %s", hex(code, n), w.text);
	if (f->hw.hv.rip != FV_CODE + n)
		fail_msg("%s: RIP moved by %lld", hex(code, n), (long long)(f->hw.hv.rip - FV_CODE));
	for (unsigned i = 0; i < 16; i++)
		if (i != REG_RSP && R[i] != guest_of(nat_reg[i]))
			fail_msg("%s: register %u is %llx, the CPU says %llx", hex(code, n), i,
				 (unsigned long long)R[i], (unsigned long long)guest_of(nat_reg[i]));
	if ((f->hw.hv.rflags ^ nat_flags) & (FLAGS & ~undefined))
		fail_msg("%s: flags %llx, the CPU says %llx", hex(code, n), (unsigned long long)f->hw.hv.rflags & FLAGS,
			 (unsigned long long)nat_flags & FLAGS);
	if (memcmp(f->dev, native_dev, PAGE_SIZE))
		fail_msg("%s: the device's memory differs", hex(code, n));
	if (memcmp(gmem_ptr(&f->vm.mem, FV_DATA, PAGE_SIZE), native_ram, PAGE_SIZE))
		fail_msg("%s: RAM differs", hex(code, n));
}

/*
 * Every prefix and register with an opcode and a memory operand at (%rbx); imm: bytes of an immediate (4: by operand
 * size).
 */
static void forms(const uint8_t *op, unsigned nop, int group, unsigned imm, bool byte, bool lock, uint64_t undefined)
{
	static const uint8_t prefix[] = { 0, 0x66, 0x48, 0x40, 0x44, 0x4c };
	for (unsigned p = 0; p < ARRAY_SIZE(prefix); p++)
		for (unsigned reg = 0; reg < 8; reg++) {
			uint8_t c[16];
			size_t n = 0;
			bool rex = prefix[p] >= 0x40 && prefix[p] != 0x66, high8 = byte && !rex,
			     extended = rex && (prefix[p] & 4);
			unsigned r = group >= 0 ? (unsigned)group : reg;
			if (group < 0 && !extended &&
			    (reg == REG_RBX || (high8 && reg == 7) || (reg == REG_RSP && !high8)))
				continue; /* the pointer itself, and RSP: not comparable */
			if (lock)
				c[n++] = 0xf0;
			if (prefix[p])
				c[n++] = prefix[p];
			memcpy(c + n, op, nop);
			n += nop;
			c[n++] = (uint8_t)(r << 3 | 3);
			unsigned ni = imm == 4 && prefix[p] == 0x66 ? 2 : imm;
			for (unsigned i = 0; i < ni; i++)
				c[n++] = (uint8_t)rnd();
			for (unsigned i = 0; i < 4; i++)
				both(c, n, 0, 0, 0, false, undefined);
		}
}
#define OP(...) (const uint8_t[]){ __VA_ARGS__ }, sizeof((const uint8_t[]){ __VA_ARGS__ })

static void test_mov(void **state)
{
	(void)state;
	forms(OP(0x88), -1, 0, true, false, 0);
	forms(OP(0x89), -1, 0, false, false, 0);
	forms(OP(0x8a), -1, 0, true, false, 0);
	forms(OP(0x8b), -1, 0, false, false, 0);
	forms(OP(0xc6), 0, 1, true, false, 0);
	forms(OP(0xc7), 0, 4, false, false, 0);
	forms(OP(0x0f, 0xb6), -1, 0, false, false, 0);
	forms(OP(0x0f, 0xb7), -1, 0, false, false, 0);
	forms(OP(0x0f, 0xbe), -1, 0, false, false, 0);
	forms(OP(0x0f, 0xbf), -1, 0, false, false, 0);
	forms(OP(0x63), -1, 0, false, false, 0);
	for (uint8_t op = 0xa0; op <= 0xa3; op++) {
		both((const uint8_t[]){ op, 1, 2, 3, 4, 5, 6, 7, 8 }, 9, 0, 0, 0, false, 0);
		both((const uint8_t[]){ 0x66, op, 1, 2, 3, 4, 5, 6, 7, 8 }, 10, 0, 0, 0, false, 0);
		both((const uint8_t[]){ 0x48, op, 1, 2, 3, 4, 5, 6, 7, 8 }, 10, 0, 0, 0, false, 0);
	}
}

#define AF BIT(4) /* undefined after a logical operation */
static void test_logic(void **state)
{
	static const uint8_t base[] = { 0x08, 0x20, 0x30 }, slash[] = { 1, 4, 6 };
	(void)state;
	for (unsigned i = 0; i < 3; i++) {
		forms(OP(base[i]), -1, 0, true, false, AF);
		forms(OP(base[i] + 1), -1, 0, false, false, AF);
		forms(OP(base[i] + 2), -1, 0, true, false, AF);
		forms(OP(base[i] + 3), -1, 0, false, false, AF);
		forms(OP(base[i] + 1), -1, 0, false, true, AF);
		forms(OP(0x80), slash[i], 1, true, false, AF);
		forms(OP(0x81), slash[i], 4, false, false, AF);
		forms(OP(0x83), slash[i], 1, false, false, AF);
		forms(OP(0x81), slash[i], 4, false, true, AF);
	}
	forms(OP(0x84), -1, 0, true, false, AF);
	forms(OP(0x85), -1, 0, false, false, AF);
	forms(OP(0xf6), 0, 1, true, false, AF);
	forms(OP(0xf7), 0, 4, false, false, AF);
}

static void test_compare_exchange(void **state)
{
	(void)state;
	forms(OP(0x38), -1, 0, true, false, 0);
	forms(OP(0x39), -1, 0, false, false, 0);
	forms(OP(0x3a), -1, 0, true, false, 0);
	forms(OP(0x3b), -1, 0, false, false, 0);
	forms(OP(0x80), 7, 1, true, false, 0);
	forms(OP(0x81), 7, 4, false, false, 0);
	forms(OP(0x83), 7, 1, false, false, 0);
	forms(OP(0x86), -1, 0, true, false, 0);
	forms(OP(0x87), -1, 0, false, false, 0);
	forms(OP(0x87), -1, 0, false, true, 0);
}

static void test_strings(void **state)
{
	static const uint8_t prefix[] = { 0, 0x66, 0x48 };
	uint64_t dev = (uintptr_t)native_dev + 0x100, ram = (uintptr_t)native_ram + 0x200;
	(void)state;
	for (unsigned p = 0; p < 3; p++)
		for (unsigned rep = 0; rep < 3; rep++)
			for (uint64_t count = 0; count <= (rep ? 5 : 0); count++)
				for (uint8_t op = 0; op < 4; op++) {
					static const uint8_t ops[] = { 0xaa, 0xab, 0xa4, 0xa5 };
					uint8_t c[4];
					size_t n = 0;
					if (rep)
						c[n++] = rep == 1 ? 0xf3 : 0xf2; /* F2 repeats these as well */
					if (prefix[p])
						c[n++] = prefix[p];
					c[n++] = ops[op];
					for (unsigned down = 0; down < 2; down++) {
						both(c, n, ram, dev, count, down, 0); /* to the device */
						if (op >= 2)
							both(c, n, dev, ram, count, down, 0); /* from it */
						if (op >= 2)
							both(c, n, dev, dev + 0x40, count, down, 0);
					}
				}
}

static int emulate(const uint8_t *code, size_t n)
{
	struct why w = { "" };
	fv_code(f, code, n);
	int err = mmio_emulate(&f->vcpu, FV_DEV_GPA + 0x100, true, &w);
	assert_true(!err || (w.text[0] && f->hw.hv.rip == FV_CODE));
	return err;
}

/* What it does not do is refused with nothing changed but device reads. */
static void test_refused(void **state)
{
	static const struct {
		uint8_t n, c[10];
		/* clang-format off */
	} cases[] = {
		{ 4, { 0xf2, 0x0f, 0x10, 0x03 } }, /* MOVSD xmm0, [rbx]: SSE, not the string move */
		{ 4, { 0xf2, 0x0f, 0x11, 0x03 } },
		{ 2, { 0x64, 0xa4 } },
		{ 2, { 0x65, 0xa5 } }, /* FS:, GS: as source */
		{ 2, { 0x67, 0xa4 } }, /* ESI, EDI */
		{ 2, { 0x8c, 0x1b } },
		{ 2, { 0x8e, 0x1b } }, /* segment registers */
		{ 2, { 0x01, 0x03 } },
		{ 3, { 0x0f, 0xc1, 0x03 } },
		{ 2, { 0xff, 0x33 } },
		{ 3, { 0x0f, 0x6f, 0x03 } },
		{ 1, { 0x06 } },
		{ 2, { 0x0f, 0x0b } },
	};
	/* clang-format on */
	(void)state;
	for (unsigned i = 0; i < ARRAY_SIZE(cases); i++) {
		uint64_t before[16];
		fv_reset(f);
		R[REG_RBX] = FV_DEV + 0x100, R[REG_RSI] = FV_DATA, R[REG_RDI] = FV_DEV + 0x100;
		memcpy(before, R, sizeof(before));
		if (!emulate(cases[i].c, cases[i].n))
			fail_msg("%s was emulated", hex(cases[i].c, cases[i].n));
		assert_memory_equal(before, R, sizeof(before));
		assert_int_equal(f->nwrites, 0);
	}
}

/* The far end of a string move obeys the guest's page tables, which the CPU has not asked yet. */
static void test_rights(void **state)
{
	static const uint8_t movsb[] = { 0xa4 };
	uint8_t b = 0;
	(void)state;
	for (unsigned cpl = 0; cpl <= 3; cpl += 3)
		for (unsigned pte = 0; pte < 8; pte++)
			for (unsigned wp = 0; wp < 2; wp++) {
				fv_reset(f);
				*(uint64_t *)gmem_ptr(&f->vm.mem, 0x4000, 8) |= 4; /* the device is the user's */
				*fv_pte(f, FV_CODE) |= 4;
				*fv_pte(f, FV_DATA) = FV_DATA | pte;
				f->vmcb.cpl = (uint8_t)cpl;
				f->vmcb.cr0 = CR0_PE | CR0_PG | (wp ? CR0_WP : 0);
				R[REG_RSI] = FV_DEV, R[REG_RDI] = FV_DATA;
				f->dev[0] = 0x77;
				assert_int_equal(gmem_write(&f->vm.mem, FV_DATA, &(uint8_t){ 1 }, 1), 0);
				bool may = (pte & 1) && (cpl ? (pte & 6) == 6 : (pte & 2) || !wp);
				uint64_t pf = HV_EVENT_ERR(VEC_PF, (pte & 1) | 2 | (cpl ? 4 : 0));
				assert_int_equal(emulate(movsb, 1), 0);
				assert_int_equal(f->vmcb.eventinj, may ? 0 : pf);
				assert_true(may || (f->vmcb.cr2 == FV_DATA && f->hw.hv.rip == FV_CODE));
				assert_int_equal(gmem_read(&f->vm.mem, FV_DATA, &b, 1), 0);
				assert_int_equal(b, may ? 0x77 : 1);
				assert_int_equal(*fv_pte(f, FV_DATA) >> 6 & 1, may);
			}
}

/* Code that ends at a page that is not mapped: what is there is enough, or it is refused. */
static void test_code_at_the_edge(void **state)
{
	struct why w = { "" };
	(void)state;
	fv_reset(f);
	*fv_pte(f, FV_CODE + PAGE_SIZE) = 0;
	memcpy(gmem_ptr(&f->vm.mem, FV_CODE + PAGE_SIZE - 2, 2), "\x89\x03", 2);
	f->hw.hv.rip = FV_CODE + PAGE_SIZE - 2;
	R[REG_RBX] = FV_DEV, R[REG_RAX] = 0x12345678;
	assert_int_equal(mmio_emulate(&f->vcpu, FV_DEV_GPA, true, &w), 0);
	assert_int_equal(get_le32(f->dev), 0x12345678);
	/* Unmapped meanwhile, the second half or all of it: it runs again and faults by itself. */
	static const uint64_t gone[] = { FV_CODE + PAGE_SIZE - 1, MIB(100) };
	f->nwrites = 0;
	for (unsigned i = 0; i < ARRAY_SIZE(gone); i++) {
		f->hw.hv.rip = gone[i];
		assert_int_equal(mmio_emulate(&f->vcpu, FV_DEV_GPA, true, &w), 0);
		assert_true(f->hw.hv.rip == gone[i] && !f->nwrites && !f->vmcb.eventinj && !f->fail[0]);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_mov),
		cmocka_unit_test(test_logic),
		cmocka_unit_test(test_compare_exchange),
		cmocka_unit_test(test_strings),
		cmocka_unit_test(test_refused),
		cmocka_unit_test(test_rights),
		cmocka_unit_test(test_code_at_the_edge),
	};
	return cmocka_run_group_tests_name("mmio", tests, setup_native, teardown);
}

/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What is set at the beginning of each round, to values of its own, and must be the same at its end: MSRs, debug
 * registers, FPU, segment bases, devices' registers.
 */
#include "torture.h"

enum {
	MSR_SYSENTER_CS = 0x174,
	MSR_SYSENTER_ESP = 0x175,
	MSR_SYSENTER_EIP = 0x176,
	MSR_PAT = 0x277,
	MSR_MTRR_DEF_TYPE = 0x2ff,
	MSR_STAR = 0xc0000081,
	MSR_LSTAR = 0xc0000082,
	MSR_CSTAR = 0xc0000083,
	MSR_SFMASK = 0xc0000084,
	MSR_FS_BASE = 0xc0000100,
	MSR_GS_BASE = 0xc0000101,
	MSR_KERNEL_GS_BASE = 0xc0000102,
	MSR_TSC_AUX = 0xc0000103,
};
static struct {
	uint32_t index;
	uint64_t value;
} msr[16];
static unsigned nmsr;

static struct {
	uint8_t st[4][16], ymm[16][32];
	uint32_t mxcsr;
	uint16_t fcw, pad;
} fpu __attribute__((aligned(64)));
static struct {
	uint8_t fx[512], ymm[16][32];
} now __attribute__((aligned(64)));
void fpu_load(const void *f, bool avx), fpu_store(void *f, bool avx);

static void msr_set(uint32_t index, uint64_t value)
{
	wrmsr(index, value);
	msr[nmsr].index = index;
	msr[nmsr++].value = value;
}

static void msrs_set(uint64_t x)
{
	static const uint8_t types[] = { 0, 1, 4, 5, 6, 7 };
	uint64_t pat = 0x070406; /* the first four are in use */
	for (unsigned i = 4; i < 8; i++)
		pat |= (uint64_t)types[(x >> 4 * i & 15) % 6] << 8 * i;
	nmsr = 0;
	msr_set(MSR_SYSENTER_CS, x & 0xfff8);
	msr_set(MSR_SYSENTER_ESP, x >> 8 & 0x7fffffff);
	msr_set(MSR_SYSENTER_EIP, x >> 16 & 0x7fffffff);
	msr_set(MSR_PAT, pat);
	msr_set(MSR_MTRR_DEF_TYPE, 0x800 | types[x % 5]);
	msr_set(MSR_STAR, (uint64_t)SEL_CODE << 32 | (uint64_t)(SEL_CODE32 | 3) << 48 | (uint32_t)x);
	msr_set(MSR_LSTAR, (uintptr_t)syscall_entry);
	msr_set(MSR_CSTAR, x & 0x7fffffffff);
	msr_set(MSR_SFMASK, 0x40700 | (x & BIT(21)));
	msr_set(MSR_FS_BASE, window_va(W_UDATA));
	msr_set(MSR_GS_BASE, window_va(W_UDATA) + 64);
	msr_set(MSR_KERNEL_GS_BASE, (uintptr_t)&percpu);
	msr_set(MSR_TSC_AUX, (uint32_t)(x >> 20));
	msr_set(X2_LVT_THERMAL, 1 << 16 | (0x20 + x % 0x80));
}

static void fpu_set(uint64_t x)
{
	for (unsigned i = 0; i < 4; i++) { /* 80 bits: a number between 1 and 2, either sign */
		uint64_t m = mix(x + i) | BIT(63);
		uint16_t e = 0x3fff | (uint16_t)(x >> i & 1) << 15;
		memcpy(fpu.st[i], &m, 8);
		memcpy(fpu.st[i] + 8, &e, 2);
	}
	for (unsigned i = 0; i < 16; i++)
		for (unsigned k = 0; k < 8; k++) { /* floats like that; what is above XMM7 is any bits */
			uint32_t v = (uint32_t)mix(x + i * 8 + k);
			if (i < 8)
				v = (v & 0x807fffff) | 0x3f800000;
			memcpy(fpu.ymm[i] + 4 * k, &v, 4);
		}
	fpu.mxcsr = 0x1f80 | (x & 3) << 13 | (x & 4 ? BIT(15) : 0); /* rounding, flush to zero */
	fpu.fcw = 0x037f | (uint16_t)((x >> 3 & 3) << 10);
	fpu_load(&fpu, have_avx);
}

/* The top of the stack was loaded last. */
static void fpu_check(void)
{
	uint64_t got, want;
	fpu_store(&now, have_avx);
	CHECK("FCW", *(uint16_t *)now.fx, fpu.fcw);
	CHECK("MXCSR", *(uint32_t *)(now.fx + 24) & 0xffc0, fpu.mxcsr);
	hash(*(uint32_t *)(now.fx + 24) ^ (uint64_t) * (uint16_t *)(now.fx + 2) << 32);
	for (unsigned i = 0; i < 4; i++) {
		memcpy(&got, now.fx + 32 + 16 * i, 8);
		memcpy(&want, fpu.st[3 - i], 8);
		CHECK("x87 register", got, want);
	}
	for (unsigned i = 8; i < 16; i++)
		for (unsigned k = 0; k < (have_avx ? 4 : 2); k++) {
			memcpy(&got, have_avx ? now.ymm[i] + 8 * k : now.fx + 160 + 16 * i + 8 * k, 8);
			memcpy(&want, fpu.ymm[i] + 8 * k, 8);
			CHECK(k < 2 ? "XMM register" : "upper half of a YMM register", got, want);
		}
}

static void on_no_fpu(struct frame *f)
{
	hash(f->vector);
	__asm__ volatile("clts");
}

/* Work in registers over exits; and the way of systems that switch the FPU lazily. */
void part_fpu(void)
{
	WRITE_REG(cr8, 1 + (round_number & 1)); /* below all vectors in use */
	hash(fpu_work(256));
	CHECK("CR8", READ_REG(cr8), 1 + (round_number & 1));
	WRITE_REG(cr8, 0);
	WRITE_REG(cr0, READ_REG(cr0) | BIT(3)); /* TS */
	handlers[VEC_NM] = on_no_fpu;
	hash(fpu_work(64));
	handlers[VEC_NM] = NULL;
	CHECK("CR0.TS", READ_REG(cr0) & BIT(3), 0);
}

/* ---- devices and segments ---- */

static void ldt_check(unsigned which)
{
	uint64_t flags, base;
	uint16_t sel;
	__asm__ volatile("sldt %0" : "=r"(sel));
	CHECK("LDTR", sel, SEL_LDT + 16 * which);
	flags = irq_save();
	base = rdmsr(MSR_FS_BASE);
	__asm__ volatile("mov %0, %%fs" ::"r"(8 | 4 | 3));
	CHECK("base of a segment of the LDT", rdmsr(MSR_FS_BASE), 0x300000 + 0x1230 * which);
	__asm__ volatile("mov %0, %%fs" ::"r"(0));
	wrmsr(MSR_FS_BASE, base);
	irq_restore(flags);
}

void part_devices(void)
{
	static uint8_t in[16];
	uint8_t out[16];
	uint16_t tr;
	for (unsigned i = 0; i < sizeof(out); i++)
		out[i] = (uint8_t)mix(round_number + i);
	const void *from = out;
	void *to = in;
	uint64_t n = sizeof(out);
	__asm__ volatile("rep outsb" : "+S"(from), "+c"(n) : "d"(0x3ff) : "memory");
	CHECK("count of REP OUTS", n, 0);
	n = sizeof(in);
	__asm__ volatile("rep insb" : "+D"(to), "+c"(n) : "d"(0x3ff) : "memory");
	CHECK("end of REP INS", (uintptr_t)to, (uintptr_t)in + sizeof(in));
	for (unsigned i = 0; i < sizeof(in); i++)
		CHECK("scratch register", in[i], out[sizeof(out) - 1]);
	__asm__ volatile("str %0" : "=r"(tr));
	CHECK("TR", tr, SEL_TSS);
	ldt_check(round_number & 1);
	if (have_avx) {
		uint32_t lo, hi;
		__asm__ volatile("xgetbv" : "=a"(lo), "=d"(hi) : "c"(0));
		CHECK("XCR0", lo, 7);
	}
}

static uint64_t cr[3]; /* 0, 3, 4 */

void registers_set(void)
{
	uint64_t x = mix(round_number ^ 0xabcdef);
	msrs_set(x);
	fpu_set(x);
	WRITE_REG(dr0, x & 0xffffffffffULL);
	WRITE_REG(dr1, x >> 1 & 0xffffffffffULL);
	WRITE_REG(dr2, x >> 2 & 0xffffffffffULL);
	WRITE_REG(dr3, x >> 3 & 0xffffffffffULL);
	WRITE_REG(dr6, 0xffff0ff0 | (x & 0xe));
	__asm__ volatile("lldt %w0" ::"r"(SEL_LDT + 16 * (round_number & 1)));
	out32(0xcf8, 0x80000000 | (uint32_t)(x & 0xfffc));
	out8(0x3fb, 0x80 | 3); /* divisor latch */
	out8(0x3f8, (uint8_t)x);
	out8(0x3f9, 0);
	out8(0x3fb, 3);
	cr[0] = READ_REG(cr0);
	cr[1] = READ_REG(cr3);
	cr[2] = READ_REG(cr4);
	CHECK("DR6", READ_REG(dr6) & 0xf, x & 0xe);
}

void registers_check(void)
{
	uint64_t x = mix(round_number ^ 0xabcdef);
	for (unsigned i = 0; i < nmsr; i++)
		if (rdmsr(msr[i].index) != msr[i].value) {
			print("torture: MSR %x\n", (uint64_t)msr[i].index);
			CHECK("MSR", rdmsr(msr[i].index), msr[i].value);
		}
	CHECK("TSC_AUX", tsc_aux(), (uint32_t)(x >> 20));
	fpu_check();
	CHECK("DR0", READ_REG(dr0), x & 0xffffffffffULL);
	CHECK("DR1", READ_REG(dr1), x >> 1 & 0xffffffffffULL);
	CHECK("DR2", READ_REG(dr2), x >> 2 & 0xffffffffffULL);
	CHECK("DR3", READ_REG(dr3), x >> 3 & 0xffffffffffULL);
	CHECK("DR7", READ_REG(dr7), 0x400);
	CHECK("CR0", READ_REG(cr0), cr[0]);
	CHECK("CR3", READ_REG(cr3), cr[1]);
	CHECK("CR4", READ_REG(cr4), cr[2]);
	CHECK("CONFIG_ADDRESS", in32(0xcf8), 0x80000000 | (uint32_t)(x & 0xfffc));
	out8(0x3fb, 0x80 | 3);
	uint8_t latch = in8(0x3f8);
	out8(0x3fb, 3);
	CHECK("UART's divisor", latch, (uint8_t)x);
}

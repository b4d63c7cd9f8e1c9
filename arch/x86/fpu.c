/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * XSAVE state of guests (fpu.h; SDM 1 ch. 13). The standard format is used, so that an area means the same on any host.
 */
#include "arch/x86/fpu.h"
#include "arch/x86/cpu.h"
#include "arch/x86/features.h"
#include "arch/x86/hw/cpuid_bits.h"
#include "arch/x86/hw/xsave.h"

static uint64_t mask; /* 0: no XSAVE */
static uint32_t area_size = FXSAVE_SIZE;
static uint32_t end[64];    /* of each component in the standard format */
static uint32_t mxcsr_mask; /* bits that this CPU's MXCSR has */
/* A restore leaves FIP, FDP and FOP as they are if no exception is pending: AMD's before Zen 2. */
static bool leaks_pointers;

static void xsetbv(uint64_t v)
{
	__asm__ volatile("xsetbv" ::"c"(0), "a"((uint32_t)v), "d"((uint32_t)(v >> 32)) : "memory");
}
static uint64_t xgetbv(void)
{
	uint32_t lo, hi;
	__asm__ volatile("xgetbv" : "=a"(lo), "=d"(hi) : "c"(0));
	return (uint64_t)hi << 32 | lo;
}

void fpu_init(void)
{
	bool intel = cpuid(0, 0).ebx == CPUID0_EBX_GENU; /* Hygon's are AMD's */
	leaks_pointers = !intel && !(cpuid(0x80000008, 0).ebx & CPUID80000008_EBX_RSTRFPERR);
	mask = feature_xcr0(&cpuid_this_cpu, &area_size);
	for (unsigned i = 2; i < 63; i++) {
		struct cpuid_regs c = cpuid(0xd, i); /* EAX size, EBX offset in the standard format */
		end[i] = mask & BIT(i) ? c.eax + c.ebx : 0;
	}
}

void fpu_cpu_on(void)
{
	write_cr4(read_cr4() | CR4_OSFXSR | CR4_OSXMMEXCPT | (mask ? CR4_OSXSAVE : 0));
	write_cr0((read_cr0() | CR0_MP | CR0_NE) & ~(CR0_EM | CR0_TS));
	if (mask)
		xsetbv(mask);
	if (!mxcsr_mask) { /* the boot CPU: all are alike */
		uint32_t area[FXSAVE_SIZE / 4] __attribute__((aligned(16)));
		__asm__ volatile("fxsave64 (%0)" ::"r"(area) : "memory");
		mxcsr_mask = area[FXSAVE_MXCSR_MASK / 4];
		mxcsr_mask = mxcsr_mask ? mxcsr_mask : 0xffbf; /* SDM 1 11.6.6 */
	}
}

uint64_t fpu_get_xcr0(void) { return mask ? xgetbv() : XCR0_X87; }
uint64_t fpu_xcr0_mask(void) { return mask; }
uint32_t fpu_area_size(void) { return area_size; }

uint32_t fpu_used_size(const void *area)
{
	uint64_t bv = mask ? *(const uint64_t *)((const uint8_t *)area + XSTATE_BV) & mask : 0;
	uint32_t size = mask ? XSAVE_HEADER_END : FXSAVE_SIZE;
	for (; bv & ~3ULL; bv &= bv - 1)
		size = MAX(size, end[__builtin_ctzll(bv)]);
	return size;
}

bool fpu_xcr0_valid(uint64_t xcr0) { return fpu_xcr0_is_valid(xcr0, mask); }

bool fpu_mxcsr_valid(uint32_t mxcsr) { return !(mxcsr & ~mxcsr_mask); }

void fpu_set_xcr0(uint64_t xcr0)
{
	if (mask)
		xsetbv(xcr0);
}

/* Whatever the guest's XCR0 says, all components are moved: a guest may use SSE with XCR0 = 1. */
void fpu_load(const void *area, uint64_t xcr0)
{
	static const uint32_t word;
	if (leaks_pointers) /* so that those are tern's, and not the VM's that ran here before */
		__asm__ volatile("fnclex; emms; fildl %0" ::"m"(word));
	if (!mask) {
		__asm__ volatile("fxrstor64 (%0)" ::"r"(area) : "memory");
		return;
	}
	xsetbv(mask);
	__asm__ volatile("xrstor64 (%0)" ::"r"(area), "a"((uint32_t)mask), "d"((uint32_t)(mask >> 32)) : "memory");
	xsetbv(xcr0);
}

uint64_t fpu_save(void *area)
{
	if (!mask) {
		__asm__ volatile("fxsave64 (%0)" ::"r"(area) : "memory");
		return XCR0_X87;
	}
	uint64_t xcr0 = xgetbv();
	xsetbv(mask);
	__asm__ volatile("xsave64 (%0)" ::"r"(area), "a"((uint32_t)mask), "d"((uint32_t)(mask >> 32)) : "memory");
	return xcr0;
}

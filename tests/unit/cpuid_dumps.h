/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What CPUID answers on real machines: recorded facts, the leaves that features.def and the CPU models read. Sources:
 * [v] libvirt's tests/cputestdata, [c] libcpuid's tests (the file's name stands with each machine), [q] feature-words
 * of QEMU 7.2.22's `-accel tcg -cpu EPYC,+svm,+npt`, asked over QMP. Not every recorder asked for the subleaves of 0xD:
 *   (s)  not recorded; Intel's places, as on the Xeon D-1718T. Component 9 as on a laptop of Intel's whose leaf 0xD
 *        was posted to binutils' gdb-patches list in the thread on NT_X86_XSAVE_LAYOUT
 *   (2)  not recorded; 0xD.0:ECX = 832 leaves component 2 no other place
 */
#pragma once
#include "arch/x86/features.h"
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <cmocka.h>

#define INTEL 0x756e6547, 0x6c65746e, 0x49656e69
#define AMD   0x68747541, 0x444d4163, 0x69746e65

static const struct cpu_dump {
	const char *name;
	const char *portable_lacks; /* why cpu = portable is refused there; NULL: it is not */
	bool amd;
	struct {
		uint32_t leaf, sub;
		struct cpuid_regs r;
	} row[20];
} machines[] = {
	/* clang-format off */
	{ "Sandy Bridge, Xeon E5-2687W", "fma (CPUID 0x1.0:ECX[12])", false, { /* [c] intel/core_2nd_gen/xeon-sandy-e-e5 */
		{ 0, 0, { 0xd, INTEL } },
		{ 1, 0, { 0x000206d7, 0x00200800, 0x1fbee3ff, 0xbfebfbff } },
		{ 7, 0, { 0, 0, 0, 0 } },
		{ 0xd, 0, { 0x7, 0x340, 0x340, 0 } }, { 0xd, 2, { 0x100, 0x240, 0, 0 } }, /* (2) */
		{ 0x80000000, 0, { 0x80000008, 0, 0, 0 } },
		{ 0x80000001, 0, { 0, 0, 0x00000001, 0x2c100000 } }, /* recorded by a 32-bit program: no SYSCALL */
		{ 0x80000008, 0, { 0x302e, 0, 0, 0 } } } },
	{ "Haswell, Core i5-4670T", NULL, false, { /* [v] x86-cpuid-Core-i5-4670T.xml */
		{ 0, 0, { 0xd, INTEL } },
		{ 1, 0, { 0x000306c3, 0x00100800, 0x7ffafbff, 0xbfebfbff } },
		{ 2, 0, { 0x76036301, 0x00f0b6ff, 0, 0x00c10000 } },
		{ 4, 0, { 0x1c004121, 0x01c0003f, 0x3f, 0 } }, { 4, 1, { 0x1c004122, 0x01c0003f, 0x3f, 0 } },
		{ 4, 2, { 0x1c004143, 0x01c0003f, 0x1ff, 0 } }, { 4, 3, { 0x1c03c163, 0x02c0003f, 0x1fff, 6 } },
		{ 7, 0, { 0, 0x00002fbb, 0, 0 } },
		{ 0xd, 0, { 0x7, 0x340, 0x340, 0 } }, { 0xd, 2, { 0x100, 0x240, 0, 0 } },
		{ 0x80000000, 0, { 0x80000008, 0, 0, 0 } },
		{ 0x80000001, 0, { 0, 0, 0x00000021, 0x2c100800 } },
		{ 0x80000006, 0, { 0, 0, 0x01006040, 0 } },
		{ 0x80000008, 0, { 0x3027, 0, 0, 0 } } } },
	{ "Cascade Lake, Xeon Platinum 8269CY", NULL, false, { /* [c] intel/core_6th_gen/xeon-clx */
		{ 0, 0, { 0x16, INTEL } },
		{ 1, 0, { 0x00050656, 0x56400800, 0x7ffefbff, 0xbfebfbff } },
		{ 7, 0, { 0, 0xd39ffffb, 0x00000818, 0xbc000400 } },
		{ 0xd, 0, { 0x2ff, 0xa88, 0xa88, 0 } }, { 0xd, 2, { 0x100, 0x240, 0, 0 } }, /* (s) */
		{ 0xd, 5, { 0x40, 0x440, 0, 0 } }, { 0xd, 6, { 0x200, 0x480, 0, 0 } }, { 0xd, 7, { 0x400, 0x680, 0, 0 } },
		{ 0xd, 9, { 8, 0xa80, 0, 0 } },
		{ 0x80000000, 0, { 0x80000008, 0, 0, 0 } },
		{ 0x80000001, 0, { 0, 0, 0x00000121, 0x2c100800 } },
		{ 0x80000008, 0, { 0x302e, 0, 0, 0 } } } },
	{ "Ice Lake, Xeon D-1718T", NULL, false, { /* [c] intel/core_10th_gen/ice-lake-xeon-d, recorded in Hyper-V's root */
		{ 0, 0, { 0x1b, INTEL } },
		{ 1, 0, { 0x000606c1, 0x00200800, 0xfffaf387, 0xbfebfbff } },
		{ 7, 0, { 0, 0xf3bfbfb9, 0x00415f46, 0xbc000410 } },
		{ 0xd, 0, { 0xe7, 0xa80, 0xa80, 0 } }, { 0xd, 1, { 0xf, 0x980, 0, 0 } }, { 0xd, 2, { 0x100, 0x240, 0, 0 } },
		{ 0xd, 5, { 0x40, 0x440, 0, 0 } }, { 0xd, 6, { 0x200, 0x480, 0, 0 } }, { 0xd, 7, { 0x400, 0x680, 0, 0 } },
		{ 0x80000000, 0, { 0x80000008, 0, 0, 0 } },
		{ 0x80000001, 0, { 0, 0, 0x00000121, 0x2c100800 } },
		{ 0x80000008, 0, { 0x392e, 0, 0, 0 } } } },
	{ "Piledriver, Opteron 6380", "movbe (CPUID 0x1.0:ECX[22])", true, { /* [c] amd/bulldozer/opteron-abu-dhabi */
		{ 0, 0, { 0xd, AMD } },
		{ 1, 0, { 0x00600f20, 0x00100800, 0x3e98320b, 0x178bfbff } },
		{ 7, 0, { 0, 0x00000008, 0, 0 } },
		{ 0xd, 0, { 0x7, 0x340, 0x3c0, 0x40000000 } }, { 0xd, 2, { 0x100, 0x240, 0, 0 } },
		{ 0xd, 62, { 0x80, 0x340, 0, 0 } }, /* LWP */
		{ 0x80000000, 0, { 0x8000001e, AMD } },
		{ 0x80000001, 0, { 0x00600f20, 0x30000000, 0x01eb3fff, 0x2fd3fbff } },
		{ 0x80000005, 0, { 0xff40ff18, 0xff40ff30, 0x10040140, 0x40020140 } },
		{ 0x80000008, 0, { 0x3030, 0x1000, 0x500f, 0 } } } },
	{ "Excavator, Opteron X3216", NULL, true, { /* [c] amd/bulldozer/amd-opteron-x3216-apu */
		{ 0, 0, { 0xd, AMD } },
		{ 1, 0, { 0x00660f01, 0x00020800, 0x7ed8320b, 0x178bfbff } },
		{ 7, 0, { 0, 0x000001a9, 0, 0 } },
		{ 0xd, 0, { 0x7, 0x340, 0x3c0, 0x40000000 } }, { 0xd, 1, { 1, 0, 0, 0 } }, { 0xd, 2, { 0x100, 0x240, 0, 0 } },
		{ 0xd, 62, { 0x80, 0x340, 0, 0 } },
		{ 0x80000000, 0, { 0x8000001e, AMD } },
		{ 0x80000001, 0, { 0x00660f01, 0, 0x2fabbfff, 0x2fd3fbff } },
		{ 0x80000008, 0, { 0x3030, 0, 0x4001, 0 } } } },
	{ "Zen, EPYC 7551P", NULL, true, { /* [c] amd/zen/epyc-naples */
		{ 0, 0, { 0xd, AMD } },
		{ 1, 0, { 0x00800f12, 0x00400800, 0x7ed8320b, 0x178bfbff } },
		{ 7, 0, { 0, 0x209c01a9, 0, 0 } },
		{ 0xd, 0, { 0x7, 0x340, 0x340, 0 } }, { 0xd, 2, { 0x100, 0x240, 0, 0 } }, /* (2) */
		{ 0x80000000, 0, { 0x8000001f, AMD } },
		{ 0x80000001, 0, { 0x00800f12, 0x40000000, 0x35c233ff, 0x2fd3fbff } },
		{ 0x80000005, 0, { 0xff40ff40, 0xff40ff40, 0x20080140, 0x40040140 } },
		{ 0x80000008, 0, { 0x3030, 0x7, 0x603f, 0 } } } },
	{ "Zen 3, Ryzen 9 5950X", NULL, true, { /* [c] amd/zen3/amd-ryzen-9-5950x-16-core-processor */
		{ 0, 0, { 0x10, AMD } },
		{ 1, 0, { 0x00a20f10, 0x00200800, 0x7ed8320b, 0x178bfbff } },
		{ 7, 0, { 0, 0x219c97a9, 0x0040068c, 0x10 } },
		{ 0xd, 0, { 0x207, 0x340, 0x988, 0 } }, { 0xd, 1, { 0xf, 0x340, 0x1800, 0 } },
		{ 0xd, 2, { 0x100, 0x240, 0, 0 } }, { 0xd, 9, { 0, 0, 0, 0 } }, /* as recorded: PKRU without a place */
		{ 0x80000000, 0, { 0x80000023, AMD } },
		{ 0x80000001, 0, { 0x00a20f10, 0x20000000, 0x75c237ff, 0x2fd3fbff } },
		{ 0x80000008, 0, { 0x3030, 0x111ef657, 0x501f, 0x10000 } } } },
	{ "Zen 4, Ryzen 7 7700X", NULL, true, { /* [c] amd/zen4/amd-ryzen-7-7700x-8-core-processor */
		{ 0, 0, { 0x10, AMD } },
		{ 1, 0, { 0x00a60f12, 0x00100800, 0x7ef8320b, 0x178bfbff } },
		{ 7, 0, { 1, 0xf1bf97a9, 0x00405fce, 0x10000010 } }, { 7, 1, { 0x20, 0, 0, 0 } },
		{ 0xd, 0, { 0x2e7, 0x980, 0x988, 0 } }, { 0xd, 1, { 0xf, 0x990, 0x1800, 0 } },
		{ 0xd, 2, { 0x100, 0x240, 0, 0 } }, { 0xd, 5, { 0x40, 0x340, 0, 0 } }, { 0xd, 6, { 0x200, 0x380, 0, 0 } },
		{ 0xd, 7, { 0x400, 0x580, 0, 0 } }, { 0xd, 9, { 8, 0x980, 0, 0 } },
		{ 0x80000000, 0, { 0x80000028, AMD } },
		{ 0x80000001, 0, { 0x00a60f12, 0, 0x75c237ff, 0x2fd3fbff } },
		{ 0x80000008, 0, { 0x3030, 0x191ef257, 0x400f, 0x10000 } } } },
	{ "QEMU 7.2 TCG, EPYC", NULL, true, { /* [q] */
		{ 0, 0, { 0xd, AMD } },
		{ 1, 0, { 0x00800f12, 0x00010800, 0xf6d8320b, 0x078bfbfd } },
		{ 7, 0, { 0, 0x009801a9, 0, 0 } },
		{ 0xd, 0, { 0x7, 0x340, 0x340, 0 } }, { 0xd, 1, { 5, 0x340, 0, 0 } }, { 0xd, 2, { 0x100, 0x240, 0, 0 } },
		{ 0x80000000, 0, { 0x8000000a, AMD } },
		{ 0x80000001, 0, { 0x00800f12, 0, 0x00000075, 0x2dd3fbfd } },
		{ 0x80000008, 0, { 0x3028, 0, 0, 0 } } } },
	/* clang-format on */
};

/* Such a machine as one that answers CPUID. */
struct dump {
	struct cpuid_source src; /* first */
	const struct cpu_dump *m;
};

static struct cpuid_regs dump_read(const struct cpuid_source *src, uint32_t leaf, uint32_t sub)
{
	const struct dump *d = (const void *)src;
	for (unsigned i = 0; i < ARRAY_SIZE(d->m->row) && (i == 0 || d->m->row[i].leaf); i++)
		if (d->m->row[i].leaf == leaf && d->m->row[i].sub == sub)
			return d->m->row[i].r;
	return (struct cpuid_regs){ 0 };
}
static struct dump dump_of(unsigned i) { return (struct dump){ { dump_read }, &machines[i] }; }
static unsigned machine(const char *part)
{
	for (unsigned i = 0; i < ARRAY_SIZE(machines); i++)
		if (strstr(machines[i].name, part))
			return i;
	fail_msg("no machine %s", part);
	return 0;
}

/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The rules for a guest's registers: one thing changed in a good state is refused with the register's name, states of
 * every mode that a guest can be in pass, and random ones do no harm.
 */
#include "arch/x86/cpu.h"
#include "tests/unit/cpuid_dumps.h"
#include "vmm/x86/cpu_check.h"
#include "vmm/x86/vcpu.h"
#include "vmm/x86/msr.h"
#include "vmm/x86/cpu_state.h"
#include <errno.h>
#include <stdio.h>
#include <string.h>

static struct cpuid_table rich, plain; /* a host's with all that CR4 can have; cpu = portable on the same */
static struct cpu_state good;

static int setup(void **state)
{
	static struct cpu_dump m;
	struct dump d = dump_of(machine("Cascade"));
	struct why w = { "" };
	(void)state;
	m = *d.m, d.m = &m; /* with what it lacks: CR4 bits of later CPUs, and of those that no guest is shown */
	for (unsigned i = 0; i < ARRAY_SIZE(m.row); i++)
		if (m.row[i].leaf == 7)
			m.row[i].r.ecx |= 1 << 2 | 1 << 3 | 1 << 7 | 1 << 16; /* UMIP, PKU, CET, LA57 */
	if (cpuid_table_init(&rich, "host", &d.src, &w) || cpuid_table_init(&plain, "portable", &d.src, &w))
		fail_msg("%s", w.text);
	return 0;
}

static void flat(struct seg_state *s, uint64_t selector, uint32_t attr)
{
	*s = (struct seg_state){ .selector = selector, .attr = attr, .limit = ~0U };
}

/* Linux's kernel with all that the CPU has switched on, an interrupt on its way. */
static void make_good(void)
{
	struct cpu_state *s = &good;
	memset(s, 0, sizeof(*s));
	s->rip = 0xffffffff81000000, s->rflags = RFLAGS_ALWAYS | RFLAGS_IF;
	s->cr0 = CR0_PE | CR0_MP | CR0_ET | CR0_NE | CR0_WP | CR0_AM | CR0_PG;
	s->cr3 = 0x2345003;
	s->cr4 = CR4_PSE | CR4_PAE | CR4_PGE | CR4_OSFXSR | CR4_OSXMMEXCPT | CR4_UMIP | CR4_FSGSBASE | CR4_PCIDE |
		 CR4_OSXSAVE | CR4_SMEP | CR4_SMAP | CR4_PKE;
	s->efer = EFER_SCE | EFER_LME | EFER_LMA | EFER_NXE;
	s->xcr0 = 0x2e7;
	s->dr6 = 0xffff0ff0, s->dr7 = 0x400;
	for (unsigned i = 0; i < SEG_COUNT; i++)
		flat(&s->seg[i], 0, AR_UNUSABLE);
	flat(&s->seg[SEG_CS], 0x10, 0xa09b);
	flat(&s->seg[SEG_SS], 0x18, 0xc093);
	flat(&s->seg[SEG_DS], 0x2b, 0xc0f3);
	s->seg[SEG_FS].base = 0x7f0012345000, s->seg[SEG_GS].base = 0xffff888012345000;
	s->seg[SEG_LDTR] = (struct seg_state){ 0xffff888000001000, 0x67, 0x82, 0x48 };
	s->seg[SEG_TR] = (struct seg_state){ 0xfffffe0000003000, 0x4087, 0x8b, 0x40 };
	s->gdt_base = 0xfffffe0000001000, s->gdt_limit = 0x7f;
	s->idt_base = 0xfffffe0000000000, s->idt_limit = 0xfff;
	s->star = 0x0023001000000000, s->lstar = s->cstar = 0xffffffff81800000, s->sfmask = 0x257fd5;
	s->sysenter_cs = 0x10, s->sysenter_esp = 0xfffffe0000003000, s->sysenter_eip = 0xffffffff81801000;
	s->pat = 0x0407050600070106, s->tsc_aux = 0xfff;
	s->event = HV_EVENT(HV_EVENT_INTR, 0xec);
	put_le64(s->xsave + 512, 0x2e7);
	s->xsave_size = 0xa88;
}

static int check(const struct cpuid_table *t, const struct cpu_state *s, struct why *w)
{
	w->text[0] = 0;
	return cpu_state_check(s, t, w);
}

/* One field of the good state, after the bits in `clear` went and those in `set` came. */
struct change {
	size_t off, width;
	uint64_t clear, set;
	const char *words;
};
#define SET(field, bits, words)                                                       \
	{                                                                             \
		offsetof(struct cpu_state, field), sizeof(good.field), 0, bits, words \
	}
#define CLEAR(field, bits, words)                                                     \
	{                                                                             \
		offsetof(struct cpu_state, field), sizeof(good.field), bits, 0, words \
	}
#define TO(field, val, words)                                                            \
	{                                                                                \
		offsetof(struct cpu_state, field), sizeof(good.field), ~0ULL, val, words \
	}
#define PF HV_EVENT_ERR(VEC_PF, 2)

/* clang-format off */
static const struct change refused[] = {
	SET(cr0, BIT(32), "CR0"), SET(cr0, BIT(6), "CR0 80050073: bit 6"), SET(cr0, BIT(28), "CR0"),
	SET(cr0, CR0_NW, "CR0"), CLEAR(cr0, CR0_PE, "CR0"), CLEAR(cr0, CR0_PG, "EFER"),
	SET(cr3, BIT(46), "CR3 400002345003: bit 46"), SET(cr3, BIT(63), "CR3"), SET(cr3, BIT(52), "CR3"),
	SET(cr4, CR4_LA57, "CR4 771eb0: bit 12"), SET(cr4, BIT(13), "CR4"), SET(cr4, BIT(14), "CR4"), SET(cr4, BIT(15), "CR4"),
	SET(cr4, BIT(19), "CR4"), SET(cr4, BIT(23), "CR4"), SET(cr4, BIT(24), "CR4"), SET(cr4, BIT(63), "CR4"),
	CLEAR(cr4, CR4_PAE, "PAE"),
	SET(efer, EFER_SVME, "EFER 1d01: bit 12"), SET(efer, BIT(1), "EFER"), SET(efer, BIT(14), "EFER"), SET(efer, BIT(15), "EFER"),
	SET(efer, BIT(63), "EFER"), CLEAR(efer, EFER_LMA, "EFER"), CLEAR(efer, EFER_LME, "EFER"),
	SET(dr6, BIT(32), "DR6"), SET(dr7, BIT(63), "DR7"),
	TO(pat, 0x0407050600070102, "PAT"), TO(pat, 0x0807050600070106, "PAT"),
	TO(sysenter_esp, BIT(47), "SYSENTER_ESP"), TO(sysenter_eip, BIT(63), "SYSENTER_EIP"), SET(sysenter_cs, BIT(32), "SYSENTER_CS"),
	TO(lstar, BIT(47), "LSTAR"), TO(cstar, BIT(55), "CSTAR"), TO(kernel_gs_base, ~BIT(60), "KERNEL_GS_BASE"),
	TO(seg[SEG_FS].base, BIT(50), "FS_BASE"), TO(seg[SEG_GS].base, BIT(50), "GS_BASE"),
	SET(sfmask, BIT(32), "SFMASK"), SET(tsc_aux, BIT(32), "TSC_AUX"), SET(xss, 1, "XSS"),
	CLEAR(xcr0, 1, "XCR0"), CLEAR(xcr0, 2, "XCR0"), CLEAR(xcr0, 4, "XCR0"), CLEAR(xcr0, BIT(6), "XCR0"), SET(xcr0, BIT(17), "XCR0"),
	SET(xcr0, BIT(63), "XCR0"),
	SET(seg[SEG_CS].selector, BIT(16), "CS"), SET(seg[SEG_DS].attr, BIT(8), "DS"), SET(seg[SEG_CS].attr, AR_UNUSABLE, "CS"),
	CLEAR(seg[SEG_CS].attr, BIT(7), "CS"), CLEAR(seg[SEG_CS].attr, BIT(4), "CS"), CLEAR(seg[SEG_CS].attr, BIT(3), "CS"),
	SET(seg[SEG_CS].attr, BIT(14), "both L and D"), SET(seg[SEG_CS].base, BIT(32), "CS"), SET(seg[SEG_DS].base, BIT(63), "DS"),
	CLEAR(seg[SEG_SS].attr, BIT(1), "SS"), SET(seg[SEG_SS].attr, BIT(3), "SS"), CLEAR(seg[SEG_DS].attr, BIT(4), "DS"),
	TO(seg[SEG_DS].attr, 0xc0f9, "DS"), SET(seg[SEG_LDTR].attr, 1, "LDTR"), SET(seg[SEG_LDTR].attr, BIT(4), "LDTR"),
	SET(seg[SEG_LDTR].selector, BIT(2), "LDTR"), SET(seg[SEG_LDTR].base, 0, NULL), CLEAR(seg[SEG_LDTR].base, BIT(47), "LDTR"),
	SET(seg[SEG_TR].attr, AR_UNUSABLE, "TR"), CLEAR(seg[SEG_TR].attr, BIT(7), "TR"), SET(seg[SEG_TR].attr, BIT(4), "TR"),
	CLEAR(seg[SEG_TR].attr, BIT(3), "TR"), SET(seg[SEG_TR].attr, BIT(2), "TR"), SET(seg[SEG_TR].selector, BIT(2), "TR"),
	CLEAR(seg[SEG_TR].base, BIT(60), "TR"),
	TO(gdt_base, BIT(50), "GDTR"), SET(gdt_limit, BIT(16), "GDTR"), TO(idt_base, BIT(50), "IDTR"), SET(idt_limit, BIT(31), "IDTR"),
	SET(seg[SEG_CS].attr, BIT(6) | BIT(5), "CS (attributes a0fb) cannot run at level 0"), TO(seg[SEG_CS].attr, 0xa0bf, "CS"),
	TO(seg[SEG_SS].attr, 0xc0f3, "level 3"), SET(seg[SEG_SS].attr, BIT(5), "level 1"),
	TO(rip, BIT(48), "RIP"), TO(rip, BIT(63), "RIP"),
	CLEAR(rflags, RFLAGS_ALWAYS, "RFLAGS"), SET(rflags, BIT(3), "RFLAGS"), SET(rflags, BIT(5), "RFLAGS"), SET(rflags, BIT(15), "RFLAGS"),
	SET(rflags, BIT(22), "RFLAGS"), SET(rflags, BIT(63), "RFLAGS"), SET(rflags, RFLAGS_VM, "RFLAGS"),
	CLEAR(rflags, RFLAGS_IF, "event"), TO(int_shadow, HV_SHADOW_STI, "event"), TO(int_shadow, HV_SHADOW_MOV_SS, "event"),
	TO(event, 0x30, "event"), SET(event, BIT(12), "event"), SET(event, BIT(11), "event"),
	TO(event, HV_EVENT(HV_EVENT_NMI, 3), "event"), TO(event, HV_EVENT(HV_EVENT_SOFT, 3), "event"), TO(event, HV_EVENT(7, 3), "event"),
	TO(event, HV_EVENT(HV_EVENT_EXC, 2), "event"), TO(event, HV_EVENT(HV_EVENT_EXC, 9), "event"),
	TO(event, HV_EVENT(HV_EVENT_EXC, 21), "event"), TO(event, HV_EVENT(HV_EVENT_EXC, 32), "event"),
	TO(event, HV_EVENT(HV_EVENT_EXC, 64), "event"), TO(event, HV_EVENT(HV_EVENT_EXC, VEC_PF), "event"),
	TO(event, HV_EVENT_ERR(VEC_UD, 0), "event"), TO(event, HV_EVENT_ERR(VEC_PF, 1 << 16), "event"),
	TO(event_next, HV_EVENT(HV_EVENT_INTR, 0x31), "event"), /* one waits at most: hv_ops.inject relies on it */
	TO(event_next, 0x31, "event"), TO(event_next, PF, "event"),
	TO(nmi_blocked, 2, "NMI"), TO(nmi_pending, 2, "NMI"), TO(nmi_pending, 256, "NMI"), TO(halted, 2, "HLT"), TO(cr8, 16, "CR8"),
};
/* ... and not refused. */
static const struct change passed[] = {
	CLEAR(event, ~0ULL, ""), TO(event, HV_EVENT(HV_EVENT_NMI, 2), ""), TO(event, PF, ""), TO(event, HV_EVENT(HV_EVENT_EXC, VEC_DB), ""),
	SET(event, 0x1234567ULL << 32, ""), /* AMD leaves something where there is no error code */
	SET(cr0, CR0_CD | CR0_NW | CR0_TS, ""), CLEAR(cr0, CR0_ET, ""), SET(cr3, BIT(45) | 0xfff, ""), SET(cr4, CR4_ALWAYS, ""), CLEAR(cr4, 0xffffffdf, ""),
	CLEAR(efer, EFER_SCE | EFER_NXE, ""), TO(xcr0, 1, ""), TO(xcr0, 3, ""), TO(xcr0, 7, ""), SET(dr6, ~0U, ""), SET(dr7, ~0U, ""),
	TO(rip, 0, ""), TO(rip, BIT(47), ""), TO(rip, 0xffff7fffffffffff, ""), SET(rflags, 0x3d7fd7, ""),
	CLEAR(seg[SEG_CS].attr, 1, ""), SET(seg[SEG_CS].attr, BIT(2), ""), SET(seg[SEG_CS].limit, 0, ""), TO(seg[SEG_CS].limit, 5, ""),
	CLEAR(seg[SEG_TR].attr, 2, ""), CLEAR(seg[SEG_DS].attr, 1, ""), SET(seg[SEG_SS].attr, BIT(2), ""), TO(seg[SEG_DS].attr, 0, ""),
	SET(seg[SEG_ES].base, BIT(63), ""), TO(seg[SEG_DS].attr, 0xa0fb, ""), TO(tsc_aux, 0xffffffff, ""), TO(cr8, 15, ""),
	TO(nmi_blocked, 1, ""), TO(nmi_pending, 1, ""), TO(halted, 1, ""), TO(cr2, ~0ULL, ""), TO(star, ~0ULL, ""), TO(dr0, ~0ULL, ""), TO(tsc, ~0ULL, ""),
};
/* clang-format on */

static struct cpu_state changed(const struct change *c)
{
	struct cpu_state s = good;
	uint64_t v = 0;
	memcpy(&v, (uint8_t *)&s + c->off, c->width);
	v = (v & ~c->clear) | c->set;
	memcpy((uint8_t *)&s + c->off, &v, c->width);
	return s;
}

static void test_one_change(void **state)
{
	struct why w;
	(void)state;
	make_good();
	if (check(&rich, &good, &w))
		fail_msg("%s", w.text);
	for (unsigned i = 0; i < ARRAY_SIZE(refused); i++) {
		struct cpu_state s = changed(&refused[i]);
		int err = check(&rich, &s, &w);
		if (err != (refused[i].words ? -EINVAL : 0) || (err && !strstr(w.text, refused[i].words)))
			fail_msg("change %u, %s: %d %s", i, refused[i].words, err, w.text);
	}
	for (unsigned i = 0; i < ARRAY_SIZE(passed); i++) {
		struct cpu_state s = changed(&passed[i]);
		if (check(&rich, &s, &w))
			fail_msg("change %u: %s", i, w.text);
	}
}

/* What waits behind what, and shadows, take two changes. */
static void test_events(void **state)
{
	static const struct {
		uint64_t event, next, rflags;
		uint32_t shadow;
		bool ok;
		/* clang-format off */
	} cases[] = {
		{ 0, 0, 0, 0, true },
		{ PF, HV_EVENT(HV_EVENT_INTR, 0x30), 0, 0, true },
		{ PF, HV_EVENT(HV_EVENT_NMI, 2), 0, HV_SHADOW_MOV_SS, true },
		{ 0, HV_EVENT(HV_EVENT_INTR, 0x30), 0, HV_SHADOW_MOV_SS, true },
		{ 0, HV_EVENT(HV_EVENT_EXC, 14), 0, 0, false },
		{ 0, 0x31, 0, 0, false },
		{ PF, HV_EVENT(HV_EVENT_NMI, 3), 0, 0, false },
		{ HV_EVENT(HV_EVENT_NMI, 2), HV_EVENT(HV_EVENT_INTR, 0x30), RFLAGS_IF, 0, false },
		{ HV_EVENT(HV_EVENT_NMI, 2), 0, 0, 0, true },
		{ HV_EVENT(HV_EVENT_NMI, 2), 0, 0, HV_SHADOW_MOV_SS, false },
		{ PF, 0, 0, HV_SHADOW_MOV_SS, true },
		{ 0, 0, 0, HV_SHADOW_STI, false },
		{ 0, 0, RFLAGS_IF, HV_SHADOW_STI, true },
		{ 0, 0, RFLAGS_IF, HV_SHADOW_STI | HV_SHADOW_MOV_SS, false },
		{ 0, 0, RFLAGS_IF, 4, false },
	};
	/* clang-format on */
	struct why w;
	(void)state;
	make_good();
	for (unsigned i = 0; i < ARRAY_SIZE(cases); i++) {
		struct cpu_state s = good;
		s.event = cases[i].event, s.event_next = cases[i].next;
		s.rflags = RFLAGS_ALWAYS | cases[i].rflags, s.int_shadow = cases[i].shadow;
		int err = check(&rich, &s, &w);
		if (err != (cases[i].ok ? 0 : -EINVAL))
			fail_msg("case %u: %d %s", i, err, w.text);
	}
}

/* The good state with what cpu = portable gives; then each bit that it does not. */
static void test_bits_of_features(void **state)
{
	static const uint64_t cr4[] = { CR4_UMIP, CR4_PCIDE, CR4_SMAP, CR4_PKE };
	static const struct {
		uint32_t leaf;
		unsigned reg, bit;
		uint64_t cr4, efer;
		const char *words;
		/* clang-format off */
	} given[] = {
		{ 7, 2, 2, CR4_UMIP, 0, "CR4" }, { 7, 1, 0, CR4_FSGSBASE, 0, "CR4" }, { 1, 2, 17, CR4_PCIDE, 0, "CR4" },
		{ 1, 2, 26, CR4_OSXSAVE, 0, "CR4" }, { 7, 1, 7, CR4_SMEP, 0, "CR4" }, { 7, 1, 20, CR4_SMAP, 0, "CR4" },
		{ 7, 2, 3, CR4_PKE, 0, "CR4" }, { 0x80000001, 3, 11, 0, EFER_SCE, "EFER" },
		{ 0x80000001, 3, 20, 0, EFER_NXE, "EFER" }, { 0x80000001, 3, 29, 0, EFER_LME | EFER_LMA, "EFER" },
	};
	/* clang-format on */
	struct why w;
	(void)state;
	make_good();
	struct cpu_state s = good, p;
	s.cr4 &= ~(CR4_UMIP | CR4_PCIDE | CR4_SMAP | CR4_PKE);
	s.xcr0 = 7;
	put_le64(s.xsave + 512, 7);
	if (check(&plain, &s, &w))
		fail_msg("%s", w.text);
	for (unsigned i = 0; i < ARRAY_SIZE(cr4); i++) {
		p = s, p.cr4 |= cr4[i];
		assert_int_equal(check(&plain, &p, &w), -EINVAL);
		assert_non_null(strstr(w.text, "CR4"));
	}
	p = s, p.cr3 |= BIT(39);
	assert_int_equal(check(&plain, &p, &w), -EINVAL);
	assert_non_null(strstr(w.text, "bit 39 is beyond the guest's 39"));
	struct cpuid_table wide = rich; /* more than any CPU has */
	wide.s.regs[cpuid_table_row(&rich, 0x80000008, 0) - rich.s.regs] = 0x30ff;
	p = good, p.cr3 |= BIT(51);
	assert_int_equal(check(&wide, &p, &w), 0);
	p.cr3 |= BIT(52);
	assert_int_equal(check(&wide, &p, &w), -EINVAL);
	p = s, p.xcr0 = 0x207;
	assert_int_equal(check(&plain, &p, &w), -EINVAL);
	assert_non_null(strstr(w.text, "XCR0"));
	p = s, put_le64(p.xsave + 512, 0x207);
	assert_int_equal(check(&plain, &p, &w), -EINVAL);
	assert_non_null(strstr(w.text, "component 9"));
	for (unsigned i = 0; i < ARRAY_SIZE(given); i++) { /* taken from a CPUID that has it */
		struct cpuid_table t = rich;
		t.s.regs[cpuid_table_row(&rich, given[i].leaf, 0) - rich.s.regs + given[i].reg] &=
			~(1U << given[i].bit);
		int err = check(&t, &good, &w);
		if (err != -EINVAL || !strstr(w.text, given[i].words))
			fail_msg("%u: %d %s", i, err, w.text);
		p = good;
		p.cr4 &= ~given[i].cr4, p.efer &= ~given[i].efer;
		if (!(given[i].efer & EFER_LME) && check(&t, &p, &w))
			fail_msg("%u: %s", i, w.text);
	}
}

/* Modes that a guest can be in. */
static void test_modes(void **state)
{
	struct why w;
	(void)state;
	make_good();
	struct cpu_state s = good;
#define PASSES()                                \
	do {                                    \
		if (check(&rich, &s, &w))       \
			fail_msg("%s", w.text); \
	} while (0)
	flat(&s.seg[SEG_CS], 0x23, 0xc0fb); /* a 32-bit program of a 64-bit kernel */
	s.seg[SEG_SS].attr = 0xc0f3, s.rip = 0xf7fc1549;
	PASSES();
	s.rip = BIT(32);
	assert_int_equal(check(&rich, &s, &w), -EINVAL);
	s.rip = 0x1000, s.efer = EFER_SCE | EFER_NXE, s.cr4 &= ~CR4_PCIDE; /* a 32-bit kernel, with PAE and without */
	PASSES();
	s.cr4 &= ~CR4_PAE;
	PASSES();
	s.efer |= EFER_LME; /* long mode would follow with paging */
	assert_int_equal(check(&rich, &s, &w), -EINVAL);
	s.cr0 &= ~CR0_PG;
	PASSES();
	s.efer &= ~EFER_LME;
	s.cr4 |= CR4_PCIDE;
	assert_int_equal(check(&rich, &s, &w), -EINVAL);
	assert_non_null(strstr(w.text, "PCIDE"));
	s.cr4 &= ~CR4_PCIDE;
	s.seg[SEG_TR].attr = 0x83; /* a 16-bit TSS */
	PASSES();
	for (unsigned i = SEG_ES; i <= SEG_GS; i++) /* virtual-8086 mode: all are data segments */
		s.seg[i] = (struct seg_state){ 0x12340, 0xffff, 0xf3, 0x1234 };
	s.rflags |= RFLAGS_VM, s.rip = 0x100;
	PASSES();
	s.seg[SEG_GS].base++;
	assert_int_equal(check(&rich, &s, &w), -EINVAL);
	assert_non_null(strstr(w.text, "GS (selector 1234, base 12341) is none of virtual-8086 mode"));
	s.seg[SEG_GS].base--;
	s.seg[SEG_CS].attr = 0x9b; /* not looked at there: VT-x is given what the mode says */
	PASSES();
	s.cr0 = CR0_ET, s.cr4 = 0; /* real mode has none */
	assert_int_equal(check(&rich, &s, &w), -EINVAL);
	assert_non_null(strstr(w.text, "RFLAGS"));
	s.rflags &= ~RFLAGS_VM;
	PASSES();
	s.event = HV_EVENT(HV_EVENT_EXC, VEC_GP); /* where exceptions have no error codes */
	PASSES();
	s.event = HV_EVENT_ERR(VEC_GP, 0);
	PASSES();
	/* A guest without XSAVE: XCR0 is as at reset. */
	static struct cpuid_table none;
	s.xcr0 = 1;
	put_le64(s.xsave + 512, 0);
	s.event = 0, s.efer = 0;
	assert_int_equal(check(&none, &s, &w), 0);
	s.xcr0 = 3;
	assert_int_equal(check(&none, &s, &w), -EINVAL);
}

static uint64_t seed = 88172645463325252ULL;
static uint64_t rnd(void)
{
	seed ^= seed << 13, seed ^= seed >> 7, seed ^= seed << 17;
	return seed;
}

/*
 * States of noise, and good ones with some noise in a register or two; tables of noise, too, as far as a load lets them
 * in.
 */
static void test_noise(void **state)
{
	static struct cpuid_table t;
	static struct cpu_state s;
	static const size_t nregs = offsetof(struct cpu_state, xsave) / 8;
	unsigned ok = 0, not = 0;
	struct why w;
	(void)state;
	make_good();
	for (unsigned i = 0; i < 20000; i++) {
		s = good;
		for (size_t k = 0; i % 4 == 0 && k < nregs; k++)
			((uint64_t *)&s)[k] = rnd();
		for (unsigned k = rnd() % 3; k > 0; k--)
			((uint64_t *)&s)[rnd() % nregs] ^= BIT(rnd() % 64);
		t = rich;
		for (unsigned k = 0; i % 8 == 1 && k < ARRAY_SIZE(t.s.regs); k++)
			t.s.regs[k] = (uint32_t)rnd();
		int err = check(&t, &s, &w);
		assert_true(err == 0 || (err == -EINVAL && w.text[0] && strlen(w.text) < sizeof(w.text) - 1));
		ok += !err, not += !!err;
	}
	assert_true(ok > 1000 && not > 1000); /* both happened often */
}

/* What the guest's own WRMSR and XSETBV ask. */
static void test_msr_values(void **state)
{
	(void)state;
	assert_true(cpu_msr_valid(&rich, MSR_EFER, EFER_SCE | EFER_LME | EFER_LMA | EFER_NXE));
	assert_false(cpu_msr_valid(&rich, MSR_EFER, EFER_SVME));
	struct cpuid_table t = rich;
	t.s.regs[cpuid_table_row(&rich, 0x80000001, 0) - rich.s.regs + 3] &= ~(1U << 20);
	assert_false(cpu_msr_valid(&t, MSR_EFER, EFER_NXE));
	assert_true(cpu_msr_valid(&t, MSR_EFER, EFER_SCE));
	assert_true(cpu_msr_valid(&t, MSR_STAR, ~0ULL));
	assert_false(cpu_xcr0_valid(&plain, 0x207));
	assert_true(cpu_xcr0_valid(&rich, 0x207) && cpu_xcr0_valid(&plain, 7));
}

/* What the sections' own checks look at. */
static void test_sections(void **state)
{
	static struct cpu_state s;
	struct why w = { "" };
	(void)state;
	make_good();
	s = good;
	s.xsave_size = XSAVE_AREA_MAX + 1;
	assert_int_equal(cpu_state_desc.check(&s, &s, &w), -EINVAL);
	struct vcpu_msr_state m = { .mtrr_def_type = VCPU_MTRR_RESET, .system_time = ~0ULL };
	assert_int_equal(vcpu_msr_desc.check(NULL, &m, &w), 0);
	static const uint64_t bad[] = { 0x802, 0x803, 0x807, 0x900, 0x1806, BIT(63) };
	for (unsigned i = 0; i < ARRAY_SIZE(bad); i++) {
		struct vcpu_msr_state b = m;
		struct why v = { "" };
		b.mtrr_def_type = bad[i];
		assert_int_equal(vcpu_msr_desc.check(NULL, &b, &v), -EINVAL);
		assert_non_null(strstr(v.text, "MTRR_DEF_TYPE"));
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_one_change),
		cmocka_unit_test(test_events),
		cmocka_unit_test(test_bits_of_features),
		cmocka_unit_test(test_modes),
		cmocka_unit_test(test_noise),
		cmocka_unit_test(test_msr_values),
		cmocka_unit_test(test_sections),
	};
	return cmocka_run_group_tests_name("cpu_check", tests, setup, NULL);
}

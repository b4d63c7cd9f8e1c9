/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Local APICs against a clock of the test's own: registers, priorities, IPIs, MSIs, the three timers. Between any two
 * steps of the longer tests the state is saved and loaded into a fresh local APIC, which must change nothing.
 */
#include "tests/unit/fake_kernel.h"
#include "vmm/dev/vlapic_regs.h"
#include "vmm/dev/vxapic.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#define NCPU  20
#define HZ    2000000000ULL /* of the guest's TSC */
#define X2(r) (0x800U + (r))
enum {
	ID = 0x02,
	VERSION = 0x03,
	TPR = 0x08,
	PPR = 0x0a,
	EOI = 0x0b,
	LDR = 0x0d,
	DFR = 0x0e,
	SVR = 0x0f,
	ISR = 0x10,
	TMR = 0x18,
	IRR = 0x20,
	ESR = 0x28,
	ICR = 0x30,
	ICR_HIGH = 0x31,
	LVTT = 0x32,
	LVT0 = 0x35,
	LVTERR = 0x37,
	TMICT = 0x38,
	TMCCT = 0x39,
	TDCR = 0x3e,
	SELF = 0x3f
};
#define APIC_BASE 0x1b
#define DEADLINE  0x6e0

static struct vlapic cpu[NCPU];
static struct vlapic *cpus[NCPU];
static struct vapic_bus bus;
static unsigned kicks[NCPU], nmis[NCPU], eois[256];
static uint64_t now_ns;

static void kick(void *arg, unsigned i) { (void)arg, kicks[i]++; }
static void nmi(void *arg, unsigned i) { (void)arg, nmis[i]++; }
static void eoi(void *arg, uint8_t v) { (void)arg, eois[v]++; }
static uint64_t tsc(void) { return now_ns * (HZ / 1000000) / 1000; }

static int setup(void **state)
{
	(void)state;
	memset(kicks, 0, sizeof(kicks));
	memset(nmis, 0, sizeof(nmis));
	memset(eois, 0, sizeof(eois));
	bus = (struct vapic_bus){ .lapic = cpus, .n = NCPU, .kick = kick, .nmi = nmi, .eoi = eoi };
	now_ns = 1000000;
	for (unsigned i = 0; i < NCPU; i++) {
		cpus[i] = &cpu[i];
		vlapic_init(&cpu[i], &bus, i);
	}
	return 0;
}

static void migrate(struct vlapic *l)
{
	uint8_t buf[512];
	struct why w = { "" };
	unsigned id = l->vcpu;

	uint8_t x[16];
	bool absent = vxapic_desc.absent(l);
	state_save(&vlapic_desc, l, buf);
	state_save(&vxapic_desc, l, x);
	memset(l, 0xee, sizeof(*l));
	vlapic_init(l, &bus, id);
	if (state_load(&vlapic_desc, l, 1, buf, state_size(&vlapic_desc), &w) ||
	    (!absent && state_load(&vxapic_desc, l, 1, x, state_size(&vxapic_desc), &w)))
		fail_msg("%s", w.text);
}

static int wr_at(struct vlapic *l, uint32_t msr, uint64_t v)
{
	int err = vlapic_msr_write(l, msr, tsc(), now_ns, v);
	migrate(l);
	return err;
}
static int wr(struct vlapic *l, unsigned reg, uint64_t v) { return wr_at(l, X2(reg), v); }
static uint64_t rd(struct vlapic *l, unsigned reg)
{
	uint64_t v = ~0ULL;
	assert_int_equal(vlapic_msr_read(l, X2(reg), tsc(), now_ns, &v), 0);
	return v;
}
static void enable(struct vlapic *l) { assert_int_equal(wr(l, SVR, 0x1ff), 0); }
static bool in(struct vlapic *l, unsigned reg, unsigned v) { return rd(l, reg + v / 32) >> v % 32 & 1; }

/* Take the next interrupt as the vCPU would, or -1. */
static int take(struct vlapic *l)
{
	int v = vlapic_pending(l);
	if (v >= 0)
		vlapic_ack(l, (uint8_t)v);
	migrate(l);
	return v;
}

static void test_registers(void **state)
{
	struct vlapic *l = &cpu[17];
	uint64_t v;
	(void)state;

	assert_int_equal(rd(l, ID), 17);
	assert_int_equal(rd(l, VERSION), 0x50014);
	assert_int_equal(rd(l, LDR), 1U << 16 | 1U << 1);
	assert_int_equal(rd(l, SVR), 0xff);
	assert_int_equal(rd(l, LVTT), 0x10000);
	assert_int_equal(vlapic_msr_read(l, APIC_BASE, 0, 0, &v), 0);
	assert_int_equal(v, 0xfee00c00);
	vlapic_msr_read(&cpu[0], APIC_BASE, 0, 0, &v);
	assert_int_equal(v, 0xfee00d00);
	/* Each of these is #GP: read-only, write-only, reserved, reserved bits, 64-bit values. */
	static const struct {
		unsigned reg;
		uint64_t v;
		/* clang-format off */
	} bad[] = {
		{ ID, 1 },           { VERSION, 0 },      { PPR, 0 },       { LDR, 0 },        { ISR, 0 },
		{ IRR + 7, 0 },      { TMCCT, 0 },        { EOI, 1 },       { ESR, 1 },        { TPR, 0x100 },
		{ SVR, 0x400 },      { LVTT, 0x60000 },   { LVTT, 0x700 },  { LVT0, 0x20000 }, { LVTERR, 0x400 },
		{ TDCR, 4 },         { SELF, 0x100 },     { ICR, 1 << 13 }, { ICR, 1 << 16 },  { ICR, 1U << 20 },
		{ TPR, 1ULL << 32 }, { EOI, 1ULL << 32 }, { 0x00, 0 },      { 0x0e, 0 },       { 0x2f, 0 },
		{ 0x31, 0 },         { 0x3f + 1, 0 },     { 0x09, 0 },
	};
	/* clang-format on */
	for (unsigned i = 0; i < ARRAY_SIZE(bad); i++)
		assert_int_equal(wr(l, bad[i].reg, bad[i].v), -EINVAL);
	static const unsigned unreadable[] = { EOI, SELF, 0x00, 0x0e, 0x2f, 0x31, 0x3a };
	for (unsigned i = 0; i < ARRAY_SIZE(unreadable); i++)
		assert_int_equal(vlapic_msr_read(l, X2(unreadable[i]), 0, 0, &v), -EINVAL);
	/* Software-disabled: LVT masks cannot be cleared; enabling does not clear them, disabling sets them. */
	assert_int_equal(wr(l, LVT0, 0x700), 0);
	assert_int_equal(rd(l, LVT0), 0x10700);
	enable(l);
	assert_int_equal(wr(l, LVT0, 0x700 | 1 << 12 | 1 << 14), 0); /* status bits are read-only */
	assert_int_equal(rd(l, LVT0), 0x700);
	assert_int_equal(wr(l, SVR, 0xff), 0);
	assert_int_equal(rd(l, LVT0), 0x10700);
}

static void test_modes(void **state)
{
	struct vlapic *l = &cpu[0];
	uint64_t v;
	(void)state;

	enable(l);
	wr(l, TPR, 0x20);
	assert_int_equal(wr_at(l, APIC_BASE, 0xfee00900), -EINVAL); /* x2APIC -> xAPIC */
	assert_int_equal(wr_at(l, APIC_BASE, 0xfee00500), -EINVAL); /* EXTD without EN */
	assert_int_equal(wr_at(l, APIC_BASE, 0xfed00d00), -EINVAL); /* elsewhere */
	assert_int_equal(wr_at(l, APIC_BASE, 0x1fee00d00), -EINVAL);
	assert_int_equal(wr_at(l, APIC_BASE, 0xfee00d00), 0);
	assert_int_equal(rd(l, TPR), 0x20);
	assert_int_equal(wr_at(l, APIC_BASE, 0xfee00100), 0); /* off: registers reset and gone */
	assert_int_equal(vlapic_msr_read(l, X2(TPR), 0, 0, &v), -EINVAL);
	assert_int_equal(wr(l, TPR, 0), -EINVAL);
	assert_int_equal(wr_at(l, APIC_BASE, 0xfee00d00), -EINVAL); /* off -> x2APIC at once */
	assert_int_equal(wr_at(l, APIC_BASE, 0xfee00900), 0);
	assert_int_equal(wr_at(l, APIC_BASE, 0xfee00d00), 0);
	assert_int_equal(rd(l, TPR), 0);
	assert_int_equal(rd(l, SVR), 0xff);
}

static void test_priorities(void **state)
{
	struct vlapic *l = &cpu[3];
	(void)state;

	vapic_bus_post(&bus, 3, false, 0, 0x50, false);
	assert_int_equal(take(l), -1); /* software-disabled: dropped */
	enable(l);
	vapic_bus_post(&bus, 3, false, 0, 0x51, false);
	vapic_bus_post(&bus, 3, false, 0, 0x53, false);
	vapic_bus_post(&bus, 3, false, 0, 0x91, false);
	assert_int_equal(kicks[3], 3);
	assert_int_equal(vlapic_wants(l), 0x91);
	assert_int_equal(wr(l, TPR, 0x95), 0);
	assert_int_equal(rd(l, PPR), 0x95);
	assert_int_equal(take(l), -1);
	assert_int_equal(vlapic_wants(l), 0x91); /* it waits for the TPR alone */
	assert_int_equal(vlapic_cr8(l), 9);
	vlapic_set_cr8(l, 9); /* as after an entry in which nothing was written */
	assert_int_equal(rd(l, TPR), 0x95);
	vlapic_set_cr8(l, 10);
	assert_int_equal(rd(l, TPR), 0xa0);
	assert_int_equal(wr(l, TPR, 0x8f), 0);
	assert_int_equal(take(l), 0x91);
	assert_int_equal(rd(l, PPR), 0x90);
	assert_true(in(l, ISR, 0x91) && !in(l, IRR, 0x91));
	wr(l, TPR, 0);
	assert_int_equal(take(l), -1);
	assert_int_equal(vlapic_wants(l), 0);           /* its class is in service: EOI comes first */
	vapic_bus_post(&bus, 3, false, 0, 0xa0, false); /* nests */
	assert_int_equal(take(l), 0xa0);
	assert_int_equal(rd(l, PPR), 0xa0);
	assert_int_equal(wr(l, EOI, 0), 0);
	assert_int_equal(take(l), -1);
	wr(l, EOI, 0);
	assert_int_equal(take(l), 0x53);
	assert_int_equal(take(l), -1); /* 0x51: the same class */
	wr(l, EOI, 0);
	assert_int_equal(take(l), 0x51);
	wr(l, EOI, 0);
	wr(l, EOI, 0); /* one too many is harmless */
	assert_int_equal(rd(l, PPR), 0);
	assert_int_equal(vlapic_wants(l), 0);
	for (unsigned i = 0; i < 256; i++)
		assert_int_equal(eois[i], 0); /* all were edges */
}

static void test_level(void **state)
{
	struct vlapic *l = &cpu[0];
	(void)state;

	enable(l);
	vapic_bus_msi(&bus, 0xfee00000, 0xc000 | 0x44);
	assert_true(in(l, TMR, 0x44));
	assert_int_equal(take(l), 0x44);
	wr(l, EOI, 0);
	assert_int_equal(eois[0x44], 1);
	vapic_bus_msi(&bus, 0xfee00000, 0x44); /* the same vector as an edge */
	assert_int_equal(take(l), 0x44);
	assert_false(in(l, TMR, 0x44));
	wr(l, EOI, 0);
	assert_int_equal(eois[0x44], 1);
	vapic_bus_msi(&bus, 0xfee00000, 0x8000 | 0x45); /* level de-assert: nothing */
	assert_int_equal(take(l), -1);
}

static unsigned got(uint8_t v) /* mask of the APICs that have v; takes it from them */
{
	unsigned m = 0;
	for (unsigned i = 0; i < NCPU; i++)
		if (vlapic_pending(&cpu[i]) == v) {
			m |= 1U << i;
			take(&cpu[i]);
			wr(&cpu[i], EOI, 0);
		}
	return m;
}

static void test_destinations(void **state)
{
	const unsigned everyone = (1U << NCPU) - 1;
	(void)state;

	for (unsigned i = 0; i < NCPU; i++)
		enable(&cpu[i]);
	wr(&cpu[2], ICR, 0x40 | 7ULL << 32);
	assert_int_equal(got(0x40), 1 << 7);
	wr(&cpu[2], ICR, 0x40 | 99ULL << 32); /* nobody */
	assert_int_equal(got(0x40), 0);
	wr(&cpu[2], ICR, 0x40 | 0xffffffffULL << 32);
	assert_int_equal(got(0x40), everyone);
	wr(&cpu[2], ICR, 0x40 | 0x800 | 0x00010005ULL << 32); /* cluster 1: 16 and 18 */
	assert_int_equal(got(0x40), 1 << 16 | 1 << 18);
	wr(&cpu[2], ICR, 0x40 | 0x800 | 0x00018000ULL << 32); /* 31: not there */
	assert_int_equal(got(0x40), 0);
	wr(&cpu[2], ICR, 0x40 | 0x800 | 0xffff0001ULL << 32);
	assert_int_equal(got(0x40), 0);
	wr(&cpu[2], ICR, 0x40 | 1 << 18);
	assert_int_equal(got(0x40), 1 << 2);
	wr(&cpu[2], ICR, 0x40 | 2 << 18);
	assert_int_equal(got(0x40), everyone);
	wr(&cpu[2], ICR, 0x40 | 3 << 18);
	assert_int_equal(got(0x40), everyone & ~(1U << 2));
	wr(&cpu[2], SELF, 0x40);
	assert_int_equal(got(0x40), 1 << 2);
	wr(&cpu[2], ICR, 0x41 | 0x100 | 0x800 | 0xffULL << 32); /* lowest priority: exactly one of them */
	unsigned one = got(0x41);
	assert_true(one && !(one & (one - 1)) && !(one & ~0xffU));
	assert_int_equal(rd(&cpu[2], ICR), 0x41 | 0x100 | 0x800 | 0xffULL << 32);

	vapic_bus_msi(&bus, 0xfee00000 | 5 << 12, 0x60);
	assert_int_equal(got(0x60), 1 << 5);
	vapic_bus_msi(&bus, 0xfee00000 | 0xff << 12, 0x60);
	assert_int_equal(got(0x60), everyone);
	vapic_bus_msi(&bus, 0xfee00004 | 0x06 << 12, 0x60);
	assert_int_equal(got(0x60), 6);
	vapic_bus_msi(&bus, 0xfee0000c | 0x06 << 12, 0x60); /* redirection hint */
	one = got(0x60);
	assert_true(one == 2 || one == 4);
	vapic_bus_msi(&bus, 0xfed00000 | 5 << 12, 0x60);
	vapic_bus_msi(&bus, 0x1fee00000 | 5 << 12, 0x60);
	vapic_bus_msi(&bus, 0xfee00000 | 5 << 12, 0x60 | 0x300); /* a reserved mode */
	vapic_bus_msi(&bus, 0xfee00000 | 5 << 12, 0x60 | 0x600);
	assert_int_equal(got(0x60), 0);
	vapic_bus_msi(&bus, 0xfee00000 | 5 << 12, 0x400);
	assert_int_equal(nmis[5], 1);
	wr(&cpu[0], ICR, 0x400 | 3 << 18);
	assert_int_equal(nmis[5], 2);
	assert_int_equal(nmis[0], 0);
}

static void test_startup(void **state)
{
	(void)state;
	assert_int_equal(cpu[0].s.sipi_wait, 0);
	assert_int_equal(cpu[1].s.sipi_wait, 1);
	/* As Linux does it: INIT assert, INIT de-assert, SIPI twice. */
	wr(&cpu[0], ICR, 0xc500 | 1ULL << 32);
	wr(&cpu[0], ICR, 0x8500 | 1ULL << 32);
	assert_int_equal(kicks[1], 1);
	migrate(&cpu[1]);
	assert_int_equal(vlapic_take_events(&cpu[1]), LAPIC_EV_INIT);
	assert_int_equal(cpu[1].s.sipi_wait, 1);
	wr(&cpu[0], ICR, 0x699 | 1ULL << 32);
	wr(&cpu[0], ICR, 0x69a | 1ULL << 32); /* the one that comes before the first is taken wins */
	migrate(&cpu[1]);
	assert_int_equal(vlapic_take_events(&cpu[1]), LAPIC_EV_SIPI);
	assert_true(cpu[1].s.sipi_wait == 2 && cpu[1].s.sipi_vector == 0x9a);
	vlapic_sipi_done(&cpu[1]);
	wr(&cpu[0], ICR, 0x69b | 1ULL << 32);
	assert_int_equal(vlapic_take_events(&cpu[1]), 0); /* running: ignored */
	enable(&cpu[1]);
	wr(&cpu[1], TPR, 0x30);
	wr(&cpu[0], ICR, 0x500 | 1ULL << 32); /* INIT and SIPI together; INIT forgets what the APIC had */
	wr(&cpu[0], ICR, 0x601 | 1ULL << 32);
	assert_int_equal(vlapic_take_events(&cpu[1]), LAPIC_EV_INIT | LAPIC_EV_SIPI);
	vlapic_sipi_done(&cpu[1]);
	assert_true(rd(&cpu[1], TPR) == 0 && rd(&cpu[1], SVR) == 0xff && rd(&cpu[1], ID) == 1);
	assert_int_equal(vlapic_take_events(&cpu[1]), 0);
	wr(&cpu[1], ICR, 0x500); /* the boot CPU does not wait for a SIPI */
	assert_int_equal(vlapic_take_events(&cpu[0]), LAPIC_EV_INIT);
	assert_int_equal(cpu[0].s.sipi_wait, 0);
}

static void test_errors(void **state)
{
	struct vlapic *l = &cpu[0];
	(void)state;

	enable(l);
	wr(l, LVTERR, 0xfe);
	wr(l, ICR, 0x0f); /* illegal vector sent */
	assert_int_equal(rd(l, ESR), 0);
	assert_int_equal(take(l), 0xfe);
	wr(l, EOI, 0);
	wr(l, ESR, 0);
	assert_int_equal(rd(l, ESR), 0x20);
	vapic_bus_post(&bus, 0, false, 0, 5, false); /* and received */
	vapic_bus_post(&bus, 0, false, 0, 5, false);
	assert_int_equal(take(l), 0xfe);
	wr(l, EOI, 0);
	assert_int_equal(take(l), -1); /* once until it is read */
	wr(l, ESR, 0);
	assert_int_equal(rd(l, ESR), 0x40);
	wr(l, ESR, 0);
	assert_int_equal(rd(l, ESR), 0);
	wr(l, LVTERR, 0x100fe);
	wr(l, SELF, 3);
	assert_int_equal(take(l), -1);
	wr(l, ESR, 0);
	assert_int_equal(rd(l, ESR), 0x20);
}

static bool poll(struct vlapic *l, uint64_t *wait)
{
	*wait = 0;
	bool armed = vlapic_timer_poll(l, tsc(), now_ns, HZ, wait);
	migrate(l);
	return armed;
}

static void test_deadline(void **state)
{
	struct vlapic *l = &cpu[0];
	uint64_t v, wait;
	(void)state;

	enable(l);
	assert_int_equal(wr_at(l, DEADLINE, 5), 0); /* not in that mode: ignored */
	vlapic_msr_read(l, DEADLINE, tsc(), now_ns, &v);
	assert_int_equal(v, 0);
	wr(l, LVTT, 0x40000 | 0xec);
	wr(l, TMICT, 1000); /* ignored in this mode */
	assert_int_equal(rd(l, TMCCT), 0);
	assert_false(poll(l, &wait));
	wr_at(l, DEADLINE, tsc() + 2 * 5000 + 1);
	assert_true(poll(l, &wait));
	assert_int_equal(wait, 5001); /* never early */
	now_ns += 5000;
	assert_true(poll(l, &wait));
	assert_int_equal(take(l), -1);
	now_ns += 1;
	assert_false(poll(l, &wait));
	assert_int_equal(take(l), 0xec);
	wr(l, EOI, 0);
	vlapic_msr_read(l, DEADLINE, tsc(), now_ns, &v);
	assert_int_equal(v, 0);
	wr_at(l, DEADLINE, 1); /* in the past: at once */
	assert_false(poll(l, &wait));
	assert_int_equal(take(l), 0xec);
	wr(l, EOI, 0);
	wr(l, LVTT, 0x50000 | 0xec); /* masked: it expires silently */
	wr_at(l, DEADLINE, 1);
	assert_false(poll(l, &wait));
	assert_int_equal(take(l), -1);
	wr_at(l, DEADLINE, ~0ULL);
	assert_true(poll(l, &wait));
	assert_true(wait > NS_PER_SEC);
	wr(l, LVTT, 0xec); /* another mode: disarmed */
	vlapic_msr_read(l, DEADLINE, tsc(), now_ns, &v);
	assert_int_equal(v, 0);
	assert_false(poll(l, &wait));
}

static void test_one_shot(void **state)
{
	struct vlapic *l = &cpu[0];
	uint64_t wait;
	(void)state;

	enable(l);
	wr(l, LVTT, 0xec);
	wr(l, TDCR, 0x3); /* by 16 */
	wr(l, TMICT, 1000);
	assert_true(poll(l, &wait));
	assert_int_equal(wait, 16000);
	now_ns += 4000;
	assert_int_equal(rd(l, TMCCT), 750);
	wr(l, TDCR, 0xb); /* by 1: what is left runs faster */
	assert_int_equal(rd(l, TMCCT), 750);
	now_ns += 749;
	assert_true(poll(l, &wait));
	assert_int_equal(wait, 1);
	now_ns += 1;
	assert_false(poll(l, &wait));
	assert_int_equal(take(l), 0xec);
	wr(l, EOI, 0);
	assert_int_equal(rd(l, TMCCT), 0);
	assert_int_equal(rd(l, TMICT), 1000);
	now_ns += 100000;
	assert_false(poll(l, &wait));
	wr(l, TMICT, 10);
	wr(l, TMICT, 0); /* stops it */
	now_ns += 100;
	assert_false(poll(l, &wait));
	assert_int_equal(take(l), -1);
}

static void test_periodic(void **state)
{
	struct vlapic *l = &cpu[0];
	uint64_t wait;
	(void)state;

	enable(l);
	wr(l, LVTT, 0x20000 | 0xec);
	wr(l, TDCR, 0xb);
	wr(l, TMICT, 1000000);
	for (unsigned i = 0; i < 5; i++) {
		now_ns += 999999;
		assert_true(poll(l, &wait));
		assert_int_equal(wait, 1);
		assert_int_equal(take(l), -1);
		now_ns += 1;
		assert_true(poll(l, &wait));
		assert_int_equal(wait, 1000000);
		assert_int_equal(take(l), 0xec);
		wr(l, EOI, 0);
	}
	now_ns += 3400000; /* three periods missed: one interrupt, the phase stays */
	assert_true(poll(l, &wait));
	assert_int_equal(wait, 600000);
	assert_int_equal(rd(l, TMCCT), 600000);
	assert_int_equal(take(l), 0xec);
	wr(l, EOI, 0);
	assert_int_equal(take(l), -1);
	wr(l, TMICT, 1); /* a storm is not possible */
	now_ns += 1;
	assert_true(poll(l, &wait));
	assert_true(wait >= 90000);
}

static void test_check(void **state)
{
	uint8_t buf[512];
	struct vlapic *l = &cpu[1];
	(void)state;

	state_save(&vlapic_desc, l, buf);
	assert_int_equal(state_load(&vlapic_desc, &cpu[2], 1, buf, state_size(&vlapic_desc), NULL),
			 -EINVAL); /* another's id */
	l->s.irr[0] = 0x10;
	state_save(&vlapic_desc, l, buf);
	assert_int_equal(state_load(&vlapic_desc, l, 1, buf, state_size(&vlapic_desc), NULL), -EINVAL);
}

/* ---- xAPIC mode ---- */

static void to_xapic(struct vlapic *l)
{
	uint64_t bsp = l->vcpu ? 0 : 0x100;
	assert_int_equal(wr_at(l, APIC_BASE, 0xfee00000 | bsp), 0); /* SDM 3A 11.12.5: by way of off */
	assert_int_equal(wr_at(l, APIC_BASE, 0xfee00800 | bsp), 0);
}
static void mw(struct vlapic *l, unsigned reg, uint32_t v)
{
	vxapic_write(l, reg * 16, 4, now_ns, v);
	migrate(l);
}
static uint32_t mr(struct vlapic *l, unsigned reg) { return vxapic_read(l, reg * 16, 4, now_ns); }
/* Which of them has this vector in its IRR; it is gone then. */
static unsigned posted(unsigned v)
{
	unsigned who = 0;
	for (unsigned i = 0; i < NCPU; i++) {
		who |= (cpu[i].s.irr[v / 32] >> v % 32 & 1) << i;
		cpu[i].s.irr[v / 32] = 0;
	}
	return who;
}

static void test_xapic_registers(void **state)
{
	struct vlapic *l = &cpu[17];
	uint64_t v;
	(void)state;
	to_xapic(l);
	assert_int_equal(vlapic_msr_read(l, X2(ID), 0, 0, &v), -EINVAL);
	assert_true(mr(l, ID) == 17U << 24 && mr(l, VERSION) == 0x50014 && mr(l, SVR) == 0xff &&
		    mr(l, LVTT) == 0x10000);
	assert_true(mr(l, LDR) == 0 && mr(l, DFR) == ~0U && mr(l, ICR_HIGH) == 0);
	mw(l, ID, 5U << 24);
	mw(l, LDR, 0x20ffffff);
	mw(l, DFR, 0x0fffffff);
	mw(l, ICR_HIGH, 0x12345678);
	assert_true(mr(l, ID) == 17U << 24 && mr(l, LDR) == 0x20000000 && mr(l, DFR) == 0x0fffffff);
	assert_true(mr(l, ICR_HIGH) == 0x12000000 && (mr(l, DFR) >> 28) == 0);
	/* What x2APIC refuses as reserved has no effect here. */
	mw(l, SVR, 0xfffff5ff);
	assert_int_equal(mr(l, SVR), 0x1ff);
	mw(l, TPR, 0x12345630);
	assert_true(mr(l, TPR) == 0x30 && mr(l, PPR) == 0x30);
	mw(l, LVT0, 0xffffffff);
	assert_int_equal(mr(l, LVT0), 0x1a7ff); /* delivery status and remote IRR are read-only */
	mw(l, TDCR, 0xfffffff4 | 3);
	assert_int_equal(mr(l, TDCR), 0xb & 0xf7);
	mw(l, ESR, 1); /* whatever is written: moves the errors there */
	assert_int_equal(mr(l, ESR), 0);
	assert_int_equal(mr(l, SELF), 0); /* not in this mode */
	mw(l, SELF, 0x51);
	mw(l, ESR, 0);
	assert_true(mr(l, ESR) == 0x80 && !posted(0x51));
	mw(l, TPR, 0);
	vlapic_post(l, 0x51, false);
	assert_int_equal(take(l), 0x51);
	mw(l, EOI, 0xdead);
	assert_int_equal(mr(l, ISR + 2), 0);
	/* Anything but 32 bits at a multiple of 16 is nothing. */
	vxapic_write(l, TPR * 16, 1, now_ns, 0x20);
	vxapic_write(l, TPR * 16, 8, now_ns, 0x20);
	vxapic_write(l, TPR * 16 + 4, 4, now_ns, 0x20);
	assert_true(mr(l, TPR) == 0 && !vxapic_read(l, SVR * 16, 1, now_ns) &&
		    !vxapic_read(l, SVR * 16 + 4, 4, now_ns));
	for (unsigned reg = 0; reg < 256; reg++) /* the whole page */
		mw(l, reg, 0xa5a5a5a5), (void)mr(l, reg);
	mw(l, TMICT, 1000);                                   /* the timer, as the MSRs have it */
	assert_int_equal(wr_at(l, APIC_BASE, 0xfee00c00), 0); /* and back: SDM 3A 11.12.5 */
	assert_int_equal(rd(l, LDR), 1U << 16 | 1U << 1);
	assert_true(vxapic_desc.absent(l));
}

static void test_xapic_destinations(void **state)
{
	(void)state;
	for (unsigned i = 0; i < NCPU; i++) {
		to_xapic(&cpu[i]);
		mw(&cpu[i], SVR, 0x1ff);
		mw(&cpu[i], LDR, 1U << (24 + i % 8)); /* flat: eight bits, whoever has them */
	}
	mw(&cpu[2], ICR_HIGH, 5U << 24);
	mw(&cpu[2], ICR, 0x51); /* physical */
	assert_int_equal(posted(0x51), 1 << 5);
	mw(&cpu[2], ICR_HIGH, 0xffU << 24);
	mw(&cpu[2], ICR, 0x51);
	assert_int_equal(posted(0x51), (1 << NCPU) - 1);
	mw(&cpu[2], ICR, 3 << 18 | 0x51); /* all but itself */
	assert_int_equal(posted(0x51), ((1 << NCPU) - 1) & ~(1 << 2));
	mw(&cpu[2], ICR_HIGH, 0x06U << 24);
	mw(&cpu[2], ICR, 0x800 | 0x51); /* logical, flat */
	assert_int_equal(posted(0x51), 0x060606 & ((1 << NCPU) - 1));
	vapic_bus_msi(&bus, 0xfee00000 | 0x06 << 12 | 4, 0x52);
	assert_int_equal(posted(0x52), 0x060606 & ((1 << NCPU) - 1));
	vapic_bus_post(&bus, 9, false, 0, 0x53, false);
	assert_int_equal(posted(0x53), 1 << 9);
	vapic_bus_msi(&bus, 0xfee00000 | 0x03 << 12 | 4 | 8, 0x54); /* lowest priority: one of them */
	assert_int_equal(__builtin_popcount(posted(0x54)), 1);

	for (unsigned i = 0; i < NCPU; i++) { /* clusters of four */
		mw(&cpu[i], DFR, 0);
		mw(&cpu[i], LDR, (i / 4) << 28 | 1U << (24 + i % 4));
	}
	mw(&cpu[2], ICR_HIGH, 0x25U << 24);
	mw(&cpu[2], ICR, 0x800 | 0x51);
	assert_int_equal(posted(0x51), 1 << 8 | 1 << 10);
	mw(&cpu[2], ICR_HIGH, 0xffU << 24);
	mw(&cpu[2], ICR, 0x800 | 0x51);
	assert_int_equal(posted(0x51), (1 << NCPU) - 1);

	/* Some go back to x2APIC mode: each is named by its own. */
	assert_int_equal(wr_at(&cpu[8], APIC_BASE, 0xfee00c00), 0);
	mw(&cpu[2], ICR_HIGH, 8U << 24);
	mw(&cpu[2], ICR, 0x51);
	assert_int_equal(posted(0x51), 1 << 8);
	assert_int_equal(wr(&cpu[8], ICR, 10ULL << 32 | 0x51), 0);
	assert_int_equal(posted(0x51), 1 << 10);
	assert_int_equal(wr(&cpu[8], ICR, 0x125ULL << 32 | 0x800 | 0x51), 0); /* of 8 bits none is named so */
	assert_int_equal(posted(0x51), 1 << 8);
	assert_int_equal(wr(&cpu[8], ICR, 0xffffffffULL << 32 | 0x800 | 0x51), 0);
	assert_int_equal(posted(0x51), (1 << NCPU) - 1);
}

static void test_xapic_check(void **state)
{
	uint8_t buf[16];
	(void)state;
	to_xapic(&cpu[3]);
	state_save(&vxapic_desc, &cpu[3], buf);
	assert_int_equal(state_load(&vxapic_desc, &cpu[3], 1, buf, state_size(&vxapic_desc), NULL), 0);
	buf[0] = 1; /* LDR's reserved bits */
	assert_int_equal(state_load(&vxapic_desc, &cpu[3], 1, buf, state_size(&vxapic_desc), NULL), -EINVAL);
	buf[0] = 0, buf[4] = 0; /* DFR's are ones */
	assert_int_equal(state_load(&vxapic_desc, &cpu[3], 1, buf, state_size(&vxapic_desc), NULL), -EINVAL);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup(f, setup)
	/* clang-format off */
	const struct CMUnitTest tests[] = {
		T(test_registers),    T(test_modes),    T(test_priorities), T(test_level),
		T(test_destinations), T(test_startup),  T(test_errors),     T(test_deadline),
		T(test_one_shot),     T(test_periodic), T(test_check),      T(test_xapic_registers),
		T(test_xapic_destinations), T(test_xapic_check),
	};
	/* clang-format on */
	return cmocka_run_group_tests_name("lapic", tests, NULL, NULL);
}

/* SPDX-License-Identifier: BSD-2-Clause */
/* The I/O APIC by its registers and pins, and the power ports; saved and loaded between any two steps. */
#include "tests/unit/fake_kernel.h"
#include "vmm/dev.h"
#include "vmm/dev/vpower.h"
#include "vmm/dev/vioapic.h"
#include "vmm/pc/pc.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

static struct machine m;
static struct vioapic *io;
static struct {
	uint64_t addr;
	uint32_t data;
} msi[64];
static unsigned nmsi, offs, resets;

static void fake_msi(void *arg, uint64_t addr, uint32_t data)
{
	(void)arg;
	assert_true(nmsi < ARRAY_SIZE(msi));
	msi[nmsi].addr = addr;
	msi[nmsi++].data = data;
}
static void power_off(void *arg) { (void)arg, offs++; }
static void reset(void *arg) { (void)arg, resets++; }

static void build(void)
{
	list_init(&m.devs);
	bus_init(&m.bus);
	assert_int_equal(vioapic_create(&m, &io), 0);
	assert_int_equal(vpower_create(&m), 0);
}

static void unbuild(void)
{
	list_for_each(d, &m.devs, struct dev, node)
		d->ops->fini(d);
	assert_true(list_empty(&m.devs) && !m.bus.space[BUS_MMIO].n && !m.bus.space[BUS_PIO].n);
}

static int setup(void **state)
{
	(void)state;
	m = (struct machine){ .msi = fake_msi, .power_off = power_off, .reset = reset };
	nmsi = offs = resets = 0;
	build();
	return 0;
}
static int teardown(void **state)
{
	(void)state;
	unbuild();
	return 0;
}

static void migrate(void)
{
	uint8_t buf[2][256];
	unsigned i = 0, before = nmsi;
	struct why w = { "" };

	list_for_each(d, &m.devs, struct dev, node)
		state_save(d->section[0].desc, d->section[0].obj, buf[i++]);
	unbuild();
	build();
	i = 0;
	list_for_each(d, &m.devs, struct dev, node) {
		if (state_load(d->section[0].desc, d->section[0].obj, 1, buf[i++], state_size(d->section[0].desc), &w))
			fail_msg("%s", w.text);
		if (d->ops->resume)
			d->ops->resume(d);
	}
	assert_int_equal(nmsi, before); /* a load raises nothing */
}

static void wr(unsigned reg, uint32_t v)
{
	bus_write(&m.bus, BUS_MMIO, PC_IOAPIC, 4, reg);
	migrate();
	bus_write(&m.bus, BUS_MMIO, PC_IOAPIC + 0x10, 4, v);
	migrate();
}
static uint32_t rd(unsigned reg)
{
	bus_write(&m.bus, BUS_MMIO, PC_IOAPIC, 4, reg);
	migrate();
	return (uint32_t)bus_read(&m.bus, BUS_MMIO, PC_IOAPIC + 0x10, 4);
}
static void pin(unsigned n, bool level)
{
	vioapic_set_pin(io, n, level);
	migrate();
}
static void eoi(uint8_t v)
{
	vioapic_eoi(io, v);
	migrate();
}

static void test_registers(void **state)
{
	(void)state;
	assert_int_equal(rd(1), 0x170020);
	assert_int_equal(rd(0), 0);
	wr(0, 0xffffffff);
	assert_int_equal(rd(0), 0x0f000000);
	assert_int_equal(rd(2), 0x0f000000);
	for (unsigned i = 0; i < PC_IOAPIC_PINS; i++)
		assert_int_equal(rd(0x10 + 2 * i), 0x10000);
	wr(0x10 + 2 * 23, 0xffffffff);
	wr(0x11 + 2 * 23, 0xffffffff);
	assert_int_equal(rd(0x10 + 2 * 23), 0x1afff); /* status and remote IRR are read-only */
	assert_int_equal(rd(0x11 + 2 * 23), 0xff000000);
	wr(0x40, 0); /* beyond the last */
	assert_int_equal(rd(0x40), 0xffffffff);
	vioapic_set_pin(io, 24, true);
	vioapic_set_pin(io, 4000000000U, true);
	assert_int_equal(nmsi, 0);
}

static void test_edge(void **state)
{
	(void)state;
	wr(0x11 + 8, 5U << 24);
	wr(0x10 + 8, 0x31);
	pin(4, true);
	assert_int_equal(nmsi, 1);
	assert_true(msi[0].addr == (0xfee00000 | 5 << 12) && msi[0].data == 0x31);
	pin(4, true);
	assert_int_equal(nmsi, 1);
	pin(4, false);
	eoi(0x31);
	assert_int_equal(nmsi, 1);
	pin(4, true);
	assert_int_equal(nmsi, 2);
	pin(4, false);
	assert_false(vioapic_is_masked(io, 4));
	wr(0x10 + 8, 0x10031); /* an edge while masked comes at the unmask, once */
	assert_true(vioapic_is_masked(io, 4));
	pin(4, true);
	pin(4, false);
	assert_int_equal(nmsi, 2);
	wr(0x10 + 8, 0x31);
	assert_int_equal(nmsi, 3);
	wr(0x10 + 8, 0x931); /* logical, lowest priority */
	pin(4, true);
	assert_true(nmsi == 4 && msi[3].addr == (0xfee00004 | 5 << 12) && msi[3].data == 0x131);
}

static void test_level(void **state)
{
	(void)state;
	wr(0x10 + 10, 0x8042);
	pin(5, true);
	assert_true(nmsi == 1 && msi[0].data == 0xc042);
	assert_int_equal(rd(0x10 + 10), 0xc042); /* remote IRR */
	pin(5, false);
	pin(5, true);
	assert_int_equal(nmsi, 1); /* not before the EOI */
	eoi(0x43);
	assert_int_equal(nmsi, 1);
	eoi(0x42);
	assert_int_equal(nmsi, 2); /* still asserted */
	pin(5, false);
	eoi(0x42);
	assert_int_equal(nmsi, 2);
	assert_int_equal(rd(0x10 + 10), 0x8042);
	wr(0x10 + 10, 0x18042);
	pin(5, true);
	assert_int_equal(nmsi, 2);
	wr(0x10 + 10, 0x8042);
	assert_int_equal(nmsi, 3);
	bus_write(&m.bus, BUS_MMIO, PC_IOAPIC + 0x40, 4, 0x42); /* the EOI register */
	assert_int_equal(nmsi, 4);
	wr(0x10 + 10, 0x10042); /* to edge and back: how drivers clear a stuck remote IRR */
	assert_int_equal(rd(0x10 + 10), 0x10042);
	pin(5, false);
	wr(0x10 + 10, 0x8042);
	assert_int_equal(nmsi, 4);
}

static void test_power(void **state)
{
	(void)state;
	bus_write(&m.bus, BUS_PIO, PC_POWER, 1, 5 << 2); /* type without enable */
	migrate();
	assert_int_equal(offs, 0);
	assert_int_equal(bus_read(&m.bus, BUS_PIO, PC_POWER, 1), 5 << 2);
	bus_write(&m.bus, BUS_PIO, PC_POWER, 1, 3 << 2 | 1 << 5);
	assert_int_equal(offs, 0); /* no such state */
	bus_write(&m.bus, BUS_PIO, PC_POWER, 1, 5 << 2 | 1 << 5);
	assert_int_equal(offs, 1);
	migrate();
	assert_int_equal(bus_read(&m.bus, BUS_PIO, PC_POWER + 1, 1), 0);
	bus_write(&m.bus, BUS_PIO, PC_POWER + 1, 1, 0xff);
	bus_write(&m.bus, BUS_PIO, PC_POWER + 2, 1, 2);
	assert_int_equal(resets, 0);
	bus_write(&m.bus, BUS_PIO, PC_POWER + 2, 1, 1);
	assert_int_equal(resets, 1);
	assert_int_equal(offs, 1);
}

/* What firmware does where it knows no FADT. */
static void test_reset_by_8042(void **state)
{
	(void)state;
	assert_int_equal(bus_read(&m.bus, BUS_PIO, 0x64, 1), 0xff); /* no controller */
	bus_write(&m.bus, BUS_PIO, 0x64, 1, 0xfe);
	assert_int_equal(resets, 0);
	m.s.kind = MACHINE_PVH;
	assert_int_equal(bus_read(&m.bus, BUS_PIO, 0x64, 1), 0xff);
	for (unsigned v = 0; v < 256; v++)
		if (v != 0xfe)
			bus_write(&m.bus, BUS_PIO, 0x64, 1, v);
	assert_int_equal(resets, 0);
	bus_write(&m.bus, BUS_PIO, 0x64, 1, 0xfe);
	assert_int_equal(resets, 1);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
	const struct CMUnitTest tests[] = { T(test_registers), T(test_edge), T(test_level), T(test_power),
					    T(test_reset_by_8042) };
	return cmocka_run_group_tests_name("ioapic", tests, NULL, NULL);
}

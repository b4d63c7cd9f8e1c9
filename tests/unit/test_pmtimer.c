/* SPDX-License-Identifier: BSD-2-Clause */
/* ACPI's power management timer by a guest's clock that the test turns: rate, wrap, widths, and machines without it. */
#include "kernel/time.h"
#include "tests/unit/fake_kernel.h"
#include "vmm/dev/vpmtimer.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <cmocka.h>

#define HZ 3579545

static struct machine m;
static uint64_t now_ns;

static uint64_t now(void *arg unused) { return now_ns; }
static uint64_t in(uint64_t port, unsigned size) { return bus_read(&m.bus, BUS_PIO, port, size); }
static uint64_t at(uint64_t ns)
{
	now_ns = ns;
	return in(0x608, 4);
}

static void test_timer(void **state unused)
{
	m = (struct machine){ .now_ns = now, .s.kind = MACHINE_PVH };
	list_init(&m.devs);
	bus_init(&m.bus);
	assert_int_equal(vpmtimer_create(&m), 0);
	struct dev *d = list_entry(m.devs.next, struct dev, node);
	assert_int_equal(d->nsections, 0); /* it migrates with the clock */

	assert_int_equal(at(0), 0);
	assert_int_equal(at(279), 0); /* a tick is 279.4 ns */
	assert_int_equal(at(280), 1);
	assert_int_equal(at(NS_PER_SEC - 1), HZ - 1);
	assert_int_equal(at(NS_PER_SEC), HZ);
	/* It wraps after 2^32 ticks, 1199.86 s, and is exact for as long as a guest's clock lasts. */
	assert_int_equal(at(1200 * NS_PER_SEC), 1200UL * HZ - (1UL << 32));
	assert_int_equal(at(584UL * 365 * 86400 * NS_PER_SEC), (584UL * 365 * 86400 * HZ) & 0xffffffff);
	uint64_t last = 0;
	for (uint64_t ns = 0; ns < 3000000; ns += 97) {
		uint64_t ticks = at(ns);
		assert_true(ticks - last <= 1);
		last = ticks;
	}
	uint64_t v = at(1234567890123);
	assert_true(in(0x608, 1) == (v & 0xff) && in(0x609, 1) == (v >> 8 & 0xff) && in(0x60b, 1) == v >> 24 &&
		    in(0x60a, 2) == v >> 16);
	bus_write(&m.bus, BUS_PIO, 0x608, 4, 0); /* read-only */
	d->ops->reset(d);
	assert_int_equal(in(0x608, 4), v);

	m.s.kind = MACHINE_PLAIN;
	assert_int_equal(in(0x608, 4), 0xffffffff);
	d->ops->fini(d);
	assert_true(list_empty(&m.devs) && !m.bus.space[BUS_PIO].n);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_timer) };
	return cmocka_run_group_tests_name("pmtimer", tests, NULL, NULL);
}

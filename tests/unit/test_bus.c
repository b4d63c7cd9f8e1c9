/* SPDX-License-Identifier: BSD-2-Clause */
/* The guest's address decoders. */
#include "vmm/bus.h"
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

static struct bus b;
static uint64_t last_off, last_val;

static uint64_t reg_read(void *arg, uint64_t off, unsigned size)
{
	(void)size;
	last_off = off;
	return (uint64_t)(uintptr_t)arg * 0x0101010101010101UL;
}
static void reg_write(void *arg, uint64_t off, unsigned size, uint64_t val)
{
	(void)arg;
	(void)size;
	last_off = off;
	last_val = val;
}
static const struct bus_ops ops = { reg_read, reg_write };

static int add(enum bus_space s, uint64_t base, uint64_t len, uintptr_t id)
{
	return bus_add(&b, s, &(struct bus_region){ base, len, &ops, (void *)id, "r" });
}

static void test_decode(void **state)
{
	(void)state;
	bus_init(&b);
	assert_int_equal(add(BUS_PIO, 0x60, 8, 2), 0);
	assert_int_equal(add(BUS_PIO, 0x40, 0x20, 1), 0); /* right up to the first */
	assert_int_equal(add(BUS_PIO, 0x100, 4, 3), 0);
	assert_int_equal(add(BUS_MMIO, 0x40, 4, 4), 0);
	assert_int_equal(bus_read(&b, BUS_PIO, 0x5f, 1), 1);
	assert_int_equal(last_off, 0x1f);
	assert_int_equal(bus_read(&b, BUS_PIO, 0x60, 2), 0x0202); /* cut to its size */
	assert_int_equal(last_off, 0);
	assert_int_equal(bus_read(&b, BUS_MMIO, 0x40, 4), 0x04040404);
	bus_write(&b, BUS_PIO, 0x103, 1, 0x1234);
	assert_int_equal(last_off, 3);
	assert_int_equal(last_val, 0x34);
	assert_int_equal(b.unclaimed, 0);
	/* Nobody there, or not wholly inside. */
	assert_int_equal(bus_read(&b, BUS_PIO, 0x3f, 1), 0xff);
	assert_int_equal(bus_read(&b, BUS_PIO, 0x103, 2), 0xffff);
	assert_int_equal(bus_read(&b, BUS_PIO, 0x5f, 2), 0xffff);
	assert_true(bus_read(&b, BUS_MMIO, 0x40, 8) == ~0UL);
	assert_true(bus_read(&b, BUS_MMIO, ~0UL, 8) == ~0UL);
	bus_write(&b, BUS_PIO, 0x68, 1, 1);
	assert_int_equal(b.unclaimed, 6);
	bus_remove(&b, BUS_PIO, 0x61); /* not a base: nothing */
	assert_int_equal(bus_read(&b, BUS_PIO, 0x60, 1), 2);
	bus_remove(&b, BUS_PIO, 0x60);
	assert_int_equal(bus_read(&b, BUS_PIO, 0x60, 1), 0xff);
	assert_int_equal(bus_read(&b, BUS_PIO, 0x100, 1), 3);
}

static void test_refused(void **state)
{
	(void)state;
	bus_init(&b);
	assert_int_equal(add(BUS_MMIO, 0x1000, 0x1000, 1), 0);
	assert_int_equal(add(BUS_MMIO, 0x1000, 0x1000, 1), -EEXIST);
	assert_int_equal(add(BUS_MMIO, 0x1fff, 1, 1), -EEXIST);
	assert_int_equal(add(BUS_MMIO, 0x0, 0x1001, 1), -EEXIST);
	assert_int_equal(add(BUS_MMIO, 0x0, ~0UL, 1), -EEXIST);
	assert_int_equal(add(BUS_MMIO, 0x5000, 0, 1), -EINVAL);
	assert_int_equal(add(BUS_MMIO, ~0UL, 2, 1), -EINVAL);
	assert_int_equal(add(BUS_PIO, 0xfff0, 0x11, 1), -EINVAL);
	assert_int_equal(add(BUS_PIO, 0xfff0, 0x10, 1), 0);
	for (unsigned i = 1; i < BUS_MAX_REGIONS; i++)
		assert_int_equal(add(BUS_MMIO, 0x100000UL * (BUS_MAX_REGIONS - i), 0x1000, 1), 0);
	assert_int_equal(add(BUS_MMIO, 0x5000, 1, 1), -ENOSPC);
	bus_remove(&b, BUS_MMIO, 0x1000);
	assert_int_equal(add(BUS_MMIO, 0x5000, 1, 5), 0);
	assert_int_equal(bus_read(&b, BUS_MMIO, 0x5000, 1), 5);
	for (unsigned i = 1; i < BUS_MAX_REGIONS; i++)
		assert_int_equal(bus_read(&b, BUS_MMIO, 0x100000UL * i, 1), 1);
}

/* Other vCPUs look up while a BAR comes and goes, below and between what they look for. */
static bool over;
static uint64_t quiet_read(void *arg, uint64_t off unused, unsigned size unused) { return (uintptr_t)arg; }
static const struct bus_ops quiet = { quiet_read, NULL };
enum { FIXED = 0x4000, BAR = 0x8000, LAST = 0xc000 };

static void *looks(void *wrong)
{
	while (!__atomic_load_n(&over, __ATOMIC_RELAXED)) {
		uint64_t bar = bus_read(&b, BUS_MMIO, BAR + 8, 4);
		*(unsigned *)wrong += bus_read(&b, BUS_MMIO, FIXED, 4) != 1 || bus_read(&b, BUS_MMIO, LAST, 4) != 3 ||
				      bus_read(&b, BUS_MMIO, LAST + 0x2000, 4) != 0xffffffff ||
				      (bar != 2 && bar != 0xffffffff);
	}
	return NULL;
}

static void test_while_it_changes(void **state)
{
	pthread_t th[2];
	unsigned wrong[2] = { 0 };
	const struct bus_region bar = { BAR, 0x1000, &quiet, (void *)2, "bar" },
				low = { 0, 0x1000, &quiet, NULL, "low" };
	(void)state;
	bus_init(&b);
	assert_int_equal(bus_add(&b, BUS_MMIO, &(struct bus_region){ FIXED, 0x1000, &quiet, (void *)1, "a" }), 0);
	assert_int_equal(bus_add(&b, BUS_MMIO, &(struct bus_region){ LAST, 0x1000, &quiet, (void *)3, "c" }), 0);
	for (unsigned i = 0; i < 2; i++)
		assert_int_equal(pthread_create(&th[i], NULL, looks, &wrong[i]), 0);
	for (unsigned i = 0; i < 20000; i++) {
		assert_int_equal(bus_add(&b, BUS_MMIO, &bar), 0);
		assert_int_equal(bus_add(&b, BUS_MMIO, &low), 0);
		bus_remove(&b, BUS_MMIO, BAR);
		bus_remove(&b, BUS_MMIO, 0);
	}
	__atomic_store_n(&over, true, __ATOMIC_RELAXED);
	for (unsigned i = 0; i < 2; i++)
		pthread_join(th[i], NULL);
	assert_true(!wrong[0] && !wrong[1]);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_decode), cmocka_unit_test(test_refused),
					    cmocka_unit_test(test_while_it_changes) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}

/* SPDX-License-Identifier: BSD-2-Clause */
/* Two CPUs, as threads, whose counters are off by what the test says. */
#include "arch/x86/cpu.h"
#include "arch/x86/tsc_sync.h"
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <cmocka.h>

#define PATIENCE 40000000000ULL /* ticks: some 10 s */

static int64_t skew;   /* of the other's counter; its own thread's */
static unsigned drift; /* its counter is faster by 1 / drift */
static bool deaf, obstinate, done;
static struct tsc_sync sync;

static uint64_t mine(void) { return rdtsc_ordered(); }
static uint64_t its(void)
{
	uint64_t t = rdtsc_ordered();
	return t + (uint64_t)skew + (drift ? t / drift : 0);
}
static void its_step(int64_t ticks)
{
	if (!obstinate)
		skew += ticks;
}
static void late_step(int64_t ticks) { skew += ticks - 300; } /* as by WRMSR of the TSC */
static void no_step(int64_t ticks unused) { fail(); }
static const struct tsc_clock my_clock = { mine, no_step }, its_clock = { its, its_step },
			      late_clock = { its, late_step };

static void *other(void *clock)
{
	while (!__atomic_load_n(&done, __ATOMIC_ACQUIRE))
		if (!__atomic_load_n(&deaf, __ATOMIC_RELAXED))
			tsc_sync_answer(&sync, clock);
	return NULL;
}

static int run(const struct tsc_clock *clock, int64_t is_off, uint64_t patience, int64_t *found)
{
	pthread_t t;
	skew = is_off;
	done = false;
	sync = (struct tsc_sync){ 0 };
	assert_int_equal(pthread_create(&t, NULL, other, (void *)(uintptr_t)clock), 0);
	int err = tsc_sync_ask(&sync, &my_clock, patience, found);
	__atomic_store_n(&done, true, __ATOMIC_RELEASE);
	pthread_join(t, NULL);
	return err;
}

static void test_that_agrees(void **state unused)
{
	int64_t off;
	assert_int_equal(run(&its_clock, 0, PATIENCE, &off), 0);
	assert_int_equal(off, 0);
	assert_int_equal(skew, 0); /* left alone */
}

/* What is left is less than the fastest answer took. */
static void test_that_is_off(void **state unused)
{
	static const int64_t by[] = { 1000000000000, -1000000000000, 0x7000000000000000, INT64_MIN / 2 };
	for (unsigned i = 0; i < ARRAY_SIZE(by); i++) {
		int64_t off, slack = 10000000; /* two threads of a machine that has other work: 3 ms */
		assert_int_equal(run(&its_clock, by[i], PATIENCE, &off), 0);
		assert_true(off > by[i] - slack && off < by[i] + slack);
		assert_true(skew > -slack && skew < slack);
	}
}

static void test_that_is_stepped_late(void **state unused)
{
	int64_t off;
	assert_int_equal(run(&late_clock, 5000000000, PATIENCE, &off), 0);
	assert_true(off > 4990000000 && off < 5010000000);
}

static void test_that_cannot_agree(void **state unused)
{
	int64_t off;
	obstinate = true;
	assert_int_equal(run(&its_clock, 1000000000000, PATIENCE, &off), -EIO);
	obstinate = false;
	drift = 2; /* 32 rounds at 3/2 of our rate */
	assert_int_equal(run(&its_clock, 0, PATIENCE, &off), -EIO);
	drift = 0;
	deaf = true;
	assert_int_equal(run(&its_clock, 0, 1000000, &off), -ETIMEDOUT);
	deaf = false;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_that_agrees),
		cmocka_unit_test(test_that_is_off),
		cmocka_unit_test(test_that_is_stepped_late),
		cmocka_unit_test(test_that_cannot_agree),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}

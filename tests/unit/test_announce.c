/* SPDX-License-Identifier: BSD-2-Clause */
/* The announcement: every byte of the frame, its repeats in time, and its end when the port goes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "kernel/task.h"
#include "kernel/time.h"
#include "net/announce.h"
#include "tests/unit/fake_kernel.h"
#include <string.h>

static const uint8_t mac[6] = { 0x52, 0x54, 0x00, 0x12, 0x34, 0x56 };

static void every_byte(void **state)
{
	(void)state;
	/* clang-format off */
	static const uint8_t want[60] = {
		0xff, 0xff, 0xff, 0xff, 0xff, 0xff,       /* to all */
		0x52, 0x54, 0x00, 0x12, 0x34, 0x56,       /* from the guest */
		0x80, 0x35,                               /* RARP */
		0x00, 0x01, 0x08, 0x00, 0x06, 0x04,       /* Ethernet, IPv4, lengths */
		0x00, 0x03,                               /* request reverse */
		0x52, 0x54, 0x00, 0x12, 0x34, 0x56, 0, 0, 0, 0, /* sender */
		0x52, 0x54, 0x00, 0x12, 0x34, 0x56, 0, 0, 0, 0, /* target */
		0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
	};
	/* clang-format on */
	uint8_t buf[ANNOUNCE_RARP_LEN];
	memset(buf, 0xa5, sizeof(buf));
	assert_int_equal(announce_rarp(buf, mac), 60);
	assert_memory_equal(buf, want, 60);
}

static struct {
	unsigned n;
	uint64_t at[16];
	uint8_t last[64];
	size_t len;
} heard;

static int listen(void *arg, const struct frame *f)
{
	(void)arg;
	unsigned n = __atomic_load_n(&heard.n, __ATOMIC_SEQ_CST);
	heard.at[n % 16] = time_ns();
	heard.len = frame_copy_out(f, 0, heard.last, sizeof(heard.last));
	__atomic_store_n(&heard.n, n + 1, __ATOMIC_SEQ_CST);
	return 0;
}

static struct bridge *b;
static struct bridge_port wire = { .send = listen }, guest = { .send = listen, .is_guest = true };

static int setup(void **state)
{
	(void)state;
	memset(&heard, 0, sizeof(heard));
	memcpy(guest.mac, mac, 6);
	assert_int_equal(bridge_create(&b, "lan"), 0);
	bridge_add(b, &wire);
	bridge_add(b, &guest);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	assert_true(fake_tasks_wait()); /* the repeating task is gone once it has nothing to do */
	bridge_remove(&guest);
	bridge_remove(&wire);
	bridge_destroy(b);
	return 0;
}

static void repeats(void **state)
{
	(void)state;
	static const unsigned ms[] = { 0, 50, 150, 250, 350 };
	uint64_t start = time_ns();
	announce_start(&guest);
	assert_int_equal(heard.n, 1); /* the first does not wait for any task */
	assert_true(fake_tasks_wait());
	assert_int_equal(heard.n, 5);
	for (unsigned i = 0; i < 5; i++) {
		uint64_t late = heard.at[i] - start;
		assert_true(late >= ms[i] * NS_PER_MS && late < (ms[i] + 1000) * NS_PER_MS &&
			    (i == 0 || heard.at[i] >= heard.at[i - 1]));
	}
	uint8_t want[ANNOUNCE_RARP_LEN];
	announce_rarp(want, mac);
	assert_int_equal(heard.len, 60);
	assert_memory_equal(heard.last, want, 60);
}

static void starts_anew(void **state)
{
	(void)state;
	announce_start(&guest);
	task_sleep_until(time_in_ms(100)); /* the first and one repeat are out */
	announce_start(&guest);
	assert_true(fake_tasks_wait());
	assert_int_equal(heard.n, 2 + 5);
}

static void cancel_ends_it(void **state)
{
	(void)state;
	announce_start(&guest);
	task_sleep_until(time_in_ms(70));
	announce_cancel(&guest);
	unsigned n = heard.n;
	assert_int_equal(n, 2);
	bridge_remove(&guest);
	assert_true(fake_tasks_wait());
	assert_int_equal(heard.n, n);
	announce_cancel(&guest);
	bridge_add(b, &guest);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_byte),
		cmocka_unit_test_setup_teardown(repeats, setup, teardown),
		cmocka_unit_test_setup_teardown(starts_anew, setup, teardown),
		cmocka_unit_test_setup_teardown(cancel_ends_it, setup, teardown),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}

/* SPDX-License-Identifier: BSD-2-Clause */
/* Announcing: rounds in time, what each is made of, repetition and end. The frames are test_announce_frames.c's. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "kernel/sync.h"
#include "kernel/time.h"
#include "net/announce.h"
#include "tests/unit/fake_kernel.h"
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

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
	uint8_t buf[ANNOUNCE_FRAME_MAX];
	memset(buf, 0xa5, sizeof(buf));
	assert_int_equal(announce_rarp(buf, mac), 60);
	assert_memory_equal(buf, want, 60);
}

/* All that crosses the wire, and what the guest hears, as text: "+MS KIND". */
static char said[4096];
static uint64_t start_ns;
static pthread_mutex_t said_lock = PTHREAD_MUTEX_INITIALIZER;

static const char *kind(const struct frame *f)
{
	uint8_t h[80] = { 0 };
	frame_copy_out(f, 0, h, sizeof(h));
	switch (h[12] << 8 | h[13]) {
	case 0x8035: return "RARP";
	case 0x0806: return h[31] == 1 ? "ARP .1" : "ARP .2";
	case 0x0800: return h[38] == 0x22 ? "IGMP report" : h[38] == 0x11 ? "IGMP query" : "?";
	case 0x86dd: return h[54] == 136 ? "NA" : h[62] == 143 ? "MLD report" : h[62] == 130 ? "MLD query" : "?";
	default: return "?";
	}
}

static void say(const char *who, const char *what)
{
	pthread_mutex_lock(&said_lock);
	snprintf(said + strlen(said), sizeof(said) - strlen(said), "+%u %s %s\n",
		 (unsigned)((time_ns() - start_ns) / NS_PER_MS), who, what);
	pthread_mutex_unlock(&said_lock);
}

static unsigned count(const char *what)
{
	unsigned n = 0;
	pthread_mutex_lock(&said_lock);
	for (const char *p = said; (p = strstr(p, what)); p++)
		n++;
	pthread_mutex_unlock(&said_lock);
	return n;
}

static int on_wire(void *arg unused, const struct frame *f) { return say("wire", kind(f)), 0; }
static int on_guest(void *arg unused, const struct frame *f) { return say("guest", kind(f)), 0; }
static void told(void *arg unused) { say("guest", "told"); }

static struct bridge *b;
static struct bridge_port wire = { .send = on_wire }, guest = { .send = on_guest, .is_guest = true };
static struct learn learn;
static struct announce a;

static int setup(void **state unused)
{
	fake_time_freeze(1000 * NS_PER_SEC);
	start_ns = time_ns();
	said[0] = '\0';
	memcpy(guest.mac, mac, 6);
	assert_int_equal(bridge_create(&b, "lan", 1500, true), 0);
	bridge_add(b, &wire);
	bridge_add(b, &guest);
	learn_init(&learn);
	announce_init(&a, &guest, &learn, told, NULL);
	announce_add(&a);
	announce_add(&a);
	return 0;
}

static int teardown(void **state unused)
{
	announce_remove(&a);
	announce_remove(&a);
	fake_time_thaw();
	assert_true(fake_tasks_wait()); /* the task is gone once no guest is here */
	bridge_remove(&guest);
	bridge_remove(&wire);
	bridge_destroy(b);
	return 0;
}

/* Wait, in the world's time, until what has been said n times. */
static void wait_for(const char *what, unsigned n)
{
	for (unsigned i = 0; count(what) < n; i++) {
		struct timespec ts = { .tv_nsec = 1000000 };
		if (i == 10000)
			fail_msg("not %u times %s in:\n%s", n, what, said);
		nanosleep(&ts, NULL);
	}
}

/* Let the rounds that begin at ms pass, none a moment earlier. */
static void rounds(const unsigned *ms, unsigned n, const char *last, unsigned before)
{
	for (unsigned i = 0; i < n; i++) {
		uint64_t at = start_ns + ms[i] * NS_PER_MS;
		if (time_ns() < at) {
			assert_int_equal(__atomic_load_n(&a.next_ns, __ATOMIC_SEQ_CST), at);
			fake_time_advance(at - time_ns());
		}
		wait_for(last, before + i + 1);
	}
}

static void repeats(void **state unused)
{
	announce_start(&a);
	assert_string_equal(said, "+0 wire RARP\n+0 guest IGMP query\n+0 guest MLD query\n+0 guest told\n");
	rounds((const unsigned[]){ 50, 200, 450 }, 3, "RARP", 1);
	assert_int_equal(count("query"), 2);
	rounds((const unsigned[]){ 800 }, 1, "RARP", 4);
	wait_for("MLD query", 2);
	fake_time_advance(100 * NS_PER_SEC);
	assert_true(count("+800 wire RARP") == 1 && count("RARP") == 5 && count("query") == 4 && count("told") == 1);
}

/* What is known of the guest, in this order; not an address that has been out of use for a quarter of an hour. */
static void what_is_known(void **state unused)
{
	learn.s = (struct learn_state){ .ip4 = { 10, 0, 0, 1, 10, 0, 0, 2 },
					.ip6 = { 0xfe, 0x80, [15] = 1, [16] = 0xfe, 0x80, [31] = 2 },
					.group4 = { 239, 0, 0, 1 },
					.ip4_age = { 899, 902 },
					.ip6_age = { 0, 902 } };
	learn_loaded(&learn, time_ns());
	announce_start(&a);
	assert_string_equal(said, "+0 wire RARP\n+0 wire ARP .1\n+0 wire NA\n+0 wire IGMP report\n+0 wire MLD report\n"
				  "+0 guest IGMP query\n+0 guest MLD query\n+0 guest told\n");
	rounds((const unsigned[]){ 50, 200, 450, 800 }, 4, "MLD report", 1);
	assert_true(count("ARP .1") == 5 && count("NA") == 5 && count("IGMP report") == 5);
}

static void starts_anew(void **state unused)
{
	announce_start(&a);
	rounds((const unsigned[]){ 50 }, 1, "RARP", 1);
	announce_start(&a);
	rounds((const unsigned[]){ 50, 100, 250, 500, 850 }, 5, "RARP", 2);
	fake_time_advance(NS_PER_SEC);
	assert_int_equal(count("RARP"), 2 + 5);
}

/* The uplink is back: again, from the task; not for guests of another bridge. */
static void link_is_back(void **state unused)
{
	struct bridge *elsewhere;
	assert_int_equal(bridge_create(&elsewhere, "dmz", 1500, true), 0);
	announce_again(elsewhere);
	assert_int_equal(a.next_ns, TIME_NEVER);
	announce_again(b);
	wait_for("told", 1);
	start_ns = time_ns();
	rounds((const unsigned[]){ 50, 200, 450, 800 }, 4, "RARP", 1);
	bridge_destroy(elsewhere);
}

static void remove_ends_it(void **state unused)
{
	announce_start(&a);
	rounds((const unsigned[]){ 50 }, 1, "RARP", 1);
	announce_remove(&a);
	unsigned n = count("\n");
	bridge_remove(&guest);
	announce_again(b);
	fake_time_advance(NS_PER_SEC);
	assert_true(fake_tasks_wait());
	assert_int_equal(count("\n"), n);
	bridge_add(b, &guest);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_byte),
		cmocka_unit_test_setup_teardown(repeats, setup, teardown),
		cmocka_unit_test_setup_teardown(starts_anew, setup, teardown),
		cmocka_unit_test_setup_teardown(remove_ends_it, setup, teardown),
		cmocka_unit_test_setup_teardown(what_is_known, setup, teardown),
		cmocka_unit_test_setup_teardown(link_is_back, setup, teardown),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}

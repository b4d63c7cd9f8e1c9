/* SPDX-License-Identifier: BSD-2-Clause */
/* The pass policy on tables: what it decides after each pass, and what it tells the operator when it gives up. */
#include "vmm/migrate/policy.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#define MS NS_PER_MS

struct row {
	uint64_t bytes, ms, rtt_ms, left; /* of the pass */
	enum policy_verdict want;
};

static void play(uint64_t downtime_ms, uint32_t max_passes, const struct row *r, unsigned n, struct why *w)
{
	struct policy p;
	policy_init(&p, MIGRATE_ABORT, downtime_ms * MS, max_passes);
	for (unsigned i = 0; i < n; i++) {
		struct policy_pass pass = { .pass = i + 1,
					    .bytes = r[i].bytes,
					    .ns = r[i].ms * MS,
					    .rtt_ns = r[i].rtt_ms * MS,
					    .left = r[i].left };
		enum policy_verdict v = policy_next(&p, &pass, w);
		if (v != r[i].want)
			fail_msg("pass %u: verdict %d, wanted %d", i + 1, v, r[i].want);
	}
}
#define PLAY(ms, max, rows, w) play(ms, max, rows, ARRAY_SIZE(rows), w)

/* An idle guest: it would fit after pass 1 already, and a few cheap passes make the downtime short. */
static void test_idle(void **state unused)
{
	const struct row rows[] = {
		{ 60 << 20, 1000, 1, 2000, POLICY_AGAIN }, /* 8 MB at 60 MB/s: 140 ms, fits 300, but worth polishing */
		{ 8 << 20, 140, 1, 300, POLICY_AGAIN },
		{ 1200000, 20, 1, 60, POLICY_STOP }, /* as good as nothing left */
	};
	PLAY(300, 30, rows, NULL);
}

/* A steady writer: the set stops shrinking where it fits. */
static void test_steady_fits(void **state unused)
{
	const struct row rows[] = {
		{ 60 << 20, 1000, 1, 4000, POLICY_AGAIN },
		{ 16 << 20, 270, 1, 1100, POLICY_AGAIN },
		{ 5 << 20, 80, 1, 1000, POLICY_STOP },
	};
	PLAY(300, 30, rows, NULL);
}

static void test_polish_is_bounded(void **state unused)
{
	/* clang-format off */
	const struct row rows[] = {
		{ 600 << 20, 1000, 0, 30000, POLICY_AGAIN }, { 120 << 20, 200, 0, 15000, POLICY_AGAIN },
		{ 60 << 20, 100, 0, 7000, POLICY_AGAIN },    { 28 << 20, 50, 0, 3000, POLICY_AGAIN },
		{ 12 << 20, 20, 0, 1500, POLICY_STOP },
	};
	/* clang-format on */
	PLAY(300, 30, rows, NULL);
}

static void test_gives_up_when_stuck(void **state unused)
{
	struct why w = { "" };
	/* clang-format off */
	const struct row rows[] = {
		{ 256 << 20, 4000, 1, 60000, POLICY_AGAIN }, { 234 << 20, 4000, 1, 60000, POLICY_AGAIN },
		{ 234 << 20, 4000, 1, 61000, POLICY_AGAIN }, { 234 << 20, 4000, 1, 60000, POLICY_AGAIN },
		{ 234 << 20, 4000, 1, 60000, POLICY_AGAIN }, { 234 << 20, 4000, 1, 60000, POLICY_GIVE_UP },
	};
	/* clang-format on */
	PLAY(300, 30, rows, &w);
	assert_non_null(strstr(w.text, "did not converge"));
	assert_non_null(strstr(w.text, "--max-downtime"));
	assert_true(strlen(w.text) < sizeof(w.text) - 1);
}

static void test_max_passes(void **state unused)
{
	struct why w = { "" };
	const struct row rows[] = { { 256 << 20, 4000, 1, 60000, POLICY_AGAIN },
				    { 234 << 20, 4000, 1, 40000, POLICY_GIVE_UP } };
	PLAY(300, 2, rows, &w);
	const struct row fits[] = { { 256 << 20, 1000, 1, 10000,
				      POLICY_STOP } }; /* the last pass allowed: no polishing */
	PLAY(300, 1, fits, NULL);
}

/* A budget smaller than the fixed cost can never be met. */
static void test_tiny_budget(void **state unused)
{
	struct why w = { "" };
	const struct row rows[] = { { 60 << 20, 1000, 1, 1, POLICY_GIVE_UP } };
	PLAY(1, 30, rows, &w);
	assert_true(w.text[0]);
	w.text[0] = 0;
	assert_false(policy_possible(10 * MS, &w)); /* so no migration begins with it */
	assert_non_null(strstr(w.text, "10 ms are allowed; --max-downtime 20ms would do"));
	assert_true(policy_possible(11 * MS, NULL) && policy_possible(20 * MS, NULL));
}

/*
 * What the switch-over costs with nothing left to send: 3/2 round trips, or 1/2 where COMMIT rides with END; rounded
 * up.
 */
static void test_round_trips(void **state unused)
{
	const struct {
		uint64_t rtt_ns, trips_ns;
		bool rides;
	} rows[] = {
		{ 0, 0, false },
		{ 1, 2, false },
		{ 200 * NS_PER_US, 300 * NS_PER_US, false },
		{ 10 * MS - 1, 15 * MS - 1, false },
		{ 10 * MS, 5 * MS, true },
		{ 10 * MS + 1, 5 * MS + 1, true },
		{ 150 * MS, 75 * MS, true },
		{ 700 * MS, 350 * MS, true },
	};
	for (unsigned i = 0; i < ARRAY_SIZE(rows); i++) {
		struct policy_pass pass = { .pass = 1, .bytes = 60 << 20, .ns = 1000 * MS, .rtt_ns = rows[i].rtt_ns };
		struct policy p;
		policy_init(&p, MIGRATE_ABORT, 1000 * MS, 30);
		assert_false(policy_rides(&p)); /* nothing is known of the line yet */
		assert_int_equal(policy_next(&p, &pass, NULL), POLICY_STOP);
		assert_int_equal(policy_rides(&p), rows[i].rides);
		assert_int_equal(policy_predict(&p, 0), POLICY_FIXED_NS + rows[i].trips_ns);
	}
}

/* The first pass's round trip has the stream's queue in it: the shortest one counts, and stays. */
static void test_shortest_round_trip(void **state unused)
{
	const struct {
		uint64_t rtt_us, trips_us;
		bool rides;
	} rows[] = { { 90000, 45000, true }, { 9000, 13500, false }, { 20000, 13500, false }, { 400, 600, false } };
	struct policy p;
	policy_init(&p, MIGRATE_ABORT, 300 * MS, 30);
	for (unsigned i = 0; i < ARRAY_SIZE(rows); i++) {
		struct policy_pass pass = { .pass = i + 1,
					    .bytes = 60 << 20,
					    .ns = 1000 * MS,
					    .rtt_ns = rows[i].rtt_us * NS_PER_US,
					    .left = 100000 >> 2 * i };
		policy_next(&p, &pass, NULL);
		assert_int_equal(policy_rides(&p), rows[i].rides);
		assert_int_equal(policy_predict(&p, 0), POLICY_FIXED_NS + rows[i].trips_us * NS_PER_US);
	}
}

/* The --max-downtime that a refusal says would do. */
static uint64_t enough(const struct why *w)
{
	const char *option = strstr(w->text, "--max-downtime ");
	assert_non_null(option);
	return strtoull(option + strlen("--max-downtime "), NULL, 10);
}

/* No guest is calm enough for a budget that the line alone breaks: said after pass 1, with a number that does. */
static void test_line_too_long(void **state unused)
{
	const struct {
		uint64_t budget_ms, rtt_ms;
		const char *says;
	} rows[] = {
		{ 50, 150, "the line's round trip is 151 ms: the downtime would be at least 86 ms of 50 ms allowed" },
		{ 5, 150, "at least 86 ms of 5 ms allowed" },
		{ 300, 600, "at least 311 ms of 300 ms allowed" },
		{ 80, 150, "at least 86 ms of 80 ms allowed" }, /* the line with our own cost */
	};
	for (unsigned i = 0; i < ARRAY_SIZE(rows); i++) {
		const uint64_t queue_ms = 1; /* a MiB of 1000 in 1000 ms */
		struct row r[] = { { 1000 << 20, 1000, rows[i].rtt_ms + queue_ms, 300, POLICY_GIVE_UP } };
		struct why w = { "" };
		PLAY(rows[i].budget_ms, 30, r, &w);
		if (!strstr(w.text, rows[i].says) || strlen(w.text) == sizeof(w.text) - 1)
			fail_msg("%s", w.text);
		r[0].left = POLICY_SMALL;
		r[0].want = POLICY_STOP;
		PLAY(enough(&w), 30, r, NULL);
	}
	const struct row fits[] = { { 1000 << 20, 1000, 151, 300, POLICY_STOP } };
	PLAY(100, 1, fits, NULL);
}

/* A MiB in flight on 150 ms: only passes that are smaller than that tell a long line from a slow one. */
static void test_line_too_long_for_its_window(void **state unused)
{
	struct why w = { "" };
	struct row rows[] = {
		{ 95 << 20, 13000, 170, 300, POLICY_AGAIN },
		{ 1200000, 300, 150, 100, POLICY_AGAIN },
		{ 100000, 165, 150, 20, POLICY_GIVE_UP },
	};
	PLAY(50, 30, rows, &w);
	assert_non_null(strstr(w.text, "the line's round trip is 150 ms"));
	rows[2].left = POLICY_SMALL; /* as much as a calm guest leaves, on this slow line */
	rows[2].want = POLICY_STOP;
	PLAY(enough(&w), 30, rows, NULL);
}

/* 10 Mbit/s and 2 ms: what waits in the stream's queue makes the first passes' round trip look like 840 ms. */
static void test_slow_line_is_not_a_long_one(void **state unused)
{
	const struct row rows[] = {
		{ 60 << 20, 50000, 840, 800, POLICY_AGAIN },
		{ 3200000, 2600, 840, 300, POLICY_AGAIN },
		{ 1200000, 980, 830, 20, POLICY_AGAIN },
		{ 82000, 70, 3, 20, POLICY_STOP },
	};
	PLAY(100, 30, rows, NULL);
}

/* One late acknowledgement is not the line: an earlier one came sooner. */
static void test_one_late_answer(void **state unused)
{
	const struct row rows[] = {
		{ 400 << 20, 1000, 1, 30000, POLICY_AGAIN },
		{ 120 << 20, 1900, 700, 20000, POLICY_AGAIN },
		{ 4096, 700, 700, 20000, POLICY_AGAIN },
	};
	PLAY(100, 30, rows, NULL);
}

/* What is known of the parts takes the place of what is guessed, and the sum of the parts is the forecast. */
static void test_parts(void **state unused)
{
	struct policy p;
	struct downtime d;
	policy_init(&p, MIGRATE_ABORT, 300 * MS, 30);
	p.stop_ns = 3 * MS;
	p.state_ns = 2 * MS;
	p.load_ns = 7 * MS;
	p.state_bytes = 1000000;
	struct policy_pass pass = {
		.pass = 1, .bytes = 100000000, .ns = 1000 * MS, .rtt_ns = 2 * MS, .scan_ns = 5 * MS
	};
	policy_next(&p, &pass, NULL);
	policy_forecast(&p, 1000, &d);
	assert_int_equal(d.ns[DOWN_SCAN], 8 * MS);
	assert_int_equal(d.ns[DOWN_SEND], 1000 * PAGE_SIZE * 10); /* at 100 MB/s */
	assert_int_equal(d.ns[DOWN_STATE], 12 * MS);
	assert_int_equal(d.ns[DOWN_LOAD], 7 * MS);
	assert_int_equal(d.ns[DOWN_WAITS], 3 * MS);
	assert_int_equal(downtime_sum(&d), policy_predict(&p, 1000));
	/* The shorter one of the last two looks at dirt counts: what others did meanwhile is not in it, as a rule. */
	const struct {
		uint64_t took_ms, counts_ms;
	} scans[] = { { 1, 1 }, { 9, 1 }, { 8, 8 }, { 12, 8 } };
	for (unsigned i = 0; i < ARRAY_SIZE(scans); i++) {
		pass.pass = i + 2;
		pass.scan_ns = scans[i].took_ms * MS;
		policy_next(&p, &pass, NULL);
		policy_forecast(&p, 1000, &d);
		assert_int_equal(d.ns[DOWN_SCAN], (3 + scans[i].counts_ms) * MS);
	}
}

/* An idle guest may never send as much as a good sample: a rough one is better than none, and goes with the first. */
static void test_rough_rate(void **state unused)
{
	struct policy p;
	struct policy_pass pass = { .pass = 1, .bytes = 50000, .ns = 400 * MS, .rtt_ns = 200 * MS };
	policy_init(&p, MIGRATE_ABORT, 300 * MS, 30);
	policy_next(&p, &pass, NULL);
	assert_int_equal(p.rate, 0);
	pass.bytes = 500000; /* half of the time is the line's own */
	policy_next(&p, &pass, NULL);
	assert_int_equal(p.rate, 2500000);
	pass.bytes = 4000000;
	policy_next(&p, &pass, NULL);
	assert_int_equal(p.rate, 10000000);
	pass.bytes = 500000;
	policy_next(&p, &pass, NULL);
	assert_int_equal(p.rate, 10000000);
}

/* No guest is calm enough where its own state breaks the budget: said after pass 1, and what would do. */
static void test_state_too_large(void **state unused)
{
	struct why w = { "" };
	struct policy p;
	struct policy_pass pass = { .pass = 1, .bytes = 100000000, .ns = 1000 * MS, .rtt_ns = MS, .left = 1000 };
	policy_init(&p, MIGRATE_ABORT, 50 * MS, 30);
	p.state_bytes = 5 << 20;
	assert_int_equal(policy_next(&p, &pass, &w), POLICY_GIVE_UP);
	if (!strstr(w.text, "5120 KiB of its state, take 63 ms, and 50 ms are allowed") ||
	    strlen(w.text) == sizeof(w.text) - 1)
		fail_msg("%s", w.text);
	policy_init(&p, MIGRATE_ABORT, enough(&w) * MS, 30);
	p.state_bytes = 5 << 20;
	pass.left = POLICY_SMALL;
	assert_int_equal(policy_next(&p, &pass, &w), POLICY_STOP);
}

/*
 * What earlier moves took says no more than that: nobody is given up for it after one pass, nor slowed, which would not
 * help; but in the end it is said.
 */
static void test_slow_hosts(void **state unused)
{
	struct why w = { "" };
	struct policy p;
	struct policy_pass pass = { .pass = 1, .bytes = 100000000, .ns = 1000 * MS, .rtt_ns = MS, .left = 60000 };
	policy_init(&p, MIGRATE_AUTO, 20 * MS, 30);
	p.load_ns = 25 * MS;
	while (policy_next(&p, &pass, &w) == POLICY_AGAIN) {
		assert_false(p.may_dirty || p.watch);
		assert_true(++pass.pass < 10);
	}
	assert_true(pass.pass > 3);
	assert_non_null(strstr(w.text, "take 31 ms, and 20 ms are allowed"));
	policy_init(&p, MIGRATE_AUTO, 20 * MS, 30); /* one that was busy with others then, and is not now */
	p.stop_ns = MS;
	pass = (struct policy_pass){
		.pass = 1, .bytes = 100000000, .ns = 1000 * MS, .rtt_ns = MS, .left = 30, .scan_ns = 15 * MS
	};
	assert_int_equal(policy_next(&p, &pass, &w), POLICY_AGAIN);
	pass.pass = 2;
	pass.scan_ns = MS;
	assert_int_equal(policy_next(&p, &pass, &w), POLICY_STOP);
}

/* By halves while the pages weigh, and not while it is all else that does not fit: it would slow who writes nothing. */
static void test_halves(void **state unused)
{
	struct policy p;
	const uint64_t full = 100000000 / 100 * POLICY_STUN_PERCENT;
	struct policy_pass pass = { .pass = 1, .bytes = 100000000, .ns = 1000 * MS, .rtt_ns = MS, .left = 60000 };
	policy_init(&p, MIGRATE_THROTTLE, 100 * MS, 30);
	while (!p.may_dirty || p.stuck < 2) {
		assert_int_equal(policy_next(&p, &pass, NULL), POLICY_AGAIN);
		assert_true(++pass.pass < 10);
	}
	assert_int_equal(p.may_dirty, full >> 2);
	pass.left = 400; /* 17 ms, and 80 for a look at dirt, as hosts are that have much else to do */
	pass.scan_ns = p.last_scan_ns = 80 * MS;
	for (unsigned i = 0; i < 3; i++, pass.pass++) {
		assert_int_equal(policy_next(&p, &pass, NULL), POLICY_AGAIN);
		assert_int_equal(p.stuck, i);
		assert_int_equal(p.may_dirty, full);
	}
}

/* Extremes: no division by zero, no overflow, and monotonic in what is left. */
static void test_extremes(void **state unused)
{
	const uint64_t v[] = { 0, 1, 1000, 1ULL << 20, 1ULL << 33, 1ULL << 40, 1ULL << 50 };
	for (unsigned b = 0; b < ARRAY_SIZE(v); b++) {
		for (unsigned t = 0; t < ARRAY_SIZE(v); t++) {
			struct policy p;
			uint64_t last = 0;
			policy_init(&p, MIGRATE_AUTO, 300 * MS, 3);
			policy_next(&p,
				    &(struct policy_pass){ .pass = 1, .bytes = v[b], .ns = v[t], .left = v[b] >> 12 },
				    NULL);
			for (unsigned l = 0; l < ARRAY_SIZE(v); l++) {
				uint64_t ns = policy_predict(&p, v[l]);
				assert_true(ns >= last && ns >= POLICY_FIXED_NS);
				last = ns;
			}
		}
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_idle),
		cmocka_unit_test(test_steady_fits),
		cmocka_unit_test(test_polish_is_bounded),
		cmocka_unit_test(test_gives_up_when_stuck),
		cmocka_unit_test(test_halves),
		cmocka_unit_test(test_max_passes),
		cmocka_unit_test(test_tiny_budget),
		cmocka_unit_test(test_round_trips),
		cmocka_unit_test(test_shortest_round_trip),
		cmocka_unit_test(test_line_too_long),
		cmocka_unit_test(test_line_too_long_for_its_window),
		cmocka_unit_test(test_slow_line_is_not_a_long_one),
		cmocka_unit_test(test_one_late_answer),
		cmocka_unit_test(test_parts),
		cmocka_unit_test(test_rough_rate),
		cmocka_unit_test(test_state_too_large),
		cmocka_unit_test(test_slow_hosts),
		cmocka_unit_test(test_extremes),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}

/* SPDX-License-Identifier: BSD-2-Clause */
/* The pass policy on tables: what it decides after each pass, and what it tells the operator when it gives up. */
#include "vmm/migrate/policy.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
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
	policy_init(&p, downtime_ms * MS, max_passes);
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
	const struct row rows[] = { { 60 << 20, 1000, 1, 1, POLICY_AGAIN }, { 4096, 1, 1, 1, POLICY_GIVE_UP } };
	PLAY(1, 2, rows, &w);
	assert_true(w.text[0]);
}

/* Round trips count twice: 150 ms away, 300 ms of budget cannot hold. */
static void test_long_distance(void **state unused)
{
	struct policy p;
	policy_init(&p, 300 * MS, 30);
	policy_next(&p,
		    &(struct policy_pass){
			    .pass = 1, .bytes = 60 << 20, .ns = 1000 * MS, .rtt_ns = 150 * MS, .left = 0 },
		    NULL);
	assert_true(policy_predict(&p, 0) >= 300 * MS);
}

/* Extremes: no division by zero, no overflow, and monotonic in what is left. */
static void test_extremes(void **state unused)
{
	const uint64_t v[] = { 0, 1, 1000, 1ULL << 20, 1ULL << 33, 1ULL << 40, 1ULL << 50 };
	for (unsigned b = 0; b < ARRAY_SIZE(v); b++) {
		for (unsigned t = 0; t < ARRAY_SIZE(v); t++) {
			struct policy p;
			uint64_t last = 0;
			policy_init(&p, 300 * MS, 3);
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
		cmocka_unit_test(test_max_passes),
		cmocka_unit_test(test_tiny_budget),
		cmocka_unit_test(test_long_distance),
		cmocka_unit_test(test_extremes),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}

/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Guests that dirty faster than the line carries, in a model: vCPUs that write pages of working sets of their own at
 * random, a line, passes, and a sample of who writes. The policy has to bring each of them across within its budget,
 * slow only who dirties, and no more than it takes.
 */
#include "vmm/migrate/policy.h"
#include "vmm/x86/stun.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#define MS   NS_PER_MS
#define MB   1000000ULL
#define CPUS 8

/* 1 - e^-x: the part of a working set that x writes to each of its pages, at random, reach. */
static double reached(double x)
{
	double rest = 1;
	if (x > 30)
		return 1;
	for (; x > 0.01; x -= 0.01)
		rest *= 0.990049833749;
	return 1 - rest * (1 - x + x * x / 2);
}

struct model {
	unsigned n;
	double set[CPUS], rate[CPUS]; /* pages of its working set; pages per second that it writes to at full speed */
	double line;                  /* bytes per second */
	double devices;               /* pages per second that devices write */
	uint32_t share[CPUS];
	double work[CPUS]; /* page writes done, in time since slowed */
	double seconds;    /* that it was slowed */
};

/* Pages that differ after `s` seconds, and what was seen of each. */
static double run(struct model *m, double s, double sampled, uint32_t *sample)
{
	double all = m->devices * s;
	for (unsigned i = 0; i < m->n; i++) {
		double writes = m->rate[i] * m->share[i] / STUN_FULL * s;
		double dirty = m->set[i] > 0 ? m->set[i] * reached(writes / m->set[i]) : 0;
		m->work[i] += writes;
		sample[i] = (uint32_t)(dirty * sampled + 0.5);
		all += dirty;
	}
	return all;
}

static const struct {
	enum migrate_strategy strategy;
	uint64_t memory;
} usual = { MIGRATE_THROTTLE, 256 << 20 };

/* A whole migration: how it ended; passes and the last forecast. */
static enum policy_verdict move(struct model *m, enum migrate_strategy strategy, uint64_t budget_ms, unsigned *passes,
				struct policy *p, struct why *w)
{
	double left = (double)usual.memory / PAGE_SIZE;
	uint32_t sample[CPUS] = { 0 };
	policy_init(p, strategy, budget_ms * MS, 30);
	for (unsigned i = 0; i < m->n; i++)
		m->share[i] = STUN_FULL;
	for (*passes = 1;; ++*passes) {
		double bytes = left * PAGE_SIZE, s = bytes / m->line + 0.0005;
		bool slowed = p->may_dirty;
		double before[CPUS];
		memcpy(before, m->work, sizeof(before));
		left = run(m, s, p->watch ? 1024 / left : 0, sample);
		if (slowed)
			m->seconds += s;
		else
			memcpy(m->work, before, sizeof(before));
		struct policy_pass r = { .pass = *passes,
					 .bytes = (uint64_t)bytes,
					 .ns = (uint64_t)(s * 1e9),
					 .rtt_ns = 500000,
					 .left = (uint64_t)left };
		enum policy_verdict v = policy_next(p, &r, w);
		if (v != POLICY_AGAIN)
			return v;
		assert_true(*passes < 2000);
		if (p->may_dirty) {
			double dirt = left * PAGE_SIZE / s, devices = m->devices * PAGE_SIZE;
			double may = (double)p->may_dirty - devices;
			policy_shares(sample, m->n, (uint64_t)(dirt - devices),
				      (uint64_t)MAX(may, (double)p->may_dirty / 10), policy_least(p), m->share);
		}
	}
}

static const struct model writer = { .n = 1, .set = { 16384 }, .rate = { 65536 }, .line = 100e6 };

static void test_one_writer(void **state unused)
{
	/* 256 MB/s into 64 MiB: less, as much, and 30 times as much as the line carries. */
	for (double line = 200e6; line >= 8e6; line /= 1.5) {
		struct model m = writer;
		struct policy p;
		struct why w = { "" };
		unsigned passes;
		m.line = line;
		enum policy_verdict v = move(&m, MIGRATE_ABORT, 100, &passes, &p, &w);
		assert_int_equal(v, POLICY_GIVE_UP);
		m = writer;
		m.line = line;
		w.text[0] = 0;
		v = move(&m, MIGRATE_THROTTLE, 100, &passes, &p, &w);
		if (v != POLICY_STOP)
			fail_msg("%.0f MB/s: %s", line / 1e6, w.text);
		double allowed = line / PAGE_SIZE * m.seconds;
		print_message("    %.0f MB/s: %u passes, %.1f s slowed, work %.2f of what the line carries\n",
			      line / 1e6, passes, m.seconds, m.work[0] / allowed);
		assert_true(policy_predict(&p, p.prev_left) <= 100 * MS);
		assert_true(m.work[0] >= 0.8 * allowed);
	}
}

/* A word in each page, round and round, as fast as memory takes it: some hundred times what the line carries. */
static void test_touches_pages(void **state unused)
{
	for (double rate = 100e3; rate <= 3e6; rate *= 2) {
		struct model m = { .n = 1, .set = { 16384 }, .rate = { rate }, .line = 15e6 };
		struct policy p;
		struct why w = { "" };
		unsigned passes;
		if (move(&m, MIGRATE_THROTTLE, 100, &passes, &p, &w) != POLICY_STOP)
			fail_msg("%.0f pages/s: %s", rate, w.text);
		print_message("    %.0f pages/s: %u passes\n", rate, passes);
	}
}

/* Without being told to nobody is slowed below a hundredth: given up instead, with a word on what would do. */
static void test_auto_is_gentle(void **state unused)
{
	struct model m = { .n = 1, .set = { 16384 }, .rate = { 3e6 }, .line = 15e6 };
	struct policy p;
	struct why w = { "" };
	unsigned passes;
	assert_int_equal(move(&m, MIGRATE_AUTO, 100, &passes, &p, &w), POLICY_GIVE_UP);
	assert_int_equal(m.share[0], STUN_GENTLE);
	assert_non_null(strstr(w.text, "--strategy throttle"));
	assert_true(strlen(w.text) < sizeof(w.text) - 1);
}

/* Quiet for some passes and wild for one, again and again: it ends all the same. */
static void test_comes_and_goes(void **state unused)
{
	struct policy p;
	struct why w = { "" };
	struct policy_pass r = { .bytes = 1 << 28, .ns = 2500 * MS, .rtt_ns = MS };
	enum policy_verdict v = POLICY_AGAIN;
	policy_init(&p, MIGRATE_THROTTLE, 100 * MS, 30);
	for (r.pass = 1; v == POLICY_AGAIN && r.pass < 200; r.pass++) {
		r.left = r.pass % 5 ? 60000 - r.pass % 5 * 8000 : 600000;
		v = policy_next(&p, &r, &w);
	}
	assert_int_equal(v, POLICY_GIVE_UP);
	assert_true(r.pass < 60);
}

/* Who dirties little keeps its speed, whoever its neighbours are. */
static void test_only_the_heavy(void **state unused)
{
	struct model m = { .n = 4, .set = { 16384, 100, 16384, 0 }, .rate = { 60000, 2000, 30000, 0 }, .line = 50e6 };
	struct policy p;
	struct why w = { "" };
	unsigned passes;
	assert_int_equal(move(&m, MIGRATE_AUTO, 100, &passes, &p, &w), POLICY_STOP);
	assert_int_equal(m.share[3], STUN_FULL);
	assert_int_equal(m.share[1], STUN_FULL);
	assert_true(m.share[0] < m.share[2] && m.share[2] < STUN_FULL);
	/* Each of the two may dirty as much as the other. */
	double a = m.rate[0] * m.share[0], b = m.rate[2] * m.share[2];
	assert_true(a < 1.3 * b && b < 1.3 * a);
}

/* Half of what the line carries is written by devices: the vCPUs have what is left. */
static void test_devices(void **state unused)
{
	struct model m = writer;
	struct policy p;
	struct why w = { "" };
	unsigned passes;
	m.devices = m.line / PAGE_SIZE / 2;
	assert_int_equal(move(&m, MIGRATE_THROTTLE, 300, &passes, &p, &w), POLICY_STOP);
	/* More than the line carries: that is no matter of vCPUs, and is said. */
	m = writer;
	m.devices = m.line / PAGE_SIZE * 2;
	assert_int_equal(move(&m, MIGRATE_THROTTLE, 300, &passes, &p, &w), POLICY_GIVE_UP);
	assert_non_null(strstr(w.text, "did not converge with its vCPUs slowed"));
	assert_true(strlen(w.text) < sizeof(w.text) - 1);
}

/* It stands still, whatever the forecast; past its time too, and where the line alone is too long. */
static void test_stop(void **state unused)
{
	struct model m = writer;
	struct policy p;
	struct why w = { "" };
	unsigned passes;
	assert_int_equal(move(&m, MIGRATE_STOP, 20, &passes, &p, &w), POLICY_STOP);
	assert_true(policy_predict(&p, p.prev_left) > 20 * MS && !p.may_dirty);
	policy_init(&p, MIGRATE_STOP, 20 * MS, 30);
	struct policy_pass r = { .pass = 1, .bytes = 1 << 28, .ns = 3000 * MS, .rtt_ns = MS, .left = 60000 };
	assert_int_equal(policy_next(&p, &r, &w), POLICY_AGAIN);
	r.pass = 2, r.late = true;
	assert_int_equal(policy_next(&p, &r, &w), POLICY_STOP);
	policy_init(&p, MIGRATE_STOP, 50 * MS, 30);
	r = (struct policy_pass){ .pass = 1, .bytes = 1 << 28, .ns = 1000 * MS, .rtt_ns = 200 * MS, .left = 0 };
	assert_int_equal(policy_next(&p, &r, &w), POLICY_STOP);
	assert_string_equal(w.text, ""); /* it is no error */
}

/* The operator changes his mind: who was slowed is not any more. */
static void test_changed(void **state unused)
{
	struct policy p;
	struct why w = { "" };
	struct policy_pass r = { .bytes = 1 << 28, .ns = 2500 * MS, .rtt_ns = MS, .left = 60000 };
	policy_init(&p, MIGRATE_ABORT, 100 * MS, 30);
	for (r.pass = 1; r.pass <= 4; r.pass++)
		assert_int_equal(policy_next(&p, &r, &w), POLICY_AGAIN);
	assert_false(p.watch || p.may_dirty);
	p.strategy = MIGRATE_AUTO;
	assert_int_equal(policy_next(&p, &r, &w), POLICY_AGAIN);
	assert_true(p.watch && p.may_dirty);
	uint64_t carried = (1ULL << 28) * 10 / 25;
	assert_in_range(p.may_dirty, carried / 100 * 84, carried / 100 * 86);
	r.pass = 20;
	p.strategy = MIGRATE_ABORT;
	r.left = 40000;
	assert_int_equal(policy_next(&p, &r, &w), POLICY_AGAIN);
	assert_false(p.watch || p.may_dirty);
	p.max_downtime_ns = 2000 * MS; /* or makes do with more */
	r.pass++;
	assert_int_equal(policy_next(&p, &r, &w), POLICY_STOP);
}

/* Arithmetic at its edges: no division by zero, no share outside of its range, and nobody slowed for nothing. */
static void test_shares(void **state unused)
{
	static uint32_t sample[2048], share[2048];
	for (unsigned i = 0; i < 2048; i++)
		share[i] = STUN_FULL;
	assert_false(policy_shares(sample, 0, 1, 1, STUN_LEAST, share));
	assert_false(policy_shares(sample, 2048, 100 * MB, 100 * MB, STUN_LEAST,
				   share)); /* nothing seen: all alike, and it fits */
	assert_true(policy_shares(sample, 2048, 100 * MB, 50 * MB, STUN_LEAST, share));
	for (unsigned i = 0; i < 2048; i++)
		assert_in_range(share[i], STUN_FULL / 2 - 600, STUN_FULL / 2);
	const uint64_t v[] = { 0, 1, 4096, 1 << 20, 1ULL << 33, 1ULL << 50, ~0ULL };
	for (unsigned r = 0; r < ARRAY_SIZE(v); r++)
		for (unsigned a = 0; a < ARRAY_SIZE(v); a++)
			for (unsigned kind = 0; kind < 4; kind++) {
				for (unsigned i = 0; i < 64; i++) {
					sample[i] = kind == 0 ? 0 : kind == 1 ? ~0U : kind == 2 ? i : i == 5;
					share[i] = i % 3 ? STUN_FULL : STUN_LEAST;
				}
				(void)policy_shares(sample, 64, v[r], v[a], STUN_LEAST, share);
				for (unsigned i = 0; i < 64; i++)
					assert_in_range(share[i], STUN_LEAST, STUN_FULL);
			}
	/* Others' small appetites fit beside one that stands still: they do not pay for its return. */
	uint32_t three[] = { STUN_FULL, STUN_LEAST, STUN_FULL }, seen[] = { 45, 10, 45 };
	policy_shares(seen, 3, 90 * MB, 100 * MB, STUN_LEAST, three);
	assert_int_equal(three[0], STUN_FULL);
	assert_int_equal(three[2], STUN_FULL);
	assert_in_range(three[1], STUN_LEAST, 2 * STUN_LEAST);
	/* From the least on it is let go step by step. */
	uint32_t one = STUN_LEAST, none = 0;
	for (unsigned n = 0; n < 11; n++)
		policy_shares(&none, 1, 0, MB, STUN_LEAST, &one);
	assert_int_equal(one, STUN_FULL);
}

/* What all write all the time is not slowed for another's sake; who was slowed, and dirties little for that, is. */
static void test_spare(void **state)
{
	(void)state;
	const uint32_t full = STUN_FULL;
	uint32_t share[4] = { full / 100, full, full, full / 2 }, sample[4] = { 400, 200, 380, 20 };
	assert_int_equal(policy_spare(sample, 4, 300, share), 240); /* of the second one, 60 pages */
	assert_true(sample[0] == 400 && !sample[1] && sample[2] == 380 && sample[3] == 20);
	assert_true(policy_shares(sample, 4, 10 * MB, MB, STUN_LEAST, share));
	assert_true(share[0] < full && share[1] == full && share[2] < full && share[3] < full);
	uint32_t calm[2] = { 10, 20 }, at[2] = { full, full };
	assert_int_equal(policy_spare(calm, 2, 90, at), 0); /* nobody is left to be slowed */
	assert_false(policy_shares(calm, 2, 0, 1, STUN_LEAST, at));
	uint32_t none[2] = { 0, 0 };
	assert_int_equal(policy_spare(none, 2, 90, at), 90); /* nothing was seen of anybody */
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_one_writer),     cmocka_unit_test(test_touches_pages),
		cmocka_unit_test(test_auto_is_gentle), cmocka_unit_test(test_comes_and_goes),
		cmocka_unit_test(test_only_the_heavy), cmocka_unit_test(test_devices),
		cmocka_unit_test(test_stop),           cmocka_unit_test(test_changed),
		cmocka_unit_test(test_shares),         cmocka_unit_test(test_spare),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}

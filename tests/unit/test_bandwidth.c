/* SPDX-License-Identifier: BSD-2-Clause */
/* Who migrates when, and how much of the line each gets (vmm/migrate/bandwidth.h); limits over a clock that stands. */
#include "kernel/time.h"
#include "tests/unit/fake_hosts.h"
#include "vmm/migrate/bandwidth.h"
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <cmocka.h>

#define MOVES  12
#define RECORD 262144UL

static struct move {
	pthread_t thread;
	struct migration *m;
	struct why w;
	int err;        /* [a] 1: it waits */
	uint64_t bytes; /* [a] */
	bool ends;      /* [a] */
} moves[MOVES];
static uint64_t line;
static uint64_t line_of(struct ip dest unused) { return line; }

static int setup(void **state unused)
{
	fake_host = 0;
	fake_host_restart(0);
	struct migrate_host *h = migrate_this_host();
	h->line = line_of;
	h->band.minimum = 30000000;
	line = 0;
	memset(moves, 0, sizeof(moves));
	return 0;
}

static struct move *move_new(unsigned i)
{
	struct move *v = &moves[i];
	char name[8];
	snprintf(name, sizeof(name), "v%u", i);
	struct vm *vm = fake_vm_new(name, MIB(2));
	v->m = migration_new(name, "b", (struct ip){ 0 }, false);
	assert_non_null(v->m);
	assert_int_equal(migration_bind(v->m, vm, VM_RUNNING, &v->w), 0);
	v->err = 1;
	return v;
}

static void *turn(void *arg)
{
	struct move *v = arg;
	fake_host = 0;
	__atomic_store_n(&v->err, bandwidth_begin(v->m, &v->w), __ATOMIC_SEQ_CST);
	return NULL;
}

static int err_of(unsigned i) { return __atomic_load_n(&moves[i].err, __ATOMIC_SEQ_CST); }

/* Its number in the queue is its place: the next one is not asked before it stands there. */
static void begins(unsigned i)
{
	struct move *v = move_new(i);
	assert_int_equal(pthread_create(&v->thread, NULL, turn, v), 0);
	struct migrate_status s;
	WAIT_FOR(err_of(i) <= 0 || (migrate_get(0, &s) && s.phase == MIG_QUEUED));
}

static void ends(unsigned i)
{
	pthread_join(moves[i].thread, NULL);
	bandwidth_end(moves[i].m);
	bandwidth_end(moves[i].m); /* again: nothing */
	migration_unbind(moves[i].m, false);
	migration_finish(moves[i].m, MIG_FAILED, "over");
	migration_put(moves[i].m);
}

/* So many begin at once, the others wait. */
static void begin_all(unsigned at_once)
{
	for (unsigned i = 0; i < MOVES; i++) {
		begins(i);
		if (i < at_once) /* it is queued for a moment, too */
			WAIT_FOR(err_of(i) <= 0);
		assert_int_equal(err_of(i), i < at_once ? 0 : 1);
	}
}

static void end_all(unsigned from)
{
	for (unsigned i = from; i < MOVES; i++) {
		WAIT_FOR(err_of(i) <= 0);
		ends(i);
	}
	assert_int_equal(migrate_this_host()->band.running, 0);
	assert_true(list_empty(&migrate_this_host()->band.queue));
}

static void test_how_many(void **state)
{
	static const struct {
		uint64_t line, limit, minimum;
		unsigned at_once;
	} t[] = {
		{ 0, 0, 30000000, BANDWIDTH_AT_ONCE },          /* nothing is known of the line */
		{ 125000000, 0, 30000000, 4 },                  /* 1 Gbit/s */
		{ 1250000000, 0, 30000000, BANDWIDTH_AT_ONCE }, /* 10 Gbit/s */
		{ 12500000, 0, 30000000, 1 },                   /* less than one should have: one by one */
		{ 1250000000, 90000000, 30000000, 3 },
		{ 125000000, 900000000, 30000000, 4 },
		{ 0, 60000000, 30000000, 2 },
	};
	for (unsigned i = 0; i < ARRAY_SIZE(t); i++) {
		setup(state);
		line = t[i].line;
		migrate_this_host()->band.limit = t[i].limit;
		migrate_this_host()->band.minimum = t[i].minimum;
		begin_all(t[i].at_once);
		end_all(0);
	}
}

/* First come, first served; who is cancelled, or whose guest stops, leaves the queue. */
static void test_queue(void **state unused)
{
	struct why w = { "" };
	line = 60000000;
	begin_all(2);
	assert_int_equal(migrate_cancel("v3", &w), 0);
	WAIT_FOR(err_of(3) == -ECANCELED);
	assert_non_null(strstr(moves[3].w.text, "cancelled by the operator"));
	fake_vm_find(0, "v4")->state = VM_PAUSED;
	WAIT_FOR(err_of(4) == -ECANCELED);
	fake_vm_find(0, "v4")->state = VM_RUNNING;
	ends(0);
	WAIT_FOR(err_of(2) == 0);
	assert_int_equal(err_of(5), 1);
	migration_phase(moves[1].m, MIG_UNDECIDED); /* may take days: it holds nobody up */
	WAIT_FOR(err_of(5) == 0);
	for (unsigned i = 6; i < MOVES; i++)
		assert_int_equal(err_of(i), 1);
	bandwidth_limit(NULL, 30000000); /* from now on one by one */
	ends(2);
	ends(5);
	WAIT_FOR(err_of(6) == 0);
	assert_int_equal(err_of(7), 1);
	ends(1), ends(3), ends(4);
	end_all(6);
}

/* ---- shares ---- */

static void limits(unsigned n, const uint64_t *limit)
{
	for (unsigned i = 0; i < n; i++)
		bandwidth_limit(moves[i].m, limit[i]);
}

/* Let ns go by: each sends a record as soon as it may, and gets what is due to it. */
static void expect(unsigned n, const uint64_t *rate, uint64_t ns)
{
	static uint64_t now = NS_PER_SEC;
	uint64_t may[MOVES], bytes[MOVES] = { 0 }, end = now + ns;
	struct bandwidth *b = &migrate_this_host()->band;
	for (unsigned i = 0; i < n; i++)
		may[i] = now;
	for (;;) {
		unsigned next = 0;
		for (unsigned i = 1; i < n; i++)
			if (may[i] < may[next])
				next = i;
		if (may[next] >= end)
			break;
		now = may[next] + NS_PER_MS; /* it wakes up late */
		bytes[next] += RECORD;
		may[next] = bandwidth_due(b, moves[next].m, RECORD, now);
	}
	for (unsigned i = 0; i < n; i++) {
		uint64_t due = rate[i] / 1000 * (ns / NS_PER_MS);
		assert_in_range(bytes[i], due - due / 50 - 2 * RECORD, due + due / 50 + 2 * RECORD);
	}
	now = end;
}

static void test_own_limits(void **state unused)
{
	move_new(0), move_new(1);
	limits(2, (const uint64_t[]){ 20000000, 5000000 });
	assert_int_equal(bandwidth_limit_of(moves[1].m), 5000000);
	expect(2, (const uint64_t[]){ 20000000, 5000000 }, 10 * NS_PER_SEC);
	bandwidth_limit(moves[1].m, 40000000); /* while it runs */
	expect(2, (const uint64_t[]){ 20000000, 40000000 }, 10 * NS_PER_SEC);
}

static void test_shared_limit(void **state unused)
{
	for (unsigned i = 0; i < 4; i++)
		move_new(i);
	bandwidth_limit(NULL, 40000000);
	assert_int_equal(bandwidth_limit_of(moves[0].m), 40000000);
	expect(4, (const uint64_t[]){ 10000000, 10000000, 10000000, 10000000 }, 10 * NS_PER_SEC);
	/* What one leaves to the others is theirs. */
	bandwidth_limit(moves[3].m, 1000000);
	assert_int_equal(bandwidth_limit_of(moves[3].m), 1000000);
	expect(4, (const uint64_t[]){ 13000000, 13000000, 13000000, 1000000 }, 10 * NS_PER_SEC);
	expect(1, (const uint64_t[]){ 40000000 }, 10 * NS_PER_SEC); /* alone */
}

static void *sends(void *arg)
{
	struct move *v = arg;
	fake_host = 0;
	while (!__atomic_load_n(&v->ends, __ATOMIC_SEQ_CST)) {
		__atomic_add_fetch(&v->bytes, RECORD, __ATOMIC_SEQ_CST);
		bandwidth_pace(v->m, RECORD);
	}
	return NULL;
}

static uint64_t bytes_of(unsigned i) { return __atomic_load_n(&moves[i].bytes, __ATOMIC_SEQ_CST); }

/* Nobody waits for his share when it becomes larger, or when he has been cancelled. The clock stands. */
static void test_waits(void **state unused)
{
	struct why w = { "" };
	fake_time_freeze(NS_PER_SEC);
	struct move *v = move_new(0);
	assert_int_equal(migrate_limit("v0", HOST_RATE_MIN, &w), 0);
	assert_int_equal(pthread_create(&v->thread, NULL, sends, v), 0);
	WAIT_FOR(!list_empty(&migrate_this_host()->band.q.waiters)); /* for ever */
	uint64_t before = bytes_of(0);
	assert_int_equal(migrate_limit("v0", 0, &w), 0);
	WAIT_FOR(bytes_of(0) > before + 4 * RECORD);
	assert_int_equal(migrate_limit(NULL, HOST_RATE_MIN, &w), 0);
	assert_int_equal(bandwidth_limit_of(NULL), HOST_RATE_MIN);
	WAIT_FOR(!list_empty(&migrate_this_host()->band.q.waiters));
	before = bytes_of(0);
	assert_int_equal(migrate_cancel("v0", &w), 0);
	WAIT_FOR(bytes_of(0) > before + 4 * RECORD);
	__atomic_store_n(&v->ends, true, __ATOMIC_SEQ_CST);
	ends(0);
	fake_time_thaw();
	assert_int_equal(migrate_limit("v0", HOST_RATE_MIN, &w), -ENOENT);
	assert_int_equal(migrate_limit(NULL, HOST_RATE_MIN - 1, &w), -EINVAL);
	assert_int_equal(migrate_limit(NULL, 0, &w), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(test_how_many, setup),   cmocka_unit_test_setup(test_queue, setup),
		cmocka_unit_test_setup(test_own_limits, setup), cmocka_unit_test_setup(test_shared_limit, setup),
		cmocka_unit_test_setup(test_waits, setup),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}

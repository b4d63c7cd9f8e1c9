/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Folding of log lines: floods of one kind and source, of one kind with ever new words, and what must not be touched.
 */
#include "kernel/log_fold.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

static struct fold_table t;
static uint64_t now;
static unsigned logged, reports;
static uint64_t told;
static char last[232];

static int setup(void **state)
{
	(void)state;
	memset(&t, 0, sizeof(t));
	now = NS_PER_SEC;
	logged = reports = 0;
	told = 0;
	return 0;
}

static void take_reports(bool all)
{
	struct log_line l;
	while (log_fold_report(&t, now, all, &l)) {
		unsigned long long n;
		const char *p = strrchr(l.text, '[');
		assert_non_null(p);
		assert_int_equal(sscanf(p, "[%llu lines like this]", &n), 1);
		assert_int_equal(l.text[strlen(l.text) - 1], ']');
		assert_int_equal(l.level, LOG_WARN);
		assert_int_equal(l.time_ns, now);
		told += n;
		reports++;
		strcpy(last, l.text);
	}
}

/* As log_vprintf does. */
static bool say(const char *fmt, const char *text)
{
	struct log_line l = { .time_ns = now, .level = LOG_WARN };
	snprintf(l.text, sizeof(l.text), "%s", text);
	bool take = log_fold_line(&t, fmt, &l);
	logged += take;
	take_reports(false);
	return take;
}

static const char kind[] = "tcp: port %u: %s", other[] = "vm %s: started";

static void test_flood(void **state)
{
	(void)state;
	char text[100];
	for (unsigned i = 0; i < 100000; i++) { /* 100 s */
		now += NS_PER_MS;
		snprintf(text, sizeof(text), "tcp: port %u: more than 8", i);
		say(kind, text);
		if (i == 50000)
			assert_true(say(other, "vm a: started")); /* others come through */
	}
	assert_in_range(logged, 10, 14);
	assert_in_range(reports, 4, 10); /* 1, 2, 4, ... s apart */
	take_reports(true);
	assert_int_equal(logged - 1 + told, 100000);
	assert_non_null(strstr(last, "port 99999: more than 8 ["));
}

static void test_flood_ends(void **state)
{
	(void)state;
	for (unsigned i = 0; i < 1000; i++)
		say(kind, "x");
	assert_int_equal(logged, 10);
	assert_int_equal(told, 0);
	now += 3 * NS_PER_SEC;
	say(other, "vm a: started"); /* whatever comes next says how many there were */
	assert_int_equal(told, 990);
	assert_string_equal(last, "x [990 lines like this]");
	now += 100 * NS_PER_SEC;
	for (unsigned i = 0; i < 10; i++)
		assert_true(say(kind, "x")); /* forgiven */
}

static void test_slow_lines_all_come(void **state)
{
	(void)state;
	for (unsigned i = 0; i < 1000; i++) {
		assert_true(say(kind, "once a second"));
		now += NS_PER_SEC;
	}
	assert_int_equal(reports, 0);
}

static void test_sources_are_apart(void **state)
{
	(void)state;
	char text[100];
	for (unsigned i = 0; i < 60; i++) { /* as when many VMs start */
		snprintf(text, sizeof(text), "vm %c%c: started", 'a' + i % 26, 'a' + i / 26);
		assert_true(say(other, text));
	}
	for (unsigned i = 0; i < 100; i++)
		say(kind, "peer A");
	assert_true(say(kind, "peer B"));
	memset(&t, 0, sizeof(t)); /* places enough */
	for (unsigned i = 0; i < 100; i++)
		say(kind, "vm web1: 1");
	assert_true(say(kind, "vm web2: 2"));  /* a digit of a name, */
	assert_false(say(kind, "vm web1: 2")); /* and one of a count */
	for (unsigned i = 0; i < 100; i++)
		say(kind, "vm web-1_0.7: 1");
	assert_true(say(kind, "vm web-1_0.8: 1"));
	for (unsigned i = 0; i < 100; i++)
		say(kind, "from 10.77.0.1");
	assert_false(say(kind, "from 10.77.0.2")); /* the end of an address */
}

static void test_ever_new_words(void **state)
{
	(void)state;
	char text[100];
	for (unsigned i = 0; i < 26 * 26 * 26; i++) { /* a peer that chooses its names; 17.6 s */
		now += NS_PER_MS;
		snprintf(text, sizeof(text), "tcp: port 1: %c%c%c", 'a' + i % 26, 'a' + i / 26 % 26, 'a' + i / 676);
		say(kind, text);
	}
	assert_in_range(logged, 64, 80);
	assert_in_range(reports, 2, 10);
	take_reports(true);
	assert_int_equal(logged + told, 26 * 26 * 26);
}

/* More sources in trouble than there are places, each kind with few enough of its own: no count is lost. */
static void test_many_sources(void **state)
{
	(void)state;
	static const char kinds[20][2];
	for (unsigned i = 0; i < 20 * 6 * 20; i++) {
		say(kinds[i / 120], (char[]){ (char)('a' + i / 20 % 6), (char)('a' + i / 120), 0 });
		now++;
	}
	take_reports(true);
	assert_int_equal(logged + told, 20 * 6 * 20);
}

static void test_long_line(void **state)
{
	(void)state;
	char text[231];
	memset(text, 'x', sizeof(text));
	text[230] = 0;
	for (unsigned i = 0; i < 12; i++)
		say(kind, text);
	take_reports(true);
	assert_int_equal(told, 2);
	assert_true(strlen(last) < sizeof(last));
}

int main(void)
{
#define T(f) cmocka_unit_test_setup(f, setup)
	const struct CMUnitTest tests[] = {
		T(test_flood),          T(test_flood_ends),   T(test_slow_lines_all_come), T(test_sources_are_apart),
		T(test_ever_new_words), T(test_many_sources), T(test_long_line),
	};
	return cmocka_run_group_tests_name("log", tests, NULL, NULL);
}

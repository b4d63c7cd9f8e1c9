/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The forecast of the black-out beside the black-out itself, and the round trips that a migration waits for: on the
 * hosts and lines of the fault matrix (faults.h), whose clock goes on by what is waited for and by nothing else. So a
 * line's time can be counted in its round trips.
 */
#include "kernel/task.h"
#include "tests/unit/fake_kernel.h"
#include "tests/unit/fake_turns.h"
#include "tests/unit/faults.h"
#include "vmm/migrate/migration.h"
#include "vmm/migrate/policy.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#define MS NS_PER_MS

static struct fault_cell cell;
static uint64_t pause_ns, section_ns; /* what stopping it, and loading its last section, takes the hosts */

static unsigned last_pages; /* that it writes in its last moment, as they are */
static void pauses(struct vm *vm)
{
	uint8_t page[PAGE_SIZE];
	for (unsigned i = 0; i < last_pages; i++)
		if (gmem_read(&vm->mem, i * PAGE_SIZE, page, sizeof(page)) ||
		    !fake_guest_write(vm, i * PAGE_SIZE, page, sizeof(page)))
			abort();
	if (pause_ns)
		task_sleep_until(time_ns() + pause_ns);
}
static void loads(struct vm *vm unused)
{
	if (section_ns)
		task_sleep_until(time_ns() + section_ns);
}

static void begin(uint64_t rate, uint64_t delay_ns)
{
	cell = (struct fault_cell){ .step = &fault_steps[0], .event = &fault_events[0] };
	fault_run = (struct fault_run){ .cell = &cell };
	fake_turns_seed(1);
	fault_world_begin(cell.step);
	fake_last_moment = pauses;
	fake_loaded = loads;
	pause_ns = section_ns = 0;
	for (int i = A; i <= B; i++)
		*fault_line(i, A + B - i) = (struct pipe_line){ .rate = rate, .delay_ns = delay_ns };
}

static void end(void)
{
	fault_world_end();
	fake_loaded = NULL;
	assert_string_equal(cell.problem, "");
}

/* Moves it, and has its report. writes: the guest dirties enough in pass 1 that there is a second one. */
static struct migrate_status move_of(int from, bool writes)
{
	struct migrate_status s;
	fault_run.burst = !writes;
	fault_run.begin_ns = time_ns();
	if (!fault_move(from, A + B - from))
		fail_msg("%s", cell.problem);
	ON_HOST(from) assert_true(migrate_get(0, &s) && !s.incoming && s.phase == MIG_DONE);
	return s;
}
static struct migrate_status move(int from) { return move_of(from, true); }

static uint64_t off(const struct migrate_status *s)
{
	uint64_t said = s->predicted_downtime_ns, was = s->downtime_ns;
	return (said > was ? said - was : was - said) * 100 / MAX(was, 1UL);
}

/* ---- round trips ---- */

/*
 * The budget of doc/passes.md: HELLO, OFFER, FILES; one a pass; two for the switch-over, or one where COMMIT rides. By
 * the count, and by the clock of a line on which nothing else takes time.
 */
static void test_round_trips(void **state unused)
{
	for (uint64_t delay = MS; delay <= 100 * MS; delay *= 10) {
		begin(0, delay);
		for (unsigned n = 0; n < 4; n++) {
			struct migrate_status s = move_of(n % 2 ? B : A, n >= 2);
			bool rides = 2 * delay >= POLICY_RIDE_NS;
			uint32_t stopped = rides ? 1 : 2, setup = 3, passes = s.pass - 1;
			print_message("    %lu ms each way: %u passes, %u waits, %u of them stopped, %lu us in all\n",
				      delay / MS, s.pass, s.round_trips, s.stopped_trips, s.total_ns / NS_PER_US);
			assert_int_equal(passes, n >= 2 ? 2 : 1);
			assert_int_equal(s.stopped_trips, stopped);
			assert_int_equal(s.round_trips, setup + passes + stopped);
			/* END there, and what is behind it; or READY and COMMIT before the guest runs. */
			uint64_t still = rides ? 1 : 3;
			assert_in_range(s.downtime_ns, still * delay, still * delay + delay / 5);
			/* TCP's; and HELLO is under way from both sides at once, which saves half of one. */
			uint64_t all = 2 + 2 * s.round_trips - 1;
			if (n < 2) /* what a pass has must fit the pipe, or its window costs more */
				assert_in_range(s.total_ns, all * delay, all * delay + delay / 5);
		}
		end();
	}
}

/* ---- the forecast ---- */

/* On lines of every kind: the second move is known to a tenth, or to the floor below which nothing is. */
static void test_lines(void **state unused)
{
	static const struct {
		const char *name;
		uint64_t rate, delay_us;
	} lines[] = {
		{ "10 Gbit/s", 1250000000, 50 },       { "1 Gbit/s", 125000000, 100 },
		{ "100 Mbit/s", 12500000, 200 },       { "10 Mbit/s", 1250000, 1000 },
		{ "1 Gbit/s, far", 125000000, 15000 }, { "100 Mbit/s, farther", 12500000, 75000 },
	};
	for (unsigned i = 0; i < ARRAY_SIZE(lines); i++) {
		begin(lines[i].rate, lines[i].delay_us * NS_PER_US);
		pause_ns = MS;
		section_ns = 3 * MS;
		fake_vm_opts.load_ns = 2 * MS;
		for (unsigned n = 0; n < 4; n++) {
			fake_log_clear();
			struct migrate_status s = move(n % 2 ? B : A);
			uint64_t sum = downtime_sum(&s.actual);
			print_message("    %s, move %u: predicted %lu us, was %lu us, off by %lu %%\n", lines[i].name,
				      n + 1, s.predicted_downtime_ns / NS_PER_US, s.downtime_ns / NS_PER_US, off(&s));
			assert_int_equal(downtime_sum(&s.predicted), s.predicted_downtime_ns);
			assert_int_equal(sum, s.downtime_ns);
			if (n < 2) /* neither host knows anything yet */
				continue;
			assert_true(off(&s) <= 20);
			assert_false(fake_log_has("was predicted"));
		}
		end();
	}
}

/* Each part is measured as what it is, whatever the others take; and the next move's forecast has that. */
static void test_parts(void **state unused)
{
	begin(125000000, 100 * NS_PER_US);
	for (unsigned n = 0; n < 4; n++)
		(void)move(n % 2 ? B : A);
	struct migrate_status calm = move(A);
	pause_ns = 7 * MS;
	struct migrate_status s = move(B);
	assert_in_range(s.actual.ns[DOWN_SCAN], 7 * MS, 8 * MS);
	assert_in_range(s.downtime_ns, calm.downtime_ns + 6 * MS, calm.downtime_ns + 8 * MS);
	pause_ns = 0;
	section_ns = 9 * MS;
	s = move(A);
	assert_in_range(s.actual.ns[DOWN_STATE], 9 * MS, 10 * MS);
	assert_true(s.actual.ns[DOWN_SCAN] < MS && s.actual.ns[DOWN_LOAD] < MS && s.actual.ns[DOWN_WAITS] < MS);
	section_ns = 0;
	end();

	begin(125000000, 100 * NS_PER_US);
	fake_vm_opts.load_ns = 6 * MS;
	(void)move(A);
	(void)move(B);
	s = move(A); /* it is what the destination has told, for the source has loaded more slowly itself */
	assert_in_range(s.actual.ns[DOWN_LOAD], 6 * MS, 7 * MS);
	assert_in_range(s.predicted.ns[DOWN_LOAD], 6 * MS, 7 * MS);
	assert_true(s.actual.ns[DOWN_STATE] < MS && s.actual.ns[DOWN_WAITS] < MS);
	end();

	begin(1250000, 100 * NS_PER_US); /* a page takes 3 ms */
	last_pages = 100;
	s = move(A);
	last_pages = 0;
	assert_true(s.actual.ns[DOWN_SEND] > 3 * MS && s.actual.ns[DOWN_SCAN] < MS && s.actual.ns[DOWN_LOAD] < MS);
	end();
}

/* A look at dirt that had to leave the CPU to a guest; while that stands still it is to itself. */
static void flush(void *arg)
{
	struct vm *vm = arg;
	bool runs = vm->state == VM_RUNNING;
	fake_waited_ns += runs ? 6 * MS : 0;
	task_sleep_until(time_ns() + (runs ? 7 : 1) * MS);
}
static void test_scan(void **state unused)
{
	begin(125000000, 100 * NS_PER_US);
	gmem_on_flush(&fault_vm_at(A)->mem, flush, fault_vm_at(A));
	struct migrate_status s = move(A);
	assert_in_range(s.actual.ns[DOWN_SCAN], MS, 2 * MS);
	/* Two flushes where one was needed in the end, and what stopping is guessed to take. */
	assert_in_range(s.predicted.ns[DOWN_SCAN], 2 * MS + DOWNTIME_STOP_NS, 3 * MS + DOWNTIME_STOP_NS);
	end();
}

/* READY and STARTED answer the same word where COMMIT rides: however far apart they come, that is one wait. */
static void test_one_answer(void **state unused)
{
	begin(0, 10 * MS);
	fault_line(B, A)->rate = 10000;
	struct migrate_status s = move_of(A, false);
	assert_int_equal(s.stopped_trips, 1);
	end();
}

/* Off by more than twice: said once, with the part and both numbers. */
static void test_wrong_is_logged(void **state unused)
{
	begin(125000000, 100 * NS_PER_US);
	for (unsigned n = 0; n < 4; n++)
		(void)move(n % 2 ? B : A);
	fake_log_clear();
	(void)move(A);
	assert_false(fake_log_has("was predicted"));
	pause_ns = 40 * MS;
	struct migrate_status s = move(B);
	assert_true(fake_log_has("demo to 10.77.0.11: its downtime was predicted as ") ||
		    fake_log_has("demo to a: its downtime was predicted as "));
	assert_true(fake_log_has("of that the scan "));
	assert_true(s.predicted_downtime_ns < s.downtime_ns / 2);
	end();
}

static void wrong(uint64_t said, uint64_t was, const char *text)
{
	struct downtime p = { .ns = { [DOWN_SCAN] = 100, [DOWN_LOAD] = said } },
			a = { .ns = { [DOWN_SCAN] = 100, [DOWN_LOAD] = was, [DOWN_VERIFY] = 900 * MS } };
	struct why w = { "" };
	assert_int_equal(downtime_is_wrong(&p, &a, &w), text != NULL);
	if (text && !strstr(w.text, text))
		fail_msg("%s", w.text);
}

static void test_what_is_wrong(void **state unused)
{
	struct downtime p = { .ns = { MS } }, none = { { 0 } };
	struct why w = { "" };
	wrong(10 * MS, 10 * MS, NULL);
	wrong(10 * MS, 20 * MS, NULL);
	wrong(10 * MS, 5 * MS, NULL);
	wrong(10 * MS, 21 * MS, "predicted as 10000 us and was 21000 us: of that the load 10000 us, and 21000 us");
	wrong(21 * MS, 10 * MS, "the load 21000 us, and 10000 us");
	wrong(10, MS, NULL); /* below what is known */
	wrong(MS / 2, 2 * MS, "the load 500 us");
	assert_false(downtime_is_wrong(&p, &none, &w));
}

/* What a host learns: soon, and not from one that went wrong. */
static void test_learning(void **state unused)
{
	uint64_t cost = 0;
	assert_int_equal(downtime_expect(&cost, 10, 4 * MS), 4 * MS);
	downtime_learn(&cost, MS, 10, 4 * MS);
	assert_int_equal(downtime_expect(&cost, 20, 4 * MS), 2 * MS);
	downtime_learn(&cost, 5000 * MS, 10, 4 * MS); /* its line was cut meanwhile */
	assert_in_range(downtime_expect(&cost, 10, 4 * MS), MS, MS * 5 / 4);
	for (unsigned i = 0; i < 20; i++)
		downtime_learn(&cost, 3 * MS, 10, 4 * MS);
	assert_in_range(downtime_expect(&cost, 10, 4 * MS), MS * 29 / 10, MS * 31 / 10);
	cost = 0;
	downtime_learn(&cost, 5000 * MS, 10, 4 * MS);
	assert_int_equal(downtime_expect(&cost, 10, 4 * MS), 8 * MS);
	cost = 0;
	downtime_learn(&cost, 0, 0, 0); /* extremes: it stays known */
	assert_true(cost);
	for (unsigned i = 0; i < 100; i++)
		downtime_learn(&cost, 0, 1000, 0);
	assert_true(cost);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_round_trips),   cmocka_unit_test(test_lines),
		cmocka_unit_test(test_parts),         cmocka_unit_test(test_one_answer),
		cmocka_unit_test(test_scan),          cmocka_unit_test(test_wrong_is_logged),
		cmocka_unit_test(test_what_is_wrong), cmocka_unit_test(test_learning),
	};
	fake_turns_begin(1000 * NS_PER_SEC);
	cmocka_set_test_filter(getenv("TERN_TEST"));
	int failed = cmocka_run_group_tests_name("forecast", tests, NULL, NULL);
	free(fake_paused_image);
	return failed;
}

/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Post-copy between two hosts on a line that carries less than the guest writes: it runs at its destination before its
 * memory is there, and each word that it reads is the last that it wrote, whatever becomes of the connection meanwhile.
 */
#include "kernel/task.h"
#include "kernel/time.h"
#include "tests/unit/fake_hosts.h"
#include "tests/unit/fake_net.h"
#include "vmm/migrate/attempts.h"
#include "vmm/migrate/failpoint.h"
#include "vmm/migrate/migrate.h"
#include "vmm/migrate/waits.h"
#include <stdio.h>
#include <string.h>

enum { A, B };
#define MEM   MIB(4)
#define PAGES (MEM / PAGE_SIZE)
#define RATE  50000000 /* bytes per second of the line */

static struct pipe_line lines[FAKE_HOSTS][FAKE_HOSTS];
static bool pull; /* the passes are its destination's */
static bool verify;

/* ---- the guest: a task that writes, and reads what it has written ---- */

static struct {
	struct completion gone;
	bool stop, calm; /* [a] calm: it reads alone */
	uint64_t word[PAGES];
	uint64_t n;
	uint64_t wrong; /* [a] */
} guest;

static void touch(struct vm *vm, uint64_t page)
{
	uint64_t is[2] = { 0 }, w[2] = { guest.n + 1, page };
	if (vm_state_now(vm) != VM_RUNNING || gmem_read(&vm->mem, page << PAGE_SHIFT, is, sizeof(is)))
		return;
	if (vm_state_now(vm) == VM_RUNNING && (is[0] != guest.word[page] || is[1] != (is[0] ? page : 0)))
		__atomic_fetch_add(&guest.wrong, 1, __ATOMIC_SEQ_CST);
	if (__atomic_load_n(&guest.calm, __ATOMIC_SEQ_CST) || !fake_guest_write(vm, page << PAGE_SHIFT, w, sizeof(w)))
		return;
	guest.word[page] = ++guest.n;
}

static void run(void *arg unused)
{
	uint64_t at = 1;
	while (!__atomic_load_n(&guest.stop, __ATOMIC_SEQ_CST)) {
		at = at * 6364136223846793005ULL + 1442695040888963407ULL;
		for (int h = A; h <= B; h++) {
			struct vm *vm = NULL;
			ON_HOST(h) vm = vm_get("demo");
			if (vm)
				touch(vm, at >> 33 & (PAGES - 1));
			ON_HOST(h) vm_put(vm);
		}
	}
	completion_done(&guest.gone);
}

static bool runs_at(int h)
{
	struct vm *vm = fake_vm_find(h, "demo");
	return vm && vm_state_now(vm) == VM_RUNNING;
}

static enum vm_state state_at(int h)
{
	struct vm *vm = fake_vm_find(h, "demo");
	return vm ? vm_state_now(vm) : VM_STOPPED;
}

static struct migrate_status status_at(int h, bool incoming)
{
	struct migrate_status s = { .phase = MIG_CONNECT };
	ON_HOST(h)
	for (unsigned i = 0; migrate_get(i, &s) && s.incoming != incoming;)
		i++;
	return s;
}

static int setup(void **state unused)
{
	memset(&fake_net, 0, sizeof(fake_net));
	memset(&guest, 0, sizeof(guest));
	pull = verify = false;
	for (int i = 0; i < FAKE_HOSTS; i++)
		for (int k = 0; k < FAKE_HOSTS; k++)
			lines[i][k] = (struct pipe_line){ .rate = RATE, .delay_ns = 100 * NS_PER_US };
	fake_net.lines = lines;
	for (int i = 0; i < FAKE_HOSTS; i++)
		fake_host_restart(i);
	fake_net_peers(A, "b");
	fake_net_peers(B, "a");
	ON_HOST(A)(void) fake_vm_new("demo", MEM);
	completion_init(&guest.gone);
	return !task_create("guest", TASK_PRIO_NORMAL, run, NULL);
}

static void stop_guest(void)
{
	if (!__atomic_exchange_n(&guest.stop, true, __ATOMIC_SEQ_CST))
		assert_int_equal(completion_wait(&guest.gone, time_in_ms(20000)), 0);
}

static int teardown(void **state unused)
{
	stop_guest();
	fake_tasks_wait();
	for (int i = 0; i < FAKE_HOSTS; i++)
		fake_host_restart(i);
	return fake_page_live() || fake_page_reserved();
}

static void begin(enum migrate_strategy strategy)
{
	struct why w = { "" };
	struct vm *vm = fake_vm_find(A, "demo");
	struct migrate_params p = { .port = MIGRATE_PORT,
				    .max_downtime_ms = 15,
				    .max_passes = 30,
				    .strategy = strategy,
				    .own_strategy = true,
				    .pull = pull,
				    .verify = verify };
	p.dest = fake_net_address(B);
	ON_HOST(A)
	if (migrate_start(vm, &p, &w))
		fail_msg("%s", w.text);
}

/* It is at B, whole, and nothing of it is left at A. */
static void moved(void)
{
	WAIT_FOR(!fake_vm_find(A, "demo") && status_at(A, false).phase >= MIG_DONE &&
		 status_at(B, true).phase == MIG_DONE);
	struct migrate_status out = status_at(A, false), in = status_at(B, true);
	assert_int_equal(out.phase, MIG_DONE);
	if (out.strategy == MIGRATE_REMOTE && !guest.calm)
		assert_true(in.waits.n && waits_quantile(&in.waits, 50) <= waits_quantile(&in.waits, 99));
	assert_true(out.pull == pull);
	struct migrate_waits w; /* of one vCPU, which the task that waits here is not */
	bool told;
	ON_HOST(B) told = migrate_get_waits(&in, 0, &w) && !migrate_get_waits(&in, 1, &w);
	assert_true(out.strategy != MIGRATE_REMOTE || guest.calm || (told && !w.n));
	ON_HOST(A) assert_false(migrate_get_waits(&out, 0, &w));
	struct vm *vm = fake_vm_find(B, "demo");
	assert_true(runs_at(B) && gmem_all_here(&vm->mem) && !vm->migration);
	stop_guest();
	assert_int_equal(guest.wrong, 0);
	for (uint64_t i = 0; i < PAGES; i++) {
		uint64_t is[2];
		assert_int_equal(gmem_read(&vm->mem, i << PAGE_SHIFT, is, sizeof(is)), 0);
		assert_int_equal(is[0], guest.word[i]);
	}
	struct pt_leaf leaf; /* in large ones again, as of a VM that was never elsewhere */
	assert_true(pt_lookup(&vm->mem.pt, 0, &leaf) && leaf.size == GMEM_BLOCK);
	fake_tasks_wait();
	ON_HOST(B) assert_int_equal(attempt_find(&(struct attempt_id){ .number = 1 }, NULL), RECORD_NONE);
}

static void test_moves(void **state unused)
{
	begin(MIGRATE_REMOTE);
	moved();
}

/* Asked for in the middle of passes that lead nowhere. */
static void test_changed_while_it_runs(void **state unused)
{
	struct why w = { "" };
	struct migrate_params p = { .strategy = MIGRATE_REMOTE };
	begin(MIGRATE_THROTTLE);
	WAIT_FOR(status_at(A, false).pass >= 2);
	ON_HOST(A) assert_int_equal(migrate_change("demo", &p, MIGRATE_SET_STRATEGY, &w), 0);
	moved();
}

/* In its first pass: what has not gone by then comes as it is asked for, or in the map of a pulled pass. */
static void test_goes_at_once(void **state unused)
{
	enum { LARGE = 64, WORD = 7 };
	for (unsigned pulled = 0; pulled < 2; pulled++) {
		struct why w = { "" };
		struct migrate_params p = { .strategy = MIGRATE_REMOTE };
		uint64_t word = WORD;
		stop_guest();
		ON_HOST(A) vm_destroy(fake_vm_find(A, "demo"));
		struct vm *vm = NULL;
		ON_HOST(A) vm = fake_vm_new("demo", MIB(LARGE));
		for (uint64_t i = PAGES; i < MIB(LARGE) / PAGE_SIZE; i++)
			assert_true(fake_guest_write(vm, i << PAGE_SHIFT, &word, sizeof(word)));
		memset(&guest, 0, sizeof(guest));
		completion_init(&guest.gone);
		assert_non_null(task_create("guest", TASK_PRIO_NORMAL, run, NULL));
		pull = pulled;
		begin(MIGRATE_THROTTLE);
		WAIT_FOR(status_at(A, false).pages_sent > 500);
		ON_HOST(A) assert_int_equal(migrate_change("demo", &p, MIGRATE_SET_STRATEGY, &w), 0);
		WAIT_FOR(status_at(A, false).phase == MIG_REMOTE);
		struct migrate_status s = status_at(A, false);
		assert_int_equal(s.pass, 2); /* one that was cut short, and the last */
		assert_true(pulled || s.pages_left > MIB(LARGE) / PAGE_SIZE / 4);
		moved();
		vm = fake_vm_find(B, "demo");
		for (uint64_t i = PAGES; i < MIB(LARGE) / PAGE_SIZE; i++)
			assert_true(!gmem_read(&vm->mem, i << PAGE_SHIFT, &word, sizeof(word)) && word == WORD);
		if (teardown(NULL) || setup(NULL))
			fail_msg("something is left");
	}
}

/* Passes by demand, of a guest that writes all the time and of one that reads; then as ever, or post-copy. */
static void test_pulled(void **state unused)
{
	static const enum migrate_strategy then[] = { MIGRATE_STOP, MIGRATE_REMOTE };
	for (unsigned i = 0; i < 2 * ARRAY_SIZE(then); i++) {
		pull = true;
		__atomic_store_n(&guest.calm, i >= ARRAY_SIZE(then), __ATOMIC_SEQ_CST);
		begin(then[i % ARRAY_SIZE(then)]);
		moved();
		if (teardown(NULL) || setup(NULL))
			fail_msg("%u left something", i);
	}
}

/* Each page is compared, whatever becomes of the connection; and asked for while it is being verified as well. */
static void test_verified(void **state unused)
{
	for (unsigned i = 0; i < 3; i++) {
		struct why w = { "" };
		struct migrate_params p = { .strategy = MIGRATE_REMOTE };
		verify = true;
		if (i == 1)
			failpoint_set(P21_SERVING, FAIL_CUT, 3);
		begin(i == 2 ? MIGRATE_THROTTLE : MIGRATE_REMOTE);
		if (i == 2) {
			WAIT_FOR(status_at(A, false).pass >= 2);
			ON_HOST(A) assert_int_equal(migrate_change("demo", &p, MIGRATE_SET_STRATEGY, &w), 0);
		}
		moved();
		struct migrate_status out = status_at(A, false), in = status_at(B, true);
		assert_true(out.verified_pages > PAGES / 2 && out.verified_pages <= PAGES && out.verified_sections);
		assert_int_equal(out.verified_pages, in.verified_pages);
		assert_true(!out.differed_pages && !in.differed_pages);
		if (teardown(NULL) || setup(NULL))
			fail_msg("%u left something", i);
	}
}

/* Where the connection breaks, from STARTED on. */
static void test_cut(void **state unused)
{
	static const enum failpoint at[] = { P18_RUNNING, P19_STARTED_LOST, P21_SERVING, P22_PULLING };
	for (unsigned i = 0; i < ARRAY_SIZE(at); i++) {
		failpoint_set(at[i], FAIL_CUT, i < 2 ? 1 : 3); /* and again, with the connection that is made anew */
		begin(MIGRATE_REMOTE);
		moved();
		if (teardown(NULL) || setup(NULL))
			fail_msg("point %u left something", i);
	}
}

static void cut_off(bool cut) { fake_net.cut[A][B] = fake_net.cut[B][A] = cut; }

/* Nobody can run it at its source, and its words say why; the image there goes when the operator says so. */
static void test_destination_gone(void **state unused)
{
	struct why w = { "" }, force = { "" };
	fake_log_clear();
	failpoint_set(P22_PULLING, FAIL_CUT, 1);
	begin(MIGRATE_REMOTE);
	WAIT_FOR(runs_at(B));
	cut_off(true);
	WAIT_FOR(state_at(A) == VM_SERVING && fake_log_has("failpoint P22: cut")); /* nothing goes between them */
	ON_HOST(A) assert_int_equal(migrate_claim("demo", true, &w), -EINVAL);
	assert_non_null(strstr(w.text, "can never run here"));
	ON_HOST(A) assert_int_equal(migrate_cancel("demo", &force), -EBUSY);
	struct vm *vm = fake_vm_find(B, "demo");
	w.text[0] = 0;
	ON_HOST(B) assert_int_equal(vm_stop(vm, &w), 0);
	stop_guest();
	WAIT_FOR(status_at(B, true).phase == MIG_DONE && state_at(B) == VM_STOPPED);
	WAIT_FOR(state_at(A) == VM_SERVING);
	w.text[0] = 0;
	ON_HOST(A) assert_int_equal(migrate_forget("demo", false, &w), -EPERM);
	assert_non_null(strstr(w.text, "vm forget demo --force"));
	ON_HOST(A) assert_int_equal(migrate_forget("demo", true, &force), 0);
	WAIT_FOR(!fake_vm_find(A, "demo"));
	assert_int_equal(status_at(A, false).phase, MIG_FAILED);
}

/* The guest switches itself off: what had not come is of no use, and the source hears that. */
static void test_guest_ends(void **state unused)
{
	failpoint_set(P22_PULLING, FAIL_CUT, 1);
	begin(MIGRATE_REMOTE);
	WAIT_FOR(runs_at(B));
	cut_off(true);
	vm_request_power_off(fake_vm_find(B, "demo"));
	stop_guest(); /* whose wait has ended */
	WAIT_FOR(state_at(B) == VM_STOPPED);
	cut_off(false);
	WAIT_FOR(!fake_vm_find(A, "demo"));
	assert_int_equal(status_at(A, false).phase, MIG_DONE);
}

static void test_waits(void **state unused)
{
	struct migrate_waits w = { 0 };
	char text[32];
	assert_int_equal(waits_quantile(&w, 50), 0);
	for (unsigned i = 0; i < 98; i++)
		waits_add(&w, 100 * NS_PER_US);
	waits_add(&w, 999);
	waits_add(&w, 3600 * NS_PER_SEC);
	assert_int_equal(waits_quantile(&w, 1), 1);
	assert_int_equal(waits_quantile(&w, 50), 64 + 64 * 49 / 98);
	assert_int_equal(waits_quantile(&w, 99), 128);
	assert_int_equal(waits_quantile(&w, 100), BIT(WAITS_BUCKETS - 1));
	assert_string_equal(waits_text(&w, text, sizeof(text)), "1 <1 us, 98 <128 us");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_waits),
		cmocka_unit_test_setup_teardown(test_moves, setup, teardown),
		cmocka_unit_test_setup_teardown(test_changed_while_it_runs, setup, teardown),
		cmocka_unit_test_setup_teardown(test_goes_at_once, setup, teardown),
		cmocka_unit_test_setup_teardown(test_pulled, setup, teardown),
		cmocka_unit_test_setup_teardown(test_verified, setup, teardown),
		cmocka_unit_test_setup_teardown(test_cut, setup, teardown),
		cmocka_unit_test_setup_teardown(test_destination_gone, setup, teardown),
		cmocka_unit_test_setup_teardown(test_guest_ends, setup, teardown),
	};
	return cmocka_run_group_tests_name("remote", tests, NULL, NULL);
}

/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What two hosts say to each other in post-copy is what doc/wire.md says: each connection of such a migration, the
 * first and the one after a cut, is recorded, and read by the reader that was written from that file alone. With
 * --verify a page that becomes another one on its way, or at either end, is named on both hosts and never seen.
 */
#include "kernel/task.h"
#include "tests/unit/fake_hosts.h"
#include "tests/unit/fake_net.h"
#include "tests/unit/wire_tap.h"
#include "vmm/migrate/absent.h"
#include "vmm/migrate/failpoint.h"
#include "vmm/migrate/page_sums.h"

enum { A, B };
#define LINKS 2
static struct log out[LINKS][2];
static unsigned links;          /* connections so far */
static bool moved_on;           /* [a] STARTED is out */
static unsigned urgent, ranges; /* [a] DEMANDs that are out */
static unsigned types[LINKS][WIRE_TYPE_END];
static bool verify, pull;
static unsigned spoil_there; /* so many times page LAST becomes another one as it gets into memory at b */
static unsigned spoil_here,
	mend_at;                 /* at a, when that many SUMS of it are out; until it was asked for so often again */
static unsigned sums_out, again; /* SUMS of LAST so far; the last AGAIN's times */
static bool cut_again;           /* the connection breaks when it is asked for again */
static bool dirties, holds;      /* the guest dirties in pass 1; the source answers when an urgent DEMAND is out */

/* Frames of the guest's: two words, at a range's end and start, a lonely one, and one that has become zeros again. */
static const gfn_t dirt[] = { 3, 14, 15, 16, 200, 450 };
#define LAST 450
#define RATE 1000000 /* bytes per second of the line, which pass 1 shows: what is dirty then takes too long */
static struct pipe_line lines[FAKE_HOSTS][FAKE_HOSTS];

static unsigned link_of(const struct tap *t) { return (unsigned)(t->log - out[0]) / 2; }
static bool is_dest(const struct tap *t) { return (t->log - out[0]) % 2; }

/* A byte of it at a, behind the back of all that keeps account. */
static void flip_last(void)
{
	uint8_t *p = gmem_ptr(&fake_vm_find(A, "demo")->mem, (gpa_t)LAST << PAGE_SHIFT, 1);
	*p ^= 1;
}

static void spoil_at_dest(uint8_t *buf, size_t max)
{
	struct vm *vm = __atomic_load_n(&moved_on, __ATOMIC_SEQ_CST) ? fake_vm_find(B, "demo") : NULL;
	if (!vm || max != PAGE_SIZE || buf != gmem_ptr(&vm->mem, (gpa_t)LAST << PAGE_SHIFT, PAGE_SIZE) || !spoil_there)
		return;
	spoil_there--;
	buf[100] ^= 4;
}

static void tap_before(struct tap *t, const uint8_t *bytes)
{
	uint32_t type = get_le32(bytes);
	if (type < WIRE_TYPE_END)
		types[link_of(t)][type]++;
	if (type == WIRE_DEMAND)
		__atomic_fetch_add(get_le32(bytes + 24) == DEMAND_URGENT ? &urgent : &ranges, 1, __ATOMIC_SEQ_CST);
	if (is_dest(t) && type == WIRE_STARTED)
		__atomic_store_n(&moved_on, true, __ATOMIC_SEQ_CST);
	if (!is_dest(t) && type == WIRE_SUMS && LAST - get_le64(bytes + 12) < (get_le32(bytes + 4) - 12) / 8 &&
	    ++sums_out == spoil_here)
		flip_last();
	if (is_dest(t) && type == WIRE_AGAIN && get_le64(bytes + 12) == LAST) {
		again = get_le32(bytes + 20);
		if (again == mend_at)
			flip_last();
		if (cut_again)
			failpoint_set(P21_SERVING, FAIL_CUT, 1);
		cut_again = false;
	}
	if (!is_dest(t) && holds && type == WIRE_PAGES && __atomic_load_n(&moved_on, __ATOMIC_SEQ_CST))
		WAIT_FOR(__atomic_load_n(&urgent, __ATOMIC_SEQ_CST));
}

/* Behind the first pages of pass 1. */
static void tap_after(struct tap *t)
{
	struct vm *vm = t->writes;
	uint64_t word = 7, none = 0;
	if (!vm || !types[0][WIRE_PAGES] || !dirties)
		return;
	dirties = false;
	for (unsigned i = 0; i < ARRAY_SIZE(dirt); i++)
		if (!fake_guest_write(vm, dirt[i] << PAGE_SHIFT, i == 3 ? &none : &word, sizeof(word)))
			abort();
}

static struct stream *tap_end(struct stream *s, int side)
{
	unsigned link = links - (side == B);
	if (link >= LINKS)
		return s;
	struct tap *t = tap_new(s, s->ip, s->peer);
	t->log = &out[link][side];
	if (side == A && !link)
		t->writes = fake_vm_find(A, "demo");
	if (side == B)
		t->on_read = spoil_at_dest;
	links += side == A;
	return &t->s;
}
static struct stream *tap_source(struct stream *s) { return tap_end(s, A); }
static struct stream *tap_dest(struct stream *s) { return tap_end(s, B); }

static int setup(void **state unused)
{
	memset(&fake_net, 0, sizeof(fake_net));
	memset(types, 0, sizeof(types));
	for (unsigned i = 0; i < LINKS; i++)
		out[i][A].len = out[i][B].len = 0;
	links = urgent = ranges = 0;
	moved_on = holds = pull = verify = cut_again = false;
	spoil_there = spoil_here = mend_at = sums_out = again = 0;
	fake_loaded = NULL;
	fake_log_clear();
	dirties = true;
	for (int i = 0; i < FAKE_HOSTS * FAKE_HOSTS; i++)
		lines[i / FAKE_HOSTS][i % FAKE_HOSTS] = (struct pipe_line){ .rate = RATE };
	fake_net.lines = lines;
	fake_net.tap_client = tap_source;
	fake_net.tap_server = tap_dest;
	for (int i = 0; i < FAKE_HOSTS; i++)
		fake_host_restart(i);
	fake_net_peers(A, "b");
	fake_net_peers(B, "a");
	struct vm *vm = NULL;
	ON_HOST(A) vm = fake_vm_new("demo", MIB(2));
	for (uint64_t i = 1; i < 64; i++)
		if (!fake_guest_write(vm, (100 + i) << PAGE_SHIFT, &i, sizeof(i)))
			return 1;
	return 0;
}

static int teardown(void **state unused)
{
	fake_tasks_wait();
	for (int i = 0; i < FAKE_HOSTS; i++)
		fake_host_restart(i);
	return fake_page_live() || fake_page_reserved();
}

/* After pass 1, what the guest has written meanwhile stays; it comes as it is asked for. */
static void begin(void)
{
	struct why w = { "" };
	const struct migrate_params p = { .dest = fake_net_address(B),
					  .port = MIGRATE_PORT,
					  .max_downtime_ms = 15,
					  .max_passes = 1,
					  .strategy = MIGRATE_REMOTE,
					  .own_strategy = true,
					  .pull = pull,
					  .verify = verify };
	ON_HOST(A)
	if (migrate_start(fake_vm_find(A, "demo"), &p, &w))
		fail_msg("%s", w.text);
}

static void move(void)
{
	struct vm *vm;
	uint64_t word = 0;
	begin();
	WAIT_FOR((vm = fake_vm_find(B, "demo")) && vm_state_now(vm) == VM_RUNNING);
	assert_int_equal(gmem_read(&vm->mem, (gpa_t)LAST << PAGE_SHIFT, &word, sizeof(word)), 0);
	assert_int_equal(word, 7);
	WAIT_FOR(!fake_vm_find(A, "demo"));
	assert_true(fake_tasks_wait());
	for (unsigned i = 0; i < ARRAY_SIZE(dirt); i++) {
		assert_int_equal(gmem_read(&vm->mem, dirt[i] << PAGE_SHIFT, &word, sizeof(word)), 0);
		assert_int_equal(word, i == 3 ? 0 : 7);
	}
	assert_true(gmem_all_here(&vm->mem));
}

/* By one connection; somebody waits for a page. Each mutation of it is refused. */
static void test_stream(void **state unused)
{
	holds = true;
	move();
	assert_true(urgent && ranges);
	assert_int_equal(links, 1);
	assert_true(types[0][WIRE_ABSENT] == 2 && types[0][WIRE_SERVED] && types[0][WIRE_ALL] == 1);
	independent_reader(out[0], "--mutate");
}

/* Passes that are asked for, and then a guest that runs before its memory is there. */
static void test_pulled(void **state unused)
{
	pull = true;
	move();
	assert_true(types[0][WIRE_DEMAND] > urgent && types[0][WIRE_SERVED] && types[0][WIRE_ABSENT] == 4);
	independent_reader(out[0], "--mutate");
}

/* It breaks off when the destination has the first record of it: what one connection has begun the next one ends. */
static void test_rejoined(void **state unused)
{
	failpoint_set(P22_PULLING, FAIL_CUT, 1);
	move();
	assert_int_equal(links, 2);
	assert_true(types[1][WIRE_REJOIN] == 1 && types[1][WIRE_ABSENT] == 2 && types[1][WIRE_ALL] == 1);
	independent_reader(out[0], "");
	independent_reader(out[1], "--mutate");
}

/* ---- --verify ---- */

#define GOOD (63 + 5) /* pages that have something */

static struct migrate_status status_at(int h)
{
	struct migrate_status s = { .phase = MIG_CONNECT };
	ON_HOST(h) assert_true(migrate_get(0, &s));
	return s;
}

/* It has moved, and both hosts say the same of it. */
static void verified(unsigned differed)
{
	for (int h = A; h <= B; h++) {
		struct migrate_status s = status_at(h);
		assert_int_equal(s.phase, MIG_DONE);
		assert_int_equal(s.verified_pages, GOOD);
		assert_int_equal(s.verified_sections, 4);
		assert_int_equal(s.differed_pages, differed);
		assert_int_equal(s.differed_at, differed ? (gpa_t)LAST << PAGE_SHIFT : 0);
		assert_string_equal(s.error, "");
	}
}

static void test_verified(void **state unused)
{
	verify = holds = true;
	move();
	verified(0);
	assert_true(types[0][WIRE_VERIFY] == 1 && types[0][WIRE_SUMS] >= 4 && !types[0][WIRE_AGAIN]);
	independent_reader(out[0], "");
}

static void test_verified_rejoined(void **state unused)
{
	verify = true;
	failpoint_set(P22_PULLING, FAIL_CUT, 1);
	move();
	verified(0);
	independent_reader(out[0], "");
	independent_reader(out[1], "--mutate");
}

#define DIFFERS "verify: memory differs in the page at 1c2000 (guest-physical): digest "
#define CHANGED "verify: memory has changed at the source in the page at 1c2000 (guest-physical): digest "
#define WAITS   " times: what touches it waits until it is right"

/* What got into memory there is not what was sent. */
static void test_spoilt_there(void **state unused)
{
	verify = true;
	spoil_there = 2;
	move();
	verified(2);
	assert_int_equal(types[0][WIRE_AGAIN], 2);
	assert_true(fake_log_has(DIFFERS) && !fake_log_has(CHANGED) && !fake_log_has(WAITS));
	independent_reader(out[0], "");
}

/* For longer: it waits, and says so, and still never sees it. */
static void test_held(void **state unused)
{
	verify = holds = true;
	spoil_there = PAGE_SUMS_AT_ONCE + 2;
	move();
	verified(PAGE_SUMS_AT_ONCE + 2);
	assert_true(fake_log_has(WAITS));
	assert_true(types[0][WIRE_SERVED] < 24); /* nobody asks for its range meanwhile */
	independent_reader(out[0], "");
}

/* Its owner gives it up there: what was not right is of no use, and the source hears that. */
static void test_held_ends(void **state unused)
{
	struct why w = { "" };
	struct vm *vm = fake_vm_find(A, "demo");
	const struct migrate_params p = { .dest = fake_net_address(B),
					  .port = MIGRATE_PORT,
					  .max_downtime_ms = 15,
					  .max_passes = 1,
					  .verify = true };
	vm->cfg.s.migrate_strategy = MIGRATE_REMOTE;
	spoil_there = 1000;
	ON_HOST(A) assert_int_equal(migrate_start(vm, &p, &w), 0);
	for (int h = A; h <= B; h++)
		WAIT_FOR(strstr(status_at(h).error, WAITS));
	assert_true(status_at(A).phase == MIG_REMOTE && status_at(B).phase == MIG_REMOTE);
	assert_true(status_at(A).verified_pages <= GOOD);
	ON_HOST(B) assert_int_equal(vm_stop(fake_vm_find(B, "demo"), &w), 0);
	assert_true(fake_tasks_wait());
	assert_null(fake_vm_find(A, "demo"));
	assert_int_equal(status_at(A).phase, MIG_DONE);
}

/* It becomes another one at its source between its digest and its going: what was said first is what must come. */
static void test_spoilt_here(void **state unused)
{
	verify = true;
	spoil_here = 1;
	mend_at = 2;
	move();
	verified(2);
	assert_true(fake_log_has(DIFFERS) && fake_log_has(CHANGED));
	independent_reader(out[0], "");
}

/* By another connection as well. */
static void test_spoilt_and_rejoined(void **state unused)
{
	verify = cut_again = true;
	spoil_here = 1;
	mend_at = 2;
	move();
	verified(2);
	assert_int_equal(links, 2);
	assert_int_equal(types[1][WIRE_AGAIN], 1);
	assert_true(fake_log_has(CHANGED));
	independent_reader(out[0], "");
	independent_reader(out[1], "--mutate");
}

static void flip_there(struct vm *vm) { *(uint8_t *)gmem_ptr(&vm->mem, 101 << PAGE_SHIFT, 1) ^= 1; }
static void flip_absent(struct vm *vm)
{
	for (unsigned i = 0; i < ARRAY_SIZE(dirt); i++)
		*(uint8_t *)gmem_ptr(&vm->mem, (dirt[i] << PAGE_SHIFT) + 9, 1) ^= 1;
}
static void not_absent(struct vm *vm) { assert_true(gmem_absent_came(&vm->mem, 16)); }

/* What is there when the guest stands still is compared as ever, the map as well: a difference, and it goes on here. */
static void test_stays(void **state unused)
{
	static const struct {
		void (*spoil)(struct vm *vm);
		const char *says;
	} all[] = { { flip_there, "verify: memory differs in the page at 65000 (guest-physical): digest " },
		    { not_absent,
		      "verify: memory differs in the page at 10000 (guest-physical): absent here, zeros there" } };
	for (unsigned i = 0; i < ARRAY_SIZE(all); i++) {
		struct vm *vm = fake_vm_find(A, "demo");
		verify = true;
		fake_loaded = all[i].spoil;
		dirties = true;
		links = 0;
		memset(types, 0, sizeof(types));
		begin();
		assert_true(fake_tasks_wait());
		assert_true(types[0][WIRE_ABSENT]);
		for (int h = A; h <= B; h++) {
			struct migrate_status s = status_at(h);
			assert_int_equal(s.phase, MIG_FAILED);
			if (!strstr(s.error, all[i].says))
				fail_msg("%d: \"%s\" does not say \"%s\"", h, s.error, all[i].says);
		}
		assert_true(vm_state_now(vm) == VM_RUNNING && !fake_vm_find(B, "demo"));
	}
}

/* What is to come later is no difference, whatever is there before; zeros that come are zeros. */
static void test_absent_is_nothing(void **state unused)
{
	verify = true;
	fake_loaded = flip_absent;
	move();
	struct migrate_status s = status_at(B);
	assert_int_equal(s.verified_pages, GOOD);
	assert_int_equal(s.differed_pages, 1); /* zeros, which were written there by nobody who says so */
	assert_int_equal(s.differed_at, 16 << PAGE_SHIFT);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_stream, setup, teardown),
		cmocka_unit_test_setup_teardown(test_pulled, setup, teardown),
		cmocka_unit_test_setup_teardown(test_rejoined, setup, teardown),
		cmocka_unit_test_setup_teardown(test_verified, setup, teardown),
		cmocka_unit_test_setup_teardown(test_verified_rejoined, setup, teardown),
		cmocka_unit_test_setup_teardown(test_spoilt_there, setup, teardown),
		cmocka_unit_test_setup_teardown(test_held, setup, teardown),
		cmocka_unit_test_setup_teardown(test_held_ends, setup, teardown),
		cmocka_unit_test_setup_teardown(test_spoilt_here, setup, teardown),
		cmocka_unit_test_setup_teardown(test_spoilt_and_rejoined, setup, teardown),
		cmocka_unit_test_setup_teardown(test_stays, setup, teardown),
		cmocka_unit_test_setup_teardown(test_absent_is_nothing, setup, teardown),
	};
	setvbuf(stdout, NULL, _IOLBF, 0);
	cmocka_set_test_filter(getenv("TERN_TEST")); /* one test by name */
	int failed = cmocka_run_group_tests_name("remote_wire", tests, NULL, NULL);
	for (unsigned i = 0; i < 2 * LINKS; i++)
		free(out[i / 2][i % 2].p);
	return failed;
}

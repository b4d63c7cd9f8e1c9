/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What two hosts say to each other in post-copy is what doc/wire.md says: each connection of such a migration, the
 * first and the one after a cut, is recorded, and read by the reader that was written from that file alone.
 */
#include "kernel/task.h"
#include "tests/unit/fake_hosts.h"
#include "tests/unit/fake_net.h"
#include "tests/unit/wire_tap.h"
#include "vmm/migrate/absent.h"
#include "vmm/migrate/failpoint.h"

enum { A, B };
#define LINKS 2
static struct log out[LINKS][2];
static unsigned links;          /* connections so far */
static bool moved_on;           /* [a] STARTED is out */
static unsigned urgent, ranges; /* [a] DEMANDs that are out */
static unsigned types[LINKS][WIRE_TYPE_END];
static bool dirties, holds, pull; /* the guest dirties in pass 1; the source answers when an urgent DEMAND is out */

/* Frames of the guest's: two words, at a range's end and start, a lonely one, and one that has become zeros again. */
static const gfn_t dirt[] = { 3, 14, 15, 16, 200, 450 };
#define LAST 450
#define RATE 1000000 /* bytes per second of the line, which pass 1 shows: what is dirty then takes too long */
static struct pipe_line lines[FAKE_HOSTS][FAKE_HOSTS];

static unsigned link_of(const struct tap *t) { return (unsigned)(t->log - out[0]) / 2; }
static bool is_dest(const struct tap *t) { return (t->log - out[0]) % 2; }

static void tap_before(struct tap *t, const uint8_t *bytes)
{
	uint32_t type = get_le32(bytes);
	if (type < WIRE_TYPE_END)
		types[link_of(t)][type]++;
	if (type == WIRE_DEMAND)
		__atomic_fetch_add(get_le32(bytes + 24) == DEMAND_URGENT ? &urgent : &ranges, 1, __ATOMIC_SEQ_CST);
	if (is_dest(t) && type == WIRE_STARTED)
		__atomic_store_n(&moved_on, true, __ATOMIC_SEQ_CST);
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
	moved_on = holds = pull = false;
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
static void move(void)
{
	struct why w = { "" };
	struct vm *vm = fake_vm_find(A, "demo");
	const struct migrate_params p = { .dest = fake_net_address(B),
					  .port = MIGRATE_PORT,
					  .max_downtime_ms = 15,
					  .max_passes = 1,
					  .strategy = MIGRATE_REMOTE,
					  .own_strategy = true,
					  .pull = pull };
	uint64_t word = 0;
	ON_HOST(A)
	if (migrate_start(vm, &p, &w))
		fail_msg("%s", w.text);
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

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_stream, setup, teardown),
		cmocka_unit_test_setup_teardown(test_pulled, setup, teardown),
		cmocka_unit_test_setup_teardown(test_rejoined, setup, teardown),
	};
	int failed = cmocka_run_group_tests_name("remote_wire", tests, NULL, NULL);
	for (unsigned i = 0; i < 2 * LINKS; i++)
		free(out[i / 2][i % 2].p);
	return failed;
}

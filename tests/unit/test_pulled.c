/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A pass that its destination drives (pulled.h), seen from there: of maps that come in pieces, dense and thin, it asks
 * for each frame once, in ascending order, for no more at a time than it may, and for nothing that could still change;
 * and what it was not asked for is refused.
 */
#include "kernel/task.h"
#include "kernel/time.h"
#include "tests/unit/fake_hosts.h"
#include "tests/unit/fake_kernel.h"
#include "tests/unit/wire_pipe.h"
#include "vmm/migrate/migrate.h"
#include "vmm/migrate/pulled.h"
#include "vmm/migrate/records.h"
#include <string.h>

#define MEM    MIB(256)
#define FRAMES (MEM >> PAGE_SHIFT)

static struct gmem mem, source; /* whose sets are what has not come, and what was not sent */
static struct stream *back[2];  /* what it asks for */
static struct wire_tx asks;
static struct wire_rx asked;
static struct page_rx pages;
static struct pulled_rx pulled;
static struct absent_tx map;
static struct why w;
static uint64_t seed = 1;

static uint64_t rnd(uint64_t n)
{
	seed = seed * 6364136223846793005UL + 1442695040888963407UL;
	return (seed >> 33) % n;
}

static int setup(void **state)
{
	if (open_pipe(state) || stream_pipe(back, 1 << 20) || wire_tx_init(&asks, back[0]) ||
	    wire_rx_init(&asked, back[1]) || gmem_init(&mem, MEM, &pt_format_npt, &w) ||
	    gmem_init(&source, MEM, &pt_format_npt, &w) || absent_tx_init(&map, &tx, NS_PER_SEC, TIME_NEVER))
		return 1;
	pages = (struct page_rx){ .rx = &rx, .mem = &mem, .idle_ns = NS_PER_SEC };
	pulled_begin(&pulled, &pages);
	w.text[0] = 0;
	return 0;
}

static int teardown(void **state)
{
	absent_tx_fini(&map);
	gmem_fini(&mem);
	gmem_fini(&source);
	wire_tx_fini(&asks);
	wire_rx_fini(&asked);
	stream_close(back[0]);
	stream_close(back[1]);
	return close_pipe(state) || fake_page_live();
}

static int take(uint32_t type)
{
	assert_int_equal(wire_recv(&rx, time_in_ms(1000), NS_PER_SEC, &w), 0);
	assert_int_equal(rx.type, type);
	return type == WIRE_SERVED ? pulled_served(&pulled, &asks, &pages, &w) : pulled_map(&pulled, &asks, &pages, &w);
}

static uint64_t end_of_map(void)
{
	assert_int_equal(absent_tx_end(&map), 0);
	assert_int_equal(take(WIRE_ABSENT), 0);
	return map.frames;
}

/* The next frames of the source's set go into the map. */
static void piece(gfn_t from, gfn_t to)
{
	uint64_t before = map.frames, left = (gmem_track_gap(&source, from, to) - from);
	assert_int_equal(absent_tx_part(&map, &source, from, to), 0);
	for (uint64_t got = before; got < map.frames; got = pulled.map.frames)
		assert_int_equal(take(WIRE_ABSENT), 0);
	assert_true(pulled.map.frames == map.frames && left <= to - from);
}

static struct demand demand(void)
{
	struct demand d;
	assert_int_equal(wire_recv(&asked, time_in_ms(1000), NS_PER_SEC, &w), 0);
	assert_int_equal(asked.type, WIRE_DEMAND);
	assert_true(absent_demand_parse(&asked, &d));
	assert_int_equal(d.flags, 0);
	assert_true(d.count && !((d.first | d.count) % 64) && gmem_has(&mem, d.first, d.count));
	return d;
}

/* The oldest one is answered: as PAGES would have it, then SERVED. Frames that were in it. */
static uint64_t serve(gfn_t *next, gfn_t known)
{
	struct demand d = demand();
	uint64_t n = 0;
	assert_true(d.first >= *next && d.first + d.count <= known);
	*next = d.first + d.count;
	for (gfn_t f = d.first; (f = gmem_track_next(&source, f, *next)) < *next; f++, n++) {
		assert_true(gmem_track_take_of(&source, ALIGN_DOWN(f, 64UL), BIT(f % 64)));
		assert_true(gmem_absent(&mem, f)); /* or it would refuse it */
		pages.came(pages.arg, f, 1);
	}
	assert_true(n && n < PULLED_FRAMES + 64);
	assert_int_equal(absent_demand_send(&tx, WIRE_SERVED, &d, TIME_NEVER), 0);
	assert_int_equal(take(WIRE_SERVED), 0);
	return n;
}

static void fill_source(unsigned kind)
{
	gmem_track_clear(&source);
	for (gfn_t f = 0; f < FRAMES;) {
		uint64_t run = kind == 0 ? 1 : kind == 1 ? 1 + rnd(3000) : 1 + rnd(64);
		gmem_track_add(&source, f, MIN(run, FRAMES - f));
		f += run + 1 + (kind == 0 ? rnd(2000) : kind == 1 ? rnd(200) : rnd(64));
	}
}

static void test_maps(void **state unused)
{
	for (unsigned i = 0; i < 12; i++) {
		gfn_t at = 0, next = 0;
		uint64_t came = 0, most = 0;
		fill_source(i % 3);
		uint64_t all = gmem_track_left(&source);
		map.frames = 0;
		pulled_begin(&pulled, &pages);
		while (!pulled_is_over(&pulled)) {
			assert_true(pages.came && pulled.nout <= PULLED_OUT_MAX);
			assert_true(pulled.nframes < PULLED_WINDOW + PULLED_FRAMES + 64);
			most = MAX(most, pulled.nframes);
			if (pulled.nout && (rnd(3) || pulled.map.ended)) {
				came += serve(&next, pulled.map.ended ? FRAMES : at);
			} else if (at < FRAMES) {
				gfn_t to = at + 64 * (1 + rnd(256));
				to = MIN(to, FRAMES);
				piece(at, to);
				at = to;
			} else {
				end_of_map();
			}
		}
		assert_true(came == all && !gmem_track_left(&mem) && !pages.came && !pulled.nframes);
		assert_true(i % 3 != 1 ||
			    most > PULLED_WINDOW / 2); /* it does ask for much at once where there is much */
	}
}

/* A map of nothing: it is over at once. */
static void test_empty(void **state unused)
{
	assert_false(pulled_is_over(&pulled));
	assert_int_equal(end_of_map(), 0);
	assert_true(pulled_is_over(&pulled) && !pages.came && !pulled.nout);
}

static int send_served(gfn_t first, uint32_t count, uint32_t flags)
{
	const struct demand d = { .first = first, .count = count, .flags = flags };
	assert_int_equal(absent_demand_send(&tx, WIRE_SERVED, &d, TIME_NEVER), 0);
	return take(WIRE_SERVED);
}

static void test_wrong(void **state unused)
{
	assert_int_equal(send_served(0, 64, 0), -EPROTO); /* there was no map */
	gmem_track_add(&source, 10, 100);
	piece(0, 128);
	struct demand d = demand();
	assert_true(d.first == 0 && d.count == 64); /* of the next 64 more may come */
	(void)end_of_map();
	d = demand();
	assert_true(d.first == 64 && d.count == 64);
	w.text[0] = 0;
	assert_int_equal(send_served(0, 64, 0), -EPROTO); /* nothing of it has come */
	assert_non_null(strstr(w.text, "did not send all of 0+40"));
	pages.came(pages.arg, 10, 53);
	assert_int_equal(send_served(0, 64, 0), -EPROTO); /* nor the last one */
	pages.came(pages.arg, 63, 1);
	assert_int_equal(send_served(0, 128, 0), -EPROTO);
	assert_int_equal(send_served(64, 64, 0), -EPROTO); /* which is not its turn */
	assert_int_equal(send_served(0, 64, 1), -EPROTO);
	assert_int_equal(send_served(0, 64, 0), 0);
	pages.came(pages.arg, 64, 46);
	assert_false(pulled_is_over(&pulled));
	assert_int_equal(send_served(64, 64, 0), 0);
	assert_true(pulled_is_over(&pulled));
	assert_int_equal(send_served(64, 64, 0), -EPROTO); /* again */
}

/* Pages that are in no map, or have come: not one byte of the record is taken. */
static void test_other_pages(void **state unused)
{
	static const struct {
		gfn_t first;
		uint32_t count;
		bool good;
	} sent[] = { { 9, 1, false }, { 10, 101, false }, { 110, 1, false }, { 10, 50, true }, { 60, 50, true } };
	gmem_track_add(&source, 10, 100);
	piece(0, 128);
	for (unsigned i = 0; i < ARRAY_SIZE(sent); i++) {
		wire_begin(&tx, WIRE_PAGES);
		wire_put_u64(&tx, sent[i].first);
		wire_put_u32(&tx, 1);
		wire_put_u32(&tx, 0);
		wire_put_u32(&tx, 0);
		wire_put_u32(&tx, PAGES_ZERO | sent[i].count);
		assert_int_equal(wire_end(&tx, TIME_NEVER), 0);
		assert_int_equal(wire_recv(&rx, time_in_ms(1000), NS_PER_SEC, &w), 0);
		assert_int_equal(pages_recv(&pages, &w), sent[i].good ? 0 : -EPROTO);
		assert_int_equal(gmem_track_left(&mem), i < 3 ? 100 : i == 3 ? 50 : 0);
	}
	assert_int_equal(pulled.came, 100);
}

/* ---- the source, and a destination that asks for the same nothing again and again ---- */

static struct completion over;

static int say_id(struct wire_tx *to, uint32_t type, const struct attempt_id *id)
{
	return id_send(to, type, id, TIME_NEVER);
}

static int ask_for_nothing(struct wire_tx *to)
{
	const struct demand d = { .first = 64, .count = 64 };
	return absent_demand_send(to, WIRE_DEMAND, &d, TIME_NEVER);
}

static void asks_again(void *arg)
{
	struct wire_tx to;
	struct wire_rx from;
	struct attempt_id id = { 0 };
	int err = wire_tx_init(&to, arg);
	err = wire_rx_init(&from, arg) ? -ENOMEM : err;
	while (!err && !(err = wire_recv(&from, time_in_ms(20000), NS_PER_SEC, NULL))) {
		static uint8_t page[PAGE_SIZE];
		while (from.data_len && !wire_recv_data(&from, page, sizeof(page), time_in_ms(1000)))
			;
		if (from.type == WIRE_HELLO) {
			ON_HOST(1) err = hello_send(&to, TIME_NEVER);
		} else if (from.type == WIRE_OFFER) {
			id_get(&from, &id);
			to.key = from.key = attempt_key(&id);
			err = say_id(&to, WIRE_ACCEPT, &id);
		} else if (from.type == WIRE_FILES) {
			wire_begin(&to, WIRE_WANT);
			wire_put_u32(&to, 0);
			err = wire_end(&to, TIME_NEVER);
		} else if (from.type == WIRE_PASS) {
			for (unsigned i = 0; i < 200 && !err; i++)
				err = ask_for_nothing(&to);
		} else if (from.type == WIRE_SERVED) {
			err = ask_for_nothing(&to);
		}
	}
	wire_tx_fini(&to);
	wire_rx_fini(&from);
	completion_done(&over);
}

/* It is bound by the operator's time-out like any other, and the guest runs on. */
static void test_asked_for_nothing(void **state unused)
{
	struct stream *end[2];
	const struct migrate_params p = {
		.max_downtime_ms = 300, .max_passes = 9, .pull = true, .timeout_ms = 500, .any_network = true
	};
	struct vm *vm;
	fake_host_restart(0);
	fake_host_restart(1);
	fake_host = 0;
	vm = fake_vm_new("demo", MIB(4));
	for (uint64_t i = 1; i < 512; i++)
		assert_true(fake_guest_write(vm, i << PAGE_SHIFT, &i, sizeof(i)));
	assert_int_equal(stream_pipe(end, 1 << 20), 0);
	completion_init(&over);
	assert_non_null(task_create("asks", TASK_PRIO_NORMAL, asks_again, end[1]));
	uint64_t began = time_ns();
	struct why said = { "" };
	assert_int_not_equal(migrate_source_run(vm, end[0], &p, &said), 0);
	assert_non_null(strstr(said.text, "(--timeout)"));
	assert_true(time_ns() - began < 5 * NS_PER_SEC && vm_state_now(vm) == VM_RUNNING);
	stream_abort(end[0]);
	assert_int_equal(completion_wait(&over, time_in_ms(5000)), 0);
	assert_true(fake_tasks_wait());
	stream_close(end[0]);
	stream_close(end[1]);
	vm_destroy(vm);
	fake_host_restart(0);
	fake_host_restart(1);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
	const struct CMUnitTest tests[] = { T(test_maps), T(test_empty), T(test_wrong), T(test_other_pages),
					    cmocka_unit_test(test_asked_for_nothing) };
	return cmocka_run_group_tests_name("pulled", tests, NULL, NULL);
}

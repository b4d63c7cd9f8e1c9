/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * `migrate --verify`: a VM whose image is the same on both sides moves, and one of which a byte, a page, a block or a
 * field differs stays, with just that named on both hosts; and peers that say odd things of what they verify.
 */
#include "kernel/host.h"
#include "kernel/task.h"
#include "tests/unit/fake_hosts.h"
#include "tests/unit/fake_net.h"
#include "tests/unit/wire_tap.h"
#include "vmm/disk.h"
#include "vmm/migrate/attempts.h"
#include "vmm/migrate/sums.h"
#include <common/xxhash.h>
#include <time.h>

#define DISK (GIB(1) + 3 * SECTOR)

static bool far_line, ready_is_out; /* far_line: COMMIT would ride */
static uint64_t slow_ns;            /* that the destination takes for each range */
static void tap_before(struct tap *t, const uint8_t *bytes)
{
	uint32_t type = get_le32(bytes);
	for (uint64_t end = time_ns() + 15 * NS_PER_MS; t->far && type == WIRE_PASS_ACK && time_ns() < end;)
		task_yield();
	if (slow_ns && type == WIRE_CHECKED) {
		static const struct timespec source_waits = { .tv_nsec = 100 * 1000000 };
		nanosleep(&source_waits, NULL);
		fake_time_advance(slow_ns);
		nanosleep(&source_waits, NULL); /* and gives up */
	}
	if (type == WIRE_READY)
		__atomic_store_n(&ready_is_out, true, __ATOMIC_SEQ_CST);
	if (type == WIRE_COMMIT)
		assert_true(__atomic_load_n(&ready_is_out, __ATOMIC_SEQ_CST));
}
static void tap_after(struct tap *t unused) {}

/* ---- a VM with something of everything ---- */

static void fill(struct vm *vm, gpa_t gpa, uint8_t with)
{
	uint8_t page[PAGE_SIZE];
	memset(page, with, sizeof(page));
	assert_true(fake_guest_write(vm, gpa, page, sizeof(page)));
}

static void done(struct blockdev_req *r unused) {}
static void block_write(struct vm *vm, uint64_t block, enum blockdev_op op)
{
	uint8_t page[PAGE_SIZE];
	struct blockdev *b = &vm->disk[0]->layer.b;
	struct gmem_pin pin = { page, 0, PAGE_SIZE, GMEM_WRITE };
	struct blockdev_req r = { .op = op, .off = block << PAGE_SHIFT, .len = PAGE_SIZE, .seg = &pin, .done = done };
	memset(page, (int)block | 1, sizeof(page));
	b->ops->submit(b, &r);
	assert_int_equal(r.err, 0);
}

/* Its disk has blocks in more chunks than one record has sums, the last one of the disk, and blocks of zeros. */
#define BLOCKS (SUMS_MAX + 10)
static void give_disk(struct vm *vm)
{
	struct why w = { "" };
	vm->cfg.ndisks = 1;
	vm->cfg.disk[0] = (struct vm_disk_config){ .name = "root", .size = DISK, .layer = 800 * PAGE_SIZE };
	if (disk_make_all(vm, &w))
		fail_msg("%s", w.text);
	for (uint64_t i = 0; i < BLOCKS; i++)
		block_write(vm, i * SUMS_CHUNK + i, BLOCKDEV_WRITE);
	block_write(vm, 3 * SUMS_CHUNK + 3, BLOCKDEV_ZERO);
	block_write(vm, layer_blocks(&vm->disk[0]->layer) - 2, BLOCKDEV_WRITE);
}

static struct vm *new_vm(uint64_t mem)
{
	struct vm *vm = fake_vm_new("demo", mem);
	fill(vm, 0, 1);
	fill(vm, 0x5000, 2);
	fill(vm, 0x6000, 3);
	fill(vm, mem - PAGE_SIZE, 4);
	return vm;
}

static void serve(void *s)
{
	fake_host = 1;
	migrate_serve(NULL, s);
}

static bool no_verify;
static unsigned cancel_at; /* before which of the source's writes the operator cancels; 0: none */
static struct log out[2];
static int attempt(struct vm *vm, void (*dest)(void *s), struct why *w)
{
	struct migrate_params p = {
		.port = MIGRATE_PORT, .max_downtime_ms = 300, .max_passes = 30, .verify = !no_verify
	};
	struct tap *dst, *src = connect_taps(&dst);
	out[0].len = out[1].len = 0;
	src->log = &out[0];
	dst->log = &out[1];
	dst->far = far_line;
	src->cancel_at = cancel_at;
	ready_is_out = false;
	p.dest = src->s.ip;
	if (!task_create("dest", TASK_PRIO_NORMAL, dest, &dst->s))
		abort();
	int err = migrate_source_run(vm, &src->s, &p, w);
	stream_close(&src->s);
	assert_true(fake_tasks_wait());
	return err;
}

/* It runs on host 1, and goes. What both hosts say was verified. */
static void moved(uint64_t pages)
{
	struct migrate_status s;
	struct vm *vm = fake_vm_find(1, "demo");
	assert_null(fake_vm_find(0, "demo"));
	assert_non_null(vm);
	assert_int_equal(vm->state, VM_RUNNING);
	for (int host = 0; host < 2; host++) {
		ON_HOST(host) assert_true(migrate_get(0, &s) && s.phase == MIG_DONE);
		assert_int_equal(s.verified_pages, pages);
		assert_int_equal(s.verified_sections, pages ? 4 : 0);
	}
	vm_destroy(vm);
	assert_int_equal(fake_page_live(), 0);
	assert_int_equal(fake_page_reserved(), 0);
}

static void must_move(struct vm *vm, uint64_t pages)
{
	struct why w = { "" };
	fake_loaded = NULL;
	if (attempt(vm, serve, &w))
		fail_msg("%s", w.text);
	moved(pages);
}

/* Its image differs there: just that is said on both hosts, it runs on here, and moves when it does not. */
static void differs(struct vm *vm, void (*spoil)(struct vm *vm), uint64_t pages, const char *text)
{
	struct migrate_status s;
	struct why w = { "" };
	fake_loaded = spoil;
	assert_int_not_equal(attempt(vm, serve, &w), 0);
	if (strcmp(w.text, text) != 0)
		fail_msg("\"%s\" is not \"%s\"", w.text, text);
	assert_true(migrate_get(0, &s) && s.phase == MIG_FAILED && !s.verified_sections);
	assert_string_equal(s.error, text);
	ON_HOST(1) assert_true(migrate_get(0, &s) && s.phase == MIG_FAILED && !s.verified_sections);
	assert_non_null(strstr(s.error, text));
	assert_null(fake_vm_find(1, "demo"));
	assert_int_equal(vm->state, VM_RUNNING);
	must_move(vm, pages);
}

/* The way through a VM with a hole in its memory and two disks. */
static void test_walk(void **state unused)
{
	const struct gmem g = { .size = GIB(3) + MIB(6), .low = GIB(3), .high = MIB(6) };
	struct layer l[2] = { { .b.size = MIB(5) + SECTOR }, { .b.size = SECTOR } };
	const struct page_layers layers = { .of = { &l[0], &l[1] }, .n = 2 };
	struct sums_walk w;
	sums_walk_begin(&w, &g, &layers, false);
	for (unsigned i = 0; i < 12; i++) {
		assert_true(w.at == i * 65536UL && !w.layer && !w.over);
		assert_true(sums_walk_fits(&w, 65536) && sums_walk_fits(&w, 1024) && !sums_walk_fits(&w, 1536));
		sums_walk_on(&w, 65536);
	}
	assert_true(w.at == 1 << 20 && !w.layer);
	assert_true(sums_walk_fits(&w, 1536) && sums_walk_fits(&w, 1024));
	assert_false(sums_walk_fits(&w, 2048) || sums_walk_fits(&w, 512) || sums_walk_fits(&w, 0));
	sums_walk_on(&w, 1024);
	assert_true(sums_walk_fits(&w, 512) && !sums_walk_fits(&w, 1024));
	sums_walk_on(&w, 512);
	assert_true(w.at == PAGES_DISK(0) && w.layer == &l[0]);
	assert_true(sums_walk_fits(&w, 1281) && sums_walk_fits(&w, 1024) && !sums_walk_fits(&w, 1280));
	sums_walk_on(&w, 1281);
	assert_true(w.at == PAGES_DISK(1) && w.layer == &l[1] && sums_walk_fits(&w, 1));
	sums_walk_on(&w, 1);
	assert_true(w.over && !sums_walk_fits(&w, 1));
}

/* ---- the same on both sides ---- */

static void test_equal(void **state unused)
{
	must_move(new_vm(MIB(2)), 4);
	independent_reader(out, "--mutate");
	no_verify = true;
	must_move(new_vm(MIB(2)), 0);
	no_verify = false;
	fake_cpus = 8;
	must_move(new_vm(MIB(260)), 4); /* two ranges */
	fake_cpus = 1;
}

static void test_equal_disk(void **state unused)
{
	for (fake_cpus = 8; fake_cpus; fake_cpus /= 8) {
		struct vm *vm = new_vm(MIB(2));
		give_disk(vm);
		must_move(vm, 4 + BLOCKS + 1);
		independent_reader(out, "");
	}
	fake_cpus = 1;
}

/* COMMIT does not ride: READY is what says that it is the same. */
static void test_far(void **state unused)
{
	far_line = true;
	must_move(new_vm(MIB(2)), 4);
	far_line = false;
}

/* It takes as long as it takes, as long as it goes on. */
static void test_slow(void **state unused)
{
	struct vm *vm = new_vm(MIB(520)); /* three ranges */
	struct why w = { "" };
	fake_time_freeze(time_ns());
	slow_ns = 8 * NS_PER_SEC;
	must_move(vm, 4);
	vm = new_vm(MIB(2));
	slow_ns = 11 * NS_PER_SEC;
	assert_int_not_equal(attempt(vm, serve, &w), 0);
	slow_ns = 0;
	fake_time_thaw();
	assert_string_equal(w.text, "the destination fell silent while its memory was verified");
	assert_int_equal(vm->state, VM_RUNNING);
	must_move(vm, 4);
}

static void test_cancel(void **state unused)
{
	unsigned cancelled = 0;
	for (cancel_at = 1;; cancel_at++) {
		struct vm *vm = new_vm(MIB(2));
		cancel_result = 1;
		int err = attempt(vm, serve, NULL);
		if (cancel_result)
			break;
		cancelled++;
		assert_int_not_equal(err, 0);
		assert_null(fake_vm_find(1, "demo"));
		assert_int_equal(vm->state, VM_RUNNING);
		vm_destroy(vm);
	}
	cancel_at = 0;
	moved(4);
	assert_true(cancelled > 12);
}

/* ---- what differs ---- */

static void flip(struct vm *vm, gpa_t gpa)
{
	uint8_t b;
	assert_int_equal(gmem_read(&vm->mem, gpa, &b, 1), 0);
	b ^= 1;
	assert_int_equal(gmem_write(&vm->mem, gpa, &b, 1), 0);
}

static const char *digest(uint64_t gfn, uint8_t with, unsigned flipped)
{
	static char text[2][32];
	static unsigned n;
	uint8_t page[PAGE_SIZE];
	memset(page, with, sizeof(page));
	if (flipped < PAGE_SIZE)
		page[flipped] ^= 1;
	n ^= 1;
	snprintf(text[n], sizeof(text[n]), "digest %016llx", (unsigned long long)XXH64(page, sizeof(page), gfn));
	return text[n];
}

static void one_byte(struct vm *vm) { flip(vm, 0x5fff); }
static void two_pages(struct vm *vm)
{
	flip(vm, 0x6000);
	flip(vm, 0);
}
static void should_be_zeros(struct vm *vm) { flip(vm, 0x100000); }
static void should_not_be_zeros(struct vm *vm)
{
	static const uint8_t zeros[PAGE_SIZE];
	assert_int_equal(gmem_write(&vm->mem, 0x6000, zeros, sizeof(zeros)), 0);
}
/* By nobody who tells the dirty set. */
static void unmarked(struct vm *vm) { *(uint8_t *)gmem_ptr(&vm->mem, 0x100000, 1) = 1; }
static void swapped(struct vm *vm)
{
	uint8_t a[PAGE_SIZE], b[PAGE_SIZE];
	assert_int_equal(gmem_read(&vm->mem, 0x5000, a, sizeof(a)), 0);
	assert_int_equal(gmem_read(&vm->mem, 0x6000, b, sizeof(b)), 0);
	assert_int_equal(gmem_write(&vm->mem, 0x5000, b, sizeof(b)), 0);
	assert_int_equal(gmem_write(&vm->mem, 0x6000, a, sizeof(a)), 0);
}
static void last_byte(struct vm *vm) { flip(vm, vm->mem.size - 1); }

#define MEMORY "verify: memory differs in the page at "
static void memory_differs(uint64_t mem, void (*spoil)(struct vm *vm), const char *at, const char *here,
			   const char *there)
{
	char text[256];
	snprintf(text, sizeof(text), MEMORY "%s (guest-physical): %s here, %s there", at, here, there);
	differs(new_vm(mem), spoil, 4, text);
}

static void test_memory(void **state unused)
{
	memory_differs(MIB(2), one_byte, "5000", digest(5, 2, PAGE_SIZE), digest(5, 2, PAGE_SIZE - 1));
	memory_differs(MIB(2), two_pages, "0", digest(0, 1, PAGE_SIZE), digest(0, 1, 0));
	memory_differs(MIB(2), should_be_zeros, "100000", "zeros", digest(0x100, 0, 0));
	memory_differs(MIB(2), unmarked, "100000", "zeros", digest(0x100, 0, 0));
	memory_differs(MIB(2), should_not_be_zeros, "6000", digest(6, 3, PAGE_SIZE), "zeros");
	memory_differs(MIB(2), swapped, "5000", digest(5, 2, PAGE_SIZE), digest(5, 3, PAGE_SIZE));
	memory_differs(MIB(260), last_byte, "103ff000", digest(0x103ff, 4, PAGE_SIZE),
		       digest(0x103ff, 4, PAGE_SIZE - 1));
}

static void block_differs(struct vm *vm)
{
	uint8_t *page = layer_fill_page(&vm->disk[0]->layer, 70 * SUMS_CHUNK + 70);
	assert_non_null(page);
	page[17] ^= 1;
}
static void block_is_more(struct vm *vm) /* and as in the base: zeros */
{
	assert_int_equal(layer_fill_zero(&vm->disk[0]->layer, 5), 0);
}
static void chunk_is_more(struct vm *vm) /* behind as many as one record has sums of */
{
	uint8_t *page = layer_fill_page(&vm->disk[0]->layer, 200 * SUMS_CHUNK);
	assert_non_null(page);
	memset(page, 1, PAGE_SIZE);
}
static void block_became_zeros(struct vm *vm) { assert_int_equal(layer_fill_zero(&vm->disk[0]->layer, 0), 0); }
static void zeros_became_data(struct vm *vm)
{
	uint8_t *page = layer_fill_page(&vm->disk[0]->layer, 3 * SUMS_CHUNK + 3);
	assert_non_null(page);
	memset(page, 1, PAGE_SIZE);
}

static void test_disk(void **state unused)
{
	static const struct {
		void (*spoil)(struct vm *vm);
		uint64_t block;
		bool unwritten; /* at the source */
	} all[] = { { block_differs, 70 * SUMS_CHUNK + 70, false },
		    { block_is_more, 5, true },
		    { chunk_is_more, 200 * SUMS_CHUNK, true },
		    { block_became_zeros, 0, false },
		    { zeros_became_data, 3 * SUMS_CHUNK + 3, false } };
	for (unsigned i = 0; i < ARRAY_SIZE(all); i++) {
		struct vm *vm = new_vm(MIB(2));
		struct why w = { "" };
		char text[128];
		give_disk(vm);
		snprintf(text, sizeof(text), "verify: disk root differs in its 4 KiB at byte %llu: %s",
			 (unsigned long long)all[i].block << PAGE_SHIFT,
			 all[i].unwritten ? "never written here, digest " : "digest ");
		fake_loaded = all[i].spoil;
		assert_int_not_equal(attempt(vm, serve, &w), 0);
		if (strncmp(w.text, text, strlen(text)) != 0)
			fail_msg("%u: \"%s\" is not \"%s\"", i, w.text, text);
		assert_null(fake_vm_find(1, "demo"));
		must_move(vm, 4 + BLOCKS + 1);
	}
}

static void mode_differs(struct vm *vm) { fake_devs(vm)[1].s.mode = 7; }
static void byte_differs(struct vm *vm) { fake_devs(vm)[0].s.fifo[11] = 0xab; }
static void clock_differs(struct vm *vm) { vm->clock.s.tsc_hz = 5; }

static void test_state(void **state unused)
{
	differs(new_vm(MIB(2)), mode_differs, 4,
		"verify: the state of fakedev 1 differs: fakedev.mode: 2 != 7 (here != there)");
	differs(new_vm(MIB(2)), byte_differs, 4,
		"verify: the state of fakedev 0 differs: fakedev.fifo[11]: 0 != ab (here != there)");
	differs(new_vm(MIB(2)), clock_differs, 4,
		"verify: the state of clock 0 differs: clock.tsc_hz: 0 != 5 (here != there)");
}

/* Memory comes first, whatever else differs. */
static void both(struct vm *vm)
{
	one_byte(vm);
	mode_differs(vm);
}
static void test_both(void **state unused)
{
	memory_differs(MIB(2), both, "5000", digest(5, 2, PAGE_SIZE), digest(5, 2, PAGE_SIZE - 1));
}

/* ---- the connection breaks ---- */

static void cut_everywhere(void (*spoil)(struct vm *vm))
{
	unsigned went = 0, stayed = 0;
	struct migrate_params p = { .port = MIGRATE_PORT, .max_downtime_ms = 300, .max_passes = 30, .verify = true };
	struct vm *vm = new_vm(MIB(2));
	size_t len[2];
	fake_loaded = spoil;
	(void)attempt(vm, serve, NULL);
	len[0] = out[0].len;
	len[1] = out[1].len;
	vm_destroy(spoil ? vm : fake_vm_find(1, "demo"));
	for (int side = 0; side < 2; side++)
		for (size_t at = 0; at <= len[side]; at += at + 900 < len[side] ? 97 : 5) {
			struct tap *dst, *src = connect_taps(&dst);
			vm = new_vm(MIB(2));
			p.dest = src->s.ip;
			stream_pipe_cut_after((side ? dst : src)->under, at);
			if (!task_create("dest", TASK_PRIO_NORMAL, serve, &dst->s))
				abort();
			(void)migrate_source_run(vm, &src->s, &p, NULL);
			stream_close(&src->s);
			assert_true(fake_tasks_wait());
			struct vm *a = fake_vm_find(0, "demo"), *b = fake_vm_find(1, "demo");
			assert_true(!a != !b);
			assert_int_equal((a ? a : b)->state, VM_RUNNING);
			*(a ? &stayed : &went) += 1;
			vm_destroy(a ? a : b);
			assert_int_equal(fake_page_live(), 0);
		}
	print_message("    cut in many places: %u moved, %u stayed\n", went, stayed);
	assert_true(!went == !!spoil && stayed > 100);
	fake_loaded = NULL;
}

static void test_cut(void **state unused) { cut_everywhere(NULL); }
static void test_cut_differs(void **state unused) { cut_everywhere(one_byte); }

/* ---- peers that say odd things ---- */

/* A destination that takes the VM, and answers the first VERIFY, or END, in its own way. */
struct answer {
	uint32_t to;   /* the record of the source's */
	uint32_t type; /* CHECKED, DIFFERS */
	uint32_t range, instance;
	const char *name;
	uint64_t first;
	uint32_t len, twice;
	const char *says;
};
static const struct answer *answer;

static void odd_answer(struct wire_tx *tx)
{
	for (unsigned i = 0; i <= answer->twice; i++) {
		wire_begin(tx, answer->type);
		if (answer->type == WIRE_CHECKED) {
			wire_put_u32(tx, answer->range);
		} else {
			wire_put_str(tx, answer->name, 32);
			wire_put_u32(tx, answer->instance);
			wire_put_u64(tx, answer->first);
			memset(wire_put_space(tx, answer->len), 0, answer->len);
		}
		(void)!wire_end(tx, time_in_ms(1000));
	}
}

static void odd_dest(void *arg)
{
	static uint8_t data[WIRE_PAGES_MAX * 4096];
	static struct offer o;
	struct stream *s = arg;
	struct wire_tx tx;
	struct wire_rx rx;
	struct hello h;
	bool told = false;
	fake_host = 1;
	assert_int_equal(wire_tx_init(&tx, s) | wire_rx_init(&rx, s), 0);
	assert_int_equal(hello_exchange(&tx, &rx, &h, time_in_ms(1000), NULL), 0);
	assert_int_equal(wire_recv(&rx, time_in_ms(1000), NS_PER_SEC, NULL), 0);
	assert_int_equal(offer_parse(&rx, &o, NULL), 0);
	tx.key = rx.key = attempt_key(&o.id);
	assert_int_equal(id_send(&tx, WIRE_ACCEPT, &o.id, time_in_ms(1000)), 0);
	while (!wire_recv(&rx, time_in_ms(3000), NS_PER_SEC, NULL) && rx.type != WIRE_ERROR) {
		if (rx.data_len)
			assert_int_equal(wire_recv_data(&rx, data, rx.data_len, time_in_ms(1000)), 0);
		if (rx.type == WIRE_FILES || (rx.type == WIRE_PASS_END && rx.seq < 9)) { /* not the final pass */
			uint32_t pass = wire_get_u32(&rx);
			wire_begin(&tx, rx.type == WIRE_FILES ? WIRE_WANT : WIRE_PASS_ACK);
			wire_put_u32(&tx, rx.type == WIRE_FILES ? 0 : pass);
			assert_int_equal(wire_end(&tx, time_in_ms(1000)), 0);
		}
		if (rx.type == answer->to && !told) {
			told = true;
			odd_answer(&tx);
		} else if (rx.type == WIRE_VERIFY) {
			wire_begin(&tx, WIRE_CHECKED);
			wire_put_u32(&tx, 1);
			assert_int_equal(wire_end(&tx, time_in_ms(1000)), 0);
		}
	}
	wire_tx_fini(&tx);
	wire_rx_fini(&rx);
	stream_close(s);
}

static void test_odd_destination(void **state unused)
{
	static const struct answer all[] = {
		{ WIRE_VERIFY, WIRE_CHECKED, 2, 0, "", 0, 0, 0, "answered range 2 instead of 1" },
		{ WIRE_VERIFY, WIRE_CHECKED, 1, 0, "", 0, 0, 1, "CHECKED at the wrong time" },
		{ WIRE_VERIFY, WIRE_DIFFERS, 0, 0, "", 0, 8184, 0, "sent a malformed DIFFERS record" },
		{ WIRE_VERIFY, WIRE_DIFFERS, 0, 0, "", 1, 8192, 0, "sent a malformed DIFFERS record" },
		{ WIRE_VERIFY, WIRE_DIFFERS, 0, 0, "x", 1024, 8192, 0, "sent a malformed DIFFERS record" },
		{ WIRE_VERIFY, WIRE_DIFFERS, 0, 0, "", 0, 8192, 1, "DIFFERS twice" },
		{ WIRE_VERIFY, WIRE_DIFFERS, 0, 0, "", 0, 8192, 0, MEMORY "0 (guest-physical): digest " },
		{ WIRE_VERIFY, WIRE_DIFFERS, 0, 0, "", 1 << 20, 8192, 0, "were compared no more" },
		{ WIRE_VERIFY, WIRE_DIFFERS, 0, 0, "", ~1023ULL, 8192, 0, "were compared no more" },
		{ WIRE_END, WIRE_DIFFERS, 0, 2, "fakedev", 0, 48, 0,
		  "state of fakedev 2 differs, which it has not got" },
		{ WIRE_END, WIRE_DIFFERS, 0, 0, "none", 0, 48, 0, "state of none 0 differs, which it has not got" },
		{ WIRE_END, WIRE_DIFFERS, 0, 1, "fakedev", 0, 47, 0, "has 48 bytes here, 47 there" },
		{ WIRE_END, WIRE_DIFFERS, 0, 1, "fakedev", 0, 48, 0, "fakedev.regs[0]: 2222222222222222 != 0" },
		{ WIRE_END, WIRE_CHECKED, 2, 0, "", 0, 0, 0, "CHECKED at the wrong time" },
	};
	for (unsigned i = 0; i < ARRAY_SIZE(all); i++) {
		struct vm *vm = new_vm(MIB(2));
		struct why w = { "" };
		answer = &all[i];
		assert_int_not_equal(attempt(vm, odd_dest, &w), 0);
		bool same =
			all[i].twice && strstr(w.text, "compared"); /* the first of two was read before the second */
		if (!strstr(w.text, all[i].says) && !same && !(all[i].twice && strstr(w.text, MEMORY)))
			fail_msg("%u: \"%s\" does not say \"%s\"", i, w.text, all[i].says);
		assert_int_equal(vm->state, VM_RUNNING);
		must_move(vm, 4);
	}
	no_verify = true; /* and one that was not asked */
	answer = &(struct answer){ WIRE_END, WIRE_DIFFERS, 0, 0, "", 0, 8192, 0, "" };
	struct vm *vm = new_vm(MIB(2));
	struct why w = { "" };
	assert_int_not_equal(attempt(vm, odd_dest, &w), 0);
	assert_string_equal(w.text, "the destination sent DIFFERS at the wrong time");
	must_move(vm, 0);
	no_verify = false;
}

/* A source's records behind the sections: { type, first or digest, frames, instance, sums: chunk, pages }. */
struct said {
	uint32_t type;
	uint64_t first, frames;
	uint32_t n, chunk, pages;
	const char *name;
	uint32_t instance;
};
struct source {
	struct said said[8];
	const char *says; /* NULL: READY */
};

static void say_image(struct wire_tx *tx)
{
	static const struct {
		const char *name;
		uint32_t instance, len;
	} sections[] = {
		{ "clock", 0, 32 }, { "fakedev", 0, 48 }, { "fakedev", 1, 48 }, { "config", 0, FAKE_CONFIG_LEN }
	};
	assert_int_equal(pass_send(tx, 1, PASS_FINAL, time_in_ms(1000)), 0);
	wire_begin(tx, WIRE_PAGES);
	wire_put_u64(tx, 0);
	wire_put_u64(tx, 1);
	wire_put_u64(tx, (1ULL << 31 | 66048) << 32);
	assert_int_equal(wire_end(tx, time_in_ms(1000)), 0);
	assert_int_equal(pass_end_send(tx, 1, 0, 66048, time_in_ms(1000)), 0);
	for (unsigned i = 0; i < ARRAY_SIZE(sections); i++) {
		wire_begin(tx, WIRE_SECTION);
		wire_put_str(tx, sections[i].name, 32);
		wire_put_u32(tx, sections[i].instance);
		wire_put_u32(tx, fake_version(sections[i].name));
		memset(wire_put_space(tx, sections[i].len), 0, sections[i].len);
		assert_int_equal(wire_end(tx, time_in_ms(1000)), 0);
	}
}

static uint64_t zeros_digest(size_t len)
{
	static const uint8_t zeros[FAKE_CONFIG_LEN];
	return XXH64(zeros, len, 0);
}

static void say(struct wire_tx *tx, const struct attempt_id *id, const struct said *r)
{
	if (r->type == WIRE_END) {
		(void)!end_send(tx, id, &(struct end_counts){ 1, 4, 0, 0, 66048 }, time_in_ms(1000));
		return;
	}
	wire_begin(tx, r->type);
	if (r->type == WIRE_SECTION) {
		memset(wire_put_space(tx, 48), 0, 48);
	} else if (r->type == WIRE_VERIFY_STATE) {
		wire_put_str(tx, r->name, 32);
		wire_put_u32(tx, r->instance);
		wire_put_u64(tx, r->first);
	} else {
		wire_put_u64(tx, r->first);
		wire_put_u64(tx, r->frames);
		for (uint32_t i = 0; i < r->n; i++) {
			wire_put_u32(tx, r->chunk);
			wire_put_u32(tx, r->pages);
			wire_put_u64(tx, 5);
		}
	}
	(void)!wire_end(tx, time_in_ms(1000));
}

/* What the destination says when it has heard all of that. */
static void odd_source(const struct source *o, uint32_t type, char text[WIRE_TEXT_MAX])
{
	struct tap *dest, *t = connect_taps(&dest);
	struct wire_tx tx;
	struct wire_rx rx;
	struct hello h;
	struct offer offer = { .cfg = { .name = "demo",
					.mem = MIB(258),
					.vcpus = 1,
					.nnics = 1,
					.mtu = { 1500 },
					.mac = { { 2, 9 } } },
			       .id = attempt_new_id((const uint8_t *)"pppppppppppppppp") };
	vm_compat_get(NULL, &offer.compat);
	assert_non_null(task_create("serve", TASK_PRIO_NORMAL, serve, &dest->s));
	assert_int_equal(wire_tx_init(&tx, &t->s) | wire_rx_init(&rx, &t->s), 0);
	assert_int_equal(hello_exchange(&tx, &rx, &h, time_in_ms(1000), NULL), 0);
	assert_int_equal(offer_send(&tx, &offer, time_in_ms(1000)), 0);
	tx.key = rx.key = attempt_key(&offer.id);
	say_image(&tx);
	for (const struct said *r = o->said; r->type; r++)
		say(&tx, &offer.id, r);
	text[0] = 0;
	do {
		if (wire_recv(&rx, time_in_ms(5000), NS_PER_SEC, NULL))
			fail_msg("%s: no answer", o->says);
		if (rx.type == WIRE_DIFFERS)
			assert_int_equal(text_send(&tx, WIRE_ERROR, EIO, "just that", time_in_ms(1000)), 0);
	} while (rx.type == WIRE_PREPARING || rx.type == WIRE_ACCEPT || rx.type == WIRE_CHECKED ||
		 rx.type == WIRE_DIFFERS);
	assert_int_equal(rx.type, type);
	if (type == WIRE_ERROR) {
		wire_get_u32(&rx);
		wire_get_str(&rx, text, WIRE_TEXT_MAX);
	}
	wire_tx_fini(&tx);
	wire_rx_fini(&rx);
	stream_close(&t->s);
	assert_true(fake_tasks_wait());
	assert_null(fake_vm_find(1, "demo"));
	assert_int_equal(fake_page_live(), 0);
}

#define V(...)                           \
	{                                \
		WIRE_VERIFY, __VA_ARGS__ \
	}
#define FIRST V(.frames = 65536)
#define REST  V(.first = 65536, .frames = 512)
#define S(...)                                 \
	{                                      \
		WIRE_VERIFY_STATE, __VA_ARGS__ \
	}
#define END                      \
	{                        \
		.type = WIRE_END \
	}
#define ODD       "with what it does not have to verify"
#define ALL_BUT_1 S(.name = "clock"), S(.name = "fakedev"), S(.name = "config")

static void test_odd_source(void **state unused)
{
	/* clang-format off */
	static struct source all[] = {
		{ { FIRST, REST, ALL_BUT_1, S(.name = "fakedev", .instance = 1), END }, NULL },
		{ { END }, NULL }, /* it does not verify */
		{ { FIRST, REST, END }, "has not sent all" },
		{ { FIRST, REST, ALL_BUT_1, END }, "has not sent all" },
		{ { FIRST, END }, "has not sent all" },
		{ { V(.frames = 65537) }, ODD },
		{ { V(.frames = 66048) }, ODD },
		{ { V(.frames = 0) }, ODD },
		{ { V(.frames = 512) }, ODD },
		{ { V(.frames = ~0ULL) }, ODD },
		{ { V(.first = 1024, .frames = 1024) }, ODD },
		{ { FIRST, FIRST }, ODD },
		{ { FIRST, REST, V(.first = 66048, .frames = 1) }, ODD },
		{ { FIRST, V(.first = 65536, .frames = 1024) }, ODD },
		{ { V(.frames = 65536, .n = 1, .chunk = 64, .pages = 1) }, ODD },
		{ { V(.frames = 65536, .n = 1, .chunk = 0, .pages = 0) }, ODD },
		{ { V(.frames = 65536, .n = 1, .chunk = 0, .pages = 1025) }, ODD },
		{ { V(.frames = 65536, .n = 2, .chunk = 0, .pages = 1) }, ODD },
		{ { V(.frames = 65536, .n = 64, .chunk = 0, .pages = 1) }, ODD },
		{ { V(.frames = 65536, .n = 1, .chunk = 3, .pages = 1) }, "the source ended it: just that" },
		{ { S(.name = "clock") }, ODD },
		{ { FIRST, S(.name = "clock") }, ODD },
		{ { FIRST, REST, S(.name = "none") }, ODD },
		{ { FIRST, REST, S(.name = "clock", .instance = 1) }, ODD },
		{ { FIRST, REST, S(.name = "clock"), S(.name = "clock") }, ODD },
		{ { FIRST, REST, ALL_BUT_1, S(.name = "fakedev", .instance = 1, .first = 1), END },
		  "the source ended it: just that" },
		{ { FIRST, { .type = WIRE_SECTION } }, "SECTION at the wrong time" },
	};
	/* clang-format on */
	for (unsigned i = 0; i < ARRAY_SIZE(all); i++) {
		char text[WIRE_TEXT_MAX];
		for (struct said *r = all[i].said; r->type; r++)
			if (r->type == WIRE_VERIFY_STATE)
				r->first += zeros_digest(!strcmp(r->name, "clock")    ? 32
							 : !strcmp(r->name, "config") ? FAKE_CONFIG_LEN
										      : 48);
		odd_source(&all[i], all[i].says ? WIRE_ERROR : WIRE_READY, text);
		if (all[i].says && !strstr(text, all[i].says))
			fail_msg("%u: \"%s\" does not say \"%s\"", i, text, all[i].says);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_walk),
		cmocka_unit_test(test_equal),
		cmocka_unit_test(test_equal_disk),
		cmocka_unit_test(test_far),
		cmocka_unit_test(test_slow),
		cmocka_unit_test(test_cancel),
		cmocka_unit_test(test_memory),
		cmocka_unit_test(test_disk),
		cmocka_unit_test(test_state),
		cmocka_unit_test(test_both),
		cmocka_unit_test(test_cut),
		cmocka_unit_test(test_cut_differs),
		cmocka_unit_test(test_odd_destination),
		cmocka_unit_test(test_odd_source),
	};
	setvbuf(stdout, NULL, _IOLBF, 0);
	cmocka_set_test_filter(getenv("TERN_TEST")); /* one test by name */
	int failed = cmocka_run_group_tests_name("verify", tests, NULL, NULL);
	free(out[0].p);
	free(out[1].p);
	free(fake_paused_image);
	return failed;
}

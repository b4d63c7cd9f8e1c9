/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Pages on the wire whose numbers need more than 32 bits, from one guest memory of 256 TiB to another; and those of
 * disks, behind all memory.
 */
#include "kernel/time.h"
#include "tests/unit/fake_kernel.h"
#include "tests/unit/wire_pipe.h"
#include "vmm/migrate/pages.h"
#include <stdlib.h>
#include <string.h>

#define FAR ((240ULL << 40) >> PAGE_SHIFT) /* its lower 32 bits are 0 */
#define END ((256ULL << 40) >> PAGE_SHIFT)

/* Neighbours; as far apart as one record can name, and one more: the last that four levels of tables map. */
static const gfn_t frames[] = { 0x100003, 0x100004, FAR - 1, FAR, FAR + 0xfffffffe, END - 1 };
#define N ARRAY_SIZE(frames)

static struct gmem here, there;
static uint8_t *block[2][N]; /* of each frame, or of a neighbour in the same 2 MiB */
static bool left[N], dirty[N];

static unsigned index_of(gpa_t gpa, unsigned shift)
{
	unsigned i = 0;
	while (i < N && frames[i] >> (shift - PAGE_SHIFT) != gpa >> shift)
		i++;
	assert_true(i < N);
	return i;
}
static uint8_t *page(const struct gmem *g, unsigned i) { return gmem_ptr(g, frames[i] << PAGE_SHIFT, PAGE_SIZE); }

/* Of such a memory no more than this. */
unsigned gmem_ranges(const struct gmem *g, struct gmem_range r[2])
{
	r[0] = (struct gmem_range){ GMEM_HIGH >> PAGE_SHIFT, g->high >> PAGE_SHIFT };
	return 1;
}
hpa_t gmem_high_block(const struct gmem *g, gpa_t gpa)
{
	return hpa_of(block[g == &there][index_of(gpa, GMEM_BLOCK_SHIFT)]);
}
gfn_t gmem_track_next(const struct gmem *g unused, gfn_t from, gfn_t end)
{
	for (unsigned i = 0; i < N; i++)
		if (left[i] && frames[i] >= from)
			return MIN(frames[i], end);
	return end;
}
uint64_t gmem_track_take(struct gmem *g unused, gfn_t gfn)
{
	uint64_t word = 0;
	for (unsigned i = 0; i < N; i++)
		if (left[i] && frames[i] >= gfn && frames[i] - gfn < 64) {
			word |= BIT(frames[i] - gfn);
			left[i] = false;
		}
	return word;
}
uint64_t gmem_track_harvest(struct gmem *g unused, gfn_t first unused, uint64_t count unused) { return 0; }
void gmem_dirty(const struct gmem *g, gpa_t gpa, size_t len)
{
	for (size_t at = 0; g == &there && at < len; at += PAGE_SIZE)
		dirty[index_of(gpa + at, PAGE_SHIFT)] = true;
}
gfn_t gmem_next_written(const struct gmem *g unused, gfn_t from, gfn_t end)
{
	return from < end && from == frames[N - 1] ? from : end;
}
uint64_t gmem_track_take_of(struct gmem *g, gfn_t gfn, uint64_t mask) { return gmem_track_take(g, gfn) & mask; }
bool gmem_absent(const struct gmem *g unused, gfn_t gfn unused) { return false; }
bool gmem_is_here(const struct gmem *g unused, gpa_t gpa unused, size_t len unused) { return true; }
int gmem_wait(const struct gmem *g unused, gpa_t gpa unused, size_t len unused) { return 0; }

static int setup(void **state unused)
{
	here.high = there.high = (END << PAGE_SHIFT) - GMEM_HIGH;
	for (unsigned side = 0; side < 2; side++)
		for (unsigned i = 0; i < N; i++) /* a multiple of a page */
			block[side][i] = aligned_alloc(PAGE_SIZE, GMEM_BLOCK);
	for (unsigned i = 0; i < N; i++) {
		left[i] = true;
		dirty[i] = false;
		memset(page(&here, i), i == N - 1 ? 0 : (int)i + 1, PAGE_SIZE); /* the last one is zero */
		memset(page(&there, i), 0xaa, PAGE_SIZE);
	}
	return open_pipe(NULL);
}
/* Layers have no base images here. */
void boot_file_put(struct boot_file *f) { assert_null(f); }
bool boot_file_is_hole(const struct boot_file *f unused, uint64_t i unused) { return true; }
const uint8_t *boot_file_at(const struct boot_file *f unused, uint64_t off unused, size_t *n unused) { return NULL; }

static int teardown(void **state unused)
{
	for (unsigned i = 0; i < 2 * N; i++)
		free(block[i / N][i % N]);
	return close_pipe(NULL);
}

static int goes_on(void *arg unused) { return 0; }
static void send_all(void)
{
	static struct page_tx p;
	p = (struct page_tx){
		.tx = &tx, .mem = &here, .idle_ns = NS_PER_SEC, .end_ns = time_in_ms(5000), .progress = goes_on
	};
	assert_int_equal(pages_send_pass(&p, true), 0);
	assert_true(p.total.data == N - 1 && p.total.zero == 1);
}
static int recv_one(struct page_rx *p, struct why *w)
{
	assert_int_equal(wire_recv(&rx, time_in_ms(1000), NS_PER_SEC, w), 0);
	assert_int_equal(rx.type, WIRE_PAGES);
	return pages_recv(p, w);
}

static void test_far_pages_arrive(void **state unused)
{
	struct page_rx p = { .rx = &rx, .mem = &there, .idle_ns = NS_PER_SEC };
	struct why w = { "" };
	unsigned records = 0;
	send_all();
	for (; p.total.data + p.total.zero < N; records++)
		assert_int_equal(recv_one(&p, &w), 0);
	assert_int_equal(records, 3);
	assert_int_equal(p.next, END);
	for (unsigned i = 0; i < N; i++) {
		assert_memory_equal(page(&here, i), page(&there, i), PAGE_SIZE);
		assert_true(dirty[i]);
	}
}

/* A host with less memory does not take a page for the one whose number has the same lower 32 bits. */
static void test_far_pages_refused(void **state unused)
{
	struct page_rx p = { .rx = &rx, .mem = &there, .idle_ns = NS_PER_SEC };
	struct why w = { "" };
	send_all();
	there.high = ((FAR - 1) << PAGE_SHIFT) - GMEM_HIGH;
	assert_int_equal(recv_one(&p, &w), 0);
	assert_int_equal(recv_one(&p, &w), -EPROTO);
	assert_non_null(strstr(w.text, "the peer sent pages effffffff+2, which are out of order or no memory"));
	assert_int_equal(p.total.data, 2);
	for (unsigned i = 2; i < N; i++)
		assert_false(dirty[i]);
}

/* ---- disks ---- */

#define LAST (layer_blocks(&from[0]) - 1)
static struct layer from[2], to[2];
static struct page_tx sender;
static struct page_rx receiver;

static void layer_make(struct layer *l, uint64_t size, uint64_t pages)
{
	struct page_reservation r;
	uint64_t have;
	assert_int_equal(page_reserve(&r, pages, 0, &have), 0);
	layer_init(l, "d", size, NULL, &r);
}

static int disks_setup(void **state)
{
	int err = setup(state);
	memset(left, 0, sizeof(left)); /* of memory, nothing goes */
	for (unsigned i = 0; i < 2; i++) {
		layer_make(&from[i], LAYER_SIZE_MAX, 40);
		layer_make(&to[i], LAYER_SIZE_MAX, 40);
	}
	sender = (struct page_tx){
		.tx = &tx, .mem = &here, .layers = { { &from[0], &from[1] }, 2 }, .idle_ns = NS_PER_SEC
	};
	sender.end_ns = time_in_ms(5000);
	sender.progress = goes_on;
	receiver = (struct page_rx){
		.rx = &rx, .mem = &there, .layers = { { &to[0], &to[1] }, 2 }, .idle_ns = NS_PER_SEC
	};
	return err;
}

static int disks_teardown(void **state)
{
	for (unsigned i = 0; i < 2; i++) {
		layer_fini(&from[i]);
		layer_fini(&to[i]);
	}
	fake_page_alloc_fail_after(-1);
	assert_true(!fake_page_live() && !fake_page_reserved());
	return teardown(state);
}

static void done(struct blockdev_req *r unused) {}

static void fill(struct layer *l, uint64_t block, uint8_t c)
{
	uint8_t data[PAGE_SIZE];
	struct gmem_pin pin = { data, 0, PAGE_SIZE, GMEM_READ };
	struct blockdev_req r = {
		.op = BLOCKDEV_WRITE, .off = block << PAGE_SHIFT, .len = PAGE_SIZE, .seg = &pin, .done = done
	};
	memset(data, c, sizeof(data));
	l->b.ops->submit(&l->b, &r);
	assert_int_equal(r.err, 0);
}

static void assert_block(struct layer *l, uint64_t block, uint8_t c)
{
	uint8_t data[PAGE_SIZE];
	struct gmem_pin pin = { data, 0, PAGE_SIZE, GMEM_WRITE };
	struct blockdev_req r = {
		.op = BLOCKDEV_READ, .off = block << PAGE_SHIFT, .len = PAGE_SIZE, .seg = &pin, .done = done
	};
	l->b.ops->submit(&l->b, &r);
	assert_true(data[0] == c && !memcmp(data, data + 1, PAGE_SIZE - 1));
}

/* A pass, in so many records. */
static void pass(unsigned records, uint64_t data, uint64_t zero)
{
	struct why w = { "" };
	uint64_t before = sender.disk;
	assert_int_equal(pages_send_pass(&sender, true), 0);
	assert_true(sender.pass.data == data && sender.pass.zero == zero && sender.disk == before + data + zero);
	receiver.pass = (struct page_counts){ 0, 0 };
	receiver.next = receiver.disk = 0;
	for (unsigned i = 0; i < records; i++)
		assert_int_equal(recv_one(&receiver, &w), 0);
	assert_true(receiver.pass.data == data && receiver.pass.zero == zero && receiver.disk == data + zero);
	assert_true(!from[0].unsent && !from[1].unsent);
}

static void test_disks_arrive(void **state unused)
{
	fill(&from[0], 0, 1);
	fill(&from[0], 5, 0);
	fill(&from[0], LAST, 2);
	fill(&from[1], 0, 3); /* the frame behind that one, of another disk */
	fill(&from[1], 1, 4);
	assert_int_equal(layer_track_fill(&from[0]) + layer_track_fill(&from[1]), 5);
	pass(2, 4, 1); /* for a record is of less than 2^32 frames */
	assert_block(&to[0], 0, 1);
	assert_block(&to[0], 5, 0);
	assert_block(&to[0], LAST, 2);
	assert_block(&to[1], 0, 3);
	assert_block(&to[1], 1, 4);
	assert_block(&to[1], LAST, 0);
	fill(&from[1], 0, 0);
	fill(&from[0], LAST, 6);
	assert_int_equal(layer_track_harvest(&from[0]) + layer_track_harvest(&from[1]), 2);
	pass(1, 1, 1);
	assert_block(&to[0], LAST, 6);
	assert_block(&to[1], 0, 0);
	assert_block(&to[1], 1, 4);
	assert_int_equal(receiver.total.data, 5);
}

/* A record of runs of frames from base on, each with `pages` of data or none. */
static int one_run(uint64_t base, uint32_t count, uint32_t pages, struct why *w)
{
	static uint8_t data[4 * PAGE_SIZE] = { 9 };
	wire_begin(&tx, WIRE_PAGES);
	wire_put_u64(&tx, base);
	wire_put_u32(&tx, 1);
	wire_put_u32(&tx, pages);
	wire_put_u32(&tx, 0);
	wire_put_u32(&tx, pages ? count : count | PAGES_ZERO);
	if (pages)
		wire_put_data(&tx, data, pages * PAGE_SIZE);
	assert_int_equal(wire_end(&tx, time_in_ms(1000)), 0);
	w->text[0] = 0;
	return recv_one(&receiver, w);
}

static void test_disks_refused(void **state unused)
{
	const struct {
		uint64_t base;
		uint32_t count;
	} bad[] = {
		{ PAGES_FREED(0) - 1, 2 }, /* the last of memory, and the first of a disk */

		{ PAGES_FREED(1) - 1, 2 }, { PAGES_DISK(0) - 1, 2 },
		{ PAGES_DISK(1) - 1, 2 },  { PAGES_FREED(2), 1 },
		{ PAGES_FREED(4), 1 },     { PAGES_DISK(2), 1 },
		{ PAGES_DISK(3), 1 },      { PAGES_DISK(4), 1 },
		{ PAGES_DISK(5), 1 },      { PAGES_DISK(1) + 5, 1U << 31 }, /* no run at all */
	};
	struct why w = { "" };
	for (unsigned i = 0; i < ARRAY_SIZE(bad); i++) {
		struct page_counts before = receiver.total;
		assert_int_equal(one_run(bad[i].base, bad[i].count, 0, &w), -EPROTO);
		assert_true(before.zero == receiver.total.zero && !to[0].used && !to[1].used);
		rx.data_len = 0;
	}
	layer_fini(&to[1]);
	layer_make(&to[1], 5 * SECTOR, 4); /* a block */
	assert_int_equal(one_run(PAGES_DISK(1), 2, 2, &w), -EPROTO);
	assert_int_equal(to[1].used, 0);
}

static void test_disks_freed_data(void **state unused)
{
	struct why w = { "" };
	assert_int_equal(one_run(PAGES_FREED(0), 1, 1, &w), -EPROTO);
	assert_int_equal(to[0].used, 0);
}

static void test_disks_in_order(void **state unused)
{
	struct why w = { "" };
	assert_int_equal(one_run(PAGES_FREED(0), 1, 0, &w), 0);
	assert_int_equal(one_run(PAGES_DISK(1), 2, 2, &w), 0);
	assert_block(&to[1], 2, 0);
	assert_int_equal(to[1].used, 6);
	assert_int_equal(one_run(PAGES_FREED(1), 1, 0, &w), -EPROTO);
	assert_int_equal(one_run(PAGES_DISK(0), 1, 0, &w), -EPROTO); /* that was before */
	assert_int_equal(one_run(PAGES_DISK(1) + 1, 1, 0, &w), -EPROTO);
	assert_int_equal(one_run(PAGES_DISK(1) + 2, 1, 0, &w), 0);
	assert_int_equal(receiver.disk, 4);
}

static void discard(struct layer *l, uint64_t block, uint64_t n)
{
	struct blockdev_req r = {
		.op = BLOCKDEV_ZERO, .off = block << PAGE_SHIFT, .len = n << PAGE_SHIFT, .done = done
	};
	l->b.ops->submit(&l->b, &r);
	assert_int_equal(r.err, 0);
}

/* Layers that are full, whose guest discards some blocks and writes others: the destination needs no more for them. */
static void test_disks_freed_first(void **state unused)
{
	for (unsigned i = 0; i < 2; i++) {
		layer_fini(&from[i]);
		layer_fini(&to[i]);
		layer_make(&from[i], MIB(2), 4); /* a table, three blocks */
		layer_make(&to[i], MIB(2), 4);
		for (uint64_t b = 10; b < 13; b++)
			fill(&from[i], b, (uint8_t)b);
		(void)layer_track_fill(&from[i]);
	}
	pass(2, 6, 0);
	fake_page_alloc_fail_after(0); /* this host has no other memory */
	for (unsigned i = 0; i < 2; i++) {
		discard(&from[i], 11, 2);
		fill(&from[i], 0, 1);
		fill(&from[i], 1 + 400 * i, 2);
		assert_int_equal(layer_track_harvest(&from[i]), 4);
	}
	pass(4, 4, 4);
	for (unsigned i = 0; i < 2; i++) {
		assert_block(&to[i], 0, 1);
		assert_block(&to[i], 1 + 400 * i, 2);
		assert_block(&to[i], 10, 10);
		assert_block(&to[i], 11, 0);
		assert_int_equal(to[i].used, 4);
	}
}

static void test_disks_no_memory(void **state unused)
{
	struct why w = { "" };
	fake_page_alloc_fail_after(6); /* tables of one block, two with data */
	assert_int_equal(one_run(PAGES_DISK(0), 3, 3, &w), -ENOSPC);
	assert_string_equal(w.text, "no memory there for what is on disk d");
	receiver.next = 0;
	rx.data_len = 0;
	assert_int_equal(layer_fill_zero(&to[0], 512), -ENOSPC);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
#define D(f) cmocka_unit_test_setup_teardown(f, disks_setup, disks_teardown)
	const struct CMUnitTest tests[] = {
		T(test_far_pages_arrive),  T(test_far_pages_refused), D(test_disks_arrive),
		D(test_disks_refused),     D(test_disks_in_order),    D(test_disks_no_memory),
		D(test_disks_freed_first), D(test_disks_freed_data),
	};
	return cmocka_run_group_tests_name("pages", tests, NULL, NULL);
}

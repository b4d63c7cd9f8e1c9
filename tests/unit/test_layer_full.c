/* SPDX-License-Identifier: BSD-2-Clause */
/* A layer that is full, one that comes from elsewhere with more than its due, and several tasks at one layer. */
#include "kernel/host.h"
#include "tests/unit/layer_requests.h"
#include <pthread.h>

struct host_info host_info;

#define FULL "disk d: its layer of 0 MiB is full"

static uint64_t live, reserved;
static int setup(void **state unused)
{
	live = fake_page_live();
	reserved = fake_page_reserved();
	fake_log_clear();
	return 0;
}
static int teardown(void **state unused)
{
	fake_page_alloc_fail_after(-1);
	assert_int_equal(fake_page_live(), live);
	assert_int_equal(fake_page_reserved(), reserved);
	return 0;
}

static struct boot_file *base_of(uint8_t c, uint64_t size)
{
	struct boot_file *f;
	struct why w;
	assert_int_equal(boot_file_new(size, &f, &w), 0);
	for (uint64_t i = 0; i < size; i++)
		boot_file_write(f, i, &c, 1);
	return f;
}

static int put_blocks(struct layer *l, uint64_t block, unsigned n, uint8_t c)
{
	uint8_t data[4 * PAGE_SIZE];
	memset(data, c, sizeof(data));
	return put(l, block << PAGE_SHIFT, data, n * PAGE_SIZE);
}

static void assert_block(struct layer *l, uint64_t block, uint8_t c)
{
	uint8_t got[PAGE_SIZE];
	get(l, block << PAGE_SHIFT, got, PAGE_SIZE);
	assert_true(got[0] == c && !memcmp(got, got + 1, PAGE_SIZE - 1));
}

/* ---- full ---- */

static void test_full(void **state unused)
{
	struct layer l;
	make(&l, MIB(4), NULL, 4); /* a table, a leaf, two blocks */
	assert_int_equal(put_blocks(&l, 0, 3, 'a'), -ENOSPC);
	assert_non_null(strstr(fake_log_last(), FULL));
	assert_int_equal(l.used, 4);
	assert_block(&l, 0, 'a'); /* those before the one that failed are written */
	assert_block(&l, 1, 'a');
	assert_block(&l, 2, 0);
	fake_log_clear();
	assert_int_equal(put_blocks(&l, 300, 1, 'b'), -ENOSPC);
	assert_int_equal(put_blocks(&l, 512, 1, 'b'), -ENOSPC); /* nor is there room for its table */
	assert_int_equal(put_blocks(&l, 1, 1, 'c'), 0);         /* what it has may be written */
	assert_string_equal(fake_log_last(), "");               /* it has been said */
	assert_block(&l, 1, 'c');
	assert_block(&l, 300, 0);
	assert_block(&l, 512, 0);

	assert_int_equal(zero(&l, 0, PAGE_SIZE), 0);
	assert_int_equal(l.used, 3);
	assert_block(&l, 0, 0);
	assert_int_equal(put_blocks(&l, 511, 1, 'd'), 0);
	assert_string_equal(fake_log_last(), "");
	assert_int_equal(put_blocks(&l, 0, 1, 'e'), -ENOSPC);
	assert_non_null(strstr(fake_log_last(), FULL)); /* once more: there was room */
	assert_block(&l, 0, 0);
	assert_block(&l, 511, 'd');
	layer_fini(&l);
}

/* A table that is there and has nothing is no loss of what was written. */
static void test_full_of_tables(void **state unused)
{
	struct layer l;
	make(&l, GIB(2), NULL, 4); /* three levels, one block */
	assert_int_equal(put_blocks(&l, 0, 1, 'a'), 0);
	assert_int_equal(zero(&l, 0, PAGE_SIZE), 0);
	assert_int_equal(put_blocks(&l, 512, 1, 'b'), -ENOSPC); /* its leaf takes the last page */
	assert_int_equal(l.used, 4);
	assert_int_equal(put_blocks(&l, 0, 1, 'b'), -ENOSPC);
	assert_block(&l, 0, 0);
	assert_block(&l, 512, 0);
	layer_fini(&l);
}

static void test_full_with_base(void **state unused)
{
	uint8_t sector[SECTOR], got[PAGE_SIZE];
	struct layer l;
	memset(sector, 'w', SECTOR);
	make(&l, MIB(2), NULL, 2); /* a leaf, a block */
	layer_set_base(&l, base_of('b', 3 * PAGE_SIZE));
	assert_int_equal(put(&l, SECTOR, sector, SECTOR), 0);
	assert_int_equal(put(&l, PAGE_SIZE + SECTOR, sector, SECTOR), -ENOSPC);
	assert_int_equal(zero(&l, PAGE_SIZE + SECTOR, SECTOR), -ENOSPC);
	assert_block(&l, 1, 'b');
	assert_block(&l, 2, 'b');
	assert_block(&l, 3, 0);
	get(&l, 0, got, PAGE_SIZE);
	for (unsigned i = 0; i < PAGE_SIZE; i++)
		assert_int_equal(got[i], i / SECTOR == 1 ? 'w' : 'b');

	/* Zeros of whole blocks need no room, and stay the layer's: the base does not come back. */
	assert_int_equal(zero(&l, PAGE_SIZE, 2 * PAGE_SIZE), 0);
	assert_block(&l, 1, 0);
	assert_block(&l, 2, 0);
	assert_int_equal(zero(&l, 0, PAGE_SIZE), 0);
	assert_int_equal(l.used, 1);
	assert_int_equal(put(&l, 2 * PAGE_SIZE, sector, SECTOR), 0); /* beside zeros, not the base */
	get(&l, 2 * PAGE_SIZE, got, PAGE_SIZE);
	for (unsigned i = 0; i < PAGE_SIZE; i++)
		assert_int_equal(got[i], i / SECTOR ? 0 : 'w');
	assert_int_equal(layer_track_fill(&l), 3);
	layer_fini(&l);
}

/* What is zeros already takes no room to become that. */
static void test_zeros_of_zeros(void **state unused)
{
	struct layer l;
	make(&l, MIB(2) - 3 * SECTOR, NULL, 1); /* its table */
	layer_set_base(&l, base_of('b', PAGE_SIZE));
	assert_int_equal(zero(&l, MIB(1), PAGE_SIZE), 0);
	assert_int_equal(l.used, 0); /* nor a table, where there is no base */
	assert_int_equal(zero(&l, 0, PAGE_SIZE), 0);
	assert_int_equal(l.used, 1);
	assert_int_equal(zero(&l, SECTOR, 2 * SECTOR), 0);
	assert_int_equal(l.used, 1);
	layer_fini(&l);

	make(&l, MIB(2) - 3 * SECTOR, NULL, 2); /* the last block, of which the disk has 5 sectors */
	assert_int_equal(put(&l, l.b.size - 5 * SECTOR, (uint8_t[5 * SECTOR]){ 1 }, 5 * SECTOR), 0);
	assert_int_equal(zero(&l, l.b.size - 5 * SECTOR, 5 * SECTOR), 0);
	assert_int_equal(l.used, 1);
	layer_fini(&l);
}

/* ---- larger ---- */

static int grow(struct layer *l, uint64_t size, uint64_t pages)
{
	struct page_reservation r;
	uint64_t have;
	assert_int_equal(page_reserve(&r, pages, 0, &have), 0);
	int err = layer_grow(l, size, &r);
	assert_int_equal(r.pages, err ? pages : 0);
	page_unreserve(&r);
	return err;
}

/* From one level of tables to four: what was written stays, and what is still to be sent. */
static void test_grows(void **state unused)
{
	static const uint64_t sizes[] = { MIB(2), GIB(1), GIB(512), GIB(512) + SECTOR };
	struct layer l;
	make(&l, SECTOR, NULL, 2);
	layer_set_base(&l, base_of('b', SECTOR));
	assert_int_equal(grow(&l, MIB(1), 0), 0);
	assert_int_equal(put_blocks(&l, 0, 1, 'a'), 0);
	assert_int_equal(put_blocks(&l, 1, 1, 'b'), -ENOSPC);
	for (unsigned i = 0; i < ARRAY_SIZE(sizes); i++) {
		uint64_t last = (sizes[i] - 1) >> PAGE_SHIFT, was = layer_blocks(&l), tables = l.levels;
		assert_int_equal(grow(&l, sizes[i], 0), i ? -ENOSPC : 0); /* a table above those that it has */
		assert_int_equal(grow(&l, sizes[i], i + 1 + (i > 0)), 0); /* for that, and for what is written below */
		assert_int_equal(l.levels, i + 1);
		assert_true(l.levels - tables < 2 && layer_blocks(&l) == last + 1 && last >= was);
		assert_block(&l, last, 0);
		assert_int_equal(layer_track_harvest(&l), 1); /* what has been written last, before it grew */
		assert_int_equal(put(&l, sizes[i] - SECTOR, (uint8_t[SECTOR]){ (uint8_t)i }, SECTOR), 0);
		assert_block(&l, 0, 'a');
	}
	assert_int_equal(layer_track_harvest(&l), 1);
	assert_int_equal(layer_track_fill(&l), 1 + ARRAY_SIZE(sizes));
	assert_int_equal(layer_track_next(&l, 1), 511);
	assert_int_equal(layer_track_next(&l, 512), (GIB(1) >> PAGE_SHIFT) - 1);
	assert_int_equal(layer_track_next(&l, GIB(512) >> PAGE_SHIFT), GIB(512) >> PAGE_SHIFT);
	assert_int_equal(grow(&l, GIB(512), 1), -EINVAL);
	assert_int_equal(grow(&l, LAYER_SIZE_MAX + SECTOR, 1), -EINVAL);
	assert_int_equal(grow(&l, l.b.size + 1, 1), -EINVAL);
	layer_fini(&l);
}

/* One that has nothing yet needs no tables to be larger; one that was full has room again, and says when it has not. */
static void test_grows_full_and_empty(void **state unused)
{
	struct layer l;
	make(&l, MIB(1), NULL, 1);
	assert_int_equal(put_blocks(&l, 0, 1, 'a'), -ENOSPC);
	layer_fini(&l);
	make(&l, MIB(1), NULL, 1);
	assert_int_equal(grow(&l, GIB(4), 0), 0);
	assert_int_equal(l.levels, 3);
	fake_log_clear();
	assert_int_equal(put_blocks(&l, 0, 1, 'a'), -ENOSPC);
	assert_non_null(strstr(fake_log_last(), FULL));
	fake_log_clear();
	assert_int_equal(grow(&l, GIB(4), 3), 0);
	assert_int_equal(put_blocks(&l, 0, 1, 'a'), 0);
	assert_int_equal(put_blocks(&l, 1, 1, 'a'), -ENOSPC);
	assert_non_null(strstr(fake_log_last(), FULL));
	layer_fini(&l);
}

/* ---- what comes from elsewhere ---- */

static void fill(struct layer *l, uint64_t block, uint8_t c)
{
	void *page = layer_fill_page(l, block);
	assert_non_null(page);
	memset(page, c, PAGE_SIZE);
}

/*
 * Blocks come in ascending order: those that have become data before those that have become zeros. What the layer took
 * beyond its due meanwhile goes back to the host.
 */
static void test_more_than_its_due(void **state unused)
{
	struct layer l;
	make(&l, MIB(2), NULL, 3);
	fill(&l, 10, 'a');
	fill(&l, 11, 'a');
	assert_int_equal(l.used, 3);
	fill(&l, 1, 'b');
	fill(&l, 2, 'b');
	assert_int_equal(l.used, 5);
	assert_int_equal(put_blocks(&l, 100, 1, 'c'), -ENOSPC);
	assert_int_equal(layer_fill_zero(&l, 10), 0);
	assert_int_equal(layer_fill_zero(&l, 11), 0);
	assert_int_equal(layer_fill_zero(&l, 11), 0);
	assert_int_equal(l.used, 3);
	assert_int_equal(fake_page_live(), live + 3);
	for (unsigned i = 0; i < 12; i++)
		assert_block(&l, i, i == 1 || i == 2 ? 'b' : 0);
	assert_int_equal(zero(&l, 1 << PAGE_SHIFT, PAGE_SIZE), 0);
	fill(&l, 1, 'd'); /* again, in the same page */
	fill(&l, 2, 'd');
	assert_int_equal(fake_page_live(), live + 3);
	assert_block(&l, 2, 'd');
	assert_int_equal(layer_track_fill(&l), 4); /* the next time it moves */
	layer_fini(&l);
}

static void test_no_memory_for_what_comes(void **state unused)
{
	struct layer l;
	make(&l, GIB(1), NULL, 3);
	fill(&l, 0, 'a');
	fake_page_alloc_fail_after(0);
	assert_null(layer_fill_page(&l, 1));
	assert_null(layer_fill_page(&l, 512));
	assert_int_equal(layer_fill_zero(&l, 513), -ENOSPC);
	assert_int_equal(layer_fill_zero(&l, 1), 0); /* needs none */
	assert_int_equal(l.used, 3);
	fake_page_alloc_fail_after(-1);
	assert_block(&l, 0, 'a');
	assert_block(&l, 1, 0);
	fill(&l, 512, 'b');
	assert_block(&l, 512, 'b');
	layer_fini(&l);
}

/* What an attempt that failed had taken, and what it had not, goes with the next, and what was written meanwhile. */
static void test_second_attempt(void **state unused)
{
	struct layer l;
	make(&l, MIB(4), NULL, 16);
	assert_int_equal(put_blocks(&l, 0, 4, 'a'), 0);
	assert_int_equal(put_blocks(&l, 600, 2, 'a'), 0);
	assert_int_equal(layer_track_fill(&l), 6);
	assert_non_null(layer_track_take(&l, 0));
	assert_non_null(layer_track_take(&l, 600));
	assert_int_equal(put_blocks(&l, 0, 2, 'b'), 0);
	assert_int_equal(layer_track_harvest(&l), 1); /* block 1 was still to be sent */
	assert_int_equal(l.unsent, 5);
	assert_non_null(layer_track_take(&l, 0));
	assert_int_equal(put_blocks(&l, 0, 1, 'c'), 0);
	assert_int_equal(layer_track_fill(&l), 6);
	assert_int_equal(layer_track_harvest(&l), 0);
	uint64_t n = 0;
	for (uint64_t b = 0; (b = layer_track_next(&l, b)) != LAYER_NONE; n++)
		assert_non_null(layer_track_take(&l, b));
	assert_int_equal(n, 6);
	assert_int_equal(l.unsent, 0);
	assert_int_equal(layer_track_harvest(&l), 0);
	layer_fini(&l);
}

/* What it has is there to be seen, sent or not, and looking sends nothing. */
static void test_what_it_has(void **state unused)
{
	struct layer l;
	const void *page;
	make(&l, MIB(4), NULL, 16);
	assert_true(layer_next(&l, 0) == LAYER_NONE);
	assert_int_equal(put_blocks(&l, 3, 1, 'a'), 0);
	assert_int_equal(put_blocks(&l, 600, 2, 'b'), 0);
	assert_int_equal(zero(&l, 601 * PAGE_SIZE, PAGE_SIZE), 0);
	assert_int_equal(layer_track_fill(&l), 3);
	assert_non_null(layer_track_take(&l, 3));
	assert_int_equal(layer_next(&l, 0), 3);
	assert_int_equal(layer_next(&l, 4), 600);
	assert_int_equal(layer_next(&l, 601), 601);
	assert_true(layer_next(&l, 602) == LAYER_NONE);
	assert_true(layer_has(&l, 3, &page) && *(const uint8_t *)page == 'a');
	assert_true(layer_has(&l, 601, &page) && !page);
	assert_false(layer_has(&l, 4, &page) || page);
	assert_false(layer_has(&l, 700, &page) || page);
	assert_false(layer_has(&l, 1024, &page) || page); /* behind its end */
	assert_int_equal(l.unsent, 2);
	assert_int_equal(layer_track_next(&l, 0), 600);
	assert_int_equal(layer_track_harvest(&l), 0);
	layer_fini(&l);
}

/* ---- several tasks ---- */

#define WRITERS 3
#define BLOCKS  96 /* of each */
#define ROUNDS  250
#define PHASES  16
static struct layer shared, copy;
static uint8_t model[WRITERS][BLOCKS]; /* each writer's own */
static bool may_fail;                  /* for lack of room */
static unsigned ended, failed;

static uint64_t block_of(unsigned writer, uint64_t i) { return (i & 1 ? 1000 : 0) + i * WRITERS + writer; }

static void write_one(unsigned w, uint64_t i)
{
	uint64_t off = block_of(w, i) << PAGE_SHIFT, what = rnd(8);
	uint8_t buf[PAGE_SIZE];
	struct gmem_pin pin = { buf, 0, PAGE_SIZE, GMEM_WRITE };
	struct blockdev_req r = { .off = off, .len = PAGE_SIZE, .seg = &pin, .done = count };
	r.op = what < 4 ? BLOCKDEV_WRITE : what < 6 ? BLOCKDEV_ZERO : BLOCKDEV_READ;
	uint8_t c = r.op == BLOCKDEV_ZERO ? 0 : (uint8_t)(1 + rnd(255));
	memset(buf, c, PAGE_SIZE);
	shared.b.ops->submit(&shared.b, &r);
	if (r.op == BLOCKDEV_READ) {
		for (unsigned k = 0; k < PAGE_SIZE; k++)
			if (buf[k] != model[w][i])
				__atomic_fetch_add(&failed, 1, __ATOMIC_RELAXED);
	} else if (!r.err) {
		model[w][i] = c;
	} else if (!may_fail || r.err != -ENOSPC || r.op != BLOCKDEV_WRITE) {
		__atomic_fetch_add(&failed, 1, __ATOMIC_RELAXED);
	}
}

static void *writer(void *arg)
{
	seed = (uintptr_t)arg + 1;
	unsigned w = (unsigned)((uintptr_t)arg % WRITERS);
	for (unsigned n = 0; n < ROUNDS; n++)
		write_one(w, rnd(BLOCKS));
	__atomic_fetch_add(&ended, 1, __ATOMIC_SEQ_CST);
	return NULL;
}

/* Who sends a page reads it while it may be written, for it is dirty then and goes once more. */
__attribute__((no_sanitize("thread"))) static void copy_page(uint8_t *to, const volatile uint8_t *from)
{
	for (unsigned i = 0; i < PAGE_SIZE; i++)
		to[i] = from[i];
}

static void send_pass(void)
{
	for (uint64_t b = 0; (b = layer_track_take_freed(&shared, b)) != LAYER_NONE; b++)
		assert_int_equal(layer_fill_zero(&copy, b), 0);
	for (uint64_t b = 0; (b = layer_track_next(&shared, b)) != LAYER_NONE; b++) {
		static uint8_t buf[PAGE_SIZE];
		const void *page = layer_track_take(&shared, b);
		if (page)
			copy_page(buf, page);
		void *to = page ? layer_fill_page(&copy, b) : NULL;
		if (to)
			memcpy(to, buf, PAGE_SIZE);
		else
			assert_int_equal(layer_fill_zero(&copy, b), 0);
	}
}

/* Writers at it while passes are under way; and when they have ended, the last pass brings all that is missing. */
static void phase(uint64_t n, uint64_t pages)
{
	pthread_t t[WRITERS];
	ended = failed = 0;
	for (uintptr_t i = 0; i < WRITERS; i++)
		assert_int_equal(pthread_create(&t[i], NULL, writer, (void *)(n * WRITERS + i)), 0);
	for (bool first = !rnd(4); __atomic_load_n(&ended, __ATOMIC_SEQ_CST) < WRITERS; first = false) {
		(void)(first ? layer_track_fill(&shared) : layer_track_harvest(&shared));
		send_pass();
		assert_true(__atomic_load_n(&shared.used, __ATOMIC_RELAXED) <= pages);
	}
	for (unsigned i = 0; i < WRITERS; i++)
		pthread_join(t[i], NULL);
	assert_int_equal(failed, 0);
	(void)layer_track_harvest(&shared);
	send_pass();
	assert_int_equal(shared.unsent, 0);
	for (unsigned w = 0; w < WRITERS; w++)
		for (unsigned i = 0; i < BLOCKS; i++) {
			assert_block(&shared, block_of(w, i), model[w][i]);
			assert_block(&copy, block_of(w, i), model[w][i]);
		}
}

static void run_threads(uint64_t pages, bool full)
{
	make(&shared, MIB(8), NULL, pages);
	make(&copy, MIB(8), NULL, 400);
	memset(model, 0, sizeof(model));
	may_fail = full;
	for (unsigned n = 0; n < PHASES; n++)
		phase(n, pages);
	layer_fini(&shared);
	layer_fini(&copy);
}

static void test_writers_and_sender(void **state unused) { run_threads(400, false); }
static void test_writers_and_sender_full(void **state unused) { run_threads(120, true); }

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
	const struct CMUnitTest tests[] = {
		T(test_full),
		T(test_full_of_tables),
		T(test_full_with_base),
		T(test_zeros_of_zeros),
		T(test_grows),
		T(test_grows_full_and_empty),
		T(test_more_than_its_due),
		T(test_no_memory_for_what_comes),
		T(test_second_attempt),
		T(test_what_it_has),
		T(test_writers_and_sender),
		T(test_writers_and_sender_full),
	};
	return cmocka_run_group_tests_name("layer full", tests, NULL, NULL);
}

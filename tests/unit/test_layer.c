/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A disk's layer beside a flat array of bytes, which is the model: whatever a guest does with the disk, and however
 * often it moves to another host meanwhile or fails to, both read the same.
 */
#include "kernel/host.h"
#include "tests/unit/layer_requests.h"

struct host_info host_info;

static void fill_random(uint8_t *p, uint64_t n)
{
	for (uint64_t i = 0; i < n; i++)
		p[i] = (uint8_t)rnd(256);
}

static uint64_t spares(const struct layer *l)
{
	uint64_t n = 0;
	for (hpa_t p = l->spare; p; p = *(hpa_t *)hva_of(p))
		n++;
	return n;
}

static bool is_zero(const uint8_t *p, uint64_t n) { return !p[0] && !memcmp(p, p + 1, n - 1); }

/* A base of these bytes, the first of them zeros; and before 2 MiB, where the disk has a part, is a hole. */
static struct boot_file *base_make(uint64_t size, uint8_t *all)
{
	const uint64_t hole = MIB(2) / BOOT_FILE_BLOCK - 1, blocks = (size + BOOT_FILE_BLOCK - 1) / BOOT_FILE_BLOCK;
	uint64_t n = 0;
	struct boot_file *f;
	struct why w;
	fill_random(all, size);
	memset(all, 0, MIN(size, 5 * PAGE_SIZE / 2));
	if (hole + 1 < blocks)
		memset(all + hole * BOOT_FILE_BLOCK, 0, BOOT_FILE_BLOCK);
#define LEN(i) MIN(size - (i)*BOOT_FILE_BLOCK, BOOT_FILE_BLOCK)
	for (uint64_t i = 0; i < blocks; i++)
		n += !is_zero(all + i * BOOT_FILE_BLOCK, LEN(i));
	assert_int_equal(boot_file_new_sparse(size, n, &f, &w), 0);
	for (uint64_t i = 0; i < blocks; i++)
		assert_int_equal(boot_file_set_block(f, i, all + i * BOOT_FILE_BLOCK, LEN(i)), 0);
	assert_true(hole + 1 >= blocks || boot_file_is_hole(f, hole));
	return f;
}

/* ---- a disk that moves about ---- */

#define PAGES   400 /* of a layer: enough for all that the parts below have */
#define PENDING 5   /* blocks that left the set, and whose data was not read yet */
struct part {       /* of the disk, beside its model */
	uint64_t at, len;
	uint8_t *model;
};
struct world {
	uint64_t size, base_size;
	struct boot_file *base;
	struct part part[5];
	unsigned n;
	struct layer l[2];
	unsigned here; /* where the guest is */
	bool moving;   /* to the other one */
	uint64_t cursor, blocks;
	struct {
		uint64_t block;
		const void *page;
	} pending[PENDING];
	unsigned npending;
	uint64_t live, reserved, base_live; /* before any of it; of the base */
};

static void part_add(struct world *x, uint64_t at, uint64_t len, const uint8_t *base)
{
	uint64_t from = MIN(at, x->size), end = MIN(at + len, x->size);
	if (from == end)
		return;
	struct part *p = &x->part[x->n++];
	*p = (struct part){ from, end - from, calloc(1, end - from) };
	if (from < x->base_size)
		memcpy(p->model, base + from, MIN(end, x->base_size) - from);
}

static void begin(struct world *x, uint64_t size, uint64_t base_size)
{
	static const uint64_t around[] = { MIB(2), GIB(1), GIB(512) };
	uint8_t *base = malloc(base_size + 1);
	*x = (struct world){ .size = size, .base_size = base_size };
	x->live = fake_page_live();
	x->reserved = fake_page_reserved();
	if (base_size)
		x->base = base_make(base_size, base);
	x->base_live = fake_page_live() - x->live;
	part_add(x, 0, 64 << 10, base);
	for (unsigned i = 0; i < ARRAY_SIZE(around); i++)
		part_add(x, around[i] - (32 << 10), 64 << 10, base);
	const struct part *last = &x->part[x->n - 1];
	uint64_t tail = (48 << 10) + SECTOR;
	if (size - tail >= last->at + last->len && size > tail)
		part_add(x, size - tail, tail, base);
	free(base);
	make(&x->l[0], size, x->base, PAGES);
}

static void check_pages(struct world *x)
{
	uint64_t live = x->live + x->base_live;
	uint64_t reserved = x->reserved;
	for (unsigned i = 0; i < 2; i++) {
		const struct layer *l = &x->l[i];
		live += l->used + spares(l);
		reserved += l->pages.pages;
		assert_int_equal(l->used + spares(l) + l->pages.pages, l->max); /* there is room for all of it here */
	}
	assert_int_equal(fake_page_live(), live);
	assert_int_equal(fake_page_reserved(), reserved);
}

static void check_left(struct world *x)
{
	struct layer *l = &x->l[x->here];
	uint64_t n = 0;
	for (uint64_t b = 0; (b = layer_track_next(l, b)) != LAYER_NONE; b++, n++)
		assert_true(b < layer_blocks(l));
	assert_int_equal(n, l->unsent);
}

/* What was taken out of the set goes to the other host now: by its data, as a pass does it. */
static void land(struct world *x)
{
	static const uint8_t zeros[PAGE_SIZE];
	struct layer *to = &x->l[!x->here];
	for (unsigned i = 0; i < x->npending; i++) {
		const void *page = x->pending[i].page;
		if (!page || !memcmp(page, zeros, PAGE_SIZE)) {
			assert_int_equal(layer_fill_zero(to, x->pending[i].block), 0);
			continue;
		}
		void *there = layer_fill_page(to, x->pending[i].block);
		assert_non_null(there);
		memcpy(there, page, PAGE_SIZE);
	}
	x->npending = 0;
}

static void move_begin(struct world *x)
{
	struct layer *l = &x->l[x->here];
	make(&x->l[!x->here], x->size, x->base, PAGES);
	x->moving = true;
	x->cursor = 0;
	uint64_t left = layer_track_fill(l);
	assert_int_equal(left, l->unsent);
	check_left(x);
}

/* Of a pass: one block. False: the pass has ended. */
static bool move_step(struct world *x)
{
	struct layer *l = &x->l[x->here];
	uint64_t b = layer_track_next(l, x->cursor), left = l->unsent;
	if (b == LAYER_NONE) {
		land(x);
		x->cursor = 0;
		return false;
	}
	assert_true(b >= x->cursor);
	x->cursor = b + 1;
	if (x->npending == PENDING)
		land(x);
	x->pending[x->npending].block = b;
	x->pending[x->npending++].page = layer_track_take(l, b);
	assert_int_equal(l->unsent, left - 1);
	x->blocks++;
	return true;
}

static void move_fail(struct world *x)
{
	layer_fini(&x->l[!x->here]);
	x->moving = false;
	x->npending = 0;
}

static void check_reads(struct world *x, struct layer *l)
{
	uint8_t *got = malloc(64 << 10);
	for (unsigned i = 0; i < x->n; i++) {
		get(l, x->part[i].at, got, x->part[i].len);
		assert_memory_equal(got, x->part[i].model, x->part[i].len);
	}
	free(got);
}

/* The guest stands still: all of it goes, and goes on there. */
static void move_end(struct world *x)
{
	struct layer *l = &x->l[x->here], *to = &x->l[!x->here];
	uint64_t left = l->unsent, more = layer_track_harvest(l);
	assert_int_equal(l->unsent, left + more);
	check_left(x);
	x->cursor = 0;
	while (move_step(x))
		;
	assert_int_equal(l->unsent, 0);
	check_reads(x, to);
	assert_true(to->used <= l->used);
	layer_fini(l);
	x->here = !x->here;
	x->moving = false;
}

static void random_move(struct world *x)
{
	uint64_t what = rnd(100);
	if (!x->moving) {
		if (what < 10)
			move_begin(x);
	} else if (what < 2) {
		move_fail(x);
	} else if (what < 5) {
		move_end(x);
	} else if (what < 60 && !move_step(x)) {
		struct layer *l = &x->l[x->here];
		uint64_t n = layer_track_harvest(l);
		assert_int_equal(n, l->unsent);
		check_left(x);
	}
}

static void random_request(struct world *x)
{
	struct part *p = &x->part[rnd(x->n)];
	struct layer *l = &x->l[x->here];
	uint64_t sectors = p->len / SECTOR, first = rnd(sectors), what = rnd(10);
	uint64_t most = rnd(4) ? 20 : 100, n = 1 + rnd(MIN(sectors - first, most));
	uint64_t off = first * SECTOR, len = n * SECTOR;
	uint8_t *buf = malloc(len);
	if (what < 4) {
		get(l, p->at + off, buf, len);
		assert_memory_equal(buf, p->model + off, len);
	} else if (what < 7) {
		fill_random(p->model + off, len);
		if (!rnd(8))
			memset(p->model + off, 0, len); /* zeros that are written */
		assert_int_equal(put(l, p->at + off, p->model + off, len), 0);
	} else if (what < 9) {
		memset(p->model + off, 0, len);
		assert_int_equal(zero(l, p->at + off, len), 0);
	} else {
		assert_int_equal(request(l, BLOCKDEV_FLUSH, 0, NULL, 0), 0);
	}
	free(buf);
}

static void end(struct world *x)
{
	layer_fini(&x->l[0]);
	layer_fini(&x->l[1]);
	boot_file_put(x->base);
	for (unsigned i = 0; i < x->n; i++)
		free(x->part[i].model);
	assert_int_equal(fake_page_live(), x->live);
	assert_int_equal(fake_page_reserved(), x->reserved);
}

static void test_as_a_flat_array(void **state unused)
{
	static const struct {
		uint64_t size, base;
		unsigned levels;
	} disks[] = {
		{ SECTOR, 0, 1 },
		{ PAGE_SIZE, PAGE_SIZE, 1 },
		{ PAGE_SIZE + 3 * SECTOR, PAGE_SIZE + SECTOR, 1 },
		{ 50 * SECTOR, 50 * SECTOR, 1 },
		{ MIB(2), 3 * SECTOR + 100, 1 }, /* of a base that came, any number of bytes */
		{ MIB(2) + SECTOR, MIB(2) + SECTOR, 2 },
		{ GIB(1), MIB(2) + 20 * SECTOR, 2 },
		{ GIB(1) + PAGE_SIZE, 0, 3 },
		{ GIB(512), MIB(3), 3 },
		{ GIB(512) + SECTOR, 0, 4 },
		{ LAYER_SIZE_MAX, MIB(2) + 1000, 4 },
		{ LAYER_SIZE_MAX - SECTOR, 0, 4 },
	};
	for (unsigned i = 0; i < ARRAY_SIZE(disks); i++) {
		static struct world x;
		seed = i + 1;
		begin(&x, disks[i].size, disks[i].base);
		assert_int_equal(x.l[0].levels, disks[i].levels);
		for (unsigned n = 0; n < 3000; n++) {
			random_request(&x);
			random_move(&x);
			if (n % 16 == 0)
				check_pages(&x);
		}
		assert_true(x.blocks);
		check_reads(&x, &x.l[x.here]);
		end(&x);
	}
}

/* What no part of the model has is the base's, or zeros, and stays so as neighbours are written. */
static void test_far_away(void **state unused)
{
	static const uint64_t at[] = { 0, MIB(2) - PAGE_SIZE, GIB(1), GIB(512), LAYER_SIZE_MAX - PAGE_SIZE };
	uint8_t data[PAGE_SIZE], got[PAGE_SIZE], zeros[PAGE_SIZE] = { 0 };
	struct layer l;
	uint64_t live = fake_page_live();
	make(&l, LAYER_SIZE_MAX, NULL, 32);
	memset(data, 0x5a, sizeof(data));
	get(&l, GIB(777), got, PAGE_SIZE);
	assert_memory_equal(got, zeros, PAGE_SIZE);
	assert_int_equal(layer_track_next(&l, 0), LAYER_NONE);
	assert_int_equal(l.used, 0);
	for (unsigned i = 0; i < ARRAY_SIZE(at); i++)
		assert_int_equal(put(&l, at[i], data, PAGE_SIZE), 0);
	assert_int_equal(layer_track_fill(&l), ARRAY_SIZE(at));
	uint64_t b = 0;
	for (unsigned i = 0; i < ARRAY_SIZE(at); i++, b++) {
		b = layer_track_next(&l, b);
		assert_int_equal(b, at[i] >> PAGE_SHIFT);
		get(&l, at[i] ? at[i] - PAGE_SIZE : PAGE_SIZE, got, PAGE_SIZE);
		assert_memory_equal(got, zeros, PAGE_SIZE);
	}
	assert_int_equal(layer_track_next(&l, b), LAYER_NONE);
	assert_int_equal(layer_track_next(&l, GIB(2) >> PAGE_SHIFT), GIB(512) >> PAGE_SHIFT);
	layer_fini(&l);
	assert_int_equal(fake_page_live(), live);
}

/* layer_pages_whole is what a disk that is written from one end to the other takes. */
static void test_whole(void **state unused)
{
	static const uint64_t sizes[] = { SECTOR, PAGE_SIZE, MIB(2), MIB(2) + SECTOR, MIB(5) };
	for (unsigned i = 0; i < ARRAY_SIZE(sizes); i++) {
		struct layer l;
		uint8_t *data = malloc(sizes[i]);
		memset(data, 1, sizes[i]);
		make(&l, sizes[i], NULL, layer_pages_whole(sizes[i]));
		assert_int_equal(put(&l, 0, data, sizes[i]), 0);
		assert_int_equal(l.used, l.max);
		layer_fini(&l);
		free(data);
	}
	assert_int_equal(layer_pages_whole(LAYER_SIZE_MAX), BIT(36) + BIT(27) + BIT(18) + BIT(9) + 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_as_a_flat_array),
		cmocka_unit_test(test_far_away),
		cmocka_unit_test(test_whole),
	};
	return cmocka_run_group_tests_name("layer", tests, NULL, NULL);
}

/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Images of disks, as the loader reads them: against the bytes that went in, raw and in Zstandard frames made here,
 * cut and bent; with memory that runs out at any moment. Whatever happens, no page is lost.
 */
#include "boot/image.h"
#include "kernel/base/err.h"
#include "kernel/base/zero.h"
#include "tests/unit/fake_firmware.h"
#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>
#define XXH_STATIC_LINKING_ONLY
#include <common/xxhash.h>

#define BLOCK HANDOFF_FILE_BLOCK

static const struct image_ops ops = { fake_take, fake_give, fake_read };
static struct image im;

static int setup(void **state unused)
{
	srandom(1);
	fake_memory.largest = UINT64_MAX;
	fake_memory.left = -1;
	im = (struct image){ 0 };
	return 0;
}

static int read_image(const void *data, size_t size, size_t most, bool packed)
{
	/* A copy without a byte behind it, for the sanitizer. */
	uint8_t *copy = malloc(size ? size : 1);
	struct fake_reader r = { .data = copy, .size = size, .most = most };

	if (size)
		memcpy(copy, data, size);
	int err = image_read(&im, &ops, &r, size, packed);
	free(copy);
	if (err && fake_memory.live)
		fail_msg("error %d, and %lu pages are lost", err, fake_memory.live);
	return err;
}

/* The image is these bytes, and holds neither a block of zeros nor a page too many. Ends it. */
static void is(const uint8_t *data, size_t size)
{
	uint64_t held = 0, runs = 0, at = 0, n;
	hpa_t base;

	assert_int_equal(im.size, size);
	for (uint64_t i = 0; i < image_blocks(size); i++) {
		size_t here = MIN(size - i * BLOCK, BLOCK);
		const uint8_t *p = (const uint8_t *)(uintptr_t)im.block[i];
		if (is_zero(data + i * BLOCK, here)) {
			assert_null(p);
			continue;
		}
		assert_int_equal(im.block[i] % PAGE_SIZE, 0);
		assert_memory_equal(p, data + i * BLOCK, here);
		assert_true(is_zero(p + here, BLOCK - here));
		held += BLOCK;
	}
	assert_int_equal(im.held, held);
	while ((n = image_next_run(im.block, image_blocks(size), &at, &base)) != 0)
		runs += n;
	assert_int_equal(runs, held);
	assert_int_equal(fake_memory.live, fake_pages_of(&im));
	fake_drop(&im);
	assert_int_equal(fake_memory.live, 0);
}

/* A disk: each block is zeros, has one byte that is not, first or last or anywhere, or many. */
static uint8_t *make_disk(size_t size)
{
	uint8_t *d = calloc(1, size);

	for (size_t off = 0; off < size; off += BLOCK) {
		size_t n = MIN(size - off, BLOCK), where[] = { 0, n - 1, (size_t)random() % n };
		unsigned what = (unsigned)random() % 6;
		if (what < 3)
			d[off + where[what]] = 1;
		else if (what == 3)
			for (size_t i = 0; i < n; i++)
				d[off + i] = (uint8_t)random();
	}
	return d;
}

static void test_raw(void **state unused)
{
	const size_t sizes[] = { 512, BLOCK - 512, BLOCK, BLOCK + 512, MIB(1), MIB(3) + 7 * 512 },
		     most[] = { 0, 1000, 4096, BLOCK, BLOCK + 1 };

	for (unsigned round = 0; round < 20; round++)
		for (unsigned s = 0; s < ARRAY_SIZE(sizes); s++) {
			uint8_t *d = make_disk(sizes[s]);
			assert_int_equal(read_image(d, sizes[s], most[round % ARRAY_SIZE(most)], false), 0);
			is(d, sizes[s]);
			free(d);
		}
}

static void test_raw_zeros(void **state unused)
{
	uint8_t *d = calloc(1, MIB(5));

	assert_int_equal(read_image(d, MIB(5), 0, false), 0);
	assert_int_equal(im.held, 0);
	is(d, MIB(5));
	free(d);
}

static void test_raw_wrong(void **state unused)
{
	static uint8_t d[2 * BLOCK + 513] = { 1 };
	struct fake_reader r = { .data = d, .size = 2 * BLOCK, .most = 5000, .fail_at = BLOCK + 9000 };

	assert_int_equal(read_image(d, sizeof(d), 0, false), -EDOM);
	assert_int_equal(read_image(d, 0, 0, false), -ENODATA);
	assert_int_equal(image_read(&im, &ops, &r, r.size, false), -EIO);
	assert_int_equal(fake_memory.live, 0);
	r = (struct fake_reader){ .data = d, .size = 512 };
	assert_int_equal(image_read(&im, &ops, &r, IMAGE_MAX + 1, false), -EFBIG);
	assert_int_equal(fake_memory.live, 0);
}

/*
 * Pieces grow: a large image is few runs, and few calls of the firmware; where there are small pieces alone it takes
 * those.
 */
static void test_pieces(void **state unused)
{
	const size_t size = MIB(40);
	uint8_t *d = malloc(size);
	unsigned runs[2] = { 0 };

	memset(d, 7, size);
	for (unsigned k = 0; k < 2; k++) {
		uint64_t at = 0;
		hpa_t base;
		fake_memory.largest = k ? IMAGE_PIECE : UINT64_MAX;
		fake_memory.calls = 0;
		assert_int_equal(read_image(d, size, 0, false), 0);
		while (image_next_run(im.block, image_blocks(size), &at, &base))
			runs[k]++;
		is(d, size);
	}
	assert_in_range(runs[0], 2, 15);
	assert_int_equal(runs[1], size / IMAGE_PIECE);
	free(d);
	fake_memory.largest = UINT64_MAX; /* and a small one takes no more than it can need */
	fake_memory.peak = 0;
	assert_int_equal(read_image((uint8_t[512]){ 1 }, 512, 0, false), 0);
	assert_int_equal(fake_memory.peak, (2 * IMAGE_STEP + BLOCK) / PAGE_SIZE + 1);
	is((uint8_t[512]){ 1 }, 512);
}

static void test_no_memory(void **state unused)
{
	uint8_t *d = make_disk(MIB(5));
	int err = -ENOMEM;

	for (long n = 0; err; n++) {
		fake_memory.left = n;
		err = read_image(d, MIB(5), 0, false);
		assert_true(err == -ENOMEM || (!err && n >= 4)); /* the buffer, the table, two pieces */
	}
	fake_memory.left = -1;
	is(d, MIB(5));
	free(d);
	d = malloc(FAKE_PAGES * PAGE_SIZE);
	memset(d, 1, FAKE_PAGES * PAGE_SIZE);
	assert_int_equal(read_image(d, FAKE_PAGES * PAGE_SIZE, 0, false), -ENOMEM);
	free(d);
}

static void test_runs(void **state unused)
{
	const hpa_t block[] = { 0, BLOCK * 5, BLOCK * 6, 0, BLOCK * 7, BLOCK * 9, BLOCK * 8, 0 };
	const struct {
		hpa_t base;
		uint64_t blocks;
	} want[] = { { BLOCK * 5, 3 }, { BLOCK * 9, 1 }, { BLOCK * 8, 1 } };
	uint64_t at = 0;
	hpa_t base = 0;

	for (unsigned i = 0; i < ARRAY_SIZE(want); i++) {
		assert_int_equal(image_next_run(block, ARRAY_SIZE(block), &at, &base), want[i].blocks * BLOCK);
		assert_int_equal(base, want[i].base);
	}
	assert_int_equal(image_next_run(block, ARRAY_SIZE(block), &at, &base), 0);
	at = 0;
	assert_int_equal(image_next_run(block, 1, &at, &base), 0);
	assert_int_equal(image_next_run(NULL, at = 0, &at, &base), 0);
}

static void test_names(void **state unused)
{
	assert_true(image_is_packed("image.raw.zst") && image_is_packed("DISKS/IMAGE.ZST") && image_is_packed(".zst"));
	assert_false(image_is_packed("image.raw") || image_is_packed("zst") || image_is_packed("") ||
		     image_is_packed("image.zstd") || image_is_packed("image.zst.raw") || image_is_packed("imagezst"));
}

/* ---- Zstandard frames, RFC 8878 3.1.1: blocks as they are (raw), or of one byte again and again (RLE) ---- */

enum { MAGIC = 0xfd2fb528, MAGIC_SKIPPABLE = 0x184d2a50, BLOCK_RAW = 0, BLOCK_RLE = 1, BLOCK_MOST = 0x20000 };
#define SIZE_UNKNOWN UINT64_MAX

static uint8_t file[MIB(4)];
static size_t len;
static bool without_sum;

static void add_u32(uint32_t v)
{
	put_le32(file + len, v);
	len += 4;
}

/* window_log 10 to 41. */
static void add_header(uint64_t size, unsigned window_log)
{
	add_u32(MAGIC);
	file[len++] = (uint8_t)((size == SIZE_UNKNOWN ? 0 : 3) << 6 | !without_sum << 2); /* 8 bytes of size; a sum */
	file[len++] = (uint8_t)((window_log - 10) << 3);
	if (size != SIZE_UNKNOWN) {
		put_le64(file + len, size);
		len += 8;
	}
}

static void add_block(unsigned type, size_t n, bool last)
{
	uint32_t h = (uint32_t)(n << 3 | type << 1 | last);
	file[len++] = (uint8_t)h;
	file[len++] = (uint8_t)(h >> 8);
	file[len++] = (uint8_t)(h >> 16);
}

/* A whole frame; its zeros, and other runs of a byte, are as short as they can be. */
static void add_frame_as(const uint8_t *d, size_t size, uint64_t says, unsigned window_log)
{
	add_header(says, window_log);
	for (size_t off = 0, n; off < size || !size; off += n) {
		n = MIN(size - off, (size_t)BLOCK_MOST);
		bool last = off + n == size, same = n > 1 && !memcmp(d + off, d + off + 1, n - 1);
		add_block(same ? BLOCK_RLE : BLOCK_RAW, n, last);
		memcpy(file + len, d + off, same ? 1 : n);
		len += same ? 1 : n;
		if (!size)
			break;
	}
	if (!without_sum)
		add_u32((uint32_t)XXH64(d, size, 0));
}

static void add_frame(const uint8_t *d, size_t size) { add_frame_as(d, size, size, 17); }

static void add_skippable(uint32_t n)
{
	add_u32(MAGIC_SKIPPABLE | n % 16);
	add_u32(n);
	memset(file + len, 0x5a, n);
	len += n;
}

static void test_packed(void **state unused)
{
	const size_t sizes[] = { 512, BLOCK, BLOCK + 512, MIB(1), MIB(3) }, most[] = { 0, 1, 1000, 100000 };

	for (unsigned round = 0; round < 16; round++)
		for (unsigned s = 0; s < ARRAY_SIZE(sizes); s++) {
			uint8_t *d = make_disk(sizes[s]);
			len = 0;
			add_frame_as(d, sizes[s], round / 4 % 2 ? sizes[s] : SIZE_UNKNOWN, 17 + round / 8);
			assert_int_equal(read_image(file, len, most[round % ARRAY_SIZE(most)], true), 0);
			is(d, sizes[s]);
			free(d);
		}
}

/* As pzstd writes: a frame to be skipped before each, and frames that end within a block. */
static void test_frames(void **state unused)
{
	const size_t cut[] = { 0, 1000, 1000, BLOCK + 5, MIB(1), MIB(2) };
	uint8_t *d = make_disk(MIB(2));

	len = 0;
	for (unsigned i = 0; i + 1 < ARRAY_SIZE(cut); i++) {
		add_skippable(i * 77);
		add_frame(d + cut[i], cut[i + 1] - cut[i]);
	}
	add_skippable(3);
	for (size_t most = 0; most < 60000; most = most * 4 + 1) {
		assert_int_equal(read_image(file, len, most, true), 0);
		is(d, MIB(2));
	}
	free(d);
	len = 0;
	add_skippable(100);
	assert_int_equal(read_image(file, len, 0, true), -ENODATA);
	add_frame(file, 0);
	assert_int_equal(read_image(file, len, 0, true), -ENODATA);
}

/* Without a sum the file ends before all that is in it has come out. */
static void test_comes_out(void **state unused)
{
	const size_t size = 7 * BLOCK_MOST + 1024 + BLOCK_MOST;
	uint8_t *d = calloc(1, size);

	without_sum = true;
	memset(d + size - BLOCK_MOST, 3, BLOCK_MOST);
	len = 0;
	add_header(SIZE_UNKNOWN, 17);
	add_block(BLOCK_RLE, 1024, false);
	file[len++] = 0;
	for (unsigned i = 0; i < 8; i++) {
		add_block(BLOCK_RLE, BLOCK_MOST, i == 7);
		file[len++] = i == 7 ? 3 : 0;
	}
	int err = read_image(file, len, 0, true);
	without_sum = false;
	assert_int_equal(err, 0);
	is(d, size);
	free(d);
}

/* Its size is not known and its table grows, twice. */
static void test_grows(void **state unused)
{
	const size_t size = MIB(70);
	uint8_t *d = calloc(1, size);

	d[0] = d[MIB(31)] = d[MIB(32)] = d[MIB(64) - 1] = d[size - 1] = 1;
	len = 0;
	add_frame_as(d, size, SIZE_UNKNOWN, 17);
	assert_int_equal(read_image(file, len, 0, true), 0);
	assert_in_range(im.room, size / BLOCK, 4 * size / BLOCK);
	is(d, size);
	len = 0;
	add_frame(d, size);
	fake_memory.calls = 0;
	assert_int_equal(read_image(file, len, 0, true), 0);
	assert_in_range(im.room, size / BLOCK, size / BLOCK + PAGE_SIZE / sizeof(hpa_t));
	assert_in_range(fake_memory.calls, 1, 7);
	is(d, size);
	free(d);
}

static void test_window(void **state unused)
{
	static uint8_t d[BLOCK] = { 1 };

	len = 0;
	add_frame_as(d, BLOCK, SIZE_UNKNOWN, IMAGE_WINDOW + 1);
	assert_int_equal(read_image(file, len, 0, true), -E2BIG);
	len = 0;
	add_frame_as(d, BLOCK, SIZE_UNKNOWN, IMAGE_WINDOW);
	assert_int_equal(read_image(file, len, 0, true),
			 -ENOMEM); /* it is asked for, and the firmware has not so much */
	len = 0;
	add_frame_as(d, BLOCK, SIZE_UNKNOWN, 24);
	assert_int_equal(read_image(file, len, 0, true), 0);
	is(d, BLOCK);
}

static void test_packed_wrong(void **state unused)
{
	uint8_t *d = make_disk(MIB(1));
	const uint64_t sizes[] = { MIB(1) - 1, MIB(1) + 1, MIB(2) };

	for (unsigned i = 0; i < ARRAY_SIZE(sizes); i++) { /* a lie about its size */
		len = 0;
		add_frame_as(d, MIB(1), sizes[i], 17);
		assert_int_equal(read_image(file, len, 0, true), -EBADMSG);
	}
	const uint64_t large[] = { IMAGE_MAX + 1, UINT64_MAX - 2 };
	for (unsigned i = 0; i < ARRAY_SIZE(large); i++) {
		len = 0;
		add_frame_as(d, MIB(1), large[i], 17);
		assert_int_equal(read_image(file, len, 0, true), -EFBIG);
	}
	len = 0;
	add_frame(d, MIB(1));
	file[len - 1] ^= 1; /* its sum */
	assert_int_equal(read_image(file, len, 0, true), -EBADMSG);
	file[len - 1] ^= 1;
	memset(file + len, 0, 600); /* what follows is no frame */
	assert_int_equal(read_image(file, len + 600, 0, true), -EBADMSG);
	put_le32(file + len, MAGIC); /* or not all of one */
	assert_int_equal(read_image(file, len + 3, 0, true), -EPIPE);
	len = 0;
	add_frame(d, 1000); /* no sectors */
	assert_int_equal(read_image(file, len, 0, true), -EDOM);
	assert_int_equal(read_image(d, MIB(1), 0, true), -EBADMSG); /* not compressed at all */
	assert_int_equal(read_image(file, 0, 0, true), -ENODATA);
	struct fake_reader r = { .data = file, .size = len, .most = 3, .fail_at = len - 1 };
	assert_int_equal(image_read(&im, &ops, &r, r.size, true), -EIO);
	assert_int_equal(fake_memory.live, 0);
	free(d);
}

/* A file without its end is no image, wherever it ends. One with a bit that is another is none, or the same one. */
static void test_damage(void **state unused)
{
	uint8_t *d = make_disk(MIB(1));

	memset(d + 3000, 0, MIB(1) - 3000);
	d[MIB(1) - 1] = 1;
	len = 0;
	add_frame_as(d, 3072, 3072, 17);
	for (size_t n = 1; n < len; n++)
		assert_int_equal(read_image(file, n, 0, true), -EPIPE);
	for (size_t bit = 0; bit < len * 8; bit++) {
		file[bit / 8] ^= (uint8_t)(1 << bit % 8);
		int err = read_image(file, len, 0, true);
		if (!err)
			is(d, 3072);
		file[bit / 8] ^= (uint8_t)(1 << bit % 8);
	}
	len = 0;
	add_frame_as(d, MIB(1), SIZE_UNKNOWN, 17);
	int err = -ENOMEM;
	for (long n = 0; err; n++) {
		fake_memory.left = n;
		err = read_image(file, len, 0, true);
		assert_true(err == -ENOMEM ||
			    (!err && n >= 5)); /* the buffer, the decompressor's two, the table, a piece */
	}
	is(d, MIB(1));
	free(d);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(test_raw, setup),       cmocka_unit_test_setup(test_raw_zeros, setup),
		cmocka_unit_test_setup(test_raw_wrong, setup), cmocka_unit_test_setup(test_pieces, setup),
		cmocka_unit_test_setup(test_no_memory, setup), cmocka_unit_test_setup(test_runs, setup),
		cmocka_unit_test_setup(test_names, setup),     cmocka_unit_test_setup(test_packed, setup),
		cmocka_unit_test_setup(test_frames, setup),    cmocka_unit_test_setup(test_grows, setup),
		cmocka_unit_test_setup(test_window, setup),    cmocka_unit_test_setup(test_packed_wrong, setup),
		cmocka_unit_test_setup(test_damage, setup),    cmocka_unit_test_setup(test_comes_out, setup),
	};
	return cmocka_run_group_tests_name("image", tests, NULL, NULL);
}

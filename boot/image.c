/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Images of disks (image.h). What is read goes block by block into pieces of memory, and a block of zeros gives its
 * place to the next one:
 *
 *	block[]  | a | 0 | 0 | b | c | 0 | d |          entries of 64 KiB, 0 for zeros
 *	           |           |   |       |
 *	pieces   [ a   b   c ] [ d   .   .   .   .   . ] each an eighth of all before it, and at least IMAGE_PIECE
 *	                             ^ piece, left
 */
#include "boot/image.h"
#include "kernel/base/err.h"
#include "kernel/base/zero.h"
#include <string.h>
#define ZSTD_STATIC_LINKING_ONLY
#include <zstd.h>
#include <zstd_errors.h>

#define BLOCK HANDOFF_FILE_BLOCK

/* ---- blocks ---- */

uint64_t image_next_run(const hpa_t *block, uint64_t n, uint64_t *at, hpa_t *base)
{
	uint64_t size = 0;

	for (; *at < n; ++*at) {
		if (!block[*at])
			continue;
		if (size && block[*at] != *base + size)
			break;
		if (!size)
			*base = block[*at];
		size += BLOCK;
	}
	return size;
}

/* Room for n entries, what is there goes with it. */
static int make_room(struct image *im, uint64_t n)
{
	uint64_t used = im->size / BLOCK, room;
	hpa_t *block;

	if (n <= im->room)
		return 0;
	if (n > IMAGE_MAX / BLOCK)
		return -EFBIG;
	room = MIN(MAX(ALIGN_UP(n, PAGE_SIZE / sizeof(*block)), 2 * im->room), IMAGE_MAX / BLOCK);
	block = im->ops->alloc(room * sizeof(*block));
	if (!block)
		return -ENOMEM;
	if (im->block) {
		memcpy(block, im->block, used * sizeof(*block));
		im->ops->free(im->block, im->room * sizeof(*block));
	}
	im->block = block;
	im->room = room;
	return 0;
}

/*
 * A place for one more block. Pieces grow, so that the memory map and the firmware's work do not grow with the image.
 */
static int make_place(struct image *im)
{
	uint64_t size = ALIGN_UP(MAX(im->held / 8, IMAGE_PIECE), IMAGE_PIECE);

	if (im->left)
		return 0;
	if (im->end > im->size)
		size = MIN(size, ALIGN_UP(im->end - ALIGN_DOWN(im->size, BLOCK), BLOCK));
	while (!(im->piece = im->ops->alloc(size)) && size > IMAGE_PIECE)
		size = ALIGN_UP(size / 2, IMAGE_PIECE);
	if (!im->piece)
		return -ENOMEM;
	im->left = size;
	return 0;
}

/* All bytes of a block are there: keep it, unless they are zeros. */
static void settle(struct image *im, uint64_t i)
{
	bool zero = is_zero(im->piece, BLOCK);

	im->block[i] = zero ? 0 : (hpa_t)(uintptr_t)im->piece;
	if (zero)
		return;
	im->piece += BLOCK;
	im->left -= BLOCK;
	im->held += BLOCK;
}

static int put(struct image *im, const uint8_t *p, size_t n)
{
	while (n) {
		uint64_t i = im->size / BLOCK;
		size_t in = im->size % BLOCK, part = MIN(n, BLOCK - in);
		int err = make_room(im, i + 1);

		if (err)
			return err;
		if (part == BLOCK && is_zero(p, BLOCK)) { /* without a copy */
			im->block[i] = 0;
		} else {
			err = make_place(im);
			if (err)
				return err;
			memcpy(im->piece + in, p, part);
			if (in + part == BLOCK)
				settle(im, i);
		}
		im->size += part;
		p += part;
		n -= part;
	}
	return 0;
}

/* The last block is filled up, and what no block took goes back. */
static int finish(struct image *im)
{
	size_t in = im->size % BLOCK;

	if (!im->size)
		return -ENODATA;
	if (im->size % IMAGE_SECTOR)
		return -EDOM;
	if (in) {
		memset(im->piece + in, 0, BLOCK - in);
		settle(im, im->size / BLOCK);
	}
	if (im->left)
		im->ops->free(im->piece, im->left);
	im->left = 0;
	return 0;
}

static void drop(struct image *im)
{
	uint64_t at = 0, n;
	hpa_t base;

	/* Of blocks that are complete; the one in the works lies in the piece. */
	while ((n = image_next_run(im->block, im->size / BLOCK, &at, &base)) != 0)
		im->ops->free((void *)(uintptr_t)base, n);
	if (im->left)
		im->ops->free(im->piece, im->left);
	if (im->block)
		im->ops->free(im->block, im->room * sizeof(*im->block));
	memset(im, 0, sizeof(*im));
}

/* ---- files ---- */

/* The decompressor gives memory back without its size, so that lies before it. */
#define SIZE_ROOM 64

static void *unpack_alloc(void *opaque, size_t size)
{
	const struct image_ops *ops = opaque;
	uint8_t *p = ops->alloc(size + SIZE_ROOM);

	if (!p)
		return NULL;
	put_le64(p, size + SIZE_ROOM);
	return p + SIZE_ROOM;
}

static void unpack_free(void *opaque, void *p)
{
	const struct image_ops *ops = opaque;
	uint8_t *start = (uint8_t *)p - SIZE_ROOM;

	ops->free(start, get_le64(start));
}

static int unpack_error(size_t code)
{
	ZSTD_ErrorCode e = ZSTD_getErrorCode(code);

	if (e == ZSTD_error_memory_allocation)
		return -ENOMEM;
	return e == ZSTD_error_frameParameter_windowTooLarge ? -E2BIG : -EBADMSG;
}

/* Frames one after another, some to be skipped; what each says of its size and its sum is checked (RFC 8878 3.1). */
static int unpack(struct image *im, void *file, ZSTD_DStream *d, uint8_t *buf)
{
	ZSTD_inBuffer in = { buf, 0, 0 };
	ZSTD_outBuffer out = { buf + IMAGE_STEP, IMAGE_STEP, 0 };
	size_t more = 0; /* 0: a frame has ended, and all of it has come out */
	bool first = true;
	int err;

	for (;;) {
		if (in.pos == in.size && (!more || out.pos < out.size)) {
			in = (ZSTD_inBuffer){ buf, IMAGE_STEP, 0 };
			err = im->ops->read(file, buf, &in.size);
			if (err || !in.size)
				return err ? err : more ? -EPIPE : 0;
		}
		if (first) {
			unsigned long long size = ZSTD_getFrameContentSize(buf, in.size);

			first = false;
			im->end = size < ZSTD_CONTENTSIZE_ERROR ? size : 0; /* those two: not known */
			if (im->end > IMAGE_MAX)
				return -EFBIG;
			err = make_room(im, image_blocks(im->end));
			if (err)
				return err;
		}
		out.pos = 0;
		more = ZSTD_decompressStream(d, &out, &in);
		if (ZSTD_isError(more))
			return unpack_error(more);
		err = put(im, out.dst, out.pos);
		if (err)
			return err;
	}
}

static int read_packed(struct image *im, void *file, uint8_t *buf)
{
	ZSTD_DStream *d =
		ZSTD_createDStream_advanced((ZSTD_customMem){ unpack_alloc, unpack_free, (void *)(uintptr_t)im->ops });
	int err = -ENOMEM;

	if (d && !ZSTD_isError(ZSTD_DCtx_setParameter(d, ZSTD_d_windowLogMax, IMAGE_WINDOW)))
		err = unpack(im, file, d, buf);
	(void)ZSTD_freeDStream(d);
	return err;
}

static int read_raw(struct image *im, void *file, uint64_t size, uint8_t *buf)
{
	int err = make_room(im, image_blocks(size));

	im->end = size;
	while (!err) {
		size_t n = IMAGE_STEP;

		err = im->ops->read(file, buf, &n);
		if (!err && !n)
			break;
		err = err ? err : put(im, buf, n);
	}
	return err;
}

int image_read(struct image *im, const struct image_ops *ops, void *file, uint64_t size, bool packed)
{
	uint8_t *buf = ops->alloc(2 * IMAGE_STEP);
	int err;

	im->ops = ops;
	if (!buf)
		return -ENOMEM;
	err = packed ? read_packed(im, file, buf) : read_raw(im, file, size, buf);
	ops->free(buf, 2 * IMAGE_STEP);
	err = err ? err : finish(im);
	if (err)
		drop(im);
	return err;
}

bool image_is_packed(const char *name)
{
	static const char end[] = ".zst";
	size_t n = strlen(name), k = sizeof(end) - 1;

	for (size_t i = 0; i < k; i++) {
		char ch = n < k ? 0 : name[n - k + i];

		if (ch >= 'A' && ch <= 'Z') /* the same to FAT */
			ch = (char)(ch + ('a' - 'A'));
		if (ch != end[i])
			return false;
	}
	return true;
}

/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The image of a disk in memory, without its blocks of zeros (struct handoff_file, sparse): from a file that is the
 * disk byte by byte, or compressed with Zstandard (RFC 8878). Knows nothing of the firmware: tested on the host.
 */
#pragma once
#include "kernel/handoff.h"

#define IMAGE_MAX    GIB(4096) /* bytes of a disk: it has an array of 512 MiB then */
#define IMAGE_SECTOR 512
#define IMAGE_STEP   MIB(1) /* how much is read at once */
#define IMAGE_WINDOW 27     /* log2 of the largest window that is unpacked: 128 MiB, what `zstd --long` takes */
#define IMAGE_PIECE  MIB(2) /* the least memory that is asked for, unless less can be needed */

/* What it needs of its surroundings. */
struct image_ops {
	void *(*alloc)(uint64_t size); /* whole pages, not cleared, or NULL */
	void (*free)(void *p, uint64_t size);
	int (*read)(void *file, void *to, size_t *n); /* the file's next bytes, at most *n; *n is 0 at its end */
};

struct image {
	const struct image_ops *ops;
	hpa_t *block;   /* see struct handoff_file */
	uint64_t room;  /* entries that block has room for */
	uint64_t size;  /* bytes of the disk, so far */
	uint64_t end;   /* what size will become, as far as that is known, or 0 */
	uint64_t held;  /* bytes of blocks that are not zero */
	uint8_t *piece; /* memory for more of them */
	uint64_t left;  /* bytes of piece */
};

/*
 * The file, of that size, to its end into im, an image of zeros. -ENOMEM; -EFBIG: more than IMAGE_MAX; -EDOM: not whole
 * sectors; -ENODATA: it unpacks to nothing; -EPIPE: it ends in the middle of a frame; -E2BIG: its window is larger than
 * IMAGE_WINDOW; -EBADMSG: no Zstandard file, or damaged; or what read says. Then nothing is left of it.
 */
int image_read(struct image *im, const struct image_ops *ops, void *file, uint64_t size, bool packed) must_check;

/* Is that the name of a file that is compressed? */
bool image_is_packed(const char *name);

/*
 * The next run of blocks that lie one behind the other in memory, from block *at of n on: its size in bytes, 0 if there
 * is none. Advances *at. An image's runs are few, for memory is taken in pieces that grow.
 */
uint64_t image_next_run(const hpa_t *block, uint64_t n, uint64_t *at, hpa_t *base);
static inline uint64_t image_blocks(uint64_t size) { return (size + HANDOFF_FILE_BLOCK - 1) / HANDOFF_FILE_BLOCK; }

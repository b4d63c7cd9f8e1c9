/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The files that VMs boot from, in memory: those of this host's boot volume, which stay, and those that came with a VM
 * from another host, which go with the last VM that has them. A VM keeps what it has booted from for life, so that it
 * can boot from it again wherever it is.
 */
#pragma once
#include "kernel/base/bits.h"
#include "kernel/base/err.h"
#include "kernel/base/list.h"
#include "kernel/handoff.h"
#include "kernel/page.h"

#define BOOT_FILE_ORDER 4                  /* a block, for the page allocator */
#define BOOT_FILE_BLOCK HANDOFF_FILE_BLOCK /* bytes; the last one of a file may hold fewer */

struct boot_file {        /* (c) but for: */
	struct list node; /* the table's lock, as is refs */
	const char *name; /* on the boot volume; NULL: it came with a VM */
	uint64_t size;    /* bytes, at least 1 */
	uint64_t digest;  /* atomic; 0 until somebody asked */
	unsigned refs;
	struct page_reservation room; /* of who makes it */
	struct boot_file_sum *sum;    /* of who makes it block by block: the digest so far */
	uint8_t *block[];             /* NULL: a hole, zeros that take no memory */
};

/*
 * A file of the boot volume, for ever; data is contiguous and stays the caller's. Once each, at boot. -EINVAL: it is
 * empty; -ENOMEM.
 */
int boot_file_add(const char *name, void *data, uint64_t size) must_check;
/* The same, block by block: chunk has ceil(size / BOOT_FILE_BLOCK) addresses, 0 for holes, and is not kept. */
int boot_file_add_sparse(const char *name, const hpa_t *chunk, uint64_t size) must_check;
/* These give a reference, which boot_file_put takes back; or NULL. */
struct boot_file *boot_file_named(const char *name);
/*
 * One of the boot volume with that name, size and digest (which it may have to read: in a task). Never one that came:
 * the digest is no defence against who makes a file for it, so no VM gets what another one has brought.
 */
struct boot_file *boot_file_same(const char *name, uint64_t size, uint64_t digest);
struct boot_file *boot_file_ref(struct boot_file *f);
void boot_file_put(struct boot_file *f); /* NULL: nothing */
/*
 * XXH64 of each block that is not all zeros, its number before it, and of the size (doc/wire.md), never 0; reads all
 * of it once. A hole is as good as zeros in memory. It finds damage and other releases of a file, no forgery.
 */
uint64_t boot_file_digest(struct boot_file *f);
/*
 * So that the next one who asks need not wait: 0, or at once what look(arg) says, if that is not 0, which is called for
 * each block that is read.
 */
int boot_file_digest_ahead(struct boot_file *f, int (*look)(void *arg), void *arg) must_check;
/* A task: those of all files of the boot volume, before somebody waits for one. */
void boot_file_digest_all(void *unused);
/* Its bytes from off (< size) on that lie in one place: where, and *n of them. */
const uint8_t *boot_file_at(const struct boot_file *f, uint64_t off, size_t *n);
/* How many blocks it has, and whether block i of them is a hole; zeros in memory are none. */
uint64_t boot_file_blocks(const struct boot_file *f);
bool boot_file_is_hole(const struct boot_file *f, uint64_t i);

/*
 * Room for a file that comes, with one reference: -ENOMEM with why, and nothing that VMs were promised is touched. The
 * caller alone has it.
 */
int boot_file_new(uint64_t size, struct boot_file **out, struct why *w) must_check;
void boot_file_write(struct boot_file *f, uint64_t off, const void *p, size_t n);
/*
 * The same for one of which so many blocks are not zeros, and all of it holes so far. _set_block: n bytes, and zeros
 * behind them, are block i, in ascending order; -ENOSPC: these are more than it was made for; -ENOMEM: free memory lies
 * in smaller pieces. _complete: no block will be set any more. The room that is left goes back, and the digest is
 * known, for each block was read as it was set: it does not take long however large the file is.
 */
int boot_file_new_sparse(uint64_t size, uint64_t blocks, struct boot_file **out, struct why *w) must_check;
int boot_file_set_block(struct boot_file *f, uint64_t i, const void *p, size_t n) must_check;
void boot_file_complete(struct boot_file *f);

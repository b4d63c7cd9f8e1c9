/* SPDX-License-Identifier: BSD-2-Clause */
/* Boot files in memory (boot_file.h). */
#include "vmm/boot_file.h"
#include "kernel/base/hva.h"
#include "kernel/base/zero.h"
#include "kernel/host.h"
#include "vmm/vm.h"
#include <stdlib.h>
#include <string.h>
#define XXH_STATIC_LINKING_ONLY /* the size of its state */
#include <common/xxhash.h>

_Static_assert(BOOT_FILE_BLOCK == PAGE_SIZE << BOOT_FILE_ORDER, "the loader's block is the allocator's");

static struct list files = LIST_INIT(files); /* of the boot volume */
static struct spinlock files_lock = SPINLOCK_INIT("boot files");

static const uint8_t zeros[PAGE_SIZE]; /* what stands in holes */

static uint64_t nblocks(uint64_t size) { return (size + BOOT_FILE_BLOCK - 1) / BOOT_FILE_BLOCK; }

uint64_t boot_file_blocks(const struct boot_file *f) { return nblocks(f->size); }

bool boot_file_is_hole(const struct boot_file *f, uint64_t i) { return !f->block[i]; }

static struct boot_file *file_alloc(uint64_t size)
{
	struct boot_file *f = calloc(1, sizeof(*f) + nblocks(size) * sizeof(f->block[0]));
	if (!f)
		return NULL;
	list_init(&f->node);
	f->size = size;
	f->refs = 1;
	return f;
}

static void put_on_list(struct boot_file *f, const char *name)
{
	f->name = name;
	spin_lock(&files_lock);
	list_append(&files, &f->node);
	spin_unlock(&files_lock);
}

int boot_file_add(const char *name, void *data, uint64_t size)
{
	struct boot_file *f = size ? file_alloc(size) : NULL;
	if (!f)
		return size ? -ENOMEM : -EINVAL;
	for (uint64_t i = 0; i < nblocks(size); i++)
		f->block[i] = (uint8_t *)data + i * BOOT_FILE_BLOCK;
	put_on_list(f, name);
	return 0;
}

int boot_file_add_sparse(const char *name, const hpa_t *chunk, uint64_t size)
{
	struct boot_file *f = size ? file_alloc(size) : NULL;
	if (!f)
		return size ? -ENOMEM : -EINVAL;
	for (uint64_t i = 0; i < nblocks(size); i++)
		f->block[i] = chunk[i] ? hva_of(chunk[i]) : NULL;
	put_on_list(f, name);
	return 0;
}

struct boot_file *boot_file_ref(struct boot_file *f)
{
	spin_lock(&files_lock);
	f->refs++;
	spin_unlock(&files_lock);
	return f;
}

struct boot_file *boot_file_named(const char *name)
{
	struct boot_file *found = NULL;
	spin_lock(&files_lock);
	list_for_each(f, &files, struct boot_file, node)
		if (!found && !strcmp(f->name, name))
			found = f;
	if (found)
		found->refs++;
	spin_unlock(&files_lock);
	return found;
}

struct boot_file *boot_file_same(const char *name, uint64_t size, uint64_t digest)
{
	struct boot_file *f = boot_file_named(name);
	if (!f || (f->size == size && boot_file_digest(f) == digest))
		return f;
	boot_file_put(f);
	return NULL;
}

static void file_free(struct boot_file *f)
{
	BUG_ON(f->name); /* of the boot volume: the table's own reference stays */
	for (uint64_t i = 0; i < boot_file_blocks(f); i++) {
		if (boot_file_is_hole(f, i))
			continue;
		page_free(hpa_of(f->block[i]), BOOT_FILE_ORDER);
		__atomic_fetch_sub(&host_info.file_bytes, BOOT_FILE_BLOCK, __ATOMIC_RELAXED);
	}
	page_unreserve(&f->room);
	free(f->sum);
	free(f);
}

void boot_file_put(struct boot_file *f)
{
	if (!f)
		return;
	spin_lock(&files_lock);
	bool last = --f->refs == 0;
	spin_unlock(&files_lock);
	if (last)
		file_free(f);
}

const uint8_t *boot_file_at(const struct boot_file *f, uint64_t off, size_t *n)
{
	size_t in = off % BOOT_FILE_BLOCK;
	*n = MIN(BOOT_FILE_BLOCK - in, f->size - off);
	if (!boot_file_is_hole(f, off / BOOT_FILE_BLOCK))
		return f->block[off / BOOT_FILE_BLOCK] + in;
	*n = MIN(*n, PAGE_SIZE);
	return zeros;
}

struct boot_file_sum {
	XXH64_state_t xxh;
	uint64_t next; /* what comes after the last block in it */
};

static struct boot_file_sum sum_begin(void)
{
	struct boot_file_sum s = { .next = 0 };
	(void)XXH64_reset(&s.xxh, 0);
	return s;
}

static void sum_number(struct boot_file_sum *s, uint64_t number)
{
	uint8_t bytes[8];
	put_le64(bytes, number);
	(void)XXH64_update(&s->xxh, bytes, sizeof(bytes));
}

/* Block i, if it is not all zeros; they come in ascending order. */
static void sum_block(struct boot_file_sum *s, const struct boot_file *f, uint64_t i)
{
	size_t n;
	const uint8_t *p = boot_file_at(f, i * BOOT_FILE_BLOCK, &n);
	BUG_ON(i < s->next);
	s->next = i + 1;
	if (boot_file_is_hole(f, i) || is_zero(p, n))
		return;
	sum_number(s, i);
	(void)XXH64_update(&s->xxh, p, n);
}

static void sum_end(struct boot_file_sum *s, struct boot_file *f)
{
	sum_number(s, f->size);
	uint64_t h = XXH64_digest(&s->xxh);
	__atomic_store_n(&f->digest, h + !h, __ATOMIC_RELAXED); /* who asks at the same time finds the same */
}

int boot_file_digest_ahead(struct boot_file *f, int (*look)(void *arg), void *arg)
{
	if (__atomic_load_n(&f->digest, __ATOMIC_RELAXED))
		return 0;
	struct boot_file_sum s = sum_begin();
	for (uint64_t i = 0; i < boot_file_blocks(f); i++) {
		int err = look && !boot_file_is_hole(f, i) ? look(arg) : 0;
		if (err)
			return err;
		sum_block(&s, f, i);
	}
	sum_end(&s, f);
	return 0;
}

uint64_t boot_file_digest(struct boot_file *f)
{
	(void)!boot_file_digest_ahead(f, NULL, NULL);
	return __atomic_load_n(&f->digest, __ATOMIC_RELAXED);
}

void boot_file_digest_all(void *arg unused)
{
	struct list *at = &files;
	for (;;) {
		spin_lock(&files_lock);
		at = at->next; /* none is ever taken out */
		spin_unlock(&files_lock);
		if (at == &files)
			return;
		(void)boot_file_digest(list_entry(at, struct boot_file, node));
	}
}

static int no_memory(uint64_t size, struct why *w)
{
	return why_set(w, -ENOMEM, "no memory for a boot file of %lu KiB", (size + 1023) >> 10);
}

/* With room for so many blocks, and all of it holes. */
static int make(uint64_t size, uint64_t blocks, struct boot_file **out, struct why *w)
{
	struct vm_reservation r;
	int err = vm_memory_reserve_for("a boot file needs", blocks << BOOT_FILE_ORDER, &r, w);
	if (err)
		return err;
	struct boot_file *f = file_alloc(size);
	if (f)
		f->room = r.pages;
	else
		vm_memory_release(&r);
	*out = f;
	return f ? 0 : no_memory(size, w);
}

int boot_file_new_sparse(uint64_t size, uint64_t blocks, struct boot_file **out, struct why *w)
{
	int err = make(size, blocks, out, w);
	if (err)
		return err;
	struct boot_file *f = *out;
	f->sum = malloc(sizeof(*f->sum));
	if (f->sum) {
		*f->sum = sum_begin();
		return 0;
	}
	file_free(f);
	*out = NULL;
	return no_memory(size, w);
}

static int fill_hole(struct boot_file *f, uint64_t i)
{
	if (!f->room.pages)
		return -ENOSPC;
	hpa_t hpa = page_alloc_reserved(&f->room, BOOT_FILE_ORDER);
	if (hpa == HPA_NONE) /* free memory lies in smaller pieces */
		return -ENOMEM;
	page_zero(hpa, BOOT_FILE_ORDER); /* guests read all of it: it may be a disk's */
	f->block[i] = hva_of(hpa);
	__atomic_fetch_add(&host_info.file_bytes, BOOT_FILE_BLOCK, __ATOMIC_RELAXED);
	return 0;
}

int boot_file_new(uint64_t size, struct boot_file **out, struct why *w)
{
	struct boot_file *f;
	int err = make(size, nblocks(size), &f, w);
	for (uint64_t i = 0; !err && i < nblocks(size); i++) {
		err = fill_hole(f, i);
		if (err)
			file_free(f);
	}
	*out = err ? NULL : f;
	return err ? no_memory(size, w) : 0;
}

int boot_file_set_block(struct boot_file *f, uint64_t i, const void *p, size_t n)
{
	BUG_ON(i >= nblocks(f->size) || n > MIN(BOOT_FILE_BLOCK, f->size - i * BOOT_FILE_BLOCK));
	int err = is_zero(p, n) ? 0 : fill_hole(f, i);
	if (err)
		return err;
	if (!boot_file_is_hole(f, i))
		memcpy(f->block[i], p, n); /* fill_hole has made the rest zeros */
	sum_block(f->sum, f, i);
	return 0;
}

void boot_file_complete(struct boot_file *f)
{
	sum_end(f->sum, f);
	free(f->sum);
	f->sum = NULL;
	page_unreserve(&f->room);
}

void boot_file_write(struct boot_file *f, uint64_t off, const void *p, size_t n)
{
	BUG_ON(off > f->size || n > f->size - off);
	for (size_t done = 0; done < n;) {
		size_t in = (off + done) % BOOT_FILE_BLOCK, part = MIN(n - done, BOOT_FILE_BLOCK - in);
		BUG_ON(boot_file_is_hole(f, (off + done) / BOOT_FILE_BLOCK));
		memcpy(f->block[(off + done) / BOOT_FILE_BLOCK] + in, (const uint8_t *)p + done, part);
		done += part;
	}
}

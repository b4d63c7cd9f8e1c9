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

uint64_t boot_file_digest(struct boot_file *f)
{
	uint64_t h = __atomic_load_n(&f->digest, __ATOMIC_RELAXED);
	if (h)
		return h;
	XXH64_state_t state;
	uint8_t number[8];
	size_t n;
	(void)XXH64_reset(&state, 0);
	for (uint64_t i = 0; i < boot_file_blocks(f); i++) {
		const uint8_t *p = boot_file_at(f, i * BOOT_FILE_BLOCK, &n);
		if (boot_file_is_hole(f, i) || is_zero(p, n))
			continue;
		put_le64(number, i);
		(void)XXH64_update(&state, number, sizeof(number));
		(void)XXH64_update(&state, p, n);
	}
	put_le64(number, f->size);
	(void)XXH64_update(&state, number, sizeof(number));
	h = XXH64_digest(&state);
	h += !h;
	__atomic_store_n(&f->digest, h, __ATOMIC_RELAXED); /* who asks at the same time finds the same */
	return h;
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

int boot_file_new_sparse(uint64_t size, uint64_t blocks, struct boot_file **out, struct why *w)
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
	return f ? 0 : why_set(w, -ENOMEM, "no memory for a boot file of %lu KiB", (size + 1023) >> 10);
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
	int err = boot_file_new_sparse(size, nblocks(size), &f, w);
	for (uint64_t i = 0; !err && i < nblocks(size); i++) {
		err = fill_hole(f, i);
		if (err)
			file_free(f);
	}
	*out = err ? NULL : f;
	return err ? why_set(w, err, "no memory for a boot file of %lu KiB", (size + 1023) >> 10) : 0;
}

void boot_file_complete(struct boot_file *f) { page_unreserve(&f->room); }

int boot_file_set_block(struct boot_file *f, uint64_t i, const void *p, size_t n)
{
	BUG_ON(i >= nblocks(f->size) || n > MIN(BOOT_FILE_BLOCK, f->size - i * BOOT_FILE_BLOCK));
	int err = boot_file_is_hole(f, i) && !is_zero(p, n) ? fill_hole(f, i) : 0;
	if (err || boot_file_is_hole(f, i))
		return err;
	memcpy(f->block[i], p, n);
	memset(f->block[i] + n, 0, BOOT_FILE_BLOCK - n);
	return 0;
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

/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The kernel: from the compressed ELF file inside the loader (kernel_blob.S) into one block of RAM, 2M aligned
 * (kernel/handoff.h). What is taken on the way is the firmware's until ExitBootServices, and free for the kernel then.
 */
#include "boot/boot.h"
#include <string.h>
#define ZSTD_STATIC_LINKING_ONLY
#include <zstd.h>

#define KERNEL_MAX MIB(256) /* sanity */
#define BIG_PAGE   MIB(2)

extern const uint8_t kernel_blob_start[], kernel_blob_end[];

/* ELF-64 Object File Format 1.5, figures 3 and 8. */
struct elf_header {
	uint8_t ident[16];
	uint16_t type, machine;
	uint32_t version;
	uint64_t entry, phoff, shoff;
	uint32_t flags;
	uint16_t ehsize, phentsize, phnum, shentsize, shnum, shstrndx;
};
struct elf_segment {
	uint32_t type, flags;
	uint64_t offset, vaddr, paddr, filesz, memsz, align;
};
#define ELF_IDENT "\177ELF\2\1\1" /* 64 bit, little-endian, version 1 */
#define ET_EXEC   2
#define EM_X86_64 62
#define PT_LOAD   1
#define PF_X      1

/* The i-th program header, or NULL if it lies outside of the file. */
static const struct elf_segment *segment(const struct elf_header *eh, uint64_t size, unsigned i)
{
	uint64_t at;

	if (__builtin_add_overflow(eh->phoff, (uint64_t)i * sizeof(struct elf_segment), &at) || at % 8 || at > size ||
	    size - at < sizeof(struct elf_segment))
		return NULL;
	return (const struct elf_segment *)(const void *)((const uint8_t *)eh + at);
}

static bool segment_ok(const struct elf_segment *s, uint64_t size)
{
	return s->offset <= size && s->filesz <= size - s->offset && s->filesz <= s->memsz && s->vaddr >= KERNEL_BASE &&
	       s->vaddr - KERNEL_BASE <= KERNEL_MAX && s->memsz <= KERNEL_MAX - (s->vaddr - KERNEL_BASE);
}

/* Check all of it before anything is copied; returns the size in memory, 0 if this is no kernel of ours. */
static uint64_t check(const struct elf_header *eh, uint64_t size)
{
	uint64_t end = 0;
	bool entry_ok = false;

	if (size < sizeof(*eh) || memcmp(eh->ident, ELF_IDENT, 7) || eh->type != ET_EXEC || eh->machine != EM_X86_64 ||
	    eh->phentsize != sizeof(struct elf_segment))
		return 0;
	for (unsigned i = 0; i < eh->phnum; i++) {
		const struct elf_segment *s = segment(eh, size, i);

		if (!s || (s->type == PT_LOAD && !segment_ok(s, size)))
			return 0;
		if (s->type != PT_LOAD)
			continue;
		end = MAX(end, s->vaddr - KERNEL_BASE + s->memsz);
		if ((s->flags & PF_X) && eh->entry >= s->vaddr && eh->entry - s->vaddr < s->filesz)
			entry_ok = true;
	}
	return entry_ok ? end : 0;
}

/* The ELF file, or NULL if what is inside the loader is damaged: it has a sum of its content. */
static const struct elf_header *unpack(uint64_t *size)
{
	const uint64_t packed = (uint64_t)(kernel_blob_end - kernel_blob_start);
	const uint64_t room = ZSTD_estimateDCtxSize();
	ZSTD_DCtx *d = ZSTD_initStaticDCtx(boot_alloc(room), room);
	void *elf;

	*size = ZSTD_getFrameContentSize(kernel_blob_start, packed);
	if (!d || *size > KERNEL_MAX) /* CONTENTSIZE_UNKNOWN and _ERROR are the largest numbers */
		return NULL;
	elf = boot_alloc(*size);
	return ZSTD_decompressDCtx(d, elf, *size, kernel_blob_start, packed) == *size ? elf : NULL;
}

void load_kernel(void)
{
	uint64_t size;
	const struct elf_header *eh = unpack(&size);
	uint64_t memsize = eh ? check(eh, size) : 0;
	uint8_t *to;
	hpa_t block;

	if (!memsize)
		boot_fatal("the kernel inside this BOOTX64.EFI is damaged; copy the file anew.");
	/*
	 * 2M more than needed, so that a 2M-aligned part is in it. The kernel keeps kernel_size of it and frees the
	 * rest.
	 */
	memsize = ALIGN_UP(memsize, PAGE_SIZE);
	block = boot_try_alloc(ALIGN_UP(memsize, BIG_PAGE) + BIG_PAGE);
	if (!block)
		boot_fatal("no %u MiB of memory in one piece for the kernel.", (unsigned)(memsize / MIB(1)) + 4);
	boot.h->kernel_base = ALIGN_UP(block, BIG_PAGE);
	boot.h->kernel_size = memsize;
	to = (uint8_t *)(uintptr_t)boot.h->kernel_base;
	memset(to, 0, memsize);
	for (unsigned i = 0; i < eh->phnum; i++) {
		const struct elf_segment *s = segment(eh, size, i);

		if (s->type == PT_LOAD)
			memcpy(to + (s->vaddr - KERNEL_BASE), (const uint8_t *)eh + s->offset, s->filesz);
	}
	boot.entry = eh->entry;
}

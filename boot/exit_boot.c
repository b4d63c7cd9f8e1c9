/* SPDX-License-Identifier: BSD-2-Clause */
/* The firmware's memory map, and the way out of the firmware. */
#include "boot/boot.h"
#include "boot/image.h"
#include "boot/memmap.h"

#define EXTRA_DESCS 64 /* the map grows by what is allocated after its size was asked for */
#define EXTRA_MEM   3  /* the kernel, the trampoline, page 0 */

EFI_STATUS exit_read_map(struct efi_map *m)
{
	UINT32 version;

	if (!m->buf) {
		m->size = 0;
		m->desc_size = 0;
		boot.bs->GetMemoryMap(&m->size, NULL, &m->key, &m->desc_size, &version);
		if (m->desc_size < sizeof(EFI_MEMORY_DESCRIPTOR) || m->desc_size > 4096 || m->size > MIB(64))
			return EFI_UNSUPPORTED;
		m->cap = m->size + EXTRA_DESCS * m->desc_size;
		m->buf = boot_alloc(m->cap);
	}
	m->size = m->cap;
	return boot.bs->GetMemoryMap(&m->size, (EFI_MEMORY_DESCRIPTOR *)(void *)m->buf, &m->key, &m->desc_size,
				     &version);
}

/* Skips what is empty or wraps around, so that nobody else need care. */
const EFI_MEMORY_DESCRIPTOR *exit_next_desc(const struct efi_map *m, UINTN *at)
{
	while (*at < m->size && m->size - *at >= m->desc_size) {
		const EFI_MEMORY_DESCRIPTOR *d = (const EFI_MEMORY_DESCRIPTOR *)(const void *)(m->buf + *at);

		*at += m->desc_size;
		if (d->NumberOfPages && d->NumberOfPages <= BIT(52 - PAGE_SHIFT) && d->PhysicalStart < BIT(52))
			return d;
	}
	return NULL;
}

uint32_t exit_mem_type(const EFI_MEMORY_DESCRIPTOR *d)
{
	switch (d->Type) {
	case EfiConventionalMemory:
	case EfiBootServicesCode:
	case EfiBootServicesData: return d->Attribute & EFI_MEMORY_WB ? HANDOFF_MEM_FREE : HANDOFF_MEM_RESERVED;
	case EfiLoaderCode: /* this program */
	case EfiLoaderData: /* and what it allocated; what the kernel keeps of it is laid over it */
		return HANDOFF_MEM_BOOT;
	case EfiACPIReclaimMemory:
	case EfiACPIMemoryNVS: return HANDOFF_MEM_ACPI;
	case EfiMemoryMappedIO:
	case EfiMemoryMappedIOPortSpace: return 0;
	default: /* runtime services, reserved, broken, persistent, and types that are yet to be invented */
		return HANDOFF_MEM_RESERVED;
	}
}

static void keep(struct handoff_mem *in, unsigned *n, hpa_t base, uint64_t size)
{
	if (in && size)
		in[*n] = (struct handoff_mem){ base, size, HANDOFF_MEM_KEEP, 0 };
	*n += size != 0;
}

/* What the files take, into in, or only counted; how many ranges that are. */
static unsigned keep_files(struct handoff_mem *in)
{
	const struct handoff_file *f = (const struct handoff_file *)(uintptr_t)boot.h->files;
	unsigned n = 0;

	for (const struct handoff_file *end = f + boot.h->nfiles; f < end; f++) {
		const hpa_t *block = (const hpa_t *)(uintptr_t)f->base;
		uint64_t at = 0, run;
		hpa_t base;

		if (!f->sparse)
			keep(in, &n, f->base, f->size);
		else
			while ((run = image_next_run(block, image_blocks(f->size), &at, &base)) != 0)
				keep(in, &n, base, run);
	}
	return n;
}

static void fill_mem(const struct efi_map *map, struct handoff_mem *in, uint64_t *cuts, struct handoff_mem *out)
{
	struct handoff *h = boot.h;
	const EFI_MEMORY_DESCRIPTOR *d;
	unsigned n = 0, nout;
	UINTN at = 0;

	while ((d = exit_next_desc(map, &at)) != NULL)
		if (exit_mem_type(d))
			in[n++] = (struct handoff_mem){ d->PhysicalStart, d->NumberOfPages * PAGE_SIZE,
							exit_mem_type(d), 0 };
	in[n++] = (struct handoff_mem){ h->kernel_base, h->kernel_size, HANDOFF_MEM_KEEP, 0 };
	n += keep_files(in + n);
	in[n++] = (struct handoff_mem){ 0, PAGE_SIZE, HANDOFF_MEM_RESERVED, 0 }; /* hpa 0 means "none" in many places */
	nout = memmap_flatten(in, n, cuts, out);
	if (!h->trampoline) /* firmware's own memory below 1 MiB has become free by now */
		h->trampoline = memmap_free_page_below(out, nout, KIB(640));
	if (h->trampoline) {
		in[n++] = (struct handoff_mem){ h->trampoline, PAGE_SIZE, HANDOFF_MEM_KEEP, 0 };
		nout = memmap_flatten(in, n, cuts, out);
	}
	h->mem = (hpa_t)(uintptr_t)out;
	h->nmem = nout;
}

void exit_firmware(void)
{
	struct efi_map map = { 0 };
	struct handoff_mem *in, *out;
	uint64_t *cuts;
	UINTN max;

	if (EFI_ERROR(exit_read_map(&map)))
		boot_fatal("the firmware does not give its memory map.");
	max = map.cap / map.desc_size + keep_files(NULL) + EXTRA_MEM;
	in = boot_alloc(max * sizeof(*in));
	out = boot_alloc(2 * max * sizeof(*out));
	cuts = boot_alloc(2 * max * sizeof(*cuts));
	/*
	 * A timer event between the two calls may allocate: then the key is stale and ExitBootServices fails. It may
	 * have shut down part of the firmware, so that only these two calls are allowed from then on (UEFI 7.4.6): no
	 * say, no alloc.
	 */
	for (int i = 0; i < 8; i++) {
		if (EFI_ERROR(exit_read_map(&map)))
			break;
		if (EFI_ERROR(boot.bs->ExitBootServices(boot.image, map.key)))
			continue;
		__asm__ volatile("cli");
		boot.h->exit_tsc = efi_clock_tsc();
		fill_mem(&map, in, cuts, out);
		return;
	}
	boot_fatal("the firmware does not let go (ExitBootServices fails).");
}

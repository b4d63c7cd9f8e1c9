/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Linux's 64-bit boot protocol (Documentation/arch/x86/boot.rst in its tree). What goes where in guest memory is in
 * vmm/pc/pc.h.
 *
 * The kernel is entered at +0x200 in 64-bit mode with RSI = boot_params. Every number of the file's header is checked
 * against the file's size and the guest's memory before it is used.
 */
#include "vmm/pc/linux_loader.h"
#include "arch/x86/hw/pte.h"
#include "arch/x86/hw/regs.h"
#include "arch/x86/hw/segment.h"
#include "vmm/pc/pc.h"
#include "vmm/x86/startup.h"
#include <string.h>

#define PD_COUNT 4

/* Setup header, offsets in the file's first sectors and in boot_params alike. */
enum {
	HDR_START = 0x1f1, /* setup_sects */
	HDR_SYSSIZE = 0x1f4,
	HDR_BOOT_FLAG = 0x1fe,
	HDR_JUMP_OFF = 0x201, /* the header ends at 0x202 + this */
	HDR_MAGIC = 0x202,
	HDR_VERSION = 0x206,
	HDR_LOADER_TYPE = 0x210,
	HDR_LOADFLAGS = 0x211,
	HDR_RAMDISK_IMAGE = 0x218,
	HDR_RAMDISK_SIZE = 0x21c,
	HDR_CMD_LINE_PTR = 0x228,
	HDR_INITRD_ADDR_MAX = 0x22c,
	HDR_XLOADFLAGS = 0x236,
	HDR_CMDLINE_SIZE = 0x238,
	HDR_PREF_ADDRESS = 0x258,
	HDR_INIT_SIZE = 0x260,
	HDR_MIN_END = 0x264, /* of version 2.12 */
	/* boot_params only */
	BP_RSDP = 0x070,
	BP_E820_ENTRIES = 0x1e8,
	BP_E820_TABLE = 0x2d0,
	BP_HDR_MAX = 0x290, /* what follows the header */
	BP_SIZE = 0x1000,
};
#define MAGIC            0x53726448U /* "HdrS" */
#define VERSION_MIN      0x020c
#define LOADED_HIGH      BIT(0)
#define XLF_KERNEL_64    BIT(0)
#define LOADER_UNDEFINED 0xff
#define ENTRY_64         0x200
#define SECTOR           512

#define E820_ENTRY 20

/* What the header says, checked. */
struct bzimage {
	const uint8_t *hdr;
	size_t hdr_end;
	uint64_t payload, payload_size; /* the protected-mode kernel in the file */
	uint64_t pref, init_size;       /* where it runs, and how much it needs there */
	uint64_t initrd_max;            /* last byte that an initrd may occupy */
	uint32_t cmdline_size;
};

static int header_check(const struct guest_image *img, struct bzimage *b, struct why *w)
{
	size_t first; /* bytes in one place: BP_HDR_MAX, or all of it */
	const uint8_t *h = b->hdr = boot_file_at(img->kernel, 0, &first);
	uint64_t size = img->kernel->size;

	if (size < HDR_MIN_END || get_le16(h + HDR_BOOT_FLAG) != 0xaa55 || get_le32(h + HDR_MAGIC) != MAGIC)
		return why_set(
			w, -EINVAL,
			"the kernel is neither a Linux bzImage nor an ELF file: give the file that is called vmlinuz");
	if (get_le16(h + HDR_VERSION) < VERSION_MIN)
		return why_set(w, -EINVAL,
			       "the kernel speaks boot protocol %u.%02u: 2.12 or newer (Linux 3.8) is needed",
			       h[HDR_VERSION + 1], h[HDR_VERSION]);
	if (!(h[HDR_LOADFLAGS] & LOADED_HIGH) || !(get_le16(h + HDR_XLOADFLAGS) & XLF_KERNEL_64))
		return why_set(w, -EINVAL, "the kernel has no 64-bit entry point: an x86-64 bzImage is needed");
	b->hdr_end = HDR_MAGIC + (size_t)h[HDR_JUMP_OFF];
	if (b->hdr_end < HDR_MIN_END || b->hdr_end > BP_HDR_MAX || b->hdr_end > first)
		return why_set(w, -EINVAL, "the kernel's setup header ends at %lx: the file is damaged", b->hdr_end);

	b->payload = ((h[HDR_START] ? h[HDR_START] : 4) + 1UL) * SECTOR;
	b->payload_size = (uint64_t)get_le32(h + HDR_SYSSIZE) * 16;
	if (b->payload >= size || b->payload_size < ENTRY_64 + 16 || b->payload_size > size - b->payload + 15)
		return why_set(w, -EINVAL, "the kernel's file is too short (%lu bytes): it is truncated or damaged",
			       size);
	b->payload_size = MIN(b->payload_size, size - b->payload); /* syssize is rounded up */

	b->pref = get_le64(h + HDR_PREF_ADDRESS);
	b->init_size = MAX((uint64_t)get_le32(h + HDR_INIT_SIZE), b->payload_size);
	b->initrd_max = get_le32(h + HDR_INITRD_ADDR_MAX);
	b->cmdline_size = get_le32(h + HDR_CMDLINE_SIZE);
	if ((b->pref & (PAGE_SIZE - 1)) || b->pref < PC_HIGH_RAM)
		return why_set(w, -EINVAL, "the kernel wants to be at %lx: the file is damaged", b->pref);
	return 0;
}

/*
 * The kernel goes to its preferred address: one that is loaded lower moves itself there, whether there is memory or
 * not. The initrd goes behind it, as high as possible; without one, *initrd is 0.
 */
static int place(const struct gmem *g, const struct bzimage *b, uint64_t initrd_size, gpa_t *initrd, struct why *w)
{
	uint64_t kernel_end = ALIGN_UP(MIN(b->pref, GMEM_HOLE) + b->init_size, PAGE_SIZE),
		 need = kernel_end + ALIGN_UP(initrd_size, PAGE_SIZE), end = MIN(b->initrd_max + 1, g->low);

	if (initrd_size > GMEM_HOLE || need > GMEM_HOLE)
		return why_set(w, -ENOSPC, "the kernel%s does not fit below 3 GiB",
			       initrd_size ? " with its initrd" : "");
	if (need > g->low)
		return why_set(w, -ENOSPC, "the kernel%s starts with mem = %luM at least, and this VM has %luM",
			       initrd_size ? " with its initrd" : "", ALIGN_UP(need, GMEM_BLOCK) >> 20, g->low >> 20);
	if (need > end && initrd_size)
		return why_set(w, -ENOSPC, "the kernel wants its initrd below %lx, and that is too large (%lu KiB)",
			       end, (initrd_size + 1023) >> 10);
	*initrd = initrd_size ? ALIGN_DOWN(end - initrd_size, PAGE_SIZE) : 0;
	return 0;
}

/* ---- what is written ---- */

static int write_boot_params(struct gmem *g, const struct guest_image *img, const struct bzimage *b, gpa_t initrd)
{
	uint8_t bp[BP_SIZE] = { 0 };
	struct guest_range r[GUEST_RANGES_MAX];

	memcpy(bp + HDR_START, b->hdr + HDR_START, b->hdr_end - HDR_START);
	bp[HDR_LOADER_TYPE] = LOADER_UNDEFINED;
	put_le32(bp + HDR_RAMDISK_IMAGE, (uint32_t)initrd);
	put_le32(bp + HDR_RAMDISK_SIZE, initrd ? (uint32_t)img->initrd->size : 0);
	put_le32(bp + HDR_CMD_LINE_PTR, PC_CMDLINE);
	put_le64(bp + BP_RSDP, img->rsdp);
	bp[BP_E820_ENTRIES] = (uint8_t)guest_image_ranges(g, r);
	for (unsigned i = 0; i < bp[BP_E820_ENTRIES]; i++) {
		uint8_t *e = bp + BP_E820_TABLE + i * E820_ENTRY;
		put_le64(e, r[i].start);
		put_le64(e + 8, r[i].end - r[i].start);
		put_le32(e + 16, r[i].type);
	}
	return gmem_write(g, PC_BOOT_PARAMS, bp, sizeof(bp));
}

static int write_page_tables(struct gmem *g)
{
	uint64_t table[PT_ENTRIES] = { 0 };
	int err;

	table[0] = PC_BOOT_PDPT | PTE_P | PTE_W;
	if ((err = gmem_write(g, PC_BOOT_PML4, table, sizeof(table))))
		return err;
	for (unsigned i = 0; i < PD_COUNT; i++)
		table[i] = (PC_BOOT_PD + i * PAGE_SIZE) | PTE_P | PTE_W;
	if ((err = gmem_write(g, PC_BOOT_PDPT, table, sizeof(table))))
		return err;
	for (unsigned k = 0; k < PD_COUNT; k++) {
		for (unsigned i = 0; i < PT_ENTRIES; i++)
			table[i] = (GIB(k) + MIB(2) * i) | PTE_P | PTE_W | PTE_PS;
		if ((err = gmem_write(g, PC_BOOT_PD + k * PAGE_SIZE, table, sizeof(table))))
			return err;
	}
	return 0;
}

/* The selectors that the protocol promises: 0x10 code, 0x18 data, both flat. */
#define BOOT_CS 0x10
#define BOOT_DS 0x18
static const uint64_t boot_gdt[] = { 0, 0, DESC_CODE64, DESC_DATA };

static void boot_state(struct cpu_state *s, gpa_t load)
{
	/* SDM 3C 24.4.1: accessed, present, S, G; L for code, B for data. */
	static const struct seg_state code = { 0, 0xffffffff, AR_CODE64, BOOT_CS },
				      data = { 0, 0xffffffff, AR_DATA, BOOT_DS };
	startup_power_on(s);
	s->rip = load + ENTRY_64;
	s->gpr[REG_RSI] = PC_BOOT_PARAMS;
	s->cr0 = CR0_PG | CR0_WP | CR0_NE | CR0_ET | CR0_PE;
	s->cr3 = PC_BOOT_PML4;
	s->cr4 = CR4_PAE;
	s->efer = EFER_LME | EFER_LMA;
	for (unsigned i = 0; i < SEG_LDTR; i++)
		s->seg[i] = data;
	s->seg[SEG_CS] = code;
	s->seg[SEG_LDTR] = (struct seg_state){ 0, 0, AR_UNUSABLE, 0 };
	s->seg[SEG_TR].limit = 0x67; /* a busy 64-bit TSS: hardware wants one */
	s->gdt_base = PC_BOOT_GDT;
	s->gdt_limit = sizeof(boot_gdt) - 1;
}

int linux_load(struct gmem *g, const struct guest_image *img, struct cpu_state *boot, struct why *w)
{
	struct bzimage b = { 0 };
	gpa_t initrd = 0;
	uint64_t initrd_size = img->initrd ? img->initrd->size : 0;
	size_t cmdline_len = strlen(img->cmdline);

	int err;
	if ((err = header_check(img, &b, w)) || (err = place(g, &b, initrd_size, &initrd, w)))
		return err;
	if (cmdline_len > b.cmdline_size || cmdline_len >= PC_CMDLINE_MAX)
		return why_set(w, -EINVAL, "the command line has %lu characters, the kernel takes %u: shorten cmdline=",
			       cmdline_len, b.cmdline_size);

	if ((err = guest_image_put(g, b.pref, img->kernel, b.payload, b.payload_size)) ||
	    (initrd_size && (err = guest_image_put(g, initrd, img->initrd, 0, initrd_size))) ||
	    (err = gmem_write(g, PC_CMDLINE, img->cmdline, cmdline_len + 1)) ||
	    (err = write_boot_params(g, img, &b, initrd)) || (err = guest_image_put_reset(g)) ||
	    (err = gmem_write(g, PC_BOOT_GDT, boot_gdt, sizeof(boot_gdt))) || (err = write_page_tables(g)))
		return why_set(w, err, "the guest's memory (%lu MiB) is too small to load a kernel", g->low >> 20);
	boot_state(boot, b.pref);
	return 0;
}

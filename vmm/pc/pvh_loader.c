/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Segments go to their physical addresses, which the file alone chooses: nothing of this PC's own is from 1 MiB on. The
 * entry is the one that the note XEN_ELFNOTE_PHYS32_ENTRY names, in 32-bit protected mode without paging, with EBX =
 * hvm_start_info; ELF's own entry is not looked at. The initrd is the first module. What goes where is in pc.h.
 */
#include "vmm/pc/pvh_loader.h"
#include "arch/x86/hw/regs.h"
#include "arch/x86/hw/segment.h"
#include "vmm/pc/pc.h"
#include "vmm/x86/startup.h"
#include <string.h>

/* ELF-64 (System V ABI, "Object files" and "Program loading"): the file's header, a segment's, a note's. */
enum { EI_CLASS = 4, EI_DATA = 5, E_MACHINE = 18, E_PHOFF = 32, E_PHENTSIZE = 54, E_PHNUM = 56, EHDR_LEN = 64 };
enum { P_TYPE = 0, P_OFFSET = 8, P_PADDR = 24, P_FILESZ = 32, P_MEMSZ = 40, P_ALIGN = 48, PHDR_LEN = 56 };
enum { N_NAMESZ = 0, N_DESCSZ = 4, N_TYPE = 8, NHDR_LEN = 12 };
enum { ELFCLASS64 = 2, ELFDATA2LSB = 1, EM_386 = 3, EM_X86_64 = 62, PT_LOAD = 1, PT_NOTE = 4 };
#define ELF_MAGIC    "\177ELF"
#define PHYS32_ENTRY 18 /* XEN_ELFNOTE_PHYS32_ENTRY, of the owner: */
#define XEN_NOTE     "Xen"
#define HEADERS_MAX  64
#define SEGMENTS_MAX 16
#define NOTES_MAX    0x10000 /* bytes */

/* struct hvm_start_info, version 1; a module; a range of the memory map. Each has its place in the page PC_PVH_INFO. */
enum {
	SI_MAGIC = 0,
	SI_VERSION = 4,
	SI_MODULES = 12,
	SI_MODLIST = 16,
	SI_CMDLINE = 24,
	SI_RSDP = 32,
	SI_MEMMAP = 40,
	SI_RANGES = 48,
	SI_LEN = 56,
	MODULE_AT = 64,
	MODULE_LEN = 32,
	MEMMAP_AT = 96,
	MEMMAP_LEN = 24,
	INFO_LEN = MEMMAP_AT + GUEST_RANGES_MAX * MEMMAP_LEN,
};
#define START_MAGIC 0x336ec578U /* "xEn3", with the high bit of its E set */
_Static_assert(SI_LEN <= MODULE_AT && MODULE_AT + MODULE_LEN <= MEMMAP_AT && PC_PVH_INFO + INFO_LEN <= PC_RESET_VECTOR,
	       "they do not overlap");

struct pvh_segment {
	uint64_t off, filesz, start, end;
};
/* What the file says, checked. */
struct pvh_file {
	const struct boot_file *f;
	struct pvh_segment seg[SEGMENTS_MAX];
	unsigned n;
	uint64_t end; /* of the highest */
	uint64_t entry;
	bool has_entry;
};

/* n bytes of the file, wherever its blocks end; false: it has not got them. */
static bool fetch(const struct boot_file *f, uint64_t off, void *buf, size_t n)
{
	if (off > f->size || n > f->size - off)
		return false;
	for (size_t done = 0, part; done < n; done += part) {
		const uint8_t *p = boot_file_at(f, off + done, &part);
		part = MIN(part, n - done);
		memcpy((uint8_t *)buf + done, p, part);
	}
	return true;
}

bool pvh_is_elf(const struct boot_file *f)
{
	char magic[4];
	return fetch(f, 0, magic, sizeof(magic)) && !memcmp(magic, ELF_MAGIC, sizeof(magic));
}

static int segment_add(struct pvh_file *p, const uint8_t *ph, struct why *w)
{
	uint64_t memsz = get_le64(ph + P_MEMSZ), start = get_le64(ph + P_PADDR);
	struct pvh_segment s = { get_le64(ph + P_OFFSET), get_le64(ph + P_FILESZ), start, start + memsz };

	if (!memsz && !s.filesz)
		return 0;
	if (s.filesz > memsz)
		return why_set(w, -EINVAL, "the kernel's segment at %lx has more bytes than room: the file is damaged",
			       start);
	if (s.off > p->f->size || s.filesz > p->f->size - s.off)
		return why_set(w, -EINVAL, "the kernel's file is too short (%lu bytes): it is truncated or damaged",
			       p->f->size);
	if (start < PC_HIGH_RAM)
		return why_set(w, -EINVAL,
			       "the kernel wants to be at %lx: a PVH kernel must be linked to 1 MiB or above", start);
	if (memsz > GMEM_HOLE || start > GMEM_HOLE - memsz)
		return why_set(w, -ENOSPC, "the kernel does not fit below 3 GiB");
	for (unsigned i = 0; i < p->n; i++)
		if (s.start < p->seg[i].end && p->seg[i].start < s.end)
			return why_set(w, -EINVAL, "the kernel's segments at %lx and %lx overlap: the file is damaged",
				       p->seg[i].start, start);
	if (p->n == SEGMENTS_MAX)
		return why_set(w, -EINVAL, "the kernel has more than %u segments", SEGMENTS_MAX);
	p->seg[p->n++] = s;
	p->end = MAX(p->end, s.end);
	return 0;
}

/* Of a PT_NOTE; the first entry that is found counts. */
static int notes_read(struct pvh_file *p, const uint8_t *ph, struct why *w)
{
	uint64_t at = get_le64(ph + P_OFFSET), size = get_le64(ph + P_FILESZ);
	uint64_t align = get_le64(ph + P_ALIGN) == 8 ? 8 : 4;
	uint8_t note[NHDR_LEN], value[8] = { 0 };
	char name[sizeof(XEN_NOTE)];

	if (at > p->f->size || size > MIN(p->f->size - at, NOTES_MAX))
		return why_set(w, -EINVAL, "the kernel's ELF file has notes of %lu bytes at %lx: it is damaged", size,
			       at);
	for (uint64_t pos = 0; pos + NHDR_LEN <= size && !p->has_entry;) {
		if (!fetch(p->f, at + pos, note, sizeof(note)))
			break;
		uint64_t namesz = get_le32(note + N_NAMESZ), descsz = get_le32(note + N_DESCSZ);
		uint64_t desc = pos + ALIGN_UP(NHDR_LEN + namesz, align);
		if (get_le32(note + N_TYPE) == PHYS32_ENTRY && namesz == sizeof(name) &&
		    fetch(p->f, at + pos + NHDR_LEN, name, sizeof(name)) && !memcmp(name, XEN_NOTE, sizeof(name))) {
			if ((descsz != 4 && descsz != 8) || desc + descsz > size ||
			    !fetch(p->f, at + desc, value, descsz))
				return why_set(w, -EINVAL, "the kernel's note of its PVH entry is damaged");
			p->entry = get_le64(value);
			p->has_entry = true;
		}
		pos = desc + ALIGN_UP(descsz, align);
	}
	return 0;
}

static int headers_read(struct pvh_file *p, struct why *w)
{
	uint8_t eh[EHDR_LEN], ph[PHDR_LEN];

	if (!fetch(p->f, 0, eh, sizeof(eh)))
		return why_set(w, -EINVAL, "the kernel's file is too short (%lu bytes): it is truncated or damaged",
			       p->f->size);
	uint16_t machine =
		get_le16(eh + E_MACHINE); /* edk2's CloudHv is a 64-bit file of 32-bit code (doc/firmware.md) */
	if (eh[EI_CLASS] != ELFCLASS64 || eh[EI_DATA] != ELFDATA2LSB || (machine != EM_X86_64 && machine != EM_386))
		return why_set(w, -EINVAL, "the kernel is an ELF file, but none for x86-64");
	unsigned n = get_le16(eh + E_PHNUM);
	if (get_le16(eh + E_PHENTSIZE) != PHDR_LEN || n > HEADERS_MAX)
		return why_set(w, -EINVAL, "the kernel's ELF file has %u program headers of %u bytes: it is damaged", n,
			       get_le16(eh + E_PHENTSIZE));
	for (unsigned i = 0; i < n; i++) {
		uint64_t at = get_le64(eh + E_PHOFF);
		if (at > p->f->size || !fetch(p->f, at + i * PHDR_LEN, ph, sizeof(ph)))
			return why_set(w, -EINVAL,
				       "the kernel's file is too short (%lu bytes): it is truncated or damaged",
				       p->f->size);
		uint32_t type = get_le32(ph + P_TYPE);
		int err = type == PT_LOAD ? segment_add(p, ph, w) : type == PT_NOTE ? notes_read(p, ph, w) : 0;
		if (err)
			return err;
	}
	if (!p->has_entry)
		return why_set(w, -EINVAL,
			       "the kernel is an ELF file without a PVH entry (a note of Xen's, PHYS32_ENTRY): give a "
			       "bzImage, which is called vmlinuz, or firmware that is made for PVH");
	for (unsigned i = 0; i < p->n; i++)
		if (p->entry >= p->seg[i].start && p->entry < p->seg[i].end)
			return 0;
	return why_set(w, -EINVAL, "the kernel's PVH entry %lx lies in none of its segments: the file is damaged",
		       p->entry);
}

/* The initrd goes to the top of the RAM below 3 GiB; without one, *initrd is 0. */
static int place(const struct gmem *g, const struct pvh_file *p, uint64_t initrd_size, gpa_t *initrd, struct why *w)
{
	const char *with = initrd_size ? " with its initrd" : "";
	uint64_t need = ALIGN_UP(p->end, PAGE_SIZE);

	if (initrd_size > GMEM_HOLE - need)
		return why_set(w, -ENOSPC, "the kernel%s does not fit below 3 GiB", with);
	need += ALIGN_UP(initrd_size, PAGE_SIZE);
	if (need > g->low)
		return why_set(w, -ENOSPC, "the kernel%s starts with mem = %luM at least, and this VM has %luM", with,
			       ALIGN_UP(need, GMEM_BLOCK) >> 20, g->low >> 20);
	*initrd = initrd_size ? ALIGN_DOWN(g->low - initrd_size, PAGE_SIZE) : 0;
	return 0;
}

/* ---- what is written ---- */

/* Zeroes behind what the file has: at a reset there is what the guest left. */
static int segment_put(struct gmem *g, const struct boot_file *f, const struct pvh_segment *s)
{
	static const uint8_t zero[PAGE_SIZE];
	int err = guest_image_put(g, s->start, f, s->off, s->filesz);

	for (uint64_t at = s->start + s->filesz, n; at < s->end && !err; at += n) {
		n = MIN(s->end - at, sizeof(zero));
		err = gmem_write(g, at, zero, n);
	}
	return err;
}

static int write_start_info(struct gmem *g, const struct guest_image *img, gpa_t initrd)
{
	uint8_t b[INFO_LEN] = { 0 };
	struct guest_range r[GUEST_RANGES_MAX];
	unsigned n = guest_image_ranges(g, r);

	put_le32(b + SI_MAGIC, START_MAGIC);
	put_le32(b + SI_VERSION, 1);
	put_le64(b + SI_CMDLINE, PC_CMDLINE);
	put_le64(b + SI_RSDP, img->rsdp);
	put_le64(b + SI_MEMMAP, PC_PVH_INFO + MEMMAP_AT);
	put_le32(b + SI_RANGES, n);
	for (unsigned i = 0; i < n; i++) {
		uint8_t *e = b + MEMMAP_AT + i * MEMMAP_LEN;
		put_le64(e, r[i].start);
		put_le64(e + 8, r[i].end - r[i].start);
		put_le32(e + 16, r[i].type);
	}
	if (initrd) {
		put_le32(b + SI_MODULES, 1);
		put_le64(b + SI_MODLIST, PC_PVH_INFO + MODULE_AT);
		put_le64(b + MODULE_AT, initrd);
		put_le64(b + MODULE_AT + 8, img->initrd->size);
	}
	return gmem_write(g, PC_PVH_INFO, b, sizeof(b));
}

/* The ABI leaves the selectors open, and everything that is not set here. */
static void boot_state(struct cpu_state *s, uint64_t entry)
{
	static const struct seg_state code = { 0, 0xffffffff, AR_CODE32, 0x08 },
				      data = { 0, 0xffffffff, AR_DATA, 0x10 };
	startup_power_on(s);
	s->rip = entry;
	s->gpr[REG_RBX] = PC_PVH_INFO;
	s->cr0 = CR0_PE | CR0_ET;
	for (unsigned i = 0; i < SEG_LDTR; i++)
		s->seg[i] = data;
	s->seg[SEG_CS] = code;
	s->seg[SEG_LDTR] = (struct seg_state){ 0, 0, AR_UNUSABLE, 0 };
	s->seg[SEG_TR].limit = 0x67;
}

int pvh_load(struct gmem *g, const struct guest_image *img, struct cpu_state *boot, struct why *w)
{
	struct pvh_file p = { .f = img->kernel };
	gpa_t initrd = 0;
	uint64_t initrd_size = img->initrd ? img->initrd->size : 0;
	size_t cmdline_len = strlen(img->cmdline);

	int err;
	if ((err = headers_read(&p, w)) || (err = place(g, &p, initrd_size, &initrd, w)))
		return err;
	if (cmdline_len >= PC_CMDLINE_MAX)
		return why_set(w, -EINVAL, "the command line has %lu characters, and there is room for %u", cmdline_len,
			       PC_CMDLINE_MAX - 1);
	for (unsigned i = 0; i < p.n && !err; i++)
		err = segment_put(g, img->kernel, &p.seg[i]);
	if (err || (initrd_size && (err = guest_image_put(g, initrd, img->initrd, 0, initrd_size))) ||
	    (err = gmem_write(g, PC_CMDLINE, img->cmdline, cmdline_len + 1)) ||
	    (err = write_start_info(g, img, initrd)) || (err = guest_image_put_reset(g)))
		return why_set(w, err, "the guest's memory (%lu MiB) is too small to load a kernel", g->low >> 20);
	boot_state(boot, p.entry);
	return 0;
}

/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * ELF files for PVH made here, one like Linux' vmlinux and one like edk2's firmware: loaded and found again in guest
 * memory by what the boot CPU is given; then cut and bent, and never the host's harm.
 */
#include "kernel/host.h"
#include "tests/unit/fake_file.h"
#include "tests/unit/fake_kernel.h"
#include "tests/unit/gmem_dirt.h"
#include "vmm/pc/pc.h"
#include "vmm/pc/pvh_loader.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#define NOTES     0x200
#define FILE_SIZE 0x14000U /* beyond a block of a boot file */
#define INITRD    0x12345U

struct host_info host_info;
static struct gmem g;
static uint8_t elf[FILE_SIZE], initrd[INITRD];
static struct boot_file *elf_file, *initrd_file;
static struct cpu_state s;

static uint8_t *phdr(unsigned i) { return elf + 64 + 56 * i; }

static void segment(unsigned i, uint32_t type, uint64_t off, uint64_t paddr, uint64_t filesz, uint64_t memsz)
{
	uint8_t *p = phdr(i);
	put_le32(p, type);
	put_le64(p + 8, off);
	put_le64(p + 16, 0xffffffff80000000 + paddr);
	put_le64(p + 24, paddr);
	put_le64(p + 32, filesz);
	put_le64(p + 40, memsz);
	put_le64(p + 48, 4);
}

static uint8_t *note(uint8_t *p, const char *name, uint32_t type, uint32_t descsz, uint64_t desc)
{
	uint8_t value[8];
	put_le64(value, desc);
	put_le32(p, (uint32_t)strlen(name) + 1);
	put_le32(p + 4, descsz);
	put_le32(p + 8, type);
	strcpy((char *)p + 12, name);
	p += 12 + ALIGN_UP(strlen(name) + 1, 4);
	memcpy(p, value, MIN(descsz, 8U));
	return p + ALIGN_UP(descsz, 4);
}

/* As vmlinux is: several segments, the notes inside the first, the value in 64 bits. */
static void make_elf(void)
{
	static const uint8_t ident[] = { 0x7f, 'E', 'L', 'F', 2, 1, 1 };
	for (unsigned i = 0; i < FILE_SIZE; i++)
		elf[i] = (uint8_t)(i * 7 + i / 256);
	memset(elf, 0, 0x400);
	memcpy(elf, ident, sizeof(ident));
	put_le16(elf + 16, 2);
	put_le16(elf + 18, 62);
	put_le64(elf + 24, 0x1000000); /* its own entry */
	put_le64(elf + 32, 64);
	put_le16(elf + 54, 56);
	put_le16(elf + 56, 5);
	segment(0, 1, 0, 0x1000000, 0x6000, 0x6000);
	segment(1, 1, 0x6000, 0x1200000, 0x3000, 0x3000);
	segment(2, 1, 0x9000, 0x1400000, 0xa001, 0x20000); /* with a .bss */
	segment(3, 4, NOTES, 0x1000000 + NOTES, 0x64, 0x64);
	segment(4, 0x6474e551, 0, 0, ~0UL, ~0UL); /* GNU_STACK, or whatever: not looked at */
	uint8_t *p = note(elf + NOTES, "Linux", 0x101, 5, 0x1234567890);
	p = note(p, "Xen", 6, 6, 0x78756e696c);
	p = note(p, "Xfn", 18, 8, 0x1300000);
	note(p, "Xen", 18, 8, 0x1000850);
	for (unsigned i = 0; i < INITRD; i++)
		initrd[i] = (uint8_t)(i * 13 + 5);
	elf_file->size = FILE_SIZE;
}

static int setup(void **state unused)
{
	elf_file = fake_file(elf, FILE_SIZE);
	initrd_file = fake_file(initrd, INITRD);
	make_elf();
	return gmem_init(&g, MIB(32), &pt_format_npt, NULL);
}
static int teardown(void **state unused)
{
	gmem_fini(&g);
	free(elf_file);
	free(initrd_file);
	return 0;
}

static int load(struct why *w)
{
	struct guest_image img = { elf_file, initrd_file, "console=ttyS0", 0xe0000 };
	memset(&s, 0xee, sizeof(s));
	return pvh_load(&g, &img, &s, w);
}

static uint8_t *at(gpa_t gpa, size_t len)
{
	uint8_t *p = gmem_ptr(&g, gpa, len);
	assert_non_null(p);
	return p;
}

static void flat(unsigned seg, uint32_t attr)
{
	assert_true(s.seg[seg].base == 0 && s.seg[seg].limit == 0xffffffff && s.seg[seg].attr == attr);
}

static void test_load(void **state unused)
{
	struct why w = { "" };
	static uint8_t zero[0x20000 - 0xa001];

	memset(at(0x1400000, 0x20000), 0xaa, 0x20000); /* of the guest's life before a reset */
	assert_true(pvh_is_elf(elf_file) && !pvh_is_elf(initrd_file));
	assert_int_equal(load(&w), 0);
	assert_memory_equal(at(0x1000000, 0x6000), elf, 0x6000);
	assert_memory_equal(at(0x1200000, 0x3000), elf + 0x6000, 0x3000);
	assert_memory_equal(at(0x1400000, 0xa001), elf + 0x9000, 0xa001);
	assert_memory_equal(at(0x140a001, sizeof(zero)), zero, sizeof(zero));

	/* What the ABI says of the CPU. */
	assert_int_equal(s.rip, 0x1000850);
	assert_true(s.cr0 == 0x11 && !s.cr4 && !s.cr3 && !s.efer && s.rflags == 2 && s.xcr0 == 1);
	flat(SEG_CS, 0xc09b);
	flat(SEG_DS, 0xc093);
	flat(SEG_ES, 0xc093);
	flat(SEG_SS, 0xc093);
	assert_true(s.seg[SEG_TR].base == 0 && s.seg[SEG_TR].limit == 0x67 && s.seg[SEG_TR].attr == 0x8b);
	assert_true(!s.event && !s.int_shadow && !s.halted && !s.gpr[REG_RSP]);

	const uint8_t *si = at(s.gpr[REG_RBX], 56);
	assert_true(get_le32(si) == 0x336ec578 && get_le32(si + 4) == 1 && get_le32(si + 8) == 0);
	assert_int_equal(get_le64(si + 32), 0xe0000);
	assert_string_equal((char *)at(get_le64(si + 24), 64), "console=ttyS0");
	assert_int_equal(get_le32(si + 12), 1);
	const uint8_t *mod = at(get_le64(si + 16), 32);
	gpa_t rd = get_le64(mod);
	assert_true(rd % 4096 == 0 && rd + INITRD <= MIB(32) && rd + INITRD > MIB(32) - 4096);
	assert_true(get_le64(mod + 8) == INITRD && !get_le64(mod + 16) && !get_le64(mod + 24));
	for (unsigned i = 0; i < INITRD; i++)
		assert_int_equal(*at(rd + i, 1), initrd[i]);
	static const uint8_t out_602[] = { 0xba, 0x02, 0x06, 0xb0, 0x01, 0xee };
	assert_memory_equal(at(0xffff0, 16), out_602, sizeof(out_602));
	assert_true(is_dirty(&g, 0x1000000 >> 12) && is_dirty(&g, 0x1413000 >> 12) && is_dirty(&g, rd >> 12) &&
		    is_dirty(&g, s.gpr[REG_RBX] >> 12));
}

static void check_map(const struct gmem *m, const uint64_t want[][3], unsigned n)
{
	struct guest_image img = { elf_file, NULL, "", 0xe0000 };
	struct gmem like = g;
	like.high = m->high;
	assert_int_equal(pvh_load(&like, &img, &s, NULL), 0);
	const uint8_t *si = at(s.gpr[REG_RBX], 56), *e = at(get_le64(si + 40), 24 * n);
	assert_true(get_le32(si + 48) == n && get_le32(si + 12) == 0 && get_le64(si + 16) == 0);
	for (unsigned i = 0; i < n; i++, e += 24)
		assert_true(get_le64(e) == want[i][0] && get_le64(e + 8) == want[i][1] - want[i][0] &&
			    get_le32(e + 16) == want[i][2] && get_le32(e + 20) == 0);
}

static void test_memory_map(void **state unused)
{
	static const uint64_t want[][3] = { { 0, 0xa0000, 1 },
					    { 0xa0000, MIB(1), 2 },
					    { MIB(1), MIB(32), 1 },
					    { 0xe0000000, 0xe0100000, 2 },
					    { GIB(4), GIB(9), 1 } };
	struct gmem big = { .high = GIB(5) };
	check_map(&g, want, 4);
	check_map(&big, want, 5);
}

/* The header of edk2's CLOUDHV.fd: 64 bits, and yet i386; one segment that is the whole file, and a note of 32 bits. */
static void test_firmware(void **state unused)
{
	put_le16(elf + 18, 3);
	put_le16(elf + 56, 2);
	segment(0, 1, 0, 0x100000, FILE_SIZE, FILE_SIZE);
	segment(1, 4, 0xb0, 0x1000b0, 0x14, 0x14);
	memset(elf + 0xb0, 0, 0x100);
	note(elf + 0xb0, "Xen", 18, 4, 0x10ffd0);
	assert_int_equal(load(NULL), 0);
	assert_int_equal(s.rip, 0x10ffd0);
	for (unsigned i = 0; i < FILE_SIZE; i++)
		assert_int_equal(*at(0x100000 + i, 1), elf[i]);
}

static void refused(const char *word, int want)
{
	struct why w = { "" };
	int err = load(&w);
	if (err != want || !strstr(w.text, word))
		fail_msg("%d (want %d): %s (want %s)", err, want, w.text, word);
	make_elf();
}

static void test_refused_files(void **state unused)
{
	elf[4] = 1;
	refused("none for x86-64", -EINVAL);
	elf[5] = 2;
	refused("none for x86-64", -EINVAL);
	put_le16(elf + 18, 183);
	refused("none for x86-64", -EINVAL);
	put_le16(elf + 54, 32);
	refused("5 program headers of 32 bytes: it is damaged", -EINVAL);
	put_le16(elf + 56, 65);
	refused("65 program headers", -EINVAL);
	put_le64(elf + 32, FILE_SIZE - 200);
	refused("truncated", -EINVAL);
	put_le64(elf + 32, ~0UL - 56);
	refused("truncated", -EINVAL);
	put_le32(phdr(3), 0);
	refused("without a PVH entry", -EINVAL);
	put_le64(phdr(3) + 32, 0x50); /* the notes end before it */
	refused("without a PVH entry", -EINVAL);
	put_le64(phdr(3) + 32, 0x63); /* or inside its value */
	refused("note of its PVH entry is damaged", -EINVAL);
	put_le64(phdr(3) + 8, FILE_SIZE + 1);
	refused("notes of 100 bytes at 14001: it is damaged", -EINVAL);
	put_le64(phdr(3) + 8, ~0UL - 8);
	refused("damaged", -EINVAL);
	put_le64(phdr(3) + 32, 0x10001);
	refused("damaged", -EINVAL);
	put_le64(elf + NOTES, ~0UL); /* lengths of the first note */
	refused("without a PVH entry", -EINVAL);
	elf[NOTES + 0x50] = 3; /* and of the one that counts */
	refused("note of its PVH entry is damaged", -EINVAL);
	put_le64(elf + NOTES + 0x5c, 0x1006000);
	refused("1006000 lies in none of its segments", -EINVAL);
	put_le64(elf + NOTES + 0x5c, 0x101000850);
	refused("101000850 lies in none", -EINVAL);
	put_le16(elf + 56, 0);
	refused("without a PVH entry", -EINVAL);
}

static void test_refused_segments(void **state unused)
{
	put_le64(phdr(1) + 24, 0xff000);
	refused("the kernel wants to be at ff000: a PVH kernel must be linked to 1 MiB or above", -EINVAL);
	put_le64(phdr(1) + 24, 0x1005fff);
	refused("segments at 1000000 and 1005fff overlap", -EINVAL);
	put_le64(phdr(1) + 24, 0x1400000 - 0x2fff);
	refused("segments at 13fd001 and 1400000 overlap", -EINVAL);
	put_le64(phdr(1) + 40, 0x2fff);
	refused("more bytes than room", -EINVAL);
	put_le64(phdr(2) + 8, FILE_SIZE - 0xa000);
	refused("truncated", -EINVAL);
	put_le64(phdr(2) + 8, ~0UL);
	refused("truncated", -EINVAL);
	put_le64(phdr(2) + 24, GIB(3) - 0x10000);
	refused("does not fit below 3 GiB", -ENOSPC);
	put_le64(phdr(2) + 24, ~0UL - 0xfff);
	refused("does not fit below 3 GiB", -ENOSPC);
	put_le64(phdr(2) + 40, ~0UL);
	refused("does not fit below 3 GiB", -ENOSPC);
	put_le64(phdr(2) + 40, MIB(12));
	refused("the kernel with its initrd starts with mem = 34M at least, and this VM has 32M", -ENOSPC);
	put_le64(phdr(2) + 40, MIB(12) - ALIGN_UP(INITRD, PAGE_SIZE)); /* it fits exactly */
	assert_int_equal(load(NULL), 0);
	put_le64(phdr(2) + 40, MIB(12) - ALIGN_UP(INITRD, PAGE_SIZE) + 1);
	refused("34M", -ENOSPC);
	put_le16(elf + 56, 18);
	for (unsigned i = 5; i < 18; i++)
		segment(i, 1, 0, 0x1600000 + 0x1000 * i, 0, 16);
	segment(3, 1, 0, 0x1600000, 0, 16);
	refused("more than 16 segments", -EINVAL);
	segment(1, 1, 0, 0, 0, 0); /* an empty one is nowhere */
	assert_int_equal(load(NULL), 0);
	make_elf();
	initrd_file->size = GIB(3);
	refused("the kernel with its initrd does not fit below 3 GiB", -ENOSPC);
	initrd_file->size = ~0UL;
	refused("the kernel with its initrd does not fit below 3 GiB", -ENOSPC);
}

static void test_command_line(void **state unused)
{
	static char line[PC_CMDLINE_MAX + 1];
	struct guest_image img = { elf_file, NULL, line, 0 };
	memset(line, 'x', PC_CMDLINE_MAX);
	assert_int_equal(pvh_load(&g, &img, &s, NULL), -EINVAL);
	line[PC_CMDLINE_MAX - 1] = 0;
	assert_int_equal(pvh_load(&g, &img, &s, NULL), 0);
}

static void test_truncations(void **state unused)
{
	for (size_t n = 1; n < FILE_SIZE; n += n < 0x400 ? 1 : 97) {
		uint8_t *cut = malloc(n); /* so that reading beyond is seen */
		memcpy(cut, elf, n);
		struct boot_file *f = fake_file(cut, n);
		struct guest_image img = { f, NULL, "", 0 };
		struct why w = { "" };
		assert_true(pvh_is_elf(f) == (n >= 4));
		if (n < 0x9000 + 0xa001)
			assert_true(pvh_load(&g, &img, &s, &w) == -EINVAL && w.text[0]);
		free(f);
		free(cut);
	}
}

static void test_bit_flips(void **state unused)
{
	unsigned ok = 0;
	for (unsigned bit = 0; bit < (NOTES + 0x64) * 8; bit++) {
		struct why w = { "" };
		elf[bit / 8] ^= (uint8_t)(1 << bit % 8);
		if (!load(&w)) {
			ok++;
			assert_true(s.rip >= MIB(1) && s.rip < MIB(32));
		} else {
			assert_true(w.text[0]);
		}
		elf[bit / 8] ^= (uint8_t)(1 << bit % 8);
	}
	assert_true(ok > 100);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
	const struct CMUnitTest tests[] = {
		T(test_load),          T(test_memory_map),       T(test_firmware),
		T(test_refused_files), T(test_refused_segments), T(test_command_line),
		T(test_truncations),   T(test_bit_flips),
	};
	return cmocka_run_group_tests_name("pvh", tests, NULL, NULL);
}

/* SPDX-License-Identifier: BSD-2-Clause */
/* A bzImage made here is loaded and found again in guest memory; then it is cut and bent, and never harms the host. */
#include "kernel/host.h"
#include "tests/unit/fake_file.h"
#include "tests/unit/fake_kernel.h"
#include "tests/unit/gmem_dirt.h"
#include "vmm/pc/linux_loader.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#define SETUP_SECTS 3
#define PAYLOAD     0x5000U
#define KERNEL_SIZE ((SETUP_SECTS + 1) * 512 + PAYLOAD)
#define INITRD_SIZE 0x12345U

struct host_info host_info;
static struct gmem g;
static uint8_t kernel[KERNEL_SIZE], initrd[INITRD_SIZE];
static struct boot_file *kernel_file, *initrd_file;

static void make_kernel(void)
{
	for (unsigned i = 0; i < KERNEL_SIZE; i++)
		kernel[i] = (uint8_t)(i * 7 + i / 256);
	memset(kernel + 0x1f1, 0, 0x300 - 0x1f1);
	kernel[0x1f1] = SETUP_SECTS;
	put_le32(kernel + 0x1f4, PAYLOAD / 16);
	put_le16(kernel + 0x1fe, 0xaa55);
	kernel[0x200] = 0xeb;
	kernel[0x201] = 0x6a;
	memcpy(kernel + 0x202, "HdrS", 4);
	put_le16(kernel + 0x206, 0x020f);
	kernel[0x211] = 1;
	put_le32(kernel + 0x22c, 0x7fffffff); /* initrd_addr_max */
	kernel[0x234] = 1;                    /* relocatable */
	put_le16(kernel + 0x236, 1);
	put_le32(kernel + 0x238, 2047);
	put_le64(kernel + 0x258, 0x1000000);
	put_le32(kernel + 0x260, 0x800000); /* init_size */
	for (unsigned i = 0; i < INITRD_SIZE; i++)
		initrd[i] = (uint8_t)(i * 13 + 5);
}

static int setup(void **state)
{
	(void)state;
	make_kernel();
	kernel_file = fake_file(kernel, KERNEL_SIZE);
	initrd_file = fake_file(initrd, INITRD_SIZE);
	return gmem_init(&g, MIB(32), &pt_format_npt, NULL);
}
static int teardown(void **state)
{
	(void)state;
	gmem_fini(&g);
	free(kernel_file);
	free(initrd_file);
	return 0;
}

static int load(struct cpu_state *s, struct why *w)
{
	struct guest_image img = { kernel_file, initrd_file, "console=ttyS0 root=/dev/ram", 0xe0000 };
	return linux_load(&g, &img, s, w);
}

static uint8_t *at(gpa_t gpa, size_t len)
{
	uint8_t *p = gmem_ptr(&g, gpa, len);
	assert_non_null(p);
	return p;
}

/* The guest's page tables, walked as hardware does. */
static uint64_t walk(uint64_t cr3, uint64_t va)
{
	uint64_t e = cr3;
	for (unsigned shift = 39;; shift -= 9) {
		e = get_le64(at((e & 0xffffffffff000) + (va >> shift & 511) * 8, 8));
		assert_int_equal(e & 3, 3);
		if (shift == 21) {
			assert_true(e & 0x80);
			return (e & 0xfffffffe00000) | (va & 0x1fffff);
		}
	}
}

static void test_load(void **state)
{
	static struct cpu_state s;
	struct why w = { "" };
	(void)state;

	memset(&s, 0xee, sizeof(s));
	assert_int_equal(load(&s, &w), 0);
	assert_int_equal(s.rip, 0x1000200);
	assert_memory_equal(at(0x1000000, PAYLOAD), kernel + (SETUP_SECTS + 1) * 512, PAYLOAD);
	const uint8_t *bp = at(s.gpr[REG_RSI], 4096);
	assert_memory_equal(bp + 0x202, "HdrS", 4);
	assert_int_equal(bp[0x210], 0xff);
	assert_int_equal(bp[0x1ef], 0); /* the sentinel */
	assert_int_equal(get_le64(bp + 0x70), 0xe0000);
	gpa_t rd = get_le32(bp + 0x218);
	assert_int_equal(get_le32(bp + 0x21c), INITRD_SIZE);
	assert_true(rd % 4096 == 0 && rd >= 0x1800000 && rd + INITRD_SIZE <= MIB(32) &&
		    rd + INITRD_SIZE > MIB(32) - 4096);
	for (unsigned i = 0; i < INITRD_SIZE; i++)
		assert_int_equal(*at(rd + i, 1), initrd[i]);
	assert_string_equal((char *)at(get_le32(bp + 0x228), 64), "console=ttyS0 root=/dev/ram");

	/* E820: ordered, RAM where RAM is, the ACPI area reserved, ECAM reserved. */
	unsigned n = bp[0x1e8];
	uint64_t ram = 0, prev = 0;
	assert_int_equal(n, 4);
	for (unsigned i = 0; i < n; i++) {
		const uint8_t *e = bp + 0x2d0 + 20 * i;
		uint64_t start = get_le64(e), len = get_le64(e + 8);
		assert_true(start >= prev && len);
		prev = start + len;
		if (get_le32(e + 16) == 1) {
			ram += len;
			assert_true(prev <= MIB(32));
		} else {
			assert_true(start == 0xa0000 || start == 0xe0000000);
		}
	}
	assert_int_equal(ram, MIB(32) - 0x60000);

	static const uint8_t out_602[] = { 0xba, 0x02, 0x06, 0xb0, 0x01, 0xee }; /* the reset vector resets */
	assert_memory_equal(at(0xffff0, 16), out_602, sizeof(out_602));

	for (uint64_t va = 0; va < GIB(4); va += MIB(2) + 0x1234)
		assert_int_equal(walk(s.cr3, va), va);
	assert_true(s.cr0 == 0x80010031 && s.cr4 == 0x20 && s.efer == 0x500 && s.rflags == 2 && s.xcr0 == 1);
	assert_true(s.seg[SEG_CS].selector == 0x10 && s.seg[SEG_CS].attr == 0xa09b && s.seg[SEG_DS].selector == 0x18);
	assert_int_equal(get_le64(at(s.gdt_base, s.gdt_limit + 1U) + 0x10), 0x00af9b000000ffff);
	assert_true(!s.event && !s.int_shadow && !s.halted && !s.cr2 && !s.gpr[REG_RSP]);
	/* All that was written is in the dirty set: a migration that starts now misses nothing. */
	assert_true(is_dirty(&g, 0x1000000 >> 12) && is_dirty(&g, rd >> 12) && is_dirty(&g, s.cr3 >> 12) &&
		    is_dirty(&g, s.gpr[REG_RSI] >> 12));
}

static void test_high_memory(void **state)
{
	static struct cpu_state s;
	struct guest_image img = { kernel_file, NULL, "", 0xe0000 };
	struct gmem big = g;
	(void)state;

	big.high = GIB(5); /* only its map is looked at */
	assert_int_equal(linux_load(&big, &img, &s, NULL), 0);
	const uint8_t *bp = at(s.gpr[REG_RSI], 4096), *e = bp + 0x2d0 + 20 * 4;
	assert_int_equal(bp[0x1e8], 5);
	assert_true(get_le64(e) == GIB(4) && get_le64(e + 8) == GIB(5) && get_le32(e + 16) == 1);
	assert_int_equal(get_le32(bp + 0x218) | get_le32(bp + 0x21c), 0);
}

static void refused(const char *word, int want)
{
	static struct cpu_state s;
	struct why w = { "" };
	int err = load(&s, &w);
	if (err != want || !strstr(w.text, word))
		fail_msg("%d (want %d): %s (want %s)", err, want, w.text, word);
	make_kernel();
}

static void test_refusals(void **state)
{
	static struct cpu_state s;
	struct why w = { "" };
	char line[3000];
	(void)state;

	kernel[0x202] = 'h';
	refused("neither a Linux bzImage nor an ELF file", -EINVAL);
	put_le16(kernel + 0x206, 0x020b);
	refused("2.11", -EINVAL);
	put_le16(kernel + 0x236, 0);
	refused("64-bit", -EINVAL);
	kernel[0x211] = 0;
	refused("64-bit", -EINVAL);
	kernel[0x201] = 0x20;
	refused("damaged", -EINVAL);
	kernel[0x201] = 0xff;
	refused("damaged", -EINVAL);
	put_le32(kernel + 0x1f4, PAYLOAD / 16 + 1);
	refused("truncated", -EINVAL);
	put_le32(kernel + 0x1f4, 0xffffffff);
	refused("truncated", -EINVAL);
	kernel[0x1f1] = 0xff;
	refused("truncated", -EINVAL);
	put_le64(kernel + 0x258, 0x1000001);
	refused("damaged", -EINVAL);
	put_le64(kernel + 0x258, 0x7000);
	refused("damaged", -EINVAL);
	put_le32(kernel + 0x260, MIB(40));
	refused("the kernel with its initrd starts with mem = 58M at least, and this VM has 32M", -ENOSPC);
	put_le64(kernel + 0x258, ~0xfffULL);
	refused("does not fit below 3 GiB", -ENOSPC);
	put_le32(kernel + 0x22c, 0x17fffff); /* an initrd would lie in the kernel */
	refused("wants its initrd below 1800000", -ENOSPC);

	/* There is room for it lower down, but it moves itself to its preferred address. */
	put_le32(kernel + 0x260, MIB(17));
	refused("the kernel with its initrd starts with mem = 34M at least, and this VM has 32M", -ENOSPC);
	put_le32(kernel + 0x260, MIB(16) - ALIGN_UP(INITRD_SIZE, PAGE_SIZE)); /* it fits exactly */
	assert_int_equal(load(&s, &w), 0);
	assert_int_equal(s.rip, 0x1000200);
	put_le32(kernel + 0x260, MIB(16) - ALIGN_UP(INITRD_SIZE, PAGE_SIZE) + 1);
	assert_int_equal(load(&s, NULL), -ENOSPC);
	make_kernel();

	memset(line, 'x', sizeof(line));
	line[2048] = 0;
	struct guest_image img = { kernel_file, initrd_file, line, 0 };
	assert_int_equal(linux_load(&g, &img, &s, &w), -EINVAL);
	line[2047] = 0;
	assert_int_equal(linux_load(&g, &img, &s, NULL), 0);
	initrd_file->size = MIB(16);
	w.text[0] = 0;
	assert_int_equal(linux_load(&g, &img, &s, &w), -ENOSPC);
	initrd_file->size = ~0ULL;
	assert_int_equal(linux_load(&g, &img, &s, NULL), -ENOSPC);
}

static void test_truncations(void **state)
{
	static struct cpu_state s;
	(void)state;

	for (size_t n = 1; n < KERNEL_SIZE; n += n < 0x400 ? 1 : 97) {
		uint8_t *cut = malloc(n); /* so that reading beyond is seen */
		memcpy(cut, kernel, n);
		struct boot_file *f = fake_file(cut, n);
		struct guest_image img = { f, NULL, "", 0 };
		assert_int_not_equal(linux_load(&g, &img, &s, NULL), 0);
		free(f);
		free(cut);
	}
}

static void test_bit_flips(void **state)
{
	static struct cpu_state s;
	unsigned ok = 0;
	(void)state;

	for (unsigned bit = 0x1f1 * 8; bit < 0x26c * 8; bit++) {
		kernel[bit / 8] ^= (uint8_t)(1 << bit % 8);
		if (!load(&s, NULL)) {
			ok++;
			assert_true(s.rip - 0x200 >= MIB(1) && s.rip < MIB(32));
			gpa_t rd = get_le32(at(s.gpr[REG_RSI], 4096) + 0x218);
			assert_true(rd >= s.rip && rd + INITRD_SIZE <= MIB(32));
		}
		kernel[bit / 8] ^= (uint8_t)(1 << bit % 8);
	}
	assert_true(ok > 100);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
	const struct CMUnitTest tests[] = {
		T(test_load), T(test_high_memory), T(test_refusals), T(test_truncations), T(test_bit_flips),
	};
	return cmocka_run_group_tests_name("loader", tests, NULL, NULL);
}

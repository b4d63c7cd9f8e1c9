/* SPDX-License-Identifier: BSD-2-Clause */
/* Any bytes as an ELF file for PVH: loaded within the guest's memory, or refused with a reason. */
#include "kernel/host.h"
#include "tests/unit/fake_file.h"
#include "vmm/pc/pvh_loader.h"
#include <stdlib.h>
#include <string.h>

struct host_info host_info;
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct gmem g;
	static struct cpu_state s;
	static uint8_t initrd[5000], kernel[8192];
	static struct boot_file *file, *initrd_file;
	struct why w = { "" };

	if (!g.size && gmem_init(&g, MIB(8), &pt_format_npt, NULL))
		abort();
	if (size > sizeof(kernel))
		size = sizeof(kernel);
	if (!size)
		return 0;
	if (!file) {
		file = fake_file(kernel, sizeof(kernel));
		initrd_file = fake_file(initrd, sizeof(initrd));
	}
	file->size = size;
	memcpy(kernel, data, size);
	if (size >= 0x200) { /* what a fuzzer would take long to guess */
		static const uint8_t head[] = { 0x7f, 'E', 'L', 'F', 2, 1 };
		memcpy(kernel, head, sizeof(head));
		put_le16(kernel + 18, 62);
		put_le64(kernel + 32, 64);
		put_le16(kernel + 54, 56);
		put_le16(kernel + 56, kernel[56] & 3);
		kernel[64] &= 5;
		kernel[120] &= 5;
		memcpy(kernel + 0x1fc, "Xen", 4);
	}
	struct guest_image img = { file, size & 1 ? initrd_file : NULL, "x", 0xe0000 };
	if (!pvh_load(&g, &img, &s, &w)) {
		if (s.rip < MIB(1) || s.rip >= g.low || !gmem_ptr(&g, s.gpr[REG_RBX], 56))
			abort();
	} else if (!w.text[0]) {
		abort();
	}
	return 0;
}

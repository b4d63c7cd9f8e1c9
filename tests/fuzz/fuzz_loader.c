/* SPDX-License-Identifier: BSD-2-Clause */
/* Any bytes as a kernel and its initrd: loaded within the guest's memory, or refused with a reason. */
#include "kernel/host.h"
#include "tests/unit/fake_file.h"
#include "vmm/pc/linux_loader.h"
#include <stdlib.h>
#include <string.h>

struct host_info host_info;
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct gmem g;
	static struct cpu_state s;
	static uint8_t initrd[5000];
	static struct boot_file *file, *initrd_file;
	static uint8_t kernel[8192];
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
	if (size >= 0x264) { /* what a fuzzer would take long to guess */
		put_le16(kernel + 0x1fe, 0xaa55);
		memcpy(kernel + 0x202, "HdrS", 4);
		kernel[0x207] |= 2;
		kernel[0x211] |= 1;
		kernel[0x236] |= 1;
	}
	struct guest_image img = { file, size & 1 ? initrd_file : NULL, "x", 0xe0000 };
	if (!linux_load(&g, &img, &s, &w)) {
		if (s.rip < MIB(1) || s.rip >= g.low || !gmem_ptr(&g, s.gpr[REG_RSI], PAGE_SIZE))
			abort();
	} else if (!w.text[0]) {
		abort();
	}
	return 0;
}

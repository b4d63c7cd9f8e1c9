/* SPDX-License-Identifier: BSD-2-Clause */
/* Any bytes as a kernel and its initrd: loaded within the guest's memory, or refused with a reason. */
#include "tests/fuzz/kernel_file.h"
#include "vmm/pc/linux_loader.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct cpu_state s;
	struct why w = { "" };

	if (!kernel_file(data, size))
		return 0;
	size = img.kernel->size;
	if (size >= 0x264) { /* what a fuzzer would take long to guess */
		put_le16(kernel + 0x1fe, 0xaa55);
		memcpy(kernel + 0x202, "HdrS", 4);
		kernel[0x207] |= 2;
		kernel[0x211] |= 1;
		kernel[0x236] |= 1;
	}
	if (!linux_load(&g, &img, &s, &w)) {
		if (s.rip < MIB(1) || s.rip >= g.low || !gmem_ptr(&g, s.gpr[REG_RSI], PAGE_SIZE))
			abort();
	} else if (!w.text[0]) {
		abort();
	}
	return 0;
}

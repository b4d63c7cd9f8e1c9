/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A disk's file on the boot volume is any bytes, raw or said to be compressed, and memory may run out: the loader
 * makes an image of it, of which what is in memory is not zero, or says why not and has every page back.
 */
#include "boot/image.h"
#include "kernel/base/err.h"
#include "kernel/base/zero.h"
#include "tests/unit/fake_firmware.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* The first byte: compressed, how much is read at once, and how often there is memory. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const struct image_ops ops = { fake_take, fake_give, fake_read };
	struct fake_reader r = { .data = data + 1, .size = size - 1 };
	struct image im = { 0 };

	if (!size)
		return 0;
	r.most = data[0] & 2 ? 13 : 0;
	fake_memory.left = data[0] & 4 ? data[0] >> 3 & 7 : -1;
	int err = image_read(&im, &ops, &r, r.size, data[0] & 1);
	if (err) {
		if (fake_memory.live || im.block)
			abort();
		return 0;
	}
	if (fake_memory.live != fake_pages_of(&im) || !im.size || im.size % IMAGE_SECTOR)
		abort();
	for (uint64_t i = 0; i < image_blocks(im.size); i++)
		if (im.block[i] && is_zero((const void *)(uintptr_t)im.block[i], HANDOFF_FILE_BLOCK))
			abort();
	fake_drop(&im);
	return 0;
}

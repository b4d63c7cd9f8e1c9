/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Any frames of a guest: the input is a sequence of frames, each behind two bytes of its length. Never a byte read
 * beyond a frame (ASan: each is in memory of its own), always a state that can be loaded, and one whose announcement
 * fits its buffer.
 */
#include "net/announce_frames.h"
#include "tests/unit/fake_kernel.h"
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const uint8_t mac[ETH_ALEN] = { 0x52, 0x54, 0, 0, 0, 7 };
	struct learn l;
	struct learn_state s;
	uint64_t now = 0;

	learn_init(&l);
	while (size > 2) {
		size_t len = MIN((size_t)(data[0] | data[1] << 8) % 1600, size - 2);
		data += 2, size -= 2;
		if (len >= FRAME_MIN) {
			uint8_t *copy = malloc(len);
			struct frame f;
			memcpy(copy, data, len);
			frame_init_flat(&f, copy, len);
			learn_sent(&l, mac, &f, now += NS_PER_SEC);
			free(copy);
		}
		data += len, size -= len;
	}
	learn_get(&l, &s, now);
	uint8_t *out = malloc(ANNOUNCE_FRAME_MAX);
	if (!learn_is_sane(&s) || announce_igmp_report(out, mac, &s) > ANNOUNCE_FRAME_MAX ||
	    announce_mld_report(out, mac, &s) > ANNOUNCE_FRAME_MAX || fake_spinlocks)
		abort();
	free(out);
	return 0;
}

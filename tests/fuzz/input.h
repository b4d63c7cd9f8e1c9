/* SPDX-License-Identifier: BSD-2-Clause */
/* A fuzzer's bytes as a program: read from the front, zeros behind their end. */
#pragma once
#include "kernel/base/bits.h"

struct input {
	const uint8_t *p;
	size_t n;
};
static inline uint64_t take(struct input *in, unsigned bytes)
{
	uint64_t v = 0;
	for (unsigned i = 0; i < bytes && in->n; i++, in->n--)
		v |= (uint64_t)*in->p++ << 8 * i;
	return v;
}

/* SPDX-License-Identifier: BSD-2-Clause */
/* Is memory zero? */
#pragma once
#include "kernel/base/bits.h"

static inline uint64_t zero_word(const uint8_t *p)
{
	uint64_t w;
	__builtin_memcpy(&w, p, sizeof(w)); /* one load, wherever p is */
	return w;
}

/* All n bytes. What is not zero mostly shows that within the first words. */
static inline bool is_zero(const void *p, size_t n)
{
	const uint8_t *b = p;
	for (; n >= 64; b += 64, n -= 64)
		if (zero_word(b) | zero_word(b + 8) | zero_word(b + 16) | zero_word(b + 24) | zero_word(b + 32) |
		    zero_word(b + 40) | zero_word(b + 48) | zero_word(b + 56))
			return false;
	for (; n; b++, n--)
		if (*b)
			return false;
	return true;
}

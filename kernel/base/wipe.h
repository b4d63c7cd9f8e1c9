/* SPDX-License-Identifier: BSD-2-Clause */
/* Secrets in memory: zeros over what was one, and comparing two. */
#pragma once
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

/* memset that no compiler leaves out, although nobody reads the bytes again. */
static inline void wipe(void *p, size_t n)
{
	memset(p, 0, n);
	__asm__ volatile("" ::"r"(p) : "memory");
}

/* memcmp that takes as much time, wherever they differ. */
static inline bool secret_equal(const uint8_t *a, const uint8_t *b, size_t n)
{
	uint8_t differ = 0;
	for (size_t i = 0; i < n; i++) {
		differ |= a[i] ^ b[i];
		__asm__("" : "+r"(differ)); /* or the loop may end at the first difference */
	}
	return !differ;
}

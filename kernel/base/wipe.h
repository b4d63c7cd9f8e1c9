/* SPDX-License-Identifier: BSD-2-Clause */
/* Zeros over what was secret. */
#pragma once
#include <string.h>

/* memset that no compiler leaves out, although nobody reads the bytes again. */
static inline void wipe(void *p, size_t n)
{
	memset(p, 0, n);
	__asm__ volatile("" ::"r"(p) : "memory");
}

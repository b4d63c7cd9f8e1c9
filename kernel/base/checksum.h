/* SPDX-License-Identifier: BSD-2-Clause */
/* The checksum of firmware's tables, ACPI's and SMBIOS's: all bytes of one that is whole add up to 0. */
#pragma once
#include "kernel/base/bits.h"

static inline uint8_t sum8(const void *p, size_t n)
{
	uint8_t sum = 0;
	for (const uint8_t *b = p; n--; b++)
		sum = (uint8_t)(sum + *b);
	return sum;
}

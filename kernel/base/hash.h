/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * FNV-1a, 64 bits (Fowler, Noll, Vo): each step is a bijection of the hash, so one changed byte always changes the
 * result. For tables, names and check words; no defence against who wants a collision.
 */
#pragma once
#include "kernel/base/bits.h"

#define FNV1A_START 0xcbf29ce484222325ULL

static inline uint64_t fnv1a_byte(uint64_t h, uint8_t b) { return (h ^ b) * 0x100000001b3ULL; }

/* Goes on from h with n bytes. */
static inline uint64_t fnv1a(uint64_t h, const void *p, size_t n)
{
	for (const uint8_t *b = p; n--; b++)
		h = fnv1a_byte(h, *b);
	return h;
}

/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * memcpy, memmove and memset for all that is in the kernel's image, lwIP and the C library included. The C library's
 * own write past the caches (MOVNTI), so that a frame which was just received is read from memory again.
 *
 *     up to 32 bytes      at most four loads, then as many stores
 *     below rep_min       32 bytes a turn through general registers
 *     from there on       REP MOVSB or REP STOSB, where that is fast (memory_init)
 *
 * Vector registers are not to be had: they are the guest's. The Makefile tells the compiler not to make a call of
 * memcpy or memset out of a loop in here.
 */
#include "arch/x86/memory.h"
#include "arch/x86/cpu.h"
#include "arch/x86/hw/cpuid_bits.h"
#include <string.h>

#define REP_MIN   768 /* starting REP takes as long as 500 to 900 bytes do word by word, by their alignment */
#define REP_CLOSE 64  /* REP MOVSB goes byte by byte to a place this little below its source */

static size_t rep_min = SIZE_MAX; /* (c) after memory_init */

/* Words of any alignment that may overlay any object. */
struct u16 {
	uint16_t v;
} __attribute__((packed, may_alias));
struct u32 {
	uint32_t v;
} __attribute__((packed, may_alias));
struct u64 {
	uint64_t v;
} __attribute__((packed, may_alias));

static inline uint64_t load(const uint8_t *p) { return ((const struct u64 *)p)->v; }
static inline void store(uint8_t *p, uint64_t v) { ((struct u64 *)p)->v = v; }

struct quad { /* 32 bytes in four registers */
	uint64_t a, b, c, d;
};

static inline struct quad load_quad(const uint8_t *p)
{
	return (struct quad){ load(p), load(p + 8), load(p + 16), load(p + 24) };
}

static inline void store_quad(uint8_t *p, struct quad q)
{
	store(p, q.a);
	store(p + 8, q.b);
	store(p + 16, q.c);
	store(p + 24, q.d);
}

/* n <= 32. Everything is loaded before anything is stored, so the two may overlap in any way. */
static inline void copy_small(uint8_t *d, const uint8_t *s, size_t n)
{
	if (n >= 16) {
		uint64_t a = load(s), b = load(s + 8), y = load(s + n - 16), z = load(s + n - 8);
		store(d, a);
		store(d + 8, b);
		store(d + n - 16, y);
		store(d + n - 8, z);
	} else if (n >= 8) {
		uint64_t a = load(s), z = load(s + n - 8);
		store(d, a);
		store(d + n - 8, z);
	} else if (n >= 4) {
		uint32_t a = ((const struct u32 *)s)->v, z = ((const struct u32 *)(s + n - 4))->v;
		((struct u32 *)d)->v = a;
		((struct u32 *)(d + n - 4))->v = z;
	} else if (n >= 2) {
		uint16_t a = ((const struct u16 *)s)->v, z = ((const struct u16 *)(s + n - 2))->v;
		((struct u16 *)d)->v = a;
		((struct u16 *)(d + n - 2))->v = z;
	} else if (n) {
		*d = *s;
	}
}

/* n > 32. Right for overlaps where d is below s. */
static inline void copy_up(uint8_t *d, const uint8_t *s, size_t n)
{
	struct quad last = load_quad(s + n - 32);
	uint8_t *end = d + n - 32;
	for (; d < end; d += 32, s += 32)
		store_quad(d, load_quad(s));
	store_quad(end, last);
}

/* n > 32. Right for overlaps where d is above s. */
static inline void copy_down(uint8_t *d, const uint8_t *s, size_t n)
{
	struct quad first = load_quad(s);
	for (; n > 32; n -= 32)
		store_quad(d + n - 32, load_quad(s + n - 32));
	store_quad(d, first);
}

static inline void copy_rep(uint8_t *d, const uint8_t *s, size_t n)
{
	__asm__ volatile("rep movsb" : "+D"(d), "+S"(s), "+c"(n)::"memory");
}

void *memcpy(void *restrict dst, const void *restrict src, size_t n)
{
	if (n <= 32)
		copy_small(dst, src, n);
	else if (n < rep_min)
		copy_up(dst, src, n);
	else
		copy_rep(dst, src, n);
	return dst;
}

void *memmove(void *dst, const void *src, size_t n)
{
	size_t ahead = (size_t)((uintptr_t)dst - (uintptr_t)src), behind = (size_t)((uintptr_t)src - (uintptr_t)dst);
	if (n <= 32)
		copy_small(dst, src, n);
	else if (ahead < n)
		copy_down(dst, src, n);
	else if (n < rep_min || behind < REP_CLOSE)
		copy_up(dst, src, n);
	else
		copy_rep(dst, src, n);
	return dst;
}

void *memset(void *dst, int byte, size_t n)
{
	uint8_t *p = dst;
	uint64_t v = (uint8_t)byte * 0x0101010101010101ULL;
	if (n >= rep_min) {
		size_t words = n / 8; /* as fast as bytes, and an eighth of the stores where the CPU is emulated */
		__asm__ volatile("rep stosq" : "+D"(p), "+c"(words) : "a"(v) : "memory");
		for (n &= 7; n; n--)
			*p++ = (uint8_t)v;
	} else if (n >= 32) { /* here and below, the last store may overlay the one before it */
		uint8_t *end = p + n - 32;
		struct quad q = { v, v, v, v };
		for (; p < end; p += 32)
			store_quad(p, q);
		store_quad(end, q);
	} else if (n >= 8) {
		for (size_t i = 0; i < n - 8; i += 8)
			store(p + i, v);
		store(p + n - 8, v);
	} else if (n >= 4) {
		((struct u32 *)p)->v = (uint32_t)v;
		((struct u32 *)(p + n - 4))->v = (uint32_t)v;
	} else {
		for (; n; n--)
			*p++ = (uint8_t)v;
	}
	return dst;
}

void memory_use_rep(bool on) { rep_min = on ? REP_MIN : SIZE_MAX; }

/* The shortest time of a page's half, in ticks of the TSC. */
static uint64_t time_of(void (*copy)(uint8_t *d, const uint8_t *s, size_t n))
{
	static uint8_t from[PAGE_SIZE / 2], to[PAGE_SIZE / 2];
	uint64_t best = UINT64_MAX;
	for (unsigned i = 0; i < 16; i++) {
		uint64_t start = rdtsc();
		copy(to, from, sizeof(to));
		best = MIN(best, rdtsc() - start);
	}
	return best;
}

/* CPUID's word is tried out: emulators pass the bit of the CPU that they pretend to be, and take REP byte by byte. */
void memory_init(void)
{
	bool erms = cpuid(0, 0).eax >= 7 && cpuid(7, 0).ebx & CPUID7_EBX_ERMS;
	memory_use_rep(erms && time_of(copy_rep) < time_of(copy_up));
}

/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The smallest common ground: integer types, address kinds, bit and alignment helpers.
 * Includes nothing of tern; compiles alone in the kernel, in the loader and in host-built tests.
 */
#pragma once
#ifndef __ASSEMBLER__
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Each address carries its kind in its type and, as a suffix, in its name. */
typedef uint64_t gpa_t; /* guest-physical address */
typedef uint64_t hpa_t; /* host-physical address */
typedef uint64_t gfn_t; /* guest frame number: gpa >> 12 */

#define PAGE_SHIFT 12
#define PAGE_SIZE  4096UL
#define PAGE_MASK  (PAGE_SIZE - 1)
#define KIB(n)     ((uint64_t)(n) << 10)
#define MIB(n)     ((uint64_t)(n) << 20)
#define GIB(n)     ((uint64_t)(n) << 30)

#define BIT(n)                        (1UL << (n)) /* a uint64_t on every target */
#define ARRAY_SIZE(a)                 (sizeof(a) / sizeof((a)[0]))
#define MIN(a, b)                     ((a) < (b) ? (a) : (b))
#define MAX(a, b)                     ((a) > (b) ? (a) : (b))
#define ALIGN_UP(x, a)                (((x) + ((a)-1)) & ~((__typeof__(x))(a)-1))
#define ALIGN_DOWN(x, a)              ((x) & ~((__typeof__(x))(a)-1))
#define CONTAINER_OF(p, type, member) ((type *)(void *)((char *)(p)-offsetof(type, member)))

#define NS_PER_SEC 1000000000UL
#define NS_PER_MS  1000000UL
#define NS_PER_US  1000UL

#define must_check        __attribute__((warn_unused_result))
#define printf_like(f, a) __attribute__((format(printf, f, a)))
#define noreturn          __attribute__((noreturn))
#define unused            __attribute__((unused))
#define PACKED            __attribute__((packed))

/* Little-endian stores and loads for wire formats and guest tables; never a raw struct on a wire. */
static inline uint16_t get_le16(const uint8_t *p) { return (uint16_t)(p[0] | p[1] << 8); }
static inline uint32_t get_le32(const uint8_t *p) { return get_le16(p) | (uint32_t)get_le16(p + 2) << 16; }
static inline uint64_t get_le64(const uint8_t *p) { return get_le32(p) | (uint64_t)get_le32(p + 4) << 32; }
static inline void put_le16(uint8_t *p, uint16_t v)
{
	p[0] = (uint8_t)v;
	p[1] = (uint8_t)(v >> 8);
}
static inline void put_le32(uint8_t *p, uint32_t v)
{
	put_le16(p, (uint16_t)v);
	put_le16(p + 2, (uint16_t)(v >> 16));
}
static inline void put_le64(uint8_t *p, uint64_t v)
{
	put_le32(p, (uint32_t)v);
	put_le32(p + 4, (uint32_t)(v >> 32));
}
/* Big-endian numbers in bytes, as networks and SCSI write them. */
static inline uint16_t get_be16(const uint8_t *p) { return (uint16_t)(p[0] << 8 | p[1]); }
static inline void put_be16(uint8_t *p, size_t v) /* its low 16 bits */
{
	p[0] = (uint8_t)(v >> 8);
	p[1] = (uint8_t)v;
}
static inline uint32_t get_be24(const uint8_t *p) { return (uint32_t)p[0] << 16 | get_be16(p + 1); }
static inline void put_be24(uint8_t *p, size_t v)
{
	p[0] = (uint8_t)(v >> 16);
	put_be16(p + 1, v);
}
static inline uint32_t get_be32(const uint8_t *p) { return (uint32_t)get_be16(p) << 16 | get_be16(p + 2); }
static inline void put_be32(uint8_t *p, size_t v)
{
	put_be16(p, v >> 16);
	put_be16(p + 2, v);
}
static inline uint64_t get_be64(const uint8_t *p) { return (uint64_t)get_be32(p) << 32 | get_be32(p + 4); }
static inline void put_be64(uint8_t *p, uint64_t v)
{
	put_be32(p, v >> 32);
	put_be32(p + 4, v);
}

/* Bits set. Not the compiler's built-in: without SSE4.2 that calls libgcc, which is built with a red zone. */
static inline unsigned popcount64(uint64_t v)
{
	v -= v >> 1 & 0x5555555555555555ULL;
	v = (v & 0x3333333333333333ULL) + (v >> 2 & 0x3333333333333333ULL);
	return (unsigned)(((v + (v >> 4)) & 0x0f0f0f0f0f0f0f0fULL) * 0x0101010101010101ULL >> 56);
}

/* Bitmaps are arrays of uint64_t; bit n is word n / 64, bit n % 64. */
#define BITMAP_WORDS(bits) (((bits) + 63) / 64)
static inline bool bitmap_test(const uint64_t *map, uint64_t n) { return map[n / 64] >> (n % 64) & 1; }
static inline void bitmap_set(uint64_t *map, uint64_t n) { map[n / 64] |= BIT(n % 64); }
static inline void bitmap_clear(uint64_t *map, uint64_t n) { map[n / 64] &= ~BIT(n % 64); }
static inline void bitmap_set_atomic(uint64_t *map, uint64_t n)
{
	__atomic_fetch_or(&map[n / 64], BIT(n % 64), __ATOMIC_SEQ_CST);
}
#else
#define BIT(n) (1 << (n)) /* all that assembly takes from here, for arch/x86/hw/ */
#endif

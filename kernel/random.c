/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * ChaCha20 (RFC 8439, 2.3) as a generator with fast key erasure (D. J. Bernstein, 2017): the first half of each block
 * replaces the key, so that what was given out cannot be computed from what is in memory later. Each call first mixes
 * new entropy into the key: RDSEED or RDRAND where CPUID says so (SDM 1 7.3.17), and the TSC.
 */
#include "kernel/random.h"
#include "arch/x86/cpu.h"
#include "arch/x86/hw/cpuid_bits.h"
#include "kernel/base/wipe.h"
#include "kernel/spinlock.h"
#include <string.h>

#define KEY_WORDS     8
#define BLOCK_WORDS   16
#define JITTER_ROUNDS 256 /* TSC samples at the first use */

static struct spinlock lock = SPINLOCK_INIT("random");
static uint32_t key[KEY_WORDS]; /* under lock, as is `seeded` */
static bool seeded;

static uint32_t rotl(uint32_t v, unsigned n) { return v << n | v >> (32 - n); }

static void quarter_round(uint32_t *a, uint32_t *b, uint32_t *c, uint32_t *d)
{
	*a += *b, *d = rotl(*d ^ *a, 16);
	*c += *d, *b = rotl(*b ^ *c, 12);
	*a += *b, *d = rotl(*d ^ *a, 8);
	*c += *d, *b = rotl(*b ^ *c, 7);
}

/* in: words 12..15 of the state (counter and nonce). */
static void chacha20_block(const uint32_t k[KEY_WORDS], const uint32_t in[4], uint32_t out[BLOCK_WORDS])
{
	uint32_t s[BLOCK_WORDS] = { 0x61707865, 0x3320646e, 0x79622d32, 0x6b206574 }, x[BLOCK_WORDS];

	memcpy(s + 4, k, KEY_WORDS * sizeof(*k));
	memcpy(s + 12, in, 4 * sizeof(*in));
	memcpy(x, s, sizeof(x));
	for (unsigned i = 0; i < 10; i++) {
		for (unsigned c = 0; c < 4; c++)
			quarter_round(x + c, x + 4 + c, x + 8 + c, x + 12 + c);
		for (unsigned c = 0; c < 4; c++)
			quarter_round(x + c, x + 4 + (c + 1) % 4, x + 8 + (c + 2) % 4, x + 12 + (c + 3) % 4);
	}
	for (unsigned i = 0; i < BLOCK_WORDS; i++)
		out[i] = x[i] + s[i];
}

/* Fold 16 bytes into the key: it becomes the first half of the block that they select under the old one. */
static void mix(uint64_t a, uint64_t b)
{
	uint32_t in[4] = { (uint32_t)a, (uint32_t)(a >> 32), (uint32_t)b, (uint32_t)(b >> 32) }, block[BLOCK_WORDS];

	chacha20_block(key, in, block);
	memcpy(key, block, sizeof(key));
}

#define HAS_RDRAND 1U
#define HAS_RDSEED 2U

static unsigned hw_sources(void)
{
	unsigned has = cpuid(1, 0).ecx & CPUID1_ECX_RDRAND ? HAS_RDRAND : 0;
	if (cpuid(0, 0).eax >= 7 && (cpuid(7, 0).ebx & CPUID7_EBX_RDSEED))
		has |= HAS_RDSEED;
	return has;
}

bool random_has_source(void) { return hw_sources(); }

static bool hw_random(uint64_t *v)
{
	static int have = -1; /* under lock */
	uint8_t ok = 0;

	if (have < 0)
		have = (int)hw_sources();
	for (unsigned i = 0; i < 10 && !ok && (have & HAS_RDSEED); i++)
		__asm__ volatile("rdseed %0; setc %1" : "=r"(*v), "=qm"(ok)::"cc");
	for (unsigned i = 0; i < 10 && !ok && (have & HAS_RDRAND); i++)
		__asm__ volatile("rdrand %0; setc %1" : "=r"(*v), "=qm"(ok)::"cc");
	return ok;
}

static void reseed(void)
{
	unsigned rounds = seeded ? 1 : JITTER_ROUNDS;
	uint64_t v = 0;

	for (unsigned i = 0; i < rounds; i++) {
		mix(rdtsc(), hw_random(&v) ? v : i); /* the block function's own time varies too */
		cpu_relax();
	}
	seeded = true;
}

void random_bytes(void *buf, size_t n)
{
	uint8_t *p = buf;
	uint32_t block[BLOCK_WORDS], counter[4] = { 0 };
	const size_t half = sizeof(block) / 2;

	uint64_t flags = spin_lock_irqsave(&lock);
	reseed();
	while (n) {
		size_t k = MIN(n, half);
		chacha20_block(key, counter, block);
		memcpy(key, block, sizeof(key));
		memcpy(p, (uint8_t *)block + half, k);
		p += k;
		n -= k;
	}
	wipe(block, sizeof(block));
	spin_unlock_irqrestore(&lock, flags);
}

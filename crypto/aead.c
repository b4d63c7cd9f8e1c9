/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The table of ciphers, and what is the same for all: the choice, the vector registers, comparing tags, wiping.
 * OpenSSL's assembly reads OPENSSL_ia32cap_P by itself, so that is only given the features it may use.
 */
#include "crypto/aead.h"
#include "arch/x86/cpu.h"
#include "arch/x86/fpu.h"
#include "arch/x86/hw/cpuid_bits.h"
#include "arch/x86/hw/xsave.h"
#include "crypto/ciphers.h"
#include "crypto/openssl.h"
#include "kernel/base/err.h"
#include "kernel/base/wipe.h"
#include "kernel/log.h"
#include "kernel/task.h"
#include <string.h>

static const struct cipher {
	const char *name;
	const char *(*choose)(uint32_t leaf1_ecx, uint32_t leaf7_ebx);
	void (*key_set)(void *schedule, const uint8_t *key);
	void (*crypt)(const void *schedule, const struct aead_op *op, uint8_t tag[AEAD_TAG]);
} ciphers[AEAD_CIPHERS] = {
	[AEAD_AES_128_GCM] = { "AES-128-GCM", gcm_choose, gcm_key_set, gcm_crypt },
	[AEAD_CHACHA20_POLY1305] = { "ChaCha20-Poly1305", chacha20_choose, chacha20_key_set, chacha20_crypt },
};

uint32_t OPENSSL_ia32cap_P[4]; /* const after aead_init, as are these */
static const char *implementation[AEAD_CIPHERS];
static enum aead_cipher preferred;

bool aead_has(enum aead_cipher c) { return implementation[c]; }
enum aead_cipher aead_preferred(void) { return preferred; }
const char *aead_name(enum aead_cipher c) { return ciphers[c].name; }
const char *aead_implementation(enum aead_cipher c) { return implementation[c] ? implementation[c] : "none"; }

/* TSC ticks for a page: the best of a few, whatever interrupts. */
static uint64_t cost(enum aead_cipher c)
{
	static uint8_t page[PAGE_SIZE];
	static const uint8_t zeros[AEAD_KEY_MAX];
	uint64_t best = UINT64_MAX;
	struct aead_key k;
	uint8_t tag[AEAD_TAG];
	aead_key_set(&k, c, zeros);
	for (unsigned i = 0; i < 5; i++) {
		uint64_t start = rdtsc();
		aead_seal(&k, zeros, NULL, 0, page, page, sizeof(page), tag);
		best = MIN(best, rdtsc() - start);
	}
	aead_key_wipe(&k);
	return best;
}

/* What a page costs with the cheaper cipher, which becomes the preferred one. */
static uint64_t choose_cipher(void)
{
	uint64_t best = cost(AEAD_CHACHA20_POLY1305);
	preferred = AEAD_CHACHA20_POLY1305;
	uint64_t gcm = aead_has(AEAD_AES_128_GCM) ? cost(AEAD_AES_128_GCM) : UINT64_MAX;
	log_debug("crypto: a page takes %lu TSC ticks by %s with %s, %lu by %s with %s", best, aead_name(preferred),
		  aead_implementation(preferred), gcm, aead_name(AEAD_AES_128_GCM),
		  aead_implementation(AEAD_AES_128_GCM));
	if (gcm < best)
		preferred = AEAD_AES_128_GCM;
	return MIN(best, gcm);
}

/* Of the CPU's features these at most. */
static void choose_features(uint32_t leaf1_ecx, uint32_t leaf7_ebx)
{
	const uint64_t wide = XCR0_SSE | XCR0_AVX;
	leaf1_ecx &= cpuid(1, 0).ecx & (CPUID1_ECX_SSSE3 | CPUID1_ECX_PCLMULQDQ | CPUID1_ECX_AES | CPUID1_ECX_MOVBE |
					CPUID1_ECX_XSAVE | CPUID1_ECX_AVX);
	leaf7_ebx &= cpuid(0, 0).eax >= 7 ? cpuid(7, 0).ebx & CPUID7_EBX_AVX2 : 0; /* no AVX-512: it slows the others */
	if ((fpu_xcr0_mask() & wide) != wide)
		leaf1_ecx &= ~(uint32_t)CPUID1_ECX_AVX;
	if (!(leaf1_ecx & CPUID1_ECX_AVX))
		leaf7_ebx = 0;
	OPENSSL_ia32cap_P[1] = leaf1_ecx;
	OPENSSL_ia32cap_P[2] = leaf7_ebx;
	for (unsigned c = 0; c < AEAD_CIPHERS; c++)
		implementation[c] = ciphers[c].choose(leaf1_ecx, leaf7_ebx);
}

uint64_t aead_init_limited(uint32_t leaf1_ecx, uint32_t leaf7_ebx)
{
	choose_features(leaf1_ecx, leaf7_ebx);
	return choose_cipher();
}

/* Wider vectors are not always faster: in an emulator each of their instructions may be a call. */
void aead_init(void)
{
	static const uint32_t without[] = { 0, CPUID1_ECX_AVX, CPUID1_ECX_AVX | CPUID1_ECX_SSSE3 };
	uint64_t best = UINT64_MAX;
	enum aead_cipher cipher = AEAD_CHACHA20_POLY1305;
	unsigned pick = 0;
	for (unsigned i = 0; i < ARRAY_SIZE(without); i++) {
		uint64_t ticks = aead_init_limited(~without[i], UINT32_MAX);
		if (ticks < best) {
			best = ticks;
			pick = i;
			cipher = preferred;
		}
	}
	choose_features(~without[pick], UINT32_MAX);
	preferred = cipher;
}

/* The assembly's own variables: it needs less than 1.5 KiB below the ciphers' frames. */
static __attribute__((noinline)) void wipe_stack(void)
{
	uint8_t below[KIB(2)];
	wipe(below, sizeof(below));
}

/*
 * Registers are wiped where one instruction does it. Without AVX they stay as they are until the next vector code of
 * this CPU, which may be a guest's: that has all of them loaded first (fpu_load).
 */
static void leave(void)
{
	if (OPENSSL_ia32cap_P[1] & CPUID1_ECX_AVX)
		__asm__ volatile("vzeroall");
	vector_end();
	wipe_stack();
}

void aead_key_set(struct aead_key *k, enum aead_cipher c, const uint8_t *key)
{
	BUG_ON(!aead_has(c));
	k->cipher = c;
	k->set = true;
	vector_begin();
	ciphers[c].key_set(k->schedule, key);
	leave();
}

void aead_key_wipe(struct aead_key *k) { wipe(k, sizeof(*k)); }

static void crypt(const struct aead_key *k, const struct aead_op *op, uint8_t tag[AEAD_TAG])
{
	BUG_ON(!k->set || op->len > AEAD_TEXT_MAX);
	vector_begin();
	ciphers[k->cipher].crypt(k->schedule, op, tag);
	leave();
}

void aead_seal(const struct aead_key *k, const uint8_t nonce[AEAD_NONCE], const void *ad, size_t adlen, const void *in,
	       void *out, size_t len, uint8_t tag[AEAD_TAG])
{
	crypt(k, &(struct aead_op){ true, nonce, ad, adlen, in, out, len }, tag);
}

int aead_open(const struct aead_key *k, const uint8_t nonce[AEAD_NONCE], const void *ad, size_t adlen, const void *in,
	      void *out, size_t len, const uint8_t tag[AEAD_TAG])
{
	uint8_t right[AEAD_TAG];
	crypt(k, &(struct aead_op){ false, nonce, ad, adlen, in, out, len }, right);
	bool same = secret_equal(tag, right, sizeof(right));
	wipe(right, sizeof(right));
	if (same)
		return 0;
	memset(out, 0, len);
	return -EBADMSG;
}

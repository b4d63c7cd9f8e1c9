/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Authenticated encryption with associated data (RFC 5116), by two ciphers of TLS 1.3. Tasks without switch hooks only
 * (vector_begin() in kernel/task.h), any number at a time, also with one key.
 *
 *   aead_seal --+-- gcm.c                 AES-128-GCM         --+
 *   aead_open --+                                               +-- openssl.h: generated assembly
 *               +-- chacha20_poly1305.c   ChaCha20-Poly1305   --+
 */
#pragma once
#include "kernel/base/bits.h"

enum aead_cipher { AEAD_AES_128_GCM, AEAD_CHACHA20_POLY1305, AEAD_CIPHERS };

#define AEAD_NONCE    12
#define AEAD_TAG      16
#define AEAD_KEY_MAX  32
#define AEAD_TEXT_MAX (KIB(16) + 256) /* bytes in one call: a record of TLS 1.3 (RFC 8446 5.2) */

/* Nothing is allocated inside. Zeros are no key. */
struct aead_key {
	uint8_t schedule[512] __attribute__((aligned(64))); /* the cipher's own */
	enum aead_cipher cipher;
	bool set;
};

/*
 * Once, before all others and after fpu_cpu_on() on every CPU: picks the implementations by CPUID and XCR0, and
 * measures which cipher is the faster one here.
 */
void aead_init(void);
/*
 * The same with no more features than these of CPUID leaf 1 ECX and leaf 7 EBX; what sealing a page then costs, in TSC
 * ticks.
 */
uint64_t aead_init_limited(uint32_t leaf1_ecx, uint32_t leaf7_ebx);

enum aead_cipher aead_preferred(void);
/* Can this CPU do it in constant time: AES-128-GCM wants AES-NI and PCLMULQDQ, ChaCha20-Poly1305 nothing. */
bool aead_has(enum aead_cipher c);
const char *aead_name(enum aead_cipher c);
const char *aead_implementation(enum aead_cipher c); /* what of the CPU it uses; "none" without aead_has() */

/* key: 16 bytes for AES-128-GCM, 32 for ChaCha20-Poly1305. Only a cipher that aead_has(). */
void aead_key_set(struct aead_key *k, enum aead_cipher c, const uint8_t *key);
void aead_key_wipe(struct aead_key *k);

/*
 * Encrypt len bytes, and authenticate them and the associated data by tag. in and out are the same or do not overlap.
 * No nonce may be used twice with a key: who has both records then has the texts, and forges others.
 */
void aead_seal(const struct aead_key *k, const uint8_t nonce[AEAD_NONCE], const void *ad, size_t adlen, const void *in,
	       void *out, size_t len, uint8_t tag[AEAD_TAG]);
/* The reverse. -EBADMSG: the tag is not that of these data under this key; out is zeros then. */
int aead_open(const struct aead_key *k, const uint8_t nonce[AEAD_NONCE], const void *ad, size_t adlen, const void *in,
	      void *out, size_t len, const uint8_t tag[AEAD_TAG]) must_check;

/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * OpenSSL's assembly under its own names (deps.mk generates it from Debian's source). Nothing else in the kernel uses
 * vector registers, so each call is between vector_begin() and vector_end(). It has no red zone and no AVX-512, and
 * takes the same time for all keys and texts of one length.
 */
#pragma once
#include "kernel/base/bits.h"

/* Words of CPUID by which the assembly chooses its paths: leaf 1 EDX and ECX, leaf 7 EBX and ECX. */
extern uint32_t OPENSSL_ia32cap_P[4];

struct aes_schedule {
	uint32_t words[60];
	uint32_t rounds;
};
int aesni_set_encrypt_key(const uint8_t *key, int bits, struct aes_schedule *s);
/* The counter is the last 4 bytes, big-endian, and is not written back. */
void aesni_ctr32_encrypt_blocks(const void *in, void *out, size_t blocks, const struct aes_schedule *s,
				const uint8_t counter[16]);

/* h: the hash key as two numbers, the first bytes first. What is in table depends on the flavour. */
struct ghash {
	uint8_t xi[16];
	uint64_t h[2];
	uint64_t table[32];
};
void gcm_init_clmul(uint64_t table[32], const uint64_t h[2]);
void gcm_ghash_clmul(uint8_t xi[16], const uint64_t table[32], const void *in, size_t len);
void gcm_init_avx(uint64_t table[32], const uint64_t h[2]);
void gcm_ghash_avx(uint8_t xi[16], const uint64_t table[32], const void *in, size_t len);
/*
 * Both at once, AVX and MOVBE: return how many bytes at the beginning they have done, 0 if there are less than 288 (96
 * to decrypt). The counter and g->xi have moved on by as much; g->h is not used.
 */
size_t aesni_gcm_encrypt(const void *in, void *out, size_t len, const struct aes_schedule *s, uint8_t counter[16],
			 struct ghash *g);
size_t aesni_gcm_decrypt(const void *in, void *out, size_t len, const struct aes_schedule *s, uint8_t counter[16],
			 struct ghash *g);

/* counter: the block's number, then the nonce. */
void ChaCha20_ctr32(void *out, const void *in, size_t len, const uint32_t key[8], const uint32_t counter[4]);

struct poly1305 {
	uint64_t opaque[24];
};
struct poly1305_functions {
	void (*blocks)(struct poly1305 *p, const void *in, size_t len, uint32_t pad_bit); /* len: whole blocks */
	void (*emit)(struct poly1305 *p, uint8_t tag[16], const uint32_t nonce[4]);
};
int poly1305_init(struct poly1305 *p, const uint8_t key[16], struct poly1305_functions *f);

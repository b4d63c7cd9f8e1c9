/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * AES-128-GCM (NIST SP 800-38D) around the assembly: the first counter block, what is left over after whole blocks, the
 * lengths at the end. With a nonce of 12 bytes counter block 1 masks the tag and the text begins with 2 (section 7.1).
 */
#include "arch/x86/hw/cpuid_bits.h"
#include "crypto/ciphers.h"
#include "crypto/openssl.h"
#include "kernel/base/wipe.h"
#include <string.h>

#define BLOCK 16

struct gcm_key {
	struct aes_schedule aes;
	uint64_t table[32];
};
_Static_assert(sizeof(struct gcm_key) <= sizeof(((struct aead_key *)0)->schedule), "a key of GCM fits");

typedef size_t bulk_fn(const void *in, void *out, size_t len, const struct aes_schedule *s, uint8_t counter[16],
		       struct ghash *g);
static const struct gcm_flavour {
	const char *name;
	void (*init)(uint64_t table[32], const uint64_t h[2]);
	void (*hash)(uint8_t xi[16], const uint64_t table[32], const void *in, size_t len);
	bulk_fn *encrypt, *decrypt; /* or NULL */
} avx = { "AES-NI and AVX", gcm_init_avx, gcm_ghash_avx, aesni_gcm_encrypt, aesni_gcm_decrypt },
  sse = { "AES-NI and SSE", gcm_init_clmul, gcm_ghash_clmul, NULL, NULL }, *flavour;

const char *gcm_choose(uint32_t leaf1_ecx, uint32_t leaf7_ebx unused)
{
	const uint32_t least = CPUID1_ECX_AES | CPUID1_ECX_PCLMULQDQ | CPUID1_ECX_SSSE3;
	const uint32_t more = CPUID1_ECX_AVX | CPUID1_ECX_MOVBE;
	flavour = (leaf1_ecx & least) != least ? NULL : (leaf1_ecx & more) == more ? &avx : &sse;
	return flavour ? flavour->name : NULL;
}

void gcm_key_set(void *schedule, const uint8_t *key)
{
	static const uint8_t zeros[BLOCK];
	struct gcm_key *k = schedule;
	uint8_t h[BLOCK];
	aesni_set_encrypt_key(key, 128, &k->aes);
	aesni_ctr32_encrypt_blocks(zeros, h, 1, &k->aes, zeros);
	uint64_t numbers[2] = { get_be64(h), get_be64(h + 8) };
	flavour->init(k->table, numbers);
	wipe(h, sizeof(h));
	wipe(numbers, sizeof(numbers));
}

static void set_counter(uint8_t counter[BLOCK], uint32_t n) { put_le32(counter + AEAD_NONCE, __builtin_bswap32(n)); }

/* Padded with zeros to whole blocks. */
static void hash(struct ghash *g, const uint8_t *p, size_t len)
{
	size_t rest = len % BLOCK, whole = len - rest;
	uint8_t last[BLOCK] = { 0 };
	if (whole)
		flavour->hash(g->xi, g->table, p, whole);
	if (rest) {
		memcpy(last, p + whole, rest);
		flavour->hash(g->xi, g->table, last, BLOCK);
	}
}

static void crypt(const struct gcm_key *k, uint8_t counter[BLOCK], const uint8_t *in, uint8_t *out, size_t len)
{
	size_t rest = len % BLOCK, whole = len - rest;
	uint8_t last[BLOCK] = { 0 };
	if (whole)
		aesni_ctr32_encrypt_blocks(in, out, whole / BLOCK, &k->aes, counter);
	if (rest) {
		set_counter(counter, __builtin_bswap32(get_le32(counter + AEAD_NONCE)) + (uint32_t)(whole / BLOCK));
		memcpy(last, in + whole, rest);
		aesni_ctr32_encrypt_blocks(last, last, 1, &k->aes, counter);
		memcpy(out + whole, last, rest);
		wipe(last, sizeof(last));
	}
}

void gcm_crypt(const void *schedule, const struct aead_op *op, uint8_t tag[AEAD_TAG])
{
	const struct gcm_key *k = schedule;
	bulk_fn *bulk = op->seal ? flavour->encrypt : flavour->decrypt;
	struct ghash g = { 0 };
	uint8_t counter[BLOCK], lengths[BLOCK];
	memcpy(g.table, k->table, sizeof(g.table));
	memcpy(counter, op->nonce, AEAD_NONCE);
	set_counter(counter, 2);

	hash(&g, op->ad, op->adlen);
	size_t done = bulk ? bulk(op->in, op->out, op->len, &k->aes, counter, &g) : 0, left = op->len - done;
	if (!op->seal) /* before it may be overwritten */
		hash(&g, op->in + done, left);
	crypt(k, counter, op->in + done, op->out + done, left);
	if (op->seal)
		hash(&g, op->out + done, left);
	put_le64(lengths, __builtin_bswap64(op->adlen * 8));
	put_le64(lengths + 8, __builtin_bswap64(op->len * 8));
	hash(&g, lengths, sizeof(lengths));

	set_counter(counter, 1);
	aesni_ctr32_encrypt_blocks(g.xi, tag, 1, &k->aes, counter);
	wipe(&g, sizeof(g));
}

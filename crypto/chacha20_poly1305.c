/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * ChaCha20-Poly1305 (RFC 8439 2.8) around the assembly. Block 0 of the key stream is the key of this record's Poly1305,
 * the text begins with block 1. Poly1305 takes the associated data, the encrypted text and their lengths, each padded
 * with zeros to whole blocks.
 */
#include "arch/x86/hw/cpuid_bits.h"
#include "crypto/ciphers.h"
#include "crypto/openssl.h"
#include "kernel/base/wipe.h"
#include <string.h>

#define BLOCK 16 /* Poly1305's */

/* The assembly itself chooses by OPENSSL_ia32cap_P; this only tells. */
const char *chacha20_choose(uint32_t leaf1_ecx, uint32_t leaf7_ebx)
{
	if (!(leaf1_ecx & CPUID1_ECX_SSSE3))
		return "no vectors";
	if (!(leaf1_ecx & CPUID1_ECX_AVX))
		return "SSSE3";
	return leaf7_ebx & CPUID7_EBX_AVX2 ? "AVX2" : "SSSE3 and AVX";
}

void chacha20_key_set(void *schedule, const uint8_t *key) { memcpy(schedule, key, 32); }

struct mac {
	struct poly1305 poly;
	struct poly1305_functions f;
};

static void add(struct mac *m, const uint8_t *p, size_t len)
{
	size_t rest = len % BLOCK, whole = len - rest;
	uint8_t last[BLOCK] = { 0 };
	if (whole)
		m->f.blocks(&m->poly, p, whole, 1);
	if (rest) {
		memcpy(last, p + whole, rest);
		m->f.blocks(&m->poly, last, BLOCK, 1);
	}
}

void chacha20_crypt(const void *schedule, const struct aead_op *op, uint8_t tag[AEAD_TAG])
{
	uint32_t counter[4] = { 0, get_le32(op->nonce), get_le32(op->nonce + 4), get_le32(op->nonce + 8) };
	uint8_t lengths[BLOCK];
	uint32_t block0[BLOCK] = { 0 }; /* r and s of Poly1305, then what is not used */
	struct mac m;
	ChaCha20_ctr32(block0, block0, sizeof(block0), schedule, counter);
	poly1305_init(&m.poly, (const uint8_t *)block0, &m.f);
	counter[0] = 1;

	add(&m, op->ad, op->adlen);
	if (!op->seal) /* before it may be overwritten */
		add(&m, op->in, op->len);
	ChaCha20_ctr32(op->out, op->in, op->len, schedule, counter);
	if (op->seal)
		add(&m, op->out, op->len);
	put_le64(lengths, op->adlen);
	put_le64(lengths + 8, op->len);
	add(&m, lengths, sizeof(lengths));
	m.f.emit(&m.poly, tag, block0 + 4);
	wipe(block0, sizeof(block0));
	wipe(&m, sizeof(m));
}

/* SPDX-License-Identifier: BSD-2-Clause */
/* Between aead.c and the ciphers, which are called with the vector registers at hand. */
#pragma once
#include "crypto/aead.h"

/* One call of aead_seal() or aead_open(). */
struct aead_op {
	bool seal;
	const uint8_t *nonce;
	const void *ad;
	size_t adlen;
	const uint8_t *in;
	uint8_t *out;
	size_t len;
};

/* By CPUID leaf 1 ECX and leaf 7 EBX: the name of the implementation used from now on, or NULL. */
const char *gcm_choose(uint32_t leaf1_ecx, uint32_t leaf7_ebx);
void gcm_key_set(void *schedule, const uint8_t *key);
/* Both directions; the tag is that of the data as they are. */
void gcm_crypt(const void *schedule, const struct aead_op *op, uint8_t tag[AEAD_TAG]);

const char *chacha20_choose(uint32_t leaf1_ecx, uint32_t leaf7_ebx);
void chacha20_key_set(void *schedule, const uint8_t *key);
void chacha20_crypt(const void *schedule, const struct aead_op *op, uint8_t tag[AEAD_TAG]);

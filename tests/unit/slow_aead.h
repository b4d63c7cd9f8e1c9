/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * AES-128-GCM (FIPS 197, NIST SP 800-38D) and ChaCha20-Poly1305 (RFC 8439) as the standards write them, a bit or a byte
 * at a time: what the product's ciphers are held against. For tests: slow, and its time depends on the key.
 */
#pragma once
#include "crypto/aead.h"
#include <string.h>

static inline uint8_t slow_double(uint8_t x) { return (uint8_t)(x << 1 ^ (x & 0x80 ? 0x1b : 0)); }

/* The inverse in GF(2^8) by trying, then the affine map. */
static inline uint8_t slow_sbox(uint8_t x)
{
	static uint8_t table[256];
	static bool made;
	for (unsigned v = 0; !made && v < 256; v++) {
		uint8_t inverse = 0, s = 0;
		for (unsigned w = 1; w < 256; w++) {
			uint8_t product = 0, a = (uint8_t)v;
			for (unsigned b = w; b; b >>= 1, a = slow_double(a))
				product ^= b & 1 ? a : 0;
			if (product == 1)
				inverse = (uint8_t)w;
		}
		for (unsigned i = 0; i < 5; i++)
			s ^= (uint8_t)(inverse << i | inverse >> (8 - i));
		table[v] = s ^ 0x63;
	}
	made = true;
	return table[x];
}

static inline void slow_aes(const uint8_t key[16], const uint8_t in[16], uint8_t out[16])
{
	uint8_t w[176], s[16], t[16], rcon = 1;
	memcpy(w, key, 16);
	for (unsigned i = 16; i < 176; i += 4) {
		uint8_t x[4] = { w[i - 4], w[i - 3], w[i - 2], w[i - 1] };
		if (i % 16 == 0) {
			uint8_t y[4] = { x[1], x[2], x[3], x[0] };
			for (unsigned j = 0; j < 4; j++)
				x[j] = slow_sbox(y[j]);
			x[0] ^= rcon;
			rcon = slow_double(rcon);
		}
		for (unsigned j = 0; j < 4; j++)
			w[i + j] = w[i - 16 + j] ^ x[j];
	}
	for (unsigned i = 0; i < 16; i++)
		s[i] = in[i] ^ w[i];
	for (unsigned round = 1; round <= 10; round++) {
		for (unsigned i = 0; i < 16; i++) /* SubBytes and ShiftRows */
			t[i] = slow_sbox(s[(i + 4 * (i % 4)) % 16]);
		for (unsigned i = 0; i < 16; i++) {
			const uint8_t *c = t + i / 4 * 4;
			uint8_t a = c[i % 4], b = c[(i + 1) % 4];
			s[i] = round == 10 ? a : slow_double(a ^ b) ^ b ^ c[(i + 2) % 4] ^ c[(i + 3) % 4];
			s[i] ^= w[16 * round + i];
		}
	}
	memcpy(out, s, 16);
}

/* y = (y ^ block) * h in GF(2^128), SP 800-38D 6.3. */
static inline void slow_ghash(uint8_t y[16], const uint8_t h[16], const uint8_t *p, size_t len)
{
	for (size_t at = 0; at < len; at += 16) {
		uint64_t z[2] = { 0 }, v[2] = { __builtin_bswap64(get_le64(h)), __builtin_bswap64(get_le64(h + 8)) };
		for (size_t i = 0; i < 16 && at + i < len; i++)
			y[i] ^= p[at + i];
		for (unsigned bit = 0; bit < 128; bit++) {
			if (y[bit / 8] >> (7 - bit % 8) & 1)
				z[0] ^= v[0], z[1] ^= v[1];
			uint64_t carry = v[1] & 1;
			v[1] = v[1] >> 1 | v[0] << 63;
			v[0] = v[0] >> 1 ^ (carry ? 0xe1UL << 56 : 0);
		}
		put_le64(y, __builtin_bswap64(z[0]));
		put_le64(y + 8, __builtin_bswap64(z[1]));
	}
}

static inline void slow_gcm(const uint8_t *key, const uint8_t nonce[12], const uint8_t *ad, size_t adlen,
			    const uint8_t *in, uint8_t *out, size_t len, uint8_t tag[16])
{
	uint8_t h[16] = { 0 }, y[16] = { 0 }, stream[16], counter[16], lengths[16];
	slow_aes(key, h, h);
	memcpy(counter, nonce, 12);
	for (size_t i = 0; i < len; i++) {
		if (i % 16 == 0) {
			put_le32(counter + 12, __builtin_bswap32((uint32_t)(i / 16) + 2));
			slow_aes(key, counter, stream);
		}
		out[i] = in[i] ^ stream[i % 16];
	}
	slow_ghash(y, h, ad, adlen);
	slow_ghash(y, h, out, len);
	put_le64(lengths, __builtin_bswap64(adlen * 8));
	put_le64(lengths + 8, __builtin_bswap64(len * 8));
	slow_ghash(y, h, lengths, 16);
	put_le32(counter + 12, __builtin_bswap32(1));
	slow_aes(key, counter, stream);
	for (unsigned i = 0; i < 16; i++)
		tag[i] = y[i] ^ stream[i];
}

static inline void slow_quarter(uint32_t *x, unsigned a, unsigned b, unsigned c, unsigned d)
{
	static const unsigned turns[] = { 16, 12, 8, 7 };
	for (unsigned i = 0; i < 4; i++) {
		unsigned to = i % 2 ? c : a, by = i % 2 ? d : b, then = i % 2 ? b : d;
		x[to] += x[by];
		x[then] ^= x[to];
		x[then] = x[then] << turns[i] | x[then] >> (32 - turns[i]);
	}
}

static inline void slow_chacha(const uint8_t *key, const uint8_t nonce[12], uint32_t counter, uint8_t out[64])
{
	uint32_t s[16] = { 0x61707865, 0x3320646e, 0x79622d32, 0x6b206574, [12] = counter }, x[16];
	for (unsigned i = 0; i < 8; i++)
		s[4 + i] = get_le32(key + 4 * i);
	for (unsigned i = 0; i < 3; i++)
		s[13 + i] = get_le32(nonce + 4 * i);
	memcpy(x, s, sizeof(x));
	for (unsigned i = 0; i < 80; i++) {
		unsigned c = i % 4, skew = i / 4 % 2;
		slow_quarter(x, c, 4 + (c + skew) % 4, 8 + (c + 2 * skew) % 4, 12 + (c + 3 * skew) % 4);
	}
	for (unsigned i = 0; i < 16; i++)
		put_le32(out + 4 * i, x[i] + s[i]);
}

/* a = (a + block) * r modulo 2^130 - 5, in 17 bytes each, the least first. */
static inline void slow_poly_block(uint8_t a[17], const uint8_t r[16], const uint8_t block[16])
{
	uint32_t product[34] = { 0 }, carry = 1; /* the 1 beyond the block's 16 bytes goes to the last digit */
	uint32_t sum[17];
	for (unsigned i = 0; i < 17; i++)
		sum[i] = a[i] + (i < 16 ? block[i] : carry);
	for (unsigned i = 0; i < 17; i++)
		for (unsigned j = 0; j < 16; j++)
			product[i + j] += sum[i] * r[j];
	carry = 0;
	for (unsigned i = 0; i < 34; i++) {
		carry += product[i];
		product[i] = carry & 0xff;
		carry >>= 8;
	}
	/* What is above 2^130 counts five times at the bottom; twice, since the first may carry over again. */
	for (unsigned pass = 0; pass < 2; pass++) {
		uint32_t high[18];
		for (unsigned i = 0; i < 18; i++)
			high[i] = product[16 + i] >> 2 | (i < 17 ? product[17 + i] << 6 & 0xff : 0);
		product[16] &= 3;
		memset(product + 17, 0, 17 * sizeof(product[0]));
		carry = 0;
		for (unsigned i = 0; i < 34; i++) {
			carry += product[i] + (i < 18 ? 5 * high[i] : 0);
			product[i] = carry & 0xff;
			carry >>= 8;
		}
	}
	for (unsigned i = 0; i < 17; i++)
		a[i] = (uint8_t)product[i];
}

static inline void slow_poly(uint8_t a[17], const uint8_t r[16], const uint8_t *p, size_t len)
{
	for (size_t at = 0; at < len; at += 16) {
		uint8_t block[16] = { 0 };
		memcpy(block, p + at, MIN(len - at, 16UL));
		slow_poly_block(a, r, block);
	}
}

static inline void slow_chacha_poly(const uint8_t *key, const uint8_t nonce[12], const uint8_t *ad, size_t adlen,
				    const uint8_t *in, uint8_t *out, size_t len, uint8_t tag[16])
{
	uint8_t stream[64], once[64], a[17] = { 0 }, b[17], lengths[16];
	for (size_t i = 0; i < len; i++) {
		if (i % 64 == 0)
			slow_chacha(key, nonce, (uint32_t)(i / 64) + 1, stream);
		out[i] = in[i] ^ stream[i % 64];
	}
	slow_chacha(key, nonce, 0, once);
	for (unsigned i = 3; i < 16; i += 4) { /* RFC 8439 2.5 */
		once[i] &= 15;
		once[i + 1] &= i < 15 ? 252 : 255;
	}
	slow_poly(a, once, ad, adlen);
	slow_poly(a, once, out, len);
	put_le64(lengths, adlen);
	put_le64(lengths + 8, len);
	slow_poly(a, once, lengths, 16);
	uint32_t carry = 5; /* a - (2^130 - 5), if that is not negative */
	for (unsigned i = 0; i < 17; i++) {
		carry += a[i];
		b[i] = (uint8_t)carry;
		carry >>= 8;
	}
	carry = 0;
	for (unsigned i = 0; i < 16; i++) {
		carry += (b[16] & 4 ? b : a)[i] + once[16 + i];
		tag[i] = (uint8_t)carry;
		carry >>= 8;
	}
}

typedef void slow_seal_fn(const uint8_t *key, const uint8_t nonce[12], const uint8_t *ad, size_t adlen,
			  const uint8_t *in, uint8_t *out, size_t len, uint8_t tag[16]);
static slow_seal_fn *const slow_seal[AEAD_CIPHERS] = { slow_gcm, slow_chacha_poly };

/* SPDX-License-Identifier: BSD-2-Clause */
/* Protection of records (tls_record.h). */
#include "net/tls_record.h"
#include "mbedtls/sha256.h"
#include "kernel/base/wipe.h"
#include <string.h>

#define BLOCK 64 /* SHA-256's, bytes */

/* The hash of pad and the message's two parts. It cannot fail: mbedTLS's own SHA-256 is linked, in software. */
static void sha256_of(const uint8_t pad[BLOCK], const void *a, size_t a_len, const void *b, size_t b_len,
		      uint8_t out[TLS_SECRET])
{
	mbedtls_sha256_context c;
	mbedtls_sha256_init(&c);
	BUG_ON(mbedtls_sha256_starts(&c, 0) || mbedtls_sha256_update(&c, pad, BLOCK) ||
	       mbedtls_sha256_update(&c, a, a_len) || mbedtls_sha256_update(&c, b, b_len) ||
	       mbedtls_sha256_finish(&c, out));
	mbedtls_sha256_free(&c); /* wiped */
}

/*
 * HMAC-SHA256 (RFC 2104), on the stack: mbedTLS's HMAC and HKDF allocate, and who has not proved anything must not find
 * out what happens here without memory. key_len is at most BLOCK.
 */
void tls_hmac(const uint8_t *key, size_t key_len, const void *a, size_t a_len, const void *b, size_t b_len,
	      uint8_t out[TLS_SECRET])
{
	uint8_t pad[BLOCK] = { 0 }, inner[TLS_SECRET];
	BUG_ON(key_len > BLOCK);
	memcpy(pad, key, key_len);
	for (unsigned i = 0; i < BLOCK; i++)
		pad[i] ^= 0x36;
	sha256_of(pad, a, a_len, b, b_len, inner);
	for (unsigned i = 0; i < BLOCK; i++)
		pad[i] ^= 0x36 ^ 0x5c;
	sha256_of(pad, inner, sizeof(inner), NULL, 0, out);
	wipe(pad, sizeof(pad));
	wipe(inner, sizeof(inner));
}

/* HKDF-Expand (RFC 5869 2.3) to one hash's length at most. */
static void expand(const uint8_t secret[TLS_SECRET], const void *info, size_t info_len, uint8_t *out, size_t len)
{
	static const uint8_t first = 1;
	uint8_t t[TLS_SECRET];
	BUG_ON(len > sizeof(t));
	tls_hmac(secret, TLS_SECRET, info, info_len, &first, 1, t);
	memcpy(out, t, len);
	wipe(t, sizeof(t));
}

void tls_hkdf(const uint8_t *key, size_t key_len, const void *info, size_t info_len, uint8_t *out, size_t len)
{
	static const uint8_t salt[TLS_SECRET];
	uint8_t prk[TLS_SECRET];
	tls_hmac(salt, sizeof(salt), key, key_len, NULL, 0, prk);
	expand(prk, info, info_len, out, len);
	wipe(prk, sizeof(prk));
}

/* HKDF-Expand-Label with an empty context, RFC 8446 7.1. */
static void expand_label(const uint8_t secret[TLS_SECRET], const char *label, uint8_t *out, size_t len)
{
	uint8_t info[32] = { 0, (uint8_t)len, (uint8_t)(6 + strlen(label)), 't', 'l', 's', '1', '3', ' ' };
	memcpy(info + 9, label, strlen(label));
	expand(secret, info, 9 + strlen(label) + 1, out, len);
}

void tls_half_init(struct tls_half *h, enum aead_cipher c, const uint8_t secret[TLS_SECRET])
{
	uint8_t key[AEAD_KEY_MAX];
	memmove(h->secret, secret, TLS_SECRET);
	h->cipher = c;
	h->records = 0;
	expand_label(secret, "key", key, c == AEAD_AES_128_GCM ? 16 : 32);
	expand_label(secret, "iv", h->iv, sizeof(h->iv));
	aead_key_set(&h->key, c, key);
	wipe(key, sizeof(key));
}

void tls_half_update(struct tls_half *h)
{
	uint8_t next[TLS_SECRET];
	expand_label(h->secret, "traffic upd", next, sizeof(next));
	tls_half_init(h, h->cipher, next);
	wipe(next, sizeof(next));
}

/* The initialisation vector with the record's number over its end, RFC 8446 5.3. */
static void nonce_next(struct tls_half *h, uint8_t nonce[AEAD_NONCE])
{
	memcpy(nonce, h->iv, AEAD_NONCE);
	for (unsigned i = 0; i < 8; i++)
		nonce[AEAD_NONCE - 1 - i] ^= (uint8_t)(h->records >> 8 * i);
	h->records++;
}

size_t tls_seal(struct tls_half *h, enum tls_type type, uint8_t *rec, size_t len)
{
	size_t body = len + 1 + AEAD_TAG;
	uint8_t nonce[AEAD_NONCE];
	BUG_ON(len > TLS_TEXT_MAX);
	rec[0] = TLS_DATA, rec[1] = rec[2] = 3;
	rec[3] = (uint8_t)(body >> 8), rec[4] = (uint8_t)body;
	rec[TLS_HEADER + len] = (uint8_t)type;
	nonce_next(h, nonce);
	aead_seal(&h->key, nonce, rec, TLS_HEADER, rec + TLS_HEADER, rec + TLS_HEADER, len + 1,
		  rec + TLS_HEADER + len + 1);
	return TLS_HEADER + body;
}

int tls_body_len(const uint8_t header[TLS_HEADER])
{
	size_t len = (size_t)header[3] << 8 | header[4];
	return header[0] == TLS_DATA && header[1] == 3 && header[2] == 3 && len > AEAD_TAG && len <= TLS_BODY_MAX
		       ? (int)len
		       : -EPROTO;
}

int tls_open(struct tls_half *h, uint8_t *rec, size_t body_len, uint8_t *type)
{
	uint8_t nonce[AEAD_NONCE], *text = rec + TLS_HEADER;
	size_t len = body_len - AEAD_TAG;
	nonce_next(h, nonce);
	if (aead_open(&h->key, nonce, rec, TLS_HEADER, text, text, len, text + len))
		return -EBADMSG;
	while (len && !text[len - 1]) /* padding, RFC 8446 5.4 */
		len--;
	if (!len || len - 1 > TLS_TEXT_MAX)
		return -EBADMSG;
	*type = text[len - 1];
	return (int)len - 1;
}

/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Records of TLS 1.3 after the handshake (RFC 8446 5.2): one direction of a connection, from its traffic secret on.
 * Pure: no I/O.
 *
 *   | type 23 u8 | 0x0303 u16 | length u16 |  text, its real type u8, encrypted  | tag |
 *   '------ header, authenticated ---------'
 *
 * A half belongs to the one task that writes (reads) that direction. Nothing in it is ever shown.
 */
#pragma once
#include "crypto/aead.h"
#include "kernel/base/err.h"

#define TLS_HEADER   5
#define TLS_TEXT_MAX 16384                /* bytes of text in a record, RFC 8446 5.1 */
#define TLS_BODY_MAX (TLS_TEXT_MAX + 256) /* what a peer may send behind the header, 5.2 */
#define TLS_OVERHEAD (TLS_HEADER + 1 + AEAD_TAG)
#define TLS_SECRET   32 /* all our ciphers have SHA-256 */

enum tls_type { TLS_ALERT = 21, TLS_HANDSHAKE = 22, TLS_DATA = 23 };

struct tls_half {
	struct aead_key key;
	enum aead_cipher cipher;
	uint8_t iv[AEAD_NONCE];
	uint8_t secret[TLS_SECRET];
	uint64_t records; /* under this key: the next one's sequence number */
};
void tls_half_init(struct tls_half *h, enum aead_cipher c, const uint8_t secret[TLS_SECRET]);
/* KeyUpdate (RFC 8446 4.6.3, 7.2): the next key follows from this one, which is gone. */
void tls_half_update(struct tls_half *h);
/*
 * Make a record in place: len bytes of text at rec + TLS_HEADER, with room for TLS_OVERHEAD in all. Returns the
 * record's size.
 */
size_t tls_seal(struct tls_half *h, enum tls_type type, uint8_t *rec, size_t len);
/*
 * Open one in place: the header has been read with tls_body_len, body_len bytes are behind it. Returns how many bytes
 * of text are at rec + TLS_HEADER and sets *type; -EBADMSG if it is not what the peer sent next.
 */
int tls_open(struct tls_half *h, uint8_t *rec, size_t body_len, uint8_t *type) must_check;
/* Bytes behind this header, or -EPROTO: no record that can come after the handshake. */
int tls_body_len(const uint8_t header[TLS_HEADER]) must_check;
/* HMAC-SHA256 (RFC 2104) of a message in two parts; key_len is at most 64. No memory is taken. */
void tls_hmac(const uint8_t *key, size_t key_len, const void *a, size_t a_len, const void *b, size_t b_len,
	      uint8_t out[TLS_SECRET]);
/* HKDF (RFC 5869) with SHA-256, both steps, no salt; out: at most 32 bytes. */
void tls_hkdf(const uint8_t *key, size_t key_len, const void *info, size_t info_len, uint8_t *out, size_t len);

/* SPDX-License-Identifier: BSD-2-Clause */
/* The handshake of tls.h, inside net/: all that knows mbedTLS. */
#pragma once
#include "net/tls.h"
#include "net/tls_record.h"

/* What a handshake leaves: to be wiped. */
struct tls_secrets {
	enum aead_cipher cipher;
	uint8_t client[TLS_SECRET], server[TLS_SECRET]; /* application traffic secrets, RFC 8446 7.1 */
};
/* As tls_connect (find is NULL, psk is there) and tls_accept (find fills psk). */
int tls_handshake(struct stream *s, struct tls_psk *psk, int (*find)(void *arg, struct tls_psk *psk), void *arg,
		  uint64_t deadline_ns, struct tls_secrets *out) must_check;

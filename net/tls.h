/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * TLS 1.3 with a pre-shared key (psk_dhe_ke, RFC 8446 2.2) over any stream: a stream again. mbedTLS makes the
 * handshake; after it records are tls_record.c's, for either cipher that this CPU has (crypto/aead.h). Keys change of
 * themselves (KeyUpdate). There are no certificates, no tickets, no early data and no older version.
 *
 * Who has not proved the key costs a handshake's state, some 10 KiB; buffers for records come after that.
 */
#pragma once
#include "net/stream.h"

#define TLS_ID_MAX  128
#define TLS_KEY_LEN 32

struct tls_psk {
	uint8_t id[TLS_ID_MAX]; /* travels in clear */
	size_t id_len;
	uint8_t key[TLS_KEY_LEN]; /* of this connection alone: derived, never the file's */
};
/*
 * Either end. 0: *s is now the encrypted stream, which owns the one that was there. Else *s is as it was, of no more
 * use, and still to be closed by the caller: -EACCES, the peers do not have the same key; -EPROTO, the peer does not
 * speak such TLS; or what the stream said. Sleeps until the deadline at most.
 */
int tls_connect(struct stream **s, const struct tls_psk *psk, uint64_t deadline_ns) must_check;
/* find gets what the client said of its key in psk->id, and fills psk->key: 0, or -errno if there is none. */
int tls_accept(struct stream **s, int (*find)(void *arg, struct tls_psk *psk), void *arg,
	       uint64_t deadline_ns) must_check;
/* "TLS 1.3, AES-128-GCM". */
const char *tls_cipher(const struct stream *s);
/* Of streams that tls_connect and tls_accept made. */
bool tls_is(const struct stream *s);
int tls_init(void) must_check;       /* once */
extern uint64_t tls_records_per_key; /* tests make it small */

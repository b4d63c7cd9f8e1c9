/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Records in one frame between hosts (net/hostframe.h), as the messages that are no connection's: a nonce (8 bytes),
 * then records as on a connection, without a key: HELLO, IDENT and one more, so that versions and bounds are those of
 * wire.c; then proofs that a peer said so (net/trust.h).
 */
#pragma once
#include "net/hostframe.h"
#include "net/trust.h"
#include "vmm/migrate/records.h"

struct datagram { /* what is sent is p, len bytes */
	struct stream s;
	uint8_t p[HOSTFRAME_MAX - 2];
	size_t len, at;
};
/* nonce, greeting, the record that `put` writes, and proofs by the keys of this host if it proves them. */
int datagram_write(struct datagram *d, uint64_t nonce, bool proves, int (*put)(struct wire_tx *tx, const void *arg),
		   const void *arg) must_check;
/* What came in one, if it may be believed at all; h has the greeting, rx the record. read() must not sleep. */
struct datagram_in {
	const struct hostframe_from *from;
	enum trust_word word;
	uint64_t nonce;
	struct hello h;
	struct wire_rx rx;
};
void datagram_read(const struct hostframe_from *from, const uint8_t *payload, size_t len,
		   void (*read)(struct datagram_in *in));
/* May this host answer somebody who has proved nothing, or repeats himself? So a flood costs no more. */
bool datagram_may_answer(void);

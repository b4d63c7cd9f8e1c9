/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Which hosts this one speaks with, by the keys of tern.conf: each connection between hosts is TLS 1.3 with a key that
 * both files hold ([peer NAME] key), or, where both say `insecure = yes`, in clear. Nobody else is
 * served.
 *
 * The pre-shared key of a connection is derived from the file's, and from what the client says of itself in clear
 * (trust.c): its incarnation, the address it called, a nonce. So one key may serve both directions, and several pairs
 * of hosts.
 */
#pragma once
#include "net/stream.h"

enum trust_state { /* of a peer, as the last connection showed it */
		   TRUST_UNTRIED,
		   TRUST_AGREED,
		   TRUST_INSECURE,
		   TRUST_DIFFERS,     /* it has another key than this host, or none */
		   TRUST_NO_KEY,      /* this host has none for it */
		   TRUST_OLD,         /* it does not speak TLS: of a release before 0.4, or its file says insecure */
		   TRUST_UNREACHABLE, /* no answer, or a refusal */
		   TRUST_STATES,
};
const char *trust_state_name(enum trust_state s);
/* Of the i-th of net_peers(), and when that was (time_ns, 0: never); cipher (NULL, or 40 bytes) is what was agreed. */
enum trust_state trust_state_of(unsigned i, uint64_t *when_ns, char cipher[40]);

/* Once the peers are known. */
int trust_init(void) must_check;
/*
 * Connect to a host and prove to each other that both have the key. Else *s is NULL and why says what is the matter:
 * -EINVAL, this host has no key for it; -EPERM, no network for migrations leads to it; -EACCES, it has another key;
 * -EPROTO, it does not speak TLS; -EBUSY, it answers, and does not finish the handshake by deadline_ns; or as
 * stream_tcp_connect, of canceller, too: only then -ETIMEDOUT and -EHOSTUNREACH, nobody answers, for half of the time.
 * Sleeps.
 */
int trust_connect(struct stream **s, struct ip ip, uint16_t port, uint64_t deadline_ns,
		  const struct stream_canceller *canceller, struct why *w) must_check;
/*
 * The other end: 0, and who speaks on *s has proved a key, or needs none by the file. -EPERM: he speaks in clear, which
 * the file does not allow; *s can still be told so in clear. Else -errno. Sleeps. *s is to be closed in any case.
 */
int trust_accept(struct stream **s, uint64_t deadline_ns, struct why *w) must_check;
/*
 * Messages outside of connections, such as frames (net/hostframe.h): a proof for each key that this host has goes
 * behind the len bytes of msg, as far as size has room. Returns their length with it.
 */
size_t trust_sign(uint8_t *msg, size_t len, size_t size);
enum trust_word {
	TRUST_DENIED, /* nobody who has a key with this host has said it: do nothing */
	TRUST_ASKED,  /* anybody may have; a peer is insecure = incoming: what asks is answered, nothing is believed */
	TRUST_UNPROVED, /* anybody may have, and the file believes all: there is no key, or a peer is insecure = yes */
	TRUST_PROVED,   /* one of those who have a key with this host has said it once */
};
/*
 * Who has said msg? *len becomes what it was before trust_sign if that is proved. It may be a repetition: what is asked
 * and answered needs a nonce.
 */
enum trust_word trust_check(const uint8_t *msg, size_t *len);
/* Does tern.conf say that all goes in clear to that host? */
bool trust_is_insecure(struct ip ip);
/* Of streams that the two above made: by a key, not by the file's word alone. */
bool trust_is_proved(const struct stream *s);
/* "TLS 1.3, AES-128-GCM", or "in clear". */
const char *trust_cipher(const struct stream *s);

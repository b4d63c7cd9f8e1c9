/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What a stranger says of himself: the identity of TLS's pre-shared key (net/trust.c), and proofs behind messages
 * outside of connections. An identity is answered with the key that it names and with nothing else, and only if it says
 * all the rest rightly; a message counts as proved if it is one that was signed, however it has been changed behind
 * that.
 */
#include "arch/x86/fpu.h"
#include "kernel/host.h"
#include "kernel/random.h"
#include "kernel/time.h"
#include "net/net.h"
#include "net/tls.h"
#include "net/tls_record.h"
#include "net/trust.h"
#include "tests/unit/fake_kernel.h"
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
uint64_t fpu_xcr0_mask(void) { return 7; }
struct host_info host_info = { .inc = { 0x1111, 0x2222 } };

static void want(bool good)
{
	if (!good)
		abort();
}

/* ---- a file with peers: one has a key, one two, one none ---- */

#define PEERS 3
#define US    ip_of4(0x0b004d0aU)
static struct net_peer peers[PEERS];
const struct net_peer *net_peers(unsigned *n)
{
	*n = PEERS;
	return peers;
}
const char *net_peer_lost(void) { return ""; }
bool net_is_own_address(struct ip ip) { return ip_same(ip, US); }
bool random_has_source(void) { return true; }
void random_bytes(void *buf, size_t n) { memset(buf, 9, n); }

static void begin(void)
{
	static bool begun;
	if (begun)
		return;
	begun = true;
	memset(peers[0].key, 1, NET_KEY_LEN);
	memset(peers[1].key, 2, NET_KEY_LEN);
	memset(peers[1].key_next, 3, NET_KEY_LEN);
	for (unsigned i = 0; i < PEERS; i++)
		peers[i].ip = ip_of4(i + 1);
	want(!trust_init());
}

/* ---- in place of TLS: who accepts asks for the key of this identity ---- */

static struct tls_psk asked;
static int answer;
int tls_init(void) { return 0; }
int tls_accept(struct stream **s unused, int (*find)(void *arg, struct tls_psk *psk), void *arg, uint64_t end unused)
{
	answer = find(arg, &asked);
	return answer ? -EACCES : 0;
}
int tls_connect(struct stream **s unused, const struct tls_psk *psk, uint64_t end unused)
{
	asked = *psk; /* what a peer says */
	return 0;
}
bool tls_is(const struct stream *s unused) { return true; }
const char *tls_cipher(const struct stream *s unused) { return "TLS 1.3, none"; }
static int read_tls(struct stream *s unused, void *buf, size_t max unused, uint64_t end unused)
{
	*(uint8_t *)buf = 22;
	return 1;
}
static const struct stream_ops ops = { .read = read_tls };
static struct stream wire;
int stream_tcp_connect(struct stream **s, struct ip ip unused, uint16_t port unused, uint64_t end unused,
		       const struct stream_canceller *canceller unused, struct why *w unused)
{
	*s = &wire;
	return 0;
}
static unsigned trusted;
void stream_tcp_trust(struct stream *s unused, bool proved) { trusted += proved; }

/* The connection's key, if the identity is one that may have it. */
static bool expected_key(uint8_t key[TLS_KEY_LEN])
{
	uint8_t info[16 + TLS_ID_MAX] = "tern connection:", name[8];
	const uint8_t *id = asked.id;
	const struct ip us = US;
	uint64_t host = 0;
	for (unsigned i = 8; i-- > 0;)
		host = host << 8 | id[13 + i];
	if (asked.id_len != 61 || memcmp(id, "tern\1", 5) || host == host_info.inc.host || memcmp(id + 29, us.b, 16))
		return false;
	memcpy(info + 16, id, asked.id_len);
	for (uint8_t k = 1; k <= 3; k++) {
		uint8_t file_key[NET_KEY_LEN];
		memset(file_key, k, sizeof(file_key));
		tls_hkdf(file_key, sizeof(file_key), "tern: name of a key", 19, name, sizeof(name));
		if (memcmp(name, id + 5, sizeof(name)))
			continue;
		tls_hkdf(file_key, sizeof(file_key), info, 16 + asked.id_len, key, TLS_KEY_LEN);
		return true;
	}
	return false;
}

static void change(uint8_t *p, size_t len, const uint8_t *data, size_t size)
{
	for (; size >= 2; data += 2, size -= 2)
		if (len)
			p[data[0] % len] = data[1];
}

/* What a peer says with one of the keys, to this host or to another one; changed; or the input. */
static void identities(unsigned how, const uint8_t *data, size_t size)
{
	struct stream *s = &wire;
	struct why w;
	uint8_t key[TLS_KEY_LEN];
	wire = (struct stream){ .ops = &ops, .ip = ip_of4(1) };
	memset(&asked, 0, sizeof(asked));
	if (how & 1) {
		asked.id_len = MIN(size, (size_t)TLS_ID_MAX);
		memcpy(asked.id, data, asked.id_len);
	} else {
		struct ip to = peers[how >> 2 & 1].ip;
		peers[how >> 2 & 1].ip = US;
		host_info.inc.host = how & 2 ? 0x1111 : 0x3333; /* a connection of this host's that comes back */
		want(!trust_connect(&s, US, 7077, TIME_NEVER, NULL, &w));
		host_info.inc.host = 0x1111;
		peers[how >> 2 & 1].ip = to;
		change(asked.id, asked.id_len, data, size);
		asked.id_len -= how >> 3 == 1;
		memset(asked.key, 0, sizeof(asked.key));
	}
	s = &wire;
	trusted = 0;
	int err = trust_accept(&s, TIME_NEVER, &w);
	bool good = expected_key(key);
	want(err == (good ? 0 : -EACCES) && trusted == good);
	want(!good || !memcmp(asked.key, key, sizeof(key)));
}

/* Has the first n bytes of msg a proof behind them that trust_sign makes of them? The fuzzer reads what is compared. */
static bool is_signed(const uint8_t *msg, size_t n, size_t len)
{
	enum { PROOF = 24 };
	uint8_t *again = malloc(n + 100);
	bool is = false;
	memcpy(again, msg, n);
	want(trust_sign(again, n, n + 100) == n + 3 * PROOF + 1);
	for (size_t at = n; at + PROOF <= len; at += PROOF)
		for (unsigned k = 0; k < 3; k++)
			is |= !memcmp(msg + at, again + n + k * PROOF, PROOF);
	free(again);
	return is;
}

/* A message, signed and then changed behind its text, or in it; or the input. */
static void messages(unsigned how, const uint8_t *data, size_t size)
{
	size_t text = how & 1 ? size : MIN((size_t)how, size), len = text, room = text + (how & 1 ? 0 : 100);
	uint8_t *msg = malloc(room + 1), *was = malloc(room + 1);
	if (text)
		memcpy(msg, data, text);
	if (!(how & 1)) {
		len = trust_sign(msg, text, room);
		want(len == text + 3 * 24 + 1);
		memcpy(was, msg, len);
		change(msg, len, data + text, size - text);
		len -= how >> 6; /* cut */
	}
	uint8_t *exact = malloc(MAX(len, 1UL));
	memcpy(exact, msg, len);
	size_t n = len;
	enum trust_word word = trust_check(exact, &n);
	want(word == TRUST_PROVED || (word == TRUST_DENIED && n == len));
	want(word != TRUST_PROVED || is_signed(exact, n, len));
	bool whole = !(how & 1) && n && len == text + 3 * 24 + 1 && !memcmp(msg, was, len);
	want(!whole || word == TRUST_PROVED);
	free(exact);
	free(was);
	free(msg);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (size < 2 || size > 1600)
		return 0;
	begin();
	if (data[0] & 1)
		identities(data[1], data + 2, size - 2);
	else
		messages(data[1], data + 2, size - 2);
	return 0;
}

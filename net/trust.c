/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Keys between hosts (trust.h). What a client says of itself in clear, the identity of TLS's pre-shared key:
 *
 *   | "tern" 1 u8 | name of the key 8 | client's host u64, boot u64 | address that it called 16 | nonce 16 |
 *
 * A server finds the key by its name, a hash of it; refuses who says that he is this host (a connection of its own that
 * comes back), and who meant another address (one that was led here). The connection's key is HKDF (RFC 5869) of the
 * file's key and all of the identity.
 */
#include "net/trust.h"
#include "kernel/ip.h"
#include "kernel/host.h"
#include "kernel/log.h"
#include "kernel/random.h"
#include "kernel/spinlock.h"
#include "kernel/time.h"
#include "net/net.h"
#include "net/tls.h"
#include "net/tls_record.h"
#include "kernel/base/wipe.h"
#include <stdio.h>
#include <string.h>

#define MAGIC      "tern\1"
#define MAGIC_LEN  5
#define NAME_LEN   8 /* of a key */
#define NONCE_LEN  16
#define IDENTITY   (MAGIC_LEN + NAME_LEN + 16 + 16 + NONCE_LEN)
#define AT_NAME    MAGIC_LEN
#define AT_HOST    (AT_NAME + NAME_LEN)
#define AT_BOOT    (AT_HOST + 8)
#define AT_ADDRESS (AT_BOOT + 8)
#define AT_NONCE   (AT_ADDRESS + 16)
#define TLS_FIRST  22 /* the first byte of who begins with TLS (RFC 8446 5.1); HELLO's is 1 */

/* (c) after trust_init  [l] lock */
static struct {
	uint8_t name[2][NAME_LEN]; /* (c) of key and key_next */
	uint8_t frame[2][32];      /* (c) for messages outside of connections: derived from them */
	enum trust_state state;    /* [l] */
	uint64_t when_ns;          /* [l] */
	char cipher[40];           /* [l] */
} known[NET_PEERS_MAX];
static struct spinlock lock = SPINLOCK_INIT("trust");
/* (c) What comes without a proof: TRUST_UNPROVED, TRUST_ASKED, or what this host has no peer for. */
static enum trust_word unproved = TRUST_DENIED;

static void key_name(const uint8_t key[TLS_KEY_LEN], uint8_t name[NAME_LEN])
{
	static const char info[] = "tern: name of a key";
	tls_hkdf(key, TLS_KEY_LEN, info, sizeof(info) - 1, name, NAME_LEN);
}

/* What the file's key becomes for one connection: psk->id is there. */
static void derive(const uint8_t key[TLS_KEY_LEN], struct tls_psk *psk)
{
	uint8_t info[16 + TLS_ID_MAX] = "tern connection:";
	memcpy(info + 16, psk->id, psk->id_len);
	tls_hkdf(key, TLS_KEY_LEN, info, 16 + psk->id_len, psk->key, TLS_KEY_LEN);
}

/* Key number k of a peer: key or key_next; NULL: he has none. */
static const uint8_t *key_number(const struct net_peer *p, unsigned k)
{
	const uint8_t *key = k ? p->key_next : p->key;
	return net_key_is_set(key) ? key : NULL;
}

int trust_init(void)
{
	unsigned n;
	static const char frame[] = "tern: frames";
	const struct net_peer *p = net_peers(&n);
	bool keys = false, insecure = false, incoming = false;
	for (unsigned i = 0; i < n; i++) {
		for (unsigned k = 0; k < 2; k++) {
			const uint8_t *key = key_number(&p[i], k);
			if (!key)
				continue;
			keys = true;
			key_name(key, known[i].name[k]);
			tls_hkdf(key, TLS_KEY_LEN, frame, sizeof(frame) - 1, known[i].frame[k], 32);
		}
		keys |= p[i].wants_key;
		insecure |= trust_is_insecure(p[i].ip);
		incoming |= p[i].insecure == NET_PEER_INCOMING && net_key_is_set(p[i].key);
		known[i].state = net_key_is_set(p[i].key) || p[i].insecure ? TRUST_UNTRIED : TRUST_NO_KEY;
	}
	unproved = (!keys && !net_peer_lost()[0]) || insecure ? TRUST_UNPROVED : incoming ? TRUST_ASKED : TRUST_DENIED;
	if (!random_has_source())
		log_warn(
			"this CPU has no random numbers (RDSEED, RDRAND): connections between hosts may not be secret");
	return tls_init();
}

const char *trust_state_name(enum trust_state s)
{
	static const char *const names[TRUST_STATES] = {
		[TRUST_UNTRIED] = "untried",         [TRUST_AGREED] = "key agreed", [TRUST_INSECURE] = "INSECURE",
		[TRUST_DIFFERS] = "key differs",     [TRUST_NO_KEY] = "no key",     [TRUST_OLD] = "no TLS",
		[TRUST_UNREACHABLE] = "unreachable",
	};
	return names[s];
}

enum trust_state trust_state_of(unsigned i, uint64_t *when_ns, char cipher[40])
{
	uint64_t flags = spin_lock_irqsave(&lock);
	enum trust_state s = known[i].state;
	*when_ns = known[i].when_ns;
	if (cipher)
		memcpy(cipher, known[i].cipher, sizeof(known[i].cipher));
	spin_unlock_irqrestore(&lock, flags);
	return s;
}

static const struct net_peer *peer_at(struct ip ip, unsigned *index)
{
	unsigned n;
	const struct net_peer *p = net_peers(&n);
	for (*index = 0; *index < n; ++*index)
		if (ip_same(p[*index].ip, ip))
			return &p[*index];
	return NULL;
}

/* A connection with the host at ip has shown its state. */
static void note(struct ip ip, enum trust_state s, const char *cipher)
{
	unsigned i;
	if (!peer_at(ip, &i))
		return;
	uint64_t flags = spin_lock_irqsave(&lock);
	known[i].state = s;
	known[i].when_ns = time_ns();
	sniprintf(known[i].cipher, sizeof(known[i].cipher), "%s", cipher);
	spin_unlock_irqrestore(&lock, flags);
}

bool trust_is_proved(const struct stream *s) { return tls_is(s); }

const char *trust_cipher(const struct stream *s) { return tls_is(s) ? tls_cipher(s) : "in clear"; }

bool trust_is_insecure(struct ip ip)
{
	unsigned i;
	const struct net_peer *p = peer_at(ip, &i);
	return p && p->insecure == NET_PEER_INSECURE && !net_key_is_set(p->key);
}

static bool hears_clear(const struct net_peer *p)
{
	return p && (trust_is_insecure(p->ip) || (p->insecure == NET_PEER_INCOMING && net_key_is_set(p->key)));
}

/* ---- a client ---- */

static void identity(struct tls_psk *psk, const uint8_t name[NAME_LEN], struct ip ip)
{
	psk->id_len = IDENTITY;
	memcpy(psk->id, MAGIC, MAGIC_LEN);
	memcpy(psk->id + AT_NAME, name, NAME_LEN);
	put_le64(psk->id + AT_HOST, host_info.inc.host);
	put_le64(psk->id + AT_BOOT, host_info.inc.boot);
	memcpy(psk->id + AT_ADDRESS, ip.b, sizeof(ip.b));
	random_bytes(psk->id + AT_NONCE, NONCE_LEN);
}

/* Who does not answer the call in half of the time is silent; the other half is a slow host's, for its handshake. */
static uint64_t call_end(uint64_t deadline_ns)
{
	uint64_t now = time_ns();
	return deadline_ns > now ? now + (deadline_ns - now) / 2 : deadline_ns;
}

static int connect_with(struct stream **s, const uint8_t key[TLS_KEY_LEN], const uint8_t name[NAME_LEN], struct ip ip,
			uint16_t port, uint64_t deadline_ns, const struct stream_canceller *canceller, struct why *w)
{
	struct tls_psk psk;
	int err = stream_tcp_connect(s, ip, port, call_end(deadline_ns), canceller, w);
	if (err)
		return err;
	identity(&psk, name, ip);
	derive(key, &psk);
	struct stream *below = *s;
	err = tls_connect(s, &psk, deadline_ns);
	wipe(&psk, sizeof(psk));
	if (!err) {
		stream_tcp_trust(below, true);
		return 0;
	}
	if (canceller)
		canceller->detach(canceller->arg);
	stream_close(*s);
	*s = NULL;
	/* TCP was answered: whatever happens then, it is not the silence that stream_tcp_connect would report so. */
	return err == -ETIMEDOUT || err == -EHOSTUNREACH ? -EBUSY : err;
}

static int tell(const struct net_peer *p, int err, struct why *w)
{
	if (err == -ECANCELED) /* which says nothing of the peer */
		return why_set(w, err, "cancelled while connecting to %s", p->name);
	note(p->ip, err == -EACCES ? TRUST_DIFFERS : err == -EPROTO ? TRUST_OLD : TRUST_UNREACHABLE, "");
	if (err == -EACCES)
		return why_set(
			w, err,
			"%s has another key than this host, or none for it: both files need the same one ([peer] key)",
			p->name);
	if (err == -EPROTO)
		return why_set(w, err,
			       "%s does not speak TLS: it runs a release before 0.4, or its file says insecure = yes",
			       p->name);
	if (err == -EBUSY)
		return why_set(w, err, "%s answers, but did not finish the TLS handshake in time", p->name);
	return why_set(w, err, "%s did not finish the TLS handshake: %s", p->name, err_name(err));
}

int trust_connect(struct stream **s, struct ip ip, uint16_t port, uint64_t deadline_ns,
		  const struct stream_canceller *canceller, struct why *w)
{
	unsigned i;
	const struct net_peer *p = peer_at(ip, &i);
	*s = NULL;
	if (!p)
		return why_set(w, -EINVAL, "%s is no [peer] of tern.conf, so there is no key for it", ip_text(ip).s);
	bool clear = trust_is_insecure(ip);
	if (!net_key_is_set(p->key) && !clear)
		return why_set(w, -EINVAL, "no key for %s: `peer key` makes one, for both hosts' files ([peer] key)",
			       p->name);
	int err;
	if (clear) {
		err = stream_tcp_connect(s, ip, port, call_end(deadline_ns), canceller, w);
		if (!err)
			log_info("%s is spoken to in clear: tern.conf says insecure = yes for it", p->name);
		if (err != -ECANCELED)
			note(ip, err ? TRUST_UNREACHABLE : TRUST_INSECURE, "");
		return err;
	}
	err = connect_with(s, p->key, known[i].name[0], ip, port, deadline_ns, canceller, w);
	if (err == -EACCES && net_key_is_set(p->key_next))
		err = connect_with(s, p->key_next, known[i].name[1], ip, port, deadline_ns, canceller, w);
	if (err)
		return tell(p, err, w);
	note(ip, TRUST_AGREED, tls_cipher(*s));
	return 0;
}

/* ---- a server ---- */

static const uint8_t *key_of(const struct net_peer *p, unsigned i, const uint8_t name[NAME_LEN])
{
	for (unsigned k = 0; k < 2; k++)
		if (key_number(p, k) && !memcmp(known[i].name[k], name, NAME_LEN))
			return key_number(p, k);
	return NULL;
}

static int find_key(void *arg unused, struct tls_psk *psk)
{
	unsigned n;
	struct ip called;
	const struct net_peer *p = net_peers(&n);
	memcpy(called.b, psk->id + AT_ADDRESS, sizeof(called));
	if (psk->id_len != IDENTITY || memcmp(psk->id, MAGIC, MAGIC_LEN) ||
	    get_le64(psk->id + AT_HOST) == host_info.inc.host || !net_is_own_address(called))
		return -EACCES;
	for (unsigned i = 0; i < n; i++) {
		const uint8_t *key = key_of(&p[i], i, psk->id + AT_NAME);
		if (!key)
			continue;
		derive(key, psk);
		return 0;
	}
	return -EACCES;
}

/* He begins in clear. The byte that told so is put back. */
static int accept_clear(struct stream *s, const struct net_peer *p, struct why *w)
{
	if (hears_clear(p)) {
		note(s->ip, TRUST_INSECURE, "");
		log_warn("%s speaks in clear: tern.conf says insecure = %s for it", p->name,
			 p->insecure == NET_PEER_INSECURE ? "yes" : "incoming");
		return 0;
	}
	note(s->ip, TRUST_OLD, "");
	return why_set(w, -EPERM,
		       "this host wants TLS and a key ([peer] key in both files); releases before 0.4 have none");
}

int trust_accept(struct stream **s, uint64_t deadline_ns, struct why *w)
{
	uint8_t first;
	unsigned i;
	const struct net_peer *p = peer_at((*s)->ip, &i);
	struct stream *below = *s;
	int err = stream_read(below, &first, 1, deadline_ns);
	if (err)
		return err;
	stream_unread(below, first);
	if (first != TLS_FIRST) {
		err = accept_clear(*s, p, w);
		if (!err)
			stream_tcp_trust(below, false);
		return err;
	}
	err = tls_accept(s, find_key, NULL, deadline_ns);
	if (err == -EACCES) {
		note((*s)->ip, p && !net_key_is_set(p->key) ? TRUST_NO_KEY : TRUST_DIFFERS, "");
		return why_set(w, err, "it has not proved a key that tern.conf names ([peer] key)");
	}
	if (err)
		return why_set(w, err, "no TLS handshake: %s", err_name(err));
	stream_tcp_trust(below, true);
	note((*s)->ip, TRUST_AGREED, tls_cipher(*s));
	return 0;
}

/* ---- outside of connections: | message | (name of a key 8 | HMAC 16) for each | how many u8 | ---- */

#define PROOF (NAME_LEN + 16)

static void prove(const uint8_t key[32], const uint8_t *msg, size_t len, uint8_t mac[TLS_SECRET])
{
	tls_hmac(key, 32, msg, len, NULL, 0, mac);
}

size_t trust_sign(uint8_t *msg, size_t len, size_t size)
{
	unsigned n, proofs = 0;
	const struct net_peer *p = net_peers(&n);
	uint8_t mac[TLS_SECRET], *at = msg + len;
	for (unsigned k = 0; k < 2 * n; k++) { /* each one's key, then key_next: there may be no room for all */
		unsigned i = k % n, which = k / n;
		if (!key_number(&p[i], which) || (size_t)(at - msg) + PROOF + 1 > size)
			continue;
		prove(known[i].frame[which], msg, len, mac);
		memcpy(at, known[i].name[which], NAME_LEN);
		memcpy(at + NAME_LEN, mac, PROOF - NAME_LEN);
		at += PROOF;
		proofs++;
	}
	if (!proofs)
		return len; /* none to prove it with: in clear */
	*at++ = (uint8_t)proofs;
	return (size_t)(at - msg);
}

/* One proof: 1, by a key of this host; 0, it has none of that name; -EBADMSG, a wrong one. */
static int proves(const uint8_t *proof, const uint8_t *msg, size_t len)
{
	unsigned n;
	const struct net_peer *p = net_peers(&n);
	for (unsigned i = 0; i < 2 * n; i++) {
		uint8_t mac[TLS_SECRET];
		if (!key_number(&p[i / 2], i % 2) || memcmp(known[i / 2].name[i % 2], proof, NAME_LEN))
			continue;
		prove(known[i / 2].frame[i % 2], msg, len, mac);
		return secret_equal(mac, proof + NAME_LEN, PROOF - NAME_LEN) ? 1 : -EBADMSG;
	}
	return 0;
}

enum trust_word trust_check(const uint8_t *msg, size_t *len)
{
	size_t proofs = *len ? msg[*len - 1] : 0, body = *len - 1 - proofs * PROOF;
	int proved = 0; /* whoever sends a wrong one costs one sum, not as many as there is room for */
	for (size_t i = 0; proofs * PROOF < *len && i < proofs && !proved; i++)
		proved = proves(msg + body + i * PROOF, msg, body);
	if (proved <= 0)
		return unproved;
	*len = body;
	return TRUST_PROVED;
}

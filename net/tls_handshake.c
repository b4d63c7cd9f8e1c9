/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * TLS 1.3's handshake by mbedTLS (tls_handshake.h). mbedTLS computes under one mutex, for its key store is not made for
 * several tasks; the waiting for the peer is done outside: its "network" is two buffers here, which are filled and
 * drained between its steps.
 */
#include "mbedtls/ssl.h" /* before kernel/base/bits.h, whose `unused` is a word of these headers */
#include "psa/crypto.h"
#include "net/tls_handshake.h"
#include "kernel/random.h"
#include "kernel/sync.h"
#include "kernel/time.h"
#include "kernel/base/wipe.h"
#include <stdlib.h>
#include <string.h>

#define BYTES_MAX 8192 /* of a peer's handshake, which is some 500 bytes */

struct handshake {
	mbedtls_ssl_context ssl;
	mbedtls_ssl_config conf;
	struct tls_psk *psk;
	int (*find)(void *arg, struct tls_psk *psk);
	void *arg;
	bool asked; /* a server's: the client has named a key */
	int ciphers[AEAD_CIPHERS + 1];
	struct tls_secrets *out;
	size_t want;                  /* bytes that mbedTLS would read: never more than a record has */
	size_t in_len, in_off, n_out; /* of the buffers */
	uint8_t in[1024], outgoing[2048];
};
static struct mutex computing;

psa_status_t mbedtls_psa_external_get_random(mbedtls_psa_external_random_context_t *c unused, uint8_t *buf, size_t size,
					     size_t *len)
{
	random_bytes(buf, size);
	*len = size;
	return PSA_SUCCESS;
}

static int random_get(void *arg unused, unsigned char *buf, size_t n)
{
	random_bytes(buf, n);
	return 0;
}

static int on_send(void *arg, const unsigned char *buf, size_t n)
{
	struct handshake *h = arg;
	if (n > sizeof(h->outgoing) - h->n_out)
		return MBEDTLS_ERR_SSL_BUFFER_TOO_SMALL;
	memcpy(h->outgoing + h->n_out, buf, n);
	h->n_out += n;
	return (int)n;
}

static int on_receive(void *arg, unsigned char *buf, size_t n)
{
	struct handshake *h = arg;
	size_t have = MIN(h->in_len - h->in_off, n);
	h->want = n;
	if (!have)
		return MBEDTLS_ERR_SSL_WANT_READ;
	memcpy(buf, h->in + h->in_off, have);
	h->in_off += have;
	return (int)have;
}

static void on_secret(void *arg, mbedtls_ssl_key_export_type type, const unsigned char *secret, size_t len,
		      const unsigned char client_random[32] unused, const unsigned char server_random[32] unused,
		      mbedtls_tls_prf_types prf unused)
{
	struct handshake *h = arg;
	BUG_ON(len != TLS_SECRET);
	if (type == MBEDTLS_SSL_KEY_EXPORT_TLS1_3_CLIENT_APPLICATION_TRAFFIC_SECRET)
		memcpy(h->out->client, secret, len);
	else if (type == MBEDTLS_SSL_KEY_EXPORT_TLS1_3_SERVER_APPLICATION_TRAFFIC_SECRET)
		memcpy(h->out->server, secret, len);
}

static int on_identity(void *arg, mbedtls_ssl_context *ssl, const unsigned char *id, size_t len)
{
	struct handshake *h = arg;
	h->asked = true;
	h->psk->id_len = len;
	if (len > TLS_ID_MAX)
		return MBEDTLS_ERR_SSL_UNKNOWN_IDENTITY;
	memcpy(h->psk->id, id, len);
	if (h->find(h->arg, h->psk))
		return MBEDTLS_ERR_SSL_UNKNOWN_IDENTITY;
	return mbedtls_ssl_set_hs_psk(ssl, h->psk->key, TLS_KEY_LEN);
}

/* The fastest here first; the server takes the client's first that it has as well. */
static void list_ciphers(int list[AEAD_CIPHERS + 1])
{
	static const int suite[AEAD_CIPHERS] = { [AEAD_AES_128_GCM] = MBEDTLS_TLS1_3_AES_128_GCM_SHA256,
						 [AEAD_CHACHA20_POLY1305] = MBEDTLS_TLS1_3_CHACHA20_POLY1305_SHA256 };
	unsigned n = 0;
	enum aead_cipher best = aead_preferred();
	list[n++] = suite[best];
	for (unsigned c = 0; c < AEAD_CIPHERS; c++)
		if (c != best && aead_has(c))
			list[n++] = suite[c];
	list[n] = 0;
}

static int configure(struct handshake *h)
{
	static const uint16_t groups[] = { MBEDTLS_SSL_IANA_TLS_GROUP_X25519, 0 };
	int role = h->find ? MBEDTLS_SSL_IS_SERVER : MBEDTLS_SSL_IS_CLIENT;
	int err = mbedtls_ssl_config_defaults(&h->conf, role, MBEDTLS_SSL_TRANSPORT_STREAM, MBEDTLS_SSL_PRESET_DEFAULT);
	if (err)
		return err;
	mbedtls_ssl_conf_rng(&h->conf, random_get, NULL);
	mbedtls_ssl_conf_tls13_key_exchange_modes(&h->conf, MBEDTLS_SSL_TLS1_3_KEY_EXCHANGE_MODE_PSK_EPHEMERAL);
	mbedtls_ssl_conf_groups(&h->conf, groups);
	list_ciphers(h->ciphers);
	mbedtls_ssl_conf_ciphersuites(&h->conf, h->ciphers);
	if (h->find)
		mbedtls_ssl_conf_psk_cb(&h->conf, on_identity, h);
	else if ((err = mbedtls_ssl_conf_psk(&h->conf, h->psk->key, TLS_KEY_LEN, h->psk->id, h->psk->id_len)))
		return err;
	if ((err = mbedtls_ssl_setup(&h->ssl, &h->conf)))
		return err;
	mbedtls_ssl_set_bio(&h->ssl, h, on_send, on_receive, NULL);
	mbedtls_ssl_set_export_keys_cb(&h->ssl, on_secret, h);
	return 0;
}

/* What mbedTLS said last, as -errno. A server knows if a key was at issue; a client is told with an alert. */
static int handshake_error(const struct handshake *h, int err)
{
	if (err == MBEDTLS_ERR_SSL_ALLOC_FAILED || err == PSA_ERROR_INSUFFICIENT_MEMORY)
		return -ENOMEM;
	return (h->find ? h->asked : err == MBEDTLS_ERR_SSL_FATAL_ALERT_MESSAGE) ? -EACCES : -EPROTO;
}

static int step(struct handshake *h)
{
	mutex_lock(&computing);
	int err = mbedtls_ssl_handshake(&h->ssl);
	mutex_unlock(&computing);
	return err;
}

/* A peer who sends for ever what mbedTLS passes over, such as warnings, has the deadline and BYTES_MAX all the same. */
static int run(struct handshake *h, struct stream *s, uint64_t deadline_ns)
{
	for (size_t bytes = 0;; bytes += h->in_len) {
		if (time_ns() >= deadline_ns)
			return -ETIMEDOUT;
		if (bytes > BYTES_MAX)
			return -EPROTO;
		int err = step(h), io = h->n_out ? stream_write(s, h->outgoing, h->n_out, deadline_ns) : 0;
		h->n_out = 0;
		if (err && err != MBEDTLS_ERR_SSL_WANT_READ)
			return handshake_error(h, err);
		if (io || !err)
			return io;
		int n = stream_read_some(s, h->in, MIN(h->want, sizeof(h->in)), deadline_ns);
		if (n <= 0)
			return n ? n : -EPIPE;
		h->in_len = (size_t)n, h->in_off = 0;
	}
}

int tls_handshake(struct stream *s, struct tls_psk *psk, int (*find)(void *arg, struct tls_psk *psk), void *arg,
		  uint64_t deadline_ns, struct tls_secrets *out)
{
	struct handshake *h = calloc(1, sizeof(*h));
	if (!h)
		return -ENOMEM;
	*h = (struct handshake){ .psk = psk, .find = find, .arg = arg, .out = out };
	mutex_lock(&computing);
	mbedtls_ssl_init(&h->ssl);
	mbedtls_ssl_config_init(&h->conf);
	int err = configure(h) ? -ENOMEM : 0; /* there is nothing else that it could be */
	mutex_unlock(&computing);
	if (!err && !(err = run(h, s, deadline_ns)))
		out->cipher = mbedtls_ssl_get_ciphersuite_id_from_ssl(&h->ssl) == MBEDTLS_TLS1_3_AES_128_GCM_SHA256
				      ? AEAD_AES_128_GCM
				      : AEAD_CHACHA20_POLY1305;
	mutex_lock(&computing);
	mbedtls_ssl_free(&h->ssl);
	mbedtls_ssl_config_free(&h->conf);
	mutex_unlock(&computing);
	wipe(h, sizeof(*h));
	free(h);
	return err;
}

int tls_init(void)
{
	mutex_init(&computing, "tls");
	return psa_crypto_init() == PSA_SUCCESS ? 0 : err_trace(-ENOMEM);
}

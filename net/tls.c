/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * An encrypted stream over another one (tls.h), from the handshake's end on. Its reader has rx and the buffer for a
 * record, its writer tx and one for several, so that what is below gets enough at once; they share a flag.
 */
#include "net/tls.h"
#include "kernel/time.h"
#include "net/tls_handshake.h"
#include "kernel/base/wipe.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define OUT_RECORDS     4
#define OUT_SIZE        (OUT_RECORDS * (TLS_TEXT_MAX + TLS_OVERHEAD))
#define NO_DATA_MAX     16 /* records in a row that bring none */
#define KEY_UPDATE      24 /* RFC 8446 4.6.3; its one byte: 1, the peer is asked to do the same */
#define KEY_UPDATE_LEN  5
#define ALERT_CLOSE     0 /* RFC 8446 6.1 */
#define ALERT_CANCELLED 90

/* AES-GCM may protect 2^24.5 records of full size under one key (RFC 8446 5.5). */
uint64_t tls_records_per_key = 1 << 22;

struct tls_stream { /* (c) const  [r] the reading task  [w] the writing task  [a] atomic */
	struct stream s;
	struct stream *below;  /* (c) */
	struct tls_half rx;    /* [r] */
	size_t in_off, in_len; /* [r] text in `in` that has not been read yet */
	struct tls_half tx;    /* [w] */
	size_t out_len;        /* [w] bytes in `out` */
	bool said_end;         /* [w] */
	bool heard_end;        /* [r] */
	bool update_asked;     /* [a] the peer wants another key of us */
	char cipher[40];       /* (c) */
	uint8_t in[TLS_HEADER + TLS_BODY_MAX], out[OUT_SIZE];
};
static const struct stream_ops tls_ops;

static struct tls_stream *tls_of(struct stream *s) { return CONTAINER_OF(s, struct tls_stream, s); }

/* ---- reading ---- */

static int take_key_update(struct tls_stream *t, const uint8_t *text, int len)
{
	static const uint8_t head[] = { KEY_UPDATE, 0, 0, 1 };
	if (len != KEY_UPDATE_LEN || memcmp(text, head, sizeof(head)) || text[4] > 1)
		return -EPROTO;
	tls_half_update(&t->rx);
	if (text[4])
		__atomic_store_n(&t->update_asked, true, __ATOMIC_RELAXED);
	return 0;
}

/* One record: 1, it brought data; 0, it did not; -errno. */
static int take_record(struct tls_stream *t, uint64_t deadline_ns)
{
	uint8_t type, *text = t->in + TLS_HEADER;
	int err = stream_read(t->below, t->in, TLS_HEADER, deadline_ns), len = err ? err : tls_body_len(t->in);
	if (len < 0)
		return len;
	if ((err = stream_read(t->below, text, (size_t)len, deadline_ns)))
		return err;
	len = tls_open(&t->rx, t->in, (size_t)len, &type);
	if (len < 0)
		return len;
	switch (type) {
	case TLS_DATA: t->in_off = 0, t->in_len = (size_t)len; return len > 0;
	case TLS_HANDSHAKE: return take_key_update(t, text, len);
	case TLS_ALERT:
		if (len != 2 || (text[1] != ALERT_CLOSE && text[1] != ALERT_CANCELLED))
			return -ECONNRESET;
		t->heard_end = text[1] == ALERT_CLOSE;
		return 0;
	default: return -EPROTO;
	}
}

static int tls_read(struct stream *s, void *buf, size_t max, uint64_t deadline_ns)
{
	struct tls_stream *t = tls_of(s);
	for (unsigned i = 0; !t->in_len && !t->heard_end; i++) {
		int ret = i < NO_DATA_MAX ? take_record(t, deadline_ns) : -EPROTO;
		if (ret < 0)
			return ret;
	}
	size_t n = MIN(max, t->in_len);
	memcpy(buf, t->in + TLS_HEADER + t->in_off, n);
	t->in_off += n, t->in_len -= n;
	return (int)n;
}

/* ---- writing ---- */

static int flush(struct tls_stream *t, uint64_t deadline_ns)
{
	int err = t->out_len ? stream_write(t->below, t->out, t->out_len, deadline_ns) : 0;
	t->out_len = 0;
	return err;
}

/*
 * len bytes of text, which are in place, are a record; if the buffer may have no room for another one, all of it goes.
 */
static int put_record(struct tls_stream *t, enum tls_type type, size_t len, uint64_t deadline_ns)
{
	t->out_len += tls_seal(&t->tx, type, t->out + t->out_len, len);
	return t->out_len > OUT_SIZE - TLS_TEXT_MAX - TLS_OVERHEAD ? flush(t, deadline_ns) : 0;
}

/* Another key, if it is time or the peer has asked. */
static int update_key(struct tls_stream *t, uint64_t deadline_ns)
{
	static const uint8_t msg[KEY_UPDATE_LEN] = { KEY_UPDATE, 0, 0, 1, 0 };
	if (t->tx.records < tls_records_per_key && !__atomic_exchange_n(&t->update_asked, false, __ATOMIC_RELAXED))
		return 0;
	memcpy(t->out + t->out_len + TLS_HEADER, msg, sizeof(msg));
	int err = put_record(t, TLS_HANDSHAKE, sizeof(msg), deadline_ns);
	tls_half_update(&t->tx);
	return err;
}

static int tls_writev(struct stream *s, const struct iov *iov, unsigned n, uint64_t deadline_ns)
{
	struct tls_stream *t = tls_of(s);
	size_t len = 0; /* of the text that waits at the end of `out` */
	int err = update_key(t, deadline_ns);
	if (err)
		return err;
	for (unsigned i = 0; i < n; i++) {
		for (size_t off = 0, k; off < iov[i].len; off += k) {
			k = MIN(iov[i].len - off, TLS_TEXT_MAX - len);
			memcpy(t->out + t->out_len + TLS_HEADER + len, (const uint8_t *)iov[i].base + off, k);
			len += k;
			if (len < TLS_TEXT_MAX)
				continue;
			if ((err = put_record(t, TLS_DATA, len, deadline_ns)) || (err = update_key(t, deadline_ns)))
				return err;
			len = 0;
		}
	}
	if (len && (err = put_record(t, TLS_DATA, len, deadline_ns)))
		return err;
	return flush(t, deadline_ns);
}

/* That nothing follows, so that nobody else can say so. */
static int say_end(struct tls_stream *t, uint64_t deadline_ns)
{
	static const uint8_t msg[] = { 1, ALERT_CLOSE };
	if (t->said_end)
		return 0;
	t->said_end = true;
	memcpy(t->out + TLS_HEADER, msg, sizeof(msg));
	int err = put_record(t, TLS_ALERT, sizeof(msg), deadline_ns);
	return err ? err : flush(t, deadline_ns);
}

static int tls_shutdown(struct stream *s)
{
	struct tls_stream *t = tls_of(s);
	int err = say_end(t, time_in_ms(1000));
	return err ? err : stream_shutdown(t->below);
}

/* ---- a stream's life ---- */

static void tls_abort(struct stream *s) { stream_abort(tls_of(s)->below); }

static void tls_close(struct stream *s)
{
	struct tls_stream *t = tls_of(s);
	if (!s->err && !t->below->err)
		(void)say_end(t, time_in_ms(1000)); /* a full buffer: without it the peer finds his end missing */
	stream_close(t->below);
	wipe(t, sizeof(*t));
	free(t);
}

static const struct stream_ops tls_ops = {
	.read = tls_read,
	.writev = tls_writev,
	.shutdown = tls_shutdown,
	.abort = tls_abort,
	.close = tls_close,
};

static int wrap(struct stream **s, struct tls_secrets *k, bool server)
{
	struct tls_stream *t = calloc(1, sizeof(*t));
	if (!t)
		return -ENOMEM;
	t->s.ops = &tls_ops;
	t->s.ip = (*s)->ip;
	t->s.rtt_ns = (*s)->rtt_ns;
	memcpy(t->s.peer, (*s)->peer, sizeof(t->s.peer));
	t->below = *s;
	tls_half_init(&t->rx, k->cipher, server ? k->client : k->server);
	tls_half_init(&t->tx, k->cipher, server ? k->server : k->client);
	snprintf(t->cipher, sizeof(t->cipher), "TLS 1.3, %s", aead_name(k->cipher));
	*s = &t->s;
	return 0;
}

static int establish(struct stream **s, struct tls_psk *psk, int (*find)(void *arg, struct tls_psk *psk), void *arg,
		     uint64_t deadline_ns)
{
	struct tls_secrets k;
	int err = tls_handshake(*s, psk, find, arg, deadline_ns, &k);
	if (!err)
		err = wrap(s, &k, find);
	wipe(&k, sizeof(k));
	return err;
}

int tls_connect(struct stream **s, const struct tls_psk *psk, uint64_t deadline_ns)
{
	struct tls_psk p = *psk;
	int err = establish(s, &p, NULL, NULL, deadline_ns);
	wipe(&p, sizeof(p));
	return err;
}

int tls_accept(struct stream **s, int (*find)(void *arg, struct tls_psk *psk), void *arg, uint64_t deadline_ns)
{
	struct tls_psk p = { .id_len = 0 };
	int err = establish(s, &p, find, arg, deadline_ns);
	wipe(&p, sizeof(p));
	return err;
}

bool tls_is(const struct stream *s) { return s->ops == &tls_ops; }

const char *tls_cipher(const struct stream *s) { return CONTAINER_OF(s, const struct tls_stream, s)->cipher; }

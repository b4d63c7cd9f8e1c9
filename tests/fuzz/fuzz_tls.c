/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Records of a peer who has the key, and whatever somebody on the way makes of them. The input is a sequence of steps:
 * sealed records with any inner type, text and padding, changes of the key, alerts; and a record whose header or body
 * is changed, or bytes that are none. What is read is what the good records had, up to the first wrong byte and not one
 * further; then it ends, in order or with an error, as the standard has it (RFC 8446 4.6.3, 5, 6).
 */
#include "net/tls.h"
#include "net/tls_handshake.h"
#include "arch/x86/fpu.h"
#include "kernel/time.h"
#include "tests/unit/fake_kernel.h"
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
uint64_t fpu_xcr0_mask(void) { return 7; }

static void want(bool good)
{
	if (!good)
		abort();
}

/* ---- in place of a handshake, which has its own target ---- */

static const uint8_t secret_c[TLS_SECRET] = "the client's traffic secret", secret_s[TLS_SECRET] = "the server's";
static enum aead_cipher cipher;

int tls_handshake(struct stream *s unused, struct tls_psk *psk unused,
		  int (*find)(void *arg, struct tls_psk *psk) unused, void *arg unused, uint64_t end unused,
		  struct tls_secrets *out)
{
	out->cipher = cipher;
	memcpy(out->client, secret_c, TLS_SECRET);
	memcpy(out->server, secret_s, TLS_SECRET);
	return 0;
}

static int no_find(void *arg unused, struct tls_psk *psk unused) { return -EACCES; }

/* ---- the wire: what comes in, and what has gone out ---- */

static struct wire {
	struct stream s;
	uint8_t in[1 << 18], out[1 << 18];
	size_t in_len, in_at, out_len;
} wire;

static int wire_read(struct stream *s unused, void *buf, size_t max, uint64_t end unused)
{
	size_t n = MIN(max, wire.in_len - wire.in_at);
	memcpy(buf, wire.in + wire.in_at, n);
	wire.in_at += n;
	return (int)n;
}
static int wire_writev(struct stream *s unused, const struct iov *iov, unsigned n, uint64_t end unused)
{
	for (unsigned i = 0; i < n; i++) {
		want(iov[i].len <= sizeof(wire.out) - wire.out_len);
		memcpy(wire.out + wire.out_len, iov[i].base, iov[i].len);
		wire.out_len += iov[i].len;
	}
	return 0;
}
static int wire_shutdown(struct stream *s unused) { return 0; }
static void wire_nothing(struct stream *s unused) {}
static const struct stream_ops wire_ops = { wire_read, wire_writev, wire_shutdown, wire_nothing, wire_nothing };

/* ---- what the peer sends, and what is to come of it ---- */

struct input {
	const uint8_t *p;
	size_t left;
};

static unsigned take(struct input *in, unsigned bytes)
{
	unsigned v = 0;
	for (; bytes && in->left; bytes--, in->left--)
		v = v << 8 | *in->p++;
	return v;
}

enum verdict { GOES_ON, ENDS, FAILS };
static struct tls_half peer; /* what it seals with */
static enum verdict verdict; /* of all so far */
static bool update_asked;    /* of us */
static unsigned idle;        /* records in a row without data */
static uint8_t expect[1 << 18];
static size_t expected;

static uint8_t pattern(size_t i) { return (uint8_t)(i * 31 + (i >> 8) + 7); }

/* As tls_seal, with any inner plaintext. */
static uint8_t *seal(const uint8_t *inner, size_t len)
{
	uint8_t *rec = wire.in + wire.in_len, nonce[AEAD_NONCE];
	size_t body = len + AEAD_TAG;
	memcpy(rec, (uint8_t[]){ 23, 3, 3, (uint8_t)(body >> 8), (uint8_t)body }, TLS_HEADER);
	memcpy(nonce, peer.iv, AEAD_NONCE);
	for (unsigned i = 0; i < 8; i++)
		nonce[AEAD_NONCE - 1 - i] ^= (uint8_t)(peer.records >> 8 * i);
	peer.records++;
	aead_seal(&peer.key, nonce, rec, TLS_HEADER, inner, rec + TLS_HEADER, len, rec + TLS_HEADER + len);
	wire.in_len += TLS_HEADER + body;
	return rec;
}

static enum verdict judge_control(uint8_t type, const uint8_t *text, size_t len)
{
	if (type == TLS_ALERT && len == 2)
		return text[1] == 0 ? ENDS : text[1] == 90 ? GOES_ON : FAILS;
	if (type != TLS_HANDSHAKE || len != 5)
		return FAILS;
	tls_half_update(&peer);
	update_asked |= text[4] == 1;
	return !memcmp(text, "\30\0\0\1", 4) && text[4] <= 1 ? GOES_ON : FAILS;
}

static void judge(const uint8_t *inner, size_t n)
{
	while (n && !inner[n - 1])
		n--;
	if (!n || n - 1 > 16384 || idle == 16) {
		verdict = FAILS;
		return;
	}
	size_t len = n - 1;
	idle = inner[len] == TLS_DATA && len ? 0 : idle + 1;
	if (inner[len] != TLS_DATA) {
		verdict = judge_control(inner[len], inner, len);
		return;
	}
	memcpy(expect + expected, inner, len);
	expected += len;
}

/* len bytes of text, the first ones from the input, its type, and padding. */
static void put_record(struct input *in, uint8_t type, size_t len, size_t from_input, size_t padding)
{
	static uint8_t inner[TLS_BODY_MAX];
	len = MIN(len, sizeof(inner) - AEAD_TAG - 1);
	padding = MIN(padding, sizeof(inner) - AEAD_TAG - 1 - len);
	for (size_t i = 0; i < len; i++)
		inner[i] = i < from_input && in->left ? (uint8_t)take(in, 1) : pattern(expected + i);
	inner[len] = type;
	memset(inner + len + 1, 0, padding);
	uint8_t *rec = seal(inner, len + 1 + padding);
	unsigned change = take(in, 1) % 8; /* 6, 7: on the way */
	const size_t size = TLS_HEADER + len + 1 + padding + AEAD_TAG;
	if (change < 6) {
		judge(inner, len + 1 + padding);
		return;
	}
	/* Somebody on the way changes a bit: of any byte, or of the header, and there is enough for any length. */
	rec[take(in, 2) % (change == 6 ? TLS_HEADER : size)] ^= (uint8_t)(1U << take(in, 1) % 8);
	verdict = FAILS;
	wire.in_len += change == 6 ? TLS_BODY_MAX * 5 : 0;
}

static void step(struct input *in)
{
	unsigned what = take(in, 1);
	const uint8_t update[] = { 24, 0, 0, 1, what >> 3 & 3 };
	struct input text = { update, sizeof(update) };
	switch (what % 8) {
	case 0: put_record(in, TLS_DATA, take(in, 2), 0, take(in, 1)); break;
	case 1: put_record(in, TLS_DATA, take(in, 1), 256, take(in, 2)); break;
	case 2: put_record(&text, TLS_HANDSHAKE, 5, 5, what >> 4); break;
	case 3: put_record(in, TLS_HANDSHAKE, what >> 4, 16, 0); break;
	case 4: put_record(in, TLS_ALERT, 2, 2, what >> 4); break;
	case 5: put_record(in, (uint8_t)take(in, 1), take(in, 1), 256, take(in, 2)); break;
	case 6: put_record(in, 0, take(in, 2), 2, take(in, 1)); break;
	default: /* bytes that no key has sealed */
		verdict = in->left ? FAILS : verdict;
		while (in->left)
			wire.in[wire.in_len++] = (uint8_t)take(in, 1);
	}
}

/* ---- what we send: opened with the peer's half ---- */

static void check_out(struct tls_half *half, size_t sent, bool closed)
{
	size_t at = 0, got = 0, records = 0, updates = 0;
	bool ended = false;
	while (at < wire.out_len) {
		uint8_t type = 0, *rec = wire.out + at;
		int body = tls_body_len(rec), len = body < 0 ? body : tls_open(half, rec, (size_t)body, &type);
		want(len >= 0 && !ended);
		at += TLS_HEADER + (size_t)body;
		for (int i = 0; type == TLS_DATA && i < len; i++)
			want(rec[TLS_HEADER + i] == pattern(got++));
		if (type == TLS_HANDSHAKE) {
			want(len == 5 && !memcmp(rec + TLS_HEADER, "\30\0\0\1\0", 5) && !records);
			tls_half_update(half);
			updates++;
		}
		ended = type == TLS_ALERT;
		records++;
	}
	want(got == sent && ended == closed && updates == (update_asked && sent));
}

static void read_all(struct stream *s)
{
	static uint8_t buf[40000];
	size_t got = 0;
	int n;
	while ((n = stream_read_some(s, buf, got % 3 ? sizeof(buf) : 777, TIME_NEVER)) > 0) {
		want(got + (size_t)n <= expected && !memcmp(buf, expect + got, (size_t)n));
		got += (size_t)n;
	}
	want(got == expected);
	want(verdict == ENDS ? n == 0 : n < 0); /* an end that was not said is an error, too */
}

static void answer(struct stream *s, size_t len)
{
	static uint8_t buf[65536];
	for (size_t i = 0; i < len; i++)
		buf[i] = pattern(i);
	want(!stream_write(s, buf, len, TIME_NEVER));
}

/* Its first byte: server or client, which cipher, and how much is written afterwards. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static bool begun;
	struct input in = { data, size };
	struct tls_psk psk = { .id_len = 0 };
	struct stream *s = &wire.s;
	if (!size || size > 4096)
		return 0;
	if (!begun)
		aead_init();
	begun = true;
	unsigned first = take(&in, 1);
	bool server = first & 1;
	cipher = first & 2 && aead_has(AEAD_AES_128_GCM) ? AEAD_AES_128_GCM : AEAD_CHACHA20_POLY1305;
	wire.s = (struct stream){ .ops = &wire_ops };
	wire.in_len = wire.in_at = wire.out_len = expected = idle = 0;
	verdict = GOES_ON;
	update_asked = false;
	tls_half_init(&peer, cipher, server ? secret_c : secret_s);
	want(!(server ? tls_accept(&s, no_find, NULL, TIME_NEVER) : tls_connect(&s, &psk, TIME_NEVER)));
	while (in.left && verdict == GOES_ON && wire.in_len < 6 * (TLS_HEADER + TLS_BODY_MAX))
		step(&in);
	if (verdict != GOES_ON) { /* what follows would be good, if the reader were still there */
		seal((const uint8_t *)"text\27", 5);
		seal((const uint8_t *)"\1\0\25", 3);
	}
	read_all(s);
	bool ends = verdict == ENDS;
	size_t sent = ends ? (size_t)(first >> 2) * 1000 : 0;
	if (sent)
		answer(s, sent);
	stream_close(s);
	struct tls_half half;
	tls_half_init(&half, cipher, server ? secret_s : secret_c);
	check_out(&half, sent, ends);
	return 0;
}

/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A handshake whose other end is foreign. One session of two ends that have the same key is recorded, with random
 * numbers that come again; then an end hears what the other one said in it, with changes, or anything at all. If it is
 * content all the same, then with the session's secrets: its peer had the key and nothing of weight was changed.
 */
#include "net/tls.h"
#include "net/tls_handshake.h"
#include "arch/x86/fpu.h"
#include "kernel/random.h"
#include "kernel/task.h"
#include "kernel/time.h"
#include "tests/unit/fake_kernel.h"
#include "tests/unit/pipe.h"
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
uint64_t fpu_xcr0_mask(void) { return 7; }

static void want(bool good)
{
	if (!good)
		abort();
}

/* Each end's numbers begin anew with its handshake. */
static _Thread_local uint64_t seed;
void random_bytes(void *buf, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		seed = seed * 6364136223846793005UL + 1442695040888963407UL;
		((uint8_t *)buf)[i] = (uint8_t)(seed >> 56);
	}
}

/* ---- streams: one that keeps what it reads, and one that reads what was kept ---- */

#define HEARD_MAX 4096
struct heard {
	struct stream s;
	struct stream *below; /* NULL: p is all that there is */
	uint8_t p[HEARD_MAX];
	size_t len, at;
};

static int heard_read(struct stream *s, void *buf, size_t max, uint64_t end)
{
	struct heard *h = CONTAINER_OF(s, struct heard, s);
	int n = h->below ? stream_read_some(h->below, h->p + h->len, MIN(max, HEARD_MAX - h->len), end)
			 : (int)MIN(max, h->len - h->at);
	if (n <= 0)
		return n;
	h->len += h->below ? (size_t)n : 0;
	memcpy(buf, h->p + h->at, (size_t)n);
	h->at += (size_t)n;
	return n;
}
static int heard_writev(struct stream *s, const struct iov *iov, unsigned n, uint64_t end)
{
	struct heard *h = CONTAINER_OF(s, struct heard, s);
	return h->below ? stream_writev(h->below, iov, n, end) : 0;
}
static const struct stream_ops heard_ops = { .read = heard_read, .writev = heard_writev };

/* ---- an end ---- */

static struct end { /* 0: the client */
	struct heard heard;
	struct tls_secrets secrets;
	int err;
} good[2];

static int find(void *arg unused, struct tls_psk *psk)
{
	if (psk->id_len != 4 || memcmp(psk->id, "ab>c", 4))
		return -EACCES;
	memset(psk->key, 7, TLS_KEY_LEN);
	return 0;
}

static int shake_hands(struct stream *s, bool server, struct tls_secrets *out)
{
	struct tls_psk psk = { .id = "ab>c", .id_len = server ? 0 : 4 };
	memset(psk.key, server ? 0 : 7, TLS_KEY_LEN);
	seed = server ? 2 : 1;
	memset(out, 0, sizeof(*out));
	return tls_handshake(s, &psk, server ? find : NULL, NULL, TIME_NEVER, out);
}

static void run_end(void *arg)
{
	struct end *e = arg;
	e->err = shake_hands(&e->heard.s, e == &good[1], &e->secrets);
}

static void begin(void)
{
	struct stream *p[2];
	aead_init();
	want(!tls_init() && !stream_pipe(p, HEARD_MAX));
	for (unsigned i = 0; i < 2; i++) {
		good[i].heard = (struct heard){ .s.ops = &heard_ops, .below = p[i] };
		want(task_create("end", TASK_PRIO_NORMAL, run_end, &good[i]));
	}
	want(fake_tasks_wait() && !good[0].err && !good[1].err);
	want(!memcmp(&good[0].secrets, &good[1].secrets, sizeof(good[0].secrets)));
	for (unsigned i = 0; i < 2; i++)
		stream_close(p[i]);
}

/* ---- changes: | what 2 bits, where | value | ... ---- */

static size_t change(uint8_t p[HEARD_MAX], size_t len, const uint8_t *data)
{
	size_t at = ((data[0] & 0x3fU) << 8 | data[1]) % (len + 1);
	size_t n = MIN((size_t)data[2] & 15, len - at);
	switch (data[0] >> 6) {
	case 0: p[at % MAX(len, 1UL)] = data[2]; return len;
	case 1: p[at % MAX(len, 1UL)] ^= (uint8_t)(1U << data[2] % 8); return len;
	case 2: memmove(p + at, p + at + n, len - at - n); return len - n;
	default: /* a few bytes twice */
		n = MIN(n, HEARD_MAX - len);
		memmove(p + at + n, p + at, len - at);
		return len + n;
	}
}

/* ---- a ClientHello (RFC 8446 4.1.2) whose lengths fit, whatever is in it: none of these knows the key ---- */

struct hello {
	uint8_t *p;
	size_t len;
	const uint8_t *in;
	size_t left;
};

static void put(struct hello *h, const void *bytes, size_t n)
{
	n = MIN(n, HEARD_MAX - h->len);
	memcpy(h->p + h->len, bytes, n);
	h->len += n;
}
#define PUT(h, ...) put(h, (const uint8_t[]){ __VA_ARGS__ }, sizeof((const uint8_t[]){ __VA_ARGS__ }))

static unsigned take(struct hello *h) { return h->left ? h->left--, *h->in++ : 0; }

/* The bytes before `begin` are the length of all behind it. */
static void end_block(struct hello *h, size_t begin, unsigned bytes)
{
	for (unsigned i = 0; i < bytes; i++)
		h->p[begin - 1 - i] = (uint8_t)((h->len - begin) >> 8 * i);
}

static void put_input(struct hello *h, size_t n)
{
	while (n--)
		PUT(h, (uint8_t)take(h));
}

static void put_psk(struct hello *h)
{
	PUT(h, 0, 41, 0, 0, 0, 0, 0, 0); /* lengths of the extension, the list, the first one */
	size_t begin = h->len;
	for (unsigned n = take(h); n; n--)
		put(h, "ab>c", 4); /* 1000 bytes or so */
	put_input(h, take(h) % 8);
	end_block(h, begin, 2);
	PUT(h, 0, 0, 0, 0); /* age */
	end_block(h, begin - 2, 2);
	PUT(h, 0, 33, 32);
	put(h, good[0].heard.p, 32);
	end_block(h, begin - 4, 2);
}

static void put_extension(struct hello *h)
{
	static const uint8_t share[] = { 0, 51, 0, 38, 0, 36, 0, 29, 0, 32, 9, 1, 2, 3, 4 };
	switch (take(h) % 6) {
	case 0: PUT(h, 0, 43, 0, 3, 2, 3, 4); return;
	case 1: PUT(h, 0, 10, 0, 4, 0, 2, 0, 29); return;
	case 2:
		put(h, share, sizeof(share));
		put(h, good[0].heard.p, 42 - sizeof(share));
		return;
	case 3: PUT(h, 0, 45, 0, 2, 1, (uint8_t)take(h)); return;
	case 4: put_psk(h); return;
	default:
		PUT(h, (uint8_t)(take(h) % 2), (uint8_t)take(h), 0, 0);
		size_t begin = h->len;
		put_input(h, take(h));
		end_block(h, begin, 2);
	}
}

static size_t hello_of_input(uint8_t p[HEARD_MAX], const uint8_t *data, size_t size)
{
	struct hello h = { p, 0, data, size };
	PUT(&h, 22, 3, 1, 0, 0, 1, 0, 0, 0, 3, 3);
	put(&h, good[0].heard.p, 32);
	PUT(&h, 0, 0, 4, 0x13, 1, 0x13, 3, 1, 0, 0, 0);
	size_t begin = h.len;
	static const uint8_t all[] = { 0, 1, 2, 3, 1 };
	struct hello usual = { p, h.len, all, sizeof(all) };
	while (usual.left && take(&h) % 8)
		put_extension(&usual);
	h.len = usual.len;
	while (h.left)
		put_extension(&h);
	end_block(&h, begin, 2);
	end_block(&h, 9, 3);
	end_block(&h, 5, 2);
	return h.len;
}

/*
 * Its first byte: which end hears it, and whether it hears the session with changes, a hello made of the input, or the
 * input alone.
 */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct heard h;
	struct tls_secrets got;
	if (!size || size > 2048)
		return 0;
	if (!good[0].heard.len)
		begin();
	bool server = data[0] & 3; /* a client costs a public key each time */
	enum { CHANGED, RAW, HELLO } what = data[0] >> 2 & 3 ? (data[0] & 4 ? HELLO : RAW) : CHANGED;
	const struct end *was = &good[server];
	h.s = (struct stream){ .ops = &heard_ops };
	h.at = 0;
	h.len = what == CHANGED ? was->heard.len : size - 1;
	memcpy(h.p, what == CHANGED ? was->heard.p : data + 1, h.len);
	if (what == HELLO)
		h.len = hello_of_input(h.p, data + 1, size - 1);
	for (size_t i = 1; what == CHANGED && i + 3 <= size; i += 3)
		h.len = change(h.p, h.len, data + i);
	int err = shake_hands(&h.s, server, &got);
	want(err <= 0 && err != -ETIMEDOUT);
	want(err || (what == CHANGED && !memcmp(&got, &was->secrets, sizeof(got))));
	want(!err || what != CHANGED || size > 3); /* nothing is changed */
	return 0;
}

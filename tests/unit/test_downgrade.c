/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Somebody on the way edits the two hellos of a handshake, which are in clear: to have an older version, no
 * Diffie-Hellman exchange (psk_ke, RFC 8446 4.2.9), another cipher. Lengths fit afterwards, so that it is the handshake
 * that finds it, and not a parser. Who hears it says that he cannot speak so, or that the key is not proved, and the
 * other end is not content either.
 */
#include "arch/x86/fpu.h"
#include "kernel/random.h"
#include "kernel/sync.h"
#include "kernel/task.h"
#include "kernel/time.h"
#include "net/tls.h"
#include "net/tls_record.h"
#include "tests/unit/fake_kernel.h"
#include "tests/unit/pipe.h"
#include <stdlib.h>
#include <string.h>

uint64_t fpu_xcr0_mask(void) { return 7; }
static uint64_t soon(void) { return time_in_ms(10000); }
void random_bytes(void *buf, size_t n)
{
	for (size_t i = 0; i < n; i++)
		((uint8_t *)buf)[i] = (uint8_t)rand();
}

/* ---- a hello: record, handshake message, extensions (RFC 8446 4.1.2, 4.1.3, 5.1) ---- */

enum { EXT_PSK = 41, EXT_VERSIONS = 43, EXT_PSK_MODES = 45, EXT_KEY_SHARE = 51 };
enum { HELLO_CLIENT = 1, HELLO_SERVER = 2, AT_TYPE = 5, AT_VERSION = 9, AT_SESSION = 43 };

struct hello {
	uint8_t p[1024];
	size_t len, rest; /* of this record; and of what else is behind it */
};

static size_t ciphers_of(const struct hello *h) { return AT_SESSION + 1 + h->p[AT_SESSION]; }

static size_t extensions_of(const struct hello *h)
{
	size_t at = ciphers_of(h);
	if (h->p[AT_TYPE] == HELLO_SERVER)
		return at + 3;
	at += 2 + get_be16(h->p + at);
	return at + 1 + h->p[at];
}

/* Where an extension begins: type, length, contents. */
static size_t extension(const struct hello *h, unsigned type)
{
	size_t at = extensions_of(h) + 2;
	while (at < h->len && get_be16(h->p + at) != type)
		at += 4 + get_be16(h->p + at + 2);
	assert_in_range(at, 1, h->len - 1);
	return at;
}

static void lessen(uint8_t *field, size_t by) { put_be16(field, get_be16(field) - (unsigned)by); }

static void leave_out(struct hello *h, unsigned type)
{
	size_t at = extension(h, type), n = 4 + get_be16(h->p + at + 2U);
	lessen(h->p + extensions_of(h), n);
	lessen(h->p + 7, n); /* the message's length has a byte more, which is 0 */
	lessen(h->p + 3, n);
	memmove(h->p + at, h->p + at + n, h->len + h->rest - at - n);
	h->len -= n;
}

/* ---- what is done to it ---- */

static void nothing(struct hello *h unused) {}
static void no_versions(struct hello *h) { leave_out(h, EXT_VERSIONS); }
static void no_key_share(struct hello *h) { leave_out(h, EXT_KEY_SHARE); }
static void no_psk(struct hello *h) { leave_out(h, EXT_PSK); }
static void no_psk_modes(struct hello *h) { leave_out(h, EXT_PSK_MODES); }
/* Of a client a list with its length in front, of a server the one: TLS 1.2. */
static void version_2(struct hello *h) { h->p[extension(h, EXT_VERSIONS) + 4 + (h->p[AT_TYPE] == 1) + 1] = 3; }
/* As an old server would say it: no extension, and its random ends so (RFC 8446 4.1.3). */
static void old_server(struct hello *h)
{
	leave_out(h, EXT_VERSIONS);
	memcpy(h->p + AT_SESSION - 8, "DOWNGRD\1", 8);
}
static void psk_ke(struct hello *h) { h->p[extension(h, EXT_PSK_MODES) + 5] = 0; }
static void psk_ke_too(struct hello *h)
{
	leave_out(h, EXT_KEY_SHARE);
	psk_ke(h);
}
/* AES-128-GCM becomes ChaCha20-Poly1305 and the reverse: 0x1301, 0x1303. */
static void other_cipher(struct hello *h)
{
	size_t at = ciphers_of(h), n = 2;
	if (h->p[AT_TYPE] == HELLO_CLIENT)
		n = get_be16(h->p + at), at += 2;
	for (; n; n -= 2, at += 2)
		h->p[at + 1] ^= 1 ^ 3;
}
static void unknown_cipher(struct hello *h) { h->p[ciphers_of(h) + (h->p[AT_TYPE] == 1 ? 2 : 0) + 1] = 5; }
static void other_group(struct hello *h)
{
	size_t at = extension(h, EXT_KEY_SHARE) + 4;
	h->p[at + (h->p[AT_TYPE] == HELLO_CLIENT ? 3 : 1)] = 23; /* secp256r1 */
}
static void other_share(struct hello *h) { h->p[extension(h, EXT_KEY_SHARE) + 20] ^= 1; }
static void second_psk(struct hello *h) { h->p[extension(h, EXT_PSK) + 5] = 1; }

/* ---- the way, one of whose directions has somebody who does that to the first that passes ---- */

struct editor {
	struct stream s;
	struct stream *below;
	void (*edit)(struct hello *h);
	unsigned type;
	bool done;
};
static int editor_read(struct stream *s, void *buf, size_t max, uint64_t end)
{
	return stream_read_some(CONTAINER_OF(s, struct editor, s)->below, buf, max, end);
}
static int editor_writev(struct stream *s, const struct iov *iov, unsigned n, uint64_t end)
{
	struct editor *e = CONTAINER_OF(s, struct editor, s);
	struct hello h;
	if (e->done || n != 1)
		return stream_writev(e->below, iov, n, end);
	assert_in_range(iov->len, AT_SESSION, sizeof(h.p));
	memcpy(h.p, iov->base, iov->len);
	h.len = 5 + get_be16(h.p + 3);
	h.rest = iov->len - h.len;
	assert_int_equal(h.p[AT_TYPE], e->type);
	e->edit(&h);
	e->done = true;
	return stream_write(e->below, h.p, h.len + h.rest, end);
}
static void editor_close(struct stream *s) { stream_close(CONTAINER_OF(s, struct editor, s)->below); }
static const struct stream_ops editor_ops = { .read = editor_read, .writev = editor_writev, .close = editor_close };

static struct end {
	struct stream *s;
	bool server;
	int err;
} ends[2];

static int find(void *arg unused, struct tls_psk *psk)
{
	memset(psk->key, 7, TLS_KEY_LEN);
	return psk->id_len == 4 ? 0 : -EACCES;
}

static void run_end(void *arg)
{
	struct end *e = arg;
	struct tls_psk psk = { .id = "ab>c", .id_len = 4 };
	memset(psk.key, 7, TLS_KEY_LEN);
	e->err = e->server ? tls_accept(&e->s, find, NULL, soon()) : tls_connect(&e->s, &psk, soon());
	stream_close(e->s);
}

static void shake_hands(unsigned type, void (*edit)(struct hello *h))
{
	struct stream *p[2];
	struct editor e = { .s.ops = &editor_ops, .edit = edit, .type = type };
	unsigned by = type == HELLO_SERVER;
	assert_int_equal(stream_pipe(p, 5000), 0);
	e.below = p[by];
	p[by] = &e.s;
	for (unsigned i = 0; i < 2; i++) {
		ends[i] = (struct end){ .s = p[i], .server = i };
		assert_non_null(task_create("end", TASK_PRIO_NORMAL, run_end, &ends[i]));
	}
	assert_true(fake_tasks_wait());
	assert_true(e.done);
}

/* In words of tls.h. */
static bool is_refusal(int err) { return err == -EPROTO || err == -EACCES; }

static void test_edited_hellos(void **state unused)
{
	static const struct {
		const char *name;
		unsigned type;
		void (*edit)(struct hello *h);
	} edits[] = {
		{ "client's versions left out", HELLO_CLIENT, no_versions },
		{ "client has TLS 1.2 alone", HELLO_CLIENT, version_2 },
		{ "client's key share left out", HELLO_CLIENT, no_key_share },
		{ "client's key left out", HELLO_CLIENT, no_psk },
		{ "client's modes left out", HELLO_CLIENT, no_psk_modes },
		{ "client has psk_ke alone", HELLO_CLIENT, psk_ke },
		{ "client has psk_ke alone and no key share", HELLO_CLIENT, psk_ke_too },
		{ "client has other ciphers", HELLO_CLIENT, other_cipher },
		{ "client's first cipher is unknown", HELLO_CLIENT, unknown_cipher },
		{ "client's group", HELLO_CLIENT, other_group },
		{ "client's key share", HELLO_CLIENT, other_share },
		{ "server's version left out", HELLO_SERVER, no_versions },
		{ "server has TLS 1.2", HELLO_SERVER, version_2 },
		{ "server is an old one", HELLO_SERVER, old_server },
		{ "server's key share left out", HELLO_SERVER, no_key_share },
		{ "server takes no key", HELLO_SERVER, no_psk },
		{ "server has another cipher", HELLO_SERVER, other_cipher },
		{ "server has an unknown cipher", HELLO_SERVER, unknown_cipher },
		{ "server's group", HELLO_SERVER, other_group },
		{ "server's key share", HELLO_SERVER, other_share },
		{ "server takes a key that was not there", HELLO_SERVER, second_psk },
	};
	for (unsigned i = HELLO_CLIENT; i <= HELLO_SERVER; i++) {
		shake_hands(i, nothing);
		assert_true(!ends[0].err && !ends[1].err);
	}
	for (unsigned i = 0; i < ARRAY_SIZE(edits); i++) {
		shake_hands(edits[i].type, edits[i].edit);
		const struct end *hears = &ends[edits[i].type == HELLO_CLIENT],
				 *other = &ends[edits[i].type == HELLO_SERVER];
		if (!is_refusal(hears->err) || !other->err)
			fail_msg("%s: client %s, server %s", edits[i].name, err_name(ends[0].err),
				 err_name(ends[1].err));
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_edited_hellos) };
	aead_init();
	if (tls_init())
		return 1;
	return cmocka_run_group_tests(tests, NULL, NULL);
}

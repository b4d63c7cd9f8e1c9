/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * TLS over streams in memory: what goes in comes out, in both directions, with each cipher and over changes of keys;
 * whatever is cut, changed, repeated or left out on the way ends the stream, and no byte that was not sent is ever
 * read.
 */
#include "kernel/random.h"
#include "kernel/sync.h"
#include "kernel/task.h"
#include "kernel/time.h"
#include "arch/x86/fpu.h"
#include "net/tls.h"
#include "net/tls_record.h"
#include "tests/unit/fake_kernel.h"
#include "tests/unit/pipe.h"
#include <arpa/inet.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

uint64_t fpu_xcr0_mask(void) { return 7; }

static uint64_t patience_ms = 10000;
static uint64_t soon(void) { return time_in_ms(patience_ms); }

void random_bytes(void *buf, size_t n)
{
	for (size_t i = 0; i < n; i++)
		((uint8_t *)buf)[i] = (uint8_t)rand();
}

static uint8_t pattern(size_t i) { return (uint8_t)(i * 31 + (i >> 8) + 7); }

/* ---- a stream that spoils what is written to it ---- */

struct spoiler {
	struct stream s;
	struct stream *below;
	uint64_t at;  /* the byte of the output that is changed */
	uint8_t flip; /* by this; 0: not */
	int record;   /* which record (from the first one after the handshake): */
	bool repeat, leave_out;
	uint64_t seen;
	int records;
	bool wrote;
	unsigned trips; /* reads after a write: what it waits for is a round trip away */
};
static struct spoiler *spoiler_of(struct stream *s) { return CONTAINER_OF(s, struct spoiler, s); }

static int spoiler_read(struct stream *s, void *buf, size_t max, uint64_t end)
{
	struct spoiler *p = spoiler_of(s);
	__atomic_fetch_add(&p->trips, p->wrote, __ATOMIC_SEQ_CST);
	p->wrote = false;
	return stream_read_some(p->below, buf, max, end);
}

static int spoiler_writev(struct stream *s, const struct iov *iov, unsigned n, uint64_t end)
{
	struct spoiler *p = spoiler_of(s);
	p->wrote = true;
	for (unsigned i = 0; i < n; i++) {
		uint8_t *copy = malloc(iov[i].len + 1);
		memcpy(copy, iov[i].base, iov[i].len);
		if (p->flip && p->at >= p->seen && p->at < p->seen + iov[i].len)
			copy[p->at - p->seen] ^= p->flip;
		p->seen += iov[i].len;
		bool it = copy[0] == TLS_DATA && p->records++ == p->record;
		int err = it && p->leave_out ? 0 : stream_write(p->below, copy, iov[i].len, end);
		if (!err && it && p->repeat)
			err = stream_write(p->below, copy, iov[i].len, end);
		free(copy);
		if (err)
			return err;
	}
	return 0;
}
static int spoiler_shutdown(struct stream *s) { return stream_shutdown(spoiler_of(s)->below); }
static void spoiler_abort(struct stream *s) { stream_abort(spoiler_of(s)->below); }
static void spoiler_close(struct stream *s) { stream_close(spoiler_of(s)->below); }
static const struct stream_ops spoiler_ops = { spoiler_read, spoiler_writev, spoiler_shutdown, spoiler_abort,
					       spoiler_close };

/* ---- two ends ---- */

static const uint8_t good_key[TLS_KEY_LEN] = "a key of two hosts, 32 bytes lon";

struct end {
	struct stream *s;
	uint8_t key[TLS_KEY_LEN];
	bool server, refuses;
	size_t send, step, got;
	bool ended; /* the peer said its end */
	char cipher[40];
	int handshake, err; /* of each */
	struct completion done, written;
};

static int find(void *arg, struct tls_psk *psk)
{
	struct end *e = arg;
	if (e->refuses || psk->id_len != 4 || memcmp(psk->id, "ab>c", 4))
		return -EACCES;
	memcpy(psk->key, e->key, sizeof(psk->key));
	return 0;
}

static void write_all(struct end *e)
{
	uint8_t *buf = malloc(e->step + 1);
	for (size_t at = 0; at < e->send && !e->err;) {
		size_t n = MIN(e->step, e->send - at);
		for (size_t i = 0; i < n; i++)
			buf[i] = pattern(at + i);
		struct iov iov[2] = { { buf, n / 3 }, { buf + n / 3, n - n / 3 } };
		e->err = stream_writev(e->s, iov, 2, soon());
		at += n;
	}
	free(buf);
	if (!e->err)
		e->err = stream_shutdown(e->s);
}

static void read_all(struct end *e)
{
	uint8_t buf[5000];
	int n;
	while ((n = stream_read_some(e->s, buf, sizeof(buf), soon())) > 0)
		for (int i = 0; i < n; i++)
			assert_int_equal(buf[i], pattern(e->got++));
	e->ended = !n;
	if (n < 0 && !e->err)
		e->err = n;
}

/* Handshake; then the client writes and the server reads, and the other way round. */
static void run_end(void *arg)
{
	struct end *e = arg;
	struct tls_psk psk = { .id = "ab>c", .id_len = 4 };
	memcpy(psk.key, e->key, sizeof(psk.key));
	e->handshake = e->server ? tls_accept(&e->s, find, e, soon()) : tls_connect(&e->s, &psk, soon());
	if (!e->handshake)
		snprintf(e->cipher, sizeof(e->cipher), "%s", tls_cipher(e->s));
	if (!e->handshake && e->server)
		read_all(e), write_all(e);
	else if (!e->handshake)
		write_all(e), read_all(e);
	stream_close(e->s);
	completion_done(&e->done);
}

static void begin_as(void (*fn)(void *end), struct end *e, bool server, struct stream *below)
{
	e->s = below;
	e->server = server;
	completion_init(&e->done);
	assert_non_null(task_create("end", TASK_PRIO_NORMAL, fn, e));
}

static void wait_ends(struct end e[2])
{
	for (int i = 0; i < 2; i++)
		assert_int_equal(completion_wait(&e[i].done, time_in_ms(60000)), 0);
	assert_true(fake_tasks_wait());
}

static void run_as(void (*fn)(void *end), struct end e[2], struct stream *below[2])
{
	for (int i = 0; i < 2; i++)
		begin_as(fn, &e[i], i, below[i]);
	wait_ends(e);
}

static void run(struct end e[2], struct stream *below[2]) { run_as(run_end, e, below); }

static struct end end_new(size_t send, size_t step)
{
	struct end e = { .send = send, .step = step };
	memcpy(e.key, good_key, sizeof(e.key));
	return e;
}

static void run_plain(struct end e[2])
{
	struct stream *p[2];
	assert_int_equal(stream_pipe(p, 5000), 0);
	run(e, p);
}

static void check_all(const struct end e[2])
{
	for (int i = 0; i < 2; i++) {
		assert_int_equal(e[i].handshake, 0);
		assert_int_equal(e[i].err, 0);
		assert_true(e[i].ended);
		assert_int_equal(e[i].got, e[!i].send);
	}
}

static void test_both_ways(void **state unused)
{
	static const size_t steps[] = { 1, 100, 16383, 16384, 16385, 65536, 262144, 300001 };
	for (unsigned k = 0; k < 2; k++) {
		if (k)
			(void)aead_init_limited(0, 0); /* no AES-NI: the other cipher */
		assert_true(!k || !aead_has(AEAD_AES_128_GCM));
		for (unsigned i = 0; i < ARRAY_SIZE(steps); i++) {
			struct end e[2] = { end_new(2 * steps[i] + 1, steps[i]), end_new(777, steps[i]) };
			run_plain(e);
			check_all(e);
		}
	}
	aead_init();
}

/* The client may speak one round trip after its hello: a migration that is encrypted begins so much later. */
static void one_trip(void *arg)
{
	struct end *e = arg;
	struct stream *below = e->s;
	struct tls_psk psk = { .id = "ab>c", .id_len = 4 };
	memcpy(psk.key, e->key, sizeof(psk.key));
	e->handshake = e->server ? tls_accept(&e->s, find, e, soon()) : tls_connect(&e->s, &psk, soon());
	assert_int_equal(e->handshake, 0);
	if (!e->server)
		assert_int_equal(spoiler_of(below)->trips, 1);
	stream_close(e->s);
	completion_done(&e->done);
}

static void test_round_trips(void **state unused)
{
	struct end e[2] = { end_new(0, 1), end_new(0, 1) };
	struct stream *p[2];
	assert_int_equal(stream_pipe(p, 5000), 0);
	struct spoiler s = { .s = { .ops = &spoiler_ops }, .below = p[0], .record = -1 };
	run_as(one_trip, e, (struct stream *[]){ &s.s, p[1] });
}

/* One end has no AES-NI and so the one cipher only; the other end prefers the other: they agree. */
static void test_another_cipher_here_than_there(void **state unused)
{
	if (!aead_has(AEAD_AES_128_GCM))
		skip();
	for (unsigned k = 0; k < 2; k++) {
		struct end e[2] = { end_new(70000, 1000), end_new(5000, 99) };
		struct stream *p[2];
		assert_int_equal(stream_pipe(p, 5000), 0);
		struct spoiler s = { .s = { .ops = &spoiler_ops }, .below = p[0], .record = -1 };
		if (!k)
			(void)aead_init_limited(0, 0);
		begin_as(run_end, &e[0], false, &s.s);
		WAIT_FOR(__atomic_load_n(&s.trips, __ATOMIC_SEQ_CST)); /* its hello has left, with all that it has */
		if (k)
			(void)aead_init_limited(0, 0);
		else
			aead_init();
		begin_as(run_end, &e[1], true, p[1]);
		wait_ends(e);
		check_all(e);
		for (unsigned i = 0; i < 2; i++)
			assert_string_equal(e[i].cipher, "TLS 1.3, ChaCha20-Poly1305");
	}
	aead_init();
}

/* Of two megabytes, with a new key for every third record, in one direction after the other. */
static void test_keys_change(void **state unused)
{
	tls_records_per_key = 3;
	struct end e[2] = { end_new(1 << 20, 70000), end_new(1 << 20, 1000) };
	run_plain(e);
	check_all(e);
	tls_records_per_key = 1 << 22;
}

/* Both ends write and read at once, each with two tasks, while their keys change, also because the peer asks. */
static void write_task(void *arg)
{
	write_all(arg);
	completion_done(&((struct end *)arg)->written);
}

static void duplex_end(void *arg)
{
	struct end *e = arg;
	struct tls_psk psk = { .id = "ab>c", .id_len = 4 };
	memcpy(psk.key, e->key, sizeof(psk.key));
	e->handshake = e->server ? tls_accept(&e->s, find, e, soon()) : tls_connect(&e->s, &psk, soon());
	assert_int_equal(e->handshake, 0);
	completion_init(&e->written);
	assert_non_null(task_create("writer", TASK_PRIO_NORMAL, write_task, e));
	read_all(e);
	assert_int_equal(completion_wait(&e->written, soon()), 0);
	stream_close(e->s);
	completion_done(&e->done);
}

static void test_both_at_once(void **state unused)
{
	struct stream *p[2];
	struct end e[2] = { end_new(3000000, 30000), end_new(3000000, 777) };
	tls_records_per_key = 7;
	assert_int_equal(stream_pipe(p, 5000), 0);
	run_as(duplex_end, e, p);
	check_all(e);
	tls_records_per_key = 1 << 22;
}

static void test_wrong_key(void **state unused)
{
	for (int k = 0; k < 2; k++) {
		struct end e[2] = { end_new(10, 10), end_new(10, 10) };
		e[0].key[31] ^= !k;
		e[1].refuses = k;
		run_plain(e);
		assert_int_equal(e[0].handshake, -EACCES);
		assert_int_equal(e[1].handshake, -EACCES);
	}
}

struct talker {
	struct stream *s;
	const char *text;
	size_t len;
};
static void talk(void *arg)
{
	struct talker *t = arg;
	char buf[4096];
	assert_int_equal(stream_write(t->s, t->text, t->len, soon()), 0);
	while (stream_read_some(t->s, buf, sizeof(buf), soon()) > 0)
		;
	stream_close(t->s);
}

/* Who speaks something else is told apart from who has another key. */
static void test_no_tls(void **state unused)
{
	static const char hello[] = "\1\0\0\0\100\0\0\0 what release 0.3 would say", tls[] = "\26\3\1\0\4\1\0\0\0";
	const struct talker t[] = { { NULL, hello, sizeof(hello) }, { NULL, tls, sizeof(tls) - 1 } };
	struct tls_psk psk = { .id_len = 4 };
	for (unsigned i = 0; i < 4; i++) {
		struct stream *p[2];
		struct talker k = t[i / 2];
		struct end e = end_new(0, 1);
		assert_int_equal(stream_pipe(p, 5000), 0);
		k.s = p[1];
		assert_non_null(task_create("talker", TASK_PRIO_NORMAL, talk, &k));
		assert_int_equal(i % 2 ? tls_accept(&p[0], find, &e, soon()) : tls_connect(&p[0], &psk, soon()),
				 -EPROTO);
		stream_close(p[0]);
		assert_true(fake_tasks_wait());
	}
}

static void test_handshake_ends_by_its_deadline(void **state unused)
{
	struct stream *p[2];
	struct tls_psk psk = { .id_len = 4 };
	struct end e = end_new(0, 1);
	assert_int_equal(stream_pipe(p, 5000), 0);
	assert_int_equal(tls_connect(&p[0], &psk, time_in_ms(20)), -ETIMEDOUT);
	stream_close(p[0]);
	stream_close(p[1]);
	assert_int_equal(stream_pipe(p, 5000), 0);
	assert_int_equal(tls_accept(&p[0], find, &e, time_in_ms(20)), -ETIMEDOUT);
	stream_close(p[0]);
	stream_close(p[1]);
}

/* Warnings (RFC 8446 6), which mbedTLS passes over, one after the other: as fast as they go, or one each pause_ms. */
struct warner {
	struct stream *s;
	unsigned pause_ms;
};
static void warn_for_ever(void *arg)
{
	static const uint8_t warning[] = { 21, 3, 3, 0, 2, 1, 90 };
	struct warner *w = arg;
	struct completion never;
	completion_init(&never);
	while (!stream_write(w->s, warning, sizeof(warning), soon()))
		if (w->pause_ms)
			(void)!completion_wait(&never, time_in_ms(w->pause_ms));
	stream_close(w->s);
}

static void test_who_never_comes_to_the_point(void **state unused)
{
	struct tls_psk psk = { .id_len = 4 };
	for (unsigned i = 0; i < 4; i++) {
		struct stream *p[2];
		struct end e = end_new(0, 1);
		assert_int_equal(stream_pipe(p, 5000), 0);
		struct warner w = { p[1], i / 2 ? 2 : 0 };
		assert_non_null(task_create("warner", TASK_PRIO_NORMAL, warn_for_ever, &w));
		uint64_t end = w.pause_ms ? time_in_ms(100) : time_in_ms(30000);
		int err = i % 2 ? tls_accept(&p[0], find, &e, end) : tls_connect(&p[0], &psk, end);
		assert_int_equal(err, w.pause_ms ? -ETIMEDOUT : -EPROTO);
		stream_close(p[0]);
		assert_true(fake_tasks_wait());
	}
}

/* Bytes that an end puts out in a session with nothing wrong. */
static uint64_t bytes_of_session(int which)
{
	struct stream *p[2], *mine[2];
	struct spoiler sp[2] = { 0 };
	struct end e[2] = { end_new(40, 20), end_new(40, 20) };
	assert_int_equal(stream_pipe(p, 5000), 0);
	for (int i = 0; i < 2; i++) {
		sp[i] = (struct spoiler){ .s.ops = &spoiler_ops, .below = p[i], .record = -1 };
		mine[i] = &sp[i].s;
	}
	run(e, mine);
	check_all(e);
	return sp[which].seen;
}

static void test_cut_at_every_byte(void **state unused)
{
	for (int which = 0; which < 2; which++) {
		uint64_t all = bytes_of_session(which);
		for (uint64_t at = 0; at < all; at++) {
			struct stream *p[2];
			struct end e[2] = { end_new(40, 20), end_new(40, 20) };
			assert_int_equal(stream_pipe(p, 5000), 0);
			stream_pipe_cut_after(p[which], at);
			run(e, p);
			assert_true(e[!which].handshake || !e[!which].ended); /* it knows that its end is missing */
		}
	}
}

static void test_every_byte_changed(void **state unused)
{
	for (int which = 0; which < 2; which++) {
		patience_ms = 10000;
		uint64_t all = bytes_of_session(which);
		patience_ms = 100; /* a length that grew is waited for */
		for (uint64_t at = 0; at < all; at++) {
			struct stream *p[2], *mine[2];
			struct spoiler sp = {
				.s.ops = &spoiler_ops, .record = -1, .at = at, .flip = (uint8_t)(1U << at % 8)
			};
			struct end e[2] = { end_new(40, 20), end_new(40, 20) };
			assert_int_equal(stream_pipe(p, 5000), 0);
			sp.below = p[which];
			mine[which] = &sp.s, mine[!which] = p[!which];
			run(e, mine);
			bool early = e[0].handshake || e[1].handshake;
			/* Of the 5 bytes of a record's header in the handshake mbedTLS ignores the version's. */
			assert_true(early || !e[!which].ended || at < 5);
		}
	}
	patience_ms = 10000;
}

/* A record that is repeated, or left out, is noticed; its neighbours are not given out as something else. */
static void test_records_in_order(void **state unused)
{
	for (unsigned k = 0; k < 8; k++) {
		struct stream *p[2], *mine[2];
		int which = k & 1;
		/* The first two of them that begin with 23 are Finished and the like. */
		struct spoiler sp = {
			.s.ops = &spoiler_ops, .record = 3 + (int)(k >> 2), .repeat = k & 2, .leave_out = !(k & 2)
		};
		struct end e[2] = { end_new(400, 40), end_new(400, 40) };
		assert_int_equal(stream_pipe(p, 5000), 0);
		sp.below = p[which];
		mine[which] = &sp.s, mine[!which] = p[!which];
		run(e, mine);
		assert_int_equal(e[!which].handshake, 0);
		assert_false(e[!which].ended);
		assert_int_equal(e[!which].err, -EBADMSG);
		assert_true(e[!which].got < 400);
	}
}

/* RFC 5869, A.3: no salt, no info. */
static void test_hkdf(void **state unused)
{
	static const uint8_t want[32] = { 0x8d, 0xa4, 0xe7, 0x75, 0xa5, 0x63, 0xc1, 0x8f, 0x71, 0x5f, 0x80,
					  0x2a, 0x06, 0x3c, 0x5a, 0x31, 0xb8, 0xa1, 0x1f, 0x5c, 0x5e, 0xe1,
					  0x87, 0x9e, 0xc3, 0x45, 0x4e, 0x5f, 0x3c, 0x73, 0x8d, 0x2d };
	uint8_t key[22], out[32];
	memset(key, 0x0b, sizeof(key));
	tls_hkdf(key, sizeof(key), NULL, 0, out, sizeof(out));
	assert_memory_equal(out, want, sizeof(want));
}

/* ---- OpenSSL at the other end ---- */

#define PSK_HEX "61206b6579206f662074776f20686f7374732c203332206279746573206c6f6e" /* good_key */

struct fd_stream {
	struct stream s;
	int fd;
};
static int fd_wait(int fd, short events, uint64_t end)
{
	struct pollfd p = { fd, events, 0 };
	uint64_t now = time_ns();
	return poll(&p, 1, end > now ? (int)((end - now) / NS_PER_MS) : 0) == 1 ? 0 : -ETIMEDOUT;
}
static int fd_read(struct stream *s, void *buf, size_t max, uint64_t end)
{
	int fd = CONTAINER_OF(s, struct fd_stream, s)->fd, err = fd_wait(fd, POLLIN, end);
	ssize_t n = err ? err : read(fd, buf, max);
	return n < 0 && !err ? -errno : (int)n;
}
static int fd_writev(struct stream *s, const struct iov *iov, unsigned n, uint64_t end unused)
{
	for (unsigned i = 0; i < n; i++)
		if (write(CONTAINER_OF(s, struct fd_stream, s)->fd, iov[i].base, iov[i].len) != (ssize_t)iov[i].len)
			return -EPIPE; /* the socket blocks: it takes all, or is gone */
	return 0;
}
static int fd_shutdown(struct stream *s) { return shutdown(CONTAINER_OF(s, struct fd_stream, s)->fd, SHUT_WR); }
static void fd_close(struct stream *s) { close(CONTAINER_OF(s, struct fd_stream, s)->fd); }
static const struct stream_ops fd_ops = { fd_read, fd_writev, fd_shutdown, NULL, fd_close };

static int listen_here(uint16_t *port)
{
	struct sockaddr_in a = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t len = sizeof(a);
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_int_equal(bind(fd, (struct sockaddr *)&a, sizeof(a)), 0);
	assert_int_equal(getsockname(fd, (struct sockaddr *)&a, &len), 0);
	assert_int_equal(listen(fd, 1), 0);
	*port = ntohs(a.sin_port);
	return fd;
}

/* A shell command in the background; *input, unless that is NULL, is written to it. */
static pid_t shell(const char *command, int *input)
{
	int p[2] = { -1, -1 };
	if (input)
		assert_int_equal(pipe(p), 0);
	pid_t pid = fork();
	if (!pid) {
		if (input)
			dup2(p[0], 0), close(p[1]);
		execl("/bin/sh", "sh", "-c", command, NULL);
		_exit(127);
	}
	if (input) {
		fcntl(p[1], F_SETFD, FD_CLOEXEC);
		close(p[0]);
		*input = p[1];
	}
	return pid;
}

static void hear(struct stream *s, const char *line)
{
	char buf[64];
	assert_int_equal(stream_read(s, buf, strlen(line), soon()), 0);
	assert_memory_equal(buf, line, strlen(line));
}

/*
 * `openssl s_client` says a line, changes its key and wants ours changed ("K", alone in what it reads), and says
 * another one.
 */
static void serve_openssl(const char *suite)
{
	char command[400];
	uint16_t port;
	int input, status, l = listen_here(&port);
	snprintf(command, sizeof(command),
		 "exec timeout 20 openssl s_client -connect 127.0.0.1:%u -psk " PSK_HEX
		 " -psk_identity 'ab>c' -tls1_3 -ciphersuites %s >/dev/null 2>&1",
		 port, suite);
	pid_t pid = shell(command, &input);
	assert_int_equal(fd_wait(l, POLLIN, soon()), 0);
	struct fd_stream f = { .s.ops = &fd_ops, .fd = accept(l, NULL, NULL) };
	struct end e = end_new(0, 1);
	struct stream *s = &f.s;
	assert_int_equal(tls_accept(&s, find, &e, soon()), 0);
	assert_non_null(strstr(tls_cipher(s), strstr(suite, "AES") ? "AES" : "ChaCha"));
	assert_int_equal(write(input, "first\n", 6), 6);
	hear(s, "first\n");
	assert_int_equal(write(input, "K\n", 2), 2);
	assert_int_equal(fd_wait(f.fd, POLLIN, soon()), 0);
	assert_int_equal(write(input, "second\n", 7), 7);
	hear(s, "second\n");
	assert_int_equal(stream_write(s, "answer\n", 7, soon()), 0); /* with the new key */
	close(input); /* it says its end, unless it could not read that */
	assert_int_equal(stream_read_some(s, command, 1, soon()), 0);
	stream_close(s);
	close(l);
	waitpid(pid, &status, 0);
	assert_int_equal(status, 0);
}

static void test_openssl_as_client(void **state unused)
{
	if (aead_has(AEAD_AES_128_GCM))
		serve_openssl("TLS_AES_128_GCM_SHA256");
	serve_openssl("TLS_CHACHA20_POLY1305_SHA256");
}

/* Who has the key and speaks an older version alone: the server does not even ask which key it is. */
static void test_openssl_without_1_3(void **state unused)
{
	static const char *const old[] = { "-tls1_2", "-tls1_1 -cipher PSK:@SECLEVEL=0" };
	char command[400];
	for (unsigned i = 0; i < ARRAY_SIZE(old); i++) {
		uint16_t port;
		int status, l = listen_here(&port);
		snprintf(command, sizeof(command),
			 "exec timeout 20 openssl s_client -connect 127.0.0.1:%u -psk " PSK_HEX
			 " -psk_identity 'ab>c' %s </dev/null >/dev/null 2>&1",
			 port, old[i]);
		pid_t pid = shell(command, NULL);
		assert_int_equal(fd_wait(l, POLLIN, soon()), 0);
		struct fd_stream f = { .s.ops = &fd_ops, .fd = accept(l, NULL, NULL) };
		struct end e = end_new(0, 1);
		struct stream *s = &f.s;
		assert_int_equal(tls_accept(&s, find, &e, soon()), -EPROTO);
		stream_close(s);
		close(l);
		waitpid(pid, &status, 0);
		assert_int_not_equal(status, 0);
	}
}

/* `openssl s_server -rev` answers each line, reversed: over several of our changes of keys, it follows them. */
static void test_openssl_as_server(void **state unused)
{
	char command[400], line[64], got[64];
	uint16_t port;
	int l = listen_here(&port), status; /* a port that is free */
	close(l);
	snprintf(command, sizeof(command),
		 "exec timeout 20 openssl s_server -accept 127.0.0.1:%u -naccept 1 -rev -nocert -psk " PSK_HEX
		 " -psk_identity 'ab>c' -tls1_3 -num_tickets 0 -quiet >/dev/null 2>&1",
		 port);
	pid_t pid = shell(command, NULL);
	struct sockaddr_in a = { .sin_family = AF_INET,
				 .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
				 .sin_port = htons(port) };
	struct fd_stream f = { .s.ops = &fd_ops };
	uint64_t end = soon();
	int err = -1;
	while (err && time_ns() < end) {
		f.fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
		err = connect(f.fd, (struct sockaddr *)&a, sizeof(a));
		if (err)
			close(f.fd), task_sleep_until(time_in_ms(20));
	}
	assert_int_equal(err, 0);
	struct tls_psk psk = { .id = "ab>c", .id_len = 4 };
	struct stream *s = &f.s;
	memcpy(psk.key, good_key, sizeof(psk.key));
	assert_int_equal(tls_connect(&s, &psk, soon()), 0);
	tls_records_per_key = 2;
	for (unsigned i = 0; i < 9; i++) {
		int n = snprintf(line, sizeof(line), "%u followed me", i);
		strcat(line, "\n");
		assert_int_equal(stream_write(s, line, (size_t)n + 1, soon()), 0);
		assert_int_equal(stream_read(s, got, (size_t)n + 1, soon()), 0);
		for (int k = 0; k < n; k++)
			assert_int_equal(got[k], line[n - 1 - k]);
	}
	tls_records_per_key = 1 << 22;
	stream_close(s);
	waitpid(pid, &status, 0);
	assert_int_equal(status, 0);
}

int main(void)
{
	signal(SIGPIPE, SIG_IGN);
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_both_at_once),
		cmocka_unit_test(test_who_never_comes_to_the_point),
		cmocka_unit_test(test_hkdf),
		cmocka_unit_test(test_both_ways),
		cmocka_unit_test(test_round_trips),
		cmocka_unit_test(test_another_cipher_here_than_there),
		cmocka_unit_test(test_keys_change),
		cmocka_unit_test(test_wrong_key),
		cmocka_unit_test(test_no_tls),
		cmocka_unit_test(test_handshake_ends_by_its_deadline),
		cmocka_unit_test(test_cut_at_every_byte),
		cmocka_unit_test(test_every_byte_changed),
		cmocka_unit_test(test_records_in_order),
		cmocka_unit_test(test_openssl_as_client),
		cmocka_unit_test(test_openssl_without_1_3),
		cmocka_unit_test(test_openssl_as_server),
	};
	aead_init();
	if (tls_init())
		return 1;
#ifdef __SANITIZE_THREAD__ /* the others have one task at a time in a stream */
	const struct CMUnitTest shared[] = { cmocka_unit_test(test_both_at_once) };
	if (!getenv("ALL"))
		return cmocka_run_group_tests(shared, NULL, NULL);
#endif
	return cmocka_run_group_tests(tests, NULL, NULL);
}

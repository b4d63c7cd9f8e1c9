/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * For tests that move a VM between two hosts of fake_hosts.h: streams that record, damage and interfere, and the
 * independent reader of what was recorded.
 */
#pragma once
#include "kernel/time.h"
#include "net/stream.h"
#include "tests/unit/fake_net.h"
#include "tests/unit/pipe.h"
#include "vmm/migrate/migrate.h"
#include "vmm/migrate/records.h"
#include "vmm/migrate/this_host.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

struct log {
	uint8_t *p;
	size_t len, cap;
};
struct tap {
	struct stream s;
	struct stream *under;
	struct log *log;  /* of what this end writes; may be NULL */
	uint64_t flip_at; /* byte of its output whose bits are flipped, ~0: none */
	uint8_t flip;
	unsigned write_no, cancel_at; /* before the n-th write (1..) the operator cancels; 0: never */
	bool far;          /* a line of 15 ms: its acknowledgements come late, and READY only once COMMIT is out */
	struct vm *writes; /* its guest writes after each */
	void (*on_read)(uint8_t *buf,
			size_t max); /* what came is in buf, where as much as max had place. NULL: nothing */
};
static int cancel_result;
/* A test's own part: when the bytes are known, and when they are out. */
static void tap_before(struct tap *t, const uint8_t *bytes);
static void tap_after(struct tap *t);

static inline struct tap *tap_of(struct stream *s) { return CONTAINER_OF(s, struct tap, s); }

static int tap_read(struct stream *s, void *buf, size_t max, uint64_t deadline)
{
	int n = stream_read_some(tap_of(s)->under, buf, max, deadline);
	if (n > 0 && tap_of(s)->on_read)
		tap_of(s)->on_read(buf, max);
	return n;
}

static int tap_writev(struct stream *s, const struct iov *iov, unsigned n, uint64_t deadline)
{
	struct tap *t = tap_of(s);
	size_t len = 0;
	for (unsigned i = 0; i < n; i++)
		len += iov[i].len;
	uint8_t *flat = malloc(len), *p = flat;
	for (unsigned i = 0; i < n; p += iov[i++].len)
		memcpy(p, iov[i].base, iov[i].len);
	if (t->flip_at >= s->bytes_out && t->flip_at - s->bytes_out < len)
		flat[t->flip_at - s->bytes_out] ^= t->flip;
	if (t->log) {
		if (t->log->len + len > t->log->cap)
			t->log->p = realloc(t->log->p, t->log->cap = (t->log->len + len) * 2);
		memcpy(t->log->p + t->log->len, flat, len);
		t->log->len += len;
	}
	tap_before(t, flat);
	if (++t->write_no == t->cancel_at)
		cancel_result = migrate_cancel("demo", NULL);
	int err = stream_write(t->under, flat, len, deadline);
	free(flat);
	tap_after(t);
	return err;
}
static int tap_shutdown(struct stream *s) { return stream_shutdown(tap_of(s)->under); }
static void tap_abort(struct stream *s) { stream_abort(tap_of(s)->under); }
static void tap_close(struct stream *s)
{
	stream_close(tap_of(s)->under);
	free(tap_of(s));
}
static const struct stream_ops tap_ops = { tap_read, tap_writev, tap_shutdown, tap_abort, tap_close };

static inline struct tap *tap_new(struct stream *under, struct ip ip, const char *peer)
{
	struct tap *t = calloc(1, sizeof(*t));
	t->s.ops = &tap_ops;
	t->under = under;
	t->flip_at = ~0ULL;
	t->s.ip = ip;
	strcpy(t->s.peer, peer);
	return t;
}

/* The ends of a connection from host 0 to host 1. */
static inline struct tap *connect_taps(struct tap **dest)
{
	struct stream *ends[2];
	if (stream_pipe(ends, 1 << 16))
		abort();
	*dest = tap_new(ends[1], fake_net_address(0), "10.77.0.11:40000");
	return tap_new(ends[0], fake_net_address(1), "10.77.0.12:7077");
}

/* As a release says it that has these features. */
static inline int hello_as(struct wire_tx *tx, uint64_t features)
{
	wire_begin(tx, WIRE_HELLO);
	wire_put_u64(tx, WIRE_MAGIC);
	wire_put_u32(tx, 3);
	wire_put_u32(tx, 3);
	wire_put_u64(tx, features);
	wire_put_u32(tx, WIRE_RECORD_MAX);
	wire_put_str(tx, "before", 32);
	int err = wire_end(tx, time_in_ms(1000));
	wire_begin(tx, WIRE_IDENT);
	wire_put_u64(tx, migrate_this_host()->inc.host);
	wire_put_u64(tx, migrate_this_host()->inc.boot);
	return err ? err : wire_end(tx, time_in_ms(1000));
}
/* As the release before says it, or, with other features, an older one. */
static uint64_t before_features = BIT(0) | BIT(1) | HELLO_0_6;
static inline int hello_before(struct wire_tx *tx) { return hello_as(tx, before_features); }

/* It says hello, and hears no offer. */
static inline void dest_before_in_vain(void *arg)
{
	struct stream *s = arg;
	struct wire_tx tx;
	struct wire_rx rx;
	struct hello h;
	fake_host = 1;
	assert_int_equal(wire_tx_init(&tx, s), 0);
	assert_int_equal(wire_rx_init(&rx, s), 0);
	assert_int_equal(hello_before(&tx), 0);
	assert_int_equal(hello_recv(&rx, &h, time_in_ms(1000), NULL), 0);
	while (!wire_recv(&rx, time_in_ms(3000), NS_PER_SEC, NULL))
		assert_int_not_equal(rx.type, WIRE_OFFER);
	wire_tx_fini(&tx);
	wire_rx_fini(&rx);
	stream_close(s);
}

/* The independent reader, written from doc/wire.md alone, accepts the stream (and rejects each mutation of it). */
static inline void independent_reader(const struct log l[2], const char *option)
{
	char dir[] = "/tmp/tern-wire-XXXXXX", cmd[256];
	assert_non_null(mkdtemp(dir));
	for (int i = 0; i < 2; i++) {
		snprintf(cmd, sizeof(cmd), "%s/%d", dir, i);
		FILE *f = fopen(cmd, "wb");
		assert_non_null(f);
		assert_int_equal(fwrite(l[i].p, 1, l[i].len, f), l[i].len);
		fclose(f);
	}
	snprintf(cmd, sizeof(cmd), "/usr/bin/python3 tests/wire_reader.py %s %s/0 %s/1", option, dir, dir);
	int err = system(cmd);
	snprintf(cmd, sizeof(cmd), "rm -rf %s", dir);
	int left = system(cmd);
	assert_int_equal(err, 0);
	assert_int_equal(left, 0);
}

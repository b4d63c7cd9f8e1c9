/* SPDX-License-Identifier: BSD-2-Clause */
/* Checksums and segmentation in software: against a plain checker, and with offsets that a hostile guest might give. */
#include "kernel/frame.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

static uint32_t plain_sum(const uint8_t *p, size_t n, uint32_t sum)
{
	for (size_t i = 0; i < n; i++) {
		sum += i % 2 ? p[i] : (uint32_t)p[i] << 8;
		sum = (sum & 0xffff) + (sum >> 16);
	}
	return sum;
}

static uint32_t be(const uint8_t *p, unsigned n)
{
	uint32_t v = 0;
	while (n--)
		v = v << 8 | *p++;
	return v;
}

/* A TCP frame with the checksum partial, as a guest gives it. Returns its length. */
static size_t make_tcp(uint8_t *b, bool v6, unsigned tags, size_t payload, unsigned options, uint8_t tcp_flags)
{
	size_t ip = 14 + 4 * tags, iphl = v6 ? 40 : 20, tcp = ip + iphl, head = tcp + 20 + options;
	memset(b, 0, head);
	memcpy(b, "\xff\xff\xff\xff\xff\xff\x02\x00\x00\x00\x00\x01", 12);
	for (unsigned i = 0; i < tags; i++)
		memcpy(b + 12 + 4 * i, i + 1 < tags ? "\x88\xa8\x00\x06" : "\x81\x00\x00\x05", 4);
	b[ip - 2] = v6 ? 0x86 : 0x08;
	b[ip - 1] = v6 ? 0xdd : 0x00;
	size_t tlen = 20 + options + payload;
	if (v6) {
		b[ip] = 0x60;
		b[ip + 4] = (uint8_t)(tlen >> 8);
		b[ip + 5] = (uint8_t)tlen;
		b[ip + 6] = 6;
		for (unsigned i = 0; i < 32; i++)
			b[ip + 8 + i] = (uint8_t)(i * 7 + 1);
	} else {
		b[ip] = 0x45;
		b[ip + 2] = (uint8_t)((20 + tlen) >> 8);
		b[ip + 3] = (uint8_t)(20 + tlen);
		b[ip + 4] = 0xff;
		b[ip + 5] = 0xfe; /* identification runs over */
		b[ip + 8] = 64;
		b[ip + 9] = 6;
		memcpy(b + ip + 12, "\x0a\x4d\x00\x0b\x0a\x4d\x00\x01", 8);
	}
	memcpy(b + tcp + 4, "\xff\xff\xff\x00", 4); /* sequence numbers run over too */
	b[tcp + 12] = (uint8_t)((5 + options / 4) << 4);
	b[tcp + 13] = tcp_flags;
	for (unsigned i = 0; i < options; i++)
		b[tcp + 20 + i] = 1;
	for (size_t i = 0; i < payload; i++)
		b[head + i] = (uint8_t)(i * 31 + (i >> 8));
	return head + payload;
}

struct seen {
	size_t ip, tcp, payload; /* offsets expected */
	bool v6;
	unsigned n;
	size_t bytes;
	uint8_t data[70000];
	uint8_t flags[100];
	uint32_t seq[100];
};

/* In one piece, which ASan looks at. The caller frees it. */
static uint8_t *flat(const struct frame *f)
{
	uint8_t *b = malloc(f->len + !f->len);
	size_t sum = 0;
	assert_true(f->niov <= FRAME_IOV_MAX);
	for (unsigned i = 0; i < f->niov; i++)
		sum += f->iov[i].len;
	assert_int_equal(sum, f->len);
	assert_int_equal(frame_copy_out(f, 0, b, f->len), f->len);
	assert_true(!f->flags && f->gso == FRAME_GSO_NONE);
	return b;
}

static void collect(void *arg, const struct frame *f)
{
	struct seen *s = arg;
	size_t len = f->len;
	uint8_t *b = flat(f);
	assert_true(len >= s->payload);
	uint32_t pseudo;
	size_t tcp_len = len - s->tcp;
	if (s->v6) {
		assert_int_equal(be(b + s->ip + 4, 2), len - s->tcp);
		pseudo = plain_sum(b + s->ip + 8, 32, 0);
	} else {
		assert_int_equal(be(b + s->ip + 2, 2), len - s->ip);
		assert_int_equal(be(b + s->ip + 4, 2), (0xfffe + s->n) & 0xffff);
		assert_int_equal(plain_sum(b + s->ip, s->tcp - s->ip, 0), 0xffff);
		pseudo = plain_sum(b + s->ip + 12, 8, 0);
	}
	pseudo += 6 + (uint32_t)tcp_len;
	assert_int_equal(plain_sum(b + s->tcp, tcp_len, (pseudo & 0xffff) + (pseudo >> 16)), 0xffff);
	s->seq[s->n] = be(b + s->tcp + 4, 4);
	s->flags[s->n++] = b[s->tcp + 13];
	memcpy(s->data + s->bytes, b + s->payload, len - s->payload);
	s->bytes += len - s->payload;
	free(b);
}

static void segment(bool v6, unsigned tags, size_t payload, unsigned options, uint16_t mss)
{
	static uint8_t b[70000];
	static struct seen s;
	memset(&s, 0, sizeof(s));
	s.v6 = v6;
	s.ip = 14 + 4 * tags;
	s.tcp = s.ip + (v6 ? 40 : 20);
	s.payload = s.tcp + 20 + options;
	size_t len = make_tcp(b, v6, tags, payload, options, 0x99); /* CWR ACK PSH FIN */
	struct frame f;
	frame_init_flat(&f, b, len);
	f.niov = 0; /* in odd pieces */
	for (size_t off = 0, n = 3; off < len; off += n, n = n * 2 + 1) {
		n = f.niov == FRAME_IOV_IN ? len - off : n < len - off ? n : len - off;
		f.iov[f.niov++] = (struct iov){ b + off, n };
	}
	f.gso = v6 ? FRAME_GSO_TCPV6 : FRAME_GSO_TCPV4;
	f.gso_size = mss;
	f.flags = FRAME_NEEDS_CSUM;
	assert_true(frame_finish(&f, 9000, collect, &s));
	assert_int_equal(s.n, payload ? (payload + mss - 1) / mss : 1);
	assert_int_equal(s.bytes, payload);
	assert_memory_equal(s.data, b + s.payload, payload);
	for (unsigned i = 0; i < s.n; i++) {
		assert_int_equal(s.seq[i], (uint32_t)(0xffffff00u + i * mss));
		uint8_t want = 0x10 | (i == 0 ? 0x80 : 0) | (i == s.n - 1 ? 0x09 : 0);
		assert_int_equal(s.flags[i], want);
	}
}

static void test_segments(void **state)
{
	(void)state;
	for (unsigned v6 = 0; v6 < 2; v6++)
		for (unsigned tags = 0; tags < 3; tags++) {
			unsigned mss = v6 ? 1428 : 1448;
			segment(v6, tags, 0, 12, (uint16_t)mss);
			segment(v6, tags, 1, 12, (uint16_t)mss);
			segment(v6, tags, mss, 12, (uint16_t)mss);
			segment(v6, tags, mss + 1, 12, (uint16_t)mss);
			segment(v6, tags, 65000, 12, (uint16_t)mss);
			segment(v6, tags, 5001, 0, 1000);
			segment(v6, tags, 777, 40, 11);
			segment(v6, tags, 65000, 12, 8900);
		}
}

static void nothing_out(void *arg, const struct frame *f)
{
	(void)arg;
	free(flat(f));
}

static void test_malformed_refused(void **state)
{
	(void)state;
	uint8_t b[4000];
	size_t len = make_tcp(b, false, 0, 3000, 0, 0x10);
	struct frame f;
#define REFUSED(change)                                                  \
	do {                                                             \
		len = make_tcp(b, false, 0, 3000, 0, 0x10);              \
		frame_init_flat(&f, b, len);                             \
		f.gso = FRAME_GSO_TCPV4;                                 \
		f.gso_size = 1000;                                       \
		change;                                                  \
		assert_false(frame_finish(&f, 1500, nothing_out, NULL)); \
	} while (0)
	REFUSED(f.gso_size = 0);
	REFUSED(f.gso_size = 1461);
	REFUSED(f.gso_size = 65535);
	REFUSED(f.gso = 3);
	REFUSED(f.gso = FRAME_GSO_TCPV6);
	REFUSED(b[14] = 0x44);                            /* IP header too short */
	REFUSED(b[14] = 0x65);                            /* not version 4 */
	REFUSED(b[23] = 17);                              /* UDP */
	REFUSED(b[20] = 0x20);                            /* a fragment */
	REFUSED(b[46] = 0x40);                            /* TCP header too short */
	REFUSED(f.len = f.iov[0].len = 50);               /* cut inside TCP's header */
	REFUSED(b[46] = 0xf0; f.len = f.iov[0].len = 60); /* options beyond the end */
	REFUSED(f.gso = FRAME_GSO_NONE; f.len = f.iov[0].len = 13);
	REFUSED(f.len = 3400); /* says more than its pieces hold */
}

struct whole {
	uint8_t b[1600];
	size_t len;
};

static void keep(void *arg, const struct frame *f)
{
	struct whole *w = arg;
	assert_true(f->len <= sizeof(w->b));
	w->len = frame_copy_out(f, 0, w->b, f->len);
	assert_int_equal(w->len, f->len);
}

static void test_checksum_offsets(void **state)
{
	(void)state;
	struct whole w;
	struct frame f;
	for (size_t len = FRAME_MIN; len < 40; len++) {
		uint8_t *b = malloc(len); /* its end is where ASan stands */
		memset(b, 0x5a, len);
		for (unsigned start = 0; start < 50; start++)
			for (unsigned off = 0; off < 50; off++) {
				frame_init_flat(&f, b, len);
				f.flags = FRAME_NEEDS_CSUM;
				f.csum_start = (uint16_t)start;
				f.csum_offset = (uint16_t)off;
				bool ok = frame_finish(&f, 1500, nothing_out, NULL);
				assert_int_equal(ok, start < len && start + off + 2 <= len);
			}
		f.csum_start = f.csum_offset = 65535;
		assert_false(frame_finish(&f, 1500, nothing_out, NULL));
		free(b);
	}
	/* and the value is right, for every length and alignment, however it is cut */
	uint8_t b[1600];
	for (size_t n = 40; n < 1500; n += 7)
		for (unsigned align = 0; align < 8; align++) {
			for (size_t i = 0; i < align + n; i++)
				b[i] = (uint8_t)rand();
			uint32_t pseudo = (uint32_t)rand() & 0xffff;
			b[align + 16] = (uint8_t)(pseudo >> 8);
			b[align + 17] = (uint8_t)pseudo;
			frame_init_flat(&f, b, align + n);
			f.niov = 0;
			for (size_t off = 0, part; off < align + n; off += part) {
				part = f.niov + 1 == FRAME_IOV_IN ? align + n - off
								  : MIN((size_t)rand() % 99, align + n - off);
				f.iov[f.niov++] = (struct iov){ b + off, part };
			}
			f.flags = FRAME_NEEDS_CSUM;
			f.csum_start = (uint16_t)align;
			f.csum_offset = 16;
			assert_true(frame_finish(&f, 1500, keep, &w));
			assert_int_equal(w.len, align + n);
			assert_int_equal(plain_sum(w.b + align, n, pseudo), 0xffff);
			assert_true(w.b[align + 16] | w.b[align + 17]);
			memcpy(w.b + align + 16, b + align + 16, 2);
			assert_memory_equal(w.b, b, align + n);
		}
}

static void test_fuzz_headers(void **state)
{
	(void)state;
	uint8_t b[4000];
	srand(3);
	for (unsigned i = 0; i < 100000; i++) {
		size_t len = make_tcp(b, i & 1, i % 3, 100 + (size_t)rand() % 3000, (unsigned)rand() % 11 * 4,
				      (uint8_t)rand());
		for (unsigned k = (unsigned)rand() % 4; k; k--)
			b[(unsigned)rand() % 80] = (uint8_t)rand();
		struct frame f;
		frame_init_flat(&f, b, len);
		f.gso = (uint8_t)(rand() % 6);
		f.gso_size = (uint16_t)(rand() % 8 ? 1 + rand() % 1500 : rand());
		f.flags = (uint8_t)(rand() % 4);
		f.csum_start = (uint16_t)(rand() % 5 ? rand() % 100 : rand());
		f.csum_offset = (uint16_t)(rand() % 5 ? rand() % 40 : rand());
		(void)frame_finish(&f, 1500, nothing_out, NULL);
	}
}

static void test_copy_out(void **state)
{
	(void)state;
	uint8_t b[100], out[100];
	for (unsigned i = 0; i < 100; i++)
		b[i] = (uint8_t)i;
	struct frame f = { .iov = { { b, 10 }, { b + 10, 0 }, { b + 10, 1 }, { b + 11, 89 } }, .niov = 4, .len = 100 };
	for (size_t off = 0; off <= 110; off++)
		for (size_t n = 0; n <= 100; n += 9) {
			size_t want = off >= 100 ? 0 : n < 100 - off ? n : 100 - off;
			assert_int_equal(frame_copy_out(&f, off, out, n), want);
			assert_memory_equal(out, b + (want ? off : 0), want);
		}
}

int main(void)
{
	/* clang-format off */
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_segments),         cmocka_unit_test(test_malformed_refused),
		cmocka_unit_test(test_checksum_offsets), cmocka_unit_test(test_fuzz_headers),
		cmocka_unit_test(test_copy_out),
	};
	/* clang-format on */
	return cmocka_run_group_tests(tests, NULL, NULL);
}

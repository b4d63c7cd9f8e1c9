/* SPDX-License-Identifier: BSD-2-Clause */
/* Requests to a layer (vmm/layer.h) as a disk makes them, with their data in pieces of any length. */
#pragma once
#include "kernel/base/hva.h"
#include "tests/unit/fake_kernel.h"
#include "vmm/boot_file.h"
#include "vmm/layer.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

static _Thread_local uint64_t seed;
static uint64_t rnd(uint64_t n) /* below n */
{
	seed = seed * 6364136223846793005UL + 1442695040888963407UL;
	return (seed >> 33) % n;
}

/* ---- data in pieces ---- */

#define PIECES 12
#define SKIP   40 /* bytes at most that a request's data is not */
struct pieces {
	struct gmem_pin pin[PIECES];
	unsigned n;
	uint64_t skip, len;
};

static uint8_t *byte_at(const struct pieces *p, uint64_t i)
{
	const struct gmem_pin *s = p->pin;
	for (; i >= s->len; s++)
		i -= s->len;
	return (uint8_t *)s->p + i;
}

/* Room for len bytes behind some that are none of theirs, and before others, in pieces of any length. */
static void pieces_make(struct pieces *p, uint64_t len)
{
	uint64_t left = (p->skip = rnd(SKIP)) + (p->len = len) + rnd(2) * rnd(SKIP);
	for (p->n = 0; left; p->n++) {
		uint64_t part = p->n == PIECES - 1 ? left : rnd(2) ? left : 1 + rnd(left);
		p->pin[p->n] = (struct gmem_pin){ malloc(part), 0, part, GMEM_WRITE };
		memset(p->pin[p->n].p, 0xee, part);
		left -= part;
	}
}

static void pieces_free(struct pieces *p)
{
	uint64_t all = 0;
	for (unsigned i = 0; i < p->n; i++)
		all += p->pin[i].len;
	for (uint64_t i = 0; i < all; i++)
		if (i < p->skip || i >= p->skip + p->len)
			assert_int_equal(*byte_at(p, i), 0xee);
	for (unsigned i = 0; i < p->n; i++)
		free(p->pin[i].p);
}

/* ---- requests ---- */

static void count(struct blockdev_req *r) { r->skip++; }

static int request(struct layer *l, enum blockdev_op op, uint64_t off, const struct pieces *p, uint64_t len)
{
	struct blockdev_req r = { .op = op, .off = off, .len = len, .done = count };
	r.seg = p ? p->pin : NULL;
	r.skip = p ? p->skip : 0;
	uint64_t skip = r.skip;
	r.err = 1;
	l->b.ops->submit(&l->b, &r);
	assert_int_equal(r.skip, skip + 1); /* done, once */
	return r.err;
}

static int put(struct layer *l, uint64_t off, const uint8_t *from, uint64_t len)
{
	struct pieces p;
	pieces_make(&p, len);
	for (uint64_t i = 0; i < len; i++)
		*byte_at(&p, p.skip + i) = from[i];
	int err = request(l, BLOCKDEV_WRITE, off, &p, len);
	pieces_free(&p);
	return err;
}

static void get(struct layer *l, uint64_t off, uint8_t *to, uint64_t len)
{
	struct pieces p;
	pieces_make(&p, len);
	assert_int_equal(request(l, BLOCKDEV_READ, off, &p, len), 0);
	for (uint64_t i = 0; i < len; i++)
		to[i] = *byte_at(&p, p.skip + i);
	pieces_free(&p);
}

static int zero(struct layer *l, uint64_t off, uint64_t len) { return request(l, BLOCKDEV_ZERO, off, NULL, len); }

/* ---- pages ---- */

static void make(struct layer *l, uint64_t size, struct boot_file *base, uint64_t pages)
{
	struct page_reservation r;
	uint64_t have;
	assert_int_equal(page_reserve(&r, pages, 0, &have), 0);
	layer_init(l, "d", size, base ? boot_file_ref(base) : NULL, &r);
	assert_int_equal(r.pages, 0);
	assert_int_equal(l->max, pages);
}

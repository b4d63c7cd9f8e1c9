/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * For tests of virtio-blk: a back end in an array of bytes, which does requests at once or when the test says so, and
 * what a driver does to make requests, with the guest of fake_guest.h.
 */
#pragma once
#include "tests/unit/fake_guest.h"
#include "tests/unit/fake_kernel.h"
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#define DISK    (256UL << 10)
#define SECTORS (DISK / SECTOR)
#define MAX_LEN 16384U
#define DEPTH   4U

/* ---- the back end ---- */

struct fake_disk {
	struct blockdev b;
	uint8_t data[DISK];
	pthread_mutex_t lock;
	struct blockdev_req *held[64]; /* submitted, not done */
	unsigned nheld, most;          /* most at a time */
	bool holds;                    /* they wait for disk_finish */
	unsigned pieces, flushes, zeroes;
	int err;         /* of what is done from now on, */
	unsigned err_in; /* after so many more */
};

static void disk_copy(struct fake_disk *d, const struct blockdev_req *r)
{
	const struct gmem_pin *s = r->seg;
	uint64_t skip = r->skip;
	for (uint64_t i = 0; i < r->len; i++, skip++) {
		for (; skip >= s->len; s++)
			skip -= s->len;
		uint8_t *p = (uint8_t *)s->p + skip;
		if (r->op == BLOCKDEV_READ)
			*p = d->data[r->off + i];
		else
			d->data[r->off + i] = *p;
	}
}

/* The lock is held. */
static void disk_do(struct fake_disk *d, struct blockdev_req *r)
{
	r->err = d->err_in ? 0 : d->err;
	d->err_in -= d->err_in > 0;
	if (r->err)
		return;
	d->flushes += r->op == BLOCKDEV_FLUSH;
	d->zeroes += r->op == BLOCKDEV_ZERO;
	if (r->op == BLOCKDEV_ZERO)
		memset(d->data + r->off, 0, r->len);
	else if (r->op != BLOCKDEV_FLUSH)
		disk_copy(d, r);
}

static void disk_submit(struct blockdev *b, struct blockdev_req *r)
{
	struct fake_disk *d = CONTAINER_OF(b, struct fake_disk, b);
	FG_CHECK(!fake_spinlocks);
	FG_CHECK(r->len <= b->max_len && r->len % SECTOR == 0 && r->off % SECTOR == 0);
	FG_CHECK(r->off <= b->size && r->len <= b->size - r->off);
	FG_CHECK(r->op == BLOCKDEV_FLUSH ? !r->len : r->len > 0);
	FG_CHECK(!b->readonly || r->op == BLOCKDEV_READ || r->op == BLOCKDEV_FLUSH);
	pthread_mutex_lock(&d->lock);
	d->pieces++;
	d->held[d->nheld++] = r;
	d->most = MAX(d->most, d->nheld);
	bool now = !d->holds;
	if (now) {
		d->nheld--;
		disk_do(d, r);
	}
	pthread_mutex_unlock(&d->lock);
	if (now)
		r->done(r);
}

/* The i-th of those that it holds is done. False: it has not got so many. */
static inline bool disk_finish(struct fake_disk *d, unsigned i)
{
	pthread_mutex_lock(&d->lock);
	struct blockdev_req *r = i < d->nheld ? d->held[i] : NULL;
	if (r) {
		memmove(&d->held[i], &d->held[i + 1], (--d->nheld - i) * sizeof(r));
		disk_do(d, r);
	}
	pthread_mutex_unlock(&d->lock);
	if (r)
		r->done(r);
	return r;
}

static inline unsigned disk_held(struct fake_disk *d)
{
	pthread_mutex_lock(&d->lock);
	unsigned n = d->nheld;
	pthread_mutex_unlock(&d->lock);
	return n;
}

static void disk_init(struct fake_disk *d)
{
	static const struct blockdev_ops ops = { .submit = disk_submit };
	memset(d, 0, sizeof(*d));
	d->b = (struct blockdev){ .ops = &ops, .size = DISK, .block = 4096, .max_len = MAX_LEN, .depth = DEPTH };
	memcpy(d->b.serial, "a serial of 20 bytes", 20);
	pthread_mutex_init(&d->lock, NULL);
	for (unsigned i = 0; i < DISK; i++)
		d->data[i] = (uint8_t)(i * 7 + i / 512 + i / 65536);
}

/* ---- the driver ---- */

#define BLK_V1        BIT(32)
#define BLK_EVENT_IDX BIT(29)
#define BLK_INDIRECT  BIT(28)
#define RING(q)       (0x10000UL + 0x4000UL * (q))
#define HEAD(i)       (0x80000UL + 0x100UL * (i)) /* of request i: header, range behind it, status at its end */
#define STATUS(i)     (HEAD(i) + 0xff)
#define TABLE         0xc0000UL
#define DATA          0x100000UL
#define NONE          0xee /* no status yet */

enum { T_IN = 0, T_OUT = 1, T_FLUSH = 4, T_GET_ID = 8, T_DISCARD = 11, T_ZEROES = 13 };
enum { S_OK = 0, S_IOERR = 1, S_UNSUPP = 2 };

static struct fg g;
static struct fg_dev d;
static struct fake_disk disk;

static inline void up(struct fg_queue *q, unsigned n, uint64_t features)
{
	fg_probe(&d, &g, FG_BLK_SLOT);
	assert_true(fg_negotiate(&d, features));
	for (unsigned i = 0; i < n; i++)
		fg_queue_init(&q[i], &d, i, 16, RING(i), features & BLK_EVENT_IDX);
	fg_driver_ok(&d);
}

static inline void put_head(unsigned i, uint32_t type, uint64_t sector)
{
	uint8_t h[16] = { 0 }, none = NONE;
	put_le32(h, type);
	put_le64(h + 8, sector);
	fg_put(&g, HEAD(i), h, sizeof(h));
	fg_put(&g, STATUS(i), &none, 1);
}

static inline uint8_t status_of(unsigned i)
{
	uint8_t s;
	fg_get(&g, STATUS(i), &s, 1);
	return s;
}

/* Offer it: its header, len bytes at data (0: none), its status. */
static inline uint16_t offer(struct fg_queue *q, unsigned i, uint32_t type, uint64_t sector, gpa_t data, uint32_t len)
{
	struct fg_sg sg[3] = { { HEAD(i), 16, false } };
	unsigned n = 1;
	put_head(i, type, sector);
	if (len)
		sg[n++] = (struct fg_sg){ data, len, type == T_IN || type == T_GET_ID };
	sg[n++] = (struct fg_sg){ STATUS(i), 1, true };
	return fg_add(q, sg, n, 0);
}

static inline void assert_used(struct fg_queue *q, int head, uint32_t len)
{
	uint32_t got = 0;
	assert_int_equal(fg_used(q, &got), head);
	assert_int_equal(got, len);
}

/* The whole of one: its status. */
static inline uint8_t ask(struct fg_queue *q, uint32_t type, uint64_t sector, gpa_t data, uint32_t len)
{
	uint16_t head = offer(q, 0, type, sector, data, len);
	fg_ring(q);
	assert_used(q, head, type == T_IN || type == T_GET_ID ? len + 1 : 1);
	assert_int_equal(fg_used(q, NULL), -1);
	return status_of(0);
}

static inline uint8_t ask_range(struct fg_queue *q, uint32_t type, uint64_t sector, uint32_t count, uint32_t flags)
{
	uint8_t r[16];
	put_le64(r, sector);
	put_le32(r + 8, count);
	put_le32(r + 12, flags);
	fg_put(&g, HEAD(0) + 16, r, sizeof(r));
	return ask(q, type, 0, HEAD(0) + 16, sizeof(r));
}

static inline void put_pattern(gpa_t at, uint32_t len, unsigned salt)
{
	uint8_t *b = malloc(len);
	for (uint32_t i = 0; i < len; i++)
		b[i] = (uint8_t)(i * 13 + i / 256 + salt);
	fg_put(&g, at, b, len);
	free(b);
}

/* What is in the guest's memory is what is on the disk. */
static inline void assert_same(gpa_t at, uint64_t sector, uint32_t len)
{
	uint8_t *b = malloc(len);
	fg_get(&g, at, b, len);
	assert_memory_equal(b, disk.data + sector * SECTOR, len);
	free(b);
}

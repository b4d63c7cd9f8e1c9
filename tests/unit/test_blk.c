/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * virtio-blk as a driver sees it (virtio 1.2, 5.2), on a back end that does its requests at once. Scenarios run twice,
 * the second time with a migration between any two steps. What a hostile driver offers comes to nothing.
 */
#include "tests/unit/blk_driver.h"

#define QUEUES      4
#define ZEROES_MAX  (1U << 18)
#define DATA_MAX    (254 * 256 * 1024UL)
#define NEEDS_RESET 0x40
#define F_RO        BIT(5)
#define F_MQ        BIT(12)
#define F_ZEROES    (BIT(13) | BIT(14))
#define F_ALWAYS    (BIT(1) | BIT(2) | BIT(6) | BIT(9) | BIT(10) | BLK_INDIRECT | BLK_EVENT_IDX | BLK_V1)
#define FEATURES    (BLK_V1 | BLK_INDIRECT | BIT(9) | F_ZEROES)
#define SEAM_DATA   (FG_SEAM - 700) /* from here on data lies in two pieces of the host's memory */

static struct fg_queue q[QUEUES];

static void begin(unsigned queues, bool readonly, uint64_t features)
{
	disk_init(&disk);
	disk.b.readonly = readonly;
	fg_init_disk(&g, queues, &disk.b);
	up(q, queues, features);
}

static void twice(void (*scenario)(void), uint64_t features)
{
	char plain[FG_MAX_LOG];
	begin(1, false, features);
	scenario();
	memcpy(plain, g.log, sizeof(plain));
	fg_fini(&g);
	begin(1, false, BLK_V1);
	g.migrate_always = true;
	g.log[0] = 0;
	up(q, 1, features);
	scenario();
	assert_string_equal(g.log, plain);
	fg_fini(&g);
}

/* ---- what it is ---- */

static uint64_t config(unsigned off, unsigned size) { return fg_read(&d, d.config + off, size); }

static void test_what_it_is(void **state unused)
{
	for (unsigned i = 0; i < 4; i++) {
		bool ro = i & 1, many = i & 2;
		begin(many ? QUEUES : 1, ro, BLK_V1);
		assert_int_equal(fg_cfg_read(&g, FG_BLK_SLOT, 0, 4), 0x10421af4);
		assert_int_equal(fg_cfg_read(&g, FG_BLK_SLOT, 8, 4) >> 8, 0x010000);
		assert_int_equal(fg_features(&d), F_ALWAYS | (ro ? F_RO : F_ZEROES) | (many ? F_MQ : 0));
		assert_int_equal(config(0, 4), SECTORS);
		assert_int_equal(config(4, 4), 0);
		assert_int_equal(config(8, 4), 256 << 10);
		assert_int_equal(config(12, 4), 254); /* segments */
		assert_int_equal(config(20, 4), SECTOR);
		assert_int_equal(config(24, 1), 3); /* 2^3 sectors make a block that is written at once */
		assert_int_equal(config(34, 2), many ? QUEUES : 1);
		assert_int_equal(config(36, 4), ZEROES_MAX);
		assert_int_equal(config(40, 4), 1);
		assert_int_equal(config(44, 4), 8);
		assert_int_equal(config(48, 4), ZEROES_MAX);
		assert_int_equal(config(52, 4), 1);
		assert_int_equal(config(56, 1), 1);
		assert_int_equal(fg_read(&d, d.common + 0x12, 2), many ? QUEUES : 1);
		fg_fini(&g);
	}
}

/* ---- what a driver does ---- */

static void read_and_write(void)
{
	char id[20];
	put_pattern(DATA, 8192, 1);
	assert_int_equal(ask(&q[0], T_OUT, 5, DATA, 8192), S_OK);
	assert_same(DATA, 5, 8192);
	assert_int_equal(ask(&q[0], T_IN, 4, DATA + 0x4000, 1024), S_OK);
	assert_same(DATA + 0x4000, 4, 1024);
	assert_int_equal(ask(&q[0], T_IN, SECTORS - 1, DATA + 0x5001, SECTOR), S_OK); /* to an odd address */
	assert_same(DATA + 0x5001, SECTORS - 1, SECTOR);
	assert_int_equal(ask(&q[0], T_FLUSH, 0, 0, 0), S_OK);
	assert_int_equal(ask(&q[0], T_GET_ID, 0, DATA, 20), S_OK);
	fg_get(&g, DATA, id, 20);
	assert_memory_equal(id, disk.b.serial, 20);
	put_pattern(SEAM_DATA, 2048, 2);
	assert_int_equal(ask(&q[0], T_OUT, 100, SEAM_DATA, 2048), S_OK);
	assert_same(SEAM_DATA, 100, 2048);
	assert_int_equal(ask(&q[0], T_IN, 32, SEAM_DATA, 2048), S_OK);
	assert_same(SEAM_DATA, 32, 2048);
	assert_int_equal(disk.flushes, 1);
	const struct blockdev_stats *s = &disk.b.stats;
	assert_true(s->reads == 3 && s->writes == 2 && s->flushes == 1 && !s->errors);
	assert_true(s->read_bytes == 1024 + 512 + 2048 && s->written_bytes == 8192 + 2048);
}
static void test_read_and_write(void **state unused) { twice(read_and_write, FEATURES); }
static void test_read_and_write_event_idx(void **state unused) { twice(read_and_write, FEATURES | BLK_EVENT_IDX); }

/* The same request in any shape: what is one buffer may be several descriptors, and what are two, one (2.7.4.3). */
static void shapes(void)
{
	for (unsigned indirect = 0; indirect < 2; indirect++) {
		put_head(0, T_OUT, 7);
		put_pattern(HEAD(0) + 16, 100, 3);
		put_pattern(DATA, 924, 4);
		struct fg_sg out[] = { { HEAD(0), 5, false },
				       { HEAD(0) + 5, 111, false },
				       { DATA, 1, false },
				       { DATA + 1, 923, false },
				       { STATUS(0), 1, true } };
		uint16_t head = fg_add(&q[0], out, 5, indirect ? TABLE : 0);
		fg_ring(&q[0]);
		assert_used(&q[0], head, 1);
		assert_int_equal(status_of(0), S_OK);
		assert_same(HEAD(0) + 16, 7, 100);
		uint8_t got[924];
		fg_get(&g, DATA, got, 924);
		assert_memory_equal(got, disk.data + 7 * SECTOR + 100, 924);

		put_head(0, T_IN, 7); /* the status is the last byte of the last descriptor */
		struct fg_sg in[] = { { HEAD(0), 16, false }, { DATA + 3, 511, true }, { SEAM_DATA, 1026, true } };
		head = fg_add(&q[0], in, 3, indirect ? TABLE + 8 : 0);
		fg_ring(&q[0]);
		assert_used(&q[0], head, 3 * SECTOR + 1);
		assert_same(DATA + 3, 7, 511);
		fg_get(&g, SEAM_DATA, got, 500);
		assert_memory_equal(got, disk.data + 7 * SECTOR + 511, 500);
		fg_get(&g, SEAM_DATA + 1024, got, 2);
		assert_true(got[0] == disk.data[10 * SECTOR - 1] && got[1] == S_OK);
	}
}
static void test_shapes(void **state unused) { twice(shapes, FEATURES); }

static void zeroes(void)
{
	static const uint8_t zeros[64 * SECTOR];
	assert_int_equal(ask_range(&q[0], T_ZEROES, 3, 2, 0), S_OK);
	assert_memory_equal(disk.data + 3 * SECTOR, zeros, 2 * SECTOR);
	assert_int_not_equal(disk.data[5 * SECTOR + 1], 0);
	assert_int_equal(ask_range(&q[0], T_ZEROES, 5, 1, 1), S_OK); /* and give back what it took */
	assert_int_equal(ask_range(&q[0], T_DISCARD, 6, 61, 0), S_OK);
	assert_memory_equal(disk.data + 3 * SECTOR, zeros, 64 * SECTOR);
	assert_int_not_equal(disk.data[67 * SECTOR + 1], 0);
	assert_int_equal(disk.zeroes, 4); /* one of them in two pieces */
	assert_int_equal(ask_range(&q[0], T_ZEROES, SECTORS, 0, 0), S_OK);
	assert_int_equal(ask_range(&q[0], T_DISCARD, 8, 8, 1), S_UNSUPP);
	assert_int_equal(ask_range(&q[0], T_ZEROES, 8, 8, 2), S_UNSUPP);
	assert_int_equal(ask_range(&q[0], T_ZEROES, SECTORS - 1, 2, 0), S_IOERR);
	assert_int_equal(ask_range(&q[0], T_ZEROES, ~0UL, 2, 0), S_IOERR);
	assert_int_equal(ask_range(&q[0], T_DISCARD, 1, ~0U, 0), S_IOERR);
	assert_int_equal(ask(&q[0], T_DISCARD, 0, DATA, 32), S_UNSUPP); /* two ranges */
	assert_int_equal(ask(&q[0], T_DISCARD, 0, DATA, 15), S_UNSUPP);
	assert_int_equal(ask(&q[0], T_ZEROES, 0, 0, 0), S_UNSUPP);
	assert_int_equal(disk.zeroes, 4);
}
static void test_zeroes(void **state unused) { twice(zeroes, FEATURES); }

/* More than is offered in max_write_zeroes_sectors would keep a VM that is to move waiting for its end. */
static void test_zeroes_max(void **state unused)
{
	begin(1, false, FEATURES);
	disk.b.size = (ZEROES_MAX + 8UL) * SECTOR;
	disk.holds = true;
	assert_int_equal(ask_range(&q[0], T_ZEROES, 0, ZEROES_MAX + 1, 0), S_IOERR);
	assert_int_equal(ask_range(&q[0], T_DISCARD, 0, ZEROES_MAX + 1, 0), S_IOERR);
	assert_int_equal(disk_held(&disk), 0);
	disk.b.size = DISK;
	fg_fini(&g);
}

/* Nor data, which may be the same pages again and again. */
static void test_data_max(void **state unused)
{
	static struct fg_sg sg[2 + DATA_MAX / MIB(5) + 1];
	begin(1, false, FEATURES);
	disk.b.size = GIB(1);
	disk.holds = true;
	put_head(0, T_IN, 0);
	unsigned n = 0;
	sg[n++] = (struct fg_sg){ HEAD(0), 16, false };
	for (; n <= DATA_MAX / MIB(5) + 1; n++)
		sg[n] = (struct fg_sg){ DATA, MIB(5), true };
	sg[n++] = (struct fg_sg){ STATUS(0), 1, true };
	(void)fg_add(&q[0], sg, n, TABLE);
	fg_ring(&q[0]);
	assert_int_equal(disk_held(&disk), 0);
	assert_int_equal(status_of(0), S_IOERR);
	disk.b.size = DISK;
	fg_fini(&g);
}

/* ---- pieces, errors, bounds ---- */

static void pieces(void)
{
	uint32_t len = 3 * MAX_LEN + SECTOR;
	put_pattern(SEAM_DATA - 5000, len, 5);
	assert_int_equal(ask(&q[0], T_OUT, 9, SEAM_DATA - 5000, len), S_OK);
	assert_same(SEAM_DATA - 5000, 9, len);
	assert_int_equal(disk.pieces, 4);
	assert_int_equal(ask(&q[0], T_IN, 9, DATA + 1, len), S_OK);
	assert_same(DATA + 1, 9, len);
	assert_int_equal(disk.pieces, 8);
	assert_int_equal(disk.b.stats.writes, 1);
	assert_int_equal(disk.b.stats.written_bytes, len);
	disk.err = -EIO; /* of the second: there is no third */
	disk.err_in = 1;
	assert_int_equal(ask(&q[0], T_OUT, 9, DATA + 1, len), S_IOERR);
	assert_int_equal(disk.pieces, 10);
	disk.err = 0;
	assert_int_equal(disk.b.stats.errors, 1);
	assert_int_equal(disk.b.stats.writes, 1);
}
static void test_pieces(void **state unused) { twice(pieces, FEATURES); }

static void test_errors(void **state unused)
{
	static const int errs[] = { -EIO, -ENOSPC, -ENOMEM };
	begin(1, false, FEATURES);
	for (unsigned i = 0; i < ARRAY_SIZE(errs); i++) {
		disk.err = errs[i];
		assert_int_equal(ask(&q[0], T_OUT, 0, DATA, 512), S_IOERR);
		assert_int_equal(ask(&q[0], T_IN, 0, DATA, 512), S_IOERR);
		assert_int_equal(ask(&q[0], T_FLUSH, 0, 0, 0), S_IOERR);
		assert_int_equal(ask_range(&q[0], T_DISCARD, 0, 1, 0), S_IOERR);
	}
	disk.err = 0;
	assert_int_equal(ask(&q[0], T_IN, 0, DATA, 512), S_OK);
	assert_int_equal(disk.b.stats.errors, 12);
	assert_int_equal(fg_status(&d), 15);
	fg_fini(&g);
}

static void test_readonly(void **state unused)
{
	begin(1, true, BLK_V1 | F_RO);
	uint8_t first = disk.data[0];
	put_pattern(DATA, 512, 99);
	assert_int_equal(ask(&q[0], T_OUT, 0, DATA, 512), S_IOERR);
	assert_int_equal(ask_range(&q[0], T_DISCARD, 0, 8, 0), S_IOERR);
	assert_int_equal(ask_range(&q[0], T_ZEROES, 0, 8, 0), S_IOERR);
	assert_int_equal(disk.data[0], first);
	assert_int_equal(ask(&q[0], T_IN, 0, DATA, 512), S_OK);
	assert_same(DATA, 0, 512);
	assert_int_equal(ask(&q[0], T_FLUSH, 0, 0, 0), S_OK);
	fg_fini(&g);
}

static void bounds(void)
{
	static const struct {
		uint64_t sector;
		uint32_t len;
		uint8_t status;
	} reqs[] = {
		{ SECTORS, 512, S_IOERR },
		{ SECTORS - 1, 1024, S_IOERR },
		{ SECTORS - 1, 512, S_OK },
		{ ~0UL, 512, S_IOERR },
		{ BIT(55), 512, S_IOERR },
		{ BIT(55) - 1, 1024, S_IOERR },
		{ 0, 511, S_IOERR },
		{ 0, 513, S_IOERR },
		{ 0, 1, S_IOERR },
		{ 0, DISK + SECTOR, S_IOERR },
		{ 0, DISK, S_OK },
		{ BIT(63), 512, S_IOERR },
		{ ~0UL >> SECTOR_BIT, 512, S_IOERR },
		{ (1UL << 55) + 1, 512, S_IOERR },
	};
	for (unsigned i = 0; i < ARRAY_SIZE(reqs); i++) {
		assert_int_equal(ask(&q[0], T_IN, reqs[i].sector, DATA, reqs[i].len), reqs[i].status);
		assert_int_equal(ask(&q[0], T_OUT, reqs[i].sector, DATA, reqs[i].len), reqs[i].status);
	}
	assert_int_equal(ask(&q[0], T_IN, 0, 0, 0), S_OK); /* nothing, which is whole sectors */
	assert_int_equal(ask(&q[0], T_OUT, SECTORS, 0, 0), S_OK);
	assert_int_equal(ask(&q[0], T_OUT, SECTORS + 1, 0, 0), S_IOERR);
	assert_int_equal(ask(&q[0], 0x80000000, 0, DATA, 512), S_UNSUPP);
	assert_int_equal(ask(&q[0], T_GET_ID, 0, DATA, 5), S_OK);
	assert_int_equal(ask(&q[0], T_GET_ID, 0, DATA, 100), S_OK);
}
static void test_bounds(void **state unused)
{
	begin(1, false, FEATURES);
	bounds();
	fg_fini(&g);
}

/* ---- a hostile driver ---- */

enum { R = 0, W = 1, I = 2 }; /* read by the device, written, an indirect table */
static const struct hostile {
	const char *what;
	struct fg_sg sg[4];
	unsigned n;
	int status; /* -1: the device needs a reset */
} hostiles[] = {
	{ "a header alone", { { HEAD(0), 16, R } }, 1, -1 },
	{ "a header that is short", { { HEAD(0), 15, R }, { STATUS(0), 1, W } }, 2, -1 },
	{ "no header", { { DATA, 512, W }, { STATUS(0), 1, W } }, 2, -1 },
	{ "a status to read", { { HEAD(0), 16, R }, { STATUS(0), 1, R } }, 2, -1 },
	{ "data to read behind data to write", { { HEAD(0), 16, R }, { DATA, 512, W }, { DATA, 512, R } }, 3, -1 },
	{ "a header to write", { { HEAD(0), 16, W }, { DATA, 512, R }, { STATUS(0), 1, W } }, 3, -1 },
	{ "data outside of memory", { { HEAD(0), 16, R }, { FG_MEM - 256, 512, W }, { STATUS(0), 1, W } }, 3, -1 },
	{ "a status outside of memory", { { HEAD(0), 16, R }, { DATA, 512, W }, { FG_MEM, 1, W } }, 3, -1 },
	{ "a header outside of memory", { { ~0UL - 7, 16, R }, { STATUS(0), 1, W } }, 2, -1 },
	{ "a descriptor of no bytes", { { HEAD(0), 16, R }, { DATA, 0, W }, { STATUS(0), 1, W } }, 3, -1 },
	{ "4 GiB", { { HEAD(0), 16, R }, { 0, ~0U, W }, { STATUS(0), 1, W } }, 3, -1 },
	{ "no whole sectors", { { HEAD(0), 16, R }, { DATA, 513, W }, { STATUS(0), 1, W } }, 3, S_IOERR },
	{ "its status over its data", { { HEAD(0), 16, R }, { DATA, 512, W }, { DATA + 5, 1, W } }, 3, -2 },
	{ "data to read by a read", { { HEAD(0), 16, R }, { DATA, 512, R }, { STATUS(0), 1, W } }, 3, S_OK },
	{ "its data over its header", { { HEAD(0), 16, R }, { HEAD(0), 512, W }, { STATUS(0) + 512, 1, W } }, 3, -2 },
};

static void one_hostile(const struct hostile *h)
{
	put_head(0, T_IN, 1);
	uint16_t head = fg_add(&q[0], h->sg, h->n, 0);
	fg_ring(&q[0]); /* which looks for what was written and not said to be */
	fg_step(&g);
	uint8_t status = fg_status(&d);
	int used = fg_used(&q[0], NULL);
	if (h->status == -1 ? !(status & NEEDS_RESET) || used >= 0 : status != 15 || used != head)
		fail_msg("%s: status %x, used %d", h->what, status, used);
	if (h->status >= 0)
		assert_int_equal(status_of(0), h->status);
	if (h->status == -1)
		assert_int_equal(status_of(0), NONE);
}

static void test_hostile_chains(void **state unused)
{
	for (unsigned m = 0; m < 2; m++) {
		begin(1, false, FEATURES);
		g.migrate_always = m;
		for (unsigned i = 0; i < ARRAY_SIZE(hostiles); i++) {
			up(q, 1, FEATURES);
			one_hostile(&hostiles[i]);
		}
		up(q, 1, FEATURES);
		assert_int_equal(ask(&q[0], T_IN, 0, DATA, 512), S_OK);
		fg_fini(&g);
	}
}

static void broken_by(uint16_t head)
{
	fg_offer(&q[0], head);
	fg_ring(&q[0]);
	assert_true(fg_status(&d) & NEEDS_RESET);
	assert_int_equal(fg_used(&q[0], NULL), -1);
	up(q, 1, FEATURES);
}

static void test_hostile_rings(void **state unused)
{
	begin(1, false, FEATURES);
	put_head(0, T_IN, 1);
	fg_desc(&q[0], q[0].desc, 0, HEAD(0), 16, 1, 1); /* a loop of two */
	fg_desc(&q[0], q[0].desc, 1, HEAD(0), 16, 1, 0);
	broken_by(0);
	fg_desc(&q[0], q[0].desc, 0, HEAD(0), 16, 1, 16); /* no such descriptor */
	broken_by(0);
	broken_by(16);
	fg_desc(&q[0], q[0].desc, 0, TABLE, 33, 4, 0); /* a table of two and a bit */
	broken_by(0);
	fg_desc(&q[0], q[0].desc, 0, FG_MEM - 16, 32, 4, 0); /* that leaves memory */
	fg_desc(&q[0], FG_MEM - 16, 0, HEAD(0), 16, 1, 1);
	broken_by(0);
	fg_desc(&q[0], q[0].desc, 0, TABLE, 16, 4, 0); /* of tables */
	fg_desc(&q[0], TABLE, 0, TABLE, 16, 4, 0);
	broken_by(0);
	fg_put16(&g, q[0].avail + 2, 17); /* more than the ring has */
	fg_ring(&q[0]);
	assert_true(fg_status(&d) & NEEDS_RESET);
	up(q, 1, FEATURES);
	assert_int_equal(ask(&q[0], T_IN, 0, DATA, 512), S_OK);
	fg_fini(&g);
}

/* ---- queues, resize, post-copy ---- */

static void test_queues(void **state unused)
{
	for (unsigned m = 0; m < 2; m++) {
		begin(QUEUES, false, FEATURES | F_MQ);
		g.migrate_always = m;
		for (unsigned i = 0; i < QUEUES; i++) {
			put_pattern(DATA, 512, i);
			unsigned msis = g.nmsi;
			assert_int_equal(ask(&q[i], T_OUT, 10 + i, DATA, 512), S_OK);
			assert_int_equal(g.nmsi, msis + 1);
			assert_int_equal(g.msi[msis % 64].data, 0x41 + i);
			assert_int_equal(ask(&q[QUEUES - 1 - i], T_IN, 10 + i, DATA + 512, 512), S_OK);
			assert_same(DATA + 512, 10 + i, 512);
		}
		fg_fini(&g);
	}
}

static void test_resized(void **state unused)
{
	begin(1, false, FEATURES);
	uint64_t generation = fg_read(&d, d.common + 0x15, 1);
	unsigned msis = g.nmsi;
	vblk_resized(g.blk);
	assert_int_equal(g.nmsi, msis); /* it has not changed */
	disk.b.size = DISK / 2;
	vblk_resized(g.blk);
	assert_int_equal(g.nmsi, msis + 1);
	assert_int_equal(g.msi[msis % 64].data, 0x40);
	assert_int_not_equal(fg_read(&d, d.common + 0x15, 1), generation);
	assert_int_equal(config(0, 4), SECTORS / 2);
	assert_int_equal(ask(&q[0], T_IN, SECTORS / 2, DATA, 512), S_IOERR);

	/* While it stands still nothing is said; on the next host, it is. */
	struct dev *dev = fg_find(&g, "virtio-blk");
	dev->ops->quiesce(dev);
	msis = g.nmsi;
	disk.b.size = DISK;
	vblk_resized(g.blk);
	assert_int_equal(g.nmsi, msis);
	fg_migrate(&g);
	assert_int_equal(config(0, 4), SECTORS);
	assert_int_equal(g.nmsi, msis + 1);
	assert_int_equal(ask(&q[0], T_IN, SECTORS - 1, DATA, 512), S_OK);
	fg_fini(&g);
}

/* A disk that is smaller than the driver knows is none that it may go on with. */
static void test_smaller_elsewhere(void **state unused)
{
	struct why w = { "" };
	uint8_t buf[64];
	begin(1, false, FEATURES);
	struct dev *dev = fg_find(&g, "virtio-blk");
	for (unsigned i = 0; i < dev->nsections; i++) {
		const struct sdesc *s = dev->section[i].desc;
		if (strcmp(s->name, "virtio-blk"))
			continue;
		state_save(s, dev->section[i].obj, buf);
		disk.b.size = DISK - SECTOR;
		assert_int_equal(state_load(s, dev->section[i].obj, 1, buf, state_size(s), &w), -EINVAL);
		assert_string_equal(w.text, "virtio-blk: 512 sectors of a disk of 511");
		disk.b.size = DISK;
		assert_int_equal(state_load(s, dev->section[i].obj, 1, buf, state_size(s), &w), 0);
	}
	dev->ops->resume(dev);
	fg_fini(&g);
}

static void test_post_copy(void **state unused)
{
	begin(1, false, FEATURES);
	fg_post_copy(&g);
	put_pattern(DATA, 8192, 1);
	assert_int_equal(ask(&q[0], T_OUT, 3, DATA + 100, 4096), S_OK);
	assert_same(DATA + 100, 3, 4096);
	assert_true(g.waited >= 4); /* ring, header and two pages of data */
	assert_int_equal(ask(&q[0], T_IN, 3, SEAM_DATA, 1024), S_OK);
	assert_same(SEAM_DATA, 3, 1024);
	fg_fini(&g);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_what_it_is),
		cmocka_unit_test(test_read_and_write),
		cmocka_unit_test(test_shapes),
		cmocka_unit_test(test_read_and_write_event_idx),
		cmocka_unit_test(test_zeroes),
		cmocka_unit_test(test_zeroes_max),
		cmocka_unit_test(test_data_max),
		cmocka_unit_test(test_pieces),
		cmocka_unit_test(test_errors),
		cmocka_unit_test(test_readonly),
		cmocka_unit_test(test_bounds),
		cmocka_unit_test(test_hostile_chains),
		cmocka_unit_test(test_hostile_rings),
		cmocka_unit_test(test_queues),
		cmocka_unit_test(test_resized),
		cmocka_unit_test(test_post_copy),
		cmocka_unit_test(test_smaller_elsewhere),
	};
	return cmocka_run_group_tests_name("virtio-blk", tests, NULL, NULL);
}

/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Any guest against virtio-blk, on a small layer with a base: the input is a program of requests, good ones and torn
 * ones, of memory writes, register accesses, passes of a migration and migrations. Never a crash, never a write outside
 * of what is the guest's or the layer's (ASan), never more pages than the layer may have, and what a pass has sent is
 * what the disk reads as.
 */
#include "kernel/host.h"
#include "tests/fuzz/input.h"
#include "tests/unit/fake_guest.h"
#include "tests/unit/fake_kernel.h"
#include "tests/unit/gmem_dirt.h"
#include "vmm/boot_file.h"
#include "vmm/layer.h"
#include "vmm/pc/pc.h"
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define FEATURES  (BIT(32) | BIT(28) | BIT(14) | BIT(13) | BIT(12) | BIT(9))
#define QUEUES    2
#define DISK      (MIB(2) + 5 * PAGE_SIZE + 3 * SECTOR)
#define BASE      (9 * PAGE_SIZE + SECTOR)
#define LAYER_MAX 24                          /* pages */
#define RING(q)   (0x2000UL + 0x1000UL * (q)) /* of 16 entries */
#define HEADER(i) (0x4000UL + 0x100UL * (i))
#define CHECK(cond)              \
	do {                     \
		if (!(cond))     \
			abort(); \
	} while (0)

struct host_info host_info;
static struct fg g;
static struct layer disk, copy;
static struct boot_file *base;

static void layer_make(struct layer *l, uint64_t pages)
{
	struct page_reservation r;
	uint64_t have;
	CHECK(!page_reserve(&r, pages, 0, &have));
	layer_init(l, "fuzz", DISK, boot_file_ref(base), &r);
}

/* The same machine and disk at the start of each input. */
static void begin(void)
{
	if (!base) {
		CHECK(!boot_file_new(BASE, &base, NULL));
		for (uint64_t i = 0; i < BASE; i++)
			boot_file_write(base, i, &(uint8_t){ (uint8_t)(i / 100 + 1) }, 1);
		layer_make(&disk, LAYER_MAX);
		fg_init_disk(&g, QUEUES, &disk.b);
		g.unchecked = true;
	} else {
		layer_fini(&disk);
		layer_make(&disk, LAYER_MAX);
	}
	layer_make(&copy, 4 * LAYER_MAX);
	for (gfn_t f = 0; f < g.mem.gfn_end; f++)
		if (f < 17 || is_dirty(&g.mem, f)) {
			memset(gmem_ptr(&g.mem, f << PAGE_SHIFT, PAGE_SIZE), 0, PAGE_SIZE);
			forget_dirt(&g.mem, f);
		}
	fg_reset(&g);
}

static void up(struct fg_dev *d, uint64_t features)
{
	fg_probe(d, &g, FG_BLK_SLOT);
	uint64_t c = d->common;
#define OUT(off, size, val) bus_write(&g.m.bus, BUS_MMIO, c + (off), size, val)
	OUT(0x14, 1, 0);
	OUT(0x14, 1, 3);
	for (unsigned i = 0; i < 2; i++) {
		OUT(8, 4, i);
		OUT(12, 4, features >> 32 * i & 0xffffffff);
	}
	OUT(0x14, 1, 11);
	OUT(0x10, 2, 0);
	for (unsigned q = 0; q < QUEUES; q++) {
		OUT(0x16, 2, q);
		OUT(0x18, 2, 16);
		OUT(0x1a, 2, q + 1);
		OUT(0x20, 8, RING(q));
		OUT(0x28, 8, RING(q) + 0x100);
		OUT(0x30, 8, RING(q) + 0x200);
		OUT(0x1c, 2, 1);
	}
	OUT(0x14, 1, 15);
}

static void put_desc(uint64_t ring, unsigned i, uint64_t addr, uint64_t len, uint64_t flags, uint64_t next)
{
	fg_put64(&g, ring + 16UL * i, addr);
	fg_put64(&g, ring + 16UL * i + 8, len | flags << 32 | next << 48);
}

static void put_offer(uint64_t ring, uint16_t head)
{
	uint64_t avail = ring + 0x100;
	fg_put16(&g, avail + 4 + 2 * (fg_get16(&g, avail + 2) % 16), head);
	fg_put16(&g, avail + 2, (uint16_t)(fg_get16(&g, avail + 2) + 1));
}

/* A request as a driver makes it, of any type and place; it may well lie beyond the disk, or not be whole sectors. */
static void request(struct input *in, uint64_t ring)
{
	static const uint32_t types[] = { 0, 0, 1, 1, 1, 4, 8, 11, 13, 2 };
	unsigned i = (unsigned)take(in, 1) % 5;
	uint32_t type = types[take(in, 1) % ARRAY_SIZE(types)];
	uint64_t len = take(in, 1) * SECTOR / 4, at = 0x10000 + take(in, 2), shape = take(in, 1);
	uint64_t sector = shape >> 2 & 31; /* few, so that they meet */
	if (shape & 2)
		sector = DISK / SECTOR - 28 + sector;
	if (shape & 1) { /* whole blocks */
		sector &= ~7UL;
		len = 0x1000 + (len & 0x3000);
	}
	bool range = type == 11 || type == 13, in_data = type == 0 || type == 8;
	fg_put64(&g, HEADER(i), type);
	fg_put64(&g, HEADER(i) + 8, sector);
	if (range) {
		fg_put64(&g, HEADER(i) + 16, sector);
		fg_put64(&g, HEADER(i) + 24, take(in, 1) | take(in, 1) % 3 << 32);
		len = 16;
		at = HEADER(i) + 16;
	}
	put_desc(ring, 3 * i, HEADER(i), 16, 1, 3 * i + (len ? 1 : 2));
	put_desc(ring, 3 * i + 1, at, len, in_data ? 3 : 1, 3 * i + 2);
	put_desc(ring, 3 * i + 2, HEADER(i) + 0xf0, 1, 2, 0);
	put_offer(ring, (uint16_t)(3 * i));
}

/* So many blocks of a pass go to the other host. */
static void send(unsigned n)
{
	for (uint64_t b = 0; n-- && (b = layer_track_next(&disk, b)) != LAYER_NONE; b++) {
		const void *page = layer_track_take(&disk, b);
		void *there = page ? layer_fill_page(&copy, b) : NULL;
		if (there)
			memcpy(there, page, PAGE_SIZE);
		else
			CHECK(!layer_fill_zero(&copy, b));
	}
}

static void done(struct blockdev_req *r unused) {}

/* Where requests go, at the disk's beginning and end. */
#define EDGE (16 * PAGE_SIZE + 3 * SECTOR)
static void read_edges(struct layer *l, uint8_t to[2 * EDGE])
{
	for (unsigned i = 0; i < 2; i++) {
		struct gmem_pin pin = { to + i * EDGE, 0, EDGE, GMEM_WRITE };
		struct blockdev_req r = {
			.op = BLOCKDEV_READ, .off = i * (DISK - EDGE), .len = EDGE, .seg = &pin, .done = done
		};
		l->b.ops->submit(&l->b, &r);
		CHECK(!r.err);
	}
}

static void end(bool tracked)
{
	static uint8_t here[2 * EDGE], there[2 * EDGE];
	CHECK(disk.used <= LAYER_MAX);
	if (!tracked)
		(void)layer_track_fill(&disk);
	(void)layer_track_harvest(&disk);
	send(~0U);
	CHECK(!disk.unsent);
	read_edges(&disk, here);
	read_edges(&copy, there);
	CHECK(!memcmp(here, there, sizeof(here)));
	layer_fini(&copy);
}

static void load_mutated(struct input *in)
{
	unsigned which = (unsigned)take(in, 1) % 5;
	struct dev *d = fg_find(&g, "virtio-blk");
	struct why w = { "" };
	uint8_t buf[1024];
	if (which >= d->nsections)
		return;
	const struct sdesc *s = d->section[which].desc;
	d->ops->quiesce(d);
	state_save(s, d->section[which].obj, buf);
	for (unsigned n = (unsigned)take(in, 1) % 4 + 1; n; n--)
		buf[take(in, 2) % state_size(s)] = (uint8_t)take(in, 1);
	(void)!state_load(s, d->section[which].obj, s->version, buf, state_size(s), &w);
	d->ops->resume(d);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const unsigned widths[] = { 1, 2, 4, 8 };
	struct input in = { data, size };
	struct fg_dev d;
	bool tracked = false;
	uint64_t at;

	if (size > 4096)
		return 0;
	begin();
	up(&d, FEATURES | (take(&in, 1) & 1 ? BIT(29) : 0));
	while (in.n) {
		uint8_t op = (uint8_t)take(&in, 1);
		uint64_t ring = RING(op >> 4 & 1);
		unsigned w = widths[op >> 6];
		switch (op % 12) {
		case 0:
		case 1:
		case 2:
			request(&in, ring);
			if (op & 0x20)
				bus_write(&g.m.bus, BUS_PIO, d.notify, 2, op >> 4 & 1);
			break;
		case 3:
		case 4: bus_write(&g.m.bus, BUS_PIO, d.notify, 2, op >> 4 & 3); break;
		case 5: /* a descriptor */
			put_desc(ring, (unsigned)take(&in, 1) % 16, take(&in, 3), take(&in, 2), take(&in, 1) % 8,
				 take(&in, 1) % 18);
			break;
		case 6: put_offer(ring, (uint16_t)(take(&in, 1) % 17)); break;
		case 7: /* anything in the first pages */
			at = take(&in, 2);
			fg_put64(&g, at, take(&in, 8));
			break;
		case 8:
			bus_write(&g.m.bus, BUS_MMIO, d.common + take(&in, 1) % 0x38, w, take(&in, w));
			bus_read(&g.m.bus, BUS_MMIO, d.common + 0x14, 1);
			bus_read(&g.m.bus, BUS_MMIO, d.config + take(&in, 1), w);
			break;
		case 9:
			if (!tracked)
				(void)layer_track_fill(&disk);
			tracked = true;
			if (op & 0x80)
				(void)layer_track_harvest(&disk);
			send(op >> 4 & 7);
			break;
		case 10: load_mutated(&in); break;
		case 11:
			if (op & 0x80) {
				fg_reset(&g);
				up(&d, FEATURES | BIT(29));
			} else if (in.n > 8) { /* costly: not at every end */
				fg_migrate(&g);
			}
			break;
		}
		g.log[0] = '\0';
	}
	end(tracked);
	return 0;
}

/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * virtio-net and virtio-rng, driven by the small driver of fake_guest.c. Every scenario runs twice, the second time
 * with a migration between any two steps: what guest and network see (the log) must be the same.
 */
#include "kernel/time.h"
#include "tests/unit/fake_guest.h"
#include "tests/unit/fake_kernel.h"
#include "vmm/dev/vnet.h"
#include "vmm/dev/vnet_device.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#define F_EVENT_IDX BIT(29)
#define F_INDIRECT  BIT(28)
#define F_V1        BIT(32)
#define F_CSUM      BIT(0)
#define F_GCSUM     BIT(1)
#define F_GTSO4     BIT(7)
#define F_GTSO6     BIT(8)
#define F_HTSO4     BIT(11)
#define F_HTSO6     BIT(12)
#define F_MRG       BIT(15)
#define F_CTRL      BIT(17)
#define F_ANNOUNCE  BIT(21)
#define F_ALL_NET   (F_V1 | F_CSUM | F_GCSUM | F_GTSO4 | F_GTSO6 | F_HTSO4 | F_HTSO6 | F_MRG | F_INDIRECT)

#define RX_RING 0x10000UL
#define TX_RING 0x20000UL
#define CV_RING 0x30000UL
#define BUFS    0x100000UL
#define TABLE   0x80000UL

static struct fg g;
static struct fg_dev d;
static struct fg_queue rx, tx;

static void up(uint64_t features, unsigned size)
{
	fg_probe(&d, &g, FG_NET_SLOT);
	assert_true(fg_negotiate(&d, features));
	fg_queue_init(&rx, &d, 0, size, RX_RING, features & F_EVENT_IDX);
	fg_queue_init(&tx, &d, 1, size, TX_RING, features & F_EVENT_IDX);
	fg_driver_ok(&d);
}

/* Run a scenario plainly, then with a migration between any two steps; compare what was seen. */
static void twice(void (*scenario)(void))
{
	char plain[FG_MAX_LOG];

	fg_init(&g);
	scenario();
	memcpy(plain, g.log, sizeof(plain));
	fg_fini(&g);
	fg_init(&g);
	g.migrate_always = true;
	scenario();
	if (strcmp(plain, g.log))
		fail_msg("without migrations:\n%s\nwith:\n%s", plain, g.log);
	fg_fini(&g);
}

static void put_hdr(gpa_t gpa, uint8_t flags, uint8_t gso, uint16_t hdr_len, uint16_t gso_size, uint16_t start,
		    uint16_t off)
{
	uint8_t h[12] = { flags, gso };

	put_le16(h + 2, hdr_len);
	put_le16(h + 4, gso_size);
	put_le16(h + 6, start);
	put_le16(h + 8, off);
	fg_put(&g, gpa, h, 12);
}

static void put_bytes(gpa_t gpa, size_t len)
{
	uint8_t *b = malloc(len);

	for (size_t i = 0; i < len; i++)
		b[i] = (uint8_t)(gpa + i * 7);
	fg_put(&g, gpa, b, len);
	free(b);
}

static int feed_off(size_t len, uint8_t flags, uint8_t gso, uint16_t gso_size)
{
	static uint8_t buf[FRAME_MAX];
	struct frame f = { .len = (uint32_t)len,
			   .niov = 2,
			   .flags = flags,
			   .gso = gso,
			   .gso_size = gso_size,
			   .hdr_len = 54,
			   .csum_start = 34,
			   .csum_offset = 16 };

	for (size_t i = 0; i < len; i++)
		buf[i] = (uint8_t)(i * 13 + len);
	f.iov[0] = (struct iov){ buf, len / 3 };
	f.iov[1] = (struct iov){ buf + len / 3, len - len / 3 };
	return vnet_rx(g.net, &f);
}
static int feed(size_t len)
{
	int r = feed_off(len, 0, 0, 0);
	fg_step(&g);
	return r;
}

static void assert_fed(gpa_t gpa, size_t off, size_t n, size_t len)
{
	uint8_t *b = malloc(n);

	fg_get(&g, gpa, b, n);
	for (size_t i = 0; i < n; i++)
		if (b[i] != (uint8_t)((off + i) * 13 + len))
			fail_msg("byte %zu of the received frame", off + i);
	free(b);
}

/* ---- transmit ---- */

static void tx_kinds(void)
{
	uint32_t len;

	up(F_ALL_NET | F_EVENT_IDX, 16);
	put_hdr(BUFS, 0, 0, 0, 0, 0, 0);
	put_bytes(BUFS + 12, 60);
	fg_want_interrupt(&tx, true);
	/* one descriptor; header and frame apart; the header in three; indirect; over the seam of host memory */
	fg_add(&tx, (struct fg_sg[]){ { BUFS, 72, false } }, 1, 0);
	fg_kick(&tx);
	fg_add(&tx, (struct fg_sg[]){ { BUFS, 12, false }, { BUFS + 12, 60, false } }, 2, 0);
	fg_kick(&tx);
	fg_add(&tx, (struct fg_sg[]){ { BUFS, 1, false }, { BUFS + 1, 4, false }, { BUFS + 5, 67, false } }, 3, 0);
	fg_kick(&tx);
	fg_add(&tx, (struct fg_sg[]){ { BUFS, 12, false }, { BUFS + 12, 30, false }, { BUFS + 42, 30, false } }, 3,
	       TABLE + 4);
	fg_kick(&tx);
	put_bytes(FG_SEAM - 30, 60);
	fg_add(&tx, (struct fg_sg[]){ { BUFS, 12, false }, { FG_SEAM - 30, 60, false } }, 2, TABLE);
	fg_kick(&tx);
	for (int i = 0; i < 5; i++)
		fg_log(&g, "used %d\n", fg_used(&tx, &len));
	assert_int_equal(fg_used(&tx, &len), -1);
	/* several at once, one interrupt */
	fg_want_interrupt(&tx, true);
	for (int i = 0; i < 8; i++)
		fg_add(&tx, (struct fg_sg[]){ { BUFS, 72, false } }, 1, 0);
	fg_kick(&tx);
	while (fg_used(&tx, &len) >= 0)
		fg_log(&g, "used\n");
	assert_int_equal(fg_status(&d), 15);
}
/* The guest runs before its pages have come: what it sends leaves all the same, and what comes waits for them. */
static void test_post_copy(void **state)
{
	uint32_t len;

	(void)state;
	fg_init(&g);
	up(F_ALL_NET | F_EVENT_IDX, 16);
	put_hdr(BUFS, 0, 0, 0, 0, 0, 0);
	put_bytes(BUFS + 12, 60);
	put_bytes(FG_SEAM - 30, 60);
	fg_add(&tx, (struct fg_sg[]){ { BUFS, 72, false } }, 1, 0);
	fg_add(&tx, (struct fg_sg[]){ { BUFS, 12, false }, { FG_SEAM - 30, 60, false } }, 2, TABLE);
	fg_add(&rx, (struct fg_sg[]){ { 0x200000, 2000, true } }, 1, 0);
	fg_post_copy(&g);
	fg_kick(&tx);
	assert_true(g.waited >= 5); /* the ring, the table, three pages of data, one of them behind the seam */
	for (int i = 0; i < 2; i++)
		assert_true(fg_used(&tx, &len) >= 0);
	assert_int_equal(fg_used(&tx, &len), -1);
	unsigned waited = g.waited;
	assert_int_equal(feed(100), 0);
	assert_true(g.waited > waited);
	assert_true(fg_used(&rx, &len) >= 0 && len == 112);
	assert_fed(0x200000 + 12, 0, 100, 100);
	fg_fini(&g);
}
static void test_tx_kinds(void **state)
{
	(void)state;
	twice(tx_kinds);
	fg_init(&g);
	tx_kinds();
	/* 5 of the same bytes but the last, interrupts for the first and for the batch. */
	assert_int_equal(g.nmsi, 2);
	assert_int_equal(g.msi[0].data, 0x42);
	assert_non_null(strstr(g.log, "tx len 60 sum"));
	fg_fini(&g);
}

static void tx_offloads(void)
{
	up(F_ALL_NET | F_EVENT_IDX, 16);
	put_bytes(BUFS, 65536 + 32);
	put_hdr(BUFS, 1, 0, 0, 0, 34, 16); /* partial checksum */
	fg_add(&tx, (struct fg_sg[]){ { BUFS, 12 + 100, false } }, 1, 0);
	fg_kick(&tx);
	put_hdr(BUFS, 1, 1, 66, 1448, 34, 16); /* TSO4, 64 KiB */
	fg_add(&tx, (struct fg_sg[]){ { BUFS, 40000, false }, { BUFS + 40000, 25561, false } }, 2, 0);
	fg_kick(&tx);
	put_hdr(BUFS, 1, 4, 86, 1428, 54, 16); /* TSO6 */
	fg_add(&tx, (struct fg_sg[]){ { BUFS, 9000, false } }, 1, 0);
	fg_kick(&tx);
	/* More pieces than a frame has: sent from one. */
	put_hdr(BUFS, 0, 0, 0, 0, 0, 0);
	struct fg_sg many[40];
	for (unsigned i = 0; i < 40; i++)
		many[i] = (struct fg_sg){ BUFS + 12 + 50 * i, 30, false };
	many[0] = (struct fg_sg){ BUFS, 12, false };
	up(F_ALL_NET, 64);
	fg_add(&tx, many, 40, TABLE);
	fg_kick(&tx);
	fg_log(&g, "used %d\n", fg_used(&tx, NULL));
}
static void test_tx_offloads(void **state)
{
	(void)state;
	twice(tx_offloads);
	fg_init(&g);
	tx_offloads();
	assert_non_null(strstr(g.log, "tx len 100 "));
	assert_non_null(strstr(g.log, "flags 1 gso 0/0 csum 34+16 hdr 0\n"));
	assert_non_null(strstr(g.log, "tx len 65549 "));
	assert_non_null(strstr(g.log, "flags 1 gso 1/1448 csum 34+16 hdr 66\n"));
	assert_non_null(strstr(g.log, "flags 1 gso 4/1428 csum 54+16 hdr 86\n"));
	assert_non_null(strstr(g.log, "tx len 1170 "));
	fg_fini(&g);
}

/* A used ring that begins 8 bytes before the seam: its first entry lies in two pieces of host memory. */
static void tx_ring_on_seam(void)
{
	fg_probe(&d, &g, FG_NET_SLOT);
	assert_true(fg_negotiate(&d, F_V1));
	fg_queue_init(&tx, &d, 1, 256, FG_SEAM - 8 - 4616, false);
	assert_int_equal(tx.used, FG_SEAM - 8);
	fg_driver_ok(&d);
	for (unsigned i = 0; i < 600; i++) {
		fg_add(&tx, (struct fg_sg[]){ { BUFS, 72, false } }, 1, 0);
		if (i % 100 == 0) {
			fg_kick(&tx);
			while (fg_used(&tx, NULL) >= 0)
				;
			fg_log(&g, "used %u\n", tx.last_used);
		}
		g.nmsi = 0;
	}
	assert_int_equal(tx.last_used, 501);
}
static void test_tx_ring_on_seam(void **state)
{
	(void)state;
	twice(tx_ring_on_seam);
}

/* What no driver may ask for: frames are dropped, buffers come back, the device lives. The rest: test_bridge_rules.c */
static void test_tx_dropped(void **state)
{
	static const struct {
		uint64_t features;
		uint8_t flags, gso;
		uint16_t gso_size, start, off;
		uint32_t len;
	} c[] = {
		{ F_V1, 1, 0, 0, 34, 16, 100 },              /* checksum not negotiated */
		{ F_V1 | F_CSUM, 1, 1, 1448, 34, 16, 3000 }, /* TSO not negotiated */
		{ F_V1 | F_CSUM, 1, 4, 1448, 54, 16, 3000 },
		{ F_ALL_NET, 1, 3, 1448, 34, 16, 3000 },    /* UFO */
		{ F_ALL_NET, 1, 0x81, 1448, 34, 16, 3000 }, /* ECN */
		{ F_ALL_NET, 0, 0, 0, 0, 0, 13 },           /* shorter than a header */
		{ F_ALL_NET, 1, 1, 1448, 34, 16, FRAME_MAX + 1 },
	};

	(void)state;
	fg_init(&g);
	for (unsigned i = 0; i < ARRAY_SIZE(c); i++) {
		up(c[i].features, 16);
		put_hdr(BUFS, c[i].flags, c[i].gso, 66, c[i].gso_size, c[i].start, c[i].off);
		fg_add(&tx, (struct fg_sg[]){ { BUFS, 12 + c[i].len, false } }, 1, 0);
		fg_kick(&tx);
		assert_int_equal(fg_used(&tx, NULL), 0);
		assert_int_equal(fg_status(&d), 15);
		assert_null(strstr(g.log, "tx"));
	}
	fg_fini(&g);
}

/* Notifications and interrupts are suppressed as the spec has it, without the event index. */
static void test_suppression(void **state)
{
	(void)state;
	fg_init(&g);
	up(F_V1, 16);
	put_hdr(BUFS, 0, 0, 0, 0, 0, 0);
	assert_int_equal(fg_get16(&g, rx.used), 1); /* nobody wants to hear of receive buffers */
	assert_int_equal(fg_get16(&g, tx.used), 0);
	fg_want_interrupt(&tx, false);
	fg_add(&tx, (struct fg_sg[]){ { BUFS, 80, false } }, 1, 0);
	assert_true(fg_kick(&tx));
	assert_int_equal(g.nmsi, 0);
	fg_want_interrupt(&tx, true);
	fg_add(&tx, (struct fg_sg[]){ { BUFS, 80, false } }, 1, 0);
	assert_true(fg_kick(&tx));
	assert_int_equal(g.nmsi, 1);
	assert_int_equal(fg_get16(&g, tx.used), 0);
	fg_fini(&g);
}

static void add_behind(struct fg *fg, struct frame *f)
{
	static unsigned left;

	(void)f;
	assert_int_equal(fg_get16(fg, tx.used), 1); /* no notifications while the pump is at it */
	if (!left)
		left = 600;
	if (--left)
		fg_add(&tx, (struct fg_sg[]){ { BUFS, 80, false } }, 1, 0);
	else
		fg->tx = NULL;
}

/*
 * Another vCPU that keeps adding: all of it is sent in one notification, though it is more than the ring holds, with an
 * interrupt for each 64.
 */
static void test_tx_refilled(void **state)
{
	unsigned n = 0;

	(void)state;
	fg_init(&g);
	up(F_V1, 16);
	put_hdr(BUFS, 0, 0, 0, 0, 0, 0);
	g.tx = add_behind;
	fg_add(&tx, (struct fg_sg[]){ { BUFS, 80, false } }, 1, 0);
	fg_kick(&tx);
	while (fg_used(&tx, NULL) >= 0)
		n++;
	assert_int_equal((uint16_t)(tx.last_used), 600);
	assert_int_equal(n, 600);
	assert_int_equal(g.nmsi, 10);
	fg_fini(&g);
}

static void reset_behind(struct fg *fg, struct frame *f)
{
	(void)f;
	fg->tx = NULL;
	fg_write(&d, d.common + 0x14, 1, 0);
}

/* The driver resets the device while a frame is on its way: its rings are not touched any more. */
static void test_tx_reset_behind(void **state)
{
	(void)state;
	fg_init(&g);
	up(F_V1, 16);
	put_hdr(BUFS, 0, 0, 0, 0, 0, 0);
	g.tx = reset_behind;
	fg_add(&tx, (struct fg_sg[]){ { BUFS, 80, false } }, 1, 0);
	fg_add(&tx, (struct fg_sg[]){ { BUFS, 80, false } }, 1, 0);
	fg_kick(&tx);
	assert_int_equal(fg_used(&tx, NULL), -1);
	assert_int_equal(fg_status(&d), 0);
	assert_int_equal(g.nmsi, 0);
	for (gpa_t gpa = 0; gpa < 64; gpa += 2) /* nor is where a queue without addresses would lie */
		assert_int_equal(fg_get16(&g, gpa), 0);
	up(F_V1, 16);
	fg_add(&tx, (struct fg_sg[]){ { BUFS, 80, false } }, 1, 0);
	fg_kick(&tx);
	assert_int_equal(fg_used(&tx, NULL), 0);
	fg_fini(&g);
}

/* ---- receive ---- */

static void rx_single(void)
{
	uint32_t len;

	up(F_ALL_NET | F_EVENT_IDX, 16);
	fg_want_interrupt(&rx, true);
	fg_add(&rx, (struct fg_sg[]){ { FG_SEAM - 50, 1526, true } }, 1, 0);
	fg_add(&rx, (struct fg_sg[]){ { BUFS, 12, true }, { BUFS + 0x1000, 1514, true } }, 2, TABLE);
	assert_int_equal(feed(100), 0);
	assert_int_equal(fg_used(&rx, &len), 0);
	assert_int_equal(len, 112);
	assert_fed(FG_SEAM - 50 + 12, 0, 100, 100);
	assert_int_equal(fg_get16(&g, FG_SEAM - 50 + 10), 1);
	assert_int_equal(feed(1514), 0);
	fg_log(&g, "used %d\n", fg_used(&rx, &len));
	assert_int_equal(len, 1526);
	assert_fed(BUFS + 0x1000, 0, 1514, 1514);
	/* The interrupt was asked for the first only. */
	assert_int_equal(g.nmsi, 1);
	fg_want_interrupt(&rx, true);
	fg_add(&rx, (struct fg_sg[]){ { BUFS, 2000, true } }, 1, 0);
	assert_int_equal(feed(60), 0);
	assert_int_equal(g.nmsi, 2);
	assert_int_equal(g.msi[1].data, 0x41);
}
static void test_rx_single(void **state)
{
	(void)state;
	twice(rx_single);
}

/* Bringing one frame has a bound: it is not spread over any number of pieces. */
static void test_rx_in_crumbs(void **state unused)
{
	struct fg_sg crumb[129];
	fg_init(&g);
	up(F_ALL_NET, 256);
	for (unsigned i = 0; i < ARRAY_SIZE(crumb); i++)
		crumb[i] = (struct fg_sg){ BUFS + 2 * i, 1, true };
	for (unsigned i = 0; i < 2; i++) /* the most that a ring without indirect tables can have */
		fg_add(&rx, crumb, 128, TABLE + 0x1000 * i);
	assert_int_equal(feed(200), 0);
	for (unsigned i = 0; i < 2; i++)
		fg_add(&rx, crumb, 128 + i, TABLE + 0x1000 * i);
	assert_int_equal(feed(240), 0);
	assert_true(fg_status(&d) & 0x40); /* DEVICE_NEEDS_RESET */
	assert_int_equal(feed(240), -ENETDOWN);
	fg_fini(&g);
}

static void rx_merged(void)
{
	uint32_t len, total = 0, left = 5000 + 12;

	up(F_ALL_NET | F_EVENT_IDX, 16);
	/* The header's last field lies across two segments of the first buffer. */
	fg_add(&rx, (struct fg_sg[]){ { BUFS, 11, true }, { BUFS + 0x1000, 989, true } }, 2, 0);
	for (unsigned i = 1; i < 5; i++)
		fg_add(&rx, (struct fg_sg[]){ { BUFS + 0x10000 * i, 1000, true } }, 1, 0);
	fg_want_interrupt(&rx, true);
	fg_add(&rx, (struct fg_sg[]){ { BUFS + 0x50000, 1000, true } }, 1, 0);
	assert_int_equal(feed_off(5000, 1, 1, 1448), 0);
	fg_step(&g);
	for (unsigned i = 0; i < 6; i++) {
		fg_log(&g, "used %d\n", fg_used(&rx, &len));
		assert_int_equal(len, MIN(left, 1000));
		left -= len;
		total += len;
	}
	assert_int_equal(total, 5012);
	assert_int_equal(fg_used(&rx, &len), -1);
	uint8_t h[12];
	fg_get(&g, BUFS, h, 11);
	fg_get(&g, BUFS + 0x1000, h + 11, 1);
	assert_int_equal(get_le16(h + 10), 6);
	assert_int_equal(h[0], 1);
	assert_int_equal(h[1], 1);
	assert_int_equal(get_le16(h + 2), 54);
	assert_int_equal(get_le16(h + 4), 1448);
	assert_int_equal(get_le16(h + 6), 34);
	assert_int_equal(get_le16(h + 8), 16);
	assert_fed(BUFS + 0x1001, 0, 988, 5000);
	assert_fed(BUFS + 0x10000, 988, 1000, 5000);
	assert_fed(BUFS + 0x50000, 4988, 12, 5000);
	assert_int_equal(g.nmsi, 1);
}
static void test_rx_merged(void **state)
{
	(void)state;
	twice(rx_merged);
}

/*
 * What comes before its buffers waits for the driver to ring, which is asked for just then; not for a driver that is
 * gone, nor more of it than there is room for.
 */
static void rx_waits(uint64_t features)
{
	uint32_t len;
	unsigned n = 0;

	fg_init(&g);
	up(features, 16);
	fg_add(&rx, (struct fg_sg[]){ { BUFS, 1000, true } }, 1, 0);
	assert_int_equal(fg_kick(&rx), rx.event_idx); /* nobody asks for it; the index has stood at 0 from the start */
	assert_int_equal(feed(1500), 0);
	assert_int_equal(fg_used(&rx, &len), -1); /* one buffer of two: nothing taken */
	assert_int_equal(feed(60), 0);
	fg_add(&rx, (struct fg_sg[]){ { BUFS + 0x1000, 600, true } }, 1, 0);
	assert_true(fg_kick(&rx));
	assert_int_equal(fg_used(&rx, &len), 0);
	assert_int_equal(len, 1000);
	assert_int_equal(fg_used(&rx, &len), 1);
	assert_int_equal(len, 512);
	assert_int_equal(fg_used(&rx, &len), -1);
	assert_fed(BUFS + 0x1000, 988, 512, 1500);
	fg_add(&rx, (struct fg_sg[]){ { BUFS, 1000, true } }, 1, 0);
	fg_add(&rx, (struct fg_sg[]){ { BUFS, 1000, true } }, 1, 0);
	assert_true(fg_kick(&rx));
	assert_int_equal(fg_used(&rx, &len), 2); /* the second one, in its turn */
	assert_int_equal(len, 72);
	assert_int_equal(feed(61), 0);
	assert_int_equal(fg_used(&rx, &len), 3);
	assert_int_equal(feed(62), 0);
	up(features, 16);
	fg_add(&rx, (struct fg_sg[]){ { BUFS, 1000, true } }, 1, 0);
	fg_ring(&rx);
	assert_int_equal(fg_used(&rx, &len), -1);
	assert_int_equal(feed(63), 0);
	assert_int_equal(fg_used(&rx, &len), 0);
	assert_int_equal(len, 75);
	while (feed(1514) == 0)
		n++;
	assert_in_range(n, 150, 173); /* 256 KiB */
	for (unsigned i = 0; i < n; i++) {
		fg_add(&rx, (struct fg_sg[]){ { BUFS, 2000, true } }, 1, 0);
		assert_true(fg_kick(&rx));
		assert_true(fg_used(&rx, &len) >= 0 && len == 1526);
	}
	fg_add(&rx, (struct fg_sg[]){ { BUFS, 2000, true } }, 1, 0);
	fg_kick(&rx);
	assert_int_equal(fg_used(&rx, &len), -1);
	assert_int_equal(fg_status(&d), 15);
	fg_fini(&g);
}
/* A driver that has no more buffers than those in its ring does not wait for ever behind a frame that is longer. */
static void test_rx_gives_up(void **state unused)
{
	fg_init(&g);
	up(F_ALL_NET, 16);
	fg_add(&rx, (struct fg_sg[]){ { BUFS, 1000, true } }, 1, 0);
	assert_int_equal(feed(1500), 0);
	assert_int_equal(feed(60), 0);
	assert_int_equal(fg_used(&rx, NULL), -1);
	fake_time_advance(101 * NS_PER_MS);
	assert_int_equal(feed(61), 0);
	assert_int_equal(fg_used(&rx, NULL), 0);
	assert_fed(BUFS + VNET_HDR_LEN, 0, 60, 60);
	assert_int_equal(g.lost, 1);
	fg_add(&rx, (struct fg_sg[]){ { BUFS, 1000, true } }, 1, 0);
	fg_ring(&rx);
	assert_int_equal(fg_used(&rx, NULL), 1);
	/* One without any buffer may take as long as it likes; one that starts anew finds room. */
	while (feed(1514) == 0)
		;
	fake_time_advance(NS_PER_SEC);
	assert_int_equal(feed(1514), -ENOBUFS);
	up(F_ALL_NET, 16);
	assert_int_equal(feed(60), 0);
	/* And it has all of that time, however long the one before it had waited. */
	up(F_ALL_NET, 16);
	fg_add(&rx, (struct fg_sg[]){ { BUFS, 1000, true } }, 1, 0);
	assert_int_equal(feed(1500), 0);
	fg_add(&rx, (struct fg_sg[]){ { BUFS + 0x1000, 1000, true } }, 1, 0);
	assert_true(fg_kick(&rx));
	assert_int_equal(fg_used(&rx, NULL), 0);
	assert_int_equal(fg_used(&rx, NULL), 1);
	fg_fini(&g);
}

static void test_rx_waits(void **state unused)
{
	rx_waits(F_ALL_NET);
	rx_waits(F_ALL_NET | F_EVENT_IDX);
}

/* What the queue says of its room is so, wherever in its ring it stands. */
static void test_rx_room(void **state unused)
{
	static const uint32_t len[] = { 60, 1514, 9014, 1514, FRAME_MAX };
	fg_init(&g);
	up(F_ALL_NET, 16);
	assert_true(vnet_room(g.net, 1514) > 100);
	for (unsigned i = 0; i < 50; i++) {
		uint32_t n = len[i % ARRAY_SIZE(len)];
		unsigned room = vnet_room(g.net, n);
		assert_true(i || room > 0);
		while (room--)
			assert_int_equal(feed(n), 0);
		assert_int_equal(vnet_room(g.net, n), 0);
		for (unsigned k = 0; k < 7; k++) {
			struct frame f;
			if (vnet_queue_first(&g.net->pair->queue, &f))
				vnet_queue_drop(&g.net->pair->queue);
		}
	}
	fg_fini(&g);
}

/* Who sends to a guest does not wait for its device, whatever that is at, and looks at nothing of the guest's. */
static void test_rx_costs_its_sender_a_copy(void **state unused)
{
	fg_init(&g);
	up(F_ALL_NET, 16);
	fg_add(&rx, (struct fg_sg[]){ { BUFS, 1000, true } }, 1, 0);
	g.net->pair->worker.working = true;
	spin_lock(&g.net->v.lock);
	spin_lock(&g.net->pair->lock);
	assert_int_equal(feed_off(60, 0, 0, 0), 0);
	spin_unlock(&g.net->pair->lock);
	spin_unlock(&g.net->v.lock);
	assert_int_equal(fg_used(&rx, NULL), -1);
	g.net->pair->worker.working = false;
	worker_kick(&g.net->pair->worker);
	assert_int_equal(fg_used(&rx, NULL), 0);
	fg_fini(&g);
}

static void test_rx_offloads(void **state)
{
	(void)state;
	fg_init(&g);
	assert_int_equal(vnet_offloads(g.net), 0);
	assert_int_equal(feed(60), -ENETDOWN);
	up(F_V1, 16);
	assert_int_equal(vnet_offloads(g.net), 0);
	fg_add(&rx, (struct fg_sg[]){ { BUFS, 1000, true } }, 1, 0);
	fg_add(&rx, (struct fg_sg[]){ { BUFS, 1000, true } }, 1, 0);
	assert_int_equal(feed_off(60, FRAME_NEEDS_CSUM, 0, 0), 0); /* it is not brought */
	assert_int_equal(feed_off(600, 0, FRAME_GSO_TCPV4, 100), 0);
	assert_int_equal(feed(1500), 0); /* no merging: the buffer is too small, and stays */
	assert_int_equal(fg_used(&rx, NULL), -1);
	assert_int_equal(feed_off(60, FRAME_DATA_VALID, 0, 0), 0);
	assert_int_equal(fg_get16(&g, BUFS), 0); /* not negotiated: not said */
	up(F_V1 | F_GCSUM | F_GTSO6, 16);
	assert_int_equal(vnet_offloads(g.net), 5);
	fg_add(&rx, (struct fg_sg[]){ { BUFS, 1000, true } }, 1, 0);
	assert_int_equal(feed_off(60, FRAME_DATA_VALID, 0, 0), 0);
	assert_int_equal(fg_get16(&g, BUFS), 2);
	up(F_ALL_NET, 16);
	assert_int_equal(vnet_offloads(g.net), 7);
	fg_fini(&g);
}

/* Between quiesce and resume nothing moves; afterwards what waited does. */
static void test_quiesce(void **state)
{
	struct dev *dev;

	(void)state;
	fg_init(&g);
	up(F_ALL_NET, 16);
	put_hdr(BUFS, 0, 0, 0, 0, 0, 0);
	dev = fg_find(&g, "virtio-net");
	assert_int_equal(feed(60), 0);
	dev->ops->quiesce(dev);
	assert_int_equal(feed(61), -ENETDOWN); /* who stands still for long would get old frames before new ones */
	fg_add(&rx, (struct fg_sg[]){ { BUFS + 0x1000, 1000, true } }, 1, 0);
	fg_ring(&rx);
	fg_add(&tx, (struct fg_sg[]){ { BUFS, 80, false } }, 1, 0);
	fg_kick(&tx);
	assert_int_equal(fg_used(&tx, NULL), -1);
	assert_int_equal(fg_used(&rx, NULL), -1);
	assert_int_equal(g.nmsi, 0);
	dev->ops->resume(dev);
	assert_int_equal(fg_used(&tx, NULL), 0);
	assert_int_equal(fg_used(&rx, NULL), 0);
	assert_int_equal(g.nmsi, 2);
	/* Bus mastering off: no access to memory, and nothing waits for it. */
	fg_add(&rx, (struct fg_sg[]){ { BUFS + 0x1000, 1000, true } }, 1, 0);
	fg_cfg_write(&g, FG_NET_SLOT, 4, 2, 3);
	assert_int_equal(feed(60), 0);
	fg_cfg_write(&g, FG_NET_SLOT, 4, 2, 7);
	fg_ring(&rx);
	assert_int_equal(fg_used(&rx, NULL), -1);
	fg_fini(&g);
}

/* ---- registers ---- */

static void registers(void)
{
	fg_probe(&d, &g, FG_NET_SLOT);
	assert_true(fg_features(&d) == (F_ALL_NET | F_EVENT_IDX | BIT(3) | BIT(5) | BIT(16) | F_CTRL | F_ANNOUNCE));
	assert_int_equal(fg_read(&d, d.common + 0x12, 2), 3);
	assert_true((fg_read(&d, d.config, 8) & 0xffffffffffff) == 0x070000005452);
	assert_int_equal(fg_read(&d, d.config + 6, 2), 1);
	assert_int_equal(fg_read(&d, d.config + 10, 2), 9000);
	assert_int_equal(fg_read(&d, d.config + 11, 2), 0); /* beyond its end */
	/* Refused: without VERSION_1, not offered, TSO without checksums. */
	assert_false(fg_negotiate(&d, F_CSUM));
	assert_false(fg_negotiate(&d, F_V1 | BIT(40)));
	assert_false(fg_negotiate(&d, F_V1 | F_HTSO4));
	assert_false(fg_negotiate(&d, F_V1 | F_GTSO6));
	assert_false(fg_negotiate(&d, F_V1 | F_ANNOUNCE)); /* nor announcing without a way to confirm it */
	fg_driver_ok(&d);                                  /* now negotiated is nothing: cannot come up */
	assert_int_equal(fg_status(&d), 3);
	assert_true(fg_negotiate(&d, F_V1));
	fg_write(&d, d.common + 0xc, 4, 0xff); /* too late */
	fg_write(&d, d.common + 8, 4, 0);
	assert_int_equal(fg_read(&d, d.common + 0xc, 4), 0);
	/* Vectors that are not there read back as none. */
	fg_write(&d, d.common + 0x10, 2, 3);
	assert_int_equal(fg_read(&d, d.common + 0x10, 2), 0xffff);
	fg_write(&d, d.common + 0x10, 2, 2);
	assert_int_equal(fg_read(&d, d.common + 0x10, 2), 2);
	/* A queue that is not there. */
	fg_write(&d, d.common + 0x16, 2, 0xffff);
	fg_write(&d, d.common + 0x18, 2, 16);
	fg_write(&d, d.common + 0x16, 2, 3);
	assert_int_equal(fg_read(&d, d.common + 0x18, 2), 0);
	assert_int_equal(fg_read(&d, d.common + 0x1a, 2), 0xffff);
	fg_write(&d, d.common + 0x18, 2, 16);
	fg_write(&d, d.common + 0x20, 8, 0x1000);
	fg_write(&d, d.common + 0x1c, 2, 1);
	assert_int_equal(fg_read(&d, d.common + 0x1c, 2), 0);
	/* Addresses in halves; frozen once enabled; foreign widths ignored. */
	fg_write(&d, d.common + 0x16, 2, 1);
	assert_int_equal(fg_read(&d, d.common + 0x18, 2), 256);
	assert_int_equal(fg_read(&d, d.common + 0x1e, 2), 1);
	fg_write(&d, d.common + 0x20, 4, 0x1230);
	fg_write(&d, d.common + 0x24, 4, 1);
	fg_write(&d, d.common + 0x22, 2, 0xffff);
	fg_write(&d, d.common + 0x21, 8, 0xffff);
	assert_true(fg_read(&d, d.common + 0x20, 8) == 0x100001230);
	fg_write(&d, d.common + 0x1c, 2, 1);
	fg_write(&d, d.common + 0x20, 4, 0);
	assert_int_equal(fg_read(&d, d.common + 0x20, 4), 0x1230);
	/* Misaligned: needs a reset, and says so once the driver listens. */
	fg_write(&d, d.common + 0x16, 2, 0);
	fg_write(&d, d.common + 0x20, 4, 8);
	fg_write(&d, d.common + 0x1c, 2, 1);
	assert_int_equal(fg_status(&d), 0x4b);
	assert_int_equal(g.nmsi, 0);
	fg_driver_ok(&d);
	assert_int_equal(g.nmsi, 1);
	assert_int_equal(g.msi[0].data, 0x42);
	fg_write(&d, d.common + 0x14, 1, 0);
	assert_int_equal(fg_status(&d), 0);
	assert_int_equal(fg_read(&d, d.common + 0x20, 8), 0);
}
static void test_registers(void **state)
{
	(void)state;
	twice(registers);
}

/* Without MSI-X the ISR says it, and reading clears it. */
static void test_isr(void **state)
{
	(void)state;
	fg_init(&g);
	up(F_V1, 16);
	fg_cfg_write(&g, FG_NET_SLOT, 0x42, 2, 0);
	fg_add(&rx, (struct fg_sg[]){ { BUFS, 1000, true } }, 1, 0);
	assert_int_equal(feed(60), 0);
	fg_migrate(&g);
	assert_int_equal(fg_read(&d, d.isr, 1), 1);
	assert_int_equal(fg_read(&d, d.isr, 1), 0);
	assert_int_equal(g.nmsi, 0);
	fg_fini(&g);
}

/* ---- announcing ---- */

#define F_TOLD (F_V1 | F_EVENT_IDX | F_INDIRECT | BIT(16) | F_CTRL | F_ANNOUNCE)
static struct fg_queue cv;

static void up_with_control(uint64_t features)
{
	fg_probe(&d, &g, FG_NET_SLOT);
	assert_true(fg_negotiate(&d, features));
	fg_queue_init(&rx, &d, 0, 16, RX_RING, features & F_EVENT_IDX);
	fg_queue_init(&tx, &d, 1, 16, TX_RING, features & F_EVENT_IDX);
	fg_queue_init(&cv, &d, 2, 16, CV_RING, features & F_EVENT_IDX);
	fg_driver_ok(&d);
}

static unsigned net_status(void) { return (unsigned)fg_read(&d, d.config + 6, 2); }

static void announce(void)
{
	vnet_announce(g.net);
	fg_step(&g);
}

/* A command of n bytes, its answer in its own byte: what the device says, 0xee for nothing. */
static unsigned command(const char *bytes, uint32_t n, gpa_t indirect)
{
	uint32_t len = 0;
	uint8_t ack = 0xee;
	fg_put(&g, BUFS, bytes, n);
	fg_put(&g, BUFS + 0x1000, &ack, 1);
	fg_add(&cv, (struct fg_sg[]){ { BUFS, n, false }, { BUFS + 0x1000, 1, true } }, 2, indirect);
	fg_ring(&cv);
	fg_log(&g, "used %d\n", fg_used(&cv, &len));
	fg_get(&g, BUFS + 0x1000, &ack, 1);
	assert_true(ack == 0xee || len == 1);
	return ack;
}

static void control(void)
{
	up_with_control(F_TOLD);
	unsigned generation = (unsigned)fg_read(&d, d.common + 0x15, 1);
	assert_int_equal(net_status(), 1);
	assert_int_equal(command("\3\0", 2, 0), 0); /* nothing to confirm: no harm */
	announce();
	assert_int_equal(net_status(), 3);
	assert_int_equal(g.nmsi, 1);
	assert_int_equal(g.msi[0].data, 0x40); /* the configuration's */
	assert_int_not_equal(fg_read(&d, d.common + 0x15, 1), generation);
	/* Another command of the class, other classes, too short, too long. */
	static const struct {
		const char *bytes;
		uint32_t n;
	} wrong[] = {
		{ "\3\1", 2 }, { "\0\0\1", 3 }, { "\4\0\1\0", 4 }, { "\3", 1 }, { "\3\0\0", 3 }, { "\xff\xff", 2 }
	};
	for (unsigned i = 0; i < ARRAY_SIZE(wrong); i++) {
		assert_int_equal(command(wrong[i].bytes, wrong[i].n, i % 2 ? TABLE : 0), 1);
		assert_int_equal(net_status(), 3);
	}
	assert_int_equal(command("\3\0", 2, TABLE), 0);
	assert_int_equal(net_status(), 1);
	announce();
	assert_int_equal(g.nmsi, 2);
	announce(); /* once more, before it has confirmed the first */
	assert_int_equal(command("\3\0", 2, 0), 0);
	assert_int_equal(net_status(), 1);
	announce();
	fg_write(&d, d.common + 0x14, 1, 0); /* a reset forgets it */
	assert_int_equal(net_status(), 1);
	assert_int_equal(g.nmsi, 4);
}

static void test_control(void **state unused) { twice(control); }

/* A feature that the driver has not accepted changes nothing. */
static void test_not_told(void **state unused)
{
	static const uint64_t without[] = { F_V1 | BIT(16), F_V1 | BIT(16) | F_CTRL, F_V1 | F_CTRL | F_ANNOUNCE };
	for (unsigned i = 0; i < ARRAY_SIZE(without); i++) {
		fg_init(&g);
		up_with_control(without[i]);
		announce();
		assert_int_equal(net_status(), 1);
		assert_int_equal(fg_read(&d, d.common + 0x15, 1), 0);
		assert_int_equal(command("\3\0", 2, 0), i == 0   ? 0xee
							: i == 1 ? 1
								 : 0); /* the first has no such queue */
		assert_int_equal(g.nmsi, 0);
		assert_int_equal(fg_status(&d), 15);
		fg_fini(&g);
	}
	fg_init(&g);
	announce(); /* and no driver is none that could be told */
	fg_probe(&d, &g, FG_NET_SLOT);
	assert_int_equal(net_status(), 1);
	fg_fini(&g);
}

/* A command in crumbs is read up to its second byte. Without room for an answer the driver is broken. */
static void test_control_hostile(void **state unused)
{
	struct fg_sg crumb[16];
	uint8_t ack = 0xee;
	fg_init(&g);
	up_with_control(F_TOLD);
	for (unsigned i = 0; i < ARRAY_SIZE(crumb); i++)
		crumb[i] = (struct fg_sg){ BUFS + 16 * i, 1, i == 15 };
	fg_add(&cv, crumb, 16, TABLE);
	fg_ring(&cv);
	fg_get(&g, BUFS + 16 * 15, &ack, 1);
	assert_int_equal(ack, 1);
	fg_add(&cv, (struct fg_sg[]){ { BUFS, 2, false } }, 1, 0);
	fg_ring(&cv);
	assert_int_equal(fg_status(&d), 0x4f);
	fg_fini(&g);
	for (unsigned i = 0; i < 2; i++) { /* nor may it be long: each 2 MiB are looked up, and all else waits */
		struct fg_sg sg[] = { { 0, i ? 2 : 3U << 20, false }, { 3UL << 20, i ? 3U << 20 : 1, true } };
		fg_init(&g);
		up_with_control(F_TOLD);
		fg_add(&cv, sg, 2, 0);
		fg_ring(&cv);
		assert_int_equal(fg_status(&d), 0x4f);
		fg_fini(&g);
	}
}

/* ---- a turn ---- */

static uint64_t frame_ns; /* what each frame that is sent takes */
static unsigned nsent;

static void takes_time(struct fg *f unused, struct frame *sent unused)
{
	nsent++;
	fake_time_advance(frame_ns);
}

/*
 * A turn ends after so many frames, or with the frame at which its time is over: others wait for it, and a frame may
 * become a thousand segments. Nothing is lost by that.
 */
static void test_turn_has_an_end(void **state unused)
{
	static const uint64_t cost[] = { 0, 1000, VNET_TURN_NS / 10, VNET_TURN_NS / 3, VNET_TURN_NS, 5 * VNET_TURN_NS };
	for (unsigned i = 0; i < ARRAY_SIZE(cost); i++) {
		unsigned frames = 100, turns = 0, most = VNET_TURN_FRAMES;
		fg_init(&g);
		up(F_ALL_NET, 128);
		g.tx = takes_time;
		frame_ns = cost[i], nsent = 0;
		struct worker *w = &g.net->pair->worker;
		w->working = true; /* so that who rings does not work */
		for (unsigned k = 0; k < frames; k++)
			fg_add(&tx, (struct fg_sg[]){ { BUFS + 2048 * k, 12 + 60, false } }, 1, 0);
		fg_ring(&tx);
		assert_int_equal(nsent, 0);
		if (cost[i])
			most = MIN(most, (unsigned)(VNET_TURN_NS / cost[i]) + 1);
		for (bool more = true; more; turns++) {
			uint64_t begin = time_ns();
			unsigned before = nsent;
			more = w->work(w->arg);
			assert_int_equal(nsent - before, MIN(most, frames - before));
			assert_true(time_ns() - begin <= VNET_TURN_NS + cost[i]);
		}
		assert_true(nsent == frames && turns >= (frames + most - 1) / most);
		for (unsigned k = 0; k < frames; k++)
			assert_int_equal(fg_used(&tx, NULL), k);
		w->working = false;
		fg_fini(&g);
	}
}

/* ---- rng ---- */

static void rng(void)
{
	struct fg_queue q;
	uint32_t len;
	uint8_t b[300];

	fg_probe(&d, &g, FG_RNG_SLOT);
	assert_int_equal(d.config, 0);
	assert_true(fg_negotiate(&d, F_V1 | F_EVENT_IDX | F_INDIRECT));
	fg_queue_init(&q, &d, 0, 8, RX_RING, true);
	fg_driver_ok(&d);
	fg_want_interrupt(&q, true);
	fg_add(&q, (struct fg_sg[]){ { BUFS, 10, true }, { FG_SEAM - 10, 20, true } }, 2, TABLE);
	fg_kick(&q);
	fg_log(&g, "used %d\n", fg_used(&q, &len));
	assert_int_equal(len, 30);
	fg_get(&g, FG_SEAM - 10, b, 20);
	for (unsigned i = 0; i < 20; i++)
		assert_int_equal(b[i], 0xa5);
	fg_add(&q, (struct fg_sg[]){ { BUFS, 0x100000, true } }, 1, 0);
	fg_kick(&q);
	fg_log(&g, "used %d\n", fg_used(&q, &len));
	assert_int_equal(len, 256);
	assert_int_equal(g.nmsi, 1);
	/* A readable buffer is no place for random bytes. */
	fg_add(&q, (struct fg_sg[]){ { BUFS, 16, false } }, 1, 0);
	fg_kick(&q);
	assert_int_equal(fg_status(&d), 0x4f);
}
static void test_rng(void **state)
{
	(void)state;
	twice(rng);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_tx_kinds),        cmocka_unit_test(test_post_copy),
		cmocka_unit_test(test_tx_offloads),     cmocka_unit_test(test_tx_ring_on_seam),
		cmocka_unit_test(test_tx_dropped),      cmocka_unit_test(test_suppression),
		cmocka_unit_test(test_tx_refilled),     cmocka_unit_test(test_tx_reset_behind),
		cmocka_unit_test(test_rx_single),       cmocka_unit_test(test_rx_merged),
		cmocka_unit_test(test_rx_gives_up),     cmocka_unit_test(test_rx_waits),
		cmocka_unit_test(test_rx_room),         cmocka_unit_test(test_rx_costs_its_sender_a_copy),
		cmocka_unit_test(test_rx_offloads),     cmocka_unit_test(test_quiesce),
		cmocka_unit_test(test_registers),       cmocka_unit_test(test_isr),
		cmocka_unit_test(test_control),         cmocka_unit_test(test_not_told),
		cmocka_unit_test(test_control_hostile), cmocka_unit_test(test_rng),
		cmocka_unit_test(test_rx_in_crumbs),    cmocka_unit_test(test_turn_has_an_end),
	};

	fake_time_freeze(NS_PER_SEC); /* a turn has an end by the clock, too */
	return cmocka_run_group_tests(tests, NULL, NULL);
}

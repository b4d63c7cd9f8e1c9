/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Hostile rings and hostile state: whatever a guest writes into its rings, or a peer into a stream, the device asks for
 * a reset or refuses, works again after it, and touches nothing that it should not. Then rings used from several
 * threads.
 */
#include "tests/unit/fake_guest.h"
#include "vmm/dev/vnet.h"
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>

#define F_ALL   (BIT(32) | BIT(28) | BIT(29) | BIT(15))
#define SIZE    8
#define RX_RING 0x10000UL
#define TX_RING 0x20000UL
#define BUF     0x100000UL
#define TABLE   0x80000UL
#define OUTSIDE (FG_MEM + 0x1000)
enum { NEXT = 1, WRITE = 2, INDIRECT = 4 };

static struct fg g;
static struct fg_dev d;
static struct fg_queue rx, tx;

static void up(uint64_t features)
{
	fg_probe(&d, &g, FG_NET_SLOT);
	assert_true(fg_negotiate(&d, features));
	fg_queue_init(&rx, &d, 0, SIZE, RX_RING, true);
	fg_queue_init(&tx, &d, 1, SIZE, TX_RING, true);
	fg_driver_ok(&d);
}

/* ---- descriptors ---- */

static void no_indirect(void)
{
	fg_desc(&tx, tx.desc, 0, TABLE, 16, INDIRECT, 0);
	fg_desc(&tx, TABLE, 0, BUF, 80, 0, 0);
}
static void nested(void)
{
	fg_desc(&tx, tx.desc, 0, TABLE, 16, INDIRECT, 0);
	fg_desc(&tx, TABLE, 0, TABLE, 16, INDIRECT, 0);
}
static void indirect_next(void) { fg_desc(&tx, tx.desc, 0, TABLE, 16, INDIRECT | NEXT, 1); }
static void indirect_len(void) { fg_desc(&tx, tx.desc, 0, TABLE, 24, INDIRECT, 0); }
static void indirect_empty(void) { fg_desc(&tx, tx.desc, 0, TABLE, 0, INDIRECT, 0); }
static void indirect_outside(void) { fg_desc(&tx, tx.desc, 0, OUTSIDE, 16, INDIRECT, 0); }
static void indirect_odd_outside(void) { fg_desc(&tx, tx.desc, 0, FG_MEM - 15, 16, INDIRECT, 0); }
static void indirect_wrap(void) { fg_desc(&tx, tx.desc, 0, ~15UL, 0xfffffff0, INDIRECT, 0); }
static void indirect_index(void)
{
	fg_desc(&tx, tx.desc, 0, TABLE, 16, INDIRECT, 0);
	fg_desc(&tx, TABLE, 0, BUF, 80, NEXT, 1);
}
static void indirect_loop(void)
{
	fg_desc(&tx, tx.desc, 0, TABLE, 16, INDIRECT, 0);
	fg_desc(&tx, TABLE, 0, BUF, 80, NEXT, 0);
}
static void self_loop(void) { fg_desc(&tx, tx.desc, 0, BUF, 80, NEXT, 0); }
static void long_loop(void)
{
	for (unsigned i = 0; i < SIZE; i++)
		fg_desc(&tx, tx.desc, i, BUF, 1, NEXT, (uint16_t)((i + 1) % SIZE));
}
static void next_range(void) { fg_desc(&tx, tx.desc, 0, BUF, 80, NEXT, SIZE); }
static void zero_len(void) { fg_desc(&tx, tx.desc, 0, BUF, 0, 0, 0); }
static void outside(void) { fg_desc(&tx, tx.desc, 0, OUTSIDE, 80, 0, 0); }
static void half_outside(void) { fg_desc(&tx, tx.desc, 0, FG_MEM - 40, 80, 0, 0); }
static void in_hole(void) { fg_desc(&tx, tx.desc, 0, 0xfee00000, 80, 0, 0); }
static void wrap(void) { fg_desc(&tx, tx.desc, 0, ~0UL - 10, 80, 0, 0); }
static void huge(void) { fg_desc(&tx, tx.desc, 0, BUF, 0xffffffff, 0, 0); }
static void four_gib(void)
{
	for (unsigned i = 0; i < SIZE; i++)
		fg_desc(&tx, tx.desc, i, 0, FG_MEM, i < SIZE - 1 ? NEXT : 0, (uint16_t)(i + 1));
	fg_desc(&tx, tx.desc, 1, 0, 0xffffffff, NEXT, 2);
}
static void write_read(void)
{
	fg_desc(&tx, tx.desc, 0, BUF, 80, WRITE | NEXT, 1);
	fg_desc(&tx, tx.desc, 1, BUF, 80, 0, 0);
}
static void head_range(void) { fg_put16(&g, tx.avail + 4, SIZE); }
static void idx_jump(void) { tx.avail_idx = SIZE; }

static void test_descriptors(void **state)
{
	static const struct {
		void (*make)(void);
		uint64_t features;
		const char *why;
	} c[] = {
		{ no_indirect, BIT(32), "an indirect descriptor where none may be" },
		{ nested, F_ALL, "an indirect descriptor where none may be" },
		{ indirect_next, F_ALL, "an indirect descriptor where none may be" },
		{ indirect_len, F_ALL, "an indirect table of a bad size" },
		{ indirect_empty, F_ALL, "an indirect table of a bad size" },
		{ indirect_wrap, F_ALL, "an indirect table of a bad size" },
		{ indirect_outside, F_ALL, "a descriptor table outside memory" },
		{ indirect_odd_outside, F_ALL, "a descriptor table outside memory" },
		{ indirect_index, F_ALL, "a descriptor index out of range" },
		{ indirect_loop, F_ALL, "a chain longer than the queue" },
		{ self_loop, F_ALL, "a chain longer than the queue" },
		{ long_loop, F_ALL, "a chain longer than the queue" },
		{ next_range, F_ALL, "a descriptor index out of range" },
		{ zero_len, F_ALL, "a descriptor of no bytes" },
		{ outside, F_ALL, "a descriptor points outside memory" },
		{ half_outside, F_ALL, "a descriptor points outside memory" },
		{ in_hole, F_ALL, "a descriptor points outside memory" },
		{ huge, F_ALL, "a descriptor points outside memory" },
		{ wrap, F_ALL, "a descriptor wraps around the address space" },
		{ four_gib, F_ALL, "a chain of 4 GiB or more" },
		{ write_read, F_ALL, "a readable descriptor after a writable one" },
		{ head_range, F_ALL, "a descriptor index out of range" },
		{ idx_jump, F_ALL, "the avail index jumped" },
	};

	(void)state;
	for (unsigned i = 0; i < ARRAY_SIZE(c); i++) {
		fg_init(&g);
		up(c[i].features);
		c[i].make();
		fg_put16(&g, tx.avail + 2, ++tx.avail_idx); /* offers descriptor 0, or what make() put there */
		fg_ring(&tx);
		struct vvirtio *v = CONTAINER_OF(fg_find(&g, "virtio-net"), struct vvirtio, dev);
		if (!v->why || strcmp(v->why, c[i].why))
			fail_msg("case %u: \"%s\" instead of \"%s\"", i, v->why, c[i].why);
		assert_int_equal(fg_status(&d), 0x4f);
		assert_int_equal(g.nmsi, 1); /* configuration vector, once */
		assert_int_equal(g.msi[0].data, 0x40);
		assert_int_equal(fg_used(&tx, NULL), -1);
		fg_ring(&tx);
		fg_migrate(&g);
		fg_ring(&tx);
		assert_int_equal(fg_status(&d), 0x4f);
		assert_int_equal(g.nmsi, 1);
		/* The driver resets it and all is well. */
		up(c[i].features);
		fg_add(&tx, (struct fg_sg[]){ { BUF, 80, false } }, 1, 0);
		fg_kick(&tx);
		assert_int_equal(fg_used(&tx, NULL), 0);
		assert_non_null(strstr(g.log, "tx len 68"));
		fg_fini(&g);
	}
}

/* Rings that are not, or no longer, in memory; the device finds out at the first use. */
static void test_ring_addresses(void **state)
{
	static const struct {
		gpa_t desc, avail, used;
		bool at_enable;
	} c[] = {
		{ OUTSIDE, RX_RING, TX_RING, false },
		{ TABLE, OUTSIDE, TX_RING, false },
		{ TABLE, RX_RING, OUTSIDE, false },
		{ TABLE, FG_MEM - 4, TX_RING, false }, /* its entries lie outside */
		{ TABLE, RX_RING, FG_MEM - 4, false },
		{ TABLE, RX_RING, FG_MEM - 8, false }, /* half an entry */
		{ ~15UL, RX_RING, TX_RING, true },
		{ TABLE, ~1UL, TX_RING, true },
		{ TABLE, RX_RING, ~3UL, true },
		{ TABLE + 8, RX_RING, TX_RING, true },
		{ TABLE, RX_RING + 1, TX_RING, true },
		{ TABLE, RX_RING, TX_RING + 2, true },
	};
	static const unsigned size[] = { 0, 1, 2, 3, 4, 7, 8, 24, 128, 255, 256, 257, 512, 32768, 65535 };

	(void)state;
	for (unsigned i = 0; i < ARRAY_SIZE(c); i++) {
		fg_init(&g);
		fg_probe(&d, &g, FG_NET_SLOT);
		fg_negotiate(&d, F_ALL);
		for (unsigned q = 0; q < 2; q++) {
			fg_write(&d, d.common + 0x16, 2, q);
			fg_write(&d, d.common + 0x18, 2, SIZE);
			fg_write(&d, d.common + 0x20, 8, c[i].desc);
			fg_write(&d, d.common + 0x28, 8, c[i].avail);
			fg_write(&d, d.common + 0x30, 8, c[i].used);
			fg_write(&d, d.common + 0x1c, 2, 1);
		}
		assert_int_equal(!!(fg_status(&d) & 0x40), c[i].at_enable);
		fg_driver_ok(&d);
		tx = (struct fg_queue){ .d = &d, .index = 1, .size = SIZE, .desc = TABLE };
		fg_desc(&tx, TABLE, 0, BUF, 80, 0, 0);
		fg_put16(&g, RX_RING + 2, 1);
		if (c[i].avail < FG_MEM)
			fg_put16(&g, c[i].avail + 2, 1);
		fg_ring(&tx);
		assert_int_equal(fg_status(&d), 0x4f);
		fg_fini(&g);
	}
	fg_init(&g);
	fg_probe(&d, &g, FG_NET_SLOT);
	for (unsigned i = 0; i < ARRAY_SIZE(size); i++) { /* powers of two up to 256 only */
		fg_negotiate(&d, F_ALL);
		fg_write(&d, d.common + 0x18, 2, size[i]);
		fg_write(&d, d.common + 0x1c, 2, 1);
		assert_int_equal(!(fg_status(&d) & 0x40), size[i] && size[i] <= 256 && !(size[i] & (size[i] - 1)));
	}
	fg_fini(&g);
}

static void test_rx_hostile(void **state)
{
	static uint8_t buf[2000];
	struct frame f = { .iov = { { buf, 2000 } }, .niov = 1, .len = 2000 };
	struct fg_sg sg[SIZE];

	(void)state;
	fg_init(&g);
	up(F_ALL);
	fg_add(&rx, (struct fg_sg[]){ { BUF, 100, false } }, 1, 0); /* not writable */
	assert_int_equal(vnet_rx(g.net, &f), 0);
	assert_int_equal(fg_status(&d), 0x4f);
	assert_int_equal(vnet_rx(g.net, &f), -ENETDOWN);
	up(F_ALL);
	fg_add(&rx, (struct fg_sg[]){ { BUF, 11, true } }, 1, 0); /* no room for the header */
	assert_int_equal(vnet_rx(g.net, &f), 0);
	assert_int_equal(fg_status(&d), 0x4f);
	/* Tiny pieces all over each other: the frame lands somewhere, nobody falls. */
	up(F_ALL);
	for (unsigned i = 0; i < SIZE; i++)
		sg[i] = (struct fg_sg){ BUF + i / 2, i == SIZE - 1 ? 3000 : 3, true };
	fg_add(&rx, sg, SIZE, TABLE);
	assert_int_equal(vnet_rx(g.net, &f), 0);
	assert_int_equal(fg_used(&rx, NULL), 0);
	/* Buffers that are the ring itself. */
	up(F_ALL);
	fg_add(&rx, (struct fg_sg[]){ { RX_RING, 4000, true } }, 1, 0);
	fg_add(&rx, (struct fg_sg[]){ { RX_RING, 4000, true } }, 1, 0);
	(void)vnet_rx(g.net, &f);
	(void)vnet_rx(g.net, &f);
	up(F_ALL);
	fg_fini(&g);
}

/* ---- state from a hostile peer ---- */

static void test_state_flips(void **state)
{
	struct why w = { "" };
	struct frame f = { .niov = 1 };
	static uint8_t bytes[1500];

	(void)state;
	fg_init(&g);
	up(F_ALL);
	frame_init_flat(&f, bytes, sizeof(bytes));
	for (unsigned i = 0; i < 4; i++)
		fg_add(&rx, (struct fg_sg[]){ { BUF + 0x1000 * i, 2000, true } }, 1, 0);
	struct dev *dev = fg_find(&g, "virtio-net");
	for (unsigned s = 0; s < dev->nsections; s++) {
		const struct sdesc *sd = dev->section[s].desc;
		size_t len = state_size(sd);
		uint8_t *good = malloc(len), *bad = malloc(len);

		state_save(sd, dev->section[s].obj, good);
		for (size_t cut = 0; cut < len; cut++)
			assert_int_not_equal(state_load(sd, dev->section[s].obj, sd->version, good, cut, &w), 0);
		for (size_t bit = 0; bit < 8 * len; bit++) {
			memcpy(bad, good, len);
			bad[bit / 8] ^= (uint8_t)(1U << bit % 8);
			w.text[0] = '\0';
			if (state_load(sd, dev->section[s].obj, sd->version, bad, len, &w)) {
				assert_int_not_equal(w.text[0], '\0'); /* refused, and says why */
			} else {                                       /* a state it can have: it must live with it */
				dev->ops->resume(dev);
				vnet_rx(g.net, &f);
				fg_ring(&tx);
				dev->ops->quiesce(dev);
			}
			assert_int_equal(state_load(sd, dev->section[s].obj, sd->version, good, len, &w), 0);
		}
		free(good);
		free(bad);
	}
	fg_fini(&g);
}

static void test_state_refused(void **state)
{
	struct why w = { "" };
	struct vvirtio *v;
	struct vvirtio_state s;
	uint8_t buf[sizeof(struct vvirtio_state)];

	(void)state;
	fg_init(&g);
	up(F_ALL);
	v = CONTAINER_OF(fg_find(&g, "virtio-net"), struct vvirtio, dev);
	s = v->s;
#define REFUSED(change, say)                                                                      \
	do {                                                                                      \
		v->s = s;                                                                         \
		change;                                                                           \
		state_save(&vvirtio_desc, v, buf);                                                \
		v->s = s;                                                                         \
		w.text[0] = '\0';                                                                 \
		assert_int_equal(state_load(&vvirtio_desc, v, 2, buf, sizeof(buf), &w), -EINVAL); \
		if (!strstr(w.text, say))                                                         \
			fail_msg("\"%s\" instead of \"%s\"", w.text, say);                        \
	} while (0)
	assert_int_equal(state_size(&vvirtio_desc), sizeof(buf));
	REFUSED(v->s.driver_features |= BIT(20), "uses features 130108000, this host's device offers");
	REFUSED(v->s.driver_features &= ~BIT(32), "uses features");
	REFUSED(v->s.status = VIRTIO_DRIVER_OK, "uses features");
	REFUSED(v->s.status |= 0x20, "unknown bits");
	REFUSED(v->s.isr = 4, "unknown bits");
	REFUSED(v->s.config_vector = 3, "vector 3 of 3");
	REFUSED(v->s.q[0].vector = 3, "queue 0");
	REFUSED(v->s.q[1].size = 24, "queue 1");
	REFUSED(v->s.q[1].size = 0, "queue 1");
	REFUSED(v->s.q[1].enabled = 2, "queue 1");
	REFUSED(v->s.q[1].used |= 2, "queue 1");
	REFUSED(v->s.q[0].desc = ~15UL, "queue 0");
	REFUSED(v->s.q[0].reserved[1] = 1, "queue 0");
	v = CONTAINER_OF(fg_find(&g, "virtio-rng"), struct vvirtio, dev);
	s = v->s;
	REFUSED(v->s.q[1].size = 256, "queue 1"); /* it has one queue */
	struct dev *net = fg_find(&g, "virtio-net");
	uint8_t ns[10] = { 2, 2, 2, 2, 2, 2, 1, 0, 1, 0 };
	w.text[0] = '\0';
	assert_int_equal(state_load(net->section[3].desc, net->section[3].obj, 2, ns, sizeof(ns), &w), -EINVAL);
	assert_non_null(strstr(w.text, "MAC"));
	fg_fini(&g);
}

/* ---- several tasks ---- */

#define MANY 400 /* buffers each way: the fake spinlocks yield, which is slow with few CPUs */
static bool stop;
static unsigned received;

static void *feeder(void *arg)
{
	static uint8_t buf[3000];
	struct frame f;

	(void)arg;
	frame_init_flat(&f, buf, sizeof(buf));
	while (!__atomic_load_n(&stop, __ATOMIC_RELAXED))
		if (!vnet_rx(g.net, &f))
			__atomic_fetch_add(&received, 1, __ATOMIC_RELAXED);
		else
			sched_yield();
	return NULL;
}
static void *pauser(void *arg)
{
	struct dev *dev = fg_find(&g, "virtio-net");

	(void)arg;
	while (!__atomic_load_n(&stop, __ATOMIC_RELAXED)) {
		dev->ops->quiesce(dev);
		uint16_t used = fg_get16(&g, rx.used + 2);
		for (unsigned i = 0; i < 1000; i++)
			__builtin_ia32_pause();
		if (fg_get16(&g, rx.used + 2) != used)
			abort(); /* it moved while quiesced */
		dev->ops->resume(dev);
		usleep(500); /* most of the time it runs */
	}
	return NULL;
}
static void *kicker(void *arg)
{
	(void)arg;
	while (!__atomic_load_n(&stop, __ATOMIC_RELAXED)) {
		bus_write(&g.m.bus, BUS_PIO, d.notify + 4, 2, 1);
		sched_yield();
	}
	return NULL;
}
static void quiet_log(struct fg *fg, struct frame *f)
{
	(void)f;
	fg->log[0] = '\0';
}

/* A driver that takes each used buffer and offers it again, while frames come in and pauses come and go. */
static void test_threads(void **state)
{
	pthread_t t[3];
	unsigned got = 0, sent = 0, idle = 0;
	int h;

	(void)state;
	fg_init(&g);
	up(F_ALL);
	g.tx = quiet_log;
	stop = false;
	fg_want_interrupt(&rx, false);
	fg_want_interrupt(&tx, false);
	for (unsigned i = 0; i < SIZE; i++)
		fg_add(&rx, (struct fg_sg[]){ { BUF + 0x1000 * i, 1024, true } }, 1, 0);
	pthread_create(&t[0], NULL, feeder, NULL);
	pthread_create(&t[1], NULL, pauser, NULL);
	pthread_create(&t[2], NULL, kicker, NULL);
	while ((got < MANY || sent < MANY) && ++idle < 10000000) {
		if ((uint16_t)(tx.avail_idx - tx.last_used) < SIZE && sent < MANY) {
			fg_add(&tx, (struct fg_sg[]){ { BUF + 0x20000, 80, false } }, 1, 0);
			sent++;
		}
		while (fg_used(&tx, NULL) >= 0)
			;
		while ((h = fg_used(&rx, NULL)) >= 0) {
			got++;
			__atomic_thread_fence(__ATOMIC_SEQ_CST);
			fg_offer(&rx, (uint16_t)h);
			bus_write(&g.m.bus, BUS_PIO, d.notify, 2, 0);
		}
		sched_yield();
	}
	__atomic_store_n(&stop, true, __ATOMIC_RELAXED);
	for (unsigned i = 0; i < 3; i++)
		pthread_join(t[i], NULL);
	if (got < MANY || sent < MANY)
		fail_msg("received %u, sent %u, status %02x, %s", got, sent, fg_status(&d),
			 CONTAINER_OF(fg_find(&g, "virtio-net"), struct vvirtio, dev)->why);
	for (unsigned none = 0; none < 2; none++) { /* what is in the queue still */
		while ((h = fg_used(&rx, NULL)) >= 0) {
			got++;
			none = 0;
			fg_offer(&rx, (uint16_t)h);
		}
		fg_ring(&rx);
	}
	assert_int_equal(got, received * 3); /* 3012 bytes in buffers of 1024 */
	assert_int_equal(fg_status(&d), 15);
	fg_ring(&tx);
	while (fg_used(&tx, NULL) >= 0)
		;
	assert_int_equal(tx.last_used, (uint16_t)sent);
	fg_fini(&g);
}

int main(void)
{
	/* clang-format off */
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_descriptors),   cmocka_unit_test(test_ring_addresses),
		cmocka_unit_test(test_rx_hostile),    cmocka_unit_test(test_state_flips),
		cmocka_unit_test(test_state_refused), cmocka_unit_test(test_threads),
	};
	/* clang-format on */

#ifdef __SANITIZE_THREAD__ /* the others have one task, and take minutes under it */
	const struct CMUnitTest shared[] = { cmocka_unit_test(test_threads) };
	if (!getenv("ALL"))
		return cmocka_run_group_tests(shared, NULL, NULL);
#endif
	return cmocka_run_group_tests(tests, NULL, NULL);
}

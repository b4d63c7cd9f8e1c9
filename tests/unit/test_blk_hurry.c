/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * virtio-blk on a back end that may be in a hurry (vmm/blockdev.h, ops->hurry): what it could not do before the device
 * stands still is held, and done once, and told once, when the device goes on.
 */
#include "kernel/time.h"
#include "tests/unit/blk_driver.h"

#define FEATURES (BLK_V1 | BLK_INDIRECT | BIT(9) | BIT(13) | BIT(14))
#define BUF(i)   (DATA + 0x20000UL * (i))
#define LATER    5 /* naps, until what is under way ends */

static struct fg_queue q[1];
static uint64_t deadline; /* of the hurry; TIME_NEVER: none. Atomic */
static unsigned in_hurry; /* submitted meanwhile */
static bool rings;        /* the driver's last word comes when the hurry ends */
static pthread_t ender;
static bool ending;

static bool hurries(void) { return __atomic_load_n(&deadline, __ATOMIC_SEQ_CST) != TIME_NEVER; }

static void submit(struct blockdev *b, struct blockdev_req *r)
{
	if (!hurries()) {
		disk_submit(b, r);
		return;
	}
	in_hurry++;
	r->err = -EAGAIN;
	r->done(r);
}

/* All that it holds was not done. */
static void *end_all(void *arg)
{
	struct blockdev_req *r;
	for (unsigned i = 0; i < LATER; i++)
		fake_nap();
	do {
		pthread_mutex_lock(&disk.lock);
		r = disk.nheld ? disk.held[--disk.nheld] : NULL;
		pthread_mutex_unlock(&disk.lock);
		if (!r)
			break;
		r->err = -EAGAIN;
		r->done(r);
	} while (r);
	return arg;
}

static void hurry(struct blockdev *b unused, uint64_t deadline_ns)
{
	FG_CHECK(!fake_spinlocks);
	if (deadline_ns != TIME_NEVER) {
		FG_CHECK(deadline_ns > time_ns() && deadline_ns < time_ns() + 10 * NS_PER_SEC);
		__atomic_store_n(&deadline, deadline_ns, __ATOMIC_SEQ_CST);
		FG_CHECK(!pthread_create(&ender, NULL, end_all, NULL));
		ending = true;
		return;
	}
	if (rings)
		fg_ring(&q[0]);
	__atomic_store_n(&deadline, TIME_NEVER, __ATOMIC_SEQ_CST);
}

static struct dev *device(void) { return fg_find(&g, "virtio-blk"); }

static void quiesce(void)
{
	device()->ops->quiesce(device());
	assert_int_equal(disk_held(&disk), 0);
	if (ending)
		pthread_join(ender, NULL);
	ending = false;
}

static void resume(void) { device()->ops->resume(device()); }

static void begin(void)
{
	static const struct blockdev_ops ops = { .submit = submit, .hurry = hurry };
	disk_init(&disk);
	disk.holds = true;
	disk.b.ops = &ops;
	__atomic_store_n(&deadline, TIME_NEVER, __ATOMIC_SEQ_CST);
	in_hurry = 0;
	rings = false;
	fg_init_disk(&g, 1, &disk.b);
	up(q, 1, FEATURES);
}

/* Nothing of it has been told. */
static void assert_untold(unsigned n, unsigned msis)
{
	assert_int_equal(fg_get16(&g, q[0].used + 2), 0);
	assert_int_equal(g.nmsi, msis);
	for (unsigned i = 0; i < n; i++)
		assert_int_equal(status_of(i), NONE);
}

/* All n are told once, and well. */
static void assert_all(const uint16_t *head, unsigned n)
{
	bool told[16] = { false };
	assert_int_equal(fg_get16(&g, q[0].used + 2), n);
	for (unsigned k = 0; k < n; k++) {
		int used = fg_used(&q[0], NULL);
		unsigned i = 0;
		while (i < n && head[i] != used)
			i++;
		assert_true(i < n && !told[i]);
		told[i] = true;
		assert_int_equal(status_of(i), S_OK);
	}
}

static void test_held(void **state unused)
{
	uint16_t head[4];
	begin();
	for (unsigned i = 0; i < 4; i++) {
		put_pattern(BUF(i), 1024, i);
		head[i] = offer(&q[0], i, i & 1 ? T_OUT : T_IN, 8 * i, BUF(i), 1024);
	}
	fg_ring(&q[0]);
	unsigned msis = g.nmsi;
	for (unsigned times = 0; times < 3; times++) { /* in a hurry again before any of it was done */
		assert_int_equal(disk_held(&disk), 4);
		assert_int_equal(disk.pieces, 4 * (times + 1));
		quiesce();
		assert_untold(4, msis);
		fg_ring(&q[0]); /* nor is one taken */
		assert_int_equal(in_hurry, 0);
		resume();
	}
	assert_untold(4, msis);
	while (disk_finish(&disk, disk_held(&disk) - 1)) {}
	assert_int_equal(disk.pieces, 4 * 4);
	assert_all(head, 4);
	assert_int_equal(g.nmsi, msis + 4);
	for (unsigned i = 0; i < 4; i++)
		assert_same(BUF(i), 8 * i, 1024);
	const struct blockdev_stats *s = &disk.b.stats;
	assert_true(s->reads == 2 && s->writes == 2 && !s->errors);
	fg_step(&g);
	fg_fini(&g);
}

/* One that ends well while the device comes to rest is told when it goes on; the others are done then. */
static void test_some_end(void **state unused)
{
	uint16_t head[3];
	begin();
	for (unsigned i = 0; i < 3; i++)
		head[i] = offer(&q[0], i, T_IN, 8 * i, BUF(i), 1024);
	fg_ring(&q[0]);
	unsigned msis = g.nmsi;
	fg_want_interrupt(&q[0], true);
	assert_true(disk_finish(&disk, 1));
	assert_int_equal(g.nmsi, msis + 1);
	quiesce();
	assert_int_equal(fg_get16(&g, q[0].used + 2), 1);
	disk.holds = false;
	resume();
	assert_all(head, 3);
	assert_int_equal(disk.pieces, 3 + 2);
	for (unsigned i = 0; i < 3; i++)
		assert_same(BUF(i), 8 * i, 1024);
	fg_fini(&g);
}

/* A long one goes on with the piece that was not done, whichever that is. */
static void test_pieces(void **state unused)
{
	for (unsigned out = 0; out < 2; out++)
		for (unsigned piece = 0; piece < 3; piece++) {
			begin();
			put_pattern(BUF(0), 3 * MAX_LEN, 5);
			uint16_t head = offer(&q[0], 0, out ? T_OUT : T_IN, 7, BUF(0), 3 * MAX_LEN);
			fg_ring(&q[0]);
			for (unsigned i = 0; i < piece; i++)
				assert_true(disk_finish(&disk, 0));
			unsigned msis = g.nmsi;
			quiesce();
			assert_untold(1, msis);
			assert_int_equal(disk.pieces, piece + 1);
			disk.holds = false;
			resume();
			assert_int_equal(disk.pieces, 4); /* one of three twice */
			assert_used(&q[0], head, out ? 1 : 3 * MAX_LEN + 1);
			assert_int_equal(status_of(0), S_OK);
			assert_same(BUF(0), 7, 3 * MAX_LEN);
			fg_step(&g); /* all that was read is dirty */
			fg_fini(&g);
		}
}

/* ---- the driver takes it all back ---- */

/* All of the device's requests are free again. */
static void assert_free(void)
{
	disk.holds = true;
	up(q, 1, FEATURES);
	for (unsigned i = 0; i < DEPTH + 1; i++)
		(void)offer(&q[0], i, T_IN, i, BUF(i), 512);
	fg_ring(&q[0]);
	assert_int_equal(disk_held(&disk), DEPTH);
	while (disk_finish(&disk, 0)) {}
	assert_int_equal(fg_get16(&g, q[0].used + 2), DEPTH + 1);
}

/* By a reset before the device stands still; or the machine is reset meanwhile. */
static void test_reset(void **state unused)
{
	for (unsigned late = 0; late < 2; late++) {
		begin();
		for (unsigned i = 0; i < 3; i++)
			(void)offer(&q[0], i, i == 1 ? T_OUT : T_IN, 8 * i, BUF(i), i == 2 ? 2 * MAX_LEN : 1024);
		fg_ring(&q[0]);
		unsigned msis = g.nmsi, pieces = disk.pieces;
		if (!late) {
			fg_write(&d, d.common + 0x14, 1, 0);
			assert_int_not_equal(fg_status(&d), 0);
		}
		quiesce();
		if (late)
			fg_reset(&g);
		resume();
		assert_int_equal(disk.pieces, pieces); /* nobody asks for them again */
		assert_int_equal(disk_held(&disk), 0);
		assert_untold(3, msis);
		fg_probe(&d, &g, FG_BLK_SLOT);
		assert_int_equal(fg_status(&d), 0);
		assert_free();
		fg_fini(&g);
	}
}

/* It ends while requests are held. */
static void test_fini(void **state unused)
{
	begin();
	(void)offer(&q[0], 0, T_OUT, 0, BUF(0), 1024);
	fg_ring(&q[0]);
	quiesce();
	fg_fini(&g);
}

/* ---- the moment in which it goes on ---- */

/* Nothing is taken while the back end is still in a hurry: nobody would ask for that again. */
static void test_goes_on(void **state unused)
{
	begin();
	uint16_t head[2];
	head[0] = offer(&q[0], 0, T_IN, 0, BUF(0), 1024);
	fg_ring(&q[0]);
	quiesce();
	head[1] = offer(&q[0], 1, T_IN, 8, BUF(1), 1024);
	disk.holds = false;
	rings = true;
	resume();
	assert_int_equal(in_hurry, 0);
	assert_all(head, 2);
	fg_fini(&g);
}

/* A driver at work, and somebody who wants the device to stand still all the time. */
static void *drive(void *arg)
{
	for (unsigned i = 0; i < 100; i++) {
		uint16_t head = offer(&q[0], 0, i & 1 ? T_OUT : T_IN, i, BUF(0), 2 * MAX_LEN);
		bus_write(&g.m.bus, BUS_PIO, d.notify, 2, 0);
		int used;
		for (unsigned n = 0; (used = fg_used(&q[0], NULL)) < 0; n++, sched_yield())
			if (n > 2000)
				fake_nap();
		FG_CHECK(used == head && status_of(0) == S_OK);
	}
	__atomic_store_n((bool *)arg, true, __ATOMIC_SEQ_CST);
	return NULL;
}

static void *back_end(void *arg)
{
	while (!__atomic_load_n((bool *)arg, __ATOMIC_SEQ_CST))
		if (!disk_finish(&disk, 0))
			fake_nap();
	return NULL;
}

static void test_at_work(void **state unused)
{
	pthread_t t, u;
	bool over = false;
	begin();
	g.unchecked = true;
	fg_put16(&g, q[0].avail, 1); /* it polls */
	assert_int_equal(pthread_create(&t, NULL, drive, &over), 0);
	assert_int_equal(pthread_create(&u, NULL, back_end, &over), 0);
	for (unsigned n = 0; n < 2000 && !__atomic_load_n(&over, __ATOMIC_SEQ_CST); n++) {
		quiesce();
		resume();
		fake_nap();
	}
	pthread_join(t, NULL);
	pthread_join(u, NULL);
	assert_int_equal(disk.b.stats.reads + disk.b.stats.writes, 100);
	fg_fini(&g);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_held),    cmocka_unit_test(test_some_end), cmocka_unit_test(test_pieces),
		cmocka_unit_test(test_reset),   cmocka_unit_test(test_fini),     cmocka_unit_test(test_goes_on),
		cmocka_unit_test(test_at_work),
	};
	return cmocka_run_group_tests_name("virtio-blk in a hurry", tests, NULL, NULL);
}

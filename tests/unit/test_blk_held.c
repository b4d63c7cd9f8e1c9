/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * virtio-blk on a back end that takes its time: requests that end out of order, after a reset, while the device is
 * asked to stand still, and from other tasks than those that made them.
 */
#include "kernel/time.h"
#include "tests/unit/blk_driver.h"

#define QUEUES      2
#define NEEDS_RESET 0x40
#define F_MQ        BIT(12)
#define FEATURES    (BLK_V1 | BLK_INDIRECT | BIT(9) | BIT(13) | BIT(14))
#define BUF(i)      (DATA + 0x10000UL * (i))

static struct fg_queue q[QUEUES];

static void begin(unsigned queues)
{
	disk_init(&disk);
	disk.holds = true;
	fg_init_disk(&g, queues, &disk.b);
	up(q, queues, FEATURES | (queues > 1 ? F_MQ : 0));
}

static struct dev *device(void) { return fg_find(&g, "virtio-blk"); }

/* ---- order and depth ---- */

static void test_out_of_order(void **state unused)
{
	static const struct {
		unsigned held, i;
	} order[] = { { 2, 2 }, { 0, 0 }, { 1, 3 }, { 2, 5 }, { 0, 1 }, { 0, 4 } }; /* the held-th is request i */
	uint16_t head[6];
	begin(1);
	for (unsigned i = 0; i < 6; i++) {
		head[i] = offer(&q[0], i, T_IN, 10 * i, BUF(i), 1024);
		fg_ring(&q[0]);
	}
	assert_int_equal(disk_held(&disk), DEPTH);
	assert_int_equal(fg_used(&q[0], NULL), -1);
	for (unsigned i = 0; i < 6; i++) {
		unsigned msis = g.nmsi;
		assert_true(disk_finish(&disk, order[i].held));
		fg_step(&g);
		assert_used(&q[0], head[order[i].i], 1025);
		assert_int_equal(status_of(order[i].i), 0);
		assert_same(BUF(order[i].i), 10 * order[i].i, 1024);
		assert_int_equal(g.nmsi, msis + 1);
		assert_int_equal(disk_held(&disk), MIN(DEPTH, 5 - i));
	}
	assert_int_equal(disk.most, DEPTH);
	fg_fini(&g);
}

/* Each queue has that many of its own, and a request in pieces goes on beside the others. */
static void test_depth_and_pieces(void **state unused)
{
	begin(QUEUES);
	uint16_t head = offer(&q[0], 0, T_IN, 3, BUF(0), 2 * MAX_LEN + SECTOR);
	fg_ring(&q[0]);
	for (unsigned i = 1; i < 8; i++)
		(void)offer(&q[i % 2], i, T_IN, i, BUF(i), 512);
	fg_ring(&q[0]);
	fg_ring(&q[1]);
	assert_int_equal(disk_held(&disk), 2 * DEPTH);
	assert_true(disk_finish(&disk, 0)); /* its next piece is the last that is held */
	assert_int_equal(disk_held(&disk), 2 * DEPTH);
	assert_true(disk_finish(&disk, 2 * DEPTH - 1));
	assert_int_equal(fg_used(&q[0], NULL), -1);
	assert_true(disk_finish(&disk, 2 * DEPTH - 1));
	fg_step(&g);
	assert_used(&q[0], head, 2 * MAX_LEN + SECTOR + 1);
	assert_same(BUF(0), 3, 2 * MAX_LEN + SECTOR);
	while (disk_finish(&disk, 0))
		;
	fg_fini(&g);
}

/* ---- reset ---- */

static void reset(void) { fg_write(&d, d.common + 0x14, 1, 0); }

static void test_reset_under_way(void **state unused)
{
	begin(1);
	for (unsigned i = 0; i < 3; i++)
		(void)offer(&q[0], i, i == 1 ? T_OUT : T_IN, i, BUF(i), i == 2 ? 2 * MAX_LEN : 512);
	fg_ring(&q[0]);
	assert_int_equal(disk_held(&disk), 3);
	unsigned msis = g.nmsi, pieces = disk.pieces;
	reset();
	for (unsigned i = 0; i < 3; i++) {
		assert_int_not_equal(fg_status(&d), 0); /* its buffers are still in use (4.1.4.3.2) */
		assert_true(disk_finish(&disk, 0));
		fg_step(&g); /* what was read into them is dirty */
	}
	assert_int_equal(fg_status(&d), 0);
	assert_int_equal(disk.pieces, pieces); /* the second piece of the last was not asked for */
	assert_int_equal(g.nmsi, msis);
	assert_int_equal(fg_used(&q[0], NULL), -1);
	for (unsigned i = 0; i < 3; i++)
		assert_int_equal(status_of(i), NONE);
	disk.holds = false;
	up(q, 1, FEATURES);
	assert_int_equal(ask(&q[0], T_IN, 7, BUF(0), 512), S_OK);
	assert_same(BUF(0), 7, 512);
	fg_fini(&g);
}

/* A driver that does not wait for it: what ends late is nothing to the rings that it has made since. */
static void test_reset_and_at_once_again(void **state unused)
{
	begin(1);
	for (unsigned i = 0; i < 3; i++)
		(void)offer(&q[0], i, T_IN, i, BUF(i), 512);
	fg_ring(&q[0]);
	reset();
	fg_write(&d, d.common + 0x14, 1, 1);
	fg_write(&d, d.common + 0x14, 1, 3);
	for (unsigned i = 0; i < 2; i++) {
		fg_write(&d, d.common + 8, 4, i);
		fg_write(&d, d.common + 12, 4, FEATURES >> 32 * i & 0xffffffff);
	}
	fg_write(&d, d.common + 0x14, 1, 11);
	fg_queue_init(&q[0], &d, 0, 16, RING(0), false);
	fg_driver_ok(&d);
	assert_int_equal(fg_status(&d), 15);
	uint16_t a = offer(&q[0], 3, T_IN, 3, BUF(3), 512), b = offer(&q[0], 4, T_IN, 4, BUF(4), 512);
	fg_ring(&q[0]);
	assert_int_equal(disk_held(&disk), DEPTH); /* one of them waits for room */
	for (unsigned i = 0; i < 3; i++) {
		assert_true(disk_finish(&disk, 0));
		fg_step(&g);
		assert_int_equal(fg_used(&q[0], NULL), -1);
	}
	assert_true(disk_finish(&disk, 1));
	fg_step(&g);
	assert_used(&q[0], b, 513);
	assert_true(disk_finish(&disk, 0));
	fg_step(&g);
	assert_used(&q[0], a, 513);
	fg_fini(&g);
}

/* A device that broke has nothing more to say, and ends well. */
static void test_broken_under_way(void **state unused)
{
	begin(1);
	(void)offer(&q[0], 0, T_IN, 1, BUF(0), 512);
	fg_ring(&q[0]);
	fg_offer(&q[0], 99);
	fg_ring(&q[0]);
	assert_true(fg_status(&d) & NEEDS_RESET);
	unsigned msis = g.nmsi;
	assert_true(disk_finish(&disk, 0));
	fg_step(&g);
	assert_int_equal(fg_used(&q[0], NULL), -1);
	assert_int_equal(g.nmsi, msis);
	fg_fini(&g);
}

/* ---- standing still ---- */

static void *let_go(void *arg)
{
	(void)arg;
	for (unsigned i = 0; i < 20; i++)
		fake_nap();
	while (disk_finish(&disk, disk_held(&disk) - 1))
		fake_nap();
	return NULL;
}

static void quiesce_with_help(void)
{
	pthread_t t;
	assert_int_equal(pthread_create(&t, NULL, let_go, NULL), 0);
	device()->ops->quiesce(device());
	assert_int_equal(disk_held(&disk), 0);
	pthread_join(t, NULL);
}

static void test_quiesce(void **state unused)
{
	uint16_t head[4];
	begin(1);
	for (unsigned i = 0; i < 4; i++)
		head[i] = offer(&q[0], i, i == 1 ? T_OUT : T_IN, i, BUF(i), i == 2 ? 3 * MAX_LEN : 512);
	fg_ring(&q[0]);
	(void)offer(&q[0], 4, T_IN, 4, BUF(4), 512); /* there is no room for it */
	fg_ring(&q[0]);
	unsigned msis = g.nmsi;
	quiesce_with_help();
	assert_int_equal(g.nmsi, msis);
	assert_int_equal(fg_get16(&g, q[0].used + 2), 4); /* in the used ring, all that is written is written */
	assert_int_equal(disk.pieces, 6);
	fg_ring(&q[0]);
	assert_int_equal(disk_held(&disk), 0); /* and no more are taken */
	for (unsigned n = 0; n < 4; n++) {
		int used = fg_used(&q[0], NULL);
		assert_true(used == head[0] || used == head[1] || used == head[2] || used == head[3]);
	}
	assert_same(BUF(2), 2, 3 * MAX_LEN);
	disk.holds = false;
	device()->ops->resume(device());
	assert_true(g.nmsi > msis);
	assert_int_equal(g.msi[msis % 64].data, 0x41);
	fg_step(&g);
	assert_true(fg_used(&q[0], NULL) >= 0);
	assert_int_equal(status_of(4), 0);
	fg_fini(&g);
}

/* One that has pieces left, and is the last that was taken, is done again by who resumes: here, or at the next host. */
static void test_taken_back(void **state unused)
{
	for (unsigned moves = 0; moves < 2; moves++)
		for (unsigned out = 0; out < 2; out++) {
			begin(1);
			put_pattern(BUF(0), 8 * MAX_LEN, 7);
			uint16_t head = offer(&q[0], 0, out ? T_OUT : T_IN, 0, BUF(0), 8 * MAX_LEN);
			fg_ring(&q[0]);
			unsigned msis = g.nmsi;
			quiesce_with_help();
			assert_int_equal(disk.pieces, 1);
			assert_int_equal(fg_get16(&g, q[0].used + 2), 0);
			assert_int_equal(status_of(0), NONE);
			disk.holds = false;
			if (moves)
				fg_migrate(&g);
			else
				device()->ops->resume(device());
			assert_int_equal(disk.pieces, 1 + 8);
			assert_int_equal(g.nmsi, msis + 1);
			assert_used(&q[0], head, out ? 1 : 8 * MAX_LEN + 1);
			assert_int_equal(status_of(0), S_OK);
			assert_same(BUF(0), 0, 8 * MAX_LEN);
			fg_fini(&g);
		}
}

/* The same on the next host: it says there what it did not say here. */
static void test_quiesce_and_move(void **state unused)
{
	begin(1);
	uint16_t head = offer(&q[0], 0, T_IN, 5, BUF(0), 512);
	fg_ring(&q[0]);
	unsigned msis = g.nmsi;
	quiesce_with_help();
	fg_migrate(&g);
	assert_int_equal(g.nmsi, msis + 1);
	assert_used(&q[0], head, 513);
	assert_same(BUF(0), 5, 512);
	fg_fini(&g);
}

/* ---- tasks ---- */

static bool over;

/* The back end's own: it ends what it has in any order. */
static void *back_end(void *arg)
{
	unsigned n = 1;
	(void)arg;
	while (!__atomic_load_n(&over, __ATOMIC_SEQ_CST)) {
		unsigned held = disk_held(&disk);
		n = n * 1103515245 + 12345;
		if (!held || !disk_finish(&disk, (n >> 16) % held))
			sched_yield();
	}
	return NULL;
}

static unsigned rnd(unsigned n)
{
	static unsigned seed = 7;
	seed = seed * 1103515245 + 12345;
	return (seed >> 16) % n;
}

/* The device stands still for a moment: what it wrote it has said. */
static void look(void)
{
	device()->ops->quiesce(device());
	g.unchecked = false;
	fg_step(&g);
	g.unchecked = true;
	device()->ops->resume(device());
}

static void one_random(unsigned salt, uint8_t *model)
{
	struct fg_queue *on = &q[rnd(QUEUES)];
	unsigned sectors = 1 + (rnd(3) ? rnd(8) : rnd(100)), sector = rnd(SECTORS - sectors);
	uint32_t len = sectors * SECTOR, type = rnd(3) ? T_IN : T_OUT;
	gpa_t at = FG_SEAM - rnd(len);
	put_pattern(at, len, salt);
	uint16_t head = offer(on, 0, type, sector, at, len);
	fg_ring(on);
	if (rnd(2))
		fg_migrate(&g);
	int used;
	WAIT_FOR((used = fg_used(on, NULL)) >= 0);
	assert_int_equal(used, head);
	look();
	assert_int_equal(status_of(0), S_OK);
	if (type == T_OUT)
		fg_get(&g, at, model + sector * SECTOR, len);
	assert_memory_equal(model, disk.data, DISK);
	assert_same(at, sector, len);
}

/* Requests that end in another task, in the moment in which the VM moves. */
static void test_random_requests(void **state unused)
{
	static uint8_t model[DISK];
	pthread_t t;
	over = false;
	begin(QUEUES);
	memcpy(model, disk.data, DISK);
	assert_int_equal(pthread_create(&t, NULL, back_end, NULL), 0);
	g.unchecked = true;
	for (unsigned n = 0; n < 50; n++)
		one_random(n, model);
	__atomic_store_n(&over, true, __ATOMIC_SEQ_CST);
	pthread_join(t, NULL);
	fg_fini(&g);
}

/* A driver of a queue, on a CPU of its own; its requests are 16 at a time. */
static unsigned wrong;
static void *drive(void *arg)
{
	unsigned me = (unsigned)(uintptr_t)arg, got = 0;
	struct fg_queue *on = &q[me];
	fg_put16(&g, on->avail, 1); /* it polls */
	for (unsigned round = 0; round < 40; round++) {
		for (unsigned i = 0; i < 5; i++)
			(void)offer(on, 8 * me + i, i & 1 ? T_OUT : T_IN, 100 * me + i, BUF(8 * me + i), 512);
		bus_write(&g.m.bus, BUS_PIO, d.notify, 2, me); /* they share a port */
		for (got = 0; got < 5; got += fg_used(on, NULL) >= 0)
			sched_yield();
		for (unsigned i = 0; i < 5; i++)
			if (status_of(8 * me + i))
				__atomic_fetch_add(&wrong, 1, __ATOMIC_RELAXED);
	}
	return NULL;
}

static void test_tasks(void **state unused)
{
	pthread_t t[QUEUES + 1];
	over = false;
	wrong = 0;
	begin(QUEUES);
	g.unchecked = true;
	assert_int_equal(pthread_create(&t[QUEUES], NULL, back_end, NULL), 0);
	for (uintptr_t i = 0; i < QUEUES; i++)
		assert_int_equal(pthread_create(&t[i], NULL, drive, (void *)i), 0);
	for (unsigned n = 0; n < 20; n++) { /* somebody wants it to stand still now and then */
		device()->ops->quiesce(device());
		fake_nap();
		device()->ops->resume(device());
		fake_nap();
	}
	for (unsigned i = 0; i < QUEUES; i++)
		pthread_join(t[i], NULL);
	__atomic_store_n(&over, true, __ATOMIC_SEQ_CST);
	pthread_join(t[QUEUES], NULL);
	assert_int_equal(wrong, 0);
	assert_int_equal(disk.b.stats.reads, QUEUES * 40 * 3);
	assert_int_equal(disk.b.stats.writes, QUEUES * 40 * 2);
	fg_fini(&g);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_out_of_order),     cmocka_unit_test(test_depth_and_pieces),
		cmocka_unit_test(test_reset_under_way),  cmocka_unit_test(test_reset_and_at_once_again),
		cmocka_unit_test(test_broken_under_way), cmocka_unit_test(test_quiesce),
		cmocka_unit_test(test_quiesce_and_move), cmocka_unit_test(test_taken_back),
		cmocka_unit_test(test_random_requests),  cmocka_unit_test(test_tasks),
	};
	return cmocka_run_group_tests_name("virtio-blk held", tests, NULL, NULL);
}

/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A disk on a unit (vmm/lun.h): its requests against a model, whatever becomes of them at the target, and of the
 * session below them. By turns, so that waiting takes no time.
 */
#include "tests/unit/lun_driver.h"

/* ---- what requests do ---- */

static void test_shapes(void **state unused)
{
	static const struct {
		uint32_t len, piece, skip;
	} shapes[] = {
		{ 512, 512, 0 },       { 512, 100, 0 },      { 4096, 4096, 0 },
		{ 4096, 1000, 24 },    { 65536, 4096, 512 }, { 262144, 262144, 0 },
		{ 262144, 4096, 100 }, { 147456, 512, 0 },   { 512, 2, 0 }
	}; /* 288 pieces: as many as a chain has; and 256 */
	struct host h;
	world_begin(1);
	host_begin(&h, 1);
	for (unsigned i = 0; i < ARRAY_SIZE(shapes); i++) {
		struct rq q;
		uint32_t len = shapes[i].len;
		rq_make(&q, BLOCKDEV_WRITE, 3 * i, len, shapes[i].piece, shapes[i].skip, i);
		assert_int_equal(rq_do(&h, &q, model), 0);
		rq_make(&q, BLOCKDEV_READ, 3 * i, len, shapes[i].piece, shapes[i].skip, i);
		assert_int_equal(rq_do(&h, &q, model), 0);
		assert_int_equal(read_one(&h, FAKE_BLOCKS - len / FAKE_BLOCK, len, model), 0);
	}
	struct rq q;
	rq_make(&q, BLOCKDEV_FLUSH, 0, 0, 1, 0, 0);
	assert_int_equal(rq_do(&h, &q, model), 0);
	assert_int_equal(target->ops[0x91], 1);
	struct lun_status s;
	lun_get_status(h.l, &s);
	assert_string_equal(s.product, "FAKE A DISK");
	assert_string_equal(s.id, "naa.6001405e01020304");
	assert_true(s.state == LUN_OURS && s.sessions == 1 && !s.waiting && !s.busy && !s.away_ns);
	assert_int_equal(lun_blockdev(h.l)->size, BYTES);
	host_end(&h);
	world_end();
}

static void zero(struct host *h, uint64_t block, uint32_t len)
{
	struct rq q;
	rq_make(&q, BLOCKDEV_ZERO, block, len, 4096, 0, 0);
	assert_int_equal(rq_do(h, &q, model), 0);
}

/* With and without WRITE SAME; a unit that lacks it says so once, or to all that were under way. */
static void test_zeros(void **state unused)
{
	for (unsigned i = 0; i < 4; i++) {
		struct host h;
		struct rq q[3];
		world_begin(2 + i);
		target->no_same = i & 1;
		target->thin = i & 2;
		host_begin(&h, 1);
		for (unsigned k = 0; k < 3; k++)
			rq_make(&q[k], BLOCKDEV_ZERO, 100 * k, k ? 8192 : FAKE_BLOCK, 4096, 0, 0);
		for (unsigned k = 0; k < 3; k++)
			rq_submit(&h, &q[k]);
		for (unsigned k = 0; k < 3; k++)
			rq_end(&q[k], NS_PER_SEC, model);
		zero(&h, 512, 262144);
		assert_int_equal(target->ops[0x93], i & 1 ? 3 : 4);
		host_end(&h);
		world_end();
	}
}

/* A unit that takes no more at a time, and those that cannot be used. */
static void test_limits(void **state unused)
{
	struct host h;
	world_begin(3);
	target->transfer = 100;
	host_begin(&h, 1);
	assert_int_equal(lun_blockdev(h.l)->max_len, 96 * FAKE_BLOCK); /* a multiple of what it writes at once */
	host_end(&h);
	target->block_len = 4096;
	assert_int_equal(host_open(&h, 1, 1), -ENOTSUP);
	target->block_len = 0;
	target->away_until = time_ns() + NS_PER_SEC;
	assert_int_equal(host_open(&h, 1, 1), -ECONNREFUSED);
	world_end();
}

/* ---- what the unit answers ---- */

static const struct {
	struct fake_fault f;
	int err;
} answers[] = {
	{ { FAKE_ANSWER, SCSI_BUSY, 0, 0 }, 0 },
	{ { FAKE_ANSWER, SCSI_TASK_SET_FULL, 0, 0 }, 0 },
	{ { FAKE_ANSWER, SCSI_RESERVATION_CONFLICT, 0, 0 }, 0 }, /* it is ours all the same */
	{ { FAKE_ANSWER, SCSI_TASK_ABORTED, 0, 0 }, 0 },
	{ { FAKE_ANSWER, SCSI_ACA_ACTIVE, 0, 0 }, -EIO },
	{ { FAKE_ANSWER, SCSI_CHECK_CONDITION, SCSI_NO_SENSE, 0 }, -EIO },
	{ { FAKE_ANSWER, SCSI_CHECK_CONDITION, SCSI_NOT_READY, SCSI_ASC_BECOMING_READY }, 0 },
	{ { FAKE_ANSWER, SCSI_CHECK_CONDITION, SCSI_NOT_READY, SCSI_ASC_TEMPORARY_SPACE }, 0 },
	{ { FAKE_ANSWER, SCSI_CHECK_CONDITION, SCSI_NOT_READY, 0x3a00 }, -EIO },
	{ { FAKE_ANSWER, SCSI_CHECK_CONDITION, SCSI_MEDIUM_ERROR, 0x1100 }, -EIO },
	{ { FAKE_ANSWER, SCSI_CHECK_CONDITION, SCSI_HARDWARE_ERROR, 0x4400 }, -EIO },
	{ { FAKE_ANSWER, SCSI_CHECK_CONDITION, SCSI_ILLEGAL_REQUEST, 0x2100 }, -EIO },
	{ { FAKE_ANSWER, SCSI_CHECK_CONDITION, SCSI_UNIT_ATTENTION, 0x2a09 }, 0 },
	{ { FAKE_ANSWER, SCSI_CHECK_CONDITION, SCSI_DATA_PROTECT, 0x2700 }, -EIO },
	{ { FAKE_ANSWER, SCSI_CHECK_CONDITION, SCSI_DATA_PROTECT, SCSI_ASC_SPACE_ALLOCATION_FAILED }, -ENOSPC },
	{ { FAKE_ANSWER, SCSI_CHECK_CONDITION, SCSI_ABORTED_COMMAND, 0 }, 0 },
	{ { FAKE_SHORT, 0, 0, 0 }, -EIO },
	{ { FAKE_SILENT, 0, 0, 0 }, 0 }, /* it is aborted, and done once more */
};

static void test_answers(void **state unused)
{
	struct host h;
	world_begin(4);
	host_begin(&h, 1);
	for (unsigned i = 0; i < 2 * ARRAY_SIZE(answers); i++) {
		bool out = i & 1;
		int wants = answers[i / 2].err, err;
		script(1, 0, out ? 0x8a : 0x88, answers[i / 2].f);
		if (out)
			err = write_one(&h, 8 * i, 4096, i, wants ? NULL : model);
		else
			err = read_one(&h, 8 * i, 4096, model);
		if (err != wants)
			fail_msg("answer %u, %s: %d", i / 2, out ? "a write" : "a read", err);
		if (answers[i / 2].f.what == FAKE_SHORT && out) /* part of it is there */
			memcpy(model, target->data, BYTES);
		assert_int_equal(write_one(&h, 8 * i, 4096, i, model), 0);
	}
	assert_int_equal(h.lost, 0);
	host_end(&h);
	world_end();
}

/* ---- a session that ends ---- */

#define SLOTS 8

/* Requests of all kinds, SLOTS at once, each slot with blocks of its own: all end once, well. How many commands. */
static unsigned run(struct host *h, unsigned n)
{
	static struct rq q[SLOTS];
	unsigned made = 0, ended = 0;
	bool used[SLOTS] = { false };
	while (ended < n) {
		for (unsigned k = 0; k < SLOTS && made < n; k++) {
			enum blockdev_op op = fake_turns_draw() % 8;
			if (used[k])
				continue;
			op = op > 3 ? BLOCKDEV_WRITE : op;
			uint32_t blocks = 1 + (uint32_t)(fake_turns_draw() % 100);
			rq_make(&q[k], op, 256 * k + fake_turns_draw() % 100,
				op == BLOCKDEV_FLUSH ? 0 : blocks * FAKE_BLOCK, 4096, 0, made++);
			used[k] = true;
			rq_submit(h, &q[k]);
		}
		uint64_t end = time_ns() + 60 * NS_PER_SEC;
		unsigned before = ended;
		while (ended == before && time_ns() < end) {
			task_sleep_until(time_ns() + NS_PER_MS);
			for (unsigned k = 0; k < SLOTS; k++) {
				if (!used[k] || !is_done(&q[k]))
					continue;
				assert_int_equal(is_done(&q[k]), 1);
				assert_int_equal(q[k].r.err, 0);
				rq_settle(&q[k], model);
				rq_free(&q[k]);
				used[k] = false;
				ended++;
			}
		}
		assert_true(ended > before);
	}
	return target->commands;
}

static void claim_at_last(struct host *h)
{
	int err = -EAGAIN;
	for (unsigned i = 0; i < 100 && (err = host_claim(h, false)); i++)
		task_sleep_until(time_ns() + 100 * NS_PER_MS);
	assert_int_equal(err, 0);
}

/* A whole life in which that happens at the n-th command, and perhaps once more. False: there are fewer commands. */
static bool life(unsigned n, unsigned more, struct fake_fault f, uint64_t seed, bool forgets, unsigned requests)
{
	struct host h;
	world_begin(seed);
	target->at_once = 4;
	target->forgets = forgets;
	script(n, more, 0, f);
	int err = host_open(&h, 1, 1);
	if (err)
		err = host_open(&h, 1, 1);
	if (err && more)
		err = host_open(&h, 1, 1);
	assert_int_equal(err, 0);
	claim_at_last(&h);
	(void)run(&h, requests);
	assert_int_equal(h.lost, 0);
	assert_null(target->ghosts);
	bool enough = seen >= n;
	script(~0U, 0, 0, f);
	host_end(&h);
	assert_int_equal(fake_target_held_by(), ~0U);
	world_end();
	return enough;
}

static const enum fake_what ends[] = { FAKE_END_BEFORE, FAKE_END_AFTER, FAKE_GHOST };

static void test_ends_at_each(void **state unused)
{
	for (unsigned e = 0; e < ARRAY_SIZE(ends); e++)
		for (unsigned n = 1; life(n, 0, (struct fake_fault){ .what = ends[e] }, n, n & 1, 30) && n < 200; n++) {
		}
}

/* Twice, and the target knows no nexus again that it has seen before. */
static void test_ends_twice(void **state unused)
{
	for (unsigned e = 0; e < ARRAY_SIZE(ends); e++)
		for (unsigned n = 1; n < 40; n++)
			for (unsigned more = 1; more < 9; more++)
				(void)life(n, more, (struct fake_fault){ .what = ends[e] }, n + more, n & 1, 12);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_shapes),  cmocka_unit_test(test_zeros),        cmocka_unit_test(test_limits),
		cmocka_unit_test(test_answers), cmocka_unit_test(test_ends_at_each), cmocka_unit_test(test_ends_twice),
	};
	fake_turns_begin(1000 * NS_PER_SEC);
	cmocka_set_test_filter(getenv("TERN_TEST"));
	return cmocka_run_group_tests_name("disk on a unit", tests, NULL, NULL);
}

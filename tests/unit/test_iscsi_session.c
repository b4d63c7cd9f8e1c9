/* SPDX-License-Identifier: BSD-2-Clause */
/* Sessions with a target that does what it should: data of all sizes and layouts, under each way to send them. */
#include "tests/unit/iscsi_client.h"
#include "kernel/task.h"
#include "kernel/time.h"
#include "tests/unit/fake_kernel.h"
#include <stdlib.h>
#include <string.h>

static struct portal p;

/* ---- reads and writes ---- */

static void there_and_back(struct iscsi_session *s, uint32_t len, enum job_layout l, uint32_t seed)
{
	struct job w, r;
	uint64_t block = seed % 64;
	memset(p.disk + seed % 64 * PORTAL_BLOCK, 0xdd, len + 1);
	job_write(&w, block, len, l, seed);
	assert_int_equal(iscsi_session_do(s, &w.t), 0);
	assert_int_equal(w.t.status, SCSI_GOOD);
	assert_int_equal(w.t.got, len);
	const uint8_t *at = p.disk + block * PORTAL_BLOCK;
	for (uint32_t i = 0; i < len; i++)
		if (at[i] != job_byte(seed, i))
			fail_msg("byte %u of %u, layout %u", i, len, l);
	assert_int_equal(at[len], 0xdd);
	job_read(&r, block, len, l);
	assert_int_equal(iscsi_session_do(s, &r.t), 0);
	assert_int_equal(r.t.status, SCSI_GOOD);
	assert_int_equal(r.t.got, len);
	assert_true(job_has(&r, len, seed));
	job_free(&w);
	job_free(&r);
}

static const struct profile {
	uint32_t recv_max, in_max, max_burst, first_burst, most;
} profiles[] = {
	{ 512, 512, 512, 512, 5000 },
	{ 8192, 700, 1024, 1024, 20000 }, /* bursts of several PDUs each way */
	{ 4096, 5001, 65536, 10000, 80000 },
	{ 262144, 262144, 1 << 20, 262144, 400000 },
	{ 65536, 65536, 16777215, 65536, 400000 },
};

static void one_way(const struct profile *q, unsigned way)
{
	static const uint32_t sizes[] = { 1, 3, 512, 513, 4096, 10007, 70001, 300000, 399999 };
	iscsi_target_init(&p);
	p.recv_max = q->recv_max, p.in_max = q->in_max, p.max_burst = q->max_burst, p.first_burst = q->first_burst;
	p.initial_r2t = way & 1;
	p.immediate = way & 2;
	p.header_digest = way & 4;
	p.data_digest = way & 8;
	p.separate_status = way & 4;
	p.slow_login = way & 8;
	struct iscsi_session *s = client_open();
	struct iscsi_stats st;
	uint64_t bytes = 0;
	for (unsigned i = 0; i < ARRAY_SIZE(sizes) && sizes[i] <= q->most; i++)
		for (unsigned l = 0; l < JOB_LAYOUTS; l++) {
			if (l == JOB_TINY && sizes[i] > 20000)
				continue; /* it takes its time */
			there_and_back(s, sizes[i], l, way + i * 7 + l);
			bytes += sizes[i];
		}
	iscsi_session_stats(s, &st);
	assert_true(st.in_bytes == bytes && st.out_bytes == bytes && st.commands > 0 && !st.err);
	assert_true(st.header_digest == !!(way & 4) && st.data_digest == !!(way & 8));
	assert_int_equal(client_close(s, &p), 0);
	assert_int_equal(p.logouts, 1);
}

static void sizes_and_layouts(void **state)
{
	(void)state;
#ifdef __SANITIZE_THREAD__
	const unsigned step = 15; /* it takes its time */
#else
	const unsigned step = 1;
#endif
	for (unsigned i = 0; i < ARRAY_SIZE(profiles); i++)
		for (unsigned way = 0; way < 16; way += step)
			one_way(&profiles[i], way);
}

/* ---- many at once ---- */

#define WORKERS 6
static struct worker {
	struct iscsi_session *s;
	unsigned id;
	bool bad;
} workers[WORKERS];

static void work(void *arg)
{
	struct worker *w = arg;
	for (unsigned i = 0; i < 25 && !w->bad; i++) {
		struct job out, in, none;
		uint32_t seed = w->id * 100 + i, len = 1 + seed * 977 % 20000;
		job_write(&out, w->id * 64, len, i % JOB_LAYOUTS, seed);
		job_read(&in, w->id * 64, len, (i + 1) % JOB_LAYOUTS);
		job_none(&none);
		job_submit(w->s, &none);
		w->bad |= iscsi_session_do(w->s, &out.t) || out.t.status || iscsi_session_do(w->s, &in.t) ||
			  in.t.status || !job_has(&in, len, seed);
		for (unsigned k = 0; k < 10000 && !JOB_IS_DONE(&none); k++)
			fake_nap();
		w->bad |= PORTAL_COUNT_OF(none.done) != 1 || none.t.err;
		job_free(&out);
		job_free(&in);
		job_free(&none);
	}
}

static void many_at_once(void **state)
{
	(void)state;
	static const uint32_t windows[] = { 1, 3, 64 };
	for (unsigned k = 0; k < ARRAY_SIZE(windows); k++) {
		iscsi_target_init(&p);
		p.window = windows[k];
		p.initial_r2t = k == 1;
		p.recv_max = 1500;
		p.header_digest = p.data_digest = k;
		p.pipe = 3000;
		struct iscsi_session *s = client_open();
		for (unsigned i = 0; i < WORKERS; i++) {
			workers[i] = (struct worker){ .s = s, .id = i };
			assert_non_null(task_create("work", TASK_PRIO_NORMAL, work, &workers[i]));
		}
		WAIT_FOR(fake_tasks_at(0) == 3); /* the session's two, and the target */
		for (unsigned i = 0; i < WORKERS; i++)
			assert_false(workers[i].bad);
		assert_int_equal(client_close(s, &p), 0);
	}
}

/* Holds commands until arg have come, and answers them from the last to the first. */
static bool hold(struct portal *t, const uint8_t *bhs)
{
	if (bhs[BHS_OPCODE] != ISCSI_SCSI_COMMAND)
		return false;
	if (t->pending > ISCSI_TASKS_MAX)
		iscsi_target_complain(t, "more commands than the initiator has room for");
	if ((int)t->pending == t->arg)
		for (unsigned i = PORTAL_TASKS; i--;)
			if (t->task[i].used)
				iscsi_target_answer(t, &t->task[i], SCSI_GOOD, 0);
	return true;
}

/* More than the session has slots: they wait for their turn, each with its own answer. */
static void more_than_slots(void **state)
{
	(void)state;
	static struct job jobs[3 * ISCSI_TASKS_MAX];
	iscsi_target_init(&p);
	p.window = 250;
	p.hears = hold;
	p.arg = ISCSI_TASKS_MAX;
	struct iscsi_session *s = client_open();
	for (unsigned i = 0; i < ARRAY_SIZE(jobs); i++) {
		job_none(&jobs[i]);
		job_submit(s, &jobs[i]);
	}
	for (unsigned i = 0; i < ARRAY_SIZE(jobs); i++) {
		WAIT_FOR(JOB_IS_DONE(&jobs[i]));
		assert_true(!jobs[i].t.err && !jobs[i].t.status && jobs[i].done == 1);
		job_free(&jobs[i]);
	}
	p.hears = NULL;
	assert_int_equal(client_close(s, &p), 0);
}

/* ---- answers ---- */

static void conditions(void **state)
{
	(void)state;
	struct job j;
	struct scsi_sense sense;
	iscsi_target_init(&p);
	p.lenient = true;
	struct iscsi_session *s = client_open();
	for (unsigned way = 0; way < 2; way++) { /* beyond the disk's end */
		if (way)
			job_read(&j, PORTAL_DISK / PORTAL_BLOCK, 5000, JOB_ODD);
		else
			job_write(&j, PORTAL_DISK / PORTAL_BLOCK, 5000, JOB_ODD, 1);
		assert_int_equal(iscsi_session_do(s, &j.t), 0);
		assert_int_equal(j.t.status, SCSI_CHECK_CONDITION);
		assert_int_equal(j.t.got, 0);
		assert_int_equal(j.t.sense_len, 18);
		assert_true(scsi_sense_parse(j.t.sense, j.t.sense_len, &sense));
		assert_int_equal(sense.key, SCSI_ILLEGAL_REQUEST);
		assert_int_equal(sense.asc, SCSI_ASC(0x21, 0));
		job_free(&j);
	}
	job_none(&j);
	j.t.cdb[0] = 0xff;
	assert_int_equal(iscsi_session_do(s, &j.t), 0);
	assert_int_equal(j.t.status, SCSI_CHECK_CONDITION);
	scsi_test_unit_ready(j.t.cdb); /* the same task once more: nothing of its last answer is left */
	assert_int_equal(iscsi_session_do(s, &j.t), 0);
	assert_true(j.t.status == SCSI_GOOD && !j.t.sense_len);
	job_free(&j);
	assert_int_equal(client_close(s, &p), 0);
}

static uint8_t sense_of_arg[300];

/* A response's data: arg bytes, the first two of which say how many are sense data. */
static enum portal_fault odd_sense(struct portal *t, struct portal_pdu *o)
{
	if (o->bhs[BHS_OPCODE] != ISCSI_SCSI_RESPONSE || t->arg < 0)
		return PORTAL_WELL;
	o->bhs[BHS_STATUS] = SCSI_CHECK_CONDITION;
	o->data = sense_of_arg;
	o->len = (size_t)t->arg;
	put_be24(o->bhs + BHS_DATA_LEN, o->len);
	return PORTAL_WELL;
}

/* Of any length, also one that lies: sense_len is what came, as far as it is kept, and the PDU behind it is read. */
static void sense_lengths(void **state)
{
	(void)state;
	static const struct {
		int len;
		uint16_t says;
		unsigned kept;
	} rows[] = { { 0, 0, 0 },
		     { 1, 0, 0 },
		     { 2, 0, 0 },
		     { 2, 18, 0 },
		     { 3, 1, 1 },
		     { 3, 0, 0 },
		     { 20, 18, 18 },
		     { 20, 0xffff, 18 },
		     { 23, 18, 18 },
		     { 66, 64, SCSI_SENSE },
		     { 254, 252, SCSI_SENSE } };
	for (unsigned digests = 0; digests < 2; digests++) {
		iscsi_target_init(&p);
		p.header_digest = p.data_digest = digests;
		p.sends = odd_sense;
		p.arg = -1;
		struct iscsi_session *s = client_open();
		for (unsigned i = 0; i < ARRAY_SIZE(rows); i++) {
			struct job j;
			put_be16(sense_of_arg, rows[i].says);
			__atomic_store_n(&p.arg, rows[i].len, __ATOMIC_SEQ_CST);
			job_none(&j);
			if (iscsi_session_do(s, &j.t) || j.t.sense_len != rows[i].kept)
				fail_msg("%d bytes that say %u: error %d, %u", rows[i].len, rows[i].says, j.t.err,
					 j.t.sense_len);
			job_free(&j);
		}
		assert_int_equal(client_close(s, &p), 0);
	}
}

static enum portal_fault less(struct portal *t, struct portal_pdu *o)
{
	if (o->bhs[BHS_OPCODE] == ISCSI_DATA_IN) {
		o->bhs[BHS_FLAGS] |= ISCSI_UNDERFLOW;
		put_be32(o->bhs + BHS_RESIDUAL, 1000);
		o->len -= 1000;
		put_be24(o->bhs + BHS_DATA_LEN, o->len);
	}
	if (o->bhs[BHS_OPCODE] == ISCSI_SCSI_RESPONSE) { /* of a write */
		o->bhs[BHS_FLAGS] |= ISCSI_UNDERFLOW;
		put_be32(o->bhs + BHS_RESIDUAL, (uint32_t)t->arg);
	}
	return PORTAL_WELL;
}

static void residuals(void **state)
{
	(void)state;
	struct job j;
	iscsi_target_init(&p);
	p.sends = less;
	p.arg = 24;
	struct iscsi_session *s = client_open();
	for (uint32_t i = 0; i < 3000; i++)
		p.disk[i] = job_byte(5, i);
	job_read(&j, 0, 3000, JOB_ODD);
	assert_int_equal(iscsi_session_do(s, &j.t), 0);
	assert_int_equal(j.t.got, 2000);
	assert_true(job_has(&j, 2000, 5));
	job_free(&j);
	job_write(&j, 0, 1024, JOB_WHOLE, 1);
	assert_int_equal(iscsi_session_do(s, &j.t), 0);
	assert_int_equal(j.t.got, 1000);
	__atomic_store_n(&p.arg, INT32_MAX, __ATOMIC_SEQ_CST); /* less than nothing */
	assert_int_equal(iscsi_session_do(s, &j.t), 0);
	assert_int_equal(j.t.got, 0);
	job_free(&j);
	assert_int_equal(client_close(s, &p), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(sizes_and_layouts), cmocka_unit_test(many_at_once),  cmocka_unit_test(more_than_slots),
		cmocka_unit_test(conditions),        cmocka_unit_test(sense_lengths), cmocka_unit_test(residuals),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}

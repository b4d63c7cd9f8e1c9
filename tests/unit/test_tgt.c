/* SPDX-License-Identifier: BSD-2-Clause */
/* The initiator against a target that somebody else has written: tgtd, over this machine's own TCP. */
#include "tests/unit/tgt_session.h"

/* ---- who is let in ---- */

static void users(void **state unused)
{
	struct iscsi_session *s = NULL;
	assert_int_equal(open_as(&s, 1, CHAP, "u1", "secretsecret"), 0);
	close_one(s);
	assert_int_equal(open_as(&s, 1, CHAP, "u1", "secretsecreT"), -EACCES);
	assert_int_equal(open_as(&s, 1, CHAP, "u2", "secretsecret"), -EACCES);
	assert_int_equal(open_as(&s, 1, CHAP, "", ""), -EACCES);
	assert_int_equal(open_as(&s, 1, OPEN, "u1", "secretsecret"), -EACCES); /* it asks for none */
	assert_int_equal(open_as(&s, 1, "iqn.2026-01.test:none", "", ""), -ENOENT);
}

static void what_it_is(void **state unused)
{
	uint8_t cdb[SCSI_CDB], b[255] = { 0 };
	struct scsi_inquiry i;
	struct scsi_capacity c;
	char id[80];
	struct iscsi_session *s = open_one(1);
	scsi_inquiry(cdb, -1, SCSI_INQUIRY_LEN);
	assert_int_equal(run(s, cdb, ISCSI_IN, b, SCSI_INQUIRY_LEN), SCSI_GOOD);
	assert_true(scsi_inquiry_parse(b, SCSI_INQUIRY_LEN, &i) && i.type == 0);
	assert_string_equal(i.vendor, "IET");
	scsi_inquiry(cdb, 0x83, sizeof(b));
	assert_int_equal(run(s, cdb, ISCSI_IN, b, sizeof(b)), SCSI_GOOD);
	assert_true(scsi_device_id(b, sizeof(b), id, sizeof(id)));
	assert_non_null(strchr(id, '.'));
	scsi_read_capacity(cdb, SCSI_CAPACITY_LEN);
	assert_int_equal(run(s, cdb, ISCSI_IN, b, SCSI_CAPACITY_LEN), SCSI_GOOD);
	assert_true(scsi_capacity_parse(b, SCSI_CAPACITY_LEN, &c));
	assert_true(c.block_len == BLOCK && c.blocks == SIZE_MIB * 2048);
	scsi_synchronize_cache(cdb);
	assert_int_equal(run(s, cdb, ISCSI_NONE, NULL, 0), SCSI_GOOD);
	assert_int_equal(read_at(s, c.blocks, b, 0), SCSI_CHECK_CONDITION); /* behind its end */
	close_one(s);
}

/* ---- data ---- */

static void there_and_back(struct iscsi_session *s, unsigned seed)
{
	static uint8_t out[4 << 20], in[4 << 20];
	for (uint32_t n = 1; n * BLOCK <= sizeof(out); n = n * 5 + 1) {
		for (size_t i = 0; i < n * BLOCK; i++)
			out[i] = (uint8_t)(i * 7 + (i >> 9) + seed + n);
		memset(in, 0, n * BLOCK);
		assert_int_equal(write_at(s, seed, out, n), SCSI_GOOD);
		assert_int_equal(read_at(s, seed, in, n), SCSI_GOOD);
		assert_memory_equal(in, out, n * BLOCK);
	}
}

static bool set(const char *name, const char *value)
{
	return tgtd_adm(&d, "--mode target --op update --tid 1 --name %s --value %s", name, value);
}

static void ways_of_data(void **state unused)
{
	static const char *const yes[] = { "No", "Yes" }, *const crc[] = { "None", "CRC32C" };
	for (unsigned way = 0; way < 16; way++) {
		assert_true(set("InitialR2T", yes[way & 1]) && set("ImmediateData", yes[way >> 1 & 1]));
		assert_true(set("HeaderDigest", crc[way >> 2 & 1]) && set("DataDigest", crc[way >> 3]));
		struct iscsi_session *s = open_one(1);
		struct iscsi_stats st;
		iscsi_session_stats(s, &st);
		assert_true(st.header_digest == (way >> 2 & 1) && st.data_digest == way >> 3);
		there_and_back(s, way);
		close_one(s);
	}
	assert_true(set("InitialR2T", "Yes") && set("HeaderDigest", "None") && set("DataDigest", "None"));
}

#define WRITES 64
static struct write_job {
	struct iscsi_task t;
	struct iov v;
	unsigned done; /* [a] */
} writes[WRITES];
static void wrote(struct iscsi_task *t)
{
	(void)__atomic_fetch_add(&((struct write_job *)t->arg)->done, 1, __ATOMIC_SEQ_CST);
}

/* It is killed while it has writes: each of them ends, and what was not answered ends with an error. */
static void killed_in_a_write(void **state unused)
{
	static uint8_t data[256 << 10];
	struct iscsi_session *s = open_one(1);
	unsigned good = 0;
	ends = 0;
	for (unsigned i = 0; i < WRITES; i++) {
		struct write_job *w = &writes[i];
		*w = (struct write_job){ .v = { data, sizeof(data) } };
		w->t = (struct iscsi_task){ .lun = 1,
					    .dir = ISCSI_OUT,
					    .seg = &w->v,
					    .len = sizeof(data),
					    .deadline_ns = time_in_ms(8000),
					    .done = wrote,
					    .arg = w };
		scsi_write(w->t.cdb, i % 16 * 512, sizeof(data) / BLOCK);
		iscsi_session_submit(s, &w->t);
	}
	WAIT_FOR(__atomic_load_n(&writes[2].done, __ATOMIC_SEQ_CST));
	tgtd_kill(&d);
	for (unsigned i = 0; i < WRITES; i++) {
		WAIT_FOR(__atomic_load_n(&writes[i].done, __ATOMIC_SEQ_CST));
		good += !writes[i].t.err;
	}
	assert_true(good >= 1 && good < WRITES);
	assert_int_equal(iscsi_session_close(s, time_in_ms(5000)), -ETIMEDOUT);
	assert_int_equal(ends, 1);
	for (unsigned i = 0; i < WRITES; i++)
		assert_int_equal(writes[i].done, 1);
	assert_int_equal(open_as(&s, 1, OPEN, "", ""), -ECONNREFUSED);
	const char *why = tgtd_again(&d);
	if (why)
		fail_msg("%s", why);
	assert_int_equal(configure(), 0);
	s = open_one(1);
	there_and_back(s, 3);
	close_one(s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(users),
		cmocka_unit_test(what_it_is),
		cmocka_unit_test(ways_of_data),
		cmocka_unit_test(killed_in_a_write),
	};
	return cmocka_run_group_tests(tests, start, stop);
}

/* SPDX-License-Identifier: BSD-2-Clause */
/* Persistent reservations at tgtd: a compare-and-swap by two hosts, and what becomes of them when a session ends. */
#include "tests/unit/tgt_session.h"

static int pr(struct iscsi_session *s, enum scsi_pr_out what, uint64_t key, uint64_t new_key)
{
	uint8_t cdb[SCSI_CDB], param[SCSI_PR_OUT_LEN];
	scsi_pr_out(cdb, param, what, key, new_key, false);
	return run(s, cdb, ISCSI_OUT, param, sizeof(param));
}

static uint64_t holder(struct iscsi_session *s)
{
	uint8_t cdb[SCSI_CDB], b[64] = { 0 };
	struct scsi_pr_holder h;
	scsi_pr_in(cdb, SCSI_PR_READ_RESERVATION, sizeof(b));
	assert_int_equal(run(s, cdb, ISCSI_IN, b, sizeof(b)), SCSI_GOOD);
	assert_true(scsi_pr_holder_parse(b, sizeof(b), &h));
	assert_true(!h.held || h.type == SCSI_PR_WRITE_EXCLUSIVE);
	return h.held ? h.key : 0;
}

static unsigned registered(struct iscsi_session *s, uint64_t key)
{
	uint8_t cdb[SCSI_CDB], b[256] = { 0 };
	unsigned n = 0;
	scsi_pr_in(cdb, SCSI_PR_READ_KEYS, sizeof(b));
	assert_int_equal(run(s, cdb, ISCSI_IN, b, sizeof(b)), SCSI_GOOD);
	for (size_t at = 8; at < MIN(8 + get_be32(b + 4), sizeof(b)); at += 8) /* SPC-4 6.15.2 */
		n += get_be64(b + at) == key;
	return n;
}

/* a has it by key 0xa1, b wants it: whoever of the two swaps the key first has it, and the other one is told. */
static void compare_and_swap(void **state unused)
{
	uint8_t block[BLOCK] = { 1 };
	for (unsigned first = 0; first < 2; first++) {
		struct iscsi_session *a = open_one(1), *b = open_one(2);
		assert_int_equal(pr(a, SCSI_PR_REGISTER, 0, 0xa1), SCSI_GOOD);
		assert_int_equal(pr(a, SCSI_PR_RESERVE, 0xa1, 0), SCSI_GOOD);
		assert_int_equal(pr(b, SCSI_PR_REGISTER, 0, 0xb2), SCSI_GOOD);
		assert_true(holder(b) == 0xa1 && registered(b, 0xa1) == 1 && registered(a, 0xb2) == 1);
		assert_int_equal(write_at(a, 8, block, 1), SCSI_GOOD);
		assert_int_equal(write_at(b, 8, block, 1), SCSI_RESERVATION_CONFLICT);
		assert_int_equal(read_at(b, 8, block, 1), SCSI_GOOD);
		if (first == 0) { /* b takes it */
			assert_int_equal(pr(b, SCSI_PR_PREEMPT, 0xb2, 0xa1), SCSI_GOOD);
			assert_int_equal(pr(a, SCSI_PR_REGISTER, 0xa1, 0xa3), SCSI_RESERVATION_CONFLICT);
			assert_true(holder(a) == 0xb2 && !registered(a, 0xa1) && !registered(a, 0xa3));
			assert_int_equal(write_at(a, 8, block, 1), SCSI_RESERVATION_CONFLICT);
			assert_int_equal(write_at(b, 8, block, 1), SCSI_GOOD);
			assert_int_equal(pr(b, SCSI_PR_CLEAR, 0xb2, 0), SCSI_GOOD);
		} else { /* a changes its key: what b knows is old */
			assert_int_equal(pr(a, SCSI_PR_REGISTER, 0xa1, 0xa3), SCSI_GOOD);
			assert_int_equal(pr(b, SCSI_PR_PREEMPT, 0xb2, 0xa1), SCSI_RESERVATION_CONFLICT);
			assert_true(holder(b) == 0xa3 && registered(b, 0xb2) == 1);
			assert_int_equal(write_at(b, 8, block, 1), SCSI_RESERVATION_CONFLICT);
			assert_int_equal(write_at(a, 8, block, 1), SCSI_GOOD);
			assert_int_equal(pr(a, SCSI_PR_CLEAR, 0xa3, 0), SCSI_GOOD);
		}
		assert_true(!holder(a) && !holder(b));
		close_one(a);
		close_one(b);
	}
}

/* ---- sessions that end ---- */

/*
 * A second session of the same name and ISID, while the first one lives: that is the same I_T nexus (RFC 7143 6.3.5),
 * to which registrations belong (SPC-4 5.13.1). tgtd ends the first session, keeps key and reservation, but takes the
 * new session for another nexus.
 */
static void same_isid(void **state unused)
{
	uint8_t block[BLOCK] = { 1 };
	struct iscsi_session *a = open_one(1), *other = open_one(2);
	assert_int_equal(pr(a, SCSI_PR_REGISTER, 0, 0xa1), SCSI_GOOD);
	assert_int_equal(pr(a, SCSI_PR_RESERVE, 0xa1, 0), SCSI_GOOD);
	ends = 0;
	struct iscsi_session *again = open_one(1);
	struct iscsi_stats st;
	WAIT_FOR(__atomic_load_n(&ends, __ATOMIC_SEQ_CST) == 1); /* the first one, and it alone */
	iscsi_session_stats(a, &st);
	assert_true(st.err);
	assert_int_equal(iscsi_session_close(a, time_in_ms(5000)), -ETIMEDOUT);
	/* The reservation outlives the session, but is not the new one's: that is a stranger, who has to preempt. */
	assert_true(holder(other) == 0xa1 && registered(other, 0xa1) == 1);
	assert_int_equal(write_at(again, 8, block, 1), SCSI_RESERVATION_CONFLICT);
	assert_int_equal(pr(again, SCSI_PR_REGISTER, 0xa1, 0xa4), SCSI_RESERVATION_CONFLICT);
	assert_int_equal(pr(again, SCSI_PR_REGISTER, 0, 0xa4), SCSI_GOOD);
	assert_int_equal(pr(again, SCSI_PR_PREEMPT, 0xa4, 0xa1), SCSI_GOOD);
	assert_true(holder(other) == 0xa4 && !registered(other, 0xa1));
	assert_int_equal(write_at(again, 8, block, 1), SCSI_GOOD);
	assert_int_equal(write_at(other, 8, block, 1), SCSI_RESERVATION_CONFLICT);
	assert_int_equal(pr(again, SCSI_PR_CLEAR, 0xa4, 0), SCSI_GOOD);
	close_one(again);
	close_one(other);
}

/* After a log-out it is a stranger likewise. */
static void same_isid_later(void **state unused)
{
	uint8_t block[BLOCK] = { 1 };
	struct iscsi_session *a = open_one(1);
	assert_int_equal(pr(a, SCSI_PR_REGISTER, 0, 0xa1), SCSI_GOOD);
	assert_int_equal(pr(a, SCSI_PR_RESERVE, 0xa1, 0), SCSI_GOOD);
	close_one(a);
	a = open_one(1);
	assert_true(holder(a) == 0xa1 && registered(a, 0xa1) == 1);
	assert_int_equal(write_at(a, 8, block, 1), SCSI_RESERVATION_CONFLICT);
	assert_int_equal(pr(a, SCSI_PR_REGISTER, 0, 0xa1), SCSI_GOOD); /* the key that is there: twice now */
	assert_int_equal(registered(a, 0xa1), 2);
	assert_int_equal(write_at(a, 8, block, 1), SCSI_RESERVATION_CONFLICT);
	assert_int_equal(pr(a, SCSI_PR_PREEMPT, 0xa1, 0xa1), SCSI_GOOD);
	assert_true(holder(a) == 0xa1 && registered(a, 0xa1) == 1);
	assert_int_equal(write_at(a, 8, block, 1), SCSI_GOOD);
	assert_int_equal(pr(a, SCSI_PR_CLEAR, 0xa1, 0), SCSI_GOOD);
	close_one(a);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(compare_and_swap),
		cmocka_unit_test(same_isid),
		cmocka_unit_test(same_isid_later),
	};
	return cmocka_run_group_tests(tests, start, stop);
}

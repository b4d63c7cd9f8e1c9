/* SPDX-License-Identifier: BSD-2-Clause */
/* A tgtd with two targets, and sessions with it: what the tests of the initiator against it have in common. */
#pragma once
#include "kernel/time.h"
#include "net/iscsi/session.h"
#include "tests/unit/fake_kernel.h"
#include "tests/unit/tgtd.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define BLOCK    512U
#define OPEN     "iqn.2026-01.test:open"
#define CHAP     "iqn.2026-01.test:chap"
#define SIZE_MIB 16

static struct tgtd d;

static inline int configure(void)
{
	return tgtd_target(&d, 1, OPEN, SIZE_MIB) && tgtd_target(&d, 2, CHAP, 1) &&
			       tgtd_adm(&d, "--mode account --op new --user u1 --password secretsecret") &&
			       tgtd_adm(&d, "--mode account --op bind --tid 2 --user u1")
		       ? 0
		       : -1;
}

static inline int start(void **state unused)
{
	const char *why = tgtd_start(&d);
	if (why)
		print_error("%s\n", why);
	else if (configure())
		print_error("tgtadm does not configure it\n");
	else
		return 0;
	return -1;
}

static inline int stop(void **state unused)
{
	tgtd_end(&d);
	return 0;
}

/* ---- sessions and commands ---- */

static unsigned ends; /* [a] */
static inline void ended(void *arg unused) { (void)__atomic_fetch_add(&ends, 1, __ATOMIC_SEQ_CST); }

/* host: whose name and ISID. */
static inline int open_as(struct iscsi_session **s, unsigned host, const char *name, const char *user,
			  const char *secret)
{
	struct iscsi_target t = { .port = d.port, .isid = { 0x80, 0, 0, 1, 0, (uint8_t)host } };
	struct why w = { "" };
	assert_int_equal(ip_parse("127.0.0.1", &t.ip), 0);
	snprintf(t.initiator, sizeof(t.initiator), "iqn.2026-01.test:host%u", host);
	strcpy(t.name, name);
	strcpy(t.user, user);
	strcpy(t.secret, secret);
	int err = iscsi_session_open(s, &t, ended, NULL, time_in_ms(5000), &w);
	if (err)
		print_message("open: %d, %s\n", err, w.text);
	return err;
}

static inline struct iscsi_session *open_one(unsigned host)
{
	struct iscsi_session *s = NULL;
	assert_int_equal(open_as(&s, host, OPEN, "", ""), 0);
	return s;
}

/* Its status; once more after a unit attention, of which there may be several. */
static inline int run(struct iscsi_session *s, const uint8_t *cdb, enum iscsi_dir dir, void *buf, uint32_t len)
{
	struct iov v = { buf, len };
	struct iscsi_task t = { .lun = 1, .dir = dir, .seg = &v, .len = len };
	struct scsi_sense sense = { SCSI_UNIT_ATTENTION, 0 };
	memcpy(t.cdb, cdb, sizeof(t.cdb));
	for (unsigned i = 0; i < 5 && sense.key == SCSI_UNIT_ATTENTION; i++) {
		t.deadline_ns = time_in_ms(5000);
		int err = iscsi_session_do(s, &t);
		if (err || t.status != SCSI_CHECK_CONDITION)
			return err ? err : t.status;
		assert_true(scsi_sense_parse(t.sense, t.sense_len, &sense));
	}
	return t.status;
}

static inline int write_at(struct iscsi_session *s, uint64_t block, void *buf, uint32_t blocks)
{
	uint8_t cdb[SCSI_CDB];
	scsi_write(cdb, block, blocks);
	return run(s, cdb, ISCSI_OUT, buf, blocks * BLOCK);
}

static inline int read_at(struct iscsi_session *s, uint64_t block, void *buf, uint32_t blocks)
{
	uint8_t cdb[SCSI_CDB];
	scsi_read(cdb, block, blocks);
	return run(s, cdb, ISCSI_IN, buf, blocks * BLOCK);
}

static inline void close_one(struct iscsi_session *s) { assert_int_equal(iscsi_session_close(s, time_in_ms(5000)), 0); }

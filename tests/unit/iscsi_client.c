/* SPDX-License-Identifier: BSD-2-Clause */
/* Sessions and jobs of tests (iscsi_client.h). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "tests/unit/iscsi_client.h"
#include "kernel/time.h"
#include "tests/unit/fake_kernel.h"
#include <stdlib.h>
#include <string.h>

#define SKIP 250

unsigned client_ended;

struct iscsi_target client_target(void)
{
	struct iscsi_target t = {
		.port = 3260, .name = PORTAL_NAME, .initiator = "iqn.2026-01.test:i", .isid = { 0x80, 1, 2, 3, 4, 5 }
	};
	assert_int_equal(ip_parse("10.77.2.5", &t.ip), 0);
	return t;
}

static void ended(void *arg) { PORTAL_COUNT(*(unsigned *)arg); }

struct iscsi_session *client_open(void)
{
	struct iscsi_session *s = NULL;
	struct iscsi_target t = client_target();
	struct why w = { "" };
	client_ended = 0;
	if (iscsi_session_open(&s, &t, ended, &client_ended, time_in_ms(10000), &w))
		fail_msg("no session: %s", w.text);
	return s;
}

int client_close(struct iscsi_session *s, struct portal *p)
{
	int err = iscsi_session_close(s, time_in_ms(2000));
	assert_true(fake_tasks_wait());
	assert_int_equal(PORTAL_COUNT_OF(client_ended), 1);
	assert_string_equal(p->complaint.text, "");
	return err;
}

bool client_is_alive(struct iscsi_session *s)
{
	struct iscsi_stats st;
	iscsi_session_stats(s, &st);
	return !st.err;
}

/* ---- jobs ---- */

uint8_t job_byte(uint32_t seed, uint32_t i) { return (uint8_t)(seed * 29 + i * 31 + (i >> 8) * 7 + (i >> 16)); }

static uint32_t piece(enum job_layout l, unsigned k, uint32_t left)
{
	static const uint32_t odd[] = { 7, 13, 511, 1, 1029, 3, 4097 };
	switch (l) {
	case JOB_ODD: return MIN(odd[k % ARRAY_SIZE(odd)], left);
	case JOB_TINY: return MIN(3U, left);
	case JOB_SKIP: return MIN(100U, left);
	case JOB_HOLES: return k % 3 ? MIN(600U, left) : 0;
	case JOB_WHOLE:
	case JOB_LAYOUTS: break;
	}
	return left;
}

static void make(struct job *j, enum iscsi_dir dir, uint32_t len, enum job_layout l)
{
	memset(j, 0, sizeof(*j));
	j->t.dir = dir;
	j->t.len = len;
	j->t.skip = l == JOB_SKIP ? SKIP : 0;
	j->t.deadline_ns = time_in_ms(10000);
	j->t.datasn = 0xbad; /* the session's fields are no business of the submitter's */
	j->seg = calloc(len + SKIP + 1, sizeof(*j->seg));
	for (uint32_t left = len + (uint32_t)j->t.skip; left; left -= (uint32_t)j->seg[j->n++].len) {
		size_t n = piece(l, j->n, left);
		j->seg[j->n] = (struct iov){ malloc(n + !n), n };
		memset(j->seg[j->n].base, 0xcc, n);
	}
	j->t.seg = j->seg;
}

/* Byte i of its data, or of what lies before: i < 0. */
struct walk {
	const struct job *j;
	unsigned k;
	size_t at;
};
static uint8_t *next(struct walk *w)
{
	while (w->at == w->j->seg[w->k].len)
		w->k++, w->at = 0;
	return (uint8_t *)w->j->seg[w->k].base + w->at++;
}

void job_write(struct job *j, uint64_t block, uint32_t len, enum job_layout l, uint32_t seed)
{
	make(j, ISCSI_OUT, len, l);
	scsi_write(j->t.cdb, block, (len + PORTAL_BLOCK - 1) / PORTAL_BLOCK);
	struct walk w = { .j = j };
	for (size_t i = 0; i < j->t.skip; i++)
		next(&w);
	for (uint32_t i = 0; i < len; i++)
		*next(&w) = job_byte(seed, i);
}

void job_read(struct job *j, uint64_t block, uint32_t len, enum job_layout l)
{
	make(j, ISCSI_IN, len, l);
	scsi_read(j->t.cdb, block, (len + PORTAL_BLOCK - 1) / PORTAL_BLOCK);
}

void job_none(struct job *j)
{
	make(j, ISCSI_NONE, 0, JOB_WHOLE);
	scsi_test_unit_ready(j->t.cdb);
}

bool job_has(const struct job *j, uint32_t n, uint32_t seed)
{
	struct walk w = { .j = j };
	bool good = true;
	for (size_t i = 0; i < j->t.skip; i++)
		good &= *next(&w) == 0xcc;
	for (uint32_t i = 0; i < j->t.len; i++)
		good &= *next(&w) == (i < n ? job_byte(seed, i) : 0xcc);
	return good;
}

static void done(struct iscsi_task *t) { PORTAL_COUNT(((struct job *)t->arg)->done); }

void job_submit(struct iscsi_session *s, struct job *j)
{
	j->done = 0;
	j->t.done = done;
	j->t.arg = j;
	iscsi_session_submit(s, &j->t);
}

void job_free(struct job *j)
{
	for (unsigned i = 0; i < j->n; i++)
		free(j->seg[i].base);
	free(j->seg);
}

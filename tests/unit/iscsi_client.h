/* SPDX-License-Identifier: BSD-2-Clause */
/* What tests of an initiator's session have in common: a session with the target in memory, and jobs for it. */
#pragma once
#include "net/iscsi/session.h"
#include "tests/unit/iscsi_target.h"

enum job_layout { JOB_WHOLE, JOB_ODD, JOB_TINY, JOB_SKIP, JOB_HOLES, JOB_LAYOUTS };
struct job { /* a task with data of its own, whose pieces lie apart, each in memory of its own length */
	struct iscsi_task t;
	struct iov *seg;
	unsigned n;
	uint32_t seed;
	unsigned done; /* [a] how often it was told that it is */
};

struct iscsi_target client_target(void);
extern unsigned client_ended; /* [a] how often the session's end was told */
/* Opens one, or fails. */
struct iscsi_session *client_open(void);
/* Closes it with 2 s for the log-out, and waits for all tasks: its end was told once, and the target saw no fault. */
int client_close(struct iscsi_session *s, struct portal *p);
bool client_is_alive(struct iscsi_session *s);

/* A write of a pattern that seed makes, a read into nothing yet, and a command without data. 10 s are its deadline. */
void job_write(struct job *j, uint64_t block, uint32_t len, enum job_layout l, uint32_t seed);
void job_read(struct job *j, uint64_t block, uint32_t len, enum job_layout l);
void job_none(struct job *j);
/* Has the first n bytes of the pattern, nothing before, and nothing behind them. */
bool job_has(const struct job *j, uint32_t n, uint32_t seed);
void job_submit(struct iscsi_session *s, struct job *j);
#define JOB_IS_DONE(j) (PORTAL_COUNT_OF((j)->done) != 0)
void job_free(struct job *j);
uint8_t job_byte(uint32_t seed, uint32_t i); /* the pattern */

/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Which log lines are too many: those of one kind (their format) and one source (their text but for numbers, so that
 * ports, counts and the ends of addresses make no other, and names as web1 and web2 do), beyond a burst and one a
 * second; and those of one kind whatever their texts, since a peer may choose its words. What is held back is counted,
 * and said with the last of its lines. Pure; the caller has the lock.
 */
#pragma once
#include "kernel/log.h"

#define FOLD_KINDS   64
#define FOLD_SOURCES 64

struct fold {
	const char *fmt; /* NULL: free */
	uint64_t source; /* hash of the text; 0: a kind */
	uint64_t seen_ns;
	uint64_t credit_ns, price_ns; /* a line costs its price; time is credit */
	uint64_t more;                /* held back since the last line that was not */
	struct log_line last;         /* of those held back */
};
struct fold_table {
	struct fold kind[FOLD_KINDS], source[FOLD_SOURCES];
};

/* True: log this line of format fmt. False: it has been counted. */
bool log_fold_line(struct fold_table *t, const char *fmt, const struct log_line *l);
/*
 * If lines were held back and their count is due (or `all`): that line, with the count in its text. False: there is
 * none.
 */
bool log_fold_report(struct fold_table *t, uint64_t now_ns, bool all, struct log_line *l);

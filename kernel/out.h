/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What a command prints: one call for each fact, rendered as text, or, with --json, as part of the command's one
 * object. The console opens that object before the first fact and closes it after the command.
 *
 * A key is "name" or "name|label". JSON has the name; text has the label, else the name without its unit and
 * underscores. "name|" is for JSON alone. Text comes in three forms: lines of `label   value`, the rows of a table, and
 * a list of words. None is wider than OUT_COLUMNS.
 */
#pragma once
#include "kernel/base/bits.h"

#define OUT_RED(text) "\033[31m" text "\033[0m" /* of out_text */
#define OUT_COLUMNS   79

struct con;
struct out { /* of struct con: what has been printed so far */
	bool begun, comma;
	unsigned depth;
	uint32_t arrays; /* bit n: what is open at depth n is an array */
	enum { OUT_LINES, OUT_TABLE, OUT_WORDS } form;
	const char *columns, *none; /* of a table */
	unsigned rows;
	char row[OUT_COLUMNS + 1], more[600]; /* a table's row, and what is to stand below it; a list's words */
};

void out_str(struct con *c, const char *key, const char *v);
void out_u64(struct con *c, const char *key, uint64_t v);
void out_i64(struct con *c, const char *key, int64_t v);
void out_bool(struct con *c, const char *key, bool v);
void out_bytes(struct con *c, const char *key, uint64_t v);      /* "1.5 GiB" */
void out_us(struct con *c, const char *key, uint64_t ns);        /* in JSON microseconds; "14.6 ms", "01:02:03" */
void out_ms(struct con *c, const char *key, uint64_t ns);        /* in JSON milliseconds */
void out_time(struct con *c, const char *key, uint64_t wall_ns); /* UTC: RFC 3339. 0, no clock: nothing */
/* What is only sometimes there ("": nothing), and long: in a table on lines of its own below the row. */
void out_more(struct con *c, const char *key, const char *v);

/* Text alone. */
void out_text(struct con *c, const char *fmt, ...) printf_like(2, 3); /* as it is */
/* In a table: in the column of that name, or below the row. */
void out_line(struct con *c, const char *label, const char *fmt, ...) printf_like(3, 4);

/* An object; in text its facts are one line: those that are not 0. */
void out_words(struct con *c, const char *key);
void out_words_end(struct con *c);
/* An array of values, or of objects between out_row and out_row_end; in text each is printed as if it stood alone. */
void out_list(struct con *c, const char *key);
void out_list_end(struct con *c);
/*
 * An array of objects, in text a table. columns: "-16 name, 8 memory_bytes|mem": how wide (negative: to the left) each
 * fact is that is shown, in order. `none` (or NULL) is said instead of a table without rows.
 */
void out_table(struct con *c, const char *key, const char *columns, const char *none);
void out_table_end(struct con *c);
void out_row(struct con *c);
void out_row_end(struct con *c);

/* The command's object: close what is open in it (all before an error's text), or it, too. console.c does. */
void out_unwind(struct con *c);
void out_end(struct con *c);
struct out_num {
	char s[32];
};
struct out_num out_tenths(uint64_t v, uint64_t unit); /* "1.5", "12": v in units of `unit` */
/* "14.6 ms", "1566 ms", "12.3 s", "01:02:03", "3d 01:02:03"; "-" for 0. */
struct out_num out_span(uint64_t ns);

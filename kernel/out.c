/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A command's output, as JSON (RFC 8259) or text (out.h). In JSON text is taken as bytes; what is not ASCII is written
 * as \u00XX, so output is ASCII.
 */
#include "kernel/out.h"
#include "kernel/console.h"
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define LABEL  15 /* columns of a label */
#define INDENT 4  /* of what stands below a row */

/* ---- JSON ---- */

static void put_string(struct con *c, const char *s, size_t len)
{
	con_printf(c, "\"");
	for (const char *end = s + len; s < end; s++) {
		size_t n = 0; /* a run that needs no escape */
		while (s + n < end && s[n] >= ' ' && s[n] < 0x7f && s[n] != '"' && s[n] != '\\')
			n++;
		if (n)
			c->write(c, s, n);
		s += n;
		if (s == end)
			break;
		if (*s == '"' || *s == '\\')
			con_printf(c, "\\%c", *s);
		else
			con_printf(c, "\\u%04x", (unsigned char)*s);
	}
	con_printf(c, "\"");
}

static void open_with(struct con *c, char bracket)
{
	con_printf(c, "%c", bracket);
	c->out.comma = false;
	c->out.depth++;
	c->out.arrays = (c->out.arrays & ~(1u << c->out.depth)) | (uint32_t)(bracket == '[') << c->out.depth;
	BUG_ON(c->out.depth >= 32);
}

static void close_last(struct con *c)
{
	BUG_ON(c->out.depth == 0);
	con_printf(c, "%c", c->out.arrays >> c->out.depth & 1 ? ']' : '}');
	c->out.comma = true;
	c->out.depth--;
}

static void begin(struct con *c)
{
	if (!c->out.begun)
		open_with(c, '{');
	c->out.begun = true;
}

/* With --json: comma and key (NULL: none), and the value is to follow. */
static bool json_key(struct con *c, const char *key)
{
	if (!c->json)
		return false;
	begin(c);
	if (c->out.comma)
		con_printf(c, ",");
	c->out.comma = true;
	if (key) {
		put_string(c, key, strcspn(key, "|"));
		con_printf(c, ":");
	}
	return true;
}

static void json_open(struct con *c, const char *key, char bracket)
{
	if (json_key(c, key))
		open_with(c, bracket);
}

static void json_close(struct con *c)
{
	if (c->json)
		close_last(c);
}

/* ---- text ---- */

/* What text calls this key, of which a comma is the end; how long that is. */
static size_t label_of(const char *key, char name[32])
{
	static const char *const units[] = { "_bytes", "_ms", "_us", "_hz" };
	size_t n = strcspn(key, "|,");
	if (key[n] == '|') {
		key += n + 1;
		n = strcspn(key, ",");
	} else {
		for (unsigned i = 0; i < ARRAY_SIZE(units); i++)
			if (n > strlen(units[i]) && !strncmp(key + n - strlen(units[i]), units[i], strlen(units[i])))
				n -= strlen(units[i]);
	}
	n = MIN(n, (size_t)31);
	for (size_t i = 0; i < n; i++)
		name[i] = key[i] == '_' ? ' ' : key[i];
	name[n] = 0;
	return n;
}

/* Text from column `at` on, and in further lines from there on again; broken at blanks. */
static void wrap(struct con *c, unsigned at, const char *s)
{
	while (strlen(s) > OUT_COLUMNS - at) {
		unsigned n = OUT_COLUMNS - at;
		while (n && s[n] != ' ')
			n--;
		if (!n)
			n = (unsigned)strcspn(s, " "); /* one long word */
		if (!s[n])
			break;
		con_printf(c, "%.*s\n%*s", (int)n, s, (int)at, "");
		s += n + 1;
	}
	con_printf(c, "%s\n", s);
}

static void line(struct con *c, const char *label, const char *s)
{
	con_printf(c, "%-*s ", LABEL - 1, label);
	wrap(c, MAX((unsigned)LABEL, (unsigned)strlen(label) + 1), s);
}

static void more(struct out *o, const char *s, char end)
{
	size_t n = strlen(o->more);
	sniprintf(o->more + n, sizeof(o->more) - n, "%s%c", s, end);
}

/* The table's next column: its key, or NULL past the last. It is at *at, *width wide (negative: to the left). */
static const char *next_column(const char **columns, unsigned *at, int *width)
{
	char *key;
	if (!*columns)
		return NULL;
	*at += *width ? (unsigned)abs(*width) + 2 : 0;
	*width = (int)strtol(*columns, &key, 10);
	*columns = strchr(key, ',');
	if (*columns)
		(*columns)++;
	return key + 1;
}

/* A column that would be beyond the line is not shown: no reason to panic under running VMs. */
static void place(struct out *o, unsigned at, int width, const char *s)
{
	unsigned room = (unsigned)abs(width), n = (unsigned)MIN(strlen(s), (size_t)room);
	if (at + room > OUT_COLUMNS)
		return;
	memcpy(o->row + at + (width > 0 ? room - n : 0), s, n);
}

/* Into the table's column of that key, if there is one. What does not fit shows its head there and is told below. */
static bool cell(struct out *o, const char *key, const char *s)
{
	const char *columns = o->columns, *k;
	unsigned at = 0;
	int width = 0;
	size_t n = strcspn(key, "|");
	while ((k = next_column(&columns, &at, &width)))
		if (!strncmp(k, key, n) && strchr("|,", k[n])) {
			place(o, at, width, s);
			if (strlen(s) > (size_t)abs(width)) {
				place(o, at + (unsigned)abs(width) - 1, 1, "~");
				more(o, s, '\n');
			}
			return true;
		}
	return false;
}

/* The row, without the blanks at its end. */
static void put_row(struct con *c)
{
	unsigned n = OUT_COLUMNS;
	while (n && c->out.row[n - 1] == ' ')
		n--;
	con_printf(c, "%.*s\n", (int)n, c->out.row);
}

static void clear_row(struct out *o)
{
	memset(o->row, ' ', sizeof(o->row));
	o->more[0] = 0;
}

static void titles(struct con *c)
{
	const char *columns = c->out.columns, *k;
	char name[32];
	unsigned at = 0;
	int width = 0;
	clear_row(&c->out);
	while ((k = next_column(&columns, &at, &width))) {
		for (size_t i = label_of(k, name); i--;)
			name[i] = (char)(name[i] >= 'a' && name[i] <= 'z' ? name[i] - 32 : name[i]);
		place(&c->out, at, width, name);
	}
	put_row(c);
}

/* `always`: what has no column of its own in a table stands below the row. */
static void vsay(struct con *c, const char *key, bool always, const char *fmt, va_list ap)
{
	char name[32], text[600];
	if (!key || !label_of(key, name))
		return;
	vsniprintf(text, sizeof(text), fmt, ap);
	switch (c->out.form) {
	case OUT_LINES: line(c, name, text); break;
	case OUT_TABLE:
		if (!cell(&c->out, key, text) && always)
			more(&c->out, text, '\n');
		break;
	case OUT_WORDS: more(&c->out, name, ' '); more(&c->out, text, ' ');
	}
}

static void say(struct con *c, const char *key, const char *fmt, ...) printf_like(3, 4);
static void say(struct con *c, const char *key, const char *fmt, ...)
{
	va_list ap;
	va_start(ap, fmt);
	vsay(c, key, false, fmt, ap);
	va_end(ap);
}

void out_line(struct con *c, const char *label, const char *fmt, ...)
{
	va_list ap;
	va_start(ap, fmt);
	if (!c->json)
		vsay(c, label, true, fmt, ap);
	va_end(ap);
}

void out_text(struct con *c, const char *fmt, ...)
{
	va_list ap;
	va_start(ap, fmt);
	if (!c->json)
		con_vprintf(c, fmt, ap);
	va_end(ap);
}

/* ---- facts ---- */

void out_str(struct con *c, const char *key, const char *v)
{
	if (json_key(c, key))
		put_string(c, v, strlen(v));
	else
		say(c, key, "%s", v[0] ? v : "-");
}

void out_more(struct con *c, const char *key, const char *v)
{
	if (v[0] && json_key(c, key))
		put_string(c, v, strlen(v));
	else if (v[0])
		out_line(c, key, "%s", v);
}

void out_u64(struct con *c, const char *key, uint64_t v)
{
	if (json_key(c, key))
		con_printf(c, "%lu", v);
	else if (v || c->out.form != OUT_WORDS)
		say(c, key, "%lu", v);
}

void out_i64(struct con *c, const char *key, int64_t v)
{
	if (json_key(c, key))
		con_printf(c, "%ld", v);
	else
		say(c, key, "%ld", v);
}

void out_bool(struct con *c, const char *key, bool v)
{
	if (json_key(c, key))
		con_printf(c, v ? "true" : "false");
	else
		say(c, key, v ? "yes" : "no");
}

struct out_num out_tenths(uint64_t v, uint64_t unit)
{
	struct out_num r;
	uint64_t t = v / unit * 10 + v % unit * 10 / unit;
	sniprintf(r.s, sizeof(r.s), t % 10 ? "%lu.%lu" : "%lu", t / 10, t % 10);
	return r;
}

void out_bytes(struct con *c, const char *key, uint64_t v)
{
	static const char *const units[] = { "bytes", "KiB", "MiB", "GiB", "TiB" };
	unsigned u = 0;
	if (json_key(c, key)) {
		con_printf(c, "%lu", v);
		return;
	}
	while (u + 1 < ARRAY_SIZE(units) && v >> (10 * (u + 1)))
		u++;
	say(c, key, "%s %s", out_tenths(v, 1ULL << (10 * u)).s, units[u]);
}

struct out_num out_span(uint64_t ns)
{
	struct out_num r;
	uint64_t s = ns / NS_PER_SEC;
	if (!ns)
		sniprintf(r.s, sizeof(r.s), "-");
	else if (s >= 86400)
		sniprintf(r.s, sizeof(r.s), "%lud %02lu:%02lu:%02lu", s / 86400, s / 3600 % 24, s / 60 % 60, s % 60);
	else if (s >= 60)
		sniprintf(r.s, sizeof(r.s), "%02lu:%02lu:%02lu", s / 3600, s / 60 % 60, s % 60);
	else if (s >= 10)
		sniprintf(r.s, sizeof(r.s), "%lu.%lu s", s, ns / (NS_PER_SEC / 10) % 10);
	else if (ns >= 100 * NS_PER_MS)
		sniprintf(r.s, sizeof(r.s), "%lu ms", ns / NS_PER_MS);
	else
		sniprintf(r.s, sizeof(r.s), "%.20s ms", out_tenths(ns, NS_PER_MS).s);
	return r;
}

static void span(struct con *c, const char *key, uint64_t ns, uint64_t unit)
{
	if (json_key(c, key))
		con_printf(c, "%lu", ns / unit);
	else
		say(c, key, "%s", out_span(ns).s);
}

void out_us(struct con *c, const char *key, uint64_t ns) { span(c, key, ns, NS_PER_US); }
void out_ms(struct con *c, const char *key, uint64_t ns) { span(c, key, ns, NS_PER_MS); }

void out_time(struct con *c, const char *key, uint64_t wall_ns)
{
	time_t s = (time_t)(wall_ns / NS_PER_SEC);
	struct tm tm;
	char text[40];
	if (!wall_ns || !gmtime_r(&s, &tm))
		return;
	sniprintf(text, sizeof(text), "%04d-%02d-%02dT%02d:%02d:%02d.%03luZ", tm.tm_year + 1900, tm.tm_mon + 1,
		  tm.tm_mday, tm.tm_hour, tm.tm_min, tm.tm_sec, wall_ns % NS_PER_SEC / NS_PER_MS);
	out_str(c, key, text);
}

/* ---- what holds facts ---- */

void out_words(struct con *c, const char *key)
{
	json_open(c, key, '{');
	c->out.form = OUT_WORDS;
	c->out.none = key;
	c->out.more[0] = 0;
}

void out_words_end(struct con *c)
{
	json_close(c);
	c->out.form = OUT_LINES;
	if (!c->json && c->out.more[0])
		say(c, c->out.none, "%.*s", (int)strlen(c->out.more) - 1, c->out.more); /* not the last blank */
}

void out_list(struct con *c, const char *key) { json_open(c, key, '['); }
void out_list_end(struct con *c) { json_close(c); }

void out_table(struct con *c, const char *key, const char *columns, const char *none)
{
	json_open(c, key, '[');
	c->out.form = OUT_TABLE;
	c->out.columns = columns;
	c->out.none = none;
	c->out.rows = 0;
}

void out_table_end(struct con *c)
{
	json_close(c);
	if (!c->json && !c->out.rows && c->out.none)
		con_printf(c, "%s\n", c->out.none);
	c->out.form = OUT_LINES;
}

void out_row(struct con *c)
{
	json_open(c, NULL, '{');
	if (c->json || c->out.form != OUT_TABLE)
		return;
	if (!c->out.rows++)
		titles(c);
	clear_row(&c->out);
}

void out_row_end(struct con *c)
{
	json_close(c);
	if (c->json || c->out.form != OUT_TABLE)
		return;
	put_row(c);
	for (char *s = c->out.more, *end; (end = strchr(s, '\n')); s = end + 1) {
		*end = 0;
		con_printf(c, "%*s", INDENT, "");
		wrap(c, INDENT, s);
	}
}

void out_unwind(struct con *c)
{
	while (c->out.depth > 1)
		close_last(c);
	c->out.form = OUT_LINES;
}

void out_end(struct con *c)
{
	if (c->json) {
		begin(c);
		out_unwind(c);
		close_last(c);
		con_printf(c, "\n");
	}
	c->out = (struct out){ .depth = 0 };
}

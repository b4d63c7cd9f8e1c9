/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * JSON out (RFC 8259): commas and escapes. Text is taken as bytes; what is not ASCII is written as \u00XX, so output is
 * ASCII.
 */
#include "kernel/console.h"
#include <string.h>

static void put_string(struct con *c, const char *s)
{
	con_printf(c, "\"");
	while (*s) {
		size_t n = 0; /* a run that needs no escape */
		while (s[n] >= ' ' && s[n] < 0x7f && s[n] != '"' && s[n] != '\\')
			n++;
		if (n)
			c->write(c, s, n);
		s += n;
		if (!*s)
			break;
		if (*s == '"' || *s == '\\')
			con_printf(c, "\\%c", *s);
		else
			con_printf(c, "\\u%04x", (unsigned char)*s);
		s++;
	}
	con_printf(c, "\"");
}

static void next(struct json *j, const char *key)
{
	if (j->comma)
		con_printf(j->c, ",");
	j->comma = true;
	if (key) {
		put_string(j->c, key);
		con_printf(j->c, ":");
	}
}

static void open_with(struct json *j, const char *key, const char *bracket)
{
	next(j, key);
	con_printf(j->c, "%s", bracket);
	j->comma = false;
	j->depth++;
}

static void close_with(struct json *j, const char *bracket)
{
	BUG_ON(j->depth == 0);
	con_printf(j->c, "%s", bracket);
	j->comma = true;
	j->depth--;
}

void json_begin(struct json *j, struct con *c)
{
	*j = (struct json){ .c = c };
	open_with(j, NULL, "{");
}

void json_end(struct json *j)
{
	close_with(j, "}\n");
	BUG_ON(j->depth != 0);
}

void json_obj(struct json *j, const char *key) { open_with(j, key, "{"); }
void json_obj_end(struct json *j) { close_with(j, "}"); }
void json_arr(struct json *j, const char *key) { open_with(j, key, "["); }
void json_arr_end(struct json *j) { close_with(j, "]"); }

void json_str(struct json *j, const char *key, const char *v)
{
	next(j, key);
	put_string(j->c, v);
}

void json_u64(struct json *j, const char *key, uint64_t v)
{
	next(j, key);
	con_printf(j->c, "%lu", v);
}

void json_i64(struct json *j, const char *key, int64_t v)
{
	next(j, key);
	con_printf(j->c, "%ld", v);
}

void json_bool(struct json *j, const char *key, bool v)
{
	next(j, key);
	con_printf(j->c, v ? "true" : "false");
}

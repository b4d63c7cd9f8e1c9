/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What may follow a command's words is written once, as the operator reads it, and checked, completed and explained
 * from that: "NAME to PEER [--max-downtime MS] [on|off]". Capitals stand for the operator's word, small letters for
 * themselves, brackets for what may be left out. Options may stand anywhere. Pure.
 */
#pragma once
#include "kernel/console.h"

struct usage_word {
	const char *s; /* not NUL-terminated */
	size_t n;      /* 0: there is no more */
	bool optional;
	bool option, takes_value; /* --x; --x VALUE */
	bool literal;             /* one of small|words */
	unsigned depth;           /* usage_next's */
};
/* The next word after p, which begins as args. w: zeroed at first. */
const char *usage_next(const char *p, struct usage_word *w);
/* An option or an argument of args, by its place among them. */
bool usage_get(const char *args, bool option, unsigned i, struct usage_word *w);
/*
 * Sort what was typed: options to c, arguments to out (room for argc), whose number is returned; or -EINVAL with what
 * is wrong, in words.
 */
int usage_bind(struct con *c, const char *args, int argc, char **argv, char **out, struct why *w);

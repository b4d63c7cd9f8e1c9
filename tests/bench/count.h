/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Counts instructions: a child process does one thing after the other, and its parent steps it through (ptrace). Each
 * instruction counts once, a repeated one too (REP MOVSB).
 */
#pragma once
#include <stddef.h>

struct counted {
	const char *program;
	size_t n;
	const char *(*name)(size_t i);
	unsigned (*times)(size_t i); /* what is printed is so many times what was counted; NULL: once */
	void (*setup)(void);         /* in the child, uncounted; NULL: nothing */
	void (*prepare)(size_t i);   /* the same, before each; NULL: nothing */
	int (*run)(size_t i);        /* counted; 0: it is done */
};
/* Prints a table, or with --json what tests/rig/bench.py reads; main()'s result. */
int count_main(int argc, char **argv, const struct counted *c);

/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What a guest says on its serial console, as far as an operator's terminal may see it: text, colours and the cursor's
 * moves. A terminal can be made to answer (DSR, DA, ENQ, titles), to copy, print or send what is on it, to be deaf, and
 * to take bytes up to an end that never comes; what does that is left out. Control functions are those of ECMA-48 and
 * of xterm's list ("XTerm Control Sequences"). The terminal is one for UTF-8. Pure.
 */
#pragma once
#include "kernel/base/bits.h"

#define TERM_FILTER_SEQ 32 /* bytes: a longer control sequence is left out */
struct term_filter {       /* zeros: at the start */
	unsigned state;
	unsigned n, want; /* bytes in seq; of a character those to come, of a string those that came */
	uint8_t seq[TERM_FILTER_SEQ];
};
/* n bytes of the guest's: what of them, and of what was held back, is to be shown; at most TERM_FILTER_OUT(n). */
#define TERM_FILTER_OUT(n) ((n) + TERM_FILTER_SEQ)
size_t term_filter(struct term_filter *f, const uint8_t *in, size_t n, char *out);
/* Bytes are missing here: what was begun is dropped. */
void term_filter_gap(struct term_filter *f);
/* What makes a terminal as it was after what the filter lets through; and before it, after what it does not. */
extern const char term_filter_reset[], term_filter_reset_raw[];

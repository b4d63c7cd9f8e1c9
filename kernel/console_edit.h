/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The line editor: bytes from a terminal in, a line out. Pure: it draws nothing itself; edit_render tells what to send
 * so that the terminal's current row shows prompt, text and cursor. Lines longer than the row scroll sideways.
 */
#pragma once
#include "kernel/base/bits.h"

#define EDIT_LINE    512
#define EDIT_HISTORY 32
#define EDIT_COLUMNS 80
#define EDIT_RENDER  (EDIT_COLUMNS + 32) /* most that edit_render writes, with the NUL */

enum edit_result {
	EDIT_NONE, /* nothing to show */
	EDIT_ECHO, /* one character came at the end: sending that byte shows it */
	EDIT_REDRAW,
	EDIT_BELL,   /* that key is lost, and the line with it */
	EDIT_DONE,   /* Enter: edit->line is the line, unless edit->lost */
	EDIT_CANCEL, /* ^C: dropped */
	EDIT_CLEAR,  /* ^L: clear the screen and redraw */
	EDIT_TAB,    /* complete the word before edit->cur */
};

struct edit {
	char prompt[48];
	char line[EDIT_LINE]; /* NUL-terminated */
	unsigned len, cur;
	char history[EDIT_HISTORY][EDIT_LINE]; /* line n at n % EDIT_HISTORY */
	unsigned nhistory, at;                 /* at == nhistory: the new line, else the one recalled */
	char draft[EDIT_LINE];                 /* the new line, while an old one is shown */
	unsigned char escape;                  /* 0, or the introducer that came last */
	unsigned param;                        /* number in an escape sequence */
	bool after_cr;
	/* A key was no ASCII character or did not fit: the line, or the draft, is not what was meant. */
	bool lost, draft_lost;
};

/* A password, which is not shown. Zeros: an empty one. */
#define EDIT_WORD 64
struct edit_word {
	char s[EDIT_WORD + 1]; /* NUL-terminated; what does not fit is dropped, */
	unsigned n;            /* and counted */
};
enum edit_result edit_word_key(struct edit_word *w, unsigned char c); /* EDIT_DONE, EDIT_CANCEL, EDIT_NONE */

void edit_init(struct edit *e);
void edit_begin(struct edit *e, const char *prompt); /* an empty line */
enum edit_result edit_key(struct edit *e, unsigned char c);
void edit_insert(struct edit *e, const char *s); /* as if typed */
/* What redraws the row, NUL-terminated. Returns its length. */
unsigned edit_render(const struct edit *e, char out[EDIT_RENDER]);

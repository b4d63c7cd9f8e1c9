/* SPDX-License-Identifier: BSD-2-Clause */
/* The line editor (console_edit.h): VT100 keys and the usual control characters. */
#include "kernel/console_edit.h"
#include <stdio.h>
#include <string.h>

#define CTRL(c) ((c)&0x1f)
enum { ESC = 27, DEL = 127 };

void edit_init(struct edit *e) { memset(e, 0, sizeof(*e)); }

void edit_begin(struct edit *e, const char *prompt)
{
	sniprintf(e->prompt, sizeof(e->prompt), "%s", prompt);
	e->line[0] = 0;
	e->len = e->cur = 0;
	e->at = e->nhistory;
	e->escape = 0;
	e->lost = false;
}

static void erase(struct edit *e, unsigned from, unsigned to)
{
	memmove(e->line + from, e->line + to, e->len - to + 1);
	e->len -= to - from;
	e->cur = from;
	e->lost &= e->len > 0; /* begun anew */
}

void edit_insert(struct edit *e, const char *s)
{
	e->lost |= strlen(s) > EDIT_LINE - 1 - e->len;
	for (; *s && e->len < EDIT_LINE - 1; s++) {
		memmove(e->line + e->cur + 1, e->line + e->cur, e->len - e->cur + 1);
		e->line[e->cur++] = *s;
		e->len++;
	}
}

/* Oldest line that is still there. */
static unsigned oldest(const struct edit *e) { return e->nhistory > EDIT_HISTORY ? e->nhistory - EDIT_HISTORY : 0; }

static enum edit_result recall(struct edit *e, int step)
{
	if ((step < 0 && e->at == oldest(e)) || (step > 0 && e->at == e->nhistory))
		return EDIT_NONE;
	if (e->at == e->nhistory) {
		memcpy(e->draft, e->line, EDIT_LINE);
		e->draft_lost = e->lost;
	}
	e->at += (unsigned)step;
	e->lost = e->at == e->nhistory && e->draft_lost;
	memcpy(e->line, e->at == e->nhistory ? e->draft : e->history[e->at % EDIT_HISTORY], EDIT_LINE);
	e->len = e->cur = (unsigned)strlen(e->line);
	return EDIT_REDRAW;
}

static void remember(struct edit *e)
{
	if (e->len == 0 || (e->nhistory && !strcmp(e->history[(e->nhistory - 1) % EDIT_HISTORY], e->line)))
		return;
	memcpy(e->history[e->nhistory++ % EDIT_HISTORY], e->line, EDIT_LINE);
}

static enum edit_result move_to(struct edit *e, unsigned cur)
{
	if (cur == e->cur)
		return EDIT_NONE;
	e->cur = cur;
	return EDIT_REDRAW;
}

static enum edit_result delete_at(struct edit *e)
{
	if (e->cur == e->len)
		return EDIT_NONE;
	erase(e, e->cur, e->cur + 1);
	return EDIT_REDRAW;
}

/* ESC [ A, ESC O H, ESC [ 3 ~ and their like. Unknown ones are swallowed whole. */
static enum edit_result escape_key(struct edit *e, unsigned char c)
{
	if (e->escape == ESC) {
		e->escape = c == '[' || c == 'O' ? c : 0;
		e->param = 0;
		return EDIT_NONE;
	}
	if (c >= '0' && c <= '9') {
		e->param = e->param < 100 ? e->param * 10 + (c - '0') : e->param;
		return EDIT_NONE;
	}
	if (c < '@') /* ';' and other parameter bytes */
		return EDIT_NONE;
	e->escape = 0;
	switch (c) {
	case 'A': return recall(e, -1);
	case 'B': return recall(e, 1);
	case 'C': return move_to(e, MIN(e->cur + 1, e->len));
	case 'D': return move_to(e, e->cur ? e->cur - 1 : 0);
	case 'H': return move_to(e, 0);
	case 'F': return move_to(e, e->len);
	case '~':
		if (e->param == 1 || e->param == 7)
			return move_to(e, 0);
		if (e->param == 4 || e->param == 8)
			return move_to(e, e->len);
		return e->param == 3 ? delete_at(e) : EDIT_NONE;
	default: return EDIT_NONE;
	}
}

enum edit_result edit_key(struct edit *e, unsigned char c)
{
	bool after_cr = e->after_cr;
	e->after_cr = c == '\r';
	if (c == ESC) {
		e->escape = ESC;
		return EDIT_NONE;
	}
	if (e->escape && c >= ' ' && c != DEL)
		return escape_key(e, c);
	e->escape = 0;
	switch (c) {
	case '\n':
		if (after_cr)
			return EDIT_NONE;
		/* fall through */
	case '\r':
		if (!e->lost)
			remember(e);
		return EDIT_DONE;
	case '\t': return EDIT_TAB;
	case CTRL('a'): return move_to(e, 0);
	case CTRL('e'): return move_to(e, e->len);
	case CTRL('b'): return move_to(e, e->cur ? e->cur - 1 : 0);
	case CTRL('f'): return move_to(e, MIN(e->cur + 1, e->len));
	case CTRL('p'): return recall(e, -1);
	case CTRL('n'): return recall(e, 1);
	case CTRL('d'): return delete_at(e);
	case CTRL('c'): return EDIT_CANCEL;
	case CTRL('l'): return EDIT_CLEAR;
	case CTRL('k'): erase(e, e->cur, e->len); return EDIT_REDRAW;
	case CTRL('u'): erase(e, 0, e->cur); return EDIT_REDRAW;
	case CTRL('w'): {
		unsigned from = e->cur;
		while (from && e->line[from - 1] == ' ')
			from--;
		while (from && e->line[from - 1] != ' ')
			from--;
		erase(e, from, e->cur);
		return EDIT_REDRAW;
	}
	case '\b':
	case DEL:
		if (e->cur == 0)
			return EDIT_NONE;
		erase(e, e->cur - 1, e->cur);
		return EDIT_REDRAW;
	default:
		if (c < ' ')
			return EDIT_NONE;
		if (c > '~' || e->len == EDIT_LINE - 1) {
			e->lost = true;
			return EDIT_BELL;
		}
		edit_insert(e, (char[]){ (char)c, 0 });
		return e->cur == e->len && strlen(e->prompt) + e->len < EDIT_COLUMNS ? EDIT_ECHO : EDIT_REDRAW;
	}
}

enum edit_result edit_word_key(struct edit_word *w, unsigned char c)
{
	if (c == '\r' || (c == '\n' && w->n)) /* an empty word's LF belongs to the CR before */
		return EDIT_DONE;
	if (c == DEL || c == '\b')
		w->n -= w->n > 0;
	else if (c == CTRL('u') || c == CTRL('c'))
		w->n = 0;
	else if (c >= ' ' && w->n++ < EDIT_WORD)
		w->s[w->n - 1] = (char)c;
	w->s[MIN(w->n, EDIT_WORD)] = '\0';
	return c == CTRL('c') ? EDIT_CANCEL : EDIT_NONE;
}

unsigned edit_render(const struct edit *e, char out[EDIT_RENDER])
{
	/* The window starts so far into the line that the cursor is in the row. */
	unsigned width = EDIT_COLUMNS - 1 - (unsigned)strlen(e->prompt);
	unsigned start = e->cur > width ? e->cur - width : 0;
	unsigned n = MIN(e->len - start, width), back = n - (e->cur - start);
	int len = sniprintf(out, EDIT_RENDER, "\r\x1b[K%s%.*s", e->prompt, (int)n, e->line + start);
	if (back)
		len += sniprintf(out + len, EDIT_RENDER - (size_t)len, "\x1b[%uD", back);
	return (unsigned)len;
}

/* SPDX-License-Identifier: BSD-2-Clause */
/* A state machine over bytes (term_filter.h); what is not known to be harmless is left out. */
#include "vmm/term_filter.h"
#include <string.h>

#define ESC 0x1b
#define CAN 0x18
#define SUB 0x1a

enum state {
	GROUND,
	UTF8,       /* in a character of several bytes */
	ESCAPE,     /* after ESC */
	CHARSET,    /* after ESC ( or ESC ): the set's name comes */
	INTER,      /* after ESC and another intermediate byte: up to the final one, left out */
	CSI,        /* after ESC [ */
	CSI_LEFT,   /* in one that is left out */
	STRING,     /* OSC, DCS, SOS, PM, APC: up to ST or BEL, left out */
	STRING_ESC, /* after ESC in a string */
};

struct shown {
	char *p;
	size_t n;
};

static void put(struct shown *o, uint8_t c) { o->p[o->n++] = (char)c; }

static void put_seq(struct term_filter *f, struct shown *o)
{
	memcpy(o->p + o->n, f->seq, f->n);
	o->n += f->n;
	f->n = 0;
	f->state = GROUND;
}

static void drop(struct term_filter *f)
{
	f->n = 0;
	f->state = GROUND;
}

/* A parameter of seq from `at` on; the place behind it. */
static unsigned param(const struct term_filter *f, unsigned at, unsigned *v)
{
	for (*v = 0; at < f->n && f->seq[at] >= '0' && f->seq[at] <= '9'; at++)
		*v = MIN(*v * 10 + f->seq[at] - '0', 9999U);
	return at;
}

/* Modes (SM, RM): insert; and of DEC's: cursor keys, wrap, cursor shown. No reports, no other screen or width. */
static bool modes_ok(const struct term_filter *f)
{
	bool dec = f->n > 2 && f->seq[2] == '?';
	unsigned at = dec ? 3 : 2, v;
	for (;; at++) {
		at = param(f, at, &v);
		if (dec ? v != 1 && v != 7 && v != 25 : v != 4)
			return false;
		if (at == f->n)
			return true;
		if (f->seq[at] != ';')
			return false;
	}
}

/* seq is ESC [ and parameters; may it end so? */
static bool csi_ok(const struct term_filter *f, uint8_t final)
{
	if (final == 'h' || final == 'l')
		return modes_ok(f);
	for (unsigned i = 2; i < f->n; i++)
		if ((f->seq[i] < '0' || f->seq[i] > ';') || (f->seq[i] == ';' && (final == 'S' || final == 'T')))
			return false; /* private ones, intermediate bytes, and xterm's T for mice */
	/* Cursor, erasing, inserting, deleting, scrolling, tabs, SGR, margins, saving the cursor. */
	return strchr("@ABCDEFGHIJKLMPSTXZ`adefgmrsu", final);
}

static void ground(struct term_filter *f, uint8_t c, struct shown *o)
{
	if (c == ESC) {
		f->state = ESCAPE;
	} else if ((c >= ' ' && c < 0x7f) || strchr("\a\b\t\n\r", c)) {
		put(o, c);
	} else if (c >= 0xc2 && c <= 0xf4) { /* RFC 3629 */
		f->want = c < 0xe0 ? 1 : c < 0xf0 ? 2 : 3;
		f->state = UTF8;
	} else if (c >= 0x80) {
		put(o, '?'); /* C1 in eight bits, or no UTF-8 */
		return;
	}
	if (f->state != GROUND) {
		f->seq[0] = c;
		f->n = 1;
	}
}

static void utf8(struct term_filter *f, uint8_t c, struct shown *o)
{
	if ((c & 0xc0) != 0x80 || (f->n == 1 && f->seq[0] == 0xc2 && c < 0xa0)) {
		bool c1 = (c & 0xc0) == 0x80;
		drop(f);
		put(o, '?');
		if (!c1)
			ground(f, c, o);
		return;
	}
	f->seq[f->n++] = c;
	if (!--f->want)
		put_seq(f, o);
}

static void escape(struct term_filter *f, uint8_t c, struct shown *o)
{
	f->seq[f->n++] = c;
	if (c == '[')
		f->state = CSI;
	else if (strchr("]PX^_", c))
		f->state = STRING;
	else if (c == '(' || c == ')')
		f->state = CHARSET;
	else if (c >= ' ' && c < '0')
		f->state = INTER;
	else if (strchr("78DEHM=>", c))
		put_seq(f, o);
	else
		drop(f); /* RIS, DECID, locking shifts ... */
}

static void csi(struct term_filter *f, uint8_t c, struct shown *o)
{
	bool final = c >= '@' && c < 0x7f;
	if (!final && (c < ' ' || c > '?')) {
		drop(f);
	} else if (f->state == CSI_LEFT || (!final && f->n == sizeof(f->seq) - 1)) {
		f->state = final ? GROUND : CSI_LEFT;
	} else if (!final) {
		f->seq[f->n++] = c;
	} else if (csi_ok(f, c)) {
		f->seq[f->n++] = c;
		put_seq(f, o);
	} else {
		drop(f);
	}
}

/* In the middle of something a control character ends it, or has its own effect. */
static void control(struct term_filter *f, uint8_t c, struct shown *o)
{
	if (c == ESC || c == CAN || c == SUB) {
		drop(f);
		if (c == ESC)
			ground(f, c, o);
	} else if (strchr("\a\b\t\n\r", c)) {
		put(o, c);
	}
}

static void step(struct term_filter *f, uint8_t c, struct shown *o)
{
	if (!c)
		return; /* terminals pass over it, wherever it comes */
	switch ((enum state)f->state) {
	case GROUND: ground(f, c, o); return;
	case UTF8: utf8(f, c, o); return;
	case STRING:
		if (c == ESC)
			f->state = STRING_ESC;
		else if (c == '\a' || c == CAN || c == SUB)
			drop(f);
		return;
	case STRING_ESC:
		drop(f);
		if (c != '\\') { /* another sequence begins, and ends the string */
			ground(f, ESC, o);
			step(f, c, o);
		}
		return;
	case ESCAPE:
	case CHARSET:
	case INTER:
	case CSI:
	case CSI_LEFT: break;
	}
	if (c < ' ') {
		control(f, c, o);
	} else if (f->state == ESCAPE) {
		escape(f, c, o);
	} else if (f->state == CHARSET && strchr("AB0", c)) {
		f->seq[f->n++] = c;
		put_seq(f, o);
	} else if (f->state == CHARSET || f->state == INTER) {
		if (c < ' ' || c >= '0')
			drop(f);
	} else {
		csi(f, c, o);
	}
}

size_t term_filter(struct term_filter *f, const uint8_t *in, size_t n, char *out)
{
	struct shown o = { out, 0 };
	for (size_t i = 0; i < n; i++)
		step(f, in[i], &o);
	return o.n;
}

void term_filter_gap(struct term_filter *f) { drop(f); }

/* The cursor stays where it is: DECSTBM would move it. */
const char term_filter_reset[] = "\033[m\033(B\033[4l\033[?1l\033[?7h\033[?25h\0337\033[r\0338\r";

/* SPDX-License-Identifier: BSD-2-Clause */
/* A state machine over bytes (term_filter.h); what is not known to be harmless is left out. */
#include "vmm/term_filter.h"
#include <string.h>

#define ESC 0x1b
#define CAN 0x18
#define SUB 0x1a

#define STRING_MAX 4096

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

#define PARAMS_MAX 8 /* of a control sequence: minicom had an array of so many (CVE-2017-7467) */

/* seq is ESC [ and then, from `at` on, numbers of at most four digits: how many, in v; -1: it is something else. */
static int params(const struct term_filter *f, unsigned at, unsigned v[PARAMS_MAX])
{
	int n = 0;
	unsigned digits = 0;
	v[0] = 0;
	for (; at < f->n; at++) {
		uint8_t c = f->seq[at];
		if (c == ';' && n < PARAMS_MAX - 1)
			v[++n] = digits = 0;
		else if (c >= '0' && c <= '9' && digits++ < 4)
			v[n] = v[n] * 10 + c - '0';
		else
			return -1;
	}
	return n + 1;
}

/* Modes (SM, RM): insert; and of DEC's: cursor keys, wrap, cursor shown. No reports, no other screen or width. */
static bool modes_ok(const struct term_filter *f)
{
	bool dec = f->n > 2 && f->seq[2] == '?';
	unsigned v[PARAMS_MAX];
	int n = params(f, dec ? 3 : 2, v);
	for (int i = 0; i < n; i++)
		if (dec ? v[i] != 1 && v[i] != 7 && v[i] != 25 : v[i] != 4)
			return false;
	return n > 0;
}

/* SGR: no other fonts, for with 11 and 12 the Linux console shows bytes as they are, and takes 9b for CSI. */
static bool sgr_ok(const unsigned *v, int n)
{
	for (int i = 0; i < n; i++) {
		if (v[i] > 10 && v[i] < 20)
			return false;
		if ((v[i] == 38 || v[i] == 48) && i + 1 < n)
			i += v[i + 1] == 5 ? 2 : v[i + 1] == 2 ? 4 : 0; /* of 256 colours, or of 2^24 */
	}
	return true;
}

/* May it end so? */
static bool csi_ok(const struct term_filter *f, uint8_t final)
{
	unsigned v[PARAMS_MAX];
	if (final == 'h' || final == 'l')
		return modes_ok(f);
	int n = params(f, 2, v);
	if (n < 0) /* private ones, intermediate bytes, sub-parameters */
		return false;
	switch (final) {
	case 'J': return n == 1 && v[0] < 3; /* 3 is what scrolled away, which others said */
	case 'S':
	case 'T': return n == 1; /* more is xterm's, for mice */
	case 'm': return sgr_ok(v, n);
	default: /* the cursor, erasing, inserting, deleting, tabs, margins */
		return strchr("@ABCDEFGHIKLMPXZ`adefrsu", final);
	}
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

/* The second byte: no C1 control, nothing longer than need be, no surrogate, nothing past U+10FFFF. */
static bool second_ok(uint8_t first, uint8_t c)
{
	uint8_t low = first == 0xc2 || first == 0xe0 ? 0xa0 : first == 0xf0 ? 0x90 : 0x80;
	return c >= low && c <= (first == 0xed ? 0x9f : first == 0xf4 ? 0x8f : 0xbf);
}

static void utf8(struct term_filter *f, uint8_t c, struct shown *o)
{
	bool more = (c & 0xc0) == 0x80;
	if (!more || (f->n == 1 && !second_ok(f->seq[0], c))) {
		drop(f);
		put(o, '?');
		if (!more)
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
		f->state = STRING, f->want = 0;
	else if (c == '(' || c == ')')
		f->state = CHARSET;
	else if (c >= ' ' && c < '0')
		f->state = INTER;
	else if (strchr("78DEM=>", c))
		put_seq(f, o);
	else
		drop(f); /* RIS, DECID, locking shifts ... */
}

static void csi(struct term_filter *f, uint8_t c, struct shown *o)
{
	bool final = c >= '@' && c < 0x7f;
	if (c >= 0x7f) {
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

/*
 * A string, which is left out up to its end; the Linux console's palette (OSC R, OSC P and seven digits) has none.
 * After STRING_MAX bytes it is taken for text: its author may have died in it.
 */
static void string(struct term_filter *f, uint8_t c)
{
	bool first = !f->want++ && f->seq[1] == ']';
	if (c == ESC)
		f->state = STRING_ESC;
	else if (c == '\a' || c == CAN || c == SUB || (first && c == 'R') || f->want == STRING_MAX)
		drop(f);
	else if (first && c == 'P')
		f->want = STRING_MAX - 7;
}

static void step(struct term_filter *f, uint8_t c, struct shown *o)
{
	if (!c)
		return; /* terminals pass over it, wherever it comes */
	switch ((enum state)f->state) {
	case GROUND: ground(f, c, o); return;
	case UTF8: utf8(f, c, o); return;
	case STRING: string(f, c); return;
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
		if (c >= '0')
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
const char term_filter_reset[] = "\033[10m\033[m\033(B\033[4l\033[?1l\033[?7;25h\033>\0337\033[r\0338\r";
const char term_filter_reset_raw[] = "\030\033[?1000;1002;1003;1005;1006;2004l\033[?1049l\017";

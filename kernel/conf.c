/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * tern.conf into struct conf: what a good section, key and value is, and a problem with its line for all else. What a
 * value means is for the room that reads it. The grammar, line by line (blanks around each part do not count):
 *
 *	[kind] or [kind NAME]
 *	key = value
 *	# or ; at the start or after a blank: a comment to the end of the line
 *
 * There is no quoting and no continuation. (inih was tried: it hands out neither section lines nor the reason and the
 * place of an error, cuts names silently, and Debian's patch takes away its switches; working around that took more
 * lines than splitting a line does.)
 */
#include "kernel/conf.h"
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#define END_OF_TEXT 0x1a

struct parse {
	struct conf *c;
	bool in_section, skip; /* a section line was seen; it was wrong: its keys are dropped */
	bool full;
	int line;
	struct conf_entry *section; /* the one in force */
	char kind[sizeof(((struct conf_entry *)0)->kind)];
	char name[sizeof(((struct conf_entry *)0)->name)];
};

static const struct {
	const char *kind;
	bool named;
} kinds[] = { { "host", false }, { "nic", true },  { "bond", true }, { "net", true },
	      { "peer", true },  { "disk", true }, { "vm", true } };
#define KINDS "[host], [nic NAME], [bond NAME], [net NAME], [peer NAME], [disk NAME]"

/* Where a problem of that line belongs: before the first of a later line. */
static char *problem_place(struct conf *c, int line)
{
	char *p = c->problems;

	for (; *p; p = (char *)memchr(p, '\n', strlen(p)) + 1) {
		int at = 0;
		for (const char *d = p + strlen("tern.conf:"); *d >= '0' && *d <= '9'; d++)
			at = at * 10 + (*d - '0');
		if (line > 0 && (at > line || !at))
			break;
	}
	return p;
}

void conf_problem(struct conf *c, int line, const char *fmt, ...)
{
	static const char more[] = "tern.conf: there are more problems than fit here\n";
	const size_t more_len = sizeof(more) - 1, n = strlen(c->problems);
	char text[360], *at;
	size_t len;
	va_list ap;

	if (n >= more_len && !strcmp(c->problems + n - more_len, more))
		return;
	if (line > 0)
		sniprintf(text, sizeof(text), "tern.conf:%d: ", line);
	else
		strcpy(text, "tern.conf: ");
	len = strlen(text);
	va_start(ap, fmt);
	vsniprintf(text + len, sizeof(text) - 1 - len, fmt, ap); /* cut if too long, with room for the newline */
	va_end(ap);
	strcat(text, "\n");
	len = strlen(text);
	if (n + len + more_len >= sizeof(c->problems)) {
		memcpy(c->problems + n, more, sizeof(more));
		return;
	}
	at = problem_place(c, line);
	memmove(at + len, at, strlen(at) + 1);
	memcpy(at, text, len);
}

/* A piece of the text, and its start as printf's "%.*s" wants it. */
struct span {
	const char *p;
	size_t len;
};
#define SHOW(s) (int)MIN((s).len, 40), (s).p

static bool is_blank(char ch) { return ch == ' ' || ch == '\t' || ch == '\r'; }

static struct span trim(const char *p, const char *end)
{
	while (p < end && is_blank(*p))
		p++;
	while (end > p && is_blank(end[-1]))
		end--;
	return (struct span){ p, (size_t)(end - p) };
}

/* The span into a field of size bytes, if it fits with its NUL. */
static bool fits(char *to, size_t size, const struct span *s)
{
	if (s->len >= size)
		return false;
	memcpy(to, s->p, s->len);
	to[s->len] = '\0';
	return true;
}

bool conf_is_word(const char *s, size_t len)
{
	for (size_t i = 0; i < len; i++)
		if (!((s[i] >= 'a' && s[i] <= 'z') || (s[i] >= 'A' && s[i] <= 'Z') || (s[i] >= '0' && s[i] <= '9') ||
		      s[i] == '_' || s[i] == '-' || s[i] == '.'))
			return false;
	return len > 0;
}

static const struct conf_entry *find(const struct conf *c, const char *kind, const char *name, const char *key)
{
	for (unsigned i = 0; i < c->n; i++) {
		const struct conf_entry *e = &c->e[i];

		if (!strcmp(e->kind, kind) && !strcmp(e->name, name ? name : "") && !strcmp(e->key, key))
			return e;
	}
	return NULL;
}

/* Has what is not a comment that word in it, in small letters or large ones? Its first letter comes in it only once. */
static bool has_word(const struct span *line, const char *word)
{
	size_t n = 0;

	for (size_t i = 0; i < line->len && word[n]; i++) {
		char ch = line->p[i];
		if ((ch == '#' || ch == ';') && i && is_blank(line->p[i - 1]))
			break;
		if (ch >= 'A' && ch <= 'Z')
			ch = (char)(ch + ('a' - 'A'));
		n = ch == word[n] ? n + 1 : ch == word[0];
	}
	return !word[n];
}

/* This line cannot be kept: its section is not what was written, and there may be a [peer] less. */
static void lose(struct parse *p, const struct span *line)
{
	if (p->in_section && !p->skip)
		p->section->torn = true;
	p->c->lost_peer |= has_word(line, "peer") || memchr(line->p, '\0', line->len);
}

/* Append an entry of the section in force; NULL if there is no room. */
static struct conf_entry *add(struct parse *p)
{
	struct conf_entry *e;

	if (p->c->n == CONF_MAX_ENTRIES) {
		if (!p->full)
			conf_problem(p->c, p->line,
				     "more than %d sections and keys; this line and the rest are ignored",
				     CONF_MAX_ENTRIES);
		p->full = true;
		p->c->lost_peer = true;
		return NULL;
	}
	e = &p->c->e[p->c->n++];
	memset(e, 0, sizeof(*e));
	memcpy(e->kind, p->kind, sizeof(e->kind));
	memcpy(e->name, p->name, sizeof(e->name));
	e->line = p->line;
	return e;
}

/* A line that starts with '['. Until all of it is well, the keys after it belong to nobody. */
static void take_section(struct parse *p, const struct span *line)
{
	const char *close = memchr(line->p, ']', line->len), *end = line->p + line->len, *gap;
	struct span all, kind, name, rest;
	const struct conf_entry *e;
	size_t i;

	p->in_section = true;
	p->skip = true;
	rest = close ? trim(close + 1, end) : (struct span){ end, 0 };
	all = trim(line->p + 1, close ? close : end);
	if (!close || !all.len || (rest.len && *rest.p != ';' && *rest.p != '#')) {
		conf_problem(p->c, p->line, "a section line must read " KINDS " or [vm NAME]");
		lose(p, line);
		return;
	}
	for (gap = all.p; gap < close && !is_blank(*gap); gap++)
		;
	kind = (struct span){ all.p, (size_t)(gap - all.p) };
	name = trim(gap, close);
	for (i = 0; i < ARRAY_SIZE(kinds); i++)
		if (strlen(kinds[i].kind) == kind.len && !memcmp(kinds[i].kind, kind.p, kind.len))
			break;
	if (i == ARRAY_SIZE(kinds)) {
		conf_problem(p->c, p->line, "unknown section [%.*s], ignored; there are " KINDS ", [vm NAME]",
			     SHOW(all));
	} else if (!kinds[i].named && name.len) {
		conf_problem(p->c, p->line, "section [%.*s] takes no name; ignored: write [%s]", SHOW(all),
			     kinds[i].kind);
	} else if (kinds[i].named && !name.len) {
		conf_problem(p->c, p->line, "section [%s] needs a name; ignored: write [%s NAME]", kinds[i].kind,
			     kinds[i].kind);
	} else if (name.len && !conf_is_word(name.p, name.len)) {
		conf_problem(p->c, p->line,
			     "the name '%.*s' may hold letters, digits, '_', '-' and '.' only; section ignored",
			     SHOW(name));
	} else if (!strcmp(kinds[i].kind, "vm") && name.len == 3 && !memcmp(name.p, "all", 3)) {
		conf_problem(p->c, p->line,
			     "no VM can be called 'all': commands mean each VM by that; section ignored");
	} else if (!fits(p->name, sizeof(p->name), &name)) {
		conf_problem(p->c, p->line, "the name '%.*s...' is longer than %d characters; section ignored",
			     SHOW(name), (int)sizeof(p->name) - 1);
	} else {
		strcpy(p->kind, kinds[i].kind);
		e = find(p->c, p->kind, p->name, "");
		if (e)
			conf_problem(p->c, p->line,
				     "section [%.*s] is there already in line %d; its keys are added to that one",
				     SHOW(all), e->line);
		p->section = e ? &p->c->e[e - p->c->e] : add(p);
		p->skip = !p->section;
	}
	p->c->lost_peer |= p->skip && has_word(&all, "peer");
}

static void take_key(struct parse *p, const struct span *line)
{
	const char *equals = memchr(line->p, '=', line->len), *end = line->p + line->len;
	struct span key, value;
	const struct conf_entry *old;
	struct conf_entry *e;
	char name[sizeof(e->key)];

	if (!equals) {
		conf_problem(p->c, p->line, "not understood; expected 'key = value', a [section] or a # comment");
		lose(p, line);
		return;
	}
	key = trim(line->p, equals);
	for (const char *s = equals + 1; s < end; s++)
		if ((*s == ';' || *s == '#') && is_blank(s[-1]))
			end = s;
	value = trim(equals + 1, end);
	/* Little of what can be no key: it may be a secret that lost its own. */
	bool can_be = conf_is_word(key.p, key.len) && key.len < sizeof(name);
	int shown = (int)(can_be ? key.len : MIN(key.len, 4UL));
	if (!p->in_section) {
		conf_problem(p->c, p->line, "'%.*s' stands before the first section; ignored", shown, key.p);
	} else if (p->skip) {
		/* The section's own line has been reported. */
	} else if (!conf_is_word(key.p, key.len) || !fits(name, sizeof(name), &key)) {
		conf_problem(p->c, p->line, "'%.*s' cannot be a key (1 to %d letters, digits, '_', '-', '.'); ignored",
			     shown, key.p, (int)sizeof(name) - 1);
		lose(p, line);
	} else if (value.len >= sizeof(e->value)) {
		conf_problem(p->c, p->line, "%s: the value is longer than %d characters; ignored", name,
			     (int)sizeof(e->value) - 1);
		lose(p, line);
	} else if ((old = find(p->c, p->kind, p->name, name)) != NULL) {
		conf_problem(p->c, p->line, "%s is set already in line %d; this line is ignored", name, old->line);
	} else if ((e = add(p)) != NULL) {
		strcpy(e->key, name);
		(void)fits(e->value, sizeof(e->value), &value);
	} else {
		lose(p, line);
	}
}

static void take_line(struct parse *p, const struct span *line)
{
	size_t i;

	if (!line->len || *line->p == '#' || *line->p == ';')
		return;
	p->c->locks |= has_word(line, CONF_CONSOLE_PASSWORD) ||
		       memchr(line->p, '\0', line->len); /* of UTF-16 nothing is understood */
	for (i = 0; i < line->len; i++)
		if (((unsigned char)line->p[i] < ' ' && line->p[i] != '\t') || line->p[i] == 0x7f)
			break;
	if (i < line->len) {
		conf_problem(p->c, p->line, "byte 0x%02x is not text; line ignored", (unsigned char)line->p[i]);
		lose(p, line);
		if (*line->p == '[')
			p->in_section = p->skip = true;
	} else if (*line->p == '[') {
		take_section(p, line);
	} else {
		take_key(p, line);
	}
}

/* DOS ends its files with END_OF_TEXT, and pads. NULs alone may be what became of the rest of a file. */
static const char *text_end(const char *text, const char *end)
{
	const char *ends = end;

	for (; end > text && (is_blank(end[-1]) || end[-1] == '\n' || !end[-1] || end[-1] == END_OF_TEXT); end--)
		if (end[-1] == END_OF_TEXT)
			ends = end - 1;
	return ends;
}

int conf_parse(struct conf *c, const char *text, size_t len)
{
	struct parse p = { .c = c };
	const char *end = text + len, *eol;
	struct span line;

	c->n = 0;
	c->locks = c->lost_peer = false;
	c->problems[0] = '\0';
	if (len >= 3 && !memcmp(text, "\xef\xbb\xbf", 3))
		text += 3; /* UTF-8 byte order mark */
	end = text_end(text, end);
	for (; text < end; text = eol < end ? eol + 1 : end) {
		eol = memchr(text, '\n', (size_t)(end - text));
		eol = eol ? eol : end;
		line = trim(text, eol);
		p.line++;
		take_line(&p, &line);
	}
	return c->problems[0] ? -EINVAL : 0;
}

const char *conf_get(const struct conf *c, const char *kind, const char *name, const char *key)
{
	const struct conf_entry *e = find(c, kind, name, key);

	return e ? e->value : NULL;
}

int conf_line(const struct conf *c, const char *kind, const char *name, const char *key)
{
	const struct conf_entry *e = find(c, kind, name, key);

	if (!e)
		e = find(c, kind, name, "");
	return e ? e->line : 0;
}

bool conf_is_torn(const struct conf *c, const char *kind, const char *name)
{
	const struct conf_entry *e = find(c, kind, name, "");

	return e && e->torn;
}

const char *conf_section(const struct conf *c, const char *kind, unsigned i)
{
	for (unsigned k = 0; k < c->n; k++)
		if (!c->e[k].key[0] && !strcmp(c->e[k].kind, kind) && i-- == 0)
			return c->e[k].name;
	return NULL;
}

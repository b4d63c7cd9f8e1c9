/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Commands: the table, splitting a line into words, running it, completing it. The terminal side is console_serial.c.
 */
#include "kernel/console.h"
#include "kernel/console_usage.h"
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CMDS_MAX 64
#define LINE_MAX 512

static const struct console_cmd *cmds[CMDS_MAX]; /* sorted by name */
static unsigned ncmds;

void console_set_table(const struct console_cmd *first, const struct console_cmd *end)
{
	for (ncmds = 0; first < end && ncmds < CMDS_MAX; first++, ncmds++) {
		unsigned i = ncmds;
		for (; i && strcmp(cmds[i - 1]->name, first->name) > 0; i--)
			cmds[i] = cmds[i - 1];
		cmds[i] = first;
	}
	BUG_ON(first != end);
}

/* Is this `names`, a|b|c, or one of them; or does one begin so? */
static bool named(const char *names, const char *word, bool whole)
{
	size_t n = strlen(word);
	for (const char *p = names; n && *p; p += strcspn(p, "|"), p += *p == '|')
		if (!strncmp(p, word, n) && (!whole || strcspn(p, "|") == n))
			return true;
	return false;
}

/* By its name, or what only its name begins with; then *whole becomes false. */
static const struct console_cmd *find(const char *name, bool *whole)
{
	const struct console_cmd *found = NULL;
	unsigned n = 0;
	for (unsigned i = 0; i < ncmds; i++) {
		if (!strcmp(cmds[i]->name, name))
			return cmds[i];
		if (cmds[i]->help[0] && named(cmds[i]->name, name, false) && ++n)
			found = cmds[i];
	}
	*whole = false;
	return n == 1 ? found : NULL;
}

/* The same of a command's verbs. */
static const struct con_sub *find_sub(const struct console_cmd *cmd, const char *verb, bool *whole)
{
	const struct con_sub *found = NULL;
	unsigned n = 0;
	for (const struct con_sub *s = cmd->subs; s < cmd->subs + cmd->nsubs; s++) {
		if (named(s->name, verb, true))
			return s;
		if (named(s->name, verb, false) && ++n)
			found = s;
	}
	*whole = false;
	return n == 1 ? found : NULL;
}

static bool is_bare(const struct con_sub *s)
{
	size_t n = strlen(s->name);
	return !n || s->name[n - 1] == '|';
}

/* "vm start NAME [--force]" */
struct usage {
	char s[160];
};
static struct usage usage(const struct console_cmd *cmd, const struct con_sub *s)
{
	struct usage u;
	int n = (int)strcspn(s->name, "|");
	sniprintf(u.s, sizeof(u.s), "%s%s%.*s%s%s", cmd->name, n ? " " : "", n, s->name, s->args[0] ? " " : "",
		  s->args);
	return u;
}

void con_vprintf(struct con *c, const char *fmt, va_list ap)
{
	char buf[256];
	va_list again;
	va_copy(again, ap);
	int n = vsniprintf(buf, sizeof(buf), fmt, ap);
	if (n > 0 && (size_t)n >= sizeof(buf)) {
		char *big = malloc((size_t)n + 1);
		if (big) {
			vsniprintf(big, (size_t)n + 1, fmt, again);
			c->write(c, big, (size_t)n);
			free(big);
		} else {
			c->write(c, buf, sizeof(buf) - 1);
		}
	} else if (n > 0) {
		c->write(c, buf, (size_t)n);
	}
	va_end(again);
}

void con_printf(struct con *c, const char *fmt, ...)
{
	va_list ap;
	va_start(ap, fmt);
	con_vprintf(c, fmt, ap);
	va_end(ap);
}

int con_error(struct con *c, int err, const char *fmt, ...)
{
	char text[400];
	va_list ap;
	va_start(ap, fmt);
	vsniprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	if (c->json) {
		out_unwind(c);
		out_words(c, "error");
		out_str(c, "code", err_code(err));
		out_str(c, "text", text);
		out_words_end(c);
	} else {
		con_printf(c, "error: %s\n", text);
	}
	return err;
}

int console_split(char *line, char **argv, unsigned max)
{
	unsigned argc = 0;
	char *in = line, *out = line;
	for (;;) {
		while (*in == ' ' || *in == '\t')
			in++;
		if (!*in)
			return (int)argc;
		if (argc == max)
			return -E2BIG;
		argv[argc++] = out;
		char quote = 0;
		while (*in && (quote || (*in != ' ' && *in != '\t'))) {
			char ch = *in++;
			if (quote ? ch == quote : ch == '"' || ch == '\'')
				quote = quote ? 0 : ch;
			else if (ch == '\\' && quote != '\'' && *in)
				*out++ = *in++;
			else
				*out++ = ch;
		}
		if (quote)
			return -EILSEQ;
		if (*in)
			in++;
		*out++ = 0; /* never past `in`: a word is followed by a blank or the end */
	}
}

static int show_help(struct con *c, const struct console_cmd *cmd, const char *verb)
{
	bool whole;
	const struct con_sub *only = verb ? find_sub(cmd, verb, &whole) : NULL;
	out_str(c, "name|", cmd->name);
	out_str(c, "help|", cmd->help);
	out_list(c, "usage");
	for (const struct con_sub *s = cmd->subs; s < cmd->subs + cmd->nsubs; s++) {
		if (only && s != only)
			continue;
		out_row(c);
		out_str(c, "usage|", usage(cmd, s).s);
		out_str(c, "help|", s->help);
		out_row_end(c);
		out_text(c, "%s\n    %s\n", usage(cmd, s).s, s->help);
	}
	out_list_end(c);
	if (!only)
		out_text(c, "for example: %s\n", cmd->example);
	return 0;
}

/* Nothing that the command does has this verb. */
static int say_what(struct con *c, const struct console_cmd *cmd, const char *verb)
{
	char verbs[200] = "";
	struct usage_word u;
	size_t n = 0;
	for (const struct con_sub *s = cmd->subs; s < cmd->subs + cmd->nsubs && n < sizeof(verbs) / 2; s++) {
		size_t len = strcspn(s->name, "|");
		if (len)
			n += (size_t)sniprintf(verbs + n, sizeof(verbs) - n, ", %.*s", (int)len, s->name);
		if (is_bare(s) && usage_get(s->args, false, 0, &u))
			n += (size_t)sniprintf(verbs + n, sizeof(verbs) - n, ", %.*s", (int)u.n, u.s);
	}
	return con_error(c, -EINVAL, "%s: %s%s one of %s. `%s help` says more", cmd->name,
			 verb ? verb : "say what:", verb ? " is not" : "", verbs + 2, cmd->name);
}

/* Without a verb if that is right, else with one. */
static int dispatch(struct con *c, const struct console_cmd *cmd, bool whole, int argc, char **argv)
{
	const struct con_sub *sub = NULL;
	char *args[CONSOLE_ARGS + 1] = { argv[0] };
	struct why w = { "" };
	int n = -EINVAL;
	for (const struct con_sub *s = cmd->subs; n < 0 && s < cmd->subs + cmd->nsubs; s++)
		if (is_bare(s)) {
			n = usage_bind(c, s->args, argc - 1, argv + 1, args + 1, &w);
			sub = n >= 0 || cmd->nsubs == 1 || argc > 2 ? s : NULL;
		}
	const struct con_sub *verb = n < 0 && argc > 1 ? find_sub(cmd, argv[1], &whole) : NULL;
	if (verb) {
		sub = verb;
		w.text[0] = 0;
		args[0] = argv[1];
		n = usage_bind(c, sub->args, argc - 2, argv + 2, args + 1, &w);
	}
	if (!sub)
		return say_what(c, cmd, argc > 1 ? argv[1] : NULL);
	if (n < 0)
		return con_error(c, n, "%s: %s. Usage: %s", cmd->name, w.text, usage(cmd, sub).s);
	if (sub->destroys && !whole)
		return con_error(c, -EINVAL, "%s: what destroys is typed in full: %s", argv[0], usage(cmd, sub).s);
	return sub->fn(c, n + 1, args);
}

static int run(struct con *c, char *line)
{
	char *argv[CONSOLE_ARGS];
	int n = console_split(line, argv, ARRAY_SIZE(argv));
	int argc = 0;
	bool whole = true;
	for (int i = 0; i < n; i++) {
		if (!strcmp(argv[i], "--json"))
			c->json = true;
		else
			argv[argc++] = argv[i];
	}
	if (n == -EILSEQ)
		return con_error(c, n, "a quote is not closed. Add the missing \" or '");
	if (n < 0)
		return con_error(c, n, "more than %u words in a line", CONSOLE_ARGS);
	if (argc == 0)
		return 0;
	const struct console_cmd *cmd = find(argv[0], &whole);
	if (!cmd)
		return con_error(c, -ENOENT, "%s: no such command. `help` lists them", argv[0]);
	if (argc > 1 && (named("?|--help", argv[argc - 1], true) || (argc == 2 && named("help", argv[1], true))))
		return show_help(c, cmd, argc > 2 ? argv[1] : NULL);
	return dispatch(c, cmd, whole, argc, argv);
}

int console_run_line(struct con *c, char *line)
{
	c->json = false;
	int err = run(c, line);
	out_end(c);
	c->json = false;
	return err;
}

/* ---- completion ---- */

struct candidates {
	const char *prefix;
	size_t prefix_len;
	char common[64]; /* what all that match have in common */
	unsigned n;
	void (*each)(void *arg, const char *word);
	void *arg;
};

static void consider(void *arg, const char *word)
{
	struct candidates *k = arg;
	if (strncmp(word, k->prefix, k->prefix_len) != 0 || strlen(word) >= sizeof(k->common))
		return;
	if (k->n++ == 0) {
		sniprintf(k->common, sizeof(k->common), "%s", word);
	} else {
		size_t i = 0;
		while (k->common[i] && k->common[i] == word[i])
			i++;
		k->common[i] = 0;
	}
	if (k->each)
		k->each(k->arg, word);
}

/* What may stand as argument i of this, or, for a word that begins like one, its options. */
static void consider_args(struct candidates *k, const struct con_sub *s, unsigned i)
{
	struct usage_word u;
	char word[32];
	bool option = k->prefix[0] == '-';
	for (unsigned o = option ? 0 : i; usage_get(s->args, option, o, &u); o++) {
		for (size_t n; u.n && (option || u.literal); u.s += n, u.n -= n) {
			n = strcspn(u.s, "| ]");
			sniprintf(word, sizeof(word), "%.*s", (int)n, u.s);
			consider(k, word);
			n = MIN(n + 1, u.n);
		}
		if (!option && u.n && s->words)
			s->words(u.s, consider, k);
		if (!option)
			break;
	}
}

static void consider_cmd(struct candidates *k, const struct console_cmd *cmd, int argc, char **argv)
{
	unsigned nargs = 0; /* that come before, the verb aside */
	bool whole = true;
	for (int i = 1; i + 1 < argc; i++)
		nargs += strncmp(argv[i], "--", 2) != 0;
	for (const struct con_sub *s = cmd->subs; s < cmd->subs + cmd->nsubs; s++) {
		char word[32];
		sniprintf(word, sizeof(word), "%.*s", (int)strcspn(s->name, "|"), s->name);
		if (argc == 2 && word[0])
			consider(k, word);
		if (is_bare(s))
			consider_args(k, s, nargs);
	}
	const struct con_sub *sub = argc > 2 ? find_sub(cmd, argv[1], &whole) : NULL;
	if (sub)
		consider_args(k, sub, nargs - 1);
	if (k->prefix[0] == '-')
		consider(k, "--json");
}

static void for_each_name(const char *what unused, void (*add)(void *arg, const char *word), void *arg)
{
	for (unsigned i = 0; i < ncmds; i++)
		add(arg, cmds[i]->name);
}

unsigned console_complete(const char *text, size_t len, char *insert, size_t size,
			  void (*each)(void *arg, const char *word), void *arg)
{
	char buf[LINE_MAX], none[1] = "";
	char *argv[CONSOLE_ARGS];
	insert[0] = 0;
	if (len >= sizeof(buf))
		return 0;
	memcpy(buf, text, len);
	buf[len] = 0;
	int argc = console_split(buf, argv, ARRAY_SIZE(argv) - 1);
	if (argc < 0)
		return 0;
	if (argc == 0 || text[len - 1] == ' ')
		argv[argc++] = none;
	struct candidates k = {
		.prefix = argv[argc - 1], .prefix_len = strlen(argv[argc - 1]), .each = each, .arg = arg
	};
	bool whole;
	const struct console_cmd *cmd = argc > 1 ? find(argv[0], &whole) : NULL;
	if (argc == 1)
		for_each_name(NULL, consider, &k);
	else if (cmd)
		consider_cmd(&k, cmd, argc, argv);
	if (k.n)
		sniprintf(insert, size, "%s%s", k.common + k.prefix_len, k.n == 1 ? " " : "");
	return k.n;
}

/* ---- help ---- */

static int cmd_help(struct con *c, int argc, char **argv)
{
	bool whole;
	const struct console_cmd *cmd = argc > 1 ? find(argv[1], &whole) : NULL;
	if (cmd)
		return show_help(c, cmd, argc > 2 ? argv[2] : NULL);
	if (argc > 1)
		return con_error(c, -ENOENT, "%s: no such command. `help` lists them", argv[1]);
	out_list(c, "commands");
	for (unsigned i = 0; i < ncmds; i++) {
		if (!cmds[i]->help[0])
			continue;
		out_row(c);
		out_str(c, "name|", cmds[i]->name);
		out_str(c, "help|", cmds[i]->help);
		out_row_end(c);
		out_text(c, "%-10s %s\n", cmds[i]->name, cmds[i]->help);
	}
	out_list_end(c);
	out_text(c, "`COMMAND help` shows its arguments; every command takes --json.\n");
	return 0;
}
CONSOLE_CMD(help, "[COMMAND [VERB]]", "what can be typed here", "help vm", cmd_help, for_each_name);

/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Commands: the table, splitting a line into words, running it, completing it. The terminal side is console_serial.c.
 */
#include "kernel/console.h"
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

static const struct console_cmd *find(const char *name)
{
	for (unsigned i = 0; i < ncmds; i++)
		if (!strcmp(cmds[i]->name, name))
			return cmds[i];
	return NULL;
}

static void vprintf_to(struct con *c, const char *fmt, va_list ap)
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
	vprintf_to(c, fmt, ap);
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
		struct json j;
		json_begin(&j, c);
		json_obj(&j, "error");
		json_str(&j, "code", err_code(err));
		json_str(&j, "text", text);
		json_obj_end(&j);
		json_end(&j);
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

int console_run_line(struct con *c, char *line)
{
	char *argv[CONSOLE_ARGS];
	int n = console_split(line, argv, ARRAY_SIZE(argv));
	int argc = 0;
	c->json = false;
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
	const struct console_cmd *cmd = find(argv[0]);
	int err =
		cmd ? cmd->fn(c, argc, argv) : con_error(c, -ENOENT, "%s: no such command. `help` lists them", argv[0]);
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

/* The first words of "list | start NAME | stop NAME" that are words to be typed. */
static void consider_args(struct candidates *k, const char *args)
{
	for (const char *p = args; p && *p; p = strchr(p, '|') ? strchr(p, '|') + 1 : NULL) {
		p += strspn(p, " [");
		size_t n = strspn(p, "abcdefghijklmnopqrstuvwxyz0123456789-");
		char word[32];
		if (n == 0 || n >= sizeof(word) || (p[n] && !strchr(" |]", p[n])))
			continue;
		memcpy(word, p, n);
		word[n] = 0;
		consider(k, word);
	}
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
	const struct console_cmd *cmd = argc > 1 ? find(argv[0]) : NULL;
	if (argc == 1) {
		for (unsigned i = 0; i < ncmds; i++)
			consider(&k, cmds[i]->name);
	} else if (cmd) {
		if (argc == 2 && !strcmp(cmd->name, "help"))
			for (unsigned i = 0; i < ncmds; i++)
				consider(&k, cmds[i]->name);
		if (k.prefix[0] == '-')
			consider(&k, "--json");
		if (cmd->complete)
			cmd->complete(argc, argv, consider, &k);
		else if (argc == 2)
			consider_args(&k, cmd->args);
	}
	if (k.n)
		sniprintf(insert, size, "%s%s", k.common + k.prefix_len, k.n == 1 ? " " : "");
	return k.n;
}

/* ---- help ---- */

static int cmd_help(struct con *c, int argc, char **argv)
{
	if (argc > 1 && !find(argv[1]))
		return con_error(c, -ENOENT, "%s: no such command. `help` lists them", argv[1]);
	struct json j;
	if (c->json) {
		json_begin(&j, c);
		json_arr(&j, "commands");
	}
	for (unsigned i = 0; i < ncmds; i++) {
		const struct console_cmd *cmd = cmds[i];
		if ((argc > 1 && strcmp(cmd->name, argv[1]) != 0) || (argc == 1 && !cmd->help[0]))
			continue; /* no help text: hidden */
		if (c->json) {
			json_obj(&j, NULL);
			json_str(&j, "name", cmd->name);
			json_str(&j, "args", cmd->args);
			json_str(&j, "help", cmd->help);
			json_obj_end(&j);
		} else if (argc > 1) {
			con_printf(c, "%s %s\n%s\n", cmd->name, cmd->args, cmd->help);
		} else {
			con_printf(c, "%-10s %s\n", cmd->name, cmd->help);
		}
	}
	if (c->json) {
		json_arr_end(&j);
		json_end(&j);
	} else if (argc == 1) {
		con_printf(c, "`help COMMAND` shows its arguments; every command takes --json.\n");
	}
	return 0;
}
CONSOLE_CMD(help, "[COMMAND]", "what can be typed here", cmd_help, NULL);

/* SPDX-License-Identifier: BSD-2-Clause */
/* Any bytes, typed at the console: the editor, completion, splitting into words, and commands' arguments. */
#include "kernel/console.h"
#include "kernel/console_edit.h"
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void sink(struct con *c, const char *s, size_t n)
{
	(void)c;
	volatile char x = 0;
	for (size_t i = 0; i < n; i++)
		x ^= s[i];
	(void)x;
}

static int cmd(struct con *c, int argc, char **argv)
{
	struct json j;
	if (c->json)
		json_begin(&j, c);
	for (int i = 0; i < argc; i++) {
		if (c->json)
			json_str(&j, argv[i], argv[i]);
		else
			con_printf(c, "%s %zu\n", argv[i], strlen(argv[i]));
	}
	if (c->json)
		json_end(&j);
	return con_error(c, -EINVAL, "%s", argv[argc - 1]);
}

static void names(int argc, char **argv, void (*add)(void *arg, const char *word), void *arg)
{
	for (int i = 0; i < argc; i++)
		add(arg, argv[i]);
	add(arg, "demo");
}

static const struct console_cmd table[] = {
	{ "vm", "list | start NAME", "h", cmd, names },
	{ "migrate", "VM to X | status | [x", "h", cmd, NULL },
	{ "a", "|||-", "h", cmd, NULL },
};

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct edit e;
	static struct con c = { .write = sink };
	console_set_table(table, table + ARRAY_SIZE(table));
	edit_init(&e);
	edit_begin(&e, "tern:host> ");
	for (size_t i = 0; i < size; i++) {
		enum edit_result r = edit_key(&e, data[i]);
		char row[EDIT_RENDER], insert[64];
		if (edit_render(&e, row) >= sizeof(row) || strlen(e.line) != e.len || e.cur > e.len)
			abort();
		if (r == EDIT_TAB && console_complete(e.line, e.cur, insert, sizeof(insert), NULL, NULL))
			edit_insert(&e, insert);
		if (r == EDIT_DONE) {
			char *line = strdup(e.line); /* exactly as long as it is, for ASan */
			console_run_line(&c, line);
			free(line);
		}
		if (r == EDIT_DONE || r == EDIT_CANCEL)
			edit_begin(&e, "tern:host> ");
	}
	return 0;
}

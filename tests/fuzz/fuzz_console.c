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
	for (int i = 0; i < argc; i++) {
		out_str(c, argv[i], argv[i]);
		out_more(c, "more|below", argv[i]);
	}
	out_table(c, "t", "-8 a|A, 5 b, 9 c_bytes", "none");
	for (int i = 1; i < argc; i++) {
		out_row(c);
		out_str(c, "a", argv[i]);
		out_bytes(c, "c_bytes", strlen(argv[i]) << i);
		out_more(c, "d", argv[0]);
		out_row_end(c);
	}
	out_table_end(c);
	return con_error(c, -EINVAL, "%s", argv[argc - 1]);
}

static void names(const char *what, void (*add)(void *arg, const char *word), void *arg)
{
	add(arg, what);
	add(arg, "demo");
}

static const struct con_sub vm_subs[] = {
	{ "list|", "", "h", cmd, NULL, false },
	{ "start|boot", "NAME [--force] [--wait SECONDS]", "h", cmd, names, true },
};
static const struct con_sub migrate_subs[] = {
	{ "", "VM to X [now|later]", "h", cmd, names, false },
	{ "status", "[", "h", cmd, NULL, false },
	{ "|", "]--[-", "h", cmd, names, false },
};
static const struct con_sub a_subs[] = { { "", "[|||] -", "h", cmd, NULL, false } };
static const struct console_cmd table[] = {
	{ "vm", "h", NULL, vm_subs, ARRAY_SIZE(vm_subs) },
	{ "migrate", "h", "e", migrate_subs, ARRAY_SIZE(migrate_subs) },
	{ "a", "h", NULL, a_subs, ARRAY_SIZE(a_subs) },
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

/* SPDX-License-Identifier: BSD-2-Clause */
/* The command `conf`: what tern.conf may say, from the tables that it is read by. */
#include "kernel/base/err.h"
#include "kernel/conf.h"
#include "kernel/console.h"
#include "kernel/out.h"
#include <string.h>

extern const struct conf_table __conf_tables_start[], __conf_tables_end[]; /* linker.ld */

static void show(struct con *c, const struct conf_table *t)
{
	for (const struct conf_key *k = t->keys; k < t->keys + t->n; k++) {
		out_row(c);
		out_str(c, "section", t->kind);
		out_str(c, "key", k->key);
		out_str(c, "default", k->def ? k->def : "must be given");
		out_more(c, "value|write", k->help);
		out_row_end(c);
	}
}

static int conf_keys(struct con *c, int argc, char **argv)
{
	bool found = false;
	out_table(c, "keys", "-8 section, -18 key, -24 default", NULL);
	for (const struct conf_table *t = __conf_tables_start; t < __conf_tables_end; t++) {
		if (argc > 1 && strcmp(t->kind, argv[1]) != 0)
			continue;
		show(c, t);
		found = true;
	}
	out_table_end(c);
	return found ? 0 : con_error(c, -ENOENT, "tern.conf has no section [%.40s]; `conf keys` shows all", argv[1]);
}

static void sections(const char *what unused, void (*add)(void *arg, const char *word), void *arg)
{
	for (const struct conf_table *t = __conf_tables_start; t < __conf_tables_end; t++)
		add(arg, t->kind);
}

static const struct con_sub subs[] = {
	{ "keys", "[SECTION]", "what may stand in tern.conf, and what a line that is missing means", conf_keys,
	  sections, false },
};
CONSOLE_CMDS(conf, "the configuration file, tern.conf", "conf keys vm", subs);

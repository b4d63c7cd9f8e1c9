/* SPDX-License-Identifier: BSD-2-Clause */
/* The console without a terminal: what keys do to the line and the row, words, commands, completion, JSON. */
#include "kernel/console.h"
#include "kernel/console_edit.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- the editor, seen on a terminal of one row ---- */

static struct edit ed;
static char row[200];
static unsigned column;

/* Just enough VT100: CR, CSI K, CSI n D, printable. */
static void terminal(const char *s)
{
	for (; *s; s++) {
		if (*s == '\r') {
			column = 0;
		} else if (*s == 27) {
			unsigned n = 0;
			for (s += 2; *s >= '0' && *s <= '9'; s++)
				n = n * 10 + (unsigned)(*s - '0');
			if (*s == 'K')
				row[column] = 0;
			else if (*s == 'D')
				column -= n;
			else
				fail();
		} else {
			if (!row[column])
				row[column + 1] = 0;
			row[column++] = *s;
		}
		assert_true(column < EDIT_COLUMNS + 1);
	}
}

static void redraw(void)
{
	char out[EDIT_RENDER];
	unsigned n = edit_render(&ed, out);
	assert_int_equal(n, strlen(out));
	terminal(out);
}

/* Type; returns the last result. The row always shows what the editor holds. */
static enum edit_result type(const char *keys)
{
	enum edit_result r = EDIT_NONE;
	for (; *keys; keys++) {
		r = edit_key(&ed, (unsigned char)*keys);
		if (r == EDIT_ECHO)
			terminal((char[]){ *keys, 0 });
		else if (r != EDIT_NONE)
			redraw();
		assert_int_equal(strlen(ed.line), ed.len);
		assert_true(ed.cur <= ed.len);
		if (ed.len < 60) {
			char want[200];
			snprintf(want, sizeof(want), "> %.100s", ed.line);
			assert_string_equal(row, want);
			assert_int_equal(column, 2 + ed.cur);
		}
	}
	return r;
}

static void fresh(void)
{
	edit_begin(&ed, "> ");
	redraw();
}

static int setup(void **state)
{
	(void)state;
	edit_init(&ed);
	memset(row, 0, sizeof(row));
	column = 0;
	fresh();
	return 0;
}

#define UP    "\x1b[A"
#define DOWN  "\x1b[B"
#define RIGHT "\x1b[C"
#define LEFT  "\x1b[D"

static void test_edit_keys(void **state)
{
	(void)state;
	type("vm lst");
	type(LEFT LEFT "i");
	assert_string_equal(ed.line, "vm list");
	type("\x01"
	     "x"
	     "\x05"
	     "y"); /* ^A ^E */
	assert_string_equal(ed.line, "xvm listy");
	type("\x7f"
	     "\x1b[H"
	     "\x1b[3~"); /* backspace, Home, Delete */
	assert_string_equal(ed.line, "vm list");
	type(RIGHT RIGHT "\x0b"); /* ^K */
	assert_string_equal(ed.line, "vm");
	type("\x1b[F"
	     " start demo  "
	     "\x17"); /* End, ^W */
	assert_string_equal(ed.line, "vm start ");
	type(LEFT LEFT LEFT "\x15"); /* ^U */
	assert_string_equal(ed.line, "rt ");
	type("\x1bOF"
	     "!"
	     "\x1bOH"
	     "?");
	assert_string_equal(ed.line, "?rt !");
	type("\x1b[5~"
	     "\x1b[1;5C"
	     "\x1b[999999999999999D"
	     "\x1bx"); /* unknown ones do no harm */
	assert_int_equal(type("\r"), EDIT_DONE);
	assert_int_equal(type("\n"), EDIT_NONE); /* CR LF is one Enter */
}

static void test_edit_results(void **state)
{
	(void)state;
	assert_int_equal(type("a"), EDIT_ECHO);
	assert_int_equal(type("\t"), EDIT_TAB);
	assert_int_equal(type("\x0c"), EDIT_CLEAR);
	assert_int_equal(type("\x03"), EDIT_CANCEL);
	fresh();
	assert_int_equal(type("\n"), EDIT_DONE);
	assert_int_equal(type("\x07"), EDIT_NONE);
}

static void test_edit_history(void **state)
{
	(void)state;
	assert_int_equal(type(UP), EDIT_NONE);
	const char *lines[] = { "one", "two", "two", "three" };
	for (unsigned i = 0; i < 4; i++) {
		fresh();
		type(lines[i]);
		type("\r");
	}
	fresh();
	type("draft" UP);
	assert_string_equal(ed.line, "three");
	type(UP);
	assert_string_equal(ed.line, "two"); /* once */
	type(UP UP UP);
	assert_string_equal(ed.line, "one");
	type(DOWN DOWN DOWN DOWN);
	assert_string_equal(ed.line, "draft");
	for (unsigned i = 0; i < 100; i++) {
		char line[20];
		fresh();
		snprintf(line, sizeof(line), "line %u\r", i);
		type(line);
	}
	fresh();
	for (unsigned i = 0; i < 200; i++)
		type(UP);
	assert_string_equal(ed.line, "line 68"); /* the oldest of 32 */
}

static void test_edit_long_lines(void **state)
{
	(void)state;
	for (unsigned i = 0; i < 1000; i++) {
		type((char[]){ (char)('a' + i % 26), 0 });
		assert_true(strlen(row) <= EDIT_COLUMNS);
	}
	assert_int_equal(ed.len, EDIT_LINE - 1);
	assert_true(ed.lost);
	for (unsigned i = 0; i < 600; i++) {
		type(LEFT);
		assert_true(column < EDIT_COLUMNS);
		assert_true(strlen(row) <= EDIT_COLUMNS);
	}
	assert_int_equal(ed.cur, 0);
	edit_insert(&ed, "more than fits");
	assert_int_equal(ed.len, EDIT_LINE - 1);
}

/* A line that lacks a key is known by it, until nothing of it is left. */
static void test_edit_lost(void **state)
{
	(void)state;
	type("vm kill web");
	for (const char *dash = "\xe2\x80\x93"; *dash; dash++)
		assert_int_equal(edit_key(&ed, (unsigned char)*dash), EDIT_BELL);
	type("1\b\x17");
	assert_string_equal(ed.line, "vm kill ");
	assert_true(ed.lost);
	type("\x15");
	assert_false(ed.lost);
	type("x\xc3");
	assert_true(ed.lost);
	type("\x01\x0b");
	assert_false(ed.lost);
	type("\xc3");
	assert_true(ed.lost);
	fresh();
	assert_false(ed.lost);
	for (unsigned i = 0; i < EDIT_LINE - 2; i++)
		type("a");
	edit_insert(&ed, "b");
	assert_false(ed.lost);
	edit_insert(&ed, "c");
	assert_true(ed.lost);
}

/* ---- commands ---- */

static char out[20000];
static size_t nout;

static void sink(struct con *c, const char *s, size_t n)
{
	(void)c;
	assert_true(nout + n < sizeof(out));
	memcpy(out + nout, s, n);
	out[nout += n] = 0;
}
static struct con con = { .write = sink };

static char got[400]; /* what the command was given */
static bool got_json;

static int cmd_take(struct con *c, int argc, char **argv)
{
	got[0] = 0;
	for (int i = 1; i < argc; i++)
		snprintf(got + strlen(got), sizeof(got) - strlen(got), "<%s>", argv[i]);
	got_json = c->json;
	return argc;
}

static int cmd_fail(struct con *c, int argc, char **argv)
{
	(void)argc, (void)argv;
	return con_error(c, -ENOENT, "vm %s: no such VM. `vm list` shows them", "x\"y");
}

static int cmd_json(struct con *c, int argc, char **argv)
{
	(void)argc, (void)argv;
	out_str(c, "s", "a\"b\\c\n\x01\xff");
	out_u64(c, "u", ~0ULL);
	out_i64(c, "i", -5);
	out_bool(c, "b|label", true);
	out_list(c, "a");
	out_u64(c, NULL, 1);
	out_row(c);
	out_row_end(c);
	out_list(c, NULL);
	out_list_end(c);
	out_list_end(c);
	out_words(c, "o");
	out_bool(c, "f", false);
	out_words_end(c);
	return 0;
}

static int cmd_facts(struct con *c, int argc, char **argv)
{
	(void)argv;
	out_str(c, "name", "demo");
	out_bytes(c, "memory_bytes", 1536ULL << 20);
	out_ms(c, "uptime_ms|up", 93784 * NS_PER_SEC);
	out_us(c, "downtime_us", 14640 * NS_PER_US);
	out_str(c, "hidden|", "x");
	out_more(c, "fail", "");
	out_time(c, "time", 951782400ULL * NS_PER_SEC + 7 * NS_PER_MS); /* a leap day */
	out_line(c, "words",
		 "a line that is far too long for a terminal of eighty columns is broken at a blank, and goes on "
		 "below its beginning");
	out_words(c, "exits");
	out_u64(c, "io", 7);
	out_u64(c, "none", 0);
	out_u64(c, "npf", 12);
	out_words_end(c);
	out_table(c, "vms", "-8 name, 5 vcpus, 9 memory_bytes|mem", "no VMs");
	for (int i = 1; i < argc; i++) {
		out_row(c);
		out_bytes(c, "memory_bytes", 512 << 20);
		out_str(c, "name", argv[i]);
		out_u64(c, "other", 5);
		out_u64(c, "vcpus", 1);
		out_more(c, "why", i > 1 ? "it is not" : "");
		out_row_end(c);
	}
	out_table_end(c);
	out_table(c, "wide", "-40 name, -40 why|beyond the line", NULL);
	for (int i = 1; i < argc && !c->json; i++) {
		out_row(c);
		out_str(c, "why", argv[i]);
		out_row_end(c);
	}
	out_table_end(c);
	return argc > 3 ? con_error(c, -EIO, "late") : 0;
}

static int cmd_option(struct con *c, int argc, char **argv)
{
	cmd_take(c, argc, argv);
	const char *ms = con_opt(c, "--max-downtime");
	snprintf(got + strlen(got), sizeof(got) - strlen(got), "%s%s", ms ? ms : "-",
		 con_opt(c, "--force") ? " force" : "");
	return 0;
}

static void names(const char *what, void (*add)(void *arg, const char *word), void *arg)
{
	if (*what == 'H') {
		add(arg, "host-b");
		return;
	}
	add(arg, "demo-one");
	add(arg, "demo-two");
	add(arg, "other");
}

static const struct con_sub vm_subs[] = {
	{ "list", "", "what is here", cmd_take, NULL, false },
	{ "start", "NAME [--force]", "boot it", cmd_option, names, false },
	{ "kill|stop", "NAME", "cut its power", cmd_take, names, true },
};
static const struct con_sub migrate_subs[] = {
	{ "", "VM to HOST [--max-downtime MS] [--force]", "move it", cmd_option, names, false },
	{ "status|list", "", "what moves", cmd_take, NULL, false },
	{ "cancel", "VM", "end it", cmd_take, names, false },
};
static const struct con_sub log_subs[] = {
	{ "show|", "[error|warn|info]", "the log", cmd_take, NULL, false },
	{ "echo", "[error|warn|info]", "what is shown", cmd_take, NULL, false },
};
#define SUBS(args, fn, kills) (const struct con_sub[]){ { "", args, "", fn, NULL, kills } }, 1
static const struct console_cmd table[] = {
	{ "vm", "VMs", "vm start demo", vm_subs, ARRAY_SIZE(vm_subs) },
	{ "migrate", "move", "migrate demo to b", migrate_subs, ARRAY_SIZE(migrate_subs) },
	{ "log", "log", "log warn", log_subs, ARRAY_SIZE(log_subs) },
	{ "fail", "fails", NULL, SUBS("", cmd_fail, false) },
	{ "take", "takes", NULL, SUBS("[A [B [C [D [E [F]]]]]]", cmd_take, false) },
	{ "json", "prints", NULL, SUBS("", cmd_json, false) },
	{ "facts", "prints", NULL, SUBS("[A [B [C]]]", cmd_facts, false) },
	{ "hidden", "", NULL, SUBS("", cmd_take, false) },
	{ "poweroff", "off", NULL, SUBS("[--force]", cmd_take, true) },
	{ "virtual", "another v", NULL, SUBS("", cmd_take, false) },
};

static int run(const char *line)
{
	char buf[600];
	snprintf(buf, sizeof(buf), "%s", line);
	nout = 0;
	out[0] = 0;
	strcpy(got, "-");
	return console_run_line(&con, buf);
}

static void test_words(void **state)
{
	(void)state;
	run("  take\t a  'b c'  \"d e\" f\\ g h\"i\"j \"\" ");
	assert_string_equal(got, "<a><b c><d e><f g><hij><>");
	run("take 'a\\b' \"a\\\"b\" it\\'s");
	assert_string_equal(got, "<a\\b><a\"b><it's>");
	assert_int_equal(run(""), 0);
	assert_int_equal(run("    "), 0);
	assert_int_equal(run("take 'open"), -EILSEQ);
	assert_non_null(strstr(out, "error: a quote is not closed"));
	assert_int_equal(run("take a b c d e f g h i j k l m n o p q r s t u v w x y z 1 2 3 4 5 6"), -E2BIG);
	assert_int_equal(run("take a\\"), 2); /* a backslash at the end stands for itself */
	assert_string_equal(got, "<a\\>");
}

static void test_json_flag(void **state)
{
	(void)state;
	assert_int_equal(run("take --json list"), 2);
	assert_string_equal(got, "<list>");
	assert_true(got_json);
	run("--json vm list");
	assert_true(got_json);
	run("vm list");
	assert_false(got_json);
	assert_int_equal(run("nonsense"), -ENOENT);
	assert_string_equal(out, "error: nonsense: no such command. `help` lists them\n");
	assert_int_equal(run("fail --json"), -ENOENT);
	assert_string_equal(
		out, "{\"error\":{\"code\":\"ENOENT\",\"text\":\"vm x\\\"y: no such VM. `vm list` shows them\"}}\n");
	run("json --json");
	assert_string_equal(
		out, "{\"s\":\"a\\\"b\\\\c\\u000a\\u0001\\u00ff\",\"u\":18446744073709551615,\"i\":-5,\"b\":true,"
		     "\"a\":[1,{},[]],\"o\":{\"f\":false}}\n");
}

static const char facts[] = "name           demo\n"
			    "memory         1.5 GiB\n"
			    "up             1d 02:03:04\n"
			    "downtime       14.6 ms\n"
			    "time           2000-02-29T00:00:00.007Z\n"
			    "words          a line that is far too long for a terminal of eighty columns is\n"
			    "               broken at a blank, and goes on below its beginning\n"
			    "exits          io 7 npf 12\n";

static void test_text(void **state)
{
	(void)state;
	assert_int_equal(run("facts"), 0);
	assert_true(!strncmp(out, facts, strlen(facts)));
	assert_string_equal(out + strlen(facts), "no VMs\n");
	run("facts demo much-too-long");
	assert_true(!strncmp(out, facts, strlen(facts)));
	assert_string_equal(out + strlen(facts), "NAME      VCPUS        MEM\n"
						 "demo          1    512 MiB\n"
						 "much-to~      1    512 MiB\n"
						 "    much-too-long\n"
						 "    it is not\n"
						 "NAME\n\n\n");
}

static void test_facts_as_json(void **state)
{
	(void)state;
	assert_int_equal(run("facts a b c --json"), -EIO);
	assert_string_equal(
		out,
		"{\"name\":\"demo\",\"memory_bytes\":1610612736,\"uptime_ms\":93784000,\"downtime_us\":14640,"
		"\"hidden\":\"x\",\"time\":\"2000-02-29T00:00:00.007Z\",\"exits\":{\"io\":7,\"none\":0,\"npf\":12},"
		"\"vms\":[{\"memory_bytes\":536870912,\"name\":\"a\",\"other\":5,\"vcpus\":1},"
		"{\"memory_bytes\":536870912,\"name\":\"b\",\"other\":5,\"vcpus\":1,\"why\":\"it is not\"},"
		"{\"memory_bytes\":536870912,\"name\":\"c\",\"other\":5,\"vcpus\":1,\"why\":\"it is "
		"not\"}],\"wide\":[],"
		"\"error\":{\"code\":\"EIO\",\"text\":\"late\"}}\n");
}

static void test_long_output(void **state)
{
	(void)state;
	char big[5000];
	memset(big, 'x', sizeof(big) - 1);
	big[sizeof(big) - 1] = 0;
	nout = 0;
	con_printf(&con, "<%s>", big);
	assert_int_equal(nout, sizeof(big) + 1);
	assert_int_equal(out[nout - 1], '>');
}

/* The command refuses it, and nothing is run: these words. */
static void refused(const char *line, const char *why)
{
	assert_int_equal(run(line), -EINVAL);
	assert_string_equal(got, "-");
	assert_string_equal(out, why);
}

static void test_arguments(void **state)
{
	(void)state;
	refused("poweroff now please", "error: poweroff: please is a word too many. Usage: poweroff [--force]\n");
	refused("poweroff --forc", "error: poweroff: --forc is no option of it. Usage: poweroff [--force]\n");
	assert_int_equal(run("poweroff --force"), 1);
	refused("vm", "error: vm: say what: one of list, start, kill. `vm help` says more\n");
	refused("migrate a", "error: migrate: a is not one of VM, status, cancel. `migrate help` says more\n");
	refused("vm strat demo", "error: vm: strat is not one of list, start, kill. `vm help` says more\n");
	refused("vm start", "error: vm: NAME is missing. Usage: vm start NAME [--force]\n");
	refused("vm start a b", "error: vm: b is a word too many. Usage: vm start NAME [--force]\n");
	refused("vm list now", "error: vm: now is a word too many. Usage: vm list\n");
	refused("migrate a too b",
		"error: migrate: too is not to. Usage: migrate VM to HOST [--max-downtime MS] [--force]\n");
	refused("migrate a to",
		"error: migrate: HOST is missing. Usage: migrate VM to HOST [--max-downtime MS] [--force]\n");
	refused("migrate a to b --max-downtime",
		"error: migrate: --max-downtime needs a value. Usage: migrate VM to HOST "
		"[--max-downtime MS] [--force]\n");
	refused("log loud", "error: log: loud is not one of show, error|warn|info, echo. `log help` says more\n");
	refused("log echo loud", "error: log: loud is not error|warn|info. Usage: log echo [error|warn|info]\n");
}

static void test_options_anywhere(void **state)
{
	(void)state;
	const char *lines[] = { "migrate a to b --force --max-downtime 20", "migrate --max-downtime 20 a to --force b",
				"migrate --force a --max-downtime 20 to b" };
	for (unsigned i = 0; i < ARRAY_SIZE(lines); i++) {
		assert_int_equal(run(lines[i]), 0);
		assert_string_equal(got, "<a><to><b>20 force");
	}
	run("migrate a to b");
	assert_string_equal(got, "<a><to><b>-"); /* no option stays */
	run("migrate status to b");              /* a VM of that name */
	assert_string_equal(got, "<status><to><b>-");
}

static void test_abbreviations(void **state)
{
	(void)state;
	assert_int_equal(run("mig list"), 1);
	assert_int_equal(run("m st"), 1);
	assert_int_equal(run("l e warn"), 2);
	assert_string_equal(got, "<warn>");
	assert_int_equal(run("log warn"), 2);
	assert_int_equal(run("v list"), -ENOENT); /* vm or virtual */
	assert_int_equal(run("hid"), -ENOENT);
	assert_int_equal(run("vm kill demo"), 2);
	assert_int_equal(run("vm stop demo"), 2);
	refused("vm ki demo", "error: vm: what destroys is typed in full: vm kill NAME\n");
	refused("power", "error: power: what destroys is typed in full: poweroff [--force]\n");
	refused("vm s demo", "error: vm: s is not one of list, start, kill. `vm help` says more\n"); /* start, stop */
}

static void test_help(void **state)
{
	(void)state;
	static const char *const lines[] = { "vm help", "vm ?", "vm --help", "v help" };
	for (unsigned i = 0; i < 3; i++) {
		assert_int_equal(run(lines[i]), 0);
		assert_string_equal(out,
				    "vm list\n    what is here\nvm start NAME [--force]\n    boot it\nvm kill NAME\n"
				    "    cut its power\nfor example: vm start demo\n");
	}
	run("vm start --help");
	assert_string_equal(out, "vm start NAME [--force]\n    boot it\n");
	assert_string_equal(got, "-");
	run("log help --json");
	assert_string_equal(out, "{\"name\":\"log\",\"help\":\"log\",\"usage\":["
				 "{\"usage\":\"log show [error|warn|info]\",\"help\":\"the log\"},"
				 "{\"usage\":\"log echo [error|warn|info]\",\"help\":\"what is shown\"}]}\n");
}

static char listed[300];
static void list(void *arg, const char *word)
{
	(void)arg;
	strcat(strcat(listed, word), " ");
}

static unsigned completed(const char *text, char insert[64])
{
	listed[0] = 0;
	return console_complete(text, strlen(text), insert, 64, list, NULL);
}

static void test_completion(void **state)
{
	(void)state;
	char ins[64];
	assert_int_equal(completed("mi", ins), 1);
	assert_string_equal(ins, "grate ");
	assert_int_equal(completed("v", ins), 2);
	assert_string_equal(ins, "");
	assert_string_equal(listed, "virtual vm ");
	assert_int_equal(completed("", ins), ARRAY_SIZE(table));
	assert_int_equal(completed("zzz", ins), 0);
	assert_int_equal(completed("vm start d", ins), 2);
	assert_string_equal(ins, "emo-");
	assert_int_equal(completed("vm start ", ins), 3);
	assert_int_equal(completed("vm start other -", ins), 2);
	assert_string_equal(listed, "--force --json ");
	assert_int_equal(completed("vm start --f", ins), 1);
	assert_string_equal(ins, "orce ");
	assert_int_equal(completed("vm start --force o", ins), 1);
	assert_string_equal(ins, "ther ");
	assert_int_equal(completed("migrate ", ins), 5);
	assert_string_equal(listed, "demo-one demo-two other status cancel ");
	assert_int_equal(completed("migrate ca", ins), 1);
	assert_string_equal(ins, "ncel ");
	assert_int_equal(completed("migrate demo-one ", ins), 1);
	assert_string_equal(ins, "to ");
	assert_int_equal(completed("migrate demo-one to ", ins), 1);
	assert_string_equal(ins, "host-b ");
	assert_int_equal(completed("migrate cancel d", ins), 2);
	assert_int_equal(completed("log ", ins), 5);
	assert_string_equal(listed, "show error warn info echo ");
	assert_int_equal(completed("log echo w", ins), 1);
	assert_string_equal(ins, "arn ");
	assert_int_equal(completed("vm list --j", ins), 1);
	assert_string_equal(ins, "son ");
	assert_int_equal(completed("vm 'open", ins), 0);
}

static int setup_table(void **state)
{
	(void)state;
	console_set_table(table, table + ARRAY_SIZE(table));
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(test_edit_keys, setup),
		cmocka_unit_test_setup(test_edit_results, setup),
		cmocka_unit_test_setup(test_edit_history, setup),
		cmocka_unit_test_setup(test_edit_long_lines, setup),
		cmocka_unit_test_setup(test_edit_lost, setup),
		cmocka_unit_test(test_words),
		cmocka_unit_test(test_json_flag),
		cmocka_unit_test(test_text),
		cmocka_unit_test(test_facts_as_json),
		cmocka_unit_test(test_long_output),
		cmocka_unit_test(test_completion),
		cmocka_unit_test(test_arguments),
		cmocka_unit_test(test_options_anywhere),
		cmocka_unit_test(test_abbreviations),
		cmocka_unit_test(test_help),
	};
	return cmocka_run_group_tests(tests, setup_table, NULL);
}

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
	assert_int_equal(type("\xc3"), EDIT_NONE);
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
	for (unsigned i = 0; i < 600; i++) {
		type(LEFT);
		assert_true(column < EDIT_COLUMNS);
		assert_true(strlen(row) <= EDIT_COLUMNS);
	}
	assert_int_equal(ed.cur, 0);
	edit_insert(&ed, "more than fits");
	assert_int_equal(ed.len, EDIT_LINE - 1);
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
	struct json j;
	json_begin(&j, c);
	json_str(&j, "s", "a\"b\\c\n\x01\xff");
	json_u64(&j, "u", ~0ULL);
	json_i64(&j, "i", -5);
	json_bool(&j, "b", true);
	json_arr(&j, "a");
	json_u64(&j, NULL, 1);
	json_obj(&j, NULL);
	json_obj_end(&j);
	json_arr(&j, NULL);
	json_arr_end(&j);
	json_arr_end(&j);
	json_obj(&j, "o");
	json_bool(&j, "f", false);
	json_obj_end(&j);
	json_end(&j);
	return 0;
}

static void complete_names(int argc, char **argv, void (*add)(void *arg, const char *word), void *arg)
{
	if (argc == 3 && !strcmp(argv[1], "start")) {
		add(arg, "demo-one");
		add(arg, "demo-two");
		add(arg, "other");
	}
}

static const struct console_cmd table[] = {
	{ "vm", "list | start NAME | stop NAME", "VMs", cmd_take, complete_names },
	{ "migrate", "VM to HOST | status [VM] | cancel VM | [list]", "move", cmd_take, NULL },
	{ "fail", "", "fails", cmd_fail, NULL },
	{ "json", "", "prints", cmd_json, NULL },
	{ "hidden", "", "", cmd_take, NULL },
	{ "help", "[COMMAND]", "help", cmd_take, NULL },
	{ "virtual", "", "another v", cmd_take, NULL },
};

static int run(const char *line)
{
	char buf[600];
	snprintf(buf, sizeof(buf), "%s", line);
	nout = 0;
	out[0] = 0;
	got[0] = '-';
	return console_run_line(&con, buf);
}

static void test_words(void **state)
{
	(void)state;
	assert_int_equal(run("vm list"), 2);
	assert_string_equal(got, "<list>");
	run("  vm\t a  'b c'  \"d e\" f\\ g h\"i\"j \"\" ");
	assert_string_equal(got, "<a><b c><d e><f g><hij><>");
	run("vm 'a\\b' \"a\\\"b\" it\\'s");
	assert_string_equal(got, "<a\\b><a\"b><it's>");
	assert_int_equal(run(""), 0);
	assert_int_equal(run("    "), 0);
	assert_int_equal(run("vm 'open"), -EILSEQ);
	assert_non_null(strstr(out, "error: a quote is not closed"));
	assert_int_equal(run("vm a b c d e f g h i j k l m n o p q r s t u v w x y z 1 2 3 4 5 6"), -E2BIG);
	assert_int_equal(run("vm a\\"), 2); /* a backslash at the end stands for itself */
	assert_string_equal(got, "<a\\>");
}

static void test_json_flag(void **state)
{
	(void)state;
	assert_int_equal(run("vm --json list"), 2);
	assert_string_equal(got, "<list>");
	assert_true(got_json);
	run("--json vm");
	assert_true(got_json);
	run("vm list");
	assert_false(got_json);
	assert_int_equal(run("nonsense"), -ENOENT);
	assert_string_equal(out, "error: nonsense: no such command. `help` lists them\n");
	assert_int_equal(run("fail --json"), -ENOENT);
	assert_string_equal(
		out, "{\"error\":{\"code\":\"ENOENT\",\"text\":\"vm x\\\"y: no such VM. `vm list` shows them\"}}\n");
	run("json");
	assert_string_equal(
		out, "{\"s\":\"a\\\"b\\\\c\\u000a\\u0001\\u00ff\",\"u\":18446744073709551615,\"i\":-5,\"b\":true,"
		     "\"a\":[1,{},[]],\"o\":{\"f\":false}}\n");
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
	assert_int_equal(completed("migrate ", ins), 3); /* words, not VM */
	assert_string_equal(listed, "status cancel list ");
	assert_int_equal(completed("migrate ca", ins), 1);
	assert_string_equal(ins, "ncel ");
	assert_int_equal(completed("help mig", ins), 1);
	assert_string_equal(ins, "rate ");
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
		cmocka_unit_test(test_words),
		cmocka_unit_test(test_json_flag),
		cmocka_unit_test(test_long_output),
		cmocka_unit_test(test_completion),
	};
	return cmocka_run_group_tests(tests, setup_table, NULL);
}

/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The operator's console: line editing, history, completion and the table of commands. A command's function sits beside
 * what it calls and is registered with CONSOLE_CMD; the linker gathers them in .rodata.console, sorted by name at run
 * time. Commands run in the console's task and may sleep. Output goes through struct con, so that `--json` (stripped
 * from argv, con->json set) can print exactly one JSON object instead of text.
 */
#pragma once
#include "kernel/base/bits.h"
#include "kernel/base/err.h"
#include "kernel/log.h"

struct con {
	bool json;
	bool raw; /* the command reads all keys: ^C does not end output that waits, it is a key like any other */
	/*
	 * Write, in the command's own task and no spinlock held: sleeps while the terminal is behind. From one that
	 * stands still it turns away after a moment, and what has no room then is dropped and counted. After ^C the
	 * rest is dropped.
	 */
	void (*write)(struct con *c, const char *s, size_t n);
	/* Next byte from the operator: 0..255, or -ETIMEDOUT past deadline_ns. */
	int (*getc)(struct con *c, uint64_t deadline_ns);
	bool (*ready)(struct con *c); /* write would not sleep now; NULL: it never does */
};
void con_printf(struct con *c, const char *fmt, ...) printf_like(2, 3);

struct console_cmd {
	const char *name; /* one word */
	const char *args; /* "list | start NAME | stop NAME" */
	const char *help; /* one line */
	/* argv[0] is the name. 0, or -errno after it has printed why (con_error). */
	int (*fn)(struct con *c, int argc, char **argv);
	/*
	 * Completion of the last word: call add(word) for each candidate. May be NULL. argc counts the word being
	 * typed.
	 */
	void (*complete)(int argc, char **argv, void (*add)(void *arg, const char *word), void *arg);
};
#define CONSOLE_CMD(id, args, help, fn, complete)        \
	static const struct console_cmd console_cmd_##id \
		__attribute__((used, section(".rodata.console"), aligned(8))) = { #id, args, help, fn, complete }

/*
 * An error of a command, the last thing it prints: `error: what: why. what to do`; with --json the object
 * {"error":{"code":"ENOENT","text":"..."}}. Returns err (negative), so `return con_error(c, -ENOENT, ...)`.
 */
int con_error(struct con *c, int err, const char *fmt, ...) printf_like(3, 4);

/* JSON writer: emits one object to c. Commas and escaping are its job. key NULL inside arrays. */
struct json {
	struct con *c;
	unsigned depth;
	bool comma;
};
void json_begin(struct json *j, struct con *c); /* { */
void json_end(struct json *j);                  /* } and newline */
void json_obj(struct json *j, const char *key); /* "key": { */
void json_obj_end(struct json *j);
void json_arr(struct json *j, const char *key); /* "key": [ */
void json_arr_end(struct json *j);
void json_str(struct json *j, const char *key, const char *v);
void json_u64(struct json *j, const char *key, uint64_t v);
void json_i64(struct json *j, const char *key, int64_t v);
void json_bool(struct json *j, const char *key, bool v);

/* Run one command line as if typed; line is cut up. Tasks only. */
int console_run_line(struct con *c, char *line);
/*
 * Cut a line into words, in place: blanks separate, "..." and '...' keep them, \ keeps the next character (not in
 * '...'). Returns how many; -E2BIG: more than max, -EILSEQ: an open quote.
 */
#define CONSOLE_ARGS 32
int console_split(char *line, char **argv, unsigned max);
/*
 * Complete the last word of text[0..len): how many candidates there are, what all of them have in common beyond what is
 * there in `insert`, and each(word) called for every one (if not NULL).
 */
unsigned console_complete(const char *text, size_t len, char *insert, size_t size,
			  void (*each)(void *arg, const char *word), void *arg);
/* The console's task body: prompt, edit, run, for ever. */
void console_task(void *arg);

/*
 * For kernel/main.c: the table (linker.ld); start the console, from which level on log lines go there; the name in the
 * prompt.
 */
void console_set_table(const struct console_cmd *first, const struct console_cmd *end);
void console_init(enum log_level echo);
void console_log_echo(enum log_level level);
void console_set_name(const char *name);
/* Text from outside a command. Any context. */
void console_write(const char *s);
/* time_ns() of the first prompt, 0: not yet. */
uint64_t console_prompt_ns(void);

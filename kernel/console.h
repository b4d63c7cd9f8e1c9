/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The operator's console: line editing, history, completion and the table of commands. A command's function sits beside
 * what it calls and is registered with CONSOLE_CMD; the linker gathers them in .rodata.console, sorted by name at run
 * time. Commands run in the console's task and may sleep. Output goes through struct con, so that `--json` (stripped
 * from argv, con->json set) prints exactly one JSON object instead of text (kernel/out.h).
 */
#pragma once
#include "kernel/base/bits.h"
#include "kernel/base/err.h"
#include "kernel/log.h"
#include "kernel/out.h"

#define CON_OPTS          12
#define CONSOLE_LEAVE_KEY 0x1d /* Ctrl-]: ends a command that reads all keys */
struct con {
	bool json;
	bool raw; /* the command reads all keys: ^C does not end output that waits, it is a key like any other */
	/*
	 * Write, in the command's own task and no spinlock held: sleeps while the terminal is behind. From one that
	 * stands still it turns away after a moment, and what has no room then is dropped and counted. After ^C the
	 * rest is dropped.
	 */
	void (*write)(struct con *c, const char *s, size_t n);
	/*
	 * Was ^C typed? Once for each; what was typed before it is gone with it. All else that is typed stays for the
	 * prompt. A command that takes its time asks, and leaves then.
	 */
	bool (*interrupted)(struct con *c);
	/* Next byte from the operator, for a command that is `raw`: 0..255, or -ETIMEDOUT past deadline_ns. */
	int (*getc)(struct con *c, uint64_t deadline_ns);
	bool (*ready)(struct con *c); /* write would not sleep now; NULL: it never does */
	struct out out;
	const char *opt[CON_OPTS][2]; /* what the command was given of its options, with their values */
	unsigned nopts;
};
/* As it is, also amid JSON: for out.c, and for what is no command's answer. */
void con_printf(struct con *c, const char *fmt, ...) printf_like(2, 3);
void con_vprintf(struct con *c, const char *fmt, va_list ap);

/* The value of an option that was given, itself if it takes none; NULL: it was not given. */
const char *con_opt(const struct con *c, const char *name);

/* One thing that a command does. */
struct con_sub {
	const char *name; /* its verb; "list|status": with an alias; "info|": may be left out; "": it has none */
	const char *args; /* what follows: kernel/console_usage.h */
	const char *help; /* one line */
	/*
	 * argv[0] is a name, the arguments follow: as args wants them, without options. 0, or -errno after it has
	 * printed why (con_error).
	 */
	int (*fn)(struct con *c, int argc, char **argv);
	/* Completion: call add for each word that `what` stands for, which points into args. May be NULL. */
	void (*words)(const char *what, void (*add)(void *arg, const char *word), void *arg);
	bool destroys; /* no abbreviation will do */
};
struct console_cmd {
	const char *name; /* one word */
	const char *help, *example;
	const struct con_sub *subs;
	unsigned nsubs;
};
/* A command with the verbs of an array, and one that does one thing. help "": hidden. */
#define CONSOLE_CMDS(id, help, example, subs)                                                               \
	static const struct console_cmd console_cmd_##id                                                    \
		__attribute__((used, section(".rodata.console"), aligned(8))) = { #id, help, example, subs, \
										  ARRAY_SIZE(subs) }
#define CONSOLE_CMD(id, args, help, example, fn, words)                                            \
	static const struct con_sub console_sub_##id[] = { { "", args, help, fn, words, false } }; \
	CONSOLE_CMDS(id, help, example, console_sub_##id)

/*
 * An error of a command, the last thing it prints: `error: what: why. what to do`; with --json
 * "error":{"code":"ENOENT","text":"..."}. Returns err (negative), so `return con_error(c, -ENOENT, ...)`.
 */
int con_error(struct con *c, int err, const char *fmt, ...) printf_like(3, 4);

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
/* How many lines of the log it has shown: who draws above the cursor finds out whether they have moved it. */
unsigned console_log_shown(void);
void console_set_name(const char *name);
/* Text from outside a command; none while the console is locked. Any context. */
void console_write(const char *s);
/*
 * From now on what the console shows, log lines too, is for who has typed what ok() takes (edit_word_key);
 * it is locked again after 10 minutes without a key, in which no command ran. ok() may sleep. Before the first line.
 */
void console_lock(bool (*ok)(const char *typed));
/* time_ns() of the first prompt, 0: not yet. */
uint64_t console_prompt_ns(void);

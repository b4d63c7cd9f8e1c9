/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The console's terminal side, on the serial port: prompt, editing, and sharing the line with the log. Log lines come
 * at any time from any context: one that comes while a line is being edited replaces that row, and the row is drawn
 * again below it. The output of a command with --json is held back until its line is whole, and log lines wait while it
 * is sent, so that none falls into it.
 *
 * Nothing here waits for the terminal, except a command's output: its task sleeps until the line has little left to
 * send, without any lock. What is shown under the lock goes into the port's queue, or is lost and counted there.
 */
#include "kernel/console.h"
#include "kernel/console_edit.h"
#include "kernel/base/wipe.h"
#include "kernel/log.h"
#include "kernel/spinlock.h"
#include "kernel/sync.h"
#include "kernel/task.h"
#include "kernel/time.h"
#include "kernel/uart.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct spinlock lock = SPINLOCK_INIT("console"); /* before uart's; guards what the terminal shows */
static struct edit edit;                                /* lock while editing, else the console's task */
static bool editing;                                    /* lock: the row shows prompt and edit.line */
static char last = '\n';                                /* lock: last byte sent */
static bool in_place; /* lock: the row was begun by CR alone, so it will be drawn again by whoever did */
static char prompt[48] = "tern> ";
static uint64_t prompt_ns;

static bool (*password_ok)(const char *typed); /* (c) NULL: there is no password */
static bool locked;                            /* lock: it has to be typed; the console's task alone unlocks */
static uint64_t key_ns;                        /* the console's task: of the last key or the end of a command */
#define IDLE_NS    (600 * NS_PER_SEC)
#define TRIES_FREE 3 /* wrong words before each costs time */

static bool is_idle(void) { return password_ok && time_ns() - key_ns > IDLE_NS; }

#define CHUNK 512 /* bytes of a command's output between two looks at the line */

/* Log lines that wait until a JSON line is sent: the numbers of those that do, or did last. Under lock. */
static bool holding, waiting;
static uint64_t waiting_first = 1, waiting_last;

/* Under lock. */
static void send(const char *s, size_t n)
{
	while (n) {
		size_t run = 0;
		while (run < n && s[run] != '\n')
			run++;
		if (run) {
			if (memchr(s, '\r', run))
				in_place = true;
			uart_write(s, run);
			last = s[run - 1];
		}
		if (run < n) {
			uart_write(last == '\r' ? "\n" : "\r\n", last == '\r' ? 1 : 2);
			last = '\n';
			in_place = false;
			run++;
		}
		s += run;
		n -= run;
	}
}

static void send_row(void)
{
	char row[EDIT_RENDER];
	send(row, edit_render(&edit, row));
}

static unsigned shown; /* [a] lines of the log */

static void show_line(const struct log_line *l)
{
	char text[300];
	int n = sniprintf(text, sizeof(text), "[%5lu.%06lu] %s: %s\n", l->time_ns / NS_PER_SEC,
			  l->time_ns % NS_PER_SEC / NS_PER_US, log_level_name(l->level), l->text);
	if (editing || (in_place && last != '\n'))
		send("\r\x1b[K", 4);
	else if (last != '\n')
		send("\n", 1);
	send(text, (size_t)n);
	if (editing)
		send_row();
	__atomic_fetch_add(&shown, 1, __ATOMIC_RELAXED);
}

unsigned console_log_shown(void) { return __atomic_load_n(&shown, __ATOMIC_RELAXED); }

static void show_log(const struct log_line *l)
{
	uint64_t flags = spin_lock_irqsave(&lock);
	if (locked) {
		; /* the log keeps it */
	} else if (holding) {
		waiting_first = waiting ? MIN(waiting_first, l->seq) : l->seq;
		waiting_last = waiting ? MAX(waiting_last, l->seq) : l->seq;
		waiting = true;
	} else if (l->seq < waiting_first || l->seq > waiting_last) { /* else shown with those that waited */
		show_line(l);
	}
	spin_unlock_irqrestore(&lock, flags);
}

static void hold_log(void)
{
	uint64_t flags = spin_lock_irqsave(&lock);
	holding = true;
	spin_unlock_irqrestore(&lock, flags);
}

/* Let log lines come again, first those that waited. What the log has lost of them meanwhile is not shown. */
static void release_log(void)
{
	struct log_line l = { 0 };
	uint64_t flags = spin_lock_irqsave(&lock), seq = waiting_first, end = waiting_last;
	bool any = waiting;
	holding = waiting = false;
	spin_unlock_irqrestore(&lock, flags);
	while (any && seq <= end && log_read(&seq, &l) && l.seq <= end) {
		flags = spin_lock_irqsave(&lock);
		if (l.level <= log_echo_level() && !locked)
			show_line(&l);
		spin_unlock_irqrestore(&lock, flags);
	}
}

/* The console as a command sees it. */
struct serial {
	struct con con;
	bool idled;       /* the command ended when nobody had typed for long, by that or by ^C: the prompt locks */
	bool interrupted; /* ^C came while output waited, and the command does not know yet: its output is dropped */
	char *held;       /* JSON that has no newline yet */
	size_t nheld, size;
};

/* Send in pieces, each once the line has little left to send. A terminal that stands still is not waited for. */
static void serial_put(struct serial *s, const char *p, size_t n)
{
	while (n && !s->interrupted) {
		if (uart_wait(UART_BACKLOG, !s->con.raw) == -EINTR) {
			s->interrupted = true;
			s->idled |= is_idle();
			p = "^C\n";
			n = 3;
		}
		size_t k = MIN(n, (size_t)CHUNK);
		uint64_t flags = spin_lock_irqsave(&lock);
		send(p, k);
		spin_unlock_irqrestore(&lock, flags);
		p += k;
		n -= k;
	}
}

static void serial_flush(struct serial *s)
{
	hold_log();
	serial_put(s, s->held, s->nheld);
	release_log();
	s->nheld = 0;
	if (s->size > PAGE_SIZE) { /* what a long line took goes back */
		free(s->held);
		s->held = NULL;
		s->size = 0;
	}
}

static void serial_write(struct con *c, const char *p, size_t n)
{
	struct serial *s = CONTAINER_OF(c, struct serial, con);
	if (c->json) {
		if (s->nheld + n > s->size) {
			size_t size = MAX(s->size * 2, s->nheld + n + 1000);
			char *more = realloc(s->held, size);
			if (more) {
				s->held = more;
				s->size = size;
			}
		}
		if (s->nheld + n <= s->size) {
			memcpy(s->held + s->nheld, p, n);
			s->nheld += n;
			if (n && p[n - 1] == '\n')
				serial_flush(s);
			return;
		}
		serial_flush(s); /* no memory: rather in pieces than not at all */
	}
	serial_put(s, p, n);
}

static bool serial_interrupted(struct con *c)
{
	struct serial *s = CONTAINER_OF(c, struct serial, con);
	bool typed = s->interrupted || uart_ctrl_c();
	s->interrupted = false;
	s->idled |= typed && is_idle(); /* who ends it now may be somebody else */
	return typed;
}

static int serial_getc(struct con *c, uint64_t deadline_ns)
{
	int ch;
	do
		ch = uart_getc(deadline_ns);
	while (ch == -EIO); /* something was lost: the prompt's matter */
	if (ch >= 0)
		key_ns = time_ns();
	if (!is_idle())
		return ch;
	CONTAINER_OF(c, struct serial, con)->idled = true;
	return CONSOLE_LEAVE_KEY;
}

static bool serial_ready(struct con *c unused) { return uart_ready(); }

static void list_candidate(void *arg unused, const char *word)
{
	send(word, strlen(word));
	send("  ", 2);
}

/* Under lock. */
static void complete(void)
{
	char insert[64];
	unsigned n = console_complete(edit.line, edit.cur, insert, sizeof(insert), NULL, NULL);
	if (n == 0) {
		send("\a", 1);
	} else if (insert[0]) {
		edit_insert(&edit, insert);
		send_row();
	} else {
		send("\n", 1);
		console_complete(edit.line, edit.cur, insert, sizeof(insert), list_candidate, NULL);
		send("\n", 1);
		send_row();
	}
}

/* What the terminal shows goes, too. */
static void lock_now(void)
{
	uint64_t flags = spin_lock_irqsave(&lock);
	editing = false;
	send("\x1b[H\x1b[2J", 7);
	locked = true;
	spin_unlock_irqrestore(&lock, flags);
}

/* The row shows the host's name. */
static void read_password(struct edit_word *w)
{
	int c;
	uint64_t flags = spin_lock_irqsave(&lock);
	if (last != '\n')
		send("\n", 1);
	send(prompt, strlen(prompt) - 2);
	send(" password: ", 11);
	spin_unlock_irqrestore(&lock, flags);
	do
		c = uart_getc(TIME_NEVER);
	while (c < 0 || edit_word_key(w, (unsigned char)c) != EDIT_DONE);
	flags = spin_lock_irqsave(&lock);
	send("\n", 1);
	spin_unlock_irqrestore(&lock, flags);
}

static void log_in(void)
{
	static unsigned wrong; /* in a row */
	struct edit_word w = { .n = 0 };
	read_password(&w);
	bool typed = w.n, ok = typed && password_ok(w.s);
	wipe(&w, sizeof(w));
	if (ok) {
		uint64_t flags = spin_lock_irqsave(&lock);
		locked = false;
		spin_unlock_irqrestore(&lock, flags);
		if (wrong)
			log_warn("console: a wrong password was typed %u times", wrong);
		wrong = 0;
		key_ns = time_ns();
	} else if (typed) {
		log_info("console: a wrong password");
		if (++wrong > TRIES_FREE)
			task_sleep_until(time_ns() + MIN(wrong - TRIES_FREE, 10U) * NS_PER_SEC);
		while (uart_getc(time_ns()) >= 0)
			; /* typed meanwhile */
	}
}

/* Edit one line, left in edit.line; false: dropped by ^C. */
static bool read_line(void)
{
	uint64_t flags = spin_lock_irqsave(&lock);
	if (last != '\n')
		send("\n", 1);
	edit_begin(&edit, prompt);
	editing = true;
	send_row();
	spin_unlock_irqrestore(&lock, flags);
	if (!prompt_ns)
		prompt_ns = time_ns();
	for (;;) {
		int c = uart_getc(password_ok ? key_ns + IDLE_NS : TIME_NEVER);
		if (is_idle()) {
			lock_now();
			return false;
		}
		if (c < 0 && c != -EIO)
			continue;
		key_ns = time_ns();
		flags = spin_lock_irqsave(&lock);
		enum edit_result r = c < 0 ? EDIT_REDRAW : edit_key(&edit, (unsigned char)c);
		switch (r) {
		case EDIT_NONE: break;
		case EDIT_ECHO: send(&(char){ (char)c }, 1); break;
		case EDIT_BELL: send("\a", 1); break;
		case EDIT_TAB: complete(); break;
		case EDIT_CLEAR:
			send("\x1b[H\x1b[2J", 7);
			send_row();
			break;
		case EDIT_REDRAW: send_row(); break;
		case EDIT_DONE:
		case EDIT_CANCEL:
			if (edit.cur != edit.len) {
				edit.cur = edit.len;
				send_row();
			}
			send(r == EDIT_DONE ? "\n" : "^C\n", r == EDIT_DONE ? 1 : 3);
			editing = false;
			spin_unlock_irqrestore(&lock, flags);
			return r == EDIT_DONE;
		}
		spin_unlock_irqrestore(&lock, flags);
	}
}

void console_init(enum log_level echo)
{
	edit_init(&edit);
	console_log_echo(echo);
}

void console_log_echo(enum log_level level) { log_echo(level, show_log); }

void console_set_name(const char *name) { sniprintf(prompt, sizeof(prompt), "tern:%.32s> ", name); }

uint64_t console_prompt_ns(void) { return prompt_ns; }

void console_lock(bool (*ok)(const char *typed))
{
	password_ok = ok;
	locked = true;
}

static int cmd_logout(struct con *c, int argc unused, char **argv unused)
{
	if (!password_ok)
		return con_error(c, -ENOENT,
				 "logout: this console has no password. `password` makes one for tern.conf");
	lock_now();
	return 0;
}
CONSOLE_CMD(logout, "", "lock this console until its password is typed", "logout", cmd_logout, NULL);

void console_write(const char *s)
{
	uint64_t flags = spin_lock_irqsave(&lock);
	if (!locked)
		send(s, strlen(s));
	spin_unlock_irqrestore(&lock, flags);
}

void console_task(void *arg unused)
{
	static struct serial s = { .con = { .write = serial_write,
					    .interrupted = serial_interrupted,
					    .getc = serial_getc,
					    .ready = serial_ready } };
	static char line[EDIT_LINE];
	for (;;) {
		if (locked) {
			log_in();
			continue;
		}
		if (!read_line())
			continue;
		if (edit.lost) {
			console_write("error: the line was too long, or a key no ASCII character: not run\n");
			continue;
		}
		memcpy(line, edit.line, sizeof(line));
		console_run_line(&s.con, line);
		if (s.nheld)
			serial_flush(&s);
		s.interrupted = false;
		if (!s.idled)
			key_ns = time_ns(); /* its result is for whoever waited for it */
		s.idled = false;
	}
}

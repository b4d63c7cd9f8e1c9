/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The log: a ring of the last LINES lines. What is urgent enough also goes to the console, through the hook it sets.
 * Lines of one kind and source that come too fast are counted instead (log_fold.h).
 */
#include "kernel/log.h"
#include "kernel/log_fold.h"
#include "kernel/spinlock.h"
#include "kernel/time.h"
#include <stdio.h>
#include <string.h>

#define LINES 512

static struct spinlock lock = SPINLOCK_INIT("log");
static struct log_line ring[LINES]; /* lock; line n at n % LINES */
static uint64_t next_seq;           /* lock */
static struct fold_table folds;     /* lock */
static enum log_level echo_level = LOG_INFO;
static void (*echo_fn)(const struct log_line *l);

const char *log_level_name(enum log_level level)
{
	static const char *const names[] = { "error", "warn", "info", "debug" };
	return names[level];
}

int log_level_parse(const char *s)
{
	for (int l = LOG_ERROR; l <= LOG_DEBUG; l++)
		if (!strcmp(s, log_level_name((enum log_level)l)))
			return l;
	return -1;
}

/* Under lock. */
static void append(struct log_line *l)
{
	l->seq = next_seq++;
	ring[l->seq % LINES] = *l;
}

static bool take_line(const char *fmt, struct log_line *l)
{
	uint64_t flags = spin_lock_irqsave(&lock);
	bool take = log_fold_line(&folds, fmt, l);
	if (take)
		append(l);
	spin_unlock_irqrestore(&lock, flags);
	return take;
}

/* A count of lines held back, if one is due. */
static bool take_report(bool all, struct log_line *l)
{
	uint64_t now = time_ns(), flags = spin_lock_irqsave(&lock);
	bool take = log_fold_report(&folds, now, all, l);
	if (take)
		append(l);
	spin_unlock_irqrestore(&lock, flags);
	return take;
}

static void echo(const struct log_line *l)
{
	if (echo_fn && l->level <= echo_level)
		echo_fn(l);
}

void log_vprintf(enum log_level level, const char *fmt, va_list ap)
{
	struct log_line line = { .time_ns = time_ns(), .level = level };
	vsniprintf(line.text, sizeof(line.text), fmt, ap);
	for (char *p = line.text; *p; p++) /* text may quote a guest or a peer: one line, nothing that moves a cursor */
		if ((unsigned char)*p < ' ' || *p == 0x7f)
			*p = *p == '\n' || *p == '\t' ? ' ' : '?';
	if (take_line(fmt, &line))
		echo(&line);
	while (take_report(false, &line))
		echo(&line);
}

void log_printf(enum log_level level, const char *fmt, ...)
{
	va_list ap;
	va_start(ap, fmt);
	log_vprintf(level, fmt, ap);
	va_end(ap);
}

void log_echo(enum log_level level, void (*fn)(const struct log_line *l))
{
	echo_level = level;
	echo_fn = fn;
}

enum log_level log_echo_level(void) { return echo_level; }

bool log_read(uint64_t *seq, struct log_line *out)
{
	while (*seq == 0 && take_report(true, out)) /* who reads all wants to know all */
		;
	uint64_t flags = spin_lock_irqsave(&lock);
	if (*seq + LINES < next_seq)
		*seq = next_seq - LINES;
	bool there = *seq < next_seq;
	if (there)
		*out = ring[(*seq)++ % LINES];
	spin_unlock_irqrestore(&lock, flags);
	return there;
}

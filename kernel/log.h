/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The log: a ring of the last messages with level and time, also written to the serial console. Any context. One line a
 * call, no newline at its end. Say what, why, and for an operator what to do. Never waits. Lines of one kind and source
 * that come too fast are counted, and "[N lines like this]" follows one of them (log_fold.h).
 */
#pragma once
#include "kernel/base/bits.h"
#include <stdarg.h>

enum log_level { LOG_ERROR, LOG_WARN, LOG_INFO, LOG_DEBUG };

void log_printf(enum log_level level, const char *fmt, ...) printf_like(2, 3);
void log_vprintf(enum log_level level, const char *fmt, va_list ap);
#define log_error(...) log_printf(LOG_ERROR, __VA_ARGS__)
#define log_warn(...)  log_printf(LOG_WARN, __VA_ARGS__)
#define log_info(...)  log_printf(LOG_INFO, __VA_ARGS__)
#define log_debug(...) log_printf(LOG_DEBUG, __VA_ARGS__)

struct log_line {
	uint64_t seq, time_ns;
	enum log_level level;
	char text[232];
};
/*
 * The line with number *seq, or the oldest there is if that has been overwritten; counts *seq on. False: no such line
 * yet.
 */
bool log_read(uint64_t *seq, struct log_line *out);
/* Lines of that level and more urgent ones also go to fn (any context). */
void log_echo(enum log_level level, void (*fn)(const struct log_line *l));
enum log_level log_echo_level(void);
const char *log_level_name(enum log_level level);
int log_level_parse(const char *s); /* or -1 */

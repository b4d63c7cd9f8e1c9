/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The log: a ring of the last messages with level and time, also written to the serial console. Any context.
 * One line a call, no newline at its end. Say what, why, and for an operator what to do.
 */
#pragma once
#include "kernel/bits.h"
#include <stdarg.h>

enum log_level { LOG_ERROR, LOG_WARN, LOG_INFO, LOG_DEBUG };

void log_printf(enum log_level level, const char *fmt, ...) printf_like(2, 3);
void log_vprintf(enum log_level level, const char *fmt, va_list ap);
#define log_error(...) log_printf(LOG_ERROR, __VA_ARGS__)
#define log_warn(...)  log_printf(LOG_WARN, __VA_ARGS__)
#define log_info(...)  log_printf(LOG_INFO, __VA_ARGS__)
#define log_debug(...) log_printf(LOG_DEBUG, __VA_ARGS__)

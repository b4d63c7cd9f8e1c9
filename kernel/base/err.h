/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The three kinds of error (HACKING.md): a guest's or peer's fault is contained where it arose, a lack in the host is
 * -errno and unwinds, our own bug panics. Errno values come from <errno.h> (newlib's, or the host's in unit tests).
 */
#pragma once
#include "kernel/base/bits.h"
#include <errno.h>

/* Our own bug: print registers and a backtrace, stop the other CPUs, keep a read-only console. Any context. */
noreturn void panic(const char *fmt, ...) printf_like(1, 2);

#define BUG_ON(cond)                                                                      \
	do {                                                                              \
		if (__builtin_expect(!!(cond), 0))                                        \
			panic("%s:%d: %s: BUG: %s", __FILE__, __LINE__, __func__, #cond); \
	} while (0)

/* Log a negative errno once, where it is born: `return err_trace(-ENOMEM);`. Any context. */
int err_trace_at(int err, const char *file, int line, const char *func);
#define err_trace(e) err_trace_at((e), __FILE__, __LINE__, __func__)

/* "out of memory" for ENOMEM and so on; never NULL. Takes either sign. */
const char *err_name(int err);
/* "ENOMEM", for scripts. */
const char *err_code(int err);

/*
 * A reason for an operator: what failed, why, and what to do. Filled by functions that take `struct why *` (may be
 * NULL).
 */
struct why {
	char text[256];
};
/*
 * Format into w (if not NULL) unless it holds an earlier, deeper reason; returns err, so `return why_set(w, -EINVAL,
 * ...)`.
 */
int why_set(struct why *w, int err, const char *fmt, ...) printf_like(3, 4);

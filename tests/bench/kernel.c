/* SPDX-License-Identifier: BSD-2-Clause */
/* What the sources under measure want of the kernel. */
#include "tests/bench/kernel.h"
#include "kernel/base/err.h"
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int err_trace_at(int err, const char *file, int line, const char *func)
{
	(void)file, (void)line, (void)func;
	return err;
}

void panic(const char *fmt, ...)
{
	va_list ap;
	va_start(ap, fmt);
	vfprintf(stderr, fmt, ap);
	va_end(ap);
	fputc('\n', stderr);
	abort();
}

hpa_t bench_table_alloc(void *arg)
{
	(void)arg;
	return (hpa_t)(uintptr_t)memset(aligned_alloc(PAGE_SIZE, PAGE_SIZE), 0, PAGE_SIZE);
}

void bench_table_free(void *arg, hpa_t hpa) { (void)arg, free((void *)(uintptr_t)hpa); }

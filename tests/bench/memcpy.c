/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * How long the kernel's own memcpy and memset take, beside those of the C library that it is linked with; both are the
 * very objects of the kernel's image under other names (tests/tests.mk). Prints a table, or with --json what
 * tests/rig/bench.py reads. The two are measured in turn; the median of many rounds counts. Frames go round a ring of
 * buffers, as a card's do.
 */
#include "arch/x86/memory.h"
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

void *tern_memcpy(void *restrict dst, const void *restrict src, size_t n);
void *tern_memset(void *dst, int byte, size_t n);
void *newlib_memcpy(void *restrict dst, const void *restrict src, size_t n);
void *newlib_memset(void *dst, int byte, size_t n);

#define FRAME  1500
#define PAGE   4096
#define RING   32 /* buffers, each beginning elsewhere in a page: loads and stores are told apart by that */
#define STRIDE (PAGE + 192)
#define LARGE  (32UL << 20) /* more than the caches hold of both */
#define ROUNDS 41

struct lib {
	void *(*copy)(void *restrict dst, const void *restrict src, size_t n);
	void *(*set)(void *dst, int byte, size_t n);
};
static const struct lib ours = { tern_memcpy, tern_memset }, theirs = { newlib_memcpy, newlib_memset };
static uint8_t *from, *to;
static unsigned turn;
static volatile uint64_t sink;

static size_t next_place(void) { return (size_t)(turn++ % RING) * STRIDE; }

static void copy(const struct lib *l, size_t n)
{
	size_t at = next_place();
	l->copy(to + at, from + at, n);
}

/* The receiver's IP header wants its alignment, so that the frame begins two bytes above it. */
static void copy_shifted(const struct lib *l, size_t n)
{
	size_t at = next_place();
	l->copy(to + at + 2, from + at, n);
}

static void set(const struct lib *l, size_t n) { l->set(to + next_place(), 0, n); }

static void copy_and_read(const struct lib *l, size_t n)
{
	size_t at = next_place();
	uint64_t sum[4] = { 0 };
	l->copy(to + at, from + at, n);
	for (const uint64_t *p = (uint64_t *)(to + at), *end = p + n / 8 - 3; p < end; p += 4)
		for (unsigned i = 0; i < 4; i++)
			sum[i] += p[i];
	sink = sum[0] + sum[1] + sum[2] + sum[3];
}

static void copy_pages(const struct lib *l, size_t n)
{
	for (size_t i = 0; i < n; i += PAGE)
		l->copy(to + i, from + i, PAGE);
}

static const struct test {
	const char *name;
	void (*run)(const struct lib *l, size_t n);
	size_t n;
	unsigned times; /* in a round */
} tests[] = {
	{ "copy of 14 bytes", copy, 14, 2000 },
	{ "copy of 60 bytes", copy, 60, 2000 },
	{ "copy of a frame", copy, FRAME, 500 },
	{ "copy of a frame, shifted by 2", copy_shifted, FRAME, 500 },
	{ "copy of a frame, and reading it", copy_and_read, FRAME, 500 },
	{ "copy of a page", copy, PAGE, 500 },
	{ "copy of 32 MiB by pages", copy_pages, LARGE, 1 },
	{ "clearing 64 bytes", set, 64, 2000 },
	{ "clearing a page", set, PAGE, 500 },
};

static double now_ns(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

static double round_of(const struct test *t, const struct lib *l)
{
	double start = now_ns();
	for (unsigned i = 0; i < t->times; i++)
		t->run(l, t->n);
	return (now_ns() - start) / t->times;
}

static int by_size(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;
	return (x > y) - (x < y);
}

static void measure(const struct test *t, double *mine, double *newlib)
{
	double a[ROUNDS], b[ROUNDS];
	for (unsigned i = 0; i < ROUNDS; i++) {
		a[i] = round_of(t, &ours);
		b[i] = round_of(t, &theirs);
	}
	qsort(a, ROUNDS, sizeof(a[0]), by_size);
	qsort(b, ROUNDS, sizeof(b[0]), by_size);
	*mine = a[ROUNDS / 2];
	*newlib = b[ROUNDS / 2];
}

int main(int argc, char **argv)
{
	int json = argc > 1 && strcmp(argv[1], "--json") == 0;
	from = aligned_alloc(PAGE, LARGE);
	to = aligned_alloc(PAGE, LARGE + PAGE);
	if (!from || !to)
		return 1;
	memset(from, 1, LARGE);
	memset(to, 1, LARGE + PAGE);
	memory_init();
	printf(json ? "[\n" : "%-34s %10s %10s %7s\n", "", "ours", "newlib's", "ratio");
	for (unsigned i = 0; i < sizeof(tests) / sizeof(tests[0]); i++) {
		double a, b;
		measure(&tests[i], &a, &b);
		if (json)
			printf("%s{\"name\": \"%s\", \"ns\": %.1f, \"newlib_ns\": %.1f}\n", i ? "," : "", tests[i].name,
			       a, b);
		else
			printf("%-34s %7.1f ns %7.1f ns %7.2f\n", tests[i].name, a, b, a / b);
	}
	if (json)
		printf("]\n");
	return 0;
}

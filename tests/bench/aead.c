/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * How long a page takes to seal and to open, with each implementation of each cipher that this machine can be brought
 * to choose: bare, and as a quarter of a TLS record of full size, with the copies that its sender and its receiver make
 * (net/tls.c). The objects are those of the kernel's image. Prints a table, or with --json what tests/rig/bench.py
 * reads; with --instructions, before that, how many instructions they take. The fastest quarter of many rounds counts:
 * the rest is what other work on the machine costs.
 */
#include "crypto/aead.h"
#include "arch/x86/cpu.h"
#include "arch/x86/fpu.h"
#include "arch/x86/hw/cpuid_bits.h"
#include "kernel/base/err.h"
#include "kernel/log.h"
#include "kernel/task.h"
#include "net/tls_record.h"
#include "tests/bench/count.h"
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* What the kernel's objects want of it. */
uintptr_t __stack_chk_guard = 0x5bd1e995;
void vector_begin(void) {}
void vector_end(void) {}
void log_printf(enum log_level level, const char *fmt, ...) { (void)level, (void)fmt; }
void panic(const char *fmt, ...)
{
	va_list ap;
	va_start(ap, fmt);
	vfprintf(stderr, fmt, ap);
	va_end(ap);
	exit(1);
}
uint64_t fpu_xcr0_mask(void)
{
	uint32_t lo = 0, hi = 0;
	if (cpuid(1, 0).ecx & BIT(27)) /* OSXSAVE */
		__asm__ volatile("xgetbv" : "=a"(lo), "=d"(hi) : "c"(0));
	return (uint64_t)hi << 32 | lo;
}

#define ROUNDS 101
#define TIMES  20 /* pages in a round */

static uint8_t page[PAGE_SIZE], sealed[PAGE_SIZE], tag[AEAD_TAG];
static struct aead_key key;
static const uint8_t zeros[AEAD_KEY_MAX];

static void seal(void) { aead_seal(&key, zeros, zeros, 5, page, sealed, sizeof(page), tag); }

static void open(void)
{
	if (aead_open(&key, zeros, zeros, 5, sealed, page, sizeof(page), tag))
		exit(1);
}

#define PAGES  (TLS_TEXT_MAX / PAGE_SIZE) /* in a record */
/* Half a page apart: copies whose ends have alike addresses modulo 4096 would be measured at a third of their speed. */
#define RECORD (TLS_TEXT_MAX + TLS_OVERHEAD)
static uint8_t room[16 * PAGE_SIZE] __attribute__((aligned(PAGE_SIZE)));
static uint8_t *const rec = room, *const wire = room + 5 * PAGE_SIZE + 2048, *const text = room + 10 * PAGE_SIZE + 2048;
static struct tls_half half;

static void send(void)
{
	memcpy(rec + TLS_HEADER, text, TLS_TEXT_MAX);
	(void)tls_seal(&half, TLS_DATA, rec, TLS_TEXT_MAX);
}

static void receive(void)
{
	uint8_t type;
	half.records = 0;
	memcpy(rec, wire, RECORD);
	int body = tls_body_len(rec);
	if (body < 0 || tls_open(&half, rec, (size_t)body, &type) != TLS_TEXT_MAX)
		exit(1);
	memcpy(text, rec + TLS_HEADER, TLS_TEXT_MAX);
}

static int by_size(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;
	return (x > y) - (x < y);
}

static double now_ns(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

#define RUNS 4
static void (*const runs[RUNS])(void) = { seal, open, send, receive };
/*
 * One page's nanoseconds and ticks of the TSC. They take turns: a CPU whose clock moves, or that has other work for a
 * while, is that for all of them, and their ratios stay.
 */
static void measure(double ns[RUNS], double ticks[RUNS])
{
	double n[RUNS][ROUNDS], t[RUNS][ROUNDS];
	for (unsigned i = 0; i < ROUNDS * RUNS; i++) {
		unsigned r = i % RUNS;
		double start = now_ns();
		uint64_t tsc = rdtsc();
		for (unsigned j = 0; j < TIMES; j++)
			runs[r]();
		t[r][i / RUNS] = (double)(rdtsc() - tsc) / TIMES;
		n[r][i / RUNS] = (now_ns() - start) / TIMES;
	}
	for (unsigned r = 0; r < RUNS; r++) {
		qsort(n[r], ROUNDS, sizeof(n[r][0]), by_size);
		qsort(t[r], ROUNDS, sizeof(t[r][0]), by_size);
		ns[r] = n[r][ROUNDS / 4];
		ticks[r] = t[r][ROUNDS / 4];
	}
}

/* Features left, so that each implementation is chosen once. */
static const uint32_t levels[][2] = {
	{ UINT32_MAX, UINT32_MAX },
	{ ~(uint32_t)CPUID1_ECX_MOVBE, 0 },
	{ ~(uint32_t)CPUID1_ECX_AVX, 0 },
	{ 0, 0 },
};

/* What can be chosen here. */
static struct choice {
	enum aead_cipher cipher;
	const uint32_t *level;
	char name[64];
} choices[AEAD_CIPHERS * ARRAY_SIZE(levels)];
static size_t nchoices;

static void choose(const struct choice *c)
{
	aead_init_limited(c->level[0], c->level[1]);
	aead_key_set(&key, c->cipher, zeros);
	tls_half_init(&half, c->cipher, zeros);
	seal();
	send();
	memcpy(wire, rec, RECORD);
	half.records = 0;
}

static void find_choices(void)
{
	for (enum aead_cipher c = 0; c < AEAD_CIPHERS; c++)
		for (unsigned i = 0; i < ARRAY_SIZE(levels); i++) {
			static const char *before;
			struct choice *at = &choices[nchoices];
			aead_init_limited(levels[i][0], levels[i][1]);
			const char *now = aead_implementation(c);
			if (aead_has(c) && (!i || now != before)) {
				*at = (struct choice){ .cipher = c, .level = levels[i] };
				snprintf(at->name, sizeof(at->name), "%s, %s", aead_name(c), now);
				nchoices++;
			}
			before = now;
		}
}

/* ---- counted: the same four, of each choice ---- */

static const char *counted_name(size_t i)
{
	static const char *const what[RUNS] = { "seal a page", "open a page", "send 4 pages by TLS",
						"receive 4 pages by TLS" };
	_Static_assert(PAGES == 4, "as the names say");
	static char name[128];
	snprintf(name, sizeof(name), "%s, %s", what[i % RUNS], choices[i / RUNS].name);
	return name;
}
static void counted_prepare(size_t i) { choose(&choices[i / RUNS]); }
static int counted_run(size_t i)
{
	runs[i % RUNS]();
	return 0;
}

/* --instructions [--json], or [--json]. */
int main(int argc, char **argv)
{
	find_choices();
	if (argc > 1 && strcmp(argv[1], "--instructions") == 0)
		return count_main(argc - 1, argv + 1,
				  &(struct counted){ .program = "bench_aead",
						     .n = nchoices * RUNS,
						     .name = counted_name,
						     .prepare = counted_prepare,
						     .run = counted_run });
	int json = argc > 1 && strcmp(argv[1], "--json") == 0;
	printf(json ? "[\n" : "%-40s %15s %15s %15s %15s %20s\n", "", "seal a page", "", "open a page", "",
	       "TLS: send, receive");
	for (const struct choice *c = choices; c < choices + nchoices; c++) {
		double ns[RUNS], ticks[RUNS];
		choose(c);
		measure(ns, ticks);
		if (json)
			printf("%s{\"name\": \"%s\", \"seal_ns\": %.1f, \"open_ns\": %.1f, \"send_ns\": %.1f, "
			       "\"receive_ns\": %.1f, \"seal_cycles\": %.0f, \"open_cycles\": %.0f}\n",
			       c > choices ? "," : "", c->name, ns[0], ns[1], ns[2] / PAGES, ns[3] / PAGES, ticks[0],
			       ticks[1]);
		else
			printf("%-40s %8.0f cycles %10.0f MB/s %8.0f cycles %10.0f MB/s %10.2f x %5.2f x\n", c->name,
			       ticks[0], sizeof(page) * 1e3 / ns[0], ticks[1], sizeof(page) * 1e3 / ns[1],
			       ticks[2] / PAGES / ticks[0], ticks[3] / PAGES / ticks[1]);
	}
	if (json)
		printf("]\n");
	return 0;
}

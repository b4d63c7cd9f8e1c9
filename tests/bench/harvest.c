/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * How much faster several CPUs scan page tables than one: the walker built for this machine, 4K leaves of which none is
 * dirty, a GiB after the other taken from one counter, as kernel/crew.c does it. Wall time, so what else this machine
 * does is in it: the best of several rounds.
 *
 *   bench_harvest [--json]
 */
#include "arch/x86/pt.h"
#include "tests/bench/kernel.h"
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define GIBS    16 /* 32 MiB of tables */
#define ROUNDS  15
#define CPUS    2 /* that the rig has */
#define REPEATS 8

static struct pt pt;
static unsigned next;

static void *scan(void *arg)
{
	uint64_t *map = arg;
	for (unsigned i; (i = __atomic_fetch_add(&next, 1, __ATOMIC_RELAXED)) < GIBS * REPEATS;)
		if (pt_harvest(&pt, GIB((uint64_t)(i % GIBS)), GIB(1), map, GIB((uint64_t)(i % GIBS)) >> PAGE_SHIFT))
			abort(); /* none is dirty */
	return NULL;
}

/* Seconds that so many threads take for all of it. */
static double round_of(unsigned threads)
{
	static uint64_t map[CPUS][GIB(1) >> PAGE_SHIFT >> 6];
	pthread_t th[CPUS];
	struct timespec a, b;
	next = 0;
	clock_gettime(CLOCK_MONOTONIC, &a);
	for (unsigned i = 1; i < threads; i++)
		if (pthread_create(&th[i], NULL, scan, map[i]))
			abort();
	scan(map[0]);
	for (unsigned i = 1; i < threads; i++)
		pthread_join(th[i], NULL);
	clock_gettime(CLOCK_MONOTONIC, &b);
	return (double)(b.tv_sec - a.tv_sec) + (double)(b.tv_nsec - a.tv_nsec) / 1e9;
}

int main(int argc, char **argv)
{
	double best[CPUS + 1];
	if (pt_init(&pt, &pt_format_npt, bench_table_alloc, bench_table_free, NULL) ||
	    pt_map(&pt, 0, GIB(4), GIB((uint64_t)GIBS), PT_R | PT_W) || pt_split(&pt, 0, GIB((uint64_t)GIBS)))
		return 1;
	for (unsigned threads = 1; threads <= CPUS; threads++) {
		best[threads] = 1e9;
		for (unsigned i = 0; i < ROUNDS; i++) {
			double s = round_of(threads);
			best[threads] = s < best[threads] ? s : best[threads];
		}
	}
	double gibs = GIBS * REPEATS;
	if (argc > 1 && !strcmp(argv[1], "--json"))
		printf("{\"one\": %.1f, \"two\": %.1f}\n", gibs / best[1], gibs / best[2]);
	else
		printf("scans of 4K leaves, clean: one CPU %.0f GiB/s, two %.0f GiB/s\n", gibs / best[1],
		       gibs / best[2]);
	return 0;
}

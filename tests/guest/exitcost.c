/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What a VM exit costs, seen from the guest: CPUID and OUT 0x80, each in a loop, less the same loop empty. Meant for an
 * emulator that makes RDTSC count instructions. Loops are short and the median of many counts, for the timer's ticks
 * disturb some.
 *
 *   exitcost       prints "exitcost: cpuid=N out=N"
 */
#include <cpuid.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/io.h>
#include <x86intrin.h>

#define ITERATIONS 200
#define ROUNDS     50

static inline void nothing(void) { __asm__ volatile("" ::: "memory"); }

static inline void do_cpuid(void)
{
	uint32_t a = 0, b, c = 0, d;

	__asm__ volatile("cpuid" : "+a"(a), "=b"(b), "+c"(c), "=d"(d)::"memory");
}

static inline void do_out(void) { outb(0, 0x80); }

static int compare(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return x < y ? -1 : x > y;
}

#define MEDIAN(what)                                           \
	({                                                     \
		static uint64_t took[ROUNDS];                  \
		for (int round = 0; round < ROUNDS; round++) { \
			uint64_t start = __rdtsc();            \
			for (int i = 0; i < ITERATIONS; i++)   \
				what();                        \
			took[round] = __rdtsc() - start;       \
		}                                              \
		qsort(took, ROUNDS, sizeof(took[0]), compare); \
		took[ROUNDS / 2];                              \
	})

int main(void)
{
	uint64_t empty, cpuid, out = 0;

	if (ioperm(0x80, 1, 1))
		perror("exitcost: ioperm");
	empty = MEDIAN(nothing);
	cpuid = MEDIAN(do_cpuid) - empty;
	out = MEDIAN(do_out) - empty;
	printf("exitcost: cpuid=%llu out=%llu\n", (unsigned long long)(cpuid / ITERATIONS),
	       (unsigned long long)(out / ITERATIONS));
	return 0;
}

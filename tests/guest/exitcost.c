/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What a VM exit costs, seen from the guest: CPUID and OUT 0x80, each in a loop, less the same loop empty. Meant for an
 * emulator that makes RDTSC count instructions. Loops are short and the median of many counts, for the timer's ticks
 * disturb some.
 *
 * With `wake`, also what it costs to wake another CPU of the guest's from its idle loop by an interrupt and to be woken
 * by it, both halted meanwhile: two threads that hand a token to each other, on two CPUs, less the same on one. On a
 * host with one CPU nothing else runs in that time.
 *
 *   exitcost [wake]    prints "exitcost: cpuid=N out=N wake=N" (wake: 0 unless asked for, and with one CPU)
 *
 * And what a guest gets done in the time that it has, which is less where the hypervisor works in its CPU's context:
 * pages written to, round and round, for some 10^9 ticks of the TSC, of which others had the CPU for some ms ("steal"
 * in proc(5), to 10 ms).
 *
 *   exitcost dirty GIGATICKS    prints "exitcost: of=GIGATICKS dirtied=N ticks=N stolen_ms=N"
 */
#define _GNU_SOURCE
#include <cpuid.h>
#include <linux/futex.h>
#include <pthread.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/io.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>
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

static _Atomic uint32_t token;
enum { TURNS = ROUNDS * ITERATIONS / 10 };

static void pin(unsigned cpu)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	if (sched_setaffinity(0, sizeof(set), &set))
		perror("exitcost: sched_setaffinity");
}

static void wait_for(uint32_t turn) /* turns only go up */
{
	uint32_t now;

	while ((now = token) < turn)
		syscall(SYS_futex, &token, FUTEX_WAIT_PRIVATE, now, NULL, NULL, 0);
}

static void hand_over(uint32_t turn)
{
	token = turn;
	syscall(SYS_futex, &token, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
}

static void *other(void *cpu)
{
	pin((unsigned)(uintptr_t)cpu);
	for (uint32_t turn = 1; turn < 2 * TURNS; turn += 2) {
		wait_for(turn);
		hand_over(turn + 1);
	}
	return NULL;
}

/* The median of one time to the other thread and back. */
static uint64_t there_and_back(unsigned cpu)
{
	static uint64_t took[TURNS];
	pthread_t th;

	pin(0);
	token = 0;
	if (pthread_create(&th, NULL, other, (void *)(uintptr_t)cpu))
		return 0;
	for (uint32_t n = 0; n < TURNS; n++) {
		uint64_t start = __rdtsc();

		hand_over(2 * n + 1);
		wait_for(2 * n + 2);
		took[n] = __rdtsc() - start;
	}
	pthread_join(th, NULL);
	qsort(took, TURNS, sizeof(took[0]), compare);
	return took[TURNS / 2];
}

static uint64_t woken(void)
{
	uint64_t one = there_and_back(0), two = there_and_back(1);

	return two > one ? two - one : 0;
}

/* Of CPU 0, since it started; 0 where the kernel does not say. */
static uint64_t stolen_ms(void)
{
	unsigned long long of[8] = { 0 };
	FILE *f = fopen("/proc/stat", "r");

	if (!f)
		return 0;
	if (fscanf(f, "cpu %*[^\n] cpu0 %llu %llu %llu %llu %llu %llu %llu %llu", &of[0], &of[1], &of[2], &of[3],
		   &of[4], &of[5], &of[6], &of[7]) != 8)
		of[7] = 0;
	fclose(f);
	return of[7] * 1000 / (uint64_t)sysconf(_SC_CLK_TCK);
}

static int dirtying(uint64_t giga)
{
	enum { SET = 64 << 20, PAGE = 4096 };
	uint8_t *mem = mmap(NULL, SET, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	uint64_t dirtied = 0, stolen, start, ticks;

	if (mem == MAP_FAILED) {
		perror("exitcost: mmap");
		return 1;
	}
	pin(0);
	memset(mem, 1, SET);
	stolen = stolen_ms();
	start = __rdtsc();
	do {
		for (uint64_t at = 0; at < SET; at += PAGE)
			*(volatile uint64_t *)(void *)(mem + at) = ++dirtied;
		ticks = __rdtsc() - start;
	} while (ticks < giga * 1000000000);
	stolen = stolen_ms() - stolen;
	printf("exitcost: of=%llu dirtied=%llu ticks=%llu stolen_ms=%llu\n", (unsigned long long)giga,
	       (unsigned long long)dirtied, (unsigned long long)ticks, (unsigned long long)stolen);
	return 0;
}

int main(int argc, char **argv)
{
	uint64_t empty, cpuid, out = 0, wake = 0;

	if (argc > 2 && !strcmp(argv[1], "dirty"))
		return dirtying(strtoull(argv[2], NULL, 10));

	if (ioperm(0x80, 1, 1))
		perror("exitcost: ioperm");
	empty = MEDIAN(nothing);
	cpuid = MEDIAN(do_cpuid) - empty;
	out = MEDIAN(do_out) - empty;
	if (argc > 1 && sysconf(_SC_NPROCESSORS_ONLN) > 1)
		wake = woken();
	printf("exitcost: cpuid=%llu out=%llu wake=%llu\n", (unsigned long long)(cpuid / ITERATIONS),
	       (unsigned long long)(out / ITERATIONS), (unsigned long long)wake);
	return 0;
}

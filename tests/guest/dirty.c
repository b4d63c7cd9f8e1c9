/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The dirty-rate generator: writes one word in each page of a working set, round and round, at a given rate. With a
 * rate of 0 it is bound by its CPU, and WORK, rounds of a sum for each page, says how much.
 *
 *   dirty MIB_PER_S WORKING_SET_MIB [WORK]
 *
 * Status on TCP port 7003 and in /run/dirty.
 */
#include "load.h"

static struct load load;
static uint64_t written;

static const char *status(void)
{
	static char s[160];

	snprintf(s, sizeof(s), "written_mib=%llu set_mib=%llu rate_mib=%llu", (unsigned long long)(written / 256),
		 (unsigned long long)(load.pages / 256), (unsigned long long)(load.rate / 256));
	return s;
}

int main(int argc, char **argv)
{
	uint64_t at = 0, work = argc > 3 ? strtoull(argv[3], NULL, 10) : 0;
	volatile uint64_t sum = 0;

	load_init(&load, "dirty", 7003, argc > 2 ? strtoull(argv[2], NULL, 10) : 64,
		  argc > 1 ? strtoull(argv[1], NULL, 10) : 16);
	for (;;) {
		for (uint64_t n = load_tick(&load, status); n; n--) {
			for (uint64_t i = 0; i < work; i++)
				sum += i;
			*(volatile uint64_t *)(void *)(load.mem + at * PAGE) = ++written;
			load.done++;
			at = (at + 1) % load.pages;
		}
	}
}

/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The page checker, run inside the guest while it migrates. Every page carries its own number and a counter. In each
 * pass all pages are visited in order: the counter must be that of the pass before and the number the page's own, then
 * the counter goes up. One lost, stale or misplaced page is an error, and stays counted.
 *
 *   pagecheck MIB [MIB_PER_S]      0 MiB/s (as fast as it goes) is a load that no link follows; default 16
 *
 * Status on TCP port 7002 and in /run/pagecheck.
 */
#include "load.h"

struct page {
	uint8_t counter;
	uint8_t pad[7];
	uint64_t number;
};

static struct load load;
static uint64_t passes, errors;

static const char *status(void)
{
	static char s[160];

	snprintf(s, sizeof(s), "passes=%llu pages=%llu errors=%llu", (unsigned long long)passes,
		 (unsigned long long)load.pages, (unsigned long long)errors);
	return s;
}

static void visit(uint64_t i)
{
	volatile struct page *p = (void *)(load.mem + i * PAGE);
	uint8_t counter = p->counter;
	uint64_t number = p->number;

	if (counter != (uint8_t)passes || number != i) {
		if (!errors++)
			fprintf(stderr, "pagecheck: pass %llu: page %llu holds counter %u and number %llu\n",
				(unsigned long long)passes, (unsigned long long)i, counter, (unsigned long long)number);
		p->number = i;
	}
	p->counter = (uint8_t)(passes + 1);
}

int main(int argc, char **argv)
{
	uint64_t at = 0;

	load_init(&load, "pagecheck", 7002, argc > 1 ? strtoull(argv[1], NULL, 10) : 64,
		  argc > 2 ? strtoull(argv[2], NULL, 10) : 16);
	for (uint64_t i = 0; i < load.pages; i++)
		((struct page *)(void *)(load.mem + i * PAGE))->number = i;
	for (;;) {
		for (uint64_t n = load_tick(&load, status); n; n--) {
			visit(at);
			load.done++;
			if (++at == load.pages) {
				at = 0;
				passes++;
			}
		}
	}
}

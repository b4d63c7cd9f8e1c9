/* SPDX-License-Identifier: BSD-2-Clause */
/* Clearing a new VM's memory, which for large ones takes seconds: block by block, on all CPUs. */
#include "kernel/crew.h"
#include "kernel/time.h"
#include "vmm/gmem.h"

#define REPORT_BYTES MIB(64)
#define REPORT_NS    (250 * NS_PER_MS)

/* Short parts: between two of them somebody may want to know, or to end it, however slow this memory is. */
#define PART_ORDER 4
#define PART       (PAGE_SIZE << PART_ORDER)
#define PARTS      (GMEM_BLOCK / PART) /* of a block */

struct clearing {
	const struct gmem *g;
	const struct gmem_progress *p;
	uint64_t told_parts, told_ns; /* when p heard of it last */
};

static void clear_part(void *arg, uint64_t n)
{
	const struct clearing *c = arg;
	page_zero(*gmem_nth_block(c->g, n / PARTS) + n % PARTS * PART, PART_ORDER);
}

static int tell(struct clearing *c, uint64_t done, uint64_t ns)
{
	c->told_parts = done;
	c->told_ns = ns;
	return c->p->step(c->p->arg, done * PART, c->g->size);
}

/* Tell who waits, if it is time. */
static int report(void *arg, uint64_t done)
{
	struct clearing *c = arg;
	uint64_t ns = time_ns();
	bool due = done - c->told_parts >= REPORT_BYTES / PART || ns - c->told_ns >= REPORT_NS;
	return due ? tell(c, done, ns) : 0;
}

int gmem_clear(const struct gmem *g, const struct gmem_progress *p)
{
	struct clearing c = { .g = g, .p = p, .told_ns = time_ns() };
	struct crew_work w = { .name = "clear",
			       .part = clear_part,
			       .told = p ? report : NULL,
			       .arg = &c,
			       .parts = g->nblocks * PARTS,
			       .worth = 4 * PARTS,
			       .prio = TASK_PRIO_NORMAL };
	int err = crew_run(&w);
	return err || !p ? err : tell(&c, g->nblocks * PARTS, time_ns());
}

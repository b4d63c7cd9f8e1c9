/* SPDX-License-Identifier: BSD-2-Clause */
/* See memmap.h. Quadratic, which is nothing for the few hundred ranges that firmware reports. */
#include "boot/memmap.h"

static void page_bounds(const struct handoff_mem *m, uint64_t *start, uint64_t *end)
{
	bool free = m->type == HANDOFF_MEM_FREE;

	*start = *end = 0;
	if (m->size > ~(uint64_t)PAGE_MASK - m->base || !m->size)
		return; /* wraps around, or ends in the last page of all: no such memory exists */
	*start = free ? ALIGN_UP(m->base, PAGE_SIZE) : ALIGN_DOWN(m->base, PAGE_SIZE);
	*end = free ? ALIGN_DOWN(m->base + m->size, PAGE_SIZE) : ALIGN_UP(m->base + m->size, PAGE_SIZE);
	if (*end < *start)
		*end = *start;
}

static unsigned insert(uint64_t *cuts, unsigned n, uint64_t cut)
{
	unsigned i = n;

	while (i > 0 && cuts[i - 1] > cut)
		i--;
	if (i > 0 && cuts[i - 1] == cut)
		return n;
	for (unsigned k = n; k > i; k--)
		cuts[k] = cuts[k - 1];
	cuts[i] = cut;
	return n + 1;
}

unsigned memmap_flatten(const struct handoff_mem *in, unsigned n, uint64_t *cuts, struct handoff_mem *out)
{
	unsigned ncuts = 0, nout = 0;
	uint64_t start, end;

	for (unsigned i = 0; i < n; i++) {
		page_bounds(&in[i], &start, &end);
		if (start == end)
			continue;
		ncuts = insert(cuts, ncuts, start);
		ncuts = insert(cuts, ncuts, end);
	}
	/* No range begins or ends between two cuts: each piece has one type. */
	for (unsigned c = 0; c + 1 < ncuts; c++) {
		uint32_t type = 0;

		for (unsigned i = 0; i < n; i++) {
			page_bounds(&in[i], &start, &end);
			if (start <= cuts[c] && cuts[c + 1] <= end)
				type = MAX(type, in[i].type);
		}
		if (!type)
			continue;
		if (nout && out[nout - 1].type == type && out[nout - 1].base + out[nout - 1].size == cuts[c])
			out[nout - 1].size += cuts[c + 1] - cuts[c];
		else
			out[nout++] =
				(struct handoff_mem){ .base = cuts[c], .size = cuts[c + 1] - cuts[c], .type = type };
	}
	return nout;
}

hpa_t memmap_free_page_below(const struct handoff_mem *m, unsigned n, hpa_t limit)
{
	hpa_t best = 0;

	for (unsigned i = 0; i < n; i++)
		if (m[i].type == HANDOFF_MEM_FREE && m[i].base < limit)
			best = MAX(best, MIN(m[i].base + m[i].size, limit) - PAGE_SIZE);
	return best;
}

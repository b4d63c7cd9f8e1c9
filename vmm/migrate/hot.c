/* SPDX-License-Identifier: BSD-2-Clause */
/* Frames that go with a VM's state (hot.h). */
#include "vmm/migrate/hot.h"
#include <stdlib.h>

struct collect {
	const struct gmem *mem;
	gfn_t *frame; /* NULL: they are counted */
	unsigned n;
};

static void add(void *arg, gpa_t gpa, size_t len)
{
	struct collect *c = arg;
	for (gfn_t f = gpa >> PAGE_SHIFT; len && f <= (gpa + len - 1) >> PAGE_SHIFT; f++) {
		if (!gmem_is_ram(c->mem, f << PAGE_SHIFT)) /* it is the guest's word */
			continue;
		if (c->frame)
			c->frame[c->n] = f;
		c->n++;
	}
}

static int compare(const void *a, const void *b)
{
	gfn_t x = *(const gfn_t *)a, y = *(const gfn_t *)b;
	return x < y ? -1 : x > y;
}

int hot_frames_get(struct hot_frames *h, struct vm *vm)
{
	struct collect c = { .mem = &vm->mem };
	vm_for_each_hot(vm, add, &c);
	c.frame = malloc(MAX(c.n, 1U) * sizeof(*c.frame));
	if (!c.frame)
		return -ENOMEM;
	c.n = 0;
	vm_for_each_hot(vm, add, &c);
	qsort(c.frame, c.n, sizeof(*c.frame), compare);
	*h = (struct hot_frames){ c.frame, 0 };
	for (unsigned i = 0; i < c.n; i++)
		if (!h->n || h->frame[h->n - 1] != c.frame[i])
			h->frame[h->n++] = c.frame[i];
	return 0;
}

void hot_frames_put(struct hot_frames *h) { free(h->frame); }

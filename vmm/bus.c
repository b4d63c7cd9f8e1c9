/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The guest's address decoders: two sorted arrays of regions, ports and memory. A look-up copies the region out under
 * the lock and calls its device without it, so that a device may add and remove regions (PCI BARs) from inside an
 * access. Devices live as long as their VM: a region that was just removed may still see one access that was on its
 * way.
 */
#include "vmm/bus.h"
#include <string.h>

#define BUS_PIO_END 0x10000UL

void bus_init(struct bus *b)
{
	memset(b, 0, sizeof(*b));
	spin_init(&b->lock, "bus");
}

/* Index of the first region of s whose base is above addr. Lock held. */
static unsigned bus_upper(const struct bus *b, enum bus_space s, uint64_t addr)
{
	unsigned lo = 0, hi = b->space[s].n;

	while (lo < hi) {
		unsigned mid = (lo + hi) / 2;

		if (b->space[s].r[mid].base <= addr)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo;
}

int bus_add(struct bus *b, enum bus_space s, const struct bus_region *r)
{
	struct bus_region *at = b->space[s].r;
	int err = 0;
	unsigned i;

	if (!r->len || r->base + r->len < r->base || (s == BUS_PIO && r->base + r->len > BUS_PIO_END))
		return -EINVAL;
	spin_lock(&b->lock);
	i = bus_upper(b, s, r->base);
	if ((i && r->base - at[i - 1].base < at[i - 1].len) || (i < b->space[s].n && at[i].base - r->base < r->len))
		err = -EEXIST;
	else if (b->space[s].n == BUS_MAX_REGIONS)
		err = -ENOSPC;
	if (!err) {
		memmove(at + i + 1, at + i, (b->space[s].n - i) * sizeof(*at));
		at[i] = *r;
		b->space[s].n++;
	}
	spin_unlock(&b->lock);
	return err;
}

void bus_remove(struct bus *b, enum bus_space s, uint64_t base)
{
	struct bus_region *at = b->space[s].r;
	unsigned i;

	spin_lock(&b->lock);
	i = bus_upper(b, s, base);
	if (i && at[i - 1].base == base) {
		memmove(at + i - 1, at + i, (b->space[s].n - i) * sizeof(*at));
		b->space[s].n--;
	}
	spin_unlock(&b->lock);
}

/* The region that holds the whole access, into *r; else false, and it is counted. */
static bool bus_find(struct bus *b, enum bus_space s, uint64_t addr, unsigned size, struct bus_region *r)
{
	bool found = false;
	unsigned i;

	spin_lock(&b->lock);
	i = bus_upper(b, s, addr);
	if (i) {
		*r = b->space[s].r[i - 1];
		found = addr - r->base < r->len && size <= r->len - (addr - r->base);
	}
	if (!found)
		b->unclaimed++;
	spin_unlock(&b->lock);
	return found;
}

static uint64_t size_mask(unsigned size) { return size >= 8 ? ~0UL : BIT(size * 8) - 1; }

uint64_t bus_read(struct bus *b, enum bus_space s, uint64_t addr, unsigned size)
{
	struct bus_region r;

	if (!bus_find(b, s, addr, size, &r) || !r.ops->read)
		return size_mask(size);
	return r.ops->read(r.arg, addr - r.base, size) & size_mask(size);
}

void bus_write(struct bus *b, enum bus_space s, uint64_t addr, unsigned size, uint64_t val)
{
	struct bus_region r;

	if (bus_find(b, s, addr, size, &r) && r.ops->write)
		r.ops->write(r.arg, addr - r.base, size, val & size_mask(size));
}

/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The guest's address decoders: two sorted arrays of regions, ports and memory. A look-up copies the region out and
 * then calls its device, so that a device may add and remove regions (PCI BARs) from inside an access. It takes no
 * lock, for every vCPU comes by here at each port and MMIO exit: it looks again if the arrays were changed meanwhile
 * (seq, odd during a change). Devices live as long as their VM: a region that was just removed may still see one access
 * that was on its way.
 */
#include "vmm/bus.h"
#include <string.h>

#define BUS_PIO_END 0x10000UL

void bus_init(struct bus *b)
{
	memset(b, 0, sizeof(*b));
	spin_init(&b->lock, "bus");
}

#define LOAD(p)     __atomic_load_n(p, __ATOMIC_RELAXED)
#define STORE(p, v) __atomic_store_n(p, v, __ATOMIC_RELAXED)

/* A region, word by word: one that is torn is seen to be, by seq, but never before it has been read. */
static void region_copy(struct bus_region *to, const struct bus_region *from)
{
	STORE(&to->base, LOAD(&from->base));
	STORE(&to->len, LOAD(&from->len));
	STORE(&to->ops, LOAD(&from->ops));
	STORE(&to->arg, LOAD(&from->arg));
	STORE(&to->name, LOAD(&from->name));
}

/* Lock held. */
static void change_begin(struct bus *b)
{
	STORE(&b->seq, b->seq + 1);
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
}
static void change_end(struct bus *b) { __atomic_store_n(&b->seq, b->seq + 1, __ATOMIC_RELEASE); }

/* Index of the first region of s whose base is above addr. Lock held, or seq is compared afterwards. */
static unsigned bus_upper(const struct bus *b, enum bus_space s, uint64_t addr)
{
	unsigned lo = 0, hi = LOAD(&b->space[s].n);

	while (lo < hi) {
		unsigned mid = (lo + hi) / 2;

		if (LOAD(&b->space[s].r[mid].base) <= addr)
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
		change_begin(b);
		for (unsigned k = b->space[s].n; k > i; k--)
			region_copy(&at[k], &at[k - 1]);
		region_copy(&at[i], r);
		STORE(&b->space[s].n, b->space[s].n + 1);
		change_end(b);
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
		change_begin(b);
		STORE(&b->space[s].n, b->space[s].n - 1);
		for (unsigned k = i - 1; k < b->space[s].n; k++)
			region_copy(&at[k], &at[k + 1]);
		change_end(b);
	}
	spin_unlock(&b->lock);
}

/* The region that holds the whole access, into *r; else false, and it is counted. */
static bool bus_find(struct bus *b, enum bus_space s, uint64_t addr, unsigned size, struct bus_region *r)
{
	uint32_t seq;
	bool found;

	do {
		seq = __atomic_load_n(&b->seq, __ATOMIC_ACQUIRE) & ~1U; /* odd: what is read now will not do */
		unsigned i = bus_upper(b, s, addr);
		found = false;
		if (i) {
			region_copy(r, &b->space[s].r[i - 1]);
			found = addr - r->base < r->len && size <= r->len - (addr - r->base);
		}
		__atomic_thread_fence(__ATOMIC_ACQUIRE);
	} while (LOAD(&b->seq) != seq);
	if (!found)
		__atomic_fetch_add(&b->unclaimed, 1, __ATOMIC_RELAXED);
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

/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The guest's address decoders: which device answers at a port or at a guest-physical address. Regions come and go at
 * run time (PCI BARs), from any task. Look-ups take no lock; a region's functions are called with the vCPU in an exit.
 */
#pragma once
#include "kernel/base/bits.h"
#include "kernel/base/err.h"
#include "kernel/spinlock.h"

enum bus_space { BUS_PIO, BUS_MMIO, BUS_SPACES };
#define BUS_MAX_REGIONS 64

struct bus_ops {
	/* off is within the region, size 1, 2, 4 or 8 and inside it. */
	uint64_t (*read)(void *arg, uint64_t off, unsigned size);
	void (*write)(void *arg, uint64_t off, unsigned size, uint64_t val);
};
struct bus_region {
	uint64_t base, len;
	const struct bus_ops *ops;
	void *arg;
	const char *name;
};
struct bus {
	struct spinlock lock; /* of changes */
	uint32_t seq;         /* atomic; odd while they are changed */
	struct {              /* sorted by base */
		struct bus_region r[BUS_MAX_REGIONS];
		unsigned n;
	} space[BUS_SPACES];
	uint64_t unclaimed; /* atomic; accesses that nobody answered: reads give all ones, writes go nowhere */
};
void bus_init(struct bus *b);
int bus_add(struct bus *b, enum bus_space s, const struct bus_region *r) must_check; /* -EEXIST on overlap, -ENOSPC */
void bus_remove(struct bus *b, enum bus_space s, uint64_t base);
uint64_t bus_read(struct bus *b, enum bus_space s, uint64_t addr, unsigned size);
void bus_write(struct bus *b, enum bus_space s, uint64_t addr, unsigned size, uint64_t val);

/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Any guest against PCI and virtio: the input is a program of register accesses, memory writes, received frames and
 * migrations. Rings start in a working state, so that what is mutated is a driver and not noise. Never a crash, never a
 * write outside guest memory (ASan), and always a state that can be saved and loaded.
 */
#include "tests/fuzz/input.h"
#include "tests/unit/fake_guest.h"
#include "tests/unit/gmem_dirt.h"
#include "vmm/dev/vnet.h"
#include "vmm/pc/pc.h"
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define FEATURES (BIT(32) | BIT(28) | BIT(21) | BIT(17) | BIT(16) | BIT(15) | 0x1983)

static struct fg g;

/*
 * The same machine at the start of each input: made once, then reset, with the memory zeroed that the last one changed.
 */
static void begin(void)
{
	if (!g.shadow) {
		fg_init(&g);
		g.unchecked = true;
	}
	for (gfn_t f = 0; f < g.mem.gfn_end; f++)
		if (f < 17 || is_dirty(&g.mem, f)) {
			memset(gmem_ptr(&g.mem, f << PAGE_SHIFT, PAGE_SIZE), 0, PAGE_SIZE);
			forget_dirt(&g.mem, f);
		}
	fg_reset(&g);
}

/* Ring of queue q, 16 entries, in pages 2 to 5: the card's pair, the generator's, the card's control queue. */
static uint64_t ring(unsigned slot, unsigned q) { return 0x1000UL * (q < 2 ? slot * 2 + q : 5); }

/* Bring a device up. */
static void up(struct fg_dev *d, unsigned slot, unsigned queues, uint64_t features)
{
	uint64_t c;

	fg_probe(d, &g, slot);
	c = d->common;
#define OUT(off, size, val) bus_write(&g.m.bus, BUS_MMIO, c + (off), size, val)
	OUT(0x14, 1, 0);
	OUT(0x14, 1, 3);
	for (unsigned i = 0; i < 2; i++) {
		OUT(8, 4, i);
		OUT(12, 4, features >> 32 * i & 0xffffffff);
	}
	OUT(0x14, 1, 11);
	OUT(0x10, 2, 0);
	for (unsigned q = 0; q < queues; q++) {
		OUT(0x16, 2, q);
		OUT(0x18, 2, 16);
		OUT(0x1a, 2, q + 1);
		OUT(0x20, 8, ring(slot, q));
		OUT(0x28, 8, ring(slot, q) + 0x100);
		OUT(0x30, 8, ring(slot, q) + 0x200);
		OUT(0x1c, 2, 1);
	}
	OUT(0x14, 1, 15);
}

static void receive(struct input *in)
{
	static uint8_t buf[FRAME_MAX];
	struct frame f;

	frame_init_flat(&f, buf, FRAME_MIN + take(in, 2) % (FRAME_MAX - FRAME_MIN));
	f.flags = (uint8_t)take(in, 1) & 3;
	f.gso = f.flags & 1 ? (uint8_t)take(in, 1) & 5 : 0;
	f.gso_size = 1448;
	(void)vnet_rx(g.net, &f);
}

/* Load a section with some bytes changed: refused or lived with. */
static void load_mutated(struct input *in)
{
	unsigned which = (unsigned)take(in, 1) % 12;
	struct why w = { "" };

	list_for_each(d, &g.m.devs, struct dev, node) {
		if (d->ops->quiesce)
			d->ops->quiesce(d);
		for (unsigned i = 0; i < d->nsections; i++, which--) {
			uint8_t buf[1024];
			size_t len = state_size(d->section[i].desc);

			if (which)
				continue;
			state_save(d->section[i].desc, d->section[i].obj, buf);
			for (unsigned n = (unsigned)take(in, 1) % 4 + 1; n; n--)
				buf[take(in, 2) % len] = (uint8_t)take(in, 1);
			(void)!state_load(d->section[i].desc, d->section[i].obj, d->section[i].desc->version, buf, len,
					  &w);
		}
		if (d->ops->resume)
			d->ops->resume(d);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const unsigned widths[] = { 1, 2, 4, 8 };
	struct input in = { data, size };
	struct fg_dev net, rng;
	uint64_t at;
	unsigned w;

	if (size > 4096)
		return 0;
	begin();
	up(&net, FG_NET_SLOT, 3, FEATURES | (take(&in, 1) & 1 ? BIT(29) : 0));
	up(&rng, FG_RNG_SLOT, 1, BIT(32) | BIT(28));
	while (in.n) {
		uint8_t op = (uint8_t)take(&in, 1);

		w = widths[op >> 6];
		switch (op % 12) {
		case 0: /* configuration space of either function */
			at = PC_PCI_ECAM | (1UL + (op >> 5 & 1)) << 15 | take(&in, 1);
			bus_write(&g.m.bus, BUS_MMIO, at, w, take(&in, w));
			bus_read(&g.m.bus, BUS_MMIO, at, w);
			break;
		case 1: bus_write(&g.m.bus, BUS_PIO, 0xcf8 + (op >> 5 & 7), w, take(&in, w)); break;
		case 2: /* BARs where they are at reset */
			at = PC_PCI_MMIO + take(&in, 2) % 0x4000;
			bus_write(&g.m.bus, BUS_MMIO, at, w, take(&in, w));
			bus_read(&g.m.bus, BUS_MMIO, at, w);
			break;
		case 3: bus_write(&g.m.bus, BUS_MMIO, net.common + take(&in, 1) % 0x38, w, take(&in, w)); break;
		case 4: /* queues 0 and 1 by their ports, 2 by its index; then the host has something to say */
			bus_write(&g.m.bus, BUS_PIO, net.notify + 4 * (op >> 5 & 1), 2, op >> 6);
			if (op >> 5 == 7)
				vnet_announce(g.net);
			break;
		case 5: bus_write(&g.m.bus, BUS_PIO, rng.notify, 2, 0); break;
		case 6: /* a descriptor */
			at = 0x1000UL * (2 + take(&in, 1) % 4) + 16 * (take(&in, 1) % 16);
			fg_put64(&g, at, take(&in, 3));
			fg_put64(&g, at + 8, take(&in, 2) | take(&in, 1) % 8 << 32 | take(&in, 1) % 18 << 48);
			break;
		case 7: /* offer one */
			at = 0x1000UL * (2 + take(&in, 1) % 4) + 0x100;
			fg_put16(&g, at + 4 + 2 * (fg_get16(&g, at + 2) % 16), (uint16_t)(take(&in, 1) % 17));
			fg_put16(&g, at + 2, (uint16_t)(fg_get16(&g, at + 2) + 1));
			break;
		case 8: /* anything in the first pages */
			at = take(&in, 2);
			fg_put64(&g, at, take(&in, 8));
			break;
		case 9: receive(&in); break;
		case 10: load_mutated(&in); break;
		case 11:
			if (op & 0x80) {
				fg_reset(&g);
				up(&net, FG_NET_SLOT, 3, FEATURES | BIT(29));
			} else if (in.n > 8) { /* costly: not at every end */
				fg_migrate(&g);
			}
			break;
		}
		g.log[0] = '\0';
	}
	return 0;
}

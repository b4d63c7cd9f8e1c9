/* SPDX-License-Identifier: BSD-2-Clause */
/* The guest of the device tests (fake_guest.h). */
#include "tests/unit/fake_guest.h"
#include "tests/unit/fake_kernel.h"
#include "tests/unit/gmem_dirt.h"
#include "vmm/dev/vnet.h"
#include "vmm/dev/vrng.h"
#include "vmm/dev/vpci.h"
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const uint8_t guest_mac[ETH_ALEN] = { 0x52, 0x54, 0, 0, 0, 7 };

void fg_log(struct fg *g, const char *fmt, ...)
{
	size_t n = strlen(g->log);
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(g->log + n, sizeof(g->log) - n, fmt, ap);
	va_end(ap);
}

static void fake_msi(void *arg, uint64_t addr, uint32_t data)
{
	struct fg *g = arg;

	g->msi[g->nmsi % 64].addr = addr;
	g->msi[g->nmsi++ % 64].data = data;
	fg_log(g, "msi %x\n", (unsigned)data);
}
static void fake_entropy(void *arg, void *buf, size_t n)
{
	(void)arg;
	memset(buf, 0xa5, n);
}

static void fake_tx(void *arg, struct frame *f)
{
	struct fg *g = arg;
	uint32_t sum = 0, len = 0;

	for (unsigned i = 0; i < f->niov; i++) {
		len += (uint32_t)f->iov[i].len;
		for (size_t k = 0; k < f->iov[i].len; k++)
			sum = sum * 31 + ((uint8_t *)f->iov[i].base)[k];
	}
	FG_CHECK(len == f->len && f->niov <= FRAME_IOV_MAX);
	fg_log(g, "tx len %u sum %x flags %u gso %u/%u csum %u+%u hdr %u\n", f->len, sum, f->flags, f->gso, f->gso_size,
	       f->csum_start, f->csum_offset, f->hdr_len);
	if (g->tx)
		g->tx(g, f);
}

static void fake_lost(void *arg) { ((struct fg *)arg)->lost++; }

static void build(struct fg *g)
{
	bus_init(&g->m.bus);
	list_init(&g->m.devs);
	FG_CHECK(!vpci_bus_create(&g->m, &g->pci));
	struct vnet_card card = { .mtu = 9000, .wire = { fake_tx, fake_lost, g } };
	memcpy(card.mac, guest_mac, ETH_ALEN);
	FG_CHECK(!vnet_create(&g->m, g->pci, &g->net, FG_NET_SLOT, g->pairs, &card));
	FG_CHECK(!vrng_create(&g->m, g->pci, FG_RNG_SLOT));
	if (g->disk)
		FG_CHECK(!vblk_create(&g->m, g->pci, &g->blk, FG_BLK_SLOT, g->pairs, g->disk));
}

static void unbuild(struct fg *g)
{
	list_for_each(d, &g->m.devs, struct dev, node)
		d->ops->fini(d);
	FG_CHECK(list_empty(&g->m.devs));
	FG_CHECK(!g->m.bus.space[BUS_PIO].n && !g->m.bus.space[BUS_MMIO].n);
}

void fg_init(struct fg *g) { fg_init_pairs(g, 1); }

void fg_init_pairs(struct fg *g, unsigned pairs) { fg_init_disk(g, pairs, NULL); }

void fg_init_disk(struct fg *g, unsigned queues, struct blockdev *disk)
{
	memset(g, 0, sizeof(*g));
	g->pairs = queues;
	g->disk = disk;
	FG_CHECK(!gmem_init(&g->mem, FG_MEM, &pt_format_npt, NULL));
	FG_CHECK(g->shadow = calloc(1, FG_MEM));
	g->m.mem = &g->mem;
	g->m.msi = fake_msi;
	g->m.entropy = fake_entropy;
	g->m.arg = g;
	build(g);
}

static bool page_here(void *arg, gfn_t gfn) { return bitmap_test(((struct fg *)arg)->here, gfn); }

static int page_fetch(void *arg, gfn_t gfn)
{
	struct fg *g = arg;
	FG_CHECK(!fake_spinlocks);
	g->waited++;
	bitmap_set(g->here, gfn);
	return 0;
}

void fg_post_copy(struct fg *g)
{
	static struct gmem_pager pager = { page_here, page_fetch, NULL, NULL };
	pager.arg = g;
	memset(g->here, 0, sizeof(g->here));
	g->mem.pager = &pager;
}

void fg_fini(struct fg *g)
{
	fg_step(g);
	unbuild(g);
	gmem_fini(&g->mem);
	free(g->shadow);
}

void fg_reset(struct fg *g)
{
	list_for_each(d, &g->m.devs, struct dev, node)
		d->ops->reset(d);
}

struct dev *fg_find(struct fg *g, const char *name)
{
	list_for_each(d, &g->m.devs, struct dev, node)
		if (!strcmp(d->name, name))
			return d;
	return NULL;
}

/* ---- steps ---- */

static void check_dirty(struct fg *g)
{
	for (gpa_t gpa = 0; gpa < FG_MEM; gpa += PAGE_SIZE) {
		const void *page = gmem_ptr(&g->mem, gpa, PAGE_SIZE);
		bool dirty = is_dirty(&g->mem, gpa >> PAGE_SHIFT);

		if (memcmp(page, g->shadow + gpa, PAGE_SIZE)) {
			FG_CHECK(dirty); /* a device wrote here and did not say so */
			memcpy(g->shadow + gpa, page, PAGE_SIZE);
		}
		forget_dirt(&g->mem, gpa >> PAGE_SHIFT);
	}
}

#define MAX_SECTIONS 200

void fg_migrate(struct fg *g)
{
	struct why w = { "" };
	struct {
		const struct sdesc *d;
		uint32_t instance;
		uint8_t *buf;
		size_t len;
	} saved[MAX_SECTIONS];
	unsigned n = 0, i = 0;

	list_for_each(d, &g->m.devs, struct dev, node)
		if (d->ops->quiesce)
			d->ops->quiesce(d);
	list_for_each(d, &g->m.devs, struct dev, node)
		for (unsigned k = 0; k < d->nsections; k++) {
			for (unsigned j = 0; j < n; j++) /* name and instance find a section */
				FG_CHECK(strcmp(saved[j].d->name, d->section[k].desc->name) ||
					 saved[j].instance != d->section[k].instance);
			FG_CHECK(n < MAX_SECTIONS);
			saved[n].d = d->section[k].desc;
			saved[n].instance = d->section[k].instance;
			saved[n].len = state_size(saved[n].d);
			FG_CHECK(saved[n].buf = malloc(saved[n].len));
			state_save(saved[n].d, d->section[k].obj, saved[n].buf);
			n++;
		}
	unbuild(g);
	build(g);
	list_for_each(d, &g->m.devs, struct dev, node)
		for (unsigned k = 0; k < d->nsections; k++, i++) {
			uint8_t *again = malloc(state_size(saved[i].d));

			if (state_load(saved[i].d, d->section[k].obj, saved[i].d->version, saved[i].buf, saved[i].len,
				       &w)) {
				fprintf(stderr, "%s: %s\n", saved[i].d->name, w.text);
				abort();
			}
			state_save(saved[i].d, d->section[k].obj, again);
			FG_CHECK(!memcmp(again, saved[i].buf, saved[i].len));
			free(again);
			free(saved[i].buf);
		}
	list_for_each(d, &g->m.devs, struct dev, node)
		if (d->ops->resume)
			d->ops->resume(d);
}

void fg_step(struct fg *g)
{
	if (g->unchecked)
		return;
	check_dirty(g);
	if (g->migrate_always) {
		fg_migrate(g);
		check_dirty(g);
	}
}

/* ---- memory, configuration space ---- */

void fg_put(struct fg *g, gpa_t gpa, const void *buf, size_t len)
{
	for (size_t i = 0; i < len; i++)
		*(uint8_t *)gmem_ptr(&g->mem, gpa + i, 1) = ((const uint8_t *)buf)[i];
	memcpy(g->shadow + gpa, buf, len);
}

void fg_put16(struct fg *g, gpa_t gpa, uint16_t v)
{
	if (gpa & 1) {
		fg_put(g, gpa, &v, 2);
		return;
	}
	__atomic_store_n((uint16_t *)gmem_ptr(&g->mem, gpa, 2), v, __ATOMIC_RELEASE);
	memcpy(g->shadow + gpa, &v, 2);
}

uint16_t fg_get16(struct fg *g, gpa_t gpa)
{
	const void *p = gmem_ptr(&g->mem, gpa, 2);

	FG_CHECK(p && !(gpa & 1));
	return __atomic_load_n((const uint16_t *)p, __ATOMIC_ACQUIRE);
}

void fg_get(struct fg *g, gpa_t gpa, void *buf, size_t len) { FG_CHECK(!gmem_read(&g->mem, gpa, buf, len)); }

uint32_t fg_cfg_read(struct fg *g, unsigned slot, unsigned reg, unsigned size)
{
	bus_write(&g->m.bus, BUS_PIO, 0xcf8, 4, 0x80000000 | slot << 11 | (reg & 0xfc));
	return (uint32_t)bus_read(&g->m.bus, BUS_PIO, 0xcfc + (reg & 3), size);
}

void fg_cfg_write(struct fg *g, unsigned slot, unsigned reg, unsigned size, uint32_t val)
{
	bus_write(&g->m.bus, BUS_PIO, 0xcf8, 4, 0x80000000 | slot << 11 | (reg & 0xfc));
	bus_write(&g->m.bus, BUS_PIO, 0xcfc + (reg & 3), size, val);
	fg_step(g);
}

uint64_t fg_read(struct fg_dev *d, uint64_t addr, unsigned size)
{
	return bus_read(&d->g->m.bus, addr < 0x10000 ? BUS_PIO : BUS_MMIO, addr, size);
}

void fg_write(struct fg_dev *d, uint64_t addr, unsigned size, uint64_t val)
{
	bus_write(&d->g->m.bus, addr < 0x10000 ? BUS_PIO : BUS_MMIO, addr, size, val);
	fg_step(d->g);
}

/* ---- the driver ---- */

static uint64_t bar(struct fg_dev *d, unsigned i)
{
	uint32_t v = fg_cfg_read(d->g, d->slot, 0x10 + 4 * i, 4);

	return v & 1 ? v & ~3U : v & ~15U;
}

void fg_probe(struct fg_dev *d, struct fg *g, unsigned slot)
{
	unsigned cap, nvec;

	memset(d, 0, sizeof(*d));
	d->g = g;
	d->slot = slot;
	fg_cfg_write(g, slot, 4, 2, 7);
	for (cap = fg_cfg_read(g, slot, 0x34, 1); cap; cap = fg_cfg_read(g, slot, cap + 1, 1)) {
		uint64_t at = bar(d, fg_cfg_read(g, slot, cap + 4, 1)) + fg_cfg_read(g, slot, cap + 8, 4);

		if (fg_cfg_read(g, slot, cap, 1) == 0x11) {
			d->msix = bar(d, fg_cfg_read(g, slot, cap + 4, 4) & 7);
			nvec = (fg_cfg_read(g, slot, cap + 2, 2) & 0x7ff) + 1;
			fg_cfg_write(g, slot, cap + 2, 2, 0x8000);
			for (unsigned v = 0; v < nvec; v++) {
				fg_write(d, d->msix + 16 * v, 4, 0xfee00000);
				fg_write(d, d->msix + 16 * v + 8, 4, 0x40 + v);
				fg_write(d, d->msix + 16 * v + 12, 4, 0);
			}
			continue;
		}
		switch (fg_cfg_read(g, slot, cap + 3, 1)) {
		case 1: d->common = at; break;
		case 2:
			d->notify = at;
			d->notify_mult = fg_cfg_read(g, slot, cap + 16, 4);
			break;
		case 3: d->isr = at; break;
		case 4: d->config = at; break;
		}
	}
	FG_CHECK(d->common && d->notify && d->notify < 0x10000 && d->isr && d->msix);
}

uint8_t fg_status(struct fg_dev *d) { return (uint8_t)fg_read(d, d->common + 0x14, 1); }

uint64_t fg_features(struct fg_dev *d)
{
	uint64_t f;

	fg_write(d, d->common, 4, 1);
	f = fg_read(d, d->common + 4, 4) << 32;
	fg_write(d, d->common, 4, 0);
	return f | fg_read(d, d->common + 4, 4);
}

bool fg_negotiate(struct fg_dev *d, uint64_t features)
{
	fg_write(d, d->common + 0x14, 1, 0);
	FG_CHECK(fg_status(d) == 0);
	fg_write(d, d->common + 0x14, 1, 1);
	fg_write(d, d->common + 0x14, 1, 3);
	for (unsigned i = 0; i < 2; i++) {
		fg_write(d, d->common + 8, 4, i);
		fg_write(d, d->common + 12, 4, features >> 32 * i & 0xffffffff);
	}
	fg_write(d, d->common + 0x14, 1, 11);
	fg_write(d, d->common + 0x10, 2, 0);
	return fg_status(d) & 8;
}

void fg_queue_init(struct fg_queue *q, struct fg_dev *d, unsigned index, unsigned size, gpa_t ring, bool event_idx)
{
	static const uint8_t zero[16 * 256 + 4 * 4096];

	*q = (struct fg_queue){ .d = d,
				.index = index,
				.size = size,
				.event_idx = event_idx,
				.desc = ring,
				.avail = ring + 16 * size,
				.used = ALIGN_UP(ring + 18 * size + 6, 4UL) };
	fg_put(d->g, ring, zero, q->used + 6 + 8 * size - ring);
	fg_write(d, d->common + 0x16, 2, index);
	fg_write(d, d->common + 0x18, 2, size);
	/* As Linux, which wants none of the control queue's. */
	unsigned vector = index < 2 * d->g->pairs ? index + 1 : 0xffff;
	fg_write(d, d->common + 0x1a, 2, vector);
	FG_CHECK(fg_read(d, d->common + 0x1a, 2) == vector);
	fg_write(d, d->common + 0x20, 4, (uint32_t)q->desc);
	fg_write(d, d->common + 0x24, 4, q->desc >> 32);
	fg_write(d, d->common + 0x28, 8, q->avail);
	fg_write(d, d->common + 0x30, 8, q->used);
	fg_write(d, d->common + 0x1c, 2, 1);
}

void fg_driver_ok(struct fg_dev *d) { fg_write(d, d->common + 0x14, 1, 15); }

void fg_desc(struct fg_queue *q, gpa_t table, unsigned i, gpa_t addr, uint32_t len, uint16_t flags, uint16_t next)
{
	uint8_t b[16];

	put_le64(b, addr);
	put_le32(b + 8, len);
	put_le16(b + 12, flags);
	put_le16(b + 14, next);
	fg_put(q->d->g, table + 16 * i, b, 16);
}

void fg_offer(struct fg_queue *q, uint16_t head)
{
	fg_put16(q->d->g, q->avail + 4 + 2 * (q->avail_idx % q->size), head);
	fg_put16(q->d->g, q->avail + 2, ++q->avail_idx);
}

/* Descriptors are taken round and round: tests do not offer more than they get back. */
uint16_t fg_add(struct fg_queue *q, const struct fg_sg *sg, unsigned n, gpa_t indirect)
{
	uint16_t head = q->next_desc;

	for (unsigned i = 0; i < n; i++) {
		uint16_t flags = (uint16_t)((i + 1 < n ? 1 : 0) | (sg[i].write ? 2 : 0));
		unsigned at = indirect ? i : (head + i) % q->size, next = indirect ? i + 1 : (head + i + 1) % q->size;

		fg_desc(q, indirect ? indirect : q->desc, at, sg[i].gpa, sg[i].len, flags, (uint16_t)next);
	}
	if (indirect)
		fg_desc(q, q->desc, head, indirect, 16 * n, 4, 0);
	q->next_desc = (uint16_t)((head + (indirect ? 1 : n)) % q->size);
	fg_offer(q, head);
	return head;
}

void fg_ring(struct fg_queue *q)
{
	struct fg_dev *d = q->d;

	fg_write(d, d->common + 0x16, 2, q->index);
	fg_write(d, d->notify + d->notify_mult * fg_read(d, d->common + 0x1e, 2), 2, q->index);
}

bool fg_kick(struct fg_queue *q)
{
	uint16_t old = q->kicked, event = fg_get16(q->d->g, q->used + 4 + 8 * q->size);
	bool want = q->event_idx ? (uint16_t)(q->avail_idx - event - 1) < (uint16_t)(q->avail_idx - old)
				 : !(fg_get16(q->d->g, q->used) & 1);

	q->kicked = q->avail_idx;
	if (want)
		fg_ring(q);
	return want;
}

int fg_used(struct fg_queue *q, uint32_t *len)
{
	gpa_t e = q->used + 4 + 8 * (q->last_used % q->size);

	if (fg_get16(q->d->g, q->used + 2) == q->last_used)
		return -1;
	q->last_used++;
	if (len)
		*len = fg_get32(q->d->g, e + 4);
	return (int)fg_get32(q->d->g, e);
}

/* With the event index "on" means: at the very next used buffer. */
void fg_want_interrupt(struct fg_queue *q, bool on)
{
	if (q->event_idx)
		fg_put16(q->d->g, q->avail + 4 + 2 * q->size, (uint16_t)(on ? q->last_used : q->last_used - 1));
	else
		fg_put16(q->d->g, q->avail, !on);
}

/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Memory on the wire (pages.h). Page data goes from guest memory to the stream and from the stream to guest memory
 * without a copy of ours; the order clear -> flush -> copy of the dirty set is kept batch by batch.
 */
#include "vmm/migrate/pages.h"
#include "kernel/base/zero.h"
#include "kernel/time.h"
#include <string.h>

/* ---- source ---- */

uint64_t pages_deadline(const struct page_tx *p) { return MIN(time_ns() + p->idle_ns, p->end_ns); }

int pages_flush(struct page_tx *p)
{
	if (!p->nruns)
		return 0;
	wire_begin(p->tx, WIRE_PAGES);
	wire_put_u64(p->tx, p->base);
	wire_put_u32(p->tx, p->nruns);
	wire_put_u32(p->tx, p->ndata);
	for (unsigned i = 0; i < p->nruns; i++) {
		wire_put_u32(p->tx, p->run[i].off);
		wire_put_u32(p->tx, p->run[i].count);
	}
	for (unsigned i = 0; i < p->ndata; i++) /* neighbours join there */
		wire_put_data(p->tx, p->pin[i].p, PAGE_SIZE);
	int err = wire_end(p->tx, pages_deadline(p));
	while (p->ndata)
		gmem_unpin(p->mem, &p->pin[--p->ndata]);
	p->nruns = 0;
	return err;
}

/*
 * A page: longer becomes the last run, or a new one begins, as it does for the first block of a disk, whose frame may
 * be the next of the disk before it; a record that is full goes out first. pin: of its data; NULL: it is known to be
 * zeros.
 */
static int record_add(struct page_tx *p, gfn_t gfn, const struct gmem_pin *pin)
{
	bool zero = !pin || is_zero(pin->p, PAGE_SIZE);
	struct page_run *last = p->nruns ? &p->run[p->nruns - 1] : NULL;
	uint32_t count = last ? last->count & ~PAGES_ZERO : 0;
	bool first = !(gfn & (BIT(PAGES_DISK_SHIFT) - 1));
	uint32_t most = gfn >> PAGES_DISK_SHIFT ? PAGES_DISK_RUN : PAGES_ZERO - 1;
	if (last && !first && gfn == p->base + last->off + count && zero == !!(last->count & PAGES_ZERO) &&
	    count < most) {
		last->count++;
	} else {
		int err = last && (p->nruns == WIRE_RUNS_MAX || (gfn - p->base) >> 32) ? pages_flush(p) : 0;
		if (err)
			return err;
		if (!p->nruns)
			p->base = gfn;
		p->run[p->nruns++] = (struct page_run){ (uint32_t)(gfn - p->base), zero ? PAGES_ZERO | 1 : 1 };
	}
	if (zero) {
		p->pass.zero++;
		p->total.zero++;
		return 0;
	}
	p->pass.data++;
	p->total.data++;
	p->pin[p->ndata++] = *pin;
	if (p->ndata < WIRE_PAGES_MAX)
		return 0;
	int err = pages_flush(p);
	return err ? err : p->progress(p->arg);
}

/* Frames f + i of the bits i of a word. */
static int word_send(struct page_tx *p, gfn_t f, uint64_t word)
{
	for (; word; word &= word - 1) {
		gfn_t gfn = f + (unsigned)__builtin_ctzll(word);
		struct gmem_pin pin;
		int err = gmem_pin_wait(p->mem, gfn << PAGE_SHIFT, PAGE_SIZE, GMEM_READ, &pin);
		if (err)
			return err;
		err = record_add(p, gfn, &pin);
		if (err)
			return err;
	}
	return 0;
}

static int batch_send(struct page_tx *p, gfn_t first, uint64_t count)
{
	int err = 0;
	for (gfn_t f = first; !err && f < first + count; f += 64)
		err = word_send(p, f, gmem_track_take(p->mem, f));
	return err;
}

/*
 * What the set has of [first, end), multiples of 64 in one range, batch by batch. harvest: it is a pass over a running
 * guest, which may be stopped.
 */
static int batches_send(struct page_tx *p, gfn_t first, gfn_t end, bool harvest)
{
	int err = 0;
	for (gfn_t f = first, n; !err && !(harvest && p->stop) && (f = gmem_track_next(p->mem, f, end)) < end; f += n) {
		f = MAX(ALIGN_DOWN(f, (gfn_t)PAGES_BATCH), first);
		n = MIN(end - f, (gfn_t)PAGES_BATCH);
		if (harvest)
			gmem_track_harvest(p->mem, f, n);
		err = batch_send(p, f, n);
		if (!err)
			err = p->progress(p->arg);
	}
	return err;
}

int pages_send_span(struct page_tx *p, gfn_t first, uint64_t count)
{
	int err = batches_send(p, first, first + count, false);
	return err ? err : pages_flush(p);
}

static int range_send(struct page_tx *p, gfn_t first, unsigned count)
{
	gfn_t f = ALIGN_DOWN(first, 64UL);
	return word_send(p, f, gmem_track_take_of(p->mem, f, ~0ULL >> (64 - count) << (first - f)));
}

static int layer_send_freed(struct page_tx *p, unsigned i)
{
	struct layer *l = p->layers.of[i];
	int err = 0;
	for (uint64_t b = 0, n = 1; !err && (b = layer_track_take_freed(l, b)) != LAYER_NONE; b++, n++) {
		p->disk++;
		err = record_add(p, PAGES_FREED(i) + b, NULL);
		if (!err && n % PAGES_BATCH == 0)
			err = p->progress(p->arg);
	}
	return err;
}

/* What is freed meanwhile has no page. */
static int layer_send(struct page_tx *p, unsigned i)
{
	struct layer *l = p->layers.of[i];
	int err = 0;
	for (uint64_t b = 0, n = 1; !err && (b = layer_track_next(l, b)) != LAYER_NONE; b++, n++) {
		const void *page = layer_track_take(l, b);
		const struct gmem_pin pin = { (void *)(uintptr_t)page, 0, PAGE_SIZE, GMEM_READ };
		p->disk++;
		err = record_add(p, PAGES_DISK(i) + b, page ? &pin : NULL);
		if (!err && n % PAGES_BATCH == 0)
			err = p->progress(p->arg);
	}
	return err;
}

void pages_begin(struct page_tx *p)
{
	p->pass = (struct page_counts){ 0, 0 };
	p->nruns = p->ndata = 0;
	p->stop = false;
}

int pages_send_layers(struct page_tx *p)
{
	int err = 0;
	for (unsigned i = 0; i < p->layers.n && !err; i++)
		err = layer_send_freed(p, i);
	for (unsigned i = 0; i < p->layers.n && !err; i++)
		err = layer_send(p, i);
	return err ? err : pages_flush(p);
}

int pages_send_frames(struct page_tx *p, const gfn_t *frame, unsigned n)
{
	int err = 0;
	pages_begin(p);
	for (unsigned i = 0; i < n && !err; i++)
		err = range_send(p, frame[i], 1);
	return err ? err : pages_send_layers(p);
}

int pages_send_range(struct page_tx *p, gfn_t first, unsigned count)
{
	pages_begin(p);
	int err = range_send(p, first, count);
	return err ? err : pages_flush(p);
}

int pages_send_pass(struct page_tx *p, bool harvest)
{
	struct gmem_range r[2];
	int err = 0;

	pages_begin(p);
	for (unsigned i = 0, n = gmem_ranges(p->mem, r); i < n && !err; i++) /* RAM is whole 2 MiB blocks */
		err = batches_send(p, r[i].first, r[i].first + r[i].count, harvest);
	return err ? err : pages_send_layers(p);
}

/* ---- destination ---- */

struct layer *pages_layer(const struct page_layers *s, gfn_t gfn, uint64_t *block)
{
	uint64_t i = gfn >> PAGES_DISK_SHIFT, disk = (i - 1) % PAGES_DISKS;
	*block = gfn & (BIT(PAGES_DISK_SHIFT) - 1);
	return i && i <= 2 * PAGES_DISKS && disk < s->n ? s->of[disk] : NULL;
}

/* What is here is the guest's, and may be newer than whatever comes; and what was not asked for may be anything. */
static bool is_awaited(const struct page_rx *p, gfn_t gfn, uint64_t count)
{
	for (gfn_t f = gfn; p->came && f < gfn + count; f++)
		if (!gmem_absent(p->mem, f))
			return false;
	return true;
}

/* Is [gfn, gfn+count) RAM, without a hole in it, or a disk's, where what is freed is zeros? */
static bool range_is_ours(const struct page_rx *p, gfn_t gfn, uint64_t count, bool zero)
{
	uint64_t block;
	const struct layer *l = pages_layer(&p->layers, gfn, &block);
	if (l)
		return !p->came && (zero || gfn >= PAGES_DISK(0)) && count <= PAGES_DISK_RUN &&
		       block < layer_blocks(l) && count <= layer_blocks(l) - block;
	return gmem_has(p->mem, gfn, count) && is_awaited(p, gfn, count);
}

/* A skeleton's memory starts as zero: only what was written since, by us or by a device, need be cleared. */
static void zero_run(struct gmem *g, gfn_t gfn, uint64_t count)
{
	gfn_t end = gfn + count;
	for (gfn_t f = gmem_next_written(g, gfn, end); f < end; f = gmem_next_written(g, f + 1, end)) {
		struct gmem_pin pin;
		BUG_ON(gmem_pin(g, f << PAGE_SHIFT, PAGE_SIZE, GMEM_FILL, &pin)); /* it was written: it is RAM */
		memset(pin.p, 0, PAGE_SIZE);
		gmem_unpin(g, &pin);
	}
}

static int data_run(struct page_rx *p, gfn_t gfn, uint64_t count)
{
	gpa_t gpa = gfn << PAGE_SHIFT;
	uint64_t left = count << PAGE_SHIFT;
	int err = 0;
	while (left && !err) {
		size_t n = MIN(left, GMEM_BLOCK - (gpa & (GMEM_BLOCK - 1)));
		struct gmem_pin pin;
		BUG_ON(gmem_pin(p->mem, gpa, n, GMEM_FILL, &pin)); /* pages_recv has looked: it is RAM */
		err = wire_recv_data(p->rx, pin.p, n, time_ns() + p->idle_ns);
		gmem_unpin(p->mem, &pin); /* a run that is cut in the middle has been written to as well */
		gpa += n;
		left -= n;
	}
	return err;
}

/* A run of a disk's blocks. */
static int layer_run(struct page_rx *p, struct layer *l, uint64_t block, uint64_t count, bool zero)
{
	int err = 0;
	for (uint64_t b = block; b < block + count && !err; b++) {
		void *page = zero ? NULL : layer_fill_page(l, b);
		if (zero)
			err = layer_fill_zero(l, b);
		else
			err = page ? wire_recv_data(p->rx, page, PAGE_SIZE, time_ns() + p->idle_ns) : -ENOSPC;
	}
	p->disk += count;
	return err;
}

static void page_counts_add(struct page_rx *p, uint64_t data, uint64_t zero)
{
	p->pass.data += data;
	p->pass.zero += zero;
	p->total.data += data;
	p->total.zero += zero;
}

/* A run that was found good. */
static int run_recv(struct page_rx *p, gfn_t gfn, uint64_t count, bool zero, struct why *w)
{
	uint64_t block;
	struct layer *l = pages_layer(&p->layers, gfn, &block);
	int err = 0;
	if (l)
		err = layer_run(p, l, block, count, zero);
	else if (zero)
		zero_run(p->mem, gfn, count);
	else
		err = data_run(p, gfn, count);
	if (err)
		return err == -ENOSPC && l ? why_set(w, err, "no memory there for what is on disk %s", l->name) : err;
	page_counts_add(p, zero ? 0 : count, zero ? count : 0);
	if (p->came)
		p->came(p->arg, gfn, count);
	return 0;
}

int pages_recv(struct page_rx *p, struct why *w)
{
	struct wire_rx *rx = p->rx;
	uint64_t base = wire_get_u64(rx), sum = 0;
	uint32_t nruns = wire_get_u32(rx);
	wire_get_u32(rx); /* data pages: wire_recv has held it against the length */
	const uint8_t *runs = wire_get_bytes(rx, nruns * 8UL);
	gfn_t next = p->next;

	if (!runs || !wire_get_end(rx) || base >> 52)
		return why_set(w, -EPROTO, "the peer sent a malformed PAGES record");
	for (uint32_t i = 0; i < nruns; i++) { /* all of it is checked before any of it is written */
		uint32_t count = get_le32(runs + i * 8 + 4);
		gfn_t gfn = base + get_le32(runs + i * 8);
		if (gfn < next || !(count & ~PAGES_ZERO) ||
		    !range_is_ours(p, gfn, count & ~PAGES_ZERO, count & PAGES_ZERO))
			return why_set(w, -EPROTO,
				       "the peer sent pages %lx+%x, which are out of order or no memory of the VM", gfn,
				       count & ~PAGES_ZERO);
		next = gfn + (count & ~PAGES_ZERO);
		sum += count & PAGES_ZERO ? 0 : count;
	}
	if (sum << PAGE_SHIFT != rx->data_len)
		return why_set(w, -EPROTO, "the peer sent a PAGES record whose runs do not add up");
	for (uint32_t i = 0; i < nruns; i++) {
		uint32_t count = get_le32(runs + i * 8 + 4);
		int err = run_recv(p, base + get_le32(runs + i * 8), count & ~PAGES_ZERO, count & PAGES_ZERO, w);
		if (err)
			return err;
	}
	p->next = next;
	return 0;
}

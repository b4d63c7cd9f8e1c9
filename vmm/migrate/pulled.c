/* SPDX-License-Identifier: BSD-2-Clause */
/* Passes that the destination drives (pulled.h). */
#include "vmm/migrate/pulled.h"
#include "kernel/base/zero.h"
#include "kernel/time.h"
#include "vmm/migrate/source.h"

#define PIECE_FRAMES (MIB(64) >> PAGE_SHIFT) /* of the map, as much memory as is read between two looks */
#define SIGN_FRAMES  (GIB(1) >> PAGE_SHIFT)  /* of a desert of zeros one frame each is in the map: it goes on */
#define LOOK_NS      (250 * NS_PER_MS)

static uint64_t in(uint64_t ns) { return time_ns() + ns; }

/* ---- the source ---- */

struct pulled_tx {
	struct source *c;
	struct absent_tx map;
	gfn_t said; /* the last frame that is in it, and one */
};

/* What is in the set and zeros leaves it: it is zeros there as well. */
static int drop_zeros(struct pulled_tx *p, gfn_t first, uint64_t count)
{
	struct gmem *g = &p->c->vm->mem;
	gfn_t end = first + count;
	for (gfn_t f = first; (f = gmem_track_next(g, f, end)) < end; f++) {
		struct gmem_pin pin;
		int err = gmem_pin_wait(g, f << PAGE_SHIFT, PAGE_SIZE, GMEM_READ, &pin);
		if (err)
			return err;
		bool zero = is_zero(pin.p, PAGE_SIZE) && f - p->said < SIGN_FRAMES;
		gmem_unpin(g, &pin);
		if (zero)
			p->c->left -= gmem_track_take_of(g, ALIGN_DOWN(f, 64UL), BIT(f % 64)) != 0;
		else
			p->said = f + 1;
	}
	return 0;
}

static int refuse(struct source *c, const char *what) { return why_set(c->w, -EPROTO, "the destination %s", what); }

static int answer(struct source *c, const struct demand *d)
{
	if (d->flags || d->times || !d->count || (d->first | d->count) % 64 ||
	    !gmem_has(&c->vm->mem, d->first, d->count))
		return refuse(c, "asked for what is no memory of the VM");
	int err = pages_send_span(&c->pages, d->first, d->count);
	return err ? err : absent_demand_send(&c->tx, WIRE_SERVED, d, pages_deadline(&c->pages));
}

static uint64_t memory_sent(const struct source *c) { return c->pages.pass.data + c->pages.pass.zero; }

/* One demand, if there is one until then. *there: there was. */
static int serve_one(struct source *c, uint64_t deadline_ns, bool *there)
{
	struct demand d;
	int err = inbox_demand(&c->in, false, deadline_ns, &d, c->w);
	*there = !err;
	if (err == -EAGAIN) /* what it says goes first: there is nothing that it may say now, but why it ends */
		return (err = inbox_poll(&c->in, c->w)) ? err : refuse(c, "answered in the midst of a pass");
	return err == -ETIMEDOUT ? 0 : err ? err : answer(c, &d);
}

/*
 * As it is asked for, until no more than `lead` frames of the map have not gone; those that are asked for already go in
 * any case, as many as a good destination may have out.
 */
static int serve(struct pulled_tx *p, uint64_t lead)
{
	struct source *c = p->c;
	uint64_t quiet = in(MIG_IDLE_NS);
	unsigned more = lead ? PULLED_OUT_MAX : 0;
	for (bool there = true;;) {
		uint64_t sent = memory_sent(c);
		bool ahead = p->map.frames - sent > lead;
		if (!ahead && (!there || !more--))
			return precopy_progress(c);
		int err = serve_one(c, ahead ? in(LOOK_NS) : 0, &there);
		if (err || (err = precopy_progress(c)))
			return err;
		if (memory_sent(c) > sent)
			quiet = in(MIG_IDLE_NS);
		else if (ahead && time_ns() > quiet)
			return why_set(c->w, -ETIMEDOUT, "the destination asked for nothing of pass %u for %d s",
				       c->pass, (int)(MIG_IDLE_NS / NS_PER_SEC));
	}
}

static int send_map(struct pulled_tx *p)
{
	struct source *c = p->c;
	struct gmem_range r[2];
	int err = 0;
	for (unsigned i = 0, n = gmem_ranges(&c->vm->mem, r); i < n; i++) {
		gfn_t end = r[i].first + r[i].count;
		for (gfn_t f = r[i].first, to; !err && !c->pages.stop && f < end; f = to) {
			to = MIN(f + PIECE_FRAMES, end);
			err = c->pass == 1 ? drop_zeros(p, f, to - f) : 0;
			if (err || (err = absent_tx_part(&p->map, &c->vm->mem, f, to)))
				break;
			err = serve(p, PULLED_WINDOW);
		}
	}
	return err ? err : absent_tx_end(&p->map);
}

int pulled_send(struct source *c)
{
	struct pulled_tx p = { .c = c };
	int err = absent_tx_init(&p.map, &c->tx, c->pages.idle_ns, c->pages.end_ns);
	pages_begin(&c->pages);
	if (!err && !(err = send_map(&p)))
		err = serve(&p, 0);
	absent_tx_fini(&p.map);
	return err ? err : pages_send_layers(&c->pages);
}

/* ---- the destination ---- */

/* pages_recv's: they are in the set, or it would not have taken them. */
static void came(void *arg, gfn_t first, uint64_t count)
{
	struct pulled_rx *p = arg;
	for (gfn_t f = first; f < first + count; f++)
		p->came += gmem_track_take_of(p->mem, ALIGN_DOWN(f, 64UL), BIT(f % 64)) != 0;
}

void pulled_begin(struct pulled_rx *p, struct page_rx *pages)
{
	*p = (struct pulled_rx){ .on = true, .mem = pages->mem };
	pages->came = came;
	pages->arg = p;
}

/*
 * From the cursor on, up to where the map is known: the rest of its last 64 frames may still come. False: there is
 * nothing to ask for now.
 */
static bool next_range(const struct pulled_rx *p, struct demand *d, uint32_t *frames)
{
	struct gmem_range r[2];
	gfn_t known = p->map.ended ? p->mem->gfn_end : ALIGN_DOWN(p->map.next, 64UL);
	for (unsigned i = 0, n = gmem_ranges(p->mem, r); i < n; i++) {
		gfn_t end = MIN(r[i].first + r[i].count, known), f = MAX(p->cursor, r[i].first), gap = f;
		if (f >= end || (f = gmem_track_next(p->mem, f, end)) >= end)
			continue;
		gfn_t first = ALIGN_DOWN(f, 64UL);
		uint64_t sum = 0;
		for (; sum < PULLED_FRAMES && f < end && f - first < BIT(30); f = gmem_track_next(p->mem, gap, end)) {
			gap = gmem_track_gap(p->mem, f, MIN(end, f + PULLED_FRAMES - sum));
			sum += gap - f;
		}
		*d = (struct demand){ .first = first, .count = (uint32_t)(ALIGN_UP(gap, 64UL) - first) };
		*frames = (uint32_t)sum;
		return true;
	}
	return false;
}

static int ask(struct pulled_rx *p, struct wire_tx *tx, struct page_rx *pages)
{
	struct demand d;
	uint32_t frames;
	int err = 0;
	if (pulled_is_over(p))
		pages->came = NULL; /* blocks of disks follow */
	while (!err && p->nout < PULLED_OUT_MAX && p->nframes < PULLED_WINDOW && next_range(p, &d, &frames)) {
		unsigned at = (p->first + p->nout++) % PULLED_OUT_MAX;
		p->out[at] = d;
		p->frames[at] = frames;
		p->nframes += frames;
		p->cursor = d.first + d.count;
		err = absent_demand_send(tx, WIRE_DEMAND, &d, in(MIG_IDLE_NS));
	}
	return err;
}

int pulled_map(struct pulled_rx *p, struct wire_tx *tx, struct page_rx *pages, struct why *w)
{
	int err = absent_recv(&p->map, pages->rx, p->mem, gmem_track_add, w);
	return err ? err : ask(p, tx, pages);
}

int pulled_served(struct pulled_rx *p, struct wire_tx *tx, struct page_rx *pages, struct why *w)
{
	const struct demand *oldest = &p->out[p->first];
	struct demand d;
	if (!absent_demand_parse(pages->rx, &d) || !p->nout || d.first != oldest->first || d.count != oldest->count ||
	    d.flags)
		return why_set(w, -EPROTO, "the source sent SERVED for what was not asked for");
	if (gmem_track_next(p->mem, d.first, d.first + d.count) < d.first + d.count)
		return why_set(w, -EPROTO, "the source did not send all of %lx+%x that its map has", d.first, d.count);
	p->nframes -= p->frames[p->first];
	p->first = (p->first + 1) % PULLED_OUT_MAX;
	p->nout--;
	return ask(p, tx, pages);
}

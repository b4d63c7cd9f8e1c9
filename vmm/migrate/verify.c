/* SPDX-License-Identifier: BSD-2-Clause */
/* Both sides of `migrate --verify` (verify.h). */
#include "vmm/migrate/verify.h"
#include "kernel/time.h"
#include "vmm/disk.h"
#include "vmm/migrate/handover.h"
#include <common/xxhash.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define FRAME_NS 200000UL /* at least 20 MB/s on the slower side, or the guest goes on */
#define WINDOW   4        /* ranges without an answer: INBOX_MAX has room for them */

static uint64_t in(uint64_t ns) { return time_ns() + ns; }

/* Others need not wait longer for a guest that stands still than without --verify. */
static enum task_prio prio_since(uint64_t ns)
{
	return time_ns() - ns > MIG_BLACKOUT_NS ? TASK_PRIO_NORMAL : TASK_PRIO_SWITCH;
}

static void status_set(struct migration *m, uint64_t pages, uint32_t sections)
{
	spin_lock(&m->lock);
	m->st.verified_pages = pages;
	m->st.verified_sections = sections;
	spin_unlock(&m->lock);
}

/* ---- source ---- */

struct kept { /* a section that was sent */
	const struct sdesc *desc;
	uint32_t instance;
	size_t at, len; /* its bytes in verify_tx.bytes */
};
struct verify_tx {
	struct sums_walk walk;
	uint64_t pages, absent;    /* that have something; of these, the frames that stay here */
	uint32_t asked, answered;  /* ranges */
	uint64_t begin_ns, frames; /* when the first was asked, and how many have been looked at */
	struct kept *kept;
	unsigned n, max;
	uint8_t *bytes;
	size_t len, cap;
};

int verify_begin(struct source *c)
{
	if (!c->m->p.verify)
		return 0;
	c->verify = calloc(1, sizeof(*c->verify));
	return c->verify ? 0 : -ENOMEM;
}

void verify_end(struct source *c)
{
	if (c->verify) {
		free(c->verify->kept);
		free(c->verify->bytes);
	}
	free(c->verify);
	c->verify = NULL;
}

int verify_keep(struct source *c, const struct sdesc *d, uint32_t instance)
{
	struct verify_tx *v = c->verify;
	size_t len = state_size(d);
	if (!v)
		return 0;
	if (v->n == v->max) {
		struct kept *more = realloc(v->kept, (v->max * 2 + 64) * sizeof(*more));
		if (!more)
			return -ENOMEM;
		v->kept = more;
		v->max = v->max * 2 + 64;
	}
	if (len > v->cap - v->len) {
		size_t cap = v->cap * 2 + WIRE_SECTION_MAX;
		uint8_t *more = realloc(v->bytes, cap);
		if (!more)
			return -ENOMEM;
		v->bytes = more;
		v->cap = cap;
	}
	memcpy(v->bytes + v->len, c->tx.buf + c->tx.len - len, len);
	v->kept[v->n++] = (struct kept){ d, instance, v->len, len };
	v->len += len;
	return 0;
}

/* Until at most so many ranges are without an answer. */
static int wait_checked(struct source *c, uint32_t most)
{
	struct verify_tx *v = c->verify;
	struct inbox_msg msg;
	while (v->asked - v->answered > most) {
		int err = inbox_wait(&c->in, WIRE_CHECKED, WIRE_DIFFERS, in(MIG_STOPPED_NS), &msg, c->w);
		if (err == -ETIMEDOUT)
			return why_set(c->w, err, "the destination fell silent while its memory was verified");
		if (!err && msg.type == WIRE_DIFFERS)
			return verify_differs(c);
		if (!err && msg.num != v->answered + 1)
			return why_set(c->w, -EPROTO, "the destination answered range %u instead of %u", msg.num,
				       v->answered + 1);
		if (err)
			return err;
		v->answered++;
	}
	return 0;
}

static int range_send(struct source *c)
{
	struct verify_tx *v = c->verify;
	struct sums_range r;
	task_set_prio(migration_rests(c->m) ? TASK_PRIO_NORMAL : prio_since(c->paused_ns));
	int err = sums_take(&v->walk, UINT64_MAX, &r);
	v->frames += r.frames;
	if (time_ns() - v->begin_ns > MIG_STOPPED_NS + v->frames * FRAME_NS)
		return why_set(c->w, -ETIMEDOUT, "verifying takes too long: %lu MiB in %lu s", v->frames >> 8,
			       (time_ns() - v->begin_ns) / NS_PER_SEC);
	if (err || (err = migration_guest_gone(c->m, c->paused, c->w)) || (err = wait_checked(c, WINDOW - 1)))
		return err;
	wire_begin(&c->tx, WIRE_VERIFY);
	wire_put_u64(&c->tx, r.first);
	wire_put_u64(&c->tx, r.frames);
	for (unsigned i = 0; i < r.n; i++) {
		wire_put_u32(&c->tx, r.sum[i].chunk);
		wire_put_u32(&c->tx, r.sum[i].pages);
		wire_put_u64(&c->tx, r.sum[i].sum);
		v->pages += r.sum[i].pages;
	}
	v->asked++;
	sums_walk_on(&v->walk, r.frames);
	return wire_end(&c->tx, in(MIG_STOPPED_NS));
}

static int state_send(struct source *c, const struct kept *k)
{
	wire_begin(&c->tx, WIRE_VERIFY_STATE);
	wire_put_str(&c->tx, k->desc->name, 32);
	wire_put_u32(&c->tx, k->instance);
	wire_put_u64(&c->tx, XXH64(c->verify->bytes + k->at, k->len, 0));
	return wire_end(&c->tx, in(MIG_STOPPED_NS));
}

int verify_run(struct source *c)
{
	struct verify_tx *v = c->verify;
	int err = 0;
	if (!v)
		return 0;
	v->begin_ns = time_ns();
	v->absent = c->m->remote ? gmem_track_left(&c->vm->mem) : 0;
	sums_walk_begin(&v->walk, &c->vm->mem, &c->pages.layers, v->absent);
	while (!v->walk.over && !err)
		err = range_send(c);
	if (!err)
		err = wait_checked(c, 0);
	for (unsigned i = 0; i < v->n && !err; i++)
		err = state_send(c, &v->kept[i]);
	c->verify_ns = time_ns() - v->begin_ns;
	return err;
}

void verify_passed(struct source *c)
{
	if (c->verify)
		status_set(c->m, c->verify->pages - c->verify->absent, c->verify->n);
}

/* ---- source: what is it that differs? ---- */

static int page_differs(struct source *c, gfn_t gfn, uint64_t here, uint64_t there)
{
	uint64_t block;
	const struct layer *l = pages_layer(&c->pages.layers, gfn, &block);
	char a[32], b[32];
	if (l)
		return why_set(c->w, -EIO, "verify: disk %s differs in its 4 KiB at byte %lu: %s here, %s there",
			       l->name, block << PAGE_SHIFT, sums_text(a, gfn, here, "never written"),
			       sums_text(b, gfn, there, "never written"));
	return why_set(c->w, -EIO, "verify: memory differs in the page at %lx (guest-physical): %s here, %s there",
		       gfn << PAGE_SHIFT, sums_text(a, gfn, here, "zeros"), sums_text(b, gfn, there, "zeros"));
}

static int chunk_differs(struct source *c, const struct differs *d)
{
	for (unsigned i = 0; i < SUMS_CHUNK; i++) {
		uint64_t here, there = get_le64(d->bytes + i * sizeof(there));
		int err = sums_page(&c->verify->walk, d->first + i, &here);
		if (err || here != there)
			return err ? err : page_differs(c, d->first + i, here, there);
	}
	return why_set(
		c->w, -EIO,
		"verify: memory from %lx on, 4 MiB, differed, and when its pages were compared no more: something "
		"writes to it",
		d->first << PAGE_SHIFT);
}

static int state_differs(struct source *c, const struct differs *d)
{
	const struct verify_tx *v = c->verify;
	const struct kept *k = v->kept;
	struct why field = { "" };
	while (k < v->kept + v->n && (k->instance != d->instance || strcmp(k->desc->name, d->name) != 0))
		k++;
	if (k == v->kept + v->n)
		return why_set(c->w, -EPROTO, "the destination says that state of %s %u differs, which it has not got",
			       d->name, d->instance);
	if (d->len != k->len)
		return why_set(c->w, -EIO, "verify: the state of %s %u has %lu bytes here, %lu there", d->name,
			       d->instance, k->len, d->len);
	if (!state_diff(k->desc, v->bytes + k->at, d->bytes, k->len, &field))
		sniprintf(field.text, sizeof(field.text), "no field of it, but its digest");
	return why_set(c->w, -EIO, "verify: the state of %s %u differs: %s (here != there)", d->name, d->instance,
		       field.text);
}

int verify_differs(struct source *c)
{
	const struct differs *d = c->in.differs;
	return d->name[0] ? state_differs(c, d) : chunk_differs(c, d);
}

/* ---- destination ---- */

static int malformed(const struct verify_rx *v, struct why *w)
{
	return why_set(w, -EPROTO, "the source sent %s with what it does not have to verify",
		       wire_type_name(v->came->rx->type));
}

/* DIFFERS has been put together: the source answers with words, and may have sent more before it has read that. */
static int tell(struct verify_rx *v, const char *what, struct why *w)
{
	uint64_t end = in(MIG_STOPPED_NS);
	int err = wire_end(v->tx, end);
	while (!err && time_ns() < end) {
		err = wire_recv(v->came->rx, end, MIG_ANSWER_NS, NULL);
		if (!err && v->came->rx->type == WIRE_ERROR)
			return handover_source_gave_up(v->came->rx, w);
		if (!err && v->came->rx->type != WIRE_VERIFY && v->came->rx->type != WIRE_VERIFY_STATE &&
		    v->came->rx->type != WIRE_END)
			break;
	}
	return why_set(w, -EIO, "verify: %s differs, and the source has not said where", what);
}

static void differs_begin(struct verify_rx *v, const char *name, uint32_t instance, gfn_t first)
{
	wire_begin(v->tx, WIRE_DIFFERS);
	wire_put_str(v->tx, name, 32);
	wire_put_u32(v->tx, instance);
	wire_put_u64(v->tx, first);
}

static int tell_chunk(struct verify_rx *v, gfn_t first, struct why *w)
{
	char what[64];
	int err = 0;
	differs_begin(v, "", 0, first);
	for (unsigned i = 0; i < SUMS_CHUNK && !err; i++) {
		uint64_t hash;
		err = sums_page(&v->walk, first + i, &hash);
		wire_put_u64(v->tx, hash);
	}
	sniprintf(what, sizeof(what), "its memory from %lx on, 4 MiB,", first << PAGE_SHIFT);
	return err ? err : tell(v, what, w);
}

/* The first record of the kind; of a VM without memory and disks there is no range to begin with. */
static void begin_once(struct verify_rx *v)
{
	if (v->begun_ns)
		return;
	v->begun_ns = time_ns();
	sums_walk_begin(&v->walk, v->came->mem, &v->came->layers, v->absent);
}

static int range_recv(struct verify_rx *v, struct why *w)
{
	struct wire_rx *rx = v->came->rx;
	struct sums_range a = { .first = wire_get_u64(rx) }, b; /* the source's, and what is here */
	a.frames = wire_get_u64(rx);
	begin_once(v);
	if (v->walk.over || a.first != v->walk.at || !sums_walk_fits(&v->walk, a.frames))
		return malformed(v, w);
	uint64_t next = 0, pages = 0;
	for (; a.n < SUMS_MAX && rx->pos < rx->len && !rx->bad; a.n++) {
		struct sum *s = &a.sum[a.n];
		s->chunk = wire_get_u32(rx);
		s->pages = wire_get_u32(rx);
		s->sum = wire_get_u64(rx);
		if (s->chunk < next || s->chunk * (uint64_t)SUMS_CHUNK >= a.frames || !s->pages ||
		    s->pages > SUMS_CHUNK)
			return malformed(v, w);
		next = s->chunk + 1UL;
		pages += s->pages;
	}
	if (!wire_get_end(rx))
		return malformed(v, w);
	int err = sums_take(&v->walk, a.frames, &b);
	if (err)
		return err;
	gfn_t at = sums_differ(&a, &b);
	if (at != GFN_NONE)
		return tell_chunk(v, at, w);
	v->good += pages;
	sums_walk_on(&v->walk, a.frames);
	wire_begin(v->tx, WIRE_CHECKED);
	wire_put_u32(v->tx, ++v->ranges);
	return wire_end(v->tx, in(MIG_STOPPED_NS));
}

static int state_recv(struct verify_rx *v, struct why *w)
{
	char name[32];
	wire_get_str(v->came->rx, name, sizeof(name));
	uint32_t instance = wire_get_u32(v->came->rx);
	uint64_t digest = wire_get_u64(v->came->rx);
	begin_once(v);
	struct section *s =
		wire_get_end(v->came->rx) && v->walk.over ? section_find(v->sections, name, instance) : NULL;
	if (!s || !s->loaded || s->told)
		return malformed(v, w);
	s->digest = digest;
	s->told = true;
	v->states++;
	return 0;
}

int verify_recv(struct verify_rx *v, struct why *w)
{
	return v->came->rx->type == WIRE_VERIFY ? range_recv(v, w) : state_recv(v, w);
}

int verify_complete(const struct verify_rx *v, struct why *w)
{
	if (!v->begun_ns || (v->walk.over && v->states == v->sections->loaded))
		return 0;
	return why_set(w, -EPROTO, "the source has not sent all that is to be verified");
}

int verify_loaded(struct verify_rx *v, struct why *w)
{
	uint8_t *buf = v->begun_ns ? malloc(WIRE_SECTION_MAX) : NULL;
	int err = 0;
	if (!v->begun_ns)
		return 0;
	for (const struct section *s = v->sections->v; buf && s < v->sections->v + v->sections->n && !err; s++) {
		size_t len = s->loaded ? state_encode(s->desc, s->obj, s->version, buf) : 0;
		if (!s->loaded || XXH64(buf, len, 0) == s->digest)
			continue;
		differs_begin(v, s->desc->name, s->instance, 0);
		wire_put_bytes(v->tx, buf, len);
		err = tell(v, s->desc->name, w);
	}
	free(buf);
	if (buf && !err)
		status_set(v->m, v->good - v->absent, v->states);
	return buf ? err : -ENOMEM;
}

/* SPDX-License-Identifier: BSD-2-Clause */
/* Pages that come while the guest runs are what its source has (page_sums.h). */
#include "vmm/migrate/page_sums.h"
#include "kernel/log.h"
#include "kernel/time.h"
#include "vmm/migrate/sums.h"
#include <stdio.h>

#define SAID_MAX (4 * PAGE_SUMS_WRONG) /* lines in the log */

/* What is wrong with a page, in the same words on both hosts. */
struct words {
	uint64_t here, there; /* what it is on this host, and on the other one */
	uint64_t said, now;   /* what its source said when it came first, and says now */
	uint32_t times;
};

static void say(struct migration *m, gfn_t gfn, const struct words *v)
{
	char a[32], b[32], text[240];
	bool held = v->times > PAGE_SUMS_AT_ONCE, changed = v->now != v->said;
	int n = sniprintf(text, sizeof(text), "verify: memory %s in the page at %lx (guest-physical): %s %s, %s %s",
			  changed ? "has changed at the source" : "differs", gfn << PAGE_SHIFT,
			  sums_text(a, gfn, changed ? v->said : v->here, "zeros"), changed ? "first" : "here",
			  sums_text(b, gfn, changed ? v->now : v->there, "zeros"), changed ? "now" : "there");
	if (held)
		sniprintf(text + n, sizeof(text) - (size_t)n, ". %u times: what touches it waits until it is right",
			  v->times);
	spin_lock(&m->lock);
	bool few = m->st.differed_pages < SAID_MAX; /* the peer's word: it may be any number */
	if (!m->st.differed_pages++)
		m->st.differed_at = gfn << PAGE_SHIFT;
	if (held)
		sniprintf(m->st.error, sizeof(m->st.error), "%s", text);
	spin_unlock(&m->lock);
	if (few && v->times <= PAGE_SUMS_AT_ONCE + 1)
		log_error("%s: %s. It is sent again%s", m->st.vm, text, held ? ", each 5 s from now on" : "");
}

/* ---- source ---- */

int page_sums_send(struct wire_tx *tx, const struct gmem *mem, const struct demand *d, uint64_t deadline_ns,
		   uint64_t *pages)
{
	uint64_t sum[DEMAND_FRAMES];
	struct sums_walk w = { .mem = (struct gmem *)mem };
	bool some = false;
	*pages = 0;
	for (uint32_t i = 0; i < d->count; i++) {
		bool goes = gmem_absent(mem, d->first + i);
		int err = goes ? sums_page(&w, d->first + i, &sum[i]) : 0;
		if (err)
			return err;
		sum[i] = goes ? sum[i] : 0;
		some |= goes;
		*pages += !!sum[i];
	}
	if (!some)
		return 0;
	wire_begin(tx, WIRE_SUMS);
	wire_put_u64(tx, d->first);
	for (uint32_t i = 0; i < d->count; i++)
		wire_put_u64(tx, sum[i]);
	return wire_end(tx, deadline_ns);
}

int page_sums_again(struct migration *m, struct gmem *mem, const struct demand *d)
{
	uint64_t here;
	int err = sums_page(&(struct sums_walk){ .mem = mem }, d->first, &here);
	if (err)
		return err;
	say(m, d->first, &(struct words){ here, d->there, d->said, here, d->times });
	spin_lock(&m->lock);
	m->st.verified_pages -= here && m->st.verified_pages; /* it was counted when it went */
	spin_unlock(&m->lock);
	gmem_track_add(mem, d->first, 1);
	return 0;
}

/* ---- destination ---- */

void page_sums_init(struct page_sums *s, struct migration *m)
{
	*s = (struct page_sums){ .m = m };
	spin_init(&s->lock, "page sums");
}

int page_sums_recv(struct page_sums *s, struct wire_rx *rx, const struct gmem *mem, struct why *w)
{
	s->first = wire_get_u64(rx);
	s->count = (uint32_t)(rx->len - rx->pos) / sizeof(s->sum[0]);
	bool good = s->count == 1 || (s->count == DEMAND_FRAMES && s->first % DEMAND_FRAMES == 0);
	for (uint32_t i = 0; good && i < s->count; i++)
		s->sum[i] = wire_get_u64(rx);
	if (good && wire_get_end(rx) && gmem_has(mem, s->first, s->count))
		return 0;
	s->count = 0;
	return why_set(w, -EPROTO, "the source sent malformed digests of pages");
}

bool page_sums_allow(const struct page_sums *s, uint32_t type)
{
	bool now = s->on && !s->count;
	return type == WIRE_SUMS ? now : type == WIRE_PAGES ? !now : !s->count;
}

static struct page_sums_wrong *find(struct page_sums *s, gfn_t gfn) /* its lock is held */
{
	for (unsigned i = 0; i < s->n; i++)
		if (s->wrong[i].gfn == gfn)
			return &s->wrong[i];
	return NULL;
}

/* What the source says of it. If its own copy is another one now, what it said first counts. */
static uint64_t said_first(struct page_sums *s, gfn_t gfn, uint64_t now)
{
	spin_lock(&s->lock);
	const struct page_sums_wrong *o = find(s, gfn);
	uint64_t said = o ? o->said : now;
	spin_unlock(&s->lock);
	return said;
}

/* It has come, and is wrong. How often that was; 0: no more can be remembered. */
static uint32_t note_wrong(struct page_sums *s, gfn_t gfn, uint64_t is, uint64_t said)
{
	spin_lock(&s->lock);
	struct page_sums_wrong *o = find(s, gfn);
	if (!o && s->n < PAGE_SUMS_WRONG) {
		o = &s->wrong[s->n++];
		*o = (struct page_sums_wrong){ .gfn = gfn, .said = said };
	}
	uint32_t times = o ? ++o->times : 0;
	if (o) {
		o->is = is;
		o->by_demand = false;
		o->due_ns = times > PAGE_SUMS_AT_ONCE ? time_ns() + PAGE_SUMS_LATER_NS : 0;
	}
	spin_unlock(&s->lock);
	return times;
}

static void note_right(struct page_sums *s, gfn_t gfn, uint64_t is)
{
	spin_lock(&s->lock);
	struct page_sums_wrong *o = find(s, gfn);
	if (o)
		*o = s->wrong[--s->n];
	bool last = o && !s->n;
	spin_unlock(&s->lock);
	spin_lock(&s->m->lock);
	s->m->st.verified_pages += !!is;
	if (last)
		s->m->st.error[0] = '\0';
	spin_unlock(&s->m->lock);
	if (o)
		log_info("%s: the page at %lx (guest-physical) has come again, and is right", s->m->st.vm,
			 gfn << PAGE_SHIFT);
}

bool page_sums_good(struct page_sums *s, const struct gmem *mem, gfn_t gfn)
{
	struct gmem_pin pin;
	if (!s->on)
		return true;
	if (gfn - s->first >= s->count) {
		s->odd = true;
		return false;
	}
	BUG_ON(gmem_pin(mem, gfn << PAGE_SHIFT, PAGE_SIZE, GMEM_FILL, &pin)); /* it was put there */
	uint64_t is = sums_ram(gfn, pin.p), now = s->sum[gfn - s->first], said = said_first(s, gfn, now);
	gmem_unpin(mem, &pin); /* from here on it counts as written: zeros that come again are written, too */
	if (is == now && is == said) {
		note_right(s, gfn, is);
		return true;
	}
	uint32_t times = note_wrong(s, gfn, is, said);
	s->odd |= !times;
	say(s->m, gfn, &(struct words){ is, now, said, now, MAX(times, 1U) });
	return false;
}

int page_sums_taken(struct page_sums *s, struct why *w)
{
	bool odd = s->odd;
	s->odd = false;
	s->count = 0;
	return odd ? why_set(w, -EPROTO, "pages came whose digests had not, or more than %d differ", PAGE_SUMS_WRONG)
		   : 0;
}

bool page_sums_is_wrong(struct page_sums *s, gfn_t gfn)
{
	spin_lock(&s->lock);
	const struct page_sums_wrong *o = find(s, gfn);
	bool wrong = o && !o->by_demand;
	spin_unlock(&s->lock);
	return wrong;
}

bool page_sums_next(struct page_sums *s, struct demand *d, uint64_t *due_ns)
{
	uint64_t now = time_ns();
	bool due = false;
	*due_ns = TIME_NEVER;
	spin_lock(&s->lock);
	for (unsigned i = 0; i < s->n && !due; i++) {
		struct page_sums_wrong *o = &s->wrong[i];
		due = !o->by_demand && o->due_ns <= now;
		*due_ns = o->by_demand ? *due_ns : MIN(*due_ns, o->due_ns);
		if (!due)
			continue;
		*d = (struct demand){ o->gfn, 1, DEMAND_URGENT, o->times, o->is, o->said };
		o->due_ns = TIME_NEVER;
	}
	spin_unlock(&s->lock);
	return due;
}

void page_sums_restart(struct page_sums *s)
{
	s->count = 0;
	s->odd = false; /* of a record that was cut in the middle */
	spin_lock(&s->lock);
	for (unsigned i = 0; i < s->n; i++)
		s->wrong[i].by_demand = true;
	spin_unlock(&s->lock);
}

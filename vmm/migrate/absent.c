/* SPDX-License-Identifier: BSD-2-Clause */
/* Records of post-copy (absent.h). */
#include "vmm/migrate/absent.h"
#include "kernel/time.h"
#include <stdlib.h>

static int flush(struct absent_tx *m)
{
	if (!m->n)
		return 0;
	wire_begin(m->tx, WIRE_ABSENT);
	wire_put_u64(m->tx, m->base);
	wire_put_u32(m->tx, m->n);
	for (uint32_t i = 0; i < m->n; i++) {
		wire_put_u32(m->tx, m->run[i].off);
		wire_put_u32(m->tx, m->run[i].count);
	}
	m->n = 0;
	return wire_end(m->tx, MIN(time_ns() + m->idle_ns, m->end_ns));
}

static int put(struct absent_tx *m, gfn_t first, uint64_t count)
{
	m->frames += count;
	while (count) {
		int err = m->n == WIRE_ABSENT_RUNS || (m->n && (first - m->base) >> 32) ? flush(m) : 0;
		if (err)
			return err;
		uint32_t some = (uint32_t)MIN(count, (uint64_t)UINT32_MAX);
		if (!m->n)
			m->base = first;
		m->run[m->n].off = (uint32_t)(first - m->base);
		m->run[m->n++].count = some;
		first += some;
		count -= some;
	}
	return 0;
}

int absent_tx_init(struct absent_tx *m, struct wire_tx *tx, uint64_t idle_ns, uint64_t end_ns)
{
	*m = (struct absent_tx){ .tx = tx, .idle_ns = idle_ns, .end_ns = end_ns };
	m->run = malloc(WIRE_ABSENT_RUNS * sizeof(*m->run));
	return m->run ? 0 : -ENOMEM;
}

void absent_tx_fini(struct absent_tx *m) { free(m->run); }

static int put_all(struct absent_tx *m, const struct gmem *g, gfn_t from, gfn_t end)
{
	int err = 0;
	for (gfn_t f = from; !err && (f = gmem_track_next(g, f, end)) < end;) {
		gfn_t gap = gmem_track_gap(g, f, end);
		err = put(m, f, gap - f);
		f = gap;
	}
	return err;
}

int absent_tx_part(struct absent_tx *m, const struct gmem *g, gfn_t from, gfn_t end)
{
	int err = put_all(m, g, from, end);
	return err ? err : flush(m);
}

int absent_tx_end(struct absent_tx *m)
{
	int err = flush(m);
	if (err)
		return err;
	wire_begin(m->tx, WIRE_ABSENT);
	wire_put_u64(m->tx, m->frames);
	wire_put_u32(m->tx, 0);
	return wire_end(m->tx, MIN(time_ns() + m->idle_ns, m->end_ns));
}

int absent_send(struct wire_tx *tx, const struct gmem *g, uint64_t idle_ns, uint64_t end_ns)
{
	struct absent_tx m;
	struct gmem_range r[2];
	int err = absent_tx_init(&m, tx, idle_ns, end_ns);
	for (unsigned i = 0, n = gmem_ranges(g, r); i < n && !err; i++)
		err = put_all(&m, g, r[i].first, r[i].first + r[i].count);
	if (!err)
		err = absent_tx_end(&m);
	absent_tx_fini(&m);
	return err;
}

static int malformed(struct why *w) { return why_set(w, -EPROTO, "the peer sent a malformed map of absent frames"); }

int absent_recv(struct absent_rx *a, struct wire_rx *rx, struct gmem *g,
		void (*add)(struct gmem *g, gfn_t first, uint64_t count), struct why *w)
{
	uint64_t base = wire_get_u64(rx);
	uint32_t n = wire_get_u32(rx);
	const uint8_t *run = wire_get_bytes(rx, n * 8UL);
	gfn_t next = a->next;
	if (!run || !wire_get_end(rx) || base >> 52 || a->ended || (!n && base != a->frames))
		return malformed(w);
	for (uint32_t i = 0; i < n; i++) { /* all of it is checked before any of it is taken */
		gfn_t first = base + get_le32(run + i * 8);
		uint32_t count = get_le32(run + i * 8 + 4);
		if (first < next || !count || !gmem_has(g, first, count))
			return malformed(w);
		next = first + count;
	}
	for (uint32_t i = 0; i < n; i++) {
		add(g, base + get_le32(run + i * 8), get_le32(run + i * 8 + 4));
		a->frames += get_le32(run + i * 8 + 4);
	}
	a->next = next;
	a->ended = !n;
	return 0;
}

int absent_demand_send(struct wire_tx *tx, uint32_t type, const struct demand *d, uint64_t deadline_ns)
{
	wire_begin(tx, type);
	wire_put_u64(tx, d->first);
	wire_put_u32(tx, d->count);
	wire_put_u32(tx, d->flags);
	return wire_end(tx, deadline_ns);
}

bool absent_demand_parse(struct wire_rx *rx, struct demand *d)
{
	*d = (struct demand){ 0 };
	d->first = wire_get_u64(rx);
	d->count = wire_get_u32(rx);
	d->flags = wire_get_u32(rx);
	return wire_get_end(rx);
}

int absent_again_send(struct wire_tx *tx, const struct demand *d, uint64_t deadline_ns)
{
	wire_begin(tx, WIRE_AGAIN);
	wire_put_u64(tx, d->first);
	wire_put_u32(tx, d->times);
	wire_put_u64(tx, d->there);
	wire_put_u64(tx, d->said);
	return wire_end(tx, deadline_ns);
}

bool absent_again_parse(struct wire_rx *rx, struct demand *d)
{
	*d = (struct demand){ .first = wire_get_u64(rx), .count = 1, .flags = DEMAND_URGENT };
	d->times = wire_get_u32(rx);
	d->there = wire_get_u64(rx);
	d->said = wire_get_u64(rx);
	return wire_get_end(rx) && d->times;
}

int absent_all_send(struct wire_tx *tx, const struct attempt_id *id, const uint64_t verified[2], uint64_t deadline_ns)
{
	return id_send_more(tx, WIRE_ALL, id, verified, verified ? 2 : 0, deadline_ns);
}

void absent_all_get(struct wire_rx *rx, struct attempt_id *id, uint64_t verified[2])
{
	id_get(rx, id);
	verified[0] = verified[1] = 0;
	if (rx->bad || rx->pos == rx->len)
		return;
	verified[0] = wire_get_u64(rx);
	verified[1] = wire_get_u64(rx);
}

bool absent_demand_is_sane(const struct demand *d, const struct gmem *g)
{
	bool urgent = d->flags & DEMAND_URGENT;
	return !(d->flags & ~DEMAND_URGENT) && (urgent ? d->count == 1 : d->count == DEMAND_FRAMES) &&
	       d->first % d->count == 0 && gmem_has(g, d->first, d->count);
}

/* SPDX-License-Identifier: BSD-2-Clause */
/* The tables of what is known of a guest, and their state that migrates (learn.h). */
#include "net/learn_table.h"
#include <string.h>

/* ---- which addresses can be a host's, which a group's ---- */

static bool host4(const uint8_t *a) { return a[0] && a[0] != 127 && a[0] < 224; }

static bool host6(const uint8_t *a)
{
	static const uint8_t zeros[15];
	return a[0] != 0xff && (memcmp(a, zeros, sizeof(zeros)) || a[15] > 1); /* neither :: nor ::1 */
}

/* The group of all hosts is never reported (RFC 3376, 5; RFC 3810, 6), nor is one that does not leave the host. */
static bool group4(const uint8_t *a)
{
	static const uint8_t all[4] = { 224, 0, 0, 1 };
	return a[0] >> 4 == 14 && memcmp(a, all, sizeof(all));
}

static bool group6(const uint8_t *a)
{
	static const uint8_t all[16] = { 0xff, 0x02, [15] = 1 };
	return a[0] == 0xff && (a[1] & 15) > 1 && memcmp(a, all, sizeof(all));
}

bool learn_is_free(const uint8_t *ip, unsigned width)
{
	static const uint8_t none[16];
	return !memcmp(ip, none, width);
}

/* ---- entries ---- */

struct learn_table learn_table(struct learn *l, enum learn_kind kind)
{
	struct learn_state *s = &l->s;
	switch (kind) {
	case LEARN_HOST4: return (struct learn_table){ s->ip4, l->ip4_seen_ns, s->ip4_age, LEARN_IP4, 4, host4 };
	case LEARN_HOST6: return (struct learn_table){ s->ip6, l->ip6_seen_ns, s->ip6_age, LEARN_IP6, 16, host6 };
	case LEARN_GROUP4: return (struct learn_table){ s->group4, NULL, NULL, LEARN_GROUPS, 4, group4 };
	case LEARN_GROUP6:
	case LEARN_KINDS: break;
	}
	return (struct learn_table){ s->group6, NULL, NULL, LEARN_GROUPS, 16, group6 };
}

static unsigned find(const struct learn_table *t, const uint8_t *ip)
{
	unsigned i = 0;
	while (i < t->n && memcmp(t->at + i * t->width, ip, t->width))
		i++;
	return i;
}

bool learn_table_has(const struct learn_table *t, const uint8_t *ip) { return find(t, ip) < t->n; }

void learn_table_put(const struct learn_table *t, const uint8_t *ip, uint64_t now_ns)
{
	unsigned i = MIN(find(t, ip), t->n - 1);
	if (!t->good(ip))
		return;
	memmove(t->at + t->width, t->at, i * t->width);
	memcpy(t->at, ip, t->width);
	if (!t->seen_ns)
		return;
	memmove(t->seen_ns + 1, t->seen_ns, i * sizeof(*t->seen_ns));
	t->seen_ns[0] = now_ns;
}

void learn_table_drop(const struct learn_table *t, const uint8_t *ip)
{
	unsigned i = find(t, ip), last = t->n - 1;
	if (i == t->n)
		return;
	memmove(t->at + i * t->width, t->at + (i + 1) * t->width, (last - i) * t->width);
	memset(t->at + last * t->width, 0, t->width);
}

/* ---- life and state ---- */

void learn_init(struct learn *l)
{
	memset(l, 0, sizeof(*l));
	spin_init(&l->lock, "learned");
}

void learn_reset(struct learn *l)
{
	spin_lock(&l->lock);
	memset(&l->s, 0, sizeof(l->s));
	spin_unlock(&l->lock);
}

void learn_save(struct learn *l, uint64_t now_ns)
{
	spin_lock(&l->lock);
	for (enum learn_kind k = LEARN_HOST4; k <= LEARN_HOST6; k++) {
		struct learn_table t = learn_table(l, k);
		for (unsigned i = 0; i < t.n; i++)
			t.age[i] = t.good(t.at + i * t.width) ? (uint32_t)((now_ns - t.seen_ns[i]) / NS_PER_SEC) : 0;
	}
	spin_unlock(&l->lock);
}

void learn_get(struct learn *l, struct learn_state *out, uint64_t now_ns)
{
	learn_save(l, now_ns);
	spin_lock(&l->lock);
	*out = l->s;
	spin_unlock(&l->lock);
}

/* A time before this host's boot wraps around, and its age comes out right all the same. */
void learn_loaded(struct learn *l, uint64_t now_ns)
{
	spin_lock(&l->lock);
	for (enum learn_kind k = LEARN_HOST4; k <= LEARN_HOST6; k++) {
		struct learn_table t = learn_table(l, k);
		for (unsigned i = 0; i < t.n; i++)
			t.seen_ns[i] = now_ns - t.age[i] * NS_PER_SEC;
	}
	spin_unlock(&l->lock);
}

/* The first entries are good; the others, and their ages, are zeros. */
bool learn_is_sane(const struct learn_state *s)
{
	struct learn l = { .s = *s }; /* nobody else knows it */
	for (enum learn_kind k = 0; k < LEARN_KINDS; k++) {
		struct learn_table t = learn_table(&l, k);
		unsigned i = 0;
		while (i < t.n && t.good(t.at + i * t.width))
			i++;
		for (; i < t.n; i++)
			if (!learn_is_free(t.at + i * t.width, t.width) || (t.age && t.age[i]))
				return false;
	}
	return s->router <= 1 && learn_is_free(s->reserved, sizeof(s->reserved));
}

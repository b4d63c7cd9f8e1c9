/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Folding of log lines (log_fold.h): a token bucket each for kinds and for sources. The price of a line doubles with
 * each report, so that a flood that goes on takes one line a minute in the end, and comes down again after a silence.
 */
#include "kernel/log_fold.h"
#include "kernel/base/hash.h"
#include <stdio.h>
#include <string.h>

#define PRICE_MAX_NS (64 * NS_PER_SEC)
#define QUIET_NS     (10 * NS_PER_SEC)

/* What a line costs at first, and how many may come at once. */
static const struct bucket {
	uint64_t price_ns;
	unsigned burst;
} of_kind = { NS_PER_SEC / 4, 64 }, of_source = { NS_PER_SEC, 10 };

static const struct bucket *bucket_of(const struct fold *f) { return f->source ? &of_source : &of_kind; }

/* FNV-1a over the text without its numbers; digits in a name (web1, db-2, eu_3.a4) are part of it. Never 0. */
static uint64_t source_of(const char *text)
{
	uint64_t h = FNV1A_START;
	bool name = false;
	for (; *text; text++) {
		bool digit = *text >= '0' && *text <= '9', joins = *text == '-' || *text == '_' || *text == '.';
		name = (name && (digit || joins)) || (*text >= 'a' && *text <= 'z') || (*text >= 'A' && *text <= 'Z');
		if (name || !digit)
			h = fnv1a_byte(h, (uint8_t)*text);
	}
	return h ? h : 1;
}

static void earn(struct fold *f, uint64_t now_ns)
{
	const struct bucket *b = bucket_of(f);
	uint64_t idle = now_ns > f->seen_ns ? now_ns - f->seen_ns : 0; /* another CPU's line may be older */
	if (idle >= QUIET_NS && !f->more)
		f->price_ns = b->price_ns;
	f->credit_ns = MIN(f->credit_ns + idle, MAX(b->price_ns * b->burst, f->price_ns));
	f->seen_ns = MAX(f->seen_ns, now_ns);
}

/* The entry of this kind or source, or the one to take for it: free, or not seen for longest. */
static struct fold *find(struct fold *table, unsigned n, const char *fmt, uint64_t source)
{
	struct fold *oldest = table;
	for (struct fold *f = table; f < table + n; f++) {
		if (f->fmt == fmt && f->source == source)
			return f;
		if (!f->fmt || (oldest->fmt && f->seen_ns < oldest->seen_ns))
			oldest = f;
	}
	return oldest;
}

/* The same, made anew if need be. What was held back for a source that has to go is its kind's. */
static struct fold *get(struct fold_table *t, struct fold *table, unsigned n, const char *fmt, uint64_t source)
{
	struct fold *oldest = find(table, n, fmt, source);
	if (oldest->fmt == fmt && oldest->source == source)
		return oldest;
	struct fold *heir = find(t->kind, FOLD_KINDS, oldest->fmt, 0);
	if (oldest->more && oldest->source && heir->fmt == oldest->fmt) {
		heir->more += oldest->more;
		heir->last = oldest->last;
	}
	*oldest = (struct fold){ .fmt = fmt, .source = source };
	oldest->price_ns = bucket_of(oldest)->price_ns;
	oldest->credit_ns = oldest->price_ns * bucket_of(oldest)->burst;
	return oldest;
}

static void hold_back(struct fold *f, const struct log_line *l)
{
	f->more++;
	f->last = *l;
}

bool log_fold_line(struct fold_table *t, const char *fmt, const struct log_line *l)
{
	struct fold *k = get(t, t->kind, FOLD_KINDS, fmt, 0);
	struct fold *s = get(t, t->source, FOLD_SOURCES, fmt, source_of(l->text));
	earn(k, l->time_ns);
	earn(s, l->time_ns);
	if (s->more || s->credit_ns < s->price_ns) {
		hold_back(s, l);
		return false;
	}
	if (k->more || k->credit_ns < k->price_ns) {
		hold_back(k, l);
		return false;
	}
	s->credit_ns -= s->price_ns;
	k->credit_ns -= k->price_ns;
	return true;
}

/* Take the count of f, if it is due. */
static bool report(struct fold *f, uint64_t now_ns, bool all, struct log_line *l)
{
	char count[48];
	if (!f->more)
		return false;
	earn(f, now_ns);
	if (f->credit_ns < f->price_ns && !all)
		return false;
	f->credit_ns -= MIN(f->credit_ns, f->price_ns);
	f->price_ns = MIN(f->price_ns * 2, PRICE_MAX_NS);
	*l = f->last;
	l->time_ns = now_ns;
	size_t n = (size_t)sniprintf(count, sizeof(count), " [%lu lines like this]", f->more);
	size_t at = MIN(strlen(l->text), sizeof(l->text) - 1 - n);
	memcpy(l->text + at, count, n + 1);
	f->more = 0;
	return true;
}

bool log_fold_report(struct fold_table *t, uint64_t now_ns, bool all, struct log_line *l)
{
	for (unsigned i = 0; i < FOLD_SOURCES; i++)
		if (report(&t->source[i], now_ns, all, l))
			return true;
	for (unsigned i = 0; i < FOLD_KINDS; i++)
		if (report(&t->kind[i], now_ns, all, l))
			return true;
	return false;
}

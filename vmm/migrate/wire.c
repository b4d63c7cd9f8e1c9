/* SPDX-License-Identifier: BSD-2-Clause */
/* Framing, bounds and check words of the migration stream (wire.h, doc/wire.md). */
#include "vmm/migrate/wire.h"
#include "kernel/base/hash.h"
#include "kernel/time.h"
#include <stdlib.h>
#include <string.h>

#define CHECK       4 /* bytes of the check word */
#define ID          WIRE_ID_LEN
#define PAGES_FIXED (CHECK + 8 + 4 + 4)
#define PAGES_RUN   8

/* Every type that we know and what its length (check included, page data not) may be. */
static const struct {
	const char *name;
	uint32_t min, max;
	/* clang-format off */
} types[WIRE_TYPE_END] = {
	[WIRE_HELLO] = { "HELLO", CHECK + 60, CHECK + 60 },
	[WIRE_OFFER] = { "OFFER", CHECK + ID + 74, CHECK + ID + 74 + 64 * 24 + 4 * 26 + 16 + 5 * 148 },
	[WIRE_ACCEPT] = { "ACCEPT", CHECK + ID, CHECK + ID + 8 },
	[WIRE_REFUSE] = { "REFUSE", CHECK + 4 + WIRE_TEXT_MAX, CHECK + 4 + WIRE_TEXT_MAX },
	[WIRE_PASS] = { "PASS", CHECK + 8, CHECK + 8 }, [WIRE_STATE] = { "STATE", CHECK + 4, CHECK + 4 },
	[WIRE_PAGES] = { "PAGES", PAGES_FIXED + PAGES_RUN,
			 PAGES_FIXED + PAGES_RUN * WIRE_RUNS_MAX + WIRE_PAGES_MAX * 4096 },
	[WIRE_PASS_END] = { "PASS_END", CHECK + 20, CHECK + 20 },
	[WIRE_PASS_ACK] = { "PASS_ACK", CHECK + 4, CHECK + 4 }, [WIRE_KEEPALIVE] = { "KEEPALIVE", CHECK, CHECK },
	[WIRE_SECTION] = { "SECTION", CHECK + 40, CHECK + 40 + WIRE_SECTION_MAX },
	[WIRE_END] = { "END", CHECK + ID + 28, CHECK + ID + 28 },
	[WIRE_READY] = { "READY", CHECK + ID, CHECK + ID + 24 },
	[WIRE_COMMIT] = { "COMMIT", CHECK + ID + 8, CHECK + ID + 16 },
	[WIRE_STARTED] = { "STARTED", CHECK + ID + 16, CHECK + ID + 24 },
	[WIRE_NEVER] = { "NEVER", CHECK + ID + 16, CHECK + ID + 16 },
	[WIRE_QUERY] = { "QUERY", CHECK + ID, CHECK + ID }, [WIRE_DONE] = { "DONE", CHECK + ID, CHECK + ID },
	[WIRE_ERROR] = { "ERROR", CHECK + 4 + WIRE_TEXT_MAX, CHECK + 4 + WIRE_TEXT_MAX },
	[WIRE_WHO] = { "WHO", CHECK + WIRE_WHO_LEN, CHECK + WIRE_WHO_LEN },
	[WIRE_HAVE] = { "HAVE", CHECK + WIRE_HAVE_LEN, CHECK + WIRE_HAVE_LEN },
	[WIRE_IDENT] = { "IDENT", CHECK + 16, CHECK + 16 },
	[WIRE_UNKNOWN] = { "UNKNOWN", CHECK + ID, CHECK + ID },
	[WIRE_SETTLE] = { "SETTLE", CHECK + ID + 56, CHECK + ID + 72 },
	[WIRE_KEPT] = { "KEPT", CHECK + ID, CHECK + ID }, [WIRE_DEBT] = { "DEBT", CHECK + ID + 56, CHECK + ID + 72 },
	[WIRE_PREPARING] = { "PREPARING", CHECK + 16, CHECK + 16 },
	[WIRE_REACH] = { "REACH", CHECK + 32, CHECK + 32 }, [WIRE_REACHED] = { "REACHED", CHECK + 28, CHECK + 28 },
	[WIRE_FILES] = { "FILES", CHECK + WIRE_FILE_ENTRY * WIRE_FILES_MIN, CHECK + WIRE_FILE_ENTRY * WIRE_FILES_MAX },
	[WIRE_WANT] = { "WANT", CHECK + 4, CHECK + 4 },
	[WIRE_VERIFY] = { "VERIFY", CHECK + 16, CHECK + 16 + 16 * WIRE_SUMS_MAX },
	[WIRE_VERIFY_STATE] = { "VERIFY_STATE", CHECK + 44, CHECK + 44 },
	[WIRE_CHECKED] = { "CHECKED", CHECK + 4, CHECK + 4 },
	[WIRE_DIFFERS] = { "DIFFERS", CHECK + 44, CHECK + 44 + WIRE_SECTION_MAX },
	[WIRE_FILE] = { "FILE", CHECK + 13, CHECK + 12 + WIRE_FILE_MAX },
	[WIRE_FRAMES] = { "FRAMES", CHECK + 4 + 4 + 14, WIRE_FRAMES_MAX },
	[WIRE_ABSENT] = { "ABSENT", CHECK + 12, CHECK + 12 + 8 * WIRE_ABSENT_RUNS },
	[WIRE_DEMAND] = { "DEMAND", CHECK + 16, CHECK + 16 }, [WIRE_SERVED] = { "SERVED", CHECK + 16, CHECK + 16 },
	[WIRE_ALL] = { "ALL", CHECK + ID, CHECK + ID + 16 }, [WIRE_REJOIN] = { "REJOIN", CHECK + ID, CHECK + ID },
	[WIRE_SUMS] = { "SUMS", CHECK + 16, CHECK + 8 + 16 * 8 }, [WIRE_AGAIN] = { "AGAIN", CHECK + 28, CHECK + 28 },
};
/* clang-format on */

const char *wire_type_name(uint32_t type)
{
	return type < WIRE_TYPE_END && types[type].name ? types[type].name : "unknown";
}

/*
 * Only fields go through the check, never page data, so that it costs nothing beside the copying; a forger is TLS's
 * work.
 */
static uint64_t fnv_u64(uint64_t h, uint64_t v)
{
	uint8_t b[8];
	put_le64(b, v);
	return fnv1a(h, b, sizeof(b));
}

uint64_t wire_key(const void *id, size_t len) { return fnv1a(FNV1A_START, id, len); }

static uint64_t check_start(uint64_t key, uint64_t seq, const uint8_t header[WIRE_HEADER])
{
	return fnv1a(fnv_u64(fnv_u64(FNV1A_START, key), seq), header, WIRE_HEADER);
}

static uint32_t check_fold(uint64_t h) { return (uint32_t)(h ^ h >> 32); }

/* ---- writing ---- */

int wire_tx_init(struct wire_tx *tx, struct stream *s)
{
	*tx = (struct wire_tx){ .s = s, .buf = malloc(WIRE_HEADER + WIRE_BODY_MAX) };
	return tx->buf ? 0 : -ENOMEM;
}

void wire_tx_fini(struct wire_tx *tx)
{
	free(tx->buf);
	tx->buf = NULL;
}

void wire_begin(struct wire_tx *tx, uint32_t type)
{
	tx->type = type;
	tx->len = WIRE_HEADER + CHECK;
	tx->data_len = 0;
	tx->niov = 1;
}

uint8_t *wire_put_space(struct wire_tx *tx, size_t n)
{
	uint8_t *p = tx->buf + tx->len;
	BUG_ON(n > WIRE_HEADER + WIRE_BODY_MAX - tx->len);
	tx->len += n;
	return p;
}

void wire_put_u32(struct wire_tx *tx, uint32_t v) { put_le32(wire_put_space(tx, 4), v); }
void wire_put_u64(struct wire_tx *tx, uint64_t v) { put_le64(wire_put_space(tx, 8), v); }
void wire_put_bytes(struct wire_tx *tx, const void *p, size_t n) { memcpy(wire_put_space(tx, n), p, n); }

void wire_put_str(struct wire_tx *tx, const char *s, size_t n)
{
	uint8_t *p = wire_put_space(tx, n);
	size_t len = strnlen(s, n - 1);
	memcpy(p, s, len);
	memset(p + len, 0, n - len);
}

void wire_put_data(struct wire_tx *tx, void *page, size_t len)
{
	struct iov *last = &tx->iov[tx->niov - 1];
	if (tx->niov > 1 && (char *)last->base + last->len == (char *)page) {
		last->len += len;
	} else {
		BUG_ON(tx->niov == ARRAY_SIZE(tx->iov));
		tx->iov[tx->niov++] = (struct iov){ page, len };
	}
	tx->data_len += len;
}

int wire_end(struct wire_tx *tx, uint64_t deadline_ns)
{
	put_le32(tx->buf, tx->type);
	put_le32(tx->buf + 4, (uint32_t)(tx->len - WIRE_HEADER + tx->data_len));
	uint64_t h = check_start(tx->key, tx->seq++, tx->buf);
	h = fnv1a(h, tx->buf + WIRE_HEADER + CHECK, tx->len - WIRE_HEADER - CHECK);
	put_le32(tx->buf + WIRE_HEADER, check_fold(h));
	tx->iov[0] = (struct iov){ tx->buf, tx->len };
	tx->bytes += tx->len + tx->data_len;
	return stream_writev(tx->s, tx->iov, tx->niov, deadline_ns);
}

int wire_filler(struct wire_tx *tx, uint64_t deadline_ns)
{
	wire_begin(tx, WIRE_FILLER);
	memset(wire_put_space(tx, WIRE_FILLER_LEN), 0, WIRE_FILLER_LEN);
	return wire_end(tx, deadline_ns);
}

/* ---- reading ---- */

int wire_rx_init(struct wire_rx *rx, struct stream *s)
{
	*rx = (struct wire_rx){ .s = s, .buf = malloc(WIRE_BODY_MAX) };
	return rx->buf ? 0 : -ENOMEM;
}

void wire_rx_fini(struct wire_rx *rx)
{
	free(rx->buf);
	rx->buf = NULL;
}

/* How many of a PAGES record's `length` bytes are fields, from its fixed part; 0 if the two do not agree. */
static size_t pages_fields(const uint8_t *fixed, uint32_t length, size_t *data_len)
{
	uint32_t nruns = get_le32(fixed + CHECK + 8), npages = get_le32(fixed + CHECK + 12);
	if (!nruns || nruns > WIRE_RUNS_MAX || npages > WIRE_PAGES_MAX)
		return 0;
	*data_len = npages * PAGE_SIZE;
	size_t fields = PAGES_FIXED + nruns * PAGES_RUN;
	return fields + *data_len == length ? fields : 0;
}

/* Read the fields behind header; *known says whether it is a record for the caller. */
static int recv_body(struct wire_rx *rx, const uint8_t header[WIRE_HEADER], bool *known, uint64_t deadline_ns,
		     struct why *w)
{
	uint32_t type = get_le32(header), length = get_le32(header + 4);
	size_t fields = length, have = 0;
	int err = 0;

	*known = type < WIRE_TYPE_END && types[type].name;
	if (!*known && !(type & WIRE_OPTIONAL))
		return why_set(w, -EPROTO, "the peer sent a record of type %u, which this version does not know", type);
	if (*known && (length < types[type].min || length > types[type].max))
		return why_set(w, -EPROTO, "the peer sent %s with %u bytes, which it cannot have", types[type].name,
			       length);
	if (!*known && (length < CHECK || length > WIRE_BODY_MAX))
		return why_set(w, -EPROTO, "the peer sent an optional record of %u bytes", length);
	rx->data_len = 0;
	if (type == WIRE_PAGES) {
		err = stream_read(rx->s, rx->buf, PAGES_FIXED, deadline_ns);
		if (err)
			return err;
		fields = pages_fields(rx->buf, length, &rx->data_len);
		if (!fields)
			return why_set(w, -EPROTO, "the peer sent a PAGES record whose length and counts disagree");
		have = PAGES_FIXED;
	}
	err = stream_read(rx->s, rx->buf + have, fields - have, deadline_ns);
	if (err)
		return err;
	uint64_t h = fnv1a(check_start(rx->key, rx->seq++, header), rx->buf + CHECK, fields - CHECK);
	if (check_fold(h) != get_le32(rx->buf))
		return why_set(w, -EBADMSG, "a %s record arrived damaged or out of its place", wire_type_name(type));
	rx->bytes += WIRE_HEADER + length;
	rx->type = type;
	rx->len = fields;
	rx->pos = CHECK;
	rx->bad = false;
	return 0;
}

int wire_recv(struct wire_rx *rx, uint64_t deadline_ns, uint64_t idle_ns, struct why *w)
{
	uint8_t header[WIRE_HEADER];
	bool known;
	int err;

	BUG_ON(rx->data_len);
	do {
		if ((err = stream_read(rx->s, header, sizeof(header), deadline_ns)) ||
		    (err = recv_body(rx, header, &known, time_ns() + idle_ns, w)) || known)
			break;
		err = -ETIMEDOUT; /* a stream that never runs dry has its limit too */
	} while (time_ns() < deadline_ns);
	if (err)
		rx->data_len = 0;
	return err;
}

int wire_recv_data(struct wire_rx *rx, void *buf, size_t len, uint64_t deadline_ns)
{
	BUG_ON(len > rx->data_len);
	rx->data_len -= len;
	int err = stream_read(rx->s, buf, len, deadline_ns);
	if (err)
		rx->data_len = 0;
	return err;
}

const uint8_t *wire_get_bytes(struct wire_rx *rx, size_t n)
{
	if (n > rx->len - rx->pos) {
		rx->bad = true;
		return NULL;
	}
	rx->pos += n;
	return rx->buf + rx->pos - n;
}

uint32_t wire_get_u32(struct wire_rx *rx)
{
	const uint8_t *p = wire_get_bytes(rx, 4);
	return p ? get_le32(p) : 0;
}

uint64_t wire_get_u64(struct wire_rx *rx)
{
	const uint8_t *p = wire_get_bytes(rx, 8);
	return p ? get_le64(p) : 0;
}

void wire_get_str(struct wire_rx *rx, char *s, size_t n)
{
	const uint8_t *p = wire_get_bytes(rx, n);
	s[0] = 0;
	if (!p)
		return;
	size_t len = strnlen((const char *)p, n);
	for (size_t i = len; i < n; i++)
		rx->bad |= p[i] != 0;
	for (size_t i = 0; i < len; i++)
		rx->bad |=
			p[i] < 0x20 || (p[i] >= 0x7f && p[i] < 0xa0); /* it will be printed on an operator's terminal */
	if (len == n || rx->bad)
		rx->bad = true;
	else
		memcpy(s, p, n);
}

bool wire_get_end(const struct wire_rx *rx) { return !rx->bad && rx->pos == rx->len; }

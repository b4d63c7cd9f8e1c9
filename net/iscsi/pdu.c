/* SPDX-License-Identifier: BSD-2-Clause */
/* PDUs on a stream (pdu.h). What comes is the target's: its lengths are held against what the caller allows. */
#include "net/iscsi/pdu.h"
#include "crypto/crc32c.h"
#include <string.h>

#define WORD   4
#define DIGEST 4
#define COPY   8192 /* bytes, on the stack */

static size_t padding(size_t len) { return -len % WORD; }

/* Little-endian: the digest's bits go as RFC 3720 B.4 shows, lowest byte first. */
static void put_digest(uint8_t *p, uint32_t crc)
{
	crc = ~crc;
	for (unsigned i = 0; i < DIGEST; i++)
		p[i] = (uint8_t)(crc >> (8 * i));
}

/*
 * Data with a digest: it is the guest's, who may change it meanwhile, so what is sent is a copy, and of that the digest
 * is made. It goes behind `head`, which is of one or two pieces.
 */
static int send_digested(struct iscsi_wire *w, struct iov *head, unsigned nhead, const struct iov *data, unsigned n,
			 size_t len, uint64_t deadline_ns)
{
	uint8_t copy[COPY], tail[WORD + DIGEST] = { 0 };
	size_t have = 0, pad = padding(len);
	uint32_t crc = CRC32C_START;
	int err = 0;
	for (unsigned i = 0; i < n && !err; i++) {
		for (size_t off = 0, k; off < data[i].len && !err; off += k) {
			k = MIN(data[i].len - off, sizeof(copy) - have);
			memcpy(copy + have, (const uint8_t *)data[i].base + off, k);
			have += k;
			len -= k;
			if (len && have < sizeof(copy))
				continue;
			crc = crc32c(crc, copy, have);
			head[nhead] = (struct iov){ copy, have };
			err = stream_writev(w->s, head, nhead + 1, deadline_ns);
			nhead = 0;
			have = 0;
		}
	}
	put_digest(tail + pad, crc32c(crc, tail, pad));
	return err ? err : stream_write(w->s, tail, pad + DIGEST, deadline_ns);
}

int iscsi_pdu_send(struct iscsi_wire *w, uint8_t *bhs, const struct iov *data, unsigned n, size_t len,
		   uint64_t deadline_ns)
{
	struct iov iov[ISCSI_PIECES + 4];
	uint8_t head[DIGEST], tail[WORD] = { 0 };
	unsigned k = 0;

	BUG_ON(n > ISCSI_PIECES);
	put_be24(bhs + BHS_DATA_LEN, len);
	iov[k++] = (struct iov){ bhs, ISCSI_BHS };
	if (w->header_digest) {
		put_digest(head, crc32c(CRC32C_START, bhs, ISCSI_BHS));
		iov[k++] = (struct iov){ head, DIGEST };
	}
	if (len && w->data_digest)
		return send_digested(w, iov, k, data, n, len, deadline_ns);
	for (unsigned i = 0; i < n; i++)
		iov[k++] = data[i];
	if (padding(len))
		iov[k++] = (struct iov){ tail, padding(len) };
	return stream_writev(w->s, iov, k, deadline_ns);
}

int iscsi_pdu_recv(struct iscsi_wire *w, uint8_t *bhs, size_t max, uint64_t deadline_ns)
{
	int err = stream_read(w->s, bhs, ISCSI_BHS, deadline_ns);
	if (err)
		return err;
	uint32_t crc = CRC32C_START;
	if (w->header_digest)
		crc = crc32c(crc, bhs, ISCSI_BHS);
	for (size_t left = bhs[BHS_AHS_LEN] * (size_t)WORD; left; left -= WORD) {
		uint8_t ahs[WORD];
		if ((err = stream_read(w->s, ahs, WORD, deadline_ns)))
			return err;
		if (w->header_digest)
			crc = crc32c(crc, ahs, WORD);
	}
	if (w->header_digest) {
		uint8_t want[DIGEST], got[DIGEST];
		put_digest(want, crc);
		if ((err = stream_read(w->s, got, DIGEST, deadline_ns)))
			return err;
		if (memcmp(want, got, DIGEST))
			return -EBADMSG;
	}
	return iscsi_pdu_data_len(bhs) > max ? -EMSGSIZE : 0;
}

/* By a copy, as above. */
static int read_digested(struct iscsi_wire *w, struct iscsi_data *d, uint8_t *to, size_t len, uint64_t deadline_ns)
{
	uint8_t copy[COPY];
	for (size_t off = 0, n; off < len; off += n) {
		n = MIN(len - off, sizeof(copy));
		int err = stream_read(w->s, copy, n, deadline_ns);
		if (err)
			return err;
		d->crc = crc32c(d->crc, copy, n);
		memcpy(to + off, copy, n);
	}
	return 0;
}

int iscsi_pdu_get(struct iscsi_wire *w, const uint8_t *bhs, struct iscsi_data *d, void *to, size_t len,
		  uint64_t deadline_ns)
{
	size_t all = iscsi_pdu_data_len(bhs), pad = padding(all);
	uint8_t tail[WORD + DIGEST], want[DIGEST];

	BUG_ON(len > all - d->taken);
	if (!d->taken)
		d->crc = CRC32C_START;
	int err = w->data_digest ? read_digested(w, d, to, len, deadline_ns)
		  : len          ? stream_read(w->s, to, len, deadline_ns)
				 : 0;
	if (err)
		return err;
	d->taken += len;
	if (!len || d->taken < all) /* the rest was taken along with its last byte */
		return 0;
	size_t rest = pad + (w->data_digest ? DIGEST : 0);
	if (rest && (err = stream_read(w->s, tail, rest, deadline_ns)))
		return err;
	if (!w->data_digest)
		return 0;
	put_digest(want, crc32c(d->crc, tail, pad));
	return memcmp(want, tail + pad, DIGEST) ? -EBADMSG : 0;
}

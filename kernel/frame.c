/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Frames and their offloads in software: finishing a partial checksum (RFC 1071) and cutting one large TCP frame into
 * segments. Offsets and lengths come from guests: nothing is believed that does not fit the bytes that are there.
 */
#include "kernel/frame.h"
#include "kernel/base/hash.h"
#include <string.h>

#define TCP_FIN 0x01
#define TCP_PSH 0x08
#define TCP_CWR 0x80

/*
 * Ones' complement sum of big-endian 16-bit words, not folded; eight bytes at a time, because byte order does not
 * matter to it.
 */
static uint64_t sum_words(const uint8_t *p, size_t n, uint64_t sum)
{
	uint64_t wide = 0;
	for (; n >= 8; p += 8, n -= 8) {
		uint64_t w;
		memcpy(&w, p, 8);
		wide += (w & 0xffffffff) + (w >> 32);
	}
	wide = (wide & 0xffffffff) + (wide >> 32);
	wide = (wide & 0xffff) + (wide >> 16);
	wide = (wide & 0xffff) + (wide >> 16);
	sum += (uint16_t)__builtin_bswap16((uint16_t)((wide & 0xffff) + (wide >> 16)));
	for (; n >= 2; p += 2, n -= 2)
		sum += get_be16(p);
	if (n)
		sum += (uint64_t)*p << 8;
	return sum;
}

static uint16_t fold(uint64_t sum)
{
	while (sum >> 16)
		sum = (sum & 0xffff) + (sum >> 16);
	return (uint16_t)~sum;
}

uint16_t frame_checksum(const uint8_t *p, size_t n, uint64_t sum) { return fold(sum_words(p, n, sum)); }

/* Pieces of f: n bytes from `off` on, one after the other. */
struct pieces {
	const struct frame *f;
	size_t off, n; /* what is before the next one, and what is still wanted */
	unsigned i;
};
static bool pieces_next(struct pieces *w, struct iov *piece)
{
	for (; w->i < w->f->niov && w->n; w->i++) {
		const struct iov *v = &w->f->iov[w->i];
		if (w->off >= v->len) {
			w->off -= v->len;
			continue;
		}
		*piece = (struct iov){ (uint8_t *)v->base + w->off, MIN(v->len - w->off, w->n) };
		w->n -= piece->len;
		w->off = 0;
		w->i++;
		return true;
	}
	return false;
}

size_t frame_copy_out(const struct frame *f, size_t off, void *buf, size_t n)
{
	struct pieces w = { f, off, n, 0 };
	struct iov piece;
	for (uint8_t *out = buf; pieces_next(&w, &piece); out += piece.len)
		memcpy(out, piece.base, piece.len);
	return n - w.n;
}

/* Append n bytes from `off` of f to what `to` has. False: too many pieces, or f is shorter. */
static bool add_pieces(struct frame *to, const struct frame *f, size_t off, size_t n)
{
	struct pieces w = { f, off, n, 0 };
	struct iov piece;
	while (pieces_next(&w, &piece)) {
		if (to->niov == FRAME_IOV_MAX)
			return false;
		to->iov[to->niov++] = piece;
		to->len += (uint32_t)piece.len;
	}
	return !w.n;
}

/* Goes on from sum with n bytes of one end upon as many of the other's behind them: the same both ways. */
static uint64_t both(uint64_t sum, const uint8_t *p, size_t n)
{
	for (size_t i = 0; i < n; i++)
		sum = fnv1a_byte(sum, p[i] ^ p[n + i]);
	return sum;
}

unsigned frame_flow(const struct frame *f)
{
	uint8_t h[ETH_HLEN + IP6_HDR + 4] = { 0 }, proto = 0;
	const uint8_t *ip = h + ETH_HLEN;
	size_t l4 = 0;
	(void)frame_copy_out(f, 0, h, sizeof(h));
	uint64_t sum = both(FNV1A_START, h, ETH_ALEN);
	if (get_be16(h + ETH_TYPE) == ETHERTYPE_IPV4) {
		sum = both(sum, ip + IP4_SRC, 4);
		proto = get_be16(ip + IP4_FRAG) & IP4_FRAG_MASK ? 0 : ip[IP4_PROTO];
		l4 = (ip[0] & 0xfU) * 4;
	} else if (get_be16(h + ETH_TYPE) == ETHERTYPE_IPV6) {
		sum = both(sum, ip + IP6_SRC, 16);
		proto = ip[IP6_NEXT];
		l4 = IP6_HDR;
	}
	if ((proto == PROTO_TCP || proto == PROTO_UDP) && l4 <= IP6_HDR)
		sum = both(sum, ip + l4, 2);
	return (unsigned)(sum ^ sum >> 32);
}

bool frame_put_head(struct frame *to, const void *head, size_t n, const struct frame *f, size_t skip)
{
	uint16_t shift = (uint16_t)(n - skip);
	if (f->len < skip)
		return false;
	to->iov[0] = (struct iov){ (void *)(uintptr_t)head, n };
	to->niov = 1;
	to->len = (uint32_t)n;
	to->flags = f->flags;
	to->gso = f->gso;
	to->gso_size = f->gso_size;
	to->hdr_len = (uint16_t)(f->hdr_len + shift);
	to->csum_start = (uint16_t)(f->csum_start + shift);
	to->csum_offset = f->csum_offset;
	return add_pieces(to, f, skip, f->len - skip);
}

void frame_init_flat(struct frame *f, void *buf, size_t len)
{
	f->iov[0] = (struct iov){ buf, len };
	f->niov = 1;
	f->len = (uint32_t)len;
	f->flags = f->gso = FRAME_GSO_NONE;
	f->hdr_len = f->gso_size = f->csum_start = f->csum_offset = 0;
}

bool frame_find_tcp(struct frame_tcp *t, const uint8_t *h, size_t n, bool v6)
{
	t->v6 = v6;
	t->ip = ETH_HLEN;
	if (n < ETH_HLEN)
		return false;
	uint16_t type = get_be16(h + ETH_TYPE);
	for (unsigned tags = 0; tags < ETH_TAGS && eth_is_tag(type) && n >= t->ip + ETH_TAG_LEN; tags++) {
		t->ip += ETH_TAG_LEN;
		type = get_be16(h + t->ip - 2);
	}
	if (type != (v6 ? ETHERTYPE_IPV6 : ETHERTYPE_IPV4) || n < t->ip + (v6 ? 40 : 20))
		return false;
	const uint8_t *ip = h + t->ip;
	if (v6) {
		if (ip[0] >> 4 != 6 || ip[6] != PROTO_TCP) /* extension headers: not in what a GSO frame carries */
			return false;
		t->tcp = t->ip + 40;
	} else {
		size_t ihl = (size_t)(ip[0] & 15) * 4;
		if (ip[0] >> 4 != 4 || ihl < 20 || ip[9] != PROTO_TCP || get_be16(ip + 6) & 0x3fff) /* a fragment */
			return false;
		t->tcp = t->ip + ihl;
	}
	if (n < t->tcp + 20)
		return false;
	size_t doff = (size_t)(h[t->tcp + 12] >> 4) * 4;
	t->payload = t->tcp + doff;
	return doff >= 20 && n >= t->payload;
}

/* The folded sum of n bytes from `off` of f, of words that begin there: a piece may begin in the middle of one. */
static uint64_t sum_pieces(const struct frame *f, size_t off, size_t n)
{
	struct pieces w = { f, off, n, 0 };
	struct iov piece;
	uint64_t sum = 0;
	for (bool odd = false; pieces_next(&w, &piece); odd ^= piece.len & 1) {
		uint16_t s = (uint16_t)~frame_checksum(piece.base, piece.len, 0);
		sum += odd ? __builtin_bswap16(s) : s;
	}
	return sum;
}

/* The two bytes at csum_start + csum_offset become the checksum: between two halves of f. */
static bool finish_one(const struct frame *f, void (*out)(void *arg, const struct frame *f), void *arg)
{
	size_t at = (size_t)f->csum_start + f->csum_offset;
	uint8_t csum[2];
	struct frame to = { .niov = 0 };
	if (f->len < FRAME_MIN)
		return false;
	if (!(f->flags & FRAME_NEEDS_CSUM)) {
		if (!add_pieces(&to, f, 0, f->len))
			return false;
		out(arg, &to);
		return true;
	}
	if (f->csum_start >= f->len || at + sizeof(csum) > f->len || !add_pieces(&to, f, 0, at) ||
	    to.niov == FRAME_IOV_MAX)
		return false;
	uint16_t sum = fold(sum_pieces(f, f->csum_start, f->len - f->csum_start));
	put_be16(csum, sum ? sum : 0xffff); /* 0 would mean "none" to UDP (RFC 768) */
	to.iov[to.niov++] = (struct iov){ csum, sizeof(csum) };
	to.len += sizeof(csum);
	if (!add_pieces(&to, f, at + sizeof(csum), f->len - at - sizeof(csum)))
		return false;
	out(arg, &to);
	return true;
}

/* Of a segment: head, its headers, as they are otherwise, and n bytes of payload from `off` of f. */
static void tcp_csum(const struct frame_tcp *t, uint8_t *head, const struct frame *f, size_t off, size_t n)
{
	uint8_t *ip = head + t->ip, *tcp = head + t->tcp;
	size_t tcp_head = t->payload - t->tcp;
	put_be16(tcp + 16, 0);
	uint64_t sum = t->v6 ? sum_words(ip + 8, 32, 0) : sum_words(ip + 12, 8, 0); /* pseudo header: RFC 9293 3.1 */
	sum += PROTO_TCP + tcp_head + n + sum_pieces(f, off, n);
	put_be16(tcp + 16, frame_checksum(tcp, tcp_head, sum));
}

bool frame_finish(const struct frame *f, size_t mtu, void (*out)(void *arg, const struct frame *f), void *arg)
{
	uint8_t gso = f->gso & (uint8_t)~VNET_GSO_ECN;
	if (gso == FRAME_GSO_NONE)
		return finish_one(f, out, arg);
	if (gso != FRAME_GSO_TCPV4 && gso != FRAME_GSO_TCPV6)
		return false;
	uint8_t head[FRAME_TCP_HEAD_MAX];
	struct frame_tcp t;
	size_t got = frame_copy_out(f, 0, head, MIN(sizeof(head), f->len));
	if (!frame_find_tcp(&t, head, got, gso == FRAME_GSO_TCPV6) || f->gso_size == 0 ||
	    t.payload - t.ip + f->gso_size > mtu)
		return false;
	/* Lengths, id, sequence number and sums are each segment's own; FIN and PSH the last's, CWR the first's. */
	uint8_t *ip = head + t.ip, *tcp = head + t.tcp, tcp_flags = tcp[13];
	uint32_t seq = get_be32(tcp + 4);
	uint16_t id = get_be16(ip + 4);
	size_t total = f->len - t.payload, off = 0;
	do {
		size_t n = MIN((size_t)f->gso_size, total - off), len = t.payload + n;
		struct frame to = { .iov = { { head, t.payload } }, .niov = 1, .len = (uint32_t)t.payload };
		if (!add_pieces(&to, f, t.payload + off, n))
			return false;
		if (t.v6) {
			put_be16(ip + 4, (uint16_t)(len - t.tcp));
		} else {
			put_be16(ip + 2, (uint16_t)(len - t.ip));
			put_be16(ip + 4, id++);
			put_be16(ip + 10, 0);
			put_be16(ip + 10, frame_checksum(ip, t.tcp - t.ip, 0));
		}
		put_be32(tcp + 4, seq + (uint32_t)off);
		tcp[13] = tcp_flags;
		if (off + n < total)
			tcp[13] &= (uint8_t) ~(TCP_FIN | TCP_PSH);
		if (off)
			tcp[13] &= (uint8_t)~TCP_CWR;
		tcp_csum(&t, head, f, t.payload + off, n);
		out(arg, &to);
		off += n;
	} while (off < total);
	return true;
}

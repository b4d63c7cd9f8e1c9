/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * An Ethernet frame on its way between a guest's virtio-net, the bridge, a NIC and lwIP. A frame is borrowed: it and
 * its bytes are valid until the function it was given to returns; whoever wants to keep it copies. Offload metadata
 * follows struct virtio_net_hdr (virtio 1.1, 5.1.6): the checksum at csum_start + csum_offset may be left partial, and
 * one frame may stand for several TCP segments of gso_size payload bytes each.
 */
#pragma once
#include "arch/x86/hw/virtio.h"
#include "kernel/base/ether.h"

#define FRAME_HEAD_MAX (ETH_HLEN + ETH_TAGS * ETH_TAG_LEN)
#define FRAME_MAX      (65535 + FRAME_HEAD_MAX) /* a GSO frame */
#define FRAME_MIN      ETH_HLEN
#define FRAME_IOV_MAX  23
#define FRAME_IOV_IN \
	(FRAME_IOV_MAX - 4) /* where it comes in: bridge and uplink put headers in front, a checksum splits one */

struct iov {
	void *base;
	size_t len;
};

#define FRAME_NEEDS_CSUM VNET_HDR_NEEDS_CSUM /* finish the checksum before it goes on a wire */
#define FRAME_DATA_VALID VNET_HDR_DATA_VALID /* the receiver need not check it */
#define FRAME_CONTROL \
	0x80 /* this host's own, which keeps a link in use: cards have room for some when all else is full */
enum frame_gso { FRAME_GSO_NONE = VNET_GSO_NONE, FRAME_GSO_TCPV4 = VNET_GSO_TCPV4, FRAME_GSO_TCPV6 = VNET_GSO_TCPV6 };

/* What a NIC, a port or a guest's driver takes unfinished. */
#define FRAME_TAKES_CSUM 1 /* FRAME_NEEDS_CSUM */
#define FRAME_TAKES_TSO4 2 /* FRAME_GSO_TCPV4 */
#define FRAME_TAKES_TSO6 4

struct frame {
	struct iov iov[FRAME_IOV_MAX];
	unsigned niov;
	uint32_t len;  /* sum of iov[].len */
	uint8_t flags; /* FRAME_* */
	uint8_t gso;   /* enum frame_gso */
	uint16_t hdr_len, gso_size, csum_start, csum_offset;
};

/* Copy n bytes from offset `off` of the frame; returns how many there were. */
size_t frame_copy_out(const struct frame *f, size_t off, void *buf, size_t n);
/*
 * `to` is f with n bytes of head instead of its first `skip`; what its offloads count from the start moves along. Both
 * are borrowed by it. False: too many pieces, or f is shorter.
 */
bool frame_put_head(struct frame *to, const void *head, size_t n, const struct frame *f, size_t skip) must_check;
/* A frame of one piece, no offloads. */
void frame_init_flat(struct frame *f, void *buf, size_t len);
/* The Internet checksum (RFC 1071), complemented, of n bytes on top of a sum of big-endian words. Pure. */
uint16_t frame_checksum(const uint8_t *p, size_t n, uint64_t sum);
/*
 * Finish in software what a receiver does not take unfinished: the checksum of f, or the cutting of a GSO frame into
 * segments of at most mtu bytes behind the Ethernet header. out() gets each frame that comes of it, borrowed as f is:
 * f's own pieces, and new bytes where they differ. False if its headers or offsets are malformed: then out() may have
 * got some.
 */
bool frame_finish(const struct frame *f, size_t mtu, void (*out)(void *arg, const struct frame *f), void *arg);

/*
 * A number that all frames of a flow have, both ways: who deals them out by it keeps them in order. By MACs, and behind
 * no tag by addresses and, where every packet has them, ports.
 */
unsigned frame_flow(const struct frame *f);

/* The headers of a TCP frame, found in its bytes and not in what its sender said of them. */
#define FRAME_TCP_HEAD_MAX (FRAME_HEAD_MAX + 60 + 60)
struct frame_tcp {
	bool v6;
	size_t ip, tcp, payload; /* offsets */
};
/*
 * In h, the first n bytes of a frame of at most ETH_TAGS tags. False if this is no whole header of TCP without
 * extension headers (IPv6) and not of a fragment (IPv4).
 */
bool frame_find_tcp(struct frame_tcp *t, const uint8_t *h, size_t n, bool v6);

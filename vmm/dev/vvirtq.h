/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Split virtqueues (virtio 1.2, 2.7), the device's side. Everything in guest memory may be hostile and may change under
 * our eyes: each field is read once, checked, and used from the copy. A broken ring gives -EPROTO and a reason in
 * q->why. A page that is not here yet (gmem.h) gives -EAGAIN, from vvirtq_pop alone: nothing was taken; give up the
 * lock, vvirtq_wait, begin again.
 *
 *   descriptors  addr len flags next      the driver's buffers, chained, or in an indirect table
 *   avail        flags idx ring[] used_event    driver -> device: heads of chains offered
 *   used         flags idx ring[] avail_event   device -> driver: heads and lengths written
 *
 * The caller holds the device's lock, except for the vvirtq_chain functions, which touch only the chain and guest
 * memory. A chain's bytes are pinned from vvirtq_pop to vvirtq_release, which makes dirty what was written.
 */
#pragma once
#include "vmm/gmem.h"

#define VIRTQ_SIZE_MAX 256
#define VIRTQ_SEGS_MAX (VIRTQ_SIZE_MAX + 32) /* a descriptor that crosses a 2 MiB block makes several */

struct vvirtq_state {               /* per queue, part of section "virtio" */
	uint64_t desc, avail, used; /* gpa; as the driver wrote them */
	uint16_t size, vector;
	uint16_t enabled;
	uint16_t last_avail; /* next index of the avail ring to take */
	uint16_t used_idx;   /* next index of the used ring to fill */
	uint16_t signalled;  /* used_idx when the driver was last told, or had no wish to be */
	uint16_t reserved[2];
};
struct vvirtq {
	struct vvirtq_state *s;
	struct gmem *mem;
	bool indirect, event_idx; /* negotiated */
	const char *why;          /* what broke */
	gpa_t absent;             /* -EAGAIN: which memory is not here yet */
	size_t absent_len;
};
/* A buffer: first the segments that the device reads, then those that it writes. */
struct vvirtq_chain {
	uint16_t head;
	unsigned nout, nin; /* seg[0..nout) are read, seg[nout..nout+nin) written */
	unsigned ndesc;     /* descriptors: neighbours make one segment */
	uint32_t out_len, in_len;
	unsigned rseg, wseg; /* cursors of vvirtq_chain_read and _write */
	uint32_t roff, woff;
	unsigned dseg; /* where what vvirtq_release makes dirty begins */
	uint32_t doff;
	struct gmem_pin seg[VIRTQ_SEGS_MAX];
};

/* Can the driver's addresses and size be those of a queue? (2.7: alignments, power of two) */
bool vvirtq_is_sane(const struct vvirtq_state *s);
/* Take the next buffer: 1, 0 if there is none, -EPROTO, -EAGAIN. */
int vvirtq_pop(struct vvirtq *q, struct vvirtq_chain *c);
int vvirtq_wait(const struct vvirtq *q) must_check; /* after -EAGAIN, no lock held: 0, or why it will not. Sleeps */
void vvirtq_release(struct vvirtq *q, struct vvirtq_chain *c);
void vvirtq_unpop(struct vvirtq *q, unsigned n); /* give back the last n */
/* Put a used element i places after the published ones; then publish n of them. -EPROTO */
int vvirtq_put(struct vvirtq *q, unsigned i, uint16_t head, uint32_t len);
int vvirtq_publish(struct vvirtq *q, unsigned n);
/* Used buffers were published: does the driver want to know? Counts as told when it returns. */
bool vvirtq_must_signal(struct vvirtq *q);
/*
 * Ask for no notifications; ask for them of buffers behind the next n, and return whether such came in the meantime.
 */
void vvirtq_quiet(struct vvirtq *q);
bool vvirtq_listen(struct vvirtq *q, unsigned n);

/* Sequential copies from the read part and to the write part; how many bytes there were. */
size_t vvirtq_chain_read(struct vvirtq_chain *c, void *buf, size_t len);
size_t vvirtq_chain_write(struct vvirtq_chain *c, const void *buf, size_t len);
/* Of the write part the next len bytes were written where they are: they are dirty from vvirtq_release on. */
void vvirtq_chain_wrote(struct vvirtq_chain *c, size_t len);
/* Make that dirty now. And: of the write part the next len bytes were not written. */
void vvirtq_chain_mark(struct vvirtq *q, struct vvirtq_chain *c);
void vvirtq_chain_skip(struct vvirtq *q, struct vvirtq_chain *c, size_t len);
/* Where byte off of the write part is; ~0 if there is none. */
gpa_t vvirtq_chain_at(const struct vvirtq_chain *c, uint32_t off);
/* Write a byte there, after the chain was released. False: the memory is gone. */
bool vvirtq_poke(struct vvirtq *q, gpa_t gpa, uint8_t v);

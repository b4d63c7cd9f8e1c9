/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Requests of virtio-blk (5.2.6): a header, data, and a status of one byte, in one chain. The driver may be hostile:
 * what it asks for is checked here, and the back end only sees what lies within the disk.
 */
#include "vmm/dev/vblk_device.h"
#include <string.h>

static int end_with(struct vblk_req *q, uint8_t status)
{
	q->status = status;
	return 1;
}

/* [sector, sector + bytes) lies within the disk? Then the first piece of it is asked for. */
static bool aim(struct vblk_req *q, const struct blockdev *d, uint64_t sector, uint64_t bytes)
{
	uint64_t size = __atomic_load_n(&d->size, __ATOMIC_RELAXED);
	if (bytes % SECTOR || sector > size >> SECTOR_BIT || bytes > size - (sector << SECTOR_BIT))
		return false;
	q->r.off = sector << SECTOR_BIT;
	q->r.len = MIN(bytes, (uint64_t)d->max_len);
	q->left = bytes - q->r.len;
	return true;
}

/* DISCARD and WRITE_ZEROES: one range; what is discarded reads as zeros, too. */
static int parse_range(struct vblk_req *q, const struct blockdev *d, uint32_t type)
{
	uint8_t range[VBLK_RANGE_LEN];
	uint32_t flags;
	if (q->chain.out_len != VBLK_REQ_LEN + VBLK_RANGE_LEN)
		return end_with(q, VBLK_S_UNSUPP);
	(void)vvirtq_chain_read(&q->chain, range, sizeof(range));
	flags = get_le32(range + VBLK_RANGE_FLAGS);
	if (flags & ~VBLK_RANGE_UNMAP || (flags && type == VBLK_T_DISCARD))
		return end_with(q, VBLK_S_UNSUPP); /* 5.2.6.2 */
	q->r.op = BLOCKDEV_ZERO;
	uint32_t sectors = get_le32(range + VBLK_RANGE_COUNT);
	if (d->readonly || sectors > VBLK_ZEROES_MAX ||
	    !aim(q, d, get_le64(range + VBLK_RANGE_SECTOR), (uint64_t)sectors << SECTOR_BIT))
		return end_with(q, VBLK_S_IOERR);
	return q->r.len ? 0 : end_with(q, VBLK_S_OK);
}

static int parse_data(struct vblk_req *q, const struct blockdev *d, uint64_t sector, bool out)
{
	struct vvirtq_chain *c = &q->chain;
	uint64_t bytes = out ? c->out_len - VBLK_REQ_LEN : vblk_request_in(q);

	q->r.op = out ? BLOCKDEV_WRITE : BLOCKDEV_READ;
	q->r.seg = out ? &c->seg[c->rseg] : &c->seg[c->nout];
	q->r.skip = out ? c->roff : 0;
	if ((out && d->readonly) || bytes > VBLK_SEGS * VBLK_SEG_BYTES || !aim(q, d, sector, bytes))
		return end_with(q, VBLK_S_IOERR);
	return q->r.len ? 0 : end_with(q, VBLK_S_OK);
}

int vblk_request_parse(struct vblk_req *q, const struct blockdev *d, const char **why)
{
	uint8_t h[VBLK_REQ_LEN];

	q->r = (struct blockdev_req){ .done = q->r.done };
	q->left = q->read = 0;
	q->gets_id = false;
	q->status = VBLK_S_OK;
	if (!q->chain.in_len || q->chain.out_len < VBLK_REQ_LEN) {
		*why = "a request without a header or without room for its status";
		return -EPROTO;
	}
	(void)vvirtq_chain_read(&q->chain, h, sizeof(h));
	uint32_t type = get_le32(h + VBLK_REQ_TYPE);
	switch (type) {
	case VBLK_T_IN:
	case VBLK_T_OUT: return parse_data(q, d, get_le64(h + VBLK_REQ_SECTOR), type == VBLK_T_OUT);
	case VBLK_T_FLUSH: q->r.op = BLOCKDEV_FLUSH; return 0;
	case VBLK_T_GET_ID:
		memcpy(q->id, d->serial, VBLK_ID_LEN);
		q->gets_id = true;
		return 1;
	case VBLK_T_DISCARD:
	case VBLK_T_WRITE_ZEROES: return parse_range(q, d, type);
	default: return end_with(q, VBLK_S_UNSUPP);
	}
}

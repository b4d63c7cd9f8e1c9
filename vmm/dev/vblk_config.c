/* SPDX-License-Identifier: BSD-2-Clause */
/* What a driver is told of a virtio-blk device (5.2.3, 5.2.4), and what of it migrates. */
#include "vmm/dev/vblk_device.h"

const struct vvirtio_ids vblk_ids = {
	.name = "virtio-blk",
	.id = VIRTIO_ID_BLOCK,
	.class_code = 0x010000,
	.cfg_len = VBLK_CFG_LEN,
	.own_ports = 1,
	.features = VIRTIO_BLK_F_SIZE_MAX | VIRTIO_BLK_F_SEG_MAX | VIRTIO_BLK_F_BLK_SIZE | VIRTIO_BLK_F_FLUSH |
		    VIRTIO_BLK_F_TOPOLOGY,
};

uint64_t vblk_config_read(struct vvirtio *v, unsigned off, unsigned size unused)
{
	const struct vblk *k = CONTAINER_OF(v, struct vblk, v);
	uint8_t c[VBLK_CFG_LEN + 8] = { 0 };

	put_le64(c + VBLK_CFG_CAPACITY, __atomic_load_n(&k->s.capacity, __ATOMIC_RELAXED));
	put_le32(c + VBLK_CFG_SIZE_MAX, VBLK_SEG_BYTES);
	put_le32(c + VBLK_CFG_SEG_MAX, VBLK_SEGS);
	put_le32(c + VBLK_CFG_BLK_SIZE, SECTOR);
	c[VBLK_CFG_PHYSICAL_EXP] = (uint8_t)__builtin_ctz(k->d->block >> SECTOR_BIT);
	put_le16(c + VBLK_CFG_NUM_QUEUES, (uint16_t)k->nqueues);
	put_le32(c + VBLK_CFG_MAX_DISCARD, VBLK_ZEROES_MAX);
	put_le32(c + VBLK_CFG_MAX_DISCARD_SEG, 1);
	put_le32(c + VBLK_CFG_DISCARD_ALIGN, k->d->block >> SECTOR_BIT);
	put_le32(c + VBLK_CFG_MAX_ZEROES, VBLK_ZEROES_MAX);
	put_le32(c + VBLK_CFG_MAX_ZEROES_SEG, 1);
	c[VBLK_CFG_ZEROES_UNMAP] = 1;
	return get_le64(c + off);
}

void vblk_resized(struct vblk *k)
{
	uint64_t sectors = __atomic_load_n(&k->d->size, __ATOMIC_RELAXED) >> SECTOR_BIT;
	spin_lock(&k->v.lock);
	if (!k->quiesced && sectors != k->s.capacity) {
		__atomic_store_n(&k->s.capacity, sectors, __ATOMIC_RELAXED);
		vvirtio_config_changed(&k->v);
	}
	spin_unlock(&k->v.lock);
}

static const struct sfield vblk_fields[] = { F(struct vblk_state, capacity) };

static int vblk_check(const void *obj, const void *state, struct why *w)
{
	const struct vblk *k = obj;
	const struct vblk_state *s = state;

	if (s->capacity > __atomic_load_n(&k->d->size, __ATOMIC_RELAXED) >> SECTOR_BIT)
		return why_set(w, -EINVAL, "virtio-blk: %lu sectors of a disk of %lu", s->capacity,
			       k->d->size >> SECTOR_BIT);
	return 0;
}

/* Loaded but not yet running: guest memory is not ours until resume. */
static void vblk_post_load(void *obj)
{
	struct vblk *k = obj;
	spin_lock(&k->v.lock);
	__atomic_store_n(&k->quiesced, true, __ATOMIC_RELAXED);
	spin_unlock(&k->v.lock);
}

const struct sdesc vblk_desc = {
	.name = "virtio-blk",
	.version = 1,
	SDESC(struct vblk, s, struct vblk_state, vblk_fields),
	.check = vblk_check,
	.post_load = vblk_post_load,
};

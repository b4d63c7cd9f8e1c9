/* SPDX-License-Identifier: BSD-2-Clause */
/* What unit that is, and how large (lun.h): asked of it at the first login, and again after each one. */
#include "vmm/lun_command.h"
#include "vmm/lun_impl.h"
#include <stdio.h>
#include <string.h>

static int ask(struct lun *l, const uint8_t *cdb, uint8_t *data, uint32_t len, uint32_t *got, struct why *w)
{
	memset(data, 0, len);
	return lun_command(l->session, l->cfg.lun, cdb, len ? ISCSI_IN : ISCSI_NONE, data, len, got, w);
}

static int read_capacity(struct lun *l, struct why *w)
{
	uint8_t cdb[SCSI_CDB], data[SCSI_CAPACITY_LEN];
	struct scsi_capacity c;
	uint32_t got;
	scsi_read_capacity(cdb, sizeof(data));
	int err = ask(l, cdb, data, sizeof(data), &got, w);
	if (err)
		return err;
	if (!scsi_capacity_parse(data, got, &c) || !c.blocks)
		return why_set(w, -EPROTO, "the unit does not say how large it is");
	if (c.block_len != SECTOR)
		return why_set(w, -ENOTSUP, "the unit has blocks of %u bytes; only 512 can be used", c.block_len);
	if (c.blocks > LUN_BYTES_MAX >> SECTOR_BIT)
		return why_set(w, -ENOTSUP, "the unit is too large");
	if (c.blocks << SECTOR_BIT < __atomic_load_n(&l->b.size, __ATOMIC_RELAXED))
		return why_set(w, -ENODEV, "lun %u of %s is smaller than it was", l->cfg.lun, l->target.name);
	l->thin = c.thin && c.unmaps_zeroes;
	__atomic_store_n(&l->b.size, c.blocks << SECTOR_BIT, __ATOMIC_RELAXED);
	return 0;
}

/* A multiple of what it writes at once, if it can be (blockdev.h). */
static void limit_len(struct lun *l, uint64_t bytes)
{
	bytes = MIN(bytes, (uint64_t)l->b.max_len);
	l->b.max_len = (uint32_t)(bytes >= l->b.block ? bytes - bytes % l->b.block : bytes);
}

/* What the unit is called wherever it is seen; "": nothing. */
static void read_id(struct lun *l, char id[LUN_ID])
{
	uint8_t cdb[SCSI_CDB], data[255];
	uint32_t got;
	scsi_inquiry(cdb, 0x83, sizeof(data));
	id[0] = 0;
	if (!ask(l, cdb, data, sizeof(data), &got, NULL))
		(void)scsi_device_id(data, got, id, LUN_ID);
}

int lun_is_same(struct lun *l, struct why *w)
{
	char id[LUN_ID];
	read_id(l, id);
	if (strcmp(id, l->id))
		return why_set(w, -ENODEV, "lun %u of %s is another unit now: %s, not %s", l->cfg.lun, l->target.name,
			       id[0] ? id : "without a name", l->id[0] ? l->id : "without a name");
	return read_capacity(l, w);
}

int lun_identify(struct lun *l, struct why *w)
{
	uint8_t cdb[SCSI_CDB], data[255];
	struct scsi_inquiry i;
	struct scsi_limits limits;
	uint32_t got;
	scsi_inquiry(cdb, -1, SCSI_INQUIRY_LEN);
	int err = ask(l, cdb, data, SCSI_INQUIRY_LEN, &got, w);
	if (err)
		return err;
	if (!scsi_inquiry_parse(data, got, &i) || i.type)
		return why_set(w, -ENODEV, "%s has no disk as lun %u", l->target.name, l->cfg.lun);
	snprintf(l->product, sizeof(l->product), "%s %s", i.vendor, i.product);
	read_id(l, l->id);
	scsi_inquiry(cdb, 0xb0, 64);
	if (!ask(l, cdb, data, 64, &got, NULL) && scsi_limits_parse(data, got, &limits) && limits.transfer)
		limit_len(l, (uint64_t)limits.transfer << SECTOR_BIT);
	scsi_test_unit_ready(cdb);
	if ((err = ask(l, cdb, data, 0, NULL, w)))
		return err;
	return read_capacity(l, w);
}

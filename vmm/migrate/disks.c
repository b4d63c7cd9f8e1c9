/* SPDX-License-Identifier: BSD-2-Clause */
/* Layers of disks (disks.h). */
#include "vmm/migrate/disks.h"
#include "vmm/disk.h"
#include <string.h>

_Static_assert(PAGES_DISKS == VM_DISKS_MAX, "each disk has frames");

/* It is bound to a migration: nobody else gives it disks, or takes them. */
struct page_layers disks_layers(const struct vm *vm)
{
	struct page_layers s = { .n = 0 };
	for (unsigned i = 0; i < vm->cfg.ndisks; i++)
		if (!(vm->cfg.disk[i].flags & DISK_UNIT))
			s.of[s.n++] = &vm->disk[i]->layer;
	return s;
}

uint64_t disks_fill(const struct page_layers *s)
{
	uint64_t n = 0;
	for (unsigned i = 0; i < s->n; i++)
		n += layer_track_fill(s->of[i]);
	return n;
}

uint64_t disks_harvest(const struct page_layers *s)
{
	uint64_t n = 0;
	for (unsigned i = 0; i < s->n; i++)
		n += layer_track_harvest(s->of[i]);
	return n;
}

/* ---- OFFER ---- */

void disks_offer(struct wire_tx *tx, const struct vm_config *c)
{
	wire_put_str(tx, "", sizeof(c->net[0]));
	for (uint32_t i = 0; i < c->ndisks; i++) {
		const struct vm_disk_config *d = &c->disk[i];
		wire_put_str(tx, d->name, sizeof(d->name));
		wire_put_u64(tx, d->size);
		wire_put_u64(tx, d->layer);
		wire_put_u32(tx, d->flags);
		wire_put_str(tx, d->file, sizeof(d->file));
		wire_put_u64(tx, d->base_size);
		wire_put_u64(tx, d->base_digest);
	}
}

bool disks_offer_get(struct wire_rx *rx, struct vm_config *c)
{
	for (c->ndisks = 0; rx->pos != rx->len && !rx->bad; c->ndisks++) {
		if (c->ndisks == VM_DISKS_MAX)
			return false;
		struct vm_disk_config *d = &c->disk[c->ndisks];
		wire_get_str(rx, d->name, sizeof(d->name));
		d->size = wire_get_u64(rx);
		d->layer = wire_get_u64(rx);
		d->flags = wire_get_u32(rx);
		wire_get_str(rx, d->file, sizeof(d->file));
		d->base_size = wire_get_u64(rx);
		d->base_digest = wire_get_u64(rx);
		if (rx->bad || !disk_config_is_sane(d) || !d->base_digest != !d->base_size)
			return false;
		for (uint32_t k = 0; k < c->ndisks; k++)
			if (!strcmp(c->disk[k].name, d->name))
				return false;
	}
	return c->ndisks;
}

/* SPDX-License-Identifier: BSD-2-Clause */
/* The list of a machine's devices and of their migratable sections. */
#include "vmm/dev.h"

void dev_register(struct machine *m, struct dev *d, const char *name, uint32_t instance, const struct dev_ops *ops)
{
	d->name = name;
	d->instance = instance;
	d->ops = ops;
	d->m = m;
	d->nsections = 0;
	list_append(&m->devs, &d->node);
}

void dev_add_section(struct dev *d, const struct sdesc *desc, void *obj)
{
	BUG_ON(d->nsections == DEV_MAX_SECTIONS);
	d->section[d->nsections].desc = desc;
	d->section[d->nsections].obj = obj;
	d->nsections++;
}

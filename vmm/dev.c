/* SPDX-License-Identifier: BSD-2-Clause */
/* The list of a machine's devices and of their migratable sections; which machine it is. */
#include "vmm/dev.h"
#include <stdlib.h>

void dev_register(struct machine *m, struct dev *d, const char *name, uint32_t instance, const struct dev_ops *ops)
{
	d->name = name;
	d->instance = instance;
	d->ops = ops;
	d->m = m;
	d->section = d->few;
	d->nsections = 0;
	d->max_sections = DEV_FEW_SECTIONS;
	list_append(&m->devs, &d->node);
}

void dev_add_section(struct dev *d, const struct sdesc *desc, void *obj)
{
	uint32_t instance = d->instance;
	BUG_ON(d->nsections == d->max_sections);
	for (unsigned i = 0; i < d->nsections; i++)
		instance += d->section[i].desc == desc ? DEV_STEP : 0;
	d->section[d->nsections++] = (struct dev_section){ desc, instance, obj };
}

int dev_reserve_sections(struct dev *d, unsigned n)
{
	if (n <= d->max_sections)
		return 0;
	d->section = calloc(n, sizeof(*d->section));
	if (!d->section)
		return err_trace(-ENOMEM);
	d->max_sections = n;
	return 0;
}

void dev_free_sections(struct dev *d)
{
	if (d->section != d->few)
		free(d->section);
}

static bool kind_absent(const void *obj) { return ((const struct machine *)obj)->s.kind == MACHINE_PLAIN; }

static int kind_check(const void *obj unused, const void *state, struct why *w)
{
	const struct machine_state *s = state;
	return s->kind < MACHINE_KINDS ? 0 : why_set(w, -ENOTSUP, "machine: its kind %u is not known here", s->kind);
}

static const struct sfield kind_fields[] = { F(struct machine_state, kind) };
const struct sdesc machine_desc = {
	.name = "machine",
	.version = 1,
	SDESC(struct machine, s, struct machine_state, kind_fields),
	.check = kind_check,
	.absent = kind_absent,
};

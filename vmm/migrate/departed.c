/* SPDX-License-Identifier: BSD-2-Clause */
/* VMs that were sent away (departed.h). */
#include "vmm/migrate/departed.h"
#include "vmm/migrate/this_host.h"
#include "vmm/vm.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct migrate_host *lock_departed(void)
{
	struct migrate_host *h = migrate_this_host();
	spin_lock(&h->departed_lock);
	return h;
}

/* The lock is held: out of the list, for the caller to free. */
static struct departure *take(struct migrate_host *h, const char *name)
{
	list_for_each(d, &h->departed, struct departure, node) {
		if (strcmp(d->cfg.name, name))
			continue;
		list_remove(&d->node);
		return d;
	}
	return NULL;
}

void departed_add(struct departure *d)
{
	list_init(&d->node);
	struct migrate_host *h = lock_departed();
	struct departure *old = take(h, d->cfg.name);
	list_insert(&h->departed, &d->node);
	spin_unlock(&h->departed_lock);
	free(old);
}

void departed_remove(const char *name)
{
	struct migrate_host *h = lock_departed();
	struct departure *d = take(h, name);
	spin_unlock(&h->departed_lock);
	free(d);
}

bool departed_get(const char *name, unsigned i, struct departure *d)
{
	bool found = false;
	struct migrate_host *h = lock_departed();
	list_for_each(e, &h->departed, struct departure, node) {
		if (name ? strcmp(e->cfg.name, name) : i-- != 0)
			continue;
		if (d)
			*d = *e;
		found = true;
		break;
	}
	spin_unlock(&h->departed_lock);
	return found;
}

struct vm *departed_restore(const char *name)
{
	struct departure d;
	struct vm *vm;
	if (!departed_get(name, 0, &d) || vm_new(&d.cfg, VM_STOPPED, &vm, NULL))
		return NULL;
	return vm_get(name);
}

bool departed_match(const struct who *q, struct departure *d)
{
	static const uint8_t none[16];
	bool found = false;
	struct migrate_host *h = lock_departed();
	list_for_each(e, &h->departed, struct departure, node) {
		const struct vm_config *c = &e->cfg;
		bool uuid = memcmp(q->uuid, none, 16) && !memcmp(q->uuid, c->uuid, 16);
		if (strcmp(c->name, q->name) && !vm_config_has_mac(c, q->mac) && !uuid)
			continue;
		*d = *e;
		found = true;
		break;
	}
	spin_unlock(&h->departed_lock);
	return found;
}

unsigned departed_count(void)
{
	unsigned n = 0;
	struct migrate_host *h = lock_departed();
	for (const struct list *l = h->departed.next; l != &h->departed; l = l->next)
		n++;
	spin_unlock(&h->departed_lock);
	return n;
}

void departed_when(const struct departure *d, char buf[16])
{
	buf[0] = 0;
	if (d->when_s)
		sniprintf(buf, 16, " at %02lu:%02lu UTC", d->when_s / 3600 % 24, d->when_s / 60 % 60);
}

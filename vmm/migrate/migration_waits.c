/* SPDX-License-Identifier: BSD-2-Clause */
/* How long each vCPU of a guest that runs already has waited for its pages (migration.h): a part of the report. */
#include "vmm/migrate/migration.h"
#include "vmm/migrate/this_host.h"
#include <stdlib.h>
#include <string.h>

struct vcpu_waits {
	unsigned n;
	struct migrate_waits of[];
};

int migration_count_waits(struct migration *m, unsigned nvcpus)
{
	struct vcpu_waits *w = calloc(1, sizeof(*w) + nvcpus * sizeof(w->of[0]));
	if (!w)
		return -ENOMEM;
	w->n = nvcpus;
	struct migrate_host *h = migrate_this_host();
	spin_lock(&h->table_lock);
	BUG_ON(m->report->waits);
	spin_lock(&m->lock);
	m->report->waits = w;
	spin_unlock(&m->lock);
	spin_unlock(&h->table_lock);
	return 0;
}

void migration_waited(struct migration *m, unsigned vcpu, uint64_t ns)
{
	spin_lock(&m->lock);
	struct vcpu_waits *w = m->report->waits;
	waits_add(&m->st.waits, ns);
	if (w && vcpu < w->n)
		waits_add(&w->of[vcpu], ns);
	spin_unlock(&m->lock);
}

static bool is_of(const struct migration_report *r, const struct migrate_status *s)
{
	const struct migrate_status *st = r->m ? &r->m->st : &r->st;
	return st->incoming && st->start_ns == s->start_ns && !strcmp(st->vm, s->vm);
}

bool migrate_get_waits(const struct migrate_status *s, unsigned i, struct migrate_waits *w)
{
	bool found = false;
	struct migrate_host *h = migrate_this_host();
	spin_lock(&h->table_lock);
	list_for_each(r, &h->migrations, struct migration_report, node) {
		if (!is_of(r, s) || !r->waits || i >= r->waits->n)
			continue;
		if (r->m)
			spin_lock(&r->m->lock);
		*w = r->waits->of[i];
		if (r->m)
			spin_unlock(&r->m->lock);
		found = true;
	}
	spin_unlock(&h->table_lock);
	return found;
}

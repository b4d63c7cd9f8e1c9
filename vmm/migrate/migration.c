/* SPDX-License-Identifier: BSD-2-Clause */
/* One attempt's life, and the table of them: running ones and reports of the last 64, newest first (migration.h). */
#include "kernel/ip.h"
#include "kernel/log.h"
#include "kernel/time.h"
#include "vmm/migrate/bandwidth.h"
#include "vmm/migrate/migration.h"
#include "vmm/migrate/this_host.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define FINISHED_MAX 64 /* more than a glance of `migrate all` can miss */

/* The table of the caller's host, newest first. */
static struct migrate_host *lock_table(void)
{
	struct migrate_host *h = migrate_this_host();
	spin_lock(&h->table_lock);
	return h;
}
static void unlock_table(struct migrate_host *h) { spin_unlock(&h->table_lock); }

/* ---- life ---- */

struct migration *migration_new(const char *vm_name, const char *peer, struct ip ip, bool incoming)
{
	struct migration *m = calloc(1, sizeof(*m));
	struct migration_report *r = calloc(1, sizeof(*r));
	if (!m || !r) {
		free(m);
		free(r);
		return NULL;
	}
	*r = (struct migration_report){ .m = m };
	m->report = r;
	spin_init(&m->lock, "migration");
	completion_init(&m->done);
	completion_init(&m->news);
	m->refs = 2; /* table's and the caller's */
	sniprintf(m->st.vm, sizeof(m->st.vm), "%s", vm_name);
	sniprintf(m->st.peer, sizeof(m->st.peer), "%s", peer);
	sniprintf(m->st.peer_name, sizeof(m->st.peer_name), "%s",
		  migrate_peer_name(ip, ip_is_none(ip) ? peer : ip_text(ip).s));
	migration_cancel_init(m);
	m->st.incoming = incoming;
	m->st.vm_state = VM_RUNNING;
	m->st.phase = incoming ? MIG_SETUP : MIG_CONNECT;
	m->st.start_ns = time_ns();
	struct migrate_host *h = lock_table();
	list_insert(&h->migrations, &r->node);
	unlock_table(h);
	return m;
}

void migration_put(struct migration *m)
{
	struct migrate_host *h = lock_table();
	bool last = --m->refs == 0;
	unlock_table(h);
	if (last)
		free(m);
}

void migration_drop(struct migration *m)
{
	struct migrate_host *h = lock_table();
	list_remove(&m->report->node);
	unlock_table(h);
	free(m->report->waits);
	free(m->report);
	migration_put(m);
	migration_put(m);
}

int migration_bind(struct migration *m, struct vm *vm, enum vm_state state, struct why *w)
{
	struct vm *ref = vm->beside ? vm : vm_get(vm->cfg.name);
	int err = 0;
	if (vm->beside)
		vm_ref(vm); /* which is in no table */
	if (ref != vm) {
		if (ref)
			vm_put(ref);
		return why_set(w, -ENOENT, "%s is gone", vm->cfg.name);
	}
	mutex_lock(&vm->lock);
	if (vm->migration)
		err = why_set(w, -EBUSY, "%s is being migrated already", vm->cfg.name);
	else if (vm->building)
		err = why_set(w, -EBUSY, "%s is being started, or stopped", vm->cfg.name);
	else if (vm->state != state)
		err = why_set(w, -EINVAL, "%s is %s%s%s", vm->cfg.name, vm_state_name(vm->state),
			      vm->state == VM_FAILED ? ": " : "",
			      vm->state == VM_FAILED ? vm_text_get(&vm->fail).s : "");
	else
		vm->migration = m; /* from here on nobody else stops, starts or destroys it */
	mutex_unlock(&vm->lock);
	if (err)
		vm_put(vm);
	else
		m->vm = vm;
	return err;
}

int migration_bind_leaver(struct migration *m, struct vm *vm, struct why *w)
{
	enum vm_state now = vm_state_now(vm), state = now == VM_STOPPED || now == VM_PAUSED ? now : VM_RUNNING;
	if (state == VM_STOPPED && __atomic_load_n(&vm->lease, __ATOMIC_SEQ_CST) != VM_LEASE_NONE)
		return why_set(w, -EBUSY, "%s is being started; `vm stop %s` ends that", vm->cfg.name, vm->cfg.name);
	int err = migration_bind(m, vm, state, w);
	if (!err) {
		spin_lock(&m->lock);
		m->st.vm_state = state;
		spin_unlock(&m->lock);
	}
	return err;
}

void migration_unbind(struct migration *m, bool gone)
{
	struct vm *vm = m->vm;
	if (!vm)
		return;
	mutex_lock(&vm->lock);
	vm->migration = NULL;
	mutex_unlock(&vm->lock);
	m->vm = NULL;
	if (!gone)
		vm_migration_ended(vm);
	vm_put(vm);
}

void migration_phase(struct migration *m, enum migrate_phase phase)
{
	spin_lock(&m->lock);
	m->st.phase = phase;
	spin_unlock(&m->lock);
	if (phase == MIG_UNDECIDED)
		bandwidth_end(m); /* which may take days, and sends nothing */
}

int migration_guest_gone(const struct migration *m, bool paused, struct why *w)
{
	if (m->st.vm_state != VM_STOPPED && vm_has_request(m->vm))
		return why_set(w, -ECANCELED, "the guest powers off, restarts or has failed");
	if (!paused && vm_state_now(m->vm) != m->st.vm_state)
		return why_set(w, -ECANCELED, "the guest was stopped meanwhile");
	return 0;
}

int migration_given_up(struct migration *m, struct why *w)
{
	if (migration_cancelled(m))
		return why_set(w, -ECANCELED, "cancelled by the operator");
	return migration_guest_gone(m, false, w);
}

/* Its report alone stays in the table, of so many that are over; the oldest comes last. */
static void leave_report(struct migration *m)
{
	struct migration_report *old = NULL;
	unsigned n = 0;
	uint64_t limit = m->st.incoming ? 0 : bandwidth_limit_of(m);
	struct migrate_host *h = lock_table();
	spin_lock(&m->lock);
	m->report->st = m->st;
	spin_unlock(&m->lock);
	m->report->st.limit = limit;
	m->report->m = NULL;
	list_for_each(r, &h->migrations, struct migration_report, node)
		if (!r->m && ++n > FINISHED_MAX)
			old = r;
	if (old)
		list_remove(&old->node);
	unlock_table(h);
	if (old)
		free(old->waits);
	free(old);
	migration_put(m); /* the table's; the caller has its own */
}

void migration_say(struct migration *m, const char *text)
{
	spin_lock(&m->lock);
	sniprintf(m->st.error, sizeof(m->st.error), "%s", text);
	spin_unlock(&m->lock);
}

void migration_finish(struct migration *m, enum migrate_phase phase, const char *error)
{
	spin_lock(&m->lock);
	BUG_ON(m->finished);
	if (phase == MIG_FAILED && m->cancel) { /* whatever error that led to */
		phase = MIG_CANCELLED;
		error = "cancelled by the operator";
	}
	m->finished = true;
	m->st.phase = phase;
	m->st.total_ns = time_ns() - m->st.start_ns;
	sniprintf(m->st.error, sizeof(m->st.error), "%s", error ? error : "");
	spin_unlock(&m->lock);

	if (phase == MIG_DONE)
		log_info("migration of %s %s %s: done in %lu ms", m->st.vm, m->st.incoming ? "from" : "to",
			 m->st.peer_name, m->st.total_ns / NS_PER_MS);
	else
		log_printf(phase == MIG_FAILED ? LOG_WARN : LOG_INFO, "migration of %s %s %s: %s: %s", m->st.vm,
			   m->st.incoming ? "from" : "to", m->st.peer_name, migrate_phase_name(phase), m->st.error);
	leave_report(m);
	completion_done(&m->done);
}

/* ---- look-up ---- */

struct migration *migration_find(bool (*match)(struct migration *m, const void *arg), const void *arg)
{
	struct migration *found = NULL;
	struct migrate_host *h = lock_table();
	list_for_each(r, &h->migrations, struct migration_report, node) {
		struct migration *m = r->m;
		if (!m)
			continue;
		spin_lock(&m->lock);
		bool hit = match(m, arg);
		spin_unlock(&m->lock);
		if (hit) {
			m->refs++;
			found = m;
			break;
		}
	}
	unlock_table(h);
	return found;
}

/* Both under its lock (migration_find). */
static bool is_in_attempt(struct migration *m, const void *id)
{
	return !m->finished && m->st.incoming && attempt_id_equal(&m->id, id);
}

static bool is_out_attempt(struct migration *m, const void *id)
{
	return !m->finished && !m->st.incoming && attempt_id_equal(&m->id, id);
}

bool migration_told(const struct decision *d)
{
	struct migration *m = migration_find(is_out_attempt, &d->id);
	if (!m)
		return false;
	spin_lock(&m->lock);
	bool decisive = d->state == RECORD_STARTED || incarnation_equal(d->by, m->dest);
	if (decisive)
		m->told = d->state;
	spin_unlock(&m->lock);
	if (decisive)
		completion_done(&m->news);
	migration_put(m);
	return true;
}

void migration_source_gone(const struct attempt_id *id)
{
	struct migration *m = migration_find(is_in_attempt, id);
	if (!m)
		return;
	spin_lock(&m->lock);
	bool lost = m->pull && gmem_track_left(&m->vm->mem);
	if (lost)
		sniprintf(m->st.error, sizeof(m->st.error),
			  "its source has restarted, or was told to forget it: what is missing never comes");
	spin_unlock(&m->lock);
	if (lost)
		log_error(
			"%s is lost: memory of it was at %s alone, which has restarted, or was told to forget it. `vm "
			"kill %s`",
			m->st.vm, m->st.peer_name, m->st.vm);
	migration_put(m);
}

void migration_evict(const struct attempt_id *id, uint64_t deadline_ns)
{
	struct migration *m = migration_find(is_in_attempt, id);
	if (!m)
		return;
	migration_abort(m);
	if (completion_wait(&m->done, deadline_ns))
		log_warn("the given-up attempt to receive %s is slow to end", m->st.vm);
	migration_put(m);
}

bool migration_is_over(const char *vm_name)
{
	bool found = false;
	struct migrate_host *h = lock_table();
	list_for_each(r, &h->migrations, struct migration_report, node)
		found |= !r->m && !strcmp(r->st.vm, vm_name);
	unlock_table(h);
	return found;
}

static void status_of(struct migration *m, struct migrate_status *s)
{
	uint64_t limit = m->st.incoming ? 0 : bandwidth_limit_of(m);
	spin_lock(&m->lock);
	*s = m->st;
	s->limit = limit;
	if (!m->finished)
		s->total_ns = time_ns() - s->start_ns;
	spin_unlock(&m->lock);
}

bool migrate_get(unsigned i, struct migrate_status *s)
{
	bool found = false;
	struct migrate_host *h = lock_table();
	list_for_each(r, &h->migrations, struct migration_report, node) {
		if (i--)
			continue;
		if (r->m)
			status_of(r->m, s);
		else
			*s = r->st;
		found = true;
		break;
	}
	unlock_table(h);
	return found;
}

/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The table of migrations: running ones and the last 16 finished, newest first; and what the rest of tern does with it:
 * start, cancel, wait, look. The attempts themselves are in source.c and dest.c.
 */
#include "kernel/log.h"
#include "kernel/task.h"
#include "kernel/time.h"
#include "vmm/migrate/failpoint.h"
#include "vmm/migrate/migration.h"
#include "vmm/migrate/this_host.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define FINISHED_MAX 16

/* The table of the caller's host, newest first. */
static struct migrate_host *lock_table(void)
{
	struct migrate_host *h = migrate_this_host();
	spin_lock(&h->table_lock);
	return h;
}
static void unlock_table(struct migrate_host *h) { spin_unlock(&h->table_lock); }

const char *migrate_phase_name(enum migrate_phase p)
{
	/* clang-format off */
	static const char *const names[] = {
		[MIG_CONNECT] = "connecting",  [MIG_SETUP] = "setting up",
		[MIG_PASSES] = "copying",      [MIG_STOPPED] = "switching over",
		[MIG_COMMIT] = "committing",   [MIG_UNDECIDED] = "undecided",
		[MIG_DONE] = "done",           [MIG_FAILED] = "failed",
		[MIG_CANCELLED] = "cancelled",
	};
	/* clang-format on */
	return p < ARRAY_SIZE(names) ? names[p] : "?";
}

/* ---- life ---- */

struct migration *migration_new(const char *vm_name, const char *peer, bool incoming)
{
	struct migration *m = calloc(1, sizeof(*m));
	if (!m)
		return NULL;
	spin_init(&m->lock, "migration");
	mutex_init(&m->stream_lock, "migration stream");
	completion_init(&m->done);
	completion_init(&m->news);
	m->refs = 2; /* table's and the caller's */
	sniprintf(m->st.vm, sizeof(m->st.vm), "%s", vm_name);
	sniprintf(m->st.peer, sizeof(m->st.peer), "%s", peer);
	m->st.incoming = incoming;
	m->st.phase = incoming ? MIG_SETUP : MIG_CONNECT;
	m->st.start_ns = time_ns();
	struct migrate_host *h = lock_table();
	list_insert(&h->migrations, &m->node);
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

/* One that never began: out of the table, both references given back. */
static void migration_drop(struct migration *m)
{
	struct migrate_host *h = lock_table();
	list_remove(&m->node);
	unlock_table(h);
	migration_put(m);
	migration_put(m);
}

int migration_bind(struct migration *m, struct vm *vm, enum vm_state state, struct why *w)
{
	struct vm *ref = vm_get(vm->cfg.name);
	int err = 0;
	if (ref != vm) {
		if (ref)
			vm_put(ref);
		return why_set(w, -ENOENT, "%s is gone", vm->cfg.name);
	}
	mutex_lock(&vm->lock);
	if (vm->migration)
		err = why_set(w, -EBUSY, "%s is being migrated already", vm->cfg.name);
	else if (vm->state != state)
		err = why_set(w, -EINVAL, "%s is %s%s%s", vm->cfg.name, vm_state_name(vm->state),
			      vm->state == VM_FAILED ? ": " : "", vm->state == VM_FAILED ? vm->fail : "");
	else
		vm->migration = m;
	mutex_unlock(&vm->lock);
	if (err)
		vm_put(vm);
	else
		m->vm = vm;
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

int migration_attach(struct migration *m, struct stream *s)
{
	mutex_lock(&m->stream_lock);
	bool cancel = migration_cancelled(m);
	if (!cancel)
		m->stream = s;
	mutex_unlock(&m->stream_lock);
	return cancel ? -ECANCELED : 0;
}

void migration_detach(struct migration *m)
{
	mutex_lock(&m->stream_lock);
	m->stream = NULL;
	mutex_unlock(&m->stream_lock);
}

static void migration_abort(struct migration *m)
{
	mutex_lock(&m->stream_lock);
	if (m->stream)
		stream_abort(m->stream);
	mutex_unlock(&m->stream_lock);
}

bool migration_cancelled(struct migration *m)
{
	spin_lock(&m->lock);
	bool c = m->cancel;
	spin_unlock(&m->lock);
	return c;
}

int migration_commit_point(struct migration *m)
{
	spin_lock(&m->lock);
	int err = m->cancel ? -ECANCELED : 0;
	if (!err)
		m->committed = true;
	spin_unlock(&m->lock);
	return err;
}

void migration_phase(struct migration *m, enum migrate_phase phase)
{
	spin_lock(&m->lock);
	m->st.phase = phase;
	spin_unlock(&m->lock);
}

void migration_finish(struct migration *m, enum migrate_phase phase, const char *error)
{
	struct migration *old = NULL;
	unsigned finished = 0;

	spin_lock(&m->lock);
	BUG_ON(m->finished);
	if (phase == MIG_FAILED && m->cancel) {
		phase = MIG_CANCELLED;
		error = "cancelled by the operator";
	}
	m->finished = true;
	m->st.phase = phase;
	m->st.total_ns = time_ns() - m->st.start_ns;
	sniprintf(m->st.error, sizeof(m->st.error), "%s", error ? error : "");
	spin_unlock(&m->lock);

	if (phase == MIG_DONE)
		log_info("migration of %s %s %s: done in %lu ms", m->st.vm, m->st.incoming ? "from" : "to", m->st.peer,
			 m->st.total_ns / NS_PER_MS);
	else
		log_printf(phase == MIG_FAILED ? LOG_WARN : LOG_INFO, "migration of %s %s %s: %s: %s", m->st.vm,
			   m->st.incoming ? "from" : "to", m->st.peer, migrate_phase_name(phase), m->st.error);
	struct migrate_host *h = lock_table();
	list_for_each(i, &h->migrations, struct migration, node) /* the oldest finished one comes last */
		if (i->finished && ++finished > FINISHED_MAX)
			old = i;
	if (old)
		list_remove(&old->node);
	unlock_table(h);
	if (old)
		migration_put(old);
	completion_done(&m->done);
}

/* ---- look-up; each returns a reference ---- */

static struct migration *find(bool (*match)(struct migration *m, const void *arg), const void *arg)
{
	struct migration *found = NULL;
	struct migrate_host *h = lock_table();
	list_for_each(m, &h->migrations, struct migration, node) {
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

static bool is_out_running(struct migration *m, const void *name)
{
	return !m->finished && !m->st.incoming && !strcmp(m->st.vm, name);
}
static bool is_in_running(struct migration *m, const void *name)
{
	return !m->finished && m->st.incoming && !strcmp(m->st.vm, name);
}
static bool is_out(struct migration *m, const void *name) { return !m->st.incoming && !strcmp(m->st.vm, name); }
static bool is_in(struct migration *m, const void *name) { return m->st.incoming && !strcmp(m->st.vm, name); }
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
	struct migration *m = find(is_out_attempt, &d->id);
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

void migration_evict(const struct attempt_id *id, uint64_t deadline_ns)
{
	struct migration *m = find(is_in_attempt, id);
	if (!m)
		return;
	migration_abort(m);
	if (completion_wait(&m->done, deadline_ns))
		log_warn("the given-up attempt to receive %s is slow to end", m->st.vm);
	migration_put(m);
}

/* ---- what the rest of tern calls (migrate.h) ---- */

bool migrate_get(unsigned i, struct migrate_status *s)
{
	bool found = false;
	struct migrate_host *h = lock_table();
	list_for_each(m, &h->migrations, struct migration, node) {
		if (i--)
			continue;
		spin_lock(&m->lock);
		*s = m->st;
		if (!m->finished)
			s->total_ns = time_ns() - s->start_ns;
		spin_unlock(&m->lock);
		found = true;
		break;
	}
	unlock_table(h);
	return found;
}

int migrate_wait(const char *vm_name, uint64_t deadline_ns)
{
	struct migration *m = find(is_out_running, vm_name);
	if (!m)
		m = find(is_out, vm_name);
	if (!m)
		m = find(is_in, vm_name);
	if (!m)
		return -ENOENT;
	int err = completion_wait(&m->done, deadline_ns);
	migration_put(m);
	return err;
}

int migrate_cancel(const char *vm_name, struct why *w)
{
	struct migration *m = find(is_out_running, vm_name);
	if (!m)
		m = find(is_in_running, vm_name);
	if (!m)
		return why_set(w, -ENOENT, "no migration of %s is running", vm_name);
	spin_lock(&m->lock);
	bool late = m->committed;
	if (!late)
		m->cancel = true;
	enum migrate_phase phase = m->st.phase;
	spin_unlock(&m->lock);
	if (!late)
		migration_abort(m);
	migration_put(m);
	if (late && phase == MIG_UNDECIDED)
		return why_set(w, -EBUSY,
			       "it may be running at the destination already; when that host is gone for good: vm "
			       "claim %s --force",
			       vm_name);
	return late ? why_set(w, -EBUSY, "the hand-over has begun, it ends by itself") : 0;
}

/* The operator's word on a VM that is undecided; without `sure` it is taken only of one that no host runs. */
static int decide(const char *vm_name, enum operators_word word, bool sure, struct why *w)
{
	const char *verb = word == WORD_CLAIM ? "claim" : "forget";
	struct migration *m = find(is_out_running, vm_name);
	int err = 0;
	if (!m)
		return why_set(w, -ENOENT, "%s is not undecided: no migration of it is running", vm_name);
	spin_lock(&m->lock);
	struct migrate_status st = m->st;
	if (st.phase != MIG_UNDECIDED)
		err = -EINVAL;
	else if (m->decided)
		err = -EALREADY;
	else if (!sure && (word == WORD_FORGET || !m->nobody))
		err = -EPERM;
	else
		m->word = word;
	spin_unlock(&m->lock);
	const char *open = st.error[0] ? st.error : "its destination has not answered";
	if (err == -EINVAL)
		why_set(w, err, "%s is not undecided, it is %s: nothing to %s", vm_name, migrate_phase_name(st.phase),
			verb);
	else if (err == -EALREADY)
		why_set(w, err, "it has just been decided: `migrate status`");
	else if (err && word == WORD_CLAIM)
		why_set(w, err,
			"it is not proven that no host runs it: %.110s. Two copies ruin its data. Make sure, then: vm "
			"claim %s --force",
			open, vm_name);
	else if (err)
		why_set(w, err,
			"it is undecided, and this may be its only image: %.110s. Make sure that it runs elsewhere, "
			"then: vm forget %s --force",
			open, vm_name);
	if (!err) {
		completion_done(&m->news);
		migration_abort(m);
	}
	migration_put(m);
	return err;
}

int migrate_claim(const char *vm_name, bool force, struct why *w) { return decide(vm_name, WORD_CLAIM, force, w); }
int migrate_forget(const char *vm_name, bool force, struct why *w) { return decide(vm_name, WORD_FORGET, force, w); }

/* The body of an outgoing migration's task: connect, then one attempt. */
static void migrate_task(void *arg)
{
	struct migration *m = arg;
	struct stream *s = NULL;
	struct why w = { "" };
	int err = FAILPOINT(P0_CONNECT, NULL);

	uint64_t begin = time_ns();
	if (!err)
		err = stream_tcp_connect(&s, m->p.dest, m->p.port, begin + MIG_CONNECT_NS, &w);
	m->connect_ns = time_ns() - begin;
	if (!err)
		err = FAILPOINT(P1_TLS, s);
	if (!err) {
		source_attempt(m, s, &w); /* ends m in every case; w is in its status */
	} else {
		migration_unbind(m, false);
		migration_finish(m, MIG_FAILED, w.text[0] ? w.text : err_name(err));
	}
	stream_close(s);
	migration_put(m);
}

int migrate_start(struct vm *vm, const struct migrate_params *p, struct why *w)
{
	char peer[48];
	sniprintf(peer, sizeof(peer), "%s", p->dest);
	struct migration *m = migration_new(vm->cfg.name, peer, false);
	if (!m)
		return why_set(w, -ENOMEM, "out of memory");
	m->p = *p;
	int err = migration_bind(m, vm, VM_RUNNING, w);
	if (!err && !task_create("migrate", TASK_PRIO_NORMAL, migrate_task, m))
		err = why_set(w, -ENOMEM, "out of memory");
	if (!err)
		return 0;
	migration_unbind(m, false);
	migration_drop(m);
	return err;
}

int migrate_source_run(struct vm *vm, struct stream *s, const struct migrate_params *p, struct why *w)
{
	struct migration *m = migration_new(vm->cfg.name, s->peer, false);
	if (!m)
		return why_set(w, -ENOMEM, "out of memory");
	m->p = *p;
	int err = migration_bind(m, vm, VM_RUNNING, w);
	if (err) {
		migration_drop(m);
		return err;
	}
	err = source_attempt(m, s, w);
	migration_put(m);
	return err;
}

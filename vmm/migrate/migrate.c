/* SPDX-License-Identifier: BSD-2-Clause */
/* What the rest of tern does with migrations: start, cancel, wait, decide (migrate.h). */
#include "kernel/task.h"
#include "kernel/time.h"
#include "vmm/disk.h"
#include "vmm/migrate/bandwidth.h"
#include "vmm/migrate/migration.h"
#include "vmm/migrate/policy.h"
#include "kernel/ip.h"
#include <string.h>

/* For a cancelled attempt to end in order; then its stream is aborted. A guest that stands still does not wait. */
#define CANCEL_NS       (MIG_TELL_NS + NS_PER_SEC)
#define CANCEL_STILL_NS NS_PER_SEC

const char *migrate_phase_name(enum migrate_phase p)
{
	/* clang-format off */
	static const char *const names[] = {
		[MIG_QUEUED] = "queued",
		[MIG_CONNECT] = "connecting",  [MIG_SETUP] = "setting up",
		[MIG_PASSES] = "copying",      [MIG_STOPPED] = "switching over",
		[MIG_COMMIT] = "committing",   [MIG_UNDECIDED] = "undecided",
		[MIG_REMOTE] = "post-copy",
		[MIG_DONE] = "done",           [MIG_FAILED] = "failed",
		[MIG_CANCELLED] = "cancelled",
	};
	/* clang-format on */
	return p < ARRAY_SIZE(names) ? names[p] : "?";
}

/* ---- which of the table; their lock is held ---- */

static bool is_out_running(struct migration *m, const void *name)
{
	return !m->finished && !m->st.incoming && !strcmp(m->st.vm, name);
}

static bool is_in_running(struct migration *m, const void *name)
{
	return !m->finished && m->st.incoming && !strcmp(m->st.vm, name);
}

int migrate_start(struct vm *vm, const struct migrate_params *p, struct why *w)
{
	if (!policy_possible(p->max_downtime_ms * NS_PER_MS, w))
		return -EINVAL;
	if (p->to_self && disk_has_units(&vm->cfg))
		return why_set(w, -ENOTSUP, "it has a disk on shared storage, which one host cannot claim from itself");
	struct migration *m = migration_new(vm->cfg.name, p->to_self ? "self" : ip_text(p->dest).s, p->dest, false);
	if (!m)
		return why_set(w, -ENOMEM, "out of memory");
	m->p = *p;
	m->st.to_self = p->to_self;
	m->st.pull = p->pull;
	if (!p->own_strategy)
		m->p.strategy = vm->cfg.s.migrate_strategy;
	bandwidth_limit(m, p->limit);
	int err = migration_bind_leaver(m, vm, w);
	if (err)
		goto drop;
	if (task_create("migrate", TASK_PRIO_NORMAL, source_task, m))
		return 0;
	err = why_set(w, -ENOMEM, "out of memory");
	migration_unbind(m, false);
drop:
	migration_drop(m);
	return err;
}

int migrate_limit(const char *vm_name, uint64_t rate, struct why *w)
{
	if (rate && rate < HOST_RATE_MIN)
		return why_set(w, -EINVAL, "a limit is at least %luM (bytes per second)", HOST_RATE_MIN >> 20);
	struct migration *m = vm_name ? migration_find(is_out_running, vm_name) : NULL;
	if (vm_name && !m)
		return why_set(w, -ENOENT, "no migration of %s leaves this host", vm_name);
	bandwidth_limit(m, rate);
	if (m)
		migration_put(m);
	return 0;
}

struct change {
	const struct migrate_params *p;
	unsigned what;
	const char *vm_name;
	unsigned *n; /* of those that were changed */
};
/* Under its lock. */
static void change_one(struct migration *m, const struct change *c)
{
	if (c->what & MIGRATE_SET_DOWNTIME)
		m->p.max_downtime_ms = c->p->max_downtime_ms;
	if (c->what & MIGRATE_SET_TIMEOUT)
		m->p.timeout_ms = c->p->timeout_ms;
	if (c->what & MIGRATE_SET_STRATEGY) {
		m->p.strategy = c->p->strategy;
		m->p.at_once = c->p->strategy == MIGRATE_REMOTE && m->st.phase == MIG_PASSES;
	}
}
/* Never found where it is for all: each is changed, and looked past. */
static bool is_changed(struct migration *m, const void *arg)
{
	const struct change *c = arg;
	if (m->finished || m->st.incoming || (c->vm_name && strcmp(m->st.vm, c->vm_name) != 0))
		return false;
	change_one(m, c);
	++*c->n;
	return c->vm_name;
}

int migrate_change(const char *vm_name, const struct migrate_params *p, unsigned what, struct why *w)
{
	if (what & MIGRATE_SET_DOWNTIME && !policy_possible(p->max_downtime_ms * NS_PER_MS, w))
		return -EINVAL;
	unsigned n = 0;
	const struct change c = { p, what, vm_name, &n };
	struct migration *m = migration_find(is_changed, &c);
	if (m)
		migration_put(m);
	if (!n)
		return why_set(w, -ENOENT, "no migration%s%s leaves this host", vm_name ? " of " : "",
			       vm_name ? vm_name : "");
	return 0;
}

int migrate_wait(const char *vm_name, uint64_t deadline_ns)
{
	struct migration *m = migration_find(is_out_running, vm_name);
	if (!m)
		m = migration_find(is_in_running, vm_name);
	if (!m)
		return migration_is_over(vm_name) ? 0 : -ENOENT;
	spin_lock(&m->lock);
	bool still = !m->st.incoming && m->st.phase == MIG_STOPPED;
	uint64_t patience = m->cancel ? m->cancel_ns + (still ? CANCEL_STILL_NS : CANCEL_NS) : TIME_NEVER;
	spin_unlock(&m->lock);
	int err = completion_wait(&m->done, MIN(patience, deadline_ns));
	if (err && patience < deadline_ns) {
		migration_abort(m);
		err = completion_wait(&m->done, deadline_ns);
	}
	migration_put(m);
	return err;
}

int migrate_cancel(const char *vm_name, struct why *w)
{
	struct migration *m = migration_find(is_out_running, vm_name);
	if (!m)
		m = migration_find(is_in_running, vm_name);
	if (!m)
		return why_set(w, -ENOENT, "no migration of %s is running", vm_name);
	spin_lock(&m->lock);
	bool late = m->committed;
	if (!late && !m->cancel) {
		m->cancel = true;
		m->cancel_ns = time_ns();
	}
	enum migrate_phase phase = m->st.phase;
	spin_unlock(&m->lock);
	if (!late)
		migration_stop(m); /* its task ends the rest, in order; who waits for it gives it CANCEL_NS */
	migration_put(m);
	if (!late)
		return 0;
	if (phase == MIG_REMOTE)
		return why_set(w, -EBUSY, "it runs at its destination already, and the rest of its memory follows");
	if (phase != MIG_UNDECIDED)
		return why_set(w, -EBUSY, "the hand-over has begun, it ends by itself");
	return why_set(w, -EBUSY,
		       "it may be running at the destination already; when that host is gone for good: vm claim %s "
		       "--force",
		       vm_name);
}

/* What a word that was not taken is answered. */
static int refuse_word(const char *vm_name, enum operators_word word, const struct migrate_status *st, bool remote,
		       int err, struct why *w)
{
	const char *open = st->error[0] ? st->error : "its destination has not answered";
	if (st->phase == MIG_REMOTE && word == WORD_CLAIM)
		return why_set(w, err, "%s runs at %s, and what is here is not all of it: it can never run here",
			       vm_name, st->peer_name);
	if (st->phase == MIG_REMOTE)
		return why_set(
			w, err,
			"%s lacks %lu MiB of its memory that are here alone: without them it is lost. If that host is "
			"gone for good: vm forget %s --force",
			st->peer_name, st->pages_left >> 8, vm_name);
	if (err == -EINVAL)
		return why_set(w, err, "%s is not undecided, it is %s: nothing to %s", vm_name,
			       migrate_phase_name(st->phase), word == WORD_CLAIM ? "claim" : "forget");
	if (err == -EALREADY)
		return why_set(w, err, "it has just been decided: `migrate status`");
	if (word == WORD_CLAIM)
		return why_set(w, err,
			       "it is not proven that no host runs it: %.110s. Two copies ruin its data. Make sure, "
			       "then: vm claim %s --force",
			       open, vm_name);
	if (remote)
		return why_set(
			w, err,
			"it is undecided: %.60s. If it runs at %s, that lacks memory which is here alone, and is lost "
			"without. If that host is gone for good: vm forget %s --force",
			open, st->peer_name, vm_name);
	return why_set(w, err,
		       "it is undecided, and this may be its only image: %.110s. Make sure that it runs elsewhere, "
		       "then: vm forget %s --force",
		       open, vm_name);
}

/* The operator's word on a VM that is undecided; without `sure` it is taken only of one that no host runs. */
static int decide(const char *vm_name, enum operators_word word, bool sure, struct why *w)
{
	struct migration *m = migration_find(is_out_running, vm_name);
	int err = 0;
	if (!m)
		return why_set(w, -ENOENT, "%s is not undecided: no migration of it is running", vm_name);
	spin_lock(&m->lock);
	struct migrate_status st = m->st;
	bool remote = m->remote;
	if (st.phase == MIG_REMOTE && word == WORD_CLAIM)
		err = -EINVAL;
	else if (st.phase != MIG_UNDECIDED && st.phase != MIG_REMOTE)
		err = -EINVAL;
	else if (m->decided)
		err = -EALREADY;
	else if (!sure && (word == WORD_FORGET || !m->nobody))
		err = -EPERM;
	else
		m->word = word, m->sure = sure;
	spin_unlock(&m->lock);
	if (err) {
		refuse_word(vm_name, word, &st, remote, err, w);
	} else { /* its task looks at once, and leaves a question that is under way */
		completion_done(&m->news);
		migration_abort(m);
	}
	migration_put(m);
	return err;
}

int migrate_claim(const char *vm_name, bool force, struct why *w) { return decide(vm_name, WORD_CLAIM, force, w); }
int migrate_forget(const char *vm_name, bool force, struct why *w) { return decide(vm_name, WORD_FORGET, force, w); }

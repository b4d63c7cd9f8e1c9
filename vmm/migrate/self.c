/* SPDX-License-Identifier: BSD-2-Clause */
/* Within one host (self.h). */
#include "vmm/migrate/self.h"
#include "kernel/task.h"
#include "kernel/time.h"

static void serve(void *arg)
{
	struct migration *m = arg;
	migrate_serve(m, m->there);
	completion_done(&m->served);
}

int self_connect(struct migration *m, struct stream **s, struct why *w)
{
	if (stream_loop_open("self", s, &m->there))
		return why_set(w, -ENOMEM, "out of memory");
	completion_init(&m->served);
	vm_ref(m->vm);
	m->beside = m->vm;
	if (task_create("self", TASK_PRIO_NORMAL, serve, m))
		return 0;
	stream_close(m->there);
	completion_done(&m->served);
	return why_set(w, -ENOMEM, "out of memory");
}

void self_end(struct migration *m)
{
	if (!m->beside)
		return;
	completion_wait(&m->served, TIME_NEVER); /* its stream has ended: so does it, as any destination */
	attempt_event(&m->id, RECORD_EV_DONE);
	vm_put(m->beside);
	m->beside = NULL;
}

/* Has another one taken its place in the table? That may have gone since; itself cannot leave it while it is bound. */
static bool has_left(const struct vm *vm)
{
	struct vm *now = vm_get(vm->cfg.name);
	bool left = now != vm;
	vm_put(now);
	return left;
}

enum source_event self_ask(struct migration *m)
{
	enum rule_action act = attempt_event(&m->id, RECORD_EV_QUERY);
	if (act == ACT_SAY_STARTED)
		return SOURCE_EV_STARTED;
	/* Whatever it still does, it does not start it from now on; or (UNKNOWN) it has, and the record was dropped. */
	migration_evict(&m->id, time_ns() + 2 * MIG_ANSWER_NS);
	return has_left(m->vm) ? SOURCE_EV_STARTED : SOURCE_EV_NEVER;
}

/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The fault matrix in post-copy (faults.h): the VM runs at b, and frames of it are at a. Both hosts are needed then,
 * each for what it has. A connection that breaks costs time and nothing else; a host that dies takes the VM along, and
 * no word of the operator's makes what is left run again.
 */
#include "kernel/task.h"
#include "tests/unit/fake_kernel.h"
#include "tests/unit/faults.h"
#include <string.h>

#define PAGES (MIB(2) / PAGE_SIZE)

/* What is right where it is not that it comes to be at b, whole. */
static const struct {
	const char *of; /* the event's name */
	const char *right;
} other[] = {
	{ "source killed", "H" },
	{ "destination killed", "W" },
	{ "link cut for ever", "P" },
	{ "only the way between the two is cut for ever", "P" },
	{ "half-open: nothing comes from the source", "P" },
	{ "half-open: nothing gets to the source", "P" },
	{ "guest powers off", "O" },
	{ "guest's CPU has a triple fault", "O" },
	{ "vm stop at the destination", "O" },
};

const char *fault_remote_right(const struct fault_event *e, const char **why)
{
	*why = "its state has gone";
	if (e->needs & (NEEDS_EXPORT | NEEDS_IMAGE))
		return NULL;
	for (unsigned i = 0; i < ARRAY_SIZE(other); i++)
		if (!strcmp(e->name, other[i].of))
			return other[i].right;
	return "D";
}

/* One pass, which shows what the line carries, and what is dirty then takes longer than it may stop for. */
void fault_remote_begin(struct migrate_params *p)
{
	fault_lines(10000000, 0);
	p->strategy = MIGRATE_REMOTE;
	p->own_strategy = true;
	p->max_downtime_ms = 15;
	p->max_passes = 1;
}

/* Until it has read all of it, or the guest ends. */
static void guest(void *arg unused)
{
	struct vm *vm = vm_get("demo");
	for (uint64_t i = 0, page = 0, word; vm && i < PAGES; i++, page = (page + 211) % PAGES) {
		if (gmem_read(&vm->mem, page << PAGE_SHIFT, &word, sizeof(word)))
			break;
		if (!fault_guest_page(page, word))
			fault_wrong("page %lu was read before it was what the guest wrote", page);
		task_sleep_until(time_ns() + 100 * NS_PER_US);
	}
	vm_put(vm);
}

void fault_remote_runs(void)
{
	if (!task_create("guest", TASK_PRIO_NORMAL, guest, NULL))
		fault_wrong("the guest does not run");
}

bool fault_remote_told(int h, const struct migrate_status *s)
{
	return s->phase == MIG_REMOTE && (h == A ? s->error[0] != 0 : fake_log_has("waits for the source"));
}

static enum vm_state state_at(int h) { return fault_vm_at(h) ? fault_vm_at(h)->state : VM_STOPPED; }

char fault_remote_outcome(void)
{
	if (state_at(A) == VM_SERVING)
		return state_at(B) == VM_RUNNING ? FAULT_SERVED : FAULT_PART;
	if (state_at(A) != VM_STOPPED)
		return '?';
	if (state_at(B) == VM_RUNNING && fake_host_dead[A] && !gmem_all_here(&fault_vm_at(B)->mem))
		return FAULT_LACKS;
	return 0;
}

/* What the source has is no VM any more, and nobody makes it one. */
void fault_remote_look(void)
{
	struct why claim = { "" }, forget = { "" }, cancel = { "" }, start = { "" };
	if (state_at(A) != VM_SERVING)
		return;
	ON_HOST(A)
	{
		if (migrate_claim("demo", true, &claim) != -EINVAL || !strstr(claim.text, "can never run here"))
			fault_wrong("claim is not refused: %s", claim.text);
		if (migrate_forget("demo", false, &forget) != -EPERM || !strstr(forget.text, "vm forget demo --force"))
			fault_wrong("forget is not refused: %s", forget.text);
		if (migrate_cancel("demo", &cancel) != -EBUSY || !cancel.text[0])
			fault_wrong("cancel is not refused: %s", cancel.text);
		if (vm_stop(fault_vm_at(A), &start) != -EBUSY)
			fault_wrong("vm stop is not refused: %s", start.text);
	}
	if (state_at(A) != VM_SERVING)
		fault_wrong("a word that was refused has changed it");
}

/* The newest attempt that has left a; false: it is over. */
static bool serves(struct migrate_status *s)
{
	bool found = false;
	ON_HOST(A)
	for (unsigned i = 0; !found && migrate_get(i, s); i++)
		found = !s->incoming && s->phase == MIG_REMOTE;
	return found;
}

/* A destination that has restarted knows nothing of it; one whose source has can only be stopped. */
void fault_remote_heal(void)
{
	struct migrate_status s;
	char outcome = fault_run.cell->outcome;
	for (uint64_t end = time_ns() + FAULT_BOUND_NS; outcome == FAULT_PART && serves(&s) && time_ns() < end;) {
		if (strstr(s.error, "has restarted"))
			ON_HOST(A) if (migrate_forget("demo", true, NULL)) fault_wrong("forget --force is refused");
		task_sleep_until(time_ns() + 20 * NS_PER_MS);
	}
	if (outcome == FAULT_PART && serves(&s))
		fault_wrong("the source does not say that it is lost, but \"%s\"", s.error);
	struct vm *vm = fault_vm_at(B);
	if (outcome == FAULT_LACKS && (!vm || vm->state != VM_RUNNING))
		fault_wrong("it does not run on without its source");
	if (outcome == FAULT_LACKS && vm && vm_stop(vm, &(struct why){ "" }))
		fault_wrong("vm stop is refused");
}

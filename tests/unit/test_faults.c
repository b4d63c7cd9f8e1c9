/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The fault matrix (faults.h): a test for each event, which has a cell for each step. TERN_TEST='link cut*' runs some
 * of them, TERN_FAULT_STEP=P9 a step, TERN_FAULT_SEED=7 other turns and damage than usual; build/faults.html and .json
 * are of what was run.
 */
#include "kernel/base/bits.h"
#include "tests/unit/fake_kernel.h"
#include "tests/unit/fake_turns.h"
#include "tests/unit/faults.h"
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

static struct fault_cell *cells;

/* Where the guest runs: before the pause, and again once the destination has started it. */
static bool guest_runs(const struct fault_step *s)
{
	return s->phase <= AT_PASSES || s->p == P6_BEFORE_PAUSE || s->p == P18_RUNNING || s->p == P19_STARTED_LOST ||
	       s->p == P20_BEFORE_FREE || s->phase == AT_REMOTE;
}

/* Is there a skeleton, or more of it? */
static bool dest_has_vm(const struct fault_step *s) { return s->phase != AT_SETUP || s->p == P13_ANSWER_LOST; }

static const char *unfit(const struct fault_step *s, const struct fault_event *e)
{
	if (s->skip)
		return s->skip;
	if (e->kind != FAULT_RUNS && (s->far || s->p == P5_NTH_PASS))
		return "one that does not run has one pass, and no down time that COMMIT could shorten by riding with "
		       "END";
	if (s->phase == AT_REMOTE && e->kind == FAULT_RUNS && !(e->needs & NEEDS_OTHER)) {
		const char *why = NULL;
		if (!fault_remote_right(e, &why))
			return why;
	}
	if (s->phase == AT_REMOTE && e->kind != FAULT_RUNS)
		return "one that does not run goes whole";
	if (e->needs & NEEDS_OTHER)
		return "there is no command `vm reset`; the guest's own reset stands above";
	if (e->needs & NEEDS_LINK && s->p == P0_CONNECT)
		return "there is no connection yet";
	if (e->needs & NEEDS_WORDS && s->phase == AT_FREED)
		return "all has been said on the connection";
	if (e->needs & NEEDS_GUEST && !guest_runs(s))
		return "the guest stands still, and does nothing";
	if (e->needs & NEEDS_DEST_VM && !dest_has_vm(s))
		return "the destination has no such VM yet";
	if (e->needs & NEEDS_DEST_VM && s->phase == AT_FREED)
		return "at the destination it is over, and the VM one like any other";
	if (e->needs & NEEDS_EXPORT && s->phase >= AT_STOPPED && s->p != P6_BEFORE_PAUSE && s->p != P7_AFTER_PAUSE)
		return "its state has been saved";
	if (e->needs & NEEDS_IMAGE && s->phase > AT_STOPPED)
		return "its state has been loaded";
	return NULL;
}

/* Each of an event's cells; those that are not right are named at the end. */
static void run_event(void **state)
{
	unsigned e = *(const unsigned *)*state, wrong = 0, runs = 0;
	const char *only = getenv("TERN_FAULT_STEP");
	for (unsigned s = 0; s < fault_nsteps; s++) {
		struct fault_cell *c = &cells[e * fault_nsteps + s];
		if (c->unfit || (only && strcmp(only, c->step->name)))
			continue;
		fault_run_cell(c);
		runs += c->runs;
		wrong += c->problem[0] != 0;
		if (c->problem[0])
			print_message("    %s, %s: %s\n", c->event->name, c->step->name, c->problem);
	}
	if (wrong)
		fail_msg("%u cells are wrong", wrong);
	print_message("    %s: %u runs\n", fault_events[e].name, runs);
}

/* A panic has no cell: this says in which it was. */
static void aborted(int sig unused)
{
	const struct fault_cell *c = fault_run.cell;
	if (c)
		fprintf(stderr, "in the cell of %s, %s, run %u\n", c->step->name, c->event->name, fault_run.variant);
}

static int report(void **state) { return fault_report(cells, fault_nsteps * fault_nevents); }

int main(void)
{
	static struct CMUnitTest tests[FAULT_EVENTS_MAX];
	static unsigned index[FAULT_EVENTS_MAX];
	cells = calloc((size_t)fault_nsteps * fault_nevents, sizeof(*cells));
	for (unsigned e = 0; e < fault_nevents; e++) {
		for (unsigned s = 0; s < fault_nsteps; s++)
			cells[e * fault_nsteps + s] =
				(struct fault_cell){ .step = &fault_steps[s],
						     .event = &fault_events[e],
						     .unfit = unfit(&fault_steps[s], &fault_events[e]) };
		index[e] = e;
		tests[e] = (struct CMUnitTest){ .name = fault_events[e].name,
						.test_func = run_event,
						.initial_state = &index[e] };
	}
	setvbuf(stdout, NULL, _IOLBF, 0);
	cmocka_set_test_filter(getenv("TERN_TEST"));
	signal(SIGABRT, aborted);
	fake_turns_begin(1000 * NS_PER_SEC);
	int failed = _cmocka_run_group_tests("faults", tests, fault_nevents, NULL, report);
	free(fake_paused_image);
	free(cells);
	return failed;
}

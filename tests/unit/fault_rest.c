/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The fault matrix of VMs that are paused or stopped (faults.h): the events that can meet one, at each step, and what
 * is right then, which is what is right for one that runs, but where it says otherwise. "At the source", or
 * destination, is that it is there as it was, with its disk, and may go on or start there, and nowhere else.
 */
#include "tests/unit/faults.h"
#include <stdio.h>
#include <string.h>

static const struct {
	const char *of;    /* the event's name */
	const char *right; /* NULL: as for one that runs */
} rest[] = {
	{ "source killed", NULL },
	{ "destination killed", NULL },
	{ "link cut for 1 s", NULL },
	{ "link cut for 5 s", NULL },
	{ "link cut for 30 s", NULL },
	{ "link cut for ever", NULL },
	{ "only the way between the two is cut for ever", NULL },
	{ "half-open: nothing comes from the source", NULL },
	{ "half-open: nothing gets to the source", NULL },
	{ "RST", NULL },
	{ "FIN inside a record of the source", NULL },
	{ "FIN inside a record of the destination", NULL },
	{ "corruption of the source's bytes", NULL },
	{ "truncation of the destination's bytes", NULL },
	{ "repetition of the source's bytes", NULL },
	{ "replay of an old stream, to both hosts", NULL },
	{ "replay of the source's old words", NULL },
	{ "n-th allocation fails", NULL },
	{ "cancelled at the source", NULL },
	{ "cancelled at the destination", NULL },
	{ "vm stop at the source", NULL },
	{ "vm stop at the destination", NULL },
	{ "second migration at the source", NULL },
	{ "second migration at the destination", NULL },
};

struct fault_event fault_events[FAULT_EVENTS_MAX];
unsigned fault_nevents;
static char names[2][ARRAY_SIZE(rest)][96];

static void add(const struct fault_event *e, enum fault_kind kind, unsigned i)
{
	char *name = names[kind == FAULT_STOPPED][i];
	struct fault_event *to = &fault_events[fault_nevents++];
	snprintf(name, sizeof(names[0][0]), "%s: %s", kind == FAULT_STOPPED ? "stopped" : "paused", e->name);
	*to = *e;
	to->name = name;
	to->kind = kind;
	if (rest[i].right)
		to->right = rest[i].right;
}

__attribute__((constructor)) static void add_all(void)
{
	for (unsigned i = 0; i < fault_nrunning; i++)
		fault_events[fault_nevents++] = fault_running[i];
	for (enum fault_kind kind = FAULT_PAUSED; kind <= FAULT_STOPPED; kind++)
		for (unsigned i = 0; i < ARRAY_SIZE(rest); i++)
			for (unsigned k = 0; k < fault_nrunning; k++)
				if (!strcmp(fault_running[k].name, rest[i].of))
					add(&fault_running[k], kind, i);
}

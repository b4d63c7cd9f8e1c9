/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Long work of many like parts, shared out among the host's CPUs: the caller's task does parts, and so do tasks that
 * live as long as the work. Where there is no memory for them, or no other CPU, the caller does all of it.
 */
#pragma once
#include "kernel/task.h"

struct crew_work {
	const char *name;                    /* of the tasks */
	void (*part)(void *arg, uint64_t n); /* in any task, each n below `parts` once, in any order. May sleep */
	/*
	 * In the caller's task, after each part that it did and, when none are left, each 250 ms and with each task
	 * that has ended: how many parts are done. What it returns, unless 0, ends the work: no part is begun any more.
	 * NULL: nobody is told.
	 */
	int (*told)(void *arg, uint64_t done);
	void *arg;
	uint64_t parts;
	uint64_t worth;      /* parts that make one more task worth its while; at least 1 */
	enum task_prio prio; /* of the tasks */
};
/* Returns when no task is at it any more: 0 if all parts are done, or what told has returned. Sleeps. */
int crew_run(const struct crew_work *w) must_check;

/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Tasks: preemptive kernel threads that may run on any CPU. A vCPU is a task. Waiting is done with kernel/sync.h.
 */
#pragma once
#include "kernel/base/bits.h"

enum task_prio {
	TASK_PRIO_IO = 0,     /* NIC, lwIP, console: preempts the others as soon as it is woken */
	TASK_PRIO_SWITCH = 1, /* a migration whose guest stands still, for seconds at most */
	TASK_PRIO_NORMAL = 2, /* vCPUs, migration: by weight, 10 ms slices */
	TASK_NPRIO = 3,
};

struct task;

/*
 * Start fn(arg) as a task of its own with a guarded 32 KiB stack. Returning from fn ends the task; its memory is freed
 * by the system, so the pointer must not be used after that: to wait for an end, use a struct completion. NULL: no
 * memory.
 */
struct task *task_create(const char *name, enum task_prio prio, void (*fn)(void *arg), void *arg) must_check;
noreturn void task_exit(void);
struct task *task_self(void);
void task_yield(void);
void task_set_prio(enum task_prio prio); /* the caller's own, from now on */
/* Sleep until time_ns() >= deadline. Tasks only, no spinlock held. */
void task_sleep_until(uint64_t deadline_ns);

/*
 * CPU-bound state of a task (guest FPU, VMLOAD state): `in` runs with interrupts off on the CPU right before the task
 * starts or resumes there, `out` right before it leaves. Set by the task on itself; NULL, NULL, NULL to end it.
 * Setting calls neither.
 */
void task_set_switch_hooks(void (*in)(void *arg), void (*out)(void *arg), void *arg);

/*
 * What tasks of normal priority share between them, such as the vCPUs of a VM: CPU time goes to shares by weight, as
 * far as each makes use of it, however many tasks it has. The caller's own, from now on; NULL: one by itself, with
 * TASK_WEIGHT. s must stay until its last task has left it.
 */
#define TASK_WEIGHT 100
struct task_share {
	unsigned weight;   /* atomic: from 1 on */
	unsigned runnable; /* atomic: its tasks of normal priority that run or wait for a CPU */
};
void task_set_share(struct task_share *s);

/* Preemption off and on (nests). While off the task stays on its CPU and may not sleep. */
void preempt_disable(void);
void preempt_enable(void);
/*
 * The vector registers are for the code in between, and for no other of the kernel's. Preemption is off, since a switch
 * keeps no vectors; interrupts stay as they are. Tasks without switch hooks only (a vCPU's registers are its guest's),
 * on CPUs that have run fpu_cpu_on(). Hold it for microseconds; whoever had secrets in them wipes them.
 */
void vector_begin(void);
void vector_end(void);
/* The CPU that t runs on now, or -1. A hint unless t cannot move. */
int task_cpu(const struct task *t);

/* For kernel/main.c: the first tasks can be created, the scheduler runs on this CPU (sched.h). */
void task_init(void);

/*
 * How long t has run so far, and how long it stood ready while others did. t must not end meanwhile. Any context; what
 * runs on other CPUs makes it a little wrong.
 */
void task_times(const struct task *t, uint64_t *run_ns, uint64_t *wait_ns);
/* How long that CPU has had nothing to do so far. */
uint64_t task_idle_ns(unsigned cpu);

/* For `tasks`: called for every task, under a lock; fn must not sleep. */
struct task_info {
	const char *name;
	int cpu;           /* -1: not running */
	const char *state; /* "running", "ready", "sleeping" */
	uint64_t run_ns;   /* CPU time so far */
};
void task_for_each(void (*fn)(const struct task_info *i, void *arg), void *arg);

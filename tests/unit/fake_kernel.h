/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The kernel as host-built tests see it: tests/unit/fake_kernel.c gives kernel/{task,sync,spinlock,time,log,page,err}.h
 * on pthreads. Build with -DHHDM_BASE=0UL and -pthread: an hpa is then a pointer. Below: what only tests may call.
 */
#pragma once
#include "kernel/base/bits.h"

/* Let the next n page allocations succeed and all after them fail; a negative n ends the failing. */
void fake_page_alloc_fail_after(long n);
/* Blocks' worth of 4K pages not freed yet: 0 at the end of a test that leaks nothing. */
uint64_t fake_page_live(void);
uint64_t fake_page_reserved(void);         /* and neither is this */
extern _Thread_local unsigned fake_yields; /* task_yield's calls */
extern uint64_t fake_waited_ns;            /* what task_times says that each task has waited */

/*
 * Freeze the clock at ns (timers and deadlines follow it from then on); advance it, running the timers that come due.
 */
void fake_time_freeze(uint64_t ns);
void fake_time_advance(uint64_t ns);
void fake_time_thaw(void);
extern uint64_t fake_tsc_hz; /* what time_tsc_hz() says: 1 GHz unless set */

extern unsigned fake_cpus; /* what cpu_count() says: 1 unless set; a task is a thread all the same */

/* Wait until every task that was created has returned; false after 10 s of wall time (by turns: an hour of theirs). */
bool fake_tasks_wait(void);
unsigned fake_tasks_at(int host); /* of one host's creating: so many have not returned */

/* Who lets tasks run one at a time (fake_turns.c); NULL: nobody, each is a thread that runs when it can. */
struct fake_turns {
	int (*add)(const char *name); /* a task that is created: its turn */
	void (*enter)(int turn);      /* in its thread: returns when it may run */
	void (*leave)(void);          /* it has ended */
	/* Until *woken, or the deadline: others run. */
	void (*wait)(const bool *woken, uint64_t deadline_ns);
};
extern const struct fake_turns *fake_turns;
/* Does this allocation of pages fail? NULL: as fake_page_alloc_fail_after says. */
extern bool (*fake_alloc_fails)(void);

/*
 * The last line above LOG_DEBUG that went to the log ("" if none), and forgetting it. TERN_TEST_LOG=1 shows all on
 * stderr.
 */
const char *fake_log_last(void);
void fake_log_clear(void);
const char *fake_log_last_at(int host); /* the same of one host's tasks; forgotten with all others */
bool fake_log_has(const char *text);    /* is that in any line, LOG_DEBUG's too, since fake_log_clear()? */
/* Which of a test's hosts this thread is on; a task is on that of its creator (fake_hosts.h). */
extern _Thread_local int fake_host;

extern _Thread_local unsigned fake_spinlocks; /* that this thread holds: who sleeps holds none */
extern int fake_cpu;                          /* what task_cpu() says of all that run */

/* A millisecond of the real clock. */
void fake_nap(void);
/* In a cmocka test: until cond holds; 20 s are too long. */
#define WAIT_FOR(cond)                                                           \
	do {                                                                     \
		unsigned tries = 20000;                                          \
		while (!(cond) && --tries)                                       \
			fake_nap();                                              \
		if (!tries)                                                      \
			fail_msg("%s:%d: never: %s", __FILE__, __LINE__, #cond); \
	} while (0)

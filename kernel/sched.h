/* SPDX-License-Identifier: BSD-2-Clause */
/* Private to kernel/{sched,runq,task,waitq,spinlock,panic,main}.c: what a task is, and seams between those files. */
#pragma once
#include "arch/x86/cpu.h"
#include "kernel/base/list.h"
#include "kernel/spinlock.h"
#include "kernel/task.h"
#include "kernel/time.h"

enum task_state {
	TASK_READY, /* in a run queue */
	TASK_RUNNING,
	TASK_SLEEPING, /* in a wait queue, or about to leave its CPU for it */
	TASK_DEAD,
};

/*
 * (c) const after create  [r] runq->lock of the queue it is in, or runs at  [s] its own CPU, interrupts off
 * [a] atomic  [l] task list
 */
struct task {
	uint64_t rsp;             /* [s] while it is not on a CPU */
	struct list run;          /* [r] */
	enum task_state state;    /* [a] changed by itself, or by the one waker that took it off its wait queue */
	bool on_cpu;              /* [a] its registers are on a CPU: false only once the switch away is complete */
	uint32_t cpu;             /* [a] where it runs, or ran last */
	unsigned prio;            /* [r] changed by itself; TASK_NPRIO: idle */
	uint64_t slice_end_ns;    /* [s] 0: a full slice at the next start */
	struct task_share *share; /* [r] changed by itself; NULL: none but its own */
	struct runq *clock;       /* [r] whose virtual time is meant; NULL: it never waited */
	uint64_t vtime;           /* [r] TSC ticks that it had, each worth the more the smaller its weight */
	unsigned weight;          /* [r] when it came into the queue */
	uint64_t run_tsc;         /* [s] */
	uint64_t ready_tsc;       /* [r], read [a]: when it came into the queue */
	uint64_t wait_tsc;        /* [r], read [a]: how long it has been in queues, before that */
	void (*hook_in)(void *arg), (*hook_out)(void *arg); /* [s] */
	void *hook_arg;
	void (*fn)(void *arg); /* (c) */
	void *arg;
	void *stack;
	struct list all; /* [l] */
	char name[24];
};

/* One for each CPU. (c) const  [q] lock  [a] atomic  [s] its own CPU, interrupts off */
struct runq {
	struct spinlock lock;
	struct list ready[TASK_NPRIO]; /* [q] */
	unsigned nready;               /* [q], read [a] */
	unsigned ready_weight;         /* [q], read [a]: the sum of those that are ready */
	struct task *cur;              /* [q] what runs; NULL: idle, or it is on its way off the CPU */
	unsigned cur_weight;           /* [q], read [a]: of what runs; 0: idle */
	uint64_t vtime;                /* [q], read [a]: the virtual time of who is furthest behind; it only grows */
	unsigned cur_prio;             /* [q], read [a]: of what runs, or is about to; TASK_NPRIO: idle */
	struct cpu *cpu;               /* (c) */
	struct task *prev;             /* [s] being switched away from */
	uint64_t switched_tsc;         /* [s] */
	uint64_t charged_tsc;          /* [q] up to when what runs has paid */
	unsigned looked_at;            /* [s] where balance() goes on */
	struct timer slice;            /* [s] ends the slice of what runs */
	bool slice_armed;              /* [s] */
	uint32_t kick;                 /* [s] 1 + the CPU to interrupt once this one holds no lock; 0: none */
	struct task idle;              /* its stack is the one the CPU started on */
};

/* ---- runq.c; the queue's lock is held, but where another is said ---- */

/* Atomic: CPUs where somebody waits. It is set before a waker looks for an idle CPU. */
extern uint64_t runq_ready[BITMAP_WORDS(CPU_MAX)];
void runq_enqueue(struct runq *rq, struct task *t, bool at_head);
void runq_dequeue(struct runq *rq, struct task *t);
struct task *runq_pick(struct runq *rq); /* takes the next one off the queue, or NULL */
/* What runs, or NULL. */
void runq_run(struct runq *rq, struct task *t);
/* What runs pays for what it has had until now. */
void runq_charge(struct runq *rq);
/* Has t (NULL: the first that waits), which is in the queue, had so much less than what runs that it need not wait? */
bool runq_due(const struct runq *rq, const struct task *t);
/* t, which was just charged, gives way to the next one there is. */
void runq_yield(struct runq *rq, struct task *t);
/* t's virtual time becomes one of rq's. No lock; t is in no queue. */
void runq_set_clock(struct runq *rq, struct task *t);
/* The first that may run elsewhere, of priorities from `first` on and no heavier, or NULL. No queue's lock is held. */
struct task *runq_take_ready(struct runq *rq, unsigned first, unsigned heaviest);
unsigned runq_load(const struct runq *rq); /* the weight of all that are there; any context */

/* ---- sched.c ---- */

bool sched_is_short(void); /* does a task wait for a CPU? Any context; as it was a moment ago */

/* Give this CPU its run queue; the caller becomes its idle task. Interrupts off. */
void sched_cpu_init(void);
/* The idle task's body: interrupts go on here. */
noreturn void sched_idle(void);
/* arch_hooks.irq_exit. */
void sched_irq_exit(void);
/* Leave the CPU; the state says for how long. Interrupts off, preemption on. */
void sched_switch(void);
/* Make a sleeping (or new) task ready. Interrupts off. At most one caller for one sleep. */
void sched_wake(struct task *t);
/* First thing on a new task's stack. */
void sched_finish_switch(void);
/*
 * Switch now if this CPU was asked to; flags say if interrupts were on (else it happens as soon as they are).
 * Interrupts off.
 */
void sched_check(uint64_t flags);
/* Takes a dead task once its stack is free of CPUs (kernel/task.c). Interrupts off. */
void task_reap(struct task *t);
uint64_t sched_run_tsc(const struct task *t);

/* One instruction each, so that a move to another CPU cannot come in between. */
static inline void sched_preempt_inc(void)
{
	__asm__ volatile("incl %%gs:%c0" ::"i"(offsetof(struct cpu, preempt_off)) : "memory", "cc");
}
static inline void sched_preempt_dec(void)
{
	__asm__ volatile("decl %%gs:%c0" ::"i"(offsetof(struct cpu, preempt_off)) : "memory", "cc");
}

/* Spinlocks without the accounting: interrupts are off and stay off. */
void spin_acquire(struct spinlock *l);
void spin_release(struct spinlock *l);
extern bool spin_ignore;

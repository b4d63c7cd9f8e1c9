/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The scheduler's own code (sched.c, runq.c, waitq.c, sync.c) on two modelled CPUs: explore_all goes through all
 * interleavings of what a few tasks do. A CPU may stand still, be interrupted, or find its time over before each access
 * to what others see: each atomic operation, each lock. All that the code can know is copied, so that the search goes
 * back to where it had a choice, and a state that it has seen is not gone into twice. For one test, which is compiled
 * with it.
 *
 * Where nothing can happen any more until time passes, nobody may wait whom a CPU could run: none beside an idle CPU,
 * none behind something less urgent, none without an end of the slice of what runs. In the end all tasks have ended.
 * Stores are seen by all at once: that the code has its full barriers where x86 needs them is not shown here.
 */
#pragma once
#include "arch/x86/arch.h"
#include "arch/x86/cpu.h"
#include "arch/x86/irq.h"
#include "kernel/base/err.h"
#include "kernel/sched.h"
#include "kernel/sync.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <asm/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { CPUS = 2, TASKS = 4, TIMERS = 4, STACK = 1 << 16, STATES = 1 << 22, DEPTH = 1 << 13, SLICES = 2 };

/* All that may differ between two states, beside the used parts of the stacks and two words of the scheduler's. */
static struct world {
	struct cpu cpu[CPUS];
	struct runq rq[CPUS];
	struct task task[TASKS];
	struct task *on[CPUS]; /* whose stack each CPU stands on */
	uint64_t sp[CPUS];
	bool irq_on[CPUS], pending[CPUS], rests[CPUS], rested[TASKS], ended[TASKS];
	struct spinlock *wants[CPUS]; /* a lock that it waits for */
	struct timer *timer[TIMERS], *fires[CPUS];
	uint64_t now_ns;
	unsigned slices; /* have ended while nothing else happened */
	struct sem sem[2];
	struct mutex mutex;
	unsigned inside;         /* of the mutex */
	struct sem dead;         /* up for each task that has ended */
	struct task_share share; /* of all tasks */
	struct spinlock lock;
	struct waitq q;
	unsigned turn;
	unsigned device; /* how many more interrupts it has, each of which ups sem[0] */
	bool raised[CPUS];
} w;
static char stack[CPUS + TASKS][STACK] __attribute__((aligned(64)));
static unsigned now, line[CPUS]; /* the CPU whose turn it is; where each is */
static uint64_t explorer;        /* its stack */
static bool interrupted;         /* what comes next on CPU `now` is an interrupt */
static bool spreads;             /* nor may one wait that is more urgent than what any other CPU runs */
static bool atomic;              /* nothing comes in between: the code is not run by a modelled CPU */
noreturn static void lost(const char *what);

/* ---- the machine ---- */

void swap(uint64_t *save, uint64_t load);
__asm__(".text; .globl swap; swap: push %rbp; push %rbx; push %r12; push %r13; push %r14; push %r15\n"
	"mov %rsp, (%rdi); mov %rsi, %rsp\n"
	"pop %r15; pop %r14; pop %r13; pop %r12; pop %rbx; pop %rbp; ret");

static void interrupt(void);
static void step(unsigned at)
{
	if (atomic)
		return;
	line[now] = at;
	swap(&w.sp[now], explorer);
	if (interrupted)
		interrupt();
}

/* GS, by which the code finds its CPU's data, is nobody else's here. */
static void be(unsigned cpu)
{
	static unsigned is = CPUS;
	now = cpu;
	if (is != cpu)
		assert_int_equal(syscall(SYS_arch_prctl, ARCH_SET_GS, &w.cpu[cpu]), 0);
	is = cpu;
}

unsigned cpu_count(void) { return CPUS; }
uint64_t time_ns(void) { return w.now_ns; }
uint64_t time_ns_to_tsc(uint64_t ns) { return ns; }
uint64_t time_tsc_to_ns(uint64_t ticks) { return ticks; }
static uint64_t model_irq_save(void)
{
	uint64_t flags = w.irq_on[now] ? RFLAGS_IF : 0;
	w.irq_on[now] = false;
	return flags;
}
static void model_irq_restore(uint64_t flags) { w.irq_on[now] = w.irq_on[now] || flags & RFLAGS_IF; }

/* Until an interrupt comes; it comes even before that (STI's shadow), and is not lost. */
static void rest(void)
{
	w.irq_on[now] = w.rests[now] = true;
	step(__LINE__);
}

void irq_ipi(unsigned cpu, int vector unused)
{
	step(__LINE__);
	w.pending[cpu] = true;
}

void spin_acquire(struct spinlock *l)
{
	w.wants[now] = l;
	step(__LINE__);
	w.wants[now] = NULL;
	assert_int_equal(l->owner, l->next);
	l->next++;
	step(__LINE__);
}

void spin_release(struct spinlock *l)
{
	step(__LINE__);
	l->owner++;
}

void timer_init(struct timer *t, void (*fn)(void *arg), void *arg) { *t = (struct timer){ .fn = fn, .arg = arg }; }

/* Not while its function runs, elsewhere. */
void timer_cancel(struct timer *t)
{
	for (unsigned c = 0; c < CPUS; c++)
		while (c != now && w.fires[c] == t)
			step(__LINE__);
	for (unsigned i = 0; i < TIMERS; i++)
		if (w.timer[i] == t)
			w.timer[i] = NULL;
}

void timer_set(struct timer *t, uint64_t deadline_ns)
{
	unsigned i = 0;
	for (unsigned j = 0; j < TIMERS; j++)
		w.timer[j] = w.timer[j] == t ? NULL : w.timer[j];
	while (w.timer[i])
		assert_true(++i < TIMERS);
	w.timer[i] = t;
	t->deadline_ns = deadline_ns;
	t->cpu = (int)now;
	w.pending[now] = w.pending[now] || deadline_ns <= w.now_ns;
}

void spin_init(struct spinlock *l, const char *name) { *l = (struct spinlock)SPINLOCK_INIT(name); }
uint64_t spin_lock_irqsave(struct spinlock *l)
{
	uint64_t flags = model_irq_save();
	sched_preempt_inc();
	spin_acquire(l);
	return flags;
}
void spin_unlock_irqrestore(struct spinlock *l, uint64_t flags)
{
	spin_release(l);
	sched_preempt_dec();
	sched_check(flags);
	model_irq_restore(flags);
}

static void model_switch(uint64_t *save, uint64_t load)
{
	struct task *next = w.cpu[now].current;
	for (unsigned c = 0; c < CPUS; c++)
		if (w.on[c] == next)
			lost("a task runs on two CPUs, or before its registers are saved");
	w.on[now] = next;
	swap(save, load);
}

void task_reap(struct task *t)
{
	w.ended[t - w.task] = true;
	sem_up(&w.dead);
}
noreturn void panic(const char *fmt, ...) { lost(fmt); }

/* ---- the code ---- */

#define cpu_irq_save              model_irq_save
#define cpu_irq_restore           model_irq_restore
#define cpu_irq_off               (void)model_irq_save
#define cpu_halt                  rest
#define rdtsc                     time_ns
#define arch_switch               model_switch
#define calloc(n, size)           (&w.rq[now])
#define __atomic_load_n(p, order) (step(__LINE__), __atomic_load_n(p, order))
#define __atomic_store_n(p, v, order)               \
	({                                          \
		typeof(*(p)) value_ = (v);          \
		step(__LINE__);                     \
		__atomic_store_n(p, value_, order); \
	})
#define __atomic_fetch_or(p, v, order)  (step(__LINE__), __atomic_fetch_or(p, v, order))
#define __atomic_fetch_and(p, v, order) (step(__LINE__), __atomic_fetch_and(p, v, order))
#define __atomic_fetch_add(p, v, order) (step(__LINE__), __atomic_fetch_add(p, v, order))
#include "kernel/runq.c"
#include "kernel/sched.c"
#include "kernel/sync.c"
#include "kernel/waitq.c"
#undef __atomic_load_n
#undef __atomic_store_n
#undef __atomic_fetch_or
#undef __atomic_fetch_and
#undef __atomic_fetch_add

static void interrupt(void)
{
	struct cpu *c = this_cpu();
	interrupted = w.rests[now] = w.irq_on[now] = w.pending[now] = false;
	c->irq_depth++;
	for (unsigned i = 0; i < TIMERS; i++) {
		struct timer *t = w.timer[i];
		if (t && t->cpu == (int)now && t->deadline_ns <= w.now_ns) {
			w.timer[i] = NULL;
			w.fires[now] = t;
			t->fn(t->arg);
			w.fires[now] = NULL;
			step(__LINE__);
		}
	}
	if (w.raised[now]) {
		w.raised[now] = false;
		sem_up(&w.sem[0]);
	}
	c->irq_depth--;
	step(__LINE__);
	sched_irq_exit();
	w.irq_on[now] = true;
}

/* ---- the search ---- */

enum what { RUN, INTERRUPT, DEVICE, TIME, REST_ENDS };
static const char *const names[] = { "runs from line", "is interrupted at line",
				     "has the device's interrupt pending at", "time passes", "has rested" };
static struct choice {
	enum what what;
	unsigned cpu, line; /* TIME: cpu is 1 if nothing else could happen */
} path[DEPTH];
static unsigned npath, nseen;
static uint64_t seen[2 * STATES]; /* hashes, 0: free */
static unsigned time_left;        /* how often time may pass while CPUs could go on, from here */

static void lost(const char *what)
{
	for (unsigned i = 0; i < npath; i++)
		fprintf(stderr, "  CPU %u %s %u\n", path[i].cpu, names[path[i].what], path[i].line);
	fprintf(stderr, "%s\n", what);
	abort();
}

/* The part of stack i that is in use. */
static char *used(unsigned i)
{
	struct task *t = i < CPUS ? &w.rq[i].idle : &w.task[i - CPUS];
	char *top = stack[i] + STACK;
	for (unsigned c = 0; c < CPUS; c++)
		if (w.on[c] == t)
			return (char *)w.sp[c];
	return i >= CPUS && w.ended[i - CPUS] ? top : (char *)t->rsp;
}

static uint64_t mix(uint64_t h, uint64_t word)
{
	h = (h ^ word) * 0x9e3779b97f4a7c15ULL;
	return h ^ h >> 32;
}

static uint64_t hash(void)
{
	const uint64_t *p = (const void *)&w;
	uint64_t h = mix(mix(mix(1, idle_map[0]), runq_ready[0]), time_left);
	for (unsigned i = 0; i < sizeof(w) / 8; i++)
		h = mix(h, p[i]);
	for (unsigned i = 0; i < CPUS + TASKS; i++)
		for (p = (const void *)used(i); p < (const uint64_t *)(stack[i] + STACK); p++)
			h = mix(h, *p);
	return h ? h : 1;
}

/* Has this state been gone into? It is from now on. */
static bool is_seen(void)
{
	uint64_t h = hash();
	unsigned i = (unsigned)(h % ARRAY_SIZE(seen));
	for (; seen[i]; i = (i + 1) % ARRAY_SIZE(seen))
		if (seen[i] == h)
			return true;
	if (++nseen > STATES)
		lost("too many states");
	seen[i] = h;
	return false;
}

struct snapshot {
	struct world w;
	uint64_t idle, ready;
	unsigned npath, time_left;
	char *used[CPUS + TASKS];
	char bytes[];
};

static struct snapshot *take(void)
{
	size_t len = 0, at = 0;
	for (unsigned i = 0; i < CPUS + TASKS; i++)
		len += (size_t)(stack[i] + STACK - used(i));
	struct snapshot *s = malloc(sizeof(*s) + len);
	assert_non_null(s);
	s->w = w;
	s->idle = idle_map[0];
	s->ready = runq_ready[0];
	s->npath = npath;
	s->time_left = time_left;
	for (unsigned i = 0; i < CPUS + TASKS; i++) {
		s->used[i] = used(i);
		len = (size_t)(stack[i] + STACK - s->used[i]);
		memcpy(s->bytes + at, s->used[i], len);
		at += len;
	}
	return s;
}

static void put_back(const struct snapshot *s)
{
	size_t at = 0;
	w = s->w;
	idle_map[0] = s->idle;
	runq_ready[0] = s->ready;
	npath = s->npath;
	time_left = s->time_left;
	for (unsigned i = 0; i < CPUS + TASKS; i++) {
		size_t len = (size_t)(stack[i] + STACK - s->used[i]);
		memcpy(s->used[i], s->bytes + at, len);
		at += len;
	}
}

static uint64_t next_deadline(void)
{
	uint64_t first = TIME_NEVER;
	for (unsigned i = 0; i < TIMERS; i++)
		if (w.timer[i] && w.timer[i]->deadline_ns > w.now_ns)
			first = MIN(first, w.timer[i]->deadline_ns);
	return first;
}

static bool is_armed(const struct timer *t)
{
	for (unsigned i = 0; i < TIMERS; i++)
		if (w.timer[i] == t)
			return true;
	return false;
}

static void check_share(void)
{
	unsigned n = 0;
	for (unsigned i = 0; i < TASKS; i++) {
		const struct task *t = &w.task[i];
		n += t->share && t->prio == TASK_PRIO_NORMAL && (t->state == TASK_READY || t->state == TASK_RUNNING);
	}
	if (w.share.runnable != n)
		lost("a share's tasks are miscounted");
}

/* Nothing happens until time passes. */
static void check_quiet(void)
{
	bool idle = false;
	for (unsigned c = 0; c < CPUS; c++) {
		if (w.wants[c])
			lost("a lock is never released");
		idle = idle || w.cpu[c].current == &w.rq[c].idle;
	}
	check_share();
	for (unsigned c = 0; c < CPUS; c++) {
		const struct runq *rq = &w.rq[c];
		if (!rq->nready)
			continue;
		if (idle)
			lost("a task waits while a CPU is idle");
		if (!is_armed(&rq->slice))
			lost("a task waits, and what runs has no end");
		atomic = true;
		if (rq->nready == 1 && runq_due(rq, NULL))
			lost("a task waits that need not");
		atomic = false;
		for (unsigned o = 0; o < CPUS; o++)
			for (unsigned p = 0; (o == c || spreads) && p < w.cpu[o].current->prio; p++)
				if (!list_empty(&rq->ready[p]))
					lost("a task waits behind one that is less urgent");
	}
}

static unsigned choices(struct choice *c)
{
	unsigned n = 0;
	for (unsigned i = 0; i < CPUS; i++) {
		if (!w.rests[i] && !(w.wants[i] && w.wants[i]->owner != w.wants[i]->next))
			c[n++] = (struct choice){ RUN, i, line[i] };
		if (w.pending[i] && w.irq_on[i])
			c[n++] = (struct choice){ INTERRUPT, i, line[i] };
	}
	bool quiet = !n;
	if (quiet)
		check_quiet();
	for (unsigned i = 0; i < CPUS && quiet; i++)
		if (w.cpu[i].current != &w.rq[i].idle)
			c[n++] = (struct choice){ REST_ENDS, i, line[i] };
	for (unsigned i = 0; i < CPUS && w.device; i++)
		c[n++] = (struct choice){ DEVICE, i, line[i] };
	if (next_deadline() != TIME_NEVER && (quiet ? !n || w.slices < SLICES : time_left))
		c[n++] = (struct choice){ .what = TIME, .cpu = quiet };
	return n;
}

static void go(const struct choice *c)
{
	if (npath == DEPTH)
		lost("it never ends");
	path[npath++] = *c;
	be(c->cpu);
	switch (c->what) {
	case RUN:
	case INTERRUPT:
		interrupted = c->what == INTERRUPT;
		swap(&explorer, w.sp[now]);
		break;
	case DEVICE:
		w.device--;
		w.pending[now] = w.raised[now] = true;
		break;
	case REST_ENDS:
		w.rests[now] = false;
		w.rested[w.cpu[now].current - w.task] = true;
		w.now_ns += 2 * NS_PER_MS; /* so that who was woken before it may be due */
		break;
	case TIME:
		if (c->cpu)
			w.slices++;
		else
			time_left--;
		w.now_ns = next_deadline();
		for (unsigned i = 0; i < TIMERS; i++)
			if (w.timer[i] && w.timer[i]->deadline_ns <= w.now_ns)
				w.pending[w.timer[i]->cpu] = true;
		break;
	}
}

static void explore(void)
{
	struct choice c[4 * CPUS + 1];
	unsigned n;
	while (!is_seen()) {
		n = choices(c);
		if (n > 1) {
			struct snapshot *s = take();
			for (unsigned i = 0; i < n; i++) {
				go(&c[i]);
				explore();
				put_back(s);
			}
			free(s);
			return;
		}
		if (!n) {
			for (unsigned i = 0; i < TASKS; i++)
				if (!w.ended[i])
					lost("a task waits for ever");
			return;
		}
		go(c);
	}
}

/* ---- its start ---- */

static void (*const *bodies)(void);

static void task_begins(void)
{
	struct task *t = w.cpu[now].current;
	sched_finish_switch();
	model_irq_restore(RFLAGS_IF);
	bodies[t - w.task]();
	(void)model_irq_save();
	t = w.cpu[now].current;
	t->state = TASK_DEAD;
	sched_switch();
	abort();
}

static uint64_t begin(unsigned i, void (*fn)(void))
{
	uint64_t *top = (uint64_t *)(void *)(stack[i] + STACK);
	memset(stack[i], 0, STACK);
	top[-2] = (uintptr_t)fn; /* swap() returns there, as if top[-1] had called it; six registers below */
	return (uintptr_t)&top[-8];
}

/* time: how often it may pass while CPUs could go on. device: how many interrupts of the device there are. */
static void explore_all(unsigned time, unsigned device, void (*const body[TASKS])(void))
{
	memset(&w, 0, sizeof(w));
	memset(idle_map, 0, sizeof(idle_map));
	memset(runq_ready, 0, sizeof(runq_ready));
	memset(seen, 0, sizeof(seen));
	npath = nseen = 0;
	time_left = time;
	w.device = device;
	bodies = body;
	atomic = true;
	sem_init(&w.sem[0], 0);
	sem_init(&w.sem[1], 0);
	sem_init(&w.dead, 0);
	w.share.weight = TASK_WEIGHT;
	mutex_init(&w.mutex, "model");
	spin_init(&w.lock, "model");
	waitq_init(&w.q);
	for (unsigned c = 0; c < CPUS; c++) {
		be(c);
		w.cpu[c] = (struct cpu){ .self = &w.cpu[c], .id = c };
		sched_cpu_init();
		w.sp[c] = begin(c, sched_idle);
		w.on[c] = &w.rq[c].idle;
	}
	be(0);
	for (unsigned i = 0; i < TASKS; i++) {
		w.task[i] = (struct task){ .state = TASK_SLEEPING, .prio = TASK_PRIO_NORMAL, .share = &w.share };
		w.ended[i] = !body[i];
		if (body[i]) {
			w.task[i].rsp = begin(CPUS + i, task_begins);
			sched_wake(&w.task[i]);
		}
	}
	atomic = false;
	explore();
	print_message("%u states\n", nseen);
}

/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Timers that are set, moved and cancelled from all CPUs while they fire: kernel/time.c, compiled into the test, on
 * threads that are CPUs, by a clock of the test's. A CPU's timer interrupt comes when its hardware was armed for that
 * and interrupts are on: where they go on, and while somebody waits for another's fn.
 *
 * No timer is early, forgotten, called by two at once, on a CPU where it was not set, or after it was cancelled.
 */
#include "arch/x86/cpu.h"
#include "arch/x86/irq.h"
#include "kernel/sched.h"
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>

#define CPUS   4
#define TIMERS 6
#define PHASES 800
#define OPS    60 /* of each CPU, a phase */

/* ---- CPUs ---- */

static struct cpu cpu[CPUS];
static uint64_t hardware[CPUS]; /* TSC that its timer waits for; its own thread's */
static uint64_t tsc;            /* atomic */
static _Thread_local struct cpu *me;
static _Thread_local bool irqs_off;

static uint64_t ticks(void) { return __atomic_add_fetch(&tsc, 1, __ATOMIC_RELAXED); }
static uint64_t irq_save(void)
{
	uint64_t on = !irqs_off;
	irqs_off = true;
	return on;
}
static void irq_restore(uint64_t on)
{
	while (on && hardware[me->id] <= ticks()) {
		hardware[me->id] = TIME_NEVER;
		time_interrupt();
	}
	irqs_off = !on;
}
static void relax(void)
{
	__atomic_fetch_add(&tsc, 30, __ATOMIC_RELAXED);
	irq_restore(irq_save());
	sched_yield();
}
struct cpu *cpu_get(unsigned id) { return id < CPUS ? &cpu[id] : NULL; }
void irq_timer_init(uint64_t hz unused) { hardware[me->id] = TIME_NEVER; }
void irq_timer_arm(uint64_t at) { hardware[me->id] = at; }
void spin_init(struct spinlock *l, const char *name) { *l = (struct spinlock)SPINLOCK_INIT(name); }
void spin_acquire(struct spinlock *l)
{
	if (!irqs_off)
		abort();
	uint32_t t = __atomic_fetch_add(&l->next, 1, __ATOMIC_RELAXED);
	while (__atomic_load_n(&l->owner, __ATOMIC_ACQUIRE) != t)
		sched_yield();
}
void spin_release(struct spinlock *l) { __atomic_fetch_add(&l->owner, 1, __ATOMIC_RELEASE); }
void panic(const char *fmt, ...)
{
	fputs(fmt, stderr);
	abort();
}

#define this_cpu()      me
#define rdtsc           ticks
#define cpu_irq_save    irq_save
#define cpu_irq_restore irq_restore
#define cpu_relax       relax
#include "kernel/time.c"

/* ---- timers ---- */

static struct alarm {
	struct timer t;
	unsigned used;       /* atomic: by whom it is being set or cancelled */
	bool calling;        /* atomic, and so are these: */
	unsigned set, fired; /* how often it was set; how often it had been when fn was called last */
	uint64_t earliest;   /* no call is due before that, of all that may come */
	unsigned cpus;       /* on which it may be called */
	unsigned again;      /* how often fn sets it anew */
	bool cancelled;      /* since it was set */
} alarm_of[TIMERS];
static unsigned mistakes[8], calls; /* atomic */

enum { EARLY, TWICE, ELSEWHERE, AFTER_CANCEL, IRQS_ON, FORGOTTEN };
static void mistake(unsigned what, bool is)
{
	if (is)
		__atomic_fetch_add(&mistakes[what], 1, __ATOMIC_RELAXED);
}

static void ring(void *arg)
{
	struct alarm *a = arg;
	mistake(TWICE, __atomic_exchange_n(&a->calling, true, __ATOMIC_SEQ_CST));
	mistake(IRQS_ON, !irqs_off);
	mistake(EARLY, time_ns() < __atomic_load_n(&a->earliest, __ATOMIC_SEQ_CST));
	mistake(ELSEWHERE, !(__atomic_load_n(&a->cpus, __ATOMIC_SEQ_CST) >> me->id & 1));
	mistake(AFTER_CANCEL, __atomic_load_n(&a->cancelled, __ATOMIC_SEQ_CST));
	__atomic_store_n(&a->fired, __atomic_load_n(&a->set, __ATOMIC_SEQ_CST), __ATOMIC_SEQ_CST);
	if (__atomic_fetch_add(&calls, 1, __ATOMIC_RELAXED) % 4 == 0)
		sched_yield();
	if (__atomic_load_n(&a->again, __ATOMIC_SEQ_CST)) {
		__atomic_fetch_sub(&a->again, 1, __ATOMIC_SEQ_CST);
		timer_set(&a->t, time_ns() + 20);
	}
	mistake(TWICE, !__atomic_exchange_n(&a->calling, false, __ATOMIC_SEQ_CST));
}

static void cancel(struct alarm *a)
{
	timer_cancel(&a->t);
	mistake(TWICE, __atomic_load_n(&a->calling, __ATOMIC_SEQ_CST));
	__atomic_store_n(&a->cancelled, true, __ATOMIC_SEQ_CST);
	__atomic_store_n(&a->cpus, 0, __ATOMIC_SEQ_CST);
	__atomic_store_n(&a->earliest, TIME_NEVER, __ATOMIC_SEQ_CST);
	__atomic_store_n(&a->again, 0, __ATOMIC_SEQ_CST);
}

/* Moved if it is armed, also while it fires; one that sets itself is cancelled before, for only one may set it. */
static void set(struct alarm *a, unsigned *seed)
{
	uint64_t at = time_ns() + (unsigned)rand_r(seed) % 200;
	if (a == &alarm_of[0] || a == &alarm_of[1]) {
		cancel(a);
		__atomic_store_n(&a->again, (unsigned)rand_r(seed) % 4, __ATOMIC_SEQ_CST);
	}
	if (at < __atomic_load_n(&a->earliest, __ATOMIC_SEQ_CST))
		__atomic_store_n(&a->earliest, at, __ATOMIC_SEQ_CST);
	__atomic_fetch_or(&a->cpus, 1U << me->id, __ATOMIC_SEQ_CST);
	__atomic_store_n(&a->cancelled, false, __ATOMIC_SEQ_CST);
	__atomic_fetch_add(&a->set, 1, __ATOMIC_SEQ_CST);
	timer_set(&a->t, at);
}

/* One CPU at a time sets or cancels a timer; others meanwhile do something else. */
static void use(struct alarm *a, unsigned *seed)
{
	if (__atomic_exchange_n(&a->used, 1, __ATOMIC_ACQUIRE))
		return;
	if (rand_r(seed) % 3)
		set(a, seed);
	else
		cancel(a);
	__atomic_store_n(&a->used, 0, __ATOMIC_RELEASE);
}

static pthread_barrier_t all;
static unsigned done; /* CPUs, of all phases; atomic */

static void *run(void *arg)
{
	unsigned id = (unsigned)(uintptr_t)arg, seed = id + 1;
	me = &cpu[id];
	time_cpu_init();
	pthread_barrier_wait(&all);
	for (unsigned phase = 1; phase <= PHASES; phase++) {
		for (unsigned i = 0; i < OPS; i++) {
			use(&alarm_of[(unsigned)rand_r(&seed) % TIMERS], &seed);
			if (rand_r(&seed) % 4 == 0)
				relax();
		}
		/* Nobody sets any more: what is armed fires, here or there, as long as interrupts come. */
		__atomic_fetch_add(&done, 1, __ATOMIC_SEQ_CST);
		while (__atomic_load_n(&done, __ATOMIC_SEQ_CST) < phase * CPUS)
			relax();
		for (unsigned i = 0; i < 16; i++) {
			__atomic_fetch_add(&tsc, 1000, __ATOMIC_RELAXED);
			irq_restore(irq_save());
		}
		pthread_barrier_wait(&all);
		for (unsigned i = id; i < TIMERS; i += CPUS) {
			struct alarm *a = &alarm_of[i];
			mistake(FORGOTTEN, a->t.cpu >= 0 || (!a->cancelled && a->fired != a->set));
			mistake(TWICE, a->calling);
		}
		pthread_barrier_wait(&all);
	}
	free(me->timers);
	return NULL;
}

static void test_threads(void **state unused)
{
	pthread_t t[CPUS];
	time_init(NS_PER_SEC, 0, 0, 0);
	pthread_barrier_init(&all, NULL, CPUS);
	for (unsigned i = 0; i < TIMERS; i++) {
		timer_init(&alarm_of[i].t, ring, &alarm_of[i]);
		alarm_of[i].earliest = TIME_NEVER;
		alarm_of[i].cancelled = true;
	}
	for (uintptr_t i = 0; i < CPUS; i++) {
		cpu[i].id = (uint32_t)i;
		assert_int_equal(pthread_create(&t[i], NULL, run, (void *)i), 0);
	}
	for (unsigned i = 0; i < CPUS; i++)
		pthread_join(t[i], NULL);
	for (unsigned i = 0; i < ARRAY_SIZE(mistakes); i++)
		if (mistakes[i])
			fail_msg("mistake %u, %u times", i, mistakes[i]);
	assert_true(calls > PHASES);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_threads) };
	return cmocka_run_group_tests(tests, NULL, NULL);
}

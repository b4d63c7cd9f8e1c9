/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The kernel on pthreads, for host-built tests (see fake_kernel.h). Interrupt context is a thread of its own that runs
 * timers; "interrupts off" is nothing, so a spinlock excludes them as any other thread. What is pure C in the kernel
 * (sync.c, err.c) is compiled in here from the same source.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE /* pthread_cond_clockwait */
#endif
#include "kernel/base/hva.h"
#include "tests/unit/fake_kernel.h"
#include "arch/x86/cpu.h"
#include "kernel/base/err.h"
#include "kernel/log.h"
#include "kernel/page.h"
#include "kernel/spinlock.h"
#include "kernel/sync.h"
#include "kernel/task.h"
#include "kernel/time.h"
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sanitizer/asan_interface.h>
#include <sys/mman.h>
#include <time.h>

#include "kernel/err.c"
#include "kernel/sync.c"

/* ---- panic and log ---- */

void panic(const char *fmt, ...)
{
	va_list ap;
	va_start(ap, fmt);
	fprintf(stderr, "panic: ");
	vfprintf(stderr, fmt, ap);
	fprintf(stderr, "\n");
	va_end(ap);
	abort();
}

static pthread_mutex_t log_lock = PTHREAD_MUTEX_INITIALIZER;
static char log_last[512], log_last_at[4][512], log_all[1 << 16];
static size_t log_len; /* of log_all: the end of a long one is lost */

void log_vprintf(enum log_level level, const char *fmt, va_list ap)
{
	static const char *const levels[] = { "error", "warn", "info", "debug" };
	char line[512];
	vsnprintf(line, sizeof(line), fmt, ap);
	pthread_mutex_lock(&log_lock);
	if (level != LOG_DEBUG) {
		memcpy(log_last, line, sizeof(line));
		memcpy(log_last_at[fake_host & 3], line, sizeof(line));
	}
	log_len += (size_t)snprintf(log_all + log_len, sizeof(log_all) - log_len, "%s\n", line);
	log_len = MIN(log_len, sizeof(log_all) - 1);
	if (getenv("TERN_TEST_LOG"))
		fprintf(stderr, "[%s] %s\n", levels[level], line);
	pthread_mutex_unlock(&log_lock);
}

void log_printf(enum log_level level, const char *fmt, ...)
{
	va_list ap;
	va_start(ap, fmt);
	log_vprintf(level, fmt, ap);
	va_end(ap);
}

const char *fake_log_last(void) { return log_last; }
const char *fake_log_last_at(int host) { return log_last_at[host & 3]; }

void fake_log_clear(void)
{
	pthread_mutex_lock(&log_lock);
	log_last[0] = log_all[0] = 0;
	memset(log_last_at, 0, sizeof(log_last_at));
	log_len = 0;
	pthread_mutex_unlock(&log_lock);
}

bool fake_log_has(const char *text)
{
	pthread_mutex_lock(&log_lock);
	bool has = strstr(log_all, text);
	pthread_mutex_unlock(&log_lock);
	return has;
}

/* ---- pages ---- */

bool (*fake_alloc_fails)(void);
static long page_fail_after = -1;
static uint64_t page_live, page_reserved;

void fake_page_alloc_fail_after(long n) { __atomic_store_n(&page_fail_after, n, __ATOMIC_SEQ_CST); }

uint64_t fake_page_live(void) { return __atomic_load_n(&page_live, __ATOMIC_SEQ_CST); }
uint64_t fake_page_reserved(void) { return __atomic_load_n(&page_reserved, __ATOMIC_SEQ_CST); }

/* Blocks from 2 MiB on, for page_block_order: gmem gives its memory back by what that says. */
static struct {
	hpa_t hpa;
	unsigned order;
} page_large[256];
static pthread_mutex_t page_large_lock = PTHREAD_MUTEX_INITIALIZER;

/* Set the entry for hpa, or take a free one (hpa 0 of an entry). */
static void page_large_set(hpa_t find, hpa_t hpa, unsigned order)
{
	unsigned i = 0;
	pthread_mutex_lock(&page_large_lock);
	while (i < ARRAY_SIZE(page_large) && page_large[i].hpa != find)
		i++;
	BUG_ON(i == ARRAY_SIZE(page_large));
	page_large[i].hpa = hpa;
	page_large[i].order = order;
	pthread_mutex_unlock(&page_large_lock);
}

int page_block_order(hpa_t hpa)
{
	int order = -1;
	pthread_mutex_lock(&page_large_lock);
	for (unsigned i = 0; i < ARRAY_SIZE(page_large); i++)
		if (hpa && page_large[i].hpa == hpa)
			order = (int)page_large[i].order;
	pthread_mutex_unlock(&page_large_lock);
	return order;
}

/*
 * 1 GiB of zeroes, aligned, that costs nothing until it is written: guests of several GiB are practical. Never given
 * back.
 */
static void *page_sparse(void)
{
	char *p = mmap(NULL, GIB(2), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	return p == MAP_FAILED ? NULL : p + (-(uintptr_t)p & (GIB(1) - 1));
}

/*
 * Free blocks of 2 MiB are kept, for the machine under us takes long to make as many pages anew: a test that moves
 * thousands of VMs spends its time there. Poisoned, so that a use after free is noticed as before.
 */
static struct {
	void *block[16];
	unsigned n;
} page_2m; /* page_large_lock */

static void *page_2m_take(void)
{
	pthread_mutex_lock(&page_large_lock);
	void *p = page_2m.n ? page_2m.block[--page_2m.n] : NULL;
	pthread_mutex_unlock(&page_large_lock);
	if (!p)
		return aligned_alloc(MIB(2), MIB(2));
	ASAN_UNPOISON_MEMORY_REGION(p, MIB(2));
	return p;
}

static void page_2m_give(void *p)
{
	pthread_mutex_lock(&page_large_lock);
	bool keep = page_2m.n < ARRAY_SIZE(page_2m.block);
	if (keep) {
		ASAN_POISON_MEMORY_REGION(p, MIB(2));
		page_2m.block[page_2m.n++] = p;
	}
	pthread_mutex_unlock(&page_large_lock);
	if (!keep)
		free(p);
}

hpa_t page_alloc_reserved(struct page_reservation *r, unsigned order)
{
	BUG_ON(order > PAGE_ORDER_1G);
	if (fake_alloc_fails && fake_alloc_fails())
		return HPA_NONE;
	for (long n = __atomic_load_n(&page_fail_after, __ATOMIC_SEQ_CST); n >= 0;) {
		if (n == 0)
			return HPA_NONE;
		if (__atomic_compare_exchange_n(&page_fail_after, &n, n - 1, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST))
			break;
	}
	void *p = order == PAGE_ORDER_1G   ? page_sparse()
		  : order == PAGE_ORDER_2M ? page_2m_take()
					   : aligned_alloc(PAGE_SIZE << order, PAGE_SIZE << order);
	if (!p)
		return HPA_NONE;
	if (order < PAGE_ORDER_2M)
		memset(p, 0xa5, PAGE_SIZE << order); /* "contents undefined" */
	else
		page_large_set(0, (hpa_t)(uintptr_t)p, order);
	__atomic_fetch_add(&page_live, 1UL << order, __ATOMIC_SEQ_CST);
	if (r && r->pages) {
		uint64_t drawn = MIN(r->pages, 1UL << order);
		r->pages -= drawn;
		__atomic_fetch_sub(&page_reserved, drawn, __ATOMIC_SEQ_CST);
	}
	return (hpa_t)(uintptr_t)p;
}

/* What lies in a sparse block is given back to the machine under us, which gives zeros. */
void page_zero(hpa_t hpa, unsigned order)
{
	bool sparse = false;
	pthread_mutex_lock(&page_large_lock);
	for (unsigned i = 0; i < ARRAY_SIZE(page_large); i++)
		sparse |= page_large[i].order == PAGE_ORDER_1G && hpa - page_large[i].hpa < GIB(1);
	pthread_mutex_unlock(&page_large_lock);
	if (sparse)
		madvise((void *)(uintptr_t)hpa, PAGE_SIZE << order, MADV_DONTNEED);
	else
		memset((void *)(uintptr_t)hpa, 0, PAGE_SIZE << order);
}

hpa_t page_alloc(unsigned order)
{
	hpa_t p = page_alloc_reserved(NULL, order);
	if (p != HPA_NONE)
		page_zero(p, order);
	return p;
}

int page_reserve(struct page_reservation *r, uint64_t pages, uint64_t keep, uint64_t *have)
{
	r->pages = 0;
	for (uint64_t was = fake_page_reserved();;) {
		*have = page_total_count() - fake_page_live() - was;
		if (pages > *have || keep > *have - pages)
			return -ENOMEM;
		if (__atomic_compare_exchange_n(&page_reserved, &was, was + pages, false, __ATOMIC_SEQ_CST,
						__ATOMIC_SEQ_CST))
			break;
	}
	r->pages = pages;
	return 0;
}

void page_unreserve(struct page_reservation *r)
{
	__atomic_fetch_sub(&page_reserved, r->pages, __ATOMIC_SEQ_CST);
	r->pages = 0;
}

void page_free(hpa_t hpa, unsigned order)
{
	BUG_ON(hpa & ((PAGE_SIZE << order) - 1));
	if (order >= PAGE_ORDER_2M)
		page_large_set(hpa, 0, 0);
	__atomic_fetch_sub(&page_live, 1UL << order, __ATOMIC_SEQ_CST);
	if (order == PAGE_ORDER_1G)
		madvise((void *)(uintptr_t)hpa, GIB(1), MADV_DONTNEED);
	else if (order == PAGE_ORDER_2M)
		page_2m_give((void *)(uintptr_t)hpa);
	else
		free((void *)(uintptr_t)hpa);
}

uint64_t page_total_count(void) { return GIB(4) / PAGE_SIZE; }

uint64_t page_free_count(void) { return page_total_count() - fake_page_live() - fake_page_reserved(); }

static uint64_t page_guest;

void page_guest_add(int64_t pages) { __atomic_fetch_add(&page_guest, (uint64_t)pages, __ATOMIC_SEQ_CST); }

uint64_t page_guest_count(void) { return __atomic_load_n(&page_guest, __ATOMIC_SEQ_CST); }

/* ---- spinlocks ---- */

void spin_init(struct spinlock *l, const char *name) { *l = (struct spinlock)SPINLOCK_INIT(name); }

_Thread_local unsigned fake_spinlocks;

void spin_lock(struct spinlock *l)
{
	uint32_t t = __atomic_fetch_add(&l->next, 1, __ATOMIC_RELAXED);
	while (__atomic_load_n(&l->owner, __ATOMIC_ACQUIRE) != t)
		sched_yield();
	fake_spinlocks++;
}

static bool is_locked(const struct spinlock *l)
{
	return __atomic_load_n(&l->owner, __ATOMIC_RELAXED) != __atomic_load_n(&l->next, __ATOMIC_RELAXED);
}

void spin_unlock(struct spinlock *l)
{
	BUG_ON(!is_locked(l));
	fake_spinlocks--;
	__atomic_fetch_add(&l->owner, 1, __ATOMIC_RELEASE);
}

uint64_t spin_lock_irqsave(struct spinlock *l)
{
	spin_lock(l);
	return BIT(9);
}

void spin_unlock_irqrestore(struct spinlock *l, uint64_t flags)
{
	BUG_ON(flags != BIT(9));
	spin_unlock(l);
}

/* ---- time ---- */

static uint64_t frozen_ns; /* 0: the clock runs; atomic */

static uint64_t wall_clock_ns(void)
{
	struct timespec ts;
	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * NS_PER_SEC + (uint64_t)ts.tv_nsec;
}

uint64_t time_ns(void)
{
	uint64_t f = __atomic_load_n(&frozen_ns, __ATOMIC_SEQ_CST);
	return f ? f : wall_clock_ns();
}

uint64_t fake_tsc_hz = NS_PER_SEC;
uint64_t time_tsc_hz(void) { return fake_tsc_hz; }

uint64_t time_tsc_to_ns(uint64_t ticks) { return ticks; }

uint64_t time_ns_to_tsc(uint64_t ns) { return ns; }

uint64_t time_wall_ns(void) { return 1700000000 * NS_PER_SEC + time_ns(); }

/* Sleep on c until signalled or until `deadline` of time_ns(), at most 2 ms when the clock is frozen. m is held. */
static void cond_wait_until(pthread_cond_t *c, pthread_mutex_t *m, uint64_t deadline)
{
	uint64_t until = __atomic_load_n(&frozen_ns, __ATOMIC_SEQ_CST) ? wall_clock_ns() + 2 * NS_PER_MS
								       : MIN(deadline, wall_clock_ns() + NS_PER_SEC);
	struct timespec ts = { .tv_sec = (time_t)(until / NS_PER_SEC), .tv_nsec = (long)(until % NS_PER_SEC) };
	pthread_cond_clockwait(c, m, CLOCK_MONOTONIC, &ts);
}

/* ---- timers: one thread stands for the interrupt ---- */

static pthread_mutex_t timer_lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t timer_cond = PTHREAD_COND_INITIALIZER; /* the list or the clock changed */
static pthread_cond_t timer_idle = PTHREAD_COND_INITIALIZER; /* timer_running went NULL */
static struct list timer_list = LIST_INIT(timer_list);
static struct timer *timer_running;
static pthread_once_t timer_once = PTHREAD_ONCE_INIT;

/* Run what is due; timer_lock is held and dropped around fn. Returns the next deadline. */
static uint64_t timers_run(void)
{
	for (;;) {
		struct timer *first = NULL;
		list_for_each(t, &timer_list, struct timer, node)
			if (!first || t->deadline_ns < first->deadline_ns)
				first = t;
		if (!first || first->deadline_ns > time_ns() || timer_running)
			return first ? first->deadline_ns : TIME_NEVER;
		list_remove(&first->node);
		first->cpu = -1;
		timer_running = first;
		void (*fn)(void *) = first->fn;
		void *arg = first->arg;
		pthread_mutex_unlock(&timer_lock);
		fn(arg); /* may free or re-arm its timer */
		pthread_mutex_lock(&timer_lock);
		timer_running = NULL;
		pthread_cond_broadcast(&timer_idle);
	}
}

static void *timer_thread(void *arg)
{
	pthread_mutex_lock(&timer_lock);
	for (;;)
		cond_wait_until(&timer_cond, &timer_lock, timers_run());
	return arg;
}

static void timer_start(void)
{
	pthread_t th;
	if (pthread_create(&th, NULL, timer_thread, NULL))
		abort();
	pthread_detach(th);
}

void timer_init(struct timer *t, void (*fn)(void *arg), void *arg)
{
	*t = (struct timer){ .fn = fn, .arg = arg, .cpu = -1, .ran = -1 };
	list_init(&t->node);
}

void timer_set(struct timer *t, uint64_t deadline_ns)
{
	pthread_once(&timer_once, timer_start);
	pthread_mutex_lock(&timer_lock);
	list_remove(&t->node);
	t->deadline_ns = deadline_ns;
	t->cpu = 0;
	list_append(&timer_list, &t->node);
	pthread_cond_broadcast(&timer_cond);
	pthread_mutex_unlock(&timer_lock);
}

void timer_cancel(struct timer *t)
{
	pthread_mutex_lock(&timer_lock);
	do {
		while (timer_running == t)
			pthread_cond_wait(&timer_idle, &timer_lock);
		list_remove(&t->node);
		t->cpu = -1;
	} while (timer_running == t);
	pthread_mutex_unlock(&timer_lock);
}

void fake_time_freeze(uint64_t ns)
{
	__atomic_store_n(&frozen_ns, ns ? ns : 1, __ATOMIC_SEQ_CST);
	pthread_cond_broadcast(&timer_cond);
}

void fake_time_advance(uint64_t ns)
{
	__atomic_fetch_add(&frozen_ns, ns, __ATOMIC_SEQ_CST);
	pthread_mutex_lock(&timer_lock);
	timers_run();
	while (timer_running)
		pthread_cond_wait(&timer_idle, &timer_lock);
	pthread_mutex_unlock(&timer_lock);
}

void fake_time_thaw(void)
{
	__atomic_store_n(&frozen_ns, 0, __ATOMIC_SEQ_CST);
	pthread_cond_broadcast(&timer_cond);
}

/* ---- wait queues ---- */

struct waiter {
	struct list node;
	bool woken;
	pthread_mutex_t m;
	pthread_cond_t c;
};

const struct fake_turns *fake_turns;

void waitq_init(struct waitq *q) { list_init(&q->waiters); }

int waitq_wait(struct waitq *q, struct spinlock *l, uint64_t *flags, uint64_t deadline_ns)
{
	struct waiter w = { .m = PTHREAD_MUTEX_INITIALIZER, .c = PTHREAD_COND_INITIALIZER };
	list_append(&q->waiters, &w.node);
	spin_unlock_irqrestore(l, *flags);
	if (fake_turns)
		fake_turns->wait(&w.woken, deadline_ns);
	pthread_mutex_lock(&w.m);
	while (!fake_turns && !w.woken && time_ns() < deadline_ns)
		cond_wait_until(&w.c, &w.m, deadline_ns);
	pthread_mutex_unlock(&w.m);
	*flags = spin_lock_irqsave(l); /* a waker holds l until it is done with w */
	list_remove(&w.node);
	return w.woken ? 0 : -ETIMEDOUT;
}

void waitq_wake_one(struct waitq *q)
{
	struct waiter *w = list_first(&q->waiters, struct waiter, node);
	if (!w)
		return;
	list_remove(&w->node);
	pthread_mutex_lock(&w->m);
	w->woken = true;
	pthread_cond_signal(&w->c);
	pthread_mutex_unlock(&w->m);
}

void waitq_wake_all(struct waitq *q)
{
	while (!list_empty(&q->waiters))
		waitq_wake_one(q);
}

/* ---- CPUs and tasks ---- */

unsigned fake_cpus = 1;
unsigned cpu_count(void) { return fake_cpus; }

_Thread_local int fake_host;

struct task {
	char name[32];
	int host; /* the creator's */
	int turn;
	void (*fn)(void *arg);
	void *arg;
};
static struct task main_task = { .name = "main" };
static _Thread_local struct task *self;
static _Thread_local unsigned preempt_off;
static pthread_mutex_t task_lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t task_cond = PTHREAD_COND_INITIALIZER;
static unsigned task_live, task_live_at[4]; /* of all; of each host */

static void task_end(void *arg)
{
	struct task *t = arg;
	pthread_mutex_lock(&task_lock);
	task_live--;
	task_live_at[t->host & 3]--;
	free(t);
	pthread_cond_broadcast(&task_cond);
	pthread_mutex_unlock(&task_lock);
	if (fake_turns)
		fake_turns->leave();
}

static _Thread_local enum task_prio prio = TASK_PRIO_NORMAL;

static void *task_main(void *arg)
{
	self = arg;
	fake_host = self->host;
	if (fake_turns)
		fake_turns->enter(self->turn);
	pthread_cleanup_push(task_end, arg);
	self->fn(self->arg);
	BUG_ON(prio != TASK_PRIO_NORMAL); /* whoever raised it has lowered it again */
	pthread_cleanup_pop(1);
	return NULL;
}

struct task *task_create(const char *name, enum task_prio p unused, void (*fn)(void *arg), void *arg)
{
	struct task *t = calloc(1, sizeof(*t));
	if (!t)
		return NULL;
	snprintf(t->name, sizeof(t->name), "%s", name);
	t->fn = fn;
	t->arg = arg;
	t->host = fake_host;
	pthread_mutex_lock(&task_lock);
	task_live++;
	task_live_at[t->host & 3]++;
	pthread_mutex_unlock(&task_lock);
	t->turn = fake_turns ? fake_turns->add(t->name) : 0;
	pthread_t th;
	if (pthread_create(&th, NULL, task_main, t)) {
		task_end(t);
		return NULL;
	}
	pthread_detach(th);
	return t;
}

/* By turns: the same in their time. */
static bool tasks_wait_turns(void)
{
	bool never = false;
	for (uint64_t end = time_ns() + 3600 * NS_PER_SEC; task_live && time_ns() < end;)
		fake_turns->wait(&never, time_ns() + 10 * NS_PER_MS);
	return !task_live;
}

unsigned fake_tasks_at(int host)
{
	pthread_mutex_lock(&task_lock);
	unsigned n = task_live_at[host & 3];
	pthread_mutex_unlock(&task_lock);
	return n;
}

bool fake_tasks_wait(void)
{
	if (fake_turns)
		return tasks_wait_turns();
	uint64_t deadline = wall_clock_ns() + 10 * NS_PER_SEC;
	pthread_mutex_lock(&task_lock);
	while (task_live && wall_clock_ns() < deadline)
		cond_wait_until(&task_cond, &task_lock, deadline);
	bool ok = task_live == 0;
	pthread_mutex_unlock(&task_lock);
	return ok;
}

void task_exit(void) { pthread_exit(NULL); }

struct task *task_self(void)
{
	if (!self)
		self = &main_task; /* the test's own thread */
	return self;
}

_Thread_local unsigned fake_yields;
void task_yield(void)
{
	bool never = false;
	fake_yields++;
	if (fake_turns)
		fake_turns->wait(&never, time_ns());
	sched_yield();
}
uint64_t fake_waited_ns;
void task_times(const struct task *t unused, uint64_t *run_ns, uint64_t *wait_ns)
{
	*run_ns = 0;
	*wait_ns = fake_waited_ns;
}
__attribute__((weak)) void task_set_prio(enum task_prio p) { prio = p; }

void fake_nap(void)
{
	struct timespec ts = { .tv_nsec = 1000000 };
	nanosleep(&ts, NULL);
}

void task_sleep_until(uint64_t deadline_ns)
{
	struct spinlock l = SPINLOCK_INIT("sleep");
	struct waitq q;
	waitq_init(&q);
	uint64_t flags = spin_lock_irqsave(&l);
	while (time_ns() < deadline_ns)
		waitq_wait(&q, &l, &flags, deadline_ns);
	spin_unlock_irqrestore(&l, flags);
}

void task_set_switch_hooks(void (*in)(void *arg), void (*out)(void *arg), void *arg)
{
	(void)in, (void)out, (void)arg; /* a thread here never leaves its CPU */
}

void preempt_disable(void) { preempt_off++; }

void preempt_enable(void)
{
	BUG_ON(preempt_off == 0);
	preempt_off--;
}

void vector_begin(void) { preempt_disable(); }

void vector_end(void) { preempt_enable(); }

int fake_cpu;
int task_cpu(const struct task *t) { return t == self ? fake_cpu : -1; }

void task_for_each(void (*fn)(const struct task_info *i, void *arg), void *arg)
{
	fn(&(struct task_info){ .name = task_self()->name, .cpu = 0, .state = "running" }, arg);
}

/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The kernel tested where it runs: scheduler, locks, timers and allocators under load on all CPUs, for the rig's tests.
 * `selftest` runs everything and leaves nothing behind; `selftest panic|stack|null|key|locks` die on purpose.
 */
#include "arch/x86/cpu.h"
#include "kernel/console.h"
#include "kernel/page.h"
#include "kernel/random.h"
#include "kernel/sync.h"
#include "kernel/task.h"
#include "kernel/time.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define DEATHS    "[panic|stack|null|key|locks]"
#define TASKS_MAX 64
#define LATE_NS   (200 * NS_PER_MS) /* a rig's host may be busy; what is lost never comes at all */

static char detail[96]; /* what the running test has to say */

/* A crowd of tasks that run fn(index) and report when they are through. */
static struct sem done;
static void (*crowd_fn)(unsigned index);
static unsigned crowd_next; /* atomic */

static void crowd_task(void *arg)
{
	(void)arg;
	crowd_fn(__atomic_fetch_add(&crowd_next, 1, __ATOMIC_SEQ_CST));
	sem_up(&done);
}

static bool crowd(unsigned n, void (*fn)(unsigned index))
{
	sem_init(&done, 0);
	crowd_fn = fn;
	crowd_next = 0;
	unsigned started = 0;
	while (started < n && task_create("selftest", TASK_PRIO_NORMAL, crowd_task, NULL))
		started++;
	uint64_t deadline = time_in_ms(20000);
	for (unsigned i = 0; i < started; i++)
		if (sem_down(&done, deadline)) {
			sniprintf(detail, sizeof(detail), "%u of %u tasks never came back", started - i, started);
			return false;
		}
	return started == n;
}

/* ---- sleeping: never early, not much late ---- */

static uint64_t worst; /* atomic maximum */
static bool failed;

static void note_worst(uint64_t v)
{
	uint64_t w = __atomic_load_n(&worst, __ATOMIC_SEQ_CST);
	while (v > w && !__atomic_compare_exchange_n(&worst, &w, v, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST))
		;
}

static void sleeper(unsigned index)
{
	for (unsigned i = 0; i < 10; i++) {
		uint64_t until = time_ns() + (1 + index % 7 + i) * NS_PER_MS;
		task_sleep_until(until);
		uint64_t now = time_ns();
		if (now < until)
			failed = true;
		else
			note_worst(now - until);
	}
}

static bool test_sleep(void)
{
	bool ok = crowd(16, sleeper) && !failed && worst < LATE_NS;
	sniprintf(detail, sizeof(detail), "latest by %lu us", worst / NS_PER_US);
	return ok;
}

/* ---- wake-ups across CPUs: a ball between two tasks, four pairs ---- */

static struct sem ball[8];

static void player(unsigned index)
{
	for (unsigned i = 0; i < 2000; i++) {
		if (sem_down(&ball[index], time_in_ms(10000))) {
			failed = true;
			return;
		}
		sem_up(&ball[index ^ 1]);
	}
}

static bool test_wake(void)
{
	for (unsigned i = 0; i < 8; i++)
		sem_init(&ball[i], i % 2 == 0);
	uint64_t start = time_ns();
	bool ok = crowd(8, player) && !failed;
	sniprintf(detail, sizeof(detail), "%lu ns a wake-up", ((time_ns() - start) / 16000));
	return ok;
}

/* ---- mutex ---- */

static struct mutex mutex;
static uint64_t guarded;

static void counter(unsigned index)
{
	for (unsigned i = 0; i < 2000; i++) {
		mutex_lock(&mutex);
		uint64_t v = guarded;
		if (i % 64 == index % 64)
			task_yield();
		guarded = v + 1;
		mutex_unlock(&mutex);
	}
}

static bool test_mutex(void)
{
	mutex_init(&mutex, "selftest");
	guarded = 0;
	bool ok = crowd(8, counter);
	sniprintf(detail, sizeof(detail), "%lu of 16000", guarded);
	return ok && guarded == 16000;
}

/* ---- timed waits that race with their wake-up ---- */

static struct sem race[16];

static void racer(unsigned index)
{
	for (unsigned i = 0; i < 300; i++) {
		if (index % 2) {
			task_sleep_until(time_ns() + (50 + i % 100) * NS_PER_US);
			sem_up(&race[index / 2]);
		} else {
			(void)sem_down(&race[index / 2], time_ns() + 100 * NS_PER_US); /* either end is right */
		}
	}
}

static bool test_race(void)
{
	for (unsigned i = 0; i < 16; i++)
		sem_init(&race[i], 0);
	return crowd(16, racer);
}

/* ---- timers: each fires once and never early; a cancelled one never ---- */

static struct timer timers[64];
static uint64_t fired[64];
static unsigned nfired; /* atomic */

static void on_timer(void *arg)
{
	struct timer *t = arg;
	fired[t - timers] = time_ns();
	__atomic_fetch_add(&nfired, 1, __ATOMIC_SEQ_CST);
}

static bool test_timers(void)
{
	nfired = 0;
	memset(fired, 0, sizeof(fired));
	for (unsigned i = 0; i < 64; i++) {
		timer_init(&timers[i], on_timer, &timers[i]);
		timer_set(&timers[i], time_ns() + (i * 37 % 64) * 500 * NS_PER_US);
	}
	for (unsigned i = 1; i < 64; i += 2) {
		timer_cancel(&timers[i]);
		if (!fired[i])
			fired[i] = 1;
	}
	task_sleep_until(time_in_ms(60));
	unsigned wrong = 0;
	for (unsigned i = 0; i < 64; i += 2) {
		if (fired[i] < timers[i].deadline_ns)
			wrong++;
		else
			note_worst(fired[i] - timers[i].deadline_ns);
	}
	for (unsigned i = 1; i < 64; i += 2)
		wrong += fired[i] != 1 && fired[i] < timers[i].deadline_ns;
	sniprintf(detail, sizeof(detail), "%u fired, %u wrong, latest by %lu us", nfired, wrong, worst / NS_PER_US);
	return wrong == 0 && worst < LATE_NS;
}

/* ---- slices: busy tasks share the CPUs, an urgent one gets through ---- */

static uint64_t spins[TASKS_MAX];
static uint64_t spin_until;

static void spinner(unsigned index)
{
	while (time_ns() < spin_until)
		spins[index]++;
}

static struct completion urgent_done;

static void urgent(void *arg)
{
	(void)arg;
	for (unsigned i = 0; i < 50; i++) {
		uint64_t until = time_in_ms(2);
		task_sleep_until(until);
		note_worst(time_ns() - until);
	}
	completion_done(&urgent_done);
}

static bool test_slices(void)
{
	unsigned n = MIN(3 * cpu_count(), (unsigned)TASKS_MAX);
	memset(spins, 0, sizeof(spins));
	completion_init(&urgent_done);
	spin_until = time_in_ms(400);
	if (!task_create("selftest urgent", TASK_PRIO_IO, urgent, NULL))
		return false;
	bool ok = crowd(n, spinner) && completion_wait(&urgent_done, time_in_ms(2000)) == 0;
	uint64_t least = ~0ULL, most = 0;
	for (unsigned i = 0; i < n; i++) {
		least = MIN(least, spins[i]);
		most = MAX(most, spins[i]);
	}
	sniprintf(detail, sizeof(detail), "least %lu%% of most, urgent latest by %lu us", most ? least * 100 / most : 0,
		  worst / NS_PER_US);
	return ok && least > 0 && worst < LATE_NS;
}

/* ---- all CPUs are used ---- */

static uint64_t seen[BITMAP_WORDS(CPU_MAX)];

static void witness(unsigned index)
{
	(void)index;
	while (time_ns() < spin_until) {
		preempt_disable();
		bitmap_set_atomic(seen, this_cpu()->id);
		preempt_enable();
	}
}

static bool test_cpus(void)
{
	memset(seen, 0, sizeof(seen));
	spin_until = time_in_ms(400);
	bool ok = crowd(MIN(cpu_count(), (unsigned)TASKS_MAX), witness);
	unsigned n = 0;
	for (unsigned i = 0; i < cpu_count(); i++)
		n += bitmap_test(seen, i);
	sniprintf(detail, sizeof(detail), "%u of %u CPUs", n, cpu_count());
	return ok && n == MIN(cpu_count(), (unsigned)TASKS_MAX);
}

/* ---- allocators, from all CPUs at once ---- */

static void grabber(unsigned index)
{
	enum { SLOTS = 64 };
	struct {
		unsigned char *p;
		size_t n;
	} slot[SLOTS] = { 0 };
	uint32_t rnd = 12345 + index;
	for (unsigned i = 0; i < 4000 + SLOTS; i++) {
		unsigned s = i < 4000 ? (rnd >> 8) % SLOTS : i - 4000;
		for (size_t k = 0; k < slot[s].n; k += 97)
			if (slot[s].p[k] != (unsigned char)(index + s))
				failed = true;
		free(slot[s].p);
		slot[s].p = NULL;
		slot[s].n = 0;
		rnd = rnd * 1664525 + 1013904223;
		if (i >= 4000)
			continue;
		size_t n = 1 + (rnd >> 4) % (rnd % 8 == 0 ? 20000 : 600);
		slot[s].p = malloc(n);
		if (!slot[s].p)
			continue;
		slot[s].n = n;
		memset(slot[s].p, (int)(index + s), n);
	}
}

static bool test_malloc(void) { return crowd(8, grabber) && !failed; }

static void nothing(unsigned index) { (void)index; }

static bool test_churn(void)
{
	for (unsigned i = 0; i < 20; i++)
		if (!crowd(16, nothing))
			return false;
	return true;
}

/* ---- CPU time by weight ---- */

static struct task_share shares[2];
static unsigned first_has; /* tasks of shares[0] */
static uint64_t spent[2], spend_until;

static void spender(unsigned index)
{
	unsigned which = index >= first_has;
	uint64_t ran, waited;
	task_set_share(&shares[which]);
	while (time_ns() < spend_until)
		cpu_relax();
	task_times(task_self(), &ran, &waited);
	__atomic_fetch_add(&spent[which], ran, __ATOMIC_RELAXED);
	task_set_share(NULL);
}

/* n[0] busy tasks with one weight and n[1] with the other: what the first get for 10 that the others get. */
static uint64_t share_out(const unsigned weight[2], const unsigned n[2])
{
	for (unsigned i = 0; i < 2; i++) {
		shares[i] = (struct task_share){ .weight = weight[i] };
		spent[i] = 0;
	}
	first_has = n[0];
	spend_until = time_in_ms(800);
	return crowd(n[0] + n[1], spender) ? spent[0] * 10 / MAX(spent[1], 1UL) : 0;
}

static bool test_shares(void)
{
	/* Ten times what a guest has: one may run beside, and what it takes of one CPU is no share's fault. */
	uint64_t by_weight = share_out((unsigned[]){ 3000, 1000 }, (unsigned[]){ 4, 4 });
	uint64_t whatever_number = share_out((unsigned[]){ 1000, 1000 }, (unsigned[]){ 2, 8 });
	sniprintf(detail, sizeof(detail), "weights 3:1 get %lu:10, 2 tasks beside 8 get %lu:10", by_weight,
		  whatever_number);
	return by_weight > 18 && by_weight < 45 && whatever_number > 5 && whatever_number < 20; /* by turns: 10, 2 */
}

static const struct {
	const char *name;
	bool (*fn)(void);
	/* clang-format off */
} tests[] = {
	{ "sleep", test_sleep }, { "wake", test_wake },     { "mutex", test_mutex },
	{ "race", test_race },   { "timers", test_timers }, { "slices", test_slices },
	{ "cpus", test_cpus },   { "malloc", test_malloc }, { "churn", test_churn },
	{ "shares", test_shares },
};
/* clang-format on */

/* Ended tasks are freed behind our back: wait until the number of free pages stands still. */
static uint64_t settled_free_pages(void)
{
	uint64_t deadline = time_in_ms(10000), n = page_free_count();
	for (unsigned same = 0; same < 10 && time_ns() < deadline; same++) {
		task_sleep_until(time_in_ms(30));
		if (page_free_count() != n)
			same = 0;
		n = page_free_count();
	}
	return n;
}

static int run_all(struct con *c)
{
	unsigned nfailed = 0;
	out_table(c, "tests", "-8 name, -4 ok, -60 detail", NULL);
	(void)test_churn(); /* once before counting: slabs that are kept */
	uint64_t free_before = settled_free_pages();
	for (unsigned i = 0; i < ARRAY_SIZE(tests); i++) {
		worst = 0;
		failed = false;
		detail[0] = 0;
		bool ok = tests[i].fn();
		nfailed += !ok;
		out_row(c);
		out_str(c, "name", tests[i].name);
		out_bool(c, "ok", ok);
		out_str(c, "detail", detail);
		out_row_end(c);
	}
	out_table_end(c);
	int64_t leaked = (int64_t)(free_before - settled_free_pages());
	nfailed += leaked > 64; /* slabs that the allocator keeps */
	out_i64(c, "pages_leaked", leaked);
	out_u64(c, "failed", nfailed);
	return nfailed ? -EIO : 0;
}

static __attribute__((noinline)) unsigned dig(volatile char *above)
{
	volatile char here[512];
	here[0] = above ? above[0] : 1;
	if (!here[0]) /* never, but newer compilers refuse a recursion that has no end */
		return 0;
	return dig(here) + (unsigned)here[0];
}

/* Die as `how` says. Returns if there is no such way. */
static void die(const char *how)
{
	static volatile int *volatile null_page =
		(volatile int *)8; /* volatile: compilers know that nothing lies there */

	if (!strcmp(how, "panic"))
		panic("selftest: on purpose");
	if (!strcmp(how, "null"))
		*null_page = 1;
	if (!strcmp(how, "stack"))
		(void)dig(NULL);
	if (!strcmp(how, "key"))
		random_bytes((void *)null_page, 16);
	if (!strcmp(how, "locks")) {
		static struct spinlock a = SPINLOCK_INIT("first"), b = SPINLOCK_INIT("second");
		for (unsigned i = 0; i < 2; i++) {
			spin_lock(i ? &b : &a);
			spin_lock(i ? &a : &b);
			spin_unlock(i ? &a : &b);
			spin_unlock(i ? &b : &a);
		}
	}
}

static int cmd_selftest(struct con *c, int argc, char **argv)
{
	if (argc == 1)
		return run_all(c);
	die(argv[1]);
	return con_error(c, -EINVAL, "selftest: unknown argument %s. Usage: selftest " DEATHS, argv[1]);
}
CONSOLE_CMD(selftest, DEATHS, "", "selftest", cmd_selftest, NULL);

/* SPDX-License-Identifier: BSD-2-Clause */
/* The turns of fake_turns.h: a thread for each task, of which one has the turn. */
#include "tests/unit/fake_turns.h"
#include "kernel/base/err.h"
#include "kernel/time.h"
#include "tests/unit/fake_kernel.h"
#include <pthread.h>
#include <stdio.h>
#include <string.h>

#define TURNS  64
#define RUN_NS 1000 /* what a task runs between two waits: no loop stands still in time */

struct turn {
	bool used;
	char name[32];
	const bool *woken; /* NULL: it does not wait */
	uint64_t deadline_ns;
	pthread_cond_t c;
};
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct turn turns[TURNS];
static int current; /* who has the turn */
static _Thread_local int me;
static uint64_t state = 1;

/* xorshift64* */
uint64_t fake_turns_draw(void)
{
	state ^= state >> 12, state ^= state << 25, state ^= state >> 27;
	return (state * 0x2545f4914f6cdd1dULL) >> 16;
}

void fake_turns_seed(uint64_t seed) { state = seed * 0x9e3779b97f4a7c15ULL | 1; }

static bool may_run(const struct turn *t, uint64_t now)
{
	return t->used && (!t->woken || *t->woken || t->deadline_ns <= now);
}

static void all_wait_for_ever(void)
{
	char names[TURNS * 34] = "";
	for (int i = 0; i < TURNS; i++)
		if (turns[i].used)
			snprintf(names + strlen(names), 34, " %s", turns[i].name);
	panic("all wait for ever:%s", names);
}

/* Who is next; the clock goes on to where there is one. The lock is held. */
static int pick(void)
{
	for (;;) {
		uint64_t now = time_ns(), first = TIME_NEVER;
		unsigned n = 0;
		for (int i = 0; i < TURNS; i++) {
			n += may_run(&turns[i], now);
			if (turns[i].used && turns[i].woken)
				first = MIN(first, turns[i].deadline_ns);
		}
		if (!n && first == TIME_NEVER)
			all_wait_for_ever();
		if (!n) {
			fake_time_freeze(first);
			continue;
		}
		fake_time_freeze(now + RUN_NS);
		uint64_t k = fake_turns_draw() % n;
		for (int i = 0;; i++)
			if (may_run(&turns[i], now) && !k--)
				return i;
	}
}

static void take(void)
{
	while (current != me)
		pthread_cond_wait(&turns[me].c, &lock);
}

static void give_to(int next)
{
	current = next;
	if (next != me)
		pthread_cond_signal(&turns[next].c);
}

static void turn_wait(const bool *woken, uint64_t deadline_ns)
{
	BUG_ON(fake_spinlocks); /* who sleeps holds none */
	pthread_mutex_lock(&lock);
	turns[me].woken = woken;
	turns[me].deadline_ns = deadline_ns;
	give_to(pick());
	take();
	turns[me].woken = NULL;
	pthread_mutex_unlock(&lock);
}

static int turn_add(const char *name)
{
	int i = 0;
	pthread_mutex_lock(&lock);
	while (i < TURNS && turns[i].used)
		i++;
	BUG_ON(i == TURNS);
	turns[i].used = true;
	turns[i].woken = NULL;
	snprintf(turns[i].name, sizeof(turns[i].name), "%s", name);
	pthread_cond_init(&turns[i].c, NULL);
	pthread_mutex_unlock(&lock);
	return i;
}

static void turn_enter(int turn)
{
	pthread_mutex_lock(&lock);
	me = turn;
	take();
	pthread_mutex_unlock(&lock);
}

static void turn_leave(void)
{
	pthread_mutex_lock(&lock);
	turns[me].used = false;
	int next = pick();
	current = next;
	pthread_cond_signal(&turns[next].c);
	pthread_mutex_unlock(&lock);
}

void fake_turns_begin(uint64_t start_ns)
{
	static const struct fake_turns ops = {
		.add = turn_add, .enter = turn_enter, .leave = turn_leave, .wait = turn_wait
	};
	fake_time_freeze(start_ns);
	me = current = turn_add("main");
	fake_turns = &ops;
}

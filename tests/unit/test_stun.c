/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The budget of a vCPU that is slowed (vmm/x86/stun.c), with a clock of the test's: over a second it runs for its share
 * and sleeps for the rest, which its guest is told, whatever it does in between; and it is off at once.
 */
#include "kernel/task.h"
#include "vmm/x86/vcpu.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

static uint64_t now, run_ns, armed_ns;
static unsigned slept, kicks;
static void (*in_sleep)(void);
static struct vcpu v;
static struct vcpu *vcpus[1] = { &v };
static struct vm vm = { .vcpus = vcpus, .nvcpus = 1 };

uint64_t time_ns(void) { return now; }
void task_times(const struct task *t unused, uint64_t *run, uint64_t *wait) { *run = run_ns, *wait = 0; }
void timer_init(struct timer *t, void (*fn)(void *arg), void *arg) { t->fn = fn, t->arg = arg; }
void timer_set(struct timer *t unused, uint64_t at) { armed_ns = at; }
void timer_cancel(struct timer *t unused) { armed_ns = 0; }
void vcpu_kick(struct vcpu *who)
{
	assert_ptr_equal(who, &v);
	kicks++;
}
void spin_lock(struct spinlock *l unused) {}
void spin_unlock(struct spinlock *l unused) {}
uint64_t spin_lock_irqsave(struct spinlock *l unused) { return 0; }
void spin_unlock_irqrestore(struct spinlock *l unused, uint64_t flags unused) {}
int waitq_wait(struct waitq *q unused, struct spinlock *l unused, uint64_t *flags unused, uint64_t until)
{
	slept++;
	if (in_sleep) {
		now += (until - now) / 2;
		in_sleep();
		return 0;
	}
	now = until;
	return -ETIMEDOUT;
}

static int each(void **state unused)
{
	memset(&v, 0, sizeof(v));
	v.vm = &vm;
	v.want = VCPU_WANT_RUN;
	stun_init(&v);
	now = 5 * NS_PER_SEC;
	run_ns = 77;
	armed_ns = slept = kicks = 0;
	in_sleep = NULL;
	return 0;
}

/* As the vCPU's task does it: in the guest until an exit, which comes after `exits` ns at the latest, or the kick. */
static void run_for(uint64_t ns, uint64_t exits, uint64_t halts)
{
	for (uint64_t end = now + ns; now < end;) {
		if (v.stun.share != STUN_FULL)
			stun_rest(&v);
		uint64_t stay = exits;
		if (armed_ns > now)
			stay = MIN(stay, armed_ns - now);
		now += stay;
		run_ns += stay;
		if (armed_ns && now >= armed_ns) {
			armed_ns = 0;
			v.stun.timer.fn(v.stun.timer.arg);
		}
		now += halts; /* HLT */
	}
}

static void test_its_share(void **state unused)
{
	const uint32_t shares[] = { STUN_LEAST, 300, 6400, 32768, 64000, STUN_FULL - 1 };
	for (unsigned i = 0; i < ARRAY_SIZE(shares); i++)
		for (uint64_t exits = 3 * NS_PER_US; exits <= 300 * NS_PER_MS; exits *= 10) {
			each(NULL);
			stun_set(&vm, &shares[i]);
			assert_int_equal(kicks, 1);
			stun_set(&vm, &shares[i]); /* as it is */
			assert_int_equal(kicks, 1);
			run_for(NS_PER_SEC, exits, 0);
			uint64_t want = NS_PER_SEC * shares[i] / STUN_FULL;
			assert_in_range(run_ns - 77, want - want / 20, want + want / 20 + exits % (10 * NS_PER_MS));
			assert_in_range(v.stun.rested_ns + run_ns - 77, NS_PER_SEC, NS_PER_SEC + 20 * NS_PER_MS);
		}
}

/* Who sleeps by itself anyway is not made to sleep more. */
static void test_halted_guest(void **state unused)
{
	uint32_t share = 20000;
	stun_set(&vm, &share);
	run_for(NS_PER_SEC, 100 * NS_PER_US, 900 * NS_PER_US);
	assert_int_equal(v.stun.rested_ns, 0);
	assert_int_equal(slept, 0);
}

static void let_go(void) { stun_set(&vm, NULL); }
static void park(void) { v.want = VCPU_WANT_PARK; }

static void test_off_at_once(void **state unused)
{
	void (*const ends[])(void) = { let_go, park };
	for (unsigned i = 0; i < ARRAY_SIZE(ends); i++) {
		uint32_t share = 640;
		each(NULL);
		stun_set(&vm, &share);
		in_sleep = ends[i];
		while (!slept)
			run_for(1, NS_PER_MS, 0);
		assert_int_equal(slept, 1);
		assert_true(v.stun.rested_ns < STUN_PERIOD_NS && v.stun.rested_ns);
		stun_stop(&v);
		assert_int_equal(armed_ns, 0);
	}
	/* A new one begins with a budget of its own. */
	uint32_t share = STUN_FULL / 2;
	each(NULL);
	run_for(NS_PER_SEC, NS_PER_MS, 0);
	stun_set(&vm, &share);
	stun_rest(&v);
	assert_int_equal(slept, 0);
	assert_int_equal(armed_ns, now + STUN_PERIOD_NS / 2);
}

static void test_samples(void **state unused)
{
	uint32_t n = 9;
	stun_wrote(&v);
	stun_wrote(&v);
	stun_take_samples(&vm, &n);
	assert_int_equal(n, 2);
	stun_take_samples(&vm, &n);
	assert_int_equal(n, 0);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup(f, each)
	const struct CMUnitTest tests[] = { T(test_its_share), T(test_halted_guest), T(test_off_at_once),
					    T(test_samples) };
	return cmocka_run_group_tests_name("stun", tests, NULL, NULL);
}

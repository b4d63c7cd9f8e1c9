/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * PV_TLB_FLUSH in every order (pv.h): a guest's CPU that changes a page table leaves its flush in another's `preempted`
 * if that has no CPU, else it asks by an IPI and waits. Whoever is told "done" must be right: that vCPU uses no old
 * translation any more.
 *
 *   flusher (Linux, kvm_flush_tlb_multi)       vCPU, the code of pv.c and the order of enter_guest in vcpu.c
 *     page table = new                           loses its CPU, with interrupts on, anywhere: or-s PREEMPTED in
 *     look at preempted                          gets one: `switched`; pv_resume exchanges preempted for 0
 *     compare-and-swap FLUSH_TLB in, or IPI      flush at the entry; the stay, with a TLB of one entry
 *
 * pv.c is compiled into the test: before each of its atomic operations, and between the steps of the model, any of
 * the others may have its turn. Every such schedule is run, up to the bounds below; and it is seen to find what is
 * wrong with entries and resumes that are.
 */
#include "kernel/task.h"
#include "tests/unit/fake_kernel.h"
#include "tests/unit/fake_vm.h"
#include "vmm/x86/exit.h"
#include <string.h>

static void step(void);
static struct vcpu *v;
/* The words that several look at; the version of what it waited is the guest's own affair. */
static void step_at(const volatile void *p)
{
	if (p == &v->flush)
		step();
}
#define __atomic_exchange_n(p, v, o) (step(), __atomic_exchange_n(p, v, o))
#define __atomic_fetch_or(p, v, o)   (step(), __atomic_fetch_or(p, v, o))
#define __atomic_store_n(p, v, o)    (step_at(p), __atomic_store_n(p, v, o))
#include "vmm/x86/pv.c"
#undef __atomic_exchange_n
#undef __atomic_fetch_or
#undef __atomic_store_n

#define AREA    0x20000ULL
#define STAYS   2 /* of the vCPU in its guest */
#define LOSSES  2 /* of its CPU */
#define FLUSHES 2
#define DEEPEST 200

static uint8_t *preempted;
static bool irqs_on;
static unsigned losses, old_used;

/* ---- what may happen next: all of it, one after the other ---- */

static struct {
	uint8_t chosen, of;
} choice[DEEPEST];
static unsigned depth;

static unsigned choose(unsigned n)
{
	assert_true(depth < DEEPEST);
	choice[depth].of = (uint8_t)n;
	return choice[depth++].chosen;
}

static bool next_schedule(void)
{
	while (depth && ++choice[depth - 1].chosen == choice[depth - 1].of)
		choice[--depth].chosen = 0;
	bool more = depth;
	depth = 0;
	return more;
}

/* ---- the flusher ---- */

enum { CHANGE, LOOK, SWAP, IPI, ANSWER, END };
static struct {
	unsigned at, flushes;
	uint8_t seen;
	unsigned table, done; /* versions of the page table: it is, and every CPU is taken to have seen */
	bool ipi;
} other;

static bool other_can(void) { return other.at != END && !(other.at == ANSWER && other.ipi); }

static void other_done(void)
{
	other.done = other.table;
	other.at = ++other.flushes == FLUSHES ? END : CHANGE;
}

static void other_step(void)
{
	switch (other.at) {
	case CHANGE: other.table++, other.at = LOOK; break;
	case LOOK: other.seen = *preempted, other.at = other.seen & PREEMPTED ? SWAP : IPI; break;
	case SWAP:
		if (*preempted != other.seen) {
			other.at = IPI;
			break;
		}
		*preempted |= FLUSH_TLB;
		other_done();
		break;
	case IPI: other.ipi = true, other.at = ANSWER; break;
	case ANSWER: other_done(); break;
	}
}

/* ---- the vCPU ---- */

static void lose_cpu(void)
{
	irqs_on = false;
	losses++;
	pv_switch_out(v);
	step();
	pv_switch_in(&v->pv);
	irqs_on = true;
}

static void step(void)
{
	for (;;) {
		bool can = other_can(), may = irqs_on && losses < LOSSES;
		unsigned c = can || may ? choose(1U + can + may) : 0;
		if (c == 0)
			return;
		if (c == 1 && can)
			other_step();
		else
			lose_cpu();
	}
}

static struct {
	bool valid;
	unsigned version;
} tlb;

static void stay(void)
{
	for (unsigned i = 0; i < 2; i++) {
		step();
		if (other.ipi)
			tlb.valid = other.ipi = false;
		if (!tlb.valid)
			tlb.valid = true, tlb.version = other.table;
		old_used += tlb.version < other.done;
	}
}

static void flush(void)
{
	step();
	if (v->flush) {
		v->flush = 0;
		step();
		tlb.valid = false;
	}
}

/* As vcpu.c's enter_guest. */
static bool enter(void)
{
	irqs_on = false;
	bool in = !v->pv.switched;
	if (in) {
		flush();
		stay();
	}
	irqs_on = true;
	return in;
}

/* Mistakes. */
static bool enter_flushes_after(void)
{
	irqs_on = false;
	bool in = !v->pv.switched;
	if (in) {
		stay();
		flush();
	}
	irqs_on = true;
	return in;
}
static bool enter_without_a_look(void)
{
	irqs_on = false;
	flush();
	stay();
	irqs_on = true;
	return true;
}
static void resume_clears_first(struct vcpu *c)
{
	c->pv.switched = false;
	step();
	*preempted = 0;
	step();
	if (*preempted & FLUSH_TLB)
		c->flush = 1;
}
static void resume_clears_after(struct vcpu *c)
{
	c->pv.switched = false;
	step();
	if (*preempted & FLUSH_TLB)
		c->flush = 1;
	step();
	*preempted = 0;
}
static void resume_is_done_last(struct vcpu *c)
{
	pv_resume(c);
	step();
	c->pv.switched = false;
}

static unsigned schedules(bool (*enters)(void), void (*resumes)(struct vcpu *))
{
	unsigned n = 0;
	old_used = 0;
	memset(choice, 0, sizeof(choice));
	do {
		memset(preempted - STEAL_PREEMPTED, 0, STEAL_SIZE);
		memset(&other, 0, sizeof(other));
		v->pv.switched = false;
		v->flush = losses = 0;
		tlb.valid = true, tlb.version = 0; /* it has been in the guest */
		irqs_on = true;
		for (unsigned stays = 0; stays < STAYS;) {
			step();
			if (v->pv.switched)
				resumes(v);
			stays += enters();
		}
		n++;
	} while (next_schedule() && !old_used);
	return n;
}

static void test_orders(void **state unused)
{
	unsigned n = schedules(enter, pv_resume);
	assert_int_equal(old_used, 0);
	assert_true(n > 1000000); /* no step has been lost */
}

static void test_mistakes_are_seen(void **state unused)
{
	schedules(enter_flushes_after, pv_resume);
	assert_true(old_used);
	schedules(enter_without_a_look, pv_resume);
	assert_true(old_used);
	schedules(enter, resume_clears_first);
	assert_true(old_used);
	schedules(enter, resume_clears_after);
	assert_true(old_used);
	schedules(enter, resume_is_done_last);
	assert_true(old_used);
}

static int setup(void **state)
{
	struct fv *f = *state = fv_new();
	v = &f->vcpu;
	v->pv.s.steal_time = AREA | ENABLED;
	preempted = (uint8_t *)gmem_ptr(&f->vm.mem, AREA, STEAL_SIZE) + STEAL_PREEMPTED;
	return 0;
}
static int teardown(void **state)
{
	fv_free(*state);
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_orders), cmocka_unit_test(test_mistakes_are_seen) };
	return cmocka_run_group_tests(tests, setup, teardown);
}

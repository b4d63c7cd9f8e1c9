/* SPDX-License-Identifier: BSD-2-Clause */
#include "vmm/x86/stun.h"
#include "kernel/task.h"
#include "kernel/time.h"
#include "vmm/x86/vcpu.h"

#define DEBT_MAX 20UL /* periods: a long stay in tern, for the guest, is not paid for in seconds */

static uint64_t ran(const struct vcpu *v)
{
	uint64_t run, wait;
	task_times(v->task, &run, &wait);
	return run;
}

static uint64_t waited(const struct vcpu *v)
{
	uint64_t run, wait;
	task_times(v->task, &run, &wait);
	return wait;
}

static void budget_over(void *arg) { vcpu_kick(arg); }

void stun_init(struct vcpu *v)
{
	v->stun.share = STUN_FULL;
	timer_init(&v->stun.timer, budget_over, v);
}

/* Until then, or until it is wanted for something else, or its share changes. */
static void sleep_until(struct vcpu *v, uint32_t share, uint64_t until_ns)
{
	uint64_t flags = spin_lock_irqsave(&v->lock), since = time_ns(), before = waited(v);
	while (v->want == VCPU_WANT_RUN && __atomic_load_n(&v->stun.share, __ATOMIC_RELAXED) == share &&
	       waitq_wait(&v->wq, &v->lock, &flags, until_ns) == 0)
		;
	uint64_t all = time_ns() - since, for_a_cpu = waited(v) - before; /* that is stolen already */
	v->stun.rested_ns += all - MIN(all, for_a_cpu);
	spin_unlock_irqrestore(&v->lock, flags);
	v->pv.switched = true; /* its guest is told */
}

void stun_rest(struct vcpu *v)
{
	struct vcpu_stun *s = &v->stun;
	uint32_t share = __atomic_load_n(&s->share, __ATOMIC_RELAXED);
	uint64_t budget = STUN_PERIOD_NS * share / STUN_FULL, now = time_ns(), used = ran(v) - s->ran_ns;
	bool owes = used >= budget && now - s->period_ns < (DEBT_MAX + 1) * STUN_PERIOD_NS;
	if (owes) /* what it took too much costs it as many periods more */
		sleep_until(v, share, s->period_ns + MIN(used / budget, DEBT_MAX) * STUN_PERIOD_NS);
	now = time_ns();
	if (now - s->period_ns >= STUN_PERIOD_NS) {
		s->ran_ns = ran(v) - (owes ? used % budget : 0);
		s->period_ns = now;
		used = ran(v) - s->ran_ns;
	}
	if (used >= budget || (s->armed_ns > now && s->armed_ns <= now + budget - used)) /* early: one more look here */
		return;
	s->armed_ns = now + budget - used;
	timer_set(&s->timer, s->armed_ns);
}

void stun_stop(struct vcpu *v)
{
	timer_cancel(&v->stun.timer);
	v->stun.armed_ns = 0;
}

void stun_wrote(struct vcpu *v) { __atomic_fetch_add(&v->stun.samples, 1, __ATOMIC_RELAXED); }

void stun_set(struct vm *vm, const uint32_t *share)
{
	for (unsigned i = 0; i < vm->nvcpus; i++) {
		uint32_t to = share ? share[i] : STUN_FULL;
		if (__atomic_exchange_n(&vm->vcpus[i]->stun.share, to, __ATOMIC_RELAXED) != to)
			vcpu_kick(vm->vcpus[i]);
	}
}

void stun_take_samples(struct vm *vm, uint32_t *sample)
{
	for (unsigned i = 0; i < vm->nvcpus; i++)
		sample[i] = __atomic_exchange_n(&vm->vcpus[i]->stun.samples, 0, __ATOMIC_RELAXED);
}

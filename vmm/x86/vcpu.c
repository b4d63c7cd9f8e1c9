/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The vCPU's task. Its loop: look at requests, let the LAPIC decide, enter the guest, handle the exit.
 *
 * Kicks and flushes meet the entry through two variables, both sides with full barriers:
 *
 *   vCPU:   seq = odd;  fence;  if (kicked) back out      others:  kicked = 1 (flush = 1);  fence;  if (seq odd) IPI
 *
 * Either the vCPU sees the request before it enters, or the other side sees it inside and interrupts it.
 */
#include "kernel/lock_order.h"
#include "kernel/task.h"
#include "vmm/x86/vcpu.h"
#include "arch/x86/cpu.h"
#include "arch/x86/irq.h"
#include "vmm/x86/cpu_check.h"
#include "vmm/x86/exit.h"
#include "vmm/x86/msr.h"
#include "vmm/x86/guest_clock.h"
#include "vmm/x86/halt_poll.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct hv_ops *hv(void) { return vmm_hv(); }
static void load_hook(void *arg)
{
	struct vcpu *v = arg;
	pv_switch_in(&v->pv);
	hv()->load(v->hv);
}
static void put_hook(void *arg)
{
	struct vcpu *v = arg;
	hv()->put(v->hv);
	pv_switch_out(v);
}

void vcpu_kick(struct vcpu *v)
{
	__atomic_store_n(&v->kicked, 1, __ATOMIC_SEQ_CST);
	if (__atomic_load_n(&v->seq, __ATOMIC_SEQ_CST) & 1) {
		irq_ipi(__atomic_load_n(&v->cpu, __ATOMIC_RELAXED), IRQ_VEC_RESCHED);
		return;
	}
	uint64_t flags = spin_lock_irqsave(&v->lock);
	waitq_wake_all(&v->wq);
	spin_unlock_irqrestore(&v->lock, flags);
}

void vcpu_flush_begin(struct vcpu *v)
{
	__atomic_store_n(&v->flush, 1, __ATOMIC_SEQ_CST);
	if (!(__atomic_load_n(&v->seq, __ATOMIC_SEQ_CST) & 1))
		return; /* outside: it takes new translations before it is in again */
	__atomic_store_n(&v->kicked, 1, __ATOMIC_SEQ_CST);
	irq_ipi(__atomic_load_n(&v->cpu, __ATOMIC_RELAXED), IRQ_VEC_RESCHED);
}

void vcpu_flush_wait(struct vcpu *v)
{
	while (__atomic_load_n(&v->flush, __ATOMIC_SEQ_CST) && (__atomic_load_n(&v->seq, __ATOMIC_SEQ_CST) & 1))
		cpu_relax(); /* an IPI's latency: the guest cannot put it off */
}

/* One stay in the guest; false if a request came first. */
static bool enter_guest(struct vcpu *v, struct vmexit *x)
{
	if (__atomic_load_n(&v->stun.share, __ATOMIC_RELAXED) != STUN_FULL)
		stun_rest(v);
	cpu_irq_off();
	LOCK_ORDER(lock_order_none());
	__atomic_store_n(&v->kicked, 0, __ATOMIC_SEQ_CST); /* what came before this is looked at below */
	events_inject(v);
	const struct cpu *c = this_cpu();
	__atomic_store_n(&v->cpu, c->id, __ATOMIC_RELAXED);
	__atomic_add_fetch(&v->seq, 1, __ATOMIC_SEQ_CST);
	if (__atomic_load_n(&v->kicked, __ATOMIC_SEQ_CST) ||
	    __atomic_load_n(&v->want, __ATOMIC_RELAXED) != VCPU_WANT_RUN || vcpu_has_init(v) ||
	    __atomic_load_n(&c->need_resched, __ATOMIC_RELAXED) || v->pv.switched) {
		__atomic_add_fetch(&v->seq, 1, __ATOMIC_SEQ_CST);
		cpu_irq_on();
		if (v->pv.eoi_left)
			pv_take_eoi(v);
		preempt_disable();
		preempt_enable(); /* whoever is to run instead runs here */
		return false;
	}
	if (__atomic_load_n(&v->flush, __ATOMIC_RELAXED)) {
		__atomic_store_n(&v->flush, 0, __ATOMIC_SEQ_CST);
		hv()->flush_tlb(v->hv);
	}
	hv()->enter(v->hv, x);
	__atomic_add_fetch(&v->seq, 1, __ATOMIC_SEQ_CST);
	vlapic_set_cr8(&v->lapic, v->hv->cr8);
	cpu_irq_on(); /* a host interrupt that ended the stay is taken here, and with it another task's turn */
	if (v->pv.eoi_left)
		pv_take_eoi(v);
	return true;
}

void vcpu_rest(struct vcpu *v, uint64_t until_ns)
{
	uint64_t flags = spin_lock_irqsave(&v->lock);
	while (v->want == VCPU_WANT_RUN && waitq_wait(&v->wq, &v->lock, &flags, until_ns) == 0)
		;
	spin_unlock_irqrestore(&v->lock, flags);
}

/*
 * In HLT, or waiting for SIPI: sleep until something ends that, or somebody wants us. The look is without the lock, for
 * the local APIC may kick its own vCPU (a timer with an illegal vector raises the error interrupt); who kicks sets
 * kicked before.
 */
static void wait_halted(struct vcpu *v)
{
	uint64_t since = time_ns();
	for (bool end = false, polled = false; !end;) {
		__atomic_store_n(&v->kicked, 0, __ATOMIC_SEQ_CST);
		end = events_end_wait(v);
		if (!end && !polled) {
			polled = true;
			if (halt_poll(v))
				continue;
		}
		uint64_t flags = spin_lock_irqsave(&v->lock);
		end |= v->want != VCPU_WANT_RUN;
		if (!end && !__atomic_load_n(&v->kicked, __ATOMIC_SEQ_CST))
			waitq_wait(&v->wq, &v->lock, &flags, TIME_NEVER);
		spin_unlock_irqrestore(&v->lock, flags);
	}
	v->halt_poll_ns = halt_poll_next(v->halt_poll_ns, time_ns() - since);
}

static void leave_hardware(struct vcpu *v)
{
	cpu_irq_off();
	task_set_switch_hooks(NULL, NULL, NULL);
	hv()->put(v->hv);
	cpu_irq_on();
}

static void enter_hardware(struct vcpu *v)
{
	cpu_irq_off();
	task_set_switch_hooks(load_hook, put_hook, v);
	hv()->load(v->hv);
	cpu_irq_on();
}

static int load_state(struct vcpu *v, struct why *w)
{
	int err = cpu_state_check(v->state, &v->vm->cpuid, w);
	return err ? err : hv()->set_state(v->hv, v->state, w);
}

/*
 * A CPU with LA57 lets a process load a base of 57 bits (WRFSBASE, SDM 3A 4.5.4) that the CPU which the guest was told
 * of refuses: what it would be there cannot be loaded anywhere else. The guest keeps the 48 bits that its page tables
 * reach.
 */
static uint64_t canonical48(uint64_t base) { return (uint64_t)((int64_t)(base << 16) >> 16); }

static void save_state(struct vcpu *v)
{
	hv()->get_state(v->hv, v->state);
	v->state->seg[SEG_FS].base = canonical48(v->state->seg[SEG_FS].base);
	v->state->seg[SEG_GS].base = canonical48(v->state->seg[SEG_GS].base);
	v->state->kernel_gs_base = canonical48(v->state->kernel_gs_base);
	cpuid_table_trim(&v->vm->cpuid, v->state);
}

struct cpu_state *vcpu_state_take(struct vcpu *v)
{
	leave_hardware(v);
	save_state(v);
	return v->state;
}

void vcpu_state_give(struct vcpu *v)
{
	struct why w = { "" };
	if (load_state(v, &w))
		vm_fail(v->vm, "the CPU refused to run it: %s", w.text);
	enter_hardware(v);
}

/* Sleep off the hardware, state in v->state, until told to run (true) or quit (false). */
static bool stay_parked(struct vcpu *v, bool on_hardware)
{
	if (on_hardware) {
		leave_hardware(v);
		events_stop_timer(v);
		stun_stop(v);
		save_state(v);
		events_save(v);
		v->state->tsc = guest_tsc(v->vm);
	}
	uint64_t flags = spin_lock_irqsave(&v->lock);
	v->parked = true;
	waitq_wake_all(&v->wq);
	while (v->want == VCPU_WANT_PARK)
		waitq_wait(&v->wq, &v->lock, &flags, TIME_NEVER);
	bool run = v->want == VCPU_WANT_RUN;
	v->parked = !run;
	spin_unlock_irqrestore(&v->lock, flags);
	if (run) {
		v->events.timer_check = 1;
		pv_begin(v);
		hv()->set_tsc(v->hv, v->vm->tsc_offset, v->vm->tsc_ratio);
		enter_hardware(v);
	}
	return run;
}

static void vcpu_task(void *arg)
{
	struct vcpu *v = arg;
	bool on_hardware = false;
	task_set_share(&v->vm->share);
	for (;;) {
		if (__atomic_load_n(&v->want, __ATOMIC_ACQUIRE) != VCPU_WANT_RUN || !on_hardware) {
			if (!stay_parked(v, on_hardware))
				break;
			on_hardware = true;
		}
		struct vmexit x;
		while (!vcpu_waits(v) && enter_guest(v, &x)) /* which looks for all else that is to be done here */
			exit_handle(v, &x);
		if (vcpu_waits(v))
			wait_halted(v);
		else if (v->pv.switched)
			pv_resume(v);
		if (vcpu_has_init(v))
			events_take_init(v);
	}
	task_set_share(NULL);
	completion_done(&v->gone);
}

int vcpu_create(struct vm *vm, unsigned id, struct vcpu **out)
{
	struct hv_vcpu_params p = { .npt_root = vm->mem.pt.root,
				    .msr_pass = msr_pass_list,
				    .nmsr_pass = nmsr_pass_list };
	struct vcpu *v = calloc(1, sizeof(*v));
	if (!v)
		return err_trace(-ENOMEM);
	v->vm = vm;
	v->id = id;
	v->want = VCPU_WANT_PARK;
	v->msr.mtrr_def_type = VCPU_MTRR_RESET;
	spin_init(&v->lock, "vcpu");
	waitq_init(&v->wq);
	completion_init(&v->gone);
	events_init(v);
	stun_init(v);
	vlapic_init(&v->lapic, &vm->apics, id);
	v->state = calloc(1, sizeof(*v->state));
	v->hv = hv()->create(&p);
	char name[24];
	snprintf(name, sizeof(name), "%.16s/%u", vm->cfg.name, id);
	if (!v->state || !v->hv || !(v->task = task_create(name, TASK_PRIO_NORMAL, vcpu_task, v))) {
		if (v->hv)
			hv()->destroy(v->hv);
		free(v->state);
		free(v);
		return err_trace(-ENOMEM);
	}
	*out = v;
	return 0;
}

static void vcpu_set_want(struct vcpu *v, enum vcpu_want want)
{
	uint64_t flags = spin_lock_irqsave(&v->lock);
	__atomic_store_n(&v->want, want, __ATOMIC_SEQ_CST);
	waitq_wake_all(&v->wq);
	spin_unlock_irqrestore(&v->lock, flags);
	vcpu_kick(v);
}

void vcpu_park(struct vcpu *v)
{
	vcpu_set_want(v, VCPU_WANT_PARK);
	uint64_t flags = spin_lock_irqsave(&v->lock);
	while (!v->parked)
		waitq_wait(&v->wq, &v->lock, &flags, TIME_NEVER);
	spin_unlock_irqrestore(&v->lock, flags);
}

int vcpu_load(struct vcpu *v, struct why *w)
{
	events_load(v);
	return load_state(v, w);
}

void vcpu_unpark(struct vcpu *v) { vcpu_set_want(v, VCPU_WANT_RUN); }
void vcpu_hold(struct vcpu *v) { vcpu_set_want(v, VCPU_WANT_PARK); }

void vcpu_destroy(struct vcpu *v)
{
	if (!v)
		return;
	vcpu_set_want(v, VCPU_WANT_QUIT);
	completion_wait(&v->gone, TIME_NEVER);
	events_stop_timer(v);
	stun_stop(v);
	hv()->destroy(v->hv);
	free(v->state);
	free(v);
}

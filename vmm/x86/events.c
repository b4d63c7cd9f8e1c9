/* SPDX-License-Identifier: BSD-2-Clause */
#include "vmm/x86/vcpu.h"
#include "kernel/log.h"
#include "vmm/x86/guest_clock.h"
#include "vmm/x86/startup.h"

#define NMI_POLL_NS 100000

static const struct hv_ops *hv(void) { return vmm_hv(); }

/* ---- the LAPIC timer ---- */

static void timer_fired(void *arg)
{
	struct vcpu *v = arg;
	__atomic_store_n(&v->events.timer_check, 1, __ATOMIC_SEQ_CST);
	vcpu_kick(v);
}

/* Let the LAPIC timer fire if it is due, and have the host wake us when it will be. */
static void check_timer(struct vcpu *v)
{
	uint64_t wait, now = time_ns();
	__atomic_store_n(&v->events.timer_check, 0, __ATOMIC_SEQ_CST);
	if (!vlapic_timer_poll(&v->lapic, guest_tsc(v->vm), guest_ns(v->vm), v->vm->tsc_hz, &wait)) {
		v->events.timer_armed_ns = 0; /* a late host timer only wakes us for nothing */
		return;
	}
	if (v->events.timer_armed_ns > now && v->events.timer_armed_ns <= now + wait + 1000 &&
	    v->events.timer_armed_ns + 1000 >= now + wait)
		return;
	v->events.timer_armed_ns = now + wait;
	timer_set(&v->events.timer, v->events.timer_armed_ns);
}

static inline void poll_timer(struct vcpu *v)
{
	if (__atomic_load_n(&v->events.timer_check,
			    __ATOMIC_RELAXED)) /* the guest touched it, or the host's timer fired */
		check_timer(v);
}

/* ---- delivery ---- */

void events_nmi(struct vcpu *v)
{
	__atomic_store_n(&v->events.nmi, 1, __ATOMIC_SEQ_CST);
	vcpu_kick(v);
}

/* An NMI waits, and nothing tells when the guest can take it. */
static void look_soon(struct vcpu *v)
{
	uint64_t at = time_ns() + NMI_POLL_NS;
	if (v->events.timer_armed_ns && v->events.timer_armed_ns <= at)
		return;
	v->events.timer_armed_ns = at;
	timer_set(&v->events.timer, at);
}

void events_inject(struct vcpu *v)
{
	poll_timer(v);
	unsigned cr8 = vlapic_cr8(&v->lapic), vector = vlapic_wants(&v->lapic);
	bool nmi = __atomic_load_n(&v->events.nmi, __ATOMIC_RELAXED);
	v->hv->cr8 = cr8;
	if (nmi && hv()->ready(v->hv, true)) {
		__atomic_store_n(&v->events.nmi, 0, __ATOMIC_RELAXED); /* one that comes now is the same as this one */
		hv()->inject(v->hv, HV_EVENT(HV_EVENT_NMI, VEC_NMI));
		nmi = false;
	}
	if (vector >> 4 > cr8 && hv()->ready(v->hv, false)) {
		vlapic_ack(&v->lapic, (uint8_t)vector);
		hv()->inject(v->hv, HV_EVENT(HV_EVENT_INTR, vector));
		vector = vlapic_wants(&v->lapic);
	}
	bool ask = vector || nmi || v->hv->event_next; /* which the back end asks a window for by itself */
	if ((ask || v->events.asked) && !hv()->window(v->hv, vector >> 4, nmi))
		look_soon(v);
	v->events.asked = ask;
	if (v->pv.s.eoi)
		pv_leave_eoi(v);
}

bool events_end_wait(struct vcpu *v)
{
	poll_timer(v);
	if (vcpu_has_init(v))
		return true;
	if (v->lapic.s.sipi_wait || (!(vlapic_pending(&v->lapic) >= 0 && (v->hv->rflags & RFLAGS_IF)) &&
				     !__atomic_load_n(&v->events.nmi, __ATOMIC_RELAXED) && !pv_take_kick(&v->pv)))
		return false;
	v->events.halted = false;
	return true;
}

void events_take_init(struct vcpu *v)
{
	unsigned did = vlapic_take_events(&v->lapic);
	if (!did)
		return;
	if (v->lapic.s.apic_base & APIC_BASE_BSP) {
		log_info("vm %s: INIT to its boot CPU", v->vm->cfg.name);
		vm_request_reset(v->vm);
		return;
	}
	struct cpu_state *s = vcpu_state_take(v);
	if (did & LAPIC_EV_INIT) {
		startup_init(s, cpuid_table_row(&v->vm->cpuid, 1, 0)[0]);
		v->msr.system_time = 0; /* as KVM does: who starts it next may use that memory otherwise */
		pv_reset(v);
		v->events.halted = false;
	}
	if (did & LAPIC_EV_SIPI) {
		startup_sipi(s, (uint8_t)v->lapic.s.sipi_vector);
		vlapic_sipi_done(&v->lapic);
	}
	__atomic_store_n(&v->events.nmi, 0, __ATOMIC_RELAXED); /* none is kept for one that waits for SIPI */
	vcpu_state_give(v);
}

/* ---- life ---- */

void events_init(struct vcpu *v) { timer_init(&v->events.timer, timer_fired, v); }

void events_stop_timer(struct vcpu *v)
{
	timer_cancel(&v->events.timer);
	v->events.timer_armed_ns = 0;
}

void events_save(struct vcpu *v)
{
	v->state->halted = v->events.halted;
	v->state->nmi_pending = __atomic_load_n(&v->events.nmi, __ATOMIC_SEQ_CST);
}

void events_load(struct vcpu *v)
{
	v->events.halted = v->state->halted;
	__atomic_store_n(&v->events.nmi, (uint8_t)v->state->nmi_pending, __ATOMIC_SEQ_CST);
}

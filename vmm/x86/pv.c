/* SPDX-License-Identifier: BSD-2-Clause */
/* KVM's interface for guests whose vCPUs take turns (pv.h). */
#include "vmm/x86/pv.h"
#include "arch/x86/hw/apic.h"
#include "kernel/task.h"
#include "vmm/dev/vlapic.h"
#include "vmm/x86/exit.h"
#include "vmm/x86/vcpu.h"

#define ENABLED BIT(0) /* of an MSR that holds the address of an area */

/* MSR_KVM_STEAL_TIME, and struct kvm_steal_time. */
#define STEAL_RESERVED  0x3eULL
#define STEAL_SIZE      64
#define STEAL_VERSION   8
#define STEAL_PREEMPTED 16
#define PREEMPTED       BIT(0)
#define FLUSH_TLB       BIT(1)

/* MSR_KVM_PV_EOI_EN. The area is 4 bytes, of which one bit is used. */
#define EOI_RESERVED BIT(1)

enum { HC_KICK_CPU = 5, HC_SEND_IPI = 10, HC_SCHED_YIELD = 11 };
#define HC_EPERM  1 /* Linux' error numbers, negative in RAX */
#define HC_EINVAL 22
#define HC_ENOSYS 1000

static bool offers(const struct vm *vm, uint32_t feature)
{
	return cpuid_table_row(&vm->cpuid, 0x40000001, 0)[0] & feature;
}

static gpa_t area_of(uint64_t msr, uint64_t reserved) { return msr & ~(ENABLED | reserved); }
static bool area_valid(const struct vm *vm, uint64_t msr, uint64_t reserved)
{
	return !(msr & reserved) && (!(msr & ENABLED) || gmem_is_ram(&vm->mem, area_of(msr, reserved)));
}

/* ---- steal time ---- */

static gpa_t area(const struct vcpu *v) { return area_of(v->pv.s.steal_time, STEAL_RESERVED); }
static bool steal_on(const struct vcpu *v) { return v->pv.s.steal_time & ENABLED; }
static uint64_t waited(const struct vcpu *v)
{
	uint64_t run, wait;
	task_times(v->task, &run, &wait);
	return wait + v->stun.rested_ns;
}

int pv_write_steal_time(struct vcpu *v, uint64_t val)
{
	if (!offers(v->vm, KVM_FEATURE_STEAL_TIME) || !area_valid(v->vm, val, STEAL_RESERVED))
		return -EINVAL;
	if (steal_on(v))
		pv_resume(v); /* what was left there while it came here; nor is it "preempted" there for ever */
	v->pv.s.steal_time = val;
	__atomic_store_n(&v->flush, 1, __ATOMIC_SEQ_CST); /* or came in between */
	pv_begin(v);
	return 0;
}

int pv_read_steal_time(const struct vcpu *v, uint64_t *val)
{
	*val = v->pv.s.steal_time;
	return offers(v->vm, KVM_FEATURE_STEAL_TIME) ? 0 : -EINVAL;
}

void pv_begin(struct vcpu *v)
{
	v->pv.wait_ns = waited(v);
	v->pv.switched = true;
}

void pv_reset(struct vcpu *v) { v->pv = (struct vcpu_pv){ .switched = true }; }

/* A flush that was asked for while it had no CPU stays asked for: its bit is or-ed over, not replaced. */
void pv_switch_out(struct vcpu *v)
{
	struct gmem_pin pin;
	if (!steal_on(v) || gmem_pin(&v->vm->mem, area(v) + STEAL_PREEMPTED, 1, GMEM_WRITE, &pin))
		return; /* not here yet: it is taken to have its CPU, and gets its IPIs */
	__atomic_fetch_or((uint8_t *)pin.p, (uint8_t)PREEMPTED, __ATOMIC_SEQ_CST);
	gmem_unpin(&v->vm->mem, &pin);
}

void pv_resume(struct vcpu *v)
{
	struct gmem_pin pin;
	v->pv.switched = false; /* before the area is read: whoever loses its CPU from here on comes back */
	if (!steal_on(v))
		return;
	if (gmem_pin_wait(&v->vm->mem, area(v), STEAL_SIZE, GMEM_WRITE, &pin)) {
		guest_log(v->vm, "its steal time area at %lx is not memory", area(v));
		return;
	}
	uint8_t *p = pin.p;
	/* Before the entry, and before the flush that the entry does: who comes later finds a vCPU with a CPU. */
	if (__atomic_exchange_n(p + STEAL_PREEMPTED, 0, __ATOMIC_SEQ_CST) & FLUSH_TLB)
		__atomic_store_n(&v->flush, 1, __ATOMIC_SEQ_CST);
	uint64_t now = waited(v);
	uint32_t version = get_le32(p + STEAL_VERSION) | 1;
	/* Odd while it changes. */
	__atomic_store_n((uint32_t *)(void *)(p + STEAL_VERSION), version, __ATOMIC_SEQ_CST);
	put_le64(p, get_le64(p) + now - v->pv.wait_ns);
	__atomic_store_n((uint32_t *)(void *)(p + STEAL_VERSION), version + 1, __ATOMIC_SEQ_CST);
	v->pv.wait_ns = now;
	gmem_unpin(&v->vm->mem, &pin);
}

/* ---- end of interrupt ---- */

int pv_write_eoi(struct vcpu *v, uint64_t val)
{
	if (!offers(v->vm, KVM_FEATURE_PV_EOI) || !area_valid(v->vm, val, EOI_RESERVED))
		return -EINVAL;
	v->pv.s.eoi = val;
	return 0;
}

int pv_read_eoi(const struct vcpu *v, uint64_t *val)
{
	*val = v->pv.s.eoi;
	return offers(v->vm, KVM_FEATURE_PV_EOI) ? 0 : -EINVAL;
}

void pv_hot(const struct vcpu *v, void (*fn)(void *arg, gpa_t gpa, size_t len), void *arg)
{
	if (steal_on(v))
		fn(arg, area(v), STEAL_SIZE);
	if (v->pv.s.eoi & ENABLED)
		fn(arg, area_of(v->pv.s.eoi, EOI_RESERVED), 1);
}

void pv_leave_eoi(struct vcpu *v)
{
	struct gmem_pin pin;
	if (!(v->pv.s.eoi & ENABLED) || !vlapic_eoi_can_wait(&v->lapic) ||
	    gmem_pin(&v->vm->mem, area_of(v->pv.s.eoi, EOI_RESERVED), 1, GMEM_WRITE, &pin))
		return;
	*(uint8_t *)pin.p |= 1; /* this vCPU alone looks at it */
	v->pv.eoi_left = true;
	gmem_unpin(&v->vm->mem, &pin);
}

void pv_take_eoi(struct vcpu *v)
{
	struct gmem_pin pin;
	if (!v->pv.eoi_left)
		return;
	v->pv.eoi_left = false;
	if (gmem_pin_wait(&v->vm->mem, area_of(v->pv.s.eoi, EOI_RESERVED), 1, GMEM_WRITE, &pin))
		return;
	uint8_t *p = pin.p, was = *p;
	*p = was & (uint8_t)~1;
	gmem_unpin(&v->vm->mem, &pin);
	if (!(was & 1))
		vlapic_eoi(&v->lapic);
}

/* ---- polling in HLT: MSR_KVM_POLL_CONTROL, which is on at first ---- */

int pv_write_poll(struct vcpu *v, uint64_t val)
{
	if (!offers(v->vm, KVM_FEATURE_POLL_CONTROL) || val > 1)
		return -EINVAL;
	v->pv.s.no_poll = !val;
	return 0;
}

int pv_read_poll(const struct vcpu *v, uint64_t *val)
{
	*val = !v->pv.s.no_poll;
	return offers(v->vm, KVM_FEATURE_POLL_CONTROL) ? 0 : -EINVAL;
}

/* ---- hypercalls ---- */

static int64_t kick(struct vm *vm, uint64_t id)
{
	if (id >= vm->nvcpus)
		return 0;
	__atomic_store_n(&vm->vcpus[id]->pv.s.unhalted, 1, __ATOMIC_SEQ_CST);
	vcpu_kick(vm->vcpus[id]);
	return 0;
}

/* To those that the bits name, the first of them vCPU `min`: how many got it. icr has no destination. */
static int64_t send_ipi(struct vm *vm, const uint64_t bits[2], unsigned width, uint64_t min, uint32_t icr)
{
	int64_t n = 0;
	if (icr & ICR_NAMES_TARGETS)
		return -HC_EINVAL;
	for (unsigned i = 0; i < 2 * width && min < vm->apics.n && i < vm->apics.n - min; i++)
		if (bits[i / width] >> i % width & 1)
			n += vapic_bus_ipi(&vm->apics, (unsigned)min + i, icr);
	return n;
}

static int64_t hypercall(struct vcpu *v, uint64_t nr, const uint64_t arg[4], unsigned width)
{
	switch (nr) {
	case HC_KICK_CPU: return offers(v->vm, KVM_FEATURE_PV_UNHALT) ? kick(v->vm, arg[1]) : -HC_ENOSYS;
	case HC_SEND_IPI:
		return offers(v->vm, KVM_FEATURE_PV_SEND_IPI) ? send_ipi(v->vm, arg, width, arg[2], (uint32_t)arg[3])
							      : -HC_ENOSYS;
	case HC_SCHED_YIELD:
		if (!offers(v->vm, KVM_FEATURE_PV_SCHED_YIELD))
			return -HC_ENOSYS;
		task_yield();
		return 0;
	default: return -HC_ENOSYS;
	}
}

void pv_hypercall(struct vcpu *v)
{
	uint64_t *r = v->hv->gpr;
	struct hv_mode m;
	vmm_hv()->get_mode(v->hv, &m);
	uint64_t mask = m.long_mode ? ~0ULL : 0xffffffff;
	uint64_t arg[4] = { r[REG_RBX] & mask, r[REG_RCX] & mask, r[REG_RDX] & mask, r[REG_RSI] & mask };
	r[REG_RAX] = (uint64_t)(m.cpl ? -HC_EPERM : hypercall(v, r[REG_RAX] & mask, arg, m.long_mode ? 64 : 32)) & mask;
}

/* ---- migration ---- */

/* clang-format off */
static const struct sfield pv_fields[] = {
	F(struct vcpu_pv_state, steal_time), F(struct vcpu_pv_state, eoi), F(struct vcpu_pv_state, unhalted),
	F(struct vcpu_pv_state, no_poll),
};
/* clang-format on */
static int pv_check(const void *obj, const void *state, struct why *w)
{
	const struct vcpu_pv_state *s = state;
	const struct vm *vm = ((const struct vcpu *)obj)->vm;
	if (area_valid(vm, s->steal_time, STEAL_RESERVED) && area_valid(vm, s->eoi, EOI_RESERVED) && s->unhalted <= 1 &&
	    s->no_poll <= 1)
		return 0;
	return why_set(w, -EINVAL, "kvm: steal time at %lx, EOI at %lx, kicked %u, no polling %u", s->steal_time,
		       s->eoi, s->unhalted, s->no_poll);
}
const struct sdesc pv_desc = {
	.name = "kvm", .version = 1, SDESC(struct vcpu, pv.s, struct vcpu_pv_state, pv_fields), .check = pv_check
};

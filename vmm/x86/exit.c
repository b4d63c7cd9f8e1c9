/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The exit policy: one switch that says what each kind of exit does to this guest, the same for both vendors. A guest's
 * mistake becomes the exception that the bare machine would raise; what cannot go on stops that VM alone.
 */
#include "arch/x86/cpu.h"
#include "arch/x86/fpu.h"
#include "kernel/log.h"
#include "kernel/task.h"
#include "vmm/x86/cpu_check.h"
#include "vmm/x86/vcpu.h"
#include "vmm/x86/bus_lock.h"
#include "vmm/x86/exit.h"
#include "vmm/x86/foreign.h"
#include "vmm/x86/msr.h"
#include "vmm/x86/insn.h"
#include "vmm/x86/mmio.h"
#include "vmm/x86/guest_clock.h"
#include <string.h>

static const struct hv_ops *hv(void) { return vmm_hv(); }

void exit_fault(struct vcpu *v, uint64_t event)
{
	v->hv->rflags |=
		RFLAGS_RF; /* in the image on its stack: no breakpoint twice on one instruction (SDM 3B 18.3.1.1) */
	hv()->inject(v->hv, event);
}
static void inject_gp(struct vcpu *v) { exit_fault(v, HV_EVENT_ERR(VEC_GP, 0)); }
static void inject_ud(struct vcpu *v) { exit_fault(v, HV_EVENT(HV_EVENT_EXC, VEC_UD)); }

void exit_done(struct vcpu *v, uint64_t next_rip)
{
	hv()->skip(v->hv, next_rip);
	v->hv->rflags &= ~RFLAGS_RF;
}

void exit_repeat(struct vcpu *v)
{
	if (!(v->hv->rflags & RFLAGS_TF))
		return;
	v->hv->rflags |= RFLAGS_RF; /* as after any interruption of it (SDM 3B 18.3.1.1) */
	hv()->skip(v->hv, v->hv->rip);
}

/* Of the instruction with this opcode; 0: it runs again, so nothing of it may have been done. */
#define LENGTH(v, x, ...) \
	insn_length(v, (x)->len, (const uint8_t[]){ __VA_ARGS__ }, sizeof((const uint8_t[]){ __VA_ARGS__ }))
static void skip(struct vcpu *v, unsigned len)
{
	if (len)
		exit_done(v, v->hv->rip + len);
}
#define SKIP(v, x, ...) skip(v, LENGTH(v, x, __VA_ARGS__))

static void do_hlt(struct vcpu *v, const struct vmexit *x)
{
	unsigned len = LENGTH(v, x, 0xf4);
	if (!len)
		return;
	skip(v, len);
	/* Its trap ends the wait at once, and so does an interrupt that waits to be delivered again. */
	v->events.halted = !(v->hv->rflags & RFLAGS_TF) && !v->hv->event_next;
}

static void do_vmcall(struct vcpu *v, const struct vmexit *x)
{
	unsigned len = LENGTH(v, x, 0x0f, 0x01, 0xd9);
	if (!len)
		return;
	pv_hypercall(v);
	skip(v, len);
}

static void do_cpuid(struct vcpu *v, const struct vmexit *x)
{
	uint64_t *r = v->hv->gpr;
	uint32_t leaf = (uint32_t)r[REG_RAX], sub = (uint32_t)r[REG_RCX], now[4];
	const uint32_t *row = now;
	unsigned len = LENGTH(v, x, 0x0f, 0xa2);
	if (!len)
		return;
	if (cpuid_is_dynamic(leaf)) {
		struct hv_mode m;
		hv()->get_mode(v->hv, &m);
		cpuid_table_read(&v->vm->cpuid, leaf, sub, &m, fpu_get_xcr0(), v->id, now);
	} else {
		row = cpuid_table_row(&v->vm->cpuid, leaf, sub);
	}
	r[REG_RAX] = row[0];
	r[REG_RBX] = row[1];
	r[REG_RCX] = row[2];
	r[REG_RDX] = row[3];
	skip(v, len);
}

static void do_msr(struct vcpu *v, const struct vmexit *x)
{
	uint64_t *r = v->hv->gpr, val = 0;
	bool write = x->u.msr.write;
	unsigned len = write ? LENGTH(v, x, 0x0f, 0x30) : LENGTH(v, x, 0x0f, 0x32);
	int err;
	if (!len)
		return;
	if (write) {
		err = msr_write(v, x->u.msr.index, r[REG_RDX] << 32 | (uint32_t)r[REG_RAX]);
	} else {
		err = msr_read(v, x->u.msr.index, &val);
		if (!err) {
			r[REG_RAX] = (uint32_t)val;
			r[REG_RDX] = val >> 32;
		}
	}
	if (err)
		inject_gp(v);
	else
		skip(v, len);
}

/*
 * INS and OUTS: one element an exit, as the string forms of a legacy-free PC's ports are not worth more. The exit comes
 * before the memory is looked at: a page fault is ours to raise, and before the device has been asked. 0, or as
 * insn_copy.
 */
static int do_string_io(struct vcpu *v, const struct vmexit *x, const struct hv_mode *m)
{
	uint64_t *r = v->hv->gpr, val = 0, *index = &r[x->u.io.in ? REG_RDI : REG_RSI];
	struct bus *bus = &v->vm->machine.bus;
	unsigned size = x->u.io.size;
	if (!m->long_mode || x->u.io.addr_size != 8 ||
	    (!x->u.io.in && (x->u.io.seg == SEG_FS || x->u.io.seg == SEG_GS)))
		return -ENOTSUP;
	if (x->u.io.rep && !r[REG_RCX])
		return 0;
	if (x->u.io.in) {
		gpa_t gpa;
		int err = insn_walk(v, m, *index, true, &gpa);
		if (!err && (*index & PAGE_MASK) + size > PAGE_SIZE)
			err = insn_walk(v, m, (*index | PAGE_MASK) + 1, true, &gpa);
		if (err)
			return err;
		val = bus_read(bus, BUS_PIO, x->u.io.port, size);
	}
	int err = insn_copy(v, m, *index, &val, size, x->u.io.in);
	if (err)
		return err;
	if (!x->u.io.in)
		bus_write(bus, BUS_PIO, x->u.io.port, size, val);
	*index += v->hv->rflags & RFLAGS_DF ? -(uint64_t)size : size;
	return 0;
}

static void do_io(struct vcpu *v, const struct vmexit *x)
{
	uint64_t *rax = &v->hv->gpr[REG_RAX];
	struct bus *bus = &v->vm->machine.bus;
	unsigned size = x->u.io.size;
	if (x->u.io.string) {
		struct hv_mode m;
		hv()->get_mode(v->hv, &m);
		int err = do_string_io(v, x, &m);
		if (err == -EFAULT) {
			exit_fault(v, insn_walk_fault(v, &m, x->u.io.in));
			return;
		}
		if (insn_did_not_come(err)) {
			vm_fail(v->vm, "its memory did not come: %s", err_name(err));
			return;
		}
		if (err) {
			vm_fail(v->vm, "string I/O at port %x that tern does not emulate (RIP %lx)", x->u.io.port,
				v->hv->rip);
			return;
		}
		if (x->u.io.rep && v->hv->gpr[REG_RCX] && --v->hv->gpr[REG_RCX]) {
			exit_repeat(v);
			return;
		}
	} else if (x->u.io.in) {
		uint64_t val = bus_read(bus, BUS_PIO, x->u.io.port, size);
		uint64_t mask = (1ULL << size * 8) - 1;
		*rax = size == 4 ? (uint32_t)val : (*rax & ~mask) | (val & mask);
	} else {
		bus_write(bus, BUS_PIO, x->u.io.port, size, *rax & ((1ULL << size * 8) - 1));
	}
	exit_done(v, x->u.io.next_rip);
}

static void do_npf(struct vcpu *v, const struct vmexit *x)
{
	gpa_t gpa = x->u.npf.gpa;
	struct why w = { "" };
	if (gmem_is_ram(&v->vm->mem, gpa)) {
		/*
		 * A page that is not here yet; or the walker met a table that was just replaced (what is here is mapped
		 * for ever), and is let in again.
		 */
		int err = gmem_wait(&v->vm->mem, gpa, 1);
		if (err)
			vm_fail(v->vm, "its memory at %lx did not come: %s", gpa, err_name(err));
		else if (x->u.npf.fetch)
			gmem_make_executable(&v->vm->mem, gpa);
		else if (x->u.npf.write && gmem_wrote_sample(&v->vm->mem, gpa))
			stun_wrote(v);
		return;
	}
	if (x->u.npf.fetch) {
		vm_fail(v->vm, "the guest jumped to %lx, where it has no memory", gpa);
		return;
	}
	if (mmio_emulate(v, gpa, x->u.npf.write, &w))
		vm_fail(v->vm, "%s", w.text);
}

static void do_xsetbv(struct vcpu *v, const struct vmexit *x)
{
	uint64_t *r = v->hv->gpr;
	struct hv_mode m;
	hv()->get_mode(v->hv, &m);
	uint64_t xcr0 = r[REG_RDX] << 32 | (uint32_t)r[REG_RAX];
	if (m.cpl || (uint32_t)r[REG_RCX] || !cpu_xcr0_valid(&v->vm->cpuid, xcr0) || hv()->set_xcr0(v->hv, xcr0))
		inject_gp(v);
	else
		SKIP(v, x, 0x0f, 0x01, 0xd1);
}

enum { OP_RDTSCP = 0x0f01f9 };

/* RDTSC and RDTSCP of a guest whose TSC the CPU cannot scale. */
static void do_rdtsc(struct vcpu *v, const struct vmexit *x)
{
	uint64_t *r = v->hv->gpr, tsc = guest_tsc(v->vm), aux = 0;
	struct insn_op op = { .len = x->len }; /* two bytes: RDTSC */
	struct hv_mode m;
	hv()->get_mode(v->hv, &m);
	if (x->len != 2 && !insn_opcode(v, &m, &op)) {
		insn_unreadable(v);
	} else if (m.cpl && (m.cr4 & CR4_TSD)) { /* CPUs check it before the intercept (SDM 3C 26.1.1, APM2 15.9) */
		inject_gp(v);
	} else if (op.opcode == OP_RDTSCP && hv()->get_msr(v->hv, MSR_TSC_AUX, &aux)) {
		inject_ud(v);
	} else {
		r[REG_RAX] = (uint32_t)tsc;
		r[REG_RDX] = tsc >> 32;
		if (op.opcode == OP_RDTSCP)
			r[REG_RCX] = aux;
		exit_done(v, v->hv->rip + op.len);
	}
}

static void do_exception(struct vcpu *v, const struct vmexit *x)
{
	unsigned vector = x->u.exc.vector;
	if (vector == VEC_MC)
		vm_fail(v->vm, "machine check while the guest ran");
	else if (vector == VEC_DB) /* a trap or a fault, with DR6 and RF as that goes: the CPU has seen to it */
		hv()->inject(v->hv, HV_EVENT(HV_EVENT_EXC, VEC_DB));
	else if (vector != VEC_UD)
		exit_fault(v,
			   x->u.exc.has_error ? HV_EVENT_ERR(vector, x->u.exc.error) : HV_EVENT(HV_EVENT_EXC, vector));
	else if (!foreign_emulate(v))
		inject_ud(v);
}

void exit_handle(struct vcpu *v, struct vmexit *x)
{
	v->exits[x->kind]++;
	if (v->hv->bus_locked)
		bus_lock_rest(v);
	switch (x->kind) {
	case EXIT_HOST_IRQ: /* taken when enter_guest turned interrupts on */
	case EXIT_HANDLED:
	case EXIT_BUS_LOCK:
	case EXIT_IRQ_WINDOW: /* the next entry injects */ break;
	case EXIT_PAUSE: /* whoever it waits for may be waiting for this CPU */
		SKIP(v, x, 0xf3, 0x90);
		task_yield();
		break;
	case EXIT_CPUID: do_cpuid(v, x); break;
	case EXIT_MSR: do_msr(v, x); break;
	case EXIT_IO: do_io(v, x); break;
	case EXIT_NPF: do_npf(v, x); break;
	case EXIT_RDTSC: do_rdtsc(v, x); break;
	case EXIT_HLT: do_hlt(v, x); break;
	case EXIT_VMCALL: do_vmcall(v, x); break;
	case EXIT_XSETBV: do_xsetbv(v, x); break;
	case EXIT_EXCEPTION: do_exception(v, x); break;
	case EXIT_CACHE: /* the host's caches are coherent; a guest has no business emptying them */
		SKIP(v, x, 0x0f, 0x09);
		break;
	case EXIT_UNDEFINED: inject_ud(v); break;
	case EXIT_PRIVILEGED: inject_gp(v); break;
	case EXIT_SHUTDOWN:
		log_warn("vm %s: triple fault, the VM is reset", v->vm->cfg.name);
		vm_request_reset(v->vm);
		break;
	case EXIT_INVALID: vm_fail(v->vm, "the CPU refused to run it: %s", x->u.why); break;
	}
}

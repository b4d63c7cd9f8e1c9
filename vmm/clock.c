/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Guest time. One TSC offset a VM; nanoseconds are made of the guest's TSC by the very formula of KVM's paravirtual clock
 * (Linux Documentation/virt/kvm/x86/msr.rst), from a base that changes only when the VM starts or arrives:
 *
 *   ns(tsc) = base_ns + ((tsc - base_tsc) << shift) * mul >> 32
 *
 * So what tern saves is to the last bit what the guest would have read, and its time never steps back. It migrates as
 * guest values; the destination adds the time that the guest stood still (vm_advance_clock).
 */
#include "arch/x86/cpu.h"
#include "kernel/log.h"
#include "vmm/vcpu.h"

#define PVCLOCK_TSC_STABLE 1
#define PVCLOCK_ENABLE     BIT(0)

uint64_t guest_tsc(const struct vm *vm) { return rdtsc() + vm->tsc_offset; }

static uint64_t scale(const struct vm *vm, uint64_t ticks)
{
	ticks = vm->clock_shift < 0 ? ticks >> -vm->clock_shift : ticks << vm->clock_shift;
	return (uint64_t)((unsigned __int128)ticks * vm->clock_mul >> 32);
}
static uint64_t ns_at(const struct vm *vm, uint64_t tsc)
{
	return vm->clock_base_ns + scale(vm, tsc - vm->clock_base_tsc);
}
uint64_t guest_ns(const struct vm *vm) { return ns_at(vm, guest_tsc(vm)); }

/* From here on the guest's TSC ticks at this host's rate; base is the state in clock.s. */
static void set_base(struct vm *vm)
{
	uint64_t hz = time_tsc_hz();
	vm->clock.s.tsc_hz = hz;
	vm->clock_shift = 0;
	for (; hz > NS_PER_SEC * 2; hz >>= 1)
		vm->clock_shift--;
	for (; hz <= NS_PER_SEC; hz <<= 1)
		vm->clock_shift++;
	vm->clock_mul = (uint32_t)(((unsigned __int128)NS_PER_SEC << 32) / hz); /* in [2^31, 2^32) */
	vm->clock_base_tsc = vm->clock.s.guest_tsc;
	vm->clock_base_ns = vm->clock.s.guest_ns;
}

void clock_update(struct vcpu *v)
{
	gpa_t gpa = v->msr.system_time & ~PVCLOCK_ENABLE;
	uint8_t b[32] = { 0 };
	uint32_t version;
	if (!(v->msr.system_time & PVCLOCK_ENABLE) || gmem_read(&v->vm->mem, gpa, &version, sizeof(version)))
		return;
	/* Odd while it changes; here nobody reads meanwhile, since the reader is this vCPU and it is outside. */
	put_le32(b, (version | 1) + 1);
	put_le64(b + 8, v->vm->clock_base_tsc);
	put_le64(b + 16, v->vm->clock_base_ns);
	put_le32(b + 24, v->vm->clock_mul);
	b[28] = (uint8_t)v->vm->clock_shift;
	b[29] = PVCLOCK_TSC_STABLE;
	if (gmem_write(&v->vm->mem, gpa, b, sizeof(b)))
		guest_log(v->vm, "its clock page at %llx is not memory", (unsigned long long)gpa);
}

void clock_write_wall(struct vcpu *v, gpa_t gpa)
{
	uint8_t b[12];
	uint32_t version;
	if (gmem_read(&v->vm->mem, gpa, &version, sizeof(version)))
		return;
	put_le32(b, (version | 1) + 1);
	put_le32(b + 4, (uint32_t)(v->vm->clock.s.wall_ns / NS_PER_SEC));
	put_le32(b + 8, (uint32_t)(v->vm->clock.s.wall_ns % NS_PER_SEC));
	if (gmem_write(&v->vm->mem, gpa, b, sizeof(b)))
		guest_log(v->vm, "its wall clock page at %llx is not memory", (unsigned long long)gpa);
}

static void clock_pre_save(void *obj)
{
	struct vm *vm = CONTAINER_OF(obj, struct vm, clock);
	vm->clock.s.guest_tsc = guest_tsc(vm);
	vm->clock.s.guest_ns = ns_at(vm, vm->clock.s.guest_tsc);
}

static void clock_post_load(void *obj)
{
	struct vm *vm = CONTAINER_OF(obj, struct vm, clock);
	vm->tsc_offset = vm->clock.s.guest_tsc - rdtsc();
	set_base(vm);
}

static int clock_check(const void *obj unused, const void *state, struct why *w)
{
	const struct vm_clock_state *s = state;
	uint64_t here = time_tsc_hz(), diff = s->tsc_hz > here ? s->tsc_hz - here : here - s->tsc_hz;
	if (diff >
	    here / 100) /* more than two measurements of one rate ever differ; the guest's timers count on the rate */
		return why_set(
			w, -ENOTSUP,
			"the guest's TSC runs at %llu MHz, this host's at %llu MHz, and tern cannot scale it here",
			(unsigned long long)(s->tsc_hz / 1000000), (unsigned long long)(here / 1000000));
	return 0;
}

/* clang-format off */
static const struct sfield clock_fields[] = {
	F(struct vm_clock_state, guest_tsc), F(struct vm_clock_state, guest_ns), F(struct vm_clock_state, tsc_hz),
	F(struct vm_clock_state, wall_ns),
};
/* clang-format on */
const struct sdesc clock_desc = { .name = "clock",
				  .version = 1,
				  SDESC(struct vm_clock, s, struct vm_clock_state, clock_fields),
				  .check = clock_check,
				  .pre_save = clock_pre_save,
				  .post_load = clock_post_load };

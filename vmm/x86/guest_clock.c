/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Guest time. A VM's TSC has one rate for life, that of the host where it started (vm_clock_state.tsc_hz). Elsewhere
 *
 *   tsc = (host TSC * ratio >> 32) + offset
 *   ns  = base_ns + ((tsc - base_tsc) << shift) * mul >> 32
 *
 * The second line is the very formula of KVM's paravirtual clock (Linux Documentation/virt/kvm/x86/msr.rst), from a
 * base that changes only when the VM starts or arrives. So what tern saves is to the last bit what the guest would have
 * read, and its time never steps back. It migrates as guest values; the destination adds the time that the guest stood
 * still (clock_advance).
 *
 * A host whose rate is within 1% of the guest's is taken to have the same one: two measurements of one rate differ by
 * that. The ratio is then 1, at no cost, and the nanoseconds alone follow the rate as measured here. Any other ratio is
 * exact to 2^-33 / ratio: 7 parts in 10^9 for a guest of 50 MHz at 3 GHz, less than 10^-11 the other way. mul adds at
 * most 5 parts in 10^10.
 */
#include "arch/x86/cpu.h"
#include "kernel/log.h"
#include "vmm/x86/vcpu.h"
#include "vmm/x86/guest_clock.h"
#include <string.h>

#define PVCLOCK_ENABLE BIT(0)

/* The page's flags, at byte 29. */
#define PVCLOCK_FLAGS         29
#define PVCLOCK_SIZE          32
#define PVCLOCK_TSC_STABLE    1
/*
 * The guest stood still. Its watchdogs for soft lockups, RCU stalls and hung tasks see time go by and nobody at work:
 * Linux tells them that it was not its fault (pvclock_touch_watchdogs), when it reads the clock or when one of them is
 * about to complain (kvm_check_and_clear_guest_paused), and clears the flag.
 */
#define PVCLOCK_GUEST_STOPPED 2
/*
 * Standing still so long is said. It is well above the down time of a migration, so that the flag does not excuse what
 * a guest did to itself before it was moved, and well below the shortest of those watchdogs' limits, 20 s.
 */
#define STOPPED_SECONDS       1

#define TSC_RATIO_MAX BIT(16) /* and 1 / TSC_RATIO_MAX: what set_tsc of either vendor can do */
#define TSC_HZ_MAX    BIT(34) /* of the sums below none overflows up to there */

uint64_t guest_tsc_at(const struct vm *vm, uint64_t host_tsc)
{
	return (uint64_t)((unsigned __int128)host_tsc * vm->tsc_ratio >> 32) + vm->tsc_offset;
}
uint64_t guest_tsc(const struct vm *vm) { return guest_tsc_at(vm, rdtsc()); }

/* a * 2^32 / b, rounded to the nearest; a and b up to TSC_HZ_MAX. In steps, as the kernel has no 128-bit division. */
static uint64_t fraction32(uint64_t a, uint64_t b)
{
	uint64_t q = a / b, r = a % b;
	for (unsigned i = 0; i < 2; i++) {
		r <<= 16;
		q = q << 16 | r / b;
		r %= b;
	}
	return q + (r >= (b + 1) / 2);
}

/* What to multiply this host's TSC by for one of hz, in 2^-32; 0: it cannot be had. */
static uint64_t ratio_of(uint64_t hz)
{
	uint64_t here = time_tsc_hz(), diff = hz > here ? hz - here : here - hz;
	if (!hz || hz > TSC_HZ_MAX)
		return 0;
	if (diff <= here / 100)
		return HV_TSC_SAME;
	uint64_t ratio = fraction32(hz, here);
	return ratio < HV_TSC_SAME / TSC_RATIO_MAX || ratio > HV_TSC_SAME * TSC_RATIO_MAX ? 0 : ratio;
}

static uint64_t ticks_to_ns(const struct vm *vm, uint64_t ticks)
{
	ticks = vm->clock_shift < 0 ? ticks >> -vm->clock_shift : ticks << vm->clock_shift;
	return (uint64_t)((unsigned __int128)ticks * vm->clock_mul >> 32);
}
static uint64_t ns_at(const struct vm *vm, uint64_t tsc)
{
	return vm->clock_base_ns + ticks_to_ns(vm, tsc - vm->clock_base_tsc);
}
uint64_t guest_ns(const struct vm *vm) { return ns_at(vm, guest_tsc(vm)); }

void clock_begin(struct vm *vm, uint64_t host_tsc)
{
	const struct vm_clock_state *s = &vm->clock.s;
	vm->tsc_ratio = ratio_of(s->tsc_hz);
	BUG_ON(!vm->tsc_ratio); /* clock_check */
	vm->tsc_offset = 0;
	vm->tsc_offset = s->guest_tsc - guest_tsc_at(vm, host_tsc);
	vm->tsc_hz = vm->tsc_ratio == HV_TSC_SAME ? time_tsc_hz() : s->tsc_hz;
	vm->clock_base_tsc = s->guest_tsc;
	vm->clock_base_ns = s->guest_ns;
	vm->clock_shift = 0;
	uint64_t hz = vm->tsc_hz;
	for (; hz > NS_PER_SEC * 2; hz >>= 1)
		vm->clock_shift--;
	for (; hz <= NS_PER_SEC; hz <<= 1)
		vm->clock_shift++;
	vm->clock_mul = (uint32_t)((NS_PER_SEC << 32) / hz); /* in [2^31, 2^32) */
}

void clock_save(struct vm *vm, uint64_t host_tsc)
{
	vm->clock.s.guest_tsc = guest_tsc_at(vm, host_tsc);
	vm->clock.s.guest_ns = ns_at(vm, vm->clock.s.guest_tsc);
}

void clock_advance(struct vm *vm, uint64_t ns) /* nanoseconds follow from ticks */
{
	vm->tsc_offset += ns / NS_PER_SEC * vm->tsc_hz + ns % NS_PER_SEC * vm->tsc_hz / NS_PER_SEC;
}

static void write_page(struct vcpu *v, uint8_t flags)
{
	gpa_t gpa = v->msr.system_time & ~PVCLOCK_ENABLE;
	uint8_t b[PVCLOCK_SIZE] = { 0 };
	if (!(v->msr.system_time & PVCLOCK_ENABLE))
		return;
	int err = gmem_read(&v->vm->mem, gpa, b, sizeof(b));
	flags |= b[PVCLOCK_FLAGS] & PVCLOCK_GUEST_STOPPED; /* which the guest has not looked at yet */
	/* Odd while it changes: others may read it meanwhile, as Linux' vDSO does the boot CPU's on each. */
	uint32_t version = get_le32(b) | 1;
	uint8_t odd[4], even[4];
	put_le32(odd, version);
	put_le32(even, version + 1);
	memset(b, 0, sizeof(b));
	put_le64(b + 8, v->vm->clock_base_tsc);
	put_le64(b + 16, v->vm->clock_base_ns);
	put_le32(b + 24, v->vm->clock_mul);
	b[28] = (uint8_t)v->vm->clock_shift;
	b[PVCLOCK_FLAGS] = flags;
	if (err || gmem_write(&v->vm->mem, gpa, odd, sizeof(odd)) ||
	    gmem_write(&v->vm->mem, gpa + sizeof(odd), b + sizeof(odd), sizeof(b) - sizeof(odd)) ||
	    gmem_write(&v->vm->mem, gpa, even, sizeof(even))) /* in this order: gmem_dirty has a fence */
		guest_log(v->vm, "its clock page at %lx is not memory", gpa);
}

void clock_hot(const struct vcpu *v, void (*fn)(void *arg, gpa_t gpa, size_t len), void *arg)
{
	if (v->msr.system_time & PVCLOCK_ENABLE)
		fn(arg, v->msr.system_time & ~PVCLOCK_ENABLE, PVCLOCK_SIZE);
}

void clock_update(struct vcpu *v) { write_page(v, PVCLOCK_TSC_STABLE); }

void clock_resume(struct vcpu *v, uint64_t host_tsc)
{
	/* It was saved with this TSC, here or by the host that it comes from. */
	int64_t stood = (int64_t)(guest_tsc_at(v->vm, host_tsc) - v->state->tsc);
	bool said = stood >= (int64_t)(STOPPED_SECONDS * v->vm->tsc_hz);
	write_page(v, said ? PVCLOCK_TSC_STABLE | PVCLOCK_GUEST_STOPPED : PVCLOCK_TSC_STABLE);
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
		guest_log(v->vm, "its wall clock page at %lx is not memory", gpa);
}

static void clock_pre_save(void *obj) { clock_save(CONTAINER_OF(obj, struct vm, clock), rdtsc()); }

static void clock_post_load(void *obj)
{
	struct vm *vm = CONTAINER_OF(obj, struct vm, clock);
	clock_begin(vm, rdtsc());
	if (vm->tsc_ratio != HV_TSC_SAME)
		log_warn("vm %s: its TSC keeps its %lu MHz on this host of %lu MHz: where the CPU cannot scale it "
			 "(`host`), "
			 "each RDTSC of the guest costs an exit",
			 vm->cfg.name, vm->tsc_hz / 1000000, time_tsc_hz() / 1000000);
}

static int clock_check(const void *obj unused, const void *state, struct why *w)
{
	const struct vm_clock_state *s = state;
	if (ratio_of(s->tsc_hz))
		return 0;
	return why_set(w, -ENOTSUP,
		       "the guest's TSC runs at %lu kHz, which this host's, at %lu kHz, cannot be scaled to",
		       s->tsc_hz / 1000, time_tsc_hz() / 1000);
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

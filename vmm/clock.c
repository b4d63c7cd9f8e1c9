/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Guest time. One TSC offset and one clock offset a VM, the same on all its vCPUs; KVM's paravirtual clock (Linux
 * Documentation/virt/kvm/x86/msr.rst) tells the guest how to make nanoseconds of its TSC. Both migrate as guest values,
 * so that the destination goes on from where the source stopped, plus the time that the guest stood still.
 */
#include "arch/x86/cpu.h"
#include "kernel/log.h"
#include "vmm/vcpu.h"

#define PVCLOCK_TSC_STABLE 1
#define PVCLOCK_ENABLE     BIT(0)

uint64_t guest_tsc(const struct vm *vm) { return rdtsc() + vm->tsc_offset; }
uint64_t guest_ns(const struct vm *vm) { return time_ns() + vm->clock_offset; }

/* ns = ((ticks << shift) * mul) >> 32, with mul in [2^31, 2^32) */
static void tsc_scale(uint64_t hz, uint32_t *mul, int8_t *shift)
{
	*shift = 0;
	uint64_t base = hz;
	while (base > NS_PER_SEC * 2) {
		base >>= 1;
		(*shift)--;
	}
	while (base <= NS_PER_SEC) {
		base <<= 1;
		(*shift)++;
	}
	*mul = (uint32_t)(((unsigned __int128)NS_PER_SEC << 32) / base);
}

void clock_update(struct vcpu *v)
{
	gpa_t gpa = v->msr.system_time & ~PVCLOCK_ENABLE;
	uint8_t b[32] = { 0 };
	uint32_t version, mul;
	int8_t shift;
	if (!(v->msr.system_time & PVCLOCK_ENABLE) || gmem_read(&v->vm->mem, gpa, &version, sizeof(version)))
		return;
	/* Odd while it changes; here nobody reads meanwhile, since the reader is this vCPU and it is outside. */
	tsc_scale(v->vm->clock.s.tsc_hz, &mul, &shift);
	uint64_t flags = cpu_irq_save(), tsc = guest_tsc(v->vm), ns = guest_ns(v->vm);
	cpu_irq_restore(flags);
	put_le32(b, (version | 1) + 1);
	put_le64(b + 8, tsc);
	put_le64(b + 16, ns);
	put_le32(b + 24, mul);
	b[28] = (uint8_t)shift;
	b[29] = PVCLOCK_TSC_STABLE;
	if (gmem_write(&v->vm->mem, gpa, b, sizeof(b)))
		log_warn("vm %s: its clock page at %llx is not memory", v->vm->cfg.name, (unsigned long long)gpa);
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
		log_warn("vm %s: its wall clock page at %llx is not memory", v->vm->cfg.name, (unsigned long long)gpa);
}

static void clock_pre_save(void *obj)
{
	struct vm *vm = CONTAINER_OF(obj, struct vm, clock);
	uint64_t flags = cpu_irq_save();
	vm->clock.s.guest_tsc = guest_tsc(vm);
	vm->clock.s.guest_ns = guest_ns(vm);
	cpu_irq_restore(flags);
}

static void clock_post_load(void *obj)
{
	struct vm *vm = CONTAINER_OF(obj, struct vm, clock);
	uint64_t flags = cpu_irq_save();
	vm->tsc_offset = vm->clock.s.guest_tsc - rdtsc();
	vm->clock_offset = vm->clock.s.guest_ns - time_ns();
	cpu_irq_restore(flags);
}

static int clock_check(const void *obj unused, const void *state, struct why *w)
{
	const struct vm_clock_state *s = state;
	uint64_t here = time_tsc_hz(), diff = s->tsc_hz > here ? s->tsc_hz - here : here - s->tsc_hz;
	if (diff > here / 100) /* a measurement is good to 0.1 %; the guest's timers follow what it was told at boot */
		return why_set(w, -ENOTSUP, "the guest's TSC runs at %llu MHz, this host's at %llu MHz, and tern cannot scale it here",
			       (unsigned long long)(s->tsc_hz / 1000000), (unsigned long long)(here / 1000000));
	return 0;
}

static const struct sfield clock_fields[] = {
	F(struct vm_clock_state, guest_tsc), F(struct vm_clock_state, guest_ns), F(struct vm_clock_state, tsc_hz),
	F(struct vm_clock_state, wall_ns),
};
const struct sdesc clock_desc = { .name = "clock", .version = 1, SDESC(struct vm_clock, s, struct vm_clock_state, clock_fields),
	.check = clock_check, .pre_save = clock_pre_save, .post_load = clock_post_load };

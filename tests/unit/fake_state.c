/* SPDX-License-Identifier: BSD-2-Clause */
/* The state that migrates with a VM of fake_hosts.h: a clock, two devices of one kind, its configuration. */
#include "kernel/time.h"
#include "tests/unit/fake_hosts.h"
#include <stdio.h>

static const struct sfield dev_fields[] = {
	F_ARR(struct fake_dev_state, regs),
	F(struct fake_dev_state, mode),
	F_ARR(struct fake_dev_state, fifo),
};
static int dev_check(const void *obj unused, const void *state, struct why *w)
{
	const struct fake_dev_state *s = state;
	return s->mode > 9 ? why_set(w, -EINVAL, "mode %u", s->mode) : 0;
}
static const struct sfield dev2_fields[] = {
	F_ARR(struct fake_dev_state, regs),
	F(struct fake_dev_state, mode),
	F_ARR(struct fake_dev_state, fifo),
	F_V(struct fake_dev_state, newer, 2),
};
static void dev_pre_save(void *obj)
{
	struct fake_dev *d = obj;
	if (fake_vm_opts.late_write && gmem_write(&d->vm->mem, 0, &d->s, sizeof(d->s)))
		panic("late write");
}
static void dev_post_load(void *obj)
{
	struct fake_dev *d = obj;
	if (fake_loaded && d == &fake_devs(d->vm)[1])
		fake_loaded(d->vm);
}
static const struct sdesc dev_desc = { .name = "fakedev",
				       .version = 1,
				       SDESC(struct fake_dev, s, struct fake_dev_state, dev_fields),
				       .check = dev_check,
				       .pre_save = dev_pre_save,
				       .post_load = dev_post_load };

static const struct sdesc dev2_desc = { .name = "fakedev",
					.version = 2,
					SDESC(struct fake_dev, s, struct fake_dev_state, dev2_fields) };

static const struct sfield clock_fields[] = {
	F(struct vm_clock_state, guest_tsc),
	F(struct vm_clock_state, guest_ns),
	F(struct vm_clock_state, tsc_hz),
	F(struct vm_clock_state, wall_ns),
};
static void clock_pre_save(void *obj)
{
	struct vm *vm = CONTAINER_OF(obj, struct vm, clock);
	vm->clock.s.guest_ns = time_ns() + vm->clock_base_ns;
}
static void clock_post_load(void *obj)
{
	struct vm *vm = CONTAINER_OF(obj, struct vm, clock);
	vm->clock_base_ns = vm->clock.s.guest_ns - time_ns();
}
static const struct sdesc clock_desc = { .name = "clock",
					 .version = 1,
					 SDESC(struct vm_clock, s, struct vm_clock_state, clock_fields),
					 .pre_save = clock_pre_save,
					 .post_load = clock_post_load };

/* As the destination has them: section n is refused where the test says so. */
#define SECTION_ASKS(n, from)                                                  \
	static int asks_##n(const void *obj, const void *state, struct why *w) \
	{                                                                      \
		if (fake_vm_opts.refuse_section == (n))                        \
			return why_set(w, -EINVAL, "no such state");           \
		return (from)->check ? (from)->check(obj, state, w) : 0;       \
	}
SECTION_ASKS(1, &clock_desc)
SECTION_ASKS(2, fake_vm_opts.newer ? &dev2_desc : &dev_desc)
SECTION_ASKS(3, &dev_desc)
SECTION_ASKS(4, &vm_config_desc)

static const struct sdesc *asking(unsigned i, const struct sdesc *d)
{
	static int (*const checks[])(const void *, const void *, struct why *) = { asks_1, asks_2, asks_3, asks_4 };
	static struct sdesc copies[FAKE_SECTIONS][2]; /* of either version; always written alike */
	struct sdesc *c = &copies[i][d == &dev2_desc];
	*c = *d;
	c->check = checks[i];
	return c;
}

void vm_for_each_section(struct vm *vm, void (*fn)(void *arg, const struct sdesc *d, uint32_t instance, void *obj),
			 void *arg)
{
	struct {
		const struct sdesc *d;
		uint32_t instance;
		void *obj;
	} all[] = { { &clock_desc, 0, &vm->clock },
		    { fake_vm_opts.newer ? &dev2_desc : &dev_desc, 0, &fake_devs(vm)[0] },
		    { &dev_desc, 1, &fake_devs(vm)[1] },
		    { &vm_config_desc, 0, &vm->cfg } };
	bool source = vm->state == VM_PAUSED || vm->state == VM_STOPPED;
	_Static_assert(ARRAY_SIZE(all) == FAKE_SECTIONS, "of those that fake_vm_opts counts");
	for (unsigned i = vm->mem.size ? 0 : ARRAY_SIZE(all) - 1; i < ARRAY_SIZE(all); i++) {
		if (!source)
			all[i].d = asking(i, all[i].d);
		if (source && fake_vm_opts.sections_skip == i + 1)
			continue;
		fn(arg, all[i].d, all[i].instance, all[i].obj);
		if (source && fake_vm_opts.sections_twice == i + 1)
			fn(arg, all[i].d, all[i].instance, all[i].obj);
	}
}

/* Page 0, as if it held a clock, and one that is no RAM. */
void vm_for_each_hot(struct vm *vm, void (*fn)(void *arg, gpa_t gpa, size_t len), void *arg)
{
	fn(arg, PAGE_SIZE - 16, 32);
	fn(arg, vm->mem.size, 32);
}

int vm_save_cpus(struct vm *vm, struct why *w)
{
	if (fake_vm_opts.save_fail)
		return why_set(w, -EIO, "vCPU 0 cannot be saved");
	return vm->state == VM_PAUSED || !vm->mem.size ? 0 : why_set(w, -EINVAL, "not paused");
}

int vm_load_cpus(struct vm *vm unused, struct why *w)
{
	if (fake_vm_opts.load_ns)
		task_sleep_until(time_ns() + fake_vm_opts.load_ns);
	return fake_vm_opts.load_fail ? why_set(w, -EINVAL, "a state that no CPU can have") : 0;
}

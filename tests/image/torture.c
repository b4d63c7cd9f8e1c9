/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * `torture`: a running VM is stopped at random instants and moved, from this host to this host. Each time everything is
 * saved as a migration saves it (sections by their tables, memory by the dirty set), the VM is destroyed, a skeleton is
 * built under the same name and all is loaded into that. What the guest computes must not show it: tests/guest/torture
 * is a guest that would notice, tests/rig/test_torture.py compares.
 *
 *   pause -> sections to bytes, harvest, pages to copies -> destroy ... create -> pages, sections, CPUs -> resume
 */
#include "arch/x86/cpu.h"
#include "arch/x86/hw/regs.h"
#include "kernel/console.h"
#include "kernel/page.h"
#include "kernel/task.h"
#include "kernel/time.h"
#include "vmm/disk.h"
#include "vmm/pc/machine.h"
#include "vmm/migrate/sections.h"
#include "vmm/x86/vcpu.h"
#include "vmm/vm_console.h"
#include "vmm/x86/guest_clock.h"
#include <stdlib.h>
#include <string.h>

#define DEFAULT_MAX_US 4000

/* What the guest was doing at the instants: a test must see that the rare ones were met. */
struct met {
	uint64_t instants, user, irq_off, single_step, halted, shadow;
	uint64_t irq, exception, error_code; /* pending events, by kind */
	uint64_t event_next, in_nmi;
};

/* One VM between two lives. */
struct image {
	struct vm_config cfg;
	uint8_t *sections; /* one after the other, in the order of vm_for_each_section */
	uint64_t *map;     /* pages that were ever written */
	uint64_t npages;
	hpa_t *page; /* copies, in the order of the map */
	uint8_t said[VM_CONSOLE_RING];
	size_t nsaid;
	uint64_t clock_ns;
	struct disks disks; /* which nothing copies */
};

static uint64_t next_random(uint64_t *s) /* xorshift64*: any seed but 0 */
{
	*s ^= *s >> 12;
	*s ^= *s << 25;
	*s ^= *s >> 27;
	return *s * 0x2545f4914f6cdd1dULL;
}

/* Every second stay is of any length, the others of any magnitude: so there are many short ones. */
static uint64_t random_ns(uint64_t *seed, uint64_t max_us)
{
	uint64_t max = max_us * NS_PER_US;
	if (next_random(seed) & 1)
		return next_random(seed) % max;
	return next_random(seed) % BIT(1 + next_random(seed) % (64 - (unsigned)__builtin_clzll(max))) % max;
}

static void met_count(struct met *m, const struct vm *vm)
{
	for (unsigned i = 0; i < vm->nvcpus; i++) {
		const struct cpu_state *s = vm->vcpus[i]->state;
		bool exception = s->event && hv_event_type(s->event) == HV_EVENT_EXC;
		m->instants++;
		m->user += segment_dpl(s->seg[SEG_SS].attr) == 3;
		m->irq_off += !(s->rflags & RFLAGS_IF);
		m->single_step += !!(s->rflags & RFLAGS_TF);
		m->halted += !!s->halted;
		m->shadow += !!s->int_shadow;
		m->irq += s->event && !exception;
		m->exception += exception;
		m->error_code += exception && (s->event & BIT(11));
		m->event_next += !!s->event_next;
		m->in_nmi += !!s->nmi_blocked;
	}
}

/*
 * What the moment did not bring but might have: an interrupt that the vCPU would take next is on its way in already
 * (events_inject()), and one on its way waits behind an exception whose handler has just ended (hv.h,
 * event_next; no emulator cuts deliveries in a way that a test could call for).
 */
static void push_interrupt(struct vcpu *v, uint64_t *seed)
{
	struct cpu_state *s = v->state;
	uint64_t draw = next_random(seed) >> 32;
	int vector = vlapic_pending(&v->lapic);
	bool ready = (s->rflags & RFLAGS_IF) && !s->int_shadow && !s->pending_debug && !s->halted;
	if (vector >= 0 && ready && !s->event && !s->event_next && (draw & 1)) {
		vlapic_ack(&v->lapic, (uint8_t)vector);
		s->event = HV_EVENT(HV_EVENT_INTR, (unsigned)vector);
	}
	if (s->event && hv_event_type(s->event) == HV_EVENT_INTR && !s->event_next && (draw & 2)) {
		s->event_next = s->event;
		s->event = 0;
	}
}

/* ---- saving ---- */

static int sections_save(struct image *im, struct vm *vm)
{
	struct sections s;
	size_t size = 0;
	int err = sections_init(&s, vm);
	if (err)
		return err;
	for (unsigned i = 0; i < s.n; i++)
		size += state_size(s.v[i].desc);
	uint8_t *to = im->sections = malloc(size);
	for (unsigned i = 0; to && i < s.n; to += state_size(s.v[i++].desc)) {
		if (s.v[i].desc == &clock_desc)
			im->clock_ns = time_ns();
		state_save(s.v[i].desc, s.v[i].obj, to);
	}
	sections_fini(&s);
	return im->sections ? 0 : -ENOMEM;
}

/* What passes over tables that no walk came by has missed nothing: where each leaf is looked at no dirt is left. */
static int all_was_found(struct gmem *g)
{
	struct gmem_range r[2];
	uint64_t missed = 0;
	for (unsigned i = 0, n = gmem_ranges(g, r); i < n; i++)
		missed += gmem_track_harvest(g, r[i].first, r[i].count);
	if (missed)
		log_error("torture: %lu dirty pages in tables that no walk came by", missed);
	return missed ? -EIO : 0;
}

/* Which pages the guest has: at first all but those of zeros, later what the dirty set adds. The VM is paused. */
static int pages_find(struct image *im, struct vm *vm)
{
	struct gmem *g = &vm->mem;
	struct gmem_range r[2];
	bool first = !im->map;
	if (first) {
		gmem_track_start(g);
		im->map = calloc(BITMAP_WORDS(g->gfn_end), sizeof(*im->map));
	}
	if (!im->map)
		return -ENOMEM;
	if (!first)
		gmem_track_harvest_all(g, true);
	for (unsigned i = 0, n = gmem_ranges(g, r); i < n; i++) {
		gfn_t end = r[i].first + r[i].count, at = r[i].first;
		for (; !first && (at = ALIGN_DOWN(gmem_track_next(g, at, end), 64UL)) < end; at += 64)
			im->map[at / 64] |= gmem_track_take(g, at);
		for (gfn_t f = r[i].first; first && f < r[i].first + r[i].count; f++) {
			struct gmem_pin pin;
			if (gmem_pin_wait(g, f << PAGE_SHIFT, PAGE_SIZE, GMEM_READ, &pin))
				return -EFAULT;
			const uint64_t *p = pin.p;
			if (p[0] || memcmp(p, p + 1, PAGE_SIZE - sizeof(*p)) != 0)
				bitmap_set(im->map, f);
			gmem_unpin(g, &pin);
		}
	}
	return first ? 0 : all_was_found(g);
}

static int pages_save(struct image *im, struct vm *vm)
{
	uint64_t total = 0;
	int err = pages_find(im, vm);
	if (err)
		return err;
	for (uint64_t i = 0; i < BITMAP_WORDS(vm->mem.gfn_end); i++)
		total += popcount64(im->map[i]);
	im->page = malloc(total * sizeof(*im->page));
	if (!im->page)
		return -ENOMEM;
	for (gfn_t f = 0; f < vm->mem.gfn_end; f++) {
		if (!im->map[f / 64]) {
			f |= 63;
			continue;
		}
		if (!bitmap_test(im->map, f))
			continue;
		hpa_t copy = page_alloc(PAGE_ORDER_4K);
		if (copy == HPA_NONE)
			return -ENOMEM;
		im->page[im->npages++] = copy;
		err = gmem_read(&vm->mem, f << PAGE_SHIFT, hva_of(copy), PAGE_SIZE);
		if (err)
			return err;
	}
	return 0;
}

static void image_empty(struct image *im) /* its map stays */
{
	while (im->npages)
		page_free(im->page[--im->npages], PAGE_ORDER_4K);
	free(im->page);
	free(im->sections);
	im->page = NULL;
	im->sections = NULL;
}

/* ---- loading ---- */

static int sections_load(const struct image *im, struct vm *vm, struct why *w)
{
	struct sections s;
	const uint8_t *from = im->sections;
	int err = sections_init(&s, vm);
	if (err)
		return err;
	for (unsigned i = 0; i < s.n; i++) {
		const struct sdesc *d = s.v[i].desc;
		err = state_load(d, s.v[i].obj, d->version, from, state_size(d), w);
		if (err)
			goto out;
		from += state_size(d);
		if (d == &clock_desc)
			s.clock_ns = time_ns();
	}
	err = vm_load_cpus(vm, w);
	if (err)
		goto out;
	/* It stood still from the save to the load, and has run since then. */
	vm_advance_clock(vm, s.clock_ns - im->clock_ns);
out:
	sections_fini(&s);
	return err;
}

static int pages_load(const struct image *im, struct vm *vm)
{
	uint64_t n = 0;
	gmem_track_start(&vm->mem);
	for (gfn_t f = 0; f < vm->mem.gfn_end && n < im->npages; f++) {
		if (!bitmap_test(im->map, f))
			continue;
		int err = gmem_write(&vm->mem, f << PAGE_SHIFT, hva_of(im->page[n++]), PAGE_SIZE);
		if (err)
			return err;
	}
	return 0;
}

/* ---- one life to the next ---- */

/* Paused, unless a migration has it. */
static int pause(struct vm *vm, struct why *w)
{
	mutex_lock(&vm->lock);
	bool migrates = vm->migration;
	mutex_unlock(&vm->lock);
	if (migrates)
		return why_set(w, -EBUSY, "it is being migrated");
	int err = vm_pause(vm);
	if (!err)
		return 0;
	mutex_lock(&vm->lock);
	why_set(w, err, "it cannot be stopped, it is %s %s", vm_state_name(vm->state), vm_text_get(&vm->fail).s);
	mutex_unlock(&vm->lock);
	return err;
}

/* All that makes it up, and the last words of its guest. It is paused. */
static int image_take(struct image *im, struct vm *vm, struct why *w)
{
	uint64_t total;
	im->cfg = vm->cfg;
	im->nsaid = vm_console_tail(vm, im->said, sizeof(im->said), &total);
	int err = vm_save_cpus(vm, w);
	if (err)
		return err;
	err = pages_save(im, vm);
	return err ? err : sections_save(im, vm);
}

/* What was written, in place of the empty layers that a new VM has. */
static void disks_back(struct image *im, struct vm *vm)
{
	for (unsigned i = 0; i < vm->cfg.ndisks; i++) {
		layer_fini(&vm->disk[i]->layer);
		vm->disk[i]->layer = im->disks.of[i]->layer;
		vm->disk[i]->layer.name = vm->disk[i]->name;
		free(im->disks.of[i]);
		im->disks.of[i] = NULL;
	}
}

static int image_run(struct image *im, struct why *w)
{
	struct vm *vm;
	int err = vm_create_incoming(&im->cfg, NULL, NULL, NULL, &vm, w);
	if (err)
		return err;
	for (size_t i = 0; i < im->nsaid; i++)
		vm_console_out(vm, im->said[i]);
	disks_back(im, vm);
	err = pages_load(im, vm);
	if (err)
		goto fail;
	err = sections_load(im, vm, w);
	if (err)
		goto fail;
	vm_resume(vm);
	return 0;
fail:
	vm_destroy(vm);
	return err;
}

/* From the table's VM to a new one of the same name. After an error there is none, unless it could not be stopped. */
static int reincarnate(struct image *im, const char *name, uint64_t *seed, struct met *met, struct why *w)
{
	struct vm *vm = vm_get(name);
	if (!vm)
		return why_set(w, -ENOENT, "there is no VM %s any more", name);
	int err = pause(vm, w);
	if (err) {
		vm_put(vm);
		return err;
	}
	for (unsigned i = 0; i < vm->nvcpus; i++)
		push_interrupt(vm->vcpus[i], seed);
	met_count(met, vm);
	err = image_take(im, vm, w);
	mutex_lock(&vm->lock);
	im->disks = disk_take_all(vm); /* its devices do not use them: it stands still, and ends */
	mutex_unlock(&vm->lock);
	vm_destroy(vm);
	vm_put(vm);
	if (!err)
		err = image_run(im, w);
	disk_free_taken(&im->disks);
	image_empty(im);
	return err ? why_set(w, err, "%s", err_name(err)) : 0;
}

static void report(struct con *c, const struct met *m)
{
	const struct {
		const char *key;
		uint64_t n;
	} row[] = {
		{ "instants", m->instants },
		{ "user", m->user },
		{ "irq_off", m->irq_off },
		{ "single_step", m->single_step },
		{ "halted", m->halted },
		{ "shadow", m->shadow },
		{ "irq", m->irq },
		{ "exception", m->exception },
		{ "error_code", m->error_code },
		{ "event_next", m->event_next },
		{ "in_nmi", m->in_nmi },
	};
	for (unsigned i = 0; i < ARRAY_SIZE(row); i++)
		out_u64(c, row[i].key, row[i].n);
}

static void stop_tracking(const char *name)
{
	struct vm *vm = vm_get(name);
	if (!vm)
		return;
	mutex_lock(&vm->lock);
	if (vm->state == VM_RUNNING)
		gmem_track_stop(&vm->mem);
	mutex_unlock(&vm->lock);
	vm_put(vm);
}

static int cmd_torture(struct con *c, int argc, char **argv)
{
	(void)argc;
	uint64_t opt[2] = { 1, DEFAULT_MAX_US }; /* seed, max_us */
	for (unsigned i = 0; i < 2; i++) {
		const char *v = con_opt(c, i ? "--max-us" : "--seed");
		if (v && !(opt[i] = strtoul(v, NULL, 10)))
			return con_error(c, -EINVAL, "torture: %s is not a number above 0", v);
	}
	unsigned long count = strtoul(argv[2], NULL, 10);
	struct image *im = calloc(1, sizeof(*im));
	struct met met = { 0 };
	struct why w = { "" };
	int err = 0;
	if (!im)
		return con_error(c, -ENOMEM, "torture: out of memory");
	for (unsigned long i = 0; i < count && !err; i++) {
		task_sleep_until(time_ns() + random_ns(&opt[0], opt[1]));
		err = c->interrupted(c) ? -EINTR : reincarnate(im, argv[1], &opt[0], &met, &w);
	}
	if (im->map)
		stop_tracking(argv[1]);
	free(im->map);
	free(im);
	if (err)
		return con_error(c, err, "torture %s: after %lu instants: %s", argv[1], met.instants,
				 w.text[0] ? w.text : err_name(err));
	report(c, &met);
	return 0;
}
CONSOLE_CMD(torture, "NAME COUNT [--seed N] [--max-us N]",
	    "save, destroy and restore a VM at random instants (test builds)", "torture demo 500", cmd_torture, NULL);

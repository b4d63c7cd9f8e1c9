/* SPDX-License-Identifier: BSD-2-Clause */
/* `top`: what VMs, their vCPUs and the host's CPUs have done in the last second. */
#include "kernel/console.h"
#include "kernel/host.h"
#include "kernel/page.h"
#include "kernel/task.h"
#include "kernel/time.h"
#include "kernel/uart.h"
#include "vmm/vm.h"
#include "vmm/vm_cmd_show.h"
#include "vmm/vm_port.h"
#include "vmm/x86/vcpu.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LOOK_NS (100 * NS_PER_MS) /* between two looks at the keys */
#define MOST    3                 /* kinds of exits in a line */
#define CLEAR   "\033[H\033[J"

struct top_vcpu {
	char vm[VM_NAME_MAX];
	uint32_t id;
	uint64_t run_ns, wait_ns, exits[EXIT_INVALID + 1];
	/* Of the whole VM, at its first one: */
	uint64_t memory, sent, received, dirty_rate;
};
struct top_sample {
	uint64_t at_ns;
	struct top_vcpu *vcpu; /* a VM's one after the other */
	uint64_t *idle_ns;     /* of each CPU: behind them */
	unsigned n, max;       /* n may be more than there is room for */
};

/* ---- one sample ---- */

static void add_names(struct vm *vm, void *arg)
{
	struct top_sample *s = arg;
	for (unsigned i = 0; !vm_state_has_ended(vm_state_now(vm)) && i < vm->cfg.vcpus; i++, s->n++)
		if (s->n < s->max) {
			memcpy(s->vcpu[s->n].vm, vm->cfg.name, VM_NAME_MAX);
			s->vcpu[s->n].id = i;
		}
}

/* What they have done so far; one that has gone meanwhile: nothing. */
static void fill(struct top_vcpu *t)
{
	struct vm *vm = vm_get(t->vm);
	if (!vm)
		return;
	mutex_lock(&vm->lock); /* vCPUs stay */
	struct vcpu *v = vm->vcpus && t->id < vm->nvcpus ? vm->vcpus[t->id] : NULL;
	if (v) {
		task_times(v->task, &t->run_ns, &t->wait_ns);
		for (unsigned k = 0; k < ARRAY_SIZE(t->exits); k++)
			t->exits[k] = __atomic_load_n(&v->exits[k], __ATOMIC_RELAXED);
	}
	t->memory = vm->cfg.mem;
	t->dirty_rate = __atomic_load_n(&vm->dirty_rate, __ATOMIC_RELAXED);
	vm_port_bytes(vm, &t->sent, &t->received);
	mutex_unlock(&vm->lock);
	vm_put(vm);
}

/* 0 or -ENOMEM. */
static int sample(struct top_sample *s)
{
	*s = (struct top_sample){ .n = 0 };
	do { /* VMs may have come meanwhile */
		free(s->vcpu);
		s->max = s->n + 1;
		s->n = 0;
		s->vcpu = calloc(1, s->max * sizeof(*s->vcpu) + host_info.ncpus * sizeof(*s->idle_ns));
		if (!s->vcpu)
			return -ENOMEM;
		s->idle_ns = (uint64_t *)(s->vcpu + s->max);
		vm_for_each(add_names, s);
	} while (s->n > s->max);
	s->at_ns = time_ns();
	for (unsigned i = 0; i < host_info.ncpus; i++)
		s->idle_ns[i] = task_idle_ns(i);
	for (unsigned i = 0; i < s->n; i++)
		fill(&s->vcpu[i]);
	return 0;
}

/* ---- two of them ---- */

static uint64_t grown(uint64_t now, uint64_t was) { return now > was ? now - was : 0; }

/* What v has done since the sample before; all that it has, if it was not there. */
static struct top_vcpu since(const struct top_sample *before, const struct top_vcpu *v)
{
	struct top_vcpu d = *v;
	for (unsigned i = 0; i < before->n; i++) {
		const struct top_vcpu *b = &before->vcpu[i];
		if (b->id != v->id || strcmp(b->vm, v->vm))
			continue;
		d.run_ns = grown(v->run_ns, b->run_ns);
		d.wait_ns = grown(v->wait_ns, b->wait_ns);
		d.sent = grown(v->sent, b->sent);
		d.received = grown(v->received, b->received);
		for (unsigned k = 0; k < ARRAY_SIZE(d.exits); k++)
			d.exits[k] = grown(v->exits[k], b->exits[k]);
		break;
	}
	return d;
}

/* The next of a VM's vCPUs: *sum is of those up to it. Is it the last one? */
static bool add_up(struct top_vcpu *sum, const struct top_sample *now, unsigned i, const struct top_vcpu *v)
{
	struct top_vcpu was = *sum;
	*sum = *v;
	if (v->id) {
		sum->run_ns += was.run_ns;
		sum->wait_ns += was.wait_ns;
		for (unsigned k = 0; k < ARRAY_SIZE(was.exits); k++)
			sum->exits[k] += was.exits[k];
	}
	return i + 1 == now->n || !now->vcpu[i + 1].id;
}

static uint64_t sum_of(const struct top_vcpu *v)
{
	uint64_t n = 0;
	for (unsigned k = 0; k < ARRAY_SIZE(v->exits); k++)
		n += v->exits[k];
	return n;
}

static uint64_t per_s(uint64_t n, uint64_t ns) { return n * 1000 / MAX(ns / NS_PER_MS, 1UL); }

/* "hlt 812, msr 40": the most frequent kinds. */
static void most_of(const struct top_vcpu *v, uint64_t ns, char *buf, size_t size)
{
	bool told[ARRAY_SIZE(v->exits)] = { false };
	int at = 0;
	buf[0] = '\0';
	for (unsigned i = 0; i < MOST; i++) {
		unsigned best = 0;
		for (unsigned k = 0; k < ARRAY_SIZE(v->exits); k++)
			if (!told[k] && (told[best] || v->exits[k] > v->exits[best]))
				best = k;
		told[best] = true;
		if (!v->exits[best] || at >= (int)size)
			return;
		at += sniprintf(buf + at, size - (size_t)at, "%s%s %lu", i ? ", " : "", vm_cmd_show_exit(best),
				per_s(v->exits[best], ns));
	}
}

/* Of a vCPU, or of all that its VM has. */
static void show_work(struct con *c, const struct top_vcpu *v, uint64_t ns)
{
	out_us(c, "run_us|", v->run_ns);
	out_us(c, "wait_us|", v->wait_ns);
	out_u64(c, "exits_per_s|exits/s", per_s(sum_of(v), ns));
	if (c->json) {
		out_words(c, "exits");
		for (unsigned k = 0; k < ARRAY_SIZE(v->exits); k++)
			out_u64(c, vm_cmd_show_exit(k), v->exits[k]);
		out_words_end(c);
	}
}

static void show_vcpu(struct con *c, const struct top_vcpu *v, const char *name, uint64_t ns)
{
	char most[64];
	most_of(v, ns, most, sizeof(most));
	out_row(c);
	out_line(c, "vcpu", "%s", name);
	out_str(c, "vm|", v->vm);
	out_u64(c, "vcpu|", v->id);
	show_work(c, v, ns);
	out_line(c, "run", "%s%%", out_tenths(v->run_ns * 100, ns).s);
	out_line(c, "wait", "%s%%", out_tenths(v->wait_ns * 100, ns).s);
	out_line(c, "most", "%s", most);
	out_row_end(c);
}

static void show_vm(struct con *c, const struct top_vcpu *v, uint64_t ns)
{
	out_row(c);
	out_str(c, "vm", v->vm);
	out_bytes(c, "memory", v->memory);
	out_bytes(c, "received_per_s|received/s", per_s(v->received, ns));
	out_bytes(c, "sent_per_s|sent/s", per_s(v->sent, ns));
	out_bytes(c, "dirtied_per_s|dirtied/s", v->dirty_rate);
	show_work(c, v, ns);
	out_row_end(c);
}

static void show_vms(struct con *c, const struct top_sample *before, const struct top_sample *now, uint64_t ns)
{
	struct top_vcpu sum;
	out_table(c, "vms",
		  "-16 vm, 9 memory, 11 received_per_s|received/s, 11 sent_per_s|sent/s, 11 dirtied_per_s|dirtied/s",
		  NULL);
	for (unsigned i = 0; i < now->n; i++) {
		struct top_vcpu d = since(before, &now->vcpu[i]);
		if (add_up(&sum, now, i, &d))
			show_vm(c, &sum, ns);
	}
	out_table_end(c);
}

/* As text the sum of a VM with several stands below them: the table above has no room for it. */
static void show_vcpus(struct con *c, const struct top_sample *before, const struct top_sample *now, uint64_t ns)
{
	struct top_vcpu sum;
	char name[VM_NAME_MAX + 16];
	out_table(c, "vcpus", "-18 vcpu, 7 run, 7 wait, 8 exits_per_s|exits/s, -31 most", "no VM runs here");
	for (unsigned i = 0; i < now->n; i++) {
		struct top_vcpu d = since(before, &now->vcpu[i]);
		bool last = add_up(&sum, now, i, &d);
		sniprintf(name, sizeof(name), "%s/%u", d.vm, d.id);
		show_vcpu(c, &d, name, ns);
		sniprintf(name, sizeof(name), "%s/all", d.vm);
		if (last && d.id && !c->json)
			show_vcpu(c, &sum, name, ns);
	}
	out_table_end(c);
}

static void show(struct con *c, const struct top_sample *before, const struct top_sample *now)
{
	uint64_t ns = MAX(now->at_ns - before->at_ns, 1UL);
	out_us(c, "interval_us|", ns);
	out_bytes(c, "memory_free", page_free_count() * PAGE_SIZE);
	out_table(c, "cpus", "3 cpu, 6 busy", NULL);
	for (unsigned i = 0; i < host_info.ncpus; i++) {
		uint64_t idle = MIN(grown(now->idle_ns[i], before->idle_ns[i]), ns);
		out_row(c);
		out_u64(c, "cpu", i);
		out_us(c, "busy_us|", ns - idle);
		out_line(c, "busy", "%s%%", out_tenths((ns - idle) * 100, ns).s);
		out_row_end(c);
	}
	out_table_end(c);
	show_vms(c, before, now, ns);
	show_vcpus(c, before, now, ns);
}

/* A second goes by: false, the operator leaves. */
static bool second(struct con *c)
{
	for (uint64_t end = time_ns() + NS_PER_SEC; time_ns() < end;) {
		if (c->json) {
			task_sleep_until(MIN(end, time_ns() + LOOK_NS));
			if (c->interrupted(c))
				return false;
			continue;
		}
		int key = c->getc(c, end);
		if (key == 'q' || key == CTRL_C || key == CONSOLE_LEAVE_KEY)
			return false;
	}
	return true;
}

static int cmd_top(struct con *c, int argc unused, char **argv unused)
{
	struct top_sample before, now;
	int err = sample(&before);
	if (err)
		return con_error(c, err, "top: out of memory");
	c->raw = !c->json;
	bool stays = second(c);
	while (stays && !(err = sample(&now))) {
		out_text(c, CLEAR "%s: `q` leaves\n", host_info.name);
		show(c, &before, &now);
		free(before.vcpu);
		before = now;
		stays = !c->json && second(c);
	}
	c->raw = false;
	free(before.vcpu);
	return err ? con_error(c, err, "top: out of memory") : 0;
}
CONSOLE_CMD(top, "", "what VMs and the host's CPUs do, each second; q leaves", "top", cmd_top, NULL);

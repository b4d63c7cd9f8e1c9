/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The life of a task: created with a guarded stack, listed, ended. A task cannot free the stack it stands on: the CPU
 * that leaves it last hands it to the reaper, a task of its own, because freeing a stack flushes TLBs and so needs
 * interrupts.
 */
#include "kernel/task.h"
#include "arch/x86/arch.h"
#include "arch/x86/paging.h"
#include "kernel/base/err.h"
#include "kernel/sched.h"
#include "kernel/sync.h"
#include <stdio.h>
#include <stdlib.h>

#define STACK_SIZE KIB(32)

static struct spinlock list_lock = SPINLOCK_INIT("tasks");
static struct list all = LIST_INIT(all);   /* list_lock */
static struct list dead = LIST_INIT(dead); /* list_lock, through task.run */
static struct sem ndead;

static void task_start(void *arg)
{
	struct task *t = arg;
	sched_finish_switch();
	cpu_irq_on();
	t->fn(t->arg);
	task_exit();
}

struct task *task_create(const char *name, enum task_prio prio, void (*fn)(void *arg), void *arg)
{
	struct task *t = calloc(1, sizeof(*t));
	if (!t)
		return NULL;
	t->stack = stack_alloc(STACK_SIZE);
	if (!t->stack) {
		free(t);
		return NULL;
	}
	sniprintf(t->name, sizeof(t->name), "%s", name);
	t->prio = prio;
	t->fn = fn;
	t->arg = arg;
	t->state = TASK_SLEEPING;
	t->rsp = arch_stack_prepare((char *)t->stack + STACK_SIZE, task_start, t);
	/* On the list before it runs: it may end at once, and its end takes it off the list. */
	uint64_t flags = spin_lock_irqsave(&list_lock);
	list_append(&all, &t->all);
	t->cpu = this_cpu()->id;
	sched_wake(t);
	spin_unlock_irqrestore(&list_lock, flags);
	return t;
}

void task_exit(void)
{
	cpu_irq_off();
	struct task *t = task_self();
	BUG_ON(t->prio == TASK_NPRIO);
	t->state = TASK_DEAD;
	sched_switch();
	__builtin_unreachable();
}

void task_reap(struct task *t)
{
	spin_acquire(&list_lock);
	list_remove(&t->all);
	list_append(&dead, &t->run);
	spin_release(&list_lock);
	sem_up(&ndead);
}

static void reaper(void *arg unused)
{
	for (;;) {
		sem_down(&ndead, TIME_NEVER);
		uint64_t flags = spin_lock_irqsave(&list_lock);
		struct task *t = list_first(&dead, struct task, run);
		list_remove(&t->run);
		spin_unlock_irqrestore(&list_lock, flags);
		stack_free(t->stack, STACK_SIZE);
		free(t);
	}
}

void task_init(void)
{
	sem_init(&ndead, 0);
	if (!task_create("reaper", TASK_PRIO_NORMAL, reaper, NULL))
		panic("no memory for the first task");
}

void task_yield(void)
{
	uint64_t flags = cpu_irq_save();
	task_self()->slice_end_ns = 0;
	sched_switch();
	cpu_irq_restore(flags);
}

void task_sleep_until(uint64_t deadline_ns)
{
	struct spinlock l = SPINLOCK_INIT("sleep");
	struct waitq q;
	waitq_init(&q);
	uint64_t flags = spin_lock_irqsave(&l);
	while (time_ns() < deadline_ns)
		waitq_wait(&q, &l, &flags, deadline_ns);
	spin_unlock_irqrestore(&l, flags);
}

void task_set_switch_hooks(void (*in)(void *arg), void (*out)(void *arg), void *arg)
{
	uint64_t flags = cpu_irq_save();
	struct task *t = task_self();
	t->hook_in = in;
	t->hook_out = out;
	t->hook_arg = arg;
	cpu_irq_restore(flags);
}

void vector_begin(void)
{
	preempt_disable();
	BUG_ON(this_cpu()->irq_depth || task_self()->hook_out);
	BUG_ON((uintptr_t)__builtin_frame_address(0) % 16); /* vectors are spilled to where the ABI has them aligned */
}

void vector_end(void) { preempt_enable(); }

int task_cpu(const struct task *t)
{
	return __atomic_load_n(&t->on_cpu, __ATOMIC_SEQ_CST) ? (int)__atomic_load_n(&t->cpu, __ATOMIC_RELAXED) : -1;
}

void task_for_each(void (*fn)(const struct task_info *i, void *arg), void *arg)
{
	static const char *const states[] = { "ready", "running", "sleeping", "ended" };
	uint64_t flags = spin_lock_irqsave(&list_lock);
	list_for_each(t, &all, struct task, all)
		fn(&(struct task_info){ .name = t->name,
					.cpu = task_cpu(t),
					.state = states[t->state],
					.run_ns = time_tsc_to_ns(sched_run_tsc(t)) },
		   arg);
	spin_unlock_irqrestore(&list_lock, flags);
}

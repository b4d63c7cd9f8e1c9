/* SPDX-License-Identifier: BSD-2-Clause */
/* The order of locks, looked at as they are taken (kernel/lock_order.h). */
#include "kernel/lock_order.h"
#include "arch/x86/cpu.h"
#include "kernel/base/err.h"
#include "kernel/sched.h"
#include "kernel/sync.h"
#include <string.h>

#define KINDS  128
#define DEPTH  16
#define OWNERS 256
#define NEAR   8

struct kind {
	const char *name;
	bool sleeps;                         /* a mutex; the spinlock inside of it is a kind of its own */
	bool in_irq, irqs_on;                /* [a] taken so once */
	uint64_t after[BITMAP_WORDS(KINDS)]; /* [a] kinds that have been taken while one of this was held */
};
static struct kind kinds[KINDS];
static unsigned nkinds;     /* [a] */
static uint16_t known[256]; /* [a] 1 + the kind found last, by a hash of the name's address */
static uint32_t busy;       /* [a] somebody adds a kind, or that one may come after another */
static struct {
	const struct spinlock *lock[DEPTH];
	uint8_t kind[DEPTH];
	unsigned n;
} held[CPU_MAX]; /* its own CPU, interrupts off */
/* Tasks that hold mutexes, each near the place that a hash of its address gives. */
static struct owner {
	const void *task; /* [a] NULL: free */
	unsigned n;       /* the task's own, as are the kinds */
	uint8_t kind[DEPTH];
} owners[OWNERS];

static void begin(void)
{
	while (__atomic_exchange_n(&busy, 1, __ATOMIC_ACQUIRE))
		cpu_relax();
}
static void end(void) { __atomic_store_n(&busy, 0, __ATOMIC_RELEASE); }

static int find(const char *name, bool sleeps)
{
	for (unsigned i = 0; i < __atomic_load_n(&nkinds, __ATOMIC_ACQUIRE); i++)
		if (kinds[i].sleeps == sleeps && !strcmp(kinds[i].name, name))
			return (int)i;
	return -1;
}

static unsigned kind_of(const char *name, bool sleeps)
{
	uint16_t *hint = &known[((uintptr_t)name >> 1 ^ (uintptr_t)name >> 9 ^ sleeps) % ARRAY_SIZE(known)];
	unsigned at = __atomic_load_n(hint, __ATOMIC_ACQUIRE);
	if (at && kinds[at - 1].name == name && kinds[at - 1].sleeps == sleeps)
		return at - 1;
	int k = find(name, sleeps);
	if (k < 0) {
		begin();
		k = find(name, sleeps);
		if (k < 0) {
			k = (int)nkinds;
			BUG_ON(k == KINDS);
			kinds[k].name = name;
			kinds[k].sleeps = sleeps;
			__atomic_store_n(&nkinds, nkinds + 1, __ATOMIC_RELEASE);
		}
		end();
	}
	__atomic_store_n(hint, (uint16_t)(k + 1), __ATOMIC_RELEASE);
	return (unsigned)k;
}

static bool comes_after(unsigned first, unsigned then)
{
	return __atomic_load_n(&kinds[first].after[then / 64], __ATOMIC_RELAXED) & BIT(then % 64);
}

/* Has `then` been taken with `first` held, or with one held that was taken with `first` held, ...? */
static bool leads_to(unsigned first, unsigned then)
{
	uint64_t seen[BITMAP_WORDS(KINDS)] = { 0 };
	uint8_t todo[KINDS];
	unsigned n = 0;
	todo[n++] = (uint8_t)first;
	while (n) {
		unsigned k = todo[--n];
		if (comes_after(k, then))
			return true;
		for (unsigned i = 0; i < nkinds; i++)
			if (comes_after(k, i) && !(seen[i / 64] & BIT(i % 64))) {
				seen[i / 64] |= BIT(i % 64);
				todo[n++] = (uint8_t)i;
			}
	}
	return false;
}

/* A lock of the kind `then` is wanted while one of the kind `first` is held. Interrupts off. */
static void follow(unsigned first, unsigned then)
{
	if (comes_after(first, then))
		return;
	begin();
	bool wrong = first == then || leads_to(then, first);
	if (!wrong)
		__atomic_fetch_or(&kinds[first].after[then / 64], BIT(then % 64), __ATOMIC_RELAXED);
	end();
	if (wrong)
		panic("lock order: \"%s\" is taken with \"%s\" held, and was taken before it", kinds[then].name,
		      kinds[first].name);
}

static struct owner *owner_at(const void *task, unsigned i)
{
	return &owners[(((uintptr_t)task >> 6 ^ (uintptr_t)task >> 14) + i) % OWNERS];
}

/* The current task's place; NULL: it holds none, or it is too early for tasks. */
static struct owner *owner_find(void)
{
	const void *self = task_self();
	for (unsigned i = 0; self && i < NEAR; i++)
		if (__atomic_load_n(&owner_at(self, i)->task, __ATOMIC_RELAXED) == self)
			return owner_at(self, i);
	return NULL;
}

static struct owner *owner_new(void)
{
	const void *self = task_self();
	for (unsigned i = 0; i < NEAR; i++) {
		const void *none = NULL;
		if (__atomic_compare_exchange_n(&owner_at(self, i)->task, &none, self, false, __ATOMIC_ACQUIRE,
						__ATOMIC_RELAXED))
			return owner_at(self, i);
	}
	panic("lock order: no place for another task that holds mutexes");
}

static void follow_mutexes(unsigned then)
{
	const struct owner *o = owner_find();
	for (unsigned i = 0; o && i < o->n; i++)
		follow(o->kind[i], then);
}

void lock_order_take(const struct spinlock *l)
{
	uint64_t flags = cpu_irq_save();
	const struct cpu *c = this_cpu();
	unsigned k = kind_of(l->name, false), n = held[c->id].n;
	if (spin_ignore) {
		cpu_irq_restore(flags);
		return;
	}
	bool *how = c->irq_depth ? &kinds[k].in_irq : flags & RFLAGS_IF ? &kinds[k].irqs_on : NULL;
	if (how && !*how)
		__atomic_store_n(how, true, __ATOMIC_SEQ_CST);
	if (how && kinds[k].in_irq && kinds[k].irqs_on)
		panic("lock order: interrupt handlers take \"%s\", and it is taken with interrupts on", l->name);
	for (unsigned i = 0; i < n; i++)
		follow(held[c->id].kind[i], k);
	if (!c->irq_depth)
		follow_mutexes(k);
	BUG_ON(n == DEPTH);
	held[c->id].lock[n] = l;
	held[c->id].kind[n] = (uint8_t)k;
	held[c->id].n = n + 1;
	cpu_irq_restore(flags);
}

void lock_order_drop(const struct spinlock *l)
{
	unsigned cpu = this_cpu()->id, n = held[cpu].n; /* preemption is off, and handlers leave it as it was */
	if (n && held[cpu].lock[n - 1] == l) {
		held[cpu].n = n - 1;
		return;
	}
	uint64_t flags = cpu_irq_save();
	unsigned i = n;
	while (i && held[cpu].lock[i - 1] != l)
		i--;
	BUG_ON(!i && !spin_ignore);
	for (; i && i < n; i++) {
		held[cpu].lock[i - 1] = held[cpu].lock[i];
		held[cpu].kind[i - 1] = held[cpu].kind[i];
	}
	if (i)
		held[cpu].n = n - 1;
	cpu_irq_restore(flags);
}

void lock_order_mutex(const struct mutex *m)
{
	uint64_t flags = cpu_irq_save();
	const struct cpu *c = this_cpu();
	if (!(flags & RFLAGS_IF) || c->irq_depth || c->preempt_off)
		panic("lock order: \"%s\" may sleep, and %s", m->lock.name,
		      c->preempt_off ? "a spinlock is held" : "interrupts are off");
	follow_mutexes(kind_of(m->lock.name, true));
	cpu_irq_restore(flags);
}

void lock_order_mutex_taken(const struct mutex *m)
{
	struct owner *o = owner_find();
	if (!o)
		o = owner_new();
	BUG_ON(o->n == DEPTH);
	o->kind[o->n++] = (uint8_t)kind_of(m->lock.name, true);
}

void lock_order_none(void)
{
	unsigned cpu = this_cpu()->id;
	const struct owner *o = owner_find();
	if (held[cpu].n || o)
		panic("lock order: a guest is entered with \"%s\" held",
		      kinds[o ? o->kind[0] : held[cpu].kind[0]].name);
}

void lock_order_mutex_drop(const struct mutex *m)
{
	struct owner *o = owner_find();
	unsigned k = kind_of(m->lock.name, true), i = o ? o->n : 0;
	while (i && o->kind[i - 1] != k)
		i--;
	BUG_ON(!i);
	for (; i < o->n; i++)
		o->kind[i - 1] = o->kind[i];
	if (!--o->n)
		__atomic_store_n(&o->task, NULL, __ATOMIC_RELEASE);
}

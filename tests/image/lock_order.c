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
#define OWNERS 64

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
static struct {
	const void *task; /* [a] NULL: free */
	uint8_t kind;
} owners[OWNERS];
static unsigned nowners; /* [a] */

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

static void follow_mutexes(unsigned then)
{
	const void *self = task_self();
	for (unsigned i = 0; self && i < OWNERS && __atomic_load_n(&nowners, __ATOMIC_RELAXED); i++)
		if (__atomic_load_n(&owners[i].task, __ATOMIC_ACQUIRE) == self)
			follow(owners[i].kind, then);
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
	uint64_t flags = cpu_irq_save();
	unsigned cpu = this_cpu()->id, n = held[cpu].n, i = n;
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
	for (unsigned i = 0; i < OWNERS; i++) {
		const void *none = NULL, *self = task_self();
		if (__atomic_load_n(&owners[i].task, __ATOMIC_RELAXED) ||
		    !__atomic_compare_exchange_n(&owners[i].task, &none, &owners[i], false, __ATOMIC_ACQUIRE,
						 __ATOMIC_RELAXED))
			continue;
		owners[i].kind = (uint8_t)kind_of(m->lock.name, true);
		__atomic_store_n(&owners[i].task, self, __ATOMIC_RELEASE);
		__atomic_fetch_add(&nowners, 1, __ATOMIC_RELAXED);
		return;
	}
	BUG_ON("more mutexes are held than there is room for");
}

void lock_order_mutex_drop(const struct mutex *m)
{
	unsigned k = kind_of(m->lock.name, true);
	for (unsigned i = 0; i < OWNERS; i++)
		if (__atomic_load_n(&owners[i].task, __ATOMIC_RELAXED) == task_self() && owners[i].kind == k) {
			__atomic_fetch_sub(&nowners, 1, __ATOMIC_RELAXED);
			__atomic_store_n(&owners[i].task, NULL, __ATOMIC_RELEASE);
			return;
		}
	BUG_ON("an owner that was not noted");
}

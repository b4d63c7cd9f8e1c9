/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Local APICs used by several at once, as vCPUs, devices and the I/O APIC use them: messages and IPIs of all kinds are
 * posted to four, each of which its own vCPU acknowledges, ends and reprograms, and which changes between x2APIC and
 * xAPIC mode under way in two of them.
 *
 * No interrupt gets lost, or comes twice: of a vector only one thread posts, and not again before it was taken. A vCPU
 * looks only when it was kicked, as a halted one does, so that a kick that does not come is seen as well. The mode's
 * change resets an APIC, which may lose what was posted: of those two only what came too often is seen.
 */
#include "tests/unit/fake_kernel.h"
#include "vmm/dev/vlapic_regs.h"
#include "vmm/dev/vxapic.h"
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define NCPU         4
#define STEADY       2 /* the first ones stay in x2APIC mode, and on */
#define POSTERS      2
#define PHASES       250
#define POSTS        100 /* of each that posts, a phase */
#define ROUNDS       2
#define ERRORS       0xfe
#define LEVEL        0x2f /* nobody counts these: posted as a level and as an edge by all */
/* Each that posts, a vCPU or another, has vectors of its own: they share words of IRR. */
#define SENDERS      (NCPU + POSTERS)
#define VECTORS      8 /* of each sender */
#define VECTOR(s, i) (0x30 + (i)*SENDERS + (s))

static struct vlapic cpu[NCPU];
static struct vlapic *cpus[NCPU];
static struct vapic_bus bus;
static unsigned kicked[NCPU], nmis[NCPU], level_ends; /* atomic, and so are these: */
static unsigned sent[NCPU][256], taken[NCPU][256], arrived;
static bool failed;
static pthread_barrier_t checked;

static void kick(void *arg unused, unsigned i) { __atomic_store_n(&kicked[i], 1, __ATOMIC_SEQ_CST); }
static void nmi(void *arg unused, unsigned i) { __atomic_fetch_add(&nmis[i], 1, __ATOMIC_RELAXED); }
static void eoi(void *arg unused, uint8_t v)
{
	if (v != LEVEL)
		abort(); /* all others are edges */
	__atomic_fetch_add(&level_ends, 1, __ATOMIC_RELAXED);
}

static unsigned count(unsigned *n) { return __atomic_load_n(n, __ATOMIC_SEQ_CST); }

/* ---- a vCPU ---- */

static void x2(struct vlapic *l, unsigned reg, uint64_t val)
{
	if (vlapic_msr_write(l, MSR_X2APIC + reg, 0, 0, val))
		abort();
}
static void mem(struct vlapic *l, unsigned reg, uint32_t val) { vxapic_write(l, reg * 16, 4, 0, val); }
static void reg(struct vlapic *l, unsigned reg, uint32_t val)
{
	if (vlapic_is_xapic(l))
		mem(l, reg, val);
	else
		x2(l, reg, val);
}

/* As after power-on, by whatever mode it is in. */
static void enable(struct vlapic *l)
{
	reg(l, APIC_SVR, 0x1ff);
	reg(l, APIC_LVT_ERROR, ERRORS);
}

static int setup(void **state unused)
{
	bus = (struct vapic_bus){ .lapic = cpus, .n = NCPU, .kick = kick, .nmi = nmi, .eoi = eoi };
	memset(kicked, 0, sizeof(kicked)), memset(nmis, 0, sizeof(nmis));
	memset(sent, 0, sizeof(sent)), memset(taken, 0, sizeof(taken));
	for (unsigned i = 0; i < NCPU; i++) {
		cpus[i] = &cpu[i];
		vlapic_init(&cpu[i], &bus, i);
		enable(&cpu[i]);
	}
	return 0;
}

static void change_mode(struct vlapic *l, bool to_xapic)
{
	const uint64_t x2apic = LAPIC_DEFAULT_BASE | APIC_BASE_EN | APIC_BASE_EXTD;
	if (to_xapic) { /* by way of off */
		reg(l, APIC_SVR, 0xff);
		if (vlapic_msr_write(l, MSR_APIC_BASE, 0, 0, LAPIC_DEFAULT_BASE) ||
		    vlapic_msr_write(l, MSR_APIC_BASE, 0, 0, LAPIC_DEFAULT_BASE | APIC_BASE_EN))
			abort();
		mem(l, APIC_DFR, l->vcpu % 2 ? 0 : ~0U);
		mem(l, APIC_LDR, l->vcpu % 2 ? 0x10000000U << l->vcpu | 0x01000000 : 0x01000000U << l->vcpu);
	} else if (vlapic_msr_write(l, MSR_APIC_BASE, 0, 0, x2apic)) {
		abort();
	}
	enable(l);
}

/* What it was kicked for. */
static void take(struct vlapic *l)
{
	int v;
	if (!__atomic_exchange_n(&kicked[l->vcpu], 0, __ATOMIC_SEQ_CST))
		return;
	(void)vlapic_take_events(l);
	while ((v = vlapic_pending(l)) >= 0) {
		vlapic_ack(l, (uint8_t)v);
		__atomic_fetch_add(&taken[l->vcpu][v], 1, __ATOMIC_SEQ_CST);
		(void)vlapic_eoi_can_wait(l);
		reg(l, APIC_EOI, 0);
	}
	reg(l, APIC_ESR, 0);
}

/* ---- who posts ---- */

/* One of its vectors that vCPU `to` has taken all of, and of which one more is on its way from here on; 0: none. */
static uint8_t next_vector(unsigned sender, unsigned to, unsigned *seed)
{
	for (unsigned i = 0, at = (unsigned)rand_r(seed); i < VECTORS; i++) {
		unsigned v = VECTOR(sender, (at + i) % VECTORS);
		if (to >= STEADY || count(&sent[to][v]) == count(&taken[to][v])) {
			__atomic_fetch_add(&sent[to][v], 1, __ATOMIC_SEQ_CST);
			return (uint8_t)v;
		}
	}
	return 0;
}

/* Logical destinations name STEADY ones by their bit of cluster 0, and perhaps those of the others that have it. */
static void post(unsigned sender, unsigned *seed)
{
	unsigned to = (unsigned)rand_r(seed) % NCPU, how = (unsigned)rand_r(seed) % 8;
	bool logical = how & 1 && to < STEADY;
	uint8_t v = next_vector(sender, to, seed);
	uint32_t dest = logical ? 1U << to : to;
	struct vlapic *me = sender < NCPU ? &cpu[sender] : NULL;

	if (!v)
		sched_yield();
	else if (me && vlapic_is_xapic(me))
		mem(me, APIC_ICR_HIGH, dest << 24), mem(me, APIC_ICR, (logical ? ICR_LOGICAL : 0) | v);
	else if (me)
		x2(me, APIC_ICR, (uint64_t)dest << 32 | (logical ? ICR_LOGICAL : 0) | v);
	else if (how & 2)
		vapic_bus_post(&bus, dest, logical, DELIVERY_FIXED, v, false);
	else
		vapic_bus_msi(&bus, LAPIC_DEFAULT_BASE | dest << MSI_DEST_SHIFT | (logical ? MSI_LOGICAL : 0), v);
	switch (rand_r(seed) % 16) {                                              /* what is not counted */
	case 0: vapic_bus_post(&bus, to, false, DELIVERY_FIXED, 3, false); break; /* an error */
	case 1: vapic_bus_post(&bus, to, false, DELIVERY_NMI, 0, false); break;
	case 2: vapic_bus_post(&bus, to, false, DELIVERY_FIXED, LEVEL, true); break;
	case 3: vapic_bus_post(&bus, DEST_BROADCAST8, false, DELIVERY_FIXED, LEVEL, true); break;
	case 4: vapic_bus_post(&bus, NCPU - 1, false, DELIVERY_INIT, 0, false); break;
	default: break;
	}
}

/* Nobody posts any more, and what it was kicked for has been taken. */
static void check(unsigned to)
{
	for (unsigned v = VECTOR(0, 0); v < VECTOR(0, VECTORS); v++)
		if (taken[to][v] > sent[to][v] || (to < STEADY && taken[to][v] != sent[to][v])) {
			fprintf(stderr, "vCPU %u took vector %#x %u times, %u were posted\n", to, v, taken[to][v],
				sent[to][v]);
			__atomic_store_n(&failed, true, __ATOMIC_RELAXED);
			sent[to][v] = taken[to][v];
		}
}

static void *poster(void *arg)
{
	unsigned sender = (unsigned)(uintptr_t)arg, seed = sender * 77 + 1;
	for (unsigned phase = 1; phase <= PHASES; phase++) {
		for (unsigned i = 0; i < POSTS; i++)
			post(sender, &seed);
		__atomic_fetch_add(&arrived, 1, __ATOMIC_SEQ_CST);
		pthread_barrier_wait(&checked);
	}
	return NULL;
}

static void *vcpu(void *arg)
{
	struct vlapic *l = &cpu[(uintptr_t)arg];
	unsigned seed = l->vcpu * 77 + 5;
	bool xapic = false;

	for (unsigned phase = 1; phase <= PHASES; phase++) {
		for (unsigned i = 0; i < POSTS; i++) {
			take(l);
			post(l->vcpu, &seed);
			if (l->vcpu >= STEADY && rand_r(&seed) % 32 == 0)
				change_mode(l, xapic = !xapic);
			if (rand_r(&seed) % 64 == 0)
				reg(l, APIC_LVT_ERROR, ERRORS | (rand_r(&seed) & 1 ? LVT_MASKED : 0));
		}
		__atomic_fetch_add(&arrived, 1, __ATOMIC_SEQ_CST);
		for (unsigned n = 1; count(&arrived) < phase * SENDERS; n++) {
			take(l);
			if (n % 512 == 0) /* who looks all the time sees more, but holds up the others */
				sched_yield();
		}
		take(l);
		check(l->vcpu);
		pthread_barrier_wait(&checked);
	}
	return NULL;
}

static void test_parallel(void **state unused)
{
	pthread_t t[SENDERS];
	unsigned total = 0;

	arrived = 0, failed = false;
	pthread_barrier_init(&checked, NULL, SENDERS);
	for (uintptr_t i = 0; i < SENDERS; i++)
		assert_int_equal(pthread_create(&t[i], NULL, i < NCPU ? vcpu : poster, (void *)i), 0);
	for (unsigned i = 0; i < SENDERS; i++)
		pthread_join(t[i], NULL);
	pthread_barrier_destroy(&checked);
	assert_false(failed);
	for (unsigned i = 0; i < NCPU * 256; i++)
		total += taken[i / 256][i % 256];
	assert_true(total > SENDERS * PHASES && level_ends && nmis[0]);
}

int main(void)
{
	struct CMUnitTest tests[ROUNDS];
	for (unsigned i = 0; i < ROUNDS; i++)
		tests[i] = (struct CMUnitTest)cmocka_unit_test_setup(test_parallel, setup);
	return cmocka_run_group_tests_name("lapic_threads", tests, NULL, NULL);
}

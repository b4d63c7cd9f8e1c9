/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The page allocator, the real one, over a fake machine's memory map, against a model that knows who owns each page;
 * then used by several at once.
 */
#include "kernel/base/hva.h"
#include "kernel/page.h"
#include "kernel/base/err.h"
#include "kernel/log.h"
#include "kernel/spinlock.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

/* What page.c needs of the kernel; the fakes at large bring an allocator of their own. */
static jmp_buf *on_panic;
void panic(const char *fmt, ...)
{
	if (on_panic)
		longjmp(*on_panic, 1);
	va_list ap;
	va_start(ap, fmt);
	vfprintf(stderr, fmt, ap);
	va_end(ap);
	abort();
}
void log_printf(enum log_level level, const char *fmt, ...) { (void)level, (void)fmt; }
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static _Thread_local bool locked;
uint64_t spin_lock_irqsave(struct spinlock *l unused)
{
	assert_false(locked);
	pthread_mutex_lock(&mutex);
	locked = true;
	return 0;
}
void spin_unlock_irqrestore(struct spinlock *l unused, uint64_t flags unused)
{
	assert_true(locked);
	locked = false;
	pthread_mutex_unlock(&mutex);
}

/*
 * hva_of is the identity here, so the machine's RAM is a mapping at an address that we choose, 1 GiB aligned. Untouched
 * pages cost nothing: that the allocator boots with 40 GiB of it is itself the test that it does not touch every page.
 */
#ifdef __SANITIZE_THREAD__
#define BASE 0x1000000000UL /* below what it uses */
#else
#define BASE 0x200000000000UL /* above what ASan uses */
#endif
#define RAM    GIB(40)
#define FRAMES (RAM / PAGE_SIZE)
static uint8_t *owner; /* one byte a frame: 0 free, else an owner's mark */

static void map_ram(void)
{
	static bool mapped;
	if (mapped)
		return;
	void *p = mmap((void *)BASE, RAM, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED_NOREPLACE, -1, 0);
	assert_ptr_equal(p, (void *)BASE);
	owner = mmap(NULL, FRAMES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	mapped = true;
}

static void mark(hpa_t hpa, unsigned order, uint8_t was, uint8_t is)
{
	for (uint64_t i = 0; i < 1UL << order; i++) {
		uint8_t *o = &owner[(hpa - BASE) / PAGE_SIZE + i];
		assert_int_equal(*o, was);
		*o = is;
	}
}

/* 128 MiB + holes, unaligned pieces, loader's memory, and something that must never be given out. */
static const struct handoff_mem small_map[] = {
	{ BASE, MIB(3) + PAGE_SIZE, HANDOFF_MEM_FREE, 0 },
	{ BASE + MIB(3) + PAGE_SIZE, MIB(1), HANDOFF_MEM_BOOT, 0 },
	{ BASE + MIB(4) + PAGE_SIZE, MIB(2), HANDOFF_MEM_KEEP, 0 },
	{ BASE + MIB(8) + 7 * PAGE_SIZE, MIB(50), HANDOFF_MEM_FREE, 0 },
	{ BASE + MIB(60), MIB(1), HANDOFF_MEM_ACPI, 0 },
	{ BASE + GIB(1) - MIB(32), MIB(64), HANDOFF_MEM_FREE, 0 },
};

static void start(const struct handoff_mem *map, unsigned n)
{
	map_ram();
	page_init(map, n);
	memset(owner, 0xff, FRAMES); /* not RAM to the allocator */
	for (unsigned i = 0; i < n; i++)
		if (map[i].type == HANDOFF_MEM_FREE)
			memset(owner + (map[i].base - BASE) / PAGE_SIZE, 0, map[i].size / PAGE_SIZE);
}

static void test_random_against_model(void **state)
{
	(void)state;
	start(small_map, ARRAY_SIZE(small_map));
	uint64_t total = page_total_count();
	assert_int_equal(page_free_count(), total);
	assert_in_range(total, (MIB(117) - 3 * MIB(1)) / PAGE_SIZE, MIB(118) / PAGE_SIZE);
	struct {
		hpa_t hpa;
		unsigned order;
	} held[500];
	unsigned n = 0;
	uint64_t used = 0;
	srand(7);
	for (unsigned step = 0; step < 200000; step++) {
		if (n < ARRAY_SIZE(held) && rand() % 100 < 55) {
			unsigned order = rand() % 8 ? (unsigned)rand() % 5 : (unsigned)rand() % 12;
			hpa_t hpa = page_alloc(order);
			if (hpa == HPA_NONE)
				continue;
			assert_int_equal(hpa & ((PAGE_SIZE << order) - 1), 0);
			assert_int_equal(page_block_order(hpa), order);
			mark(hpa, order, 0, 1);
			held[n].hpa = hpa;
			held[n++].order = order;
			used += 1UL << order;
		} else if (n) {
			unsigned i = (unsigned)rand() % n;
			mark(held[i].hpa, held[i].order, 1, 0);
			page_free(held[i].hpa, held[i].order);
			used -= 1UL << held[i].order;
			held[i] = held[--n];
		}
		assert_int_equal(page_free_count(), total - used);
	}
	while (n--)
		page_free(held[n].hpa, held[n].order);
	assert_int_equal(page_free_count(), total);
	/* all merged again: the largest aligned block of the 50 MiB piece is there */
	hpa_t big = page_alloc(13);
	assert_int_not_equal(big, HPA_NONE);
	page_free(big, 13);
}

static void test_to_the_last_page(void **state)
{
	(void)state;
	start(small_map, ARRAY_SIZE(small_map));
	uint64_t total = page_total_count(), n = 0;
	hpa_t chain = HPA_NONE, hpa;
	while ((hpa = page_alloc(0)) != HPA_NONE) {
		mark(hpa, 0, 0, 1);
		*(hpa_t *)hva_of(hpa) = chain;
		chain = hpa;
		n++;
	}
	assert_int_equal(n, total);
	assert_int_equal(page_free_count(), 0);
	while (chain != HPA_NONE) {
		hpa = chain;
		chain = *(hpa_t *)hva_of(hpa);
		page_free(hpa, 0);
	}
	assert_int_equal(page_free_count(), total);
}

static void test_boot_memory_comes_later(void **state)
{
	(void)state;
	start(small_map, ARRAY_SIZE(small_map));
	uint64_t before = page_total_count();
	page_free_boot();
	assert_int_equal(page_total_count(), before + MIB(1) / PAGE_SIZE);
	assert_int_equal(page_free_count(), page_total_count());
	page_free_boot(); /* nothing is given twice */
	assert_int_equal(page_total_count(), before + MIB(1) / PAGE_SIZE);
	assert_true(page_in_direct_map(BASE + MIB(60), MIB(1)));
	assert_false(page_in_direct_map(BASE + MIB(60), MIB(1) + 1));
	assert_false(page_in_direct_map(BASE + MIB(7), 1));
	assert_false(page_in_direct_map(~0UL - 10, 100));
}

static void test_big_blocks(void **state)
{
	(void)state;
	const struct handoff_mem map[] = { { BASE, GIB(40), HANDOFF_MEM_FREE, 0 } };
	start(map, 1);
	hpa_t g[40];
	unsigned n = 0;
	while (n < 40 && (g[n] = page_alloc_reserved(NULL, PAGE_ORDER_1G)) != HPA_NONE) {
		mark(g[n], PAGE_ORDER_1G, 0, 1);
		n++;
	}
	assert_int_equal(n, 39); /* the last GiB holds the tables */
	assert_int_equal(page_alloc_reserved(NULL, PAGE_ORDER_1G), HPA_NONE);
	hpa_t small = page_alloc(PAGE_ORDER_2M);
	assert_int_not_equal(small, HPA_NONE);
	page_free(small, PAGE_ORDER_2M);
	page_free(g[5], PAGE_ORDER_1G);
	/* cut to pieces and whole again */
	hpa_t m[512];
	for (unsigned i = 0; i < 512; i++) {
		m[i] = page_alloc(PAGE_ORDER_2M);
		assert_int_not_equal(m[i], HPA_NONE);
	}
	for (unsigned i = 0; i < 512; i++)
		page_free(m[(i * 37) % 512], PAGE_ORDER_2M);
	assert_int_not_equal(page_alloc_reserved(NULL, PAGE_ORDER_1G), HPA_NONE);
}

static void zeroed(unsigned order)
{
	start(small_map, ARRAY_SIZE(small_map));
	hpa_t a = page_alloc(order);
	memset(hva_of(a), 0xee, PAGE_SIZE << order);
	page_free(a, order);
	hpa_t again = page_alloc(order);
	assert_int_equal(again, a);
	for (uint64_t i = 0; i < (PAGE_SIZE << order) / 8; i++)
		assert_int_equal(((uint64_t *)hva_of(a))[i], 0);
	page_free(a, order);
}

static void test_zeroed(void **state)
{
	(void)state;
	zeroed(3);
	zeroed(PAGE_ORDER_2M); /* past the caches */
}

/* Two that come at once cannot both be promised the same memory, and nobody takes what was promised. */
static void test_reservations(void **state)
{
	(void)state;
	start(small_map, ARRAY_SIZE(small_map));
	struct page_reservation a, b = { 0 };
	uint64_t total = page_total_count(), have, got = 0;
	assert_int_equal(page_reserve(&a, total, 1, &have), -ENOMEM);
	assert_int_equal(have, total);
	assert_int_equal(page_reserve(&a, ~0ULL, ~0ULL, &have), -ENOMEM); /* the sum does not wrap */
	assert_int_equal(page_reserve(&a, 3, ~0ULL, &have), -ENOMEM);
	page_unreserve(&a);
	assert_int_equal(page_free_count(), total);

	assert_int_equal(page_reserve(&a, total - 20, 20, &have), 0);
	assert_int_equal(page_free_count(), 20);
	assert_int_equal(page_reserve(&b, 20, 1, &have), -ENOMEM);
	assert_int_equal(have, 20);
	page_unreserve(&b);
	assert_int_equal(page_alloc(5), HPA_NONE); /* 32 pages: there are blocks, but not for everybody */
	assert_int_equal(page_reserve(&b, 20, 0, &have), 0);
	assert_int_equal(page_alloc(0), HPA_NONE);
	page_unreserve(&b);
	page_unreserve(&b);
	assert_int_equal(page_free_count(), 20);
	hpa_t other = page_alloc(2);
	assert_int_not_equal(other, HPA_NONE);
	assert_int_equal(page_free_count(), 16);

	/* drawn down to the last page, whatever of it is in large blocks; then it is as everybody */
	hpa_t chain = HPA_NONE, hpa;
	for (unsigned order = 10; got<total - 20; order -= order> 0)
		while (got + (1UL << order) <= total - 20 && (hpa = page_alloc_reserved(&a, order)) != HPA_NONE) {
			mark(hpa, order, 0, 1);
			((hpa_t *)hva_of(hpa))[0] = chain;
			((hpa_t *)hva_of(hpa))[1] = order;
			chain = hpa;
			got += 1UL << order;
			assert_int_equal(a.pages, total - 20 - got);
			assert_int_equal(page_free_count(), 16);
		}
	assert_int_equal(a.pages, 0);
	hpa = page_alloc_reserved(&a, 0);
	assert_int_not_equal(hpa, HPA_NONE);
	assert_int_equal(page_free_count(), 15);
	page_unreserve(&a);
	assert_int_equal(page_free_count(), 15);
	page_free(hpa, 0);
	page_free(other, 2);
	while (chain != HPA_NONE) {
		hpa = chain;
		chain = ((hpa_t *)hva_of(hpa))[0];
		page_free(hpa, (unsigned)((hpa_t *)hva_of(hpa))[1]);
	}
	assert_int_equal(page_free_count(), total);

	/* a block that is partly promised and partly free */
	assert_int_equal(page_reserve(&a, 3, 0, &have), 0);
	hpa = page_alloc_reserved(&a, 3);
	assert_int_not_equal(hpa, HPA_NONE);
	assert_int_equal(a.pages, 0);
	assert_int_equal(page_free_count(), total - 8);
	page_free(hpa, 3);
	assert_int_equal(page_free_count(), total);
}

static bool panics(hpa_t hpa, unsigned order)
{
	jmp_buf env;
	bool did = true;
	if (!setjmp(env)) {
		on_panic = &env;
		page_free(hpa, order);
		did = false;
	}
	on_panic = NULL;
	return did;
}

static void test_wrong_frees_are_caught(void **state)
{
	(void)state;
	start(small_map, ARRAY_SIZE(small_map));
	hpa_t a = page_alloc(2);
	assert_true(panics(a, 1));
	assert_true(panics(a + PAGE_SIZE, 0));
	assert_true(panics(a + 1, 2));
	assert_true(panics(BASE + MIB(7), 0));
	assert_true(panics(1UL << 60, 0));
	assert_false(panics(a, 2));
	assert_true(panics(a, 2));
}

/* ---- several at once ---- */

#define THREADS 4
#define STEPS   4000
#define HELD    64
#define ORDERS  (PAGE_ORDER_1G + 1)

/* How many blocks of each order there are, with all taken from the largest on. They are given back. */
static void shape(unsigned count[ORDERS])
{
	hpa_t chain = HPA_NONE, hpa;
	for (unsigned order = ORDERS; order-- > 0;)
		for (count[order] = 0; (hpa = page_alloc_reserved(NULL, order)) != HPA_NONE; count[order]++) {
			((hpa_t *)hva_of(hpa))[0] = chain;
			((hpa_t *)hva_of(hpa))[1] = order;
			chain = hpa;
		}
	assert_int_equal(page_free_count(), 0);
	while ((hpa = chain) != HPA_NONE) {
		chain = ((hpa_t *)hva_of(hpa))[0];
		page_free(hpa, (unsigned)((hpa_t *)hva_of(hpa))[1]);
	}
}

static void hand_over(hpa_t hpa, unsigned order, uint8_t was, uint8_t is)
{
	for (uint64_t i = 0; i < 1UL << order; i++)
		if (__atomic_exchange_n(&owner[(hpa - BASE) / PAGE_SIZE + i], is, __ATOMIC_RELAXED) != was)
			abort(); /* two have it, or it is no RAM */
}

struct user {
	pthread_t thread;
	uint8_t id;
	unsigned seed, n, got, refused;
	struct {
		hpa_t hpa;
		unsigned order;
	} held[HELD];
	struct page_reservation r;
};

static void user_take(struct user *u)
{
	unsigned order = (unsigned)rand_r(&u->seed) % (rand_r(&u->seed) % 16 ? 6 : 13);
	uint64_t promised = u->r.pages;
	bool drawn = rand_r(&u->seed) % 2;
	hpa_t hpa = drawn ? page_alloc_reserved(&u->r, order) : page_alloc(order);
	if (hpa == HPA_NONE) {
		if (drawn && order == 0 && promised)
			abort(); /* one page of them there is at any time */
		u->refused++;
		return;
	}
	hand_over(hpa, order, 0, u->id);
	if (page_block_order(hpa) != (int)order || (!drawn && *(uint64_t *)hva_of(hpa)))
		abort();
	memset(hva_of(hpa), u->id, 64); /* where the list's links are while it is free */
	u->held[u->n].hpa = hpa, u->held[u->n++].order = order;
	u->got++;
}

static void user_give(struct user *u, unsigned i)
{
	static const uint8_t zero[64];
	uint8_t mine[64];
	hand_over(u->held[i].hpa, u->held[i].order, u->id, 0);
	if (memcmp(hva_of(u->held[i].hpa), memset(mine, u->id, 64), 64))
		abort();
	memcpy(hva_of(u->held[i].hpa), zero, 64);
	page_free(u->held[i].hpa, u->held[i].order);
	u->held[i] = u->held[--u->n];
}

static void *use(void *arg)
{
	struct user *u = arg;
	for (unsigned i = 0; i < STEPS; i++) {
		uint64_t have;
		if (u->n < HELD && rand_r(&u->seed) % 100 < 55)
			user_take(u);
		else if (u->n)
			user_give(u, (unsigned)rand_r(&u->seed) % u->n);
		if (page_free_count() > page_total_count())
			abort(); /* more was promised than there is */
		if (rand_r(&u->seed) % 32)
			continue;
		page_unreserve(&u->r);
		u->refused += page_reserve(&u->r, (unsigned)rand_r(&u->seed) % 12000, 100, &have) == -ENOMEM;
	}
	page_unreserve(&u->r);
	while (u->n)
		user_give(u, 0);
	return NULL;
}

static void test_threads(void **state unused)
{
	static struct user user[THREADS];
	unsigned before[ORDERS], after[ORDERS];

	start(small_map, ARRAY_SIZE(small_map));
	uint64_t total = page_total_count();
	shape(before);
	for (unsigned i = 0; i < THREADS; i++) {
		user[i] = (struct user){ .id = (uint8_t)(i + 1), .seed = i };
		assert_int_equal(pthread_create(&user[i].thread, NULL, use, &user[i]), 0);
	}
	unsigned refused = 0;
	for (unsigned i = 0; i < THREADS; i++) {
		pthread_join(user[i].thread, NULL);
		assert_true(user[i].got > STEPS / 8);
		refused += user[i].refused;
	}
	assert_true(refused); /* memory was short, and was had */
	assert_int_equal(page_free_count(), total);
	shape(after);
	assert_memory_equal(after, before, sizeof(after)); /* all merged again */
	assert_int_equal(page_free_count(), total);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_random_against_model),
		cmocka_unit_test(test_to_the_last_page),
		cmocka_unit_test(test_boot_memory_comes_later),
		cmocka_unit_test(test_big_blocks),
		cmocka_unit_test(test_zeroed),
		cmocka_unit_test(test_reservations),
		cmocka_unit_test(test_wrong_frees_are_caught),
		cmocka_unit_test(test_threads),
	};
#ifdef __SANITIZE_THREAD__ /* the others have one task */
	const struct CMUnitTest shared[] = { cmocka_unit_test(test_threads) };
	if (!getenv("ALL"))
		return cmocka_run_group_tests(shared, NULL, NULL);
#endif
	return cmocka_run_group_tests(tests, NULL, NULL);
}

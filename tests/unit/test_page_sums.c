/* SPDX-License-Identifier: BSD-2-Clause */
/* Digests that come with pages (page_sums.h): odd ones, pages without, and more that differ than can be remembered. */
#include "kernel/time.h"
#include "tests/unit/fake_hosts.h"
#include "tests/unit/fake_kernel.h"
#include "tests/unit/wire_pipe.h"
#include "vmm/migrate/page_sums.h"
#include "vmm/migrate/sums.h"
#include <string.h>

#define MEM MIB(2)

static struct vm *vm;
static struct migration m;
static struct page_sums s;
static uint64_t soon(void) { return time_in_ms(1000); }

static int setup(void **state)
{
	vm = fake_vm_new("demo", MEM);
	m = (struct migration){ .vm = vm };
	spin_init(&m.lock, "migration");
	page_sums_init(&s, &m);
	s.on = true;
	return open_pipe(state);
}

static int teardown(void **state)
{
	vm_destroy(vm);
	return close_pipe(state) || fake_page_live();
}

static void write_page(gfn_t gfn, uint64_t word)
{
	assert_int_equal(gmem_write(&vm->mem, gfn << PAGE_SHIFT, &word, sizeof(word)), 0);
}

static uint64_t sum_of(gfn_t gfn) { return sums_ram(gfn, gmem_ptr(&vm->mem, gfn << PAGE_SHIFT, PAGE_SIZE)); }

/* What comes of n digests from first on. */
static int say(gfn_t first, uint32_t n, uint64_t sum)
{
	struct why w = { "" };
	wire_begin(&tx, WIRE_SUMS);
	wire_put_u64(&tx, first);
	for (uint32_t i = 0; i < n; i++)
		wire_put_u64(&tx, sum);
	assert_int_equal(wire_end(&tx, soon()), 0);
	int err = wire_recv(&rx, soon(), NS_PER_SEC, &w);
	return err ? err : page_sums_recv(&s, &rx, &vm->mem, &w);
}

static void test_records(void **state unused)
{
	static const struct {
		gfn_t first;
		uint32_t n;
		int err;
	} all[] = { { 0, 1, 0 },          { 511, 1, 0 },      { 496, 16, 0 },        { 512, 1, -EPROTO },
		    { 512, 16, -EPROTO }, { 8, 16, -EPROTO }, { ~0ULL, 1, -EPROTO }, { ~15ULL, 16, -EPROTO },
		    { 0, 2, -EPROTO },    { 0, 15, -EPROTO } };
	for (unsigned i = 0; i < ARRAY_SIZE(all); i++) {
		s.count = 0;
		if (say(all[i].first, all[i].n, 5) != all[i].err)
			fail_msg("%u", i);
		assert_int_equal(s.count, all[i].err ? 0 : all[i].n);
	}
	assert_int_equal(say(0, 0, 5), -EPROTO);
}

static void test_order(void **state unused)
{
	assert_true(page_sums_allow(&s, WIRE_SUMS) && page_sums_allow(&s, WIRE_SERVED));
	assert_false(page_sums_allow(&s, WIRE_PAGES));
	assert_int_equal(say(0, 16, 0), 0);
	assert_true(page_sums_allow(&s, WIRE_PAGES));
	assert_false(page_sums_allow(&s, WIRE_SUMS) || page_sums_allow(&s, WIRE_SERVED));
	assert_int_equal(page_sums_taken(&s, NULL), 0);
	assert_false(page_sums_allow(&s, WIRE_PAGES));
	s.on = false;
	assert_true(page_sums_allow(&s, WIRE_PAGES) && page_sums_allow(&s, WIRE_SERVED));
	assert_false(page_sums_allow(&s, WIRE_SUMS));
	assert_true(page_sums_good(&s, &vm->mem, 400));
}

/* Of a page that they say nothing of nothing is mapped, whatever is in it. */
static void test_without(void **state unused)
{
	struct why w = { "" };
	assert_int_equal(say(16, 16, 0), 0);
	assert_true(page_sums_good(&s, &vm->mem, 16) && page_sums_good(&s, &vm->mem, 31));
	assert_false(page_sums_good(&s, &vm->mem, 15) || page_sums_good(&s, &vm->mem, 32));
	assert_int_equal(page_sums_taken(&s, &w), -EPROTO);
	assert_non_null(strstr(w.text, "whose digests had not"));
	assert_int_equal(page_sums_taken(&s, NULL), 0);
	assert_int_equal(m.st.differed_pages, 0);
}

static void send(const struct demand *d, uint64_t pages, bool some)
{
	uint64_t n, before = tx.seq;
	assert_int_equal(page_sums_send(&tx, &vm->mem, d, soon(), &n), 0);
	assert_int_equal(n, pages);
	assert_int_equal(tx.seq - before, some);
	if (some)
		assert_int_equal(wire_recv(&rx, soon(), NS_PER_SEC, NULL), 0);
	if (some)
		assert_int_equal(page_sums_recv(&s, &rx, &vm->mem, NULL), 0);
}

/* Of what goes, and of nothing else. */
static void test_send(void **state unused)
{
	write_page(33, 1);
	write_page(34, 2);
	send(&(struct demand){ .first = 32, .count = 16 }, 0, false);
	gmem_track_add(&vm->mem, 34, 2);
	send(&(struct demand){ .first = 32, .count = 16 }, 1, true);
	for (unsigned i = 0; i < 16; i++)
		assert_int_equal(s.sum[i], i == 2 ? sum_of(34) : 0);
	send(&(struct demand){ .first = 35, .count = 1 }, 0, true);
	assert_true(s.count == 1 && !s.sum[0]);
	gmem_track_clear(&vm->mem);
}

/* As many as can be remembered are asked for again, each once; one more, and the connection is to be made anew. */
static void test_too_many(void **state unused)
{
	struct demand d;
	struct why w = { "" };
	uint64_t due;
	for (gfn_t f = 0; f < PAGE_SUMS_WRONG; f++) {
		assert_int_equal(say(f, 1, 5), 0);
		assert_false(page_sums_good(&s, &vm->mem, f));
		assert_int_equal(page_sums_taken(&s, &w), 0);
		assert_true(page_sums_is_wrong(&s, f) && !page_sums_is_wrong(&s, f + 1));
	}
	for (gfn_t f = 0; f < PAGE_SUMS_WRONG; f++) {
		assert_true(page_sums_next(&s, &d, &due));
		assert_true(d.first == f && d.count == 1 && d.times == 1 && !d.there && d.said == 5);
	}
	assert_true(!page_sums_next(&s, &d, &due) && due == TIME_NEVER);
	assert_int_equal(say(100, 1, 5), 0);
	assert_false(page_sums_good(&s, &vm->mem, 100));
	assert_int_equal(page_sums_taken(&s, &w), -EPROTO);
	assert_non_null(strstr(w.text, "more than 32 differ"));
	assert_int_equal(m.st.differed_pages, PAGE_SUMS_WRONG + 1);
	page_sums_restart(&s); /* all of them come by that */
	assert_false(page_sums_is_wrong(&s, 0) || page_sums_next(&s, &d, &due));
	assert_int_equal(say(0, 1, 0), 0);
	assert_false(page_sums_good(&s, &vm->mem, 0)); /* it is as its source has it now, but not as that was */
	assert_int_equal(page_sums_taken(&s, &w), 0);
	assert_true(page_sums_is_wrong(&s, 0) && page_sums_next(&s, &d, &due) && d.times == 2 && d.said == 5);
	write_page(1, 1);
	s.wrong[1].said = sum_of(1);
	assert_int_equal(say(1, 1, sum_of(1)), 0);
	assert_true(page_sums_good(&s, &vm->mem, 1) && m.st.verified_pages == 1);
	page_sums_restart(&s);
	assert_int_equal(say(100, 1, 0), 0);
	assert_true(page_sums_good(&s, &vm->mem, 100)); /* which was not remembered */
}

/* After so many times it comes in a while, and nobody says any more of it than that. */
static void test_later(void **state unused)
{
	struct demand d;
	uint64_t due;
	fake_time_freeze(time_ns());
	for (unsigned i = 1; i <= PAGE_SUMS_AT_ONCE + 2; i++) {
		fake_log_clear();
		assert_int_equal(say(7, 1, 5), 0);
		assert_false(page_sums_good(&s, &vm->mem, 7));
		assert_int_equal(page_sums_taken(&s, NULL), 0);
		assert_int_equal(!!*fake_log_last(), i <= PAGE_SUMS_AT_ONCE + 1);
		assert_int_equal(fake_log_has("what touches it waits"), i == PAGE_SUMS_AT_ONCE + 1);
		assert_int_equal(!!strstr(m.st.error, "what touches it waits"), i > PAGE_SUMS_AT_ONCE);
		if (i > PAGE_SUMS_AT_ONCE) {
			assert_true(!page_sums_next(&s, &d, &due) && due == time_ns() + PAGE_SUMS_LATER_NS);
			fake_time_advance(PAGE_SUMS_LATER_NS);
		}
		assert_true(page_sums_next(&s, &d, &due) && d.first == 7 && d.times == i);
	}
	assert_true(m.st.differed_at == 0x7000 && m.st.differed_pages == PAGE_SUMS_AT_ONCE + 2);
	fake_time_thaw();
	write_page(7, 3);
	s.wrong[0].said = sum_of(7);
	assert_int_equal(say(7, 1, sum_of(7)), 0);
	assert_true(page_sums_good(&s, &vm->mem, 7));
	assert_string_equal(m.st.error, "");
}

#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
int main(void)
{
	const struct CMUnitTest tests[] = { T(test_records), T(test_order),    T(test_without),
					    T(test_send),    T(test_too_many), T(test_later) };
	return cmocka_run_group_tests_name("page_sums", tests, NULL, NULL);
}

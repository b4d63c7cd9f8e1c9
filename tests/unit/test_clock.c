/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Guest time over hosts whose TSCs run at other rates: the TSC goes on where it was, to the tick, nothing ever steps
 * back, and nanoseconds stay within the bound that guest_clock.c documents. Hosts are a model: rate, and TSC at a true
 * time.
 */
#include "arch/x86/cpu.h"
#include "tests/unit/fake_kernel.h"
#include "vmm/x86/vcpu.h"
#include "vmm/x86/guest_clock.h"
#include <errno.h>
#include <string.h>

static uint64_t seed = 88172645463325252ULL;
static uint64_t rnd(void)
{
	seed ^= seed << 13, seed ^= seed >> 7, seed ^= seed << 17;
	return seed;
}

struct host {
	uint64_t hz, tsc0;
};
static uint64_t now_ns; /* true time */
static uint64_t tsc_of(const struct host *h)
{
	return h->tsc0 + (uint64_t)((unsigned __int128)now_ns * h->hz / NS_PER_SEC);
}

static struct vm vm;
static const struct host *here;

static uint64_t tsc(void) { return guest_tsc_at(&vm, tsc_of(here)); }
static uint64_t ns(void)
{
	clock_save(&vm, tsc_of(here)); /* writes what a migration would carry, and nothing else */
	return vm.clock.s.guest_ns;
}

static void start(const struct host *h)
{
	memset(&vm, 0, sizeof(vm));
	here = h;
	fake_tsc_hz = h->hz;
	vm.clock.s.tsc_hz = h->hz;
	clock_begin(&vm, tsc_of(h));
}

static void move(const struct host *to)
{
	struct vm_clock_state s;
	struct why w = { "" };
	clock_save(&vm, tsc_of(here));
	s = vm.clock.s;
	memset(&vm, 0xa5, sizeof(vm)); /* another machine */
	here = to;
	fake_tsc_hz = to->hz;
	if (clock_desc.check(&vm.clock, &s, &w))
		fail_msg("%s", w.text);
	vm.clock.s = s;
	clock_begin(&vm, tsc_of(to));
	__int128 off = (__int128)vm.tsc_ratio * to->hz - ((__int128)s.tsc_hz << 32);
	assert_true(vm.tsc_ratio == HV_TSC_SAME ||
		    (2 * off <= to->hz && 2 * off >= -(__int128)to->hz)); /* the nearest */
}

#define MHZ 1000000ULL
static const struct host slow = { 50 * MHZ, 7 }, fast = { 2999999123, 1ULL << 40 }, odd = { 1234567891, 99 },
			 faster = { 5100 * MHZ, ~0ULL - 1000000 /* wraps soon */ };

static void test_there_and_back(void **state)
{
	(void)state;
	now_ns = 5 * NS_PER_SEC;
	start(&slow);
	assert_true(vm.tsc_ratio == HV_TSC_SAME && vm.tsc_hz == slow.hz && tsc() == 0 && ns() == 0);
	now_ns += NS_PER_SEC;
	assert_int_equal(tsc(), slow.hz);
	assert_int_equal(ns(), NS_PER_SEC);
	move(&fast);
	assert_true(vm.tsc_ratio != HV_TSC_SAME && vm.tsc_hz == slow.hz);
	assert_int_equal(tsc(), slow.hz);
	assert_int_equal(ns(), NS_PER_SEC);
	now_ns += 3600 * NS_PER_SEC; /* an hour at a sixtieth: 7 parts in 10^9 */
	assert_in_range(tsc(), 3601 * slow.hz - 1400, 3601 * slow.hz + 1400);
	assert_in_range(ns(), 3601 * NS_PER_SEC - 28000, 3601 * NS_PER_SEC + 28000);
	uint64_t at = tsc(), at_ns = ns();
	move(&slow);
	assert_true(vm.tsc_ratio == HV_TSC_SAME && tsc() == at && ns() == at_ns);
	start(&fast); /* the other way round: sixty guest ticks a host tick */
	now_ns += NS_PER_SEC;
	at = tsc();
	move(&slow);
	assert_int_equal(tsc(), at);
	now_ns += 3600 * NS_PER_SEC;
	assert_in_range(tsc() - at, 3600 * fast.hz - 100, 3600 * fast.hz + 100);
	at = tsc();
	move(&fast);
	assert_true(vm.tsc_ratio == HV_TSC_SAME && tsc() == at);
}

static void test_random_journeys(void **state)
{
	static const struct host *const hosts[] = { &slow, &fast, &odd, &faster };
	(void)state;
	for (unsigned journey = 0; journey < 200; journey++) {
		now_ns = rnd() % NS_PER_SEC;
		uint64_t begin = now_ns, hops = 0;
		start(hosts[rnd() % 4]);
		for (unsigned step = 0; step < 50; step++) {
			uint64_t t = tsc(), n = ns();
			if (rnd() % 4 == 0) {
				move(hosts[rnd() % 4]);
				hops++;
				assert_int_equal(tsc(), t);
				assert_int_equal(ns(), n);
			}
			now_ns += rnd() % (rnd() & 1 ? 100 : 100 * NS_PER_SEC);
			assert_true(tsc() >= t && ns() >= n);
			/*
			 * Half a bit of the ratio to the fastest host, of mul; a tick of the slowest host at each move.
			 */
			uint64_t want = now_ns - begin, ratio = faster.hz / vm.clock.s.tsc_hz + 1;
			uint64_t bound = (want * ratio >> 33) + want / 2000000000 + 1 + (hops + 1) * 42;
			int64_t off = (int64_t)(ns() - want);
			if (off > (int64_t)bound || off < -(int64_t)bound)
				fail_msg("%lld ns off after %llu ns and %llu moves, from %llu Hz", (long long)off,
					 (unsigned long long)want, (unsigned long long)hops,
					 (unsigned long long)vm.clock.s.tsc_hz);
		}
	}
}

/* Within 1% it is one rate, measured twice: no ratio. But it does not drift away by such steps. */
static void test_measuring_noise(void **state)
{
	static const struct host again = { 50400000, 0 }, too_far = { 50900000, 0 };
	(void)state;
	start(&slow);
	now_ns += NS_PER_SEC;
	uint64_t n = ns();
	move(&again);
	assert_true(vm.tsc_ratio == HV_TSC_SAME && vm.tsc_hz == again.hz);
	now_ns += NS_PER_SEC;
	assert_in_range(ns(), n + NS_PER_SEC - 50, n + NS_PER_SEC + 50); /* by the rate as measured here */
	assert_int_equal(vm.clock.s.tsc_hz, slow.hz);
	move(&too_far);
	assert_true(vm.tsc_ratio != HV_TSC_SAME && vm.tsc_hz == slow.hz);
}

static void test_standing_still(void **state)
{
	(void)state;
	start(&slow);
	now_ns += NS_PER_SEC;
	move(&faster);
	uint64_t t = tsc(), n = ns();
	clock_advance(&vm, 90 * NS_PER_SEC + 500);
	assert_int_equal(tsc() - t, 90 * slow.hz + 25);
	assert_in_range(ns() - n, 90 * NS_PER_SEC + 450, 90 * NS_PER_SEC + 550);
	clock_advance(&vm, 365 * 86400 * NS_PER_SEC); /* no sum overflows */
	assert_int_equal(tsc() - t, (90 + 365 * 86400) * slow.hz + 25);
}

static void test_refused(void **state)
{
	static const struct {
		uint64_t guest, host;
		bool ok;
	} cases[] = { { 0, 1000 * MHZ, false },    { 1, 1000 * MHZ, false },       { 15000, 1000 * MHZ, false },
		      { 16000, 1000 * MHZ, true }, { 50 * MHZ, 3000 * MHZ, true }, { 3000 * MHZ, 50 * MHZ, true },
		      { 17000 * MHZ, MHZ, true },  { 17000 * MHZ, 200000, false }, { BIT(34) + 1, BIT(34), false },
		      { ~0ULL, 1000 * MHZ, false } };
	(void)state;
	for (unsigned i = 0; i < ARRAY_SIZE(cases); i++) {
		struct vm_clock_state s = { .tsc_hz = cases[i].guest };
		struct why w = { "" };
		fake_tsc_hz = cases[i].host;
		int err = clock_desc.check(&vm.clock, &s, &w);
		if (err != (cases[i].ok ? 0 : -ENOTSUP) || (err && !strstr(w.text, "kHz")))
			fail_msg("case %u: %d %s", i, err, w.text);
	}
}

static void test_says_so(void **state)
{
	(void)state;
	start(&slow);
	fake_log_clear();
	clock_desc.post_load(&vm.clock);
	assert_string_equal(fake_log_last(), "");
	fake_tsc_hz = fast.hz;
	clock_desc.post_load(&vm.clock);
	assert_non_null(strstr(fake_log_last(), "50 MHz"));
	assert_non_null(strstr(fake_log_last(), "RDTSC"));
}

/* What the guest computes of its clock page, by the formula of the page, is what tern believes. */
static void test_clock_page(void **state)
{
	static const struct host *const hosts[] = { &slow, &fast, &odd, &faster };
	static struct vcpu v;
	struct why w = { "" };
	(void)state;
	for (unsigned i = 0; i < 16; i++) {
		start(hosts[i / 4]);
		now_ns += rnd() % NS_PER_SEC;
		move(hosts[i % 4]);
		assert_int_equal(gmem_init(&vm.mem, MIB(2), &pt_format_npt, &w), 0);
		v.vm = &vm;
		v.msr.system_time = 0x1000 | 1;
		clock_update(&v);
		for (unsigned k = 0; k < 10; k++) {
			uint8_t b[32];
			now_ns += rnd() % (10 * NS_PER_SEC);
			assert_int_equal(gmem_read(&vm.mem, 0x1000, b, sizeof(b)), 0);
			uint64_t delta = tsc() - get_le64(b + 8);
			delta = (int8_t)b[28] < 0 ? delta >> -(int8_t)b[28] : delta << b[28];
			assert_int_equal(get_le64(b + 16) +
						 (uint64_t)((unsigned __int128)delta * get_le32(b + 24) >> 32),
					 ns());
		}
		gmem_fini(&vm.mem);
	}
}

/*
 * The flag of having stood still: after a second of it, here or on the way to another host; not for less, nor for the
 * guest's own time; it stays until the guest has seen it, and its page is sent again if it is moved.
 */
static void test_says_that_it_stood_still(void **state)
{
	static const struct {
		uint64_t ns;
		const struct host *to; /* NULL: it goes on where it was */
		uint8_t was, flags;
		/* clang-format off */
	} cases[] = {
		{ 0, NULL, 0, 1 }, { 20 * NS_PER_MS, NULL, 0, 1 }, { NS_PER_SEC - 1000, NULL, 0, 1 },
		{ NS_PER_SEC, NULL, 0, 3 }, { 27 * NS_PER_SEC, NULL, 1, 3 }, { 86400 * NS_PER_SEC, NULL, 0, 3 },
		{ 20 * NS_PER_MS, &fast, 0, 1 }, { NS_PER_SEC * 9 / 10, &fast, 1, 1 }, { 2 * NS_PER_SEC, &fast, 1, 3 },
		{ 30 * NS_PER_SEC, &faster, 0, 3 }, { 0, NULL, 3, 3 }, { 20 * NS_PER_MS, &fast, 3, 3 },
	};
	/* clang-format on */
	static struct cpu_state cpu;
	static struct vcpu v = { .vm = &vm, .state = &cpu };
	struct why w = { "" };
	(void)state;
	for (unsigned i = 0; i < ARRAY_SIZE(cases); i++) {
		uint8_t b[32] = { [0] = 6, [29] = cases[i].was };
		start(&slow);
		now_ns += 100 * NS_PER_SEC; /* it runs for a while */
		cpu.tsc = tsc();
		if (cases[i].to)
			move(cases[i].to);
		assert_int_equal(gmem_init(&vm.mem, MIB(2), &pt_format_npt, &w), 0);
		assert_int_equal(gmem_write(&vm.mem, 0x1000, b, sizeof(b)), 0);
		gmem_track_start(&vm.mem);
		if (cases[i].to)
			clock_advance(&vm, cases[i].ns);
		else
			now_ns += cases[i].ns;
		v.msr.system_time = 0x1000 | 1;
		clock_resume(&v, tsc_of(here));
		assert_int_equal(gmem_read(&vm.mem, 0x1000, b, sizeof(b)), 0);
		if (b[29] != cases[i].flags)
			fail_msg("case %u: flags %u", i, b[29]);
		assert_int_equal(get_le32(b), 8); /* changed, and even */
		assert_int_equal(gmem_next_written(&vm.mem, 1, 2), 1);
		b[29] &= 1; /* the guest has seen it */
		assert_int_equal(gmem_write(&vm.mem, 0x1000, b, sizeof(b)), 0);
		clock_update(&v);
		assert_int_equal(gmem_read(&vm.mem, 0x1000, b, sizeof(b)), 0);
		assert_int_equal(b[29], 1);
		memset(b, 0, sizeof(b));
		v.msr.system_time = 0x2000; /* no page: none is written */
		clock_resume(&v, tsc_of(here) + 10 * here->hz);
		uint8_t c[32];
		assert_int_equal(gmem_read(&vm.mem, 0x2000, c, sizeof(c)), 0);
		assert_memory_equal(b, c, sizeof(b));
		gmem_fini(&vm.mem);
	}
}

static void no_vcpu(void *arg, unsigned i) { (void)arg, (void)i; }

/* A deadline is in ticks of the guest's TSC, wherever it runs. */
static void test_deadline(void **state)
{
	static struct vlapic l, *ls[] = { &l };
	static struct vapic_bus apics = { .lapic = ls, .n = 1, .kick = no_vcpu, .nmi = no_vcpu };
	uint64_t wait = 0;
	(void)state;
	start(&slow);
	now_ns += NS_PER_SEC;
	move(&fast);
	vlapic_init(&l, &apics, 0);
	assert_int_equal(vlapic_msr_write(&l, MSR_X2APIC + 0xf, tsc(), ns(), 0x1ff), 0);
	assert_int_equal(vlapic_msr_write(&l, MSR_X2APIC + 0x32, tsc(), ns(), 2 << 17 | 0x40), 0); /* deadline mode */
	assert_int_equal(vlapic_msr_write(&l, MSR_TSC_DEADLINE, tsc(), ns(), tsc() + slow.hz / 1000), 0);
	assert_true(vlapic_timer_poll(&l, tsc(), ns(), vm.tsc_hz, &wait));
	assert_in_range(wait, NS_PER_MS - 20, NS_PER_MS + 20);
	now_ns += wait + 20;
	assert_false(vlapic_timer_poll(&l, tsc(), ns(), vm.tsc_hz, &wait));
	assert_int_equal(vlapic_pending(&l), 0x40);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_there_and_back),
		cmocka_unit_test(test_random_journeys),
		cmocka_unit_test(test_measuring_noise),
		cmocka_unit_test(test_standing_still),
		cmocka_unit_test(test_refused),
		cmocka_unit_test(test_says_so),
		cmocka_unit_test(test_clock_page),
		cmocka_unit_test(test_deadline),
		cmocka_unit_test(test_says_that_it_stood_still),
	};
	return cmocka_run_group_tests_name("clock", tests, NULL, NULL);
}

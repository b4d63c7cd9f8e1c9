/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The clock of the day as edk2 and Linux read and set it, by a guest's clock that the test turns; saved and loaded
 * between any two accesses.
 */
#include "kernel/time.h"
#include "tests/unit/fake_kernel.h"
#include "vmm/dev/vrtc.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <cmocka.h>

static struct gmem mem = { .low = GIB(3), .high = GIB(5) };
static struct machine m;
static uint64_t wall_ns;

static uint64_t wall(void *arg unused) { return wall_ns; }

static void build(void)
{
	list_init(&m.devs);
	bus_init(&m.bus);
	assert_int_equal(vrtc_create(&m), 0);
}

static struct dev *rtc(void) { return list_entry(m.devs.next, struct dev, node); }

static void unbuild(void)
{
	rtc()->ops->fini(rtc());
	assert_true(list_empty(&m.devs) && !m.bus.space[BUS_PIO].n);
}

static int setup(void **state unused)
{
	m = (struct machine){ .mem = &mem, .wall_ns = wall, .s.kind = MACHINE_PVH };
	wall_ns = 1700000000 * NS_PER_SEC; /* 2023-11-14 22:13:20, a Tuesday */
	build();
	return 0;
}
static int teardown(void **state unused)
{
	unbuild();
	return 0;
}

static void migrate(void)
{
	uint8_t buf[256];
	struct why w = { "" };
	const struct sdesc *d = rtc()->section[0].desc;

	assert_int_equal(rtc()->nsections, 1);
	assert_false(d->absent(rtc()->section[0].obj));
	state_save(d, rtc()->section[0].obj, buf);
	unbuild();
	build();
	if (state_load(d, rtc()->section[0].obj, 1, buf, state_size(d), &w))
		fail_msg("%s", w.text);
}

static uint64_t in(uint64_t port, unsigned size)
{
	migrate();
	return bus_read(&m.bus, BUS_PIO, port, size);
}
static void out(uint64_t port, unsigned size, uint64_t v)
{
	migrate();
	bus_write(&m.bus, BUS_PIO, port, size, v);
}
static uint8_t get(uint8_t cell)
{
	out(0x70, 1, cell);
	return (uint8_t)in(0x71, 1);
}
static void set(uint8_t cell, uint8_t v)
{
	out(0x70, 1, cell);
	out(0x71, 1, v);
}

/* Century to seconds, then the day of the week. */
static void shows(uint8_t cc, uint8_t yy, uint8_t mm, uint8_t dd, uint8_t h, uint8_t min, uint8_t s, uint8_t wday)
{
	uint8_t got[] = { get(0x32), get(9), get(8), get(7), get(4), get(2), get(0), get(6) },
		want[] = { cc, yy, mm, dd, h, min, s, wday };
	if (memcmp(got, want, sizeof(got)))
		fail_msg("%02x%02x-%02x-%02x %02x:%02x:%02x, day %x", got[0], got[1], got[2], got[3], got[4], got[5],
			 got[6], got[7]);
}

static void write_time(uint8_t cc, uint8_t yy, uint8_t mm, uint8_t dd, uint8_t h, uint8_t min, uint8_t s)
{
	set(0, s);
	set(2, min);
	set(4, h);
	set(7, dd);
	set(8, mm);
	set(9, yy);
	set(0x32, cc);
}

static void test_reads(void **state unused)
{
	assert_true(get(0x0a) == 0x26 && get(0x0b) == 0x02 && get(0x0c) == 0 && get(0x0d) == 0x80);
	shows(0x20, 0x23, 0x11, 0x14, 0x22, 0x13, 0x20, 3);
	wall_ns += 3600 * 2 * NS_PER_SEC;
	shows(0x20, 0x23, 0x11, 0x15, 0x00, 0x13, 0x20, 4);
	set(0x0b, 0x06); /* binary */
	shows(20, 23, 11, 15, 0, 13, 20, 4);
	set(0x0b, 0x00); /* of 12 hours */
	shows(0x20, 0x23, 0x11, 0x15, 0x12, 0x13, 0x20, 4);
	wall_ns += 3600 * 12 * NS_PER_SEC;
	shows(0x20, 0x23, 0x11, 0x15, 0x92, 0x13, 0x20, 4);
	wall_ns += 3600 * NS_PER_SEC;
	set(0x0b, 0x04);
	shows(20, 23, 11, 15, 0x81, 13, 20, 4);
}

/* Each day of four centuries, with what a C library says of it. */
static void test_calendar(void **state unused)
{
	set(0x0b, 0x06);
	for (time_t day = 0; day < 146097; day += 7 + day % 3) {
		time_t t = day * 86400 + day % 86400;
		struct tm tm;
		wall_ns = (uint64_t)t * NS_PER_SEC;
		assert_non_null(gmtime_r(&t, &tm));
		uint8_t want[] = { (uint8_t)((tm.tm_year + 1900) / 100), (uint8_t)(tm.tm_year % 100),
				   (uint8_t)(tm.tm_mon + 1), (uint8_t)tm.tm_mday };
		shows(want[0], want[1], want[2], want[3], (uint8_t)tm.tm_hour, (uint8_t)tm.tm_min, (uint8_t)tm.tm_sec,
		      (uint8_t)(tm.tm_wday + 1));
		if (t / 86400 > 20000)
			continue;
		/* Written as it stands, it stays: the way back is the same. */
		set(0x0b, 0x86);
		set(0x0b, 0x06);
		shows(want[0], want[1], want[2], want[3], (uint8_t)tm.tm_hour, (uint8_t)tm.tm_min, (uint8_t)tm.tm_sec,
		      (uint8_t)(tm.tm_wday + 1));
	}
}

static void test_update_in_progress(void **state unused)
{
	wall_ns += NS_PER_SEC - 2228001;
	assert_int_equal(get(0x0a), 0x26);
	wall_ns++;
	assert_int_equal(get(0x0a), 0xa6);
	wall_ns += 2227999; /* the last nanosecond of this second */
	assert_int_equal(get(0x0a), 0xa6);
	assert_int_equal(get(0), 0x20);
	set(0x0b, 0x82); /* none is under way while it is being set */
	assert_int_equal(get(0x0a), 0x26);
	set(0x0b, 0x02);
	wall_ns++;
	assert_int_equal(get(0x0a), 0x26);
	assert_int_equal(get(0), 0x21);
	set(0x0a, 0xf0); /* what is written of UIP goes nowhere */
	assert_int_equal(get(0x0a), 0x70);
}

/* As edk2 and Linux set it: with SET, in the order of the registers. */
static void test_set(void **state unused)
{
	wall_ns += NS_PER_SEC / 2;
	set(0x0b, 0x82);
	assert_int_equal(get(0), 0x20);
	wall_ns += 10 * NS_PER_SEC; /* it stands still */
	assert_int_equal(get(0), 0x20);
	write_time(0x19, 0x99, 0x12, 0x31, 0x23, 0x59, 0x58);
	assert_int_equal(get(4), 0x23);
	wall_ns += 5 * NS_PER_SEC;
	set(0x0b, 0x02);
	shows(0x19, 0x99, 0x12, 0x31, 0x23, 0x59, 0x58, 6);
	wall_ns += NS_PER_SEC / 2 - 1;
	assert_int_equal(get(0), 0x58);
	wall_ns++; /* seconds end where they did */
	shows(0x19, 0x99, 0x12, 0x31, 0x23, 0x59, 0x59, 6);
	wall_ns += NS_PER_SEC;
	shows(0x20, 0x00, 0x01, 0x01, 0x00, 0x00, 0x00, 7);
	rtc()->ops->reset(rtc()); /* a battery keeps it */
	shows(0x20, 0x00, 0x01, 0x01, 0x00, 0x00, 0x00, 7);
	/* And the format together with the time. */
	set(0x0b, 0x80);
	write_time(0x20, 0x24, 0x02, 0x29, 0x92, 0x00, 0x01);
	set(0x0b, 0x00);
	shows(0x20, 0x24, 0x02, 0x29, 0x92, 0x00, 0x01, 5);
	set(0x0b, 0x02);
	shows(0x20, 0x24, 0x02, 0x29, 0x12, 0x00, 0x01, 5);
	/* Without SET each register is taken at once. */
	set(0x09, 0x28);
	shows(0x20, 0x28, 0x02, 0x29, 0x12, 0x00, 0x01, 3);
	set(0x32, 0x00);
	set(0x09, 0x00);
	set(0x08, 0x01);
	shows(0x00, 0x00, 0x01, 0x29, 0x12, 0x00, 0x01, 7);
	set(0x32, 0x99);
	set(0x09, 0x99);
	wall_ns += 366 * 86400 * NS_PER_SEC; /* and begins anew: 9999 has 365 days */
	shows(0x00, 0x00, 0x01, 0x30, 0x12, 0x00, 0x01, 1);
}

/* What is no time of day is not taken, and the clock goes on. */
static void test_nonsense(void **state unused)
{
	static const uint8_t bad[][2] = { { 0, 0x60 }, { 0, 0x0a }, { 2, 0x60 },   { 2, 0xff }, { 4, 0x24 },
					  { 4, 0x1b }, { 7, 0x00 }, { 7, 0x32 },   { 8, 0x00 }, { 8, 0x13 },
					  { 9, 0xa0 }, { 9, 0x9f }, { 0x32, 0xa0 } };
	for (unsigned i = 0; i < ARRAY_SIZE(bad); i++) {
		set(bad[i][0], bad[i][1]);
		shows(0x20, 0x23, 0x11, 0x14, 0x22, 0x13, 0x20, 3);
		set(0x0b, 0x82);
		set(bad[i][0], bad[i][1]);
		assert_int_equal(get(bad[i][0]), bad[i][1]);
		set(0x0b, 0x02);
		shows(0x20, 0x23, 0x11, 0x14, 0x22, 0x13, 0x20, 3);
	}
	set(7, 0x31); /* of November */
	shows(0x20, 0x23, 0x11, 0x14, 0x22, 0x13, 0x20, 3);
	set(6, 0x09); /* any day of the week: it follows from the date */
	shows(0x20, 0x23, 0x11, 0x14, 0x22, 0x13, 0x20, 3);
	set(0x0b, 0x00);
	for (unsigned h = 0; h < 256; h++) {
		bool good = ((h & 0x7f) >= 1 && (h & 0x7f) <= 9) || ((h & 0x7f) >= 0x10 && (h & 0x7f) <= 0x12);
		set(4, 0x90);
		set(4, (uint8_t)h);
		assert_int_equal(get(4), good ? h : 0x90);
	}
}

static void test_ram(void **state unused)
{
	assert_true(get(0x34) == 0x00 && get(0x35) == 0xbf);                      /* 3 GiB - 16 MiB */
	assert_true(get(0x5b) == 0x00 && get(0x5c) == 0x40 && get(0x5d) == 0x01); /* 5 GiB */
	assert_int_equal(get(0x0f), 0);
	for (unsigned i = 0x0e; i < 0x80; i++)
		if (i != 0x32)
			set((uint8_t)i, (uint8_t)(i * 5));
	for (unsigned i = 1; i < 6; i += 2) /* alarms, which never come */
		set((uint8_t)i, (uint8_t)(i * 5));
	rtc()->ops->reset(rtc());
	for (unsigned i = 0x0e; i < 0x80; i++)
		if (i != 0x32 && i != 0x34 && i != 0x35 && (i < 0x5b || i > 0x5d))
			assert_int_equal(get((uint8_t)(i | 0x80)), (uint8_t)(i * 5)); /* with NMIs masked */
	assert_int_equal(get(0x35), 0xbf);
	assert_true(get(1) == 5 && get(3) == 15 && get(5) == 25);
	shows(0x20, 0x23, 0x11, 0x14, 0x22, 0x13, 0x20, 3);
	set(0x0c, 0xff);
	set(0x0d, 0xff);
	assert_true(get(0x0c) == 0 && get(0x0d) == 0x80);
	out(0x70, 1, 0x8f);
	assert_int_equal(in(0x70, 1), 0x8f);
	out(0x70, 2, 0x770e); /* both ports at once */
	assert_int_equal(in(0x70, 2), 0x770e);
	mem.low = MIB(8);
	rtc()->ops->reset(rtc());
	assert_true(get(0x34) == 0 && get(0x35) == 0);
	mem.low = GIB(3);
}

/* A machine without it, and what a peer may not say of one. */
static void test_state(void **state unused)
{
	const struct sdesc *d = rtc()->section[0].desc;
	uint8_t buf[256], bad[256];
	struct why w = { "" };

	m.s.kind = MACHINE_PLAIN;
	assert_true(d->absent(rtc()->section[0].obj));
	bus_write(&m.bus, BUS_PIO, 0x70, 1, 0x0d);
	assert_int_equal(bus_read(&m.bus, BUS_PIO, 0x71, 1), 0xff);
	assert_int_equal(bus_read(&m.bus, BUS_PIO, 0x70, 2), 0xffff);
	m.s.kind = MACHINE_PVH;
	assert_int_equal(bus_read(&m.bus, BUS_PIO, 0x70, 1), 0);
	state_save(d, rtc()->section[0].obj, buf);
	static const struct {
		unsigned at;
		uint8_t v;
	} no[] = { { 7, 1 }, { 9, 1 }, { 16 + 0x0a, 0xa6 }, { 16 + 0x0c, 0x80 }, { 16 + 0x0d, 0x80 } };
	for (unsigned i = 0; i < ARRAY_SIZE(no); i++) {
		memcpy(bad, buf, sizeof(bad));
		bad[no[i].at] = no[i].v;
		assert_int_equal(state_load(d, rtc()->section[0].obj, 1, bad, state_size(d), &w), -EINVAL);
	}
	put_le64(buf, 25 * 146097 * 86400UL - 1); /* a second less than ten thousand years ahead: one behind */
	assert_int_equal(state_load(d, rtc()->section[0].obj, 1, buf, state_size(d), &w), 0);
	shows(0x20, 0x23, 0x11, 0x14, 0x22, 0x13, 0x19, 3);
	wall_ns = ~0UL; /* a clock like this has been seen in no host */
	shows(0x25, 0x54, 0x07, 0x21, 0x23, 0x34, 0x32, 1);
	put_le64(buf, 25 * 146097 * 86400UL);
	assert_int_equal(state_load(d, rtc()->section[0].obj, 1, buf, state_size(d), &w), -EINVAL);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
	const struct CMUnitTest tests[] = { T(test_reads), T(test_calendar), T(test_update_in_progress),
					    T(test_set),   T(test_nonsense), T(test_ram),
					    T(test_state) };
	return cmocka_run_group_tests_name("rtc", tests, NULL, NULL);
}

/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The UART as Linux's 8250 driver meets it: its probing and its interrupt loop, in the order of
 * drivers/tty/serial/8250. Saved and loaded between any two register accesses.
 */
#include "tests/unit/fake_kernel.h"
#include "vmm/dev.h"
#include "vmm/dev/vuart.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#define PORT 0x3f8
enum { RX = 0, TX = 0, IER = 1, IIR = 2, FCR = 2, LCR = 3, MCR = 4, LSR = 5, MSR = 6, SCR = 7 };

static struct machine m;
static struct vuart *u;
static bool line;
static unsigned raised;
static char out[256];
static unsigned nout;

static void gsi(void *arg, unsigned n, bool level)
{
	(void)arg;
	assert_int_equal(n, 4);
	raised += level && !line;
	line = level;
}
static void sink(void *arg, uint8_t c)
{
	assert_ptr_equal(arg, out);
	if (nout < sizeof(out) - 1)
		out[nout++] = (char)c;
}

static void build(void)
{
	list_init(&m.devs);
	bus_init(&m.bus);
	assert_int_equal(vuart_create(&m, &u, PORT, 4, sink, out), 0);
}
static struct dev *dev(void) { return list_first(&m.devs, struct dev, node); }

static int setup(void **state)
{
	(void)state;
	m = (struct machine){ .gsi = gsi };
	line = false;
	raised = nout = 0;
	memset(out, 0, sizeof(out));
	build();
	dev()->ops->resume(dev());
	return 0;
}
static int teardown(void **state)
{
	(void)state;
	dev()->ops->fini(dev());
	assert_true(list_empty(&m.devs) && !m.bus.space[BUS_PIO].n);
	return 0;
}

static void migrate(void)
{
	uint8_t buf[128];
	bool was = line;
	unsigned r = raised;
	struct why w = { "" };

	dev()->ops->quiesce(dev());
	state_save(dev()->section[0].desc, dev()->section[0].obj, buf);
	dev()->ops->fini(dev());
	build();
	if (state_load(dev()->section[0].desc, dev()->section[0].obj, 1, buf, state_size(dev()->section[0].desc), &w))
		fail_msg("%s", w.text);
	assert_int_equal(vuart_input(u, (const uint8_t *)"x", 1), 0); /* nothing comes in while quiesced */
	assert_true(line == was && raised == r);
	dev()->ops->resume(dev());
	assert_true(line == was && raised == r);
}
static void wr(unsigned reg, uint8_t v)
{
	bus_write(&m.bus, BUS_PIO, PORT + reg, 1, v);
	migrate();
}
static uint8_t rd(unsigned reg)
{
	uint8_t v = (uint8_t)bus_read(&m.bus, BUS_PIO, PORT + reg, 1);
	migrate();
	return v;
}
static unsigned input(const char *s)
{
	unsigned n = vuart_input(u, (const uint8_t *)s, (unsigned)strlen(s));
	migrate();
	return n;
}

/* autoconfig(): what is it? */
static void test_autoconfig(void **state)
{
	(void)state;
	wr(IER, 0);
	assert_int_equal(rd(IER), 0);
	wr(IER, 0x0f);
	assert_int_equal(rd(IER), 0x0f);
	wr(IER, 0);
	wr(MCR, 0x10 | 0x0a); /* loop: RTS and OUT2 come back as CTS and DCD */
	assert_int_equal(rd(MSR) & 0xf0, 0x90);
	wr(MCR, 0);
	wr(LCR, 0xbf); /* no EFR here */
	wr(FCR, 0);
	wr(LCR, 0);
	wr(FCR, 1);
	assert_int_equal(rd(IIR) >> 6, 3); /* a 16550A */
	wr(LCR, 0x80);
	assert_int_not_equal(rd(2), 0);
	wr(LCR, 0);
	wr(FCR, 1);
	uint8_t status1 = rd(IIR) >> 5; /* a 16750 shows bit 5 only with DLAB */
	wr(FCR, 1);
	wr(LCR, 0x80);
	wr(FCR, 0x21);
	uint8_t status2 = rd(IIR) >> 5;
	wr(FCR, 1);
	wr(LCR, 0);
	assert_true(status1 == 6 && status2 == 6);
	wr(IER, 0x40); /* XScale's UUE is not there */
	assert_int_equal(rd(IER), 0);
	wr(SCR, 0x5a);
	assert_int_equal(rd(SCR), 0x5a);
	assert_int_equal(rd(LSR), 0x60);
	assert_false(line);
}

/* size_fifo(): fill it in loop-back, count what comes back. */
static void test_fifo_size(void **state)
{
	unsigned n;
	(void)state;

	wr(FCR, 7);
	wr(MCR, 0x10);
	wr(LCR, 0x80);
	wr(0, 1);
	wr(1, 0);
	assert_true(rd(0) == 1 && rd(1) == 0);
	wr(LCR, 3);
	for (unsigned i = 0; i < 256; i++)
		wr(TX, (uint8_t)i);
	assert_int_equal(rd(LSR) & 0x03, 0x03); /* overrun, once */
	assert_int_equal(rd(LSR) & 0x03, 0x01);
	assert_int_equal(input("x"), 0); /* the line is not connected */
	for (n = 0; (rd(LSR) & 1) && n < 256; n++)
		assert_int_equal(rd(RX), n);
	assert_int_equal(n, 16);
	assert_int_equal(nout, 0);
	wr(FCR, 0); /* without FIFOs it holds one */
	wr(TX, 'a');
	wr(TX, 'b');
	assert_int_equal(rd(LSR) & 0x03, 0x03);
	assert_int_equal(rd(RX), 'a');
}

/* serial8250_do_startup(): the THRE test. Then the interrupt handler sends a string. */
static void test_transmit(void **state)
{
	(void)state;
	wr(MCR, 0x0b);
	wr(IER, 0x02);
	assert_true(line);
	assert_int_equal(rd(IIR) & 0x0f, 2);
	wr(IER, 0);
	assert_false(line);
	wr(IER, 0x02); /* enabling it again says so again */
	assert_int_equal(rd(IIR) & 0x0f, 2);
	assert_int_equal(rd(IIR) & 0x0f, 1); /* reading IIR acknowledged it */
	assert_false(line);
	wr(FCR, 1);
	for (const char *p = "hello"; *p; p++)
		wr(TX, (uint8_t)*p);
	assert_string_equal(out, "hello");
	assert_int_equal(rd(LSR) & 0x60, 0x60);
	assert_true(line);
	assert_int_equal(rd(IIR), 0xc2);
	assert_false(line);
	wr(IER, 0);
	assert_int_equal(rd(IIR), 0xc1);
}

static void test_receive(void **state)
{
	(void)state;
	wr(MCR, 0x0b);
	assert_int_equal(input("abc"), 1); /* no FIFO yet */
	assert_int_equal(rd(RX), 'a');
	wr(FCR, 0x81); /* trigger at 8 */
	wr(IER, 0x05);
	assert_int_equal(input("0123456789abcdefghij"), 16);
	assert_int_equal(input("g"), 0); /* back-pressure, no overrun */
	assert_true(line);
	assert_int_equal(rd(IIR), 0xc4);
	for (unsigned i = 0; i < 9; i++)
		assert_int_equal(rd(RX), "0123456789"[i]);
	assert_int_equal(rd(IIR), 0xcc); /* below the trigger: timed out */
	assert_int_equal(input("gh"), 2);
	assert_int_equal(rd(IIR), 0xc4);
	for (unsigned i = 0; i < 9; i++)
		assert_int_equal(rd(RX), "9abcdefgh"[i]);
	assert_false(line);
	assert_int_equal(rd(IIR), 0xc1);
	assert_int_equal(rd(LSR), 0x60);
	assert_int_equal(rd(RX), 0); /* empty */
	assert_int_equal(input("z"), 1);
	assert_int_equal(raised, 2);
	wr(FCR, 0x83); /* clears it */
	assert_false(line);
	wr(IER, 0);
	assert_int_equal(input("q"), 1);
	assert_false(line);
	wr(IER, 1);
	assert_true(line);
	wr(MCR, 0x03); /* OUT2 gates the line */
	assert_false(line);
}

static void test_modem(void **state)
{
	(void)state;
	assert_int_equal(rd(MSR), 0xb0); /* the far end is there */
	wr(IER, 0x08);
	wr(MCR, 0x1f); /* loop, all on: RI rises, which is not a delta */
	assert_int_equal(rd(MSR), 0xf0);
	wr(MCR, 0x10);
	assert_int_equal(rd(IIR) & 0xf, 0);
	assert_int_equal(rd(MSR), 0x0f); /* and falls, which is */
	assert_int_equal(rd(MSR), 0x00);
	wr(MCR, 0x08);
	assert_true(line);
	assert_int_equal(rd(MSR), 0xbb);
	assert_false(line);
	wr(MCR, 0xff);
	assert_int_equal(rd(MCR), 0x1f);
}

static void test_priority(void **state)
{
	(void)state;
	wr(FCR, 1);
	wr(MCR, 0x18);
	for (unsigned i = 0; i < 17; i++)
		wr(TX, 'x'); /* overrun, data, THRE */
	wr(MCR, 0x1c);
	wr(MCR, 0x18); /* modem: RI */
	wr(IER, 0x0f);
	assert_int_equal(rd(IIR), 0xc6);
	rd(LSR);
	assert_int_equal(rd(IIR), 0xc4);
	for (unsigned i = 0; i < 16; i++)
		rd(RX);
	assert_int_equal(rd(IIR), 0xc2);
	assert_int_equal(rd(IIR), 0xc0);
	rd(MSR);
	assert_int_equal(rd(IIR), 0xc1);
	assert_int_equal(raised, 0); /* in loop-back OUT2 is off outside */
	/* A wide access touches neighbours: here DLL and DLM at once. */
	wr(LCR, 0x80);
	bus_write(&m.bus, BUS_PIO, PORT, 2, 0x1234);
	assert_true(rd(0) == 0x34 && rd(1) == 0x12);
	assert_int_equal(bus_read(&m.bus, BUS_PIO, PORT, 2), 0x1234);
	dev()->ops->reset(dev());
	assert_int_equal(rd(LCR), 0);
	assert_int_equal(rd(IIR), 1);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
	/* clang-format off */
	const struct CMUnitTest tests[] = {
		T(test_autoconfig), T(test_fifo_size), T(test_transmit),
		T(test_receive),    T(test_modem),     T(test_priority),
	};
	/* clang-format on */
	return cmocka_run_group_tests_name("uart", tests, NULL, NULL);
}

/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The host's serial port on a modelled 16550A: one that is not there, one whose LSR reads as all ones, one that is
 * never empty, one that drains at 115200 baud, and worse. Time is the model's: a port access costs a microsecond, and
 * the time that the driver's lock is held, with interrupts off, is measured at each release. Interrupts come when the
 * lock is free; waiting runs the world.
 */
#include "arch/x86/cpu.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

static uint8_t port_in(uint16_t port);
static void port_out(uint16_t port, uint8_t v);
#define inb  port_in
#define outb port_out
#include "drivers/uart_16550.c"
#undef inb
#undef outb

#define ACCESS_NS    NS_PER_US
#define BYTE_NS      86806 /* 10 bits at 115200 baud */
#define LOCK_MAX_NS  (1 * NS_PER_MS)
#define ACCESSES_MAX 50000000 /* else it never ends */
#define TEXT_SIZE    200000
#define WIRE_SIZE    2000000

static struct handoff_console at = { COM1_PORT, COM1_IRQ, 1 };
/* The chip */
static struct {
	bool absent, lsr_ones, flows, iir_stuck, edges_lost, fresh;
	uint8_t scratch, ier, lcr, divisor;
	unsigned fifo;    /* bytes in the transmitter */
	uint64_t sent_ns; /* when the first of them is out */
	uint64_t byte_ns;
	bool thre_pending, line;
	bool babbles;      /* input without end */
	const char *typed; /* not taken yet */
	size_t overruns;
} chip;
static char wire[WIRE_SIZE];
static size_t nwire;
static char fifo_bytes[UART_FIFO_SIZE];
static uint64_t now;
static bool edge; /* an interrupt waits to be taken */
static unsigned long accesses;

/* The machine */
static bool locked, route_fails;
static uint64_t locked_ns, longest_ns;
static struct timer *armed;
static void (*handler)(void *arg);

uint64_t time_ns(void) { return now; }

static bool has_input(void) { return chip.babbles || *chip.typed; }

static void chip_run(void)
{
	while (chip.flows && chip.fifo && now >= chip.sent_ns) {
		wire[nwire++] = fifo_bytes[0];
		assert_true(nwire < WIRE_SIZE);
		memmove(fifo_bytes, fifo_bytes + 1, --chip.fifo);
		chip.sent_ns += chip.byte_ns;
		if (!chip.fifo)
			chip.thre_pending = true;
	}
	if (!chip.flows)
		chip.sent_ns = now + chip.byte_ns;
	bool asks =
		chip.iir_stuck || ((chip.ier & IER_RDA) && has_input()) || ((chip.ier & IER_THRE) && chip.thre_pending);
	bool line = asks && chip.ier;
	if (line && !chip.line && !chip.edges_lost)
		edge = true;
	chip.line = line;
}

static uint8_t port_in(uint16_t port)
{
	assert_in_range(port, at.port, at.port + UART_REGS - 1);
	now += ACCESS_NS;
	accesses++;
	assert_true(accesses < ACCESSES_MAX);
	chip_run();
	if (chip.absent)
		return 0xff;
	switch (port - at.port) {
	case UART_RBR: return chip.babbles ? 'x' : *chip.typed ? (uint8_t)*chip.typed++ : 0;
	case UART_IIR: {
		bool rx_asks = (chip.ier & IER_RDA) && has_input(),
		     tx_asks = (chip.ier & IER_THRE) && chip.thre_pending;
		if (!rx_asks && tx_asks)
			chip.thre_pending = false;
		return chip.iir_stuck ? 0xc2 : rx_asks ? 0xc4 : tx_asks ? 0xc2 : 0xc1;
	}
	case UART_LSR:
		if (chip.lsr_ones)
			return 0xff;
		return (uint8_t)((chip.fifo ? 0 : LSR_THRE) | (has_input() ? LSR_DR : 0));
	case UART_SCR: return chip.scratch;
	default: return 0;
	}
}

static void port_out(uint16_t port, uint8_t v)
{
	assert_in_range(port, at.port, at.port + UART_REGS - 1);
	now += ACCESS_NS;
	accesses++;
	chip_run();
	switch (port - at.port) {
	case UART_THR:
		if (chip.lcr & LCR_DLAB) {
			chip.divisor = v;
			break;
		}
		if (chip.fifo == UART_FIFO_SIZE) {
			chip.overruns++;
			break;
		}
		if (!chip.fifo)
			chip.sent_ns = now + chip.byte_ns;
		fifo_bytes[chip.fifo++] = (char)v;
		chip.thre_pending = false;
		break;
	case UART_IER:
		if (chip.lcr & LCR_DLAB)
			break;
		if (v & IER_THRE && !(chip.ier & IER_THRE) && !chip.fifo)
			chip.thre_pending = true;
		chip.ier = v;
		break;
	case UART_FCR: chip.fifo = 0; break;
	case UART_LCR: chip.lcr = v; break;
	case UART_SCR: chip.scratch = v; break;
	default: break;
	}
	chip_run();
}

int irq_alloc(void (*fn)(void *arg), void *arg)
{
	(void)arg;
	handler = fn;
	return 40;
}
void irq_free(int vector) { assert_int_equal(vector, 40); }
int irq_route_isa(unsigned irq, int vector)
{
	assert_int_equal(irq, at.irq);
	assert_int_equal(vector, 40);
	return route_fails ? -ENODEV : 0;
}

static void interrupts(void)
{
	while (edge && !locked) {
		edge = false;
		handler(NULL);
	}
}

uint64_t spin_lock_irqsave(struct spinlock *l)
{
	assert_false(locked);
	assert_string_equal(l->name, "uart");
	locked = true;
	locked_ns = now;
	return 0;
}
void spin_unlock_irqrestore(struct spinlock *l, uint64_t flags)
{
	(void)l, (void)flags;
	assert_true(locked);
	locked = false;
	longest_ns = MAX(longest_ns, now - locked_ns);
}

void timer_init(struct timer *t, void (*fn)(void *arg), void *arg) { *t = (struct timer){ .fn = fn, .arg = arg }; }
void timer_set(struct timer *t, uint64_t deadline_ns)
{
	assert_true(locked);
	t->deadline_ns = deadline_ns;
	armed = t;
}

/* One event, or the end of the wait. */
static void world(uint64_t until)
{
	uint64_t next = until;
	if (chip.flows && chip.fifo)
		next = MIN(next, chip.sent_ns);
	if (armed)
		next = MIN(next, armed->deadline_ns);
	now = MAX(now, next);
	chip_run();
	interrupts();
	if (armed && now >= armed->deadline_ns) {
		struct timer *t = armed;
		armed = NULL;
		t->fn(t->arg);
	}
	interrupts();
}

static void pass(uint64_t ns)
{
	for (uint64_t end = now + ns; now < end;)
		world(end);
}

static bool woken;
void waitq_wake_all(struct waitq *q)
{
	assert_true(locked); /* never in a panic */
	if (!list_empty(&q->waiters))
		woken = true;
}
int waitq_wait(struct waitq *q, struct spinlock *l, uint64_t *flags, uint64_t deadline_ns)
{
	struct list node;
	list_append(&q->waiters, &node);
	woken = false;
	spin_unlock_irqrestore(l, *flags);
	while (!woken && now < deadline_ns)
		world(deadline_ns);
	*flags = spin_lock_irqsave(l);
	list_remove(&node);
	return woken ? 0 : -ETIMEDOUT;
}

/* ---- tests ---- */

static char text[TEXT_SIZE];

static int setup(void **state)
{
	(void)state;
	memset(&chip, 0, sizeof(chip));
	at = (struct handoff_console){ COM1_PORT, COM1_IRQ, 1 };
	chip.typed = "";
	chip.flows = true;
	chip.byte_ns = BYTE_NS;
	nwire = 0;
	now = 5 * NS_PER_SEC;
	edge = locked = route_fails = false;
	armed = NULL;
	accesses = 0;
	longest_ns = 0;
	mode = BOOT;
	present = gone = resting = gap = false;
	ier = 0;
	idle = 0;
	tx_head = tx_tail = rx_head = rx_tail = 0xfffffff0; /* they run over */
	moved_ns = lost = panic_end_ns = 0;
	for (unsigned i = 0; i < TEXT_SIZE; i++)
		text[i] = (char)('!' + i % 89);
	return 0;
}

static int no_overruns(void **state)
{
	(void)state;
	assert_int_equal(chip.overruns, 0);
	return 0;
}

static void start(void)
{
	uart_init(&at);
	assert_int_equal(uart_irq_init(), route_fails ? -ENODEV : 0);
	interrupts();
	longest_ns = 0;
}

/* Lines of 100 bytes, one each `gap_ns`, by one who cannot wait. */
static void flood(size_t n, uint64_t gap_ns)
{
	for (size_t i = 0; i < n; i += 100) {
		uart_write(text + i % (TEXT_SIZE - 100), 100);
		interrupts();
		if (gap_ns)
			pass(gap_ns);
	}
}

/* The wire without its notes of losses; what these add up to. */
static uint64_t take_notes(void)
{
	uint64_t sum = 0;
	size_t to = 0;
	wire[nwire] = 0;
	for (size_t i = 0; i < nwire;) {
		unsigned long long k;
		int len = 0;
		if (wire[i] == '\r' && sscanf(wire + i, "\r\n[%llu bytes lost]\r\n%n", &k, &len) == 1 && len) {
			sum += k;
			i += (size_t)len;
		} else {
			wire[to++] = wire[i++];
		}
	}
	nwire = to;
	return sum;
}

static void test_absent(void **state)
{
	(void)state;
	chip.absent = true;
	uart_init(&at);
	flood(100000, 0);
	assert_int_equal(uart_irq_init(), -ENODEV);
	flood(100000, 0);
	assert_true(accesses < 10);
	assert_int_equal(uart_wait(0, true), 0);
	assert_true(uart_ready());
	uint64_t until = now + NS_PER_SEC;
	assert_int_equal(uart_getc(until), -ETIMEDOUT);
	assert_true(now >= until && accesses < 10);
	uart_panic_mode();
	uart_write("x", 1);
	assert_int_equal(uart_poll(), -1);
	assert_true(accesses < 10);
}

/* What holds of every port that takes nothing: nobody waits under the lock, and who waits does it once. */
static void check_stands(void)
{
	flood(500000, 100 * NS_PER_US);
	assert_true(longest_ns < LOCK_MAX_NS);
	assert_false(uart_ready());
	uart_write("", 0);
	uint64_t before = now;
	moved_ns = now; /* it has only just come to a stop */
	assert_int_equal(uart_wait(UART_BACKLOG, true), -ETIMEDOUT);
	assert_in_range(now - before, STALL_NS, STALL_NS + NS_PER_SEC);
	before = now;
	for (unsigned i = 0; i < 1000; i++)
		assert_int_equal(uart_wait(UART_BACKLOG, true), -ETIMEDOUT);
	assert_int_equal(now, before);
	assert_true(longest_ns < LOCK_MAX_NS);
}

/* It moves again: all that was written has come, or is counted. The reader is told once. */
static void check_recovers(uint64_t written)
{
	flood(100, 0);
	assert_int_equal(uart_wait(0, false), 0);
	pass(10 * NS_PER_MS);
	assert_int_equal(uart_getc(now), -EIO);
	assert_int_equal(uart_getc(now + 1), -ETIMEDOUT);
	uart_write("and on", 6);
	pass(10 * NS_PER_MS);
	assert_memory_equal(wire + nwire - 6, "and on", 6);
	uint64_t told = take_notes();
	assert_true(told > 0);
	assert_int_equal(nwire + told, written + 100 + 6);
	assert_true(longest_ns < LOCK_MAX_NS);
}

static void test_lsr_reads_ones(void **state)
{
	(void)state;
	uart_init(&at);
	chip.lsr_ones = true;
	chip.flows = false;
	uart_write(text, 100);
	start();
	check_stands();
	assert_int_equal(nwire, 0);
	assert_int_equal(uart_getc(now + NS_PER_SEC), -ETIMEDOUT);
	/* It comes back as from a reset: without interrupts, without its line's parameters. */
	chip.ier = chip.lcr = 0;
	chip.lsr_ones = false;
	chip.flows = true;
	pass(WATCH_NS);
	assert_int_equal(chip.lcr, LCR_8N1);
	assert_true(chip.ier & IER_RDA);
	check_recovers(500100);
}

static void test_never_empty(void **state)
{
	(void)state;
	start();
	chip.flows = false;
	check_stands();
	assert_int_equal(nwire, 0);
	chip.flows = true;
	pass(NS_PER_SEC);
	check_recovers(500000);
}

/* Who can wait loses nothing at a terminal of normal speed, and the line is always busy. */
static void all_arrives(void)
{
	start();
	uint64_t before = now;
	for (size_t i = 0; i < TEXT_SIZE; i += 500) {
		assert_int_equal(uart_wait(UART_BACKLOG, true), 0);
		uart_write(text + i, 500);
	}
	assert_int_equal(uart_wait(0, true), 0);
	pass(100 * NS_PER_MS);
	assert_int_equal(nwire, TEXT_SIZE);
	assert_memory_equal(wire, text, TEXT_SIZE);
	assert_true(now - before < TEXT_SIZE * 5ULL / 4 * BYTE_NS);
	assert_true(longest_ns < LOCK_MAX_NS);
}

static void test_115200(void **state)
{
	(void)state;
	all_arrives();
}

static void test_115200_by_timer(void **state)
{
	(void)state;
	route_fails = true;
	all_arrives();
	chip.typed = "keys";
	for (const char *k = "keys"; *k; k++)
		assert_int_equal(uart_getc(now + NS_PER_SEC), *k);
}

static void test_flood_at_115200(void **state)
{
	(void)state;
	start();
	flood(1000000, NS_PER_MS); /* nine times what the line takes */
	assert_true(longest_ns < LOCK_MAX_NS);
	assert_int_equal(uart_wait(0, false), 0);
	pass(NS_PER_SEC);
	uint64_t told = take_notes();
	assert_int_equal(nwire + told, 1000000);
	assert_in_range(nwire, 100000, 200000);
}

static void test_lost_interrupts(void **state)
{
	(void)state;
	start();
	chip.edges_lost = true;
	uart_write(text, 160);
	pass(20 * WATCH_NS);
	assert_int_equal(nwire, 160);
	chip.typed = "k";
	assert_int_equal(uart_getc(now + NS_PER_SEC), 'k');
}

static void test_interrupt_storm(void **state)
{
	(void)state;
	start();
	chip.iir_stuck = true;
	uint64_t before = now;
	unsigned long n = accesses;
	uart_write(text, 1000);
	pass(NS_PER_SEC);
	assert_true((accesses - n) * ACCESS_NS * 5 < now - before); /* a fifth of a CPU at most, while it sends */
	assert_int_equal(nwire, 1000);
	chip.typed = "k";
	assert_int_equal(uart_getc(now + NS_PER_SEC), 'k');
	n = accesses;
	pass(NS_PER_SEC);
	assert_true(accesses - n < 10000);
	assert_true(longest_ns < LOCK_MAX_NS);
}

static void test_endless_input(void **state)
{
	(void)state;
	start();
	uart_write(text, 1000);
	chip.babbles = true;
	unsigned long n = accesses;
	pass(NS_PER_SEC);
	assert_true((accesses - n) * ACCESS_NS * 10 < NS_PER_SEC); /* a tenth of a CPU at most */
	assert_true(longest_ns < LOCK_MAX_NS);
	pass(NS_PER_SEC);
	assert_int_equal(nwire, 1000); /* slowly, but it goes */
	assert_int_equal(uart_getc(now), 'x');
}

static void test_ctrl_c_while_a_command_runs(void **state)
{
	(void)state;
	start();
	chip.typed = "vm list";
	pass(NS_PER_SEC);
	assert_false(uart_ctrl_c());
	assert_int_equal(uart_getc(now), 'v'); /* and all that was typed is still there */
	chip.typed = "\3x";
	pass(NS_PER_SEC);
	assert_true(uart_ctrl_c());
	assert_false(uart_ctrl_c());
	assert_int_equal(uart_getc(now), 'x');
}

static void test_ctrl_c(void **state)
{
	(void)state;
	start();
	chip.flows = false;
	flood(20000, 0);
	chip.typed = "ab\3cd";
	assert_int_equal(uart_wait(UART_BACKLOG, true), -EINTR);
	assert_int_equal(uart_getc(now), 'c');
	assert_int_equal(uart_getc(now), 'd');
	chip.typed = "e\3";
	assert_int_equal(uart_wait(UART_BACKLOG, false), -ETIMEDOUT);
	assert_int_equal(uart_getc(now), 'e');
	assert_int_equal(uart_getc(now), 3);
}

static void test_boot(void **state)
{
	(void)state;
	uart_init(&at);
	uart_write(text, 1000); /* in place: a machine that hangs next has said it */
	assert_in_range(nwire, 1000 - UART_FIFO_SIZE, 1000);
	chip.flows = false;
	uint64_t before = now;
	for (unsigned i = 0; i < 100; i++)
		uart_write(text, 100);
	assert_true(now - before < 2 * BOOT_STALL_NS);
	chip.flows = true;
	assert_int_equal(uart_irq_init(), 0);
	pass(2 * NS_PER_SEC);
	assert_int_equal(nwire, 11000);
}

/* Wherever the loader found it; without an interrupt the timer does. */
static void test_other_port(void **state unused)
{
	at = (struct handoff_console){ 0x2f8, 3, 12 };
	start();
	assert_int_equal(chip.divisor, 12);
	uart_write(text, 1000);
	pass(2 * NS_PER_SEC);
	assert_int_equal(nwire, 1000);
}

static void test_no_interrupt(void **state unused)
{
	at = (struct handoff_console){ 0x3220, 0, 1 };
	uart_init(&at);
	assert_int_equal(uart_irq_init(), -ENXIO);
	uart_write(text, 1000);
	pass(2 * NS_PER_SEC);
	assert_int_equal(nwire, 1000);
	chip.typed = "a";
	pass(NS_PER_SEC);
	assert_int_equal(uart_getc(now), 'a');
}

static void test_panic(void **state)
{
	(void)state;
	start();
	flood(1000, 0);
	locked = true; /* whoever had it stands still */
	uart_panic_mode();
	uart_write("dead", 4);
	now += NS_PER_SEC;
	chip_run();
	assert_int_equal(nwire, 1004);
	assert_memory_equal(wire, text, 100);
	assert_memory_equal(wire + 1000, "dead", 4);
	chip.typed = "b";
	assert_int_equal(uart_poll(), 'b');
	assert_int_equal(uart_poll(), -1);
}

/* Whatever the port does, a panic comes to its end, and what is left comes out if the line moves again. */
static void panic_is_bounded(uint64_t ns)
{
	flood(40000, 0);
	uint64_t before = now;
	uart_panic_mode();
	for (unsigned i = 0; i < 4000; i++)
		uart_write("!", 1);
	assert_true(now - before < ns);
}

static void test_panic_stands(void **state)
{
	(void)state;
	start();
	chip.flows = false;
	panic_is_bounded(NS_PER_SEC);
	chip.flows = true;
	for (unsigned i = 0; i < 10000000 && tx_used(); i++)
		assert_int_equal(uart_poll(), -1);
	now += NS_PER_SEC;
	chip_run();
	uint64_t told = take_notes();
	assert_int_equal(nwire + told, 44000);
}

static void test_panic_lsr_ones(void **state)
{
	(void)state;
	start();
	chip.lsr_ones = true;
	panic_is_bounded(NS_PER_SEC);
	assert_int_equal(uart_poll(), -1);
}

static void test_panic_drips(void **state)
{
	(void)state;
	start();
	chip.byte_ns = PANIC_STALL_NS / 20; /* never quite standing */
	panic_is_bounded(PANIC_NS + NS_PER_SEC);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, no_overruns)
	const struct CMUnitTest tests[] = {
		T(test_absent),          T(test_lsr_reads_ones),
		T(test_never_empty),     T(test_115200),
		T(test_115200_by_timer), T(test_flood_at_115200),
		T(test_lost_interrupts), T(test_interrupt_storm),
		T(test_endless_input),   T(test_ctrl_c_while_a_command_runs),
		T(test_ctrl_c),          T(test_boot),
		T(test_other_port),      T(test_no_interrupt),
		T(test_panic),           T(test_panic_stands),
		T(test_panic_lsr_ones),  T(test_panic_drips),
	};
	return cmocka_run_group_tests_name("serial", tests, NULL, NULL);
}

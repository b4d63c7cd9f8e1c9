/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * 16550A on COM1 (PC16550D data sheet), 115200 8N1. Output is polled until uart_irq_init and in a panic; between, it goes
 * through a ring that the transmitter-empty interrupt drains, and a full ring is drained by polling, so that nothing is ever
 * lost. Input goes from the FIFO to a ring; the one reader sleeps on it. A machine without the chip reads as all ones: then
 * output goes nowhere and no input comes.
 */
#include "drivers/uart.h"
#include "arch/x86/cpu.h"
#include "arch/x86/irq.h"
#include "kernel/err.h"
#include "kernel/sync.h"
#include "kernel/time.h"
#include "kernel/uart.h"

#define COM1     0x3f8
#define COM1_IRQ 4
#define BAUD_DIV 1 /* 115200 / 115200 */

enum { RBR = 0, THR = 0, DLL = 0, IER = 1, DLM = 1, IIR = 2, FCR = 2, LCR = 3, MCR = 4, LSR = 5, SCR = 7 };
#define IER_RX        0x01
#define IER_TX        0x02
#define FCR_ENABLE    0x01
#define FCR_CLEAR     0x06
#define FCR_TRIGGER_8 0x80
#define LCR_8N1       0x03
#define LCR_DLAB      0x80
#define MCR_DTR       0x01
#define MCR_RTS       0x02
#define MCR_OUT2      0x08 /* gates the interrupt line on a PC */
#define LSR_DATA      0x01
#define LSR_THRE      0x20
#define FIFO_SIZE     16
#define POLL_LIMIT    1000000 /* reads of LSR before a byte is given up: a dead chip must not stop tern */

static struct spinlock lock = SPINLOCK_INIT("uart");
static bool present, by_irq, panicking;
static char tx[32768]; /* lock; indices run freely */
static uint32_t tx_head, tx_tail;
static uint8_t rx[4096];
static uint32_t rx_head, rx_tail;
static struct waitq rx_wait;

void uart_init(void)
{
	outb(COM1 + SCR, 0x5a);
	present = inb(COM1 + SCR) == 0x5a;
	if (!present)
		return;
	outb(COM1 + IER, 0);
	outb(COM1 + LCR, LCR_DLAB);
	outb(COM1 + DLL, BAUD_DIV);
	outb(COM1 + DLM, 0);
	outb(COM1 + LCR, LCR_8N1);
	outb(COM1 + FCR, FCR_ENABLE | FCR_CLEAR | FCR_TRIGGER_8);
	outb(COM1 + MCR, MCR_DTR | MCR_RTS | MCR_OUT2);
}

static void put_polled(char c)
{
	for (unsigned i = 0; i < POLL_LIMIT && !(inb(COM1 + LSR) & LSR_THRE); i++)
		cpu_relax();
	outb(COM1 + THR, (uint8_t)c);
}

/* Fill the empty transmitter from the ring. Under lock. */
static void tx_fill(void)
{
	if (tx_head == tx_tail || !(inb(COM1 + LSR) & LSR_THRE))
		return;
	for (unsigned i = 0; i < FIFO_SIZE && tx_tail != tx_head; i++)
		outb(COM1 + THR, (uint8_t)tx[tx_tail++ % sizeof(tx)]);
}

/* The transmitter's interrupt is on while there is something to send. Under lock. */
static void ier_update(void) { outb(COM1 + IER, tx_head == tx_tail ? IER_RX : IER_RX | IER_TX); }

void uart_write(const char *s, size_t n)
{
	if (!present)
		return;
	if (__atomic_load_n(&panicking, __ATOMIC_RELAXED)) {
		while (n--)
			put_polled(*s++);
		return;
	}
	uint64_t flags = spin_lock_irqsave(&lock);
	for (; n; n--, s++) {
		if (!by_irq) {
			put_polled(*s);
			continue;
		}
		if (tx_head - tx_tail == sizeof(tx))
			put_polled(tx[tx_tail++ % sizeof(tx)]);
		tx[tx_head++ % sizeof(tx)] = *s;
	}
	if (by_irq) {
		tx_fill();
		ier_update();
	}
	spin_unlock_irqrestore(&lock, flags);
}

static void uart_irq(void *arg)
{
	(void)arg;
	uint64_t flags = spin_lock_irqsave(&lock);
	bool got = false;
	/* The line is edge-triggered: leave only once the chip has nothing to say, or no edge would come again. */
	for (unsigned i = 0; i < 256 && !(inb(COM1 + IIR) & 1); i++) {
		while (inb(COM1 + LSR) & LSR_DATA) {
			uint8_t c = inb(COM1 + RBR);
			if (rx_head - rx_tail <
			    sizeof(rx)) /* else the reader is gone astray: drop, as a full FIFO would */
				rx[rx_head++ % sizeof(rx)] = c;
			got = true;
		}
		tx_fill();
		ier_update();
	}
	/* What is left after so many rounds makes its edge now. */
	outb(COM1 + IER, 0);
	ier_update();
	if (got)
		waitq_wake_all(&rx_wait);
	spin_unlock_irqrestore(&lock, flags);
}

int uart_irq_init(void)
{
	waitq_init(&rx_wait);
	if (!present)
		return -ENODEV;
	int vector = irq_alloc(uart_irq, NULL);
	if (vector < 0)
		return vector;
	int err = irq_route_isa(COM1_IRQ, vector);
	if (err) {
		irq_free(vector);
		return err;
	}
	uint64_t flags = spin_lock_irqsave(&lock);
	by_irq = true;
	ier_update();
	spin_unlock_irqrestore(&lock, flags);
	return 0;
}

/* Without interrupts the receiver is looked at every few milliseconds. */
static int getc_polled(uint64_t deadline_ns)
{
	for (;;) {
		if (present && inb(COM1 + LSR) & LSR_DATA)
			return inb(COM1 + RBR);
		if (time_ns() >= deadline_ns)
			return -ETIMEDOUT;
		struct sem never;
		sem_init(&never, 0);
		(void)sem_down(&never, MIN(deadline_ns, time_in_ms(5)));
	}
}

int uart_getc(uint64_t deadline_ns)
{
	if (!by_irq)
		return getc_polled(deadline_ns);
	int err = 0, c = -ETIMEDOUT;
	uint64_t flags = spin_lock_irqsave(&lock);
	while (rx_head == rx_tail && !err)
		err = waitq_wait(&rx_wait, &lock, &flags, deadline_ns);
	if (rx_head != rx_tail)
		c = rx[rx_tail++ % sizeof(rx)];
	spin_unlock_irqrestore(&lock, flags);
	return c;
}

void uart_panic_mode(void)
{
	if (__atomic_exchange_n(&panicking, true, __ATOMIC_SEQ_CST) || !present)
		return;
	outb(COM1 + IER, 0);
	while (tx_tail != tx_head && tx_head - tx_tail <= sizeof(tx)) /* what was said before comes first */
		put_polled(tx[tx_tail++ % sizeof(tx)]);
}

int uart_poll(void) { return present && inb(COM1 + LSR) & LSR_DATA ? inb(COM1 + RBR) : -1; }

/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The console's 16550A (PC16550D data sheet), 8N1, where the loader says. Output goes through a ring. The transmitter's
 * interrupt drains it, or a timer where the interrupt cannot be had; writers never wait for the chip. What finds
 * the ring full is dropped and counted, and the count is sent in its place as soon as half of the ring is free. Only
 * two wait in place: the boot until uart_irq_init, when there is nobody to be kept waiting, and a panic; both give a
 * chip that stands still up after a moment, until it moves again. Input goes from the FIFO to a ring; the one reader
 * sleeps on it.
 *
 * A machine without the chip reads as all ones: then output goes nowhere and no input comes. A chip that stops
 * answering (a management controller that restarts takes its serial port away) is set up again once it is back.
 */
#include "drivers/uart_16550.h"
#include "arch/x86/cpu.h"
#include "arch/x86/hw/uart16550.h"
#include "arch/x86/irq.h"
#include "kernel/base/err.h"
#include "kernel/sync.h"
#include "kernel/time.h"
#include "kernel/uart.h"
#include <stdio.h>

#define NOBODY 0xff /* what an LSR that nobody drives reads as */

#define STALL_NS       (2 * NS_PER_SEC) /* a terminal that takes nothing for so long is stuck: nobody waits for it */
#define BOOT_STALL_NS  (20 * NS_PER_MS) /* the same for those that wait in place: 16 bytes take 1.4 ms */
#define PANIC_STALL_NS (100 * NS_PER_MS)
#define PANIC_NS       (10 * NS_PER_SEC) /* in all, until a key is typed: a full ring takes 3 s */
#define ROUNDS         16                /* in one interrupt */
#define IDLE_MAX       8                 /* interrupts in a row that had nothing behind them */
#define REST_NS        (1 * NS_PER_MS)   /* for a chip that wants more of either, so that it cannot hold a CPU */
#define FLOOD          128               /* bytes that came in one interrupt: so many, and they are let in at */
#define FLOOD_NS       (20 * NS_PER_MS)  /* 115200 baud */
/* Between looks at a chip that interrupts: one may get lost, and the chip may come back. */
#define WATCH_NS       (250 * NS_PER_MS)
#define TICK_NS        (5 * NS_PER_MS)    /* the same without interrupts */
#define TICK_BUSY_NS   (1400 * NS_PER_US) /* and while it sends: a full FIFO */

static enum { BOOT, BY_TIMER, BY_IRQ, PANIC } mode; /* lock, but a panic sets it and ignores locks from then on */

/* All below: lock. */
static struct spinlock lock = SPINLOCK_INIT("uart");
static bool present; /* const after uart_init, like the next three */
static uint16_t base;
static uint8_t irq, divisor;
static bool gone;      /* it stopped answering */
static bool resting;   /* its interrupts are off until the timer's next look */
static unsigned idle;  /* interrupts in a row, as IDLE_MAX has it */
static uint8_t ier;    /* as the chip has it */
static char tx[32768]; /* indices run freely */
static uint32_t tx_head, tx_tail;
static uint64_t moved_ns; /* when the chip took something last, or had something to take again */
static uint64_t lost;     /* bytes, not told yet */
static bool gap;          /* the reader is to know that the terminal has not seen all */
static uint8_t rx[4096];
static uint32_t rx_head, rx_tail;
static uint32_t ntaken; /* from the chip */
static struct waitq rx_wait = { LIST_INIT(rx_wait.waiters) }, tx_wait = { LIST_INIT(tx_wait.waiters) };
static struct timer timer;
static uint64_t panic_end_ns;

static void chip_setup(void)
{
	outb(base + UART_IER, ier = 0);
	outb(base + UART_LCR, LCR_DLAB);
	outb(base + UART_DLL, divisor);
	outb(base + UART_DLM, 0);
	outb(base + UART_LCR, LCR_8N1);
	outb(base + UART_FCR, FCR_ENABLE | FCR_CLEAR_RX | FCR_CLEAR_TX | FCR_TRIGGER_8);
	outb(base + UART_MCR, MCR_DTR | MCR_RTS | MCR_OUT2);
}

void uart_init(const struct handoff_console *c)
{
	base = c->port, irq = c->irq, divisor = c->divisor;
	outb(base + UART_SCR, 0x5a);
	present = inb(base + UART_SCR) == 0x5a;
	if (present)
		chip_setup();
}

/* LSR; 0 from a chip that does not answer. */
static uint8_t status(void)
{
	uint8_t v = inb(base + UART_LSR);
	if (v != NOBODY && gone) {
		chip_setup();
		v = inb(base + UART_LSR);
	}
	gone = v == NOBODY;
	return gone ? 0 : v;
}

/* The transmitter's interrupt is on while there is something to send. */
static void ier_update(void)
{
	uint8_t want = tx_head == tx_tail ? IER_RDA : IER_RDA | IER_THRE;
	if (mode != BY_IRQ || resting)
		want = 0;
	if (want != ier)
		outb(base + UART_IER, ier = want);
}

/* ---- output ---- */

static size_t tx_used(void) { return tx_head - tx_tail; }

/* There is room for it. */
static void tx_append(const char *s, size_t n)
{
	if (tx_head == tx_tail)
		moved_ns = time_ns();
	while (n--)
		tx[tx_head++ % sizeof(tx)] = *s++;
}

/* After a loss all is lost until half of the ring is free, so that a slow line shows few gaps, each with its size. */
static void tx_tell_lost(void)
{
	char note[48];
	if (!lost || tx_used() > sizeof(tx) / 2)
		return;
	int n = sniprintf(note, sizeof(note), "\r\n[%lu bytes lost]\r\n", lost);
	lost = 0;
	tx_append(note, (size_t)n);
	gap = true; /* service() wakes the reader: whoever writes may hold any lock */
}

static void tx_put(const char *s, size_t n)
{
	tx_tell_lost();
	size_t k = lost ? 0 : MIN(n, sizeof(tx) - tx_used());
	tx_append(s, k);
	lost += n - k;
}

/* Give the chip what it takes now; how much that was. */
static unsigned tx_fill(void)
{
	unsigned n = 0;
	if (tx_head == tx_tail || !(status() & LSR_THRE))
		return 0;
	for (; n < UART_FIFO_SIZE && tx_tail != tx_head; n++)
		outb(base + UART_THR, (uint8_t)tx[tx_tail++ % sizeof(tx)]);
	moved_ns = time_ns();
	return n;
}

/*
 * Wait in place until all is sent, or the chip has taken nothing for stall_ns, or end_ns is past and it takes nothing
 * at once.
 */
static void tx_drain(uint64_t stall_ns, uint64_t end_ns)
{
	while (tx_head != tx_tail && (tx_fill() || (time_ns() - moved_ns < stall_ns && time_ns() < end_ns)))
		cpu_relax();
}

void uart_write(const char *s, size_t n)
{
	if (!present)
		return;
	if (__atomic_load_n(&mode, __ATOMIC_RELAXED) == PANIC) {
		tx_put(s, n);
		tx_drain(PANIC_STALL_NS, panic_end_ns);
		return;
	}
	uint64_t flags = spin_lock_irqsave(&lock);
	tx_put(s, n);
	if (mode == BOOT)
		tx_drain(BOOT_STALL_NS, TIME_NEVER);
	else
		tx_fill();
	ier_update();
	spin_unlock_irqrestore(&lock, flags);
}

bool uart_ready(void)
{
	uint64_t flags = spin_lock_irqsave(&lock);
	bool ready = tx_used() <= UART_BACKLOG;
	spin_unlock_irqrestore(&lock, flags);
	return ready;
}

/* If ^C is among what was typed, forget it and what was typed before it. */
static bool take_ctrl_c(void)
{
	for (uint32_t i = rx_tail; i != rx_head; i++)
		if (rx[i % sizeof(rx)] == CTRL_C) {
			rx_tail = i + 1;
			return true;
		}
	return false;
}

bool uart_ctrl_c(void)
{
	uint64_t flags = spin_lock_irqsave(&lock);
	bool typed = take_ctrl_c();
	spin_unlock_irqrestore(&lock, flags);
	return typed;
}

int uart_wait(size_t backlog, bool interruptible)
{
	int err = 0;
	uint64_t flags = spin_lock_irqsave(&lock);
	while (!err && tx_used() > backlog) {
		if (interruptible && take_ctrl_c())
			err = -EINTR;
		else if (time_ns() - moved_ns >= STALL_NS)
			err = -ETIMEDOUT;
		else
			(void)waitq_wait(&tx_wait, &lock, &flags, moved_ns + STALL_NS);
	}
	spin_unlock_irqrestore(&lock, flags);
	return err;
}

/* ---- input, and the chip's wishes ---- */

static unsigned rx_take(void)
{
	unsigned n = 0;
	for (; n < UART_FIFO_SIZE && (status() & LSR_DR); n++) {
		uint8_t c = inb(base + UART_RBR);
		ntaken++;
		if (rx_head - rx_tail < sizeof(rx)) /* else the reader is gone astray: drop, as a full FIFO would */
			rx[rx_head++ % sizeof(rx)] = c;
	}
	return n;
}

/* Move what can be moved at once, both ways; how many bytes. */
static unsigned service(void)
{
	unsigned got = rx_take(), sent = tx_fill();
	tx_tell_lost();
	if (got || gap)
		waitq_wake_all(&rx_wait);
	if (got || tx_used() <= UART_BACKLOG)
		waitq_wake_all(&tx_wait);
	ier_update();
	return got + sent;
}

static void uart_irq(void *arg unused)
{
	uint64_t flags = spin_lock_irqsave(&lock);
	unsigned i = 0, n = 1, moved = 0;
	uint32_t before = ntaken;
	/* The line is edge-triggered: leave only once the chip has nothing to say, or no edge would come again. */
	for (; n && i < ROUNDS && !(inb(base + UART_IIR) & IIR_NONE); i++)
		moved += n = service();
	idle = moved ? 0 : MIN(idle + 1, (unsigned)IDLE_MAX);
	resting = i == ROUNDS || idle == IDLE_MAX;
	if (resting)
		timer_set(&timer, time_ns() + (ntaken - before < FLOOD ? REST_NS : FLOOD_NS));
	/* What there is left makes its edge now. */
	outb(base + UART_IER, ier = 0);
	ier_update();
	spin_unlock_irqrestore(&lock, flags);
}

static void uart_tick(void *arg unused)
{
	uint64_t flags = spin_lock_irqsave(&lock);
	resting = false;
	service();
	bool sends = tx_head != tx_tail && time_ns() - moved_ns < TICK_NS;
	timer_set(&timer, time_ns() + (mode == BY_IRQ ? WATCH_NS : sends ? TICK_BUSY_NS : TICK_NS));
	spin_unlock_irqrestore(&lock, flags);
}

/* The chip's interrupt goes to uart_irq: 0 or -errno. */
static int irq_setup(void)
{
	if (!irq)
		return -ENXIO;
	int vector = irq_alloc(uart_irq, NULL);
	if (vector < 0)
		return vector;
	int err = irq_route_isa(irq, vector);
	if (err)
		irq_free(vector);
	return err;
}

int uart_irq_init(void)
{
	if (!present)
		return -ENODEV;
	timer_init(&timer, uart_tick, NULL);
	int err = irq_setup();
	uint64_t flags = spin_lock_irqsave(&lock);
	mode = err ? BY_TIMER : BY_IRQ;
	service();
	timer_set(&timer, time_ns() + TICK_NS);
	spin_unlock_irqrestore(&lock, flags);
	return err;
}

int uart_getc(uint64_t deadline_ns)
{
	int err = 0, c = -ETIMEDOUT;
	uint64_t flags = spin_lock_irqsave(&lock);
	while (rx_head == rx_tail && !gap && !err)
		err = waitq_wait(&rx_wait, &lock, &flags, deadline_ns);
	if (rx_head != rx_tail) {
		c = rx[rx_tail++ % sizeof(rx)];
	} else if (gap) {
		gap = false;
		c = -EIO;
	}
	spin_unlock_irqrestore(&lock, flags);
	return c;
}

/* ---- panic ---- */

void uart_panic_mode(void)
{
	if (__atomic_exchange_n(&mode, PANIC, __ATOMIC_SEQ_CST) == PANIC || !present)
		return;
	outb(base + UART_IER, ier = 0);
	if (tx_used() > sizeof(tx)) /* it happened amid a change */
		tx_tail = tx_head;
	moved_ns = time_ns();
	panic_end_ns = moved_ns + PANIC_NS;
	tx_drain(PANIC_STALL_NS, panic_end_ns); /* what was said before comes first */
}

int uart_poll(void)
{
	if (!present)
		return -1;
	tx_fill();
	tx_tell_lost();
	if (!(status() & LSR_DR))
		return -1;
	panic_end_ns = time_ns() + PANIC_NS; /* somebody is there */
	return inb(base + UART_RBR);
}

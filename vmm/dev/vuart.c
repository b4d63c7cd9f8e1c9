/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A 16550A (PC16550D datasheet): the guest's serial console. Characters leave at once, so the transmitter is always
 * empty; what comes in waits in the 16-byte receive FIFO, and vuart_input() says how much fitted: that answer is the
 * flow control.
 *
 * The far end is always there (CTS, DSR, DCD). The interrupt is gated by MCR.OUT2, as on a PC. Receive data below the
 * FIFO's trigger level counts as timed out at once. Baud rate and framing are remembered, without effect.
 */
#include "arch/x86/hw/uart16550.h"
#include "vmm/dev.h"
#include "vmm/dev/vuart.h"
#include <stdlib.h>

#define FCR_VALID (FCR_ENABLE | FCR_DMA | FCR_TRIGGER) /* what is remembered */

struct vuart_state { /* section "uart" */
	uint8_t ier, fcr, lcr, mcr, scr, dll, dlm;
	uint8_t thre_pending; /* the transmitter became empty and IIR has not said so */
	uint8_t overrun;
	uint8_t msr_delta; /* low half of MSR */
	uint8_t rx_head, rx_count;
	uint8_t rx[UART_FIFO_SIZE];
};
struct vuart {
	struct dev dev;
	struct vuart_state s; /* [l] */
	bool quiesced; /* [l] true until the first resume: an incoming VM takes no input before its state is there */
	struct spinlock lock; /* [l]; taken before the I/O APIC's */
	uint16_t port;
	unsigned gsi;
	void (*out)(void *arg, uint8_t c);
	void *arg;
};

/* clang-format off */
static const struct sfield vuart_fields[] = {
	F(struct vuart_state, ier),       F(struct vuart_state, fcr),          F(struct vuart_state, lcr),
	F(struct vuart_state, mcr),       F(struct vuart_state, scr),          F(struct vuart_state, dll),
	F(struct vuart_state, dlm),       F(struct vuart_state, thre_pending), F(struct vuart_state, overrun),
	F(struct vuart_state, msr_delta), F(struct vuart_state, rx_head),      F(struct vuart_state, rx_count),
	F_ARR(struct vuart_state, rx),
};
/* clang-format on */

static unsigned rx_room(const struct vuart_state *s)
{
	return (s->fcr & FCR_ENABLE ? UART_FIFO_SIZE : 1U) - s->rx_count;
}

static int vuart_check(const void *obj unused, const void *state, struct why *w)
{
	const struct vuart_state *s = state;
	if ((s->ier & ~IER_VALID) || (s->fcr & ~FCR_VALID) || (s->mcr & ~MCR_VALID) || (s->msr_delta & ~MSR_DELTA) ||
	    s->thre_pending > 1 || s->overrun > 1)
		return why_set(w, -EINVAL, "uart: reserved bits are set");
	if (s->rx_head >= UART_FIFO_SIZE || s->rx_count > (s->fcr & FCR_ENABLE ? UART_FIFO_SIZE : 1))
		return why_set(w, -EINVAL, "uart: receive FIFO at %u holds %u", s->rx_head, s->rx_count);
	if (!(s->fcr & FCR_ENABLE) && s->fcr)
		return why_set(w, -EINVAL, "uart: FIFO control %x without FIFOs", s->fcr);
	return 0;
}

static const struct sdesc vuart_desc = {
	.name = "uart",
	.version = 1,
	SDESC(struct vuart, s, struct vuart_state, vuart_fields),
	.check = vuart_check,
};

/* ---- interrupt: the highest of the sources that are enabled and pending ---- */

static unsigned rx_trigger(const struct vuart_state *s)
{
	static const uint8_t level[] = { 1, 4, 8, 14 };
	return s->fcr & FCR_ENABLE ? level[s->fcr >> 6] : 1;
}

static uint8_t iir(const struct vuart_state *s)
{
	if ((s->ier & IER_LINE) && s->overrun)
		return IIR_LINE;
	if ((s->ier & IER_RDA) && s->rx_count)
		return s->rx_count >= rx_trigger(s) ? IIR_RDA : IIR_TIMEOUT;
	if ((s->ier & IER_THRE) && s->thre_pending)
		return IIR_THRE;
	if ((s->ier & IER_MODEM) && s->msr_delta)
		return IIR_MODEM;
	return IIR_NONE;
}

/* Drive the line, under the lock: so the I/O APIC sees the levels in the order in which they happened. */
static void line_update(struct vuart *u)
{
	bool gate = (u->s.mcr & (MCR_OUT2 | MCR_LOOP)) == MCR_OUT2;
	dev_gsi(&u->dev, u->gsi, gate && iir(&u->s) != IIR_NONE);
}

/* ---- modem lines: the far end's, or in loop-back our own (RTS-CTS, DTR-DSR, OUT1-RI, OUT2-DCD) ---- */

static uint8_t modem_lines(uint8_t mcr)
{
	if (!(mcr & MCR_LOOP))
		return MSR_CTS | MSR_DSR | MSR_DCD;
	return (mcr & MCR_RTS ? MSR_CTS : 0) | (mcr & MCR_DTR ? MSR_DSR : 0) | (mcr & MCR_OUT1 ? MSR_RI : 0) |
	       (mcr & MCR_OUT2 ? MSR_DCD : 0);
}

static void write_mcr(struct vuart_state *s, uint8_t v)
{
	uint8_t before = modem_lines(s->mcr), after = modem_lines(v & MCR_VALID), changed = before ^ after;

	s->mcr = v & MCR_VALID;
	if (!(before & MSR_RI) || (after & MSR_RI))
		changed &= (uint8_t)~MSR_RI; /* only its trailing edge counts */
	s->msr_delta |= changed >> 4;
}

/* ---- data ---- */

static void rx_push(struct vuart_state *s, uint8_t c)
{
	if (!rx_room(s)) {
		s->overrun = 1;
		return;
	}
	s->rx[(s->rx_head + s->rx_count) % UART_FIFO_SIZE] = c;
	s->rx_count++;
}

static uint8_t rx_pop(struct vuart_state *s)
{
	if (!s->rx_count)
		return 0;
	uint8_t c = s->rx[s->rx_head];
	s->rx_head = (s->rx_head + 1) % UART_FIFO_SIZE;
	s->rx_count--;
	return c;
}

static void write_fcr(struct vuart_state *s, uint8_t v)
{
	if (!(v & FCR_ENABLE))
		v = 0; /* the other bits count only together with it */
	if (((v ^ s->fcr) & FCR_ENABLE) || (v & FCR_CLEAR_RX))
		s->rx_head = s->rx_count = 0;
	s->fcr = v & FCR_VALID;
}

unsigned vuart_input(struct vuart *u, const uint8_t *buf, unsigned n)
{
	spin_lock(&u->lock);
	if (u->quiesced || (u->s.mcr & MCR_LOOP)) /* in loop-back the receiver is not connected */
		n = 0;
	n = MIN(n, rx_room(&u->s));
	for (unsigned i = 0; i < n; i++)
		rx_push(&u->s, buf[i]);
	if (n)
		line_update(u);
	spin_unlock(&u->lock);
	return n;
}

/* ---- registers ---- */

static uint8_t reg_read(struct vuart_state *s, unsigned reg)
{
	bool dlab = s->lcr & LCR_DLAB;
	uint8_t v = 0;

	switch (reg) {
	case UART_RBR: return dlab ? s->dll : rx_pop(s);
	case UART_IER: return dlab ? s->dlm : s->ier;
	case UART_IIR:
		v = iir(s);
		if (v == IIR_THRE)
			s->thre_pending = 0; /* reading IIR acknowledges this one */
		return v | (s->fcr & FCR_ENABLE ? IIR_FIFO : 0);
	case UART_LCR: return s->lcr;
	case UART_MCR: return s->mcr;
	case UART_LSR:
		v = LSR_THRE | LSR_TEMT | (s->rx_count ? LSR_DR : 0) | (s->overrun ? LSR_OE : 0);
		s->overrun = 0;
		return v;
	case UART_MSR:
		v = modem_lines(s->mcr) | s->msr_delta;
		s->msr_delta = 0;
		return v;
	case UART_SCR: return s->scr;
	default: return 0xff;
	}
}

/* True if the character v leaves. */
static bool reg_write(struct vuart_state *s, unsigned reg, uint8_t v)
{
	bool dlab = s->lcr & LCR_DLAB;

	switch (reg) {
	case UART_RBR:
		if (dlab) {
			s->dll = v;
			return false;
		}
		s->thre_pending = 1; /* sent already */
		if (s->mcr & MCR_LOOP)
			rx_push(s, v);
		return !(s->mcr & MCR_LOOP);
	case UART_IER:
		if (dlab) {
			s->dlm = v;
			return false;
		}
		if ((v & IER_THRE) && !(s->ier & IER_THRE))
			s->thre_pending = 1; /* enabling it while the transmitter is empty says so again */
		s->ier = v & IER_VALID;
		return false;
	case UART_IIR: write_fcr(s, v); return false;
	case UART_LCR: s->lcr = v; return false;
	case UART_MCR: write_mcr(s, v); return false;
	case UART_SCR: s->scr = v; return false;
	case UART_LSR: /* read-only */
	case UART_MSR:
	default: return false;
	}
}

/* Wider accesses are byte accesses to neighbouring registers, as on the ISA bus. */
static uint64_t vuart_read(void *arg, uint64_t off, unsigned size)
{
	struct vuart *u = arg;
	uint64_t v = 0;

	spin_lock(&u->lock);
	for (unsigned i = 0; i < size; i++)
		v |= (uint64_t)reg_read(&u->s, (unsigned)off + i) << 8 * i;
	line_update(u);
	spin_unlock(&u->lock);
	return v;
}

static void vuart_write(void *arg, uint64_t off, unsigned size, uint64_t val)
{
	struct vuart *u = arg;

	for (unsigned i = 0; i < size; i++) {
		uint8_t c = (uint8_t)(val >> 8 * i);
		spin_lock(&u->lock);
		bool leaves = reg_write(&u->s, (unsigned)off + i, c);
		line_update(u);
		spin_unlock(&u->lock);
		if (leaves)
			u->out(u->arg, c);
	}
}

/* ---- life ---- */

static void vuart_reset(struct dev *d)
{
	struct vuart *u = CONTAINER_OF(d, struct vuart, dev);

	spin_lock(&u->lock);
	u->s = (struct vuart_state){ .dll = 1 };
	line_update(u);
	spin_unlock(&u->lock);
}

static void vuart_quiesce(struct dev *d)
{
	struct vuart *u = CONTAINER_OF(d, struct vuart, dev);

	spin_lock(&u->lock);
	u->quiesced = true;
	spin_unlock(&u->lock);
}

static void vuart_resume(struct dev *d)
{
	struct vuart *u = CONTAINER_OF(d, struct vuart, dev);

	spin_lock(&u->lock);
	u->quiesced = false;
	line_update(u);
	spin_unlock(&u->lock);
}

static void vuart_fini(struct dev *d)
{
	struct vuart *u = CONTAINER_OF(d, struct vuart, dev);

	bus_remove(&d->m->bus, BUS_PIO, u->port);
	list_remove(&d->node);
	free(u);
}

static const struct dev_ops vuart_ops = {
	.reset = vuart_reset,
	.quiesce = vuart_quiesce,
	.resume = vuart_resume,
	.fini = vuart_fini,
};
static const struct bus_ops vuart_bus_ops = { vuart_read, vuart_write };

int vuart_create(struct machine *m, struct vuart **out, uint16_t port, unsigned gsi, void (*sink)(void *arg, uint8_t c),
		 void *arg)
{
	struct vuart *u = calloc(1, sizeof(*u));
	if (!u)
		return err_trace(-ENOMEM);
	int err = bus_add(&m->bus, BUS_PIO, &(struct bus_region){ port, UART_REGS, &vuart_bus_ops, u, "uart" });
	if (err) {
		free(u);
		return err;
	}
	spin_init(&u->lock, "vuart");
	u->port = port;
	u->gsi = gsi;
	u->out = sink;
	u->arg = arg;
	u->s.dll = 1;
	u->quiesced = true;
	dev_register(m, &u->dev, "uart", 0, &vuart_ops);
	dev_add_section(&u->dev, &vuart_desc, u);
	*out = u;
	return 0;
}

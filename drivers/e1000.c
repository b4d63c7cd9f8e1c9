/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Intel 82540EM (what Bochs and QEMU's e1000 are) and 82574L (QEMU's e1000e, many servers): legacy descriptors, one
 * ring each way, no offloads. Registers are named as in the "PCI/PCI-X Family of Gigabit Ethernet Controllers Software
 * Developer's Manual" (SDM below) and the 82574 datasheet.
 */
#include "kernel/base/hva.h"
#include "arch/x86/cpu.h"
#include "arch/x86/hw/pci.h"
#include "arch/x86/paging.h"
#include "drivers/nic_poll.h"
#include "kernel/base/err.h"
#include "kernel/log.h"
#include "kernel/page.h"
#include "kernel/spinlock.h"
#include "kernel/task.h"
#include "kernel/time.h"
#include <string.h>

#define DEVICE_82540EM 0x100e
#define DEVICE_82545EM 0x100f
#define DEVICE_82574L  0x10d3

/* clang-format off */
enum { /* registers, SDM chapter 13 */
	CTRL = 0x0000, STATUS = 0x0008, EERD = 0x0014, ICR = 0x00c0, ITR = 0x00c4, IMS = 0x00d0, IMC = 0x00d8,
	RCTL = 0x0100, TCTL = 0x0400, TIPG = 0x0410, RDBAL = 0x2800, RDBAH = 0x2804, RDLEN = 0x2808, RDH = 0x2810,
	RDT = 0x2818, RDTR = 0x2820, TDBAL = 0x3800, TDBAH = 0x3804, TDLEN = 0x3808, TDH = 0x3810, TDT = 0x3818,
	RXCSUM = 0x5000, MTA = 0x5200, RAL = 0x5400, RAH = 0x5404,
};
/* clang-format on */
#define CTRL_FD            BIT(0)
#define CTRL_ASDE          BIT(5)
#define CTRL_SLU           BIT(6)
#define CTRL_ILOS          BIT(7)
#define CTRL_RST           BIT(26)
#define CTRL_PHY_RST       BIT(31)
#define STATUS_LU          BIT(1)
#define STATUS_SPEED       (3U << 6)
#define STATUS_SPEED_SHIFT 6
#define EERD_START         BIT(0)
#define EERD_DONE          BIT(4)
#define EERD_DONE_82574    BIT(1)
#define RAH_AV             BIT(31)
#define ICR_LSC            BIT(2)
#define ICR_RXDMT0         BIT(4)
#define ICR_RXO            BIT(6)
#define ICR_RXT0           BIT(7)
#define IRQ_RX             (ICR_RXDMT0 | ICR_RXO | ICR_RXT0)
#define RCTL_EN            BIT(1)
#define RCTL_UPE           BIT(3) /* all unicast: guests have MACs of their own */
#define RCTL_MPE           BIT(4)
#define RCTL_LPE           BIT(5) /* frames beyond 1522 bytes with their CRC: those of two tags, and large ones */
#define RCTL_BAM           BIT(15)
#define RCTL_SECRC         BIT(26)
#define TCTL_EN            BIT(1)
#define TCTL_PSP           BIT(3)
#define TCTL_CT            (0x0fU << 4)                /* collision threshold, SDM 13.4.33 */
#define TCTL_COLD          (0x40U << 12)               /* full duplex */
#define TIPG_COPPER        (10U | 8U << 10 | 6U << 20) /* SDM 13.4.34 */
#define RXCSUM_TUOFL       BIT(9)
#define ITR_20K            195U /* at most 20000 interrupts a second, in units of 256 ns */
#define EEPROM_TRIES       1000

struct rx_desc { /* SDM 3.2.3 */
	uint64_t addr;
	uint16_t len, csum;
	uint8_t status, errors;
	uint16_t special;
};
struct tx_desc { /* SDM 3.3.3, legacy */
	uint64_t addr;
	uint16_t len;
	uint8_t cso, cmd, status, css;
	uint16_t special;
};
#define RXD_DD    1
#define RXD_EOP   2
#define RXD_IXSM  4
#define RXD_TCPCS 0x20
#define RXE_FRAME 0x97 /* CRC, symbol, sequence, carrier extension, data error */
#define RXE_TCPE  0x20
#define RXE_IPE   0x40
#define TXD_EOP   1
#define TXD_IFCS  2
#define TXD_RS    8
#define TXD_DD    1

#define RING       256   /* descriptors each way: one page of them */
#define BUF_SIZE   2048U /* one or more of them a frame */
#define PIECES_MAX ((FRAME_HEAD_MAX + ETH_JUMBO_MAX + BUF_SIZE - 1) / BUF_SIZE)
#define BUF_ORDER  7 /* RING * BUF_SIZE */
#define E1000_NICS 8
#define TX_RESERVE 4U /* descriptors for control frames alone */

struct e1000 { /* (c) const after start  [r] the receiving task  [t] tx_lock  [a] atomic */
	struct nic nic;
	const struct pci_dev *pci;
	uint8_t *reg;
	struct nic_poll poll;
	struct rx_desc *rx; /* [r] */
	uint8_t *rx_buf;    /* (c) */
	uint16_t rx_next;   /* [r] */
	struct frame part;  /* [r] of a frame over several descriptors what came before rx_next */
	bool rx_bad;        /* [r] and it cannot be taken */
	struct spinlock tx_lock;
	struct tx_desc *tx; /* [t] */
	uint8_t *tx_buf;    /* (c) */
	uint16_t tx_next;   /* [t] next to fill */
	uint16_t tx_done;   /* [t] oldest not known to be sent */
	bool link;          /* [a] */
	bool started;       /* [t] */
};
static struct e1000 cards[E1000_NICS];
static unsigned ncards;

static struct e1000 *e1000_of(struct nic *n) { return CONTAINER_OF(n, struct e1000, nic); }
static uint32_t rd(const struct e1000 *e, unsigned r) { return mmio_read32(e->reg + r); }
static void wr(const struct e1000 *e, unsigned r, uint32_t v) { mmio_write32(e->reg + r, v); }

/* 82540EM manual, 13.4.2 */
static unsigned e1000_mbit(struct nic *n)
{
	static const uint16_t speeds[] = { 10, 100, 1000, 1000 };
	return speeds[(rd(e1000_of(n), STATUS) & STATUS_SPEED) >> STATUS_SPEED_SHIFT];
}

static bool e1000_link_up(struct nic *n)
{
	struct e1000 *e = e1000_of(n);
	e->link = rd(e, STATUS) & STATUS_LU;
	return e->link;
}

/* ---- receiving ---- */

static void e1000_irq(void *arg)
{
	struct e1000 *e = arg;
	uint32_t cause = rd(e, ICR); /* reading acknowledges */
	if (cause & ICR_LSC)
		nic_link_changed(&e->nic);
	if (cause & IRQ_RX) {
		wr(e, IMC, IRQ_RX);
		nic_poll_wake(&e->poll);
	}
}

/* The descriptor at i brings a frame, or more of the one that has begun. True if that ends there. */
static bool rx_take(struct e1000 *e, const struct rx_desc *d, unsigned i)
{
	struct nic *n = &e->nic;
	struct frame *f = &e->part;
	if (d->len > BUF_SIZE || f->niov == PIECES_MAX) {
		e->rx_bad = true;
	} else {
		f->iov[f->niov++] = (struct iov){ e->rx_buf + i * BUF_SIZE, d->len };
		f->len += d->len;
	}
	if (!(d->status & RXD_EOP))
		return false;
	e->rx_bad |= d->errors & RXE_FRAME || f->len < FRAME_MIN || f->len > n->mtu_used + FRAME_HEAD_MAX;
	if ((d->status & (RXD_IXSM | RXD_TCPCS)) == RXD_TCPCS && !(d->errors & (RXE_TCPE | RXE_IPE)))
		f->flags |= FRAME_DATA_VALID;
	return true;
}

static void rx_end(struct e1000 *e)
{
	struct nic *n = &e->nic;
	nic_count(e->rx_bad ? &n->stats.rx_dropped : &n->stats.rx_frames, 1);
	if (!e->rx_bad) {
		nic_count(&n->stats.rx_bytes, e->part.len);
		if (n->rx)
			n->rx(n->rx_arg, &e->part);
	}
	e->part.niov = 0;
	e->part.len = e->part.flags = 0;
	e->rx_bad = false;
}

static bool rx_ready(const struct e1000 *e, unsigned i)
{
	return __atomic_load_n(&e->rx[i].status, __ATOMIC_ACQUIRE) & RXD_DD;
}

static bool e1000_poll(struct nic_poll *p, unsigned budget)
{
	struct e1000 *e = e1000_of(p->n);
	unsigned taken = 0, last = RING;
	for (; taken < budget && rx_ready(e, e->rx_next); taken++) {
		unsigned i = e->rx_next;
		bool ends = rx_take(e, &e->rx[i], i);
		e->rx[i].status = 0;
		e->rx_next = (uint16_t)((i + 1) % RING);
		if (ends)
			rx_end(e);
		else if (!e->rx_bad)
			continue; /* what a frame that goes on is in, the card does not get before its end */
		last = i;
	}
	if (last != RING) /* the tail points at the last buffer that is free: SDM 3.2.6 */
		wr(e, RDT, last);
	return taken == budget;
}

static bool e1000_rearm(struct nic_poll *p)
{
	struct e1000 *e = e1000_of(p->n);
	wr(e, IMS, IRQ_RX | (uint32_t)ICR_LSC);
	if (!rx_ready(e, e->rx_next))
		return true;
	wr(e, IMC, IRQ_RX);
	return false;
}

/* ---- sending ---- */

/* The card sets DD when it has fetched a frame; looking at memory costs no register access. */
static void tx_reclaim(struct e1000 *e)
{
	while (e->tx_done != e->tx_next && __atomic_load_n(&e->tx[e->tx_done].status, __ATOMIC_ACQUIRE) & TXD_DD)
		e->tx_done = (e->tx_done + 1) % RING;
}

/* Descriptors; one stays free, or a full ring would look empty. The lock is held. */
static unsigned tx_free(const struct e1000 *e) { return RING - 1 - (e->tx_next + RING - e->tx_done) % RING; }

static int tx_locked(struct e1000 *e, const struct frame *f)
{
	unsigned next = e->tx_next;
	tx_reclaim(e);
	if (!e->started ||
	    tx_free(e) < (f->len + BUF_SIZE - 1) / BUF_SIZE + (f->flags & FRAME_CONTROL ? 0 : TX_RESERVE))
		return -ENOBUFS;
	for (size_t off = 0; off < f->len; off += BUF_SIZE) {
		struct tx_desc *d = &e->tx[next];
		d->len = (uint16_t)frame_copy_out(f, off, e->tx_buf + next * BUF_SIZE, BUF_SIZE);
		d->cmd = TXD_IFCS | TXD_RS | (off + BUF_SIZE < f->len ? 0 : TXD_EOP);
		__atomic_store_n(&d->status, 0, __ATOMIC_RELEASE);
		next = (next + 1) % RING;
	}
	e->tx_next = (uint16_t)next;
	wr(e, TDT, next);
	return 0;
}

static int e1000_tx(struct nic *n, const struct frame *f)
{
	struct e1000 *e = e1000_of(n);
	int err;
	if (f->len < FRAME_MIN || f->len > n->mtu_used + FRAME_HEAD_MAX || f->gso != FRAME_GSO_NONE ||
	    f->flags & FRAME_NEEDS_CSUM) {
		err = -EMSGSIZE;
	} else if (!e->link) {
		err = -ENETDOWN;
	} else {
		spin_lock(&e->tx_lock);
		err = tx_locked(e, f);
		spin_unlock(&e->tx_lock);
	}
	nic_count(err ? &n->stats.tx_dropped : &n->stats.tx_frames, 1);
	if (!err)
		nic_count(&n->stats.tx_bytes, f->len);
	return err;
}

static unsigned e1000_tx_room(struct nic *n, size_t len)
{
	struct e1000 *e = e1000_of(n);
	spin_lock(&e->tx_lock);
	tx_reclaim(e);
	unsigned room = tx_free(e);
	spin_unlock(&e->tx_lock);
	return (room - MIN(room, TX_RESERVE)) / (unsigned)((len + BUF_SIZE - 1) / BUF_SIZE);
}

/* ---- setting up ---- */

/*
 * One EEPROM word, -EIO if the card does not answer. Start and done bits differ between the two families (82574:
 * 10.2.1.6).
 */
static int eeprom_read(const struct e1000 *e, unsigned word, uint16_t *v)
{
	bool later = e->pci->device == DEVICE_82574L;
	uint32_t done = later ? EERD_DONE_82574 : EERD_DONE;
	wr(e, EERD, EERD_START | word << (later ? 2 : 8));
	for (unsigned i = 0; i < EEPROM_TRIES; i++) {
		uint32_t r = rd(e, EERD);
		if (r & done) {
			*v = (uint16_t)(r >> 16);
			return 0;
		}
		cpu_relax();
	}
	return -EIO;
}

/* The MAC is in the first three EEPROM words. Without an answer: what the firmware left in the address register. */
static int mac_read(struct e1000 *e, uint32_t ral, uint32_t rah)
{
	uint8_t *mac = e->nic.mac;
	for (unsigned i = 0; i < 3; i++) {
		uint16_t w;
		if (eeprom_read(e, i, &w))
			w = (uint16_t)(i == 0 ? ral : i == 1 ? ral >> 16 : rah);
		put_le16(mac + 2 * i, w);
	}
	static const uint8_t none[ETH_ALEN];
	return mac[0] & 1 || memcmp(mac, none, ETH_ALEN) == 0 ? -ENODEV : 0;
}

static void reset(struct e1000 *e)
{
	wr(e, IMC, ~0U);
	wr(e, RCTL, 0);
	wr(e, TCTL, 0);
	wr(e, CTRL, rd(e, CTRL) | (uint32_t)CTRL_RST);
	/*
	 * SDM 14.3: wait before touching it; the bit clears itself. No registers may be read in the first microsecond.
	 */
	task_sleep_until(time_in_ms(2));
	for (uint64_t end = time_in_ms(20); rd(e, CTRL) & CTRL_RST && time_ns() < end;)
		cpu_relax();
	wr(e, IMC, ~0U);
	(void)rd(e, ICR);
	/* Reset clears the address filter (Bochs) or not (silicon reloads it): written back either way. */
	wr(e, RAL, get_le32(e->nic.mac));
	wr(e, RAH, get_le16(e->nic.mac + 4) | (uint32_t)RAH_AV);
	for (unsigned i = 0; i < 128; i++)
		wr(e, MTA + 4 * i, 0);
}

/* Before the card is started: nobody else sends or receives. */
static void rings_set(struct e1000 *e)
{
	for (unsigned i = 0; i < RING; i++) {
		e->rx[i].addr = hpa_of(e->rx_buf + i * BUF_SIZE);
		e->tx[i].addr = hpa_of(e->tx_buf + i * BUF_SIZE);
	}
	hpa_t rx = hpa_of(e->rx), tx = hpa_of(e->tx);
	wr(e, RDBAL, (uint32_t)rx);
	wr(e, RDBAH, (uint32_t)(rx >> 32));
	wr(e, RDLEN, RING * sizeof(struct rx_desc));
	wr(e, RDH, 0);
	wr(e, RDTR, 0);
	wr(e, TDBAL, (uint32_t)tx);
	wr(e, TDBAH, (uint32_t)(tx >> 32));
	wr(e, TDLEN, RING * sizeof(struct tx_desc));
	wr(e, TDH, 0);
	wr(e, TDT, 0);
	wr(e, TIPG, TIPG_COPPER);
	wr(e, TCTL, (uint32_t)(TCTL_EN | TCTL_PSP) | TCTL_CT | TCTL_COLD);
	wr(e, RXCSUM, (uint32_t)RXCSUM_TUOFL);
	wr(e, RCTL,
	   (uint32_t)(RCTL_EN | RCTL_UPE | RCTL_MPE | RCTL_LPE | RCTL_BAM | RCTL_SECRC)); /* BSIZE 0: 2048 bytes */
	wr(e, RDT, RING - 1);
}

static int e1000_start(struct nic *n)
{
	struct e1000 *e = e1000_of(n);
	hpa_t mem[4] = { page_alloc(0), page_alloc(0), page_alloc(BUF_ORDER), page_alloc(BUF_ORDER) };
	for (unsigned i = 0; i < 4; i++)
		if (mem[i] == HPA_NONE)
			goto fail;
	e->rx = hva_of(mem[0]);
	e->tx = hva_of(mem[1]);
	e->rx_buf = hva_of(mem[2]);
	e->tx_buf = hva_of(mem[3]);
	spin_init(&e->tx_lock, "e1000 tx");
	nic_poll_init(&e->poll, n, e1000_poll, e1000_rearm);
	reset(e);
	if (pci_irq_simple(e->pci, e1000_irq, e))
		goto fail;
	wr(e, CTRL,
	   (rd(e, CTRL) & (uint32_t) ~(CTRL_PHY_RST | CTRL_ILOS)) | (uint32_t)(CTRL_SLU | CTRL_ASDE | CTRL_FD));
	rings_set(e);
	wr(e, ITR, ITR_20K);
	e1000_link_up(n);
	n->queues = 1;
	e->started = true;
	return nic_poll_start(&e->poll); /* its first rearm lets the card interrupt */
fail:
	for (unsigned i = 0; i < 4; i++)
		if (mem[i] != HPA_NONE)
			page_free(mem[i], i < 2 ? 0 : BUF_ORDER);
	return err_trace(-ENODEV);
}

static const struct nic_ops e1000_ops = {
	.tx = e1000_tx, .link_up = e1000_link_up, .mbit = e1000_mbit, .start = e1000_start, .tx_room = e1000_tx_room
};

struct nic *e1000_probe(const struct pci_dev *d)
{
	if (d->vendor != PCI_VENDOR_INTEL ||
	    (d->device != DEVICE_82540EM && d->device != DEVICE_82545EM && d->device != DEVICE_82574L))
		return NULL;
	if (ncards == E1000_NICS) {
		log_warn("e1000: %s: more than %d, not used", d->location, E1000_NICS);
		return NULL;
	}
	struct e1000 *e = &cards[ncards];
	uint64_t size;
	pci_enable(d);
	*e = (struct e1000){ .pci = d, .reg = pci_map_bar(d, 0, &size) };
	if (!e->reg || size < KIB(32)) {
		log_warn("e1000: %s: its registers are not mapped, not used", d->location);
		return NULL;
	}
	e->nic = (struct nic){ .ops = &e1000_ops,
			       .driver = d->device == DEVICE_82574L ? "e1000e" : "e1000",
			       .mtu = ETH_JUMBO_MAX };
	if (mac_read(e, rd(e, RAL), rd(e, RAH))) {
		log_warn("e1000: %s: no MAC in its EEPROM, not used", d->location);
		return NULL;
	}
	ncards++;
	return &e->nic;
}

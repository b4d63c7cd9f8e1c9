/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * virtio-net (virtio 1.1, 5.1) as tern's own NIC: one receive and one transmit ring, checksum and TCP segmentation
 * offload both ways, mergeable receive buffers.
 *
 * Receiving: descriptor i is page i for ever; a frame spans as many pages as it needs. Sending: frames are copied,
 * header first, into a ring of bytes and so are contiguous but for the wrap, where a second descriptor goes on:
 *
 *     tx buffer   |...free...|hdr frame|hdr frame fra|   and what is done is taken back at the next send
 *                            tail                    head
 */
#include "kernel/base/hva.h"
#include "arch/x86/hw/virtio.h"
#include "arch/x86/paging.h"
#include "drivers/nic_poll.h"
#include "drivers/virtio_pci.h"
#include "kernel/log.h"
#include "kernel/page.h"
#include "kernel/spinlock.h"
#include <string.h>

#define DEVICE_TRANSITIONAL 0x1000

struct net_hdr { /* 5.1.6; little-endian, as this machine is */
	uint8_t flags, gso_type;
	uint16_t hdr_len, gso_size, csum_start, csum_offset, num_buffers;
};

#define RX_MAX      256
#define TX_MAX      256
#define TX_ORDER    8 /* 1 MiB of transmit buffer */
#define TX_BYTES    (PAGE_SIZE << TX_ORDER)
#define VIRTIO_NICS 8
#define TX_RESERVE  4U /* descriptors, and as many pages, for control frames alone */
enum { VECTOR_CONFIG = 0, VECTOR_RX = 1 };

struct tx_packet { /* indexed by its first descriptor */
	uint32_t bytes;
	uint8_t ndesc;
	bool done;
};
struct virtio_nic { /* (c) const after start  [r] the receiving task  [t] tx_lock */
	struct nic nic;
	struct virtio_dev dev;
	struct nic_poll poll;
	struct virtq rx; /* [r] */
	uint8_t *rx_buf; /* (c) rx.size pages */
	struct spinlock tx_lock;
	struct virtq tx;                 /* [t] */
	uint8_t *tx_buf;                 /* (c) TX_BYTES */
	uint32_t tx_head, tx_tail;       /* [t] bytes ever put in and taken back */
	uint16_t tx_desc;                /* [t] next descriptor; they are used and come free in ring order */
	uint16_t tx_free;                /* [t] descriptors */
	bool started;                    /* [t] */
	bool link;                       /* [a] as of the last configuration change */
	struct tx_packet packet[TX_MAX]; /* [t] */
};
static struct virtio_nic cards[VIRTIO_NICS];
static unsigned ncards;

static struct virtio_nic *virtio_nic_of(struct nic *n) { return CONTAINER_OF(n, struct virtio_nic, nic); }

/* Asks the card, which costs an exit where that is emulated: sending relies on v->link. */
static bool virtio_nic_link_up(struct nic *n)
{
	struct virtio_nic *v = virtio_nic_of(n);
	v->link =
		!(v->dev.features & VIRTIO_NET_F_STATUS) || mmio_read16(v->dev.config + VNET_CFG_STATUS) & VNET_LINK_UP;
	return v->link;
}

static unsigned virtio_nic_mbit(struct nic *n)
{
	const struct virtio_dev *dev = &virtio_nic_of(n)->dev;
	uint32_t mbit = dev->features & VIRTIO_NET_F_SPEED_DUPLEX ? mmio_read32(dev->config + VNET_CFG_SPEED) : 0;
	return mbit <= VNET_SPEED_MAX ? mbit : 0;
}

/* ---- receiving ---- */

static void rx_repost(struct virtio_nic *v, unsigned count)
{
	for (unsigned i = 0; i < count; i++) {
		uint32_t id = virtq_used_at(&v->rx, v->rx.used_idx++)->id;
		if (id < v->rx.size) /* else the card is broken: that buffer is lost, memory is not */
			virtq_push(&v->rx, (uint16_t)id);
	}
}

/* Describe the frame that begins at the next used entry. Returns how many buffers it has; 0: not all are there yet. */
static unsigned rx_gather(struct virtio_nic *v, struct frame *f, bool *bad)
{
	const struct virtq *q = &v->rx;
	uint16_t there = (uint16_t)(__atomic_load_n(&q->used[1], __ATOMIC_ACQUIRE) - q->used_idx);
	const struct virtq_used_elem *e = virtq_used_at(q, q->used_idx);
	*bad = true;
	if (e->id >= q->size || e->len < sizeof(struct net_hdr) + FRAME_MIN || e->len > PAGE_SIZE)
		return 1;
	const struct net_hdr *h = (const void *)(v->rx_buf + e->id * PAGE_SIZE);
	unsigned count = v->dev.features & VIRTIO_NET_F_MRG_RXBUF ? h->num_buffers : 1;
	if (count == 0 || count > FRAME_IOV_IN)
		return 1;
	if (count > there)
		return 0;
	f->niov = count;
	f->len = 0;
	for (unsigned i = 0; i < count; i++) {
		e = virtq_used_at(q, (uint16_t)(q->used_idx + i));
		if (e->id >= q->size || e->len > PAGE_SIZE)
			return count;
		size_t skip = i == 0 ? sizeof(*h) : 0;
		f->iov[i] = (struct iov){ v->rx_buf + e->id * PAGE_SIZE + skip, e->len - skip };
		f->len += (uint32_t)f->iov[i].len;
	}
	f->flags = h->flags & (FRAME_NEEDS_CSUM | FRAME_DATA_VALID);
	f->gso = h->gso_type & (uint8_t)~VNET_GSO_ECN;
	f->hdr_len = h->hdr_len;
	f->gso_size = h->gso_size;
	f->csum_start = h->csum_start;
	f->csum_offset = h->csum_offset;
	*bad = f->len > FRAME_MAX ||
	       (f->gso != FRAME_GSO_NONE && f->gso != FRAME_GSO_TCPV4 && f->gso != FRAME_GSO_TCPV6) ||
	       (f->gso != FRAME_GSO_NONE && f->gso_size == 0);
	return count;
}

static bool virtio_nic_poll(struct nic *n, unsigned budget)
{
	struct virtio_nic *v = virtio_nic_of(n);
	virtq_irq_off(&v->rx);
	unsigned taken = 0;
	for (; taken < budget && virtq_has_used(&v->rx); taken++) {
		struct frame f;
		bool bad;
		unsigned count = rx_gather(v, &f, &bad);
		if (!count) /* not all of its buffers are there yet */
			break;
		if (bad) {
			nic_count(&n->stats.rx_dropped, 1);
		} else {
			nic_count(&n->stats.rx_frames, 1);
			nic_count(&n->stats.rx_bytes, f.len);
			if (n->rx)
				n->rx(n->rx_arg, &f);
		}
		rx_repost(v, count);
		if (taken % 16 == 15) /* the card must not run dry while a long burst is worked off */
			virtq_offer_done(&v->rx);
	}
	virtq_offer_done(&v->rx);
	return taken == budget;
}

static bool virtio_nic_rearm(struct nic *n) { return virtq_irq_on(&virtio_nic_of(n)->rx); }

static void rx_irq(void *arg)
{
	struct virtio_nic *v = arg;
	nic_poll_wake(&v->poll);
}

static void config_irq(void *arg)
{
	struct virtio_nic *v = arg;
	nic_link_changed(&v->nic);
}

/* Without MSI-X one level-triggered line tells both; reading ISR status acknowledges it (4.1.4.5). */
static void line_irq(void *arg)
{
	struct virtio_nic *v = arg;
	uint8_t isr = mmio_read8(v->dev.isr);
	if (isr & 1)
		rx_irq(v);
	if (isr & 2)
		config_irq(v);
}

/* ---- sending ---- */

static void tx_reclaim(struct virtio_nic *v)
{
	while (virtq_has_used(&v->tx)) {
		uint32_t id = virtq_used_at(&v->tx, v->tx.used_idx++)->id;
		if (id < v->tx.size)
			v->packet[id].done = true;
	}
	for (uint16_t tail = (uint16_t)(v->tx_desc + v->tx_free) & v->tx.mask;
	     v->tx_free < v->tx.size && v->packet[tail].done;) {
		struct tx_packet *p = &v->packet[tail];
		p->done = false;
		v->tx_tail += p->bytes;
		v->tx_free = (uint16_t)(v->tx_free + p->ndesc);
		tail = (uint16_t)(tail + p->ndesc) & v->tx.mask;
	}
	virtq_irq_off(&v->tx);
}

/* Copy n bytes to position `at` of the transmit buffer, around its end if need be. */
static uint32_t tx_put(struct virtio_nic *v, uint32_t at, const void *src, size_t n)
{
	uint32_t off = at % TX_BYTES, first = (uint32_t)MIN(n, TX_BYTES - off);
	memcpy(v->tx_buf + off, src, first);
	if (first < n)
		memcpy(v->tx_buf, (const uint8_t *)src + first, n - first);
	return at + (uint32_t)n;
}

static void tx_desc_set(struct virtio_nic *v, uint16_t i, uint32_t off, uint32_t len, bool more)
{
	v->tx.desc[i] = (struct virtq_desc){ .addr = hpa_of(v->tx_buf + off),
					     .len = len,
					     .flags = more ? VIRTQ_DESC_NEXT : 0,
					     .next = (uint16_t)(i + 1) & v->tx.mask };
}

static int tx_locked(struct virtio_nic *v, const struct frame *f)
{
	uint32_t len = (uint32_t)sizeof(struct net_hdr) + f->len, room = ALIGN_UP(len, 64U);
	tx_reclaim(v);
	if (!v->started || v->tx_free < 2 + (f->flags & FRAME_CONTROL ? 0 : TX_RESERVE) ||
	    TX_BYTES - (v->tx_head - v->tx_tail) < room + (f->flags & FRAME_CONTROL ? 0 : TX_RESERVE * PAGE_SIZE))
		return -ENOBUFS;
	struct net_hdr h = { 0 };
	if (f->flags & FRAME_NEEDS_CSUM)
		h = (struct net_hdr){ .flags = FRAME_NEEDS_CSUM,
				      .csum_start = f->csum_start,
				      .csum_offset = f->csum_offset };
	if (f->gso != FRAME_GSO_NONE) {
		h.gso_type = f->gso;
		h.gso_size = f->gso_size;
		h.hdr_len = f->hdr_len;
	}
	uint32_t at = tx_put(v, v->tx_head, &h, sizeof(h));
	for (unsigned i = 0; i < f->niov; i++)
		at = tx_put(v, at, f->iov[i].base, f->iov[i].len);
	/* Header and frame lie in the ring of bytes in one piece, or in two where it wraps. */
	uint16_t head = v->tx_desc, ndesc = 1;
	uint32_t off = v->tx_head % TX_BYTES, first = (uint32_t)MIN((uint64_t)len, TX_BYTES - off);
	tx_desc_set(v, head, off, first, first < len);
	if (first < len) {
		tx_desc_set(v, (uint16_t)(head + 1) & v->tx.mask, 0, len - first, false);
		ndesc = 2;
	}
	v->packet[head] = (struct tx_packet){ .bytes = room, .ndesc = (uint8_t)ndesc };
	v->tx_desc = (uint16_t)(head + ndesc) & v->tx.mask;
	v->tx_free = (uint16_t)(v->tx_free - ndesc);
	v->tx_head += room;
	virtq_push(&v->tx, head);
	virtq_offer_done(&v->tx);
	return 0;
}

static int virtio_nic_tx(struct nic *n, const struct frame *f)
{
	struct virtio_nic *v = virtio_nic_of(n);
	int err;
	if (f->len < FRAME_MIN || f->len > FRAME_MAX ||
	    (f->gso == FRAME_GSO_NONE && f->len > n->mtu_used + FRAME_HEAD_MAX)) {
		err = -EMSGSIZE;
	} else if (!v->link) {
		err = -ENETDOWN;
	} else {
		spin_lock(&v->tx_lock);
		err = tx_locked(v, f);
		spin_unlock(&v->tx_lock);
	}
	if (err) {
		nic_count(&n->stats.tx_dropped, 1);
		return err;
	}
	nic_count(&n->stats.tx_frames, 1);
	nic_count(&n->stats.tx_bytes, f->len);
	return 0;
}

static unsigned virtio_nic_tx_room(struct nic *n, size_t len)
{
	struct virtio_nic *v = virtio_nic_of(n);
	spin_lock(&v->tx_lock);
	if (v->started)
		tx_reclaim(v);
	/* One descriptor a frame, and one more where the buffer wraps. */
	uint32_t bytes = TX_BYTES - (v->tx_head - v->tx_tail), descs = v->tx_free;
	spin_unlock(&v->tx_lock);
	if (descs < 2 + TX_RESERVE || bytes < TX_RESERVE * PAGE_SIZE)
		return 0;
	bytes -= TX_RESERVE * PAGE_SIZE;
	return MIN(descs - 2 - TX_RESERVE, bytes / (uint32_t)ALIGN_UP(len + sizeof(struct net_hdr), 64U));
}

/* ---- setting up ---- */

static int irq_setup(struct virtio_nic *v, uint16_t *rx_vector)
{
	const struct pci_dev *d = v->dev.pci;
	*rx_vector = VIRTIO_NO_VECTOR;
	if (pci_msix_count(d) <= VECTOR_RX)
		return pci_irq_simple(d, line_irq, v);
	int err = pci_msix_set(d, VECTOR_CONFIG, config_irq, v);
	if (err)
		return err;
	err = pci_msix_set(d, VECTOR_RX, rx_irq, v);
	if (err)
		return err;
	pci_msix_enable(d, true);
	*rx_vector = VECTOR_RX;
	return virtio_set_config_vector(&v->dev, VECTOR_CONFIG);
}

static int virtio_nic_start(struct nic *n)
{
	struct virtio_nic *v = virtio_nic_of(n);
	uint16_t vector;
	hpa_t rx = page_alloc(__builtin_ctz(RX_MAX)), tx = page_alloc(TX_ORDER);
	if (rx == HPA_NONE || tx == HPA_NONE) {
		log_error("%s: no memory for its rings", n->name);
		goto fail;
	}
	v->rx_buf = hva_of(rx);
	v->tx_buf = hva_of(tx);
	spin_init(&v->tx_lock, "virtio-net tx");
	nic_poll_init(&v->poll, n, virtio_nic_poll, virtio_nic_rearm);
	if (irq_setup(v, &vector) || virtq_init(&v->dev, &v->rx, 0, RX_MAX, vector) ||
	    virtq_init(&v->dev, &v->tx, 1, TX_MAX, VIRTIO_NO_VECTOR))
		goto fail;
	/* A page to each descriptor, for ever: buffer and descriptor have one number. */
	for (uint16_t i = 0; i < v->rx.size; i++) {
		v->rx.desc[i] =
			(struct virtq_desc){ .addr = rx + i * PAGE_SIZE, .len = PAGE_SIZE, .flags = VIRTQ_DESC_WRITE };
		virtq_push(&v->rx, i);
	}
	v->tx_free = v->tx.size;
	virtq_irq_off(&v->tx);
	virtio_go(&v->dev);
	virtio_nic_link_up(n);
	virtq_offer_done(&v->rx);
	v->started = true;
	return nic_poll_start(&v->poll);
fail:
	if (rx != HPA_NONE)
		page_free(rx, __builtin_ctz(RX_MAX));
	if (tx != HPA_NONE)
		page_free(tx, TX_ORDER);
	return err_trace(-ENODEV);
}

static const struct nic_ops virtio_nic_ops = { .tx = virtio_nic_tx,
					       .link_up = virtio_nic_link_up,
					       .mbit = virtio_nic_mbit,
					       .start = virtio_nic_start,
					       .tx_room = virtio_nic_tx_room };

static int negotiate(struct virtio_dev *dev, const struct pci_dev *d)
{
	const uint64_t need = VIRTIO_F_VERSION_1 | VIRTIO_NET_F_MAC,
		       large = VIRTIO_NET_F_GUEST_TSO4 | VIRTIO_NET_F_GUEST_TSO6,
		       want = VIRTIO_NET_F_CSUM | VIRTIO_NET_F_GUEST_CSUM | VIRTIO_NET_F_HOST_TSO4 |
			      VIRTIO_NET_F_HOST_TSO6 | VIRTIO_NET_F_MRG_RXBUF | VIRTIO_NET_F_STATUS | VIRTIO_NET_F_MTU |
			      VIRTIO_NET_F_SPEED_DUPLEX | VIRTIO_F_EVENT_IDX;
	int err = virtio_dev_init(dev, d, want | large, need);
	if (err)
		return err;
	/* Large frames are received into several buffers each: a device that has no such is told to send none. */
	if (!(dev->features & VIRTIO_NET_F_MRG_RXBUF)) {
		err = virtio_dev_init(dev, d, want, need);
		if (err)
			return err;
	}
	return dev->config ? 0 : -ENODEV;
}

/* The device may say what it carries; a frame over several buffers needs the feature for that. */
static unsigned largest(const struct virtio_dev *dev)
{
	unsigned mtu = dev->features & VIRTIO_NET_F_MRG_RXBUF ? ETH_JUMBO_MAX : ETH_DATA_MAX;
	unsigned says = dev->features & VIRTIO_NET_F_MTU ? mmio_read16(dev->config + VNET_CFG_MTU) : mtu;
	return says < NIC_MTU_MIN ? mtu : MIN(mtu, says); /* less is no Internet's (RFC 791) */
}

struct nic *virtio_net_probe(const struct pci_dev *d)
{
	if (d->vendor != VIRTIO_PCI_VENDOR ||
	    (d->device != VIRTIO_PCI_DEVICE_BASE + VIRTIO_ID_NET && d->device != DEVICE_TRANSITIONAL))
		return NULL;
	if (ncards == VIRTIO_NICS) {
		log_warn("virtio-net: %s: more than %d, not used", d->location, VIRTIO_NICS);
		return NULL;
	}
	struct virtio_nic *v = &cards[ncards];
	int err = negotiate(&v->dev, d);
	if (err) {
		log_warn("virtio-net: %s cannot be used: %s. It must be a virtio 1.0 device with a MAC", d->location,
			 err_name(err));
		return NULL;
	}
	struct nic *n = &v->nic;
	*n = (struct nic){ .ops = &virtio_nic_ops, .driver = "virtio-net", .mtu = largest(&v->dev) };
	for (unsigned i = 0; i < ETH_ALEN; i++)
		n->mac[i] = mmio_read8(v->dev.config + i);
	if (v->dev.features & VIRTIO_NET_F_CSUM)
		n->offloads = FRAME_TAKES_CSUM | (v->dev.features & VIRTIO_NET_F_HOST_TSO4 ? FRAME_TAKES_TSO4 : 0) |
			      (v->dev.features & VIRTIO_NET_F_HOST_TSO6 ? FRAME_TAKES_TSO6 : 0);
	ncards++;
	return n;
}

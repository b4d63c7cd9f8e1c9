/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * virtio-net (virtio 1.1, 5.1) as tern's own NIC: checksum and TCP segmentation offload both ways, and a pair of rings
 * for each CPU where the card has them (virtio_net.h). A frame leaves by the pair that its flow says, and so in order;
 * by which one comes is the card's choice.
 */
#include "kernel/base/hva.h"
#include "arch/x86/cpu.h"
#include "arch/x86/hw/virtio.h"
#include "arch/x86/paging.h"
#include "drivers/virtio_net.h"
#include "kernel/log.h"
#include "kernel/page.h"
#include "kernel/time.h"
#include <stdlib.h>
#include <string.h>

#define DEVICE_TRANSITIONAL 0x1000

#define VIRTIO_NICS 8
#define PAIRS_MAX   8
#define ORDER_ONE   8 /* of its buffers, each way: 1 MiB where the card has one pair */
#define ORDER_EACH  7 /* where it has several */
#define CTRL_MAX    4
#define OTHER_BITS  64 /* of a flow than a bond chooses its card by (net/uplink.c) */
enum { VECTOR_CONFIG = 0, VECTOR_RX = 1 };

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

/* ---- interrupts ---- */

static void rx_irq(void *arg)
{
	struct virtio_pair *p = arg;
	nic_poll_wake(&p->poll);
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
		rx_irq(&v->pair[0]);
	if (isr & 2)
		config_irq(v);
}

/* ---- sending ---- */

static int virtio_nic_tx(struct nic *n, const struct frame *f)
{
	struct virtio_nic *v = virtio_nic_of(n);
	unsigned npairs = __atomic_load_n(&v->npairs, __ATOMIC_ACQUIRE);
	int err;
	if (f->len < FRAME_MIN || f->len > FRAME_MAX ||
	    (f->gso == FRAME_GSO_NONE && f->len > n->mtu_used + FRAME_HEAD_MAX)) {
		err = -EMSGSIZE;
	} else if (!v->link || !npairs) {
		err = -ENETDOWN;
	} else {
		err = virtio_pair_tx(&v->pair[npairs > 1 ? frame_flow(f) / OTHER_BITS % npairs : 0], f);
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
	unsigned npairs = __atomic_load_n(&v->npairs, __ATOMIC_ACQUIRE), room = npairs ? ~0U : 0;
	for (unsigned i = 0; i < npairs; i++)
		room = MIN(room, virtio_pair_room(&v->pair[i], len));
	return room;
}

/* ---- setting up ---- */

/* How many pairs it could use: each wants an interrupt of its own. */
static unsigned pairs_wanted(const struct virtio_nic *v)
{
	unsigned msix = pci_msix_count(v->dev.pci), most = MIN(cpu_count(), PAIRS_MAX);
	if (!(v->dev.features & VIRTIO_NET_F_MQ) || !(v->dev.features & VIRTIO_NET_F_CTRL_VQ) || msix < VECTOR_RX + 2)
		return 1;
	return MAX(MIN(MIN(most, msix - VECTOR_RX), (unsigned)mmio_read16(v->dev.config + VNET_CFG_MAX_PAIRS)), 1U);
}

/* Vectors of the first n pairs, from VECTOR_RX on; n is 1 where there is no MSI-X, and *msix false. */
static int irq_setup(struct virtio_nic *v, unsigned n, bool *msix)
{
	const struct pci_dev *d = v->dev.pci;
	*msix = pci_msix_count(d) > VECTOR_RX;
	if (!*msix)
		return pci_irq_simple(d, line_irq, v);
	int err = pci_msix_set(d, VECTOR_CONFIG, config_irq, v);
	for (unsigned i = 0; i < n && !err; i++)
		err = pci_msix_set(d, VECTOR_RX + i, rx_irq, &v->pair[i]);
	if (err)
		return err;
	pci_msix_enable(d, true);
	return virtio_set_config_vector(&v->dev, VECTOR_CONFIG);
}

/*
 * 5.1.6.5.5: the device keeps to the first pair until it is told how many. The control queue is behind all pairs that
 * it could have. Whether it has taken them: one that answers late may use them all the same.
 */
static bool tell_pairs(struct virtio_nic *v, struct virtq *ctrl, unsigned n)
{
	hpa_t page = page_alloc(0);
	if (page == HPA_NONE)
		return false;
	uint8_t *b = hva_of(page), *status = b + VNET_CTRL_MQ_LEN;
	b[VNET_CTRL_CLASS] = VNET_CTRL_MQ;
	b[VNET_CTRL_COMMAND] = VNET_CTRL_MQ_PAIRS;
	put_le16(b + VNET_CTRL_HDR_LEN, (uint16_t)n);
	*status = VNET_CTRL_ERR;
	ctrl->desc[0] =
		(struct virtq_desc){ .addr = page, .len = VNET_CTRL_MQ_LEN, .flags = VIRTQ_DESC_NEXT, .next = 1 };
	ctrl->desc[1] = (struct virtq_desc){ .addr = page + VNET_CTRL_MQ_LEN, .len = 1, .flags = VIRTQ_DESC_WRITE };
	virtq_push(ctrl, 0);
	virtq_offer_done(ctrl);
	for (uint64_t end = time_in_ms(100); !virtq_has_used(ctrl) && time_ns() < end;)
		cpu_relax();
	if (virtq_has_used(ctrl) && *(volatile uint8_t *)status == VNET_CTRL_OK) {
		page_free(page, 0);
		return true;
	}
	log_warn("%s: it does not use %u pairs of queues", v->nic.name, n); /* the page stays: it may write there yet */
	return false;
}

/* Rings of the first pairs: how many of n there are, and the control queue if there are several. 0: err says why. */
static unsigned make_pairs(struct virtio_nic *v, unsigned n, struct virtq *ctrl, int *err)
{
	bool msix;
	for (unsigned i = 0; i < n; i++) /* before the card can interrupt */
		virtio_pair_init(v, i);
	*err = irq_setup(v, n, &msix);
	unsigned made = 0;
	while (!*err && made < n) {
		uint16_t vector = msix ? (uint16_t)(VECTOR_RX + made) : VIRTIO_NO_VECTOR;
		if (!(*err = virtio_pair_make(&v->pair[made], made, n > 1 ? ORDER_EACH : ORDER_ONE, vector)))
			made++;
	}
	if (made > 1 &&
	    virtq_init(&v->dev, ctrl, 2 * mmio_read16(v->dev.config + VNET_CFG_MAX_PAIRS), CTRL_MAX, VIRTIO_NO_VECTOR))
		made = 1;
	return made;
}

static int virtio_nic_start(struct nic *n)
{
	struct virtio_nic *v = virtio_nic_of(n);
	struct virtq ctrl;
	unsigned npairs = pairs_wanted(v);
	int err = -ENOMEM;
	v->pair = calloc(npairs, sizeof(*v->pair));
	npairs = v->pair ? make_pairs(v, npairs, &ctrl, &err) : 0;
	if (!npairs) { /* what it has been given stays so: it may be at it */
		log_error("%s: its rings cannot be made: %s", n->name, err_name(err));
		return err_trace(-ENODEV);
	}
	virtio_go(&v->dev);
	virtio_nic_link_up(n);
	/* All receive, before the card is told of them and whatever it answers. */
	for (unsigned i = 0; i < npairs; i++)
		if ((err = virtio_pair_go(&v->pair[i])))
			return err;
	n->queues = npairs > 1 && !tell_pairs(v, &ctrl, npairs) ? 1 : npairs;
	__atomic_store_n(&v->npairs, n->queues, __ATOMIC_RELEASE);
	return 0;
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
			      VIRTIO_NET_F_SPEED_DUPLEX | VIRTIO_NET_F_CTRL_VQ | VIRTIO_NET_F_MQ | VIRTIO_F_EVENT_IDX;
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

/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * virtio over PCI, modern interface only (virtio 1.2, 4.1). What the guest finds:
 *
 *   BAR 0  I/O, 16 bytes    notify: queue n at 4 * n (in ports, so that no write on the hot path needs decoding)
 *   BAR 1  memory, 4 KiB    0x000 common configuration | 0x400 ISR | 0x800 device configuration
 *   BAR 2  memory, 4 KiB    MSI-X table and pending bits (vpci_msix.c)
 *
 * No INTx: without MSI-X a driver polls the ISR. Devices: vnet.c, vrng.c.
 */
#include "vmm/dev/vvirtio.h"
#include <string.h>

#define NOTIFY_SIZE           16
#define NOTIFY_MULT           4
#define CFG_SIZE              0x1000
#define ISR_OFF               0x400
#define DEVICE_OFF            0x800
/* Of the function, its vectors, its queues and the device. */
#define SECTIONS_MAX(nqueues) (DEV_FEW_SECTIONS + (nqueues) / PCI_MSIX_BANK + (nqueues))

/* ---- interrupts and breakage; lock held ---- */

static void interrupt(struct vvirtio *v, uint16_t vector, uint8_t isr)
{
	if (vpci_msix_enabled(&v->pci))
		vpci_msix_raise(&v->pci, vector); /* VIRTIO_NO_VECTOR is none of its vectors */
	else
		__atomic_fetch_or(&v->s.isr, isr, __ATOMIC_RELAXED);
}

bool vvirtio_queue_is_live(const struct vvirtio *v, unsigned q)
{
	uint8_t status = __atomic_load_n(&v->s.status, __ATOMIC_RELAXED);

	return (status & (VIRTIO_DRIVER_OK | VIRTIO_NEEDS_RESET)) == VIRTIO_DRIVER_OK && v->q[q].s->enabled &&
	       vpci_func_is_master(&v->pci);
}

/* Who is at a reset holds the device's lock until all of it is done. */
void vvirtio_queue_lock(struct vvirtio *v, struct spinlock *l, const bool *excluded)
{
	spin_lock(l);
	while (__atomic_load_n(excluded, __ATOMIC_RELAXED)) {
		spin_unlock(l);
		spin_lock(&v->lock);
		spin_unlock(&v->lock);
		spin_lock(l);
	}
}

void vvirtio_break(struct vvirtio *v, const char *why)
{
	uint8_t before = __atomic_fetch_or(&v->s.status, VIRTIO_NEEDS_RESET, __ATOMIC_RELAXED);
	if (before & VIRTIO_NEEDS_RESET)
		return;
	v->why = why;
	if (before & VIRTIO_DRIVER_OK)
		interrupt(v, v->s.config_vector, VIRTIO_ISR_CONFIG);
}

void vvirtio_config_changed(struct vvirtio *v)
{
	v->s.generation++; /* 4.1.4.3.1 */
	if (v->s.status & VIRTIO_DRIVER_OK)
		interrupt(v, v->s.config_vector, VIRTIO_ISR_CONFIG);
}

void vvirtio_signal(struct vvirtio *v, unsigned q)
{
	if (vvirtq_must_signal(&v->q[q]))
		interrupt(v, v->q[q].s->vector, VIRTIO_ISR_QUEUE);
}

/* ---- common configuration ---- */

static void exclude(struct vvirtio *v, bool on)
{
	if (v->ops->exclude)
		v->ops->exclude(v, on);
}

static void status_write(struct vvirtio *v, uint8_t val)
{
	uint8_t fresh = val & VVIRTIO_STATUS_BITS & ~v->s.status;

	if (!val) {
		vvirtio_state_reset(v);
		return;
	}
	if (fresh & VIRTIO_FEATURES_OK && !vvirtio_features_good(v, v->s.driver_features))
		fresh &= ~VIRTIO_FEATURES_OK; /* the driver reads back that we refuse (3.1.1) */
	if (!((v->s.status | fresh) & VIRTIO_FEATURES_OK))
		fresh &= ~VIRTIO_DRIVER_OK;
	v->s.status |= fresh; /* bits are only ever set; a reset clears them */
	if (fresh & VIRTIO_FEATURES_OK)
		vvirtio_features_apply(v);
	if (fresh & VIRTIO_DRIVER_OK) {
		if (v->s.status & VIRTIO_NEEDS_RESET) /* broken before it began: now the driver may be told */
			interrupt(v, v->s.config_vector, VIRTIO_ISR_CONFIG);
		else if (v->ops->driver_ok)
			v->ops->driver_ok(v);
	}
}

static uint16_t vector_of(const struct vvirtio *v, uint64_t val)
{
	return val < v->pci.nvectors ? (uint16_t)val : VIRTIO_NO_VECTOR;
}

static unsigned own_ports(const struct vvirtio *v) { return v->ids->own_ports ? v->ids->own_ports : v->ids->nqueues; }

static uint8_t status_read(struct vvirtio *v)
{
	return !v->s.status && v->ops->busy && v->ops->busy(v) ? VIRTIO_NEEDS_RESET : v->s.status;
}

static uint64_t common_read(struct vvirtio *v, unsigned off, unsigned size)
{
	static const struct vvirtq_state none;
	const struct vvirtq_state *q = v->s.queue_select < v->ids->nqueues ? v->q[v->s.queue_select].s : &none;
	uint8_t c[COMMON_LEN + 8] = { 0 };
	uint32_t sel = v->s.device_feature_select, dsel = v->s.driver_feature_select;

	if (off + size > COMMON_LEN)
		return 0;
	put_le32(c + COMMON_DEVICE_FEATURE_SELECT, sel);
	put_le32(c + COMMON_DEVICE_FEATURE, sel > 1 ? 0 : (uint32_t)(v->features >> 32 * sel));
	put_le32(c + COMMON_DRIVER_FEATURE_SELECT, dsel);
	put_le32(c + COMMON_DRIVER_FEATURE, dsel > 1 ? 0 : (uint32_t)(v->s.driver_features >> 32 * dsel));
	put_le16(c + COMMON_CONFIG_VECTOR, v->s.config_vector);
	put_le16(c + COMMON_NUM_QUEUES, (uint16_t)v->ids->nqueues);
	c[COMMON_STATUS] = status_read(v);
	c[COMMON_GENERATION] = v->s.generation;
	put_le16(c + COMMON_QUEUE_SELECT, v->s.queue_select);
	put_le16(c + COMMON_QUEUE_SIZE, q->size);
	put_le16(c + COMMON_QUEUE_VECTOR, q == &none ? VIRTIO_NO_VECTOR : q->vector);
	put_le16(c + COMMON_QUEUE_ENABLE, q->enabled);
	put_le16(c + COMMON_QUEUE_NOTIFY_OFF, v->s.queue_select < own_ports(v) ? v->s.queue_select : 0);
	put_le64(c + COMMON_QUEUE_DESC, q->desc);
	put_le64(c + COMMON_QUEUE_DRIVER, q->avail);
	put_le64(c + COMMON_QUEUE_DEVICE, q->used);
	return get_le64(c + off);
}

/* A 64-bit address register is written whole or in halves. */
static void write_addr(uint64_t *reg, unsigned off, unsigned size, uint64_t val)
{
	if (size == 8)
		*reg = val;
	else if (size == 4)
		*reg = (*reg & ~(0xffffffffUL << 8 * (off & 4))) | val << 8 * (off & 4);
}

static void queue_enable(struct vvirtio *v, struct vvirtq_state *q)
{
	if (!vvirtq_is_sane(q)) {
		vvirtio_break(v, "a queue of a bad size or alignment");
		return;
	}
	q->last_avail = q->used_idx = q->signalled = 0;
	q->enabled = 1;
}

/* Registers of the selected queue. Only its vector may change once it is enabled. */
static void queue_write(struct vvirtio *v, unsigned off, unsigned size, uint64_t val)
{
	struct vvirtq_state *q;

	if (v->s.queue_select >= v->ids->nqueues)
		return;
	q = v->q[v->s.queue_select].s;
	if (off == COMMON_QUEUE_VECTOR && size == 2)
		q->vector = vector_of(v, val);
	else if (q->enabled)
		return;
	else if (off == COMMON_QUEUE_SIZE && size == 2)
		q->size = (uint16_t)val; /* checked when it is enabled */
	else if (off == COMMON_QUEUE_ENABLE && size == 2 && val == 1)
		queue_enable(v, q);
	else if (off >= COMMON_QUEUE_DESC)
		write_addr(off < COMMON_QUEUE_DRIVER   ? &q->desc
			   : off < COMMON_QUEUE_DEVICE ? &q->avail
						       : &q->used,
			   off, size, val);
}

/* Each field takes accesses of its own width only (4.1.3.1). Lock held. */
static void common_write(struct vvirtio *v, unsigned off, unsigned size, uint64_t val)
{
	unsigned sel = v->s.driver_feature_select;

	if (off % size || off + size > COMMON_LEN)
		return;
	if (off >= COMMON_QUEUE_SIZE)
		queue_write(v, off, size, val);
	else if (off == COMMON_DEVICE_FEATURE_SELECT && size == 4)
		v->s.device_feature_select = (uint32_t)val;
	else if (off == COMMON_DRIVER_FEATURE_SELECT && size == 4)
		v->s.driver_feature_select = (uint32_t)val;
	else if (off == COMMON_DRIVER_FEATURE && size == 4 && sel <= 1 && !(v->s.status & VIRTIO_FEATURES_OK))
		write_addr(&v->s.driver_features, 4 * sel, 4, val);
	else if (off == COMMON_CONFIG_VECTOR && size == 2)
		v->s.config_vector = vector_of(v, val);
	else if (off == COMMON_STATUS && size == 1)
		status_write(v, (uint8_t)val);
	else if (off == COMMON_QUEUE_SELECT && size == 2)
		v->s.queue_select = (uint16_t)val;
}

/* ---- BARs ---- */

static uint64_t cfg_bar_read(void *arg, uint64_t off, unsigned size)
{
	struct vvirtio *v = arg;
	uint64_t val = 0;

	if (off >= DEVICE_OFF && off - DEVICE_OFF + size <= v->ids->cfg_len)
		return v->ops->config_read(v, (unsigned)(off - DEVICE_OFF), size);
	spin_lock(&v->lock);
	if (off < COMMON_LEN) {
		val = common_read(v, (unsigned)off, size);
	} else if (off == ISR_OFF) {
		val = __atomic_exchange_n(&v->s.isr, 0, __ATOMIC_RELAXED);
	}
	spin_unlock(&v->lock);
	return val;
}

static void cfg_bar_write(void *arg, uint64_t off, unsigned size, uint64_t val)
{
	struct vvirtio *v = arg;

	bool excludes = off == COMMON_STATUS || off == COMMON_QUEUE_ENABLE; /* who is at a queue looks at no others */

	if (off >= COMMON_LEN)
		return;
	spin_lock(&v->lock);
	if (excludes)
		exclude(v, true);
	common_write(v, (unsigned)off, size, val);
	if (excludes)
		exclude(v, false);
	spin_unlock(&v->lock);
}

/* The driver writes the queue's index (4.1.5.2), which tells those apart that share a port. */
static void notify_write(void *arg, uint64_t off, unsigned size unused, uint64_t val)
{
	struct vvirtio *v = arg;
	unsigned q = (unsigned)(off / NOTIFY_MULT);

	if (off % NOTIFY_MULT || q >= own_ports(v))
		return;
	if (q == 0 && val >= own_ports(v) && val < v->ids->nqueues)
		q = (unsigned)val;
	v->ops->notify(v, q);
}

static uint64_t notify_read(void *arg unused, uint64_t off unused, unsigned size unused) { return 0; }

static const struct bus_ops cfg_bar_ops = { cfg_bar_read, cfg_bar_write }, notify_ops = { notify_read, notify_write };

/* ---- VIRTIO_PCI_CAP_PCI_CFG: a window onto the BARs in configuration space (4.1.4.9) ---- */

/* The access that the window is set to, false if it is none; *bar, *off, *len. */
static bool window(const struct vvirtio *v, unsigned *bar, uint32_t *off, uint32_t *len)
{
	const uint8_t *c = v->pci.s.cfg + v->cfg_cap;

	*bar = c[VCAP_BAR];
	*off = get_le32(c + VCAP_OFFSET);
	*len = get_le32(c + VCAP_LENGTH);
	return *bar <= VIRTIO_BAR_CFG && (*len == 1 || *len == 2 || *len == 4) && *off % *len == 0 &&
	       *off < (*bar == VIRTIO_BAR_CFG ? CFG_SIZE : NOTIFY_SIZE);
}

static bool in_window_data(const struct vvirtio *v, unsigned off, unsigned size)
{
	return off < v->cfg_cap + VCAP_EXTRA + 4 && off + size > v->cfg_cap + VCAP_EXTRA;
}

static void window_read(struct vpci_func *f, unsigned reg, unsigned size)
{
	struct vvirtio *v = CONTAINER_OF(f, struct vvirtio, pci);
	uint32_t off, len;
	unsigned bar;

	if (in_window_data(v, reg, size) && window(v, &bar, &off, &len) && bar == VIRTIO_BAR_CFG)
		put_le32(f->s.cfg + v->cfg_cap + VCAP_EXTRA, (uint32_t)cfg_bar_read(v, off, len));
}

static void window_written(struct vpci_func *f, unsigned reg, unsigned size)
{
	struct vvirtio *v = CONTAINER_OF(f, struct vvirtio, pci);
	uint32_t off, len, val = get_le32(f->s.cfg + v->cfg_cap + VCAP_EXTRA);
	unsigned bar;

	if (!in_window_data(v, reg, size) || !window(v, &bar, &off, &len))
		return;
	val &= (uint32_t)(BIT(8 * len) - 1);
	if (bar == VIRTIO_BAR_CFG)
		cfg_bar_write(v, off, len, val);
	else
		notify_write(v, off, len, val);
}

static const struct vpci_func_ops window_ops = { window_read, window_written };

/* ---- life ---- */

static unsigned add_cap(struct vpci_func *f, uint8_t type, unsigned bar, uint32_t off, uint32_t len, unsigned extra)
{
	unsigned cap = vpci_func_cap(f, PCI_CAP_VENDOR, VCAP_EXTRA + extra);
	uint8_t *c = f->reset_cfg + cap;

	c[VCAP_LEN] = (uint8_t)(VCAP_EXTRA + extra);
	c[VCAP_TYPE] = type;
	c[VCAP_BAR] = (uint8_t)bar;
	put_le32(c + VCAP_OFFSET, off);
	put_le32(c + VCAP_LENGTH, len);
	return cap;
}

static int build_function(struct vvirtio *v)
{
	struct vpci_func *f = &v->pci;
	unsigned cap;
	int err;

	if ((err = vpci_msix_init(f, VIRTIO_BAR_MSIX, (v->ids->nvectors ? v->ids->nvectors : own_ports(v)) + 1)) ||
	    (err = vpci_func_bar(f, VIRTIO_BAR_NOTIFY, true, NOTIFY_SIZE, &notify_ops, v)) ||
	    (err = vpci_func_bar(f, VIRTIO_BAR_CFG, false, CFG_SIZE, &cfg_bar_ops, v)))
		return err;
	add_cap(f, VCAP_COMMON, VIRTIO_BAR_CFG, 0, COMMON_LEN, 0);
	cap = add_cap(f, VCAP_NOTIFY, VIRTIO_BAR_NOTIFY, 0, NOTIFY_MULT * own_ports(v), 4);
	put_le32(f->reset_cfg + cap + VCAP_EXTRA, NOTIFY_MULT);
	add_cap(f, VCAP_ISR, VIRTIO_BAR_CFG, ISR_OFF, 1, 0);
	if (v->ids->cfg_len)
		add_cap(f, VCAP_DEVICE, VIRTIO_BAR_CFG, DEVICE_OFF, v->ids->cfg_len, 0);
	v->cfg_cap = add_cap(f, VCAP_PCI_CFG, 0, 0, 0, 4);
	f->wmask[v->cfg_cap + VCAP_BAR] = 0xff;
	memset(f->wmask + v->cfg_cap + VCAP_OFFSET, 0xff, 12); /* offset, length, data */
	return vpci_func_attach(f);
}

int vvirtio_init(struct vvirtio *v, struct machine *m, struct vpci_bus *b, unsigned slot, const struct vvirtio_ids *ids,
		 const struct vvirtio_ops *ops, const struct dev_ops *dops)
{
	uint16_t device = (uint16_t)(VIRTIO_PCI_DEVICE_BASE + ids->id);
	struct vpci_ids p = { VIRTIO_PCI_VENDOR, device, VIRTIO_PCI_VENDOR, device, 1, ids->class_code };
	int err;

	spin_init(&v->lock, ids->name);
	v->ids = ids;
	v->ops = ops;
	v->features = ids->features | VIRTIO_F_COMMON;
	err = vvirtio_queues_init(v, m->mem);
	if (err)
		return err;
	vvirtio_state_reset(v);
	dev_register(m, &v->dev, ids->name, slot, dops);
	vpci_func_init(&v->pci, b, &v->dev, slot, &p);
	v->pci.ops = &window_ops;
	err = dev_reserve_sections(&v->dev, SECTIONS_MAX(ids->nqueues));
	if (!err)
		err = build_function(v);
	if (err)
		vvirtio_fini(v);
	else
		vvirtio_add_sections(v);
	return err;
}

void vvirtio_reset(struct vvirtio *v)
{
	vpci_func_reset(&v->pci);
	spin_lock(&v->lock);
	exclude(v, true);
	vvirtio_state_reset(v);
	exclude(v, false);
	spin_unlock(&v->lock);
}

void vvirtio_fini(struct vvirtio *v)
{
	vpci_func_detach(&v->pci);
	list_remove(&v->dev.node);
	dev_free_sections(&v->dev);
	vvirtio_queues_fini(v);
}

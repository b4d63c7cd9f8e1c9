/* SPDX-License-Identifier: BSD-2-Clause */
/* virtio 1.x over PCI, host side: see virtio_pci.h. */
#include "kernel/base/hva.h"
#include "drivers/virtio_pci.h"
#include "arch/x86/paging.h"
#include "arch/x86/hw/pci.h"
#include "arch/x86/hw/virtio.h"
#include "kernel/page.h"
#include "kernel/time.h"
#include <string.h>

/* Of each structure the first that can be mapped counts: a device offers them in its order of preference (4.1.4.1). */
static int map_caps(struct virtio_dev *v)
{
	uint8_t *bars[6] = { 0 };
	uint64_t sizes[6] = { 0 };
	for (unsigned cap = 0; (cap = pci_find_cap(v->pci, PCI_CAP_VENDOR, cap));) {
		uint8_t type = pci_read8(v->pci, cap + VCAP_TYPE), bar = pci_read8(v->pci, cap + VCAP_BAR);
		uint32_t off = pci_read32(v->pci, cap + VCAP_OFFSET), len = pci_read32(v->pci, cap + VCAP_LENGTH);
		if (type < VCAP_COMMON || type > VCAP_DEVICE || bar > 5)
			continue;
		if (!bars[bar])
			bars[bar] = pci_map_bar(v->pci, bar, &sizes[bar]);
		if (!bars[bar] || (uint64_t)off + len > sizes[bar])
			continue;
		uint8_t *p = bars[bar] + off;
		if (type == VCAP_COMMON && len >= COMMON_LEN && !v->common) {
			v->common = p;
		} else if (type == VCAP_NOTIFY && !v->notify) {
			v->notify = p;
			v->notify_multiplier = pci_read32(v->pci, cap + VCAP_EXTRA);
		} else if (type == VCAP_ISR && !v->isr) {
			v->isr = p;
		} else if (type == VCAP_DEVICE && !v->config) {
			v->config = p;
		}
	}
	return v->common && v->notify && v->isr ? 0 : -ENODEV;
}

static uint8_t status_get(struct virtio_dev *v) { return mmio_read8(v->common + COMMON_STATUS); }

static void status_set(struct virtio_dev *v, uint8_t bits)
{
	mmio_write8(v->common + COMMON_STATUS, status_get(v) | bits);
}

static int reset(struct virtio_dev *v)
{
	mmio_write8(v->common + COMMON_STATUS, 0);
	for (uint64_t end = time_in_ms(100); status_get(v);) {
		if (time_ns() > end)
			return -EIO;
	}
	return 0;
}

static uint64_t device_features(struct virtio_dev *v)
{
	mmio_write32(v->common + COMMON_DEVICE_FEATURE_SELECT, 0);
	uint64_t lo = mmio_read32(v->common + COMMON_DEVICE_FEATURE);
	mmio_write32(v->common + COMMON_DEVICE_FEATURE_SELECT, 1);
	return lo | (uint64_t)mmio_read32(v->common + COMMON_DEVICE_FEATURE) << 32;
}

/* 3.1.1: reset, acknowledge, features. */
int virtio_dev_init(struct virtio_dev *v, const struct pci_dev *d, uint64_t want, uint64_t need)
{
	*v = (struct virtio_dev){ .pci = d };
	pci_enable(d);
	int err = map_caps(v);
	if (err) /* a legacy-only device */
		return err;
	if ((err = reset(v)))
		return err;
	status_set(v, VIRTIO_ACKNOWLEDGE);
	status_set(v, VIRTIO_DRIVER);
	v->features = device_features(v) & (want | need);
	if ((v->features & need) != need)
		goto refused;
	for (unsigned i = 0; i < 2; i++) {
		mmio_write32(v->common + COMMON_DRIVER_FEATURE_SELECT, i);
		mmio_write32(v->common + COMMON_DRIVER_FEATURE, (uint32_t)(v->features >> i * 32));
	}
	status_set(v, VIRTIO_FEATURES_OK);
	if (status_get(v) & VIRTIO_FEATURES_OK)
		return 0;
refused:
	status_set(v, VIRTIO_FAILED);
	return -ENOTSUP;
}

int virtq_init(struct virtio_dev *v, struct virtq *q, uint16_t number, uint16_t max, uint16_t vector)
{
	mmio_write16(v->common + COMMON_QUEUE_SELECT, number);
	uint16_t size = MIN(mmio_read16(v->common + COMMON_QUEUE_SIZE), max);
	if (!size || size & (size - 1))
		return err_trace(-ENODEV);
	/* Descriptors, then the available ring, then the used ring: each aligned as 2.6 asks. */
	size_t desc = size * sizeof(struct virtq_desc), avail = ALIGN_UP(6 + 2 * (size_t)size, 16UL),
	       used = 6 + 8 * (size_t)size;
	unsigned order = 0;
	while (PAGE_SIZE << order < desc + avail + used)
		order++;
	hpa_t mem = page_alloc(order);
	if (mem == HPA_NONE)
		return err_trace(-ENOMEM);
	uint8_t *p = hva_of(mem);
	*q = (struct virtq){ .size = size,
			     .mask = (uint16_t)(size - 1),
			     .number = number,
			     .desc = (void *)p,
			     .avail = (void *)(p + desc),
			     .used = (void *)(p + desc + avail),
			     .event_idx = v->features & VIRTIO_F_EVENT_IDX };
	mmio_write16(v->common + COMMON_QUEUE_SIZE, size);
	mmio_write16(v->common + COMMON_QUEUE_VECTOR, vector);
	if (mmio_read16(v->common + COMMON_QUEUE_VECTOR) != vector) { /* 4.1.5.1.2: how the device refuses */
		page_free(mem, order);
		return err_trace(-ENOSPC);
	}
	hpa_t at[3] = { mem, mem + desc, mem + desc + avail };
	for (unsigned i = 0; i < 3; i++) { /* 64-bit fields are written as two halves: 4.1.3.1 */
		mmio_write32(v->common + COMMON_QUEUE_DESC + i * 8, (uint32_t)at[i]);
		mmio_write32(v->common + COMMON_QUEUE_DESC + i * 8 + 4, (uint32_t)(at[i] >> 32));
	}
	q->notify = v->notify + (size_t)mmio_read16(v->common + COMMON_QUEUE_NOTIFY_OFF) * v->notify_multiplier;
	mmio_write16(v->common + COMMON_QUEUE_ENABLE, 1);
	return 0;
}

int virtio_set_config_vector(struct virtio_dev *v, uint16_t vector)
{
	mmio_write16(v->common + COMMON_CONFIG_VECTOR, vector);
	return mmio_read16(v->common + COMMON_CONFIG_VECTOR) == vector ? 0 : -ENOSPC;
}

void virtio_go(struct virtio_dev *v) { status_set(v, VIRTIO_DRIVER_OK); }

static void offer(struct virtq *q, bool loud)
{
	uint16_t old = q->published, now = q->avail_idx;
	if (old == now)
		return;
	__atomic_store_n(&q->avail[1], now, __ATOMIC_RELEASE);
	q->published = now;
	__atomic_thread_fence(__ATOMIC_SEQ_CST); /* the index before the look whether the device sleeps */
	bool tell;
	if (q->event_idx) {
		uint16_t event = *(volatile uint16_t *)(q->used + 2 + 4 * q->size);
		tell = (uint16_t)(now - event - 1) < (uint16_t)(now - old); /* 2.6.7.2 */
	} else {
		tell = !(*(volatile uint16_t *)q->used & VIRTQ_USED_NO_NOTIFY);
	}
	if (tell || loud)
		mmio_write16(q->notify, q->number);
}

void virtq_offer_done(struct virtq *q) { offer(q, false); }
void virtq_offer_loud(struct virtq *q) { offer(q, true); }

void virtq_irq_off(struct virtq *q)
{
	if (q->event_idx) /* the entry just taken: the device gets there again after 65536 more */
		*(volatile uint16_t *)(q->avail + 2 + q->size) = (uint16_t)(q->used_idx - 1);
	else
		*(volatile uint16_t *)q->avail = VIRTQ_AVAIL_NO_INTERRUPT;
}

bool virtq_irq_on(struct virtq *q)
{
	if (q->event_idx)
		*(volatile uint16_t *)(q->avail + 2 + q->size) = q->used_idx;
	else
		*(volatile uint16_t *)q->avail = 0;
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	return !virtq_has_used(q);
}

/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * MSI-X of a PCI function (PCI 3.0, 6.8.2): a BAR of 4 KiB with the vector table at 0 and the pending bits at 0x800.
 * The enable and function-mask bits are in configuration space; a vector that is masked, or whose function may not
 * master the bus, stays pending and is sent when that ends.
 */
#include "vmm/dev/vpci.h"
#include <string.h>

#define BAR_LEN          0x1000
#define PBA              0x800
/* The high byte of the control word. */
#define CONTROL_ENABLE   (MSIX_ENABLE >> 8)
#define CONTROL_MASK_ALL (MSIX_MASK_ALL >> 8)

static uint8_t msix_control(const struct vpci_func *f)
{
	return __atomic_load_n(&f->s.cfg[f->msix_cap + 3], __ATOMIC_ACQUIRE);
}

bool vpci_msix_enabled(const struct vpci_func *f) { return f->nvectors && msix_control(f) & CONTROL_ENABLE; }

/* Lock held. */
static bool msix_is_open(const struct vpci_func *f, unsigned v)
{
	return (msix_control(f) & (CONTROL_ENABLE | CONTROL_MASK_ALL)) == CONTROL_ENABLE && vpci_func_is_master(f) &&
	       !(f->msix.table[v * MSIX_WORDS + MSIX_CTRL] & MSIX_VECTOR_MASK);
}

/*
 * Decide under the lock, send after it. A masking write that races with this is either seen here, or it comes later and
 * its vpci_msix_flush() sees our pending bit.
 */
void vpci_msix_raise(struct vpci_func *f, unsigned vector)
{
	const uint32_t *e;
	uint64_t addr = 0;
	uint32_t data = 0;
	bool send = false;

	if (vector >= f->nvectors)
		return;
	e = &f->msix.table[vector * MSIX_WORDS];
	spin_lock(&f->msix_lock);
	if (msix_is_open(f, vector)) {
		addr = e[MSIX_ADDR] | (uint64_t)e[MSIX_ADDR_HI] << 32;
		data = e[MSIX_DATA];
		send = true;
		f->msix.pending &= ~BIT(vector);
	} else if (vpci_msix_enabled(f)) {
		f->msix.pending |= BIT(vector);
	}
	spin_unlock(&f->msix_lock);
	if (send)
		dev_msi(f->dev, addr, data);
}

void vpci_msix_flush(struct vpci_func *f)
{
	uint64_t open = 0;

	spin_lock(&f->msix_lock);
	for (unsigned v = 0; v < f->nvectors; v++)
		if (f->msix.pending & BIT(v) && msix_is_open(f, v))
			open |= BIT(v);
	spin_unlock(&f->msix_lock);
	for (unsigned v = 0; v < f->nvectors; v++)
		if (open & BIT(v))
			vpci_msix_raise(f, v);
}

static uint64_t msix_read(void *arg, uint64_t off, unsigned size)
{
	struct vpci_func *f = arg;
	uint64_t v = 0;

	if (size < 4 || off % size) /* only dword and qword accesses are defined (6.8.2) */
		return ~0UL;
	spin_lock(&f->msix_lock);
	for (unsigned i = 0; i < size; i += 4) {
		uint64_t at = off + i;
		uint32_t word = 0;

		if (at < f->nvectors * MSIX_WORDS * 4)
			word = f->msix.table[at / 4];
		else if (at == PBA)
			word = (uint32_t)f->msix.pending;
		v |= (uint64_t)word << 8 * i;
	}
	spin_unlock(&f->msix_lock);
	return v;
}

static void msix_write(void *arg, uint64_t off, unsigned size, uint64_t val)
{
	struct vpci_func *f = arg;

	if (size < 4 || off % size)
		return;
	spin_lock(&f->msix_lock);
	for (unsigned i = 0; i < size && off + i < f->nvectors * MSIX_WORDS * 4; i += 4, val >>= 32) {
		unsigned word = (unsigned)(off + i) / 4;

		f->msix.table[word] = (uint32_t)val & (word % MSIX_WORDS == MSIX_CTRL ? MSIX_VECTOR_MASK : ~0u);
	}
	spin_unlock(&f->msix_lock);
	vpci_msix_flush(f);
}

static const struct bus_ops msix_ops = { msix_read, msix_write };

int vpci_msix_init(struct vpci_func *f, unsigned bar, unsigned nvectors)
{
	unsigned cap = vpci_func_cap(f, PCI_CAP_MSIX, MSIX_LEN);

	BUG_ON(!nvectors || nvectors > PCI_MSIX_MAX);
	f->nvectors = nvectors;
	f->msix_cap = cap;
	put_le16(f->reset_cfg + cap + MSIX_CONTROL, (uint16_t)(nvectors - 1));
	f->wmask[cap + 3] = CONTROL_ENABLE | CONTROL_MASK_ALL;
	put_le32(f->reset_cfg + cap + MSIX_TABLE, bar);
	put_le32(f->reset_cfg + cap + MSIX_PBA, PBA | bar);
	return vpci_func_bar(f, bar, false, BAR_LEN, &msix_ops, f);
}

void vpci_msix_reset(struct vpci_func *f)
{
	spin_lock(&f->msix_lock);
	memset(&f->msix, 0, sizeof(f->msix));
	for (unsigned v = 0; v < f->nvectors; v++)
		f->msix.table[v * MSIX_WORDS + MSIX_CTRL] = MSIX_VECTOR_MASK;
	spin_unlock(&f->msix_lock);
}

static const struct sfield vpci_msix_fields[] = {
	F_ARR(struct vpci_msix_state, table),
	F(struct vpci_msix_state, pending),
};

static int vpci_msix_check(const void *obj, const void *state, struct why *w)
{
	const struct vpci_func *f = obj;
	const struct vpci_msix_state *s = state;

	if (s->pending & ~(BIT(f->nvectors) - 1))
		return why_set(w, -EINVAL, "PCI slot %u: MSI-X pending bits beyond vector %u", f->slot,
			       f->nvectors - 1);
	for (unsigned i = 0; i < ARRAY_SIZE(s->table); i++)
		if (i / MSIX_WORDS >= f->nvectors ? s->table[i]
						  : i % MSIX_WORDS == MSIX_CTRL && s->table[i] & ~MSIX_VECTOR_MASK)
			return why_set(w, -EINVAL, "PCI slot %u: MSI-X table word %u is %08x", f->slot, i,
				       (unsigned)s->table[i]);
	return 0;
}

const struct sdesc vpci_msix_desc = {
	.name = "msix",
	.version = 1,
	SDESC(struct vpci_func, msix, struct vpci_msix_state, vpci_msix_fields),
	.check = vpci_msix_check,
};

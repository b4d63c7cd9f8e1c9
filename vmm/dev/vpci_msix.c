/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * MSI-X of a PCI function (PCI 3.0, 6.8.2): a BAR of 4 KiB with the vector table at 0 and the pending bits behind it,
 * at 0x800 or, of more than 128 vectors, 0xc00. The enable and function-mask bits are in configuration space; a vector
 * that is masked, or whose function may not master the bus, stays pending and is sent when that ends.
 */
#include "vmm/dev/vpci.h"
#include <stdlib.h>
#include <string.h>

#define BAR_LEN          0x1000
#define ENTRY_LEN        (MSIX_WORDS * 4)
/* The high byte of the control word. */
#define CONTROL_ENABLE   (MSIX_ENABLE >> 8)
#define CONTROL_MASK_ALL (MSIX_MASK_ALL >> 8)

static uint8_t msix_control(const struct vpci_func *f)
{
	return __atomic_load_n(&f->s.cfg[f->msix_cap + 3], __ATOMIC_ACQUIRE);
}

bool vpci_msix_enabled(const struct vpci_func *f) { return f->nvectors && msix_control(f) & CONTROL_ENABLE; }

static uint32_t pba(const struct vpci_func *f) { return f->nvectors * ENTRY_LEN <= 0x800 ? 0x800 : 0xc00; }
unsigned vpci_msix_banks(const struct vpci_func *f) { return (f->nvectors + PCI_MSIX_BANK - 1) / PCI_MSIX_BANK; }
static struct vpci_msix_state *bank(const struct vpci_func *f, unsigned v) { return &f->msix[v / PCI_MSIX_BANK].s; }
static uint32_t *entry(const struct vpci_func *f, unsigned v)
{
	return &bank(f, v)->table[v % PCI_MSIX_BANK * MSIX_WORDS];
}
static uint64_t pending_bit(unsigned v) { return BIT(v % PCI_MSIX_BANK); }

/* Lock held. */
static bool msix_is_open(const struct vpci_func *f, unsigned v)
{
	return (msix_control(f) & (CONTROL_ENABLE | CONTROL_MASK_ALL)) == CONTROL_ENABLE && vpci_func_is_master(f) &&
	       !(entry(f, v)[MSIX_CTRL] & MSIX_VECTOR_MASK);
}

/*
 * Sent under the lock: who has masked a vector, and read that back, will see no message of what its entry was before
 * (PCI 3.0 6.8.3.5). Linux moves an interrupt from a CPU that goes so, looks once more whether that has it pending,
 * and would never know of one that comes later. A write of the mask that races with this is either seen here, or it
 * comes later and its vpci_msix_flush() sees our pending bit.
 */
void vpci_msix_raise(struct vpci_func *f, unsigned vector)
{
	if (vector >= f->nvectors)
		return;
	const uint32_t *e = entry(f, vector);
	spin_lock(&f->msix_lock);
	if (msix_is_open(f, vector)) {
		bank(f, vector)->pending &= ~pending_bit(vector);
		dev_msi(f->dev, e[MSIX_ADDR] | (uint64_t)e[MSIX_ADDR_HI] << 32, e[MSIX_DATA]);
	} else if (vpci_msix_enabled(f)) {
		bank(f, vector)->pending |= pending_bit(vector);
	}
	spin_unlock(&f->msix_lock);
}

void vpci_msix_flush(struct vpci_func *f)
{
	uint64_t open[BITMAP_WORDS(PCI_MSIX_MAX)] = { 0 };

	spin_lock(&f->msix_lock);
	for (unsigned v = 0; v < f->nvectors; v++)
		if (bank(f, v)->pending & pending_bit(v) && msix_is_open(f, v))
			open[v / 64] |= BIT(v % 64);
	spin_unlock(&f->msix_lock);
	for (unsigned v = 0; v < f->nvectors; v++)
		if (open[v / 64] & BIT(v % 64))
			vpci_msix_raise(f, v);
}

/* Lock held. Of the pending bits of 32 vectors from v on. */
static uint32_t pending_word(const struct vpci_func *f, unsigned v)
{
	uint32_t word = 0;

	for (unsigned i = 0; i < 32 && v + i < f->nvectors; i += PCI_MSIX_BANK)
		word |= (uint32_t)bank(f, v + i)->pending << i;
	return word;
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

		if (at < f->nvectors * ENTRY_LEN)
			word = entry(f, (unsigned)(at / ENTRY_LEN))[at % ENTRY_LEN / 4];
		else if (at >= pba(f))
			word = pending_word(f, (unsigned)(at - pba(f)) * 8);
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
	for (unsigned i = 0; i < size && off + i < f->nvectors * ENTRY_LEN; i += 4, val >>= 32) {
		unsigned word = (unsigned)(off + i) / 4 % MSIX_WORDS;

		entry(f, (unsigned)(off + i) / ENTRY_LEN)[word] =
			(uint32_t)val & (word == MSIX_CTRL ? MSIX_VECTOR_MASK : ~0u);
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
	f->msix = calloc(vpci_msix_banks(f), sizeof(*f->msix));
	if (!f->msix)
		return err_trace(-ENOMEM);
	for (unsigned i = 0; i < vpci_msix_banks(f); i++)
		f->msix[i].nvectors = MIN(nvectors - i * PCI_MSIX_BANK, PCI_MSIX_BANK);
	f->msix_cap = cap;
	put_le16(f->reset_cfg + cap + MSIX_CONTROL, (uint16_t)(nvectors - 1));
	f->wmask[cap + 3] = CONTROL_ENABLE | CONTROL_MASK_ALL;
	put_le32(f->reset_cfg + cap + MSIX_TABLE, bar);
	put_le32(f->reset_cfg + cap + MSIX_PBA, pba(f) | bar);
	return vpci_func_bar(f, bar, false, BAR_LEN, &msix_ops, f);
}

void vpci_msix_fini(struct vpci_func *f)
{
	free(f->msix);
	f->msix = NULL;
	f->nvectors = 0;
}

void vpci_msix_reset(struct vpci_func *f)
{
	spin_lock(&f->msix_lock);
	for (unsigned i = 0; i < vpci_msix_banks(f); i++)
		memset(&f->msix[i].s, 0, sizeof(f->msix[i].s));
	for (unsigned v = 0; v < f->nvectors; v++)
		entry(f, v)[MSIX_CTRL] = MSIX_VECTOR_MASK;
	spin_unlock(&f->msix_lock);
}

static const struct sfield vpci_msix_fields[] = {
	F_ARR(struct vpci_msix_state, table),
	F(struct vpci_msix_state, pending),
};

static int vpci_msix_check(const void *obj, const void *state, struct why *w)
{
	const struct vpci_msix_bank *b = obj;
	const struct vpci_msix_state *s = state;

	if (s->pending & ~(BIT(b->nvectors) - 1))
		return why_set(w, -EINVAL, "MSI-X pending bits beyond vector %u", b->nvectors - 1);
	for (unsigned i = 0; i < ARRAY_SIZE(s->table); i++)
		if (i / MSIX_WORDS >= b->nvectors ? s->table[i]
						  : i % MSIX_WORDS == MSIX_CTRL && s->table[i] & ~MSIX_VECTOR_MASK)
			return why_set(w, -EINVAL, "MSI-X table word %u is %08x", i, s->table[i]);
	return 0;
}

const struct sdesc vpci_msix_desc = {
	.name = "msix",
	.version = 1,
	SDESC(struct vpci_msix_bank, s, struct vpci_msix_state, vpci_msix_fields),
	.check = vpci_msix_check,
};

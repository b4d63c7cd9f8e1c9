/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The guest's PCI bus: configuration through ports 0xcf8/0xcfc (PCI 3.0, 3.2.2.3.2) and ECAM (PCIe 7.2.2), a host
 * bridge in slot 0, and the placing of BARs on the machine's bus as the guest moves them.
 *
 *   0xcf8  CONFIG_ADDRESS  31 enable | 23:16 bus | 15:11 slot | 10:8 function | 7:2 register       dword access only
 *   0xcf9  a byte written there is for the reset control register, which lies inside it on PCs
 *   0xcfc  CONFIG_DATA     byte, word, dword within the register
 *   ECAM   PC_PCI_ECAM + (slot << 15 | function << 12 | register)
 */
#include "vmm/dev/vpci.h"
#include "arch/x86/hw/ports.h"
#include "vmm/pc/pc.h"
#include <stdlib.h>
#include <string.h>

#define CF8_LEN  8
#define CF8_DATA 4 /* CONFIG_DATA in the region */

/*
 * The id of QEMU's generic PCIe host: known to lspci, no driver binds to it and no quirk matches. The machine that is
 * entered by PVH shows another one there, which edk2's platform CloudHv is told apart by.
 */
static const struct vpci_ids host_ids = { 0x1b36, 0x0008, 0, 0, 0, 0x060000 };
static const uint8_t pvh_host_ids[] = { 0x86, 0x80, 0x57, 0x0d };

struct vpci_host_state {  /* section "pci-host" */
	uint32_t address; /* CONFIG_ADDRESS */
};
/*
 * (c) const after create  [p] lock  [a] atomic
 */
struct vpci_bus {
	struct dev dev;
	struct vpci_func host;
	struct vpci_host_state s; /* [a] */
	struct spinlock lock;
	struct vpci_func *func[PCI_SLOTS]; /* (c) while vCPUs run */
	uint64_t next_mem, next_io;        /* (c) first free addresses for BARs at reset */
	unsigned refs;                     /* its own device and each attached function */
	bool has_ports, has_ecam;          /* (c) regions that are on the machine's bus */
};

/* ---- BARs ---- */

static enum bus_space bar_space(const struct vpci_bar *b) { return b->io ? BUS_PIO : BUS_MMIO; }

/* Where configuration space puts BAR i, 0 if it is not decoded. */
static uint64_t bar_wanted(const struct vpci_func *f, unsigned i)
{
	const struct vpci_bar *b = &f->bar[i];
	uint64_t base = get_le32(f->s.cfg + PCI_BAR0 + 4 * i) & ~(uint64_t)(b->size - 1);

	if (!b->size || !(f->s.cfg[PCI_COMMAND] & (b->io ? PCI_COMMAND_IO : PCI_COMMAND_MEM)))
		return 0;
	if (b->io && base + b->size > 0x10000)
		return 0;
	return base;
}

static bool bar_overlaps(const struct vpci_bar *a, const struct vpci_bar *b)
{
	return a->io == b->io && a->want && b->want && a->want < b->want + b->size && b->want < a->want + a->size;
}

/*
 * Bring the machine's bus in line with the registers. Of BARs that overlap, the first in slot and BAR order is decoded:
 * a rule without history, so that a loaded machine decodes what the saved one did. BARs that stay are not touched,
 * other vCPUs may be using them. A BAR over something that is not PCI (I/O APIC, ECAM) is not decoded. Lock held.
 */
static void vpci_remap(struct vpci_bus *bus)
{
	struct vpci_bar *all[PCI_SLOTS * PCI_BARS];
	unsigned n = 0;

	for (unsigned s = 0; s < PCI_SLOTS; s++)
		for (unsigned i = 0; bus->func[s] && i < PCI_BARS; i++) {
			if (!bus->func[s]->bar[i].size)
				continue;
			all[n] = &bus->func[s]->bar[i];
			all[n]->want = bar_wanted(bus->func[s], i);
			for (unsigned k = 0; k < n; k++)
				if (bar_overlaps(all[k], all[n]))
					all[n]->want = 0;
			n++;
		}
	for (unsigned k = 0; k < n; k++)
		if (all[k]->at && all[k]->at != all[k]->want) {
			bus_remove(&bus->dev.m->bus, bar_space(all[k]), all[k]->at);
			all[k]->at = 0;
		}
	for (unsigned k = 0; k < n; k++) {
		struct bus_region r = { all[k]->want, all[k]->size, all[k]->ops, all[k]->arg, "pci-bar" };

		if (all[k]->want && !all[k]->at && !bus_add(&bus->dev.m->bus, bar_space(all[k]), &r))
			all[k]->at = all[k]->want;
	}
}

/* ---- configuration space ---- */

/* What migrates is the same for both machines: that of the host bridge. Lock held. */
static uint8_t cfg_byte(const struct vpci_bus *bus, const struct vpci_func *f, unsigned reg)
{
	bool pvh = f == &bus->host && bus->dev.m->s.kind == MACHINE_PVH;
	return pvh && reg < sizeof(pvh_host_ids) ? pvh_host_ids[reg] : f->s.cfg[reg];
}

/* reg is within the function's 4 KiB; what is not there reads as all ones and ignores writes. */
static uint32_t cfg_read(struct vpci_bus *bus, unsigned devfn, unsigned reg, unsigned size)
{
	struct vpci_func *f = devfn & 7 ? NULL : bus->func[devfn >> 3];
	uint32_t v = 0;

	if (!f || reg + size > PCI_CFG_SIZE)
		return ~0u;
	if (f->ops && f->ops->cfg_read)
		f->ops->cfg_read(f, reg, size);
	spin_lock(&bus->lock);
	for (unsigned i = 0; i < size; i++)
		v |= (uint32_t)cfg_byte(bus, f, reg + i) << 8 * i;
	spin_unlock(&bus->lock);
	return v;
}

static void cfg_write(struct vpci_bus *bus, unsigned devfn, unsigned reg, unsigned size, uint32_t val)
{
	struct vpci_func *f = devfn & 7 ? NULL : bus->func[devfn >> 3];

	if (!f || reg + size > PCI_CFG_SIZE)
		return;
	spin_lock(&bus->lock);
	for (unsigned i = reg; i < reg + size; i++, val >>= 8)
		__atomic_store_n(&f->s.cfg[i], (uint8_t)((f->s.cfg[i] & ~f->wmask[i]) | (val & f->wmask[i])),
				 __ATOMIC_RELEASE);
	if (reg < PCI_BAR0 + 4 * PCI_BARS)
		vpci_remap(bus);
	spin_unlock(&bus->lock);
	vpci_msix_flush(f); /* bus mastering or vectors may have been unmasked */
	if (f->ops && f->ops->cfg_written)
		f->ops->cfg_written(f, reg, size);
}

static uint64_t cf8_read(void *arg, uint64_t off, unsigned size)
{
	struct vpci_bus *bus = arg;
	uint32_t addr = __atomic_load_n(&bus->s.address, __ATOMIC_RELAXED);

	if (off == 0 && size == 4)
		return addr;
	if (off < CF8_DATA || !(addr & PCI_ADDRESS_ENABLE) || addr >> 16 & 0xff)
		return ~0UL;
	return cfg_read(bus, addr >> 8 & 0xff, (addr & 0xfc) + (unsigned)(off - CF8_DATA), size);
}

static void cf8_write(void *arg, uint64_t off, unsigned size, uint64_t val)
{
	struct vpci_bus *bus = arg;
	uint32_t addr = __atomic_load_n(&bus->s.address, __ATOMIC_RELAXED);

	if (off == 0 && size == 4)
		__atomic_store_n(&bus->s.address, (uint32_t)val & 0x80fffffc, __ATOMIC_RELAXED);
	else if (off == RST_CNT - PCI_PORT_ADDRESS && size == 1)
		dev_reset_port(&bus->dev, val & RST_CNT_RST_CPU);
	else if (off >= CF8_DATA && addr & PCI_ADDRESS_ENABLE && !(addr >> 16 & 0xff))
		cfg_write(bus, addr >> 8 & 0xff, (addr & 0xfc) + (unsigned)(off - CF8_DATA), size, (uint32_t)val);
}

/* Only naturally aligned accesses of up to 4 bytes are defined (PCIe 7.2.2.1). */
static uint64_t ecam_read(void *arg, uint64_t off, unsigned size)
{
	return size > 4 || off % size ? ~0UL : cfg_read(arg, (unsigned)(off >> 12), off & 0xfff, size);
}

static void ecam_write(void *arg, uint64_t off, unsigned size, uint64_t val)
{
	if (size <= 4 && off % size == 0)
		cfg_write(arg, (unsigned)(off >> 12), off & 0xfff, size, (uint32_t)val);
}

static const struct bus_ops cf8_ops = { cf8_read, cf8_write }, ecam_ops = { ecam_read, ecam_write };

/* ---- state ---- */

static const struct sfield vpci_func_fields[] = { F_ARR(struct vpci_func_state, cfg) };

/* What the guest cannot change is the device itself: it must be the same here. */
static int vpci_func_check(const void *obj, const void *state, struct why *w)
{
	const struct vpci_func *f = obj;
	const struct vpci_func_state *s = state;

	for (unsigned i = 0; i < PCI_CFG_SIZE; i++)
		if ((s->cfg[i] ^ f->reset_cfg[i]) & ~f->wmask[i])
			return why_set(
				w, -EINVAL,
				"PCI slot %u: configuration byte 0x%02x is 0x%02x, this host's device has 0x%02x",
				f->slot, i, s->cfg[i], f->reset_cfg[i]);
	return 0;
}

static void vpci_func_post_load(void *obj)
{
	struct vpci_func *f = obj;

	spin_lock(&f->bus->lock);
	vpci_remap(f->bus);
	spin_unlock(&f->bus->lock);
}

const struct sdesc vpci_func_desc = {
	.name = "pci",
	.version = 1,
	SDESC(struct vpci_func, s, struct vpci_func_state, vpci_func_fields),
	.check = vpci_func_check,
	.post_load = vpci_func_post_load,
};

static const struct sfield vpci_host_fields[] = { F(struct vpci_host_state, address) };

static int vpci_host_check(const void *obj unused, const void *state, struct why *w)
{
	const struct vpci_host_state *s = state;

	return s->address & ~0x80fffffcu ? why_set(w, -EINVAL, "PCI: CONFIG_ADDRESS %08x has reserved bits", s->address)
					 : 0;
}

const struct sdesc vpci_host_desc = {
	.name = "pci-host",
	.version = 1,
	SDESC(struct vpci_bus, s, struct vpci_host_state, vpci_host_fields),
	.check = vpci_host_check,
};

/* ---- functions ---- */

void vpci_func_init(struct vpci_func *f, struct vpci_bus *b, struct dev *dev, unsigned slot, const struct vpci_ids *ids)
{
	uint8_t *c = f->reset_cfg;

	memset(f, 0, sizeof(*f));
	f->bus = b;
	f->dev = dev;
	f->slot = slot;
	f->cap_end = PCI_FIRST_CAP;
	spin_init(&f->msix_lock, "msix");
	put_le16(c + PCI_VENDOR_ID, ids->vendor);
	put_le16(c + PCI_DEVICE_ID, ids->device);
	c[PCI_REVISION] = ids->revision;
	c[PCI_CLASS] = (uint8_t)ids->class_code;
	put_le16(c + PCI_CLASS + 1, (uint16_t)(ids->class_code >> 8));
	put_le16(c + PCI_SUBVENDOR, ids->subvendor);
	put_le16(c + PCI_SUBDEVICE, ids->subdevice);
	put_le16(f->wmask + PCI_COMMAND, PCI_COMMAND_IO | PCI_COMMAND_MEM | PCI_COMMAND_MASTER | PCI_COMMAND_INTX_OFF);
	f->wmask[PCI_CACHE_LINE] = f->wmask[PCI_LATENCY] = f->wmask[PCI_INT_LINE] = 0xff;
}

int vpci_func_bar(struct vpci_func *f, unsigned bar, bool io, uint32_t size, const struct bus_ops *ops, void *arg)
{
	uint64_t *next = io ? &f->bus->next_io : &f->bus->next_mem, base = ALIGN_UP(*next, (uint64_t)size);

	BUG_ON(bar >= PCI_BARS || f->bar[bar].size || size < 16 || size & (size - 1));
	if (base + size - 1 > (io ? PC_PCI_IO_LAST : PC_PCI_MMIO_LAST))
		return err_trace(-ENOSPC);
	*next = base + size;
	f->bar[bar] = (struct vpci_bar){ .size = size, .io = io, .ops = ops, .arg = arg };
	put_le32(f->reset_cfg + PCI_BAR0 + 4 * bar, (uint32_t)base | io);
	put_le32(f->wmask + PCI_BAR0 + 4 * bar, ~(size - 1));
	return 0;
}

unsigned vpci_func_cap(struct vpci_func *f, uint8_t id, unsigned len)
{
	unsigned off = f->cap_end;

	f->cap_end += ALIGN_UP(len, 4);
	BUG_ON(f->cap_end > PCI_CFG_SIZE);
	f->reset_cfg[off] = id;
	f->reset_cfg[f->cap_last ? f->cap_last + 1 : PCI_CAP_PTR] = (uint8_t)off;
	f->reset_cfg[PCI_STATUS] |= PCI_STATUS_CAPS;
	f->cap_last = off;
	return off;
}

int vpci_func_attach(struct vpci_func *f)
{
	if (f->slot >= PCI_SLOTS)
		return -EINVAL;
	if (f->bus->func[f->slot])
		return -EEXIST;
	f->bus->func[f->slot] = f;
	f->bus->refs++;
	vpci_func_reset(f);
	dev_add_section(f->dev, &vpci_func_desc, f);
	for (unsigned i = 0; i < vpci_msix_banks(f); i++)
		dev_add_section(f->dev, &vpci_msix_desc, &f->msix[i]);
	return 0;
}

static void vpci_bus_put(struct vpci_bus *bus)
{
	if (--bus->refs == 0)
		free(bus);
}

void vpci_func_detach(struct vpci_func *f)
{
	struct vpci_bus *bus = f->bus;

	vpci_msix_fini(f);
	if (!bus || f->slot >= PCI_SLOTS || bus->func[f->slot] != f)
		return;
	for (unsigned i = 0; i < PCI_BARS; i++)
		if (f->bar[i].at)
			bus_remove(&f->dev->m->bus, bar_space(&f->bar[i]), f->bar[i].at);
	bus->func[f->slot] = NULL;
	vpci_bus_put(bus);
}

void vpci_func_reset(struct vpci_func *f)
{
	spin_lock(&f->bus->lock);
	memcpy(f->s.cfg, f->reset_cfg, PCI_CFG_SIZE);
	vpci_remap(f->bus);
	spin_unlock(&f->bus->lock);
	vpci_msix_reset(f);
}

/* ---- the bus's own device ---- */

static void vpci_host_reset(struct dev *d)
{
	struct vpci_bus *bus = CONTAINER_OF(d, struct vpci_bus, dev);

	__atomic_store_n(&bus->s.address, 0, __ATOMIC_RELAXED);
	vpci_func_reset(&bus->host);
}

/* Functions may be freed after their bus: the last one takes it along. */
static void vpci_host_fini(struct dev *d)
{
	struct vpci_bus *bus = CONTAINER_OF(d, struct vpci_bus, dev);

	if (bus->has_ports)
		bus_remove(&d->m->bus, BUS_PIO, PCI_PORT_ADDRESS);
	if (bus->has_ecam)
		bus_remove(&d->m->bus, BUS_MMIO, PC_PCI_ECAM);
	list_remove(&d->node);
	vpci_func_detach(&bus->host);
	vpci_bus_put(bus);
}

static const struct dev_ops vpci_host_ops = { .reset = vpci_host_reset, .fini = vpci_host_fini };

int vpci_bus_create(struct machine *m, struct vpci_bus **b)
{
	struct vpci_bus *bus = calloc(1, sizeof(*bus));
	int err;

	if (!bus)
		return err_trace(-ENOMEM);
	spin_init(&bus->lock, "pci");
	bus->refs = 1;
	bus->next_mem = PC_PCI_MMIO;
	bus->next_io = PC_PCI_IO;
	dev_register(m, &bus->dev, "pci-host", 0, &vpci_host_ops);
	dev_add_section(&bus->dev, &vpci_host_desc, bus);
	vpci_func_init(&bus->host, bus, &bus->dev, 0, &host_ids);
	if ((err = vpci_func_attach(&bus->host)) ||
	    (err = bus_add(&m->bus, BUS_PIO,
			   &(struct bus_region){ PCI_PORT_ADDRESS, CF8_LEN, &cf8_ops, bus, "pci-cfg" })))
		goto fail;
	bus->has_ports = true;
	err = bus_add(&m->bus, BUS_MMIO,
		      &(struct bus_region){ PC_PCI_ECAM, PC_PCI_ECAM_SIZE, &ecam_ops, bus, "pci-ecam" });
	if (err)
		goto fail;
	bus->has_ecam = true;
	*b = bus;
	return 0;
fail:
	vpci_host_fini(&bus->dev);
	return err_trace(err);
}

/* SPDX-License-Identifier: BSD-2-Clause */
/* The guest's PCI bus as Linux probes it: configuration, BARs sized and moved, MSI-X masks, and what migrates of it. */
#include "arch/x86/hw/virtio.h"
#include "tests/unit/fake_guest.h"
#include "vmm/dev/vnet.h"
#include "vmm/dev/vrng.h"
#include "vmm/pc/pc.h"
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>

static struct fg g;

static int setup(void **state)
{
	(void)state;
	fg_init(&g);
	return 0;
}
static int teardown(void **state)
{
	(void)state;
	fg_fini(&g);
	return 0;
}

static uint64_t pio(uint64_t port, unsigned size) { return bus_read(&g.m.bus, BUS_PIO, port, size); }
static void pio_out(uint64_t port, unsigned size, uint64_t v) { bus_write(&g.m.bus, BUS_PIO, port, size, v); }
static uint64_t mmio(uint64_t gpa, unsigned size) { return bus_read(&g.m.bus, BUS_MMIO, gpa, size); }
static bool decoded(uint64_t gpa) { return mmio(gpa, 4) != 0xffffffff; }

static void test_ports(void **state)
{
	(void)state;
	/* Linux's test for mechanism 1: byte writes into CONFIG_ADDRESS go elsewhere. */
	pio_out(0xcfb, 1, 1);
	pio_out(0xcf8, 4, 0x80000000);
	assert_int_equal(pio(0xcf8, 4), 0x80000000);
	pio_out(0xcf8, 2, 0x1234);
	pio_out(0xcf9, 1, 6);
	assert_int_equal(pio(0xcf8, 4), 0x80000000);
	assert_int_equal(pio(0xcf8, 2), 0xffff);
	assert_int_equal(fg_cfg_read(&g, 0, 0, 4), 0x00081b36);
	assert_int_equal(fg_cfg_read(&g, 0, 0x0a, 2), 0x0600);
	assert_int_equal(fg_cfg_read(&g, FG_NET_SLOT, 0, 4), 0x10411af4);
	assert_int_equal(fg_cfg_read(&g, FG_NET_SLOT, 2, 2), 0x1041);
	assert_int_equal(fg_cfg_read(&g, FG_NET_SLOT, 3, 1), 0x10);
	assert_int_equal(fg_cfg_read(&g, FG_NET_SLOT, 8, 4), 0x02000001);
	assert_int_equal(fg_cfg_read(&g, FG_NET_SLOT, 0x3d, 1), 0); /* no INTx */
	assert_int_equal(fg_cfg_read(&g, FG_RNG_SLOT, 0, 4), 0x10441af4);
	assert_int_equal(fg_cfg_read(&g, 9, 0, 4), 0xffffffff);
	pio_out(0xcf8, 4, 0x80000000 | FG_NET_SLOT << 11 | 1 << 8); /* function 1 */
	assert_int_equal(pio(0xcfc, 4), 0xffffffff);
	pio_out(0xcf8, 4, 0x80010000 | FG_NET_SLOT << 11); /* bus 1 */
	assert_int_equal(pio(0xcfc, 2), 0xffff);
	pio_out(0xcf8, 4, FG_NET_SLOT << 11); /* not enabled */
	assert_int_equal(pio(0xcfc, 4), 0xffffffff);
	pio_out(0xcf8, 4, 0xffffffff);
	assert_int_equal(pio(0xcf8, 4), 0x80fffffc);
	assert_int_equal(pio(0xcfd, 4), 0xffffffff); /* beyond the register */
}

static void test_ecam(void **state)
{
	uint64_t net = PC_PCI_ECAM + (FG_NET_SLOT << 15);

	(void)state;
	assert_int_equal(mmio(net, 4), 0x10411af4);
	assert_int_equal(mmio(net + 2, 2), 0x1041);
	assert_int_equal(mmio(net + 0xfc, 4), 0);
	assert_int_equal(mmio(net + 0x100, 4), 0xffffffff); /* conventional: no extended space */
	assert_int_equal(mmio(net + 0xffc, 4), 0xffffffff);
	assert_int_equal(mmio(net + 0x1000, 4), 0xffffffff); /* function 1 */
	assert_int_equal(mmio(net + 1, 4), 0xffffffff);
	assert_true(mmio(net, 8) == ~0UL);
	bus_write(&g.m.bus, BUS_MMIO, net + 4, 2, 0xffff);
	assert_int_equal(mmio(net + 4, 2), 0x0407);
	bus_write(&g.m.bus, BUS_MMIO, net, 4, 0); /* read only */
	assert_int_equal(mmio(net, 4), 0x10411af4);
	bus_write(&g.m.bus, BUS_MMIO, net + 6, 2, 0xffff); /* status */
	assert_int_equal(mmio(net + 6, 2), 0x0010);
	assert_int_equal(mmio(PC_PCI_ECAM + PC_PCI_ECAM_SIZE - 4, 4), 0xffffffff);
}

/* What edk2's CloudHv looks for; what migrates of it is the same as of the other machine. */
static void test_host_bridge(void **state)
{
	uint8_t plain[PCI_CFG_SIZE], pvh[PCI_CFG_SIZE];
	struct dev *d = fg_find(&g, "pci-host");

	(void)state;
	assert_string_equal(d->section[1].desc->name, "pci");
	fg_cfg_write(&g, 0, 4, 2, 4);
	state_save(d->section[1].desc, d->section[1].obj, plain);
	g.m.s.kind = MACHINE_PVH;
	assert_int_equal(fg_cfg_read(&g, 0, 0, 4), 0x0d578086);
	assert_int_equal(fg_cfg_read(&g, 0, 2, 2), 0x0d57);
	assert_int_equal(fg_cfg_read(&g, 0, 3, 1), 0x0d);
	assert_int_equal(fg_cfg_read(&g, 0, 4, 4), 4);
	assert_int_equal(fg_cfg_read(&g, 0, 8, 4), 0x06000000);
	assert_int_equal(mmio(PC_PCI_ECAM, 4), 0x0d578086);
	fg_cfg_write(&g, 0, 0, 4, 0); /* read only */
	assert_int_equal(fg_cfg_read(&g, FG_NET_SLOT, 0, 4), 0x10411af4);
	fg_migrate(&g);
	d = fg_find(&g, "pci-host");
	state_save(d->section[1].desc, d->section[1].obj, pvh);
	assert_memory_equal(pvh, plain, sizeof(pvh));
	assert_int_equal(fg_cfg_read(&g, 0, 0, 4), 0x0d578086);
	g.m.s.kind = MACHINE_PLAIN;
	assert_int_equal(fg_cfg_read(&g, 0, 0, 4), 0x00081b36);
}

static unsigned resets;
static void reset(void *arg unused) { resets++; }

static void test_reset_control(void **state)
{
	(void)state;
	g.m.reset = reset;
	pio_out(0xcf9, 1, 6);
	assert_int_equal(resets, 0);
	g.m.s.kind = MACHINE_PVH;
	pio_out(0xcf8, 4, 0x80000604);
	pio_out(0xcf8, 2, 0x0604);
	pio_out(0xcf9, 2, 6);
	pio_out(0xcf9, 1, 2); /* which kind of reset it will be */
	assert_int_equal(resets, 0);
	pio_out(0xcf9, 1, 6);
	assert_int_equal(resets, 1);
	assert_int_equal(pio(0xcf8, 4), 0x80000604);
}

static void test_bars(void **state)
{
	uint32_t bar[6];

	(void)state;
	for (unsigned i = 0; i < 6; i++)
		bar[i] = fg_cfg_read(&g, FG_NET_SLOT, 0x10 + 4 * i, 4);
	assert_int_equal(bar[0] & 3, 1);
	assert_true((bar[0] & ~3U) >= PC_PCI_IO && (bar[0] & ~3U) <= PC_PCI_IO_LAST);
	assert_true(bar[1] >= PC_PCI_MMIO && bar[2] <= PC_PCI_MMIO_LAST && bar[1] != bar[2]);
	assert_int_equal(bar[3] | bar[4] | bar[5], 0);
	/* Sized as the PCI specification says. */
	for (unsigned i = 0; i < 6; i++) {
		fg_cfg_write(&g, FG_NET_SLOT, 0x10 + 4 * i, 4, 0xffffffff);
		assert_int_equal(fg_cfg_read(&g, FG_NET_SLOT, 0x10 + 4 * i, 4), i == 0  ? 0xfffffff1
										: i < 3 ? 0xfffff000
											: 0);
		fg_cfg_write(&g, FG_NET_SLOT, 0x10 + 4 * i, 4, bar[i]);
	}
	assert_false(decoded(bar[1]));
	fg_cfg_write(&g, FG_NET_SLOT, 4, 2, 2);
	assert_true(decoded(bar[1]));
	assert_int_equal(pio(bar[0] & ~3U, 2), 0xffff);
	fg_cfg_write(&g, FG_NET_SLOT, 4, 2, 3);
	assert_int_equal(pio(bar[0] & ~3U, 2), 0);
	/* Sized while decoding: gone for the moment, back afterwards. */
	fg_cfg_write(&g, FG_NET_SLOT, 0x14, 4, 0xffffffff);
	assert_false(decoded(bar[1]));
	assert_true(decoded(0xfffff000));
	fg_cfg_write(&g, FG_NET_SLOT, 0x10, 4, 0xffffffff); /* beyond 64 K of ports: nowhere */
	assert_int_equal(pio(bar[0] & ~3U, 2), 0xffff);
	fg_cfg_write(&g, FG_NET_SLOT, 0x10, 4, 0xe004);
	assert_int_equal(pio(0xe000, 2), 0);
	/* Moved byte by byte. */
	fg_cfg_write(&g, FG_NET_SLOT, 0x14, 4, 0);
	fg_cfg_write(&g, FG_NET_SLOT, 0x17, 1, 0xd0);
	assert_true(decoded(0xd0000000));
	fg_cfg_write(&g, FG_NET_SLOT, 4, 1, 0);
	assert_false(decoded(0xd0000000));
}

/* Overlaps are the guest's own fault, but the same on both sides of a migration, and they end. */
static void test_bars_overlap(void **state)
{
	(void)state;
	for (unsigned slot = 1; slot <= 2; slot++) {
		fg_cfg_write(&g, slot, 4, 2, 7);
		fg_cfg_write(&g, slot, 0x18, 4, 0xd1000000 + 0x1000 * slot);
	}
	fg_cfg_write(&g, 2, 0x14, 4, 0xd0000000);
	fg_cfg_write(&g, 1, 0x14, 4, 0xd0000000);
	/* Number of queues tells them apart: slot 1 (net) has 3 and wins although it came later. */
	assert_int_equal(mmio(0xd0000012, 2), 3);
	fg_migrate(&g);
	assert_int_equal(mmio(0xd0000012, 2), 3);
	fg_cfg_write(&g, 1, 0x14, 4, 0xd0002000);
	assert_int_equal(mmio(0xd0000012, 2), 1);
	assert_int_equal(mmio(0xd0002012, 2), 3);
	/* Over ECAM, and at 0: not decoded. */
	fg_cfg_write(&g, 1, 0x14, 4, PC_PCI_ECAM);
	assert_int_equal(mmio(PC_PCI_ECAM, 4), 0x00081b36);
	fg_cfg_write(&g, 1, 0x14, 4, 0);
	assert_false(decoded(0));
	fg_cfg_write(&g, 1, 0x14, 4, 0xd0002000);
	assert_int_equal(mmio(0xd0002012, 2), 3);
}

/* A message that is on its way when its vector is masked: the write does not return before it is there. */
static struct {
	struct fg_dev d;
	void (*deliver)(void *arg, uint64_t addr, uint32_t data);
	pthread_t masker;
	bool masked;
	unsigned late; /* messages of an entry that is masked already */
} way;

static void *mask_thread(void *arg unused)
{
	fg_write(&way.d, way.d.msix + 16 + 12, 4, 1);
	__atomic_store_n(&way.masked, true, __ATOMIC_SEQ_CST);
	return NULL;
}

static void deliver_slowly(void *arg, uint64_t addr, uint32_t data)
{
	assert_int_equal(pthread_create(&way.masker, NULL, mask_thread, NULL), 0);
	for (unsigned ms = 0; ms < 100 && !__atomic_load_n(&way.masked, __ATOMIC_SEQ_CST); ms++)
		usleep(1000);
	way.late += __atomic_load_n(&way.masked, __ATOMIC_SEQ_CST);
	way.deliver(arg, addr, data);
}

static void test_masked_on_the_way(void **state)
{
	(void)state;
	fg_probe(&way.d, &g, FG_NET_SLOT);
	struct vpci_func *f = &CONTAINER_OF(fg_find(&g, "virtio-net"), struct vvirtio, dev)->pci;
	way.deliver = g.m.msi;
	g.m.msi = deliver_slowly;
	vpci_msix_raise(f, 1);
	g.m.msi = way.deliver;
	pthread_join(way.masker, NULL);
	assert_true(way.masked && !way.late && g.nmsi == 1);
	vpci_msix_raise(f, 1);
	assert_int_equal(g.nmsi, 1);
}

static void test_msix(void **state)
{
	struct fg_dev d;
	struct vpci_func *f;

	(void)state;
	fg_probe(&d, &g, FG_NET_SLOT);
#define F_NOW() (&CONTAINER_OF(fg_find(&g, "virtio-net"), struct vvirtio, dev)->pci)
	f = F_NOW();
	vpci_msix_raise(f, 1);
	assert_int_equal(g.nmsi, 1);
	assert_int_equal(g.msi[0].addr, 0xfee00000);
	assert_int_equal(g.msi[0].data, 0x41);
	vpci_msix_raise(f, 3); /* no such vector */
	vpci_msix_raise(f, VIRTIO_NO_VECTOR);
	assert_int_equal(g.nmsi, 1);
	/*
	 * Vector mask: pending, seen in the PBA, kept over a migration, sent once when unmasked, with what is in the
	 * table then.
	 */
	fg_write(&d, d.msix + 16 + 12, 4, 0xffffffff);
	assert_int_equal(fg_read(&d, d.msix + 16 + 12, 4), 1);
	vpci_msix_raise(F_NOW(), 1);
	vpci_msix_raise(F_NOW(), 1);
	assert_int_equal(g.nmsi, 1);
	assert_int_equal(fg_read(&d, d.msix + 0x800, 8), 2);
	fg_migrate(&g);
	assert_int_equal(fg_read(&d, d.msix + 0x800, 4), 2);
	fg_write(&d, d.msix + 16, 8, 0x1fee01000); /* address in one write */
	fg_write(&d, d.msix + 16 + 8, 4, 0x99);
	fg_write(&d, d.msix + 16 + 12, 4, 0);
	assert_int_equal(g.nmsi, 2);
	assert_true(g.msi[1].addr == 0x1fee01000 && g.msi[1].data == 0x99);
	assert_int_equal(fg_read(&d, d.msix + 0x800, 8), 0);
	/* Function mask, bus mastering off, and disabled. */
	fg_cfg_write(&g, FG_NET_SLOT, 0x42, 2, 0xc000);
	vpci_msix_raise(F_NOW(), 0);
	assert_int_equal(g.nmsi, 2);
	fg_cfg_write(&g, FG_NET_SLOT, 0x43, 1, 0x80);
	assert_int_equal(g.nmsi, 3);
	fg_cfg_write(&g, FG_NET_SLOT, 4, 2, 3);
	vpci_msix_raise(F_NOW(), 0);
	assert_int_equal(g.nmsi, 3);
	fg_cfg_write(&g, FG_NET_SLOT, 4, 2, 7);
	assert_int_equal(g.nmsi, 4);
	fg_cfg_write(&g, FG_NET_SLOT, 0x42, 2, 0);
	vpci_msix_raise(F_NOW(), 0);
	fg_cfg_write(&g, FG_NET_SLOT, 0x42, 2, 0x8000);
	assert_int_equal(g.nmsi, 4);
	/* Odd accesses. */
	assert_int_equal(fg_read(&d, d.msix, 2), 0xffff);
	fg_write(&d, d.msix + 2, 1, 0);
	assert_int_equal(fg_read(&d, d.msix, 4), 0xfee00000);
	assert_int_equal(fg_read(&d, d.msix + 0x30, 4), 0); /* beyond the table */
	fg_write(&d, d.msix + 0x30, 8, 1);
	assert_int_equal(fg_read(&d, d.msix + 0x30, 4), 0);
}

/* The window in configuration space onto the BARs, with memory decoding off. */
static void test_pci_cfg_window(void **state)
{
	unsigned cap = fg_cfg_read(&g, FG_NET_SLOT, 0x34, 1);

	(void)state;
	while (cap && !(fg_cfg_read(&g, FG_NET_SLOT, cap, 1) == 9 && fg_cfg_read(&g, FG_NET_SLOT, cap + 3, 1) == 5))
		cap = fg_cfg_read(&g, FG_NET_SLOT, cap + 1, 1);
	assert_int_not_equal(cap, 0);
	fg_cfg_write(&g, FG_NET_SLOT, cap + 4, 1, 1);
	fg_cfg_write(&g, FG_NET_SLOT, cap + 8, 4, 0x14);
	fg_cfg_write(&g, FG_NET_SLOT, cap + 12, 4, 1);
	fg_cfg_write(&g, FG_NET_SLOT, cap + 16, 1, 3);
	assert_int_equal(fg_cfg_read(&g, FG_NET_SLOT, cap + 16, 1), 3);
	fg_cfg_write(&g, FG_NET_SLOT, cap + 8, 4, 0x12);
	fg_cfg_write(&g, FG_NET_SLOT, cap + 12, 4, 2);
	assert_int_equal(fg_cfg_read(&g, FG_NET_SLOT, cap + 16, 2), 3); /* queues */
	/* Nonsense in the window's registers reaches nothing. */
	for (unsigned b = 0; b < 256; b++)
		for (unsigned l = 0; l < 10; l++) {
			fg_cfg_write(&g, FG_NET_SLOT, cap + 4, 1, b);
			fg_cfg_write(&g, FG_NET_SLOT, cap + 8, 4, b * 0x1000 + l);
			fg_cfg_write(&g, FG_NET_SLOT, cap + 12, 4, l == 9 ? 0xffffffff : l);
			fg_cfg_read(&g, FG_NET_SLOT, cap + 16, 4);
			fg_cfg_write(&g, FG_NET_SLOT, cap + 16, 4, 0);
		}
}

static int load(struct dev *d, unsigned section, const uint8_t *buf, struct why *w)
{
	const struct sdesc *s = d->section[section].desc;

	w->text[0] = '\0';
	return state_load(s, d->section[section].obj, s->version, buf, state_size(s), w);
}

static void test_state(void **state)
{
	uint8_t cfg[PCI_CFG_SIZE], bad[PCI_CFG_SIZE], msix[256];
	struct dev *d = fg_find(&g, "virtio-net");
	struct why w = { "" };

	(void)state;
	list_for_each(dev, &g.m.devs, struct dev, node)
		for (unsigned i = 0; i < dev->nsections; i++)
			if (state_selftest(dev->section[i].desc, &w))
				fail_msg("%s: %s", dev->section[i].desc->name, w.text);
	assert_string_equal(d->section[0].desc->name, "pci");
	state_save(d->section[0].desc, d->section[0].obj, cfg);
	/* Another device in that slot, or one that is built differently. */
	memcpy(bad, cfg, sizeof(bad));
	bad[2] = 0x44;
	assert_int_equal(load(d, 0, bad, &w), -EINVAL);
	assert_non_null(strstr(w.text, "slot 1: configuration byte 0x02 is 0x44, this host's device has 0x41"));
	memcpy(bad, cfg, sizeof(bad));
	bad[0x10] ^= 8; /* an address bit below the BAR's size */
	assert_int_equal(load(d, 0, bad, &w), -EINVAL);
	/* BARs decoded where the state says. */
	cfg[4] = 7;
	put_le32(cfg + 0x14, 0xd8000000);
	assert_int_equal(load(d, 0, cfg, &w), 0);
	assert_int_equal(mmio(0xd8000012, 2), 3);
	assert_string_equal(d->section[1].desc->name, "msix");
	state_save(d->section[1].desc, d->section[1].obj, msix);
	msix[PCI_MSIX_BANK * 16] = 8; /* pending of vector 3 */
	assert_int_equal(load(d, 1, msix, &w), -EINVAL);
	msix[PCI_MSIX_BANK * 16] = 0;
	msix[3 * 16] = 1; /* table entry of vector 3 */
	assert_int_equal(load(d, 1, msix, &w), -EINVAL);
	msix[3 * 16] = 0;
	msix[12] = 2; /* reserved bit of a control word */
	assert_int_equal(load(d, 1, msix, &w), -EINVAL);
	msix[12] = 1;
	assert_int_equal(load(d, 1, msix, &w), 0);
}

static void test_create_fails(void **state)
{
	struct vnet *v;
	unsigned pio_n = g.m.bus.space[BUS_PIO].n;

	(void)state;
	assert_int_equal(vnet_create(&g.m, g.pci, &v, FG_RNG_SLOT, 1, &(struct vnet_card){ .mtu = 1500 }), -EEXIST);
	assert_int_equal(vrng_create(&g.m, g.pci, PCI_SLOTS), -EINVAL);
	assert_int_equal(g.m.bus.space[BUS_PIO].n, pio_n);
	assert_int_equal(fg_cfg_read(&g, FG_RNG_SLOT, 0, 4), 0x10441af4);
}

static void test_reset(void **state)
{
	uint32_t bar = fg_cfg_read(&g, FG_NET_SLOT, 0x14, 4);
	struct fg_dev d;

	(void)state;
	fg_probe(&d, &g, FG_NET_SLOT);
	fg_cfg_write(&g, FG_NET_SLOT, 0x14, 4, 0xd0000000);
	list_for_each(dev, &g.m.devs, struct dev, node)
		dev->ops->reset(dev);
	assert_int_equal(fg_cfg_read(&g, FG_NET_SLOT, 4, 2), 0);
	assert_int_equal(fg_cfg_read(&g, FG_NET_SLOT, 0x14, 4), bar);
	assert_false(decoded(0xd0000000));
	fg_cfg_write(&g, FG_NET_SLOT, 4, 2, 7);
	assert_int_equal(fg_read(&d, d.msix + 12, 4), 1); /* masked */
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
	/* clang-format off */
	const struct CMUnitTest tests[] = {
		T(test_ports),          T(test_ecam),  T(test_bars),         T(test_bars_overlap), T(test_msix),
		T(test_pci_cfg_window), T(test_state), T(test_create_fails), T(test_reset),
		T(test_masked_on_the_way), T(test_host_bridge), T(test_reset_control),
	};
	/* clang-format on */

	return cmocka_run_group_tests(tests, NULL, NULL);
}

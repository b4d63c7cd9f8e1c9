/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Destinations of more than 8 bits on a bus of 300 local APICs: messages name ids above 255 by the extended destination
 * id, IPIs by ICR's 32 bits, both physical and logical, whether or not one of the APICs is in xAPIC mode. Who is named
 * is worked out here for each APIC alone.
 */
#include "tests/unit/fake_kernel.h"
#include "vmm/dev/vlapic_regs.h"
#include "vmm/dev/vxapic.h"
#include <string.h>

#define NCPU   300
#define VECTOR 0x51

static struct vlapic cpu[NCPU];
static struct vlapic *cpus[NCPU];
static struct vapic_bus bus;
static uint8_t kicked[NCPU];

static void kick(void *arg unused, unsigned i) { kicked[i]++; }

static int setup(void **state unused)
{
	bus = (struct vapic_bus){ .lapic = cpus, .n = NCPU, .kick = kick, .nmi = kick };
	memset(kicked, 0, sizeof(kicked));
	for (unsigned i = 0; i < NCPU; i++) {
		cpus[i] = &cpu[i];
		vlapic_init(&cpu[i], &bus, i);
		assert_int_equal(vlapic_msr_write(&cpu[i], MSR_X2APIC + APIC_SVR, 0, 0, 0x1ff), 0);
	}
	return 0;
}

/* vCPU i leaves x2APIC mode, by way of off; its logical id is one of the eight bits of flat mode. */
static void to_xapic(unsigned i, uint8_t ldr)
{
	struct vlapic *l = &cpu[i];
	uint64_t base = LAPIC_DEFAULT_BASE | (i ? 0 : APIC_BASE_BSP);
	assert_int_equal(vlapic_msr_write(l, MSR_APIC_BASE, 0, 0, base), 0);
	assert_int_equal(vlapic_msr_write(l, MSR_APIC_BASE, 0, 0, base | APIC_BASE_EN), 0);
	vxapic_write(l, APIC_SVR * 16, 4, 0, 0x1ff);
	vxapic_write(l, APIC_LDR * 16, 4, 0, (uint32_t)ldr << 24);
	assert_true(vlapic_is_xapic(l) && bus.any_xapic);
}

/* Does id i have the vector, and was it kicked for it, once? It is gone then. */
static bool got(unsigned i)
{
	bool has = cpu[i].s.irr[VECTOR / 32] >> VECTOR % 32 & 1;
	assert_int_equal(kicked[i], has);
	cpu[i].s.irr[VECTOR / 32] = kicked[i] = 0;
	return has;
}

/* The manual's words for one APIC (SDM 3A 11.6.2, 11.12.10): dest has `bits` bits. */
static bool means(unsigned i, uint32_t dest, bool logical, unsigned bits)
{
	const struct vlapic *l = &cpu[i];
	if (dest == DEST_BROADCAST || (!logical && bits == 15 && dest == DEST_BROADCAST8))
		return true;
	if (!logical)
		return dest == i;
	if (vlapic_is_xapic(l)) /* flat */
		return dest < 256 && (l->x.ldr >> 24 & dest);
	return dest >> 16 == i / 16 && dest >> i % 16 & 1;
}

static void expect(uint32_t dest, bool logical, unsigned bits)
{
	for (unsigned i = 0; i < NCPU; i++)
		if (got(i) != means(i, dest, logical, bits))
			fail_msg("id %u, destination %#x of %u bits, %s", i, dest, bits,
				 logical ? "logical" : "physical");
}

static void msi(uint32_t dest, bool logical)
{
	uint64_t addr = LAPIC_DEFAULT_BASE | (uint64_t)(dest & 0xff) << 12 | (uint64_t)(dest >> 8) << 5;
	vapic_bus_msi(&bus, addr | (logical ? MSI_LOGICAL : 0), VECTOR);
	expect(dest, logical, 15);
}

static void ipi(uint32_t dest, bool logical)
{
	uint64_t icr = (uint64_t)dest << 32 | (logical ? ICR_LOGICAL : 0) | VECTOR;
	assert_int_equal(vlapic_msr_write(&cpu[7], MSR_X2APIC + APIC_ICR, 0, 0, icr), 0);
	expect(dest, logical, 32);
}

static void all_destinations(void)
{
	for (uint32_t dest = 0; dest < 0x8000; dest += dest < 2 * NCPU ? 1 : 0x1ff) {
		msi(dest, false);
		msi(dest, true);
	}
	msi(0x7fff, false);
	msi(0x7fff, true); /* 15 bits of ones are no broadcast */
	for (uint32_t dest = 0; dest < 2 * NCPU; dest++) {
		ipi(dest, false);
		ipi(dest, true);                                         /* of cluster 0 */
		ipi((dest / 16) << 16 | (dest * 0x9e37 & 0xffff), true); /* each, and those behind the last */
		ipi((dest / 16) << 16 | 1U << dest % 16, true);
	}
	ipi(DEST_BROADCAST, false);
	ipi(DEST_BROADCAST, true);
	ipi(0xffff0001, true);
}

/* By name, so that a mistake in means() above is none here. */
static void named_ones(void)
{
	static const struct {
		uint64_t addr;
		unsigned id;
	} m[] = {
		{ 0xfee00000 | 0xfe << 12, 254 },
		{ 0xfee00000 | 0x00 << 12 | 1 << 5, 256 },
		{ 0xfee00000 | 0x2b << 12 | 1 << 5, 299 },
	};
	for (unsigned i = 0; i < ARRAY_SIZE(m); i++) {
		vapic_bus_msi(&bus, m[i].addr, VECTOR);
		for (unsigned id = 0; id < NCPU; id++)
			assert_int_equal(got(id), id == m[i].id);
	}
	vapic_bus_msi(&bus, 0xfee00000 | 0x2c << 12 | 1 << 5, VECTOR); /* 300 */
	for (unsigned id = 0; id < NCPU; id++)
		assert_false(got(id));
	/* 255 is everybody's in a message's 8 bits, as in the I/O APIC's; an IPI reaches it alone. */
	vapic_bus_msi(&bus, 0xfee00000 | 0xff << 12, VECTOR);
	for (unsigned id = 0; id < NCPU; id++)
		assert_true(got(id));
	vlapic_msr_write(&cpu[7], MSR_X2APIC + APIC_ICR, 0, 0, 255ULL << 32 | VECTOR);
	for (unsigned id = 0; id < NCPU; id++)
		assert_int_equal(got(id), id == 255);
	/* Lowest priority: one of the two that are named, kicked once. */
	vapic_bus_msi(&bus, 0xfee00000 | 0x06 << 12 | MSI_LOGICAL | MSI_REDIRECT, VECTOR);
	unsigned n = 0;
	for (unsigned id = 0; id < NCPU; id++)
		n += got(id);
	assert_int_equal(n, 1);
	vapic_bus_msi(&bus, 0xfee00000 | 0x2b << 12 | 1 << 5, DELIVERY(DELIVERY_NMI)); /* and no vector */
	assert_int_equal(kicked[299], 1);
	kicked[299] = 0;
	assert_false(got(299));
}

static void test_x2apic(void **state unused)
{
	named_ones();
	all_destinations();
	assert_false(bus.any_xapic);
}

static void test_one_xapic(void **state unused)
{
	to_xapic(3, 0x08);
	named_ones();
	all_destinations();
	to_xapic(299, 0x82); /* it has no 8-bit id: reached by a message's 15 bits, and by its logical id */
	all_destinations();
	assert_int_equal(vlapic_msr_write(&cpu[3], MSR_APIC_BASE, 0, 0,
					  LAPIC_DEFAULT_BASE | APIC_BASE_EN | APIC_BASE_EXTD),
			 0);
	named_ones();
	all_destinations();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(test_x2apic, setup),
		cmocka_unit_test_setup(test_one_xapic, setup),
	};
	return cmocka_run_group_tests_name("lapic_ids", tests, NULL, NULL);
}

/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Reader of ACPI tables (ACPI 6.4: FADT 5.2.9, MADT 5.2.12; MCFG: PCI Firmware Specification 3.2, 4.1.2), which
 * acpi_walk.c finds. No AML interpreter: of the DSDT only the _S5 package is looked for, by its bytes. Tables are
 * firmware's data: every length is checked before it is followed.
 */
#include "kernel/base/hva.h"
#include "kernel/acpi_host.h"
#include "kernel/acpi_walk.h"
#include "arch/x86/arch.h"
#include "arch/x86/cpu.h"
#include "arch/x86/hw/acpi.h"
#include "arch/x86/irq.h"
#include "arch/x86/paging.h"
#include "kernel/log.h"
#include "kernel/page.h"
#include <string.h>

static struct acpi_info info;
static uint16_t smi_cmd;
static uint8_t acpi_enable;

/* size bytes at hpa, mapped; NULL if they cannot be. */
static const uint8_t *map(hpa_t hpa, uint64_t size)
{
	if (!hpa || hpa + size < hpa)
		return NULL;
	return page_in_direct_map(hpa, size) ? hva_of(hpa) : mmio_map(hpa, size);
}

/* MADT: I/O APICs (type 1) and overrides of ISA interrupts (type 2). CPUs come from the loader. */
static void read_madt(const uint8_t *t, uint32_t len)
{
	for (uint32_t off = MADT_ENTRIES; off + 2 <= len && t[off + 1] >= 2 && off + t[off + 1] <= len;
	     off += t[off + 1]) {
		const uint8_t *e = t + off;
		if (e[0] == MADT_IOAPIC && e[1] >= 12) {
			irq_add_ioapic(get_le32(e + 4), get_le32(e + 8));
		} else if (e[0] == MADT_OVERRIDE && e[1] >= 10) {
			uint16_t flags = get_le16(e + 8);
			irq_isa_override(e[3], get_le32(e + 4), (flags & 3) == 3, (flags >> 2 & 3) == 3);
		}
	}
}

static void read_mcfg(const uint8_t *t, uint32_t len)
{
	for (uint32_t off = MCFG_ENTRIES; off + MCFG_ENTRY_LEN <= len && info.necam < ARRAY_SIZE(info.ecam);
	     off += MCFG_ENTRY_LEN) {
		const uint8_t *e = t + off;
		if (e[11] < e[10])
			continue;
		info.ecam[info.necam++] = (struct acpi_ecam){
			.base = get_le64(e), .segment = get_le16(e + 8), .bus_first = e[10], .bus_last = e[11]
		};
	}
}

/* An integer of AML (20.2.3): ZeroOp, OneOp, BytePrefix, WordPrefix. Returns the bytes it took, 0: none of them. */
static unsigned aml_int(const uint8_t *p, const uint8_t *end, uint16_t *v)
{
	if (p < end && *p <= 1) {
		*v = *p;
		return 1;
	}
	if (end - p >= 2 && *p == 0x0a) {
		*v = p[1];
		return 2;
	}
	if (end - p >= 3 && *p == 0x0b) {
		*v = get_le16(p + 1);
		return 3;
	}
	return 0;
}

/* Name (_S5, Package () { SLP_TYPa, SLP_TYPb, ... }): 08 [5c] "_S5_" 12 PkgLength count a b */
static void read_dsdt(const uint8_t *t, uint32_t len)
{
	const uint8_t *end = t + len;
	for (const uint8_t *p = t + ACPI_HEADER_LEN + 2; p + 8 < end; p++) {
		if (memcmp(p, "_S5_", 4) != 0 || p[4] != 0x12)
			continue;
		if (p[-1] != 0x08 && !(p[-1] == 0x5c && p[-2] == 0x08))
			continue;
		const uint8_t *q = p + 5;
		q += 1 + (*q >> 6); /* PkgLength: its top bits count the bytes that follow it */
		q++;                /* number of elements */
		uint16_t a, b;
		unsigned n;
		if (q < end && (n = aml_int(q, end, &a)) != 0 && aml_int(q + n, end, &b)) {
			info.slp_typ_a = a;
			info.slp_typ_b = b;
			return;
		}
	}
	info.pm1a_cnt = 0; /* no soft-off then */
}

static void read_fadt(const uint8_t *t, uint32_t len)
{
	if (len < FADT_MIN)
		return;
	smi_cmd = (uint16_t)get_le32(t + FADT_SMI_CMD);
	acpi_enable = t[FADT_ACPI_ENABLE];
	info.pm1a_cnt = (uint16_t)get_le32(t + FADT_PM1A_CNT);
	info.pm1b_cnt = (uint16_t)get_le32(t + FADT_PM1B_CNT);
	if (len > FADT_RESET_VALUE && get_le32(t + FADT_FLAGS) & FADT_F_RESET_REG) {
		info.reset_space = t[FADT_RESET_REG + GAS_SPACE];
		info.reset_addr = get_le64(t + FADT_RESET_REG + GAS_ADDRESS);
		info.reset_value = t[FADT_RESET_VALUE];
	}
	/* The 64-bit address goes before the old one, where it is given (5.2.9). */
	hpa_t dsdt = len >= FADT_X_DSDT + 8 ? get_le64(t + FADT_X_DSDT) : 0;
	if (!dsdt)
		dsdt = get_le32(t + FADT_DSDT);
	uint32_t dsdt_len;
	const uint8_t *d = acpi_table(map, dsdt, &dsdt_len);
	if (d) {
		read_dsdt(d, dsdt_len);
		return;
	}
	log_warn("acpi: the DSDT at %#lx is broken: no power-off by it", dsdt);
	info.pm1a_cnt = 0;
}

static void read_table(void *arg unused, hpa_t hpa, const uint8_t *t, uint32_t len)
{
	if (!t) {
		log_warn("acpi: the table at %#lx is broken, it is not used", hpa);
		return;
	}
	log_debug("acpi: %.4s, %u bytes", (const char *)t, len);
	if (!memcmp(t, "APIC", 4))
		read_madt(t, len);
	else if (!memcmp(t, "MCFG", 4))
		read_mcfg(t, len);
	else if (!memcmp(t, "FACP", 4))
		read_fadt(t, len);
}

void acpi_init(hpa_t rsdp)
{
	memset(&info, 0, sizeof(info));
	info.present = acpi_walk(map, rsdp, read_table, NULL) == 0;
	if (!info.present)
		log_info("acpi: none");
}

const struct acpi_info *acpi_info(void) { return &info; }

void acpi_set_soft_off(uint16_t pm1a_cnt, uint16_t slp_typ)
{
	if (info.pm1a_cnt)
		return;
	info.pm1a_cnt = pm1a_cnt;
	info.slp_typ_a = slp_typ;
}

void acpi_power_off(void)
{
	if (!info.pm1a_cnt)
		return;
	if (smi_cmd && acpi_enable && !(inw(info.pm1a_cnt) & PM1_SCI_EN)) { /* hand the registers over to us, 4.8.2.5 */
		outb(smi_cmd, acpi_enable);
		for (unsigned i = 0; i < 1000000 && !(inw(info.pm1a_cnt) & PM1_SCI_EN); i++)
			cpu_relax();
	}
	outw(info.pm1a_cnt, (uint16_t)(info.slp_typ_a << 10 | PM1_SLP_EN));
	if (info.pm1b_cnt)
		outw(info.pm1b_cnt, (uint16_t)(info.slp_typ_b << 10 | PM1_SLP_EN));
	for (unsigned i = 0; i < 10000000; i++)
		cpu_relax();
}

void acpi_reset(void)
{
	if (info.reset_addr && info.reset_space == 1)
		outb((uint16_t)info.reset_addr, info.reset_value);
	for (unsigned i = 0; i < 100000; i++)
		cpu_relax();
	arch_reset();
}

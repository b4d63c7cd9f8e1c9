/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The guest's ACPI tables, written once when it starts (at a reset again). Fixed but for the number of CPUs:
 *
 *   RSDP -> XSDT -> FADT -> DSDT (vmm/pc/dsdt.asl, compiled by iasl at build time)
 *                -> MADT (a local APIC per vCPU, the I/O APIC)
 *                -> MCFG (ECAM)
 *
 * Section numbers are ACPI 6.4's.
 */
#include "vmm/pc/acpi_tables.h"
#include "arch/x86/hw/acpi.h"
#include "arch/x86/hw/apic.h"
#include "arch/x86/hw/pci.h"
#include "arch/x86/hw/rtc.h"
#include "arch/x86/hw/uart16550.h"
#include "dsdt.h"
#include "kernel/base/checksum.h"
#include "vmm/pc/pc.h"
#include <stdlib.h>
#include <string.h>

#define ACPI_AREA (PC_SMBIOS - PC_ACPI_TABLES)
/* Tables are laid out in buf as they will be at PC_ACPI_TABLES. */
struct builder {
	uint8_t *buf;
	size_t len;
	bool full;
};

static uint8_t *append(struct builder *b, size_t n)
{
	static uint8_t scratch[FADT_LEN]; /* written, never read, once there is no room */

	if (b->full || n > ACPI_AREA - b->len) {
		b->full = true;
		return scratch;
	}
	b->len += n;
	return b->buf + b->len - n;
}

static gpa_t here(struct builder *b)
{
	b->len = ALIGN_UP(b->len, 16);
	return PC_ACPI_TABLES + b->len;
}

/* Header of a table (5.2.6); the table is closed by table_end(), which knows its length. Returns its offset. */
static size_t table_begin(struct builder *b, const char *sig, uint8_t revision)
{
	size_t at = b->len;
	uint8_t *h = append(b, ACPI_HEADER_LEN);

	memcpy(h, sig, 4);
	h[8] = revision;
	memcpy(h + 10, "TERN  ", 6);
	memcpy(h + 16, "TERNPC  ", 8);
	put_le32(h + 24, 1);
	memcpy(h + 28, "TERN", 4);
	put_le32(h + 32, 1);
	return at;
}

static void table_end(struct builder *b, size_t at)
{
	if (b->full)
		return;
	put_le32(b->buf + at + 4, (uint32_t)(b->len - at));
	b->buf[at + 9] = (uint8_t)-sum8(b->buf + at, b->len - at);
}

/* Generic address structure (5.2.3.2) of a byte-wide port. */
static void gas_port(uint8_t *p, uint16_t port)
{
	p[GAS_SPACE] = GAS_SPACE_IO;
	p[GAS_WIDTH] = 8;
	p[GAS_ACCESS] = GAS_ACCESS_BYTE;
	put_le64(p + GAS_ADDRESS, port);
}

static void fadt(struct builder *b, gpa_t dsdt)
{
	size_t at = table_begin(b, "FACP", 6);
	uint8_t *t = append(b, FADT_LEN - ACPI_HEADER_LEN) - ACPI_HEADER_LEN; /* offsets below are the table's */

	if (b->full)
		return;
	put_le32(t + FADT_DSDT, (uint32_t)dsdt);
	t[FADT_PM_PROFILE] = PM_PROFILE_SERVER;
	put_le16(t + FADT_P_LVL2_LAT, 0xffff); /* no C2, no C3 */
	put_le16(t + FADT_P_LVL3_LAT, 0xffff);
	put_le16(t + FADT_BOOT_ARCH, FADT_BOOT_NO_VGA | FADT_BOOT_NO_RTC); /* no legacy devices, no 8042 either */
	put_le32(t + FADT_FLAGS, FADT_F_WBINVD | FADT_F_PROC_C1 | FADT_F_PWR_BUTTON | FADT_F_SLP_BUTTON |
					 FADT_F_RESET_REG | FADT_F_HW_REDUCED);
	gas_port(t + FADT_RESET_REG, PC_RESET_PORT);
	t[FADT_RESET_VALUE] = PC_RESET_VALUE;
	t[FADT_MINOR] = 4;
	put_le64(t + FADT_X_DSDT, dsdt);
	gas_port(t + FADT_SLEEP_CONTROL, PC_POWER);
	gas_port(t + FADT_SLEEP_STATUS, PC_POWER + 1);
	memcpy(t + FADT_HYPERVISOR, "TERN", 4);
	table_end(b, at);
}

static void madt(struct builder *b, unsigned nvcpus)
{
	size_t at = table_begin(b, "APIC", 5);
	put_le32(append(b, 8), LAPIC_DEFAULT_BASE); /* and flags 0: no 8259 */

	for (unsigned i = 0; i < nvcpus && !b->full; i++) {
		uint8_t *e = append(b, i < 255 ? 8 : 16);
		if (i < 255) {
			e[0] = MADT_LAPIC;
			e[1] = 8;
			e[2] = (uint8_t)i; /* processor UID */
			e[3] = (uint8_t)i; /* APIC id */
			put_le32(e + 4, MADT_ENABLED);
		} else {
			e[0] = MADT_X2APIC;
			e[1] = 16;
			put_le32(e + 4, i);
			put_le32(e + 8, MADT_ENABLED);
			put_le32(e + 12, i);
		}
	}
	uint8_t *e = append(b, 12);
	e[0] = MADT_IOAPIC;
	e[1] = 12;
	put_le32(e + 4, PC_IOAPIC); /* id 0, first GSI 0 */
	table_end(b, at);
}

static void mcfg(struct builder *b)
{
	size_t at = table_begin(b, "MCFG", 1);
	uint8_t *e = append(b, 8 + MCFG_ENTRY_LEN) + 8;

	put_le64(e, PC_PCI_ECAM); /* segment 0, buses 0 to 0 */
	table_end(b, at);
}

static void build(struct builder *b, unsigned nvcpus)
{
	gpa_t at[3];
	uint8_t *rsdp = append(b, RSDP_LEN);

	gpa_t dsdt = here(b);
	memcpy(append(b, sizeof(dsdt_aml_code)), dsdt_aml_code, sizeof(dsdt_aml_code));
	at[0] = here(b);
	fadt(b, dsdt);
	at[1] = here(b);
	madt(b, nvcpus);
	at[2] = here(b);
	mcfg(b);

	gpa_t xsdt = here(b);
	size_t off = table_begin(b, "XSDT", 1);
	for (unsigned i = 0; i < ARRAY_SIZE(at); i++)
		put_le64(append(b, 8), at[i]);
	table_end(b, off);

	memcpy(rsdp, "RSD PTR ", 8); /* 5.2.5.3 */
	memcpy(rsdp + RSDP_OEM, "TERN  ", 6);
	rsdp[RSDP_REVISION] = 2;
	put_le32(rsdp + RSDP_LENGTH, RSDP_LEN);
	put_le64(rsdp + RSDP_XSDT, xsdt);
	rsdp[RSDP_CHECKSUM] = (uint8_t)-sum8(rsdp, RSDP_LEN_1);
	rsdp[RSDP_CHECKSUM_2] = (uint8_t)-sum8(rsdp, RSDP_LEN);
}

_Static_assert(PC_PCI_MMIO + PC_PCI_MMIO_SIZE - 1 == PC_PCI_MMIO_LAST &&
		       PC_PCI_IO + PC_PCI_IO_SIZE - 1 == PC_PCI_IO_LAST,
	       "the DSDT's windows");
_Static_assert(PC_IOAPIC == IOAPIC_DEFAULT_BASE && PC_COM1 == COM1_PORT && PC_PCI_CONFIG == PCI_PORT_ADDRESS &&
		       PC_RTC == RTC_PORT_INDEX,
	       "where guests look without asking");

int acpi_tables_build(struct gmem *g, unsigned nvcpus, gpa_t *rsdp)
{
	_Static_assert(sizeof(dsdt_aml_code) < ACPI_AREA / 2, "the DSDT leaves room for the rest");
	struct builder b = { .buf = calloc(1, ACPI_AREA) };

	if (!b.buf)
		return err_trace(-ENOMEM);
	build(&b, nvcpus);
	int err = b.full ? -ENOSPC : gmem_write(g, PC_ACPI_TABLES, b.buf, b.len);
	free(b.buf);
	*rsdp = PC_ACPI_TABLES;
	return err;
}

/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The guest's ACPI tables, written once when it starts (at a reset again). Fixed but for the number of CPUs:
 *
 *   RSDP -> XSDT -> FADT -> DSDT (vmm/dsdt.asl, compiled by iasl at build time)
 *                -> MADT (a local APIC per vCPU, the I/O APIC)
 *                -> MCFG (ECAM)
 *
 * Section numbers are ACPI 6.4's.
 */
#include "arch/x86/hw/apic.h"
#include "vmm/acpi_tables.h"
#include "dsdt.h"
#include "vmm/dev.h"
#include <stdlib.h>
#include <string.h>

#define ACPI_AREA  0x1fff0UL /* up to the reset vector below 1 MiB (linux_loader.c) */
#define HEADER_LEN 36
#define RSDP_LEN   36
#define FADT_LEN   276

/* FADT (5.2.9) */
#define PM_PROFILE_SERVER 4
#define FADT_WBINVD       BIT(0)
#define FADT_PROC_C1      BIT(2)
#define FADT_PWR_BUTTON   BIT(4) /* no fixed power and sleep buttons */
#define FADT_SLP_BUTTON   BIT(5)
#define FADT_RESET_REG    BIT(10)
#define FADT_HW_REDUCED   BIT(20)
#define BOOT_NO_VGA       BIT(2) /* IAPC_BOOT_ARCH (5.2.9.3): no legacy devices, no 8042 either */
#define BOOT_NO_RTC       BIT(5)
#define GAS_IO            1
#define GAS_BYTE          1 /* access size */

/* MADT entries (5.2.12) */
#define MADT_LAPIC   0
#define MADT_IOAPIC  1
#define MADT_X2APIC  9
#define MADT_ENABLED 1

/* Tables are laid out in buf as they will be at ACPI_TABLES_GPA. */
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
	return ACPI_TABLES_GPA + b->len;
}

/* Header of a table (5.2.6); the table is closed by table_end(), which knows its length. Returns its offset. */
static size_t table_begin(struct builder *b, const char *sig, uint8_t revision)
{
	size_t at = b->len;
	uint8_t *h = append(b, HEADER_LEN);

	memcpy(h, sig, 4);
	h[8] = revision;
	memcpy(h + 10, "TERN  ", 6);
	memcpy(h + 16, "TERNPC  ", 8);
	put_le32(h + 24, 1);
	memcpy(h + 28, "TERN", 4);
	put_le32(h + 32, 1);
	return at;
}

static uint8_t checksum(const uint8_t *p, size_t n)
{
	uint8_t sum = 0;
	while (n--)
		sum += *p++;
	return (uint8_t)-sum;
}

static void table_end(struct builder *b, size_t at)
{
	if (b->full)
		return;
	put_le32(b->buf + at + 4, (uint32_t)(b->len - at));
	b->buf[at + 9] = checksum(b->buf + at, b->len - at);
}

/* Generic address structure (5.2.3.2) of a byte-wide port. */
static void gas_port(uint8_t *p, uint16_t port)
{
	p[0] = GAS_IO;
	p[1] = 8;
	p[3] = GAS_BYTE;
	put_le64(p + 4, port);
}

static void fadt(struct builder *b, gpa_t dsdt)
{
	size_t at = table_begin(b, "FACP", 6);
	uint8_t *t = append(b, FADT_LEN - HEADER_LEN) - HEADER_LEN; /* offsets below are the table's */

	if (b->full)
		return;
	put_le32(t + 40, (uint32_t)dsdt);
	t[45] = PM_PROFILE_SERVER;
	put_le16(t + 96, 0xffff); /* P_LVL2_LAT, P_LVL3_LAT: no C2, no C3 */
	put_le16(t + 98, 0xffff);
	put_le16(t + 109, BOOT_NO_VGA | BOOT_NO_RTC);
	put_le32(t + 112,
		 FADT_WBINVD | FADT_PROC_C1 | FADT_PWR_BUTTON | FADT_SLP_BUTTON | FADT_RESET_REG | FADT_HW_REDUCED);
	gas_port(t + 116, POWER_PORT + 2);
	t[128] = 1; /* RESET_VALUE */
	t[131] = 4; /* minor version */
	put_le64(t + 140, dsdt);
	gas_port(t + 244, POWER_PORT);     /* SLEEP_CONTROL_REG */
	gas_port(t + 256, POWER_PORT + 1); /* SLEEP_STATUS_REG */
	memcpy(t + 268, "TERN", 4);        /* hypervisor vendor */
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
	put_le32(e + 4, (uint32_t)IOAPIC_BASE); /* id 0, first GSI 0 */
	table_end(b, at);
}

static void mcfg(struct builder *b)
{
	size_t at = table_begin(b, "MCFG", 1);
	uint8_t *e = append(b, 8 + 16) + 8;

	put_le64(e, PCI_ECAM_BASE); /* segment 0, buses 0 to 0 */
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
	memcpy(rsdp + 9, "TERN  ", 6);
	rsdp[15] = 2;
	put_le32(rsdp + 20, RSDP_LEN);
	put_le64(rsdp + 24, xsdt);
	rsdp[8] = checksum(rsdp, 20);
	rsdp[32] = checksum(rsdp, RSDP_LEN);
}

int acpi_tables_build(struct gmem *g, unsigned nvcpus, gpa_t *rsdp)
{
	_Static_assert(sizeof(dsdt_aml_code) < ACPI_AREA / 2, "the DSDT leaves room for the rest");
	struct builder b = { .buf = calloc(1, ACPI_AREA) };

	if (!b.buf)
		return err_trace(-ENOMEM);
	build(&b, nvcpus);
	int err = b.full ? -ENOSPC : gmem_write(g, ACPI_TABLES_GPA, b.buf, b.len);
	free(b.buf);
	*rsdp = ACPI_TABLES_GPA;
	return err;
}

/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The guest's PC: every guest-physical address, port and GSI of it, for devices, loader, ACPI tables and DSDT. Numbers
 * and names alone, without suffixes or types: iasl's input is preprocessed with this too.
 *
 *                                                                  0x00100000  RAM again
 *   0x00007000  boot_params ("zero page"), with the E820 map       0x01000000  a bzImage, at its preferred address; an
 *   0x00008000  GDT                                                            ELF file is where its segments are
 *   0x00009000  page tables: the first 4 GiB, one to one           top of RAM  initrd, as high as the kernel accepts
 *   0x00020000  command line                                       0xc0000000  RAM below 4 GiB ends here at most; BARs
 *   0x000a0000  end of low RAM                                     0xe0000000  ECAM of bus 0
 *   0x000e0000  ACPI tables                                        0xfec00000  I/O APIC
 *   0x000f0000  SMBIOS tables                                      0xfee00000  local APIC: MSIs are written there
 *   0x000fe000  PVH: hvm_start_info, with the memory map
 *   0x000ffff0  what a real-mode restart jumps to: a reset        0x100000000  the rest of the RAM
 */
#pragma once

/* RAM, and what the loaders put there (linux_loader.c, pvh_loader.c). */
#define PC_BOOT_PARAMS  0x7000
#define PC_BOOT_GDT     0x8000
#define PC_BOOT_PML4    0x9000
#define PC_BOOT_PDPT    0xa000
#define PC_BOOT_PD      0xb000 /* four of them */
#define PC_CMDLINE      0x20000
#define PC_CMDLINE_MAX  0x10000
#define PC_LOW_RAM_END  0xa0000
#define PC_ACPI_TABLES  0xe0000 /* from here to 1 MiB E820 reserves all */
#define PC_SMBIOS       0xf0000 /* the entry point, and the tables behind it */
#define PC_PVH_INFO     0xfe000 /* firmware reads it once more when it has given RAM away (doc/firmware.md) */
#define PC_RESET_VECTOR 0xffff0
#define PC_HIGH_RAM     0x100000
#define PC_RAM_HOLE     0xc0000000  /* RAM below ends here at most */
#define PC_RAM_ABOVE    0x100000000 /* where the rest of it begins */

/* Windows and registers. */
#define PC_PCI_MMIO      0xc0000000 /* 32-bit BARs */
#define PC_PCI_MMIO_LAST 0xdfffffff
#define PC_PCI_MMIO_SIZE 0x20000000
#define PC_PCI_ECAM      0xe0000000 /* one bus */
#define PC_PCI_ECAM_SIZE 0x00100000
#define PC_IOAPIC        0xfec00000
#define PC_IOAPIC_SIZE   0x1000

/* Ports. */
#define PC_PCI_CONFIG      0xcf8
#define PC_COM1            0x3f8
#define PC_RTC             0x70  /* +0 index, +1 data */
#define PC_POWER           0x600 /* +0 SLEEP_CONTROL, +1 SLEEP_STATUS, +2 RESET: the FADT's */
#define PC_POWER_SIZE      3
#define PC_RESET_PORT      0x602
#define PC_RESET_VALUE     1
#define PC_POWER_SLP_TYP_5 5 /* soft-off */
#define PC_PM_TIMER        0x608
#define PC_PCI_IO          0x1000
#define PC_PCI_IO_LAST     0xefff
#define PC_PCI_IO_SIZE     0xe000

/* Interrupts: pins of the I/O APIC. */
#define PC_IOAPIC_PINS 24
#define PC_COM1_GSI    4
#define PC_BUTTON_GSI  5 /* an edge: the power button was pressed */

/* Slots of PCI bus 0; the host bridge is 0. */
#define PC_SLOT_NET  1
#define PC_SLOT_RNG  2
#define PC_SLOT_NET2 3 /* and those behind it: more network cards */
#define PC_SLOT_DISK 6 /* and those behind it: disks */

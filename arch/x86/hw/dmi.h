/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * SMBIOS 3.0 (DSP0134): the 64-bit entry point (5.2.2); of each structure of the guest's tables those fields that are
 * set there, by their offsets, and its length. Definitions only; every room may include this.
 */
#pragma once

enum {
	SMBIOS_CHECKSUM = 5,
	SMBIOS_EP_LENGTH = 6,
	SMBIOS_MAJOR = 7,
	SMBIOS_MINOR = 8,
	SMBIOS_EP_REVISION = 10,
	SMBIOS_MAX_SIZE = 12,
	SMBIOS_TABLE = 16,
	SMBIOS_EP_LEN = 24,
};
#define SMBIOS_AREA      0xf0000 /* from here to 1 MiB an OS looks for it that UEFI did not start, in steps of 16 */
#define SMBIOS_NO_HANDLE 0xffff
#define SMBIOS_NO_ERROR  0xfffe /* of a handle to error information: there is none to be had */

/* Each: type u8, length u8, handle u16, fields, strings, an empty string. */
enum {
	SMBIOS_BIOS = 0,
	SMBIOS_SYSTEM = 1,
	SMBIOS_CHASSIS = 3,
	SMBIOS_CPU = 4,
	SMBIOS_MEMORY_ARRAY = 16,
	SMBIOS_MEMORY_DEVICE = 17,
	SMBIOS_MEMORY_RANGE = 19,
	SMBIOS_BOOT = 32,
	SMBIOS_END = 127,
};
enum {
	BIOS_VENDOR = 4,
	BIOS_VERSION = 5,
	BIOS_DATE = 8,
	BIOS_FLAGS = 10,
	BIOS_FLAGS2 = 18,
	BIOS_RELEASES = 20,
	BIOS_LEN = 24
};
#define BIOS_NO_FLAGS  0x08U   /* BIOS_FLAGS: they are not supported */
#define BIOS_IS_VM     0x1000U /* BIOS_FLAGS2 */
#define BIOS_NO_NUMBER 0xffffffffU

enum {
	SYSTEM_MAKER = 4,
	SYSTEM_PRODUCT = 5,
	SYSTEM_VERSION = 6,
	SYSTEM_SERIAL = 7,
	SYSTEM_UUID = 8,
	SYSTEM_WAKE = 24,
	SYSTEM_LEN = 27
};
#define SYSTEM_WAKE_SWITCH 6

enum { CHASSIS_MAKER = 4, CHASSIS_TYPE = 5, CHASSIS_STATES = 9, CHASSIS_SECURITY = 12, CHASSIS_LEN = 22 };
#define CHASSIS_OTHER  1
#define CHASSIS_SAFE   3 /* each of its states */
#define CHASSIS_SECURE 3 /* no security */

enum {
	CPU_SOCKET = 4,
	CPU_TYPE = 5,
	CPU_FAMILY = 6,
	CPU_STATUS = 24,
	CPU_UPGRADE = 25,
	CPU_CACHES = 26, /* three handles */
	CPU_CORES = 35,  /* and those enabled, and threads: each u8 here, 0xff for more */
	CPU_FLAGS = 38,
	CPU_FAMILY2 = 40,
	CPU_CORES2 = 42, /* the same three, each u16 */
	CPU_LEN = 48,
};
#define CPU_CENTRAL    3
#define CPU_OTHER      1 /* family, upgrade */
#define CPU_ENABLED    0x41
#define CPU_64BIT      0x04U
#define CPU_MULTI_CORE 0x08U

enum {
	ARRAY_LOCATION = 4,
	ARRAY_USE = 5,
	ARRAY_ECC = 6,
	ARRAY_CAPACITY = 7, /* KiB */
	ARRAY_ERROR = 11,
	ARRAY_DEVICES = 13,
	ARRAY_CAPACITY2 = 15, /* bytes, if the other is: */
	ARRAY_LEN = 23,
};
#define ARRAY_OTHER    1
#define ARRAY_SYSTEM   3
#define ARRAY_NO_ECC   3
#define ARRAY_EXTENDED 0x80000000U

enum {
	MEMDEV_ARRAY = 4,
	MEMDEV_ERROR = 6,
	MEMDEV_TOTAL_WIDTH = 8,
	MEMDEV_WIDTH = 10,
	MEMDEV_SIZE = 12, /* MiB */
	MEMDEV_FORM = 14,
	MEMDEV_LOCATOR = 16,
	MEMDEV_TYPE = 18,
	MEMDEV_DETAIL = 19,
	MEMDEV_SIZE2 = 28, /* MiB, if the other is: */
	MEMDEV_LEN = 40,
};
#define MEMDEV_EXTENDED 0x7fff
#define MEMDEV_DIMM     9
#define MEMDEV_RAM      7
#define MEMDEV_OTHER    0x02 /* MEMDEV_DETAIL */

enum {
	RANGE_START = 4,
	RANGE_END = 8,
	RANGE_ARRAY = 12,
	RANGE_WIDTH = 14,
	RANGE_START2 = 15,
	RANGE_END2 = 23,
	RANGE_LEN = 31
};
#define RANGE_EXTENDED 0xffffffffU /* RANGE_START and RANGE_END are KiB; if this, the others, which are bytes */

enum { BOOT_STATUS = 10, BOOT_LEN = 11 };

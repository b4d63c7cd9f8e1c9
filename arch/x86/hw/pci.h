/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * PCI configuration space: its ports, the header of a function, MSI and MSI-X (PCI Local Bus 3.0, 3.2.2.3.2 and chapter
 * 6). Definitions only; every room may include this.
 */
#pragma once

#define PCI_PORT_ADDRESS   0xcf8 /* CONFIG_ADDRESS: enable | bus << 16 | device << 11 | function << 8 | register */
#define PCI_PORT_DATA      0xcfc /* CONFIG_DATA */
#define PCI_ADDRESS_ENABLE 0x80000000U

#define PCI_VENDOR_INTEL 0x8086
#define PCI_BARS         6
enum { /* header, type 0 (6.1) */
       PCI_VENDOR_ID = 0x00,
       PCI_DEVICE_ID = 0x02,
       PCI_COMMAND = 0x04,
       PCI_STATUS = 0x06,
       PCI_REVISION = 0x08,
       PCI_CLASS = 0x09, /* interface, subclass, class */
       PCI_CACHE_LINE = 0x0c,
       PCI_LATENCY = 0x0d,
       PCI_HEADER_TYPE = 0x0e,
       PCI_BAR0 = 0x10,
       PCI_SUBVENDOR = 0x2c,
       PCI_SUBDEVICE = 0x2e,
       PCI_CAP_PTR = 0x34,
       PCI_INT_LINE = 0x3c,
       PCI_FIRST_CAP = 0x40,
};
#define PCI_COMMAND_IO       0x001
#define PCI_COMMAND_MEM      0x002
#define PCI_COMMAND_MASTER   0x004
#define PCI_COMMAND_INTX_OFF 0x400
#define PCI_STATUS_CAPS      0x10
#define PCI_HEADER_MULTI     0x80
#define PCI_BAR_IO           1U
#define PCI_BAR_TYPE         6U
#define PCI_BAR_64           4U

/* Capability ids (appendix H). */
#define PCI_CAP_MSI    0x05
#define PCI_CAP_VENDOR 0x09
#define PCI_CAP_MSIX   0x11

/* MSI capability (6.8.1). */
#define MSI_CONTROL  2
#define MSI_ADDRESS  4
#define MSI_ENABLE   0x0001
#define MSI_MULTIPLE 0x0070
#define MSI_64       0x0080

/* MSI-X capability, and an entry of its table (6.8.2). */
#define MSIX_CONTROL  2
#define MSIX_TABLE    4
#define MSIX_PBA      8
#define MSIX_LEN      12
#define MSIX_COUNT    0x07ff
#define MSIX_MASK_ALL 0x4000
#define MSIX_ENABLE   0x8000
enum { MSIX_ADDR, MSIX_ADDR_HI, MSIX_DATA, MSIX_CTRL, MSIX_WORDS };
#define MSIX_VECTOR_MASK 1U /* of MSIX_CTRL */

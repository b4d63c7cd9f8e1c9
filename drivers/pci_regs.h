/* SPDX-License-Identifier: BSD-2-Clause */
/* Configuration space registers by their names in PCI Local Bus 3.0, chapter 6. Private to drivers/. */
#pragma once

#define PCI_VENDOR      0x00
#define PCI_COMMAND     0x04
#define PCI_STATUS      0x06
#define PCI_REVISION    0x08 /* revision, prog if, subclass, class */
#define PCI_HEADER_TYPE 0x0e
#define PCI_BAR0        0x10
#define PCI_SUBSYSTEM   0x2c
#define PCI_CAPS        0x34
#define PCI_IRQ_LINE    0x3c

#define PCI_COMMAND_IO      0x001
#define PCI_COMMAND_MEMORY  0x002
#define PCI_COMMAND_MASTER  0x004
#define PCI_COMMAND_NO_INTX 0x400
#define PCI_STATUS_CAPS     0x10
#define PCI_HEADER_MULTI    0x80
#define PCI_BAR_IO          1U
#define PCI_BAR_TYPE        6U
#define PCI_BAR_64          4U

#define PCI_CAP_MSI    0x05
#define PCI_CAP_VENDOR 0x09
#define PCI_CAP_MSIX   0x11

/* MSI capability (6.8.1). */
#define MSI_CONTROL  2
#define MSI_ADDRESS  4
#define MSI_ENABLE   0x0001
#define MSI_MULTIPLE 0x0070
#define MSI_64       0x0080

/* MSI-X capability (6.8.2). */
#define MSIX_CONTROL  2
#define MSIX_TABLE    4
#define MSIX_COUNT    0x07ff
#define MSIX_MASK_ALL 0x4000
#define MSIX_ENABLE   0x8000

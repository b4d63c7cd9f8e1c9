/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Intel 82371AB (PIIX4), the south bridge that emulators of the 440FX have: what of it tern needs where there is no
 * ACPI.
 */
#pragma once

/* Make power-off known to kernel/acpi_host.h if no ACPI table did. After pci_init. */
void piix4_init(void);

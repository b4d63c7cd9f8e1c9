/* SPDX-License-Identifier: BSD-2-Clause */
#include "vmm/pc/guest_image.h"
#include "vmm/pc/pc.h"

unsigned guest_image_ranges(const struct gmem *g, struct guest_range r[GUEST_RANGES_MAX])
{
	const struct guest_range all[GUEST_RANGES_MAX] = {
		{ 0, PC_LOW_RAM_END, GUEST_RAM },
		{ PC_LOW_RAM_END, PC_HIGH_RAM, GUEST_RESERVED },
		{ PC_HIGH_RAM, g->low, GUEST_RAM },
		{ PC_PCI_ECAM, PC_PCI_ECAM + PC_PCI_ECAM_SIZE, GUEST_RESERVED }, /* Linux trusts MCFG only if so */
		{ GMEM_HIGH, GMEM_HIGH + g->high, GUEST_RAM },
	};
	unsigned n = 0;
	for (unsigned i = 0; i < GUEST_RANGES_MAX; i++)
		if (all[i].start < all[i].end)
			r[n++] = all[i];
	return n;
}

int guest_image_put(struct gmem *g, gpa_t gpa, const struct boot_file *f, uint64_t off, uint64_t len)
{
	int err = 0;
	for (size_t n; len && !err; off += n, gpa += n, len -= n) {
		const uint8_t *p = boot_file_at(f, off, &n);
		n = MIN(n, len);
		err = gmem_write(g, gpa, p, n);
	}
	return err;
}

/*
 * Linux restarts a hardware-reduced PC through EFI, and where there is none (it does not ask whether there is the ACPI
 * reset register) as a PC's BIOS wants it: real mode, f000:fff0. What is there does the reset.
 */
static const uint8_t reset_code[] = {
	0xba,
	PC_RESET_PORT & 0xff,
	PC_RESET_PORT >> 8, /* mov dx, PC_RESET_PORT */
	0xb0,
	PC_RESET_VALUE, /* mov al, 1 */
	0xee,           /* out dx, al */
	0xf4,
	0xeb,
	0xfd, /* hlt; jmp $-1 */
};
_Static_assert(sizeof(reset_code) <= 16, "it ends at 1 MiB");

int guest_image_put_reset(struct gmem *g) { return gmem_write(g, PC_RESET_VECTOR, reset_code, sizeof(reset_code)); }

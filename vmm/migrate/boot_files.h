/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A VM's boot files go with it, so that its guest can reboot wherever it is, and the base images of its disks where
 * they are not there: between ACCEPT and pass 1 the source says what they are, and sends those that the destination
 * does not have (records FILES, WANT and FILE of doc/wire.md).
 */
#pragma once
#include "vmm/migrate/source.h"

#define FILES_MAX (VM_FILES + VM_DISKS_MAX)

/*
 * Before the source connects: reads all of them once, which takes longer than a peer would wait if they are large.
 * -ECANCELED at once, as migration_given_up.
 */
int boot_files_digest(struct migration *m, struct why *w) must_check;
/* The source's part; the guest runs. Errors as of precopy_progress and inbox_wait. */
int boot_files_send(struct source *c) must_check;

/* The destination's: {0} to begin with, boot_files_rx_fini at the end whatever came. */
struct boot_files_rx {
	struct boot_file *file[FILES_MAX]; /* those that are coming */
	uint64_t digest[FILES_MAX], got[FILES_MAX];
	bool told;
};
/* The record that was received; -EPROTO, -ENOMEM with why. The VM has its files when all of them have come. */
int boot_files_recv(struct boot_files_rx *r, struct vm *vm, struct wire_tx *tx, struct wire_rx *rx,
		    struct why *w) must_check;
bool boot_files_pending(const struct boot_files_rx *r);
void boot_files_rx_fini(struct boot_files_rx *r);

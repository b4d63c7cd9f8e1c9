/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The disk from which cloud-init in a guest reads who it is: a FAT file system with the label CIDATA that holds the
 * files user-data and meta-data, and network-config if there is one (cloud-init's data source NoCloud). It is made when
 * the VM starts for the first time, and is the base image of a read-only disk: it goes where the VM goes.
 */
#pragma once
#include "vmm/boot_file.h"
#include "vmm/vm_config.h"

#define SEED_NAME "cidata" /* of the disk */

/*
 * Of what cfg names, looked up among this host's files; without meta-data those say the VM's UUID and name. 0 and a
 * reference; -ENOENT, -EFBIG, -ENOMEM with why.
 */
int seed_make(const struct vm_config *cfg, struct boot_file **out, struct why *w) must_check;

/* For seed_make and tests: a file system of n files, whose names have up to 26 characters. Errors as above. */
struct seed_file {
	const char *name;
	struct boot_file *file; /* or NULL: */
	const char *text;
};
int seed_fat(const struct seed_file *f, unsigned n, struct boot_file **out, struct why *w) must_check;

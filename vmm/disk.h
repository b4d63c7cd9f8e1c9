/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A VM's disks: [disk NAME] of tern.conf, and their layers, which the VM keeps while it is off and takes along when
 * it moves.
 */
#pragma once
#include "vmm/layer.h"
#include "vmm/vm.h"

struct lun;
struct disk {
	char name[CONF_NAME_MAX]; /* (c) */
	struct lun *unit;         /* (c) it is on that, and has no layer; NULL: it is on its layer */
	struct layer layer;
};
struct blockdev *disk_blockdev(struct disk *d);
bool disk_has_units(const struct vm_config *cfg); /* is one of its disks on a unit of shared storage? */

extern const struct conf_table disk_conf_table; /* into what disk_conf.c alone knows */
/*
 * The disks that cfg names, as the file has them, into cfg->disk; r: of the VM's section. What is wrong is told of
 * the key `disk`. The base images' names and sizes are looked up among this host's files.
 */
void disk_config_read(struct conf_reader *r, struct vm_config *cfg);
void disk_config_rest(struct conf *c); /* what is wrong with [disk] sections that no VM has; all of those are known */
/*
 * Of a VM that comes from elsewhere: are its base images here, the same ones, but for those that come along? -ENOENT
 * with why. Reads all of them once.
 */
int disk_bases_check(const struct vm_config *cfg, struct why *w) must_check;
/*
 * For an OFFER: cfg->disk[] as those are that vm has here: sizes, base_digest, and whether base images go along (copy).
 * Reads them all once; vm->lock is not held.
 */
int disk_bases_digest(struct vm *vm, struct vm_config *cfg, bool copy, struct why *w) must_check;
/* A disk's base image, with a reference, NULL: none. Setting one that comes takes the reference. No lock is held. */
struct boot_file *disk_get_base(struct vm *vm, unsigned i);
void disk_set_base(struct vm *vm, unsigned i, struct boot_file *f);
bool disk_bases_pending(struct vm *vm); /* INCOMING: does one still have to come? */

/*
 * Those that the VM has not got yet, with memory for their layers: 0, or -ENOENT, -ENOMEM with why and it has those
 * that it had. vm->lock is held.
 */
int disk_make_all(struct vm *vm, struct why *w) must_check;
/*
 * The i-th one has `size` bytes from now on, and its layer may take `layer`, 0: as much more of it as it had of the
 * disk, if that was all; a guest that runs is told. -EINVAL: it has no such size, or shrinks; -EBUSY: the VM moves, or
 * is being built; -ENOENT: it was never started here; -ENOMEM, -ENOSPC, with why.
 */
int disk_resize(struct vm *vm, unsigned i, uint64_t size, uint64_t layer, struct why *w) must_check;
/* What the i-th one is now: as configured, but for what disk_resize has changed. vm->lock is held. */
struct vm_disk_config disk_config_now(const struct vm *vm, unsigned i);
void disk_free_all(struct vm *vm); /* no device uses them; the same, or nobody knows the VM any more */
/* The same in two steps, the second one without the lock. */
struct disks {
	struct disk *of[VM_DISKS_MAX];
};
struct disks disk_take_all(struct vm *vm);
void disk_free_taken(struct disks *d);
/* What OFFER says of a disk: can it be one? */
bool disk_config_is_sane(const struct vm_disk_config *d);

/* SPDX-License-Identifier: BSD-2-Clause */
/* A VM's disks (disk.h). */
#include "vmm/disk.h"
#include "vmm/boot_file.h"
#include "vmm/seed.h"
#include <stdlib.h>
#include <string.h>

#define LAYER_DEFAULT GIB(1) /* of a disk that is not smaller */
#define LAYER_MIN     MIB(1)

struct disk_conf {
	char file[VM_FILE_MAX];
	uint64_t memory, size, layer;
	uint32_t readonly;
};
#define FIELD(m) CONF_FIELD(struct disk_conf, m)
static const struct conf_key keys[] = {
	{ CONF_FILE, &conf_type_str, FIELD(file), .def = "",
	  .help = "the name of a disk image on the boot volume, raw or raw.zst, up to 95 characters" },
	{ "memory", &conf_type_size, FIELD(memory), .def = "",
	  .help = "the size of a disk of zeros in memory, in place of a file", .min = MIB(1), .max = GIB(1024),
	  .step = PAGE_SIZE },
	{ "size", &conf_type_size, FIELD(size), .def = "",
	  .help = "the size that the guest sees, if that is more than the file's", .min = MIB(1), .max = LAYER_SIZE_MAX,
	  .step = SECTOR },
	{ "layer", &conf_type_size, FIELD(layer), .def = "",
	  .help = "how much memory what the guest writes may take; 1G, or the disk's size if that is less",
	  .min = LAYER_MIN, .max = GIB(1024), .step = PAGE_SIZE },
	{ "readonly", &conf_type_choice, FIELD(readonly), .def = "no", .help = "no or yes",
	  .words = (const char *const[]){ "no", "yes", NULL } },
};
CONF_TABLE(disk_conf_table, "disk", keys);

/* ---- tern.conf ---- */

bool disk_config_is_sane(const struct vm_disk_config *d)
{
	return conf_is_word(d->name, strlen(d->name)) && d->size && d->size % SECTOR == 0 &&
	       d->size <= LAYER_SIZE_MAX && d->layer >= PAGE_SIZE && d->layer % PAGE_SIZE == 0 &&
	       d->layer <= LAYER_SIZE_MAX && !(d->flags & ~DISK_FLAGS) && d->base_size <= d->size &&
	       (d->base_size != 0) == (d->file[0] || d->flags & DISK_OWN);
}

/* Of its base image, if it is on this host's boot volume. */
static int base_look(struct vm_disk_config *d, struct why *w)
{
	struct boot_file *f = boot_file_named(d->file);
	if (!f)
		return why_set(w, -ENOENT, "there is no image %s on the boot volume, or it could not be read", d->file);
	d->base_size = f->size;
	boot_file_put(f);
	if (d->base_size % SECTOR)
		return why_set(w, -EINVAL, "its image %s has %lu bytes, which are no whole sectors", d->file,
			       d->base_size);
	if (!d->size)
		d->size = d->base_size;
	return d->size < d->base_size ? why_set(w, -EINVAL, "its image %s is larger than size", d->file) : 0;
}

static int make(const struct disk_conf *k, struct vm_disk_config *d, struct why *w)
{
	if (!k->file[0] == !k->memory)
		return why_set(w, -EINVAL, "it wants either file or memory");
	if (k->memory && (k->size || k->layer || k->readonly))
		return why_set(w, -EINVAL, "size, layer and readonly are for a disk with a file");
	d->size = k->memory ? k->memory : k->size;
	d->flags = k->readonly ? DISK_READONLY : 0;
	memcpy(d->file, k->file, sizeof(d->file));
	int err = k->file[0] ? base_look(d, w) : 0;
	if (err)
		return err;
	uint64_t whole = layer_pages_whole(d->size) << PAGE_SHIFT;
	d->layer = k->memory ? whole : k->readonly ? PAGE_SIZE : MIN(k->layer ? k->layer : LAYER_DEFAULT, whole);
	return 0;
}

struct uses {
	const char *disk, *by; /* by: a VM, NULL if none has it */
};

static void find_user(struct vm *vm, void *arg)
{
	struct uses *u = arg;
	for (unsigned i = 0; i < vm->cfg.ndisks; i++)
		if (!strcmp(vm->cfg.disk[i].name, u->disk))
			u->by = vm->cfg.name;
}

static void read_one(struct conf_reader *r, struct vm_config *cfg, const char *name)
{
	struct conf_reader dr = { .c = r->c, .table = &disk_conf_table, .name = name, .strict = true };
	struct vm_disk_config *d = &cfg->disk[cfg->ndisks];
	struct uses u = { .disk = name };
	struct disk_conf k = { .readonly = 0 };
	struct why w = { "" };

	if (!strcmp(name, SEED_NAME)) {
		conf_wrong(r, "disk", "%s is the name of the disk that user-data makes: give it another", name);
		return;
	}
	if (!conf_line(r->c, "disk", name, "")) {
		conf_wrong(r, "disk", "there is no section [disk %s]", name);
		return;
	}
	for (unsigned i = 0; i < cfg->ndisks; i++)
		if (!strcmp(cfg->disk[i].name, name))
			u.by = cfg->name;
	if (!u.by)
		vm_for_each(find_user, &u);
	if (u.by) {
		conf_wrong(r, "disk", "disk %s is in use by %s: a disk is of one VM, once", name, u.by);
		return;
	}
	memcpy(d->name, name, strnlen(name, sizeof(d->name) - 1));
	if (!conf_read(&dr, &k)) {
		conf_wrong(r, "disk", "its disk %s is wrong", name);
		return;
	}
	if (make(&k, d, &w)) {
		conf_wrong(r, "disk", "disk %s: %s", name, w.text);
		return;
	}
	cfg->ndisks++;
}

void disk_config_read(struct conf_reader *r, struct vm_config *cfg)
{
	cfg->ndisks = 0;
	for (unsigned i = 0; i < CONF_NICS && cfg->disk_names[i][0] && !r->wrong[0]; i++)
		read_one(r, cfg, cfg->disk_names[i]);
	if (cfg->user_data[0] || cfg->meta_data[0]) /* it has its size when it has been made */
		cfg->disk[cfg->ndisks++] = (struct vm_disk_config){ .name = SEED_NAME,
								    .layer = PAGE_SIZE,
								    .flags = DISK_READONLY | DISK_OWN };
}

/* ---- base images ---- */

static bool has_base(const struct vm_disk_config *d) { return d->file[0] || d->flags & DISK_OWN; }
static bool base_comes(const struct vm_disk_config *d) { return d->flags & (DISK_OWN | DISK_COPY); }

/* The one that d names, with a reference; for one that comes from elsewhere it is the same. */
static struct boot_file *base_of(const struct vm_disk_config *d)
{
	if (d->flags & DISK_OWN)
		return NULL;
	return d->base_digest ? boot_file_same(d->file, d->base_size, d->base_digest) : boot_file_named(d->file);
}

static int no_base(const struct vm_disk_config *d, struct why *w)
{
	return why_set(w, -ENOENT,
		       "disk %s has the base image %s (%lu bytes), and that host has not got the same one on its boot "
		       "volume, where a [disk] section names it; --copy-base sends it along",
		       d->name, d->file, d->base_size);
}

int disk_bases_check(const struct vm_config *cfg, struct why *w)
{
	for (unsigned i = 0; i < cfg->ndisks; i++) {
		const struct vm_disk_config *d = &cfg->disk[i];
		struct boot_file *f = has_base(d) && !base_comes(d) ? base_of(d) : NULL;
		if (has_base(d) && !base_comes(d) && !f)
			return no_base(d, w);
		boot_file_put(f);
	}
	return 0;
}

struct boot_file *disk_get_base(struct vm *vm, unsigned i)
{
	mutex_lock(&vm->lock);
	struct boot_file *f = vm->disk[i] ? vm->disk[i]->layer.base : NULL;
	if (f)
		boot_file_ref(f);
	mutex_unlock(&vm->lock);
	return f;
}

void disk_set_base(struct vm *vm, unsigned i, struct boot_file *f)
{
	mutex_lock(&vm->lock);
	layer_set_base(&vm->disk[i]->layer, f);
	mutex_unlock(&vm->lock);
}

bool disk_bases_pending(struct vm *vm)
{
	for (unsigned i = 0; i < vm->cfg.ndisks; i++)
		if (has_base(&vm->cfg.disk[i]) && !vm->disk[i]->layer.base)
			return true;
	return false;
}

int disk_bases_digest(struct vm *vm, struct vm_config *cfg, bool copy, struct why *w)
{
	for (unsigned i = 0; i < cfg->ndisks; i++) {
		struct vm_disk_config *d = &cfg->disk[i];
		struct boot_file *f = disk_get_base(vm, i);
		if (has_base(d) && !f)
			return why_set(w, -ENOENT, "its disk %s has no base image", d->name);
		d->base_digest = f ? boot_file_digest(f) : 0;
		d->flags = (d->flags & ~DISK_COPY) | (copy && has_base(d) ? DISK_COPY : 0);
		boot_file_put(f);
	}
	return 0;
}

/* ---- disks ---- */

/* The base image of a disk that is made; NULL: it has none, or it comes (a migration that misses it does not end well). */
static int find_base(struct vm *vm, struct vm_disk_config *d, struct boot_file **base, struct why *w)
{
	*base = has_base(d) ? base_of(d) : NULL;
	if (*base || !has_base(d) || (base_comes(d) && d->base_digest))
		return 0;
	if (!(d->flags & DISK_OWN))
		return no_base(d, w);
	int err = seed_make(&vm->cfg, base, w);
	if (!err)
		d->size = d->base_size = (*base)->size;
	return err;
}

static int make_one(struct vm *vm, struct vm_disk_config *d, struct disk **out, struct why *w)
{
	struct vm_reservation r = { 0 };
	struct boot_file *base;
	int err = find_base(vm, d, &base, w);
	if (err)
		return err;
	err = vm_memory_reserve_for("the layer of its disk may take", d->layer >> PAGE_SHIFT, &r, w);
	struct disk *k = err ? NULL : calloc(1, sizeof(*k));
	if (!k) {
		vm_memory_release(&r);
		boot_file_put(base);
		return err ? err : err_trace(-ENOMEM);
	}
	memcpy(k->name, d->name, sizeof(k->name));
	layer_init(&k->layer, k->name, d->size, base, &r.pages);
	k->layer.b.readonly = d->flags & DISK_READONLY;
	memcpy(k->layer.b.serial, k->name, sizeof(k->name));
	*out = k;
	return 0;
}

static void free_one(struct vm *vm, unsigned i)
{
	if (!vm->disk[i])
		return;
	layer_fini(&vm->disk[i]->layer);
	free(vm->disk[i]);
	vm->disk[i] = NULL;
}

int disk_make_all(struct vm *vm, struct why *w)
{
	bool fresh[VM_DISKS_MAX] = { false };
	int err = 0;
	for (unsigned i = 0; i < vm->cfg.ndisks && !err; i++) {
		fresh[i] = !vm->disk[i];
		err = fresh[i] ? make_one(vm, &vm->cfg.disk[i], &vm->disk[i], w) : 0;
	}
	for (unsigned i = 0; i < vm->cfg.ndisks && err; i++)
		if (fresh[i])
			free_one(vm, i);
	__atomic_store_n(&vm->has_disks, vm->disk[0] != NULL, __ATOMIC_RELAXED);
	return err;
}

void disk_free_all(struct vm *vm)
{
	for (unsigned i = 0; i < VM_DISKS_MAX; i++)
		free_one(vm, i);
	__atomic_store_n(&vm->has_disks, false, __ATOMIC_RELAXED);
}

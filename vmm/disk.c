/* SPDX-License-Identifier: BSD-2-Clause */
/* A VM's disks (disk.h). */
#include "vmm/disk.h"
#include "vmm/boot_file.h"
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
	       d->layer <= LAYER_SIZE_MAX && d->readonly <= 1 &&
	       (d->file[0] ? d->base_size && d->base_size <= d->size : !d->base_size && !d->base_digest);
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
	d->readonly = k->readonly;
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

	if (!conf_line(r->c, "disk", name, "")) {
		conf_wrong(r, "disk", "there is no section [disk %s]", name);
		return;
	}
	vm_for_each(find_user, &u); /* in cfg itself no name is there twice: conf_type_names */
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
	for (unsigned i = 0; i < VM_DISKS_MAX && cfg->disk_names[i][0] && !r->wrong[0]; i++)
		read_one(r, cfg, cfg->disk_names[i]);
}

/* ---- base images ---- */

/* The one that d names, with a reference; for one that comes from elsewhere it is the same. */
static struct boot_file *base_of(const struct vm_disk_config *d)
{
	return d->base_digest ? boot_file_same(d->file, d->base_size, d->base_digest) : boot_file_named(d->file);
}

static int no_base(const struct vm_disk_config *d, struct why *w)
{
	return why_set(w, -ENOENT,
		       "disk %s needs its base image %s (%lu bytes), the same one, on that host's boot volume, where a "
		       "[disk] section names it",
		       d->name, d->file, d->base_size);
}

int disk_bases_check(const struct vm_config *cfg, struct why *w)
{
	for (unsigned i = 0; i < cfg->ndisks; i++) {
		struct boot_file *f = cfg->disk[i].file[0] ? base_of(&cfg->disk[i]) : NULL;
		if (cfg->disk[i].file[0] && !f)
			return no_base(&cfg->disk[i], w);
		boot_file_put(f);
	}
	return 0;
}

int disk_bases_digest(struct vm *vm, struct vm_config *cfg, struct why *w)
{
	for (unsigned i = 0; i < cfg->ndisks; i++) {
		mutex_lock(&vm->lock);
		struct boot_file *f =
			vm->disk[i] && vm->disk[i]->layer.base ? boot_file_ref(vm->disk[i]->layer.base) : NULL;
		mutex_unlock(&vm->lock);
		if (cfg->disk[i].file[0] && !f)
			return why_set(w, -ENOENT, "its disk %s has no base image", cfg->disk[i].name);
		cfg->disk[i].base_digest = f ? boot_file_digest(f) : 0;
		boot_file_put(f);
	}
	return 0;
}

/* ---- disks ---- */

static int make_one(const struct vm_disk_config *d, struct disk **out, struct why *w)
{
	struct vm_reservation r = { 0 };
	struct boot_file *base = d->file[0] ? base_of(d) : NULL;
	if (d->file[0] && !base)
		return no_base(d, w);
	int err = vm_memory_reserve_for("the layer of its disk may take", d->layer >> PAGE_SHIFT, &r, w);
	struct disk *k = err ? NULL : calloc(1, sizeof(*k));
	if (!k) {
		vm_memory_release(&r);
		boot_file_put(base);
		return err ? err : err_trace(-ENOMEM);
	}
	memcpy(k->name, d->name, sizeof(k->name));
	layer_init(&k->layer, k->name, d->size, base, &r.pages);
	k->layer.b.readonly = d->readonly;
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
		err = fresh[i] ? make_one(&vm->cfg.disk[i], &vm->disk[i], w) : 0;
	}
	for (unsigned i = 0; i < vm->cfg.ndisks && err; i++)
		if (fresh[i])
			free_one(vm, i);
	return err;
}

void disk_free_all(struct vm *vm)
{
	for (unsigned i = 0; i < VM_DISKS_MAX; i++)
		free_one(vm, i);
}

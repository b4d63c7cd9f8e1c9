/* SPDX-License-Identifier: BSD-2-Clause */
/* The keys of [disk NAME] in tern.conf, and what disks a [vm] has by them (disk.h). */
#include "vmm/disk.h"
#include "kernel/base/wipe.h"
#include "vmm/boot_file.h"
#include "vmm/disk_unit.h"
#include "vmm/seed.h"
#include <string.h>

#define LAYER_DEFAULT GIB(1) /* of a disk that is not smaller */
#define LAYER_MIN     MIB(1)
#define SECRET_MIN    12 /* 96 bits: RFC 7143 9.2.1 */

struct disk_conf {
	char file[VM_FILE_MAX];
	uint64_t memory, size, layer;
	uint32_t readonly;
	char iscsi[ISCSI_NAME_MAX + 80], user[ISCSI_USER_MAX], secret[ISCSI_SECRET_MAX];
	uint32_t digests;
};
/* CHAP's, in clear: a word. */
static int secret_parse(const struct conf_key *k, const char *s, void *field, struct why *w)
{
	size_t n = strlen(s);
	if (n < SECRET_MIN || n >= k->size)
		return why_set(w, -EINVAL, "a secret has %d to %zu characters", SECRET_MIN, (size_t)k->size - 1);
	memcpy(field, s, n + 1);
	return 0;
}
static const struct conf_type secret_type = { .parse = secret_parse, .secret = true };
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
	{ "iscsi", &conf_type_str, FIELD(iscsi), .def = "",
	  .help = "TARGET at ADDRESS[:PORT] lun N: a unit of an iSCSI target, in place of a file" },
	{ "user", &conf_type_str, FIELD(user), .def = "", .help = "by which the target knows this host (CHAP)" },
	{ "secret", &secret_type, FIELD(secret), .def = "", .help = "the user's, 12 to 63 characters" },
	{ "digests", &conf_type_choice, FIELD(digests), .def = "both",
	  .help = "CRC-32C over what goes to the target and comes from it, if it can: both, header or none",
	  .words = (const char *const[]){ "both", "header", "none", NULL } },
};
CONF_TABLE(disk_conf_table, "disk", keys);

/* ---- tern.conf ---- */

bool disk_config_is_sane(const struct vm_disk_config *d)
{
	if (d->flags & DISK_UNIT)
		return conf_is_word(d->name, strlen(d->name)) && d->flags == DISK_UNIT && d->size % SECTOR == 0 &&
		       d->size <= LUN_BYTES_MAX && !d->layer && !d->base_size && !d->base_digest;
	return conf_is_word(d->name, strlen(d->name)) && d->size && d->size % SECTOR == 0 &&
	       d->size <= LAYER_SIZE_MAX && d->layer >= PAGE_SIZE && d->layer % PAGE_SIZE == 0 &&
	       d->layer <= LAYER_SIZE_MAX && !(d->flags & ~DISK_FLAGS) && d->base_size <= d->size &&
	       (d->base_size != 0) == (d->file[0] || d->flags & DISK_OWN) && (d->base_size || !d->base_digest);
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

static int make_unit(const struct disk_conf *k, const char *name, struct vm_disk_config *d, struct why *w)
{
	struct lun_config c = { .digests = k->digests };
	if (!TERN_FAILPOINTS) /* doc/disks.md: until all that belongs to it is there */
		return why_set(w, -ENOTSUP, "disks on iSCSI units are still being built: not in this image");
	if (k->file[0] || k->memory || k->size || k->layer || k->readonly)
		return why_set(w, -EINVAL, "file, memory, size, layer and readonly are not for a disk with iscsi");
	if (!k->user[0] != !k->secret[0])
		return why_set(w, -EINVAL, "user and secret go together");
	if (disk_unit_parse(k->iscsi, &c))
		return why_set(w, -EINVAL, "iscsi is \"TARGET at ADDRESS[:PORT] lun N\"");
	memcpy(c.user, k->user, sizeof(c.user));
	memcpy(c.secret, k->secret, sizeof(c.secret));
	int err = disk_unit_add(name, &c, w);
	wipe(&c, sizeof(c));
	d->flags = DISK_UNIT;
	return err;
}

static int make(const struct disk_conf *k, const char *name, struct vm_disk_config *d, struct why *w)
{
	if (k->iscsi[0])
		return make_unit(k, name, d, w);
	if (k->user[0] || k->secret[0])
		return why_set(w, -EINVAL, "user and secret are for a disk with iscsi");
	if (!k->file[0] == !k->memory)
		return why_set(w, -EINVAL, "it wants either file, memory or iscsi");
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
	const char *name, *by; /* of a disk; of a VM, NULL if none has it */
};

static void find_user(struct vm *vm, void *arg)
{
	struct uses *u = arg;
	for (unsigned i = 0; i < vm->cfg.ndisks; i++)
		if (!strcmp(vm->cfg.disk[i].name, u->name))
			u->by = vm->cfg.name;
}

static void read_one(struct conf_reader *r, struct vm_config *cfg, const char *name)
{
	struct conf_reader dr = { .c = r->c, .table = &disk_conf_table, .name = name, .strict = true };
	struct vm_disk_config *d = &cfg->disk[cfg->ndisks];
	struct uses u = { .name = name };
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
	int err = make(&k, name, d, &w);
	wipe(&k, sizeof(k));
	if (err) {
		conf_wrong(r, "disk", "disk %s: %s", name, w.text);
		return;
	}
	cfg->ndisks++;
}

static void find_name(struct vm *vm, void *arg)
{
	struct uses *u = arg;
	for (unsigned i = 0; i < CONF_NICS; i++)
		if (!strcmp(vm->cfg.disk_names[i], u->name))
			u->by = vm->cfg.name;
}

/* Of what no VM names: its image may be for those that come. */
void disk_config_rest(struct conf *c)
{
	const char *name;
	for (unsigned i = 0; (name = conf_section(c, "disk", i)); i++) {
		struct conf_reader r = { .c = c, .table = &disk_conf_table, .name = name, .strict = true };
		struct uses u = { .name = name };
		struct vm_disk_config d = { 0 };
		struct disk_conf k = { .readonly = 0 };
		struct why w = { "" };
		vm_for_each(find_name, &u);
		if (!u.by && conf_read(&r, &k) && make(&k, name, &d, &w))
			conf_problem(c, conf_line(c, "disk", name, ""), "[disk %s]: %s", name, w.text);
	}
}

/* Has it a disk for cloud-init? */
static bool seed_wanted(const struct vm_config *cfg)
{
	for (unsigned i = 0; i < SEED_FILES; i++)
		if (cfg->seed[i][0])
			return true;
	return false;
}

void disk_config_read(struct conf_reader *r, struct vm_config *cfg)
{
	cfg->ndisks = 0;
	for (unsigned i = 0; i < CONF_NICS && cfg->disk_names[i][0] && !r->wrong[0]; i++)
		read_one(r, cfg, cfg->disk_names[i]);
	if (seed_wanted(cfg)) /* it has its size when it has been made */
		cfg->disk[cfg->ndisks++] = (struct vm_disk_config){ .name = SEED_NAME,
								    .layer = PAGE_SIZE,
								    .flags = DISK_READONLY | DISK_OWN };
}

/* SPDX-License-Identifier: BSD-2-Clause */
/* `disk`: VMs' disks, and what their layers hold. */
#include "kernel/conf.h"
#include "kernel/console.h"
#include "kernel/log.h"
#include "vmm/disk.h"
#include "vmm/disk_unit.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct row { /* a snapshot, so that nothing is printed under a lock */
	char vm[VM_NAME_MAX], name[CONF_NAME_MAX];
	struct vm_disk_config cfg;
	uint64_t used; /* bytes of the layer */
	bool made;     /* it has one */
	bool on_unit;  /* and is on a unit of shared storage: */
	struct lun_status unit;
	struct blockdev_stats stats;
};
struct vms {            /* with a reference each */
	struct vm **vm; /* NULL: count only */
	unsigned n, max;
};

static void collect(struct vm *vm, void *arg) /* the table's lock is held */
{
	struct vms *v = arg;
	if (v->vm && v->n == v->max)
		return;
	if (v->vm) {
		vm->refs++;
		v->vm[v->n] = vm;
	}
	v->n++;
}

static uint64_t now(const uint64_t *v) { return __atomic_load_n(v, __ATOMIC_RELAXED); }

static void fill(struct row *r, struct vm *vm, unsigned i)
{
	memset(r, 0, sizeof(*r));
	memcpy(r->vm, vm->cfg.name, sizeof(r->vm));
	memcpy(r->name, vm->cfg.disk[i].name, sizeof(r->name));
	mutex_lock(&vm->lock);
	r->cfg = disk_config_now(vm, i);
	struct disk *d = vm->disk[i];
	r->made = d;
	if (d && !d->unit)
		r->used = now(&d->layer.used) << PAGE_SHIFT;
	r->on_unit = d && d->unit;
	if (r->on_unit)
		lun_get_status(d->unit, &r->unit);
	if (d) {
		const struct blockdev_stats *s = &disk_blockdev(d)->stats;
		r->stats = (struct blockdev_stats){ .reads = now(&s->reads),
						    .writes = now(&s->writes),
						    .flushes = now(&s->flushes),
						    .zeroes = now(&s->zeroes),
						    .errors = now(&s->errors),
						    .read_bytes = now(&s->read_bytes),
						    .written_bytes = now(&s->written_bytes),
						    .busy_ns = now(&s->busy_ns),
						    .longest_ns = now(&s->longest_ns) };
	}
	mutex_unlock(&vm->lock);
}

/* A row of each disk for fn, until it returns false. -ENOMEM, or 0. */
static int each(bool (*fn)(void *arg, const struct row *r), void *arg)
{
	struct vms v = { 0 };
	bool more = true;
	vm_for_each(collect, &v);
	v.max = v.n;
	v.n = 0;
	v.vm = calloc(v.max + 1, sizeof(struct vm *));
	struct row *r = malloc(sizeof(*r));
	if (v.vm && r)
		vm_for_each(collect, &v);
	for (unsigned i = 0; i < v.n; i++) {
		for (unsigned k = 0; more && k < v.vm[i]->cfg.ndisks; k++) {
			fill(r, v.vm[i], k);
			more = fn(arg, r);
		}
		vm_put(v.vm[i]);
	}
	int err = v.vm && r ? 0 : -ENOMEM;
	free(v.vm);
	free(r);
	return err;
}

static const char *kind(const struct vm_disk_config *d)
{
	return d->flags & DISK_UNIT ? "iscsi" : d->file[0] ? d->file : d->flags & DISK_OWN ? "cloud-init" : "memory";
}

/* Where the data is, of both commands. */
static void show_facts(struct con *c, const struct row *r)
{
	const struct blockdev_stats *s = &r->stats;
	uint64_t n = s->reads + s->writes + s->flushes + s->zeroes;
	out_str(c, "name|disk", r->name);
	out_str(c, "vm", r->vm);
	out_str(c, "base", kind(&r->cfg));
	out_bytes(c, "size_bytes", r->cfg.size);
	out_bytes(c, "layer_bytes|layer", r->used);
	out_bytes(c, "layer_max_bytes|of", r->cfg.layer);
	out_us(c, "latency_us|latency", n ? s->busy_ns / n : 0);
	out_u64(c, "errors", s->errors);
}

static bool list_row(void *arg, const struct row *r)
{
	struct con *c = arg;
	out_row(c);
	show_facts(c, r);
	out_row_end(c);
	return true;
}

static int cmd_list(struct con *c, int argc unused, char **argv unused)
{
	out_table(c, "disks",
		  "-12 name|disk, -12 vm, -16 base, 9 size_bytes|size, 9 layer_bytes|layer, 9 layer_max_bytes|of, "
		  "6 errors",
		  "no disks: no VM has one (`disk` of a [vm], and a [disk NAME])");
	int err = each(list_row, c);
	out_table_end(c);
	return err ? con_error(c, err, "disk list: out of memory") : 0;
}

struct find {
	const char *name; /* DISK or VM/DISK */
	struct row row;
	unsigned n;
};

static bool find_row(void *arg, const struct row *r)
{
	struct find *f = arg;
	char whole[VM_NAME_MAX + CONF_NAME_MAX];
	snprintf(whole, sizeof(whole), "%s/%s", r->vm, r->name);
	if (strcmp(f->name, whole) && strcmp(f->name, r->name))
		return true;
	f->row = *r;
	f->n++;
	return true;
}

/* The one disk that argv[1] names, for the verb argv[0]; free it. NULL: *err has been said. */
static struct find *find_one(struct con *c, char **argv, int *err)
{
	struct find *f = calloc(1, sizeof(*f));
	if (f)
		f->name = argv[1];
	*err = f ? each(find_row, f) : -ENOMEM;
	if (*err)
		con_error(c, *err, "disk %s: out of memory", argv[0]);
	else if (!f->n)
		*err = con_error(c, -ENOENT, "disk %s: no VM here has a disk %s. `disk list` shows them", argv[0],
				 argv[1]);
	else if (f->n > 1)
		*err = con_error(c, -EINVAL, "disk %s: %u VMs have a disk %s: write VM/%s", argv[0], f->n, argv[1],
				 argv[1]);
	if (!*err)
		return f;
	free(f);
	return NULL;
}

static void show_unit(struct con *c, const struct row *r)
{
	const struct lun_config *u = disk_unit_find(r->name);
	const struct lun_status *s = &r->unit;
	const struct iscsi_stats *st = &s->session;
	if (u)
		out_line(c, "target", "%s at %s lun %u", u->target, ip_port_text(u->ip, u->port).s, u->lun);
	if (!r->on_unit)
		return;
	out_line(c, "unit", "%s, %s", s->product, s->id[0] ? s->id : "without a name of its own");
	out_str(c, "owner",
		s->state == LUN_OURS     ? "this host"
		: s->state == LUN_LOST   ? "another host, which took it"
		: s->state == LUN_PASSED ? "this host, or where its VM goes"
					 : "none known");
	out_str(c, "session", s->away_ns ? "away" : "open");
	if (s->away_ns)
		out_us(c, "away_us|away for", s->away_ns);
	if (s->away_ns && s->why.text[0])
		out_str(c, "reason", s->why.text);
	out_str(c, "digests",
		st->header_digest && st->data_digest ? "header, data"
		: st->header_digest                  ? "header"
		: st->data_digest                    ? "data"
						     : "none");
	out_u64(c, "sessions|sessions so far", s->sessions);
	out_u64(c, "busy|requests at the target", s->busy);
	out_u64(c, "waiting|requests that wait", s->waiting);
}

static int cmd_info(struct con *c, int argc unused, char **argv)
{
	int err;
	struct find *f = find_one(c, argv, &err);
	if (!f)
		return err;
	const struct blockdev_stats *s = &f->row.stats;
	show_facts(c, &f->row);
	out_bool(c, "readonly", f->row.cfg.flags & DISK_READONLY);
	bool unit = f->row.cfg.flags & DISK_UNIT;
	out_line(c, "state", "%s",
		 unit && f->row.made ? "on shared storage"
		 : unit              ? "on shared storage; its VM does not run here"
		 : f->row.made       ? "in this host's memory"
				     : "none yet: its VM has not been started here");
	if (unit)
		show_unit(c, &f->row);
	out_us(c, "longest_us|longest", s->longest_ns);
	out_u64(c, "reads", s->reads);
	out_bytes(c, "read_bytes|read", s->read_bytes);
	out_u64(c, "writes", s->writes);
	out_bytes(c, "written_bytes|written", s->written_bytes);
	out_u64(c, "flushes", s->flushes);
	out_u64(c, "zeroes|discards", s->zeroes);
	free(f);
	return 0;
}

/* The row's disk, if its VM is still there with it. */
static int resize(const struct row *r, uint64_t size, uint64_t layer, struct why *w)
{
	struct vm *vm = vm_get(r->vm);
	unsigned i = 0;
	while (vm && i < vm->cfg.ndisks && strcmp(vm->cfg.disk[i].name, r->name) != 0)
		i++;
	int err = vm && i < vm->cfg.ndisks ? disk_resize(vm, i, size, layer, w)
					   : why_set(w, -ENOENT, "its VM has just gone");
	if (vm)
		vm_put(vm);
	return err;
}

static int cmd_resize(struct con *c, int argc unused, char **argv)
{
	uint64_t size, more = 0;
	const char *layer = con_opt(c, "--layer");
	struct why w = { "" };
	int err;
	const char *wrong = conf_parse_size(argv[2], &size) ? argv[2] : NULL;
	if (!wrong && layer && (conf_parse_size(layer, &more) || !more))
		wrong = layer;
	if (wrong)
		return con_error(c, -EINVAL, "disk resize: %s is no size: give bytes, or 512M or 8G", wrong);
	struct find *f = find_one(c, argv, &err);
	if (!f)
		return err;
	err = resize(&f->row, size, more, &w);
	if (err)
		err = con_error(c, err, "disk resize %s: %s", argv[1], w.text);
	else
		log_info("vm %s: its disk %s has %lu MiB now", f->row.vm, f->row.name, size >> 20);
	free(f);
	return err;
}

static int cmd_save(struct con *c, int argc unused, char **argv)
{
	return con_error(
		c, -ENOTSUP,
		"disk save %s: tern has no driver for the volume that it booted from, nor for any other: a layer "
		"cannot be written back. Copy it out from within the guest",
		argv[1]);
}

struct add_ctx {
	void (*add)(void *arg, const char *word);
	void *arg;
};

static void add_names(struct vm *vm, void *arg)
{
	const struct add_ctx *x = arg;
	for (unsigned i = 0; i < vm->cfg.ndisks; i++)
		x->add(x->arg, vm->cfg.disk[i].name);
}

static void words(const char *what unused, void (*add)(void *arg, const char *word), void *arg)
{
	vm_for_each(add_names, &(struct add_ctx){ add, arg });
}

static const struct con_sub subs[] = {
	{ "list", "", "disks of the VMs that are here, and how much of their layers is used", cmd_list, NULL, false },
	{ "save", "NAME", "write its layer back to its image: not possible yet", cmd_save, words, false },
	{ "resize", "NAME SIZE [--layer SIZE]",
	  "make it larger while its guest runs; --layer: and what its layer may take, which it may be alone",
	  cmd_resize, words, false },
	{ "info", "NAME", "one of them: where it is, latency, throughput, errors", cmd_info, words, false },
};
CONSOLE_CMDS(disk, "disks of virtual machines", "disk info root", subs);

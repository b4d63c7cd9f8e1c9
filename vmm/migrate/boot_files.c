/* SPDX-License-Identifier: BSD-2-Clause */
/* Files that travel (boot_files.h). */
#include "vmm/migrate/boot_files.h"
#include "kernel/time.h"
#include "vmm/boot_file.h"
#include "vmm/disk.h"
#include <stdlib.h>

_Static_assert(VM_FILES == WIRE_FILES_MIN && FILES_MAX == WIRE_FILES_MAX && BOOT_FILE_BLOCK == WIRE_FILE_MAX,
	       "a block fits a record");

static uint64_t in(uint64_t ns) { return time_ns() + ns; }
static unsigned files_of(const struct vm *vm) { return VM_FILES + vm->cfg.ndisks; }

/* With a reference; NULL: it has none. */
static struct boot_file *get_file(struct vm *vm, unsigned i)
{
	return i < VM_FILES ? vm_get_file(vm, (enum vm_file_use)i) : disk_get_base(vm, i - VM_FILES);
}

static uint64_t blocks_of(const struct boot_file *f)
{
	uint64_t n = 0;
	for (uint64_t i = 0; i < boot_file_blocks(f); i++)
		n += !boot_file_is_hole(f, i);
	return n;
}

/* ---- source ---- */

struct ahead {
	struct migration *m;
	struct why *w;
};

static int look(void *arg)
{
	const struct ahead *a = arg;
	return migration_given_up(a->m, a->w);
}

int boot_files_digest(struct migration *m, struct why *w)
{
	int err = 0;
	for (unsigned i = 0; i < files_of(m->vm) && !err; i++) {
		struct boot_file *f = get_file(m->vm, i);
		err = f ? boot_file_digest_ahead(f, look, &(struct ahead){ m, w }) : 0;
		boot_file_put(f);
	}
	return err;
}

/* Without its holes, but for one at the end: the last block says that all of it has come. */
static int send_file(struct source *c, uint32_t use, const struct boot_file *f)
{
	uint64_t last = boot_file_blocks(f) - 1;
	int err = 0;
	for (uint64_t i = 0; i <= last && !err; i++) {
		if (boot_file_is_hole(f, i) && i < last)
			continue;
		uint64_t off = i * BOOT_FILE_BLOCK, end = MIN(off + BOOT_FILE_BLOCK, f->size);
		wire_begin(&c->tx, WIRE_FILE);
		wire_put_u32(&c->tx, use);
		wire_put_u64(&c->tx, off);
		for (size_t n; off < end; off += n) {
			const uint8_t *p = boot_file_at(f, off, &n);
			wire_put_bytes(&c->tx, p, n);
		}
		err = wire_end(&c->tx, in(MIG_IDLE_NS));
		if (!err)
			err = precopy_look(c);
	}
	return err;
}

static int tell(struct source *c, struct boot_file *f[FILES_MAX], uint32_t *want)
{
	unsigned n = files_of(c->vm);
	struct inbox_msg msg;
	uint32_t have = 0;

	wire_begin(&c->tx, WIRE_FILES);
	for (unsigned i = 0; i < n; i++) {
		wire_put_str(&c->tx,
			     i < VM_FILES ? vm_file_name(c->vm, (enum vm_file_use)i)
					  : c->vm->cfg.disk[i - VM_FILES].file,
			     WIRE_FILE_NAME);
		wire_put_u64(&c->tx, f[i] ? f[i]->size : 0);
		wire_put_u64(&c->tx, f[i] ? boot_file_digest(f[i]) : 0); /* boot_files_digest has it */
		wire_put_u64(&c->tx, f[i] ? blocks_of(f[i]) : 0);
		have |= f[i] ? 1U << i : 0;
	}
	int err = wire_end(&c->tx, in(MIG_IDLE_NS));
	if (!err)
		err = inbox_wait(&c->in, WIRE_WANT, 0, in(MIG_SETUP_NS), &msg, c->w);
	if (err)
		return err == -ETIMEDOUT ? why_set(c->w, err, "the destination does not say what it lacks") : err;
	*want = msg.num;
	return msg.num & ~have ? why_set(c->w, -EPROTO, "the destination wants files that the VM does not have") : 0;
}

int boot_files_send(struct source *c)
{
	struct boot_file *f[FILES_MAX];
	uint32_t want = 0;
	unsigned n = files_of(c->vm);
	for (unsigned i = 0; i < n; i++)
		f[i] = get_file(c->vm, i);
	int err = tell(c, f, &want);
	for (unsigned i = 0; i < n; i++) {
		if (!err && want & 1U << i)
			err = send_file(c, i, f[i]);
		boot_file_put(f[i]);
	}
	return err;
}

/* ---- destination ---- */

bool boot_files_pending(const struct boot_files_rx *r)
{
	for (unsigned i = 0; i < FILES_MAX; i++)
		if (r->file[i])
			return true;
	return false;
}

void boot_files_rx_fini(struct boot_files_rx *r)
{
	for (unsigned i = 0; i < FILES_MAX; i++) {
		boot_file_put(r->file[i]);
		r->file[i] = NULL;
	}
}

static int bad_order(const struct wire_rx *rx, struct why *w)
{
	return why_set(w, -EPROTO, "the source sent %s at the wrong time", wire_type_name(rx->type));
}

struct told { /* of a file */
	char name[WIRE_FILE_NAME];
	uint64_t size, digest, blocks;
};

/* What is here already the VM has from here; else there is room for it, and it is wanted. */
static int take_boot_file(struct boot_files_rx *r, struct vm *vm, unsigned i, const struct told *t, struct why *w)
{
	struct boot_file *f = t->size ? boot_file_same(t->name, t->size, t->digest) : NULL;
	if (f)
		vm_set_file(vm, (enum vm_file_use)i, f);
	return f || !t->size ? 0 : boot_file_new_sparse(t->size, t->blocks, &r->file[i], w);
}

static int take_base(struct boot_files_rx *r, struct vm *vm, unsigned i, const struct told *t, struct why *w)
{
	const struct vm_disk_config *d = &vm->cfg.disk[i - VM_FILES];
	struct boot_file *here = disk_get_base(vm, i - VM_FILES);
	boot_file_put(here); /* the disk has it */
	if (t->size != d->base_size || t->digest != d->base_digest)
		return why_set(w, -EPROTO, "the source says two things of the base image of disk %s", d->name);
	return here || !t->size ? 0 : boot_file_new_sparse(t->size, t->blocks, &r->file[i], w);
}

static int recv_told(struct boot_files_rx *r, struct vm *vm, struct wire_tx *tx, struct wire_rx *rx, struct why *w)
{
	struct told *t = calloc(FILES_MAX, sizeof(*t));
	uint64_t sum = 0;
	uint32_t want = 0;
	int err = t ? 0 : -ENOMEM;
	for (unsigned i = 0; i < files_of(vm) && !err; i++) {
		wire_get_str(rx, t[i].name, sizeof(t[i].name));
		t[i].size = wire_get_u64(rx);
		r->digest[i] = t[i].digest = wire_get_u64(rx);
		t[i].blocks = wire_get_u64(rx);
		if (i < VM_FILES && (t[i].size > vm->cfg.mem || (sum += t[i].size) > vm->cfg.mem))
			err = why_set(w, -EPROTO, "its boot files are larger than its memory");
		else if (t[i].blocks > (t[i].size + BOOT_FILE_BLOCK - 1) / BOOT_FILE_BLOCK)
			err = why_set(w, -EPROTO, "its files have more blocks than they are long");
	}
	if (!err && (!wire_get_end(rx) || r->told))
		err = bad_order(rx, w);
	r->told = true;
	for (unsigned i = 0; i < files_of(vm) && !err; i++) {
		err = (i < VM_FILES ? take_boot_file : take_base)(r, vm, i, &t[i], w);
		want |= r->file[i] ? 1U << i : 0;
	}
	free(t);
	if (err)
		return err;
	wire_begin(tx, WIRE_WANT);
	wire_put_u32(tx, want);
	return wire_end(tx, in(MIG_IDLE_NS));
}

static int recv_data(struct boot_files_rx *r, struct vm *vm, struct wire_rx *rx, struct why *w)
{
	uint32_t use = wire_get_u32(rx);
	uint64_t off = wire_get_u64(rx);
	size_t n = rx->bad ? 0 : rx->len - rx->pos;
	const uint8_t *p = wire_get_bytes(rx, n);
	struct boot_file *f = use < FILES_MAX ? r->file[use] : NULL;

	if (!p || !wire_get_end(rx) || !f || off < r->got[use] || off >= f->size || off % BOOT_FILE_BLOCK ||
	    n != MIN(BOOT_FILE_BLOCK, f->size - off))
		return bad_order(rx, w);
	int err = boot_file_set_block(f, off / BOOT_FILE_BLOCK, p, n);
	if (err)
		return why_set(w, err == -ENOSPC ? -EPROTO : err, "no room for a file of %lu KiB that comes with it",
			       (f->size + 1023) >> 10);
	r->got[use] = off + n;
	if (r->got[use] < f->size)
		return 0;
	boot_file_complete(f);
	if (boot_file_digest(f) != r->digest[use])
		return why_set(w, -EBADMSG, "a file is not what the source said that it is");
	r->file[use] = NULL;
	if (use < VM_FILES)
		vm_set_file(vm, (enum vm_file_use)use, f);
	else
		disk_set_base(vm, use - VM_FILES, f);
	log_info("%s brought a file of %lu KiB", vm->cfg.name, (f->size + 1023) >> 10);
	return 0;
}

int boot_files_recv(struct boot_files_rx *r, struct vm *vm, struct wire_tx *tx, struct wire_rx *rx, struct why *w)
{
	return rx->type == WIRE_FILES ? recv_told(r, vm, tx, rx, w) : recv_data(r, vm, rx, w);
}

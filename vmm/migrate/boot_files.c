/* SPDX-License-Identifier: BSD-2-Clause */
/* Boot files that travel (boot_files.h). */
#include "vmm/migrate/boot_files.h"
#include "kernel/time.h"
#include "vmm/boot_file.h"

_Static_assert(VM_FILES == WIRE_FILES_N && BOOT_FILE_BLOCK == WIRE_FILE_MAX, "a block fits a record");

static uint64_t in(uint64_t ns) { return time_ns() + ns; }

/* ---- source ---- */

static int send_file(struct source *c, uint32_t use, const struct boot_file *f)
{
	int err = 0;
	size_t n;
	for (uint64_t off = 0; off < f->size && !err; off += n) {
		const uint8_t *p = boot_file_at(f, off, &n);
		wire_begin(&c->tx, WIRE_FILE);
		wire_put_u32(&c->tx, use);
		wire_put_u64(&c->tx, off);
		wire_put_bytes(&c->tx, p, n);
		err = wire_end(&c->tx, in(MIG_IDLE_NS));
		if (!err)
			err = precopy_look(c);
	}
	return err;
}

static int tell(struct source *c, struct boot_file *f[VM_FILES], uint32_t *want)
{
	uint64_t digest[VM_FILES] = { 0 };
	struct inbox_msg msg;
	uint32_t have = 0;

	for (unsigned i = 0; i < VM_FILES; i++) { /* before the record: it takes as long as it takes */
		digest[i] = f[i] ? boot_file_digest(f[i]) : 0;
		have |= f[i] ? 1U << i : 0;
	}
	wire_begin(&c->tx, WIRE_FILES);
	for (unsigned i = 0; i < VM_FILES; i++) {
		wire_put_str(&c->tx, vm_file_name(c->vm, (enum vm_file_use)i), WIRE_FILE_NAME);
		wire_put_u64(&c->tx, f[i] ? f[i]->size : 0);
		wire_put_u64(&c->tx, digest[i]);
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
	struct boot_file *f[VM_FILES];
	uint32_t want = 0;
	for (unsigned i = 0; i < VM_FILES; i++)
		f[i] = vm_get_file(c->vm, (enum vm_file_use)i);
	int err = tell(c, f, &want);
	for (unsigned i = 0; i < VM_FILES; i++) {
		if (!err && want & 1U << i)
			err = send_file(c, i, f[i]);
		boot_file_put(f[i]);
	}
	return err;
}

/* ---- destination ---- */

bool boot_files_pending(const struct boot_files_rx *r)
{
	for (unsigned i = 0; i < VM_FILES; i++)
		if (r->file[i])
			return true;
	return false;
}

void boot_files_rx_fini(struct boot_files_rx *r)
{
	for (unsigned i = 0; i < VM_FILES; i++) {
		boot_file_put(r->file[i]);
		r->file[i] = NULL;
	}
}

static int bad_order(const struct wire_rx *rx, struct why *w)
{
	return why_set(w, -EPROTO, "the source sent %s at the wrong time", wire_type_name(rx->type));
}

/* What is here already the VM has from here; the rest is wanted, and there is room for it. */
static int recv_told(struct boot_files_rx *r, struct vm *vm, struct wire_tx *tx, struct wire_rx *rx, struct why *w)
{
	uint64_t size[VM_FILES], sum = 0;
	char name[VM_FILES][WIRE_FILE_NAME];
	uint32_t want = 0;
	for (unsigned i = 0; i < VM_FILES; i++) {
		wire_get_str(rx, name[i], sizeof(name[i]));
		size[i] = wire_get_u64(rx);
		r->digest[i] = wire_get_u64(rx);
		if (size[i] > vm->cfg.mem || (sum += size[i]) > vm->cfg.mem)
			return why_set(w, -EPROTO, "its boot files are larger than its memory");
	}
	if (!wire_get_end(rx) || r->told)
		return bad_order(rx, w);
	r->told = true;
	for (unsigned i = 0; i < VM_FILES; i++) {
		struct boot_file *f = size[i] ? boot_file_same(name[i], size[i], r->digest[i]) : NULL;
		if (f) {
			vm_set_file(vm, (enum vm_file_use)i, f);
		} else if (size[i]) {
			int err = boot_file_new(size[i], &r->file[i], w);
			if (err)
				return err;
			want |= 1U << i;
		}
	}
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
	struct boot_file *f = use < VM_FILES ? r->file[use] : NULL;

	if (!p || !wire_get_end(rx) || !f || off != r->got[use] || n > f->size - off)
		return bad_order(rx, w);
	boot_file_write(f, off, p, n);
	r->got[use] += n;
	if (r->got[use] < f->size)
		return 0;
	if (boot_file_digest(f) != r->digest[use])
		return why_set(w, -EBADMSG, "a boot file is not what the source said that it is");
	r->file[use] = NULL;
	vm_set_file(vm, (enum vm_file_use)use, f);
	log_info("%s brought a boot file of %lu KiB", vm->cfg.name, (f->size + 1023) >> 10);
	return 0;
}

int boot_files_recv(struct boot_files_rx *r, struct vm *vm, struct wire_tx *tx, struct wire_rx *rx, struct why *w)
{
	return rx->type == WIRE_FILES ? recv_told(r, vm, tx, rx, w) : recv_data(r, vm, rx, w);
}

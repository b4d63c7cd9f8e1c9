/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What a destination may answer to a source that verifies, or, if bit 1 of the input's first byte is set, to one in
 * post-copy. The former: it takes the VM as a good one does, up to the first VERIFY
 * record or, if the first byte of the input is odd, up to END; then come the input's records { type u8, length u16,
 * fields }, zeros behind the input's end: bit 7 of a type puts the attempt's id in front. READY is left out, for a
 * source that has sent COMMIT asks for as long as it takes. Whatever comes: no crash, no sanitizer, and the VM runs on
 * where it was.
 *
 * In post-copy it takes the VM and says STARTED; then come as many of the records as the second byte says, and the rest
 * on the connection that the source makes next, behind its REJOIN. After that none can be made, and the operator
 * forgets the VM. Whatever comes: it never runs here again, and no frame goes twice by one connection, unless it is
 * asked for AGAIN; with bit 2 of the first byte the source verifies, and each goes behind its digest.
 *
 * With bit 2, and not bit 1: to a source whose passes are pulled; the records come when pass 1 has sent its map.
 */
#define CONNECTS_ITSELF
#include "kernel/time.h"
#include "net/trust.h"
#include "tests/fuzz/no_network.h"
#include "tests/fuzz/input.h"
#include "tests/unit/fake_hosts.h"
#include "tests/unit/fake_kernel.h"
#include "vmm/boot_file.h"
#include "vmm/disk.h"
#include "vmm/migrate/attempts.h"
#include "vmm/migrate/migrate.h"
#include "vmm/migrate/migration.h"
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

/* The destination's output; the source reads it in a thread of its own. */
struct dest {
	struct stream s; /* the source's end */
	pthread_mutex_t lock;
	pthread_cond_t more;
	struct stream to; /* what tx writes to */
	struct wire_tx tx;
	uint8_t *p;
	size_t len, at, cap;
	bool ended, final, at_end;
	bool postcopy, serves; /* STARTED is out */
	bool pulled;
	unsigned records;      /* of the input */
	bool sent[512];        /* frames, since then */
	unsigned again[512];   /* how often it may be sent once more */
	bool verifies, summed; /* the source; SUMS was its last word */
	struct input in;
	struct attempt_id id;
	struct dest *next; /* its next connection; NULL: there is none, or no post-copy */
};
static struct dest *first; /* of the attempt */
static struct vm *vm;

static int far_read(struct stream *s, void *buf, size_t max, uint64_t deadline unused)
{
	struct dest *d = CONTAINER_OF(s, struct dest, s);
	pthread_mutex_lock(&d->lock);
	while (d->at == d->len && !d->ended)
		pthread_cond_wait(&d->more, &d->lock);
	size_t n = MIN(max, d->len - d->at);
	if (n)
		memcpy(buf, d->p + d->at, n);
	d->at += n;
	pthread_mutex_unlock(&d->lock);
	return (int)n;
}

static int to_write(struct stream *s, const struct iov *iov, unsigned n, uint64_t deadline unused)
{
	struct dest *d = CONTAINER_OF(s, struct dest, to);
	for (unsigned i = 0; i < n; i++) {
		if (d->len + iov[i].len > d->cap)
			d->p = realloc(d->p, d->cap = (d->len + iov[i].len) * 2);
		memcpy(d->p + d->len, iov[i].base, iov[i].len);
		d->len += iov[i].len;
	}
	return 0;
}

static void far_end(struct stream *s)
{
	struct dest *d = CONTAINER_OF(s, struct dest, s);
	pthread_mutex_lock(&d->lock);
	bool ends = !d->ended || d->serves;
	d->ended = true;
	pthread_cond_broadcast(&d->more);
	pthread_mutex_unlock(&d->lock);
	if (ends && d->postcopy && !first->next) /* it may know already that the VM is lost */
		(void)migrate_forget("fuzz", true, &(struct why){ "" });
	else if (ends && d->serves && vm->migration)
		completion_done(&vm->migration->news); /* it need not wait before it connects anew */
}
static int far_shutdown(struct stream *s)
{
	far_end(s);
	return 0;
}

static void put_id(struct wire_tx *tx, const struct attempt_id *id)
{
	wire_put_bytes(tx, id->uuid, 16);
	wire_put_u64(tx, id->source.host);
	wire_put_u64(tx, id->source.boot);
	wire_put_u64(tx, id->number);
}

static void put_input(struct dest *d)
{
	for (unsigned i = 0; i < d->records && d->in.n; i++) {
		uint32_t type = (uint32_t)take(&d->in, 1), len = (uint32_t)take(&d->in, 2);
		if ((type & 0x7f) == WIRE_READY)
			continue;
		wire_begin(&d->tx, type & 0x7f);
		if (type & 0x80)
			put_id(&d->tx, &d->id);
		uint8_t *at = wire_put_space(&d->tx, len);
		for (uint32_t k = 0; k < len; k++)
			at[k] = (uint8_t)take(&d->in, 1);
		if ((type & 0x7f) == WIRE_AGAIN && len >= 8 && get_le64(at) < ARRAY_SIZE(d->again))
			d->again[get_le64(at)]++;
		if (wire_end(&d->tx, TIME_NEVER))
			abort();
	}
	d->ended = true;
}

/* A frame goes once, and is RAM. */
static void see_pages(struct dest *d, const uint8_t *fields)
{
	uint64_t base = get_le64(fields);
	if (d->verifies != d->summed)
		abort();
	for (uint32_t i = 0, n = get_le32(fields + 8); i < n; i++) {
		uint64_t first = base + get_le32(fields + 16 + i * 8);
		uint32_t count = get_le32(fields + 20 + i * 8) & ~(1U << 31);
		for (uint64_t f = first; f < first + count; f++) {
			if (f >= ARRAY_SIZE(d->sent) || (d->sent[f] && !d->again[f]--))
				abort();
			d->sent[f] = true;
		}
	}
}

/* What the guest writes in pass 1 is what does not go before it does. */
static int dirty(void)
{
	static const uint64_t frames[] = { 1, 2, 14, 15, 16, 17, 80, 200, 255, 511 };
	for (unsigned i = 0; i < ARRAY_SIZE(frames); i++)
		if (!fake_guest_write(vm, frames[i] << PAGE_SHIFT, &frames[i], sizeof(frames[i])))
			return -EINVAL;
	return 0;
}

/* To a source in post-copy. */
static int answer_postcopy(struct dest *d, uint32_t type, const uint8_t *fields)
{
	switch (type) {
	case WIRE_PASS: d->final = fields[4]; return d->final ? 0 : dirty();
	case WIRE_END: return id_send(&d->tx, WIRE_READY, &d->id, TIME_NEVER);
	case WIRE_COMMIT:
		wire_begin(&d->tx, WIRE_STARTED);
		put_id(&d->tx, &d->id);
		ON_HOST(1)
		{
			wire_put_u64(&d->tx, migrate_this_host()->inc.host);
			wire_put_u64(&d->tx, migrate_this_host()->inc.boot);
		}
		if (wire_end(&d->tx, TIME_NEVER))
			return -EIO;
		d->serves = true;
		put_input(d);
		d->next->in = d->in;
		return 0;
	case WIRE_REJOIN:
		d->id = first->id;
		d->tx.key = attempt_key(&d->id);
		d->serves = true;
		put_input(d);
		return 0;
	case WIRE_PAGES:
		if (d->serves)
			see_pages(d, fields);
		d->summed = false;
		return 0;
	case WIRE_SUMS: d->summed = true; return 0;
	case WIRE_VERIFY:
		wire_begin(&d->tx, WIRE_CHECKED);
		wire_put_u32(&d->tx, fields[4] ? 2 : 1);
		return wire_end(&d->tx, TIME_NEVER);
	default: return 0;
	}
}

/* A record of the source's: what a good destination says to it. */
static int answer(struct dest *d, uint32_t type, const uint8_t *fields)
{
	int err = 0;
	if (d->postcopy && type != WIRE_HELLO && type != WIRE_OFFER && type != WIRE_FILES && type != WIRE_PASS_END)
		return answer_postcopy(d, type, fields);
	switch (type) {
	case WIRE_HELLO: ON_HOST(1) err = hello_send(&d->tx, TIME_NEVER); return err;
	case WIRE_OFFER:
		memcpy(d->id.uuid, fields, 16);
		d->id.source = (struct incarnation){ get_le64(fields + 16), get_le64(fields + 24) };
		d->id.number = get_le64(fields + 32);
		d->tx.key = attempt_key(&d->id);
		return id_send(&d->tx, WIRE_ACCEPT, &d->id, TIME_NEVER);
	case WIRE_PASS: d->final = fields[4] & PASS_FINAL; return 0;
	case WIRE_ABSENT:
		if (d->pulled && !get_le32(fields + 8))
			put_input(d);
		return 0;
	case WIRE_FILES:
	case WIRE_PASS_END:
		wire_begin(&d->tx, type == WIRE_FILES ? WIRE_WANT : WIRE_PASS_ACK);
		wire_put_u32(&d->tx, type == WIRE_FILES ? 0 : get_le32(fields));
		return d->final ? 0 : wire_end(&d->tx, TIME_NEVER);
	case WIRE_VERIFY:
		if (!d->at_end) {
			put_input(d);
			return 0;
		}
		wire_begin(&d->tx, WIRE_CHECKED); /* there are two */
		wire_put_u32(&d->tx, fields[4] ? 2 : 1);
		return wire_end(&d->tx, TIME_NEVER);
	case WIRE_END: put_input(d); return 0;
	default: return 0;
	}
}

static int far_write(struct stream *s, const struct iov *iov, unsigned n unused, uint64_t deadline unused)
{
	struct dest *d = CONTAINER_OF(s, struct dest, s);
	const uint8_t *record = iov[0].base;
	pthread_mutex_lock(&d->lock);
	if ((!d->ended || d->serves) && answer(d, get_le32(record), record + 12))
		abort();
	pthread_cond_broadcast(&d->more);
	pthread_mutex_unlock(&d->lock);
	return 0;
}
static const struct stream_ops far_ops = { far_read, far_write, far_shutdown, far_end, far_end };
static const struct stream_ops to_ops = { .writev = to_write };

/* Its next one is d's; after that none, and the operator forgets the VM. */
int trust_connect(struct stream **s, struct ip ip unused, uint16_t port unused, uint64_t end unused,
		  const struct stream_canceller *canceller unused, struct why *w)
{
	struct dest *d = first->next;
	if (d) {
		first->next = NULL;
		*s = &d->s;
		return 0;
	}
	(void)migrate_forget("fuzz", true, &(struct why){ "" });
	return why_set(w, -EHOSTUNREACH, "no network");
}

static void new_vm(void)
{
	vm = fake_vm_new("fuzz", MIB(2));
	if (!fake_guest_write(vm, 0x5000, "data", 4))
		abort();
	vm->cfg.ndisks = 1;
	vm->cfg.disk[0] = (struct vm_disk_config){ .name = "root", .size = MIB(4), .layer = 8 * PAGE_SIZE };
	if (disk_make_all(vm, NULL) || layer_fill_zero(&vm->disk[0]->layer, 7))
		abort();
}

static void dest_init(struct dest *d, struct input in, unsigned records)
{
	*d = (struct dest){ .s = { .ops = &far_ops, .peer = "fuzz" },
			    .to = { .ops = &to_ops },
			    .lock = PTHREAD_MUTEX_INITIALIZER,
			    .more = PTHREAD_COND_INITIALIZER,
			    .records = records,
			    .in = in };
	if (wire_tx_init(&d->tx, &d->to))
		abort();
}

static void dest_fini(struct dest *d)
{
	wire_tx_fini(&d->tx);
	free(d->p);
}

/* It has gone, whatever the destination says. */
static void run_postcopy(struct input in, bool verify)
{
	struct dest d, next;
	const struct migrate_params p = {
		.max_passes = 1, .strategy = MIGRATE_REMOTE, .own_strategy = true, .verify = verify
	};
	unsigned n = (unsigned)take(&in, 1);
	dest_init(&d, in, n % 16);
	dest_init(&next, in, 16);
	d.postcopy = next.postcopy = true;
	d.verifies = next.verifies = verify;
	d.next = &next;
	first = &d;
	(void)migrate_source_run(vm, &d.s, &p, NULL);
	if (!fake_tasks_wait() || !d.serves || fake_vm_find(0, "fuzz"))
		abort();
	dest_fini(&d);
	dest_fini(&next);
}

/* It stays. */
static void run_here(struct input in, bool at_end, bool pulled)
{
	struct dest d;
	const struct migrate_params p = { .max_downtime_ms = 300, .max_passes = 9, .verify = !pulled, .pull = pulled };
	dest_init(&d, in, 12);
	d.at_end = at_end;
	d.pulled = pulled;
	first = &d;
	if (!migrate_source_run(vm, &d.s, &p, NULL) || !fake_tasks_wait() || vm->state != VM_RUNNING)
		abort();
	vm_destroy(vm);
	dest_fini(&d);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (!size)
		return 0;
	struct input in = { data + 1, size - 1 };
	fake_host = 0;
	new_vm();
	if (data[0] & 2)
		run_postcopy(in, data[0] & 4);
	else
		run_here(in, data[0] & 1, data[0] & 4);
	fake_host_restart(0);
	if (fake_page_live() || fake_page_reserved())
		abort();
	return 0;
}

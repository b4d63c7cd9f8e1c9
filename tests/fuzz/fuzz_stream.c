/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What a peer may send to the destination. The first byte of the input chooses how the rest of it is used:
 *   0  raw bytes, from the first byte of the connection on
 *   1  HELLO, for two thirds of them STATE, then an OFFER with these fields
 *   2  HELLO, by the next byte STATE or not, a good OFFER, in half of them with a disk on a base and one of zeros, and
 *      some of the good records that would follow, all of them with what --verify adds, then records { type u8, length
 *      u16, fields }: check words are made right, or nothing would get past them; bit 7 of a type puts the attempt's id
 *      in front, so that END and COMMIT can be what they should be, or has PAGES begin in a disk. After all of the
 *      good ones, for two thirds of those that run, some frames were said to be absent (or those that the input's
 *      first bytes say): then the next byte says how much of the rest is of this connection, and what is left of a
 *      later one, behind REJOIN. A task reads such a frame meanwhile. From 180 on: behind a pass that is pulled,
 *      and its map. If the byte that says STATE has 1 in its second
 *      digit of base 3 the source verifies: a digest of 1 in SUMS is then that of the page that PAGES brings first
 * Whatever comes: no crash, no sanitizer, and if a VM is left it was started properly.
 */
#include "kernel/task.h"
#include "kernel/time.h"
#include "tests/fuzz/input.h"
#include "tests/fuzz/no_network.h"
#include "tests/unit/fake_kernel.h"
#include "tests/unit/fake_hosts.h"
#include "net/trust.h"
#include "vmm/boot_file.h"
#include "vmm/migrate/attempts.h"
#include "vmm/migrate/migrate.h"
#include "vmm/migrate/pages.h"
#include <common/xxhash.h>
#include <stdlib.h>
#include <string.h>

struct mem_stream {
	struct stream s;
	uint8_t *p;
	size_t len, at, cap;
	struct mem_stream *next; /* a connection that is made when this one has ended, */
	bool later;              /* which is this one: then the VM is stopped */
	bool over;               /* [a] it has ended */
};
static struct mem_stream *mem_of(struct stream *s) { return CONTAINER_OF(s, struct mem_stream, s); }

/* ---- post-copy ---- */

static bool absent[512]; /* frames of the VM, as the map says */
static bool reads;       /* there is a task that reads one of them */

static void serve_next(void *arg)
{
	struct mem_stream *m = arg;
	fake_host = 1;
	migrate_serve(NULL, &m->s);
}

/* A source that has lost it comes again, or the operator gives it up: else it waits for ever. */
static void ended(struct mem_stream *m)
{
	struct vm *vm = fake_vm_find(1, "fuzz");
	if (__atomic_exchange_n(&m->over, true, __ATOMIC_SEQ_CST))
		return;
	if (m->next && !task_create("next", TASK_PRIO_NORMAL, serve_next, m->next))
		abort();
	if (vm && m->later)
		(void)vm_stop(vm, &(struct why){ "" });
}

static void read_absent(void *arg unused)
{
	uint64_t word;
	struct vm *vm = NULL;
	gfn_t f = 0;
	while (f < ARRAY_SIZE(absent) - 1 && !absent[f])
		f++;
	ON_HOST(1) vm = vm_get("fuzz");
	if (vm && vm_state_now(vm) == VM_RUNNING)
		(void)gmem_read(&vm->mem, f << PAGE_SHIFT, &word, sizeof(word));
	ON_HOST(1) vm_put(vm);
}

static void begin_to_read(void)
{
	struct vm *vm = fake_vm_find(1, "fuzz");
	if (!reads || !vm || vm_state_now(vm) != VM_RUNNING)
		return;
	reads = false;
	if (!task_create("read", TASK_PRIO_NORMAL, read_absent, NULL))
		abort();
}

/* ---- streams in memory ---- */

static int mem_read(struct stream *s, void *buf, size_t max, uint64_t deadline unused)
{
	struct mem_stream *m = mem_of(s);
	size_t n = MIN(max, m->len - m->at);
	if (n)
		memcpy(buf, m->p + m->at, n);
	m->at += n;
	begin_to_read();
	if (!n && max)
		ended(m);
	return (int)n;
}
static int mem_write(struct stream *s, const struct iov *iov, unsigned n, uint64_t deadline unused)
{
	struct mem_stream *m = mem_of(s);
	for (unsigned i = 0; i < n; i++) {
		if (m->len + iov[i].len > m->cap)
			m->p = realloc(m->p, m->cap = (m->len + iov[i].len) * 2);
		memcpy(m->p + m->len, iov[i].base, iov[i].len);
		m->len += iov[i].len;
	}
	return 0;
}
static int drop_write(struct stream *s unused, const struct iov *iov unused, unsigned n unused,
		      uint64_t deadline unused)
{
	return 0;
}
static int mem_shutdown(struct stream *s unused) { return 0; }
static void mem_abort(struct stream *s) { ended(mem_of(s)); }
static void mem_close(struct stream *s) { ended(mem_of(s)); }
static const struct stream_ops build_ops = { mem_read, mem_write, mem_shutdown, mem_abort, mem_close };
static const struct stream_ops serve_ops = { mem_read, drop_write, mem_shutdown, mem_abort, mem_close };

static bool says_done; /* one of them is DONE: no record need be left */

/* As the input has it, but for digests that say 1: no input would ever hit a right one. */
static void put_sums(struct wire_tx *tx, const uint8_t *p, uint32_t len)
{
	static const uint8_t page[PAGE_SIZE] = { 1 };
	wire_put_bytes(tx, p, MIN(len, 8U));
	for (uint32_t at = 8; at < len; at += 8) {
		if (at + 8 <= len && get_le64(p + at) == 1)
			wire_put_u64(tx, XXH64(page, sizeof(page), get_le64(p) + at / 8 - 1));
		else
			wire_put_bytes(tx, p + at, MIN(len - at, 8U));
	}
}

static void put_records(struct wire_tx *tx, const struct attempt_id *id, const uint8_t *p, size_t n)
{
	while (n >= 3) {
		uint32_t type = p[0] & 0x7f, len = get_le16(p + 1) % 2048;
		bool with_id = p[0] & 0x80;
		says_done |= type == WIRE_DONE;
		p += 3;
		n -= 3;
		len = (uint32_t)MIN((size_t)len, n);
		wire_begin(tx, type);
		if (with_id && type != WIRE_PAGES) {
			wire_put_bytes(tx, id->uuid, 16);
			wire_put_u64(tx, id->source.host);
			wire_put_u64(tx, id->source.boot);
			wire_put_u64(tx, id->number);
		}
		if (type == WIRE_PAGES && len >= 16) { /* data as the fields claim it, as far as that is allowed */
			static uint8_t page[WIRE_PAGES_MAX * 4096] = { 1 };
			uint32_t runs = get_le32(p + 8), pages = get_le32(p + 12);
			if (runs <= WIRE_RUNS_MAX && 16 + runs * 8 <= len)
				len = 16 + runs * 8;
			wire_put_u64(tx,
				     get_le64(p) + (with_id ? *p & 2 ? PAGES_FREED(*p & 1) : PAGES_DISK(*p & 1) : 0));
			wire_put_bytes(tx, p + 8, len - 8);
			if (pages && pages <= WIRE_PAGES_MAX)
				wire_put_data(tx, page, pages * 4096UL);
		} else if (type == WIRE_SUMS) {
			put_sums(tx, p, len);
		} else {
			wire_put_bytes(tx, p, len);
		}
		p += len;
		n -= len;
		if (wire_end(tx, TIME_NEVER))
			abort();
	}
}

/* A block with data and two of zeros. */
static int put_disk(struct wire_tx *tx)
{
	static uint8_t page[PAGE_SIZE] = { 2 };
	wire_begin(tx, WIRE_PAGES);
	wire_put_u64(tx, PAGES_DISK(0));
	wire_put_u32(tx, 2);
	wire_put_u32(tx, 1);
	wire_put_u64(tx, 1ULL << 32);
	wire_put_u64(tx, 3 | (1ULL << 31 | 2) << 32);
	wire_put_data(tx, page, sizeof(page));
	return wire_end(tx, TIME_NEVER);
}

/* Of what is zeros or absent. */
static void put_absent_sum(struct wire_tx *tx)
{
	uint64_t sum = 0;
	uint32_t n = 0;
	for (gfn_t f = 0; f < ARRAY_SIZE(absent); f++) {
		sum += absent[f] ? XXH64(NULL, 0, f) : 0;
		n += absent[f];
	}
	if (!n)
		return;
	wire_put_u32(tx, 0);
	wire_put_u32(tx, n);
	wire_put_u64(tx, sum);
}

/* What a source that verifies says of that: of all its memory and disks, and with `states` of each section. */
static void put_verify(struct wire_tx *tx, bool disks, bool states)
{
	static const uint8_t zeros[FAKE_CONFIG_LEN], page[PAGE_SIZE] = { 2 };
	uint64_t sum = XXH64(page, sizeof(page), PAGES_DISK(0)) + XXH64(NULL, 0, PAGES_DISK(0) + 3) +
		       XXH64(NULL, 0, PAGES_DISK(0) + 4);
	static const struct {
		const char *name;
		uint32_t instance, len;
	} sections[] = {
		{ "clock", 0, 32 }, { "fakedev", 0, 48 }, { "fakedev", 1, 48 }, { "config", 0, FAKE_CONFIG_LEN }
	};
	int err = 0;
	for (unsigned i = 0; i < (disks ? 3 : 1); i++) {
		wire_begin(tx, WIRE_VERIFY);
		wire_put_u64(tx, i ? PAGES_DISK(i - 1) : 0);
		wire_put_u64(tx, i == 0 ? 512 : i == 1 ? 256 : 1024);
		if (i == 0)
			put_absent_sum(tx);
		if (i == 1) {
			wire_put_u32(tx, 0);
			wire_put_u32(tx, 3);
			wire_put_u64(tx, sum);
		}
		err |= wire_end(tx, TIME_NEVER);
	}
	for (unsigned i = 0; i < ARRAY_SIZE(sections) && states; i++) {
		wire_begin(tx, WIRE_VERIFY_STATE);
		wire_put_str(tx, sections[i].name, 32);
		wire_put_u32(tx, sections[i].instance);
		wire_put_u64(tx, XXH64(zeros, sections[i].len, 0));
		err |= wire_end(tx, TIME_NEVER);
	}
	if (err)
		abort();
}

/* What is absent. input: where it says that, four runs of it, which may be wrong. How many bytes of it were used. */
static size_t put_map(struct wire_tx *tx, const uint8_t *input, size_t n)
{
	static const uint16_t some[8] = { 16, 64, 200, 1, 256, 16, 500, 12 };
	uint64_t frames = 0;
	n = MIN(n, sizeof(some)) & ~3UL;
	memset(absent, 0, sizeof(absent));
	wire_begin(tx, WIRE_ABSENT);
	wire_put_u64(tx, 0);
	wire_put_u32(tx, (uint32_t)(input ? n / 4 : 4));
	for (unsigned i = 0; i < (input ? n / 4 : 4); i++) {
		uint16_t first = input ? get_le16(input + i * 4) : some[i * 2];
		uint16_t count = input ? get_le16(input + i * 4 + 2) : some[i * 2 + 1];
		wire_put_u32(tx, first);
		wire_put_u32(tx, count);
		for (uint16_t k = 0; k < count && first + k < (int)ARRAY_SIZE(absent); k++)
			absent[first + k] = true;
		frames += count;
	}
	int err = !input || n ? wire_end(tx, TIME_NEVER) : 0;
	wire_begin(tx, WIRE_ABSENT);
	wire_put_u64(tx, frames);
	wire_put_u32(tx, 0);
	if (err || wire_end(tx, TIME_NEVER))
		abort();
	return input ? n : 0;
}

/* What is here when it starts is the guest's: nobody writes there any more. */
static void look_at_what_was_here(struct vm *vm)
{
	if (vm->mem.size && vm_state_now(vm) == VM_RUNNING && !gmem_all_here(&vm->mem))
		abort();
	for (gfn_t f = 0; vm->mem.size && f < ARRAY_SIZE(absent); f++) {
		struct gmem_pin pin;
		if (absent[f] || gmem_pin(&vm->mem, f << PAGE_SHIFT, PAGE_SIZE, GMEM_FILL, &pin))
			continue;
		if (*(const uint8_t *)pin.p)
			abort();
		gmem_unpin(&vm->mem, &pin);
	}
}

/* The first n records after OFFER of a good migration of a VM of zeros, up to COMMIT: frames may follow. */
static void put_good(struct wire_tx *tx, const struct attempt_id *id, unsigned n, bool disks, bool stopped,
		     struct input *map, bool verify)
{
	uint64_t data = disks, zero = (stopped ? 0 : 512) + 2 * disks;
	static const struct {
		const char *name;
		uint32_t instance, len;
	} sections[] = {
		{ "clock", 0, 32 }, { "fakedev", 0, 48 }, { "fakedev", 1, 48 }, { "config", 0, FAKE_CONFIG_LEN }
	};
	int err = n > 0 ? pass_send(tx, 1, PASS_FINAL, TIME_NEVER) : 0;
	if (n > 1 && !stopped) {
		wire_begin(tx, WIRE_PAGES);
		wire_put_u64(tx, 0);
		wire_put_u32(tx, 1);
		wire_put_u32(tx, 0);
		wire_put_u64(tx, (1ULL << 31 | 512) << 32);
		err |= wire_end(tx, TIME_NEVER);
	}
	if (n > 1 && disks)
		err |= put_disk(tx);
	if (n > 2)
		err |= pass_end_send(tx, 1, data, zero, TIME_NEVER);
	size_t used = map ? put_map(tx, map->p, map->n) : 0;
	if (used)
		*map = (struct input){ map->p + used, map->n - used };
	for (unsigned i = stopped ? 3 : 0; i < 4 && n > 3 + i; i++) {
		wire_begin(tx, WIRE_SECTION);
		wire_put_str(tx, sections[i].name, 32);
		wire_put_u32(tx, sections[i].instance);
		wire_put_u32(tx, fake_version(sections[i].name));
		memset(wire_put_space(tx, sections[i].len), 0, sections[i].len);
		err |= wire_end(tx, TIME_NEVER);
	}
	if (n > 7 && verify)
		put_verify(tx, disks, true);
	if (n > 7)
		err |= end_send(tx, id, &(struct end_counts){ 1, stopped ? 1 : 4, 0, data, zero }, TIME_NEVER);
	if (n > 8)
		err |= commit_send(tx, id, 0, 0, TIME_NEVER);
	if (err)
		abort();
}

/* A pass that is asked for, with its map. */
static void put_pulled(struct wire_tx *tx)
{
	if (pass_send(tx, 1, PASS_PULLED, TIME_NEVER))
		abort();
	put_map(tx, NULL, 0);
}

static void give_disks(struct vm_config *c)
{
	static uint8_t image[5 * SECTOR] = { 1, 2, 3 };
	struct boot_file *f = boot_file_named("image");
	if (!f && (boot_file_add("image", image, sizeof(image)) || !(f = boot_file_named("image"))))
		abort();
	c->ndisks = 2;
	c->disk[0] = (struct vm_disk_config){ .name = "root",
					      .size = MIB(1),
					      .layer = 32 * PAGE_SIZE,
					      .file = "image",
					      .base_size = sizeof(image),
					      .base_digest = boot_file_digest(f) };
	c->disk[1] = (struct vm_disk_config){ .name = "data", .size = MIB(4), .layer = 8 * PAGE_SIZE };
	boot_file_put(f);
}

static void put_state(struct wire_tx *tx, uint32_t state)
{
	wire_begin(tx, WIRE_STATE);
	wire_put_u32(tx, state);
	if (wire_end(tx, TIME_NEVER))
		abort();
}

/* A VM that runs before all of it is there: the rest is for this connection, and for the one after it. */
static void put_postcopy(struct wire_tx *tx, struct wire_tx *next, const struct offer *o, bool own_map, bool checked,
			 const uint8_t *data, size_t size)
{
	struct input in = { own_map ? data : NULL, own_map ? size : 0 };
	put_good(tx, &o->id, 9, o->cfg.ndisks, false, &in, checked);
	if (!own_map)
		in = (struct input){ data, size };
	size_t first = in.n ? (in.n - 1) * in.p[0] / 255 : 0;
	put_records(tx, &o->id, in.p + 1, first);
	if (hello_send(next, TIME_NEVER) || id_send(next, WIRE_REJOIN, &o->id, TIME_NEVER))
		abort();
	next->key = attempt_key(&o->id);
	put_records(next, &o->id, in.p + 1 + first, in.n ? in.n - 1 - first : 0);
	reads = true;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct mem_stream m = { .s = { .ops = &build_ops, .peer = "fuzz" } };
	struct mem_stream later = { .s = { .ops = &build_ops, .peer = "fuzz" }, .later = true };
	static struct offer o;
	struct wire_tx tx, next;
	if (!size || wire_tx_init(&tx, &m.s))
		return 0;
	if (wire_tx_init(&next, &later.s))
		abort();
	reads = says_done = false;
	uint8_t mode = data[0] % 3, good = data[0] / 3 % 10;
	bool disks = data[0] / 30 & 1;
	uint8_t verify = data[0] / 60 % 3;
	bool postcopy = false, pulled = data[0] >= 180;
	data++;
	size--;
	uint8_t state = mode == 1 ? good % 3 : mode == 2 && size ? *data % 3 : 0; /* 0: it runs */
	bool checked = mode == 2 && size && *data / 3 % 3 == 1;
	memset(absent, 0, sizeof(absent));
	if (mode == 2 && size) {
		data++;
		size--;
	}
	fake_host = 0;
	o = (struct offer){
		.cfg = { .name = "fuzz", .mem = MIB(2), .vcpus = 1, .nnics = 1, .mtu = { 1500 }, .mac = { { 2, 9 } } },
		.id = attempt_new_id((const uint8_t *)"fuzz............")
	};
	if (state != 1)
		vm_compat_get(NULL, &o.compat);
	if (disks)
		give_disks(&o.cfg);
	if (mode == 0) {
		if (size && stream_write(&m.s, data, size, TIME_NEVER))
			abort();
	} else if (hello_send(&tx, TIME_NEVER)) {
		abort();
	} else if (mode == 1) {
		if (state)
			put_state(&tx, state);
		wire_begin(&tx, WIRE_OFFER);
		wire_put_bytes(&tx, data, MIN(size, 2048UL));
		if (wire_end(&tx, TIME_NEVER))
			abort();
	} else {
		if (state)
			put_state(&tx, state);
		if (offer_send(&tx, &o, TIME_NEVER))
			abort();
		tx.key = attempt_key(&o.id);
		postcopy = good == 9 && verify && !state;
		if (postcopy) {
			m.next = &later;
			put_postcopy(&tx, &next, &o, verify > 1, checked, data, size);
		} else {
			if (pulled)
				put_pulled(&tx);
			else
				put_good(&tx, &o.id, good, disks, state == 1, NULL, false);
			if (good == 7 && verify && !pulled)
				put_verify(&tx, disks, verify > 1);
			put_records(&tx, &o.id, data, size);
		}
	}
	m.s.ops = later.s.ops = &serve_ops;
	fake_host = 1;
	migrate_serve(NULL, &m.s);
	if (!fake_tasks_wait())
		abort();
	wire_tx_fini(&tx);
	wire_tx_fini(&next);
	free(m.p);
	free(later.p);
	struct vm *vm = fake_vm_find(1, "fuzz");
	if (vm && postcopy)
		look_at_what_was_here(vm);
	if (vm) {
		if (vm->state != (state == 1 ? VM_STOPPED
				  : postcopy ? vm->state
				  : state    ? VM_PAUSED
				  : mode     ? VM_RUNNING
					     : vm->state) ||
		    (attempt_find(&o.id, NULL) != RECORD_STARTED && !says_done))
			abort();
		vm_destroy(vm);
	}
	fake_host_restart(1); /* what it remembers of attempts goes, or the table fills */
	if (fake_page_live() || fake_page_reserved())
		abort();
	return 0;
}

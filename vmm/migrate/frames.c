/* SPDX-License-Identifier: BSD-2-Clause */
/* Frames that came for the guest while it moved (frames.h). */
#include "vmm/migrate/frames.h"
#include "kernel/log.h"
#include "kernel/time.h"
#include "vmm/migrate/migration.h"
#include "vmm/vm_port.h"

#define FRAME_LONGEST (FRAME_HEAD_MAX + ETH_JUMBO_MAX)

struct frames_tx {
	struct wire_tx *tx;
	uint64_t end_ns;
	bool open;    /* a record has begun: */
	unsigned nic; /* for that card */
	unsigned sent;
};

static int flush(struct frames_tx *t)
{
	if (!t->open)
		return 0;
	t->open = false;
	return wire_end(t->tx, time_ns() + MIG_ANSWER_NS);
}

static int put(void *arg, unsigned nic, const struct frame *f)
{
	struct frames_tx *t = arg;
	if (time_ns() >= t->end_ns)
		return -ETIMEDOUT;
	if (f->len < ETH_HLEN || f->len > FRAME_LONGEST)
		return 0; /* for no record; the bridge has let none pass */
	if (t->open && (nic != t->nic || t->tx->len + 4 + f->len > WIRE_HEADER + WIRE_FRAMES_MAX)) {
		int err = flush(t);
		if (err)
			return err;
	}
	if (!t->open) {
		wire_begin(t->tx, WIRE_FRAMES);
		wire_put_u32(t->tx, nic);
		t->nic = nic;
		t->open = true;
	}
	wire_put_u32(t->tx, f->len);
	(void)frame_copy_out(f, 0, wire_put_space(t->tx, f->len), f->len);
	t->sent++;
	return 0;
}

/* What has been kept so far; true: more may come. */
static bool send_kept(struct frames_tx *t, struct vm *vm)
{
	bool elsewhere = vm_port_is_elsewhere(vm); /* asked first: what came before that is taken now */
	int err = vm_port_take_kept(vm, put, t);
	int broken = flush(t);
	return !err && !broken && !elsewhere && time_ns() < t->end_ns;
}

bool frames_send_some(struct vm *vm, struct wire_tx *tx, uint64_t end_ns)
{
	return send_kept(&(struct frames_tx){ .tx = tx, .end_ns = end_ns }, vm);
}

void frames_send(struct vm *vm, struct wire_tx *tx)
{
	struct frames_tx t = { .tx = tx, .end_ns = time_ns() + FRAMES_NS };
	while (send_kept(&t, vm))
		vm_port_wait_kept(vm, t.end_ns);
	if (t.sent)
		log_debug("%s: %u frames that came for it meanwhile were sent after it", vm->cfg.name, t.sent);
}

bool frames_recv(struct wire_rx *rx, struct vm *vm)
{
	uint32_t nic = wire_get_u32(rx);
	if (nic >= vm->cfg.nnics)
		return false;
	while (!wire_get_end(rx)) {
		struct frame f;
		uint32_t len = wire_get_u32(rx);
		const uint8_t *p = len >= ETH_HLEN && len <= FRAME_LONGEST ? wire_get_bytes(rx, len) : NULL;
		if (!p)
			return false;
		frame_init_flat(&f, (void *)p, len);
		vm_port_bring(vm, nic, &f);
	}
	return true;
}

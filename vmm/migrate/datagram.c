/* SPDX-License-Identifier: BSD-2-Clause */
/* A stream over the memory of one frame (datagram.h). */
#include "vmm/migrate/datagram.h"
#include "kernel/base/gcra.h"
#include "kernel/spinlock.h"
#include "kernel/time.h"
#include "vmm/migrate/this_host.h"
#include <string.h>

#define NONCE     8
#define ANSWER_NS (10 * NS_PER_MS) /* an answer to who has proved nothing, on average */
#define ANSWERS   32               /* of those at once: a host that starts asks for all its VMs */

static struct spinlock lock = SPINLOCK_INIT("datagram");

static int stream_in(struct stream *s, void *buf, size_t max, uint64_t deadline_ns unused)
{
	struct datagram *b = CONTAINER_OF(s, struct datagram, s);
	size_t n = MIN(max, b->len - b->at);
	memcpy(buf, b->p + b->at, n);
	b->at += n;
	return (int)n;
}

static int stream_out(struct stream *s, const struct iov *iov, unsigned n, uint64_t deadline_ns unused)
{
	struct datagram *b = CONTAINER_OF(s, struct datagram, s);
	for (unsigned i = 0; i < n; i++) {
		if (iov[i].len > sizeof(b->p) - b->len)
			return -ENOBUFS;
		memcpy(b->p + b->len, iov[i].base, iov[i].len);
		b->len += iov[i].len;
	}
	return 0;
}

static const struct stream_ops ops = { .read = stream_in, .writev = stream_out };

int datagram_write(struct datagram *d, uint64_t nonce, bool proves, int (*put)(struct wire_tx *tx, const void *arg),
		   const void *arg)
{
	struct wire_tx tx;
	memset(d, 0, sizeof(*d));
	d->s.ops = &ops;
	put_le64(d->p, nonce);
	d->len = NONCE;
	int err = wire_tx_init(&tx, &d->s);
	if (!err && !(err = hello_send(&tx, TIME_NEVER)))
		err = put(&tx, arg);
	wire_tx_fini(&tx);
	if (proves)
		d->len = trust_sign(d->p, d->len, sizeof(d->p));
	return err;
}

void datagram_read(const struct hostframe_from *from, const uint8_t *payload, size_t len,
		   void (*read)(struct datagram_in *in))
{
	struct datagram d;
	if (len <= NONCE || len > sizeof(d.p))
		return;
	struct datagram_in in = { .from = from, .word = trust_check(payload, &len), .nonce = get_le64(payload) };
	if (in.word == TRUST_DENIED || len <= NONCE)
		return; /* before anything else is done for whoever is on that wire */
	d = (struct datagram){ .s.ops = &ops, .len = len - NONCE };
	memcpy(d.p, payload + NONCE, len - NONCE);
	if (!wire_rx_init(&in.rx, &d.s) && !hello_recv(&in.rx, &in.h, TIME_NEVER, NULL) &&
	    !incarnation_equal(in.h.inc, migrate_this_host()->inc) && !wire_recv(&in.rx, TIME_NEVER, NS_PER_SEC, NULL))
		read(&in);
	wire_rx_fini(&in.rx);
}

bool datagram_may_answer(void)
{
	static uint64_t full_ns; /* [lock] when all of ANSWERS may be given again */
	uint64_t flags = spin_lock_irqsave(&lock);
	bool ok = gcra_take(&full_ns, time_ns(), ANSWER_NS, (ANSWERS - 1) * ANSWER_NS + 1);
	spin_unlock_irqrestore(&lock, flags);
	return ok;
}

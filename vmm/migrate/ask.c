/* SPDX-License-Identifier: BSD-2-Clause */
/* One question to one host (ask.h). */
#include "vmm/migrate/ask.h"
#include "kernel/base/ip4.h"
#include "kernel/time.h"
#include "vmm/migrate/migration.h"
#include <string.h>

/* Is there a host? Of what can go wrong, these alone come from somebody who is there. */
static bool is_alive(const struct ask *q, int err)
{
	return !err || err == -ENOMEM || err == -ENOBUFS || err == -EADDRINUSE || /* ours: not knowing is no silence */
	       err == -ECONNREFUSED || err == -ECONNRESET || err == -EPIPE || err == -EPROTO || err == -EBADMSG ||
	       err == -ENOTSUP || (q->s && q->s->bytes_in);
}

int ask_open(struct ask *q, uint32_t ip, uint64_t end_ns, struct migration *m, struct why *w)
{
	memset(q, 0, sizeof(*q));
	q->end_ns = end_ns;
	int err = stream_tcp_connect(&q->s, ip, MIGRATE_PORT, end_ns, w);
	if (!err)
		err = wire_tx_init(&q->tx, q->s);
	if (!err)
		err = wire_rx_init(&q->rx, q->s);
	if (!err && m)
		err = migration_attach(m, q->s);
	if (!err)
		err = hello_exchange(&q->tx, &q->rx, &q->peer, end_ns, w);
	q->alive = is_alive(q, err);
	return err ? why_set(w, err, "%s: %s", ip4_text(ip).s, err_name(err)) : 0;
}

int ask_recv(struct ask *q, struct why *w)
{
	uint64_t now = time_ns();
	int err = wire_recv(&q->rx, q->end_ns, q->end_ns > now ? q->end_ns - now : 0, w);
	return err ? why_set(w, err, "%s", err_name(err)) : 0;
}

void ask_close(struct ask *q, struct migration *m)
{
	if (m)
		migration_detach(m);
	wire_rx_fini(&q->rx);
	wire_tx_fini(&q->tx);
	stream_close(q->s);
	q->s = NULL;
}

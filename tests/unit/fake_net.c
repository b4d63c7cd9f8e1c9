/* SPDX-License-Identifier: BSD-2-Clause */
/* The network of fake_net.h. */
#include "tests/unit/fake_net.h"
#include "kernel/console.h"
#include "kernel/task.h"
#include "kernel/time.h"
#include "tests/unit/pipe.h"
#include "vmm/migrate/migrate.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct fake_net fake_net;

const char *fake_net_address(int h)
{
	static const char *const addr[FAKE_HOSTS] = { "10.77.0.11", "10.77.0.12", "10.77.0.13" };
	return addr[h];
}

void fake_net_peers(int h, const char *names)
{
	fake_hosts[h].npeers = 0;
	ON_HOST(h)
	for (; *names; names++)
		migrate_peer_add((char[]){ *names, 0 }, fake_net_address(*names - 'a'));
}

static void serve(void *s) { migrate_serve(NULL, s); }

void fake_net_serve(int h, struct stream *s)
{
	ON_HOST(h)
	if (!task_create("serve", TASK_PRIO_NORMAL, serve, s))
		abort();
}

int stream_tcp_connect(struct stream **s, const char *addr, uint16_t port, uint64_t deadline_ns, struct why *w)
{
	struct stream *ends[2];
	int to = 0, from = fake_host;
	*s = NULL;
	while (to < FAKE_HOSTS && strcmp(addr, fake_net_address(to)))
		to++;
	if (to < FAKE_HOSTS && fake_net.who_has[to])
		to = fake_net.who_has[to] - 1;
	if (__atomic_load_n(&fake_net.unreachable, __ATOMIC_SEQ_CST) > 0) {
		__atomic_fetch_sub(&fake_net.unreachable, 1, __ATOMIC_SEQ_CST);
		return why_set(w, -EHOSTUNREACH, "no route to %s", addr);
	}
	if (to < FAKE_HOSTS && __atomic_load_n(&fake_net.silent[to], __ATOMIC_SEQ_CST)) {
		__atomic_fetch_add(&fake_net.waiting[from], 1, __ATOMIC_SEQ_CST);
		while (__atomic_load_n(&fake_net.silent[to], __ATOMIC_SEQ_CST) && time_ns() < deadline_ns)
			task_yield();
		__atomic_fetch_sub(&fake_net.waiting[from], 1, __ATOMIC_SEQ_CST);
		return why_set(w, -ETIMEDOUT, "no answer from %s", addr);
	}
	if (to == FAKE_HOSTS || fake_net.off[to] || fake_net.cut[from][to])
		return why_set(w, -ETIMEDOUT, "no answer from %s", addr);
	if (fake_net.refuses[to])
		return why_set(w, -ECONNREFUSED, "%s refuses the connection", addr);
	if (stream_pipe(ends, 1 << 16))
		abort();
	snprintf(ends[0]->peer, sizeof(ends[0]->peer), "%s:%u", addr, port);
	snprintf(ends[1]->peer, sizeof(ends[1]->peer), "%s:40000", fake_net_address(from));
	for (int i = 0; i < 2; i++) {
		struct stream *(*tap)(struct stream *) = i ? fake_net.tap_server : fake_net.tap_client;
		ends[i] = tap ? tap(ends[i]) : ends[i];
	}
	if (fake_net.connected)
		fake_net.connected(from, to);
	*s = ends[0];
	if (fake_net.off[to]) { /* it has just died: what was sent to it is lost */
		stream_close(ends[1]);
		return 0;
	}
	fake_net_serve(to, ends[1]);
	return 0;
}

int stream_tcp_listen(uint16_t port unused, unsigned max unused, void (*fn)(void *, struct stream *) unused,
		      void *arg unused)
{
	return 0;
}

/* What failpoint.c's command needs of the console; nothing calls it here. */
void con_printf(struct con *c unused, const char *fmt unused, ...) {}
void con_vprintf(struct con *c unused, const char *fmt unused, va_list ap unused) {}
int con_error(struct con *c unused, int err, const char *fmt unused, ...) { return err; }

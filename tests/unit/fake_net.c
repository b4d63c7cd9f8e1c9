/* SPDX-License-Identifier: BSD-2-Clause */
/* The network of fake_net.h. */
#include "tests/unit/fake_net.h"
#include "kernel/ip.h"
#include "kernel/console.h"
#include "kernel/task.h"
#include "kernel/time.h"
#include "net/trust.h"
#include "vmm/migrate/migrate.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct fake_net fake_net;

struct ip fake_net_address(int h) { return ip_of4(10 | 77 << 8 | (uint32_t)(11 + h) << 24); }

void fake_net_peers(int h, const char *names)
{
	static struct net_peer peers[FAKE_HOSTS][FAKE_HOSTS];
	unsigned n = 0;
	for (; *names; names++)
		peers[h][n++] = (struct net_peer){ .name = { *names }, .ip = fake_net_address(*names - 'a') };
	fake_hosts[h].peers = peers[h];
	fake_hosts[h].npeers = n;
}

static void serve(void *s) { migrate_serve(NULL, s); }

void fake_net_serve(int h, struct stream *s)
{
	ON_HOST(h)
	if (!task_create("serve", TASK_PRIO_NORMAL, serve, s))
		stream_close(s); /* as tcp_listen.c */
}

void fake_net_die(int h)
{
	fake_host_dead[h] = true;
	for (int i = 0; i < FAKE_HOSTS; i++) {
		pipe_line_set(&fake_net.lines[h][i], true);
		pipe_line_set(&fake_net.lines[i][h], true);
		pipe_line_die(&fake_net.lines[h][i]);
	}
}

void fake_net_revive(int h)
{
	fake_host_dead[h] = false;
	for (int i = 0; i < FAKE_HOSTS; i++) {
		pipe_line_set(&fake_net.lines[h][i], false);
		pipe_line_set(&fake_net.lines[i][h], false);
	}
}

/* A round trip, and longer while the way is down. ends[0] is what is being connected. */
static int connect_lines(int from, int to, struct stream *ends[2], uint64_t deadline_ns,
			 const struct stream_canceller *canceller, struct why *w)
{
	struct pipe_line *out = &fake_net.lines[from][to], *back = &fake_net.lines[to][from];
	uint64_t begin = time_ns(), end = begin + (deadline_ns - begin) / 2; /* trust.h: half of the time */
	bool gone = false;
	if (canceller && canceller->attach(canceller->arg, ends[0]))
		return why_set(w, -ECANCELED, "cancelled");
	task_sleep_until(begin + out->delay_ns + back->delay_ns);
	while (!gone && (out->down || back->down) && time_ns() < end) {
		task_sleep_until(time_ns() + 10 * NS_PER_MS);
		gone = stream_pipe_is_aborted(ends[0]);
	}
	if (!gone && !out->down && !back->down) {
		ends[0]->rtt_ns = out->delay_ns + back->delay_ns;
		stream_pipe_lines(ends[0], out, back);
		return 0;
	}
	if (canceller)
		canceller->detach(canceller->arg);
	return gone ? why_set(w, -ECANCELED, "cancelled") : why_set(w, -ETIMEDOUT, "no answer from %s", ends[0]->peer);
}

int trust_connect(struct stream **s, struct ip ip, uint16_t port, uint64_t deadline_ns,
		  const struct stream_canceller *canceller, struct why *w)
{
	const struct ip_text addr = ip_text(ip);
	struct stream *ends[2];
	int to = 0, from = fake_host;
	*s = NULL;
	while (to < FAKE_HOSTS && !ip_same(ip, fake_net_address(to)))
		to++;
	if (to < FAKE_HOSTS && fake_net.who_has[to])
		to = fake_net.who_has[to] - 1;
	if (__atomic_load_n(&fake_net.unreachable, __ATOMIC_SEQ_CST) > 0) {
		__atomic_fetch_sub(&fake_net.unreachable, 1, __ATOMIC_SEQ_CST);
		return why_set(w, -EHOSTUNREACH, "no route to %s", addr.s);
	}
	if (to < FAKE_HOSTS && __atomic_load_n(&fake_net.silent[to], __ATOMIC_SEQ_CST)) {
		__atomic_fetch_add(&fake_net.waiting[from], 1, __ATOMIC_SEQ_CST);
		uint64_t end = time_ns() + (deadline_ns - time_ns()) / 2; /* trust.h: half of the time */
		while (__atomic_load_n(&fake_net.silent[to], __ATOMIC_SEQ_CST) && time_ns() < end)
			task_yield();
		__atomic_fetch_sub(&fake_net.waiting[from], 1, __ATOMIC_SEQ_CST);
		return why_set(w, -ETIMEDOUT, "no answer from %s", addr.s);
	}
	if (to == FAKE_HOSTS || fake_net.off[to] || fake_net.cut[from][to])
		return why_set(w, -ETIMEDOUT, "no answer from %s", addr.s);
	if (fake_net.fails[to])
		return why_set(w, fake_net.fails[to], "no connection with %s", addr.s);
	if (stream_pipe(ends, 1 << 16))
		return why_set(w, -ENOMEM, "no memory for a connection");
	ends[0]->ip = ip;
	ends[1]->ip = fake_net_address(from);
	snprintf(ends[0]->peer, sizeof(ends[0]->peer), "%.40s:%u", addr.s, (uint16_t)port);
	snprintf(ends[1]->peer, sizeof(ends[1]->peer), "%.40s:40000", ip_text(ends[1]->ip).s);
	int err = fake_net.lines ? connect_lines(from, to, ends, deadline_ns, canceller, w) : 0;
	if (err) {
		stream_close(ends[0]);
		stream_close(ends[1]);
		return err;
	}
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

int trust_accept(struct stream **s, uint64_t deadline_ns, struct why *w unused)
{
	uint8_t first;
	if (!__atomic_load_n(&fake_net.unproved, __ATOMIC_SEQ_CST))
		return fake_net.accepts;
	int err = stream_read(*s, &first, 1, deadline_ns); /* as TLS would wait for the client's next word */
	return err ? err : -EACCES;
}
bool trust_is_proved(const struct stream *s unused) { return true; }
const char *trust_cipher(const struct stream *s unused) { return "in memory"; }

int stream_tcp_listen(uint16_t port unused, unsigned max unused, void (*fn)(void *, struct stream *) unused,
		      void *arg unused)
{
	return 0;
}

/* What failpoint.c's command needs of the console; nothing calls it here. */
void con_printf(struct con *c unused, const char *fmt unused, ...) {}
void con_vprintf(struct con *c unused, const char *fmt unused, va_list ap unused) {}
int con_error(struct con *c unused, int err, const char *fmt unused, ...) { return err; }

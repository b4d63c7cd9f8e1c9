/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * TCP between the hosts of fake_hosts.h, over pipes: 10.77.0.11 is a, .12 b, .13 c. Nothing waits but for who is
 * `silent`: what is cut times out at once.
 */
#pragma once
#include "net/stream.h"
#include "tests/unit/fake_hosts.h"
#include "tests/unit/pipe.h"

struct fake_net {
	bool cut[FAKE_HOSTS][FAKE_HOSTS]; /* from, to: no answer */
	bool off[FAKE_HOSTS];             /* no answer to anybody */
	int fails[FAKE_HOSTS];            /* -errno of whatever connects to it, 0: none */
	bool unproved;                    /* [a] nobody proves a key, until this is false */
	int accepts;                      /* what trust_accept says then */
	bool silent[FAKE_HOSTS];          /* [a] whoever connects waits for his deadline, or until this is false */
	int waiting[FAKE_HOSTS];          /* [a] so many do, by where they are */
	int unreachable;                  /* [a] so many connects fail from now on */
	int who_has[FAKE_HOSTS];          /* host behind the i-th address, if not i: + 1 */
	/* Both ends of each new connection pass through these, if set. */
	struct stream *(*tap_client)(struct stream *s), *(*tap_server)(struct stream *s);
	void (*connected)(int from, int to); /* called before the server's task starts */
	/*
	 * Connections are on these: they take their time, and are tried for as long as trust_connect says while one of
	 * the two directions is down. NULL: on none.
	 */
	struct pipe_line (*lines)[FAKE_HOSTS]; /* from, to */
};
extern struct fake_net fake_net;

/* Host h serves the connection, in a task of its own. */
void fake_net_serve(int h, struct stream *s);
struct ip fake_net_address(int h);
/*
 * A power cut, with lines: nobody hears of that host any more, its streams fail, and what its tasks still do is no
 * longer real (fake_host_dead). Up again, after fake_host_restart.
 */
void fake_net_die(int h);
void fake_net_revive(int h);
/* h's [peer] sections: a string of names, "bc". */
void fake_net_peers(int h, const char *names);

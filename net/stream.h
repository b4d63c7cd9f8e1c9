/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A reliable byte stream: all that migration knows of the network. TCP (lwIP) implements it, TLS over it (net/tls.h),
 * memory of this host between two of its own tasks, and in host-built tests a pipe. One reader and one writer task may
 * use a stream at once. Deadlines are absolute time_ns(). Errors are -errno: -ETIMEDOUT, -ECONNRESET, -EPIPE (peer
 * ended), -ECONNREFUSED, -EHOSTUNREACH, -ECANCELED (stream_abort was called). An error is final for the stream, but for
 * one thing: who cannot write any more still reads what the peer said before, often why.
 */
#pragma once
#include "kernel/base/bits.h"
#include "kernel/base/err.h"
#include "kernel/ip.h"
#include "kernel/frame.h"

/*
 * Over TCP. What was lost is sent again each STREAM_AGAIN_NS at least, so that a link that comes back is used at once;
 * where the way's own round trip asks for longer, each two of them. And who is not heard, or acknowledges nothing of
 * what was sent to him, for STREAM_SILENCE_NS is dead (-ETIMEDOUT): hosts say that they live though their tasks are
 * busy and say nothing. A link that is cut for 5 s, and both hosts' next tries, stay well below that.
 */
#define STREAM_AGAIN_NS   (1 * NS_PER_SEC)
#define STREAM_SILENCE_NS (9 * NS_PER_SEC)

struct stream;
struct stream_ops {
	int (*read)(struct stream *s, void *buf, size_t max,
		    uint64_t deadline_ns); /* 1..max, 0: peer ended in order, -errno */
	int (*writev)(struct stream *s, const struct iov *iov, unsigned n,
		      uint64_t deadline_ns); /* all of it: 0 or -errno */
	int (*shutdown)(struct stream *s);   /* no more writes; the peer reads the end */
	void (*abort)(struct stream *s);     /* any task: makes running and later calls return -ECANCELED */
	void (*close)(struct stream *s);     /* frees it; no other task is inside */
};
struct stream {
	const struct stream_ops *ops;
	char peer[48]; /* "10.77.0.12:7077", for messages */
	struct ip ip;  /* the peer's address */
	uint64_t bytes_in, bytes_out;
	uint64_t rtt_ns; /* what connecting took, which is a round trip; 0: not measured */
	uint8_t unread;  /* the reader's: a byte that stream_unread put back */
	bool has_unread;
	int err;      /* [a] the first error, 0: none yet; stream.c's */
	int read_err; /* [a] the first error of reading */
};

/* Exactly len bytes: 0, or -errno (-EPIPE if the stream ends early). */
int stream_read(struct stream *s, void *buf, size_t len, uint64_t deadline_ns) must_check;
/* What there is, 1..max bytes; waits for the first; 0: the peer ended in order. */
int stream_read_some(struct stream *s, void *buf, size_t max, uint64_t deadline_ns) must_check;
/* The byte that was read first is read once more. Its reader, who has read no other. */
void stream_unread(struct stream *s, uint8_t byte);
int stream_write(struct stream *s, const void *buf, size_t len, uint64_t deadline_ns) must_check;
/* Bytes are gone to the network stack when it returns, in order; memory may be reused. */
int stream_writev(struct stream *s, const struct iov *iov, unsigned n, uint64_t deadline_ns) must_check;
int stream_shutdown(struct stream *s);
/*
 * Read away what still comes, until the peer ends or the deadline. Who has said his last word does this before he
 * closes: with data unread TCP sends a reset, and what the peer has not read by then may be lost to it (RFC 1122
 * 4.2.2.13).
 */
void stream_drain(struct stream *s, uint64_t deadline_ns);
void stream_abort(struct stream *s);
void stream_close(struct stream *s); /* NULL is fine */

/* Both ends on this host, in memory; name: the peer's, of both. -ENOMEM. */
int stream_loop_open(const char *name, struct stream **a, struct stream **b) must_check;

#define NET_PEERS_MAX 32
#define NET_KEY_LEN   32
enum {
	NET_PEER_SECURE,
	NET_PEER_INSECURE, /* without a key, in clear */
	NET_PEER_INCOMING, /* with a key, and what it says in clear is heard: while it has a release without keys */
};
struct net_peer { /* another host, by tern.conf */
	char name[32];
	struct ip ip;
	/*
	 * Zeros: none. key is shown first; key_next is taken as well, while the hosts' files change one by one.
	 */
	uint8_t key[NET_KEY_LEN], key_next[NET_KEY_LEN];
	uint32_t insecure; /* NET_PEER_* */
	bool wants_key;    /* its section has one, though maybe none that can be read */
};
static inline bool net_key_is_set(const uint8_t key[NET_KEY_LEN])
{
	unsigned any = 0;
	for (unsigned i = 0; i < NET_KEY_LEN; i++)
		any |= key[i];
	return any;
}
/* Who may abort a stream while it is being connected. */
struct stream_canceller {
	int (*attach)(void *arg, struct stream *s); /* from now on: 0; -ECANCELED, to end it at once */
	void (*detach)(void *arg);                  /* no more: it failed, and is about to be closed */
	void *arg;
};
/*
 * TCP. The listener accepts for ever; serve(arg, s) owns s and runs in a task
 * per connection. canceller (NULL: none) still has the stream that connecting gives; -ECANCELED: it has aborted it.
 */
int stream_tcp_connect(struct stream **s, struct ip ip, uint16_t port, uint64_t deadline_ns,
		       const struct stream_canceller *canceller, struct why *w) must_check;
/* The same to a server of disks, by a network that is for that. */
int stream_tcp_connect_storage(struct stream **s, struct ip ip, uint16_t port, uint64_t deadline_ns,
			       struct why *w) must_check;
/*
 * A connection's peer has proved who he is: its window opens, it gives way to no other, and ARP does not move the peer
 * while it lasts. Once. Other streams: nothing.
 */
void stream_tcp_trust(struct stream *s, bool proved);
int stream_tcp_listen(uint16_t port, unsigned max_connections, void (*serve)(void *arg, struct stream *s),
		      void *arg) must_check;

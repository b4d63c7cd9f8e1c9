/* SPDX-License-Identifier: BSD-2-Clause */
/* TCP streams, inside net/: what tcp.c, tcp_connect.c and tcp_listen.c share. */
#pragma once
#include "kernel/spinlock.h"
#include "kernel/sync.h"
#include "lwip/tcp.h"
#include "net/net.h"
#include "net/port.h"
#include "net/stream.h"

struct tcp_stream { /* [C] lwIP's core lock  [l] lock  [a] atomic  [r] its reading task */
	struct stream s;
	struct tcp_pcb *pcb; /* [C] NULL: lwIP has freed it */
	struct spinlock lock;
	struct waitq readers, writers; /* [l] */
	struct pbuf *rx, **rx_tail; /* [l] received, not yet taken by the reader: links of all packets in one chain */
	int err;                    /* [l], read [a] */
	unsigned space_news;        /* [l] and [C] counts wake-ups of writers */
	bool peer_ended, connected; /* [l] */
	struct pbuf *cur;           /* [r] being read */
	size_t cur_off, credit;     /* [r] bytes of cur that are read; read bytes not yet given back to the window */
	uint32_t last_ack;          /* [C] */
	unsigned stuck;             /* [C] polls since it last moved */
	tcpwnd_size_t held;         /* [C] of the window: kept back until stream_tcp_trust() */
	bool unproved;              /* [C] accepted, and not trusted yet */
	bool neighbour;             /* [C] its peer is kept as one (netif_neighbour_keep) */
};

/* A stream over pcb, callbacks set, or NULL. Core lock held. */
struct tcp_stream *tcp_stream_new(struct tcp_pcb *pcb);
/* pcb knows of no stream any more: whatever becomes of it, nobody is called. Core lock held. */
void tcp_stream_detach(struct tcp_pcb *pcb);
/* The handshake is done, core lock held. */
void tcp_stream_established(struct tcp_pcb *pcb);
/* Several times a second: how soon it is sent again. Core lock held. */
void tcp_resend_tune(struct tcp_pcb *pcb);
/*
 * What lwIP is to hear of a segment that was refused, a full queue's ERR_MEM above all: that it is lost, ERR_OK, if
 * others behind it have been sent. Fast retransmission has taken such a one back among the unsent, whose last one lwIP
 * takes for the end of all: a write would be put behind it, a FIN into it, and the retransmission timer would leave it
 * behind its successors, for ever. Core lock held.
 */
err_t tcp_resend_refused(struct ip to, const void *tcp, err_t err);
/* What lwIP says, as -errno. */
int tcp_stream_errno(err_t e, bool connecting);

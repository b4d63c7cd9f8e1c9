/* SPDX-License-Identifier: BSD-2-Clause */
/* What tern has to say in when lwIP sends again what was not acknowledged (net/tcp.h). */
#include "lwip/priv/tcp_priv.h"
#include "net/tcp.h"

#define NRTX_CAP    3 /* how often is nothing to give up by: STREAM_SILENCE_NS is */
#define PERSIST_CAP 3 /* a closed window is probed after 0.3, 0.6, 1.2, 1.2 ... s */

/*
 * TCP's back-off would leave a link that was cut for 5 s alone for some seconds more. What doubles here is the interval
 * up to STREAM_AGAIN_NS: one segment each second is no load for any line (Linux has the same as tcp_rto_max_ms). A line
 * whose measured round trip is longer gets twice that.
 */
void tcp_resend_tune(struct tcp_pcb *pcb)
{
	const int again = STREAM_AGAIN_NS / NS_PER_MS / TCP_SLOW_INTERVAL, measured = (pcb->sa >> 3) + pcb->sv;
	pcb->rto = (s16_t)MIN((int)pcb->rto, MIN(MAX(measured, again), 2 * again));
	pcb->nrtx = MIN(pcb->nrtx, NRTX_CAP);
	pcb->persist_backoff = MIN(pcb->persist_backoff, PERSIST_CAP);
	pcb->persist_probe = MIN(pcb->persist_probe, NRTX_CAP);
}

static uint32_t seq_of(const struct tcp_seg *s) { return lwip_ntohl(s->tcphdr->seqno); }

/* The connection whose segment that is, by its remote address and ports; NULL: it has gone, or is not yet one. */
static const struct tcp_pcb *owner(struct ip to, const struct tcp_hdr *h)
{
	for (const struct tcp_pcb *p = tcp_active_pcbs; p; p = p->next)
		if (p->local_port == lwip_ntohs(h->src) && p->remote_port == lwip_ntohs(h->dest) &&
		    ip_same(netif_ip_of(&p->remote_ip), to))
			return p;
	return NULL;
}

err_t tcp_resend_refused(struct ip to, const void *tcp, err_t err)
{
	const struct tcp_hdr *h = tcp;
	const struct tcp_pcb *pcb = owner(to, h);
	return pcb && pcb->unacked && TCP_SEQ_LT(lwip_ntohl(h->seqno), seq_of(pcb->unacked)) ? ERR_OK : err;
}

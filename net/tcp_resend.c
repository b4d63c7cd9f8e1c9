/* SPDX-License-Identifier: BSD-2-Clause */
/* When lwIP sends again what was not acknowledged, and which of it first (net/tcp.h). */
#include "lwip/priv/tcp_priv.h"
#include "net/tcp.h"

#define NRTX_CAP    3 /* how often is nothing to give up by: STREAM_SILENCE_NS is */
#define PERSIST_CAP 3 /* a closed window is probed after 0.3, 0.6, 1.2, 1.2 ... s */

/*
 * TCP's back-off would leave a link that was cut for 5 s alone for some seconds more. What doubles here is the interval
 * up to STREAM_AGAIN_NS: one segment each second is no load for any line (Linux has the same as tcp_rto_max_ms). A line
 * whose measured round trip is longer gets twice that.
 */
static void cap_backoff(struct tcp_pcb *pcb)
{
	const int again = STREAM_AGAIN_NS / NS_PER_MS / TCP_SLOW_INTERVAL, measured = (pcb->sa >> 3) + pcb->sv;
	pcb->rto = (s16_t)MIN((int)pcb->rto, MIN(MAX(measured, again), 2 * again));
	pcb->nrtx = MIN(pcb->nrtx, NRTX_CAP);
	pcb->persist_backoff = MIN(pcb->persist_backoff, PERSIST_CAP);
	pcb->persist_probe = MIN(pcb->persist_probe, NRTX_CAP);
}

static uint32_t seq_of(const struct tcp_seg *s) { return lwip_ntohl(s->tcphdr->seqno); }

/*
 * A segment that was to be repeated by fast retransmission, and found the card's queue full, is among the unsent ones.
 * When the retransmission timer then puts all that were sent in front of these (tcp_rexmit_rto_prepare), it stands
 * behind segments that nobody can acknowledge without it, and the congestion window, which has room for one, never gets
 * there.
 */
static void lost_one_first(struct tcp_pcb *pcb)
{
	struct tcp_seg **least = &pcb->unsent;
	for (struct tcp_seg **at = least; pcb->nrtx && *at; at = &(*at)->next)
		if (TCP_SEQ_LT(seq_of(*at), seq_of(*least)))
			least = at;
	struct tcp_seg *s = *least;
	if (s == pcb->unsent)
		return;
	if (!s->next)
		pcb->unsent_oversize = 0; /* it is of the last one */
	*least = s->next;
	s->next = pcb->unsent;
	pcb->unsent = s;
}

void tcp_resend_tune(struct tcp_pcb *pcb)
{
	cap_backoff(pcb);
	lost_one_first(pcb);
}

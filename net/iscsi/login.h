/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The login phase of iSCSI (RFC 7143 6.2, 6.3, 11.12, 11.13): who this is and who that is proved by CHAP (RFC 1994,
 * by MD5, which each target has to know), then how data goes. Over a stream that the caller has connected; a session
 * of one connection, error recovery level 0.
 */
#pragma once
#include "net/iscsi/pdu.h"

#define ISCSI_NAME_MAX   224 /* with its NUL: RFC 7143 4.2.7.2 */
#define ISCSI_USER_MAX   64
#define ISCSI_SECRET_MAX 64
#define ISCSI_RECV_MAX   (256U << 10) /* bytes of data in a PDU that we take */
#define ISCSI_BURST_MAX  (256U << 10) /* ... that go without the target having asked */

enum iscsi_digests { ISCSI_DIGEST_BOTH, ISCSI_DIGEST_HEADER, ISCSI_DIGEST_NONE }; /* what is offered: with NONE last */
struct iscsi_target {
	struct ip ip;
	uint16_t port;
	char name[ISCSI_NAME_MAX];      /* the target's */
	char initiator[ISCSI_NAME_MAX]; /* ours; with isid it is the I_T nexus, to which registrations belong */
	uint8_t isid[6];
	char user[ISCSI_USER_MAX], secret[ISCSI_SECRET_MAX]; /* "": without CHAP */
	uint32_t digests;                                    /* enum iscsi_digests */
};
struct iscsi_params {                          /* what was agreed on */
	uint32_t send_max;                     /* bytes of data in a PDU that the target takes */
	uint32_t first_burst;                  /* ... of a command that need no R2T, with the immediate ones */
	uint32_t max_burst;                    /* ... of a sequence */
	bool initial_r2t;                      /* nothing goes unasked but immediate data */
	bool immediate;                        /* data may go along with the command */
	uint16_t tsih;                         /* target session identifying handle */
	uint32_t cmdsn, max_cmdsn, exp_statsn; /* of the full-feature phase: the next command's, and so on */
	struct ip moved_ip;                    /* of -ESTALE: where the target is instead */
	uint16_t moved_port;
};
/*
 * 0: w is in full-feature phase, its digests set. Else the stream is of no more use: -EACCES, we are not let in, or the
 * secret is wrong; -ESTALE: the target has moved; -EAGAIN: it cannot now; -ENOENT: there is no such target; -EPROTO;
 * or what the stream said. Sleeps.
 */
int iscsi_login(struct iscsi_wire *w, const struct iscsi_target *t, struct iscsi_params *p, uint64_t deadline_ns,
		struct why *why) must_check;

/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * An iSCSI target in memory, for tests of the initiator: a task at the other end of a pipe, which
 * stream_tcp_connect_storage gives. It holds what the initiator sends against RFC 7143 (`complaint`), and does what a
 * test makes it do: its hooks run in its own task. It has a byte-addressed memory disk: a transfer is as long as its
 * command expects.
 */
#pragma once
#include "kernel/spinlock.h"
#include "net/iscsi/scsi.h"
#include "net/iscsi/text.h"
#include "net/iscsi/pdu.h"

#define PORTAL_BLOCK 512U
#define PORTAL_DISK  (1U << 20)
#define PORTAL_NAME  "iqn.2026-01.test:t"
#define PORTAL_TASKS 256

struct portal;
struct portal_pdu { /* what is about to be sent: a hook may change it */
	uint8_t *bhs;
	const void *data;
	size_t len;
};
enum portal_fault {
	PORTAL_WELL,
	PORTAL_NOT,        /* is not sent */
	PORTAL_BAD_HEADER, /* its header's digest is wrong */
	PORTAL_BAD_DATA,
	PORTAL_END,      /* the connection ends after it */
	PORTAL_CUT,      /* ... in the middle of it */
	PORTAL_CUT_DATA, /* ... in the middle of its data */
};
struct portal_task { /* a command that has no answer yet */
	bool used, write, unasked;
	uint32_t itt, len, got, end, datasn, ttt;
	uint64_t off;
	uint16_t lun;
};
struct portal {
	/* What it is like. Set before somebody connects. */
	const char *user, *secret; /* NULL: without CHAP */
	bool header_digest, data_digest, initial_r2t, immediate;
	bool slow_login;                                           /* answers in many steps */
	bool separate_status;                                      /* of a read: not in the last data */
	uint32_t recv_max, in_max, max_burst, first_burst, window; /* in_max: bytes in a DATA IN */
	uint8_t login_class, login_detail;                         /* refuses each login */
	const char *moved;                                         /* of class 1: where to */
	unsigned moves;                                            /* so many logins are sent there; then it lets in */
	bool lenient; /* data of no command, or no CHAP_A, are no cause for a complaint */
	size_t pipe;  /* bytes that are on the way, each way */

	/* Hooks; NULL: none. */
	enum portal_fault (*sends)(struct portal *p, struct portal_pdu *o); /* logins too */
	/* Of a PDU the header has been read, its data not; true: the hook has dealt with it, as far as it wants. */
	bool (*hears)(struct portal *p, const uint8_t *bhs);
	int arg;

	/* What has come of it. Read while nobody is connected, but for [a]. */
	unsigned connects, logins, sent, pings, pongs, aborts, logouts; /* [a] */
	struct ip last_ip;
	uint16_t last_port;
	struct why complaint;
	uint8_t disk[PORTAL_DISK];

	/* Its own. */
	struct stream *s, *peer;                  /* the initiator's end */
	bool stop, full_feature, send_digests[2]; /* of headers, of data */
	bool busy;                                /* [a] */
	uint32_t peer_max, exp_cmdsn, statsn, ttts;
	unsigned pending;
	struct portal_task task[PORTAL_TASKS];
};

/* A target as most are; it is who answers stream_tcp_connect_storage from now on. */
void iscsi_target_init(struct portal *p);
#define PORTAL_COUNT(n)    ((void)__atomic_fetch_add(&(n), 1, __ATOMIC_SEQ_CST))
#define PORTAL_COUNT_OF(n) __atomic_load_n(&(n), __ATOMIC_SEQ_CST)

/* ---- for its task: hooks ---- */

/* Stamps sequence numbers into bhs, and sends it. numbered: it has a StatSN of its own. */
void iscsi_target_send(struct portal *p, uint8_t *bhs, const void *data, size_t len, bool numbered);
struct portal_task *iscsi_target_find(struct portal *p, uint32_t itt);
/* t ends. sense: 0, or key << 16 | ASC: then its status is CHECK CONDITION. */
void iscsi_target_answer(struct portal *p, struct portal_task *t, uint8_t status, uint32_t sense);
/* Goes on with a command that a hook has held: a read. */
void iscsi_target_read(struct portal *p, struct portal_task *t);
void iscsi_target_nop(struct portal *p, uint32_t ttt); /* a NOP that wants an answer */
void iscsi_target_async(struct portal *p, uint8_t event);
void iscsi_target_complain(struct portal *p, const char *fmt, ...) printf_like(2, 3);

/* ---- between its files ---- */

bool iscsi_target_login(struct portal *p);
/*
 * The next PDU's header; its data, at most max bytes, NULL: to nowhere. False: the connection has ended, or a digest is
 * wrong.
 */
bool iscsi_target_recv(struct portal *p, uint8_t *bhs);
bool iscsi_target_recv_data(struct portal *p, const uint8_t *bhs, uint8_t *to, size_t max);

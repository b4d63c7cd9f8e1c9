/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * iSCSI's protocol data units (RFC 7143 11): a basic header segment of 48 bytes, perhaps additional ones, data padded
 * to words, and a CRC-32C behind either where that was negotiated. Fields are big-endian, at the offsets below.
 */
#pragma once
#include "kernel/base/bits.h"
#include "net/stream.h"

#define ISCSI_BHS       48
#define ISCSI_NO_TAG    0xffffffffU
#define ISCSI_IMMEDIATE 0x40 /* of a request's opcode */
#define ISCSI_OPCODE    0x3f

/* 11.2.1.2 */
enum iscsi_opcode {
	ISCSI_NOP_OUT = 0x00,
	ISCSI_SCSI_COMMAND = 0x01,
	ISCSI_TASK_MGMT = 0x02,
	ISCSI_LOGIN = 0x03,
	ISCSI_TEXT = 0x04,
	ISCSI_DATA_OUT = 0x05,
	ISCSI_LOGOUT = 0x06,
	ISCSI_NOP_IN = 0x20,
	ISCSI_SCSI_RESPONSE = 0x21,
	ISCSI_TASK_MGMT_RESPONSE = 0x22,
	ISCSI_LOGIN_RESPONSE = 0x23,
	ISCSI_TEXT_RESPONSE = 0x24,
	ISCSI_DATA_IN = 0x25,
	ISCSI_LOGOUT_RESPONSE = 0x26,
	ISCSI_R2T = 0x31,
	ISCSI_ASYNC = 0x32,
	ISCSI_REJECT = 0x3f,
};
/* Offsets that all, or several, of them have. */
enum {
	BHS_OPCODE = 0,
	BHS_FLAGS = 1,
	BHS_RESPONSE = 2, /* of responses; REJECT: reason */
	BHS_STATUS = 3,   /* SAM status of SCSI RESPONSE and DATA IN */
	BHS_AHS_LEN = 4,  /* in words */
	BHS_DATA_LEN = 5, /* 3 bytes */
	BHS_LUN = 8,      /* 8 bytes; LOGIN: ISID (6), TSIH (2) */
	BHS_ITT = 16,     /* initiator task tag */
	BHS_TTT = 20,     /* target transfer tag; SCSI COMMAND: expected data transfer length; LOGIN, LOGOUT: CID (2) */
	BHS_CMDSN = 24,   /* requests */
	BHS_EXPSTATSN = 28,
	BHS_STATSN = 24, /* responses */
	BHS_EXPCMDSN = 28,
	BHS_MAXCMDSN = 32,
	BHS_DATASN =
		36, /* DATA IN, DATA OUT, R2T; SCSI RESPONSE: ExpDataSN; ASYNC: event (1), vendor (1), Parameter1 */
	BHS_OFFSET = 40,   /* DATA IN, DATA OUT, R2T: buffer offset */
	BHS_RESIDUAL = 44, /* SCSI RESPONSE, DATA IN; R2T: desired length */
	BHS_CDB = 32,      /* SCSI COMMAND: 16 bytes */
	BHS_TMF_REF = 20,  /* TASK MGMT: the task's ITT; RefCmdSN at 32 */
	BHS_TMF_REFCMDSN = 32,
	BHS_LOGIN_STATUS = 36, /* LOGIN RESPONSE: class, detail */
	BHS_ASYNC_EVENT = 36,
	BHS_ASYNC_PARAM = 38, /* three of 2 bytes */
	BHS_LOGOUT_TIME2WAIT = 40,
};
/* Flags: 11.3.1, 11.4.1, 11.7.3, 11.12 */
#define ISCSI_FINAL       0x80
#define ISCSI_READ        0x40
#define ISCSI_WRITE       0x20
#define ISCSI_ATTR_SIMPLE 0x01
#define ISCSI_DATA_STATUS 0x01 /* DATA IN has the status */
#define ISCSI_UNDERFLOW   0x02
#define ISCSI_TRANSIT     0x80 /* LOGIN */
#define ISCSI_CONTINUE    0x40
#define ISCSI_CSG_BIT     2 /* LOGIN: current stage; next stage at 0 */

#define ISCSI_PIECES 40 /* of data that go out in a PDU, at most */

/* A connection as PDUs. One task sends, one receives. */
struct iscsi_wire {
	struct stream *s;
	bool header_digest, data_digest; /* after the login */
};
static inline size_t iscsi_pdu_data_len(const uint8_t *bhs) { return get_be24(bhs + BHS_DATA_LEN); }

/*
 * n (up to ISCSI_PIECES) pieces, of len bytes in all, behind bhs, whose data length is set here. Sleeps. What the
 * stream says, or 0.
 */
int iscsi_pdu_send(struct iscsi_wire *w, uint8_t *bhs, const struct iov *data, unsigned n, size_t len,
		   uint64_t deadline_ns) must_check;
/*
 * The header of the next one; additional segments are skipped. -EBADMSG: its digest is wrong; -EMSGSIZE: it has more
 * than max bytes of data. What it has is to be taken by iscsi_pdu_get before the next one.
 */
int iscsi_pdu_recv(struct iscsi_wire *w, uint8_t *bhs, size_t max, uint64_t deadline_ns) must_check;
/*
 * len bytes of its data into the pieces; with len + what was taken before = all of it, padding and digest as well.
 * -EBADMSG: the digest is wrong: what was taken is not to be believed.
 */
struct iscsi_data { /* of one PDU that comes: zeros first */
	size_t taken;
	uint32_t crc;
};
int iscsi_pdu_get(struct iscsi_wire *w, const uint8_t *bhs, struct iscsi_data *d, void *to, size_t len,
		  uint64_t deadline_ns) must_check;

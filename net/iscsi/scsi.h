/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * SCSI commands as bytes, and what devices answer: SAM-5 (status), SPC-4 (INQUIRY, REPORT LUNS, persistent
 * reservations, sense data), SBC-3 (blocks). Without I/O. What is decoded comes from a device, and is not believed.
 */
#pragma once
#include "kernel/base/bits.h"

#define SCSI_CDB   16
#define SCSI_SENSE 64 /* bytes of sense data that are kept */

/* SAM-5 5.3 */
enum scsi_status {
	SCSI_GOOD = 0x00,
	SCSI_CHECK_CONDITION = 0x02,
	SCSI_BUSY = 0x08,
	SCSI_RESERVATION_CONFLICT = 0x18,
	SCSI_TASK_SET_FULL = 0x28,
	SCSI_ACA_ACTIVE = 0x30,
	SCSI_TASK_ABORTED = 0x40,
};
/* SPC-4 4.5.6 */
enum scsi_key {
	SCSI_NO_SENSE = 0x0,
	SCSI_RECOVERED_ERROR = 0x1,
	SCSI_NOT_READY = 0x2,
	SCSI_MEDIUM_ERROR = 0x3,
	SCSI_HARDWARE_ERROR = 0x4,
	SCSI_ILLEGAL_REQUEST = 0x5,
	SCSI_UNIT_ATTENTION = 0x6,
	SCSI_DATA_PROTECT = 0x7,
	SCSI_ABORTED_COMMAND = 0xb,
};
#define SCSI_ASC(asc, ascq)              ((uint16_t)((asc) << 8 | (ascq)))
#define SCSI_ASC_SPACE_ALLOCATION_FAILED SCSI_ASC(0x27, 0x07) /* thin provisioning: it is full for good */
#define SCSI_ASC_TEMPORARY_SPACE         SCSI_ASC(0x04, 0x14) /* space allocation in progress: again later */
#define SCSI_ASC_BECOMING_READY          SCSI_ASC(0x04, 0x01)

struct scsi_sense {
	uint8_t key;  /* enum scsi_key */
	uint16_t asc; /* SCSI_ASC */
};
/* n bytes of either format, fixed or descriptor. False: it says nothing that is known. */
bool scsi_sense_parse(const uint8_t *p, size_t n, struct scsi_sense *s);
/* "unit attention, 29/00" */
void scsi_sense_text(const struct scsi_sense *s, char *text, size_t size);

/* ---- commands ---- */

void scsi_test_unit_ready(uint8_t *cdb);
/* page < 0: the standard data; else that page of vital product data. */
void scsi_inquiry(uint8_t *cdb, int page, uint16_t len);
void scsi_read_capacity(uint8_t *cdb, uint8_t len); /* the one of 16 bytes */
void scsi_read(uint8_t *cdb, uint64_t block, uint32_t blocks);
void scsi_write(uint8_t *cdb, uint64_t block, uint32_t blocks);
void scsi_synchronize_cache(uint8_t *cdb); /* all of it */
/* One block of zeros, which goes along, for each of those; unmap: the device may give their space back. */
void scsi_write_same(uint8_t *cdb, uint64_t block, uint32_t blocks, bool unmap);

#define SCSI_CAPACITY_LEN 32
struct scsi_capacity {
	uint64_t blocks;
	uint32_t block_len;       /* bytes */
	bool thin, unmaps_zeroes; /* LBPME; LBPRZ: what was unmapped reads as zeros */
};
bool scsi_capacity_parse(const uint8_t *p, size_t n, struct scsi_capacity *c);

#define SCSI_INQUIRY_LEN 96
struct scsi_inquiry {
	uint8_t type; /* 0: a disk; 0x1f: there is no such unit */
	char vendor[9], product[17], revision[5];
};
bool scsi_inquiry_parse(const uint8_t *p, size_t n, struct scsi_inquiry *i);
/*
 * What the device says that names this unit wherever it is seen (VPD page 0x83): its NAA, EUI-64 or T10 name, as text.
 * False: none.
 */
bool scsi_device_id(const uint8_t *p, size_t n, char *text, size_t size);
/* The limits that VPD page 0xb0 gives: most blocks of a transfer, 0: none said. */
struct scsi_limits {
	uint32_t transfer;
};
bool scsi_limits_parse(const uint8_t *p, size_t n, struct scsi_limits *l);

/* ---- persistent reservations: SPC-4 5.13, 6.15, 6.16 ---- */

enum scsi_pr_out {
	SCSI_PR_REGISTER = 0,
	SCSI_PR_RESERVE = 1,
	SCSI_PR_RELEASE = 2,
	SCSI_PR_CLEAR = 3,
	SCSI_PR_PREEMPT = 4,
	SCSI_PR_PREEMPT_AND_ABORT = 5, /* ... and what its nexus has under way */
	SCSI_PR_REGISTER_AND_IGNORE = 6,
};
enum scsi_pr_in { SCSI_PR_READ_KEYS = 0, SCSI_PR_READ_RESERVATION = 1 };
#define SCSI_PR_WRITE_EXCLUSIVE 1 /* the type: others may read */
#define SCSI_PR_OUT_LEN         24
#define SCSI_PR_APTPL           1 /* "activate persist through power loss" */
/* param: SCSI_PR_OUT_LEN bytes that go along. */
void scsi_pr_out(uint8_t *cdb, uint8_t *param, enum scsi_pr_out what, uint64_t key, uint64_t new_key, bool aptpl);
void scsi_pr_in(uint8_t *cdb, enum scsi_pr_in what, uint16_t len);

struct scsi_pr_holder {
	uint32_t generation; /* changes with each registration; 0: there has been none since the unit's power-on */
	bool held;
	uint64_t key;
	uint8_t type;
};
bool scsi_pr_holder_parse(const uint8_t *p, size_t n, struct scsi_pr_holder *h);

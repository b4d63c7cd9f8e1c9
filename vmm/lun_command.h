/* SPDX-License-Identifier: BSD-2-Clause */
/* A SCSI command by itself, for what is asked of a unit beside its guest's reads and writes. */
#pragma once
#include "net/iscsi/session.h"

#define LUN_COMMAND_NS (3 * NS_PER_SEC) /* at most, each try */

/*
 * len bytes go or come; *got (may be NULL): how many did. Done again where a unit attention was in its way. 0; -EBUSY:
 * RESERVATION CONFLICT; -ENOTSUP: the unit does not know that; -EIO: it complains, by why; or the session's error.
 * Sleeps.
 */
int lun_command(struct iscsi_session *s, uint16_t lun, const uint8_t *cdb, enum iscsi_dir dir, void *data, uint32_t len,
		uint32_t *got, struct why *w) must_check;

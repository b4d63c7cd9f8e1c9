/* SPDX-License-Identifier: BSD-2-Clause */
/* Commands by themselves (lun_command.h). */
#include "vmm/lun_command.h"
#include "kernel/time.h"
#include <string.h>

#define TRIES 6 /* of a command that a unit attention stops: there is one for each thing that happened */

int lun_command(struct iscsi_session *s, uint16_t lun, const uint8_t *cdb, enum iscsi_dir dir, void *data, uint32_t len,
		uint32_t *got, struct why *w)
{
	struct iov v = { data, len };
	char text[80];
	for (unsigned i = 0; i < TRIES; i++) {
		struct scsi_sense sense;
		struct iscsi_task t = { .lun = lun, .dir = dir, .seg = &v, .len = len };
		t.deadline_ns = time_ns() + LUN_COMMAND_NS;
		memcpy(t.cdb, cdb, SCSI_CDB);
		int err = iscsi_session_do(s, &t);
		if (got)
			*got = t.got;
		if (err)
			return why_set(w, err, "the target: %s", err_name(err));
		if (t.status == SCSI_GOOD)
			return 0;
		if (t.status == SCSI_RESERVATION_CONFLICT)
			return -EBUSY;
		if (t.status != SCSI_CHECK_CONDITION || !scsi_sense_parse(t.sense, t.sense_len, &sense))
			return why_set(w, -EIO, "the unit answers with status %02x", t.status);
		if (sense.key == SCSI_UNIT_ATTENTION)
			continue;
		scsi_sense_text(&sense, text, sizeof(text));
		return why_set(w, sense.key == SCSI_ILLEGAL_REQUEST ? -ENOTSUP : -EIO, "the unit says: %s", text);
	}
	return why_set(w, -EAGAIN, "the unit does not come to rest");
}

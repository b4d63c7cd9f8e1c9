/* SPDX-License-Identifier: BSD-2-Clause */
/* What the files of the command `migrate` share. A console's task calls all of it. */
#pragma once
#include "kernel/console.h"
#include "vmm/migrate/migrate.h"

#define MIGRATE_CMD_UNDECIDED_NS (60 * NS_PER_SEC) /* a script does not wait for ever */

/* The newest migration of this VM that leaves this host. */
bool migrate_cmd_status(const char *name, struct migrate_status *s);
static inline bool migrate_cmd_is_over(const struct migrate_status *s)
{
	return s->phase == MIG_DONE || s->phase == MIG_FAILED || s->phase == MIG_CANCELLED;
}
/* All that is known of it; in a table, its row. */
void migrate_cmd_report(struct con *c, const struct migrate_status *s);
/* Of that, what its downtime was predicted to be and was, in parts. */
void migrate_cmd_forecast(struct con *c, const struct migrate_status *s);
/* And how long its guest and each vCPU waited for pages, in post-copy. */
void migrate_cmd_waits(struct con *c, const struct migrate_status *s);
int migrate_cmd_history(struct con *c, int argc, char **argv);
/* How far it is, in place of the line that the cursor is in. */
void migrate_cmd_progress(struct con *c, const struct migrate_status *s);
/* `migrate all to PEER`: 0, or the command's error: not all have moved. detach: do not wait for them. */
int migrate_cmd_all(struct con *c, const struct migrate_params *p, const char *peer, bool detach);

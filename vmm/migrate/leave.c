/* SPDX-License-Identifier: BSD-2-Clause */
/* May this host be switched off (migrate.h)? What it alone knows or holds would be lost with it. */
#include "kernel/log.h"
#include "vmm/migrate/attempts.h"
#include "vmm/migrate/migrate.h"
#include "vmm/migrate/settle.h"

int migrate_may_leave(struct why *w)
{
	struct migrate_status s;
	for (unsigned i = 0; migrate_get(i, &s); i++) {
		if (s.phase == MIG_UNDECIDED)
			return why_set(w, -EBUSY,
				       "%s is undecided: its image is here, and if it does not run at %s, it is lost "
				       "with this host",
				       s.vm, s.peer);
		if (s.phase < MIG_UNDECIDED)
			return why_set(w, -EBUSY, "%s is being moved %s %s: wait, or `migrate cancel` it", s.vm,
				       s.incoming ? "from" : "to", s.peer);
	}
	struct decision d;
	settle_once(); /* most sources have heard by now */
	unsigned left = settle_hand_on();
	if (left && attempt_get(0, &d))
		return why_set(w, -EBUSY,
			       "this host alone knows what became of %u attempt%s to move a VM here (%s, from %s), and "
			       "no peer takes the "
			       "record: its source may stay undecided",
			       left, left == 1 ? "" : "s", d.vm, d.source);
	return 0;
}

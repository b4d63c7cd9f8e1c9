/* SPDX-License-Identifier: BSD-2-Clause */
/* May this host be switched off (migrate.h)? What it alone knows or holds would be lost with it. */
#include "kernel/ip.h"
#include "kernel/time.h"
#include "vmm/migrate/attempts.h"
#include "vmm/migrate/migrate.h"
#include "vmm/migrate/settle.h"
#include "vmm/migrate/this_host.h"

#define LEAVE_NS (20 * NS_PER_SEC) /* for all that has to be asked and handed on */

static int stays_for_a_vm(struct why *w)
{
	struct migrate_status s;
	for (unsigned i = 0; migrate_get(i, &s); i++) {
		if (s.phase == MIG_UNDECIDED)
			return why_set(w, -EBUSY,
				       "%s is undecided: if it does not run at %s, it is lost with this host. `vm "
				       "claim` decides",
				       s.vm, s.peer);
		if (s.phase == MIG_REMOTE)
			return why_set(w, -EBUSY,
				       "%s has left memory at the host that it came from: if either is switched off "
				       "before all "
				       "of it is at %s, the VM is lost. `migrate status` has what is left",
				       s.vm, s.incoming ? "this one" : s.peer_name);
		if (s.phase < MIG_UNDECIDED)
			return why_set(w, -EBUSY, "%s is being moved %s %s: wait, or `migrate cancel` it", s.vm,
				       s.incoming ? "from" : "to", s.peer);
	}
	return 0;
}

int migrate_may_leave(struct why *w)
{
	struct decision d;
	uint64_t end = time_ns() + LEAVE_NS;
	int err = stays_for_a_vm(w);
	if (err)
		return err;
	settle_once(end); /* most sources have heard by now */
	unsigned left = settle_hand_on(end);
	if (left && attempt_get(0, &d))
		return why_set(w, -EBUSY,
			       "this host alone knows what became of %u attempt%s to move a VM here (%.31s, from "
			       "%.39s), and no peer takes "
			       "the record: switch that host or a peer on first",
			       left, left == 1 ? "" : "s", d.vm, migrate_peer_name(d.source, ip_text(d.source).s));
	return stays_for_a_vm(w); /* one may have come meanwhile */
}

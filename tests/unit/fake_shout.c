/* SPDX-License-Identifier: BSD-2-Clause */
/* In place of vmm/migrate/shout.c: frames between hosts arrive at once, where the test lets them pass. */
#include "tests/unit/fake_hosts.h"
#include "vmm/migrate/probe.h"
#include "vmm/migrate/shout.h"
#include <string.h>

void shout_begin(struct shout *s, const struct who *q)
{
	int me = fake_host;
	struct have_answer a;
	s->heard = false;
	for (int i = 0; i < FAKE_HOSTS; i++) {
		if (i == me || !fake_frame_passes || !fake_frame_passes(me, i))
			continue;
		struct who asked = *q;
		memset(&asked.id, 0, sizeof(asked.id));
		ON_HOST(i) probe_local(&asked, &a);
		if (a.have == HAVE_HERE && fake_frame_passes(i, me)) {
			s->heard = true;
			memcpy(s->host, fake_hosts[i].name, sizeof(s->host));
		}
	}
}
void shout_end(struct shout *s unused) {}
void shout_init(void) {}

/* SPDX-License-Identifier: BSD-2-Clause */
/* In place of shout.c and the bridges: frames between hosts arrive at once, where the test lets them pass. */
#include "tests/unit/fake_hosts.h"
#include "vmm/migrate/probe.h"
#include "vmm/migrate/reach.h"
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

const char *fake_host_net[FAKE_HOSTS];
struct bridge *bridge_find(const char *name, struct why *w)
{
	const char *has = fake_host_net[fake_host];
	if (!name[0] || !has || !strcmp(has, name))
		return (struct bridge *)&fake_host_net;
	(void)why_set(w, -ENOENT, "there is no network %s here", name);
	return NULL;
}

const char *bridge_name(const struct bridge *b unused) { return "lan"; }
unsigned fake_host_mtu[FAKE_HOSTS];
unsigned bridge_mtu(const struct bridge *b unused) { return fake_host_mtu[fake_host] ?: ETH_DATA_MAX; }

int fake_reach;
const char *fake_reach_silent;
bool fake_reach_slow;
int reach_ask(const char *net, const struct reach_to *to, struct why *w)
{
	if (fake_reach_silent && !strcmp(net, fake_reach_silent))
		return why_set(w, -ETIMEDOUT, "nothing comes from %s", to->name);
	if (fake_reach_slow)
		task_sleep_until(to->end_ns - 2 * NS_PER_SEC);
	return fake_reach == -EHOSTUNREACH ? why_set(w, fake_reach, "frames do not get to %s", to->name) : fake_reach;
}

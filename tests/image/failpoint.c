/* SPDX-License-Identifier: BSD-2-Clause */
/* Failpoints (vmm/migrate/failpoint.h), and the command that arms them. */
#include "vmm/migrate/failpoint.h"
#include "kernel/console.h"
#include "kernel/log.h"
#include "kernel/task.h"
#include "kernel/time.h"
#include "vmm/migrate/migrate.h"
#include <stdlib.h>
#include <string.h>

#define STALL_NS (40 * NS_PER_SEC) /* longer than any wait of the protocol */

static const char *const actions[] = {
	[FAIL_NONE] = "off", [FAIL_ERROR] = "error", [FAIL_CUT] = "cut", [FAIL_STALL] = "stall", [FAIL_CRASH] = "crash",
};
static struct {
	int action;     /* [a] */
	unsigned count; /* [a] hits left */
	unsigned hits;  /* [a] so far */
} points[FAILPOINT_COUNT];

void failpoint_set(enum failpoint p, enum fail_action action, unsigned count)
{
	__atomic_store_n(&points[p].count, 0, __ATOMIC_SEQ_CST);
	__atomic_store_n(&points[p].action, action, __ATOMIC_SEQ_CST);
	__atomic_store_n(&points[p].count, action == FAIL_NONE ? 0 : count, __ATOMIC_SEQ_CST);
}

static bool take(enum failpoint p)
{
	unsigned n = __atomic_load_n(&points[p].count, __ATOMIC_SEQ_CST);
	while (n &&
	       !__atomic_compare_exchange_n(&points[p].count, &n, n - 1, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST))
		;
	return n;
}

int failpoint_hit(enum failpoint p, struct stream *s)
{
	if (!take(p))
		return 0;
	int action = __atomic_load_n(&points[p].action, __ATOMIC_SEQ_CST);
	__atomic_fetch_add(&points[p].hits, 1, __ATOMIC_SEQ_CST);
	log_info("failpoint P%d: %s", (int)p, actions[action]);
	switch ((enum fail_action)action) {
	case FAIL_NONE: return 0;
	case FAIL_ERROR: return -EIO;
	case FAIL_CUT:
		if (s)
			stream_abort(s);
		return -ECONNRESET;
	case FAIL_STALL:
		for (uint64_t end = time_ns() + STALL_NS; time_ns() < end;) {
			task_sleep_until(time_in_ms(100));
			if (__atomic_load_n(&points[p].action, __ATOMIC_SEQ_CST) == FAIL_NONE)
				break; /* switched off meanwhile */
		}
		return 0;
	case FAIL_CRASH: panic("failpoint P%d", (int)p);
	}
	return 0;
}

static int cmd_failpoint(struct con *c, int argc, char **argv)
{
	unsigned long p = 0, count = 1;
	int action = -1;
	char *end;

	if (argc == 1) {
		out_table(c, "failpoints", "5 point, -6 action, 5 count, 5 hits", NULL);
		for (unsigned i = 0; i < FAILPOINT_COUNT; i++) {
			out_row(c);
			out_u64(c, "point", i);
			out_str(c, "action", points[i].count ? actions[points[i].action] : "off");
			out_u64(c, "count", points[i].count);
			out_u64(c, "hits", points[i].hits);
			out_row_end(c);
		}
		out_table_end(c);
		return 0;
	}
	for (unsigned i = 0; argc >= 3 && i < ARRAY_SIZE(actions); i++)
		if (!strcmp(argv[2], actions[i]))
			action = (int)i;
	if (argv[1][0] == 'P' || argv[1][0] == 'p')
		p = strtoul(argv[1] + 1, &end, 10);
	else
		p = FAILPOINT_COUNT;
	if (p >= FAILPOINT_COUNT || end == argv[1] + 1 || *end || action < 0)
		return con_error(c, -EINVAL, "failpoint: usage: failpoint P0..P22 error|cut|stall|crash|off [COUNT]");
	if (argc == 4)
		count = strtoul(argv[3], NULL, 10);
	failpoint_set((enum failpoint)p, (enum fail_action)action, (unsigned)count);
	out_u64(c, "point", p);
	out_str(c, "action", actions[action]);
	out_u64(c, "count", count);
	return 0;
}
CONSOLE_CMD(failpoint, "[P0..P22 error|cut|stall|crash|off [COUNT]]", "make a step of a migration fail (test builds)",
	    "failpoint P8 cut", cmd_failpoint, NULL);

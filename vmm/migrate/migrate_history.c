/* SPDX-License-Identifier: BSD-2-Clause */
/* `migrate history`: those that are over, of the table that `migrate status` shows; and the forecast of each one. */
#include "vmm/migrate/migrate_cmd.h"
#include <stdio.h>
#include <string.h>

/* What JSON calls a part, predicted and actual. */
static const char *const part_keys[DOWN_PARTS][2] = {
	[DOWN_SCAN] = { "predicted_scan_us|", "actual_scan_us|" },
	[DOWN_SEND] = { "predicted_send_us|", "actual_send_us|" },
	[DOWN_STATE] = { "predicted_state_us|", "actual_state_us|" },
	[DOWN_LOAD] = { "predicted_load_us|", "actual_load_us|" },
	[DOWN_WAITS] = { "predicted_waits_us|", "actual_waits_us|" },
	[DOWN_VERIFY] = { "", "actual_verify_us|" },
};

/* "scan 0.4/1 send 3.1/12 ...": in ms, as it was and as it was predicted. */
static const char *parts_text(const struct migrate_status *s, char *buf, size_t size)
{
	size_t at = 0;
	for (unsigned i = 0; i < DOWN_PARTS && at < size; i++) {
		if (i == DOWN_VERIFY && !s->actual.ns[i])
			continue;
		at += (size_t)sniprintf(buf + at, size - at, "%s%s %s/%s", at ? " " : "", downtime_part_names[i],
					out_tenths(s->actual.ns[i], NS_PER_MS).s,
					i == DOWN_VERIFY ? "-" : out_tenths(s->predicted.ns[i], NS_PER_MS).s);
	}
	return buf;
}

void migrate_cmd_forecast(struct con *c, const struct migrate_status *s)
{
	char parts[160];
	bool was = downtime_sum(&s->actual);
	if (s->incoming)
		return;
	for (unsigned i = 0; i < DOWN_PARTS; i++) {
		if (i != DOWN_VERIFY)
			out_us(c, part_keys[i][0], s->predicted.ns[i]);
		out_us(c, part_keys[i][1], s->actual.ns[i]);
	}
	out_u64(c, "round_trips|", s->round_trips);
	out_u64(c, "stopped_round_trips|", s->stopped_trips);
	if (was)
		out_line(c, "forecast", "predicted %s: %s", out_span(s->predicted_downtime_ns).s,
			 parts_text(s, parts, sizeof(parts)));
}

void migrate_cmd_waits(struct con *c, const struct migrate_status *s)
{
	char text[200], name[16];
	struct migrate_waits w;
	out_u64(c, "waits|", s->waits.n);
	out_us(c, "wait_median_us|", waits_quantile(&s->waits, 50) * NS_PER_US);
	out_us(c, "wait_p99_us|", waits_quantile(&s->waits, 99) * NS_PER_US);
	if (!s->waits.n)
		return;
	out_str(c, "wait_histogram|waits for pages", waits_text(&s->waits, text, sizeof(text)));
	for (unsigned i = 0; migrate_get_waits(s, i, &w); i++) {
		sniprintf(name, sizeof(name), "vcpu_%u_waits|", i);
		out_str(c, name, waits_text(&w, text, sizeof(text)));
		sniprintf(name, sizeof(name), "vCPU %u", i);
		if (w.n)
			out_line(c, name, "waited %lu times: %s", w.n, text);
	}
}

int migrate_cmd_history(struct con *c, int argc, char **argv)
{
	const char *name = argc > 1 ? argv[1] : NULL;
	struct migrate_status s;
	out_table(c, "migrations", "-12 name|VM, -11 peer, -24 started, -9 phase|outcome, 4 passes|pass, 8 bytes",
		  "no migration is over since tern started");
	for (unsigned i = 0; migrate_get(i, &s); i++) {
		if (!migrate_cmd_is_over(&s) || (name && strcmp(s.vm, name) != 0))
			continue;
		out_row(c);
		migrate_cmd_report(c, &s);
		out_line(c, "took", "%s in all, down %s", out_span(s.total_ns).s, out_span(s.downtime_ns).s);
		out_row_end(c);
	}
	out_table_end(c);
	return 0;
}

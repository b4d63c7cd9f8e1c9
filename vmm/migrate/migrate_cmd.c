/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * `migrate`: what the operator does. The one file here that includes net/net.h, because an operator names a peer by the
 * name that tern.conf gives it, and only net/ knows the address.
 */
#include "kernel/ip.h"
#include "kernel/conf.h"
#include "kernel/console.h"
#include "kernel/host.h"
#include "kernel/task.h"
#include "kernel/time.h"
#include "net/net.h"
#include "net/trust.h"
#include "vmm/migrate/attempts.h"
#include "vmm/migrate/bandwidth.h"
#include "vmm/migrate/migrate_cmd.h"
#include "vmm/migrate/this_host.h"
#include <stdio.h>
#include <string.h>

#define REDRAW_NS       (200 * NS_PER_MS)
#define SPEEDS_MAX      64
#define CANCEL_MAX      64
#define DOWNTIME_MAX_MS 60000UL
#define TIMEOUT_MAX_MS  (24UL * 3600 * 1000)

bool migrate_cmd_status(const char *name, struct migrate_status *s)
{
	for (unsigned i = 0; migrate_get(i, s); i++)
		if (!s->incoming && !strcmp(s->vm, name))
			return true;
	return false;
}

/* "0:12% 3:60%": those that are slowed, as many as fit, "" if none is. */
static const char *speeds_text(const struct migrate_status *s, char *buf, size_t size)
{
	size_t at = 0;
	buf[0] = '\0';
	for (unsigned i = 0; i < s->vcpus; i++) {
		if (s->speed[i] >= 100)
			continue;
		char one[16];
		int n = sniprintf(one, sizeof(one), "%s%u:%s%u%%", at ? " " : "", i, s->speed[i] ? "" : "<",
				  MAX(s->speed[i], 1U));
		if (at + (size_t)n + sizeof(" ...") > size) {
			sniprintf(buf + at, size - at, " ...");
			break;
		}
		memcpy(buf + at, one, (size_t)n + 1);
		at += (size_t)n;
	}
	return buf;
}

void migrate_cmd_report(struct con *c, const struct migrate_status *s)
{
	uint64_t wall_ns = time_wall_ns();
	out_str(c, "name|VM", s->vm);
	out_str(c, "peer|", s->peer);
	out_str(c, "direction|", s->incoming ? "in" : "out");
	out_str(c, "peer_name|", s->peer_name);
	out_line(c, "peer", "%s %s", s->incoming ? "from" : "to", s->peer_name);
	out_str(c, "vm_state|", vm_state_name(s->vm_state));
	out_str(c, "phase", migrate_phase_name(s->phase));
	out_bool(c, "over|", migrate_cmd_is_over(s));
	out_time(c, "started", wall_ns ? wall_ns - (time_ns() - s->start_ns) : 0);
	out_str(c, "cipher", s->cipher);
	out_u64(c, "passes", s->pass);
	out_u64(c, "pages_left|", s->pages_left);
	out_u64(c, "pages", s->pages_sent);
	out_u64(c, "zero_pages", s->zero_pages);
	if (!s->incoming)
		out_u64(c, "disk_pages|", s->disk_pages);
	out_u64(c, "bytes|", s->bytes);
	out_line(c, "bytes", "%s MB", out_tenths(s->bytes, 1000000).s);
	out_u64(c, "bytes_per_s|", s->rate);
	out_u64(c, "limit_bytes_per_s|", s->limit);
	if (!migrate_cmd_is_over(s)) /* in the table: below its row */
		out_line(c, "rate", "%s MiB/s, limit %s", out_tenths(s->rate, 1 << 20).s,
			 s->limit ? out_tenths(s->limit, 1 << 20).s : "none");
	out_u64(c, "dirty_pages|", s->dirty_last);
	out_u64(c, "dirty_bytes_per_s|", s->dirty_rate);
	out_us(c, "predicted_downtime_us|", s->predicted_downtime_ns);
	if (!s->incoming) {
		char speeds[SPEEDS_MAX];
		out_str(c, "strategy|", migrate_strategy_words[s->strategy]);
		out_bool(c, "pull|", s->pull);
		out_str(c, "speeds|", speeds_text(s, speeds, sizeof(speeds)));
		if (speeds[0] && !migrate_cmd_is_over(s))
			out_line(c, "slowed", "vCPUs slowed to %s", speeds);
	}
	migrate_cmd_waits(c, s);
	out_u64(c, "verified_pages|", s->verified_pages);
	out_u64(c, "verified_sections|", s->verified_sections);
	if (s->verified_sections)
		out_line(c, "verified", "%lu pages, %u sections: the same on both hosts", s->verified_pages,
			 s->verified_sections);
	out_u64(c, "differed_pages|", s->differed_pages);
	if (s->differed_pages)
		out_line(c, "differed", "%lu pages as they came, first at %lx: sent again", s->differed_pages,
			 s->differed_at);
	out_ms(c, "total_ms|total time", s->total_ns);
	out_us(c, "downtime_us", s->downtime_ns);
	migrate_cmd_forecast(c, s);
	out_more(c, "error_text", s->error);
}

/* ---- migrate NAME to PEER ---- */

void migrate_cmd_progress(struct con *c, const struct migrate_status *s)
{
	char line[OUT_COLUMNS + 1]; /* what does not fit is left out */
	int n = sniprintf(line, sizeof(line), "%s: %s", s->vm, migrate_phase_name(s->phase));
	if (s->phase >= MIG_PASSES && n < OUT_COLUMNS)
		n += sniprintf(line + n, sizeof(line) - (size_t)n, "  pass %u  %lu pages left  %s MB/s", s->pass,
			       s->pages_left, out_tenths(s->rate, 1000000).s);
	if (s->predicted_downtime_ns && n < OUT_COLUMNS)
		n += sniprintf(line + n, sizeof(line) - (size_t)n, "  dirty %s  down ~%s",
			       out_tenths(s->dirty_rate, 1000000).s, out_span(s->predicted_downtime_ns).s);
	char speeds[SPEEDS_MAX];
	if (speeds_text(s, speeds, sizeof(speeds))[0] && n < OUT_COLUMNS)
		sniprintf(line + n, sizeof(line) - (size_t)n, "  slowed %s", speeds);
	out_text(c, "\r%s\033[K", line);
}

/* Once what the guest had asked for meanwhile (power-off, reset) has been carried out. */
static const char *state_here(const char *name)
{
	struct vm *vm = vm_get(name);
	for (uint64_t end = time_in_ms(5000);
	     vm && __atomic_load_n(&vm->power_request, __ATOMIC_ACQUIRE) && time_ns() < end;)
		task_sleep_until(time_in_ms(10));
	const char *state = vm ? vm_state_name(__atomic_load_n(&vm->state, __ATOMIC_RELAXED)) : "no longer";
	if (vm)
		vm_put(vm);
	return state;
}

/* Show it until it is over: 0, or the command's error. */
static int follow(struct con *c, const char *name)
{
	struct migrate_status s = { .phase = MIG_CONNECT };
	uint64_t undecided_ns = 0;
	bool quiet = c->json;
	while (migrate_cmd_status(name, &s) && !migrate_cmd_is_over(&s)) {
		migrate_cmd_progress(c, &s);
		bool leaves =
			migrate_wait(name, time_ns() + (quiet ? NS_PER_SEC / 20 : REDRAW_NS / 2)) && c->interrupted(c);
		if (s.phase == MIG_UNDECIDED && !undecided_ns)
			undecided_ns = time_ns();
		if (quiet && undecided_ns && time_ns() - undecided_ns > MIGRATE_CMD_UNDECIDED_NS)
			return con_error(c, -ETIMEDOUT,
					 "migrate %s to %s: undecided: it may run there. `migrate status`, `vm claim`",
					 name, s.peer_name);
		if (leaves && quiet)
			return con_error(c, -EINTR, "migrate %s to %s: it goes on without you", name, s.peer_name);
		if (leaves) {
			out_text(c, "\nthe migration goes on. `migrate status` shows it, `migrate cancel %s` ends it\n",
				 name);
			return 0;
		}
	}
	out_text(c, "\r\033[K");
	if (s.phase != MIG_DONE)
		return con_error(c, s.phase == MIG_CANCELLED ? -ECANCELED : -EIO,
				 "migrate %s to %s: %s. The VM is %s here", name, s.peer_name, s.error,
				 state_here(name));
	if (s.to_self)
		out_text(c, "%s has moved within this host, and is %s\n", s.vm, vm_state_name(s.vm_state));
	else if (s.vm_state == VM_RUNNING)
		out_text(c, "%s runs at %s\n", s.vm, s.peer_name);
	else
		out_text(c, "%s is at %s, %s. There: vm %s %s\n", s.vm, s.peer_name, vm_state_name(s.vm_state),
			 s.vm_state == VM_PAUSED ? "resume" : "start", s.vm);
	migrate_cmd_report(c, &s);
	return 0;
}

/* "100M" in bytes per second, "none": 0 or -EINVAL. */
static int rate_parse(const char *s, uint64_t *rate)
{
	*rate = 0;
	return strcmp(s, "none") ? conf_parse_size(s, rate) : 0;
}

/* A word of migrate_strategy_words: false if it is none. */
static bool strategy_parse(const char *s, enum migrate_strategy *to)
{
	for (unsigned i = 0; migrate_strategy_words[i]; i++)
		if (!strcmp(s, migrate_strategy_words[i])) {
			*to = (enum migrate_strategy)i;
			return true;
		}
	return false;
}

static bool time_parse(const char *s, uint64_t max_ms, uint32_t *ms)
{
	uint64_t v;
	if ((conf_parse_uint(s, max_ms, &v) && conf_parse_ms(s, max_ms, &v)) || !v) /* alone: as it was once */
		return false;
	*ms = (uint32_t)v;
	return true;
}

/* The options: 0, or the command's error. */
static int params_get(struct con *c, struct migrate_params *p)
{
	const char *ms = con_opt(c, "--max-downtime"), *passes = con_opt(c, "--max-passes");
	const char *limit = con_opt(c, "--limit");
	uint64_t max_passes = MIGRATE_MAX_PASSES;
	p->max_downtime_ms = MIGRATE_DOWNTIME_MS;
	if (ms && !time_parse(ms, DOWNTIME_MAX_MS, &p->max_downtime_ms))
		return con_error(c, -EINVAL, "migrate: --max-downtime %s: give a time up to 60s, as 300ms or 2s", ms);
	if (passes && (conf_parse_uint(passes, 1000, &max_passes) || !max_passes))
		return con_error(c, -EINVAL, "migrate: --max-passes %s: give 1..1000", passes);
	p->max_passes = (uint32_t)max_passes;
	if (limit && (rate_parse(limit, &p->limit) || (p->limit && p->limit < HOST_RATE_MIN)))
		return con_error(c, -EINVAL, "migrate: --limit %s: give bytes per second from 1M, as 100M, or none",
				 limit);
	const char *strategy = con_opt(c, "--strategy"), *timeout = con_opt(c, "--timeout");
	p->own_strategy = strategy;
	if (strategy && !strategy_parse(strategy, &p->strategy))
		return con_error(c, -EINVAL, "migrate: strategy %s: give auto, throttle, stop, abort or post-copy",
				 strategy);
	if (timeout && !time_parse(timeout, TIMEOUT_MAX_MS, &p->timeout_ms))
		return con_error(c, -EINVAL, "migrate: time-out %s: give a time up to 24h, as 90s", timeout);
	p->any_network = con_opt(c, "--any-network");
	p->pull = con_opt(c, "--pull");
	p->verify = con_opt(c, "--verify");
	p->copy_base = con_opt(c, "--copy-base");
	return 0;
}

static int cmd_to(struct con *c, int argc unused, char **argv)
{
	struct migrate_params p = { .port = MIGRATE_PORT };
	const char *name = argv[1];
	struct why w = { "" };
	int err = params_get(c, &p);
	if (err)
		return err;
	p.to_self = !strcmp(argv[3], "self");
	err = p.to_self ? 0 : net_peer(argv[3], &p.dest, &w);
	if (p.to_self && !strcmp(name, VM_NAME_ALL))
		return con_error(c, -EINVAL, "migrate: all to self: move them one by one");
	if (p.to_self)
		;
	else if (!strcmp(argv[3], host_info.name) || (!err && net_is_own_address(p.dest)))
		return con_error(c, -EINVAL, "migrate: %s: that is this host. `migrate %s to self` moves it within",
				 argv[3], name);
	else if (err)
		return con_error(c, err, "migrate: %s", w.text[0] ? w.text : err_name(err));
	bool all = !strcmp(name, VM_NAME_ALL);
	struct vm *vm = all ? NULL : vm_get(name);
	if (!vm && !all)
		return con_error(c, -ENOENT, "migrate: no VM %s on this host. `vm list` shows them", name);
	if (trust_is_insecure(p.dest))
		out_text(c, OUT_RED("%s: memory and state go in clear, to whoever answers: insecure = yes") "\n",
			 argv[3]);
	if (all)
		return migrate_cmd_all(c, &p, argv[3], con_opt(c, "--detach"));
	err = migrate_start(vm, &p, &w);
	vm_put(vm);
	if (err)
		return con_error(c, err, "migrate %s: %s", name, w.text[0] ? w.text : err_name(err));
	if (!con_opt(c, "--detach"))
		return follow(c, name);
	out_text(c, "%s is on its way to %s. `migrate status` shows it\n", name, argv[3]);
	struct migrate_status s;
	if (c->json && migrate_cmd_status(name, &s))
		migrate_cmd_report(c, &s);
	return 0;
}

/* ---- status, cancel ---- */

static int cmd_status(struct con *c, int argc unused, char **argv unused)
{
	struct migrate_status s;
	out_table(c, "migrations",
		  "-12 name|VM, -13 peer, -14 phase, 4 passes|pass, 8 bytes, 8 total_ms|time, 8 downtime_us",
		  "no migrations since tern started");
	for (unsigned i = 0; migrate_get(i, &s); i++) {
		out_row(c);
		migrate_cmd_report(c, &s);
		out_row_end(c);
	}
	out_table_end(c);
	uint64_t limit = bandwidth_limit_of(NULL);
	out_u64(c, "limit_bytes_per_s|", limit);
	if (limit)
		out_line(c, "limit", "%s MiB/s for all that leave", out_tenths(limit, 1 << 20).s);
	return 0;
}

static int cmd_end(struct con *c, const char *what, const char *name, int err, const char *why, const char *done)
{
	if (err)
		return con_error(c, err, "%s %s: %s", what, name, why[0] ? why : err_name(err));
	out_str(c, "name|", name);
	out_str(c, "result|", done);
	out_text(c, "%s: %s\n", name, done);
	return 0;
}

/* Rounds of so many, until one finds no more than that, or ends none. */
static int cancel_all(struct con *c)
{
	static struct migrate_status s[CANCEL_MAX]; /* the console's task only */
	static bool asked[CANCEL_MAX];
	unsigned n, ended, cancelled = 0;
	int last = 0;
	struct why w;
	do {
		n = ended = 0;
		for (unsigned i = 0; n < CANCEL_MAX && migrate_get(i, &s[n]); i++) /* what comes is its source's */
			n += !s[n].incoming && !migrate_cmd_is_over(&s[n]);
		for (unsigned i = 0; i < n; i++) {
			w.text[0] = '\0';
			int err = migrate_cancel(s[i].vm, &w);
			asked[i] = !err;
			last = err == -EBUSY ? err : last;
			if (err == -EBUSY)
				out_text(c, "%s: %s\n", s[i].vm, w.text);
		}
		uint64_t end = time_in_ms(5000);
		for (unsigned i = 0; i < n; i++)
			ended += !migrate_wait(s[i].vm, end) && asked[i];
		cancelled += ended;
	} while (n == CANCEL_MAX && ended);
	out_u64(c, "cancelled|", cancelled);
	out_text(c, "%u cancelled. `migrate status` shows them\n", cancelled);
	return last ? con_error(c, last, "migrate cancel all: not all of them can be any more") : 0;
}

static int cmd_cancel(struct con *c, int argc unused, char **argv)
{
	const char *name = argv[1];
	struct why w = { "" };
	if (!strcmp(name, VM_NAME_ALL))
		return cancel_all(c);
	int err = migrate_cancel(name, &w);
	if (!err && migrate_wait(name, time_in_ms(5000)) == -ETIMEDOUT)
		return cmd_end(c, "migrate cancel", name, 0, "", "cancelling");
	return cmd_end(c, "migrate cancel", name, err, w.text, "cancelled");
}

static const char *const settable[] = { "limit=", "max-downtime=", "strategy=", "timeout=" };

/* KEY=VALUE of `migrate set`, other than limit, into p: its bit, or 0 if the value is none. */
static unsigned change_parse(const char *key, const char *value, struct migrate_params *p)
{
	if (*key == 'm')
		return time_parse(value, DOWNTIME_MAX_MS, &p->max_downtime_ms) ? MIGRATE_SET_DOWNTIME : 0;
	if (*key == 's')
		return strategy_parse(value, &p->strategy) ? MIGRATE_SET_STRATEGY : 0;
	return !strcmp(value, "none") || time_parse(value, TIMEOUT_MAX_MS, &p->timeout_ms) ? MIGRATE_SET_TIMEOUT : 0;
}

static int cmd_set(struct con *c, int argc unused, char **argv)
{
	const char *name = argv[1], *who = strcmp(name, VM_NAME_ALL) ? name : NULL, *key = NULL, *value;
	struct migrate_params p = { 0 };
	struct why w = { "" };
	uint64_t rate = 0;
	unsigned what = 0;
	for (unsigned i = 0; i < ARRAY_SIZE(settable); i++)
		key = strncmp(argv[2], settable[i], strlen(settable[i])) ? key : settable[i];
	value = key ? argv[2] + strlen(key) : NULL;
	if (!key || (*key == 'l' ? rate_parse(value, &rate) != 0 : !(what = change_parse(key, value, &p))))
		return con_error(c, -EINVAL,
				 "migrate set: %s: give limit=100M (bytes per second) or none, max-downtime=300ms, "
				 "strategy=auto, throttle, stop, abort or post-copy, timeout=90s or none",
				 argv[2]);
	int err = what ? migrate_change(who, &p, what, &w) : migrate_limit(who, rate, &w);
	return cmd_end(c, "migrate set", name, err, w.text, argv[2]);
}

/* ---- records of attempts whose sources may still hold the image ---- */

static int cmd_records(struct con *c, int argc unused, char **argv unused)
{
	struct decision d;
	out_table(c, "records", "-12 name|VM, -8 decided, -15 source_name|source, -36 id|attempt",
		  "no records: nothing is open between this host and others");
	for (unsigned i = 0; attempt_get(i, &d); i++) {
		char id[64];
		sniprintf(id, sizeof(id), "%016lx-%016lx/%lu", d.id.source.host, d.id.source.boot, d.id.number);
		out_row(c);
		out_str(c, "name", d.vm);
		out_str(c, "decided", d.state == RECORD_STARTED ? "started" : "never");
		out_str(c, "source|", ip_text(d.source).s);
		out_str(c, "source_name|source", migrate_peer_name(d.source, ip_text(d.source).s));
		out_str(c, "id", id);
		out_row_end(c);
	}
	out_table_end(c);
	return 0;
}

static int cmd_drop(struct con *c, int argc unused, char **argv)
{
	const char *name = argv[1];
	struct decision d;
	unsigned n = 0;
	for (unsigned i = 0; attempt_get(i, &d);) {
		if (strcmp(d.vm, name)) {
			i++;
			continue;
		}
		n++;
		if (!con_opt(c, "--force"))
			return con_error(c, -EPERM,
					 "migrate drop %s: host %s may hold an image of it that stands still, "
					 "and only this record says "
					 "what became of it. Dropped, an operator there may start a second copy. If "
					 "you know better: "
					 "migrate drop %s --force",
					 name, migrate_peer_name(d.source, ip_text(d.source).s), name);
		attempt_event(&d.id, RECORD_EV_DROP);
	}
	return cmd_end(c, "migrate drop", name, n ? 0 : -ENOENT,
		       "no record is kept of it. `migrate records` shows them", "dropped");
}

static void words(const char *what, void (*add)(void *arg, const char *word), void *arg)
{
	if (*what == 'P') {
		net_peer_words(what, add, arg);
		add(arg, "self");
	} else if (*what == 'K')
		for (unsigned i = 0; i < ARRAY_SIZE(settable); i++)
			add(arg, settable[i]);
	else
		vm_words(what, add, arg);
}

static const struct con_sub subs[] = {
	{ "",
	  "NAME|all to PEER|self [--limit RATE] [--max-downtime TIME] [--max-passes N] [--strategy NAME] "
	  "[--timeout TIME] [--any-network] [--copy-base] [--pull] [--verify] [--detach]",
	  "move it to a [peer], where it goes on, or stays stopped or paused (all: each but those that were stopped "
	  "here and have no disks); self: within this host, to see what a move costs; --limit: bytes per second, as "
	  "100M, for each; --strategy: of a guest that dirties more than the line carries, auto, throttle (slow it), "
	  "stop (it stands still for as long as it takes), abort or post-copy (it runs there before its memory has "
	  "come); --timeout: for its passes; "
	  "--any-network: wherever its network leads; --copy-base: with its disks' base images, if they are not there; "
	  "--pull: the destination asks for the pages, by a map; --verify: compare all of it before it runs there; "
	  "--detach: do not wait",
	  cmd_to, words, false },
	{ "status|list", "", "what moves and what has moved", cmd_status, NULL, false },
	{ "history", "[NAME]",
	  "the last that are over, newest first: how each ended, its downtime and the forecast of it",
	  migrate_cmd_history, words, false },
	{ "set", "NAME|all KEY=VALUE",
	  "limit=RATE (all: what those that leave take together), max-downtime=TIME, strategy=NAME, timeout=TIME, "
	  "while it runs",
	  cmd_set, words, false },
	{ "cancel", "NAME|all", "it goes on here; all: each that leaves and has not handed over", cmd_cancel, words,
	  false },
	{ "records", "", "what is kept for hosts that have not heard", cmd_records, NULL, false },
	{ "drop", "NAME [--force]", "forget the records of a VM", cmd_drop, words, true },
};
CONSOLE_CMDS(migrate, "move VMs to other hosts", "migrate demo to b", subs);

/* SPDX-License-Identifier: BSD-2-Clause */
/* Before a VM starts: is it at a peer's? (elsewhere.h) */
#include "vmm/migrate/elsewhere.h"
#include "kernel/host.h"
#include "kernel/log.h"
#include "kernel/task.h"
#include "kernel/time.h"
#include "vmm/migrate/migrate.h"
#include <stdio.h>
#include <string.h>

#define PEERS_MAX 32
#define ASK_NS    (2 * NS_PER_SEC) /* for one answer */
#define AGAIN_NS  NS_PER_SEC       /* between two questions to a peer that was silent */

struct who {
	char name[VM_NAME_MAX];
	uint8_t mac[6];
};

static struct {
	char name[32], addr[48];
} peers[PEERS_MAX]; /* (c) before the first VM starts */
static unsigned npeers;

void migrate_peer_add(const char *name, const char *addr)
{
	if (npeers == PEERS_MAX || !strcmp(name, host_info.name)) /* one tern.conf may name all hosts */
		return;
	sniprintf(peers[npeers].name, sizeof(peers[0].name), "%s", name);
	sniprintf(peers[npeers++].addr, sizeof(peers[0].addr), "%s", addr);
}

static int who_send(struct wire_tx *tx, const struct who *w, uint64_t deadline_ns)
{
	wire_begin(tx, WIRE_WHO);
	wire_put_str(tx, w->name, sizeof(w->name));
	wire_put_bytes(tx, w->mac, sizeof(w->mac));
	return wire_end(tx, deadline_ns);
}

static bool who_parse(struct wire_rx *rx, struct who *w)
{
	wire_get_str(rx, w->name, sizeof(w->name));
	const uint8_t *mac = wire_get_bytes(rx, sizeof(w->mac));
	if (!mac || !wire_get_end(rx))
		return false;
	memcpy(w->mac, mac, sizeof(w->mac));
	return true;
}

/* ---- answering ---- */

struct search {
	const struct who *q;
	const char *asker;
	char *holder;
};

static bool is_here(struct vm *vm, const char *asker)
{
	enum vm_claim claim = __atomic_load_n(&vm->claim, __ATOMIC_SEQ_CST); /* first: it ends when the VM runs */
	if (!vm_state_is_off(__atomic_load_n(&vm->state, __ATOMIC_RELAXED)))
		return true;
	if (claim == VM_CLAIM_ASKING && strcmp(asker, host_info.name) < 0)
		return !vm_claim(vm, VM_CLAIM_ASKING, VM_CLAIM_YIELDED);
	return claim == VM_CLAIM_ASKING || claim == VM_CLAIM_TAKEN;
}

static void match(struct vm *vm, void *arg)
{
	struct search *s = arg;
	if ((!strcmp(vm->cfg.name, s->q->name) || !memcmp(vm->cfg.mac, s->q->mac, sizeof(vm->cfg.mac))) &&
	    is_here(vm, s->asker))
		memcpy(s->holder, vm->cfg.name, VM_NAME_MAX);
}

void elsewhere_answer(struct wire_tx *tx, struct wire_rx *rx, const char *asker)
{
	char holder[VM_NAME_MAX] = "";
	struct who q;
	if (!who_parse(rx, &q))
		return;
	vm_for_each(match, &(struct search){ &q, asker, holder });
	log_info("%s asks for %s: %s", rx->s->peer, q.name, holder[0] ? "it is here" : "not here");
	wire_begin(tx, WIRE_HAVE);
	wire_put_u32(tx, holder[0] != 0);
	wire_put_str(tx, holder, sizeof(holder));
	if (wire_end(tx, time_ns() + ASK_NS))
		log_debug("the answer to %s is lost: it will ask again", rx->s->peer);
}

/* ---- asking ---- */

/* Over s, which has just been connected: 0 with the answer in holder, or -errno with the reason. */
static int ask(struct stream *s, const struct who *q, uint64_t deadline_ns, char holder[VM_NAME_MAX], struct why *w)
{
	struct wire_tx tx = { 0 };
	struct wire_rx rx = { 0 };
	struct hello h;
	int err = wire_tx_init(&tx, s);
	if (!err)
		err = wire_rx_init(&rx, s);
	if (!err)
		err = hello_exchange(&tx, &rx, &h, deadline_ns, w);
	if (!err && !(h.features & HELLO_WHO))
		err = why_set(w, -ENOTSUP, "it is of an older version, which cannot be asked");
	if (!err)
		err = who_send(&tx, q, deadline_ns);
	if (!err)
		err = wire_recv(&rx, deadline_ns, ASK_NS, w);
	if (!err) {
		uint32_t have = wire_get_u32(&rx);
		wire_get_str(&rx, holder, VM_NAME_MAX);
		if (rx.type != WIRE_HAVE || !wire_get_end(&rx) || have != (holder[0] != 0))
			err = why_set(w, -EPROTO, "it sent a malformed answer");
	}
	wire_rx_fini(&rx);
	wire_tx_fini(&tx);
	return err;
}

/* One question to one peer. */
static int ask_peer(unsigned i, const struct who *q, char holder[VM_NAME_MAX], struct why *w)
{
	uint64_t end = time_ns() + ASK_NS;
	struct stream *s = NULL;
	int err = stream_tcp_connect(&s, peers[i].addr, MIGRATE_PORT, end, w);
	if (!err)
		err = ask(s, q, end, holder, w);
	stream_close(s);
	return err ? why_set(w, err, "%s", err_name(err)) : 0;
}

static int is_at(const struct vm_config *cfg, const char *holder, const char *peer, struct why *w)
{
	bool other = strcmp(holder, cfg->name);
	return why_set(w, -EEXIST, "%s is at %s%s%s%s. Two running copies share one MAC and ruin each other's data",
		       cfg->name, peer, other ? " (its MAC, with " : "", other ? holder : "", other ? ")" : "");
}

static int decide(struct vm *vm, struct why *w)
{
	if (vm_claim(vm, VM_CLAIM_ASKING, VM_CLAIM_TAKEN))
		return 0;
	return why_set(w, -EEXIST, "a peer, the first of the two by name, is about to start it");
}

int migrate_elsewhere(struct vm *vm, uint64_t deadline_ns, struct why *w)
{
	const struct vm_config *cfg = &vm->cfg;
	bool heard[PEERS_MAX] = { false };
	struct who q;
	memcpy(q.name, cfg->name, sizeof(q.name));
	memcpy(q.mac, cfg->mac, sizeof(q.mac));
	for (;;) {
		unsigned silent = 0;
		struct why last;
		for (unsigned i = 0; i < npeers; i++) {
			char holder[VM_NAME_MAX] = "";
			struct why said = { "" };
			if (heard[i])
				continue;
			if (ask_peer(i, &q, holder, &said)) {
				last = said;
				silent++;
				continue;
			}
			if (holder[0])
				return is_at(cfg, holder, peers[i].name, w);
			heard[i] = true;
		}
		if (!silent || __atomic_load_n(&vm->claim, __ATOMIC_RELAXED) == VM_CLAIM_YIELDED)
			return decide(vm, w);
		if (time_ns() >= deadline_ns) {
			log_warn("vm %s: %u of %u peers do not say whether they have it: %s", cfg->name, silent, npeers,
				 last.text);
			return decide(vm, w);
		}
		task_sleep_until(time_ns() + AGAIN_NS);
	}
}

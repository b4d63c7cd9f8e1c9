/* SPDX-License-Identifier: BSD-2-Clause */
/* Any bytes as tern.conf: never a crash, always a usable struct conf, and sections within their limits. */
#include "kernel/conf.h"
#include "kernel/host.h"
#include "net/net_conf.h"
#include "vmm/vm.h"
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct nic cards[2] = { { .mac = { 2, 1 } }, { .mac = { 2, 2 } } };

struct nic *nic_get(unsigned i) { return i < 2 ? &cards[i] : NULL; }
void vm_for_each(void (*fn)(struct vm *vm, void *arg) unused, void *arg unused) {}

static void terminated(const char *s, size_t size)
{
	if (!memchr(s, 0, size))
		abort();
}

static void read_all(struct conf *c)
{
	struct host_conf h = { 0 };
	struct net_conf n = { 0 };
	struct vm_config cfg;
	const char *name;
	char wrong[CONF_WRONG_MAX];
	(void)conf_read(&(struct conf_reader){ .c = c, .table = &host_conf_table, .name = "" }, &h);
	terminated(h.name, sizeof(h.name));
	net_conf_read(c, &n);
	if (!h.name[0] || h.undecided > HOST_UNDECIDED_RESUME || n.nnics > NET_NICS_MAX || n.nbonds > NET_BONDS_MAX ||
	    n.nnets > NET_IF_MAX || n.npeers > NET_PEERS_MAX)
		abort();
	for (unsigned i = 0; i < n.nnets; i++)
		if (!n.net[i].ncards || !n.net[i].card[0] || n.net[i].vlan > NET_VLAN_MAX || !n.net[i].name[0])
			abort();
	for (unsigned i = 0; (name = conf_section(c, "vm", i)) != NULL; i++) {
		struct why w;
		bool good = vm_config_read(c, name, h.name, 1, &cfg, wrong);
		terminated(wrong, sizeof(wrong));
		if (good != !wrong[0] || vm_config_desc.check(&cfg, &cfg.s, &w) || !cfg.mem || cfg.mem % GMEM_BLOCK)
			abort();
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct conf c;
	static const char *const kinds[] = { "host", "nic", "bond", "net", "peer", "vm" };
	const char *name;
	int err = conf_parse(&c, (const char *)data, size);

	if ((err != 0) != (c.problems[0] != '\0') || c.n > CONF_MAX_ENTRIES)
		abort();
	for (unsigned k = 0; k < ARRAY_SIZE(kinds); k++)
		for (unsigned i = 0; (name = conf_section(&c, kinds[k], i)) != NULL; i++)
			if (strlen(name) >= sizeof(c.e[0].name) || conf_line(&c, kinds[k], name, "") < 1)
				abort();
	read_all(&c);
	if (strlen(c.problems) >= sizeof(c.problems))
		abort();
	return 0;
}

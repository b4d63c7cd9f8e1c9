/* SPDX-License-Identifier: BSD-2-Clause */
/* Which MAC a VM of this host may have. Asked for the [vm] sections of tern.conf, and for what a peer offers. */
#include "kernel/base/mac.h"
#include "vmm/vm.h"
#include <stdio.h>
#include <string.h>

#define OWN_MAX 16

static uint8_t own[OWN_MAX][ETH_ALEN]; /* (c) after vmm_init */
static unsigned nown;

void vmm_own_mac(const uint8_t mac[ETH_ALEN])
{
	if (nown < OWN_MAX)
		memcpy(own[nown++], mac, ETH_ALEN);
}

struct mac_search {
	const char *name;
	const uint8_t *mac;
	char owner[VM_NAME_MAX];
};

static void compare(struct vm *vm, void *arg)
{
	struct mac_search *s = arg;
	if (vm_config_has_mac(&vm->cfg, s->mac) && strcmp(vm->cfg.name, s->name) != 0 &&
	    vm_state_now(vm) != VM_MISCONFIGURED)
		snprintf(s->owner, sizeof(s->owner), "%s", vm->cfg.name);
}

int vm_mac_check(const char *name, const uint8_t mac[ETH_ALEN], struct why *w)
{
	static const uint8_t zero[ETH_ALEN];
	struct mac_search s = { .name = name, .mac = mac };
	struct mac_text text = mac_text(mac);
	if (mac[0] & 1) /* I/G bit, broadcast has it too (IEEE 802-2014 8.2.2) */
		return why_set(w, -EINVAL, "the MAC %s is a group's, not one card's", text.s);
	if (!memcmp(mac, zero, ETH_ALEN))
		return why_set(w, -EINVAL, "the MAC %s is nobody's", text.s);
	for (unsigned i = 0; i < nown; i++)
		if (!memcmp(mac, own[i], ETH_ALEN))
			return why_set(w, -EEXIST, "the MAC %s is that of a network card of the host", text.s);
	vm_for_each(compare, &s);
	return s.owner[0] ? why_set(w, -EEXIST, "the MAC %s is that of VM %s", text.s, s.owner) : 0;
}

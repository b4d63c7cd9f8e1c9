/* SPDX-License-Identifier: BSD-2-Clause */
/* The keys of [vm NAME] in tern.conf, and what of them goes with a VM that moves (vm_config.h). */
#include "vmm/vm_config.h"
#include "kernel/base/hash.h"
#include "vmm/gmem.h"
#include "vmm/x86/cpuid.h"
#include <string.h>

#define FIELD(m) CONF_FIELD(struct vm_config, m)
static const char *const allow[] = { "no", "allow", NULL };
static const char allow_help[] = "no or allow, or one for each network";
const char *const migrate_strategy_words[] = { "auto", "throttle", "stop", "abort", "post-copy", NULL };
static const struct conf_key keys[] = {
	{ CONF_KERNEL, &conf_type_str, FIELD(s.kernel), .def = CONF_FIRMWARE, .min = 1,
	  .help = "the name of a Linux bzImage or a PVH kernel on the boot volume, up to 95 characters" },
	{ CONF_INITRD, &conf_type_str, FIELD(s.initrd), .def = "",
	  .help = "the name of a file on the boot volume, up to 95 characters" },
	{ "cmdline", &conf_type_str, FIELD(s.cmdline), .def = "", .help = "up to 511 characters" },
	{ "mem", &conf_type_size, FIELD(mem), .def = "256M", .help = "a size of at least 16M in steps of 2M",
	  .min = MIB(16), .max = GIB(24 * 1024ULL), .step = GMEM_BLOCK },
	{ "vcpus", &conf_type_u32, FIELD(vcpus), .def = "1", .help = "a number from 1 to 64", .min = 1,
	  .max = VM_MAX_VCPUS },
	{ "weight", &conf_type_u32, FIELD(s.weight), .def = "100", .help = "a number from 1 to 1000", .min = 1,
	  .max = VM_WEIGHT_MAX },
	{ "uuid", &conf_type_uuid, FIELD(uuid), .def = "",
	  .help = "a UUID, such as 5a0c2f6e-8f4b-4c0e-9d61-0b3f6c1d2e7a" },
	{ "mac", &conf_type_macs, FIELD(mac), .def = "",
	  .help = "unicast MAC addresses, one for each network, such as 52:54:00:77:00:01" },
	{ "net", &conf_type_names, FIELD(net), .def = "",
	  .help = "the names of 1 to 4 networks for VMs ([net] or [nic]), a card on each" },
	{ CONF_DISK, &conf_type_names, FIELD(disk_names), .def = "",
	  .help = "the names of 1 to 4 disks ([disk NAME]), each of one VM alone" },
	{ CONF_USER_DATA, &conf_type_str, FIELD(seed[SEED_USER_DATA]), .def = "",
	  .help = "the name of a file on the boot volume that cloud-init in the guest reads, up to 95 characters" },
	{ CONF_META_DATA, &conf_type_str, FIELD(seed[SEED_META_DATA]), .def = "",
	  .help = "the name of a file on the boot volume, up to 95 characters; without it, the VM's UUID and name" },
	{ CONF_NETWORK_CONFIG, &conf_type_str, FIELD(seed[SEED_NETWORK_CONFIG]), .def = "",
	  .help = "the name of a file on the boot volume, up to 95 characters; without it, the guest asks for DHCP" },
	{ "cpu", &conf_type_str, FIELD(cpu), .def = "host", .help = "host or portable" },
	{ "autostart", &conf_type_choice, FIELD(s.autostart), .def = "no", .help = "yes, no or alone",
	  .words = (const char *const[]){ "no", "yes", "alone", NULL } },
	{ "migrate_strategy", &conf_type_choice, FIELD(s.migrate_strategy), .def = "auto",
	  .help = "auto, throttle, stop, abort or post-copy", .words = migrate_strategy_words },
	{ "ip", &conf_type_nic_ips, FIELD(s.ip), .def = "any", .zero = "any",
	  .help = "any, or up to 8 addresses, IPv4 or IPv6, with commas between them; or that for each network, with | "
		  "between them" },
	{ "mac_change", &conf_type_nic_choice, FIELD(s.mac_change), .def = "no", .help = allow_help, .words = allow },
	{ "trunk", &conf_type_nic_choice, FIELD(s.trunk), .def = "no", .help = "no or yes, or one for each network",
	  .words = (const char *const[]){ "no", "yes", NULL } },
	{ "dhcp_server", &conf_type_nic_choice, FIELD(s.dhcp_server), .def = "no", .help = allow_help, .words = allow },
	{ "router", &conf_type_nic_choice, FIELD(s.router), .def = "no", .help = allow_help, .words = allow },
};
CONF_TABLE(vm_conf_table, "vm", keys);

static const struct sfield fields[] = {
	F_ARR(struct vm_config_state, kernel),       F_ARR(struct vm_config_state, initrd),
	F_ARR(struct vm_config_state, cmdline),      F(struct vm_config_state, autostart),
	F(struct vm_config_state, mac_change),       F(struct vm_config_state, trunk),
	F(struct vm_config_state, dhcp_server),      F(struct vm_config_state, router),
	F_ARR(struct vm_config_state, ip.of[0]),     F(struct vm_config_state, weight),
	F_ARR(struct vm_config_state, ip.of[1]),     F_ARR(struct vm_config_state, ip.of[2]),
	F_ARR(struct vm_config_state, ip.of[3]),     F(struct vm_config_state, ip.each),
	F(struct vm_config_state, migrate_strategy),
};

/* It is printed on operators' terminals. */
static bool is_text(const char *s, size_t size)
{
	for (size_t i = 0; i < size; i++) {
		if (!s[i])
			return true;
		if ((uint8_t)s[i] < ' ' || s[i] == 0x7f)
			break;
	}
	return false;
}

/* The key that is told of cards which a VM with so many has not got, or NULL. */
static const char *beyond(const struct vm_config_state *s, unsigned nnics)
{
	const struct {
		const char *key;
		uint32_t v;
	} may[] = { { "mac_change", s->mac_change },
		    { "trunk", s->trunk },
		    { "dhcp_server", s->dhcp_server },
		    { "router", s->router } };
	for (unsigned i = 0; i < ARRAY_SIZE(may); i++)
		if (may[i].v > 1 && ((may[i].v & 1) || may[i].v >> (1 + nnics)))
			return may[i].key;
	return NULL;
}

static int check(const void *obj, const void *state, struct why *w)
{
	const struct vm_config_state *s = state;
	unsigned nnics = ((const struct vm_config *)obj)->nnics;
	if (!is_text(s->kernel, sizeof(s->kernel)) || !is_text(s->initrd, sizeof(s->initrd)) ||
	    !is_text(s->cmdline, sizeof(s->cmdline)) || s->autostart > VM_AUTOSTART_ALONE)
		return why_set(w, -EINVAL, "config: a string that is none, or autostart %u", s->autostart);
	const char *key = beyond(s, nnics);
	if (key)
		return why_set(w, -EINVAL, "config: %s of cards that it has not got", key);
	if (s->ip.each && (s->ip.each == 1 || s->ip.each != nnics))
		return why_set(w, -EINVAL, "config: addresses of %u cards, and it has %u", s->ip.each, nnics);
	if (s->weight > VM_WEIGHT_MAX)
		return why_set(w, -EINVAL, "config: weight %u", s->weight);
	if (s->migrate_strategy >= MIGRATE_STRATEGIES)
		return why_set(w, -EINVAL, "config: migration strategy %u", s->migrate_strategy);
	return 0;
}

const struct sdesc vm_config_desc = {
	.name = "config", .version = 3, .check = check, SDESC(struct vm_config, s, struct vm_config_state, fields)
};

/* The same from boot to boot: of the machine and the VM's name a UUID. It is no secret. */
static void derive_ids(struct vm_config *cfg, uint64_t identity)
{
	uint64_t h = fnv1a(fnv1a(FNV1A_START, &identity, sizeof(identity)), cfg->name, strlen(cfg->name));
	memcpy(cfg->uuid, &h, 8);
	h = fnv1a(h, "uuid", 4);
	memcpy(cfg->uuid + 8, &h, 8);
}

/* Of each card that the file gives none: locally administered, as QEMU's; the first as in all releases, for life. */
static void derive_macs(struct vm_config *cfg, const char *host)
{
	static const uint8_t none[6];
	uint64_t h = fnv1a(fnv1a(FNV1A_START, host, strlen(host)), cfg->name, strlen(cfg->name));
	h = fnv1a(h, "uuid", 4);
	for (unsigned i = 0; i < cfg->nnics; i++) {
		uint8_t mac[6] = { 0x52, 0x54, 0x00 };
		if (memcmp(cfg->mac[i], none, 6))
			continue;
		do { /* not one that the file gives to another card of it */
			memcpy(mac + 3, &h, 3);
			h = fnv1a(h, "nic", 3);
		} while (vm_config_has_mac(cfg, mac));
		memcpy(cfg->mac[i], mac, 6);
	}
}

/* A card for each network, one at least. */
static void nics_count(struct conf_reader *r, struct vm_config *cfg)
{
	static const uint8_t none[6];
	static const char more[] = "these are more than its networks (net)";
	unsigned macs = 0;
	for (; macs < VM_NICS_MAX && memcmp(cfg->mac[macs], none, 6); macs++)
		;
	for (cfg->nnics = 1; cfg->nnics < VM_NICS_MAX && cfg->net[cfg->nnics][0]; cfg->nnics++)
		;
	if (!r->wrong[0] && macs > cfg->nnics)
		conf_wrong(r, "mac", more);
	const struct vm_config_state *s = &cfg->s;
	const char *key = beyond(s, cfg->nnics);
	if (!r->wrong[0] && key)
		conf_wrong(r, key, more);
	if (!r->wrong[0] && s->ip.each && s->ip.each != cfg->nnics)
		conf_wrong(r, "ip", "these are lists for %u networks, and it has %u (net)", s->ip.each, cfg->nnics);
}

bool vm_config_read(struct conf *c, const char *name, const char *host, uint64_t identity, struct vm_config *cfg,
		    char wrong[CONF_WRONG_MAX])
{
	struct conf_reader r = { .c = c, .table = &vm_conf_table, .name = name, .strict = true };
	struct why w = { "" };
	*cfg = (struct vm_config){ 0 };
	strncpy(cfg->name, name, sizeof(cfg->name) - 1);
	derive_ids(cfg, identity);
	(void)conf_read(&r, cfg);
	if (!cfg->disk_names[0][0] && !conf_get(c, "vm", name, CONF_KERNEL))
		conf_wrong(&r, CONF_KERNEL,
			   "missing; write the name of a Linux bzImage or a PVH kernel on the boot volume, or a "
			   "disk to boot from");
	nics_count(&r, cfg);
	derive_macs(cfg, host);
	for (unsigned i = 0; i < cfg->nnics; i++)
		if (vm_mac_check(name, cfg->mac[i], &w)) {
			conf_wrong(&r, "mac", "%s; give it one of its own", w.text);
			break;
		}
	if (!cpuid_model_known(cfg->cpu))
		conf_wrong(&r, "cpu", "no such CPU model; write host or portable");
	else if (!strcmp(cfg->cpu, "portable") && cfg->mem > BIT(CPUID_PORTABLE_PHYS) - GIB(1))
		conf_wrong(&r, "mem", "more than the 511G that cpu = portable can address");
	memcpy(wrong, r.wrong, sizeof(r.wrong));
	return !r.wrong[0];
}

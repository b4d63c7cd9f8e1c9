/* SPDX-License-Identifier: BSD-2-Clause */
/* The keys of tern.conf: what each table makes of right and wrong lines, and that the documents name the same. */
#include "kernel/base/ip4.h"
#include "kernel/conf.h"
#include "kernel/host.h"
#include "net/net_conf.h"
#include "vmm/disk.h"
#include "vmm/vm.h"
#include "kernel/base/mac.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

/* What disks ask of the rest: there is no other VM, and no file. */
struct boot_file *boot_file_named(const char *name unused) { return NULL; }
void boot_file_put(struct boot_file *f) { assert_null(f); }

static struct conf c;
static struct nic cards[] = {
	{ .name = "nic0", .location = "00:03.0", .mac = { 0x52, 0x54, 0, 0, 0, 1 }, .mtu = 1500 },
	{ .name = "nic1", .location = "01:00.1", .mac = { 0x52, 0x54, 0, 0, 0, 2 }, .mtu = 9000 }
};
static unsigned ncards;
static struct vm here[2];
static unsigned nhere;

struct nic *nic_get(unsigned i) { return i < ncards ? &cards[i] : NULL; }

void vm_for_each(void (*fn)(struct vm *vm, void *arg), void *arg)
{
	for (unsigned i = 0; i < nhere; i++)
		fn(&here[i], arg);
}

static int setup(void **state unused)
{
	ncards = 2;
	nhere = 0;
	return 0;
}

static void parse(const char *text) { (void)conf_parse(&c, text, strlen(text)); }

/* All that is said, in order. */
static void said(const char *problems) { assert_string_equal(c.problems, problems); }

static struct host_conf host(const char *text)
{
	struct host_conf h = { 0 };
	parse(text);
	(void)conf_read(&(struct conf_reader){ .c = &c, .table = &host_conf_table, .name = "" }, &h);
	return h;
}

static struct net_conf net(const char *text)
{
	struct net_conf n = { 0 };
	parse(text);
	net_conf_read(&c, &n);
	return n;
}

static char wrong[CONF_WRONG_MAX];

static struct vm_config vm(const char *text)
{
	struct vm_config cfg;
	parse(text);
	bool good = vm_config_read(&c, "demo", "tern", 0x1234, &cfg, wrong);
	assert_true(good == !wrong[0]);
	return cfg;
}

/* ---- [host] ---- */

static void host_keys(void **state unused)
{
	struct host_conf h = host("");
	said("");
	assert_string_equal(h.name, "tern");
	assert_int_equal(h.undecided, HOST_UNDECIDED_ASK);
	h = host("[host]\nname = server-1\nundecided = resume\n");
	said("");
	assert_string_equal(h.name, "server-1");
	assert_int_equal(h.undecided, HOST_UNDECIDED_RESUME);
	h = host("[host]\nname = server 1\nundecided = perhaps\ncolour = red\n");
	said("tern.conf:2: [host] name = server 1: write 1 to 31 letters, digits, '_', '-' and '.'\n"
	     "tern.conf:3: [host] undecided = perhaps: write ask or resume\n"
	     "tern.conf:4: [host] has no key 'colour'; ignored. It has name, console, console_password, migrate_limit, "
	     "migrate_minimum, undecided\n");
	assert_string_equal(h.name, "tern");
	h = host("[host]\nname =\n");
	assert_string_equal(h.name, "tern");
	h = host("[host]\nname = a23456789012345678901234567890xx\n");
	assert_string_equal(h.name, "tern");
}

/* Any rate that is not too low, and none. */
static void host_rates(void **state unused)
{
	assert_int_equal(host("[host]\nmigrate_limit = 1500000\n").migrate_limit, 1500000);
	said("");
	assert_int_equal(host("[host]\nmigrate_limit = 0\nmigrate_minimum = 30000001\n").migrate_limit, 0);
	said("");
	struct host_conf h = host("[host]\nmigrate_limit = 100\nmigrate_minimum = 1000K\n");
	said("tern.conf:2: [host] migrate_limit = 100: write bytes per second from 1M that the migrations which leave "
	     "this host take together, as 100M; 0: no limit; 100M?\n"
	     "tern.conf:3: [host] migrate_minimum = 1000K: write bytes per second from 1M for each of them; while that "
	     "is not there for one more, it waits\n");
	assert_true(h.migrate_limit == 0 && h.migrate_minimum == 30517 << 10);
}

/* What is not exactly that is no password, and no message repeats it. */
static void console_password(void **state unused)
{
#define HASH "c914cc4f06cc6e8f"
	static const char good[] = "pbkdf2-sha256:1000:000102030405060708090a0b0c0d0e0f:" HASH HASH HASH HASH;
	static const char *const bad[] = {
		"correct horse",
		"pbkdf2-sha256:999:000102030405060708090a0b0c0d0e0f:" HASH HASH HASH HASH,
		"pbkdf2-sha256:1000:000102030405060708090a0b0c0d0e:" HASH HASH HASH HASH,
		"pbkdf2-sha256:1000:000102030405060708090a0b0c0d0e0f:" HASH HASH HASH,
		"pbkdf2-sha256:1000:000102030405060708090a0b0c0d0e0f:" HASH HASH HASH HASH HASH,
		"pbkdf2-sha256:1000:000102030405060708090a0b0c0d0e0f",
		"pbkdf2-sha256:1000",
		"pbkdf2-sha256:",
		"pbkdf2-sha1:1000:000102030405060708090a0b0c0d0e0f:" HASH HASH HASH HASH,
		"pbkdf2-sha256:99999999999999999999:000102030405060708090a0b0c0d0e0f:" HASH HASH HASH HASH
	};
	char text[256], back[CONF_PASSWORD_TEXT];
	snprintf(text, sizeof(text), "[host]\nconsole_password = %s\n", good);
	struct host_conf h = host(text);
	said("");
	assert_int_equal(h.console_password.iterations, 1000);
	conf_password_text(&h.console_password, back);
	assert_string_equal(back, good);
	for (unsigned i = 0; i < ARRAY_SIZE(bad); i++) {
		snprintf(text, sizeof(text), "[host]\nconsole_password = %s\n", bad[i]);
		h = host(text);
		said("tern.conf:2: [host] console_password: write what the command `password` prints; until then "
		     "nobody logs in "
		     "at this host's console\n");
		assert_int_equal(h.console_password.iterations, 0);
		assert_true(c.locks);
	}
}

/* Who has meant to lock the console finds it locked, whatever became of the line. */
static void console_locks(void **state unused)
{
	static const char *const meant[] = {
		"[host]\nconsole_password\n",
		"console_password = x\n",
		"[host a]\nconsole_password = x\n",
		"[vm a]\n\tconsole_password=x\n",
		"[host]\nconsole_password = \1\n",
		"[host]\nconsole_password: x\n",
		"[host]\r\nconsole_password = \r\n",
		"[host]\n\"console_password\" = x\n",
		"[host]\nConsole_Password = x\n",
		"[host] console_password = x\n",
		"[host]\n\xef\xbb\xbf"
		"console_password = x\n",
		"[host]\ncconsole_password = x\n",
	};
	static char text[40 * CONF_MAX_ENTRIES];
	for (unsigned i = 0; i < ARRAY_SIZE(meant); i++) {
		(void)conf_parse(&c, meant[i], strlen(meant[i]));
		assert_true(c.locks);
	}
	for (unsigned i = 0, n = 0; i < CONF_MAX_ENTRIES; i++)
		n += (unsigned)sprintf(text + n, "[vm v%u]\n", i);
	strcat(text, "[host]\nconsole_password = x\n");
	assert_int_equal(conf_parse(&c, text, strlen(text)), -EINVAL);
	assert_true(c.locks);
	static const char wide[] = "[\0h\0]\0\n\0c\0";
	(void)conf_parse(&c, wide, sizeof(wide));
	assert_true(c.locks);
	static const char none[] =
		"[host]\nname = a\n#console_password = x\n; console_password\n[vm a]\nmem = 1G # console_password\n";
	assert_int_equal(conf_parse(&c, none, sizeof(none) - 1), 0);
	assert_false(c.locks);
}

/* ---- [nic] ---- */

static void nics(void **state unused)
{
	struct net_conf n = net("");
	said("");
	assert_int_equal(n.nnics, 1);
	assert_ptr_equal(n.nic[0].card, &cards[0]);
	assert_true(!strcmp(n.nic[0].name, "lan") && !n.nic[0].address.ip);
	n = net("[nic a]\nmatch = 52:54:00:00:00:02\naddress = 10.77.0.11/24\ngateway = 10.77.0.1\n[nic b]\naddress = "
		"dhcp\n");
	said("");
	assert_int_equal(n.nnics, 2);
	assert_ptr_equal(n.nic[0].card, &cards[1]);
	assert_ptr_equal(n.nic[1].card, &cards[0]);
	assert_string_equal(ip4_text(n.nic[0].address.ip).s, "10.77.0.11");
	assert_string_equal(ip4_text(conf_net_mask(n.nic[0].address)).s, "255.255.255.0");
	assert_string_equal(ip4_text(n.nic[0].gateway).s, "10.77.0.1");
	n = net("[nic a]\n[nic b]\nmatch = 52:54:00:00:00:01\n"); /* the first that no other section names */
	said("");
	assert_true(n.nic[0].card == &cards[1] && n.nic[1].card == &cards[0]);
	n = net("[nic a]\n[nic b]\nmatch = 0000:00:03.0\n[nic c]\nmatch = 01:00.1\n");
	said("tern.conf:1: [nic a] match: no network card is left for it\n");
	assert_true(n.nic[0].card == &cards[0] && n.nic[1].card == &cards[1] && n.nnics == 2);
	ncards = 0;
	net("");
	said("");
}

/* Of a card that is not there, only that is said, and which are. */
static void no_such_card(void **state unused)
{
	struct net_conf n = net("[nic a]\nmatch = 52:54:00:00:00:0a\naddress = 10.77.0.11/24\ngateway = 10.77.0.1\n");
	said("tern.conf:2: [nic a] match = 52:54:00:00:00:0a: no network card has this address; there are "
	     "52:54:00:00:00:01 (00:03.0), 52:54:00:00:00:02 (01:00.1)\n");
	net("[nic a]\nmatch = 01:00.0\n");
	said("tern.conf:2: [nic a] match = 01:00.0: no network card has this address; there are "
	     "52:54:00:00:00:01 (00:03.0), 52:54:00:00:00:02 (01:00.1)\n");
	static const char *const odd[] = { "00:03", "00:03.8",     "00:20.0",     "00:03.0 ",
					   "0:3.0", "000:00:03.0", "0000:00:03.", "g0:03.0" };
	for (unsigned i = 0; i < ARRAY_SIZE(odd); i++) {
		char location[16] = "x";
		assert_int_equal(conf_parse_pci(odd[i], location), -EINVAL);
		assert_string_equal(location, "x");
	}
	char location[16];
	assert_int_equal(conf_parse_pci("00a1:3f:1F.7", location), 0);
	assert_string_equal(location, "00a1:3f:1f.7");
	assert_int_equal(n.nnics, 0);
	n = net("[nic a]\n[nic b]\n[nic c]\naddress = 10.77.0.11/24\n");
	said("tern.conf:3: [nic c] match: no network card is left for it\n");
	assert_int_equal(n.nnics, 2);
	net("[nic a]\nmatch = eth0\n");
	said("tern.conf:2: [nic a] match = eth0: write first, the card's MAC address, such as 52:54:00:00:00:01, or "
	     "its PCI address, "
	     "such as 00:03.0\n");
}

static void addresses6(void **state unused)
{
	struct net_conf n =
		net("[nic a]\naddress6 = fd00:77::b/64\ngateway6 = fe80::1\n[peer b]\naddress = fd00:77::C\n"
		    "insecure = yes\n");
	said("");
	assert_string_equal(ip_text(n.net[0].address6.ip).s, "fd00:77::b");
	assert_int_equal(n.net[0].address6.prefix, 64);
	assert_string_equal(ip_text(n.net[0].gateway6).s, "fe80::1");
	assert_string_equal(ip_text(n.peer[0].ip).s, "fd00:77::c");
	assert_int_equal(net("[nic a]\n").net[0].address6.prefix, CONF_NET_NONE);
	n = net("[nic a]\naddress6 = auto\n");
	assert_true(ip_is_none(n.net[0].address6.ip) && !n.net[0].address6.prefix);
	net("[nic a]\naddress6 = auto\ngateway6 = fe80::1\n");
	said("tern.conf:3: [nic a] gateway6 = fe80::1: it counts with a static address only\n");
	static const char *const gateway[][2] = {
		/* of fd00:77::b with a prefix of */
		{ "64", "fd00:77::ffff:0:0:1" }, { "128", "fd00:77::1" }, { "128", "fe80::1" },
		{ "64", "!fd00:77:0:1::1" },     { "128", "!fd01::1" },
	};
	for (unsigned i = 0; i < ARRAY_SIZE(gateway); i++) {
		char text[128];
		bool outside = gateway[i][1][0] == '!';
		snprintf(text, sizeof(text), "[nic a]\naddress6 = fd00:77::b/%s\ngateway6 = %s\n", gateway[i][0],
			 gateway[i][1] + outside);
		net(text);
		assert_true(!strstr(c.problems, "it cannot be found") == !outside);
	}
	static const char *const bad[] = { "fd00::b",         "fd00::b/0",  "fd00::b/129",  "10.77.0.11/24",
					   "::/64",           "::1/64",     "fd00::b/63",   "ff02::1/64",
					   "::ffff:a4d:b/96", "fe80::1/64", "fd00::1::2/64" };
	for (unsigned i = 0; i < ARRAY_SIZE(bad); i++) {
		char text[64];
		snprintf(text, sizeof(text), "[nic a]\naddress6 = %s\n", bad[i]);
		n = net(text);
		assert_non_null(strstr(c.problems, "tern.conf:2: [nic a] address6 = "));
		assert_int_equal(n.net[0].address6.prefix, CONF_NET_NONE);
	}
	net("[nic a]\naddress6 = fd00::b/64\n[peer me]\naddress = fd00::b\ninsecure = yes\n");
	said("tern.conf:4: [peer me] address = fd00::b: this is this host's own address, on a: no peer of its own\n");
	n = net("[peer b]\naddress = fe80::1\ninsecure = yes\n");
	said("tern.conf:2: [peer b] address = fe80::1: write an address, such as 10.77.0.12 or fd00::c; a link-local "
	     "address: "
	     "which network is it on?\n");
	assert_int_equal(n.npeers, 0);
}

static void addresses(void **state unused)
{
	struct net_conf n = net("[nic a]\naddress = 10.77.0.11/32\ngateway = 192.168.1.1\n");
	said("");
	assert_true(n.nic[0].address.prefix == 32 && conf_net_mask(n.nic[0].address) == ~0U);
	n = net("[nic a]\naddress = 10.77.0.11/32\n");
	said("tern.conf:2: [nic a] address = 10.77.0.11/32: with a prefix of 32 no host can be reached without a "
	     "gateway\n");
	n = net("[nic a]\naddress = 10.77.0.11/31\n");
	said("tern.conf:2: [nic a] address = 10.77.0.11/31: write dhcp, or an address with its prefix, such as "
	     "10.77.0.11/24; a prefix of 31 does not work: take 30, or 32 with a gateway\n");
	assert_int_equal(n.nic[0].address.ip, 0);
	n = net("[nic a]\ngateway = 10.78.0.1\naddress = 10.77.0.11/24\n");
	said("tern.conf:2: [nic a] gateway = 10.78.0.1: it is used, but is not in the net of the address, "
	     "10.77.0.0/24\n");
	assert_string_equal(ip4_text(n.nic[0].gateway).s, "10.78.0.1");
	net("[nic a]\ngateway = 10.77.0.1\n");
	said("tern.conf:2: [nic a] gateway = 10.77.0.1: it counts with a static address only\n");
	n = net("[nic a]\naddress = 10.77.0.255/24\n");
	said("tern.conf:2: [nic a] address = 10.77.0.255/24: it is used, but is the net's own or its broadcast "
	     "address\n");
	assert_int_equal(n.nic[0].address.prefix, 24);
	n = net("[nic a]\naddress = 10.77.0.16/28\ngateway = 0.0.0.0\n"); /* releases before took it */
	assert_non_null(strstr(c.problems, "it is used, but is the net's own"));
	assert_null(strstr(c.problems, "gateway"));
	net("[nic a]\naddress = 127.0.0.1/24\n");
	said("tern.conf:2: [nic a] address = 127.0.0.1/24: write dhcp, or an address with its prefix, such as "
	     "10.77.0.11/24; no machine's own\n");
	assert_int_equal(net("[nic a]\naddress = 10.77.0.255/16\n").nic[0].address.prefix, 16);
	static const char *const gateways[] = { "10.77.0.0", "10.77.0.255", "10.77.0.11", "224.0.0.1", "127.0.0.1" };
	for (unsigned i = 0; i < ARRAY_SIZE(gateways); i++) {
		char text[64];
		snprintf(text, sizeof(text), "[nic a]\naddress = 10.77.0.11/24\ngateway = %s\n", gateways[i]);
		n = net(text);
		assert_non_null(strstr(c.problems, "tern.conf:3: [nic a] gateway = "));
		assert_true(!n.nic[0].gateway && n.nic[0].address.ip && !n.net[0].gateway);
	}
	static const char *const bad[] = {
		"10.77.0.11", "10.77.0.11/0", "10.77.0.11/33", "10.77.0/24",   "0.0.0.0/24",   "/24",
		"x",          "127.0.0.2/8",  "224.0.0.5/24",  "240.0.0.1/24", "10.77.0.11/99"
	};
	for (unsigned i = 0; i < ARRAY_SIZE(bad); i++) {
		char text[64];
		snprintf(text, sizeof(text), "[nic a]\naddress = %s\n", bad[i]);
		n = net(text);
		assert_non_null(strstr(c.problems, "tern.conf:2: [nic a] address = "));
		assert_int_equal(n.nic[0].address.ip, 0); /* DHCP */
	}
}

/* ---- [bond], [net] ---- */

#define TWO_CARDS "[nic x]\n[nic y]\n"

/* A card that nobody names is a network; one that a [net] names is not. */
static void networks(void **state unused)
{
	struct net_conf n = net("");
	assert_int_equal(n.nnets, 1);
	assert_string_equal(n.net[0].name, "lan");
	assert_int_equal(n.net[0].uses, NET_USES);
	assert_true(!n.net[0].vlan && n.net[0].ncards == 1 && n.net[0].card[0] == &cards[0] && n.net[0].mtu == 1500);
	n = net("[net a]\nvlan = 5\naddress = 10.88.0.11/24\nuse = migration,management\nmtu = 1400\n[net b]\nuse = "
		"vm\n");
	said("");
	assert_int_equal(n.nnets, 2);
	assert_true(n.net[0].vlan == 5 && n.net[0].mtu == 1400);
	assert_int_equal(n.net[0].uses, NET_USE_MANAGEMENT | NET_USE_MIGRATION);
	assert_string_equal(n.net[0].over, "lan");
	assert_int_equal(n.net[1].uses, NET_USE_VM);
	assert_int_equal(n.net[1].address.prefix, CONF_NET_NONE);
	n = net(TWO_CARDS "address = 10.77.0.11/24\n[net a]\nnic = x\naddress = dhcp\n");
	said("");
	assert_int_equal(n.nnets, 2);
	assert_true(!strcmp(n.net[0].name, "a") && n.net[0].card[0] == &cards[0] && !n.net[0].address.prefix);
	assert_true(!strcmp(n.net[1].name, "y") && n.net[1].card[0] == &cards[1] && n.net[1].address.ip);
	n = net("[net a]\nmtu = 1279\naddress6 = auto\n[net b]\nvlan = 5\nmtu = 576\n[net c]\nvlan = 6\nmtu = "
		"1280\naddress6 = "
		"auto\n");
	said("tern.conf:2: [net a] mtu = 1279: IPv6 (address6) wants 1280 bytes at least\n");
	assert_int_equal(n.nnets, 3);
	ncards = 0;
	assert_int_equal(net("[net a]\n").nnets, 0);
	said("tern.conf:1: [net a] nic: there is no [nic] or [bond] with a card\n"
	     "tern.conf:1: [net a]: so this network is not there\n");
}

/* What no one reads is told. */
static void named_card(void **state unused)
{
#define IN_NET ": a [net] or [bond] names this card: addresses are written in [net]\n"
	struct net_conf n =
		net("[nic x]\nmatch = first\naddress = 10.77.0.11/24\ngateway = 10.77.0.1\naddress6 = auto\n"
		    "[net a]\nnic = x\n");
	said("tern.conf:3: [nic x] address = 10.77.0.11/24" IN_NET "tern.conf:4: [nic x] gateway = 10.77.0.1" IN_NET
	     "tern.conf:5: [nic x] address6 = auto" IN_NET);
	assert_int_equal(n.nnets, 1);
	net("[nic x]\naddress6 = fd00::b/64\ngateway6 = fe80::1\n[bond b]\nnics = x\n[net a]\nnic = b\n");
	said("tern.conf:2: [nic x] address6 = fd00::b/64" IN_NET "tern.conf:3: [nic x] gateway6 = fe80::1" IN_NET);
}

static void bonds(void **state unused)
{
	struct net_conf n = net(TWO_CARDS "[bond t]\nnics = y, x\n[net a]\nnic = t\n[net b]\nvlan = 7\nnic = t\n");
	said("");
	assert_int_equal(n.nnets, 2);
	for (unsigned i = 0; i < 2; i++)
		assert_true(n.net[i].ncards == 2 && n.net[i].card[0] == &cards[1] && n.net[i].card[1] == &cards[0]);
	n = net(TWO_CARDS "[bond t]\nnics = x, y\n");
	said("tern.conf:3: [bond t]: no [net] names it, so it carries nothing\n");
	assert_int_equal(n.nnets, 0);
	n = net("[nic a23456789012345]\n[nic b23456789012345]\n[nic c23456789012345]\n[nic d23456789012345]\n"
		"[bond t]\nnics = a23456789012345, b23456789012345, c23456789012345, d23456789012345\n");
	assert_non_null(strstr(c.problems, "not all of these cards are there; the bond goes without\n"));
	assert_true(n.nbonds == 1 && n.bond[0].ncards == 2);
	n = net(TWO_CARDS "[bond t]\nnics = y\n[net a]\nnic = t\n"); /* another may come */
	said("");
	assert_true(n.net[0].ncards == 1 && n.net[0].card[0] == &cards[1]);
}

/* Each is told with its line, and what is well stays. */
static void wrong_networks(void **state unused)
{
	static const struct {
		const char *text, *says;
		unsigned nnets;
	} t[] = {
		{ TWO_CARDS "[net a]\n", "3: [net a] nic: missing: there are several [nic]", 0 },
		{ TWO_CARDS "[net a]\nnic = z\n", "4: [net a] nic = z: there is no [nic] or [bond] of this name", 0 },
		{ TWO_CARDS "[bond t]\nnics = x, z\n", "4: [bond t] nics = x, z: there is no [nic z]\n", 0 },
		{ TWO_CARDS "[bond t]\nnics = x, x\n", "4: [bond t] nics = x, x: [nic x] is in a bond already", 0 },
		{ TWO_CARDS "[bond x]\nnics = x, y\n", "3: [bond x]: a [nic] has this name as well", 0 },
		{ TWO_CARDS "[bond t]\nnics = x, y\n[net a]\nnic = t\n[net b]\nnic = x\n",
		  "8: [net b] nic = x: it is in [bond t]", 1 },
		{ TWO_CARDS "[bond t]\nmode = balance-rr\nnics = x, y\n[net a]\n",
		  "4: [bond t] mode = balance-rr: write active-backup", 0 },
		{ "[nic x]\n[nic y]\nmatch = 52:54:00:00:00:99\n[bond t]\nnics = x, y\n[net a]\nnic = t\n",
		  "5: [bond t] nics = x, y: not all of these cards are there; the bond goes without", 1 },
		{ "[nic x]\nmatch = 52:54:00:00:00:99\n[bond t]\nnics = x\n[net a]\nnic = t\n",
		  "4: [bond t] nics = x: none of these cards is there", 0 },
		{ "[net a]\nvlan = 4095\n", "2: [net a] vlan = 4095: write 1 to 4094", 0 },
		{ "[net a]\nvlna = 5\n", "1: [net a]: so this network is not there", 0 },
		{ "[nic x]\naddress = 10.77.0.11/24\n[nic y]\n[net a]\nnic = y\nuse = guests\n",
		  "6: [net a] use = guests: write some of management", 1 },
		{ TWO_CARDS "[net a]\nnic = y\nvlan = 4095\n", "5: [net a] vlan = 4095: write 1 to 4094", 1 },
		{ TWO_CARDS "[net a]\nnic = z\nvlan = 5\n",
		  "1: [nic x]: not a network by itself while a [bond] or [net] names no card", 0 },
		{ TWO_CARDS "[bond t]\nmode = lacp\nnics = y\n[net a]\nnic = t\n",
		  "7: [net a] nic = t: there is no [nic] or [bond] of this name", 1 },
		{ "[nic x]\nmatch = 52:54:00:00:00:99\n[nic y]\n[net a]\n",
		  "4: [net a] nic: missing: there are several [nic]", 0 },
		{ "[nic x]\nmatch = eth1\n[nic y]\n", "2: [nic x] match = eth1: write first, the", 1 },
		{ "[net a]\nvlan = 4\n[net b]\nvlan = 4\n", "4: [net b] vlan = 4: a has VLAN 4 of lan already", 1 },
		{ "[net a]\n[net b]\n", "2: [net b]: a has VLAN 0 of lan already", 1 },
		{ TWO_CARDS "[net y]\nnic = x\n", "2: [nic y]: there is a network of this name already", 1 },
		{ "[nic x]\naddress = 10.77.0.11/24\n[net a]\n",
		  "2: [nic x] address = 10.77.0.11/24: a [net] or [bond] names", 1 },
		{ "[net a]\nuse = guests\n", "2: [net a] use = guests: write some of management", 0 },
		{ "[net a]\nuse = migration\n", "2: [net a] use = migration: no migration comes here", 1 },
		{ "[net a]\nmtu = 9001\n", "2: [net a] mtu = 9001: write 576 to 9000", 0 },
		{ "[net a]\nmtu = 1501\n", "2: [net a] mtu = 1501: nic0 carries at most 1500 bytes: these are used",
		  1 },
		{ "[net a]\ngateway = 10.0.0.1\n", "2: [net a] gateway = 10.0.0.1: it counts with a static", 1 },
		{ "[net a-name-of-16-xxxx]\n", "1: [net a-name-of-16-xxxx]: its name is longer than 15", 0 },
		{ "[net a]\naddress = 10.0.0.1/24\n[net b]\nvlan = 2\naddress = 10.0.0.2/24\n",
		  "5: [net b] address = 10.0.0.2/24: a is in the same subnet", 2 },
		{ "[net a]\naddress = 10.0.0.1/24\n[net b]\nvlan = 2\naddress = 10.0.0.1/16\n",
		  "5: [net b] address = 10.0.0.1/16: a has it already", 1 },
	};
	for (unsigned i = 0; i < ARRAY_SIZE(t); i++) {
		ncards = 2;
		struct net_conf n = net(t[i].text);
		if (!strstr(c.problems, t[i].says) || n.nnets != t[i].nnets)
			fail_msg("%s: %u networks, %s", t[i].text, n.nnets, c.problems);
	}
}

/* ---- [peer] ---- */

static void peers(void **state unused)
{
	struct net_conf n = net("[peer b]\naddress = 10.77.0.12\n[peer me]\naddress = 10.77.0.11\n"
				"[peer c]\n[peer d]\naddress = 10.77.0.0x14\n[nic a]\naddress = 10.77.0.11/24\n"
				"[peer b]\ninsecure = yes\n[peer me]\ninsecure = yes\n");
	said("tern.conf:4: [peer me] address = 10.77.0.11: this is this host's own address, on a: no peer of its own\n"
	     "tern.conf:5: [peer c] address: missing; write an address, such as 10.77.0.12 or fd00::c\n"
	     "tern.conf:7: [peer d] address = 10.77.0.0x14: write an address, such as 10.77.0.12 or fd00::c\n"
	     "tern.conf:10: section [peer b] is there already in line 1; its keys are added to that one\n"
	     "tern.conf:12: section [peer me] is there already in line 3; its keys are added to that one\n");
	assert_int_equal(n.npeers, 1);
	assert_true(!strcmp(n.peer[0].name, "b") && ip_same(n.peer[0].ip, ip_of4(0x0c004d0a)));
	n = net("[peer b]\naddress = fd00::b\ninsecure = yes\n[peer c]\naddress = fd00:0::b\ninsecure = yes\n");
	said("tern.conf:5: [peer c] address = fd00:0::b: [peer b] has it already\n");
	assert_int_equal(n.npeers, 1);
}

/* Keys are read, and no message or entry holds one afterwards. */
static void keys(void **state unused)
{
#define KEY1 "00112233445566778899aabbccddeeff00112233445566778899AABBCCDDEEFF"
#define KEY2 "ff112233445566778899aabbccddeeff00112233445566778899AABBCCDDEEFF"
	static const uint8_t bytes[] = { 0x00, 0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x77,
					 0x88, 0x99, 0xaa, 0xbb, 0xcc, 0xdd, 0xee, 0xff };
	struct net_conf n = net(
		"[peer b]\naddress = 10.77.0.12\nkey = " KEY1 "\nkey_next = " KEY2 "\n[peer c]\naddress = 10.77.0.13\n"
		"key = " KEY1
		"0\n[peer d]\naddress = 10.77.0.14\nkey = 0x112233445566778899aabbccddeeff0011223344556677"
		"8899aabbccddeeff\n[peer e]\naddress = 10.77.0.15\nkey = " KEY1 "\ninsecure = yes\n"
		"[peer f]\naddress = 10.77.0.16\nkye = " KEY1 "\n[peer g]\naddress = 10.77.0.17\n" KEY1 " = key\n");
	said("tern.conf:7: [peer c] key: write 64 hexadecimal digits, as `peer key` makes them; the same in both "
	     "hosts' files\n"
	     "tern.conf:10: [peer d] key: write 64 hexadecimal digits, as `peer key` makes them; the same in both "
	     "hosts' files\n"
	     "tern.conf:14: [peer e] insecure = yes: there is a key, so nothing goes in clear\n"
	     "tern.conf:15: [peer f]: no key: this host cannot speak with it. `peer key` makes one, for both hosts' "
	     "files\n"
	     "tern.conf:17: [peer f] has no key 'kye'; ignored. It has address, key, key_next, insecure\n"
	     "tern.conf:18: [peer g]: no key: this host cannot speak with it. `peer key` makes one, for both hosts' "
	     "files\n"
	     "tern.conf:20: '0011' cannot be a key (1 to 23 letters, digits, '_', '-', '.'); ignored\n");
	assert_int_equal(n.npeers, 6);
	assert_memory_equal(n.peer[0].key, bytes, 16);
	assert_memory_equal(n.peer[0].key + 16, bytes, 16);
	assert_int_equal(n.peer[0].key_next[0], 0xff);
	assert_true(net_key_is_set(n.peer[3].key) && !net_key_is_set(n.peer[1].key));
	for (unsigned i = 0; i < c.n; i++)
		assert_null(strstr(c.e[i].value, "1122334455"));
}

/* Who writes a key, and writes it wrongly, does not speak in clear for that. */
static void no_key_by_mistake(void **state unused)
{
	static const char *const lines[] = { "key = 12", "key =", "key_next = " KEY1, "key_next = x",
					     "key = 0000000000000000000000000000000000000000000000000000000000000000" };
	for (unsigned i = 0; i < ARRAY_SIZE(lines); i++) {
		char text[300];
		snprintf(text, sizeof(text), "[peer b]\naddress = 10.77.0.12\n%s\ninsecure = yes\n", lines[i]);
		struct net_conf n = net(text);
		assert_int_equal(n.npeers, 1);
		assert_false(n.peer[0].insecure || net_key_is_set(n.peer[0].key));
		assert_true(n.peer[0].wants_key);
		assert_non_null(strstr(c.problems, "insecure = yes: there is a key, so nothing goes in clear"));
	}
	assert_non_null(strstr(c.problems, "zeros alone are no secret"));
	static const char *const meant[] = { "key " KEY1, "kye = " KEY1, "key = \1" KEY1, "k y = 1" };
	for (unsigned i = 0; i < ARRAY_SIZE(meant); i++) {
		char text[300];
		snprintf(text, sizeof(text), "[peer b]\naddress = 10.77.0.12\ninsecure = yes\n%s\n", meant[i]);
		struct net_conf n = net(text);
		assert_int_equal(n.npeers, 1);
		assert_true(n.peer[0].wants_key && !n.peer[0].insecure && !n.lost_peer[0]);
		assert_non_null(strstr(c.problems, "a line that is not understood, so nothing goes in clear"));
	}
	assert_false(net("[peer b]\naddress = 10.77.0.12\ninsecure = yes\n").peer[0].wants_key);
	/* Unless it says so, and has a key that can be read. */
	struct net_conf n = net("[peer b]\naddress = 10.77.0.12\nkey = " KEY1 "\ninsecure = incoming\n");
	said("");
	assert_int_equal(n.peer[0].insecure, NET_PEER_INCOMING);
	static const char *const wrong[] = { "", "key = 12\n", "key_next = " KEY1 "\n", "key = " KEY1 "\nx = 1\n" };
	for (unsigned i = 0; i < ARRAY_SIZE(wrong); i++) {
		char text[300];
		snprintf(text, sizeof(text), "[peer b]\naddress = 10.77.0.12\ninsecure = incoming\n%s", wrong[i]);
		assert_int_equal(net(text).peer[0].insecure, NET_PEER_SECURE);
		assert_non_null(strstr(c.problems, "tern.conf:3: [peer b] insecure = incoming: "));
	}
}

/* A peer that is in the file, and cannot be asked, is not forgotten: VMs wait for it. */
static void lost_peers(void **state unused)
{
	static const struct {
		const char *text, *lost;
	} t[] = {
		{ "[peer b]\naddress = 10.77.0.1O\n", "b" },
		{ "[peer b]\naddress 10.77.0.12\n", "b" },
		{ "[peer b]\naddress = \1\n", "b" },
		{ "[peer b\naddress = 10.77.0.12\n", "a [peer]" },
		{ "[peer]\naddress = 10.77.0.12\n", "a [peer]" },
		{ "[peer b c]\n", "a [peer]" },
		{ "[peer b] x\n", "a [peer]" },
		{ "[peer \2]\n", "a [peer]" },
		{ "[peers b]\n", "a [peer]" },
		{ "[Peer b]\n", "a [peer]" },
		{ "[peer a]\naddress = 10.77.0.13\npeer b]\naddress = 10.77.0.12\n", "a [peer]" },
		{ "[host]\n\xef\xbb\xbf[peer b]\n", "a [peer]" },
		{ "[ peer \x02]\n", "a [peer]" },
		{ "[floppy peerless]\n", "a [peer]" },
		{ "[floppy d]\n[vm x] # peer\n", "" },
		{ "[per b]\n[vm b\n", "" },
		{ "[peer b]\naddress = 10.77.0.12\nx\n", "" },
		{ "[peer b]\naddress = 10.77.0.12\n[peer c]\naddress = 10.77.0.13\n", "" },
		{ "[peer b]\naddress = 10.77.0.12\n[peer c]\naddress = 10.77.0.12\n", "" }, /* asked as b */
		{ "[peer b]\naddress = 10.77.0.12\n[peer c]\naddress = 10.77.0.12\ninsecure = yes\n", "c" },
	};
	static char text[40 * CONF_MAX_ENTRIES];
	for (unsigned i = 0; i < ARRAY_SIZE(t); i++)
		assert_string_equal(net(t[i].text).lost_peer, t[i].lost);
	for (unsigned i = 0, n = 0; i < CONF_MAX_ENTRIES - 1; i++)
		n += (unsigned)sprintf(text + n, "[vm v%u]\n", i);
	strcat(text, "[peer b]\naddress = 10.77.0.12\n"); /* one entry too many */
	assert_string_equal(net(text).lost_peer, "b");
	sprintf(text + strlen(text), "[peer c]\n");
	assert_string_equal(net(text).lost_peer, "b");
}

/* A line that cannot be kept makes its section wrong: what it may have said is not taken for its default. */
static void torn(void **state unused)
{
	assert_int_equal(net("[nic a]\n[net x]\nnic = a\nuse vm\n").nnets, 0);
	assert_int_equal(net("[nic a]\n[net x]\nnic = a\nvlan\n").nnets, 0);
	assert_non_null(strstr(c.problems, "[net x]: so this network is not there"));
	ncards = 2; /* which of them it meant is not known */
	assert_int_equal(net("[nic a]\nmatch 52:54:00:00:00:02\n").nnets, 0);
	assert_int_equal(net("[nic a]\nmacth = 52:54:00:00:00:02\n").nnets, 0);
	assert_non_null(strstr(c.problems, "[nic a] match: a line of this section is not understood and may have been "
					   "this: it is no card"));
	assert_int_equal(net("[nic a]\nmatch = first\nx\n").nnets, 1);
	assert_int_equal(net("[nic a]\nmatch = first\nmtu = 1500\n").nnets, 1);
	assert_int_equal(net("[nic a]\n[nic b]\nmatch = 52:54:00:00:00:02\n[bond c]\nnics a, b\n").nnets, 0);
	ncards = 1;
	assert_int_equal(net("[nic a]\nx\n").nnets, 1);
	assert_int_equal(net("[nic a]\nmacth = 52:54:00:00:00:02\n").nnets, 1);
	struct vm_config cfg = { 0 };
	struct conf_reader r = { .c = &c, .table = &vm_conf_table, .name = "demo" };
	parse("[vm demo]\nkernel = k\nmac = 52:54:00:77:00:01\nip 10.77.0.9\n");
	assert_false(conf_read(&r, &cfg));
	assert_string_equal(r.wrong, "tern.conf:1: [vm demo]: a line of it is not understood");
}

static void too_many(void **state unused)
{
	char text[4096] = "";
	for (int i = 0; i < NET_PEERS_MAX + 1; i++)
		snprintf(text + strlen(text), 64, "[peer p%d]\naddress = 10.77.1.%d\ninsecure = 1\n", i, i);
	struct net_conf n = net(text);
	assert_int_equal(n.npeers, NET_PEERS_MAX);
	assert_string_equal(n.lost_peer, "p32");
	said("tern.conf:97: [peer p32]: one too many: at most 32\n");
}

/* ---- [vm] ---- */

#define KERNEL "[vm demo]\nkernel = vmlinuz\n"

static void show(void *arg, const struct conf_key *k, const char *value)
{
	snprintf((char *)arg + strlen(arg), 400, "%s=%s|", k->key, value);
}

static void a_vm(void **state unused)
{
	char text[2000] = "";
	struct vm_config cfg = vm(KERNEL);
	said("");
	assert_string_equal(cfg.name, "demo");
	assert_true(cfg.mac[0][0] == 0x52 && cfg.mac[0][1] == 0x54 && !cfg.mac[0][2]);
	cfg.mac[0][3] = cfg.mac[0][4] = cfg.mac[0][5] = 7;
	memset(cfg.uuid, 7, sizeof(cfg.uuid));
	conf_show(&vm_conf_table, &cfg, show, text);
	assert_string_equal(text, "kernel=vmlinuz|initrd=|cmdline=|mem=256M|vcpus=1|weight=100|"
				  "uuid=07070707-0707-0707-0707-"
				  "070707070707|mac=52:54:00:07:07:07|net=|disk=|user-data=|meta-data=|network-config=|"
				  "cpu=host|autostart=no|migrate_strategy=auto|"
				  "ip=any|mac_change=no|trunk=no|dhcp_server=no|router=no|");
	cfg = vm(KERNEL "initrd = i.img\ncmdline = console=ttyS0 # not this\nmem = 3074M\nmac = 52:54:00:77:00:01\n"
			"uuid = 5A0c2f6e-8f4b-4c0e-9d61-0b3f6c1d2e7a\ncpu = portable\nautostart = alone\nvcpus = 1\nip "
			"= 10.77.0.50 ,2001:DB8::50, fe80:0:0::1\n"
			"mac_change = allow\ntrunk = yes\ndhcp_server = allow\nrouter = allow\n");
	said("");
	text[0] = '\0';
	conf_show(&vm_conf_table, &cfg, show, text);
	assert_string_equal(text, "kernel=vmlinuz|initrd=i.img|cmdline=console=ttyS0|mem=3074M|vcpus=1|"
				  "weight=100|uuid=5a0c2f6e-8f4b-"
				  "4c0e-9d61-0b3f6c1d2e7a|mac=52:54:00:77:00:01|"
				  "net=|disk=|user-data=|meta-data=|network-config=|cpu=portable|autostart=alone|"
				  "migrate_strategy=auto|ip=10.77.0.50, "
				  "2001:db8::50, fe80::1|mac_change=allow|"
				  "trunk=yes|dhcp_server=allow|router=allow|");
	/* What each of its cards may send. */
	cfg = vm(KERNEL "net = a, b, c\nip = 10.77.0.50 | any|2001:db8::50 ,10.0.0.1\nmac_change = no, allow\n"
			"trunk = no, no\nrouter = allow,no, on\n");
	said("tern.conf:7: [vm demo] router = allow,no, on: write no or allow, or one for each network; 'on' is "
	     "none\n");
	cfg = vm(KERNEL "net = a, b, c\nip = 10.77.0.50 | any|2001:db8::50 ,10.0.0.1\nmac_change = no, allow\n"
			"trunk = no, no\nrouter = allow,no ,  allow\n");
	said("");
	text[0] = '\0';
	conf_show(&vm_conf_table, &cfg, show, text);
	assert_non_null(strstr(text, "|ip=10.77.0.50 | any | 2001:db8::50, 10.0.0.1|mac_change=no, allow|trunk=no|"
				     "dhcp_server=no|router=allow, no, allow|"));
	assert_true(conf_nic_ips(&cfg.s.ip, 0)[15] == 50 && !conf_nic_ips(&cfg.s.ip, 1)[15] &&
		    conf_nic_ips(&cfg.s.ip, 2)[15] == 0x50 && conf_nic_ips(&cfg.s.ip, 2)[31] == 1);
	for (unsigned n = 0; n < 3; n++)
		assert_true(CONF_NIC_CHOICE(cfg.s.mac_change, n) == (n == 1) &&
			    CONF_NIC_CHOICE(cfg.s.router, n) == (n != 1));
	/* What is shown means the same when it is written. */
	static const char *const again[] = { "allow, no", "no, allow", "allow, allow", "no, no, allow",
					     "allow, no, no" };
	for (unsigned i = 0; i < ARRAY_SIZE(again); i++) {
		char line[300], *shown;
		snprintf(line, sizeof(line), KERNEL "net = a, b, c\nrouter = %s\n", again[i]);
		cfg = vm(line);
		uint32_t first = cfg.s.router;
		text[0] = '\0';
		conf_show(&vm_conf_table, &cfg, show, text);
		shown = strstr(text, "|router=") + 8;
		*strchr(shown, '|') = '\0';
		snprintf(line, sizeof(line), KERNEL "net = a, b, c\nrouter = %s\n", shown);
		cfg = vm(line);
		said("");
		assert_int_equal(cfg.s.router, first);
	}
	cfg = vm(KERNEL "net = a, b\nip = 10.77.0.50\nmac_change = allow\n");
	assert_true(conf_nic_ips(&cfg.s.ip, 1)[15] == 50 && CONF_NIC_CHOICE(cfg.s.mac_change, 1));
	static const char *const no_cards[][2] = {
		{ "net = a, b, c\nip = any | any\n", "these are lists for 2 networks, and it has 3 (net)" },
		{ "ip = any | any\n", "these are lists for 2 networks, and it has 1 (net)" },
		{ "ip = any | | any\n", "; '' is none" },
		{ "ip = any |\n", "; '' is none" },
		{ "ip = any|any|any|any|any\n", "; these are more" },
		{ "mac_change = no, allow\n", "mac_change = no, allow: these are more than its networks (net)" },
		{ "mac_change = no, no, no, no, no\n", "; these are more" },
		{ "trunk = no, allow\n", "; 'allow' is none" },
		{ "trunk = no yes\n", "trunk = no yes: write" },
		{ "trunk = no,\n", "; '' is none" },
	};
	for (unsigned i = 0; i < ARRAY_SIZE(no_cards); i++) {
		char line[300];
		snprintf(line, sizeof(line), "%s%s", KERNEL, no_cards[i][0]);
		vm(line);
		if (!strstr(c.problems, no_cards[i][1]))
			fail_msg("%s%s", no_cards[i][0], c.problems);
	}
	static const char *const no_uuid[] = { "",
					       "5a0c2f6e-",
					       "5a0c2f6e8f4b4c0e9d610b3f6c1d2e7a",
					       "5a0c2f6e-8f4b-4c0e-9d61-0b3f6c1d2e7",
					       "5a0c2f6e-8f4b-4c0e-9d61-0b3f6c1d2e7ag",
					       "5a0c2f6e-8f4b-4c0e-9d61-0b3f6c1d2e7aa",
					       "5a0c2f6e-8f4b-4c0e-9d61_0b3f6c1d2e7a",
					       "x",
					       "00000000-0000-0000-0000-000000000000",
					       "-5a0c2f6e-8f4b-4c0e-9d61-0b3f6c1d2e7" };
	for (unsigned i = 0; i < ARRAY_SIZE(no_uuid); i++) {
		char *exact = strdup(no_uuid[i]); /* for ASan */
		assert_int_equal(conf_type_uuid.parse(NULL, exact, cfg.uuid, NULL), -EINVAL);
		free(exact);
		snprintf(text, sizeof(text), KERNEL "uuid = %s\n", no_uuid[i]);
		(void)vm(text);
		assert_non_null(strstr(wrong, "write a UUID, such as"));
	}
	assert_int_equal(vm(KERNEL "autostart = on\n").s.autostart, VM_AUTOSTART_YES);
	assert_int_equal(vm(KERNEL "autostart = 0\n").s.autostart, VM_AUTOSTART_NO);
}

static struct vm_config of(const char *name, const char *host, uint64_t identity)
{
	char text[64];
	struct vm_config cfg;
	snprintf(text, sizeof(text), "[vm %s]\nkernel = vmlinuz\n", name);
	parse(text);
	assert_true(vm_config_read(&c, name, host, identity, &cfg, wrong));
	return cfg;
}

/*
 * Over restarts, and over releases: a VM whose file gives it none has these for life. The UUID is the machine's and the
 * VM's name's, whatever the host is called; the MAC is the host's name's, so that a new machine of that name has it.
 */
static void ids_for_life(void **state unused)
{
	static const uint8_t uuid[16] = { 0x90, 0x4f, 0xe4, 0xc9, 0x67, 0x5a, 0x75, 0x2e,
					  0xa3, 0x31, 0x5f, 0xee, 0x51, 0xe2, 0x73, 0x94 },
			     mac[6] = { 0x52, 0x54, 0x00, 0xe6, 0xb1, 0x27 };
	const uint64_t machine = 0x1122334455667788;
	struct vm_config cfg = of("web1", "a", machine);
	assert_memory_equal(cfg.uuid, uuid, 16);
	assert_memory_equal(cfg.mac[0], mac, 6);
	assert_memory_equal(of("web1", "b", machine).uuid, uuid, 16);
	assert_memory_not_equal(of("web1", "b", machine).mac[0], mac, 6);
	assert_memory_not_equal(of("web2", "a", machine).uuid, uuid, 16);
	assert_memory_not_equal(of("web1", "a", machine + 1).uuid, uuid, 16);
	assert_memory_equal(of("web1", "a", machine + 1).mac[0], mac, 6);
}

/* A card on each of several networks, of which some have a MAC from the file. */
static void cfg_of_several(void)
{
	static const struct {
		const char *text, *says;
	} bad[] = {
		{ "net = a, b, c, d, e\n", "these are more" },
		{ "net = a, a\n", "'a' is there twice" },
		{ "net = a, b c\n", "net = a, b c: write" },
		{ "net = a, a-name-of-16-xxxx\n", "'a-name-of-16-xxxx' is none" },
		{ "mac = 52:54:00:77:00:01, 52:54:00:77:00:02\n", "these are more than its networks (net)" },
		{ "net = a, b\nmac = 52:54:00:77:00:01, 52:54:00:77:00:01\n", "is there twice" },
	};
	char text[2000] = "";
	struct vm_config cfg = vm(KERNEL "net = prod, store,side\nmac = 52:54:00:77:00:01\n"), again;
	said("");
	assert_int_equal(cfg.nnics, 3);
	assert_true(!strcmp(cfg.net[0], "prod") && !strcmp(cfg.net[1], "store") && !strcmp(cfg.net[2], "side"));
	assert_true(cfg.mac[0][5] == 1 && memcmp(cfg.mac[1], cfg.mac[2], 6) && cfg.mac[2][0] == 0x52);
	again = vm(KERNEL "net = prod, store,side\nmac = 52:54:00:77:00:01\n");
	assert_memory_equal(again.mac, cfg.mac, sizeof(cfg.mac));
	snprintf(text, sizeof(text), KERNEL "net = b, c\nmac = %s\n", mac_text(cfg.mac[1]).s);
	again = vm(text); /* it kept its card's MAC when it left the first network */
	said("");
	assert_true(!memcmp(again.mac[0], cfg.mac[1], 6) && memcmp(again.mac[1], cfg.mac[1], 6));
	text[0] = '\0';
	memset(cfg.mac[1], 4, 12);
	conf_show(&vm_conf_table, &cfg, show, text);
	assert_non_null(
		strstr(text, "mac=52:54:00:77:00:01, 04:04:04:04:04:04, 04:04:04:04:04:04|net=prod, store, side|"));
	for (unsigned i = 0; i < ARRAY_SIZE(bad); i++) {
		snprintf(text, sizeof(text), KERNEL "%s", bad[i].text);
		vm(text);
		assert_non_null(strstr(c.problems, bad[i].says));
	}
}

static void a_wrong_vm(void **state unused)
{
	vm("[vm demo]\nmem = 512\nvcpus = 65\nkernel =\nmac = 01:00:5e:00:00:01\ncpu = fast\nautostart = never\nmen = "
	   "1G\n");
	said("tern.conf:2: [vm demo] mem = 512: write a size of at least 16M in steps of 2M; 512M?\n"
	     "tern.conf:3: [vm demo] vcpus = 65: write a number from 1 to 64\n"
	     "tern.conf:4: [vm demo] kernel = : write the name of a Linux bzImage or a PVH kernel on the boot volume, "
	     "up to 95 "
	     "characters\n"
	     "tern.conf:5: [vm demo] mac = 01:00:5e:00:00:01: write unicast MAC addresses, one for each network, such "
	     "as "
	     "52:54:00:77:00:01; '01:00:5e:00:00:01' is none\n"
	     "tern.conf:6: [vm demo] cpu = fast: no such CPU model; write host or portable\n"
	     "tern.conf:7: [vm demo] autostart = never: write yes, no or alone\n"
	     "tern.conf:8: [vm demo] men: there is no such key; there are kernel, initrd, cmdline, mem, vcpus, weight, "
	     "uuid, "
	     "mac, net, disk, user-data, meta-data, network-config, cpu, autostart, migrate_strategy, ip, mac_change, "
	     "trunk, "
	     "dhcp_server, router\n");
	assert_string_equal(wrong,
			    "tern.conf:2: [vm demo] mem = 512: write a size of at least 16M in steps of 2M; 512M?");
	cfg_of_several();
	vm("[vm demo]\nmem = 8M\n");
	said("tern.conf:1: [vm demo] kernel: missing; write the name of a Linux bzImage or a PVH kernel on the boot "
	     "volume, or a disk to boot from\n"
	     "tern.conf:2: [vm demo] mem = 8M: write a size of at least 16M in steps of 2M\n");
	vm(KERNEL "mem = 17\n");
	assert_null(strstr(wrong, "?")); /* 17M is none either */
	vm(KERNEL "cpu = portable\nmem = 1024G\n");
	said("tern.conf:4: [vm demo] mem = 1024G: more than the 511G that cpu = portable can address\n");
	vm(KERNEL "mem = 4095G\n");
	assert_string_equal(wrong, "");
	vm(KERNEL "pi = 10.77.0.5\n"); /* it is not to run without what was meant to bind it */
	assert_memory_equal(wrong, "tern.conf:3: [vm demo] pi: there is no such key; there are kernel, ", 67);
	char text[256] = KERNEL "initrd = ";
	memset(text + strlen(text), 'x', 96);
	vm(text);
	assert_non_null(strstr(wrong, "tern.conf:3: [vm demo] initrd = xxx"));
}

/* What a list of addresses may be, and how it is shown. */
static void addresses_of_a_vm(void **state unused)
{
	static const struct {
		const char *written, *shown; /* NULL: refused */
	} c[] = {
		{ "any", "any" },
		{ "10.77.0.50", "10.77.0.50" },
		{ "10.77.0.50,\t10.77.0.51", "10.77.0.50, 10.77.0.51" },
		{ "2001:db8:0:0:1:0:0:1", "2001:db8::1:0:0:1" },
		{ "2001:0:0:0:1:0:0:0", "2001::1:0:0:0" },
		{ "2001:db8:0:1:1:1:1:1", "2001:db8:0:1:1:1:1:1" },
		{ "1::", "1::" },
		{ "::1", "::1" },
		{ "1.0.0.1,1.0.0.2,1.0.0.3,1.0.0.4,1.0.0.5,1.0.0.6,1.0.0.7,2::8",
		  "1.0.0.1, 1.0.0.2, 1.0.0.3, 1.0.0.4, 1.0.0.5, 1.0.0.6, 1.0.0.7, 2::8" },
		{ "1::1,1::2,1::3,1::4,1::5,1::6,1::7,1::8,1::9", NULL },
		{ "10.77.0.50,", NULL },
		{ ",10.77.0.50", NULL },
		{ "10.77.0.50 10.77.0.51", NULL },
		{ "10.77.0.50/24", NULL },
		{ "10.77.0", NULL },
		{ "any, 10.77.0.50", NULL },
		{ "0.0.0.0", NULL },
		{ "::", NULL },
		{ "224.0.0.1", NULL },
		{ "255.255.255.255", NULL },
		{ "ff02::1", NULL },
		{ "1:2:3:4:5:6:7", NULL },
		{ "1:2:3:4:5:6:7:8:9", NULL },
		{ "1:2:3:4::5:6:7:8", NULL },
		{ "1::2::3", NULL },
		{ "1:::2", NULL },
		{ ":1:2:3:4:5:6:7", NULL },
		{ "1:2:3:4:5:6:7:", NULL },
		{ "12345::1", NULL },
		{ "1::g", NULL },
		{ "2001:db8:2001:db8:2001:db8:2001:db8:2001:db8", NULL },
	};
	for (unsigned i = 0; i < ARRAY_SIZE(c); i++) {
		char text[200], shown[2048] = "", want[400];
		snprintf(text, sizeof(text), KERNEL "ip = %s\n", c[i].written);
		struct vm_config cfg = vm(text);
		if (!c[i].shown && !strstr(wrong, "write any, or up to 8 addresses, IPv4 or IPv6, with commas"))
			fail_msg("ip = %s is taken, or refused with: %s", c[i].written, wrong);
		conf_show(&vm_conf_table, &cfg, show, shown);
		snprintf(want, sizeof(want), "|ip=%s|", c[i].shown ? c[i].shown : "any");
		if (!strstr(shown, want))
			fail_msg("ip = %s is shown as %s", c[i].written, shown);
	}
}

static void a_taken_mac(void **state unused)
{
	here[0] = (struct vm){ .cfg = { .name = "first", .nnics = 1, .mac = { { 0x52, 0x54, 0, 0x77, 0, 1 } } } };
	nhere = 1;
	vm(KERNEL "mac = 52:54:00:77:00:01\n");
	assert_string_equal(wrong,
			    "tern.conf:3: [vm demo] mac = 52:54:00:77:00:01: the MAC 52:54:00:77:00:01 is that of VM "
			    "first; give it one of its own");
	here[0].state = VM_MISCONFIGURED; /* it never runs */
	vm(KERNEL "mac = 52:54:00:77:00:01\n");
	assert_string_equal(wrong, "");
}

/* What comes from a peer: text, or refused. */
static void migrates(void **state unused)
{
	uint8_t buf[sizeof(struct vm_config_state)];
	struct vm_config cfg = vm(KERNEL "cmdline = a b\nautostart = yes\nip = 2001:db8::1, 10.77.0.50\ntrunk = yes\n"
					 "weight = 300\n"),
			 to = { 0 };
	struct why w = { "" };
	assert_int_equal(state_selftest(&vm_config_desc, &w), 0);
	state_save(&vm_config_desc, &cfg, buf);
	assert_int_equal(state_load(&vm_config_desc, &to, 3, buf, sizeof(buf), &w), 0);
	assert_memory_equal(&to.s, &cfg.s, sizeof(to.s));
	buf[0] = '\n';
	assert_int_equal(state_load(&vm_config_desc, &to, 3, buf, sizeof(buf), &w), -EINVAL);
	memset(buf, 'x', sizeof(cfg.s.kernel));
	assert_int_equal(state_load(&vm_config_desc, &to, 3, buf, sizeof(buf), &w), -EINVAL);
	state_save(&vm_config_desc, &cfg, buf);
	buf[offsetof(struct vm_config_state, autostart)] = VM_AUTOSTART_ALONE + 1;
	assert_int_equal(state_load(&vm_config_desc, &to, 3, buf, sizeof(buf), &w), -EINVAL);
	state_save(&vm_config_desc, &cfg, buf);
	static const uint8_t of_no_card[] = { 2, 3, 4, 32, 64 };
	for (unsigned i = 0; i < sizeof(of_no_card); i++) {
		buf[offsetof(struct vm_config_state, router)] = of_no_card[i];
		assert_int_equal(state_load(&vm_config_desc, &to, 3, buf, sizeof(buf), &w), -EINVAL);
	}
	assert_string_equal(to.s.kernel, "vmlinuz");
	state_save(&vm_config_desc, &cfg, buf);
	cfg.s.weight = VM_WEIGHT_MAX + 1;
	state_save(&vm_config_desc, &cfg, buf);
	assert_int_equal(state_load(&vm_config_desc, &to, 3, buf, sizeof(buf), &w), -EINVAL);
	/* What differs from card to card is that of a VM with so many. */
	cfg = vm(KERNEL "net = a, b\nip = any | 10.0.0.1\n");
	state_save(&vm_config_desc, &cfg, buf);
	for (to.nnics = 1; to.nnics <= 3; to.nnics++)
		assert_int_equal(state_load(&vm_config_desc, &to, 3, buf, sizeof(buf), &w),
				 to.nnics == 2 ? 0 : -EINVAL);
	assert_true(conf_nic_ips(&to.s.ip, 1)[15] == 1 && !conf_nic_ips(&to.s.ip, 0)[15]);
	cfg = vm(KERNEL "net = a, b\ndhcp_server = no, allow\n");
	state_save(&vm_config_desc, &cfg, buf);
	to.nnics = 2;
	assert_int_equal(state_load(&vm_config_desc, &to, 3, buf, sizeof(buf), &w), 0);
	assert_true(CONF_NIC_CHOICE(to.s.dhcp_server, 1) && !CONF_NIC_CHOICE(to.s.dhcp_server, 0));
}

/* ---- the documents ---- */

static const struct conf_table *const tables[] = { &host_conf_table, &nic_conf_table, &bond_conf_table, &if_conf_table,
						   &peer_conf_table, &vm_conf_table,  &disk_conf_table };

static char *slurp(const char *path)
{
	static char text[65536];
	FILE *f = fopen(path, "r");
	if (!f)
		fail_msg("%s: run this from the root of the sources", path);
	text[fread(text, 1, sizeof(text) - 1, f)] = '\0';
	fclose(f);
	return text;
}

/* A row of boot.md, "| `key` | value | default |": the key must be the table's next, its default the same. */
static void check_row(const struct conf_table *t, unsigned i, char *row)
{
	char key[64], def[64];
	if (i >= t->n)
		fail_msg("doc/boot.md: [%s] has no key for: %s", t->kind, row);
	const struct conf_key *k = &t->keys[i];
	snprintf(key, sizeof(key), "| `%s` | ", k->key);
	snprintf(def, sizeof(def), !k->def ? " | required |" : k->def[0] ? " | `%s` |" : " |", k->def);
	if (strncmp(row, key, strlen(key)) || strlen(row) < strlen(def) || strcmp(row + strlen(row) - strlen(def), def))
		fail_msg("doc/boot.md: [%s] wants \"%s...%s\", not: %s", t->kind, key, def, row);
}

static void boot_md(void **state unused)
{
	const struct conf_table *t = NULL;
	unsigned i = 0, sections = 0;
	for (char *line = strtok(slurp("doc/boot.md"), "\n"); line; line = strtok(NULL, "\n")) {
		if (!strncmp(line, "## ", 3)) {
			if (t)
				assert_int_equal(i, t->n);
			t = NULL;
			for (unsigned k = 0; k < ARRAY_SIZE(tables); k++)
				if (line[3] == '[' && !strncmp(line + 4, tables[k]->kind, strlen(tables[k]->kind)))
					t = tables[k];
			sections += t != NULL;
			i = 0;
		} else if (t && !strncmp(line, "| `", 3)) {
			check_row(t, i++, line);
		}
	}
	assert_true(t && i == t->n);
	assert_int_equal(sections, ARRAY_SIZE(tables));
}

/* It names every key, in a comment at least, and means what it says. */
static void example(void **state unused)
{
	char *text = slurp("tern.conf.example"), key[64];
	for (unsigned k = 0; k < ARRAY_SIZE(tables); k++)
		for (unsigned i = 0; i < tables[k]->n; i++) {
			snprintf(key, sizeof(key), "\n%s = ", tables[k]->keys[i].key);
			if (!strstr(text, key) && (key[0] = '#', !strstr(text, key)))
				fail_msg("tern.conf.example does not have [%s] %s", tables[k]->kind,
					 tables[k]->keys[i].key);
		}
	struct host_conf h = host(text);
	assert_string_equal(h.name, "tern-a");
	vm(text);
	assert_string_equal(wrong, "");
	assert_int_equal(net(text).npeers, 1);
	said("tern.conf:34: [peer tern-b]: no key: this host cannot speak with it. `peer key` makes one, for both "
	     "hosts' files\n");
}

static void tables_are_sound(void **state unused)
{
	uint64_t field[72];
	for (unsigned k = 0; k < ARRAY_SIZE(tables); k++)
		for (const struct conf_key *key = tables[k]->keys; key < tables[k]->keys + tables[k]->n; key++) {
			assert_non_null(key->help);
			assert_true(key->size <= sizeof(field));
			if (key->def && key->def[0])
				assert_int_equal(conf_key_parse(key, key->def, field, NULL), 0);
		}
}

/*
 * What is said of a mistake names the section, the key and the line, quotes some of the value, and says all of what
 * may be written, however long these are; and of a key that is none, all that there are.
 */
static void longest_said(void **state unused)
{
	static const char name[] = "nnnnnnnnnnnnnnnnnnnnnnnnnnnnnnn"; /* 31 letters: one more is no section's */
	static uint64_t obj[1000];
	for (unsigned t = 0; t < ARRAY_SIZE(tables); t++) {
		const struct conf_table *tab = tables[t];
		const char *n = strcmp(tab->kind, "host") ? name : "";
		for (unsigned i = 0; i <= tab->n; i++) {
			const struct conf_key *k = i < tab->n ? &tab->keys[i] : NULL;
			char text[800], value[500];
			memset(value, '!', sizeof(value));
			value[sizeof(value) - 1] = '\0';
			snprintf(text, sizeof(text), "[%s%s%s]\n%s = %s\n", tab->kind, n[0] ? " " : "", n,
				 k ? k->key : "kkkkkkkkkkkkkkkkkkkkkkk", value);
			parse(text);
			said("");
			for (unsigned strict = 0; strict < 2; strict++) {
				struct conf_reader r = { .c = &c, .table = tab, .name = n, .strict = strict };
				c.problems[0] = '\0';
				(void)conf_read(&r, obj);
				if (k && c.problems[0] && !strstr(c.problems, k->help)) /* some take any text */
					fail_msg("%s %s: %s", tab->kind, k->key, c.problems);
				const char *at = c.problems;
				for (unsigned j = 0; !k && j < tab->n; at += strlen(tab->keys[j++].key))
					if (!(at = strstr(at, tab->keys[j].key)))
						fail_msg("%s %s: %s", tab->kind, tab->keys[j].key, c.problems);
			}
		}
	}
}

static void same_ips(void *arg, const struct conf_key *k, const char *value)
{
	struct conf_nic_ips again;
	if (strcmp(k->key, "ip") != 0)
		return;
	assert_true(strlen(value) >= sizeof(c.e[0].value));
	assert_int_equal(conf_key_parse(k, value, &again, NULL), 0);
	assert_memory_equal(&again, arg, sizeof(again));
}

/* Lists in the file need no spaces, and have them when they are shown: one that just fits the file is shown whole. */
static void longest_shown(void **state unused)
{
	char line[700] = KERNEL "net = a,b,c,d\nip = ";
	for (unsigned i = 0; i < 14; i++)
		snprintf(line + strlen(line), sizeof(line) - strlen(line), "%s2001::2222:3333:4444:5555:6666:777%x",
			 !i      ? ""
			 : i % 4 ? ","
				 : "|",
			 i);
	struct vm_config cfg = vm(line);
	said("");
	assert_int_equal(cfg.s.ip.each, CONF_NICS);
	conf_show(&vm_conf_table, &cfg, same_ips, &cfg.s.ip);
}

int main(void)
{
	/* clang-format off */
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(host_keys, setup),  cmocka_unit_test_setup(host_rates, setup),
		cmocka_unit_test_setup(console_password, setup),
		cmocka_unit_test_setup(console_locks, setup),
		cmocka_unit_test_setup(nics, setup),
		cmocka_unit_test_setup(no_such_card, setup), cmocka_unit_test_setup(addresses, setup),
		cmocka_unit_test_setup(addresses6, setup),
		cmocka_unit_test_setup(networks, setup),   cmocka_unit_test_setup(bonds, setup),
		cmocka_unit_test_setup(named_card, setup),
		cmocka_unit_test_setup(wrong_networks, setup),
		cmocka_unit_test_setup(peers, setup),      cmocka_unit_test_setup(keys, setup),
		cmocka_unit_test_setup(lost_peers, setup), cmocka_unit_test_setup(torn, setup),
		cmocka_unit_test_setup(no_key_by_mistake, setup), cmocka_unit_test_setup(too_many, setup),
		cmocka_unit_test_setup(a_vm, setup), cmocka_unit_test_setup(ids_for_life, setup),
		cmocka_unit_test_setup(a_wrong_vm, setup),
		cmocka_unit_test_setup(addresses_of_a_vm, setup),
		cmocka_unit_test_setup(a_taken_mac, setup), cmocka_unit_test_setup(migrates, setup),
		cmocka_unit_test_setup(boot_md, setup),    cmocka_unit_test_setup(example, setup),
		cmocka_unit_test_setup(tables_are_sound, setup),
		cmocka_unit_test_setup(longest_said, setup), cmocka_unit_test_setup(longest_shown, setup),
	};
	/* clang-format on */

	return cmocka_run_group_tests(tests, NULL, NULL);
}

/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * tern's boot order, from the loader's hand-off to the prompt. This file wires the rooms together and so may include
 * from all of them. kernel_main runs on the boot CPU's first stack, which then becomes its idle task; from the first
 * task on it is boot().
 */
#include "arch/x86/arch.h"
#include "arch/x86/hv.h"
#include "arch/x86/hw/uart16550.h"
#include "arch/x86/irq.h"
#include "crypto/aead.h"
#include "crypto/password.h"
#include "drivers/nic.h"
#include "drivers/pci_bus.h"
#include "drivers/piix4.h"
#include "drivers/uart_16550.h"
#include "kernel/base/wipe.h"
#include "kernel/acpi_host.h"
#include "kernel/conf.h"
#include "kernel/console.h"
#include "kernel/handoff.h"
#include "kernel/host.h"
#include "kernel/log.h"
#include "kernel/base/mac.h"
#include "kernel/malloc.h"
#include "kernel/page.h"
#include "kernel/panic.h"
#include "kernel/random.h"
#include "kernel/sched.h"
#include "kernel/time.h"
#include "net/net.h"
#include "net/trust.h"
#include "vmm/boot_file.h"
#include "vmm/migrate/lease.h"
#include "vmm/migrate/migrate.h"
#include "vmm/migrate/this_host.h"
#include "vmm/vm.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MEMORY_MIN MIB(32) /* free after boot: less, and no VM of use fits */

extern const struct console_cmd __console_cmds_start[], __console_cmds_end[]; /* linker.ld */
extern char __kernel_start[], __kernel_end[];

static struct conf conf;
static struct host_conf host_conf;

static hpa_t table_alloc(void *arg unused) { return page_alloc(PAGE_ORDER_4K); }

static void table_free(void *arg unused, hpa_t hpa) { page_free(hpa, PAGE_ORDER_4K); }

/* The direct map covers all that may be read or written: RAM, and ACPI's tables. Neighbours become one range. */
static void map_memory(const struct handoff *h)
{
	static struct arch_mem ram[512];
	const struct handoff_mem *m = hva_of(h->mem);
	unsigned n = 0;
	for (unsigned i = 0; i < h->nmem; i++) {
		if (m[i].type == HANDOFF_MEM_RESERVED)
			continue;
		if (m[i].type != HANDOFF_MEM_ACPI)
			host_info.ram_bytes += m[i].size;
		if (n && ram[n - 1].base + ram[n - 1].size == m[i].base)
			ram[n - 1].size += m[i].size;
		else if (n < ARRAY_SIZE(ram))
			ram[n++] = (struct arch_mem){ m[i].base, m[i].size };
		else
			panic("the memory map has more than %zu separate ranges", ARRAY_SIZE(ram));
	}
	arch_paging_init(ram, n, h->kernel_base, table_alloc, table_free);
}

static void other_cpu(void)
{
	time_cpu_init();
	sched_cpu_init();
	sched_idle();
}

static void cpu_missing(uint32_t apic_id, const char *why)
{
	host_info.ncpus_missing++;
	log_error("tern runs without the CPU with APIC id %u: %s", apic_id, why);
}

static void cpu_stepped(unsigned cpu, int64_t off)
{
	log_warn("CPU %u: its time-stamp counter was %ld ticks off, and has been set right", cpu, off);
}

static void name_cpu(void)
{
	uint32_t *p = (uint32_t *)(void *)host_info.cpu_model;
	struct cpuid_regs r = cpuid(0, 0);
	memcpy(host_info.cpu_vendor, (uint32_t[]){ r.ebx, r.edx, r.ecx }, 12);
	for (uint32_t leaf = 0x80000002; leaf <= 0x80000004 && cpuid(0x80000000, 0).eax >= leaf; leaf++) {
		r = cpuid(leaf, 0);
		memcpy(p, &r, 16);
		p += 4;
	}
	char *s = host_info.cpu_model; /* it comes padded with blanks on some */
	memmove(s, s + strspn(s, " "), strlen(s + strspn(s, " ")) + 1);
	for (size_t n = strlen(s); n && s[n - 1] == ' '; n--)
		s[n - 1] = 0;
}

static void log_text(const char *text, size_t len)
{
	for (const char *end = text + len; text < end;) {
		const char *nl = memchr(text, '\n', (size_t)(end - text));
		size_t n = (size_t)((nl ? nl : end) - text);
		if (n)
			log_warn("%.*s", (int)n, text);
		text += n + 1;
	}
}

/* A disk's file has the blocks that are not zero, the table of which goes with the loader's memory. */
static int add_file(const struct handoff_file *f, const char *name)
{
	const hpa_t *block = hva_of(f->base);
	if (!f->sparse) {
		host_info.file_bytes += ALIGN_UP(f->size, PAGE_SIZE);
		return boot_file_add(name, hva_of(f->base), f->size);
	}
	for (uint64_t at = 0; at < f->size; at += BOOT_FILE_BLOCK)
		host_info.file_bytes += block[at / BOOT_FILE_BLOCK] ? BOOT_FILE_BLOCK : 0;
	return boot_file_add_sparse(name, block, f->size);
}

/* Copy what the loader handed over, so that its memory can be freed. The files' contents stay where they are. */
static void take_handoff(const struct handoff *h)
{
	log_text(hva_of(h->messages), h->messages_size);
	(void)conf_parse(&conf, hva_of(h->config), h->config_size); /* problems are logged at the end of boot */
	wipe(hva_of(h->config), h->config_size);                    /* it may hold keys */
	const struct handoff_file *f = hva_of(h->files);
	for (unsigned i = 0; i < h->nfiles; i++) {
		char *name = strndup(f[i].name, sizeof(f[i].name));
		int err = f[i].err || !name ? 0 : add_file(&f[i], name);
		if (err)
			log_error("the boot file %s is of no use: %s", name, err_name(err));
	}
	(void)conf_read(&(struct conf_reader){ .c = &conf, .table = &host_conf_table, .name = "" }, &host_conf);
	memcpy(host_info.name, host_conf.name, sizeof(host_info.name));
	console_set_name(host_info.name);
}

/* After the cards were found: their MACs are a part of it. */
static void name_incarnation(const uint8_t system_uuid[16])
{
	uint8_t macs[16][6];
	unsigned n = 0;
	for (struct nic *nic; n < ARRAY_SIZE(macs) && (nic = nic_get(n)); n++)
		memcpy(macs[n], nic->mac, sizeof(macs[0]));
	host_info.inc.host = host_identity(system_uuid, macs, n);
	while (!host_info.inc.boot)
		random_bytes(&host_info.inc.boot, sizeof(host_info.inc.boot));
}

static uint32_t cpus_without_hv;

static void hv_cpu_on(void *arg)
{
	const struct hv_ops *hv = arg;
	if (hv->cpu_on())
		__atomic_fetch_add(&cpus_without_hv, 1, __ATOMIC_SEQ_CST);
}

static bool address_settled(uint64_t deadline_ns) { return net_addr_settle(deadline_ns) != -ETIMEDOUT; }

/* A host whose address is another's as well hears nothing: no VM starts by itself then. */
static bool address_conflict(char *text, size_t size)
{
	uint8_t mac[6];
	if (net_addr_state(mac) != NET_ADDR_CONFLICT)
		return false;
	sniprintf(text, size, "this host's address is in use by %s as well", mac_text(mac).s);
	return true;
}

/*
 * Hardware virtualisation, on every CPU or not at all; then the VMs. Without it tern says why, and the console still
 * runs.
 */
static void start_vmm(void)
{
	static const struct hv_env env = { .alloc = page_alloc, .free = page_free };
	struct why w = { "" };
	const struct hv_ops *hv = hv_detect(&env, &w);
	if (hv) {
		preempt_disable(); /* "this CPU" and "the others" must mean the same for both */
		uint64_t flags = cpu_irq_save();
		hv_cpu_on((void *)(uintptr_t)hv);
		cpu_irq_restore(flags);
		irq_call_others(hv_cpu_on, (void *)(uintptr_t)hv);
		preempt_enable();
		if (cpus_without_hv) {
			why_set(&w, -ENOTSUP, "%s cannot be switched on on %u of the CPUs", hv->name, cpus_without_hv);
			hv = NULL;
		}
	}
	if (hv && page_free_count() * PAGE_SIZE < MEMORY_MIN) {
		why_set(&w, -ENOMEM, "only %lu MiB of memory are free", page_free_count() * PAGE_SIZE >> 20);
		hv = NULL;
	}
	host_info.hv = hv ? hv->name : NULL;
	for (unsigned i = 0; hv && i < hv->nfeatures && i < HOST_HV_FEATURES; i++)
		host_info.hv_feature[host_info.nhv_features++] =
			(struct host_hv_feature){ hv->features[i].name, hv->features[i].present, hv->features[i].used };
	if (!hv) {
		sniprintf(host_info.why_no_hv, sizeof(host_info.why_no_hv), "nothing: %s", w.text);
		log_error("this machine cannot run VMs: %s. The console works, `reboot` restarts the machine", w.text);
	}
	migrate_host_init(migrate_this_host(), host_info.name, host_info.inc, &host_conf);
	migrate_this_host()->is_own = net_is_own_address;
	migrate_this_host()->line = net_line;
	migrate_this_host()->address_conflict = address_conflict;
	migrate_this_host()->address_settled = address_settled;
	vm_guard = (struct vm_guard){ lease_may_start, lease_started };
	migrate_this_host()->peers = net_peers(&migrate_this_host()->npeers);
	migrate_this_host()->lost_peer = net_peer_lost();
	host_may_leave = vm_may_leave;
	for (unsigned i = 0; nic_get(i); i++)
		vmm_own_mac(nic_get(i)->mac);
	if (hv) { /* which has prepared each CPU's vector registers */
		aead_init();
		log_info("the fastest cipher here: %s (%s)", aead_name(aead_preferred()),
			 aead_implementation(aead_preferred()));
	}
	int err = vmm_init(hv, &conf);
	if (err)
		log_error("the VMs of tern.conf cannot be set up: %s", err_name(err));
	err = hv ? migrate_init() : 0;
	if (err)
		log_error("no VM can move to this host: %s", err_name(err));
}

static void boot(void *arg)
{
	const struct handoff *h = arg;
	int err = uart_irq_init();
	if (err)
		log_warn("the serial port works without interrupts: %s", err_name(err));
	host_info.ncpus = arch_smp_start(hva_of(h->cpus), h->ncpus, h->trampoline, other_cpu, cpu_stepped, cpu_missing);
	take_handoff(h);
	uint8_t system_uuid[16];
	memcpy(system_uuid, h->system_uuid, sizeof(system_uuid));
	page_free_boot(); /* h is gone */

	pci_init();
	piix4_init();
	nic_probe_all();
	name_incarnation(system_uuid);
	err = net_init(&conf);
	if (err)
		log_error("no network: %s. VMs run, but cannot be reached or moved", err_name(err));
	else
		host_info.peers = net_peers_show;
	err = trust_init();
	if (err)
		log_error("no TLS: %s. No VM can be moved", err_name(err));
	start_vmm();

	log_text(conf.problems, strlen(conf.problems));
	char banner[160];
	sniprintf(banner, sizeof(banner), "\ntern " TERN_VERSION " on %s: %u CPUs, %lu MiB free. Type `help`.\n",
		  host_info.name, host_info.ncpus, page_free_count() * PAGE_SIZE >> 20);
	console_log_echo(LOG_WARN);
	console_write(banner);
	if (!task_create("console", TASK_PRIO_IO, console_task, NULL))
		panic("no memory for the console");
}

/* Only while the console's task runs is it asked: the file has been read then. */
static bool password_ok(const char *typed) { return password_is(&host_conf.console_password, typed); }

noreturn void kernel_main(const struct handoff *h);
void kernel_main(const struct handoff *h) /* arch/x86/entry.S */
{
	arch_hooks = (struct arch_hooks){ .irq_exit = sched_irq_exit, .timer = time_interrupt, .fatal = panic_trap };
	time_init(h->tsc_hz, h->exit_tsc, h->wall_s, h->wall_tsc);
	bool good = h->magic == HANDOFF_MAGIC && h->version == HANDOFF_VERSION && h->size == sizeof(*h);
	uart_init(good ? &h->console : &(struct handoff_console){ COM1_PORT, COM1_IRQ, 1 });
	console_set_table(__console_cmds_start, __console_cmds_end);
	console_init(LOG_INFO);
	if (good && h->console_locked)
		console_lock(password_ok);
	if (!good)
		panic("the loader speaks another version of the hand-off: %u, not %u", h->version, HANDOFF_VERSION);
	arch_init(*(const uint32_t *)hva_of(h->cpus));
	name_cpu();
	page_init(hva_of(h->mem), h->nmem);
	malloc_init();
	host_info.kernel_bytes = h->kernel_size;
	map_memory(h);
	acpi_init(h->rsdp);
	time_cpu_init();
	sched_cpu_init();
	task_init();
	if (!task_create("boot", TASK_PRIO_NORMAL, boot, (void *)(uintptr_t)h))
		panic("no memory for the boot task");
	sched_idle();
}

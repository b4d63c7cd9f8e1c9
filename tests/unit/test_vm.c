/* SPDX-License-Identifier: BSD-2-Clause */
/* The table of VMs from tern.conf, and what vm_start refuses before anything of a VM is made: hence the NEVERs. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "kernel/host.h"
#include "net/bridge.h"
#include "tests/unit/fake_kernel.h"
#include "vmm/pc/loader.h"
#include "vmm/pc/machine.h"
#include "vmm/x86/compat.h"
#include "vmm/x86/halt_poll.h"
#include "vmm/x86/vcpu.h"
#include <stdlib.h>
#include <string.h>

struct host_info host_info = { .name = "a" };
unsigned bridge_mtu(const struct bridge *b unused) { return 1500; }
struct bridge *bridge_find(const char *name, struct why *w)
{
	if (strcmp(name, "gone"))
		return (struct bridge *)&host_info;
	(void)why_set(w, -ENOENT, "there is no network gone here");
	return NULL;
}
const struct sdesc clock_desc, vm_learned_desc, vcpu_msr_desc, vlapic_desc, cpu_state_desc, pv_desc, vxapic_desc,
	machine_desc;
static unsigned asked; /* other hosts */

static void (*meanwhile)(struct vm *vm); /* they are asked */

static int may_start(struct vm *vm, enum vm_start_by by unused, const struct vm_waiter *who unused,
		     struct why *w unused)
{
	asked++;
	if (meanwhile)
		meanwhile(vm);
	return vm_lease(vm, VM_LEASE_ASKING, VM_LEASE_TAKEN) ? 0 : -ECANCELED;
}
static void started(struct vm *vm unused) {}
void vm_console_free(struct vm *vm unused) {}

#define NEVER(type, name, ...) \
	type name(__VA_ARGS__) { abort(); }
NEVER(void, clock_advance, struct vm *vm unused, uint64_t ns unused)
NEVER(void, clock_begin, struct vm *vm unused, uint64_t tsc unused)
NEVER(int, loader_load, struct vm *vm unused, struct why *w unused)
NEVER(int, machine_build, struct vm *vm unused)
NEVER(void, machine_free, struct vm *vm unused)
static bool listens;
static unsigned pressed;
bool machine_press_power(struct vm *vm unused)
{
	pressed++;
	return listens;
}
NEVER(void, machine_quiesce, struct vm *vm unused)
NEVER(void, machine_reset, struct vm *vm unused)
NEVER(void, machine_resume, struct vm *vm unused)
NEVER(void, events_save, struct vcpu *v unused)
NEVER(int, vcpu_create, struct vm *vm unused, unsigned i unused, struct vcpu **v unused)
NEVER(void, vcpu_destroy, struct vcpu *v unused)
NEVER(void, vcpu_flush_begin, struct vcpu *v unused)
NEVER(void, vcpu_flush_wait, struct vcpu *v unused)
NEVER(void, clock_resume, struct vcpu *v unused, uint64_t tsc unused)
NEVER(void, startup_power_on, struct cpu_state *s unused)
NEVER(void, pv_reset, struct vcpu *v unused)
NEVER(void, vcpu_hold, struct vcpu *v unused)
NEVER(void, vcpu_kick, struct vcpu *v unused)
NEVER(int, vcpu_load, struct vcpu *v unused, struct why *w unused)
NEVER(void, vcpu_park, struct vcpu *v unused)
NEVER(void, vcpu_unpark, struct vcpu *v unused)
NEVER(void, vioapic_eoi, struct vioapic *io unused, uint8_t vector unused)
NEVER(void, vlapic_init, struct vlapic *l unused, struct vapic_bus *b unused, unsigned i unused)
void halt_poll_init(void) {}
NEVER(int, vm_compat_check, const char *m unused, const struct vm_compat *c unused, struct why *w unused)
NEVER(void, vm_compat_get, const struct vm *vm unused, struct vm_compat *c unused)
NEVER(int, vm_console_create, struct vm *vm unused)
NEVER(void, vm_port_attach_all, struct vm *vm unused)
NEVER(int, vm_port_create_all, struct vm *vm unused)
NEVER(void, vm_port_detach_all, struct vm *vm unused)
NEVER(void, vm_port_free_all, struct vm *vm unused)
NEVER(struct learn *, vm_port_learned, struct vm *vm unused, unsigned nic unused)
NEVER(void, vm_port_keep_all, struct vm *vm unused)
NEVER(void, vm_port_reset_all, struct vm *vm unused)
NEVER(void, vm_port_unbind_all, struct vm *vm unused)

static struct conf conf;
static const struct hv_ops hv = { .name = "fake" };

static void take(const char *text)
{
	(void)conf_parse(&conf, text, strlen(text));
	assert_int_equal(vmm_init(&hv, &conf), 0);
	assert_true(fake_tasks_wait());
}

static void forget(const char *name)
{
	struct vm *vm = vm_get(name);
	struct why w = { "" };
	assert_int_equal(vm_remove(vm, false, &w), 0);
	vm_put(vm);
}

/* name is there in this state, and why; it does not start, with and without --force, and nobody was asked for it. */
static void misconfigured(const char *name, const char *wrong)
{
	struct vm *vm = vm_get(name);
	assert_non_null(vm);
	assert_int_equal(vm->state, VM_MISCONFIGURED);
	assert_string_equal(vm_text_get(&vm->fail).s, wrong);
	asked = 0;
	for (int force = 0; force < 2; force++) {
		struct why w = { "" };
		assert_int_equal(vm_start_here(vm, force, NULL, &w), -EINVAL);
		assert_non_null(strstr(w.text, "it is misconfigured: tern.conf:"));
		assert_non_null(strstr(w.text, wrong));
	}
	assert_int_equal(asked, 0);
	vm_put(vm);
	forget(name);
}

static void test_misconfigured(void **state unused)
{
	take("[vm good]\nkernel = k\n[vm bad]\nkernel = k\nautostart = yes\nmem = 512\n");
	struct vm *good = vm_get("good");
	assert_int_equal(good->state, VM_STOPPED);
	vm_put(good);
	forget("good");
	misconfigured("bad", "tern.conf:6: [vm bad] mem = 512: write a size of at least 16M in steps of 2M; 512M?");
}

/* The first of two with one MAC stays, in the file's order; one that never runs takes it from nobody. */
static void test_one_mac(void **state unused)
{
	take("[vm none]\nmac = 52:54:00:77:00:09\n"
	     "[vm first]\nkernel = k\nmac = 52:54:00:77:00:09\n[vm second]\nkernel = k\nmac = 52:54:00:77:00:09\n");
	struct vm *first = vm_get("first");
	assert_int_equal(first->state, VM_STOPPED);
	vm_put(first);
	misconfigured("second",
		      "tern.conf:8: [vm second] mac = 52:54:00:77:00:09: the MAC 52:54:00:77:00:09 is that of VM "
		      "first; give it one of its own");
	misconfigured("none", "tern.conf:1: [vm none] kernel: missing; write the name of a Linux bzImage or a PVH "
			      "kernel on the boot volume, or a disk to boot from");
	forget("first");
}

/* A network that is not here is told when the file is read. */
static void test_no_network(void **state unused)
{
	take("[vm a]\nkernel = k\n[vm b]\nkernel = k\nnet = lan, gone\n");
	struct vm *a = vm_get("a");
	assert_int_equal(a->state, VM_STOPPED);
	vm_put(a);
	misconfigured("b", "tern.conf:5: [vm b] net = lan, gone: there is no network gone here");
	assert_non_null(strstr(conf.problems, "tern.conf:5: [vm b] net = lan, gone: there is no network gone here\n"));
	forget("a");
}

/* So does the first of two with one UUID. */
static void test_one_uuid(void **state unused)
{
#define UUID "00000000-0000-0000-0000-000000000009"
	take("[vm first]\nkernel = k\nuuid = " UUID "\n[vm second]\nkernel = k\nuuid = " UUID "\n");
	struct vm *first = vm_get("first");
	assert_int_equal(first->state, VM_STOPPED);
	vm_put(first);
	misconfigured("second", "tern.conf:6: [vm second] uuid = " UUID ": the UUID is that of VM first; give it one "
				"of its own");
	assert_non_null(strstr(conf.problems, "is that of VM first"));
	forget("first");
}

/* What does not fit is refused before a page of it is taken, in the words of an arrival. */
static void test_no_memory(void **state unused)
{
	struct why w = { "" };
	take("[vm large]\nkernel = k\nmem = 64G\n");
	struct vm *vm = vm_get("large");
	uint64_t live = fake_page_live();
	assert_int_equal(vm_start_here(vm, true, NULL, &w), -ENOMEM);
	assert_non_null(strstr(w.text, "not enough memory: the VM needs 65"));
	assert_non_null(strstr(w.text, " MiB are free, of which the host keeps 16"));
	assert_true(fake_page_live() == live && !fake_page_reserved());
	assert_int_equal(vm->state, VM_STOPPED);
	vm_put(vm);
	forget("large");
}

static void forced(struct vm *vm)
{
	struct why w = { "" };
	meanwhile = NULL;
	assert_int_equal(vm_start_here(vm, true, NULL, &w), -ENOMEM);
	assert_int_equal(vm_start_here(vm, false, NULL, &w), -EBUSY); /* or the first would hold its lease */
}

/* Who asks and meanwhile loses his lease does not find another's. */
static void test_one_asks(void **state unused)
{
	struct why w = { "" };
	take("[vm asked]\nkernel = k\nmem = 64G\nmac = 52:54:00:77:00:0a\n");
	struct vm *vm = vm_get("asked");
	asked = 0;
	meanwhile = forced;
	assert_int_equal(vm_start_here(vm, false, NULL, &w), -ECANCELED);
	assert_int_equal(asked, 1);
	assert_int_equal(vm_start_here(vm, false, NULL, &w), -ENOMEM); /* and then it is free again */
	assert_int_equal(asked, 2);
	vm_put(vm);
	forget("asked");
}

/* Only what runs has its button pressed, and who takes no notice of it is told of. */
static void test_power_button(void **state unused)
{
	struct why w = { "" };
	take("[vm one]\nmem = 128M\nkernel = k\n");
	struct vm *vm = vm_get("one");
	assert_non_null(vm);
	assert_int_equal(vm_press_power(vm, &w), -EINVAL);
	assert_string_equal(w.text, "it is stopped");
	assert_int_equal(pressed, 0);
	vm->state = VM_RUNNING;
	assert_int_equal(vm_press_power(vm, &w), -ENOTSUP);
	listens = true;
	assert_int_equal(vm_press_power(vm, &w), 0);
	assert_int_equal(pressed, 2);
	vm->state = VM_STOPPED;
	assert_int_equal(vm_remove(vm, false, &w), 0);
	vm_put(vm);
}

/* One that is off and moves: nobody starts it, forgets it, or does anything else with it. */
static void test_moves_meanwhile(void **state unused)
{
	struct why w = { "" };
	take("[vm one]\nmem = 64G\nkernel = k\nmac = 52:54:00:77:00:0b\n");
	struct vm *vm = vm_get("one");
	vm->migration = (struct migration *)vm;
	meanwhile = NULL;
	asked = 0;
	for (int force = 0; force < 2; force++) {
		assert_int_equal(vm_start_here(vm, force, NULL, &w), -EBUSY);
		assert_string_equal(w.text, "it is being migrated");
		w.text[0] = '\0';
		assert_int_equal(vm_remove(vm, force, &w), -EBUSY);
		assert_string_equal(w.text, "it is being migrated; `migrate cancel one` first");
		w.text[0] = '\0';
	}
	assert_int_equal(asked, 0);
	assert_int_equal(vm_suspend(vm, &w), -EBUSY);
	assert_int_equal(vm_go_on(vm, &w), -EBUSY);
	vm->migration = NULL;
	vm->power_request = VM_POWER_OFF;
	vm->state = VM_RUNNING;
	w.text[0] = '\0';
	assert_int_equal(vm_suspend(vm, &w), -EINVAL);
	assert_string_equal(w.text, "it is about to stop");
	vm->state = VM_PAUSED; /* for that */
	assert_int_equal(vm_go_on(vm, &w), -EINVAL);
	vm->power_request = VM_POWER_NONE;
	vm->state = VM_STOPPED;
	w.text[0] = '\0';
	assert_int_equal(vm_suspend(vm, &w), -EINVAL);
	assert_string_equal(w.text, "it is stopped");
	assert_int_equal(vm_go_on(vm, &w), -EINVAL);
	vm_put(vm);
	forget("one");
}

/* One that comes stopped has no memory before it starts here, and may be started here then. */
static void test_arrives_stopped(void **state unused)
{
	struct vm_config cfg = {
		.name = "one", .mem = MIB(2), .vcpus = 1, .nnics = 1, .mac = { { 2, 1 } }, .ndisks = 1
	};
	struct why w = { "" };
	struct vm *vm;
	cfg.disk[0] = (struct vm_disk_config){ .name = "data", .size = MIB(1), .layer = 20 * PAGE_SIZE };
	assert_int_equal(vm_create_stopped(&cfg, NULL, &vm, &w), 0);
	assert_true(vm->state == VM_INCOMING && vm->disk[0] && !vm->mem.size && !vm->vcpus);
	assert_int_equal(vm_start_here(vm, true, NULL, &w), -EBUSY);
	assert_string_equal(w.text, "it is incoming");
	vm_arrive(vm, VM_STOPPED);
	assert_true(vm->state == VM_STOPPED && vm->came_off);
	assert_int_equal(vm_create_stopped(&cfg, NULL, &vm, &w), -EEXIST);
	w.text[0] = '\0';
	assert_int_equal(vm_remove(vm, false, &w), -EBUSY); /* it has a disk */
	assert_non_null(strstr(w.text, "what it wrote to its disks"));
	vm_destroy(vm);
	assert_int_equal(fake_page_reserved(), 0);
	cfg.disk[0].layer = 1UL << 40;
	w.text[0] = '\0';
	assert_int_equal(vm_create_stopped(&cfg, NULL, &vm, &w), -ENOMEM);
	assert_null(vm_get("one"));
}

/* One without disks is here alone as well. */
static void test_came_off(void **state unused)
{
	struct vm_config cfg = { .name = "one", .mem = MIB(2), .vcpus = 1, .nnics = 1, .mac = { { 2, 1 } } };
	struct why w = { "" };
	struct vm *vm;
	assert_int_equal(vm_create_stopped(&cfg, NULL, &vm, &w), 0);
	vm_arrive(vm, VM_STOPPED);
	assert_int_equal(vm_remove(vm, false, &w), -EBUSY);
	assert_non_null(strstr(w.text, "it moved here switched off, and only this host may start it"));
	assert_int_equal(vm_remove(vm, true, &w), 0);
	assert_null(vm_get("one"));
}

static void count(struct vm *vm unused, void *n) { ++*(unsigned *)n; }

/* A move within the host: there is one of that name at any moment, and nobody sees the other. */
static void test_beside(void **state unused)
{
	struct why w = { "" };
	take("[vm one]\nkernel = k\nmac = 52:54:00:77:00:0c\n[vm two]\nkernel = k\n");
	struct vm *old = vm_get("one"), *vm, *found;
	for (int arrives = 0; arrives < 2; arrives++) {
		unsigned n = 0;
		assert_int_equal(vm_new_beside(old, VM_INCOMING, &old->cfg, &vm, &w), 0);
		assert_true(vm->beside == old && old->refs == 3);
		found = vm_get("one");
		assert_ptr_equal(found, old);
		vm_put(found);
		vm_for_each(count, &n);
		assert_int_equal(n, 2);
		if (arrives)
			vm_arrive(vm, VM_STOPPED);
		else
			vm_forget(vm);
		assert_int_equal(old->refs, 2);
	}
	found = vm_get("one");
	assert_ptr_equal(found, vm);
	assert_true(!vm->beside && !vm->came_off);
	vm_put(found);
	vm_put(old);
	vm_destroy(old); /* what is left of it, by who moved it */
	unsigned n = 0;
	vm_for_each(count, &n);
	assert_int_equal(n, 2);
	forget("one");
	forget("two");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_no_network),      cmocka_unit_test(test_misconfigured),
		cmocka_unit_test(test_one_mac),         cmocka_unit_test(test_one_uuid),
		cmocka_unit_test(test_no_memory),       cmocka_unit_test(test_one_asks),
		cmocka_unit_test(test_power_button),    cmocka_unit_test(test_moves_meanwhile),
		cmocka_unit_test(test_arrives_stopped), cmocka_unit_test(test_beside),
		cmocka_unit_test(test_came_off),
	};
	vm_guard = (struct vm_guard){ may_start, started };
	return cmocka_run_group_tests_name("vm", tests, NULL, NULL);
}

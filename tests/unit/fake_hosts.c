/* SPDX-License-Identifier: BSD-2-Clause */
/* VMs without CPUs (fake_hosts.h). Life, references and the rules of vm_migration_ended are those of vmm/vm_life.c. */
#include "tests/unit/fake_hosts.h"
#include "kernel/host.h"
#include "kernel/task.h"
#include "kernel/time.h"
#include "net/bridge.h"
#include "vmm/x86/stun.h"
#include "vmm/boot_file.h"
#include "vmm/disk.h"
#include "vmm/migrate/attempts.h"
#include "vmm/migrate/departed.h"
#include "vmm/migrate/migration.h"
#include "vmm/vm.h"
#include "vmm/x86/compat.h"
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct host_info host_info = { .name = "test" };
struct migrate_host fake_hosts[FAKE_HOSTS];
bool fake_host_dead[FAKE_HOSTS];
unsigned fake_resets;
bool (*fake_frame_passes)(int from, int to);
struct fake_vm_opts fake_vm_opts;
uint8_t *fake_paused_image;
void (*fake_last_moment)(struct vm *vm);
void (*fake_loaded)(struct vm *vm);
static uint64_t paused_room; /* bytes of it */

struct fake_vm {
	struct vm vm;
	int host;
	bool listed;
	struct fake_dev dev[FAKE_DEVS];
};
#define VMS 32
static struct fake_vm *vms[VMS];
static pthread_mutex_t vms_lock = PTHREAD_MUTEX_INITIALIZER;
static unsigned announced, resumed;

static struct fake_vm *fake_of(struct vm *vm) { return CONTAINER_OF(vm, struct fake_vm, vm); }
struct fake_dev *fake_devs(struct vm *vm) { return fake_of(vm)->dev; }
unsigned fake_announced(void) { return __atomic_load_n(&announced, __ATOMIC_SEQ_CST); }
unsigned fake_resumed(void) { return __atomic_load_n(&resumed, __ATOMIC_SEQ_CST); }

const char *vm_state_name(enum vm_state s)
{
	static const char *const names[] = { "stopped", "running", "paused",        "incoming", "undecided",
					     "serving", "failed",  "misconfigured", "stopping" };
	return names[s];
}

static struct vm *find(int host, const char *name)
{
	for (unsigned i = 0; i < VMS; i++)
		if (vms[i] && vms[i]->listed && vms[i]->host == host && !strcmp(vms[i]->vm.cfg.name, name))
			return &vms[i]->vm;
	return NULL;
}

struct vm *fake_vm_find(int host, const char *name)
{
	pthread_mutex_lock(&vms_lock);
	struct vm *vm = find(host, name);
	pthread_mutex_unlock(&vms_lock);
	return vm;
}

struct vm *vm_get(const char *name)
{
	pthread_mutex_lock(&vms_lock);
	struct vm *vm = find(fake_host, name);
	if (vm)
		vm->refs++;
	pthread_mutex_unlock(&vms_lock);
	return vm;
}

void vm_ref(struct vm *vm)
{
	pthread_mutex_lock(&vms_lock);
	vm->refs++;
	pthread_mutex_unlock(&vms_lock);
}

void vm_put(struct vm *vm)
{
	if (!vm)
		return;
	pthread_mutex_lock(&vms_lock);
	struct vm *beside = NULL;
	if (--vm->refs == 0) {
		beside = vm->beside;
		for (unsigned i = 0; i < VMS; i++)
			if (vms[i] == fake_of(vm))
				vms[i] = NULL;
		for (unsigned i = 0; i < VM_FILES; i++)
			boot_file_put(vm->file[i]);
		free(fake_of(vm));
	}
	pthread_mutex_unlock(&vms_lock);
	vm_put(beside);
}

void vm_for_each(void (*fn)(struct vm *vm, void *arg), void *arg)
{
	pthread_mutex_lock(&vms_lock);
	for (unsigned i = 0; i < VMS; i++)
		if (vms[i] && vms[i]->listed && vms[i]->host == fake_host)
			fn(&vms[i]->vm, arg);
	pthread_mutex_unlock(&vms_lock);
}

/* What its guest has asked for, when nobody migrates it. The lock is held. */
static void carry_out(struct vm *vm)
{
	uint8_t request = __atomic_exchange_n(&vm->power_request, VM_POWER_NONE, __ATOMIC_SEQ_CST);
	if (request == VM_POWER_NONE)
		return;
	vm->state = request == VM_POWER_OFF ? VM_STOPPED : request == VM_POWER_RESET ? VM_RUNNING : VM_FAILED;
	fake_resets += request == VM_POWER_RESET;
}

/* As vm_life.c's. */
static void ctl_task(void *arg)
{
	struct vm *vm = arg;
	gmem_end_waits(&vm->mem);
	mutex_lock(&vm->lock);
	if (!vm->migration)
		carry_out(vm);
	else if (vm->state == VM_RUNNING)
		vm->state = VM_PAUSED;
	mutex_unlock(&vm->lock);
	vm_put(vm);
}

static void requested(struct vm *vm)
{
	pthread_mutex_lock(&vms_lock);
	vm->refs++;
	pthread_mutex_unlock(&vms_lock);
	if (!task_create("ctl", TASK_PRIO_NORMAL, ctl_task, vm))
		vm_put(vm);
}

int vm_stop(struct vm *vm, struct why *w)
{
	int err = 0;
	mutex_lock(&vm->lock);
	if (vm->migration && vm->state == VM_RUNNING && !gmem_all_here(&vm->mem)) {
		if (__atomic_exchange_n(&vm->power_request, VM_POWER_OFF, __ATOMIC_SEQ_CST) == VM_POWER_NONE)
			requested(vm);
	} else if (vm->migration)
		err = why_set(w, -EBUSY, "it is being migrated; `migrate cancel %s` first", vm->cfg.name);
	else if (vm->state != VM_RUNNING && vm->state != VM_FAILED && vm->state != VM_PAUSED)
		err = why_set(w, -EINVAL, "it is %s", vm_state_name(vm->state));
	else
		vm->state = VM_STOPPED;
	mutex_unlock(&vm->lock);
	return err;
}

static int create(const struct vm_config *cfg, enum vm_state state, bool off, struct vm *beside,
		  struct vm_reservation *r, const struct gmem_progress *p, struct vm **out, struct why *w)
{
	struct fake_vm *f = calloc(1, sizeof(*f));
	if (!f) {
		if (r)
			vm_memory_release(r);
		return why_set(w, -ENOMEM, "no memory");
	}
	f->host = fake_host;
	f->vm.requested = requested;
	f->vm.cfg = *cfg;
	f->vm.state = state;
	f->vm.refs = 1;
	mutex_init(&f->vm.lock, "vm");
	vm_text_init(&f->vm.fail);
	vm_text_init(&f->vm.waits_for);
	for (unsigned i = 0; i < FAKE_DEVS; i++)
		f->dev[i].vm = &f->vm;
	pthread_mutex_lock(&vms_lock);
	unsigned slot = 0;
	while (slot < VMS && vms[slot])
		slot++;
	bool twin = (!beside && find(fake_host, cfg->name)) || slot == VMS;
	if (!twin) {
		f->listed = !beside;
		vms[slot] = f;
	}
	pthread_mutex_unlock(&vms_lock);
	if (twin) {
		free(f);
		return why_set(w, -EEXIST, "a VM named %s is here already", cfg->name);
	}
	int err = fake_vm_opts.create_nomem ? -ENOMEM
		  : off                     ? 0
			: gmem_init_from(&f->vm.mem, cfg->mem, &pt_format_npt, r ? &r->pages : NULL, p, w);
	if (!err)
		err = disk_make_all(&f->vm, w);
	if (r)
		vm_memory_release(r);
	if (err) {
		gmem_fini(&f->vm.mem);
		f->listed = false;
		vm_put(&f->vm);
		return why_set(w, err, "no memory");
	}
	if (beside)
		vm_ref(beside);
	f->vm.beside = beside;
	*out = &f->vm;
	return 0;
}

void fake_vm_rest(struct vm *vm, enum vm_state as)
{
	mutex_lock(&vm->lock);
	vm->state = as;
	if (as == VM_STOPPED)
		gmem_fini(&vm->mem);
	mutex_unlock(&vm->lock);
}

struct vm *fake_vm_new(const char *name, uint64_t mem)
{
	struct vm_config cfg = { .mem = mem,
				 .vcpus = 1,
				 .nnics = 1,
				 .mac = { { 0x52, 0x54, 0, 1, 2, 3 } },
				 .cpu = "host",
				 .mtu = { 1500 },
				 .s.cmdline = "quiet" };
	struct vm *vm;
	struct why w = { "" };
	snprintf(cfg.name, sizeof(cfg.name), "%s", name);
	memset(cfg.uuid, name[0], sizeof(cfg.uuid));
	if (create(&cfg, VM_RUNNING, false, NULL, NULL, NULL, &vm, &w))
		panic("fake_vm_new: %s", w.text);
	for (unsigned i = 0; i < FAKE_DEVS; i++) {
		for (unsigned r = 0; r < 4; r++)
			fake_devs(vm)[i].s.regs[r] = 0x1111111111111111ULL * (i + 1) + r;
		fake_devs(vm)[i].s.mode = i + 1;
	}
	return vm;
}

int vm_new(const struct vm_config *cfg, enum vm_state state, struct vm **vm, struct why *w)
{
	return create(cfg, state, false, NULL, NULL, NULL, vm, w);
}

int vm_create_incoming(const struct vm_config *cfg, struct vm *beside, struct vm_reservation *r,
		       const struct gmem_progress *p, struct vm **vm, struct why *w)
{
	return create(cfg, VM_INCOMING, false, beside, r, p, vm, w);
}

int vm_create_stopped(const struct vm_config *cfg, struct vm *beside, struct vm **vm, struct why *w)
{
	return create(cfg, VM_INCOMING, true, beside, NULL, NULL, vm, w);
}

/* As vmm/vm.c's. */
void vm_take_place(struct vm *vm)
{
	struct vm *old = vm->beside;
	pthread_mutex_lock(&vms_lock);
	fake_of(old)->listed = false;
	fake_of(vm)->listed = true;
	pthread_mutex_unlock(&vms_lock);
	vm->beside = NULL;
	vm_put(old);
}

/* Who may have it start or go on now: no live host but this one. */
void vm_arrive(struct vm *vm, enum vm_state as)
{
	vm->came_off = vm->beside ? vm->beside->came_off : as == VM_STOPPED;
	if (vm->beside)
		vm_take_place(vm);
	if (as == VM_RUNNING) {
		vm_resume(vm);
		return;
	}
	mutex_lock(&vm->lock);
	pthread_mutex_lock(&vms_lock);
	for (unsigned i = 0; i < VMS && !fake_host_dead[fake_of(vm)->host]; i++)
		if (vms[i] && vms[i]->listed && vms[i] != fake_of(vm) && !fake_host_dead[vms[i]->host] &&
		    vms[i]->vm.state != VM_UNDECIDED && vms[i]->vm.state != VM_INCOMING &&
		    !memcmp(vms[i]->vm.cfg.uuid, vm->cfg.uuid, 16))
			panic("it may be started on two hosts");
	vm->state = as;
	pthread_mutex_unlock(&vms_lock);
	mutex_unlock(&vm->lock);
}

int vm_boot_files(struct vm *vm unused, struct why *w unused) { return 0; }

void vm_destroy(struct vm *vm)
{
	mutex_lock(&vm->lock);
	gmem_fini(&vm->mem);
	disk_free_all(vm);
	vm->state = VM_STOPPED;
	mutex_unlock(&vm->lock);
	pthread_mutex_lock(&vms_lock);
	fake_of(vm)->listed = false;
	pthread_mutex_unlock(&vms_lock);
	vm_put(vm);
}

int vm_pause(struct vm *vm)
{
	int err = -EINVAL;
	if (fake_last_moment)
		fake_last_moment(vm);
	mutex_lock(&vm->lock);
	if (vm->state == VM_RUNNING && !vm->power_request) {
		vm->state = VM_PAUSED;
		if (vm->cfg.mem > paused_room) { /* ASan's realloc makes and copies all of it anew each time */
			paused_room = vm->cfg.mem;
			fake_paused_image = realloc(fake_paused_image, paused_room);
		}
		if (gmem_read(&vm->mem, 0, fake_paused_image, vm->cfg.mem))
			panic("vm_pause: cannot read memory");
		err = 0;
	}
	mutex_unlock(&vm->lock);
	return err;
}

void vm_resume(struct vm *vm)
{
	mutex_lock(&vm->lock);
	if (vm->state != VM_PAUSED && vm->state != VM_INCOMING && vm->state != VM_UNDECIDED)
		panic("vm_resume of a VM that is %s", vm_state_name(vm->state));
	pthread_mutex_lock(&vms_lock);
	for (unsigned i = 0; i < VMS && !fake_host_dead[fake_of(vm)->host]; i++)
		if (vms[i] && vms[i] != fake_of(vm) && vms[i]->vm.state == VM_RUNNING &&
		    !fake_host_dead[vms[i]->host] && !memcmp(vms[i]->vm.cfg.uuid, vm->cfg.uuid, 16))
			panic("two runners");
	if (!vm->power_request)
		vm->state = VM_RUNNING;
	pthread_mutex_unlock(&vms_lock);
	__atomic_fetch_add(&resumed, 1, __ATOMIC_SEQ_CST);
	mutex_unlock(&vm->lock);
}

/* Its vCPUs are no tasks: all that they could be slowed by is that they are told. */
bool fake_slowed;
void stun_set(struct vm *vm unused, const uint32_t *share) { fake_slowed = share && *share != STUN_FULL; }
void stun_take_samples(struct vm *vm unused, uint32_t *sample) { *sample = 1; }

bool fake_guest_write(struct vm *vm, gpa_t gpa, const void *buf, size_t len)
{
	if (vm_state_now(vm) == VM_RUNNING && gmem_wait(&vm->mem, gpa, len)) /* as a vCPU does, without a lock */
		return false;
	mutex_lock(&vm->lock);
	bool runs = vm->state == VM_RUNNING;
	if (runs && gmem_write(&vm->mem, gpa, buf, len))
		panic("the guest wrote outside its memory");
	mutex_unlock(&vm->lock);
	return runs;
}

const char *vm_file_name(const struct vm *vm, enum vm_file_use use)
{
	return use == VM_KERNEL ? vm->cfg.s.kernel : vm->cfg.s.initrd;
}

struct boot_file *vm_get_file(struct vm *vm, enum vm_file_use use)
{
	return vm->file[use] ? boot_file_ref(vm->file[use]) : NULL;
}

void vm_set_file(struct vm *vm, enum vm_file_use use, struct boot_file *f)
{
	boot_file_put(vm->file[use]);
	vm->file[use] = f;
}

/* ---- moving ---- */

bool vm_announce(struct vm *vm unused)
{
	__atomic_fetch_add(&announced, 1, __ATOMIC_SEQ_CST);
	return true;
}
void vm_advance_clock(struct vm *vm, uint64_t ns) { vm->clock_base_ns += ns; }

/* As ctl_task: what the guest asked for is done once nobody migrates it. */
void vm_migration_ended(struct vm *vm)
{
	mutex_lock(&vm->lock);
	carry_out(vm);
	mutex_unlock(&vm->lock);
}

void vm_compat_get(const struct vm *vm unused, struct vm_compat *c)
{
	*c = (struct vm_compat){ .n = 2, .leaf = { 1, 7 }, .regs = { { 1, 2, 3, 4 }, { 5, 6, 7, 8 } } };
}

int vm_compat_check(const char *model unused, const struct vm_compat *c, struct why *w)
{
	if (c->n != 2 || c->leaf[1] != 7 || c->regs[1][3] != 8)
		return why_set(w, -ENOTSUP, "compat words arrived wrong");
	return fake_vm_opts.compat_refuse ? why_set(w, -ENOTSUP, "CPUID leaf 7 EBX bit 5 is missing here") : 0;
}

/* ---- hosts ---- */

static void boot(int host)
{
	static uint64_t boots;
	char name[2] = { (char)('a' + host), 0 };
	migrate_host_init(&fake_hosts[host], name, (struct incarnation){ 100 + (uint64_t)host, ++boots },
			  &(struct host_conf){ .migrate_minimum = 1 });
}

__attribute__((constructor)) static void boot_all(void)
{
	for (int i = 0; i < FAKE_HOSTS; i++)
		boot(i);
}

struct migrate_host *migrate_this_host(void) { return &fake_hosts[fake_host]; }

static struct vm *any_vm(int host)
{
	struct vm *vm = NULL;
	pthread_mutex_lock(&vms_lock);
	for (unsigned i = 0; i < VMS && !vm; i++)
		if (vms[i] && vms[i]->listed && vms[i]->host == host)
			vm = &vms[i]->vm;
	pthread_mutex_unlock(&vms_lock);
	return vm;
}

void fake_host_restart(int host)
{
	struct migrate_host *h = &fake_hosts[host];
	const struct net_peer *peers = h->peers;
	unsigned npeers = h->npeers;
	struct departure gone;
	struct decision d;
	struct vm *vm;
	ON_HOST(host)
	{
		while ((vm = any_vm(host)))
			vm_destroy(vm);
		while (departed_get(NULL, 0, &gone))
			departed_remove(gone.cfg.name);
		while (attempt_get(0, &d))
			attempt_event(&d.id, RECORD_EV_DROP);
	}
	for (struct list *n; !list_empty(&h->seen); free(n)) { /* struct seen begins with its node */
		n = h->seen.next;
		list_remove(n);
	}
	while (!list_empty(&h->migrations)) { /* all are over */
		struct migration_report *r = list_entry(h->migrations.next, struct migration_report, node);
		list_remove(&r->node);
		free(r->waits);
		free(r);
	}
	boot(host);
	h->peers = peers;
	h->npeers = npeers;
}

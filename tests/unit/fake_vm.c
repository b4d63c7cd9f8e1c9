/* SPDX-License-Identifier: BSD-2-Clause */
/* The vCPU of the exit tests (fake_vm.h). */
#include "tests/unit/fake_vm.h"
#include "arch/x86/cpu.h"
#include "arch/x86/fpu.h"
#include "kernel/page.h"
#include "vmm/x86/cpu_check.h"
#include "vmm/x86/exit.h"
#include "vmm/x86/msr.h"
#include "vmm/x86/guest_clock.h"
#include <asm/prctl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

extern const struct hv_ops svm_ops;
static struct fv *the;
static struct cpu host_cpu;
static uint64_t host_svm[16]; /* svm.c's per-CPU data: all zero will do */

/* ---- what the sources under test call ---- */

const struct hv_env *hv_env;
const struct hv_ops *vmm_hv_ops = &svm_ops;
bool rdmsr_safe(uint32_t msr, uint64_t *v)
{
	(void)msr, *v = 0;
	return false;
}
bool wrmsr_safe(uint32_t msr, uint64_t v)
{
	(void)msr, (void)v;
	return false;
}
void vm_request_power_off(void *vm) { (void)vm; }
void vm_request_reset(void *vm) { the->resets++, (void)vm; }
void vm_fail(struct vm *vm, const char *fmt, ...)
{
	va_list ap;
	(void)vm;
	va_start(ap, fmt);
	vsnprintf(the->fail, sizeof(the->fail), fmt, ap);
	va_end(ap);
}

static uint64_t xcr0 = 1;
void fpu_cpu_on(void) {}
uint64_t fpu_xcr0_mask(void) { return 7; }
uint32_t fpu_area_size(void) { return 832; }
uint32_t fpu_used_size(const void *p unused) { return 832; }
void fpu_load(const void *area, uint64_t x) { (void)area, xcr0 = x; }
uint64_t fpu_save(void *area)
{
	(void)area;
	return xcr0;
}
void fpu_set_xcr0(uint64_t x) { xcr0 = x; }
uint64_t fpu_get_xcr0(void) { return xcr0; }
bool fpu_xcr0_valid(uint64_t x) { return fpu_xcr0_is_valid(x, 7); }
bool fpu_mxcsr_valid(uint32_t m) { return !(m >> 16); }

/* As vcpu.c, but that nothing has to be taken off the CPU. */
static struct cpu_state whole;
struct cpu_state *vcpu_state_take(struct vcpu *v)
{
	the->hw.xcr0 = xcr0;
	svm_ops.get_state(v->hv, &whole);
	return &whole;
}
void vcpu_state_give(struct vcpu *v)
{
	struct why w = { "" };
	if (cpu_state_check(&whole, &v->vm->cpuid, &w) || svm_ops.set_state(v->hv, &whole, &w))
		vm_fail(v->vm, "%s", w.text);
	xcr0 = the->hw.xcr0;
}

void svm_world_switch(uint64_t *gpr, hpa_t vmcb, hpa_t host_vmcb)
{
	struct fv *f = the;
	(void)vmcb, (void)host_vmcb;
	f->delivered = f->vmcb.eventinj;
	f->vmcb.exitcode = f->exitcode;
	f->vmcb.exitinfo1 = f->info1;
	f->vmcb.exitinfo2 = f->info2;
	f->vmcb.exitintinfo = f->intinfo;
	if (f->vmrun)
		f->vmrun(f, gpr);
}

struct vcpu *fake_kicked;
bool fake_short;
bool sched_is_short(void) { return fake_short; }
void vcpu_kick(struct vcpu *v) { fake_kicked = v; }
uint64_t fake_rest_ns;
void vcpu_rest(struct vcpu *v unused, uint64_t until_ns) { fake_rest_ns = until_ns; }

/* ---- device ---- */

static uint64_t dev_read(void *arg, uint64_t off, unsigned size)
{
	struct fv *f = arg;
	uint64_t v = 0;
	f->nreads++, f->last_size = size;
	memcpy(&v, f->dev + off, size);
	return v;
}
static void dev_write(void *arg, uint64_t off, unsigned size, uint64_t val)
{
	struct fv *f = arg;
	f->nwrites++, f->last_size = size;
	memcpy(f->dev + off, &val, size);
}
static uint64_t port_read(void *arg, uint64_t off, unsigned size) { return dev_read(arg, 0x800 + off, size); }
static void port_write(void *arg, uint64_t off, unsigned size, uint64_t val) { dev_write(arg, 0x800 + off, size, val); }
static const struct bus_ops dev_ops = { dev_read, dev_write }, port_ops = { port_read, port_write };
static void no_vcpu(void *arg, unsigned i) { (void)arg, (void)i; }

/* ---- life ---- */

static void put(struct fv *f, gpa_t gpa, uint64_t v) { memcpy(gmem_ptr(&f->vm.mem, gpa, 8), &v, 8); }

static void tables_make(struct fv *f)
{
	put(f, FV_PML4, 0x2000 | 7);
	put(f, 0x2000, 0x3000 | 7); /* 0..1G */
	put(f, 0x2008, 0x4000 | 7); /* 1G..2G */
	put(f, 0x3000, FV_PT | 7);
	put(f, 0x4000, FV_DEV_GPA | 0x80 | 3); /* the device, supervisor only */
	for (unsigned i = 0; i < 512; i++)
		put(f, FV_PT + 8 * i, i * PAGE_SIZE | 3);
}

struct fv *fv_new(void)
{
	struct fv *f = the = aligned_alloc(64, ALIGN_UP(sizeof(*f), 64UL));
	static struct vlapic *lapics[1];
	struct why w = { "" };
	memset(f, 0, sizeof(*f));
	host_cpu.self = &host_cpu;
	host_cpu.hv = host_svm;
	syscall(SYS_arch_prctl, ARCH_SET_GS, &host_cpu);
	if (gmem_init(&f->vm.mem, MIB(4), &pt_format_npt, &w))
		abort();
	bus_init(&f->vm.machine.bus);
	struct bus_region mem = { FV_DEV_GPA, PAGE_SIZE, &dev_ops, f, "dev" },
			  port = { FV_PORT, 16, &port_ops, f, "port" };
	if (bus_add(&f->vm.machine.bus, BUS_MMIO, &mem) || bus_add(&f->vm.machine.bus, BUS_PIO, &port))
		abort();
	if (cpuid_table_init(&f->vm.cpuid, "host", &cpuid_this_cpu, &w))
		abort();
	f->vm.clock.s.tsc_hz = time_tsc_hz();
	clock_begin(&f->vm, rdtsc());
	snprintf(f->vm.cfg.name, sizeof(f->vm.cfg.name), "test");
	f->vcpu.vm = &f->vm;
	f->vcpu.hv = &f->hw.hv;
	f->hw.vmcb = &f->vmcb;
	lapics[0] = &f->vcpu.lapic;
	f->vm.apics = (struct vapic_bus){ .lapic = lapics, .n = 1, .kick = no_vcpu, .nmi = no_vcpu };
	vlapic_init(&f->vcpu.lapic, &f->vm.apics, 0);
	fv_reset(f);
	return f;
}

void fv_free(struct fv *f)
{
	gmem_fini(&f->vm.mem);
	free(f);
}

void fv_reset(struct fv *f)
{
	static struct cpu_state s;
	memset(&s, 0, sizeof(s));
	tables_make(f);
	s.cr0 = CR0_PE | CR0_PG | CR0_WP;
	s.cr3 = FV_PML4;
	s.cr4 = CR4_PAE;
	s.efer = EFER_LME | EFER_LMA | EFER_NXE | EFER_SCE;
	s.xcr0 = 1;
	s.rip = FV_CODE;
	s.rflags = 2;
	s.seg[SEG_CS].attr = 0xa09b;
	s.seg[SEG_SS].attr = 0xc093;
	s.seg[SEG_TR].attr = 0x8b;
	s.pat = PAT_POWER_ON;
	if (cpu_state_check(&s, &f->vm.cpuid, NULL) || svm_ops.set_state(f->vcpu.hv, &s, NULL))
		abort();
	xcr0 = 1;
	f->vcpu.msr = (struct vcpu_msr_state){ .mtrr_def_type = VCPU_MTRR_RESET };
	f->nreads = f->nwrites = f->last_size = f->resets = 0;
	f->fail[0] = 0;
	f->intinfo = f->delivered = 0;
	f->vmrun = NULL;
}

void fv_vendor(struct fv *f, const char name[12])
{
	uint32_t *r = &f->vm.cpuid.s.regs[0]; /* leaf 0 comes first */
	memcpy(&r[1], name, 4), memcpy(&r[3], name + 4, 4), memcpy(&r[2], name + 8, 4);
}

void fv_code(struct fv *f, const uint8_t *code, size_t n)
{
	f->hw.hv.rip = FV_CODE;
	memset(gmem_ptr(&f->vm.mem, FV_CODE, 32), 0xcc, 32);
	memcpy(gmem_ptr(&f->vm.mem, FV_CODE, n), code, n);
}

uint64_t *fv_pte(struct fv *f, uint64_t gva) { return gmem_ptr(&f->vm.mem, FV_PT + (gva >> 12) * 8, 8); }

void fv_exit(struct fv *f, uint64_t code, uint64_t info1, uint64_t info2)
{
	struct vmexit x;
	memset(&x, 0xa5, sizeof(x));
	f->exitcode = code, f->info1 = info1, f->info2 = info2;
	svm_ops.enter(f->vcpu.hv, &x);
	exit_handle(&f->vcpu, &x);
}

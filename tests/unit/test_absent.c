/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Exits that touch memory which is not here yet (gmem_pager), through the AMD-V decoder (fake_vm.h): each gives what it
 * gives where all memory is here, and no byte of a page is looked at before it has come. If it does not come, the VM
 * fails and the guest is told nothing: no exception, which the bare machine would not raise.
 */
#include "arch/x86/cpu.h"
#include "tests/unit/fake_kernel.h"
#include "tests/unit/fake_vm.h"
#include <stdio.h>
#include <string.h>

#define PAGES (MIB(4) >> PAGE_SHIFT)
#define CODE2 (FV_CODE + PAGE_SIZE)
#define DATA2 (FV_DATA + PAGE_SIZE)

static struct fv *f;
static uint64_t *R;

/* Pages that are not here: their bytes are kept aside, and in the guest's memory are others. */
static struct {
	bool absent[PAGES];
	uint8_t bytes[PAGES][PAGE_SIZE];
	int err; /* what fetching gives; 0: the page */
	unsigned fetched;
} far;

static bool far_here(void *arg unused, gfn_t gfn) { return !far.absent[gfn]; }

static int far_fetch(void *arg unused, gfn_t gfn)
{
	assert_true(gfn < PAGES && far.absent[gfn] && !fake_spinlocks);
	far.fetched++;
	if (far.err)
		return far.err;
	memcpy(gmem_ptr(&f->vm.mem, gfn << PAGE_SHIFT, PAGE_SIZE), far.bytes[gfn], PAGE_SIZE);
	far.absent[gfn] = false;
	return 0;
}

static void take_away(gpa_t gpa)
{
	gfn_t gfn = gpa >> PAGE_SHIFT;
	uint8_t *p = gmem_ptr(&f->vm.mem, gfn << PAGE_SHIFT, PAGE_SIZE);
	memcpy(far.bytes[gfn], p, PAGE_SIZE);
	memset(p, 0xdd, PAGE_SIZE);
	far.absent[gfn] = true;
}

/* ---- exits, and which pages they need ---- */

static const gpa_t page[] = { FV_PML4, 0x2000, 0x3000, 0x4000, FV_PT, FV_CODE, CODE2, FV_DATA, DATA2 };
enum {
	TABLES = BIT(0) | BIT(1) | BIT(2) | BIT(4),
	DEV_TABLE = BIT(3),
	CODE = BIT(5),
	CODES = CODE | BIT(6),
	DATA = BIT(7),
	DATAS = DATA | BIT(8)
};

#define NPF_WRITE 2
#define NPF_FETCH 16
#define IN_2      (FV_PORT << 16 | 2 << 4 | 1) /* EXITINFO1 of IN and OUT (APM2 15.10.2): port, size, direction */
#define OUT_2     (FV_PORT << 16 | 2 << 4)
#define IO_STRING (4 | 1 << 9 | 3 << 10) /* a string, of 64-bit addresses, in DS */

static const struct exit_case {
	const char *name;
	uint64_t code, info1, info2;
	uint8_t insn[8], len, at_end; /* at_end: all of it but this many bytes lies in the second page of code */
	uint64_t rsi, rdi;
	unsigned needs; /* bit i: page[i] */
} cases[] = {
	{ "read", SVM_EXIT_NPF, 4, FV_DATA, { 0 }, 0, 0, 0, 0, DATA },
	{ "write", SVM_EXIT_NPF, 4 | NPF_WRITE, FV_DATA, { 0 }, 0, 0, 0, 0, DATA },
	{ "fetch", SVM_EXIT_NPF, 4 | NPF_FETCH, FV_CODE, { 0 }, 0, 0, 0, 0, CODE },
	{ "a walk of the CPU's", SVM_EXIT_NPF, 4, FV_PT, { 0 }, 0, 0, 0, 0, BIT(4) },
	{ "CPUID", SVM_EXIT_CPUID, 0, 0, { 0x0f, 0xa2 }, 2, 0, 0, 0, TABLES | CODE },
	{ "CPUID in two pages", SVM_EXIT_CPUID, 0, 0, { 0x0f, 0xa2 }, 2, 1, 0, 0, TABLES | CODES },
	{ "MOV from the device", SVM_EXIT_NPF, 4, FV_DEV_GPA, { 0x8b, 0x06 }, 2, 0, FV_DEV, 0, TABLES | CODE },
	{ "MOV to the device",
	  SVM_EXIT_NPF,
	  4 | NPF_WRITE,
	  FV_DEV_GPA,
	  { 0x89, 0x07 },
	  2,
	  1,
	  0,
	  FV_DEV,
	  TABLES | CODES },
	{ "MOVS from RAM",
	  SVM_EXIT_NPF,
	  4 | NPF_WRITE,
	  FV_DEV_GPA,
	  { 0xa5 },
	  1,
	  0,
	  DATA2 - 2,
	  FV_DEV,
	  TABLES | DEV_TABLE | CODE | DATAS },
	{ "MOVS to RAM",
	  SVM_EXIT_NPF,
	  4,
	  FV_DEV_GPA,
	  { 0xa5 },
	  1,
	  0,
	  FV_DEV,
	  FV_DATA,
	  TABLES | DEV_TABLE | CODE | DATA },
	{ "OUTS", SVM_EXIT_IOIO, OUT_2 | IO_STRING, FV_CODE + 2, { 0x66, 0x6f }, 2, 0, DATA2 - 1, 0, TABLES | DATAS },
	{ "INS", SVM_EXIT_IOIO, IN_2 | IO_STRING, FV_CODE + 2, { 0x66, 0x6d }, 2, 0, 0, DATA2 - 1, TABLES | DATAS },
};

struct outcome {
	uint64_t reg[16], rip, event;
	char fail[160];
	unsigned nreads, nwrites;
	uint8_t dev[PAGE_SIZE], data[2 * PAGE_SIZE];
};

static void prepare(const struct exit_case *c)
{
	fv_reset(f);
	memset(f->dev, 0x5a, sizeof(f->dev));
	memset(gmem_ptr(&f->vm.mem, FV_CODE, 2 * PAGE_SIZE), 0xcc, 2 * PAGE_SIZE);
	for (unsigned i = 0; i < 2 * PAGE_SIZE; i++)
		*(uint8_t *)gmem_ptr(&f->vm.mem, FV_DATA + i, 1) = (uint8_t)(i * 7 + i / 256);
	f->hw.hv.rip = c->at_end ? CODE2 - c->at_end : FV_CODE;
	memcpy(gmem_ptr(&f->vm.mem, f->hw.hv.rip, c->len), c->insn, c->len);
	memset(R, 0, 16 * sizeof(*R));
	R[REG_RAX] = 1, R[REG_RSI] = c->rsi, R[REG_RDI] = c->rdi;
	memset(far.absent, 0, sizeof(far.absent));
	far.fetched = 0, far.err = 0;
}

static void run(const struct exit_case *c, struct outcome *o)
{
	memset(o, 0, sizeof(*o));
	fv_exit(f, c->code, c->info1, c->info2);
	memcpy(o->reg, R, sizeof(o->reg));
	o->rip = f->hw.hv.rip, o->event = f->vmcb.eventinj;
	o->nreads = f->nreads, o->nwrites = f->nwrites;
	snprintf(o->fail, sizeof(o->fail), "%s", f->fail);
	memcpy(o->dev, f->dev, sizeof(o->dev));
}

/* What is in the guest's data now, also where that has not been asked for. */
static void data_of(struct outcome *o)
{
	far.err = 0;
	for (unsigned i = 0; i < 2; i++)
		if (far.absent[(FV_DATA >> PAGE_SHIFT) + i])
			far_fetch(NULL, (FV_DATA >> PAGE_SHIFT) + i);
	memcpy(o->data, gmem_ptr(&f->vm.mem, FV_DATA, sizeof(o->data)), sizeof(o->data));
}

/* Each page alone, and all of them at once. */
static void test_comes_after_a_wait(void **s)
{
	static struct outcome want, got;
	(void)s;
	for (const struct exit_case *c = cases; c < cases + ARRAY_SIZE(cases); c++) {
		prepare(c);
		run(c, &want);
		data_of(&want);
		if (want.fail[0] || want.event)
			fail_msg("%s: %s, event %lx", c->name, want.fail, want.event);
		for (unsigned i = 0; i <= ARRAY_SIZE(page); i++) {
			unsigned gone = i < ARRAY_SIZE(page) ? 1U << i : (1U << ARRAY_SIZE(page)) - 1;
			prepare(c);
			for (unsigned k = 0; k < ARRAY_SIZE(page); k++)
				if (gone >> k & 1)
					take_away(page[k]);
			run(c, &got);
			unsigned fetched = far.fetched, needed = (unsigned)__builtin_popcount(gone & c->needs);
			data_of(&got);
			if (memcmp(&got, &want, sizeof(got)))
				fail_msg("%s without page set %x: %s, event %lx, rip %lx", c->name, gone, got.fail,
					 got.event, got.rip);
			if (fetched < needed)
				fail_msg("%s without page set %x: %u pages were asked for, %u are needed", c->name,
					 gone, fetched, needed);
		}
	}
}

/* Is this page of those that the instruction is read by? It is repeated then, and the CPU's own fetch exits. */
static bool is_of_code(const struct exit_case *c, gpa_t at)
{
	bool read = c->code == SVM_EXIT_CPUID || (c->code == SVM_EXIT_NPF && c->len);
	return read && (at == FV_CODE || at == CODE2 || at == FV_PML4 || at == FV_PT || at == 0x2000 || at == 0x3000);
}

/* The guest's registers, memory and devices stay; and it hears of nothing. */
static void test_does_not_come(void **s)
{
	static struct outcome before, got;
	(void)s;
	for (const struct exit_case *c = cases; c < cases + ARRAY_SIZE(cases); c++) {
		for (unsigned i = 0; i < ARRAY_SIZE(page); i++) {
			if (!(c->needs >> i & 1))
				continue;
			prepare(c);
			memcpy(before.reg, R, sizeof(before.reg));
			before.rip = f->hw.hv.rip;
			take_away(page[i]);
			far.err = -ECANCELED;
			run(c, &got);
			if (got.event || got.rip != before.rip || memcmp(got.reg, before.reg, sizeof(got.reg)))
				fail_msg("%s without %lx: event %lx, rip %lx", c->name, page[i], got.event, got.rip);
			assert_true(far.fetched && !got.nwrites);
			if (is_of_code(c, page[i]) ? got.fail[0] : !strstr(got.fail, "did not come: cancelled"))
				fail_msg("%s without %lx: \"%s\"", c->name, page[i], got.fail);
		}
	}
}

static int setup(void **s)
{
	static const struct gmem_pager pager = { far_here, far_fetch, NULL, NULL };
	(void)s;
	f = fv_new();
	R = f->hw.hv.gpr;
	f->vm.mem.pager = &pager;
	return 0;
}
static int teardown(void **s)
{
	(void)s;
	fv_free(f);
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_comes_after_a_wait),
		cmocka_unit_test(test_does_not_come),
	};
	return cmocka_run_group_tests_name("absent", tests, setup, teardown);
}

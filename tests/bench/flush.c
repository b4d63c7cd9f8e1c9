/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What it takes a task to have the TLBs of a VM flushed whose vCPUs all run, in instructions: the round of interrupts
 * and the look at each vCPU. The others' CPUs are at it while this one looks, so they cost nothing here, whatever their
 * number; a vCPU's own part is an exit and an entry (`make bench`).
 */
#include "tests/bench/count.h"
#include "vmm/x86/vcpu.h"
#include <stdio.h>
#include <string.h>

#define VCPUS 8

static struct vcpu vcpu[VCPUS];
static const unsigned round_of[] = { 1, 4, 8 };
static char names[ARRAY_SIZE(round_of)][40];

/* It has left the guest by the time that the requester looks. */
void irq_ipi(unsigned cpu, int vector)
{
	(void)vector;
	vcpu[cpu].seq++;
}

static void prepare(size_t i)
{
	(void)i;
	memset(vcpu, 0, sizeof(vcpu));
	for (unsigned n = 0; n < VCPUS; n++) {
		vcpu[n].cpu = n;
		vcpu[n].seq = 1;
	}
}

static int run(size_t i) /* as vm_life.c does it */
{
	for (unsigned n = 0; n < round_of[i]; n++)
		vcpu_flush_begin(&vcpu[n]);
	for (unsigned n = 0; n < round_of[i]; n++)
		vcpu_flush_wait(&vcpu[n]);
	return 0;
}

static const char *name(size_t i)
{
	snprintf(names[i], sizeof(names[i]), "flush round of %u running vCPUs", round_of[i]);
	return names[i];
}

int main(int argc, char **argv)
{
	return count_main(argc, argv,
			  &(struct counted){ .program = "bench_flush",
					     .n = ARRAY_SIZE(round_of),
					     .name = name,
					     .prepare = prepare,
					     .run = run });
}

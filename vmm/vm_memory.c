/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * May a VM come? One admission by memory for those that start here and those that arrive, however many at once (vm.h).
 */
#include "vmm/vm.h"

#define BESIDE_PAGES 6   /* beside a guest's memory: devices */
#define VCPU_PAGES   18  /* for each vCPU: task 8, hardware's structures 5, registers, extended state */
#define NIC_PAGES    112 /* for each network card: its frames' queue 64, bounce 32, a task 8 */

static uint64_t mib(uint64_t pages) { return pages >> (20 - PAGE_SHIFT); }

static int reserve(uint64_t need, const char *who, struct vm_reservation *r, struct why *w)
{
	uint64_t have;
	int err = page_reserve(&r->pages, need, PAGE_KEEP, &have);
	if (!err)
		return 0;
	return why_set(w, err, "not enough memory: %s %lu MiB; %lu MiB are free, of which the host keeps %lu", who,
		       mib(need + MIB(1) / PAGE_SIZE - 1), mib(have), mib(PAGE_KEEP));
}

int vm_memory_reserve_for(const char *who, uint64_t pages, struct vm_reservation *r, struct why *w)
{
	return reserve(pages, who, r, w);
}

int vm_memory_reserve(const struct vm_config *cfg, struct vm_reservation *r, struct why *w)
{
	uint64_t need = gmem_pages(cfg->mem) + BESIDE_PAGES + VCPU_PAGES * (uint64_t)MAX(cfg->vcpus, 1U) +
			NIC_PAGES * (uint64_t)MAX(cfg->nnics, 1U);
	return reserve(need, "the VM needs", r, w);
}

void vm_memory_release(struct vm_reservation *r) { page_unreserve(&r->pages); }

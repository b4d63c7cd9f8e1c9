/* SPDX-License-Identifier: BSD-2-Clause */
/* The guest's code and linear memory: its page tables walked, instructions fetched and recognised. */
#pragma once
#include "vmm/x86/vcpu.h"

#define INSN_MAX 15
/*
 * gva -> gpa by the guest's page tables (SDM 3A 4.5), with what the current privilege may do; a write sets D. 0,
 * -EFAULT: not mapped or not allowed, which insn_walk_fault() makes the event of that the CPU would raise, -ENOTSUP:
 * paging that tern does not read (32 bits), or the error with which memory did not come.
 */
int insn_walk(struct vcpu *v, const struct hv_mode *m, uint64_t gva, bool write, gpa_t *gpa);
uint64_t insn_walk_fault(struct vcpu *v, const struct hv_mode *m, bool write);
/* Copy up to a page between guest RAM and buf; 0, or as insn_walk, with nothing written; -ENXIO: not RAM. */
int insn_copy(struct vcpu *v, const struct hv_mode *m, uint64_t gva, void *buf, size_t len, bool write);
/* Is it the error of a pager's (gmem_wait)? Nothing that the guest did: it may hear of no exception. */
static inline bool insn_did_not_come(int err) { return err && err != -EFAULT && err != -ENOTSUP && err != -ENXIO; }
struct ZydisDecoder_;
bool insn_decoder(const struct hv_mode *m, struct ZydisDecoder_ *d); /* set up for the mode the guest runs in */
unsigned insn_fetch(struct vcpu *v, const struct hv_mode *m, uint8_t buf[INSN_MAX]); /* bytes at RIP that are there */
/* An instruction of the two-byte map, 0F xx, without operands; or one of group 0F 01, with its third byte. */
struct insn_op {
	uint32_t opcode; /* 0x0f05, 0x0f01c1... */
	uint8_t len;     /* with prefixes */
	bool lock, rex_w;
};
bool insn_opcode(struct vcpu *v, const struct hv_mode *m,
		 struct insn_op *op); /* at RIP; false: unreadable or another */
/*
 * The code at RIP cannot be read: another vCPU changes the page tables under it, or a page of it does not come. It runs
 * again, and the CPU finds by itself what is wrong: nothing of the instruction may have been done.
 */
void insn_unreadable(struct vcpu *v);
/*
 * Length of the instruction at RIP whose opcode bytes are expected to be op[0..n): len, unless that is 0, as where the
 * hardware does not tell it; decoded if it has prefixes. 0: insn_unreadable().
 */
unsigned insn_length(struct vcpu *v, unsigned len, const uint8_t *op, unsigned n);

/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Local APICs of a guest (SDM 3A ch. 11), in x2APIC mode from power-on: registers are MSRs 0x800..0x83f, so no guest
 * access needs an instruction decoder. A guest may leave that for xAPIC mode (vxapic.h). One struct vlapic per vCPU;
 * struct vapic_bus routes messages between them.
 *
 * Who may touch what: IRR is atomic (anybody posts), and posters read the mode, LDR and DFR; the rest belongs to the
 * vCPU's own task.
 */
#pragma once
#include "arch/x86/hw/regs.h"
#include "kernel/base/bits.h"
#include "vmm/state.h"

struct vlapic_state { /* migrates */
	uint32_t id, svr, tpr, lvt[7], icr_lo, icr_hi, esr, dcr,
		icount;      /* lvt order: cmci, timer, thermal, pmc, lint0, lint1, error */
	uint32_t esr_latent; /* errors since the last write to ESR, which moves them there */
	_Alignas(8) uint32_t isr[8], tmr[8], irr[8];
	uint64_t apic_base;
	uint64_t tsc_deadline;   /* guest TSC; 0: unarmed */
	uint64_t count_start_ns; /* guest time when icount was written, or the current period began */
	uint32_t sipi_wait;      /* waiting for SIPI: 1; got one: 2 */
	uint32_t sipi_vector;
	uint32_t events;      /* atomic, anybody posts: LAPIC_EV_*, 15:8 vector of a SIPI */
	uint32_t count_armed; /* the count-down timer has an expiry to come */
};
struct vxapic_state {      /* of xAPIC mode (vxapic.h); migrates while in that */
	uint32_t ldr, dfr; /* atomic: posters read them */
};
#define LAPIC_EV_INIT BIT(0)
#define LAPIC_EV_SIPI BIT(1)
struct vapic_bus;
struct vlapic {
	struct vlapic_state s;
	struct vxapic_state x;
	struct vapic_bus *bus;
	unsigned vcpu;
};
struct vapic_bus {
	struct vlapic **lapic; /* indexed by vCPU = APIC id */
	unsigned n;
	/* Atomic: some have left x2APIC mode since the bus was made, so destinations are looked at one by one. */
	bool any_xapic;
	/* Wake or interrupt vCPU i: it has something new in its IRR (or an NMI, INIT, SIPI event). Any context. */
	void (*kick)(void *arg, unsigned i);
	void (*nmi)(void *arg, unsigned i);
	void (*eoi)(void *arg, uint8_t vector); /* level-triggered vector was EOId: for the I/O APIC */
	void *arg;
};

extern const struct sdesc vlapic_desc;                                    /* object: struct vlapic */
void vlapic_init(struct vlapic *l, struct vapic_bus *bus, unsigned vcpu); /* power-on state, x2APIC enabled */
/* x2APIC registers (in that mode), IA32_APIC_BASE, IA32_TSC_DEADLINE: 0, or -EINVAL: #GP. guest_tsc, guest_ns: now. */
int vlapic_msr_read(struct vlapic *l, uint32_t msr, uint64_t guest_tsc, uint64_t guest_ns, uint64_t *val);
int vlapic_msr_write(struct vlapic *l, uint32_t msr, uint64_t guest_tsc, uint64_t guest_ns, uint64_t val);
/*
 * Take the INIT and SIPI events that were posted, in the vCPU's task after a kick: the local APIC is reset, s.sipi_wait
 * and s.sipi_vector follow. Returns LAPIC_EV_INIT: put the CPU into its INIT state; LAPIC_EV_SIPI: it starts at
 * s.sipi_vector << 12. While s.sipi_wait is 1 the vCPU does not run. A vCPU that has begun to run after a SIPI is told
 * by vlapic_sipi_done().
 */
unsigned vlapic_take_events(struct vlapic *l);
static inline void vlapic_sipi_done(struct vlapic *l) { l->s.sipi_wait = 0; }
static inline bool vlapic_is_xapic(const struct vlapic *l)
{
	return (__atomic_load_n(&l->s.apic_base, __ATOMIC_RELAXED) & (APIC_BASE_EN | APIC_BASE_EXTD)) == APIC_BASE_EN;
}
/* CR8 is another name of the TPR's class (SDM 3A 11.8.6): before an entry, and after it. */
static inline unsigned vlapic_cr8(const struct vlapic *l) { return l->s.tpr >> 4; }
static inline void vlapic_set_cr8(struct vlapic *l, uint64_t cr8)
{
	if (cr8 != l->s.tpr >> 4)
		l->s.tpr = (uint32_t)cr8 << 4;
}
/* Highest vector that waits for nothing but the TPR, or for nothing at all; 0: none does. */
unsigned vlapic_wants(const struct vlapic *l);
/* The same if the TPR lets it, else -1; vlapic_ack moves it from IRR to ISR as it is injected. */
int vlapic_pending(const struct vlapic *l);
void vlapic_ack(struct vlapic *l, uint8_t vector);
/* What a write of the EOI register does. It changes nothing for anybody until the next exit if it can wait. */
void vlapic_eoi(struct vlapic *l);
bool vlapic_eoi_can_wait(const struct vlapic *l);
/* Fire the timer if it is due; returns true if it stays armed, with the guest nanoseconds left in *wait_ns. */
bool vlapic_timer_poll(struct vlapic *l, uint64_t guest_tsc, uint64_t guest_ns, uint64_t tsc_hz, uint64_t *wait_ns);
/* An MSI: address 0xfeexxxxx and data (SDM 3A 11.11), with KVM's extended destination id. Any context. */
void vapic_bus_msi(struct vapic_bus *b, uint64_t addr, uint32_t data);
/* To APIC id < b->n, as the low half of an ICR says: true if it was of a kind that is delivered. Any context. */
bool vapic_bus_ipi(struct vapic_bus *b, unsigned id, uint32_t icr);
/*
 * Same for the I/O APIC's messages (fixed or lowest priority, level flag for the TMR) and an ICR of xAPIC mode: dest
 * has 8 bits.
 */
void vapic_bus_post(struct vapic_bus *b, uint32_t dest, bool logical, uint8_t mode, uint8_t vector, bool level);

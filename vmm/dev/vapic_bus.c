/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Messages between the guest's local APICs, and to them from the I/O APIC and MSIs: who is meant, and its IRR or event
 * word. Any context; other vCPUs' registers are read and changed by atomic operations only.
 *
 *   ICR write, SELF_IPI -+
 *   I/O APIC pin --------+--> vapic_bus_post --> per target: IRR bit | NMI | INIT, SIPI event --> kick
 *   MSI(-X) -------------+
 */
#include "vmm/dev/vlapic_regs.h"
#include "vmm/dev/vxapic.h"

bool vlapic_post(struct vlapic *l, uint8_t vector, bool level)
{
	uint32_t bit = 1U << vector % 32;

	if (!(__atomic_load_n(&l->s.svr, __ATOMIC_RELAXED) & SVR_ENABLE))
		return false; /* disabled by software: only NMI, INIT and SIPI pass (SDM 3A 11.4.7.2) */
	if (vector < 16) {
		vlapic_error(l, ESR_RECEIVE_ILLEGAL);
		return false;
	}
	if (level)
		__atomic_fetch_or(&l->s.tmr[vector / 32], bit, __ATOMIC_RELAXED);
	else
		__atomic_fetch_and(&l->s.tmr[vector / 32], ~bit, __ATOMIC_RELAXED);
	return !(__atomic_fetch_or(&l->s.irr[vector / 32], bit, __ATOMIC_ACQ_REL) & bit);
}

void vlapic_error(struct vlapic *l, uint32_t esr_bit)
{
	uint32_t lvt = __atomic_load_n(&l->s.lvt[LVT_ERROR], __ATOMIC_RELAXED);
	uint32_t old = __atomic_fetch_or(&l->s.esr_latent, esr_bit, __ATOMIC_RELAXED);

	if (!(old & esr_bit) && !(lvt & LVT_MASKED) && (lvt & 0xff) >= 16 && vlapic_post(l, (uint8_t)lvt, false))
		l->bus->kick(l->bus->arg, l->vcpu);
}

static void post_events(struct vlapic *l, uint32_t clear, uint32_t set)
{
	uint32_t old = __atomic_load_n(&l->s.events, __ATOMIC_RELAXED);
	while (!__atomic_compare_exchange_n(&l->s.events, &old, (old & ~clear) | set, true, __ATOMIC_ACQ_REL,
					    __ATOMIC_RELAXED))
		;
	l->bus->kick(l->bus->arg, l->vcpu);
}

static void deliver(struct vlapic *l, unsigned mode, uint8_t vector, bool level)
{
	switch (mode) {
	case DELIVERY_FIXED:
	case DELIVERY_LOWEST:
		if (vlapic_post(l, vector, level))
			l->bus->kick(l->bus->arg, l->vcpu);
		break;
	case DELIVERY_NMI: l->bus->nmi(l->bus->arg, l->vcpu); break;
	case DELIVERY_INIT:
		post_events(l, LAPIC_EV_SIPI | 0xff00, LAPIC_EV_INIT);
		break; /* forgets a SIPI not yet taken */
	case DELIVERY_SIPI: post_events(l, 0xff00, LAPIC_EV_SIPI | (uint32_t)vector << 8); break;
	case DELIVERY_SMI:    /* this PC has no SMM */
	case DELIVERY_EXTINT: /* and no 8259 */
	default: break;
	}
}

/* The APICs that a destination names, as a range of ids and, for a logical one, a mask of the 16 in its cluster. */
struct targets {
	unsigned first, end;
	uint32_t mask;
	bool each; /* instead: is_named */
	uint32_t dest;
	bool logical;
};

static struct targets targets_of(const struct vapic_bus *b, uint32_t dest, bool logical)
{
	if (dest == DEST_BROADCAST)
		return (struct targets){ .end = b->n, .mask = DEST_BROADCAST };
	uint64_t first = logical ? (uint64_t)(dest >> 16) << 4 : dest;
	if (first >= b->n)
		return (struct targets){ .mask = 0 };
	unsigned end = (unsigned)first + (logical ? 16 : 1);
	return (struct targets){ .first = (unsigned)first,
				 .end = MIN(end, b->n),
				 .mask = logical ? dest & 0xffff : DEST_BROADCAST };
}

/* The same one by one, each by its own mode. Of 8-bit logical destinations those in x2APIC mode have cluster 0. */
static bool is_named(const struct vlapic *l, uint32_t dest, bool logical)
{
	if (dest == DEST_BROADCAST)
		return true;
	if (!logical)
		return dest == l->s.id;
	if (vlapic_is_xapic(l))
		return vxapic_is_named(l, dest);
	uint32_t me = vlapic_ldr(l->s.id);
	return me >> 16 == dest >> 16 && (me & dest & 0xffff);
}

static bool is_target(const struct vapic_bus *b, const struct targets *t, unsigned i)
{
	return t->each ? is_named(b->lapic[i], t->dest, t->logical) : t->mask >> (i & 15) & 1;
}

static void post_to(struct vapic_bus *b, uint32_t dest, bool logical, unsigned mode, uint8_t vector, bool level)
{
	struct targets t = targets_of(b, dest, logical);
	unsigned matches = 0, pick = 0;
	if (__atomic_load_n(&b->any_xapic, __ATOMIC_RELAXED))
		t = (struct targets){ .end = b->n, .each = true, .dest = dest, .logical = logical };

	if (mode == DELIVERY_LOWEST) { /* one of them, by the vector: what most real arbitration comes to */
		for (unsigned i = t.first; i < t.end; i++)
			matches += is_target(b, &t, i);
		pick = matches ? vector % matches : 0;
	}
	for (unsigned i = t.first; i < t.end; i++) {
		if (!is_target(b, &t, i) || (mode == DELIVERY_LOWEST && pick-- != 0))
			continue;
		deliver(b->lapic[i], mode, vector, level);
	}
}

bool vapic_bus_ipi(struct vapic_bus *b, unsigned id, uint32_t icr)
{
	unsigned mode = icr >> 8 & 7;
	bool vectored = mode == DELIVERY_FIXED || mode == DELIVERY_LOWEST;
	if (vectored ? (uint8_t)icr < 16 : mode != DELIVERY_NMI)
		return false;
	deliver(b->lapic[id], mode, (uint8_t)icr, false);
	return true;
}

void vapic_bus_post(struct vapic_bus *b, uint32_t dest, bool logical, uint8_t mode, uint8_t vector, bool level)
{
	post_to(b, dest == DEST_BROADCAST8 && !logical ? DEST_BROADCAST : dest, logical, mode, vector, level);
}

/*
 * SDM 3A 11.11: address 31:20 = 0xfee, destination 19:12, redirection hint 3, logical 2; data like an ICR's low half.
 * Bits 11:5 are 14:8 of the destination (KVM_FEATURE_MSI_EXT_DEST_ID): reserved for others, who leave them 0.
 */
void vapic_bus_msi(struct vapic_bus *b, uint64_t addr, uint32_t data)
{
	unsigned mode = data >> 8 & 7;
	bool level = data & ICR_LEVEL;

	if ((addr & ~(uint64_t)0xfffff) != LAPIC_DEFAULT_BASE || (level && !(data & ICR_ASSERT)))
		return; /* not a message for an APIC, or the end of a level, which has no effect */
	if (mode == DELIVERY_SIPI)
		return; /* reserved in MSIs */
	if (mode == DELIVERY_FIXED && (addr & MSI_REDIRECT) && (addr & MSI_LOGICAL))
		mode = DELIVERY_LOWEST;
	vapic_bus_post(b, (addr >> 12 & 0xff) | (addr >> 5 & 0x7f) << 8, addr & MSI_LOGICAL, (uint8_t)mode,
		       (uint8_t)data, level);
}

void vlapic_send_ipi(struct vlapic *l)
{
	uint32_t icr = l->s.icr_lo;
	unsigned mode = icr >> 8 & 7, shorthand = icr >> 18 & 3;
	uint8_t vector = (uint8_t)icr;

	if (mode == DELIVERY_INIT && (icr & ICR_LEVEL) && !(icr & ICR_ASSERT))
		return; /* INIT level de-assert: no effect since the Pentium 4 (SDM 3A 11.6.1) */
	if ((mode == DELIVERY_FIXED || mode == DELIVERY_LOWEST) && vector < 16) {
		vlapic_error(l, ESR_SEND_ILLEGAL);
		return;
	}
	switch (shorthand) {
	case ICR_TO_DEST:
		if (vlapic_is_xapic(l))
			vapic_bus_post(l->bus, l->s.icr_hi >> 24, icr & ICR_LOGICAL, (uint8_t)mode, vector, false);
		else
			post_to(l->bus, l->s.icr_hi, icr & ICR_LOGICAL, mode, vector, false);
		break;
	case ICR_TO_SELF: deliver(l, mode, vector, false); break;
	case ICR_TO_ALL:
	case ICR_TO_OTHERS:
		for (unsigned i = 0; i < l->bus->n; i++)
			if (i != l->vcpu || shorthand == ICR_TO_ALL)
				deliver(l->bus->lapic[i], mode, vector, false);
		break;
	}
}

void vlapic_self_ipi(struct vlapic *l, uint8_t vector)
{
	if (vector < 16)
		vlapic_error(l, ESR_SEND_ILLEGAL);
	else
		deliver(l, DELIVERY_FIXED, vector, false);
}

/* SPDX-License-Identifier: BSD-2-Clause */
/* The guest's local APIC in xAPIC mode (vxapic.h): what differs from x2APIC's registers, which do the work. */
#include "vmm/dev/vxapic.h"
#include "vmm/dev/vlapic_regs.h"

static uint32_t load(const uint32_t *word) { return __atomic_load_n(word, __ATOMIC_RELAXED); }

bool vxapic_is_named(const struct vlapic *l, uint32_t dest)
{
	uint32_t me = load(&l->x.ldr) >> 24;
	if (dest > 0xff)
		return false;
	if (load(&l->x.dfr) >> 28 == DFR_FLAT)
		return me & dest;
	return dest == 0xff || (me >> 4 == dest >> 4 && (me & dest & 0xf));
}

uint32_t vxapic_read(struct vlapic *l, uint32_t off, unsigned size, uint64_t guest_ns)
{
	uint64_t val = 0;
	if (size != 4 || off % 16)
		return 0;
	switch (off / 16) {
	case APIC_ID: return l->s.id << 24;
	case APIC_LDR: return l->x.ldr;
	case APIC_DFR: return l->x.dfr;
	case APIC_ICR_HIGH: return l->s.icr_hi;
	default: break;
	}
	if (vlapic_reg_read(l, off / 16, guest_ns, &val))
		vlapic_error(l, ESR_ILLEGAL_REGISTER);
	return (uint32_t)val;
}

/* Where x2APIC refuses what is reserved, this mode takes no notice of it. */
static uint32_t writable(uint32_t reg, uint32_t val)
{
	switch (reg) {
	case APIC_EOI:
	case APIC_ESR: return 0; /* whatever is written */
	case APIC_TPR: return val & 0xff;
	case APIC_SVR: return val & SVR_VALID;
	case APIC_ICR: return val & ICR_VALID;
	case APIC_DIVIDE: return val & DIVIDE_VALID;
	default: return val & vlapic_lvt_valid(reg);
	}
}

void vxapic_write(struct vlapic *l, uint32_t off, unsigned size, uint64_t guest_ns, uint32_t val)
{
	uint32_t reg = off / 16;
	if (size != 4 || off % 16)
		return;
	switch (reg) {
	case APIC_ID: return; /* as on CPUs of today, it cannot be changed */
	case APIC_LDR: __atomic_store_n(&l->x.ldr, val & 0xff000000, __ATOMIC_RELAXED); return;
	case APIC_DFR: __atomic_store_n(&l->x.dfr, val | 0x0fffffff, __ATOMIC_RELAXED); return;
	case APIC_ICR_HIGH: l->s.icr_hi = val & 0xff000000; return;
	default: break;
	}
	uint64_t high = reg == APIC_ICR ? (uint64_t)l->s.icr_hi << 32 : 0;
	if (reg == APIC_SELF_IPI || vlapic_reg_write(l, reg, guest_ns, high | writable(reg, val)))
		vlapic_error(l, ESR_ILLEGAL_REGISTER);
}

/* ---- migration ---- */

static bool absent(const void *obj) { return !vlapic_is_xapic(obj); }
static int check(const void *obj unused, const void *state, struct why *w)
{
	const struct vxapic_state *s = state;
	if (!(s->ldr & 0xffffff) && (s->dfr & 0x0fffffff) == 0x0fffffff)
		return 0;
	return why_set(w, -EINVAL, "xapic: LDR %x, DFR %x", s->ldr, s->dfr);
}
/* clang-format off */
static const struct sfield fields[] = {
	F(struct vxapic_state, ldr), F(struct vxapic_state, dfr),
};
/* clang-format on */
const struct sdesc vxapic_desc = { .name = "xapic",
				   .version = 1,
				   SDESC(struct vlapic, x, struct vxapic_state, fields),
				   .absent = absent,
				   .check = check };

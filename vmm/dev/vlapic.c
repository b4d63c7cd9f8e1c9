/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The guest's local APIC, registers and interrupt priority (SDM 3A ch. 11; AMD's x2APIC is the same, APM2 16.11).
 * In x2APIC mode the registers are MSRs; what xAPIC mode has in memory comes here by vxapic.c. Six LVT entries (no
 * CMCI), no EOI broadcast suppression.
 *
 * All is the vCPU's task's; vapic_bus.c's posts touch IRR, TMR, `events` and `esr_latent`, by atomic operations only.
 */
#include "vmm/dev/vlapic.h"
#include "vmm/dev/vlapic_regs.h"
#include <string.h>

#define LAPIC_VERSION  (0x14 | (LVT_COUNT - 2) << 16) /* version, highest LVT entry (without CMCI) */
#define TIMER_FIRE_GAP 100000 /* ns: a periodic timer fires no faster, whatever the guest asks for */

/* Writable bits of each LVT register; delivery status (12) and remote IRR (14) may be written, without effect. */
static const uint32_t lvt_valid[LVT_COUNT] = {
	[LVT_TIMER] = 0xff | LVT_STATUS | LVT_MASKED | LVT_TIMER_MODE,
	[LVT_THERMAL] = 0xff | LVT_MODE | LVT_STATUS | LVT_MASKED,
	[LVT_PMC] = 0xff | LVT_MODE | LVT_STATUS | LVT_MASKED,
	[LVT_LINT0] = 0xff | LVT_MODE | LVT_STATUS | LVT_POLARITY | LVT_REMOTE_IRR | LVT_LEVEL | LVT_MASKED,
	[LVT_LINT1] = 0xff | LVT_MODE | LVT_STATUS | LVT_POLARITY | LVT_REMOTE_IRR | LVT_LEVEL | LVT_MASKED,
	[LVT_ERROR] = 0xff | LVT_STATUS | LVT_MASKED,
};
#define LVT_READ_ONLY (LVT_STATUS | LVT_REMOTE_IRR)

static inline uint32_t load(const uint32_t *word) { return __atomic_load_n(word, __ATOMIC_ACQUIRE); }

typedef uint64_t word_pair __attribute__((may_alias));
static inline uint64_t load_pair(const uint32_t *words)
{
	return __atomic_load_n((const word_pair *)(const void *)words, __ATOMIC_ACQUIRE);
}

static int highest_bit(const uint32_t *map)
{
	/* Mostly nothing is there, and this is asked at each entry: so no loop for that. */
	if (!(load_pair(&map[0]) | load_pair(&map[2]) | load_pair(&map[4]) | load_pair(&map[6])))
		return -1;
	for (int w = 7; w >= 0; w--) {
		uint32_t v = load(&map[w]);
		if (v)
			return w * 32 + 31 - __builtin_clz(v);
	}
	return -1;
}

static bool timer_is_deadline(const struct vlapic *l)
{
	return (l->s.lvt[LVT_TIMER] & LVT_TIMER_MODE) == LVT_TIMER_DEADLINE;
}

/* Registers after power-up, INIT or hardware disable (SDM 3A 11.4.7); the ID, the base and the events stay. */
static void regs_reset(struct vlapic *l)
{
	struct vlapic_state *s = &l->s;
	__atomic_store_n(&s->svr, 0xff, __ATOMIC_RELAXED); /* disabled: posts are refused from here on */
	__atomic_store_n(&s->esr_latent, 0, __ATOMIC_RELAXED);
	s->tpr = s->icr_lo = s->icr_hi = s->esr = s->dcr = s->icount = s->count_armed = 0;
	s->tsc_deadline = s->count_start_ns = 0;
	__atomic_store_n(&l->x.ldr, 0, __ATOMIC_RELAXED);
	__atomic_store_n(&l->x.dfr, ~0U, __ATOMIC_RELAXED);
	for (unsigned i = 0; i < LVT_COUNT; i++)
		__atomic_store_n(&s->lvt[i], LVT_MASKED, __ATOMIC_RELAXED);
	for (unsigned i = 0; i < 8; i++) {
		s->isr[i] = 0;
		__atomic_store_n(&s->tmr[i], 0, __ATOMIC_RELAXED);
		__atomic_store_n(&s->irr[i], 0, __ATOMIC_RELAXED);
	}
}

void vlapic_init(struct vlapic *l, struct vapic_bus *bus, unsigned vcpu)
{
	memset(l, 0, sizeof(*l));
	l->bus = bus;
	l->vcpu = vcpu;
	l->s.id = vcpu;
	l->s.apic_base = LAPIC_DEFAULT_BASE | APIC_BASE_EN | APIC_BASE_EXTD | (vcpu == 0 ? APIC_BASE_BSP : 0);
	l->s.sipi_wait = vcpu != 0;
	regs_reset(l);
}

unsigned vlapic_take_events(struct vlapic *l)
{
	unsigned did = 0, e = __atomic_load_n(&l->s.events, __ATOMIC_RELAXED);

	if (!e)
		return 0;
	e = __atomic_exchange_n(&l->s.events, 0, __ATOMIC_ACQ_REL);
	if (e & LAPIC_EV_INIT) {
		regs_reset(l);
		l->s.sipi_wait = l->vcpu != 0; /* the boot CPU goes to the reset vector instead: the machine resets */
		did |= LAPIC_EV_INIT;
	}
	if ((e & LAPIC_EV_SIPI) && l->s.sipi_wait == 1) {
		l->s.sipi_vector = e >> 8 & 0xff;
		l->s.sipi_wait = 2;
		did |= LAPIC_EV_SIPI;
	}
	return did;
}

/* ---- priority: TPR, ISR and IRR (SDM 3A 11.8) ---- */

/* The class in service, as bits 7:4. */
static uint32_t in_service(const struct vlapic *l)
{
	int v = highest_bit(l->s.isr);
	return v < 0 ? 0 : (uint32_t)v & 0xf0;
}

static uint32_t ppr(const struct vlapic *l)
{
	uint32_t service = in_service(l);
	return (l->s.tpr & 0xf0) >= service ? l->s.tpr : service;
}

unsigned vlapic_wants(const struct vlapic *l)
{
	int v = l->s.apic_base & APIC_BASE_EN ? highest_bit(l->s.irr) : -1;
	return v >= 0 && ((uint32_t)v & 0xf0) > in_service(l) ? (unsigned)v : 0;
}

int vlapic_pending(const struct vlapic *l)
{
	unsigned v = vlapic_wants(l);
	return v >> 4 > vlapic_cr8(l) ? (int)v : -1;
}

void vlapic_ack(struct vlapic *l, uint8_t vector)
{
	__atomic_fetch_and(&l->s.irr[vector / 32], ~(1U << vector % 32), __ATOMIC_ACQ_REL);
	l->s.isr[vector / 32] |= 1U << vector % 32;
}

bool vlapic_eoi_can_wait(const struct vlapic *l)
{
	int v = highest_bit(l->s.isr);
	uint32_t others = 0;
	for (int i = 0; v >= 0 && i < 8; i++)
		others |= l->s.isr[i] & ~(i == v / 32 ? 1U << v % 32 : 0);
	return v >= 0 && !others && highest_bit(l->s.irr) < 0 &&
	       !(__atomic_load_n(&l->s.tmr[v / 32], __ATOMIC_ACQUIRE) >> v % 32 & 1);
}

void vlapic_eoi(struct vlapic *l)
{
	int v = highest_bit(l->s.isr);
	if (v < 0)
		return;
	uint32_t bit = 1U << v % 32;
	l->s.isr[v / 32] &= ~bit;
	if ((__atomic_load_n(&l->s.tmr[v / 32], __ATOMIC_ACQUIRE) & bit) && l->bus->eoi)
		l->bus->eoi(l->bus->arg, (uint8_t)v);
}

/* ---- timer (SDM 3A 11.5.4): counts down at 1 GHz of guest time over the divider, or waits for a TSC value ---- */

static unsigned divide_shift(uint32_t dcr) { return (((dcr & 3) | (dcr >> 1 & 4)) + 1) & 7; }

static uint64_t count_elapsed(const struct vlapic *l, uint64_t guest_ns) /* in timer ticks */
{
	uint64_t ns = guest_ns - l->s.count_start_ns;
	return (int64_t)ns < 0 ? 0 : ns >> divide_shift(l->s.dcr);
}

static uint32_t current_count(const struct vlapic *l, uint64_t guest_ns)
{
	uint64_t ticks = count_elapsed(l, guest_ns);
	if (!l->s.count_armed || timer_is_deadline(l))
		return 0;
	if ((l->s.lvt[LVT_TIMER] & LVT_TIMER_MODE) == LVT_TIMER_PERIODIC)
		ticks %= l->s.icount;
	return ticks >= l->s.icount ? 0 : l->s.icount - (uint32_t)ticks;
}

static void timer_disarm(struct vlapic *l)
{
	l->s.icount = l->s.count_armed = 0;
	l->s.tsc_deadline = l->s.count_start_ns = 0;
}

static void timer_fire(struct vlapic *l)
{
	if (!(l->s.lvt[LVT_TIMER] & LVT_MASKED))
		vlapic_post(l, (uint8_t)l->s.lvt[LVT_TIMER], false);
}

/* Ticks to nanoseconds, rounded up, at most a day: no 128-bit division, and the caller polls again anyway. */
static uint64_t ticks_to_ns(uint64_t ticks, uint64_t hz)
{
	uint64_t sec = ticks / hz;
	return sec >= 86400 ? 86400 * NS_PER_SEC : sec * NS_PER_SEC + (ticks % hz * NS_PER_SEC + hz - 1) / hz;
}

bool vlapic_timer_poll(struct vlapic *l, uint64_t guest_tsc, uint64_t guest_ns, uint64_t tsc_hz, uint64_t *wait_ns)
{
	struct vlapic_state *s = &l->s;

	if (timer_is_deadline(l)) {
		if (!s->tsc_deadline)
			return false;
		if (guest_tsc < s->tsc_deadline) {
			*wait_ns = ticks_to_ns(s->tsc_deadline - guest_tsc, tsc_hz);
			return true;
		}
		s->tsc_deadline = 0;
		timer_fire(l);
		return false;
	}
	if (!s->count_armed)
		return false;
	bool periodic = (s->lvt[LVT_TIMER] & LVT_TIMER_MODE) == LVT_TIMER_PERIODIC;
	uint64_t period = (uint64_t)s->icount << divide_shift(s->dcr);
	uint64_t elapsed = guest_ns - s->count_start_ns;
	if ((int64_t)elapsed < 0)
		elapsed = 0;
	if (periodic)
		period *= period < TIMER_FIRE_GAP ? (TIMER_FIRE_GAP + period - 1) / period : 1;
	if (elapsed >= period) {
		timer_fire(l);
		s->count_armed = periodic;
		s->count_start_ns += elapsed / period * period; /* periods that were missed count as one */
		elapsed %= period;
	}
	*wait_ns = period - elapsed;
	return s->count_armed;
}

static void write_dcr(struct vlapic *l, uint64_t guest_ns, uint32_t val)
{
	uint64_t ticks = count_elapsed(l, guest_ns);
	l->s.dcr = val;
	if (l->s.count_armed) /* what has been counted stays counted */
		l->s.count_start_ns = guest_ns - (ticks << divide_shift(val));
}

/* ---- registers ---- */

static int lvt_index(uint32_t reg)
{
	switch (reg) {
	case APIC_LVT_TIMER: return LVT_TIMER;
	case APIC_LVT_THERMAL: return LVT_THERMAL;
	case APIC_LVT_PMC: return LVT_PMC;
	case APIC_LVT_LINT0: return LVT_LINT0;
	case APIC_LVT_LINT1: return LVT_LINT1;
	case APIC_LVT_ERROR: return LVT_ERROR;
	default: return -1;
	}
}

uint32_t vlapic_lvt_valid(uint32_t reg)
{
	int i = lvt_index(reg);
	return i < 0 ? ~0U : lvt_valid[i];
}

static int write_lvt(struct vlapic *l, int i, uint32_t val)
{
	if ((val & ~lvt_valid[i]) || (i == LVT_TIMER && (val & LVT_TIMER_MODE) == LVT_TIMER_MODE))
		return -EINVAL;
	val &= ~LVT_READ_ONLY;
	if (!(l->s.svr & SVR_ENABLE))
		val |= LVT_MASKED;
	bool was_deadline = timer_is_deadline(l);
	__atomic_store_n(&l->s.lvt[i], val, __ATOMIC_RELAXED); /* posters read the error entry */
	if (i == LVT_TIMER && was_deadline != timer_is_deadline(l))
		timer_disarm(l);
	return 0;
}

static int write_svr(struct vlapic *l, uint32_t val)
{
	if (val & ~SVR_VALID)
		return -EINVAL;
	__atomic_store_n(&l->s.svr, val, __ATOMIC_RELAXED);
	if (!(val & SVR_ENABLE))
		for (unsigned i = 0; i < LVT_COUNT; i++)
			__atomic_fetch_or(&l->s.lvt[i], LVT_MASKED, __ATOMIC_RELAXED);
	return 0;
}

/* Who sends looks whether any is in xAPIC mode before it looks which. */
static void mode_is(struct vlapic *l, uint64_t base)
{
	__atomic_store_n(&l->s.apic_base, base, __ATOMIC_RELAXED);
	if (vlapic_is_xapic(l))
		__atomic_store_n(&l->bus->any_xapic, true, __ATOMIC_SEQ_CST);
}

static int write_base(struct vlapic *l, uint64_t val)
{
	uint64_t old = l->s.apic_base;
	bool en = val & APIC_BASE_EN, extd = val & APIC_BASE_EXTD, was_en = old & APIC_BASE_EN,
	     was_extd = old & APIC_BASE_EXTD;

	/* The base cannot move: nothing answers there. Mode changes as in SDM 3A 11.12.5, figure 11-27. */
	if ((val & ~(APIC_BASE_EN | APIC_BASE_EXTD | APIC_BASE_BSP)) != LAPIC_DEFAULT_BASE)
		return -EINVAL;
	if ((extd && !en) || (was_extd && en && !extd) || (!was_en && extd))
		return -EINVAL;
	if (was_en && !en)
		regs_reset(l);
	mode_is(l, LAPIC_DEFAULT_BASE | (val & (APIC_BASE_EN | APIC_BASE_EXTD)) | (old & APIC_BASE_BSP));
	return 0;
}

int vlapic_reg_read(struct vlapic *l, uint32_t reg, uint64_t guest_ns, uint64_t *val)
{
	const struct vlapic_state *s = &l->s;

	switch (reg) {
	case APIC_ID: *val = s->id; return 0;
	case APIC_VERSION: *val = LAPIC_VERSION; return 0;
	case APIC_TPR: *val = s->tpr; return 0;
	case APIC_PPR: *val = ppr(l); return 0;
	case APIC_LDR: *val = vlapic_ldr(s->id); return 0;
	case APIC_SVR: *val = s->svr; return 0;
	case APIC_ISR ... APIC_ISR + 7: *val = s->isr[reg - APIC_ISR]; return 0;
	case APIC_TMR ... APIC_TMR + 7: *val = __atomic_load_n(&s->tmr[reg - APIC_TMR], __ATOMIC_RELAXED); return 0;
	case APIC_IRR ... APIC_IRR + 7: *val = __atomic_load_n(&s->irr[reg - APIC_IRR], __ATOMIC_RELAXED); return 0;
	case APIC_ESR: *val = s->esr; return 0;
	case APIC_ICR: *val = s->icr_lo | (uint64_t)s->icr_hi << 32; return 0;
	case APIC_INITIAL_COUNT: *val = s->icount; return 0;
	case APIC_CURRENT_COUNT: *val = current_count(l, guest_ns); return 0;
	case APIC_DIVIDE: *val = s->dcr; return 0;
	default: break;
	}
	int i = lvt_index(reg);
	if (i < 0)
		return -EINVAL; /* reserved, or EOI and SELF_IPI, which are write-only */
	*val = s->lvt[i];
	return 0;
}

int vlapic_reg_write(struct vlapic *l, uint32_t reg, uint64_t guest_ns, uint64_t val)
{
	struct vlapic_state *s = &l->s;

	if (val >> 32 && reg != APIC_ICR)
		return -EINVAL;
	uint32_t v = (uint32_t)val;
	switch (reg) {
	case APIC_TPR:
		if (v > 0xff)
			return -EINVAL;
		s->tpr = v;
		return 0;
	case APIC_EOI:
		if (v)
			return -EINVAL;
		vlapic_eoi(l);
		return 0;
	case APIC_SVR: return write_svr(l, v);
	case APIC_ESR:
		if (v)
			return -EINVAL;
		s->esr = __atomic_exchange_n(&s->esr_latent, 0, __ATOMIC_RELAXED);
		return 0;
	case APIC_ICR:
		if (v & ~(ICR_VALID | ICR_BUSY))
			return -EINVAL;
		s->icr_lo = v & ~ICR_BUSY;
		s->icr_hi = (uint32_t)(val >> 32);
		vlapic_send_ipi(l);
		return 0;
	case APIC_INITIAL_COUNT:
		if (!timer_is_deadline(l)) {
			s->icount = v;
			s->count_armed = v != 0;
			s->count_start_ns = v ? guest_ns : 0;
		}
		return 0;
	case APIC_DIVIDE:
		if (v & ~DIVIDE_VALID)
			return -EINVAL;
		write_dcr(l, guest_ns, v);
		return 0;
	case APIC_SELF_IPI:
		if (v > 0xff)
			return -EINVAL;
		vlapic_self_ipi(l, (uint8_t)v);
		return 0;
	default: break;
	}
	int i = lvt_index(reg);
	return i < 0 ? -EINVAL : write_lvt(l, i, v);
}

int vlapic_msr_read(struct vlapic *l, uint32_t msr, uint64_t guest_tsc unused, uint64_t guest_ns, uint64_t *val)
{
	bool base = msr == MSR_APIC_BASE;
	if (base || msr == MSR_TSC_DEADLINE) {
		*val = base ? l->s.apic_base : l->s.tsc_deadline; /* 0 in the other timer modes */
		return 0;
	}
	if (!(l->s.apic_base & APIC_BASE_EXTD) || msr < MSR_X2APIC || msr >= MSR_X2APIC + APIC_REGS)
		return -EINVAL;
	return vlapic_reg_read(l, msr - MSR_X2APIC, guest_ns, val);
}

int vlapic_msr_write(struct vlapic *l, uint32_t msr, uint64_t guest_tsc unused, uint64_t guest_ns, uint64_t val)
{
	if (msr == MSR_APIC_BASE)
		return write_base(l, val);
	if (msr == MSR_TSC_DEADLINE) {
		if (timer_is_deadline(l))
			l->s.tsc_deadline = val; /* one in the past fires at the next poll, before the guest goes on */
		return 0;
	}
	if (!(l->s.apic_base & APIC_BASE_EXTD) || msr < MSR_X2APIC || msr >= MSR_X2APIC + APIC_REGS)
		return -EINVAL;
	return vlapic_reg_write(l, msr - MSR_X2APIC, guest_ns, val);
}

/* ---- migration ---- */

/* clang-format off */
static const struct sfield vlapic_fields[] = {
	F(struct vlapic_state, id),           F(struct vlapic_state, svr),
	F(struct vlapic_state, tpr),          F_ARR(struct vlapic_state, lvt),
	F(struct vlapic_state, icr_lo),       F(struct vlapic_state, icr_hi),
	F(struct vlapic_state, esr),          F(struct vlapic_state, dcr),
	F(struct vlapic_state, icount),       F(struct vlapic_state, esr_latent),
	F_ARR(struct vlapic_state, isr),      F_ARR(struct vlapic_state, tmr),
	F_ARR(struct vlapic_state, irr),      F(struct vlapic_state, apic_base),
	F(struct vlapic_state, tsc_deadline), F(struct vlapic_state, count_start_ns),
	F(struct vlapic_state, sipi_wait),    F(struct vlapic_state, sipi_vector),
	F(struct vlapic_state, events),       F(struct vlapic_state, count_armed),
};
/* clang-format on */

static int vlapic_check(const void *obj, const void *state, struct why *w)
{
	const struct vlapic *l = obj;
	const struct vlapic_state *s = state;
	bool deadline = (s->lvt[LVT_TIMER] & LVT_TIMER_MODE) == LVT_TIMER_DEADLINE;
	uint64_t base = s->apic_base & ~(APIC_BASE_EN | APIC_BASE_EXTD);

	if (s->id != l->vcpu)
		return why_set(w, -EINVAL, "lapic: id %u in the state of vCPU %u", s->id, l->vcpu);
	if (base != (LAPIC_DEFAULT_BASE | (l->vcpu == 0 ? APIC_BASE_BSP : 0)) ||
	    (s->apic_base & (APIC_BASE_EN | APIC_BASE_EXTD)) == APIC_BASE_EXTD)
		return why_set(w, -EINVAL, "lapic: APIC base %lx", s->apic_base);
	for (unsigned i = 0; i < LVT_COUNT; i++)
		if ((s->lvt[i] & ~(i == LVT_CMCI ? LVT_MASKED : lvt_valid[i] & ~LVT_READ_ONLY)) ||
		    (!(s->svr & SVR_ENABLE) && !(s->lvt[i] & LVT_MASKED)))
			return why_set(w, -EINVAL, "lapic: lvt[%u] %x", i, s->lvt[i]);
	if ((s->svr & ~SVR_VALID) || s->tpr > 0xff || s->esr > 0xff || s->esr_latent > 0xff ||
	    (s->dcr & ~DIVIDE_VALID) || (s->icr_lo & ~ICR_VALID))
		return why_set(w, -EINVAL, "lapic: reserved bits are set");
	if ((s->lvt[LVT_TIMER] & LVT_TIMER_MODE) == LVT_TIMER_MODE || (s->tsc_deadline && !deadline) ||
	    s->count_armed > 1 || (s->count_armed && (deadline || !s->icount)))
		return why_set(w, -EINVAL, "lapic: timer state is contradictory");
	if ((s->isr[0] | s->irr[0] | s->tmr[0]) & 0xffff)
		return why_set(w, -EINVAL, "lapic: a vector below 16");
	if (s->sipi_wait > 1 || (s->sipi_wait && !l->vcpu) || s->sipi_vector > 0xff ||
	    (s->events & ~(LAPIC_EV_INIT | LAPIC_EV_SIPI | 0xff00)))
		return why_set(w, -EINVAL, "lapic: start-up state");
	return 0;
}

static void vlapic_post_load(void *obj) { mode_is(obj, ((struct vlapic *)obj)->s.apic_base); }

const struct sdesc vlapic_desc = {
	.name = "lapic",
	.version = 1,
	SDESC(struct vlapic, s, struct vlapic_state, vlapic_fields),
	.check = vlapic_check,
	.post_load = vlapic_post_load,
};

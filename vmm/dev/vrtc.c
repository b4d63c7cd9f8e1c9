/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * An MC146818A as PCs have it: time of day in UTC, by the guest's own clock, so that it agrees with what kvmclock tells
 * and goes on where the VM moves to. What the guest writes into it is kept as a distance from that clock.
 *
 * It raises no interrupt: register C is always 0, and what register B enables is remembered without effect. The time
 * changes at the end of each second, all registers at once, and register A has UIP set for the 2228 us before that and
 * never else: who finds it clear has that long to read them all. While register B has SET they stand still, and the
 * clock goes on from what they say when it is cleared; if that is no time of day, as if nothing had been written.
 *
 * A reset of the guest is one of the chip: the time, and RAM but for the sizes of memory, stay, as by a battery.
 */
#include "vmm/dev/vrtc.h"
#include "arch/x86/hw/rtc.h"
#include "kernel/time.h"
#include "vmm/pc/pc.h"
#include <stdlib.h>
#include <string.h>

struct vrtc_state {              /* section "rtc" */
	uint64_t offset;         /* seconds that it is ahead of the guest's clock, below CYCLE */
	uint64_t index;          /* a byte: what was written to port 0x70 */
	uint8_t cmos[RTC_CELLS]; /* the time's only while register B has SET */
};
struct vrtc {
	struct dev dev;
	struct vrtc_state s; /* [l] */
	struct spinlock lock;
};

/* Days are counted from March 1st of year 0, in 10000 years of the Gregorian calendar; seconds from midnight there. */
#define DAY         86400UL
#define DAYS_400Y   146097UL
#define CYCLE       (25 * DAYS_400Y * DAY)
#define DAY_OF_1970 719468UL /* January 1st, a Thursday */

enum { SECONDS, MINUTES, HOURS, WEEKDAY, DATE, MONTH, YEAR, CENTURY, FIELDS };
static const uint8_t cell_of[FIELDS] = { RTC_SECONDS, RTC_MINUTES, RTC_HOURS, RTC_WEEKDAY,
					 RTC_DAY,     RTC_MONTH,   RTC_YEAR,  RTC_CENTURY };

/* ---- the calendar ---- */

static uint64_t day_number(unsigned year, unsigned month, unsigned date)
{
	unsigned y = month > 2 ? year : year ? year - 1 : 9999, m = month > 2 ? month - 3 : month + 9;
	return y * 365UL + y / 4 - y / 100 + y / 400 + (153 * m + 2) / 5 + date - 1;
}

static void fields_of(uint64_t seconds, unsigned f[FIELDS])
{
	uint64_t day = seconds / DAY, in = seconds % DAY, d = day % DAYS_400Y;
	uint64_t y = (d - d / 1460 + d / 36524 - d / 146096) / 365; /* of these 400, beginning in March */
	d -= 365 * y + y / 4 - y / 100;
	uint64_t m = (5 * d + 2) / 153;
	uint64_t year = (day / DAYS_400Y * 400 + y + (m > 9)) % 10000;
	f[SECONDS] = (unsigned)(in % 60);
	f[MINUTES] = (unsigned)(in / 60 % 60);
	f[HOURS] = (unsigned)(in / 3600);
	f[WEEKDAY] = (unsigned)((day + 3) % 7 + 1);
	f[DATE] = (unsigned)(d - (153 * m + 2) / 5 + 1);
	f[MONTH] = (unsigned)(m > 9 ? m - 9 : m + 3);
	f[YEAR] = (unsigned)(year % 100);
	f[CENTURY] = (unsigned)(year / 100);
}

/* ---- registers' format, which register B chooses ---- */

static uint8_t encode(uint8_t b, unsigned field, unsigned v)
{
	uint8_t pm = 0;
	if (field == HOURS && !(b & RTC_B_24H)) {
		pm = v >= 12 ? RTC_PM : 0;
		v = v % 12 ? v % 12 : 12;
	}
	return (uint8_t)(pm | (b & RTC_B_BINARY ? v : v / 10 << 4 | v % 10));
}

/* What is no such number comes out as one that is too large. */
static unsigned decode(uint8_t b, unsigned field, uint8_t v)
{
	bool twelve = field == HOURS && !(b & RTC_B_24H), pm = twelve && v & RTC_PM;
	if (twelve)
		v &= (uint8_t)~RTC_PM;
	unsigned n = b & RTC_B_BINARY ? v : (v & 0xf) > 9 ? 0xff : (v >> 4) * 10U + (v & 0xf);
	if (!twelve)
		return n;
	return n < 1 || n > 12 ? 0xff : n % 12 + (pm ? 12 : 0);
}

static void encode_time(uint64_t seconds, uint8_t *cmos)
{
	unsigned f[FIELDS];
	fields_of(seconds, f);
	for (unsigned i = 0; i < FIELDS; i++)
		cmos[cell_of[i]] = encode(cmos[RTC_B], i, f[i]);
}

/* False: they are no time of day. The day of the week is not looked at. */
static bool decode_time(const uint8_t *cmos, uint64_t *seconds)
{
	unsigned f[FIELDS], back[FIELDS];
	for (unsigned i = 0; i < FIELDS; i++)
		f[i] = decode(cmos[RTC_B], i, cmos[cell_of[i]]);
	if (f[SECONDS] > 59 || f[MINUTES] > 59 || f[HOURS] > 23 || f[MONTH] < 1 || f[MONTH] > 12 || f[DATE] < 1 ||
	    f[DATE] > 31 || f[YEAR] > 99 || f[CENTURY] > 99)
		return false;
	*seconds = day_number(f[CENTURY] * 100 + f[YEAR], f[MONTH], f[DATE]) * DAY + f[HOURS] * 3600UL +
		   f[MINUTES] * 60 + f[SECONDS];
	fields_of(*seconds, back);
	return back[DATE] == f[DATE]; /* else the month has fewer days */
}

/* ---- the clock. The lock is held ---- */

static uint64_t wall(const struct vrtc *r) { return r->dev.m->wall_ns(r->dev.m->arg); }
static uint64_t guest_clock(const struct vrtc *r) { return (wall(r) / NS_PER_SEC + DAY_OF_1970 * DAY) % CYCLE; }
static uint64_t rtc_time(const struct vrtc *r) { return (guest_clock(r) + r->s.offset) % CYCLE; }

static bool is_time(unsigned cell)
{
	return cell == RTC_CENTURY || (cell <= RTC_YEAR && memchr(cell_of, (int)cell, FIELDS));
}

static bool is_set(const struct vrtc *r) { return r->s.cmos[RTC_B] & RTC_B_SET; }

/* Go on from what the registers say; they are nobody's then. */
static void take_time(struct vrtc *r)
{
	uint64_t t;
	if (decode_time(r->s.cmos, &t))
		r->s.offset = (t + CYCLE - guest_clock(r)) % CYCLE;
	for (unsigned i = 0; i < FIELDS; i++)
		r->s.cmos[cell_of[i]] = 0;
}

static uint8_t cell_read(struct vrtc *r, unsigned cell)
{
	uint8_t now[RTC_CELLS];

	if (cell == RTC_D)
		return RTC_D_VRT;
	if (is_set(r))
		return r->s.cmos[cell];
	if (cell == RTC_A && wall(r) % NS_PER_SEC >= NS_PER_SEC - RTC_UPDATE_NS)
		return r->s.cmos[RTC_A] | RTC_A_UIP;
	if (!is_time(cell))
		return r->s.cmos[cell];
	now[RTC_B] = r->s.cmos[RTC_B];
	encode_time(rtc_time(r), now);
	return now[cell];
}

static void cell_write(struct vrtc *r, unsigned cell, uint8_t v)
{
	uint8_t *cmos = r->s.cmos;

	if (cell == RTC_C || cell == RTC_D)
		return;
	if (cell == RTC_A)
		v &= (uint8_t)~RTC_A_UIP;
	bool was_set = is_set(r);
	bool sets = cell == RTC_B ? v & RTC_B_SET : was_set;
	if (!was_set && (sets || is_time(cell)))
		encode_time(rtc_time(r), cmos);
	cmos[cell] = v;
	if (!sets && (was_set || is_time(cell)))
		take_time(r);
}

/* ---- ports ---- */

static bool is_there(const struct vrtc *r) { return r->dev.m->s.kind == MACHINE_PVH; }

static uint64_t vrtc_read(void *arg, uint64_t off, unsigned size)
{
	struct vrtc *r = arg;
	uint64_t v = 0;

	if (!is_there(r))
		return ~0UL;
	spin_lock(&r->lock);
	for (unsigned i = 0; i < size; i++)
		v |= (off + i ? cell_read(r, r->s.index & RTC_INDEX) : r->s.index) << 8 * i;
	spin_unlock(&r->lock);
	return v;
}

static void vrtc_write(void *arg, uint64_t off, unsigned size, uint64_t val)
{
	struct vrtc *r = arg;

	if (!is_there(r))
		return;
	spin_lock(&r->lock);
	for (unsigned i = 0; i < size; i++, val >>= 8) {
		if (off + i)
			cell_write(r, r->s.index & RTC_INDEX, (uint8_t)val);
		else
			r->s.index = val & 0xff;
	}
	spin_unlock(&r->lock);
}

/* ---- migration ---- */

/* clang-format off */
static const struct sfield vrtc_fields[] = {
	F(struct vrtc_state, offset), F(struct vrtc_state, index), F_ARR(struct vrtc_state, cmos),
};
/* clang-format on */

static bool vrtc_absent(const void *obj) { return !is_there(obj); }

static int vrtc_check(const void *obj unused, const void *state, struct why *w)
{
	const struct vrtc_state *s = state;
	if (s->offset >= CYCLE || s->index > 0xff || s->cmos[RTC_A] & RTC_A_UIP || s->cmos[RTC_C] || s->cmos[RTC_D])
		return why_set(w, -EINVAL, "rtc: index %lx, registers A %x, C %x, D %x, %lx seconds ahead", s->index,
			       s->cmos[RTC_A], s->cmos[RTC_C], s->cmos[RTC_D], s->offset);
	return 0;
}

static const struct sdesc vrtc_desc = {
	.name = "rtc",
	.version = 1,
	SDESC(struct vrtc, s, struct vrtc_state, vrtc_fields),
	.check = vrtc_check,
	.absent = vrtc_absent,
};

/* ---- life ---- */

static void vrtc_reset(struct dev *d)
{
	struct vrtc *r = CONTAINER_OF(d, struct vrtc, dev);
	uint8_t *cmos = r->s.cmos;
	uint64_t above_16m = MAX(d->m->mem->low, MIB(16)) - MIB(16);

	spin_lock(&r->lock);
	r->s.index = 0;
	if (is_set(r))
		take_time(r);
	cmos[RTC_A] = RTC_A_32KHZ;
	cmos[RTC_B] = RTC_B_24H;
	put_le16(cmos + RTC_ABOVE_16M, (uint16_t)(above_16m >> 16));
	put_le16(cmos + RTC_ABOVE_4G, (uint16_t)(d->m->mem->high >> 16));
	cmos[RTC_ABOVE_4G + 2] = (uint8_t)(d->m->mem->high >> 32);
	spin_unlock(&r->lock);
}

static void vrtc_fini(struct dev *d)
{
	bus_remove(&d->m->bus, BUS_PIO, PC_RTC);
	list_remove(&d->node);
	free(CONTAINER_OF(d, struct vrtc, dev));
}

static const struct dev_ops vrtc_ops = { .reset = vrtc_reset, .fini = vrtc_fini };
static const struct bus_ops vrtc_bus_ops = { vrtc_read, vrtc_write };

int vrtc_create(struct machine *m)
{
	struct vrtc *r = calloc(1, sizeof(*r));
	if (!r)
		return err_trace(-ENOMEM);
	int err = bus_add(&m->bus, BUS_PIO, &(struct bus_region){ PC_RTC, 2, &vrtc_bus_ops, r, "rtc" });
	if (err) {
		free(r);
		return err;
	}
	spin_init(&r->lock, "vrtc");
	dev_register(m, &r->dev, "rtc", 0, &vrtc_ops);
	dev_add_section(&r->dev, &vrtc_desc, r);
	vrtc_reset(&r->dev);
	return 0;
}

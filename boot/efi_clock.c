/* SPDX-License-Identifier: BSD-2-Clause */
/* The TSC's rate and the time of day, from the firmware. */
#include "boot/boot.h"

#define STALL_US 5000
#define STALLS   24

uint64_t efi_clock_tsc(void)
{
	uint32_t lo, hi;

	__asm__ volatile("lfence; rdtsc" : "=a"(lo), "=d"(hi) : : "memory");
	return (uint64_t)hi << 32 | lo;
}

/*
 * Stall(n) waits at least n microseconds (UEFI 7.5), so every disturbance (a timer interrupt, SMM, an emulator that was
 * not scheduled) makes a measurement longer and none makes it shorter: the smallest is nearest to the truth. Several
 * short ones rather than one long, for a chance that one goes undisturbed.
 */
static uint64_t measure_tsc_hz(void)
{
	uint64_t best = UINT64_MAX, start, ticks;

	for (int i = 0; i < STALLS; i++) {
		start = efi_clock_tsc();
		boot.bs->Stall(STALL_US);
		ticks = efi_clock_tsc() - start;
		best = MIN(best, ticks);
	}
	return best * (1000000 / STALL_US);
}

/*
 * Days from 1970-01-01 to a date of the Gregorian calendar; years are counted from March, so that leap days come last.
 */
static int64_t days_since_1970(int year, int month, int day)
{
	int y = month > 2 ? year : year - 1, m = month > 2 ? month - 3 : month + 9;

	return 365LL * y + y / 4 - y / 100 + y / 400 + (153 * m + 2) / 5 + day - 1 - 719468;
}

static uint64_t wall_seconds(const EFI_TIME *t)
{
	int64_t s;

	if (t->Year < 1970 || t->Year > 9999 || t->Month < 1 || t->Month > 12 || t->Day < 1 || t->Day > 31 ||
	    t->Hour > 23 || t->Minute > 59 || t->Second > 59)
		return 0;
	s = ((days_since_1970(t->Year, t->Month, t->Day) * 24 + t->Hour) * 60 + t->Minute) * 60 + t->Second;
	if (t->TimeZone >= -1440 && t->TimeZone <= 1440)
		s += t->TimeZone * 60LL; /* local = UTC - TimeZone (UEFI 8.3); 2047, unspecified, is taken as UTC */
	return s > 0 ? (uint64_t)s : 0;
}

void efi_clock_measure(void)
{
	EFI_TIME t;

	boot.h->tsc_hz = measure_tsc_hz();
	boot.h->wall_tsc = efi_clock_tsc();
	if (!EFI_ERROR(boot.st->RuntimeServices->GetTime(&t, NULL)))
		boot.h->wall_s = wall_seconds(&t);
	if (!boot.h->wall_s)
		say("the firmware gives no time of day; the log counts from 1970\n");
}

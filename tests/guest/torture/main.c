/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The torture guest's rounds. A lap is `rounds` of them; each lap begins with the same seed and so must end with the
 * same hash, in an undisturbed run and in one that was saved and restored all the time. Command line:
 *
 *   rounds=N   of a lap (64)          tick=US  between timer interrupts, on average (500)
 *   laps=N     then off; else it goes on for ever
 *   illegal    the timer sends an illegal vector, too, once a round
 *   nobreak    no hardware breakpoints (QEMU's emulation of them does not survive a guest's change of its host CPU)
 *   nocr8      CR8 is only read (QEMU 7.2 crashes when a guest writes it while an interrupt waits)
 *   noshadow   interrupts may come in the shadow of STI (QEMU before 10 forgets it at VMRUN)
 *   apart      breakpoints and interrupts do not meet: no watch on an interrupt's stack, and none comes while
 *              instructions have breakpoints (QEMU 10 loses the #DB in both cases: HACKING.md)
 *   twice      an interrupt that is delivered again before its handler has ended is left out (QEMU does so: HACKING.md)
 */
#include "torture.h"

uint64_t round_number;
bool with_breakpoints = true, breaks_meet_interrupts = true, strict_shadow = true, with_cr8 = true, with_illegal,
     left_out_twice;
static uint64_t sum;

void *memset(void *p, int c, size_t n)
{
	for (char *b = p; n--; b++) {
		*b = (char)c;
		__asm__ volatile("" ::: "memory"); /* or it becomes a call of itself */
	}
	return p;
}

void *memcpy(void *to, const void *from, size_t n)
{
	void *t = to;
	__asm__ volatile("rep movsb" : "+D"(t), "+S"(from), "+c"(n)::"memory");
	return to;
}

uint64_t mix(uint64_t x) /* splitmix64 */
{
	x += 0x9e3779b97f4a7c15ULL;
	x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9ULL;
	x = (x ^ x >> 27) * 0x94d049bb133111ebULL;
	return x ^ x >> 31;
}

void hash(uint64_t v) { sum = mix(sum ^ v); }

void bad(const char *what, uint64_t a, uint64_t b)
{
	irq_off();
	print("torture: BAD %s round %u: %x, must be %x\n", what, round_number, a, b);
	for (;;)
		__asm__ volatile("cli; hlt");
}

static void run_round(void)
{
	static void (*const parts[])(void) = {
		part_pages,       part_fpu,  part_steps,   part_user,   part_priorities, part_storm,
		part_breakpoints, part_cut,  part_watched, part_spaces, part_traps,      part_devices,
		part_shadow,      part_halt, part_illegal, part_nmi,
	};
	registers_set();
	for (unsigned i = 0; i < sizeof(parts) / sizeof(*parts); i++) {
		parts[i]();
		tsc_check();
		hash(i);
	}
	registers_check();
}

/* Value of "key=" on the command line, or 1 for a lone key; `def` if it is not there. */
static uint64_t option(const char *line, const char *key, uint64_t def)
{
	for (const char *p = line; *p;) {
		const char *k = key;
		for (; *p == ' '; p++)
			;
		for (; *k && *p == *k; p++, k++)
			;
		if (!*k && *p == '=') {
			uint64_t v = 0;
			for (p++; *p >= '0' && *p <= '9'; p++)
				v = v * 10 + (uint64_t)(*p - '0');
			return v;
		}
		if (!*k && (!*p || *p == ' '))
			return 1;
		for (; *p && *p != ' '; p++)
			;
	}
	return def;
}

_Noreturn void torture_main(const uint8_t *boot_params);
void torture_main(const uint8_t *boot_params)
{
	const char *line = (const char *)(uintptr_t) * (const uint32_t *)(boot_params + 0x228);
	uint64_t rounds = option(line, "rounds", 64), laps = option(line, "laps", 0), first = 0, done = 0;
	with_breakpoints = !option(line, "nobreak", 0);
	breaks_meet_interrupts = !option(line, "apart", 0);
	strict_shadow = !option(line, "noshadow", 0);
	with_cr8 = !option(line, "nocr8", 0);
	with_illegal = option(line, "illegal", 0);
	left_out_twice = option(line, "twice", 0);

	machine_init(option(line, "tick", 500));
	faults_init();
	debug_init();
	interrupts_init();
	timer_start();
	irq_on();
	print("torture: begins, AVX %u\n", (uint64_t)have_avx);
	for (uint64_t lap = 0; !laps || lap < laps; lap++) {
		uint64_t ticks_before = ticks;
		sum = 0;
		for (round_number = 0; round_number < rounds; round_number++, done++)
			run_round();
		if (ticks == ticks_before)
			bad("no timer interrupt", ticks, ticks + 1);
		first = lap ? first : sum;
		print("torture: %u rounds, hash %X, %u timer interrupts, %u steps, %u twice\n", done, sum, ticks,
		      steps_taken, came_twice);
		CHECK("hash of the lap", sum, first);
	}
	out8(0x600, 5 << 2 | 1 << 5); /* SLEEP_CONTROL: S5, now */
	bad("power off", 0, 1);
}

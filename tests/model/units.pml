/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The hand-over of a VM whose disks are on shared storage, from COMMIT on (migrate/handover.c, undecided.c,
 * vmm/lun_owner.c): two hosts, and a unit that is held by one key, which commands change if it is what they name.
 * Commands come late, or after those that were sent later; answers are lost. Who decides is in the product's own tables 1
 * and 2 (rules.pml). README.md says what is modelled and what is not; check.py runs it.
 *
 *   U1  two_runners: it runs at one host, unless an operator has taken the risk
 *   U2  image_gone: the source frees its image only if the VM was started
 *   U3  not_held: who starts it holds the unit
 *   U4  waits_for_ever: without further faults it runs somewhere, or nobody but an operator can know
 */
#include "rules.pml"

c_decl {
	static char seen[64];
	static void mark(int n)
	{
		if (!seen[n])
			printf("seen %d\n", n);
		seen[n] = 1;
	}
};
#define SEEN_STARTED      1
#define SEEN_TAKEN_BACK   2
#define SEEN_CLAIM_LOST   3
#define SEEN_LATE_PREEMPT 4
#define SEEN_RUNS_THERE   5
#define SEEN_CLAIMED_DEAD 6
#define SEEN_FORGOTTEN    7
#define SEEN_FORCED       8
#define SEEN_THIRD        9
#define SEEN_SECOND_TRY   10
#define SEEN_EARLIER_TRY  11
#define SEEN_NEVER        12
#define SEEN_RESERVED     13
#define SEEN_CALM         14
#define SEEN(n)       c_code { mark(n); }
#define SEEN_IF(c, n) if :: (c) -> SEEN(n) :: else fi

/* Keys. NOBODY: the target has restarted and has forgotten. */
#define NOBODY 0
#define S      1 /* COMMIT's */
#define C      2 /* the destination's: it came there */
#define R      3 /* the destination's: it runs there */
#define THIRD  4 /* another host's, by force */
#define B      5 /* the source's, from here on: one for each try */
#define TRIES  3
byte holder = S;

byte src = SOURCE_UNDECIDED; /* COMMIT is out */
byte rec = RECORD_READY;
bool s_up = true, d_up = true, s_runs, d_runs, ever;
bool commit = true, started, said_never;
bool word;                    /* `vm claim --force` */
bool forced;                  /* somebody has taken the risk */
byte next = S, tries;         /* the source's: by which it tried last */
/* Under way, or done and come once more: PREEMPT of S by C; REGISTER of C by R; the source's two last tries. */
bool preempt, marks;
byte from[2], to[2];
bool forgot, third, finished;
bool two_runners, image_gone, not_held, waits_for_ever;

hidden byte idx, act, h;

inline d_starts()
{
	two_runners = s_runs && !forced;
	assert(!two_runners); /* U1 */
	not_held = holder != C && !forced && !forgot;
	assert(!not_held); /* U3 */
	d_runs = true; ever = true; started = true
}

inline s_resumes()
{
	two_runners = d_runs && !forced;
	assert(!two_runners); /* U1 */
	not_held = holder != next && !forced && !forgot;
	assert(!not_held); /* U3 */
	s_runs = true
}

inline record(ev)
{
	idx = rec * RECORD_EVENTS + ev;
	act = record_act[idx];
	rec = record_next[idx];
	if
	:: act == ACT_CLAIM ->
#ifdef MUTANT_STARTS_FIRST
		d_starts();
#endif
		preempt = true
	:: act == ACT_START && !d_runs -> d_starts(); SEEN(SEEN_STARTED)
	:: act == ACT_DISCARD -> said_never = true
	:: else
	fi
}

inline source(ev)
{
	idx = src * SOURCE_EVENTS + ev;
	act = source_act[idx];
	src = source_next[idx];
	if
	:: act == ACT_RESUME -> s_resumes()
	:: act == ACT_FREE ->
		image_gone = !ever;
		assert(!image_gone) /* U2 */
	:: else
	fi
}

/* lun_owner_take_over's look: whose is it? */
inline d_looks()
{
	if
	:: holder == C || (holder == R && d_runs) -> record(RECORD_EV_CLAIMED)
#ifdef MUTANT_GIVES_UP
	:: holder == S -> rec = RECORD_NEVER; said_never = true
#endif
	:: holder != C && holder != R && holder != S && holder != NOBODY -> SEEN(SEEN_CLAIM_LOST); record(RECORD_EV_CLAIM_LOST)
	:: else
	fi
}

/* lun_owner_take_back, its first half: a look, and the command. Each key of its own host is its own. */
#if defined(MUTANT_TAKES_FORGOTTEN)
#define OURS(k) ((k) == S || (k) >= B || (k) == NOBODY)
#elif defined(MUTANT_LOST_TRY)
#define OURS(k) ((k) == S || (k) == next)
#else
#define OURS(k) ((k) == S || (k) >= B)
#endif
inline s_tries()
{
	h = holder;
	if
	:: OURS(h) || word ->
		if :: !OURS(h) -> forced = true; SEEN(SEEN_FORCED) :: else fi;
		SEEN_IF(tries > 0, SEEN_SECOND_TRY);
		SEEN_IF(h >= B, SEEN_EARLIER_TRY);
		from[1] = from[0]; to[1] = to[0];
#ifdef MUTANT_SAME_KEY
		next = S;
#else
		next = B + tries;
#endif
		tries++;
		from[0] = h; to[0] = next;
#ifdef MUTANT_NO_SWAP
		SEEN(SEEN_TAKEN_BACK);
		next = h;
		source(SOURCE_EV_TAKEN_BACK)
#endif
	:: else
	fi
}

/* The second: does it hold it now? Or its destination's host, with the mark of one that runs? */
inline s_looks()
{
	if
	:: holder == next && tries > 0 ->
		SEEN(SEEN_TAKEN_BACK);
		source(SOURCE_EV_TAKEN_BACK)
	:: holder == R -> SEEN(SEEN_RUNS_THERE); source(SOURCE_EV_RUNS_THERE)
#ifdef MUTANT_FREED_ON_CLAIM
	:: holder == C -> source(SOURCE_EV_RUNS_THERE)
#endif
	:: else
	fi
}

inline does(i)
{
	if :: to[i] != NOBODY && holder == from[i] -> holder = to[i] :: else fi
}

/* U4: what is under way comes, and everybody goes on trying. */
inline calm()
{
	if :: commit && d_up && rec == RECORD_READY -> record(RECORD_EV_COMMIT_UNIT) :: else fi;
	commit = false;
	if :: d_up && rec == RECORD_READY -> record(RECORD_EV_GIVE_UP) :: else fi;
	if :: holder == S && d_up && rec == RECORD_CLAIMING -> holder = C :: else fi;
	does(1);
	does(0);
	if :: d_up && rec == RECORD_CLAIMING -> d_looks() :: else fi;
	if :: s_up && src == SOURCE_UNDECIDED && started -> source(SOURCE_EV_STARTED) :: else fi;
	if
	:: s_up && src == SOURCE_UNDECIDED && OURS(holder) && holder != NOBODY -> next = holder; source(SOURCE_EV_TAKEN_BACK)
	:: else
	fi;
	waits_for_ever = !s_runs && !d_runs && s_up && src == SOURCE_UNDECIDED && holder != NOBODY && holder != THIRD &&
			 !(holder == C && !d_up) && !(holder == R && !d_up);
	waits_for_ever = waits_for_ever || (d_up && rec == RECORD_CLAIMING && holder != NOBODY);
	assert(!waits_for_ever); /* U4 */
	SEEN(SEEN_CALM);
	finished = true
}

active proctype world()
{
	do
	:: !finished ->
		if
		/* ---- the destination ---- */
		:: d_step { d_up && commit && rec == RECORD_READY -> commit = false; record(RECORD_EV_COMMIT_UNIT) }
		:: d_step { d_up && rec == RECORD_READY -> record(RECORD_EV_GIVE_UP) }
		:: d_step { d_up && rec == RECORD_CLAIMING -> record(RECORD_EV_GIVE_UP) }
		:: d_step { d_up && rec == RECORD_CLAIMING -> d_looks() }
		:: d_step { d_up && d_runs && holder == C -> marks = true }
		:: d_step { d_up && d_runs && holder == NOBODY -> SEEN(SEEN_RESERVED); holder = R }
		/* ---- the source: answers, QUERY, its operator, the unit ---- */
		:: d_step { s_up && src == SOURCE_UNDECIDED && started -> started = false; source(SOURCE_EV_STARTED) }
		:: d_step { s_up && src == SOURCE_UNDECIDED && d_up && rec != RECORD_NONE -> record(RECORD_EV_QUERY); started = started || act == ACT_SAY_STARTED }
		:: d_step { s_up && src == SOURCE_UNDECIDED && said_never -> SEEN(SEEN_NEVER); said_never = false }
		:: d_step { s_up && src == SOURCE_UNDECIDED && !word -> word = true }
		:: d_step { s_up && src == SOURCE_UNDECIDED && tries < TRIES -> s_tries() }
		:: d_step { s_up && src == SOURCE_UNDECIDED -> s_looks() }
		:: d_step { s_up && s_runs && holder == NOBODY -> SEEN(SEEN_RESERVED); holder = next }
		/* ---- the target ---- */
		:: d_step { preempt && holder == S -> SEEN_IF(rec != RECORD_CLAIMING, SEEN_LATE_PREEMPT); holder = C }
		:: d_step { marks && holder == C -> marks = false; holder = R }
		:: d_step { to[0] != NOBODY && holder == from[0] -> holder = to[0] }
		:: d_step { to[1] != NOBODY && holder == from[1] -> holder = to[1] }
		/* ---- faults ---- */
		:: d_step { !forgot && holder != NOBODY -> forgot = true; SEEN(SEEN_FORGOTTEN); holder = NOBODY }
		:: d_step { !third -> third = true; forced = true; SEEN(SEEN_THIRD); holder = THIRD }
		:: d_step { s_up -> s_up = false; s_runs = false }
		:: d_step { d_up -> SEEN_IF(holder == C, SEEN_CLAIMED_DEAD); d_up = false; d_runs = false; rec = RECORD_NONE; started = false; said_never = false }
		:: d_step { calm() }
		fi
	:: finished -> break
	od
}

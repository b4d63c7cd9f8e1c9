/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Post-copy (vmm/migrate/remote.h, pull.h) from COMMIT on, between two hosts: the image at the source is part of the VM
 * until the destination has all of it. Who decides what is in the product's own tables 1 and 2 (rules.pml). README.md
 * says what is modelled and what is not; check.py runs it.
 *
 *   R1  memory_gone: the source frees its image only when the destination needs nothing of it, or at the operator's word
 *   R2  ran_again: what was started at the destination never runs at the source again
 *   R3  lost_but_alive: nobody is told that the VM is lost while it runs and the source has what it lacks
 *   R4  waits_for_ever: without further faults it ends, or an operator has been told
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
#define SEEN_ALL_HEARD    1
#define SEEN_REJOINED     2
#define SEEN_ALL_AGAIN    3
#define SEEN_LOST         4
#define SEEN_RESUMED      5
#define SEEN_FORGOTTEN    6
#define SEEN_ENDED        7
#define SEEN_SOURCE_DIED  8
#define SEEN_RESENT       9
#define SEEN_CLAIM_DENIED 10
#define SEEN_CALM         11
#define SEEN(n)    c_code { mark(n); }

#define FRAMES 2
#define CUTS   3

byte src = SOURCE_UNDECIDED; /* COMMIT is out */
byte rec = RECORD_READY;
bool ever;                   /* it was started */
bool s_up = true, image = true, serves, s_runs;
bool d_new, d_runs, ended, pulls; /* the destination has restarted; the guest has ended; it still asks for frames */
byte lacks = 3, left = 3;    /* bits: frames that are absent; that the source has not sent */
bool told;                   /* an operator: lost, or nobody knows it */
/* The connection, and what is under way on it. */
bool link = true, commit = true, started, all, done;
byte demands, pages;
byte cuts;
bool finished, said_done;
/* Names of what is violated. */
bool memory_gone, ran_again, lost_but_alive, waits_for_ever;

hidden byte idx, act, f;

inline cut()
{
	link = false; commit = false; started = false; all = false; done = false; demands = 0; pages = 0
}

inline free_image()
{
	memory_gone = d_runs && lacks != 0;
	assert(!memory_gone); /* R1 */
	image = false; serves = false; left = 0
}

inline record(ev)
{
	idx = rec * RECORD_EVENTS + ev;
	act = record_act[idx];
	rec = record_next[idx];
	if :: act == ACT_START -> ever = true; d_runs = true; pulls = true :: else fi
}

/* SOURCE_FREED is not yet that: in post-copy it serves what it has. */
inline source(ev)
{
	idx = src * SOURCE_EVENTS + ev;
	act = source_act[idx];
	src = source_next[idx];
	if :: act == ACT_RESUME -> runs_here(); SEEN(SEEN_RESUMED) :: else fi;
	if
	:: src == SOURCE_FREED ->
#ifdef MUTANT_FREED_ON_STARTED
		free_image()
#else
		serves = true
#endif
	:: else
	fi
}

inline runs_here()
{
	ran_again = ever;
	assert(!ran_again); /* R2 */
	s_runs = true
}

/* ALL is heard, by the connection on which DONE goes back. */
inline has_all()
{
	free_image();
	if :: !said_done -> done = link; said_done = true :: else fi
}

inline lost()
{
	lost_but_alive = d_runs && !d_new && s_up && image;
	assert(!lost_but_alive); /* R3 */
	told = true
}

inline ask()
{
	record(RECORD_EV_QUERY);
	if
	:: act == ACT_SAY_STARTED -> source(SOURCE_EV_STARTED)
	:: act == ACT_SAY_NEVER || act == ACT_DISCARD -> source(SOURCE_EV_NEVER)
	:: else -> told = true
	fi
}

/* A connection that the source makes, and REJOIN. */
inline rejoin()
{
	link = true;
	if
	:: d_new -> SEEN(SEEN_LOST); lost(); cut()
	:: !d_new && pulls -> if :: lacks & ~left -> SEEN(SEEN_RESENT) :: else fi; left = lacks; SEEN(SEEN_REJOINED)
	:: !d_new && !pulls && rec == RECORD_STARTED -> SEEN(SEEN_ALL_AGAIN); said_done = false; has_all()
	:: else -> lost(); cut()
	fi
}

inline recv_done()
{
	record(RECORD_EV_DONE); done = false
}

/* R4: no faults from here on. */
inline calm()
{
	if :: s_up && src == SOURCE_UNDECIDED -> cut(); ask() :: else fi;
	if :: s_up && serves && !told -> cut(); rejoin() :: else fi;
	if
	:: s_up && serves && link && pulls -> lacks = 0; pulls = false; has_all(); if :: done -> recv_done() :: else fi
	:: else -> if :: done -> recv_done() :: else fi
	fi;
	waits_for_ever = s_up && ((serves || src == SOURCE_UNDECIDED) && !told);
	assert(!waits_for_ever);
	waits_for_ever = pulls && s_up && !told && src == SOURCE_FREED && image;
	assert(!waits_for_ever); /* R4 */
	SEEN(SEEN_CALM);
	finished = true
}

active proctype world()
{
	do
	:: !finished ->
		if
		/* ---- the hand-over ---- */
		:: d_step { commit && rec == RECORD_READY -> commit = false; record(RECORD_EV_COMMIT); started = link }
		:: d_step { rec == RECORD_READY && !d_new -> record(RECORD_EV_GIVE_UP) }
		:: d_step { started && src == SOURCE_UNDECIDED -> started = false; source(SOURCE_EV_STARTED) }
		:: d_step { s_up && src == SOURCE_UNDECIDED && !link -> ask() }
		/* ---- frames ---- */
		:: d_step { link && pulls && !ended && (lacks & 1) && !(demands & 1) -> demands = demands | 1 }
		:: d_step { link && pulls && !ended && (lacks & 2) && !(demands & 2) -> demands = demands | 2 }
		:: d_step { link && serves && (demands & 1) ->
			demands = demands & 2; pages = pages | (left & 1); left = left & 2 }
		:: d_step { link && serves && (demands & 2) ->
			demands = demands & 1; pages = pages | (left & 2); left = left & 1 }
		:: d_step { link && pulls && (pages & 1) -> pages = pages & 2; assert(lacks & 1); lacks = lacks & 2 }
		:: d_step { link && pulls && (pages & 2) -> pages = pages & 1; assert(lacks & 2); lacks = lacks & 1 }
#ifdef MUTANT_DONE_BEFORE_ALL
		:: d_step { link && serves && left == 0 && !said_done -> done = true; said_done = true }
#endif
		/* ---- the end ---- */
		:: d_step { link && pulls && (lacks == 0 || ended) -> pulls = false; all = true }
		:: d_step { pulls && !link && (lacks == 0 || ended) -> pulls = false }
		:: d_step { all && serves -> all = false; SEEN(SEEN_ALL_HEARD); has_all() }
		:: d_step { done -> recv_done() }
		:: d_step { d_runs && !ended -> SEEN(SEEN_ENDED); ended = true; d_runs = false }
		/* ---- faults, and the operator ---- */
		:: d_step { link && cuts < CUTS -> cuts++; cut() }
		:: d_step { s_up && serves && !link && !told -> rejoin() }
		:: d_step { !d_new -> d_new = true; d_runs = false; pulls = false; rec = RECORD_NONE; cut() }
		:: d_step { s_up -> SEEN(SEEN_SOURCE_DIED); s_up = false; image = false; serves = false; s_runs = false;
			src = SOURCE_RUNS; cut() }
		:: d_step { s_up && serves && told -> SEEN(SEEN_FORGOTTEN); image = false; serves = false; cut() }
		:: d_step { s_up && serves -> SEEN(SEEN_CLAIM_DENIED);
#ifdef MUTANT_CLAIM_SERVING
			runs_here()
#else
			skip
#endif
			}
		:: d_step { calm() }
		fi
	:: else -> break
	od
}

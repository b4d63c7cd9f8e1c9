/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Post-copy (vmm/migrate/remote.c, pull.c) from COMMIT on, between two hosts: the image at the source is part of the VM
 * until the destination has all of it. Who decides what is in the product's own tables 1 and 2 (rules.pml). README.md
 * says what is modelled and what is not; check.py runs it.
 *
 *   R1  memory_gone: the source frees its image only when the destination needs nothing of it, or at the operator's word
 *   R2  ran_again: what was started at the destination never runs again from the source's image
 *   R3  lost_but_alive: nobody is told that the VM is lost while it runs and the source has what it lacks
 *   R4  waits_for_ever: without further faults it ends, or the operators of both hosts have been told
 *   R5  came_twice: a frame comes while it is absent; what is there is the guest's, and may be newer
 *   R6  old_memory: no frame comes that is of another attempt
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
#define SEEN_DENIED       10
#define SEEN_CALM         11
#define SEEN_REJOIN_CUT   12
#define SEEN_OLD_PAGE     13
#define SEEN_RESET        14
#define SEEN_WORD_DROPPED 15
#define SEEN_WORD_TAKEN   16
#define SEEN_GONE_TOLD    17
#define SEEN_CAME_BACK    18
#define SEEN_STALE_REJOIN 19
#define SEEN(n)    c_code { mark(n); }

#define CUTS 3

byte src = SOURCE_UNDECIDED; /* COMMIT is out */
byte rec = RECORD_READY;
bool ever;                   /* it was started */
bool s_up = true, image = true, serves;
bool word;                   /* the source's operator has said `vm forget --force` while it was undecided */
bool told, d_told;           /* the source's operator: lost, or nobody knows it; the destination's: the source is gone */

/* The guest at the destination. WAITS: it has reset itself, and goes on when all of its memory is there (ctl_task). */
#define NOWHERE 0
#define RUNS    1
#define WAITS   2
#define ENDED   3 /* off, failed, or `vm kill` */
byte guest;
bool d_new, pulls;           /* the destination has restarted; pull_run */
bool back;                   /* the VM has gone on, come back by post-copy from a third host, and lacks that one's frames */
/* Bits of frames: absent; that the source has not sent since it was told what is (gmem_track). */
byte lacks = 3, left = 3;

/* The source's connection, and what is under way on it. The destination's task reads it from MAP on (attached). */
#define LINK_NONE   0
#define LINK_REJOIN 1
#define LINK_MAP    2
#define LINK_ON     3
byte link = LINK_ON;
bool attached = true;
bool commit = true, started, all, done;
byte demands, pages, map;
#define RANGE 4 /* a demand for both frames; 1 and 2: for one that somebody waits for */
/* One that the source has given up, and the destination still reads. */
byte old_pages;
byte cuts;
bool finished, said_done;
/* Names of what is violated. */
bool memory_gone, ran_again, lost_but_alive, waits_for_ever, came_twice, old_memory;

hidden byte idx, act;

#define NEEDS (lacks != 0 && !back && (guest == RUNS || guest == WAITS))

inline cut()
{
	link = LINK_NONE; attached = false;
	commit = false; started = false; all = false; done = false; demands = 0; pages = 0; map = 0
}

/* The image goes, and nobody has said that it may: but for ALL. */
inline free_image()
{
	memory_gone = NEEDS;
	assert(!memory_gone); /* R1 */
	image = false; serves = false; left = 0
}

/* `vm forget --force`: the operator takes the risk. The destination hears of it by SETTLE. */
inline forget()
{
	image = false; serves = false; left = 0; word = false; cut()
}

inline runs_from_image()
{
	ran_again = ever;
	assert(!ran_again) /* R2 */
}

inline record(ev)
{
	idx = rec * RECORD_EVENTS + ev;
	act = record_act[idx];
	rec = record_next[idx];
	if :: act == ACT_START -> ever = true; guest = RUNS; pulls = true :: else fi
}

/* remote_serve begins: what was said while it was undecided was said of something else (forget_words). */
inline serve()
{
#ifdef MUTANT_FREED_ON_STARTED
	free_image()
#else
	serves = true;
#ifdef MUTANT_WORDS_KEPT
	if :: word -> free_image() :: else fi
#endif
	if :: word -> SEEN(SEEN_WORD_DROPPED); word = false :: else fi
#endif
}

inline source(ev)
{
	idx = src * SOURCE_EVENTS + ev;
	act = source_act[idx];
	src = source_next[idx];
	if :: act == ACT_RESUME -> runs_from_image(); SEEN(SEEN_RESUMED) :: else fi
}

/* QUERY, and what comes of it (take_decision): STARTED comes before the operator's word, which comes before NEVER. */
inline ask()
{
	record(RECORD_EV_QUERY);
	if
	:: act == ACT_SAY_STARTED -> source(SOURCE_EV_STARTED); serve()
	:: act != ACT_SAY_STARTED && word -> SEEN(SEEN_WORD_TAKEN); source(SOURCE_EV_FORGET); forget()
	:: !word && (act == ACT_SAY_NEVER || act == ACT_DISCARD) -> source(SOURCE_EV_NEVER)
	:: else -> told = true
	fi
}

/* ALL is heard, by the connection on which DONE goes back. */
inline has_all()
{
	all = false;
	free_image();
	if :: !said_done -> done = (link != LINK_NONE); said_done = true :: else fi
}

/* once_more: a connection. Its greeting says who is there; then REJOIN, and what it lacked before is of no meaning (read_map). */
inline connect()
{
	if
	:: d_new ->
		SEEN(SEEN_LOST);
		lost_but_alive = NEEDS && s_up && image;
		assert(!lost_but_alive); /* R3 */
		told = true
	:: else ->
		link = LINK_REJOIN;
#ifndef MUTANT_OWN_SET
		left = 0
#endif
	fi
}

#ifdef MUTANT_REJOIN_BY_VM
#define IS_ITS_OWN pulls
#else
#define IS_ITS_OWN (pulls && !back)
#endif
/* pull_rejoin: to the task that pulls, which has let go of the connection before when it sends the map; or ALL; or nothing. */
inline recv_rejoin()
{
	if
	:: IS_ITS_OWN ->
		SEEN(SEEN_REJOINED);
#ifndef MUTANT_MAP_BEFORE_END
		old_pages = 0;
#endif
		attached = true; map = lacks; link = LINK_MAP
	:: !IS_ITS_OWN && rec == RECORD_STARTED ->
		SEEN(SEEN_ALL_AGAIN);
		if :: back && pulls -> SEEN(SEEN_STALE_REJOIN) :: else fi;
		said_done = false; all = true; link = LINK_MAP
	:: else -> cut() /* UNKNOWN: once more */
	fi
}

inline recv_map()
{
	if :: map & ~left & 3 -> SEEN(SEEN_RESENT) :: else fi;
#ifndef MUTANT_OWN_SET
	left = map;
#endif
	map = 0; link = LINK_ON
}

/* A frame comes (pages_recv). */
inline came(one)
{
	came_twice = !(lacks & one);
	assert(!came_twice); /* R5 */
	old_memory = back;
	assert(!old_memory); /* R6 */
	lacks = lacks & ~one
}

/* DEMAND is served (pages_send_range): of the frames asked for those that are in the set, which leave it. */
inline send(bits)
{
	pages = pages | (left & (bits));
#ifndef MUTANT_STAYS_IN_SET
	left = left & ~(bits)
#endif
}

/* link_run ends: nothing is absent, or the guest has ended; one that has reset itself goes on with its memory (is_over). */
#ifdef MUTANT_RESET_IS_END
#define IS_OVER (guest == ENDED || guest == WAITS)
#else
#define IS_OVER (guest == ENDED)
#endif
#ifdef MUTANT_ALL_WHEN_ASKED
#define HAS_ALL ((demands & RANGE) || (lacks & ~(demands | pages)) == 0)
#else
#define HAS_ALL (lacks == 0)
#endif

/* SETTLE: does the source still hold the attempt (migration_told)? No: the record goes, and who lacks memory is lost. */
#ifdef MUTANT_SETTLED_WHILE_SERVED
#define HOLDS (s_up && src == SOURCE_UNDECIDED)
#else
#define HOLDS (s_up && (src == SOURCE_UNDECIDED || serves))
#endif
inline settle()
{
	record(RECORD_EV_DONE);
#ifndef MUTANT_GONE_UNTOLD
	if
	:: pulls && lacks != 0 && !back ->
		SEEN(SEEN_GONE_TOLD);
		lost_but_alive = s_up && image;
		assert(!lost_but_alive); /* R3 */
		d_told = true
	:: else
	fi
#endif
}

inline recv_done()
{
	record(RECORD_EV_DONE); done = false
}

/* R4: no faults from here on. What is under way comes, and each wait is for somebody who answers. */
inline calm()
{
	record(RECORD_EV_GIVE_UP);
	if :: back && pulls -> lacks = 0; pulls = false :: else fi;
	if :: s_up && src == SOURCE_UNDECIDED -> cut(); ask() :: else fi;
	if :: serves && !told && link == LINK_NONE -> connect() :: else fi;
	if :: serves && link == LINK_REJOIN -> recv_rejoin() :: else fi;
	if :: serves && link == LINK_MAP && !all -> recv_map() :: else fi;
	if
	:: serves && attached && pulls ->
		lacks = lacks & ~pages & ~left;
		if :: lacks == 0 || IS_OVER -> pulls = false; all = true :: else fi
	:: else
	fi;
	if :: all && serves -> has_all() :: else fi;
	if :: done -> recv_done() :: else fi;
	if :: pulls && (lacks == 0 || IS_OVER) -> pulls = false :: else fi;
	if :: !HOLDS && (rec == RECORD_STARTED || rec == RECORD_NEVER) -> settle() :: else fi;
#ifndef SAFETY_ONLY /* for a mutant that R4 would notice as well, and first */
	waits_for_ever = (s_up && (serves || src == SOURCE_UNDECIDED) && !told) || (pulls && !d_told);
	assert(!waits_for_ever); /* R4 */
#endif
	SEEN(SEEN_CALM);
	finished = true
}

active proctype world()
{
	do
	:: !finished ->
		if
		/* ---- the hand-over ---- */
		:: d_step { commit && rec == RECORD_READY -> commit = false; record(RECORD_EV_COMMIT); started = (link != LINK_NONE) }
		:: d_step { rec == RECORD_READY && !d_new -> record(RECORD_EV_GIVE_UP) }
		:: d_step { started && src == SOURCE_UNDECIDED -> started = false; source(SOURCE_EV_STARTED); serve() }
		:: d_step { s_up && src == SOURCE_UNDECIDED && link == LINK_NONE -> ask() }
		:: d_step { s_up && src == SOURCE_UNDECIDED && link == LINK_NONE -> word = true }
		/* ---- frames ---- */
		:: d_step { attached && pulls && guest == RUNS && (lacks & ~demands & 1) -> demands = demands | 1 }
		:: d_step { attached && pulls && guest == RUNS && (lacks & ~demands & 2) -> demands = demands | 2 }
		:: d_step { attached && pulls && guest != ENDED && lacks != 0 && !(demands & RANGE) -> demands = demands | RANGE }
		:: d_step { link == LINK_ON && serves && (demands & 1) -> demands = demands & ~1; send(1) }
		:: d_step { link == LINK_ON && serves && (demands & 2) -> demands = demands & ~2; send(2) }
		:: d_step { link == LINK_ON && serves && (demands & RANGE) -> demands = demands & ~RANGE; send(3) }
		:: d_step { attached && pulls && guest != ENDED && (pages & 1) -> pages = pages & ~1; came(1) }
		:: d_step { attached && pulls && guest != ENDED && (pages & 2) -> pages = pages & ~2; came(2) }
		:: d_step { pulls && guest != ENDED && old_pages != 0 -> SEEN(SEEN_OLD_PAGE); came(old_pages); old_pages = 0 }
#ifdef MUTANT_DONE_BEFORE_ALL
		:: d_step { link == LINK_ON && serves && left == 0 && !said_done -> done = true; said_done = true }
#endif
		/* ---- a connection ---- */
		:: d_step { link == LINK_REJOIN -> recv_rejoin() }
		:: d_step { link == LINK_MAP && serves && !all -> recv_map() }
		:: d_step { s_up && serves && link == LINK_NONE && !told -> connect() }
		/* ---- the end ---- */
		:: d_step { attached && pulls && !back && (HAS_ALL || IS_OVER) -> pulls = false; attached = false; all = true }
		:: d_step { pulls && !attached && (lacks == 0 || IS_OVER) -> pulls = false; old_pages = 0 }
		:: d_step { all && serves -> SEEN(SEEN_ALL_HEARD); has_all() }
		:: d_step { done -> recv_done() }
		:: d_step { !d_new && !HOLDS && (rec == RECORD_STARTED || rec == RECORD_NEVER) -> settle() }
		/* ---- the guest, and the operator there ---- */
		:: d_step { guest == RUNS || guest == WAITS -> SEEN(SEEN_ENDED); guest = ENDED }
		:: d_step { guest == RUNS && pulls -> SEEN(SEEN_RESET); guest = WAITS }
		:: d_step { guest == WAITS && !pulls -> guest = RUNS }
		:: d_step { guest == RUNS && !pulls && !back -> SEEN(SEEN_CAME_BACK); back = true; pulls = true; lacks = 3 }
		:: d_step { back && pulls -> pulls = false; lacks = 0 }
		/* ---- faults ---- */
		:: d_step { link != LINK_NONE && cuts < CUTS ->
			if :: link == LINK_MAP && !all -> SEEN(SEEN_REJOIN_CUT) :: else fi;
			cuts++; cut()
#ifdef MUTANT_FREED_AT_END
			; if :: serves -> free_image() :: else fi
#endif
			}
		/* The source alone has seen the end: the destination reads on, what was there already. One frame is enough. */
		:: d_step { attached && pulls && pages != 0 && old_pages == 0 && cuts < CUTS ->
			old_pages = (pages & 1 -> 1 : 2); cuts++; cut() }
		:: d_step { old_pages != 0 -> old_pages = 0 }
		:: d_step { !d_new -> d_new = true; guest = NOWHERE; pulls = false; rec = RECORD_NONE; old_pages = 0; cut() }
		:: d_step { s_up -> SEEN(SEEN_SOURCE_DIED); s_up = false; image = false; serves = false; word = false;
			src = SOURCE_RUNS; left = 0; cut() }
		/* ---- the operator at the source: all but `vm forget --force` is refused ---- */
		:: d_step { s_up && serves -> SEEN(SEEN_FORGOTTEN); forget() }
		:: d_step { s_up && serves -> SEEN(SEEN_DENIED);
#ifdef MUTANT_CLAIM_SERVING
			runs_from_image() /* vm claim */
#endif
#ifdef MUTANT_MOVE_SERVING
			runs_from_image() /* migrate, to a third host, which starts it */
#endif
#ifdef MUTANT_KILL_SERVING
			free_image() /* vm kill */
#endif
			}
		:: d_step { calm() }
		fi
	:: else -> break
	od
}

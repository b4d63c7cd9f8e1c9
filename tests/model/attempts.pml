/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Attempts to move one running VM away, from the first pass on: the blocks of a disk's layer and what says that they are
 * to be sent (vmm/layer.c, layer_track.c, migrate/pages.c), the slowing of vCPUs (x86/stun.c, migrate/precopy.c), what
 * operators on both sides and the guest ask for meanwhile (migrate/migrate.c, migration*.c, vm_life.c), and a second
 * attempt, while the first is under way or later. Who decides is in the product's own tables 1 and 2 (rules.pml).
 * README.md says what is modelled and what is not; check.py runs it.
 *
 *   A1  lost_write: where the VM starts its disk has all that was acknowledged to it
 *   A2  two_runners: it runs at one host
 *   A3  left_slowed: no vCPU is slowed that goes on after an attempt
 *   A4  cancel_broken: what an operator has cancelled, and was told so, starts nowhere else
 *   A5  kill_broken: the same for `vm kill`
 *   A6  request_lost: a guest that has switched itself off, or reset, does not go on elsewhere as if it had not
 *   A7  waits_for_ever: without further faults each attempt ends, and what was asked for is carried out
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
#define SEEN_STARTED          1
#define SEEN_RETRIED          2
#define SEEN_SENT_AGAIN       3
#define SEEN_SLOWED           4
#define SEEN_SLOWED_FAILS     5
#define SEEN_SLOWED_COMMITS   6
#define SEEN_CANCELLED        7
#define SEEN_CANCELLED_LATE   8
#define SEEN_CANCELLED_DEST   9
#define SEEN_CANCELLED_BOTH   10
#define SEEN_SECOND_DENIED    11
#define SEEN_KILL_DENIED      12
#define SEEN_RESUME_DENIED    13
#define SEEN_KILLED           14
#define SEEN_REQUEST_STOPS    15
#define SEEN_REQUEST_IN_PAUSE 16
#define SEEN_OFF              17
#define SEEN_RESET            18
#define SEEN_RESUMED          19
#define SEEN_WRITE_MEANWHILE  20
#define SEEN_LATE_COMMIT      21
#define SEEN_TORN             22
#define SEEN_CALM             23
#define SEEN(n)       c_code { mark(n); }
#define SEEN_IF(c, n) if :: (c) -> SEEN(n) :: else fi

#define TRIES  2
#ifndef WRITES
#define WRITES 2
#endif

/* The VM at its source. */
#define RUNNING 0
#define PAUSED  1 /* by a migration, or because its guest has asked for something */
#define OFF     2
#define GONE    3
byte vm;
byte bound;          /* attempts that it is bound to (vm->migration) */
bool slowed;         /* some vCPU's share is not full */
byte request;        /* vm->power_request */
#define ASKED_OFF   1
#define ASKED_RESET 2
bool ctl;            /* its task "NAME/ctl" is under way */
bool killed;         /* `vm kill` was answered with yes */
/* Its disk: two blocks, both in the layer, in one leaf. Data is how often it was written to, or zeroed; bits are of blocks. */
byte data[2];
byte zeros;          /* it has no page */
byte dirty, set;     /* LAYER_DIRTY, LAYER_SEND */
bool leaf_dirty, leaf_set = true;
byte busy;           /* what its device has under way: a write to block + 1; */
#define ZERO   2     /* added: BLOCKDEV_ZERO */
#define MARKED 4     /* added, of a mutant: the mark is there already */
byte writes;

/* Each attempt, at its source. */
#define NONE    0
#define PASS    1 /* over the running guest */
#define PAUSING 2 /* vm_pause has found nothing against it, and halts vCPUs and devices */
#define HALTED  3
#define FINAL   4 /* the last pass */
#define READY   5
#define SENT    6 /* COMMIT, and no answer */
#define BACK    7 /* it has come to nothing: the VM goes on, and is bound still */
#define OVER    8
byte phase[TRIES], src[TRIES];
byte taken[TRIES];   /* block + 1, whose mark has been taken away and whose page has not been read yet */
bool torn[TRIES];    /* ... which has been freed since, and may have another block's data by now (drop_page) */
byte read_[TRIES];   /* of a mutant: what was read before */
bool cancel[TRIES], committed[TRIES], halted[TRIES]; /* m->cancel, m->committed, c->paused */
bool commit[TRIES];  /* under way */
/* ... and at its destination, of which each has one. */
byte rec[TRIES];
byte there[TRIES * 2];
bool d_cancel[TRIES], d_committed[TRIES];
bool started;
byte half;           /* of a mutant: a look at what is dirty is in its middle */
bool finished;
bool lost_write, two_runners, left_slowed, cancel_broken, kill_broken, request_lost, waits_for_ever;

hidden byte idx, act, b, n;

/* ---- the layer; each of these holds its lock ---- */

inline write(blk, zero)
{
	n = 1 << (blk);
#ifdef MUTANT_ZERO_UNMARKED
	if :: !zero -> dirty = dirty | n; leaf_dirty = true :: else fi;
#else
#ifndef MUTANT_MARK_FIRST
	dirty = dirty | n; leaf_dirty = true;
#endif
#endif
	if
	:: zero ->
		zeros = zeros | n;
		torn[0] = torn[0] || taken[0] == (blk) + 1;
		torn[1] = torn[1] || taken[1] == (blk) + 1
	:: else -> zeros = zeros & ~n
	fi;
	data[blk]++
}

/* layer_track_fill: all that it has. */
inline fill()
{
	set = 3; dirty = 0; leaf_set = true; leaf_dirty = false
}

/* layer_track_harvest: leaves that have no mark are passed over. */
inline harvest()
{
	if
	:: leaf_dirty ->
		SEEN_IF(dirty & set, SEEN_SENT_AGAIN);
		leaf_set = leaf_set || dirty != 0;
		set = set | dirty; dirty = 0;
#ifdef MUTANT_LEAF_LATER
		half = 1
#else
		leaf_dirty = false
#endif
	:: else
	fi
}

/* layer_track_take */
inline take(a, blk)
{
	set = set & ~(1 << (blk)); dirty = dirty & ~(1 << (blk));
#ifdef MUTANT_READ_FIRST
	taken[a] = (blk) + 1
#else
	if
	:: zeros & (1 << (blk)) -> there[(a) * 2 + (blk)] = data[blk]
	:: else -> taken[a] = (blk) + 1
	fi
#endif
}

/* pages_flush: the data is read from where it lies, or lay. */
inline send(a)
{
	b = taken[a] - 1;
	SEEN_IF(dirty & (1 << b), SEEN_WRITE_MEANWHILE);
#ifdef MUTANT_READ_FIRST
	there[(a) * 2 + b] = read_[a];
	read_[a] = 0;
#else
	SEEN_IF(torn[a], SEEN_TORN);
	there[(a) * 2 + b] = (torn[a] -> 0 : data[b]);
#endif
	taken[a] = 0; torn[a] = false
}

#define ALL_SENT(a) (set == 0 && taken[a] == 0)
#define HAS(blk)    (leaf_set && (set & (1 << (blk))))

/* ---- the source ---- */

/* migration_bind_leaver, source_new, precopy_run */
inline begin(a)
{
	bound++;
	SEEN_IF(a == 1, SEEN_RETRIED);
	phase[a] = PASS;
	rec[a] = record_next[RECORD_NONE * RECORD_EVENTS + RECORD_EV_OFFER];
#ifdef MUTANT_RETRY_HARVESTS
	if :: a == 0 -> fill() :: else -> harvest() fi
#else
	fill()
#endif
}

/* vm_resume; one that waits with a request is let go on by vm_migration_ended alone. */
inline resume()
{
	if
	:: vm == PAUSED && request == 0 ->
		left_slowed = slowed;
		assert(!left_slowed); /* A3 */
		SEEN(SEEN_RESUMED);
		runs()
	:: else
	fi
}

inline runs()
{
	two_runners = started;
	assert(!two_runners); /* A2 */
	vm = RUNNING
}

/* take_back, precopy_undo */
inline take_back(a)
{
	SEEN_IF(slowed, SEEN_SLOWED_FAILS);
	if
	:: halted[a] ->
#ifndef MUTANT_STUN_AFTER
		slowed = false;
#endif
		resume()
	:: else
	fi;
#ifndef MUTANT_STUN_KEPT
	slowed = false;
#endif
	taken[a] = 0; torn[a] = false; halted[a] = false;
	phase[a] = BACK
}

/* migration_unbind, vm_migration_ended */
inline unbind(a)
{
	bound--;
	left_slowed = slowed && bound == 0 && vm == RUNNING;
	assert(!left_slowed); /* A3 */
#ifndef MUTANT_REQUEST_WAITS
	ctl = ctl || request != 0;
#endif
	src[a] = SOURCE_RUNS; cancel[a] = false; committed[a] = false;
	phase[a] = OVER
}

inline source(a, ev)
{
	idx = src[a] * SOURCE_EVENTS + ev;
	act = source_act[idx];
	src[a] = source_next[idx];
	if
	:: src[a] == SOURCE_RUNS -> take_back(a)
	:: src[a] == SOURCE_FREED -> vm = GONE; taken[a] = 0; unbind(a)
	:: else
	fi
}

/* migration_commit_point, and COMMIT. */
inline commit_point(a)
{
	if
#ifndef MUTANT_CANCEL_UNSEEN
	:: cancel[a] -> source(a, SOURCE_EV_FAIL)
#endif
	:: else ->
		committed[a] = true;
		SEEN_IF(slowed, SEEN_SLOWED_COMMITS);
		source(a, SOURCE_EV_COMMIT);
		commit[a] = (src[a] == SOURCE_UNDECIDED);
		phase[a] = SENT
	fi
}

/* ---- the destination ---- */

inline record(a, ev)
{
	idx = rec[a] * RECORD_EVENTS + ev;
	act = record_act[idx];
	rec[a] = record_next[idx]
}

inline recv_commit(a)
{
	commit[a] = false;
	SEEN_IF(rec[a] == RECORD_NEVER, SEEN_LATE_COMMIT);
	if
#ifndef MUTANT_DEST_CANCEL_UNSEEN
	:: d_cancel[a] -> record(a, RECORD_EV_GIVE_UP)
#endif
	:: else ->
		d_committed[a] = true;
		record(a, RECORD_EV_COMMIT);
		if :: act == ACT_START -> start(a) :: else fi
	fi
}

inline start(a)
{
	SEEN(SEEN_STARTED);
	two_runners = started || vm == RUNNING;
	assert(!two_runners); /* A2 */
	lost_write = there[(a) * 2] < data[0] || there[(a) * 2 + 1] < data[1];
	assert(!lost_write); /* A1 */
	cancel_broken = cancel[a] || d_cancel[a];
	assert(!cancel_broken); /* A4 */
	kill_broken = killed;
	assert(!kill_broken); /* A5 */
	request_lost = request != 0;
	assert(!request_lost); /* A6 */
	/* stun_init: a new vCPU is at its full speed, and no section has another's share. */
#ifdef MUTANT_STUN_TRAVELS
	left_slowed = slowed;
#else
	left_slowed = false;
#endif
	assert(!left_slowed); /* A3 */
	started = true
}

/* What the source hears, on its connection or by QUERY. */
inline hear(a)
{
	record(a, RECORD_EV_QUERY);
	if
	:: act == ACT_SAY_STARTED -> source(a, SOURCE_EV_STARTED)
	:: act == ACT_SAY_NEVER || act == ACT_DISCARD -> source(a, SOURCE_EV_NEVER)
	:: else
	fi
}

/* ctl_task: stops at once while it moves, and is carried out when that has ended. */
inline carry_out()
{
	ctl = false;
	if
	:: bound > 0 && vm == RUNNING -> vm = PAUSED; SEEN(SEEN_REQUEST_STOPS)
	:: bound == 0 && request == ASKED_OFF && vm != GONE -> SEEN(SEEN_OFF); vm = OFF; request = 0
	:: bound == 0 && request == ASKED_RESET && vm != GONE -> SEEN(SEEN_RESET); request = 0; runs()
	:: else
	fi
}

/* A7: no faults from here on: each attempt ends by itself, or by its limit. */
inline end_of(a)
{
	if :: phase[a] > NONE && phase[a] < SENT -> source(a, SOURCE_EV_FAIL) :: else fi;
	if :: phase[a] == SENT -> hear(a) :: else fi;
	if :: phase[a] == BACK -> unbind(a) :: else fi
}

inline forget_attempt(a)
{
	phase[a] = OVER; src[a] = 0; rec[a] = 0; cancel[a] = false; committed[a] = false; halted[a] = false;
	d_cancel[a] = false; d_committed[a] = false; taken[a] = 0; torn[a] = false; read_[a] = 0; there[(a) * 2] = 0; there[(a) * 2 + 1] = 0
}

inline calm()
{
	commit[0] = false; commit[1] = false; busy = 0;
	end_of(0);
	end_of(1);
	if :: ctl -> carry_out() :: else fi;
	waits_for_ever = bound > 0 || vm == PAUSED || (request != 0 && vm != GONE && !killed) || (vm == GONE && !started);
	assert(!waits_for_ever); /* A7 */
	SEEN(SEEN_CALM);
	/* All that is over is one state. */
	finished = true;
	vm = GONE; slowed = false; request = 0; ctl = false; killed = false; started = false; writes = 0; half = 0;
	dirty = 0; set = 0; zeros = 0; leaf_dirty = false; leaf_set = false; data[0] = 0; data[1] = 0;
	forget_attempt(0);
	forget_attempt(1)
}

/* ---- who takes the steps ---- */

#define MOVES(a) (phase[a] > NONE && phase[a] < SENT)
#ifdef MUTANT_SECOND_AT_ONCE
#define MAY_BEGIN true
#else
#define MAY_BEGIN (bound == 0)
#endif
#ifdef MUTANT_NO_QUIESCE
#define IS_QUIET true
#else
#define IS_QUIET (busy == 0)
#endif
#ifdef MUTANT_CANCEL_LATE
#define IS_LATE(a) false
#else
#define IS_LATE(a) committed[a]
#endif
#ifdef MUTANT_REQUEST_UNSEEN
#define HAS_REQUEST false
#else
#define HAS_REQUEST (request != 0)
#endif

proctype Attempt(byte a)
{
	do
	/* ---- passes ---- */
	:: d_step { !finished && phase[a] == NONE && (a == 0 || phase[0] != NONE) && vm == RUNNING && MAY_BEGIN -> begin(a) }
#ifdef MUTANT_READ_FIRST
	:: d_step { (phase[a] == PASS || phase[a] == FINAL) && taken[a] == 0 && HAS(0) -> taken[a] = 3; read_[a] = data[0] }
	:: d_step { (phase[a] == PASS || phase[a] == FINAL) && taken[a] == 0 && HAS(1) -> taken[a] = 4; read_[a] = data[1] }
	:: d_step { taken[a] > 2 -> n = taken[a] - 3; take(a, n) }
#else
	:: d_step { (phase[a] == PASS || phase[a] == FINAL) && taken[a] == 0 && HAS(0) -> take(a, 0) }
	:: d_step { (phase[a] == PASS || phase[a] == FINAL) && taken[a] == 0 && HAS(1) -> take(a, 1) }
#endif
	:: d_step { taken[a] == 1 || taken[a] == 2 -> send(a) }
	/* The end of a pass: one more, of a guest that is slowed now (slow_down). Or the last, if vm_pause has nothing against it. */
	:: d_step { phase[a] == PASS && ALL_SENT(a) && !half -> leaf_set = false; harvest() }
	:: d_step { phase[a] == PASS && ALL_SENT(a) && !half && !slowed -> harvest(); SEEN(SEEN_SLOWED); slowed = true }
#ifdef MUTANT_LEAF_LATER
	:: d_step { half -> half = 0; leaf_dirty = false }
#endif
	:: d_step { phase[a] == PASS && taken[a] == 0 && !half && vm == RUNNING && request == 0 -> phase[a] = PAUSING }
	:: d_step { phase[a] == PAUSING && IS_QUIET && (vm == RUNNING || vm == PAUSED) ->
		SEEN_IF(request != 0, SEEN_REQUEST_IN_PAUSE); vm = PAUSED; halted[a] = true; phase[a] = HALTED }
	/* send_rest */
	:: d_step { phase[a] == HALTED && !HAS_REQUEST -> source(a, SOURCE_EV_PAUSE); harvest(); phase[a] = FINAL }
	:: d_step { phase[a] == FINAL && ALL_SENT(a) && !half && rec[a] == RECORD_RECEIVING ->
		record(a, RECORD_EV_READY); phase[a] = READY }
	:: d_step { phase[a] == READY -> commit_point(a) }
	:: d_step { commit[a] -> recv_commit(a) }
	:: d_step { phase[a] == SENT -> hear(a) }
	/* ---- it comes to nothing: an error, a limit, the link, the guest, a cancel that was seen ---- */
	:: d_step { MOVES(a) -> source(a, SOURCE_EV_FAIL) }
	:: d_step { phase[a] == BACK -> unbind(a) }
	:: d_step { rec[a] == RECORD_RECEIVING || rec[a] == RECORD_READY -> record(a, RECORD_EV_GIVE_UP) }
	/* ---- the operators' `migrate cancel` ---- */
	:: d_step { phase[a] > NONE && phase[a] < BACK && !cancel[a] && !IS_LATE(a) ->
		SEEN(SEEN_CANCELLED); cancel[a] = true; SEEN_IF(d_cancel[a], SEEN_CANCELLED_BOTH) }
	:: d_step { phase[a] == SENT && IS_LATE(a) -> SEEN(SEEN_CANCELLED_LATE) }
	:: d_step { (rec[a] == RECORD_RECEIVING || rec[a] == RECORD_READY) && !d_cancel[a] && !d_committed[a] ->
		SEEN(SEEN_CANCELLED_DEST); d_cancel[a] = true }
	/* ---- a second `migrate` while one is under way ---- */
	:: d_step { phase[a] == NONE && bound > 0 -> SEEN(SEEN_SECOND_DENIED) }
	od
}

active proctype Host()
{
	run Attempt(0);
	run Attempt(1);
	do
	/* ---- the guest, and its disk ---- */
	:: d_step { !finished && vm == RUNNING && busy == 0 && writes < WRITES -> writes++; busy = 1 }
	:: d_step { !finished && vm == RUNNING && busy == 0 && writes < WRITES -> writes++; busy = 2 }
	:: d_step { !finished && vm == RUNNING && busy == 0 && writes < WRITES && !(zeros & 1) -> writes++; busy = ZERO + 1 }
#ifdef MUTANT_MARK_FIRST
	:: d_step { busy > 0 && busy <= MARKED -> dirty = dirty | (1 << ((busy - 1) % 2)); leaf_dirty = true; busy = busy + MARKED }
	:: d_step { busy > MARKED -> b = (busy - 1) % 2; write(b, (busy - 1) % MARKED >= ZERO); busy = 0 }
#else
	:: d_step { busy > 0 -> b = (busy - 1) % 2; write(b, busy > ZERO); busy = 0 }
#endif
	:: d_step { !finished && vm == RUNNING && request == 0 -> request = ASKED_OFF; ctl = true }
	:: d_step { !finished && vm == RUNNING && request == 0 -> request = ASKED_RESET; ctl = true }
	:: d_step { ctl && busy == 0 -> carry_out() }
	/* ---- the operator: refused while it moves ---- */
	:: d_step { !finished && bound > 0 && !killed -> SEEN(SEEN_KILL_DENIED);
#ifdef MUTANT_KILL_MOVING
		if :: vm == RUNNING || vm == PAUSED -> killed = true; vm = OFF; busy = 0 :: else fi
#endif
		}
	:: d_step { bound > 0 && vm == PAUSED -> SEEN(SEEN_RESUME_DENIED);
#ifdef MUTANT_RESUME_MOVING
		runs()
#endif
		}
	:: d_step { !finished && bound == 0 && (vm == RUNNING || vm == PAUSED) && busy == 0 ->
		SEEN(SEEN_KILLED); killed = true; vm = OFF; request = 0 }
	:: d_step { !finished -> calm() }
	od
}

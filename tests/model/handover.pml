/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The hand-over of one VM between two or three hosts, deciding by the product's own tables (rules.pml, made from
 * vmm/migrate/rules.c by gen.c). README.md says what is modelled and what is not; check.py runs all of it.
 *
 * What is checked, in every state that spin reaches:
 *   P1  at most one host runs the VM; and no source resumes an image that has been started elsewhere, unless all that knew
 *       of the start have crashed or were told to forget it
 *   P2  a source frees its image only if it was started elsewhere
 *   P3  from here on without faults (calm), every wait ends or is the operator's, every record is settled
 */
#include "rules.pml"

/* ---- The configurations: how many hosts, and what may happen how often ---- */

#ifndef CONFIG
#define CONFIG 1
#endif
#if CONFIG == 1 /* two hosts: every loss, delay and repetition, restarts, the operator's `drop` */
#define HOSTS      2
#define TRIES(h)   (2 - (h))
#define RESTARTS   2
#define STOPS      0
#define STARTS     0
#define DROPS      1
#define RUNS_FIRST 0
#elif CONFIG == 2 /* three hosts, A and C no peers of each other: the VM moves on with its debts, records are handed over */
#define HOSTS      3
#define TRIES(h)   1
#define RESTARTS   2
#define STOPS      0
#define STARTS     0
#define DROPS      0
#define RUNS_FIRST 0
#define APART
#elif CONFIG == 3 /* three hosts: a start, while the VM moves and hosts restart */
#define HOSTS      3
#define TRIES(h)   ((h) != 0)
#define RESTARTS   1
#define STOPS      0
#define STARTS     1
#define DROPS      0
#define RUNS_FIRST 1
#elif CONFIG == 4 /* the same with autostart = alone: hosts die and come back, some are busy; the network holds */
#define HOSTS      3
#define TRIES(h)   ((h) == 1)
#define RESTARTS   1
#define STOPS      0
#define STARTS     1
#define DROPS      0
#define RUNS_FIRST 1
#define ALONE
#elif CONFIG == 5 /* three hosts that start one VM: leases; alone or not; nothing moves */
#define HOSTS      3
#define TRIES(h)   0
#define RESTARTS   1
#define STOPS      1
#define STARTS     2
#define DROPS      0
#define RUNS_FIRST 1
#define ALONE
#elif CONFIG == 6 /* two hosts that start it while it moves */
#define HOSTS      2
#define TRIES(h)   1
#define RESTARTS   2
#define STOPS      1
#define STARTS     2
#define DROPS      0
#define RUNS_FIRST 1
#elif CONFIG == 7 /* three hosts, two of them with one name */
#define HOSTS      3
#define TRIES(h)   0
#define RESTARTS   1
#define STOPS      1
#define STARTS     2
#define DROPS      0
#define RUNS_FIRST 1
#define SAME_NAME
#endif

#if CONFIG == 8 || CONFIG == 9 /* only for scenarios */
#define HOSTS      3
#define TRIES(h)   2
#define RESTARTS   2
#define STOPS      0
#define STARTS     1
#define DROPS      0
#define RUNS_FIRST 0
#if CONFIG == 8
#define APART
#endif
#endif

#ifdef SAME_NAME
#define NAME(h) ((h) != 0)
#else
#define NAME(h) (h)
#endif
#define PER  2 /* attempts of one source, at most */
#define TRY  (HOSTS * PER)

/* Marks a state as reached; check.py wants all marks of a configuration. No part of a state. */
c_decl {
	static char seen[64];
	static void mark(int n)
	{
		if (!seen[n])
			printf("seen %d\n", n);
		seen[n] = 1;
	}
};
#define SEEN_NEVER_RESUMED    1
#define SEEN_STARTED_FREED    2
#define SEEN_QUERY_OVERTAKES  3
#define SEEN_COMMIT_AFTER     4
#define SEEN_SECOND_TRY       5
#define SEEN_BACK             6
#define SEEN_NOBODY_TOLD      7
#define SEEN_NOBODY_RESUMES   8
#define SEEN_DROPPED_WAITS    9
#define SEEN_DEBT_FREES       10
#define SEEN_DEBT_TRAVELS     11
#define SEEN_ADOPTED_NEVER    12
#define SEEN_ADOPTED_STARTED  13
#define SEEN_STARTS           14
#define SEEN_YIELDS           15
#define SEEN_REFUSED          16
#define SEEN_MOVED            17
#define SEEN_TRACE_ENDS       18
#define SEEN_LATE_NEVER       28
#define SEEN_ADOPTED_SOURCE   29
#define SEEN_CALM             30
#define SEEN_NEW_INCARNATION  19
#define SEEN_ALIVE            20
#define SEEN_ALONE            21
#define SEEN_CONFLICT         22
#define SEEN_FOREIGN          23
#define SEEN_SETTLED_BY_BOOT  24
#define SEEN_SETTLED          25
#define SEEN_SILENT           26

/* ---- The state ---- */

#define OFF      0
#define RUN      1
#define HALT     2 /* paused for the last pass, or undecided: the image is here */
#define SKELETON 3 /* an image that is coming, or complete and waiting for COMMIT */

/* Of each host. */
bool up[HOSTS] = true;
byte boot[HOSTS];    /* its incarnation */
byte vm[HOSTS];      /* the slot of the one VM name */
byte out[HOSTS];     /* the attempt of which it is the source, + 1 */
byte src[HOSTS];     /* enum source_state, of that attempt */
byte into[HOSTS];    /* the attempt whose skeleton it holds */
byte moved[HOSTS];   /* it sent the VM away: to this host, + 1 */
bool ended[HOSTS];   /* the VM ended here, and did not move */
byte lease[HOSTS];   /* enum lease_state */
byte used[HOSTS];    /* attempts made */
/* Of each question that a host asks all others. */
byte asked[HOSTS];   /* bits: who was asked in this round */
byte worst[HOSTS];   /* EVIDENCES - the worst evidence of this round; 0: none yet */
bool again[HOSTS];   /* a complete round of "nothing" lies behind */
bool differ[HOSTS];  /* somebody has restarted since that round */
byte whither[HOSTS * HOSTS]; /* what each says: where it sent the VM, + 1 */
byte over[HOSTS];        /* bits: it says that the VM ended there */
byte inc[HOSTS * HOSTS]; /* the incarnation that answered, + 1; 0: it was silent */
/* Of each attempt. Its id is its source and a number that is never used twice, which stands for the source's boot and a counter. */
byte dst[TRY], srcboot[TRY], dstboot[TRY];
byte sent[TRY], got[TRY]; /* how far the connection is: OFFER, END (and the debts), COMMIT; in this order */
bool open[TRY];           /* the connection still delivers what was sent */
byte debts[TRY];          /* bits: the debts that go with END */
bool query[TRY], says_started[TRY], says_never[TRY]; /* sent at least once, and never lost for good: may arrive late, and often */
/* What the properties need to know; no host knows it. */
bool ever[TRY];    /* it was started */
bool lost[TRY];    /* ... and everybody who knew of it has crashed or was told to forget */
bool dropped[TRY]; /* the operator had a record of it forgotten */
byte rec[HOSTS * TRY]; /* enum record_state */
bool told[HOSTS * TRY]; /* somebody else decided it */
byte restarts, stops, starts, drops;
bool finished;

hidden byte idx, nxt, act, num, evi, who, pos, att, ord, can, event, peer, tells;

#define REC(h, a)  rec[(h) * TRY + (a)]
#define SRC(a)     ((a) / PER)
#define UNDECIDED(h) (out[h] != 0 && src[h] == SOURCE_UNDECIDED)
#define HOLDS(h, a) (out[h] == (a) + 1 && boot[h] == srcboot[a])
#define ALL_BUT(h) (((1 << HOSTS) - 1) & ~(1 << (h)))
/* Each step ends with it: a line in a replay; and spin makes no code for a loop that a d_step ends with. */
#define DONE(what, x, y) printf(what, x, y); nxt = 0; STEP_OVER
#define SEEN(n)    c_code { mark(n); }
#define SEEN_IF(c, n) if :: (c) -> SEEN(n) :: else fi
/* A and C may be no peers: then A asks C through B. */
#ifdef APART
#define REACHES(h, p) ((h) == 1 || (p) == 1 || up[1])
#define PEERS(h, p)   ((h) == 1 || (p) == 1)
#else
#define REACHES(h, p) true
#define PEERS(h, p)   true
#endif

#ifdef SCENARIO
#include "scenarios.pml"
#else
#define MAY(what, x, y) true
#define SCRIPT_OVER     true
#define EXPECT          skip
#define STEP_OVER       skip
#endif

/* ---- Pieces of steps (inside d_step) ---- */

inline stop_asking(h)
{
	asked[h] = 0; worst[h] = 0; again[h] = false; differ[h] = false; over[h] = 0;
	for (pos : 0 .. HOSTS - 1) { inc[(h) * HOSTS + pos] = 0; whither[(h) * HOSTS + pos] = 0 }
}

/* The VM runs at h from now on. P1. */
inline runs(h)
{
	vm[h] = RUN; moved[h] = 0; ended[h] = false; num = 0;
	for (pos : 0 .. HOSTS - 1) { num = num + (vm[pos] == RUN) }
	assert(num == 1) /* P1 */
}

/* Host h holds attempt a no longer. Answers that still come are for an attempt that nobody has. */
inline attempt_over(h, a)
{
	out[h] = 0; src[h] = SOURCE_RUNS;
	query[a] = false; says_started[a] = false; says_never[a] = false;
	ever[a] = false; lost[a] = false; dropped[a] = false;
	stop_asking(h)
}

inline cut(a)
{
	open[a] = false; sent[a] = 0; got[a] = 0; debts[a] = 0
}

/* If nobody knows any more that a was started. */
inline forgotten(a)
{
	num = 0;
	for (pos : 0 .. HOSTS - 1) { num = num + (REC(pos, a) == RECORD_STARTED) }
	lost[a] = ever[a] && num == 0
}

/* Table 1: event ev for the record of attempt a at host p. */
inline record(p, a, ev)
{
	idx = rec[(p) * TRY + (a)] * RECORD_EVENTS + ev;
	act = record_act[idx];
	rec[(p) * TRY + (a)] = record_next[idx];
	if
	:: act == ACT_DISCARD -> if :: vm[p] == SKELETON && into[p] == a -> vm[p] = OFF; into[p] = 0 :: else fi
	:: act == ACT_ACCEPT -> vm[p] = SKELETON; into[p] = a
	:: act == ACT_START -> ever[a] = HOLDS(SRC(a), a); into[p] = 0; runs(p)
	:: else
	fi;
	if :: rec[(p) * TRY + (a)] == RECORD_NONE -> told[(p) * TRY + (a)] = false :: else fi
}

/* What p has just said of a, by act, goes into the network. NEVER carries the incarnation that decided. */
inline answer(p, a)
{
	if
	:: !HOLDS(SRC(a), a)
	:: else ->
		if
		:: act == ACT_START || act == ACT_SAY_STARTED -> says_started[a] = true
		:: act == ACT_SAY_NEVER || act == ACT_DISCARD ->
			if
			:: told[(p) * TRY + (a)] || (p == dst[a] && boot[p] == dstboot[a]) -> says_never[a] = true
			:: else
			fi
		:: else
		fi
	fi
}

/* Table 2: event ev for the source h, whose attempt is att. P1 and P2. */
inline source(h, ev)
{
	att = out[h] - 1;
	idx = src[h] * SOURCE_EVENTS + ev;
	act = source_act[idx];
	src[h] = source_next[idx];
	if
	:: act == ACT_HALT -> vm[h] = HALT
	:: act == ACT_SEND_COMMIT -> if :: open[att] -> sent[att] = 3 :: else fi
	:: act == ACT_ASK -> query[att] = true
	:: act == ACT_RESUME -> assert(!ever[att] || (lost[att] && ev == SOURCE_EV_NOBODY_RESUME)); runs(h) /* P1 */
	:: else
	fi;
	if
	:: src[h] == SOURCE_FREED -> assert(ever[att]); vm[h] = OFF; moved[h] = dst[att] + 1; attempt_over(h, att) /* P2 */
	:: src[h] == SOURCE_RUNS -> attempt_over(h, att)
	:: else
	fi
}

/* What is left of host h when it restarts, in any way. */
inline forget_all(h)
{
	if :: out[h] != 0 -> att = out[h] - 1; attempt_over(h, att) :: else fi;
	stop_asking(h);
	vm[h] = OFF; into[h] = 0; moved[h] = 0; ended[h] = false; lease[h] = LEASE_NONE;
	for (att : 0 .. TRY - 1) {
		told[(h) * TRY + att] = false;
		if
		:: REC(h, att) == RECORD_STARTED -> rec[(h) * TRY + att] = RECORD_NONE; forgotten(att)
		:: else -> rec[(h) * TRY + att] = RECORD_NONE
		fi;
		if :: open[att] && (SRC(att) == h || dst[att] == h) -> cut(att) :: else fi
	}
	boot[h]++; restarts++
#ifdef MUTANT_IDS
	; used[h] = 0
#endif
}

/* What p, which h can hear, answers: evi, and in who where the VM went. Table 4 for its lease. */
inline answer_who(h, p)
{
	who = 0;
	if
	:: NAME(h) == NAME(p) -> evi = EVIDENCE_CONFLICT; SEEN(SEEN_CONFLICT)
	:: NAME(h) != NAME(p) && out[h] != 0 && REC(p, out[h] - 1) == RECORD_STARTED -> evi = EVIDENCE_STARTED
	:: else ->
		if
		:: vm[p] != OFF -> evi = EVIDENCE_HERE
		:: else ->
			idx = lease[p] * LEASE_ORDERS + ((h) < (p) -> ASKER_FIRST : ASKER_LATER);
			lease[p] = lease_next[idx];
			if
			:: lease_act[idx] == ACT_REFUSE -> evi = EVIDENCE_HERE; SEEN(SEEN_REFUSED)
			:: else ->
				SEEN_IF(lease[p] == LEASE_YIELDED, SEEN_YIELDS);
				evi = EVIDENCE_NOTHING; who = moved[p];
				if :: ended[p] -> over[h] = over[h] | (1 << (p)) :: else fi
			fi
		fi
	fi
}

/* Evidence evi of p is counted in h's round. */
inline count(h, p)
{
	asked[h] = asked[h] | (1 << (p));
	whither[(h) * HOSTS + (p)] = who;
	if :: EVIDENCES - evi > worst[h] -> worst[h] = EVIDENCES - evi :: else fi;
	num = (evi == EVIDENCE_SILENT -> 0 : boot[p] + 1);
	if :: inc[(h) * HOSTS + (p)] != num -> differ[h] = true :: else fi;
	inc[(h) * HOSTS + (p)] = num;
	who = 0
}

#define ROUND_COMPLETE(h) (asked[h] == ALL_BUT(h) || worst[h] >= EVIDENCES - EVIDENCE_HERE)

/*
 * Whether a trace does not end: at a host that says that the VM ended there, or, if the asker is undecided, at the asker itself,
 * who holds the image. who: it does not.
 */
inline follow_traces(h)
{
	who = 0;
	for (pos : 0 .. HOSTS - 1) {
		ord = pos;
		for (num : 1 .. HOSTS) { if :: whither[(h) * HOSTS + ord] != 0 -> ord = whither[(h) * HOSTS + ord] - 1 :: else fi };
		if
		:: whither[(h) * HOSTS + pos] == 0 || (over[h] & (1 << ord)) != 0 || (ord == h && vm[h] != OFF) ->
			SEEN_IF(ord != pos, SEEN_TRACE_ENDS)
		:: else -> who = 1
		fi
	}
}

/* The whole round's evidence: evi. */
inline conclude_round(h)
{
	evi = EVIDENCES - worst[h];
	if :: ended[h] -> over[h] = over[h] | (1 << (h)) :: else fi;
	whither[(h) * HOSTS + (h)] = moved[h];
	follow_traces(h);
	if :: who != 0 && evi > EVIDENCE_MOVED -> evi = EVIDENCE_MOVED; SEEN(SEEN_MOVED) :: else fi;
	SEEN_IF(evi == EVIDENCE_SILENT, SEEN_SILENT);
	SEEN_IF(evi == EVIDENCE_NOTHING && again[h] && differ[h], SEEN_NEW_INCARNATION);
	if :: evi == EVIDENCE_NOTHING && (!again[h] || differ[h]) -> evi = EVIDENCE_ONCE :: else fi;
	who = 0
}

/* One more round, which counts if everybody is as in this one. */
inline next_round(h)
{
	again[h] = true;
	asked[h] = 0; worst[h] = 0; over[h] = 0; differ[h] = false;
	for (pos : 0 .. HOSTS - 1) { whither[(h) * HOSTS + pos] = 0 }
}

#define ASKS(h) (up[h] && (UNDECIDED(h) || lease[h] == LEASE_ASKING || lease[h] == LEASE_YIELDED))

/* Undecided, the round complete. Table 3. */
inline conclude_undecided(h, policy)
{
	conclude_round(h);
	act = undecided_act[evi * UNDECIDED_POLICIES + policy];
	if
	:: act == ACT_AGAIN -> next_round(h)
	:: else ->
		stop_asking(h);
		if
		:: act == ACT_FREE ->
			SEEN(SEEN_STARTED_FREED);
			SEEN_IF(HOSTS > 2 && REC(dst[out[h] - 1], out[h] - 1) != RECORD_STARTED, SEEN_DEBT_FREES);
			source(h, SOURCE_EV_STARTED)
		:: act == ACT_RESUME -> SEEN(SEEN_NOBODY_RESUMES); source(h, SOURCE_EV_NOBODY_RESUME)
		:: act == ACT_TELL -> SEEN(SEEN_NOBODY_TOLD); source(h, SOURCE_EV_NOBODY)
		:: else
		fi
	fi
}

/* About to start, the round complete. Table 3. */
inline conclude_start(h, policy)
{
	conclude_round(h);
	act = start_act[evi * START_POLICIES + policy];
	if
	:: (act == ACT_AGAIN || (act == ACT_WAIT && policy == START_ALONE)) && lease[h] == LEASE_ASKING -> next_round(h)
	:: else ->
		stop_asking(h);
		SEEN_IF(evi == EVIDENCE_SILENT && act == ACT_GO, SEEN_ALONE);
		if
		:: act == ACT_GO && lease[h] == LEASE_ASKING -> lease[h] = LEASE_TAKEN
		:: else -> lease[h] = LEASE_NONE
		fi
	fi
}

/* ---- P3: no faults from here on, and every time limit runs out. Then it is over with this run ---- */

inline calm_ask(h)
{
	says_started[att] = false; says_never[att] = false; /* what was under way is lost; what is asked now is answered */
	record(dst[att], att, RECORD_EV_QUERY);
	answer(dst[att], att);
	if
	:: says_started[att] -> source(h, SOURCE_EV_STARTED)
	:: says_never[att] -> source(h, SOURCE_EV_NEVER)
	:: else ->
		stop_asking(h);
		for (can : 0 .. HOSTS - 1) { if :: can != h -> answer_who(h, can); count(h, can) :: else fi }
		conclude_round(h);
		if :: evi == EVIDENCE_ONCE -> evi = EVIDENCE_NOTHING :: else fi;
		act = undecided_act[evi * UNDECIDED_POLICIES + UNDECIDED_ASK];
		if
		:: act == ACT_FREE -> source(h, SOURCE_EV_STARTED)
		:: act == ACT_TELL -> tells = tells | (1 << h)
		:: act == ACT_WAIT -> if :: dropped[att] -> tells = tells | (1 << h); SEEN(SEEN_DROPPED_WAITS) :: else fi
		:: else -> assert(false)
		fi
	fi
}

inline calm()
{
	for (can : 0 .. HOSTS - 1) {
		lease[can] = LEASE_NONE;
		if
		:: vm[can] == SKELETON ->
			nxt = into[can];
			record(can, nxt, RECORD_EV_GIVE_UP);
			assert(vm[can] == OFF) /* P3: it would wait for ever */
		:: else
		fi
	}
	for (event : 1 .. HOSTS) { /* one may have to wait for another, who is undecided as well */
		tells = 0;
		for (nxt : 0 .. HOSTS - 1) {
			if
			:: out[nxt] != 0 ->
				source(nxt, SOURCE_EV_FAIL);
				att = out[nxt] - 1;
				if :: out[nxt] != 0 -> assert(src[nxt] == SOURCE_UNDECIDED); calm_ask(nxt) :: else fi
			:: else
			fi
		}
	}
	for (nxt : 0 .. HOSTS - 1) {
		assert(out[nxt] == 0 || (tells & (1 << nxt)) != 0); /* P3: it would wait for ever, and nobody is told */
		for (att : 0 .. TRY - 1) {
			if
			:: REC(nxt, att) != RECORD_NONE && !HOLDS(SRC(att), att) ->
				record(nxt, att, RECORD_EV_DONE);
				assert(REC(nxt, att) == RECORD_NONE) /* P3: nothing stays behind */
			:: else
			fi
		}
	}
	/* All that is over is one state. */
	finished = true;
	for (nxt : 0 .. HOSTS - 1) {
		up[nxt] = false; boot[nxt] = 0; vm[nxt] = OFF; out[nxt] = 0; src[nxt] = 0; into[nxt] = 0; moved[nxt] = 0;
		ended[nxt] = false; lease[nxt] = 0; used[nxt] = 0; stop_asking(nxt);
		for (att : 0 .. TRY - 1) { rec[nxt * TRY + att] = 0; told[nxt * TRY + att] = false }
	}
	for (att : 0 .. TRY - 1) {
		cut(att); dst[att] = 0; srcboot[att] = 0; dstboot[att] = 0; query[att] = false; says_started[att] = false;
		says_never[att] = false; ever[att] = false; lost[att] = false; dropped[att] = false
	}
	restarts = 0; stops = 0; starts = 0; drops = 0
}

/*
 * ---- The steps ----
 * Each is one indivisible step of the model: who may do what is chosen first, then one d_step does it. With a SCENARIO only the
 * next step of the scenario may be chosen.
 */

#define OUT(h)       (out[h] - 1)
#define TRIES_NOW(h) (up[h] && out[h] != 0)
#if HOSTS == 2
#define EACH_HOST(choose, x) :: choose(0, x) :: choose(1, x)
#define EACH_PEER(choose, x) :: choose(x, 0) :: choose(x, 1)
#else
#define EACH_HOST(choose, x) :: choose(0, x) :: choose(1, x) :: choose(2, x)
#define EACH_PEER(choose, x) :: choose(x, 0) :: choose(x, 1) :: choose(x, 2)
#endif

#define CHOOSE_BEGIN(h, p) \
	MAY(S_BEGIN, h, p) && up[h] && up[p] && h != p && PEERS(h, p) && vm[h] == RUN && out[h] == 0 && used[h] < TRIES(h) -> peer = p
inline begin(h)
{
	atomic {
		if EACH_PEER(CHOOSE_BEGIN, h) fi;
		d_step {
			att = (h) * PER + used[h];
			SEEN_IF(used[h] > 0, SEEN_SECOND_TRY);
			used[h]++;
			dst[att] = peer; srcboot[att] = boot[h]; dstboot[att] = boot[peer];
			cut(att); open[att] = true; sent[att] = 1;
			out[h] = att + 1; src[h] = SOURCE_RUNS;
			DONE("begin %d %d\n", h, peer)
		}
	}
}

/*
 * COMMIT may ride with END: whether READY has been read makes no difference. FAIL is an error, a time limit, the operator's
 * cancel. FOREIGN: an older version says NEVER for whatever it does not know.
 */
inline source_step(h)
{
	atomic {
		if
		:: MAY(S_PAUSE, h, 0) && TRIES_NOW(h) && src[h] == SOURCE_RUNS && open[OUT(h)] && got[OUT(h)] == 1 ->
			event = SOURCE_EV_PAUSE
		:: MAY(S_COMMIT, h, 0) && TRIES_NOW(h) && src[h] == SOURCE_PAUSED && open[OUT(h)] && sent[OUT(h)] == 2 ->
			event = SOURCE_EV_COMMIT
		:: MAY(S_FAIL, h, 0) && TRIES_NOW(h) && !(src[h] == SOURCE_UNDECIDED && query[OUT(h)]) -> event = SOURCE_EV_FAIL
		:: MAY(S_HEAR_STARTED, h, 0) && TRIES_NOW(h) && says_started[OUT(h)] -> event = SOURCE_EV_STARTED
		:: MAY(S_HEAR_NEVER, h, 0) && TRIES_NOW(h) && says_never[OUT(h)] -> event = SOURCE_EV_NEVER
		:: MAY(S_HEAR_FOREIGN, h, 0) && up[h] && UNDECIDED(h) && boot[dst[OUT(h)]] != dstboot[OUT(h)] ->
			event = SOURCE_EV_NEVER_FOREIGN
		fi;
		d_step {
			SEEN_IF(event == SOURCE_EV_NEVER, SEEN_NEVER_RESUMED);
			SEEN_IF(event == SOURCE_EV_NEVER && boot[dst[OUT(h)]] != dstboot[OUT(h)], SEEN_LATE_NEVER);
			SEEN_IF(event == SOURCE_EV_NEVER_FOREIGN, SEEN_FOREIGN);
			source(h, event);
			DONE("source %d event %d\n", h, event)
		}
	}
}

/* The last pass ends, and with it go the debts. */
inline send_end(h)
{
	d_step {
		MAY(S_END, h, 0) && TRIES_NOW(h) && src[h] == SOURCE_PAUSED && open[OUT(h)] && sent[OUT(h)] == 1 ->
		att = OUT(h);
		sent[att] = 2;
		for (pos : 0 .. TRY - 1) {
			if :: REC(h, pos) == RECORD_STARTED -> debts[att] = debts[att] | (1 << pos) :: else fi
		};
		DONE("end %d %d\n", h, debts[OUT(h)])
	}
}

inline recv_offer(a)
{
	d_step {
		MAY(S_RECV_OFFER, a, 0) && open[a] && got[a] == 0 && sent[a] >= 1 && up[dst[a]] ->
		got[a] = 1;
		if /* a source makes one attempt at a time: an older one is over */
		:: vm[dst[a]] == SKELETON && SRC(into[dst[a]]) == SRC(a) -> num = into[dst[a]]; record(dst[a], num, RECORD_EV_GIVE_UP)
		:: else
		fi;
		act = ACT_REFUSE;
		if :: vm[dst[a]] == OFF && lease[dst[a]] == LEASE_NONE -> record(dst[a], a, RECORD_EV_OFFER) :: else fi;
		if :: act != ACT_ACCEPT -> cut(a) :: else SEEN_IF(SRC(a) == 1 && dst[a] == 0, SEEN_BACK) fi;
		DONE("offer %d, action %d\n", a, act)
	}
}

inline recv_end(a)
{
	d_step {
		MAY(S_RECV_END, a, 0) && open[a] && got[a] == 1 && sent[a] >= 2 && up[dst[a]] ->
		got[a] = 2;
		num = 0;
		for (nxt : 0 .. TRY - 1) {
			if
			:: (debts[a] & (1 << nxt)) != 0 ->
				record(dst[a], nxt, RECORD_EV_TOLD_STARTED);
				SEEN(SEEN_DEBT_TRAVELS);
				if :: act == ACT_REFUSE -> num = 1 :: else fi
			:: else
			fi
		};
		nxt = (num == 0 -> RECORD_EV_READY : RECORD_EV_GIVE_UP);
		record(dst[a], a, nxt);
		DONE("end of %d, action %d\n", a, act)
	}
}

inline recv_commit(a)
{
	d_step {
		MAY(S_RECV_COMMIT, a, 0) && open[a] && got[a] == 2 && sent[a] == 3 && up[dst[a]] ->
		SEEN_IF(REC(dst[a], a) == RECORD_NEVER, SEEN_COMMIT_AFTER);
		record(dst[a], a, RECORD_EV_COMMIT);
		if :: act == ACT_REFUSE && REC(dst[a], a) == RECORD_NEVER -> act = ACT_SAY_NEVER :: else fi;
		answer(dst[a], a);
		cut(a);
		DONE("commit of %d, action %d\n", a, act)
	}
}

inline lose_connection(a)
{
	d_step { MAY(S_CUT, a, 0) && open[a] -> cut(a); DONE("connection of %d cut %d\n", a, 0) }
}

/*
 * What comes to a record from outside its connection. Who holds one asks the source whether it still has the attempt: "no" is final,
 * so that it may come late. While the connection may still deliver, the record stays.
 */
#define IS_FINAL(p, a)     (up[p] && (REC(p, a) == RECORD_STARTED || REC(p, a) == RECORD_NEVER) && !(open[a] && dst[a] == p))
#ifdef MUTANT_SETTLE
#define SETTLED(a)         true
#else
#define SETTLED(a)         (!HOLDS(SRC(a), a))
#endif
#define CHOOSE_QUERY(p, a) MAY(S_QUERY, p, a) && query[a] && up[p] && p != SRC(a) -> peer = p; event = RECORD_EV_QUERY
#define CHOOSE_DONE(p, a)  MAY(S_SETTLE, p, a) && IS_FINAL(p, a) && up[SRC(a)] && SETTLED(a) -> peer = p; event = RECORD_EV_DONE
#define CHOOSE_DROP(p, a)  MAY(S_DROP, p, a) && drops < DROPS && IS_FINAL(p, a) -> peer = p; event = RECORD_EV_DROP
inline record_step(a)
{
	atomic {
		if
		:: MAY(S_OFFER_AGAIN, a, 0) && open[a] && got[a] == 1 && up[dst[a]] -> peer = dst[a]; event = RECORD_EV_OFFER
		:: MAY(S_GIVE_UP, a, 0) && up[dst[a]] && REC(dst[a], a) != RECORD_NONE && !told[dst[a] * TRY + a] ->
			peer = dst[a];
			event = RECORD_EV_GIVE_UP
		EACH_HOST(CHOOSE_QUERY, a)
		EACH_HOST(CHOOSE_DONE, a)
#if DROPS
		EACH_HOST(CHOOSE_DROP, a)
#endif
		fi;
		d_step {
			SEEN_IF(event == RECORD_EV_QUERY && REC(peer, a) == RECORD_READY, SEEN_QUERY_OVERTAKES);
			SEEN_IF(event == RECORD_EV_DONE, SEEN_SETTLED);
			SEEN_IF(event == RECORD_EV_DONE && boot[SRC(a)] != srcboot[a], SEEN_SETTLED_BY_BOOT);
			record(peer, a, event);
			if
			:: event == RECORD_EV_QUERY -> answer(peer, a)
			:: event == RECORD_EV_DROP -> drops++; dropped[a] = HOLDS(SRC(a), a); forgotten(a)
			:: else
			fi;
			DONE("record of %d, event %d\n", a, event)
		}
	}
}

/*
 * A host restarts: without warning, or, with nothing running or held there, in order, when its records go to a peer first.
 */
#ifdef MUTANT_ADOPT
#define TO_SOURCE(a) false
#else
#define TO_SOURCE(a) (peer == SRC(a) && HOLDS(peer, a))
#endif
#define CHOOSE_REBOOT(h, p) \
	MAY(S_REBOOT, h, p) && up[h] && up[p] && h != p && PEERS(h, p) && restarts < RESTARTS && vm[h] == OFF && \
	lease[h] == LEASE_NONE -> peer = p
inline restart(h)
{
	atomic {
		if
		:: MAY(S_CRASH, h, 0) && up[h] && restarts < RESTARTS -> peer = h
#ifndef ALONE
		EACH_PEER(CHOOSE_REBOOT, h)
#endif
		fi;
		d_step {
			for (nxt : 0 .. TRY - 1) {
				if
				:: peer != h && REC(h, nxt) == RECORD_STARTED && TO_SOURCE(nxt) ->
					SEEN(SEEN_ADOPTED_SOURCE); /* it asks everybody but itself: so this is an answer */
					if :: src[peer] == SOURCE_UNDECIDED -> source(peer, SOURCE_EV_STARTED) :: else fi
				:: peer != h && REC(h, nxt) == RECORD_STARTED && !TO_SOURCE(nxt) ->
					SEEN(SEEN_ADOPTED_STARTED);
					record(peer, nxt, RECORD_EV_TOLD_STARTED)
				:: peer != h && REC(h, nxt) == RECORD_NEVER && HOLDS(SRC(nxt), nxt) && peer != SRC(nxt) ->
					SEEN(SEEN_ADOPTED_NEVER);
					record(peer, nxt, RECORD_EV_TOLD_NEVER);
					told[peer * TRY + nxt] = (REC(peer, nxt) == RECORD_NEVER)
				:: else
				fi
			};
			forget_all(h);
#ifdef ALONE
			up[h] = false;
#endif
			DONE("restart %d, records to %d\n", h, peer)
		}
	}
}

inline come_back(h)
{
	d_step { MAY(S_COME_BACK, h, 0) && !up[h] && !finished -> up[h] = true; DONE("up %d %d\n", h, boot[h]) }
}

/* The guest powers itself off, or the operator stops it. */
inline stop(h)
{
	d_step {
		MAY(S_STOP, h, 0) && stops < STOPS && up[h] && vm[h] == RUN && out[h] == 0 ->
		stops++;
		vm[h] = OFF;
		ended[h] = true;
		DONE("stop %d %d\n", h, 0)
	}
}

inline want_start(h)
{
	d_step {
		MAY(S_WANT, h, 0) && starts < STARTS && up[h] && vm[h] == OFF && lease[h] == LEASE_NONE ->
		starts++;
		lease[h] = LEASE_ASKING;
		DONE("wants to start %d %d\n", h, 0)
	}
}

inline go(h)
{
	d_step {
		MAY(S_GO, h, 0) && up[h] && lease[h] == LEASE_TAKEN ->
		SEEN(SEEN_STARTS);
		lease[h] = LEASE_NONE;
		runs(h);
		DONE("starts %d %d\n", h, 0)
	}
}

/* One question to one host; evi 0: it answers. Where the network may fail, anybody may be silent at any time. */
#define MAY_ASK(h, p)       (ASKS(h) && h != p && !ROUND_COMPLETE(h) && (asked[h] & (1 << p)) == 0)
#define CHOOSE_ASK(h, p)    MAY(S_ASK, h, p) && MAY_ASK(h, p) && up[p] && REACHES(h, p) -> peer = p; event = 0
#define CHOOSE_BUSY(h, p)   MAY(S_ASK_BUSY, h, p) && MAY_ASK(h, p) && up[p] -> peer = p; event = EVIDENCE_ALIVE
#ifdef ALONE
#define CHOOSE_SILENT(h, p) MAY(S_ASK_SILENT, h, p) && MAY_ASK(h, p) && !up[p] -> peer = p; event = EVIDENCE_SILENT
#else
#define CHOOSE_SILENT(h, p) MAY(S_ASK_SILENT, h, p) && MAY_ASK(h, p) -> peer = p; event = EVIDENCE_SILENT
#endif
inline ask(h)
{
	atomic {
		if
		EACH_PEER(CHOOSE_ASK, h)
		EACH_PEER(CHOOSE_SILENT, h)
#ifdef ALONE
		EACH_PEER(CHOOSE_BUSY, h)
#endif
		fi;
		d_step {
			SEEN_IF(event == EVIDENCE_ALIVE, SEEN_ALIVE);
			if :: event == 0 -> answer_who(h, peer) :: else -> evi = event; who = 0 fi;
			count(h, peer);
			DONE("ask of %d: evidence %d\n", h, evi)
		}
	}
}

inline decide_undecided(h)
{
	atomic {
		if
		:: MAY(S_DECIDE, h, UNDECIDED_ASK) && up[h] && UNDECIDED(h) && ROUND_COMPLETE(h) -> event = UNDECIDED_ASK
		:: MAY(S_DECIDE, h, UNDECIDED_RESUME) && up[h] && UNDECIDED(h) && ROUND_COMPLETE(h) -> event = UNDECIDED_RESUME
		fi;
		d_step { conclude_undecided(h, event); DONE("undecided %d decides: action %d\n", h, act) }
	}
}

/* ALONE is due when those who are silent have been so for two rounds, and the others were the same in both. */
#ifdef MUTANT_ALONE
#define ALONE_IS_DUE(h) true
#else
#define ALONE_IS_DUE(h) (again[h] && !differ[h])
#endif
#define CHOOSE_START(h, policy) MAY(S_START, h, policy) && ASKS(h) && !UNDECIDED(h) && ROUND_COMPLETE(h) -> event = policy
inline decide_start(h)
{
	atomic {
		if
		:: CHOOSE_START(h, START_AUTO)
		:: CHOOSE_START(h, START_OPERATOR)
#ifdef ALONE
		:: CHOOSE_START(h, START_ALONE)
		:: ALONE_IS_DUE(h) && CHOOSE_START(h, START_ALONE_DUE)
#endif
		fi;
		d_step { conclude_start(h, event); DONE("starter %d decides: action %d\n", h, act) }
	}
}

/* ---- Who takes them ---- */

proctype Host(byte h)
{
	do
	:: begin(h)
	:: source_step(h)
	:: send_end(h)
	:: restart(h)
	:: ask(h)
	:: decide_undecided(h)
#if STOPS
	:: stop(h)
#endif
#if STARTS
	:: want_start(h)
	:: decide_start(h)
	:: go(h)
#endif
#ifdef ALONE
	:: come_back(h)
#endif
	od
}

proctype Attempt(byte a)
{
	do
	:: recv_offer(a)
	:: recv_end(a)
	:: recv_commit(a)
	:: lose_connection(a)
	:: record_step(a)
	od
}

#if HOSTS == 2
#define ALL_UP (up[0] && up[1])
#else
#define ALL_UP (up[0] && up[1] && up[2])
#endif

init {
	atomic {
		vm[RUNS_FIRST] = RUN;
		for (nxt : 0 .. HOSTS - 1) { run Host(nxt) }
		for (nxt : 0 .. TRY - 1) {
			if :: nxt % PER < TRIES(nxt / PER) -> run Attempt(nxt) :: else fi
		}
		nxt = 0
	}
	do
	:: d_step { SCRIPT_OVER && !finished && ALL_UP -> EXPECT; calm(); SEEN(SEEN_CALM); DONE("calm %d %d\n", 0, 0) }
	od
}

/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Named ways to two runners or to a lost VM, each a list of steps that is forced in the model: step, and whom it concerns. A step
 * that cannot be taken ends the run before its time, and check.py sees that. EXPECT is what must be true after the last step;
 * then the rest of the world goes its way without faults (calm), and must end well.
 */
#define S_BEGIN        1 /* source, destination */
#define S_PAUSE        2 /* source */
#define S_END          3
#define S_COMMIT       4
#define S_FAIL         5
#define S_HEAR_STARTED 6
#define S_HEAR_NEVER   7
#define S_HEAR_FOREIGN 8
#define S_RECV_OFFER   9 /* attempt: 0 and 1 are A's, 2 and 3 are B's, 4 and 5 are C's */
#define S_RECV_END     10
#define S_RECV_COMMIT  11
#define S_CUT          12
#define S_OFFER_AGAIN  13
#define S_GIVE_UP      14
#define S_QUERY        15 /* who is asked, attempt */
#define S_SETTLE       16 /* who holds the record, attempt */
#define S_DROP         17
#define S_CRASH        18
#define S_REBOOT       19 /* host, who takes its records */
#define S_COME_BACK    20
#define S_STOP         21
#define S_WANT         22
#define S_GO           23
#define S_ASK          24 /* who asks, who is asked */
#define S_ASK_SILENT   25
#define S_ASK_BUSY     26
#define S_DECIDE       27 /* host, policy */
#define S_START        28

/* A whole hand-over of attempt a from h to p, until the destination has started it. */
#define GIVE(h, p, a)  S_BEGIN, h, p, S_RECV_OFFER, a, 0, S_PAUSE, h, 0, S_END, h, 0, S_RECV_END, a, 0, S_COMMIT, h, 0, \
	S_RECV_COMMIT, a, 0
/* ... and the source knows. */
#define MOVE(h, p, a)  GIVE(h, p, a), S_HEAR_STARTED, h, 0
#define LENGTH(steps)  ((steps) * 3)
#define GIVE_STEPS     7
#define MOVE_STEPS     8

#if SCENARIO == 1 /* CONFIG 2: STARTED is lost, A is cut off, B moves the VM on to C and restarts; B knows nothing, C's debt frees A */
#define STEPS  (GIVE_STEPS + 1 + MOVE_STEPS + 5)
hidden byte script[LENGTH(STEPS)] = { GIVE(0, 1, 0), S_FAIL, 0, 0, MOVE(1, 2, 2), S_CRASH, 1, 0, S_QUERY, 1, 0,
	S_ASK, 0, 1, S_ASK, 0, 2, S_DECIDE, 0, UNDECIDED_RESUME };
#define EXPECT assert(vm[0] == OFF && out[0] == 0 && vm[2] == RUN)
#elif SCENARIO == 2 /* CONFIG 6, 1b: STARTED is lost, the VM ends at the destination hours later: its record still frees the source */
#define STEPS  (GIVE_STEPS + 4)
hidden byte script[LENGTH(STEPS)] = { GIVE(1, 0, 2), S_FAIL, 1, 0, S_STOP, 0, 0, S_QUERY, 0, 2, S_HEAR_STARTED, 1, 0 };
#define EXPECT assert(vm[0] == OFF && vm[1] == OFF && out[1] == 0)
#elif SCENARIO == 3 /* CONFIG 1, 1b: the same, but the destination crashed: all answer, nobody has it, the operator is told */
#define STEPS  (GIVE_STEPS + 7)
hidden byte script[LENGTH(STEPS)] = { GIVE(0, 1, 0), S_FAIL, 0, 0, S_CRASH, 1, 0, S_QUERY, 1, 0, S_ASK, 0, 1,
	S_DECIDE, 0, UNDECIDED_ASK, S_ASK, 0, 1, S_DECIDE, 0, UNDECIDED_ASK };
#define EXPECT assert(UNDECIDED(0) && act == ACT_TELL)
#elif SCENARIO == 4 /* CONFIG 4: WHO is refused by a full listener, a minute long: alive, not silent; A does not start what B runs */
#define STEPS  7
hidden byte script[LENGTH(STEPS)] = { S_WANT, 0, 0, S_ASK, 0, 2, S_ASK_BUSY, 0, 1, S_START, 0, START_ALONE,
	S_ASK, 0, 2, S_ASK_BUSY, 0, 1, S_START, 0, START_ALONE_DUE };
#define EXPECT assert(lease[0] == LEASE_NONE && act == ACT_WAIT && vm[1] == RUN)
#elif SCENARIO == 5 /* CONFIG 3: C is asked, the VM moves from B to C, B restarts, B is asked: "nothing" twice, and it runs */
#define STEPS  (2 + MOVE_STEPS + 6)
hidden byte script[LENGTH(STEPS)] = { S_WANT, 0, 0, S_ASK, 0, 2, MOVE(1, 2, 2), S_CRASH, 1, 0, S_ASK, 0, 1,
	S_START, 0, START_AUTO, S_ASK, 0, 1, S_ASK, 0, 2, S_START, 0, START_AUTO };
#define EXPECT assert(lease[0] == LEASE_NONE && act == ACT_REFUSE && vm[2] == RUN)
#elif SCENARIO == 6 /* CONFIG 7: two hosts with one name. C starts nothing on the word of its namesake */
#define STEPS  4
hidden byte script[LENGTH(STEPS)] = { S_WANT, 2, 0, S_ASK, 2, 0, S_ASK, 2, 1, S_START, 2, START_AUTO };
#define EXPECT assert(lease[2] == LEASE_NONE && act == ACT_WAIT)
#elif SCENARIO == 7 /* CONFIG 6: A (here: host 1) is evacuated, reboots with its network cut: it does not start by itself */
#define STEPS  (MOVE_STEPS + 4)
hidden byte script[LENGTH(STEPS)] = { MOVE(1, 0, 2), S_CRASH, 1, 0, S_WANT, 1, 0, S_ASK_SILENT, 1, 0, S_START, 1, START_AUTO };
#define EXPECT assert(lease[1] == LEASE_NONE && act == ACT_WAIT && vm[0] == RUN)
#elif SCENARIO == 8 /* CONFIG 8: A -> B -> C, B and A restart; A learns of C, who is no peer of it, through B */
#define STEPS  (2 * MOVE_STEPS + 6)
hidden byte script[LENGTH(STEPS)] = { MOVE(0, 1, 0), MOVE(1, 2, 2), S_CRASH, 1, 0, S_CRASH, 0, 0, S_WANT, 0, 0,
	S_ASK, 0, 1, S_ASK, 0, 2, S_START, 0, START_AUTO };
#define EXPECT assert(lease[0] == LEASE_NONE && act == ACT_REFUSE && vm[2] == RUN)
#elif SCENARIO == 9 /* CONFIG 9: an old debt, a reboot, a new attempt: ids do not repeat, and each record speaks of its own */
#ifdef MUTANT_IDS
#define LATER 0
#define LAST  S_DECIDE, 0, UNDECIDED_ASK
#else
#define LATER 1
#define LAST  S_QUERY, 1, LATER
#endif
#define STEPS  (GIVE_STEPS + MOVE_STEPS + MOVE_STEPS + 13)
hidden byte script[LENGTH(STEPS)] = { GIVE(0, 1, 0), MOVE(1, 2, 2), S_CRASH, 0, 0, MOVE(2, 0, 4), S_SETTLE, 1, 0,
	S_BEGIN, 0, 1, S_RECV_OFFER, LATER, 0, S_PAUSE, 0, 0, S_END, 0, 0, S_RECV_END, LATER, 0, S_COMMIT, 0, 0,
	S_GIVE_UP, LATER, 0, S_FAIL, 0, 0, S_ASK, 0, 2, LAST, S_HEAR_NEVER, 0, 0 };
#define EXPECT assert(vm[0] == RUN && REC(2, 0) == RECORD_STARTED)
#endif

#define MAY(what, x, y) (pc < STEPS && script[pc * 3] == what && script[pc * 3 + 1] == (x) && script[pc * 3 + 2] == (y))
#define STEP_OVER       pc++
#define SCRIPT_OVER     (pc == STEPS)
byte pc;

/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Failpoints P0..P22 of the migration (doc/handover.md lists where each one is): in the test image the console command
 * `failpoint P8 cut` makes the next pass through that point fail, cut the link, stall, or bring the whole host down. In
 * the product they are nothing.
 */
#pragma once
#include "net/stream.h"

enum failpoint {
	P0_CONNECT,
	P1_TLS,
	P2_HELLO,
	P3_ALLOCATE,
	P4_FIRST_PASS,
	P5_NTH_PASS,
	P6_BEFORE_PAUSE,
	P7_AFTER_PAUSE,
	P8_FINAL_PAGES,
	P9_BEFORE_END,
	P10_BEFORE_READY,
	P11_READY_LOST,
	P12_BEFORE_OFFER,
	P13_ANSWER_LOST,
	P14_COMMIT_LOST,
	P15_BEFORE_DECISION,
	P16_DISKS_TAKEN,
	P17_DECIDED,
	P18_RUNNING,
	P19_STARTED_LOST,
	P20_BEFORE_FREE,
	P21_SERVING,
	P22_PULLING,
	FAILPOINT_COUNT,
};

enum fail_action { FAIL_NONE, FAIL_ERROR, FAIL_CUT, FAIL_STALL, FAIL_CRASH };

/*
 * 0 to go on, or -errno. error: -EIO; cut: s (may be NULL) is aborted, -ECONNRESET; stall: sleeps longer than every
 * limit of the protocol, then 0; crash: panics. May sleep. In builds with TERN_FAILPOINTS=1 alone (tests/image).
 */
int failpoint_hit(enum failpoint p, struct stream *s) must_check;
/* Arm it for the next `count` hits (tests; the console command does the same). */
void failpoint_set(enum failpoint p, enum fail_action action, unsigned count);
#define FAILPOINT(p, s) (TERN_FAILPOINTS ? failpoint_hit((p), (s)) : 0)

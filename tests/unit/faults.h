/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The fault matrix: at each step of a migration from host a to host b, each thing that may go wrong, and what must come
 * of it. fault_events.c has the two lists, test_faults.c makes a cell of each pair, fault_world.c has the hosts, the
 * guest and what is looked at after each cell, fault_report.c writes build/faults.html and build/faults.json.
 *
 * A step is a failpoint on one of the hosts: when it is passed for the first time the event happens. To add a step: a
 * failpoint, a row of fault_steps, and if what is right there is right at no other step, a phase, which is a column in
 * the rows of fault_events. To add an event: a function, and a row.
 */
#pragma once
#include "kernel/time.h"
#include "tests/unit/fake_net.h"
#include "vmm/migrate/failpoint.h"
#include "vmm/migrate/migrate.h"

enum { A, B, C }; /* the source, the destination, and a third host */

/* Steps at which the same is right. */
enum fault_phase {
	AT_SETUP,
	AT_PASSES,
	AT_STOPPED,
	AT_READY,    /* the destination is about to be, and the source to commit */
	AT_COMMIT,   /* the source is undecided, COMMIT not out */
	AT_RIDING,   /* COMMIT is out, the destination not ready */
	AT_DECIDING, /* COMMIT is there, not decided */
	AT_DECIDED,  /* the source does not know */
	AT_FREED,    /* it does */
	AT_REMOTE,   /* in post-copy, it runs at the destination and frames of it are at the source */
	FAULT_PHASES,
};
struct fault_step {
	const char *name, *where;
	enum failpoint p;
	int side;
	enum fault_phase phase;
	bool far;         /* the round trip is 30 ms: COMMIT rides with END */
	const char *skip; /* why there are no cells; NULL: there are */
	bool pulled;      /* its destination asks for the pages of each pass */
};
extern const struct fault_step fault_steps[];
extern const unsigned fault_nsteps;

/*
 * What may come of it, a letter each. Looked at when every attempt has ended, or (an event that stays, until the test
 * heals it) nothing more comes but what the operator is told.
 */
#define FAULT_AT_SOURCE 'S' /* it runs at the source */
#define FAULT_AT_DEST   'D' /* it runs at the destination */
#define FAULT_UNDECIDED 'U' /* it runs nowhere, the source has it, and the operator is told that it is undecided */
#define FAULT_BOTH      'B' /* it runs at the destination; the source cannot know, and is undecided as above */
#define FAULT_DIED      'L' /* lost with the host that had it */
#define FAULT_OFF       'O' /* the guest switched itself off, or failed */
#define FAULT_SERVED    'P' /* it runs at the destination, and the source serves what it lacks, or tries to */
#define FAULT_LACKS     'H' /* it runs at the destination, and what it lacks was lost with the source */
#define FAULT_PART      'W' /* lost with the destination; what the source has of it waits for the operator's word */

/* When a cell makes sense. */
enum fault_needs {
	NEEDS_LINK = 1,    /* a connection */
	NEEDS_GUEST = 2,   /* the guest runs */
	NEEDS_DEST_VM = 4, /* the destination has a VM of that name */
	NEEDS_WORDS = 8,   /* somebody still says something on the connection */
	NEEDS_IMAGE = 16,  /* state is still to be sent, or loaded */
	NEEDS_OTHER = 32,  /* what the product does not have */
	NEEDS_EXPORT = 64, /* it has not been saved */
};
/* What the VM does all the time, and must do in the end. */
enum fault_kind { FAULT_RUNS, FAULT_PAUSED, FAULT_STOPPED };
struct fault_event {
	const char *name;
	enum fault_kind kind;
	void (*happens)(unsigned variant); /* in the task that passes the step, on its host */
	const char *right;                 /* letters for each phase, or "-", in their order */
	unsigned needs;
	unsigned variants;   /* each in a run of its own, and all must end right; 0: as 1 */
	bool stays;          /* until it is healed: nothing ends it by itself */
	bool parts;          /* the hosts, for longer than a link may be cut: each that lives must notice */
	uint64_t lasts_ns;   /* so long: then it is over by itself */
	const char *says[2]; /* what the source, and the destination, must say if they fail; NULL: anything */
	bool (*begin)(void); /* before the migration; false: it has failed. NULL: nothing */
	void (*end)(void);   /* when all is healed: did what was asked for happen? NULL: nothing was */
};
#define FAULT_UNTIL_IDLE ~0U /* variants: until one comes to nothing (fault_run.did) */
#define FAULT_EVENTS_MAX 128
extern struct fault_event fault_events[FAULT_EVENTS_MAX]; /* fault_rest.c's: those below, and of VMs that rest */
extern unsigned fault_nevents;
extern const struct fault_event fault_running[]; /* fault_events.c */
extern const unsigned fault_nrunning;
/* From the event's end until all attempts are over: 15 s without a record, 3 s for the last words, 2 s to be told. */
#define FAULT_BOUND_NS  (20 * NS_PER_SEC)
/* A peer that is dead, or cut off for good, is noticed within that. */
#define FAULT_NOTICE_NS (10 * NS_PER_SEC)
/* A guest that goes on at the source stands still no longer: MIG_BLACKOUT_NS, and what looking at it takes. */
#define FAULT_STILL_NS  (8500 * NS_PER_MS)

struct fault_cell {
	const struct fault_step *step;
	const struct fault_event *event;
	const char *unfit; /* why there is no such cell; NULL: there is */
	char outcome;      /* of the last variant */
	unsigned runs;
	uint64_t ns;       /* from the event until all attempts have ended, the longest */
	uint64_t still_ns; /* how long the guest stood still, the longest of those that are known */
	char says[2][256]; /* of the last variant that failed at that side */
	char problem[512]; /* what is wrong; "": nothing */
};
void fault_wrong(const char *fmt, ...) printf_like(1, 2); /* of the cell that runs: the first is kept */

/* ---- fault_world.c ---- */
extern struct fault_run { /* the one that runs */
	struct fault_cell *cell;
	unsigned variant;
	bool armed;
	uint64_t begin_ns;
	uint64_t hit_ns;       /* when the event happened */
	uint64_t noticed_ns;   /* when whoever lives had given the attempt up, ended or called it undecided */
	bool hit;              /* the step was passed */
	bool did;              /* of an event of many variants: it came to what it counts */
	bool burst;            /* the guest has dirtied more in pass 1 than the last pass may have */
	struct stream *end[2]; /* the migration's connection */
	long allocs;           /* so many allocations until one fails; 0: none will */
} fault_run;
/* Hosts, a VM that runs on a, lines between them; nothing is left of what was before. */
void fault_world_begin(const struct fault_step *step);
void fault_world_end(void);
struct vm *fault_vm_at(int h);                  /* NULL if there is none */
bool fault_runs_at(int h);                      /* or is paused, or stopped, as the cell's VM is to be */
void fault_lines(uint64_t rate, unsigned loss); /* between a and b */
struct pipe_line *fault_line(int from, int to);
/* Move it, and see that it has gone there whole. */
bool fault_move(int from, int to);
void fault_run_cell(struct fault_cell *c);
void fault_guest_virtio_reset(void);
/* Let the next allocations of the hosts be counted, and the n-th fail. */
void fault_alloc_arm(long n);

/* ---- fault_remote.c: post-copy ---- */
static inline bool fault_is_remote(void) { return fault_run.cell && fault_run.cell->step->phase == AT_REMOTE; }
/* Letters that are right in post-copy; NULL: there is no such cell, *why says why not. */
const char *fault_remote_right(const struct fault_event *e, const char **why);
void fault_remote_begin(struct migrate_params *p); /* so that frames stay */
void fault_remote_runs(void);                      /* it runs at b now: its guest reads all of its memory there */
/* Has the operator been told at host h that the other one cannot be reached? */
bool fault_remote_told(int h, const struct migrate_status *s);
char fault_remote_outcome(void); /* 0: as anywhere else */
void fault_remote_look(void);    /* what the operator may not do */
void fault_remote_heal(void);    /* and what he must, when the hosts are there again */
/* The page as it must be; false: other bytes. */
bool fault_guest_page(uint64_t page, uint64_t first_word);

/* ---- fault_report.c ---- */
int fault_report(const struct fault_cell *cells, unsigned n);

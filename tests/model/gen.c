/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Prints the four tables of vmm/migrate/rules.c as Promela, so that the model decides by what the product decides by.
 *
 *     gen                  the tables as they are
 *     gen --mutant NAME    the same with one mistake, which the model must notice
 *     gen --list           the mistakes: name, the configuration of handover.pml that must notice, what it stands for
 */
#include "vmm/migrate/rules.h"
#include <stdio.h>
#include <string.h>

struct word {
	const char *text;
	unsigned value;
};
#define W(x)          \
	{             \
#x, x \
	}
#define PRINT(ws) print_words(ws, ARRAY_SIZE(ws))

static const struct word record_words[] = {
	W(RECORD_NONE),          W(RECORD_RECEIVING),      W(RECORD_READY),      W(RECORD_STARTED),
	W(RECORD_NEVER),         W(RECORD_STATES),         W(RECORD_EV_OFFER),   W(RECORD_EV_READY),
	W(RECORD_EV_COMMIT),     W(RECORD_EV_GIVE_UP),     W(RECORD_EV_QUERY),   W(RECORD_EV_TOLD_STARTED),
	W(RECORD_EV_TOLD_NEVER), W(RECORD_EV_DONE),        W(RECORD_EV_DROP),    W(RECORD_EVENTS),
	W(RECORD_CLAIMING),      W(RECORD_EV_COMMIT_UNIT), W(RECORD_EV_CLAIMED), W(RECORD_EV_CLAIM_LOST),
};
static const struct word source_words[] = {
	W(SOURCE_RUNS),
	W(SOURCE_PAUSED),
	W(SOURCE_UNDECIDED),
	W(SOURCE_FREED),
	W(SOURCE_STATES),
	W(SOURCE_EV_PAUSE),
	W(SOURCE_EV_FAIL),
	W(SOURCE_EV_COMMIT),
	W(SOURCE_EV_STARTED),
	W(SOURCE_EV_NEVER),
	W(SOURCE_EV_NEVER_FOREIGN),
	W(SOURCE_EV_NOBODY),
	W(SOURCE_EV_NOBODY_RESUME),
	W(SOURCE_EV_CLAIM),
	W(SOURCE_EV_FORGET),
	W(SOURCE_EV_TAKEN_BACK),
	W(SOURCE_EV_RUNS_THERE),
	W(SOURCE_EVENTS),
};
static const struct word evidence_words[] = {
	W(EVIDENCE_STARTED), W(EVIDENCE_HERE),    W(EVIDENCE_CONFLICT),  W(EVIDENCE_MOVED),  W(EVIDENCE_ALIVE),
	W(EVIDENCE_SILENT),  W(EVIDENCE_ONCE),    W(EVIDENCE_NOTHING),   W(EVIDENCES),       W(START_OPERATOR),
	W(START_FORCE),      W(START_AUTO),       W(START_ALONE),        W(START_ALONE_DUE), W(START_POLICIES),
	W(UNDECIDED_ASK),    W(UNDECIDED_RESUME), W(UNDECIDED_POLICIES),
};
static const struct word lease_words[] = {
	W(LEASE_NONE),   W(LEASE_ASKING), W(LEASE_YIELDED), W(LEASE_TAKEN),
	W(LEASE_STATES), W(ASKER_FIRST),  W(ASKER_LATER),   W(LEASE_ORDERS),
};
static const struct word action_words[] = {
	W(ACT_NONE),        W(ACT_ACCEPT),      W(ACT_SAY_READY),   W(ACT_START),  W(ACT_DISCARD),
	W(ACT_SAY_STARTED), W(ACT_SAY_NEVER),   W(ACT_SAY_UNKNOWN), W(ACT_REFUSE), W(ACT_HALT),
	W(ACT_RESUME),      W(ACT_SEND_COMMIT), W(ACT_ASK),         W(ACT_FREE),   W(ACT_TELL),
	W(ACT_WAIT),        W(ACT_AGAIN),       W(ACT_GO),          W(ACT_CLAIM),
};

/* Copies, which a mutant may spoil. */
static struct rule record[RECORD_STATES][RECORD_EVENTS], source[SOURCE_STATES][SOURCE_EVENTS],
	lease[LEASE_STATES][LEASE_ORDERS];
static uint8_t start[EVIDENCES][START_POLICIES], undecided[EVIDENCES][UNDECIDED_POLICIES];

enum table { RECORD, SOURCE, START, UNDECIDED, LEASE };
static const struct mutant {
	const char *name;
	enum table table;
	uint8_t row, column, next, action; /* next: of no meaning in START and UNDECIDED */
	uint8_t config;
	const char *mistake;
} mutants[] = {
	/* clang-format off */
	{ "none-query-never", RECORD, RECORD_NONE, RECORD_EV_QUERY, RECORD_NONE, ACT_SAY_NEVER, 1,
	  "what is not remembered is answered with NEVER" },
	{ "receiving-query-waits", RECORD, RECORD_RECEIVING, RECORD_EV_QUERY, RECORD_RECEIVING, ACT_SAY_NEVER, 1,
	  "NEVER is said, but not remembered, while the image is coming" },
	{ "ready-query-started", RECORD, RECORD_READY, RECORD_EV_QUERY, RECORD_STARTED, ACT_SAY_STARTED, 1,
	  "a QUERY is taken for COMMIT, and nothing is started" },
	{ "ready-query-waits", RECORD, RECORD_READY, RECORD_EV_QUERY, RECORD_READY, ACT_SAY_NEVER, 1,
	  "NEVER is said, but COMMIT is still waited for" },
	{ "ready-give-up-forgets", RECORD, RECORD_READY, RECORD_EV_GIVE_UP, RECORD_READY, ACT_NONE, 1,
	  "the wait for COMMIT has no end" },
	{ "ready-commit-unrecorded", RECORD, RECORD_READY, RECORD_EV_COMMIT, RECORD_NONE, ACT_START, 1,
	  "the start is not remembered" },
	{ "ready-commit-never", RECORD, RECORD_READY, RECORD_EV_COMMIT, RECORD_NEVER, ACT_START, 1,
	  "it starts, and denies it" },
	{ "started-give-up-never", RECORD, RECORD_STARTED, RECORD_EV_GIVE_UP, RECORD_NEVER, ACT_NONE, 1,
	  "an error after the start is taken for a failed start" },
	{ "started-query-forgets", RECORD, RECORD_STARTED, RECORD_EV_QUERY, RECORD_NONE, ACT_SAY_STARTED, 1,
	  "STARTED is forgotten when it has been said, not when it has been heard" },
	{ "started-told-never", RECORD, RECORD_STARTED, RECORD_EV_DONE, RECORD_NEVER, ACT_NONE, 1,
	  "a settled record becomes NEVER and stays" },
	{ "never-commit-starts", RECORD, RECORD_NEVER, RECORD_EV_COMMIT, RECORD_STARTED, ACT_START, 1,
	  "a late COMMIT is obeyed after NEVER was said" },
	{ "never-offer-accepts", RECORD, RECORD_NEVER, RECORD_EV_OFFER, RECORD_RECEIVING, ACT_ACCEPT, 1,
	  "a repeated OFFER brings a refused attempt back to life" },
	{ "told-started-ignored", RECORD, RECORD_NONE, RECORD_EV_TOLD_STARTED, RECORD_NONE, ACT_NONE, 2,
	  "the debt does not travel with the VM" },
	{ "told-started-never", RECORD, RECORD_NONE, RECORD_EV_TOLD_STARTED, RECORD_NEVER, ACT_NONE, 2,
	  "a debt is taken over as NEVER" },
	{ "fail-resumes-undecided", SOURCE, SOURCE_UNDECIDED, SOURCE_EV_FAIL, SOURCE_RUNS, ACT_RESUME, 1,
	  "a time-out after COMMIT is taken for a failed attempt" },
	{ "commit-frees", SOURCE, SOURCE_PAUSED, SOURCE_EV_COMMIT, SOURCE_FREED, ACT_FREE, 1,
	  "the image is freed when COMMIT is sent" },
	{ "commit-stays-paused", SOURCE, SOURCE_PAUSED, SOURCE_EV_COMMIT, SOURCE_PAUSED, ACT_SEND_COMMIT, 1,
	  "COMMIT is out, and a failure still resumes" },
	{ "foreign-never-resumes", SOURCE, SOURCE_UNDECIDED, SOURCE_EV_NEVER_FOREIGN, SOURCE_RUNS, ACT_RESUME, 1,
	  "NEVER is believed of one that did not decide" },
	{ "started-ignored", SOURCE, SOURCE_UNDECIDED, SOURCE_EV_STARTED, SOURCE_UNDECIDED, ACT_ASK, 1,
	  "the answer STARTED does not end the wait" },
	{ "never-ignored", SOURCE, SOURCE_UNDECIDED, SOURCE_EV_NEVER, SOURCE_UNDECIDED, ACT_ASK, 1,
	  "the answer NEVER does not end the wait" },
	{ "never-frees", SOURCE, SOURCE_UNDECIDED, SOURCE_EV_NEVER, SOURCE_FREED, ACT_FREE, 1,
	  "any answer frees the image" },
	{ "undecided-silent-resumes", UNDECIDED, EVIDENCE_SILENT, UNDECIDED_ASK, 0, ACT_RESUME, 1,
	  "silence is taken for death by an undecided source" },
	{ "undecided-here-resumes", UNDECIDED, EVIDENCE_HERE, UNDECIDED_RESUME, 0, ACT_RESUME, 1,
	  "it resumes though somebody has it" },
	{ "undecided-started-waits", UNDECIDED, EVIDENCE_STARTED, UNDECIDED_ASK, 0, ACT_WAIT, 2,
	  "a debt that a third host holds is not believed" },
	{ "undecided-moved-waits", UNDECIDED, EVIDENCE_MOVED, UNDECIDED_ASK, 0, ACT_WAIT, 2,
	  "a trace that never changes is waited for, and nobody is told" },
	{ "undecided-once-resumes", UNDECIDED, EVIDENCE_ONCE, UNDECIDED_RESUME, 0, ACT_RESUME, 2,
	  "one round of answers decides, though they are of different moments" },
	{ "auto-silent-starts", START, EVIDENCE_SILENT, START_AUTO, 0, ACT_GO, 3,
	  "autostart = yes takes silence for death" },
	{ "auto-once-starts", START, EVIDENCE_ONCE, START_AUTO, 0, ACT_GO, 3,
	  "it starts after one round, though the answers are of different moments" },
	{ "auto-moved-starts", START, EVIDENCE_MOVED, START_AUTO, 0, ACT_GO, 3,
	  "the trace of a VM that went on to a third host is not followed" },
	{ "auto-here-starts", START, EVIDENCE_HERE, START_AUTO, 0, ACT_GO, 3,
	  "it starts though somebody has it" },
	{ "alone-alive-starts", START, EVIDENCE_ALIVE, START_ALONE_DUE, 0, ACT_GO, 4,
	  "a host that is too busy to answer is taken for a dead one" },
	{ "auto-conflict-starts", START, EVIDENCE_CONFLICT, START_AUTO, 0, ACT_GO, 7,
	  "of two hosts with one name an answer counts" },
	{ "taken-says-not-here", LEASE, LEASE_TAKEN, ASKER_LATER, LEASE_TAKEN, ACT_AGAIN, 5,
	  "a host that is about to start says that it is not" },
	{ "asking-never-refuses", LEASE, LEASE_ASKING, ASKER_LATER, LEASE_ASKING, ACT_AGAIN, 5,
	  "of two that ask, the first lets the second pass" },
	{ "asking-never-yields", LEASE, LEASE_ASKING, ASKER_FIRST, LEASE_ASKING, ACT_AGAIN, 5,
	  "of two that ask, the second says \"not here\" and goes on" },
	/* clang-format on */
};

static void spoil(const struct mutant *m)
{
	const struct rule r = { m->next, m->action };
	switch (m->table) {
	case RECORD: record[m->row][m->column] = r; return;
	case SOURCE: source[m->row][m->column] = r; return;
	case LEASE: lease[m->row][m->column] = r; return;
	case START: start[m->row][m->column] = m->action; return;
	case UNDECIDED: undecided[m->row][m->column] = m->action; return;
	}
}

static void print_words(const struct word *w, size_t n)
{
	for (size_t i = 0; i < n; i++)
		printf("#define %-24s %u\n", w[i].text, w[i].value);
	printf("\n");
}

/* An array of n bytes, stride apart: hidden, that is no part of a state of the model. */
static void print_bytes(const char *name, const uint8_t *first, size_t n, size_t stride)
{
	printf("hidden byte %s[%zu] = {", name, n);
	for (size_t i = 0; i < n; i++)
		printf("%s%u", i ? ", " : " ", first[i * stride]);
	printf(" };\n");
}

static void print_rules(const char *name, const struct rule *first, size_t n)
{
	char full[32];
	snprintf(full, sizeof(full), "%s_next", name);
	print_bytes(full, &first->next, n, sizeof(*first));
	snprintf(full, sizeof(full), "%s_act", name);
	print_bytes(full, &first->action, n, sizeof(*first));
}

static int print_all(void)
{
	PRINT(record_words);
	PRINT(source_words);
	PRINT(evidence_words);
	PRINT(lease_words);
	PRINT(action_words);
	print_rules("record", &record[0][0], RECORD_STATES * RECORD_EVENTS);
	print_rules("source", &source[0][0], SOURCE_STATES * SOURCE_EVENTS);
	print_rules("lease", &lease[0][0], LEASE_STATES * LEASE_ORDERS);
	print_bytes("start_act", &start[0][0], EVIDENCES * START_POLICIES, 1);
	print_bytes("undecided_act", &undecided[0][0], EVIDENCES * UNDECIDED_POLICIES, 1);
	return 0;
}

int main(int argc, char **argv)
{
	memcpy(record, record_rules, sizeof(record));
	memcpy(source, source_rules, sizeof(source));
	memcpy(lease, lease_rules, sizeof(lease));
	memcpy(start, start_rules, sizeof(start));
	memcpy(undecided, undecided_rules, sizeof(undecided));
	if (argc == 1)
		return print_all();
	if (argc == 2 && !strcmp(argv[1], "--list")) {
		for (size_t i = 0; i < ARRAY_SIZE(mutants); i++)
			printf("%s\t%u\t%s\n", mutants[i].name, mutants[i].config, mutants[i].mistake);
		return 0;
	}
	for (size_t i = 0; argc == 3 && !strcmp(argv[1], "--mutant") && i < ARRAY_SIZE(mutants); i++) {
		if (!strcmp(argv[2], mutants[i].name)) {
			spoil(&mutants[i]);
			return print_all();
		}
	}
	fprintf(stderr, "usage: gen [--list | --mutant NAME]\n");
	return 2;
}

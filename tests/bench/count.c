/* SPDX-License-Identifier: BSD-2-Clause */
#include "tests/bench/count.h"
#include <errno.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <unistd.h>

/* Where the parent begins and ends to count. */
void count_begin(void), count_end(void);
__attribute__((noinline)) void count_begin(void) { __asm__ volatile("" ::: "memory"); }
__attribute__((noinline)) void count_end(void) { __asm__ volatile("" ::: "memory"); }

static void child(const struct counted *c)
{
	ptrace(PTRACE_TRACEME, 0, 0, 0);
	if (c->setup)
		c->setup();
	for (size_t i = 0; i < c->n; i++) {
		raise(SIGSTOP); /* what is prepared runs at full speed */
		if (c->prepare)
			c->prepare(i);
		raise(SIGSTOP);
		count_begin();
		int err = c->run(i);
		count_end();
		if (err)
			exit(2);
	}
	exit(0);
}

static bool stopped(pid_t pid)
{
	int status;
	return waitpid(pid, &status, 0) == pid && WIFSTOPPED(status);
}

/* One instruction; its address, 0: the child has ended. */
static uint64_t step(pid_t pid)
{
	struct user_regs_struct r;
	return ptrace(PTRACE_SINGLESTEP, pid, 0, 0) || !stopped(pid) || ptrace(PTRACE_GETREGS, pid, 0, &r) ? 0 : r.rip;
}

/* From the stop before count_begin() to count_end(); 0: it did not get there. */
static uint64_t count(pid_t pid)
{
	uint64_t n = 0;
	bool counts = false;
	for (uint64_t rip, before = 0; (rip = step(pid)); before = rip) {
		if (rip == (uintptr_t)count_end && counts)
			return n;
		if (rip == (uintptr_t)count_begin)
			counts = true;
		else
			n += counts && rip != before;
	}
	return 0;
}

int count_main(int argc, char **argv, const struct counted *c)
{
	bool json = argc > 1 && strcmp(argv[1], "--json") == 0;
	int status;
	pid_t pid = fork();
	if (!pid)
		child(c);
	for (size_t i = 0; i < c->n; i++) {
		uint64_t n = 0;
		if (pid > 0 && stopped(pid) && !ptrace(PTRACE_CONT, pid, 0, 0) && stopped(pid))
			n = count(pid);
		if (!n || ptrace(PTRACE_CONT, pid, 0, 0)) {
			fprintf(stderr, "%s: %s: it cannot be counted: %s\n", c->program, c->name(i), strerror(errno));
			if (pid > 0)
				kill(pid, SIGKILL);
			return 1;
		}
		n *= c->times ? c->times(i) : 1;
		if (json)
			printf("%s{\"name\": \"%s\", \"instructions\": %lu}", i ? ",\n" : "[\n", c->name(i), n);
		else
			printf("%-40s %8lu instructions\n", c->name(i), n);
	}
	if (json)
		printf("]\n");
	return waitpid(pid, &status, 0) != pid || !WIFEXITED(status) || WEXITSTATUS(status);
}
